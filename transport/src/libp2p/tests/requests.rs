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
async fn requests_of_one_peer_that_hang_do_not_use_up_what_others_need() {
    let limited = Libp2pConfig { max_inbound_requests: 16, ..config() };
    let (a, b, c) = (start(1, config()).await, start(2, limited).await, start(3, config()).await);
    a.knows(&b);
    c.knows(&b);
    a.ask(b.key, "/echo").await.unwrap();
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let request = http::Request::builder().uri("/stuck").body(crate::empty()).unwrap();
            tokio::spawn(a.network.request(b.key, Class::Bulk, request))
        })
        .collect();
    until("both run", || b.network.shared.table().running() == 2).await;
    let refused = a.call(b.key, Class::Control, "/echo", full("x")).await.unwrap();
    assert_eq!(refused.status(), http::StatusCode::SERVICE_UNAVAILABLE, "it has its share");
    assert_eq!(b.network.shared.table().running(), 2, "nothing more was started");
    assert_eq!(c.ask(b.key, "/echo").await.unwrap(), "hello", "others have theirs");
    for stuck in stuck {
        stuck.abort();
    }
}

/// Peers could once take all places for ever: they announced bodies that they never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_body_never_comes_ends_and_gives_its_place_back() {
    let impatient = Libp2pConfig { stalled_after: Duration::from_millis(400), ..config() };
    let (a, b) = (start(1, config()).await, start(2, impatient).await);
    a.knows(&b);
    a.ask(b.key, "/echo").await.unwrap();
    until("that was it", || b.network.shared.table().running() == 0).await;
    for path in ["/take", serve::RECORD_PATH] {
        let never = http_body_util::StreamBody::new(futures::stream::pending::<Result<_, crate::BoxError>>());
        let call = a.call(b.key, Class::Control, path, crate::boxed::<http_body_util::StreamBody<_>>(never));
        let mut call = std::pin::pin!(call);
        tokio::select! {
            biased;
            answer = &mut call => panic!("{path}: answered too early: {answer:?}"),
            () = until("it runs", || b.network.shared.table().running() == 1) => {}
        }
        let answer = tokio::time::timeout(DEADLINE, call).await.expect("it ends");
        let taken = path == "/take";
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status().is_success() == taken), "{path}");
        until("its place is free", || b.network.shared.table().running() == 0).await;
    }
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello", "the connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_comes_slowly_but_steadily_is_waited_for() {
    let impatient = Libp2pConfig { stalled_after: Duration::from_millis(500), ..config() };
    let (a, b) = (start(1, config()).await, start(2, impatient).await);
    a.knows(&b);
    let pieces = futures::stream::unfold(8, |left| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let frame = http_body::Frame::data(bytes::Bytes::from(vec![1; 8 * 1024]));
        (left > 0).then_some((Ok::<_, crate::BoxError>(frame), left - 1))
    });
    let body = crate::boxed(http_body_util::StreamBody::new(pieces));
    let answer = a.call(b.key, Class::Bulk, "/take", body).await.unwrap();
    assert_eq!(read_body(answer.into_body(), 100).await.unwrap(), (8 * 8 * 1024).to_string().as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_counts_as_running_and_is_given_up() {
    let impatient = Libp2pConfig { stalled_after: Duration::from_millis(800), ..config() };
    let (a, b) = (start(1, config()).await, start(2, impatient).await);
    a.knows(&b);
    let path = format!("/size/{}", 8 * MIB);
    let unread = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    assert_eq!(b.network.shared.table().running(), 1, "its head came, but it is not over");
    until("it was given up", || b.network.shared.table().running() == 0).await;
    assert!(read_body(unread.into_body(), 8 * MIB).await.is_err(), "and the reader learns of it");
    // One that is read takes as long as it takes.
    let mut body = a.call(b.key, Class::Bulk, &format!("/size/{}", 4 * MIB), crate::empty()).await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
        length += frame.unwrap().into_data().unwrap().len();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(length, 4 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_peer_has_so_many_downloads_at_a_time_and_small_answers_beside_them() {
    let limited = Libp2pConfig { max_inbound_requests: 64, ..config() };
    let (a, b) = (start(1, config()).await, start(2, limited).await);
    a.knows(&b);
    let path = format!("/size/{MIB}");
    // A quarter of the places are for downloads, of these an eighth for each peer.
    let first = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    let second = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    let third = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    assert_eq!((first.status().as_u16(), second.status().as_u16(), third.status().as_u16()), (200, 200, 503));
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
    read_body(first.into_body(), MIB).await.unwrap();
    until("its place is free", || b.network.shared.table().running() == 1).await;
    let fourth = a.call(b.key, Class::Bulk, &path, crate::empty()).await.unwrap();
    assert_eq!(fourth.status().as_u16(), 200);
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
