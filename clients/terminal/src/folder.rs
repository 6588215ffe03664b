//! The folder with the session, the keys and the messages: for its owner alone.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use matrix_sdk::authentication::matrix::MatrixSession;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::failure::Failure;

/// What is kept of a sign-in. It holds secrets: the file is readable by its owner only.
#[derive(Clone, Serialize, Deserialize)]
pub struct Session {
    pub homeserver: String,
    pub account: MatrixSession,
    /// Opens the databases beside it.
    pub store_key: StoreKey,
    /// Kept until its owner has written it down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_key: Option<String>,
}

/// A key of databases, as base64 in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey(pub [u8; 32]);

impl Serialize for StoreKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

impl<'de> Deserialize<'de> for StoreKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| de::Error::custom("a key has 32 bytes"))
    }
}

/// The data folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The given folder or the platform's, made where it is missing.
    pub fn open(given: Option<&Path>) -> Result<Self> {
        let path = match given {
            Some(path) => path.to_owned(),
            None => default_folder().context("no home folder is known; give --data DIR")?,
        };
        make_private_folder(&path).with_context(|| format!("the folder {} cannot be made", path.display()))?;
        Ok(Self { path })
    }

    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where a running kith-chat takes the commands of scripts.
    pub fn socket(&self) -> PathBuf {
        self.path.join("commands.socket")
    }

    fn session_file(&self) -> PathBuf {
        self.path.join("session.json")
    }

    /// The session, if somebody is signed in.
    pub fn session(&self) -> Result<Option<Session>> {
        let file = self.session_file();
        match fs::read(&file) {
            Ok(text) => {
                let session = serde_json::from_slice(&text)
                    .map_err(|_| anyhow::anyhow!("{} is damaged; move it away and sign in again", file.display()))?;
                Ok(Some(session))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
        }
    }

    /// Keeps the session: written whole or not at all.
    pub fn keep(&self, session: &Session) -> Result<()> {
        let temporary = self.path.join("session.json.new");
        let write = || -> io::Result<()> {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = private_file(&temporary)?;
            file.write_all(&serde_json::to_vec(session)?)?;
            file.sync_all()?;
            fs::rename(&temporary, self.session_file())
        };
        write().with_context(|| format!("{} cannot be written", self.session_file().display()))
    }

    /// Changes what is kept.
    pub fn change(&self, change: impl FnOnce(&mut Session)) -> Result<()> {
        if let Some(mut session) = self.session()? {
            change(&mut session);
            self.keep(&session)?;
        }
        Ok(())
    }

    /// Erases session, keys and messages. The session goes last: what is half erased is still known to be here.
    pub fn erase(&self) -> Result<()> {
        for path in [self.store(), self.session_file()] {
            let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("{} cannot be removed", path.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes the folder for this process, for as long as the answer lives. Keys used by two at once would be lost.
    pub fn lock(&self, wait: bool) -> Result<File> {
        let path = self.path.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let file = open.with_context(|| format!("{} cannot be opened", path.display()))?;
        if wait {
            file.lock().context("the data folder cannot be locked")?;
        } else {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!(Failure::InUse),
                Err(TryLockError::Error(error)) => return Err(error).context("the data folder cannot be locked"),
            }
        }
        Ok(file)
    }
}

/// Where this platform keeps a program's data.
fn default_folder() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = if cfg!(windows) {
        variable("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        variable("HOME")?.join("Library/Application Support")
    } else {
        variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")))?
    };
    Some(base.join("kith-chat"))
}

#[cfg(unix)]
fn make_private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & !0o077))?;
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// A new file that only its owner can read.
pub fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Writes a file of a stranger where downloads go, under its own name made harmless, over nothing. Says where.
pub fn save_download(name: &str, data: &[u8]) -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_dir());
    let folder = variable("XDG_DOWNLOAD_DIR")
        .or_else(|| variable("HOME").map(|home| home.join("Downloads")).filter(|path| path.is_dir()))
        .map_or_else(std::env::current_dir, Ok)
        .context("there is no folder to save in")?;
    let name = harmless_name(name);
    let (stem, extension) = match name.rfind('.').filter(|at| *at > 0) {
        Some(at) => name.split_at(at),
        None => (name.as_str(), ""),
    };
    for number in 0..1_000 {
        let path = folder.join(if number == 0 { name.clone() } else { format!("{stem} ({number}){extension}") });
        match private_file(&path) {
            Ok(mut file) => {
                file.write_all(data).with_context(|| format!("{} cannot be written", path.display()))?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be written", path.display())),
        }
    }
    bail!("there are too many files of that name in {}", folder.display())
}

/// A file name that stays in its folder and is not hidden.
fn harmless_name(name: &str) -> String {
    let name = crate::text::line(name);
    let bad = |character: char| "/\\:*?\"<>|".contains(character) || character == '\u{FFFD}';
    let name: String = name.chars().map(|character| if bad(character) { '_' } else { character }).take(100).collect();
    let name = name.trim_start_matches('.').trim_end_matches(['.', ' ']);
    if name.is_empty() { "file".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_strangers_stay_in_the_folder() {
        for (given, kept) in [
            ("../../.bashrc", "_.._.bashrc"),
            ("/etc/passwd", "_etc_passwd"),
            (".hidden", "hidden"),
            ("a\x1b]0;x\x07.jpg", "a_]0;x_.jpg"),
            ("", "file"),
            ("...", "file"),
            ("C:\\x", "C__x"),
        ] {
            assert_eq!(harmless_name(given), kept, "{given:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_session_is_for_its_owner_alone_and_erased_with_the_rest() {
        use std::os::unix::fs::PermissionsExt as _;
        let path = std::env::temp_dir().join(format!("kith-chat-folder-{}", std::process::id()));
        let folder = Folder::open(Some(&path)).unwrap();
        assert!(folder.session().unwrap().is_none());
        let account = serde_json::json!({ "user_id": "@a:b", "device_id": "D", "access_token": "T" });
        let session = Session {
            homeserver: "http://localhost:8008".to_owned(),
            account: serde_json::from_value(account).unwrap(),
            store_key: StoreKey([7; 32]),
            recovery_key: None,
        };
        folder.keep(&session).unwrap();
        folder.change(|session| session.recovery_key = Some("k".to_owned())).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(folder.session_file()), mode(path.clone())), (0o600, 0o700));
        let kept = folder.session().unwrap().unwrap();
        assert_eq!((kept.recovery_key.as_deref(), kept.store_key == session.store_key), (Some("k"), true));
        let lock = folder.lock(false).unwrap();
        assert_eq!(folder.lock(false).unwrap_err().downcast_ref(), Some(&Failure::InUse));
        drop(lock);
        folder.erase().unwrap();
        assert!(folder.session().unwrap().is_none());
        fs::remove_dir_all(path).unwrap();
    }
}
