use futures::future::join_all;

use super::*;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_ask_over_one_connection_and_know_each_other() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
    // B was told no address of A: it answers over the connection that A made.
    for (from, to) in [(&a, &b), (&b, &a)] {
        let who = from.ask(to.key, "/who").await.unwrap();
        assert_eq!(who, format!("{} Control", from.key));
        let response = from.call(to.key, Class::Bulk, "/who", crate::empty()).await;
        let body = read_body(response.unwrap().into_body(), 1000).await.unwrap();
        assert_eq!(body, format!("{} Bulk", from.key).as_bytes());
        let info = from.info(to.key).unwrap();
        assert_eq!(info.server_name, Some(to.key.to_string()), "from its record");
        assert!(info.connected && info.direct && info.last_seen.is_some());
        assert_eq!(
            from.network.record(&to.key).map(|record| record.bytes().clone()),
            to.network.own_record().map(|record| record.bytes().clone())
        );
    }
    assert_eq!((a.connections(), b.connections()), (1, 1));
    let stats = a.network.stats();
    assert_eq!((stats.dials, stats.outbound_connections), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_without_quic_is_reached_over_tcp() {
    let tcp = Libp2pConfig { listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()], ..config() };
    let (a, b) = (start(1, config()).await, start(2, tcp).await);
    a.knows(&b);
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
    let response = b.call(a.key, Class::Bulk, "/size/3000000", crate::empty()).await;
    let body = read_body(response.unwrap().into_body(), 4 * MIB).await.unwrap();
    assert_eq!(body.len(), 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_bursts_of_concurrent_requests_none_is_lost() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    for _ in 0..5 {
        // The first burst connects, too: all of it waits for the one connection.
        let there = join_all((0..64).map(|_| a.ask(b.key, "/echo")));
        let back = join_all((0..64).map(|_| async {
            match a.is_connected(b.key) {
                true => b.ask(a.key, "/echo").await,
                false => Ok("hello".to_owned()),
            }
        }));
        let (there, back) = futures::join!(there, back);
        for answer in there.into_iter().chain(back) {
            assert_eq!(answer.unwrap(), "hello");
        }
    }
    // More than the peer takes at once wait for their turn.
    let many = join_all((0..600).map(|_| a.ask(b.key, "/echo"))).await;
    assert!(many.iter().all(Result::is_ok));
    assert_eq!(a.network.stats().requests_failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_requests_stay_quick_while_large_bodies_flow_both_ways() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    a.ask(b.key, "/echo").await.unwrap();
    let size = 32 * MIB;
    let download = |from: Arc<Libp2pNetwork>, to| async move {
        let uri = format!("/size/{size}");
        let request = http::Request::builder().uri(uri).body(crate::empty()).unwrap();
        let response = from.request(to, Class::Bulk, request).await.unwrap();
        read_body(response.into_body(), size).await.unwrap().len()
    };
    let upload = a.call(b.key, Class::Bulk, "/take", stream(size));
    let transfers = async {
        futures::join!(
            tokio::spawn(download(a.network.clone(), b.key)),
            tokio::spawn(download(b.network.clone(), a.key)),
            upload
        )
    };
    let mut slowest = Duration::ZERO;
    let mut asked = 0;
    let mut transfers = std::pin::pin!(transfers);
    let (down, back, up) = loop {
        let begin = Instant::now();
        tokio::select! {
            biased;
            all = &mut transfers => break all,
            answer = a.ask(b.key, "/echo") => {
                assert_eq!(answer.unwrap(), "hello");
                slowest = slowest.max(begin.elapsed());
                asked += 1;
            }
        }
    };
    assert_eq!((down.unwrap(), back.unwrap()), (size, size));
    let taken = read_body(up.unwrap().into_body(), 100).await.unwrap();
    assert_eq!(taken, size.to_string().as_bytes());
    assert!(asked > 5, "only {asked} requests passed meanwhile");
    assert!(slowest < Duration::from_secs(1), "one took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_nobody_reads_does_not_stop_the_others() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    let path = format!("/size/{}", 8 * MIB);
    let unread = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    let response = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    let read = tokio::time::timeout(DEADLINE, read_body(response.into_body(), 8 * MIB)).await;
    assert_eq!(read.expect("in time").unwrap().len(), 8 * MIB);
    drop(unread);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_asked_for_is_carried_out_though_it_does_not_wait() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    a.ask(b.key, "/echo").await.unwrap();
    let asked = b.network.stats().requests_in;
    let slow = a.ask(b.key, "/slow");
    let mut slow = std::pin::pin!(slow);
    tokio::select! {
        biased;
        _ = &mut slow => panic!("it should take a while"),
        () = until("the request arrived", || b.network.stats().requests_in > asked) => {}
    }
    let before = b.handled.load(Ordering::SeqCst);
    // Dropping `slow` at the end of this function would be too late: cancel it now.
    slow.set(a.ask(b.key, "/slow"));
    until("the handler ended all the same", || b.handled.load(Ordering::SeqCst) > before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_hang_do_not_use_up_what_others_need() {
    let limited = Libp2pConfig { max_inbound_requests: 4, ..config() };
    let (a, b) = (start(1, config()).await, start(2, limited).await);
    a.knows(&b);
    a.ask(b.key, "/echo").await.unwrap();
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let request = http::Request::builder().uri("/stuck").body(crate::empty()).unwrap();
            tokio::spawn(a.network.request(b.key, Class::Bulk, request))
        })
        .collect();
    until("all four run", || b.network.shared.table().running() == 4).await;
    let refused = a.call(b.key, Class::Control, "/echo", full("x")).await.unwrap();
    assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(b.network.shared.table().running(), 4, "nothing more was started");
    for stuck in stuck {
        stuck.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_beyond_the_bound_are_refused_and_the_connection_stays() {
    let (a, b) = (start(1, config()).await, start(2, config()).await);
    a.knows(&b);
    let request =
        http::Request::builder().uri("/echo").header("x-large", "a".repeat(100_000)).body(crate::empty()).unwrap();
    let answer = a.network.request(b.key, Class::Control, request).await;
    assert!(answer.as_ref().map_or(true, |response| !response.status().is_success()), "{answer:?}");
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
    assert_eq!(b.network.stats().inbound_connections, 1);
}
