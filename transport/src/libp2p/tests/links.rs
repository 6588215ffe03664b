use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_and_returns_is_reached_again_and_both_are_told() {
    let port = free_port();
    let fixed = Libp2pConfig { listen: vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1")], ..config() };
    let (a, b) = (start(1, config()).await, start(2, fixed.clone()).await);
    a.knows(&b);
    let mut events = a.network.events();
    a.ask(b.key, "/echo").await.unwrap();
    b.network.shutdown().await;
    until("the goodbye arrived", || !a.is_connected(b.key)).await;
    assert!(a.ask(b.key, "/echo").await.is_err());
    assert_eq!(b.ask(a.key, "/echo").await, Err(NetworkError::Closed), "a stopped network sends nothing");
    let b = start_run(2, 1, fixed).await;
    // Nobody asks: A reconnects by itself, because it used the connection a moment ago.
    until("it is connected again", || a.is_connected(b.key)).await;
    assert_eq!(b.ask(a.key, "/echo").await.unwrap(), "hello");
    let mut seen = vec![];
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    let peer = b.key;
    let direct = true;
    assert_eq!(
        seen,
        [
            NetworkEvent::Connected { peer, direct },
            NetworkEvent::Disconnected { peer },
            NetworkEvent::Connected { peer, direct },
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_dialled_by_both_one_is_left_and_no_request_is_lost() {
    for round in 0..5 {
        let (a, b) = (start(1, config()).await, start(2, config()).await);
        a.knows(&b);
        b.knows(&a);
        let mut answers = vec![];
        for _ in 0..20 {
            let (there, back) = futures::join!(a.ask(b.key, "/echo"), b.ask(a.key, "/echo"));
            answers.extend([there, back]);
        }
        let failed: Vec<_> = answers.iter().filter(|answer| answer.is_err()).collect();
        assert!(failed.is_empty(), "round {round}: {failed:?}");
        until("one connection is left", || a.connections() == 1 && b.connections() == 1).await;
        assert!(a.is_connected(b.key) && b.is_connected(a.key));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_change_replaces_connections_while_a_request_runs() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    let response = a.call(b.key, Class::Bulk, "/size/8000000", crate::empty()).await.unwrap();
    a.network.network_changed();
    until("a second connection came", || a.network.stats().outbound_connections == 2).await;
    let body = read_body(response.into_body(), 8_000_000).await.unwrap();
    assert_eq!(body.len(), 8_000_000, "what was under way is finished");
    until("one is left", || a.connections() == 1 && b.connections() == 1).await;
    assert_eq!(b.ask(a.key, "/echo").await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_by_both_and_comes_back_when_needed() {
    let idle = Libp2pConfig { idle_timeout: Duration::from_millis(300), ..config() };
    let (a, b) = (start(1, idle).await, start(2, config()).await);
    a.knows(&b);
    a.ask(b.key, "/echo").await.unwrap();
    until("it is closed", || a.connections() == 0 && b.connections() == 0).await;
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_or_absent_peer_is_reported_with_what_to_do() {
    let a = start(1, config()).await;
    let absent = secret(9).public();
    let error = a.ask(absent, "/echo").await.unwrap_err();
    assert!(error.to_string().contains("add an address"), "{error}");
    let address = format!("/ip4/127.0.0.1/udp/{}/quic-v1", free_port());
    a.network.add_address(absent, address).unwrap();
    let error = a.ask(absent, "/echo").await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    assert!(!error.maybe_delivered());
}

/// The attempt at an address where nothing answers lasts five seconds; the true address came meanwhile, and was left for later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_reached_where_it_is_found_while_it_is_still_looked_for_where_it_was() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let old = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());
    a.network.add_address(b.key, old).unwrap();
    let found = async {
        until("it is looked for", || a.network.stats().dials == 1).await;
        a.knows(&b);
    };
    let (answer, ()) = futures::join!(a.ask(b.key, "/echo"), found);
    assert_eq!(answer.unwrap(), "hello");
    assert_eq!(a.network.stats().dial_failures, 0, "the old address is still being tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_use_is_named_with_the_way_out() {
    for kind in ["udp", "tcp"] {
        let suffix = if kind == "udp" { "/quic-v1" } else { "" };
        let first = Libp2pConfig { listen: vec![format!("/ip4/127.0.0.1/{kind}/0{suffix}")], ..config() };
        let a = start(1, first).await;
        let taken = a.network.shared.own_addresses()[0].to_string();
        let second = Libp2pConfig { listen: vec![taken.clone()], ..config() };
        let router = Router::new(|_| async { http::Response::new(crate::empty()) });
        let error =
            Libp2pNetwork::start(second, secret(2), parts(2, 0), router).await.err().expect("the port is taken");
        assert!(matches!(error, StartError::PortInUse { .. }), "{error}");
        assert!(error.to_string().contains(&taken), "{error}");
    }
}

/// The probe for TCP once took both families, so a fixed port on all addresses of both was "in use" by the node itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_fixed_port_can_be_listened_on_for_both_families_and_both_transports() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no IPv6 here");
        eprintln!("SKIPPED: no IPv6 on this machine");
        return;
    }
    let port = free_port();
    let listen = ["/ip4/0.0.0.0/udp/P/quic-v1", "/ip6/::/udp/P/quic-v1", "/ip4/0.0.0.0/tcp/P", "/ip6/::/tcp/P"]
        .map(|address| address.replace('P', &port.to_string()));
    let a = start(1, Libp2pConfig { listen: listen.to_vec(), ..config() }).await;
    let router = Router::new(|_| async { http::Response::new(crate::empty()) });
    let second = Libp2pConfig { listen: vec![listen[3].clone()], ..config() };
    let error = Libp2pNetwork::start(second, secret(2), parts(2, 0), router).await.err().expect("the port is taken");
    assert!(matches!(error, StartError::PortInUse { .. }), "{error}");
    a.network.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_addresses_in_the_configuration_are_named() {
    let router = || Router::new(|_| async { http::Response::new(crate::empty()) });
    let other = secret(3).public().peer_id();
    for (listen, known) in [
        ("127.0.0.1:4001", None),
        ("/dns4/localhost/tcp/4001", None),
        ("/ip4/203.0.113.77/tcp/0", None),
        ("/ip4/127.0.0.1/tcp/0", Some("/ip4/10.0.0.1/tcp/1".to_owned())),
        ("/ip4/127.0.0.1/tcp/0", Some(format!("/ip4/10.0.0.1/p2p/{other}"))),
    ] {
        let bad = Libp2pConfig {
            listen: vec![listen.to_owned()],
            known_peers: known.clone().into_iter().collect(),
            ..config()
        };
        let error = Libp2pNetwork::start(bad, secret(1), parts(1, 0), router()).await.err().expect("refused");
        let named = known.as_deref().unwrap_or(listen);
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configured_peers_are_connected_from_the_start_on_and_as_soon_as_they_are_there() {
    let port = free_port();
    let there = start(2, config()).await;
    let late = secret(3).public();
    let known_peers = vec![
        there.network.own_addresses()[0].clone(),
        format!("/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{}", late.peer_id()),
    ];
    let a = start(1, Libp2pConfig { known_peers, ..config() }).await;
    until("the one that is there is connected", || a.is_connected(there.key)).await;
    until("the other was tried", || a.network.stats().dial_failures > 0).await;
    let listen = vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1")];
    let late = start(3, Libp2pConfig { listen, ..config() }).await;
    until("it is connected when it comes", || a.is_connected(late.key)).await;
    assert_eq!(a.network.stats().requests_out, 0, "nobody asked for anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_suspended_node_lets_go_of_its_peers_and_dials_nobody_until_it_resumes() {
    let (a, b, c) = (start(1, config()).await, start(2, config()).await, start(3, config()).await);
    a.knows(&b);
    a.knows(&c);
    a.ask(b.key, "/echo").await.unwrap();
    // As if A were behind a firewall: nobody comes to it by itself.
    until("B has its record", || b.network.record(&a.key).is_some()).await;
    b.network.shared.change(|table, now| {
        table.peer_mut(a.key, now).set_addresses(table::Source::Record, vec![], now);
    });
    let dials = a.network.stats().dials;
    a.network.suspend().await;
    until("the other end knows at once", || !b.is_connected(a.key)).await;
    assert!(!a.is_connected(b.key));
    let error = a.ask(c.key, "/echo").await.unwrap_err();
    assert!(error.to_string().contains("suspended"), "{error}");
    a.network.dial(c.key);
    assert_eq!(a.network.stats().dials, dials);
    a.network.resume();
    until("it is back with whom it was connected", || a.is_connected(b.key)).await;
    assert_eq!(a.ask(c.key, "/echo").await.unwrap(), "hello");
}

/// Keeps records in memory.
#[derive(Debug, Default)]
struct Kept(std::sync::Mutex<std::collections::BTreeMap<ServerKey, crate::SavedRecord>>);

impl crate::RecordStore for Kept {
    fn load(&self) -> Vec<crate::SavedRecord> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    fn save(&self, node: ServerKey, record: crate::SavedRecord) {
        self.0.lock().unwrap().insert(node, record);
    }
}

/// Records were once kept in memory only: after a restart of both, without discovery, neither knew where the other is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_both_peers_know_each_other_by_their_records_without_discovery() {
    for kind in ["udp/P/quic-v1", "tcp/P"] {
        let kept = [Arc::new(Kept::default()), Arc::new(Kept::default())];
        let configs = [0, 1].map(|n: usize| Libp2pConfig {
            listen: vec![format!("/ip4/127.0.0.1/{kind}").replace('P', &free_port().to_string())],
            records: Some(kept[n].clone()),
            ..config()
        });
        let (a, b) = (start(1, configs[0].clone()).await, start(2, configs[1].clone()).await);
        a.knows(&b);
        a.ask(b.key, "/echo").await.unwrap();
        // A wanted B, and keeps its record; B has no reason to keep a stranger's, until it becomes a contact.
        until("A keeps the record", || kept[0].0.lock().unwrap().contains_key(&b.key)).await;
        assert!(kept[1].0.lock().unwrap().is_empty());
        b.network.set_contacts(vec![a.key]);
        assert!(kept[1].0.lock().unwrap().get(&a.key).is_some_and(|saved| saved.contact));
        a.network.shutdown().await;
        b.network.shutdown().await;
        drop((a, b));
        let (a, b) = (start_run(1, 1, configs[0].clone()).await, start_run(2, 1, configs[1].clone()).await);
        let (there, back) = futures::join!(a.ask(b.key, "/echo"), b.ask(a.key, "/echo"));
        assert_eq!((there.unwrap(), back.unwrap()), ("hello".to_owned(), "hello".to_owned()), "{kind}");
        let newest = b.network.own_record().unwrap();
        until("A keeps the newer record", || kept[0].0.lock().unwrap()[&b.key].record == *newest.bytes()).await;
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
