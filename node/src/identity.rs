//! Who this node is: the server key and the server name, in one file of the data folder (DESIGN section 2).
//!
//! The file is written once, whole and durably, at the first start, with the name that was chosen then. Matrix has no
//! way to rename a server, so a configuration that asks for another name later is refused, and a damaged file is an
//! error and never replaced: the key in it may still be restored from a backup.
//!
//! Threats met (DESIGN section 8): another user of the device, by permissions (folder 0700, file 0600, and a key that
//! others can read is refused); an accident, by the name beside the key, which must belong to it.

mod epoch;
mod file;

use std::path::{Path, PathBuf};

use kith_transport::{KithName, SecretKey, ServerKey};
use ruma::{OwnedServerName, ServerName};

pub(crate) use epoch::begin;
pub use epoch::epoch;

use crate::config::Config;
use crate::platform::Rng;

/// The name of the key file in the data folder.
pub const KEY_FILE: &str = "server.key";

/// A server's key and name.
#[derive(Debug, Clone)]
pub struct Identity {
    secret: SecretKey,
    server_name: OwnedServerName,
    kith_name: Option<KithName>,
    /// Whether the key was made by this very call: the first start.
    pub created: bool,
    /// Whether the key was there but the tables were not, so that the server begins anew under its old name.
    pub began_anew: bool,
    /// Whether the key is in the data folder, and not kept by the platform.
    from_file: bool,
}

