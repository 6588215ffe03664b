use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn rng() -> Rng {
    Rng::from_seed(1)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A folder with an identity in it.
fn first_start() -> (tempfile::TempDir, Config, Identity) {
    let parent = tempfile::tempdir().unwrap();
    let config = Config::in_folder(parent.path().join("a").join("data"));
    let identity = Identity::open(&config, &rng()).unwrap();
    (parent, config, identity)
}

#[test]
fn the_first_start_makes_a_key_for_the_owner_alone_and_later_starts_find_it() {
    let (_folder, config, first) = first_start();
    assert!(first.created);
    assert_eq!(mode(&config.data_dir), 0o700);
    assert_eq!(mode(&config.data_dir.join(KEY_FILE)), 0o600);
    let names: Vec<_> = fs::read_dir(&config.data_dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [KEY_FILE], "nothing temporary is left");

    let second = Identity::open(&config, &Rng::from_seed(2)).unwrap();
    assert!(!second.created);
    assert_eq!(second.server_name(), first.server_name());
    assert_eq!(second.secret().seed(), first.secret().seed());
    assert_eq!(second.peer_id(), first.peer_id());
    assert_eq!(Identity::load(&config.data_dir).unwrap().unwrap().server_name(), first.server_name());
}

#[test]
fn the_server_name_is_the_key_with_the_zone_or_the_configured_name() {
    let (_folder, _, plain) = first_start();
    assert_eq!(plain.server_name().as_str(), plain.public().to_string());
    assert_eq!(plain.server_name().as_str().len(), 52);

    let mut config = Config::in_folder("unused");
    config.gateway_zone = Some("mesh.example.org".into());
    let zoned = Identity::new(plain.secret().clone(), &config).unwrap();
    assert_eq!(zoned.server_name().as_str(), format!("{}.mesh.example.org", plain.public()));
    assert_eq!(zoned.kith_name().unwrap().zone.as_deref(), Some("mesh.example.org"));

    config.gateway_zone = None;
    config.server_name = Some("example.org".into());
    let ordinary = Identity::new(plain.secret().clone(), &config).unwrap();
    assert_eq!(ordinary.server_name().as_str(), "example.org");
    assert!(ordinary.kith_name().is_none());
}

#[test]
fn a_name_of_another_key_is_refused() {
    let (_folder, _, identity) = first_start();
    let mut config = Config::in_folder("unused");
    config.server_name = Some(SecretKey::from_seed([9; 32]).public().to_string());
    assert!(matches!(
        Identity::new(identity.secret().clone(), &config),
        Err(IdentityError::Name { key: "server_name", .. })
    ));
}

#[test]
fn a_later_change_of_the_name_is_refused_and_named() {
    let (_folder, mut config, identity) = first_start();
    config.gateway_zone = Some("mesh.example.org".into());
    let error = Identity::open(&config, &rng()).unwrap_err();
    assert!(matches!(error, IdentityError::NameChanged { key: "gateway_zone", .. }));
    let message = error.to_string();
    assert!(message.contains(identity.server_name().as_str()) && message.contains("cannot be renamed"), "{message}");

    config.gateway_zone = None;
    config.server_name = Some("example.org".into());
    assert!(matches!(Identity::open(&config, &rng()), Err(IdentityError::NameChanged { key: "server_name", .. })));
}

#[test]
fn a_configured_name_that_is_taken_away_again_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::in_folder(folder.path());
    config.server_name = Some("example.org".into());
    Identity::open(&config, &rng()).unwrap();
    config.server_name = None;
    let error = Identity::open(&config, &rng()).unwrap_err();
    assert!(matches!(&error, IdentityError::NameChanged { key: "server_name", fixed, .. } if fixed == "example.org"));
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let (_folder, config, _) = first_start();
    let path = config.data_dir.join(KEY_FILE);
    for open in [0o640, 0o604, 0o660] {
        fs::set_permissions(&path, fs::Permissions::from_mode(open)).unwrap();
        let message = Identity::open(&config, &rng()).unwrap_err().to_string();
        assert!(message.contains("chmod 600") && message.contains(&path.display().to_string()), "{message}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    Identity::open(&config, &rng()).unwrap();
}

#[test]
fn every_damage_is_an_error_and_leaves_the_file_as_it_is() {
    let (_folder, config, identity) = first_start();
    let path = config.data_dir.join(KEY_FILE);
    let good = fs::read_to_string(&path).unwrap();
    let other = SecretKey::from_seed([9; 32]).public().to_string();
    let own = identity.public().to_string();
    let mut cases = vec![
        String::new(),
        "not a key".to_owned(),
        good.replace("version 1", "version 2"),
        good.replacen(&format!("public_key: {own}"), &format!("public_key: {other}"), 1),
        good.replacen(&format!("server_name: {own}"), &format!("server_name: {other}"), 1),
        good.replacen(&format!("server_name: {own}"), "server_name: ", 1),
        format!("{good}more\n"),
        format!("{good}{}", "x".repeat(5_000)),
    ];
    // Every shorter file too, as a torn write would leave it; only the newline at the very end may be missing.
    cases.extend((0..good.len() - 1).map(|length| good[..length].to_owned()));
    for case in cases {
        fs::write(&path, &case).unwrap();
        let error = Identity::open(&config, &rng()).unwrap_err();
        assert!(matches!(error, IdentityError::Damaged { .. }), "{case:?}: {error}");
        let secret = good.rsplit("secret_key: ").next().unwrap().trim();
        assert!(!error.to_string().contains(secret));
        assert_eq!(fs::read_to_string(&path).unwrap(), case);
    }
    fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    assert!(matches!(Identity::open(&config, &rng()), Err(IdentityError::Damaged { .. })));
    fs::write(&path, good).unwrap();
    Identity::open(&config, &rng()).unwrap();
}

#[test]
fn a_folder_with_other_things_in_it_is_refused_but_configuration_may_lie_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::in_folder(folder.path());
    for strange in ["holiday.jpg", "kith.key"] {
        fs::write(folder.path().join(strange), b"x").unwrap();
        let message = Identity::open(&config, &rng()).unwrap_err().to_string();
        assert!(message.contains(strange) && message.contains("--data"), "{message}");
        fs::remove_file(folder.path().join(strange)).unwrap();
    }

    for name in ["kith.toml", "cert.pem", ".hidden"] {
        fs::write(folder.path().join(name), b"x").unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    Identity::open(&config, &rng()).unwrap();
    assert_eq!(mode(folder.path()), 0o700, "an open folder is closed at the first start");
}

#[test]
fn data_without_their_key_never_get_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kith.redb"), b"x").unwrap();
    let error = Identity::open(&Config::in_folder(folder.path()), &rng()).unwrap_err();
    assert!(matches!(error, IdentityError::KeyMissing { .. }), "{error}");
}

#[test]
fn a_file_in_place_of_the_folder_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    fs::write(&path, b"x").unwrap();
    let message = Identity::open(&Config::in_folder(&path), &rng()).unwrap_err().to_string();
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(Identity::load(&folder.path().join("absent")).unwrap().is_none());
}
