//! Starts the libp2p network as the section `[p2p]` of the configuration says (DESIGN section 5).

use std::sync::Arc;

use kith_store::{
    Store, StoreError,
    tables::node::{FACTS, RUNS},
};
use kith_transport::{
    Network, Router, Sequence,
    libp2p::{Libp2pConfig, Libp2pNetwork, MdnsConfig, MdnsMode, RecordParts},
};

use crate::{
    config::{self, Config},
    identity::Identity,
    node::StartError,
};

/// The epoch of a node that was never restored from a backup.
const EPOCH: u32 = 1;

/// Joins the network of peers.
pub(crate) async fn start(
    config: &Config,
    identity: &Identity,
    store: &Store,
    router: Router,
) -> Result<Arc<dyn Network>, StartError> {
    let sequence = next_sequence(store).await?;
    let parts = RecordParts::new(identity.server_name().as_str(), sequence);
    let settings = Libp2pConfig {
        listen: with_tcp(&config.p2p.listen),
        known_peers: config.p2p.bootstrap.clone(),
        mdns: MdnsConfig {
            mode: match config.p2p.mdns {
                config::MdnsMode::Everyone => MdnsMode::Everyone,
                config::MdnsMode::Contacts => MdnsMode::Contacts,
                config::MdnsMode::Off => MdnsMode::Off,
            },
            ..MdnsConfig::default()
        },
        max_inbound_connections: config.p2p.max_peers,
        ..Libp2pConfig::default()
    };
    let network = Libp2pNetwork::start(settings, identity.secret().clone(), parts, router).await?;
    Ok(network)
}

/// The addresses, and for each of QUIC the same of TCP, for networks that let no UDP through.
pub(crate) fn with_tcp(listen: &[String]) -> Vec<String> {
    let mut addresses = listen.to_vec();
    for address in listen {
        if let Some(host) = address.strip_suffix("/quic-v1")
            && host.contains("/udp/")
        {
            let tcp = host.replace("/udp/", "/tcp/");
            if !addresses.contains(&tcp) {
                addresses.push(tcp);
            }
        }
    }
    addresses
}

/// Counts this run on disk, so that each start publishes newer records than all before.
async fn next_sequence(store: &Store) -> Result<Sequence, StoreError> {
    let run = store
        .write(|tx| {
            let run = FACTS.get(tx, &RUNS.to_owned())?.unwrap_or(0) + 1;
            FACTS.put(tx, &RUNS.to_owned(), &run)?;
            Ok::<_, StoreError>(run)
        })
        .await?;
    Ok(Sequence::for_run(EPOCH, u32::try_from(run).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::with_tcp;

    #[test]
    fn each_quic_address_is_listened_on_by_tcp_too() {
        let listen = ["/ip4/0.0.0.0/udp/4001/quic-v1".to_owned(), "/ip4/10.0.0.1/tcp/5000".to_owned()];
        assert_eq!(
            with_tcp(&listen),
            ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/10.0.0.1/tcp/5000", "/ip4/0.0.0.0/tcp/4001"]
        );
    }
}
