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

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}
