//! `kith identity`

use serde::Serialize;

use super::args::Output;
use super::exit::Failure;
use super::{DATABASE, text};
use crate::admin::{Admin as _, AdminClient};
use crate::config::Config;
use crate::identity::{self, Identity};

#[derive(Serialize)]
struct Shown {
    server_name: String,
    peer_id: String,
    public_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_zone: Option<String>,
    running: bool,
    addresses: Vec<String>,
    data_dir: std::path::PathBuf,
}

pub(super) async fn run(config: &Config, options: &Output) -> Result<(), Failure> {
    let identity = Identity::load(&config.data_dir)?.ok_or_else(|| {
        let dir = config.data_dir.display();
        Failure::no_identity(if config.data_dir.join(DATABASE).exists() {
            format!("{dir}: the data of a node are here, but its key `server.key` is missing. Restore it from a backup")
        } else {
            format!("there is no node in {dir} yet: its identity is made at the first start, by `kith`")
        })
    })?;
    let status = match AdminClient::connect(&config.data_dir).await {
        Ok(client) => client.status().await.ok(),
        Err(_) => None,
    };
    let shown = Shown {
        server_name: identity.server_name().to_string(),
        peer_id: identity.peer_id(),
        public_key: identity.public().to_string(),
        gateway_zone: identity.kith_name().and_then(|name| name.zone.clone()),
        running: status.is_some(),
        addresses: status.map(|status| status.addresses).unwrap_or_default(),
        data_dir: config.data_dir.clone(),
    };
    if options.json {
        return text::json(&shown);
    }
    text::line(format!("server name   {}", shown.server_name));
    text::line(format!("peer id       {}", shown.peer_id));
    match shown.addresses.as_slice() {
        [] if shown.running => text::line("addresses     none: peer-to-peer is off"),
        [] => text::line("addresses     known while the node runs"),
        [first, rest @ ..] => {
            text::line(format!("addresses     {first}"));
            rest.iter().for_each(|address| text::line(format!("              {address}")));
        }
    }
    text::line(format!("\n{}", identity::backup_hint(&config.data_dir)));
    Ok(())
}
