//! Discovery over the loopback interface: each test has a port of its own, so that nothing else on the device takes part.

use std::net::{Ipv4Addr, UdpSocket};

use super::*;

fn discovering(port: u16, mode: MdnsMode) -> Libp2pConfig {
    Libp2pConfig {
        mdns: MdnsConfig { mode, port, interfaces: vec!["lo".to_owned()], ..MdnsConfig::default() },
        ..config()
    }
}

/// Whether multicast works on this device's loopback interface; says so if not, and fails where everything must be tested.
fn multicast_works(port: u16) -> bool {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let heard = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
        socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        sender.send_to(b"anyone?", (group, port))?;
        Ok(socket.recv(&mut [0; 16])? > 0)
    };
    let works = heard().unwrap_or(false);
    if !works {
        assert!(
            std::env::var_os("CI").is_none(),
            "no multicast on the loopback interface, and nothing may be left out here"
        );
        eprintln!("SKIPPED: no multicast on the loopback interface of this machine");
    }
    works
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_without_any_configuration_and_say_goodbye() {
    let port = 45_353;
    if !multicast_works(port) {
        return;
    }
    let a = start(1, discovering(port, MdnsMode::Everyone)).await;
    let mut events = a.network.events();
    let b = start(2, discovering(port, MdnsMode::Everyone)).await;
    let began = Instant::now();
    let peer = b.key;
    let event = tokio::time::timeout(DEADLINE, events.recv()).await;
    assert_eq!(event.unwrap().unwrap(), NetworkEvent::Discovered { peer });
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "found after {took:?}");
    until("B sees A", || b.info(a.key).is_some_and(|info| info.nearby)).await;
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
    assert_eq!(a.network.stats().bad_announcements, 0, "its own echo is no peer");
    assert_eq!(a.network.peers().len(), 1);
    b.network.shutdown().await;
    until("the goodbye was heard", || a.info(peer).is_none_or(|info| !info.nearby)).await;
    let mut lost = false;
    while let Ok(event) = events.try_recv() {
        lost |= event == NetworkEvent::Lost { peer };
    }
    assert!(lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_contacts_mode_only_contacts_see_each_other() {
    let port = 45_354;
    if !multicast_works(port) {
        return;
    }
    let a = start(1, discovering(port, MdnsMode::Contacts)).await;
    let b = start(2, discovering(port, MdnsMode::Contacts)).await;
    let stranger = start(3, discovering(port, MdnsMode::Everyone)).await;
    a.network.set_contacts(vec![b.key]);
    // The stranger shows itself to everyone: when both have seen it, announcements pass.
    until("the stranger is seen", || a.info(stranger.key).is_some() && b.info(stranger.key).is_some()).await;
    assert!(b.info(a.key).is_none(), "B does not know A yet");
    b.network.set_contacts(vec![a.key]);
    until("the contacts see and reach each other", || a.is_connected(b.key) && b.is_connected(a.key)).await;
    assert_eq!(a.ask(b.key, "/echo").await.unwrap(), "hello");
    assert!(stranger.info(a.key).is_none() && stranger.info(b.key).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn announcements_that_lie_or_make_no_sense_are_counted_and_harm_nobody() {
    let port = 45_355;
    if !multicast_works(port) {
        return;
    }
    let a = start(1, discovering(port, MdnsMode::Everyone)).await;
    let daemon = mdns_sd::ServiceDaemon::new_with_port(port).unwrap();
    daemon.disable_interface(mdns_sd::IfKind::All).unwrap();
    daemon.enable_interface("lo").unwrap();
    let announce = |name: &str, entries: &[(&str, String)]| {
        let host = format!("{name}.local.");
        let mut info = mdns_sd::ServiceInfo::new("_kith._udp.local.", name, &host, "127.0.0.1", 9, entries).unwrap();
        info.set_requires_probe(false);
        daemon.register(info).unwrap();
    };
    let version = ("v", "1".to_owned());
    announce("no-version", &[("id", secret(2).public().to_string())]);
    announce("later-version", &[("v", "2".to_owned())]);
    announce("own-name", &[version.clone(), ("id", a.key.to_string())]);
    announce("no-key", &[version.clone(), ("id", "x".repeat(52))]);
    // A lie that looks right: another node's key at an address where nobody is.
    let absent = secret(9).public();
    announce("lie", &[version, ("id", absent.to_string()), ("q4", "9".to_owned())]);
    until("all are judged", || a.network.stats().bad_announcements >= 4 && a.info(absent).is_some()).await;
    assert!(a.ask(absent, "/who").await.is_err());
    let _ = daemon.shutdown();
}
