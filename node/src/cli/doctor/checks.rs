//! What is looked at on this device: folder, key, disk, clock, store, queues.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use kith_store::tables::node::{CLOCK_FLOOR, FACTS};
use kith_store::{Examined, OpenError, StoreError};

use super::super::text::{bytes, date};
use super::super::{DATABASE, clock, panics};
use super::{Finding, Life, Running};
use crate::config::Config;
use crate::identity::{self, Identity, KEY_FILE};

/// A destination that cannot be reached for so long is told.
const LONG_AWAY: Duration = Duration::from_secs(86_400);

/// Below this there is room, but not for long.
const LITTLE_SPACE: u64 = 1 << 30;

pub(super) fn folder(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let path = &config.data_dir;
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return vec![Finding::problem(
                CHECK,
                format!("{} is not a folder", path.display()),
                "Choose another with --data.",
            )];
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let message = format!("{} does not exist yet", path.display());
            return vec![Finding::note(CHECK, message, "The first start makes it.")];
        }
        Err(error) => {
            let message = format!("{} cannot be entered: {error}", path.display());
            return vec![Finding::problem(CHECK, message, "Run this as its owner, or choose another with --data.")];
        }
    };
    let mut findings = Vec::new();
    let own = rustix::process::geteuid();
    if metadata.uid() != own.as_raw() && !own.is_root() {
        let message = format!("{} belongs to another user (uid {})", path.display(), metadata.uid());
        findings.push(Finding::problem(CHECK, message, "Run kith as that user, or choose another folder with --data."));
    }
    if mode(&metadata) & 0o077 != 0 {
        let message = format!("{} is open to other users of this device (mode {:o})", path.display(), mode(&metadata));
        findings.push(Finding::problem(CHECK, message, format!("Run: chmod 700 '{}'", path.display())));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} is the owner's alone", path.display())));
    }
    findings
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o777
}

/// A configuration file with secrets in it must not be open. Which file holds them cannot be told when the environment
/// overrides it, so the file is judged whenever there are secrets.
pub(super) fn secrets_in_file(config: &Config, file: &Path) -> Option<Finding> {
    if config.registration.shared_secret.is_none() && config.registration.tokens.is_empty() {
        return None;
    }
    let metadata = std::fs::metadata(file).ok()?;
    (mode(&metadata) & 0o077 != 0).then(|| {
        let message = format!("{} holds a secret and can be read by other users", file.display());
        Finding::problem("configuration", message, format!("Run: chmod 600 '{}'", file.display()))
    })
}

/// A folder that holds other things and nothing of a node.
pub(super) fn foreign(config: &Config) -> Option<Finding> {
    let path = &config.data_dir;
    let mut names: Vec<String> =
        std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    if names.iter().any(|name| [KEY_FILE, DATABASE, "media"].contains(&name.as_str())) {
        return None;
    }
    let beside = identity::beside(path);
    let found = names.into_iter().find(|name| !beside.contains(name))?;
    let message = format!("{} is not a data folder of kith: it holds other things ({found})", path.display());
    Some(Finding::problem("data folder", message, "Choose an empty or new folder with --data."))
}

pub(super) fn key(config: &Config) -> Finding {
    const CHECK: &str = "server key";
    match Identity::load(&config.data_dir) {
        Ok(Some(identity)) => match identity.check_name(config) {
            Ok(()) => Finding::ok(CHECK, format!("is that of {}", identity.server_name())),
            Err(error) => Finding::problem(CHECK, error.to_string(), "Change the configuration back."),
        },
        Ok(None) if config.data_dir.join(DATABASE).exists() => {
            Finding::problem(CHECK, "is missing, while there are data", "Restore server.key from a backup.")
        }
        Ok(None) => Finding::note(CHECK, "is not made yet", "The first start makes it."),
        Err(error) => Finding::problem(CHECK, error.to_string(), "See above; no node starts without its key."),
    }
}

