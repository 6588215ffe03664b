use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::super::{Config, MdnsMode, Rate, RegistrationMode, example};
use super::{ConfigError, Flags, Kind, Place, all};

fn environment(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let mut all = vec![("HOME".into(), "/nowhere/home".into())];
    all.extend(pairs.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))));
    all
}

fn load_file(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kith.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Some(&file), environment(&[]), &Flags::default())
}

fn load_environment(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(None, environment(pairs), &Flags::default())
}

#[test]
fn without_file_and_environment_everything_is_the_default() {
    let config = load_environment(&[]).unwrap();
    assert_eq!(config, Config::in_folder(&config.data_dir));
    if cfg!(target_os = "linux") {
        assert_eq!(config.data_dir, Path::new("/nowhere/home/.local/share/kith"));
    }
    let xdg = load_environment(&[("XDG_DATA_HOME", "/xdg")]).unwrap();
    if cfg!(target_os = "linux") {
        assert_eq!(xdg.data_dir, Path::new("/xdg/kith"));
    }
}

#[test]
fn the_example_shows_every_key_with_its_true_default() {
    let text = example();
    assert_eq!(load_file(&text).unwrap().client, super::Client::default());
    // Uncommented, the defaults change nothing.
    let mut defaults = String::new();
    let mut shown = 0;
    for line in text.lines() {
        let setting = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        match setting {
            Some(setting) if !setting.contains("not set by default") => defaults.push_str(setting),
            Some(_) | None => defaults.push_str(line),
        }
        shown += usize::from(setting.is_some());
        defaults.push('\n');
    }
    let config = load_file(&defaults).unwrap();
    assert_eq!(config, Config::in_folder(&config.data_dir));
    assert_eq!(shown, all().count());
    // Each example has the form that its key takes.
    for key in all() {
        let value = format!("v = {}", key.value).parse::<toml::Table>().unwrap().remove("v").unwrap();
        assert!(super::normal(key.kind, value, None).is_some(), "{}", key.full_name());
    }
}

#[test]
fn the_documentation_holds_the_example() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(&example()), "replace the example in docs/configuration.md by the output of `kith config`");
}

