//! Starts the libp2p network as the section `[p2p]` of the configuration says (DESIGN section 5).

mod records;

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
    identity::{self, Identity},
    node::StartError,
    platform::Clock,
};
use records::StoredRecords;

/// Joins the network of peers.
pub(crate) async fn start(
    config: &Config,
    identity: &Identity,
    store: &Store,
    clock: &Arc<dyn Clock>,
    router: Router,
) -> Result<Arc<dyn Network>, StartError> {
    let sequence = next_sequence(store).await?;
    let parts = RecordParts::new(identity.server_name().as_str(), sequence);
    let settings = Libp2pConfig {
        listen: with_tcp(&config.p2p.listen),
        known_peers: config.p2p.bootstrap.clone(),
        records: Some(Arc::new(StoredRecords { store: store.clone(), clock: clock.clone() })),
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
///
/// A disk that is too full to count on must not keep the node from starting: reads go on then, and that is what helps to make
/// room. The next start may publish under the same number; peers then keep the record they have until the one after.
async fn next_sequence(store: &Store) -> Result<Sequence, StoreError> {
    let counted = store
        .write(|tx| {
            let run = FACTS.get(tx, &RUNS.to_owned())?.unwrap_or(0) + 1;
            FACTS.put(tx, &RUNS.to_owned(), &run)?;
            Ok::<_, StoreError>(run)
        })
        .await;
    let run = match counted {
        Ok(run) => run,
        Err(error) if error.is_disk_full() => {
            tracing::warn!(%error, "this start is not counted: free some space on the disk");
            store.read(|read| FACTS.get(read, &RUNS.to_owned()))?.unwrap_or(0) + 1
        }
        Err(error) => return Err(error),
    };
    let epoch = store.read(|read| identity::epoch(read))?;
    let cut = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Sequence::for_run(cut(epoch), cut(run)))
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use kith_store::{MemoryBackend, Options, Store, tables::node::EPOCH};
    use kith_transport::Sequence;

    use super::{FACTS, next_sequence, with_tcp};

    #[tokio::test]
    async fn a_full_disk_does_not_keep_the_node_from_starting_and_records_stay_newer() {
        let free = Arc::new(AtomicU64::new(u64::MAX));
        let told = free.clone();
        let options = Options {
            free_space: Some(Box::new(move || Some(told.load(Ordering::SeqCst)))),
            reserve_bytes: 64 << 20,
            ..Options::default()
        };
        let store = Store::open(MemoryBackend::new(), options).unwrap();
        assert_eq!(next_sequence(&store).await.unwrap(), Sequence::for_run(1, 1));
        free.store(1 << 20, Ordering::SeqCst);
        assert_eq!(next_sequence(&store).await.unwrap(), Sequence::for_run(1, 2));
        free.store(u64::MAX, Ordering::SeqCst);
        next_sequence(&store).await.unwrap();
        assert_eq!(next_sequence(&store).await.unwrap(), Sequence::for_run(1, 3));
    }

    #[tokio::test]
    async fn records_carry_the_epoch_that_is_on_disk() {
        let store = Store::open(MemoryBackend::new(), Options::default()).unwrap();
        store.write(|tx| FACTS.put(tx, &EPOCH.to_owned(), &7)).await.unwrap();
        assert_eq!(next_sequence(&store).await.unwrap(), Sequence::for_run(7, 1));
    }

    #[test]
    fn each_quic_address_is_listened_on_by_tcp_too() {
        let listen = ["/ip4/0.0.0.0/udp/4001/quic-v1".to_owned(), "/ip4/10.0.0.1/tcp/5000".to_owned()];
        assert_eq!(
            with_tcp(&listen),
            ["/ip4/0.0.0.0/udp/4001/quic-v1", "/ip4/10.0.0.1/tcp/5000", "/ip4/0.0.0.0/tcp/4001"]
        );
    }
}