/// Why there is no identity. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The folder cannot be made, entered or listed.
    #[error("cannot use the data folder {}: {source}. Choose one that is yours with --data", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The folder belongs to another user of the device.
    #[error(
        "the data folder {} belongs to another user (uid {owner}; this is uid {own}): run kith as that user, or choose another folder with --data",
        .path.display()
    )]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who asks.
        own: u32,
    },
    /// The folder is not empty and holds no node.
    #[error(
        "{} is not a data folder of kith: it holds other things ({found}). Choose an empty or new folder with --data",
        .path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// There are data of a node, but its key is gone.
    #[error(
        "{}: the data of a node are here, but its key `{KEY_FILE}` is missing. Restore it from a backup: with a new key this would be another server",
        .path.display()
    )]
    KeyMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    #[error(
        "cannot {what} the server key {}: {source}. It and its folder must belong to the user who runs kith, on a disk with free space",
        .path.display()
    )]
    Io {
        /// "read" or "write".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others can read the secret.
    #[error(
        "the server key {} can be read by other users (mode {mode:o}): whoever has it can act as this server. If nobody had it, run: chmod 600 {}",
        .path.display(), .path.display()
    )]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key and its name.
    #[error(
        "the server key {} is damaged ({reason}). It was left as it is: restore it from a backup",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Holds nothing secret.
        reason: &'static str,
    },
    /// The configuration asks for another name than the one fixed at the first start.
    #[error(
        "this node is {fixed}, but the configuration ({key}) asks for {asked}. A server cannot be renamed: its users and rooms carry its name. \
         Set `{key}` back, or begin a new node in another folder with --data"
    )]
    NameChanged {
        /// The name in the key file.
        fixed: String,
        /// The name the configuration leads to.
        asked: String,
        /// The key to set back.
        key: &'static str,
    },
    /// The configured name or zone is none.
    #[error("`{key}`: {reason}")]
    Name {
        /// The configuration key.
        key: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl Identity {
    /// The identity in the configured data folder, made now if this is its first start.
    ///
    /// # Errors
    /// [`IdentityError`]; nothing that exists is changed then.
    pub fn open(config: &Config, rng: &Rng) -> Result<Self, IdentityError> {
        let path = config.data_dir.join(KEY_FILE);
        file::prepare_folder(&config.data_dir)?;
        if let Some(identity) = Self::read(&path)? {
            identity.check_name(config)?;
            return Ok(identity);
        }
        file::check_unused(&config.data_dir)?;
        let mut seed = [0; 32];
        rng.fill(&mut seed);
        let mut identity = Self::new(SecretKey::from_seed(seed), config)?;
        if file::write_new(&path, &identity, rng)? {
            identity.created = true;
            identity.from_file = true;
            return Ok(identity);
        }
        // Another process was quicker; its key counts.
        let identity = Self::read(&path)?.ok_or(IdentityError::KeyMissing { path: config.data_dir.clone() })?;
        identity.check_name(config)?;
        Ok(identity)
    }

    /// The identity in `data_dir`, if there is one. Creates and changes nothing.
    ///
    /// # Errors
    /// [`IdentityError`] when there is a key that cannot be used.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, IdentityError> {
        Self::read(&data_dir.join(KEY_FILE))
    }

    /// An identity that is in no folder: for a platform that keeps the key itself, and for tests.
    ///
    /// # Errors
    /// [`IdentityError::Name`] when the configuration's name or zone is none.
    pub fn new(secret: SecretKey, config: &Config) -> Result<Self, IdentityError> {
        let (name, key) = match &config.server_name {
            Some(name) => (name.clone(), "server_name"),
            None => {
                let name = KithName::new(secret.public(), config.gateway_zone.as_deref())
                    .map_err(|error| IdentityError::Name { key: "gateway_zone", reason: error.to_string() })?;
                (name.to_string(), "gateway_zone")
            }
        };
        Self::from_parts(secret, &name).map_err(|reason| IdentityError::Name { key, reason: reason.to_owned() })
    }

    fn from_parts(secret: SecretKey, name: &str) -> Result<Self, &'static str> {
        let kith_name = KithName::parse(name).map_err(|_| "the name is not in its one valid spelling")?;
        if kith_name.as_ref().is_some_and(|kith| kith.key != secret.public()) {
            return Err("the name does not belong to the key");
        }
        let server_name = ServerName::parse(name).map_err(|_| "the name is no server name")?;
        Ok(Self { secret, server_name, kith_name, created: false, began_anew: false, from_file: false })
    }

    fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(stored) = file::read(path)? else { return Ok(None) };
        let damaged = |reason| IdentityError::Damaged { path: path.to_owned(), reason };
        let secret = SecretKey::from_seed(*stored.seed);
        if secret.public() != stored.key {
            return Err(damaged("the secret and the public key do not belong together"));
        }
        let identity = Self::from_parts(secret, &stored.server_name).map_err(damaged)?;
        Ok(Some(Self { from_file: true, ..identity }))
    }

    /// Whether the configuration leads to this very name.
    ///
    /// # Errors
    /// [`IdentityError::NameChanged`] if not.
    pub fn check_name(&self, config: &Config) -> Result<(), IdentityError> {
        let asked = Self::new(self.secret.clone(), config)?;
        if asked.server_name == self.server_name {
            return Ok(());
        }
        let key = if config.server_name.is_some() || self.kith_name.is_none() { "server_name" } else { "gateway_zone" };
        let name_of = |identity: &Self| match &identity.kith_name {
            Some(KithName { zone: None, .. }) => format!("{} (no zone)", identity.server_name),
            _ => identity.server_name.to_string(),
        };
        Err(IdentityError::NameChanged { fixed: name_of(self), asked: name_of(&asked), key })
    }

    /// The server name, as it stands in user ids.
    #[must_use]
    pub fn server_name(&self) -> &ServerName {
        &self.server_name
    }

    /// The parts of the server name if it is made of the key; nothing for an ordinary name.
    #[must_use]
    pub fn kith_name(&self) -> Option<&KithName> {
        self.kith_name.as_ref()
    }

    /// The secret key, which signs events and requests.
    #[must_use]
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> ServerKey {
        self.secret.public()
    }

    /// The libp2p peer id, in text.
    #[must_use]
    pub fn peer_id(&self) -> String {
        self.public().peer_id().to_string()
    }
}

/// The names of things in `data_dir` that may lie beside the node's data: its key, configuration, certificates.
#[must_use]
pub fn beside(data_dir: &Path) -> Vec<String> {
    let listed = std::fs::read_dir(data_dir).into_iter().flatten().flatten();
    let names = listed.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name == KEY_FILE || file::may_lie_there(name)).collect()
}

/// What it means that the key was there and the tables were not, and what to do, for the terminal.
#[must_use]
pub fn began_anew_warning(data_dir: &Path) -> String {
    format!(
        "The key of this server was found in {}, but none of its data. It starts EMPTY under its old name: accounts, rooms, \
         messages and encryption keys are not here.\n\
         If you have the rest of the data folder (`kith.redb` and `media`), stop now, before anything is done, and put it back.\n\
         If not: make your accounts again. Other servers still count the former users as members of their rooms, and take this \
         for a new beginning.",
        data_dir.display()
    )
}

/// What the owner should know about keeping the key, in one sentence.
#[must_use]
pub fn backup_hint(data_dir: &Path) -> String {
    format!(
        "Keep a copy of {} in a safe place: without it this name and its accounts are lost for ever, and whoever has it can act as this server.",
        data_dir.join(KEY_FILE).display()
    )
}

#[cfg(all(test, unix))]
mod tests;