pub(super) fn disk(config: &Config) -> Finding {
    const CHECK: &str = "disk";
    // The nearest folder that exists is on the disk that will be written to.
    let Some(folder) = config.data_dir.ancestors().find(|folder| folder.is_dir()) else {
        return Finding::note(CHECK, "cannot be looked at", "See the data folder.");
    };
    match rustix::fs::statvfs(folder) {
        Ok(disk) => space(disk.f_bavail.saturating_mul(disk.f_frsize), config.limits.free_disk_reserve),
        Err(error) => Finding::note(CHECK, format!("tells no free space: {error}"), "Nothing, if messages are sent."),
    }
}

fn space(free: u64, reserve: u64) -> Finding {
    const CHECK: &str = "disk";
    let message = format!("{} free", bytes(free));
    if free < reserve {
        let message = format!("{message}, less than the reserve of {}: nothing is written any more", bytes(reserve));
        return Finding::problem(CHECK, message, "Free some space on this disk, or move the data folder.");
    }
    if free < reserve.saturating_mul(4).max(LITTLE_SPACE) {
        return Finding::note(CHECK, message, "Free some space soon: messages and media need it.");
    }
    Finding::ok(CHECK, message)
}

/// The device's clock, against the node's time: what it says, or what it noted last.
pub(super) fn clock(config: &Config, life: &Life) -> Finding {
    const CHECK: &str = "clock";
    let wall = clock::wall();
    let node = match life {
        Life::Running(running) => Duration::from_millis(running.status.now_ms),
        Life::Silent => Duration::ZERO,
        Life::Stopped => noted(config).unwrap_or_default(),
    };
    match clock::judge(wall, node) {
        Some(wrong) if wrong.surely => Finding::problem(CHECK, wrong.what, wrong.remedy),
        Some(wrong) => Finding::note(CHECK, wrong.what, wrong.remedy),
        None => Finding::ok(CHECK, format!("says {}", date(wall))),
    }
}

/// The time that a stopped node noted last.
fn noted(config: &Config) -> Option<Duration> {
    let examined = look(config).ok()??;
    let noted: Result<_, StoreError> = FACTS.get(&examined.snapshot?, &CLOCK_FLOOR.to_owned());
    noted.ok()?.map(Duration::from_millis)
}

fn look(config: &Config) -> Result<Option<Examined>, OpenError> {
    let _opening = panics::opening();
    // A valid key beside it says that this was a node's database.
    let ours = matches!(Identity::load(&config.data_dir), Ok(Some(_)));
    kith_store::examine(&config.data_dir).map_err(|error| if ours { error.of_ours() } else { error })
}

/// Looks into the store of a node that does not run, without changing it.
pub(super) fn store(config: &Config) -> Option<Finding> {
    const CHECK: &str = "store";
    Some(match look(config) {
        Ok(None) => return None,
        Ok(Some(Examined { file_bytes, snapshot: Some(_), .. })) => {
            Finding::ok(CHECK, format!("opens; {}", bytes(file_bytes)))
        }
        Ok(Some(Examined { file_bytes, snapshot: None, .. })) => {
            let message = format!("was not closed in order, so it cannot be looked into; {}", bytes(file_bytes));
            Finding::note(CHECK, message, "Nothing: the next start mends that, or says what is wrong with it.")
        }
        Err(error @ OpenError::InUse { .. }) => {
            let remedy = "If that is the node, it has lost its local socket: stop it (`kill` and that number) and start it again.";
            Finding::problem(CHECK, error.to_string(), remedy)
        }
        Err(OpenError::Unusable { cause, .. }) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
            Finding::note(CHECK, "may not be looked at by this user", "Run this as the user who runs the node.")
        }
        Err(error) => Finding::problem(CHECK, error.to_string(), "See above; nothing was changed."),
    })
}

