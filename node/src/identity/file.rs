//! The key file and its folder: format, permissions, durable creation.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::Path;

use data_encoding::BASE32_NOPAD;
use kith_transport::ServerKey;
use zeroize::Zeroizing;

use super::{Identity, IdentityError};
use crate::platform::Rng;

/// The first line of the file: what it is, and the version of its form.
const HEADER: &str = "kith server key, version 1. Keep it secret: whoever has it can act as this server.";

/// A key file is a few hundred bytes; more is something else.
const MAX_FILE: u64 = 4096;

/// What the file holds.
pub(super) struct Stored {
    pub(super) server_name: String,
    pub(super) key: ServerKey,
    pub(super) seed: Zeroizing<[u8; 32]>,
}

/// Makes the folder, or checks that the existing one is this user's.
pub(super) fn prepare_folder(folder: &Path) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::Folder { path: folder.to_owned(), source };
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => check_owner(folder, &metadata),
        Ok(_) => Err(failed(std::io::Error::from(ErrorKind::NotADirectory))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut builder = fs::DirBuilder::new();
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            // The folders above keep the usual permissions.
            if let Some(parent) = folder.parent() {
                fs::create_dir_all(parent).map_err(failed)?;
            }
            match builder.create(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(error)),
                _ => folder.parent().map_or(Ok(()), sync_folder).map_err(failed),
            }
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(unix)]
fn check_owner(folder: &Path, metadata: &fs::Metadata) -> Result<(), IdentityError> {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        return Err(IdentityError::Owner { path: folder.to_owned(), owner: metadata.uid(), own });
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_owner(_folder: &Path, _metadata: &fs::Metadata) -> Result<(), IdentityError> {
    Ok(())
}

/// Before the first start: the folder must hold nothing but what belongs there; it is closed to other users.
pub(super) fn check_unused(folder: &Path) -> Result<(), IdentityError> {
    let failed = |source| IdentityError::Folder { path: folder.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    if names.iter().any(|name| name == "kith.redb" || name == "media") {
        return Err(IdentityError::KeyMissing { path: folder.to_owned() });
    }
    if let Some(found) = names.into_iter().find(|name| !may_lie_there(name)) {
        return Err(IdentityError::Foreign { path: folder.to_owned(), found });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

/// The owner may have put configuration and certificates there; hidden files are the system's; lock and socket are what
/// a node leaves that ended before it had anything else.
pub(super) fn may_lie_there(name: &str) -> bool {
    name.starts_with('.')
        || ["kith.lock", "kith.sock", "lost+found"].contains(&name)
        || name.ends_with(".toml")
        || name.ends_with(".pem")
}

/// Reads the file; nothing if it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Stored>, IdentityError> {
    let failed = |source| IdentityError::Io { what: "read", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Readable { path: path.to_owned(), mode });
        }
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    parse(&bytes).map(Some).map_err(|reason| IdentityError::Damaged { path: path.to_owned(), reason })
}

fn parse(bytes: &[u8]) -> Result<Stored, &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    if bytes.len() as u64 > MAX_FILE {
        return Err("it is too long");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err("its first line is not that of a key file of this version");
    }
    let mut field = |name: &str| {
        let (key, value) = lines.next()?.split_once(": ")?;
        (key == name).then_some(value)
    };
    let server_name = field("server_name").ok_or("the line server_name is missing")?.to_owned();
    let public = field("public_key").ok_or("the line public_key is missing")?;
    let secret = field("secret_key").ok_or("the line secret_key is missing")?;
    if lines.next().is_some() {
        return Err("there is more in it than a key");
    }
    let key = public.parse().map_err(|_| "the public key is none")?;
    let decoded = Zeroizing::new(
        BASE32_NOPAD
            .decode(Zeroizing::new(secret.to_ascii_uppercase()).as_bytes())
            .map_err(|_| "the secret key is none")?,
    );
    let seed = <[u8; 32]>::try_from(decoded.as_slice()).map_err(|_| "the secret key is none")?;
    Ok(Stored { server_name, key, seed: Zeroizing::new(seed) })
}

/// Writes the file durably, unless there is one: false then, and the existing one is untouched.
pub(super) fn write_new(path: &Path, identity: &Identity, rng: &Rng) -> Result<bool, IdentityError> {
    let failed = |source| IdentityError::Io { what: "write", path: path.to_owned(), source };
    let secret = Zeroizing::new(BASE32_NOPAD.encode(identity.secret().seed()).to_ascii_lowercase());
    let text = Zeroizing::new(format!(
        "{HEADER}\nserver_name: {}\npublic_key: {}\nsecret_key: {}\n",
        identity.server_name(),
        identity.public(),
        *secret
    ));
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = folder.join(format!(".server.key.{}", rng.token(8)));
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let created = publish(&temporary, path)?;
        sync_folder(folder)?;
        Ok(created)
    };
    let result = write();
    // Already gone if it was renamed.
    let _ = fs::remove_file(&temporary);
    result.map_err(failed)
}

/// Gives the finished file its name without ever replacing another.
fn publish(temporary: &Path, path: &Path) -> std::io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // A file system without links.
        Err(_) if !path.try_exists()? => fs::rename(temporary, path).map(|()| true),
        Err(_) => Ok(false),
    }
}

fn sync_folder(folder: &Path) -> std::io::Result<()> {
    // Folders cannot be opened as files on Windows, where metadata is written through.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
