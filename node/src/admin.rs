//! The owner's door: a local socket in the data folder, over which the commands `kith user`, `peers`, `status` and
//! `doctor` talk to a running node.
//!
//! HTTP/1.1 with JSON bodies over a Unix socket. Threats met (DESIGN section 8): a web page cannot reach it, since
//! browsers open no Unix sockets; another user of the device cannot, since the folder is 0700 and the socket 0600, and
//! the server asks the system who is at the other end besides. Bodies are bounded; passwords come in bodies and are
//! never logged.
//!
//! | request | body | answer |
//! | --- | --- | --- |
//! | `GET /status` | | [`Status`] |
//! | `GET /peers` | | list of [`Peer`] |
//! | `GET /users` | | list of [`UserInfo`] |
//! | `POST /users` | [`NewUser`] | `{"user_id"}` |
//! | `POST /password` | [`NewPassword`] | `{}` |
//! | `POST /deactivate` | [`Deactivation`] | `{}` |

mod client;
mod node;
mod server;
mod types;

use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

pub use client::{AdminClient, ConnectError};
pub use node::NodeAdmin;
pub use server::serve;
pub use types::{
    AdminError, Deactivation, FederationStatus, NewPassword, NewUser, Peer, Queue, Status, StoreStatus, UserInfo,
};

/// The name of the socket in the data folder.
pub const SOCKET: &str = "kith.sock";

/// The longest path of a socket that every system takes, in bytes.
const MAX_SOCKET_PATH: usize = 100;

/// What the owner can ask of a node, running or opened just for this.
pub trait Admin: Send + Sync + 'static {
    /// What the node is and does.
    fn status(&self) -> BoxFuture<'_, Result<Status, AdminError>>;

    /// Who is known on the network, the nearest first.
    fn peers(&self) -> BoxFuture<'_, Result<Vec<Peer>, AdminError>>;

    /// All accounts.
    fn users(&self) -> BoxFuture<'_, Result<Vec<UserInfo>, AdminError>>;

    /// Makes an account; gives its user id.
    fn add_user(&self, user: NewUser) -> BoxFuture<'_, Result<String, AdminError>>;

    /// Sets a password.
    fn set_password(&self, change: NewPassword) -> BoxFuture<'_, Result<(), AdminError>>;

    /// Ends an account.
    fn deactivate(&self, user: Deactivation) -> BoxFuture<'_, Result<(), AdminError>>;
}

/// A path that leads to the socket and is short enough for the system, with what must be kept open while it is used.
fn socket_path(data_dir: &Path) -> std::io::Result<(PathBuf, Option<std::fs::File>)> {
    let path = data_dir.join(SOCKET);
    if path.as_os_str().len() <= MAX_SOCKET_PATH || !cfg!(target_os = "linux") {
        return Ok((path, None));
    }
    use std::os::fd::AsRawFd as _;
    let folder = std::fs::File::open(data_dir)?;
    let short = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    Ok((PathBuf::from(short), Some(folder)))
}

#[cfg(test)]
mod tests;