pub(super) fn store_figures(running: &Running) -> Finding {
    const CHECK: &str = "store";
    let store = &running.status.store;
    if store.reopened > 0 {
        let message = format!("had to be reopened {} times after errors of the disk", store.reopened);
        return Finding::problem(CHECK, message, "Look at the system's log for errors of the disk, and make a backup.");
    }
    Finding::ok(CHECK, format!("{}, {} changes waiting", bytes(store.file_bytes), store.waiting))
}

pub(super) fn queues(running: &Running) -> Finding {
    const CHECK: &str = "queues";
    let now = running.status.now_ms;
    let long_away = running.status.queues.iter().filter(|queue| {
        queue.away_since_ms.is_some_and(|since| Duration::from_millis(now.saturating_sub(since)) > LONG_AWAY)
    });
    let dropped: u64 = running.status.queues.iter().map(|queue| queue.dropped).sum();
    let names: Vec<&str> = long_away.map(|queue| queue.destination.as_str()).collect();
    if dropped > 0 {
        let message = format!("{dropped} device messages were dropped for servers that were away too long");
        return Finding::note(
            CHECK,
            message,
            "Encrypted messages from then may be unreadable there: they can be sent again.",
        );
    }
    match names.as_slice() {
        [] => Finding::ok(
            CHECK,
            match running.status.queues.len() {
                0 => "nothing is waiting".to_owned(),
                1 => "something is waiting for one server".to_owned(),
                several => format!("something is waiting for {several} servers"),
            },
        ),
        [first, rest @ ..] => {
            let others = if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
            let message = format!("{first}{others} could not be reached for more than a day");
            Finding::note(CHECK, message, "Nothing: what waits is sent when they are back.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn an_open_folder_is_a_problem_with_its_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::in_folder(folder.path());
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
        let findings = super::folder(&config);
        assert_eq!(findings[0].level, Level::Problem);
        assert!(findings[0].remedy.as_ref().unwrap().contains("chmod 700"));
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(super::folder(&config)[0].level, Level::Ok);
        assert_eq!(super::folder(&Config::in_folder("/nowhere/at/all"))[0].level, Level::Note);
    }

    #[test]
    fn a_full_disk_is_a_problem_and_a_nearly_full_one_is_told() {
        assert_eq!(space(63 << 20, 64 << 20).level, Level::Problem);
        assert_eq!(space(300 << 20, 64 << 20).level, Level::Note);
        assert_eq!(space(50 << 30, 64 << 20).level, Level::Ok);
    }

    #[test]
    fn data_without_a_key_are_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::in_folder(folder.path());
        assert_eq!(key(&config).level, Level::Note);
        std::fs::write(folder.path().join(DATABASE), b"x").unwrap();
        assert_eq!(key(&config).level, Level::Problem);
        assert_eq!(store(&config).unwrap().level, Level::Problem, "this is no database");
    }

    #[test]
    fn a_folder_of_other_things_is_not_to_be_made_a_node_s() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::in_folder(folder.path());
        for ours in ["kith.toml", "cert.pem", ".cache", "kith.lock"] {
            std::fs::write(folder.path().join(ours), b"").unwrap();
        }
        assert_eq!(foreign(&config), None);
        std::fs::write(folder.path().join("thesis.docx"), b"").unwrap();
        let found = foreign(&config).unwrap();
        assert!(found.message.contains("thesis.docx") && found.remedy.unwrap().contains("--data"));
        std::fs::write(folder.path().join(KEY_FILE), b"").unwrap();
        assert_eq!(foreign(&config), None, "it is a node's, whatever else lies there");
    }

    #[test]
    fn the_file_that_was_read_is_the_one_whose_secrets_are_looked_after() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("elsewhere.toml");
        std::fs::write(&file, b"").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut config = Config::in_folder("/nowhere/at/all");
        assert_eq!(secrets_in_file(&config, &file), None);
        config.registration.shared_secret = Some(crate::config::Secret::new("x"));
        let found = secrets_in_file(&config, &file).unwrap();
        assert!(found.remedy.unwrap().contains("elsewhere.toml"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secrets_in_file(&config, &file), None);
    }
}
