//! A node to administer: the running one through its socket, or a stopped one opened for the moment, without network
//! and listeners.

use std::sync::Arc;

use super::exit::Failure;
use super::panics;
use crate::admin::{Admin, AdminClient, ConnectError, NodeAdmin};
use crate::config::Config;
use crate::identity::Identity;
use crate::platform::{NetworkChoice, Platform};
use crate::{Handle, Node};

pub(super) struct NodeAccess {
    admin: Arc<dyn Admin>,
    /// Present if it was opened for the moment.
    handle: Option<Handle>,
}

impl NodeAccess {
    pub(super) async fn open(config: Config) -> Result<Self, Failure> {
        match AdminClient::connect(&config.data_dir).await {
            Ok(client) => return Ok(Self { admin: Arc::new(client), handle: None }),
            Err(ConnectError::NotRunning(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if Identity::load(&config.data_dir)?.is_none() {
            // The name is fixed with the key; a mistyped --data must not make a node by the way.
            return Err(Failure::no_identity(format!(
                "there is no node in {}: start it once with `kith`, or name its folder with --data",
                config.data_dir.display()
            )));
        }
        let mut platform = Platform::system().map_err(|error| Failure::general(error.to_string()))?;
        platform.network = NetworkChoice::None;
        platform.listeners = false;
        let opening = panics::opening();
        let handle = Node::start(config, platform).await?;
        drop(opening);
        let admin = NodeAdmin::new(&handle);
        Ok(Self { admin: Arc::new(admin), handle: Some(handle) })
    }

    pub(super) fn admin(&self) -> &dyn Admin {
        self.admin.as_ref()
    }

    pub(super) async fn close(self) {
        if let Some(handle) = self.handle {
            handle.stop().await;
        }
    }
}