#[test]
fn a_file_is_read_whole() {
    let config = load_file(
        "server_name = \"example.org\"\n[client]\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\n[registration]\nmode = \"token\"\n\
         tokens = [\"abc\"]\n[federation]\ntls_certificate = \"tls/cert.pem\"\ntls_private_key = \"/etc/key.pem\"\n\
         [p2p]\nmdns = \"contacts\"\nmax_peers = 5\n[limits]\nupload_size = 5\nremote_media_size = \"1 GiB\"\nrate_limits = \"off\"\nrate_login = \"7/h\"\n",
    )
    .unwrap();
    assert_eq!(config.server_name.as_deref(), Some("example.org"));
    assert_eq!(config.client.listen.len(), 2);
    assert_eq!(config.registration.mode, RegistrationMode::Token);
    let certificate = config.federation.tls_certificate.unwrap();
    assert!(certificate.is_absolute() && certificate.ends_with("tls/cert.pem"), "{certificate:?}");
    assert_eq!(config.federation.tls_private_key, Some(PathBuf::from("/etc/key.pem")));
    assert_eq!(config.p2p.mdns, MdnsMode::Contacts);
    assert_eq!((config.limits.upload_size, config.limits.remote_media_size), (5, 1 << 30));
    assert!(!config.limits.rate_limits);
    assert_eq!(config.limits.rate_login, Rate { count: 7, per: std::time::Duration::from_secs(3_600) });
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_key() {
    for (text, written, near, line) in [
        ("[client]\nlistn = []\n", "client.listn", Some("client.listen"), 2),
        ("\n\nsever_name = \"a\"\n", "sever_name", Some("server_name"), 3),
        ("upload_size = 5\n", "upload_size", Some("limits.upload_size"), 1),
        ("[registraton]\nmode = \"open\"\n", "registraton", Some("registration"), 1),
        ("[p2p]\nbootstrap_nodes = []\n", "p2p.bootstrap_nodes", Some("p2p.bootstrap"), 2),
        ("[client]\nlisten = []\nzzzzqqqq = 1\n", "client.zzzzqqqq", None, 3),
        // No guess is better than `p2p` or `server_name`.
        ("port = 80\n", "port", None, 1),
        ("[server]\nname = \"a\"\n", "server", None, 1),
    ] {
        match load_file(text) {
            Err(ConfigError::Unknown { key, place: Place::File(_, at), nearest }) => {
                assert_eq!((key.as_str(), nearest.as_deref(), at), (written, near, line));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let message = load_file("[client]\nlistn = []\n").unwrap_err().to_string();
    assert!(message.contains("line 2: unknown key `client.listn`; did you mean `client.listen`?"), "{message}");
    let message = load_file("port = 80\n").unwrap_err().to_string();
    assert!(message.contains("unknown key `port`; `kith config` prints all keys"), "{message}");
}

#[test]
fn an_unknown_variable_is_named_with_the_nearest_one_and_others_are_left_alone() {
    let message = load_environment(&[("KITH_CLIENT_LISTN", "x")]).unwrap_err().to_string();
    assert!(
        message.contains("KITH_CLIENT_LISTN") && message.contains("did you mean `KITH_CLIENT_LISTEN`?"),
        "{message}"
    );
    for (written, near) in [
        ("KITH_LISTEN", Some("KITH_CLIENT_LISTEN")),
        ("KITH_LOGS", Some("KITH_LOG")),
        ("KITH_DATADIR", Some("KITH_DATA_DIR")),
        ("KITH_PORT", None),
        ("KITH_HOME", None),
    ] {
        match load_environment(&[(written, "x")]) {
            Err(ConfigError::Unknown { nearest, .. }) => assert_eq!(nearest.as_deref(), near, "{written}"),
            other => panic!("{written}: {other:?}"),
        }
    }
    load_environment(&[("KITH_LOG", "debug"), ("KITHX", "1"), ("OTHER", "2")]).unwrap();
}

#[test]
fn variables_override_the_file_and_flags_override_both() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kith.toml"), "[client]\nlisten = [\"127.0.0.1:1\"]\n[p2p]\nenabled = false\n")
        .unwrap();
    let flags = Flags { data_dir: Some(folder.path().to_owned()) };
    let config = Config::load(
        None,
        environment(&[
            ("KITH_DATA_DIR", "/elsewhere"),
            ("KITH_CLIENT_LISTEN", "127.0.0.1:2, [::1]:3"),
            ("KITH_CLIENT_ALLOWED_HOSTS", "[\"a.lan\", \"b.lan\"]"),
            ("KITH_P2P_ENABLED", "true"),
            ("KITH_P2P_MAX_PEERS", "9"),
            ("KITH_LIMITS_UPLOAD_SIZE", "2 MiB"),
            ("KITH_LIMITS_RATE_LIMITS", "off"),
            ("KITH_GATEWAY_ZONE", "mesh.example.org"),
        ]),
        &flags,
    )
    .unwrap();
    assert_eq!(config.data_dir, folder.path());
    assert_eq!(config.client.listen, ["127.0.0.1:2".parse().unwrap(), "[::1]:3".parse().unwrap()]);
    assert_eq!(config.client.allowed_hosts, ["a.lan", "b.lan"]);
    assert!(config.p2p.enabled && !config.limits.rate_limits);
    assert_eq!((config.p2p.max_peers, config.limits.upload_size), (9, 2 << 20));
    assert_eq!(config.gateway_zone.as_deref(), Some("mesh.example.org"));
}

#[test]
fn a_bad_value_is_told_with_what_is_expected() {
    for (text, key, expected) in [
        ("[client]\nlisten = [\"localhost\"]\n", "client.listen", "127.0.0.1:8008"),
        ("[client]\nlisten = \"127.0.0.1:8008\"\n", "client.listen", "a list"),
        ("[registration]\nmode = \"opn\"\n", "registration.mode", "\"open\""),
        ("[p2p]\nenabled = \"yes\"\n", "p2p.enabled", "true or false"),
        ("[p2p]\nmax_peers = -1\n", "p2p.max_peers", "whole number"),
        ("[limits]\nupload_size = \"many\"\n", "limits.upload_size", "100 MiB"),
        ("[limits]\nrate_login = \"0/s\"\n", "limits.rate_login", "10/min"),
        ("client = 5\n", "client", "[client]"),
    ] {
        match load_file(text) {
            Err(error @ ConfigError::Value { .. }) => {
                let message = error.to_string();
                assert!(message.contains(&format!("`{key}` must be")) && message.contains(expected), "{message}");
                assert!(message.contains("kith.toml, line "), "{message}");
            }
            other => panic!("{text}: {other:?}"),
        }
    }
    let message = load_environment(&[("KITH_P2P_MAX_PEERS", "many")]).unwrap_err().to_string();
    assert!(message.contains("environment variable KITH_P2P_MAX_PEERS"), "{message}");
}

#[test]
fn a_secret_never_enters_an_error() {
    let message = load_file("[registration]\nshared_secret = [\"hunter2\"]\n").unwrap_err().to_string();
    assert!(message.contains("registration.shared_secret") && !message.contains("hunter2"), "{message}");
    let message = load_file("[registration]\ntokens = [\"hunter2 !\"]\n").unwrap_err().to_string();
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn a_value_that_makes_no_sense_is_told_with_its_place() {
    let message = load_file("\n[client]\npublic_base_url = \"nonsense\"\n").unwrap_err().to_string();
    assert!(message.contains("kith.toml, line 3: `client.public_base_url`"), "{message}");
}

#[test]
fn broken_and_missing_files_are_told() {
    let message = load_file("[client\n").unwrap_err().to_string();
    assert!(message.contains("is not valid TOML") && message.contains("line 1"), "{message}");
    let missing = Config::load(Some(Path::new("/nowhere/kith.toml")), environment(&[]), &Flags::default());
    assert!(missing.unwrap_err().to_string().contains("/nowhere/kith.toml"));
    assert!(load_file("[client]\nlisten = []\nlisten = []\n").is_err());
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_what_to_do_and_never_counts_as_absent() {
    let folder = tempfile::tempdir().unwrap();
    let flags = Flags { data_dir: Some(folder.path().to_owned()) };
    let load = || Config::load(None, environment(&[]), &flags);
    let file = folder.path().join("kith.toml");
    std::fs::create_dir(&file).unwrap();
    let message = load().unwrap_err().to_string();
    assert!(message.contains("kith.toml") && message.contains("It is a folder"), "{message}");
    std::fs::remove_dir(&file).unwrap();
    std::fs::write(&file, b"\xff\xfe").unwrap();
    let message = load().unwrap_err().to_string();
    assert!(message.contains("kith.toml") && message.contains("UTF-8"), "{message}");
    #[cfg(unix)]
    if !rustix::process::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o000)).unwrap();
        let message = load().unwrap_err().to_string();
        assert!(message.contains("kith.toml") && message.contains("chmod 600"), "{message}");
        // A folder that nobody may enter is for the one who opens it to tell.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
        load().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn every_key_reaches_its_field() {
    // A kind that disagrees with the field's type would fail here.
    for key in all().filter(|key| !matches!(key.full_name().as_str(), "gateway_zone" | "federation.listen")) {
        let section = if key.section.is_empty() { String::new() } else { format!("[{}]\n", key.section) };
        let text = format!("{section}{} = {}\n", key.name, key.value);
        let result = load_file(&text);
        if matches!(key.kind, Kind::Path) && key.section == "federation" {
            // Certificate and key are only valid together.
            assert!(result.unwrap_err().to_string().contains("too"), "{text}");
        } else {
            result.unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }
}
