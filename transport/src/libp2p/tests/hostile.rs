use super::*;
use crate::record::NodeRecord;

/// Starts a node that shows `record` in its greetings.
async fn start_showing(n: u8, record: SignedRecord) -> Node {
    let handled = Arc::new(AtomicUsize::new(0));
    let shared = Shared::new(config(), secret(n), parts(n, 0), router(handled.clone())).unwrap();
    let shared = Arc::new(shared);
    let driver = setup::start(shared.clone()).await.unwrap();
    shared.show(record);
    tokio::spawn(driver.run());
    Node { network: Arc::new(Libp2pNetwork { shared }), key: secret(n).public(), handled }
}

fn record_of(n: u8) -> SignedRecord {
    let secret = secret(n);
    NodeRecord {
        sequence: Sequence::new(0, 5),
        key: secret.public(),
        server_name: secret.public().to_string(),
        addresses: vec![],
        mailboxes: vec![],
        gateway: None,
    }
    .sign(&secret)
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_claims_another_name_is_refused_and_counted() {
    // The liar shows a genuine record, but of someone else.
    let (a, liar) = (start(1, config()).await, start_showing(2, record_of(3)).await);
    a.knows(&liar);
    let error = a.ask(liar.key, "/who").await.unwrap_err();
    assert!(matches!(error, NetworkError::Unreachable { .. }), "{error}");
    assert!(!a.is_connected(liar.key));
    assert!(a.network.stats().mismatched_names >= 1);
    // It gets nothing answered either, and the name it claimed was not taken from it.
    liar.knows(&a);
    assert!(liar.ask(a.key, "/who").await.is_err());
    assert_eq!(a.handled.load(Ordering::SeqCst), 0);
    assert!(a.network.record(&secret(3).public()).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_at_a_known_address_is_not_taken_for_the_one_meant() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    let meant = secret(7).public();
    let address = b.network.shared.own_addresses()[0].to_string();
    a.network.add_address(meant, address).unwrap();
    let error = a.ask(meant, "/who").await.unwrap_err();
    assert!(matches!(error, NetworkError::Unreachable { .. }), "{error}");
    assert_eq!(b.handled.load(Ordering::SeqCst), 0);
    assert!(a.network.stats().dial_failures >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_is_bounded_and_contacts_still_get_in() {
    let limited = Libp2pConfig { max_inbound_connections: 3, connect_timeout: Duration::from_secs(3), ..config() };
    let target = start(1, limited).await;
    let mut flood = vec![];
    for n in 10..18 {
        let node = start(n, config()).await;
        node.knows(&target);
        let _ = node.ask(target.key, "/echo").await;
        flood.push(node);
    }
    assert!(target.connections() <= 3, "{} got in", target.connections());
    let stats = target.network.stats();
    assert!(stats.refused_connections >= 5, "{stats:?}");
    let friend = start(30, config()).await;
    target.network.set_contacts(vec![friend.key]);
    friend.knows(&target);
    until("the friend is let in", || {
        friend.network.dial(target.key);
        friend.is_connected(target.key)
    })
    .await;
    assert_eq!(friend.ask(target.key, "/echo").await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_cannot_open_connection_after_connection() {
    let target = start(1, config()).await;
    let peer = start(2, config()).await;
    peer.knows(&target);
    peer.ask(target.key, "/echo").await.unwrap();
    for _ in 0..20 {
        peer.network.network_changed();
        assert_eq!(peer.ask(target.key, "/echo").await.unwrap(), "hello");
        assert!(target.connections() <= 4);
    }
    until("one is left", || target.connections() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_a_program_that_is_not_kith_is_closed() {
    use futures::StreamExt;
    use libp2p::swarm::dummy;

    let target = start(1, config()).await;
    let keypair = secret(2).to_libp2p();
    let mut stranger = libp2p::SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_quic()
        .with_behaviour(|_| dummy::Behaviour)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(3600)))
        .build();
    let address = target.network.shared.own_addresses()[0].clone();
    stranger.dial(address).unwrap();
    let closed = async {
        loop {
            if let libp2p::swarm::SwarmEvent::ConnectionClosed { .. } = stranger.select_next_some().await {
                break;
            }
        }
    };
    tokio::time::timeout(DEADLINE, closed).await.expect("it is closed");
    until("it is forgotten", || target.connections() == 0).await;
}

/// Any key may sign a record with any DNS name: it must not be taken for proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dns_name_that_a_peer_claims_is_told_apart_from_a_name_that_is_its_key() {
    let a = start(1, config()).await;
    let liar = Libp2pNetwork::start(
        config(),
        secret(2),
        RecordParts::new("matrix.org", Sequence::for_run(0, 0)),
        router(Arc::new(AtomicUsize::new(0))),
    )
    .await
    .unwrap();
    let honest = start(3, config()).await;
    for address in liar.own_addresses() {
        a.network.add_address(secret(2).public(), address).unwrap();
    }
    a.knows(&honest);
    a.ask(secret(2).public(), "/echo").await.unwrap();
    a.ask(honest.key, "/echo").await.unwrap();
    let claims = a.info(secret(2).public()).unwrap();
    assert_eq!((claims.proven_name(), claims.claimed_name()), (None, Some("matrix.org")));
    let proven = a.info(honest.key).unwrap();
    assert_eq!((proven.proven_name(), proven.claimed_name()), (Some(honest.key.to_string().as_str()), None));
}
