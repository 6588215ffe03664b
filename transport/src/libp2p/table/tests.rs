use super::*;
use crate::record::{NodeRecord, Sequence};
use crate::{SecretKey, Stats};
use libp2p::Multiaddr;

fn secret(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn key(n: u8) -> ServerKey {
    secret(n).public()
}

fn address(port: u16) -> Multiaddr {
    super::super::addresses::quic("192.168.1.2".parse().unwrap(), port)
}

fn table() -> (Table, broadcast::Receiver<NetworkEvent>, Instant) {
    let (events, receiver) = broadcast::channel(64);
    let idle = Duration::from_secs(1800);
    let table = Table::new(key(1), idle, events, Arc::new(Stats::default()));
    (table, receiver, Instant::now())
}

fn candidate(since: Instant) -> Candidate {
    Candidate { left_by_peer: false, direct: true, dialled_by_lower: false, since }
}

#[test]
fn of_two_connections_both_ends_choose_the_same() {
    let now = Instant::now();
    let soon = now + Duration::from_millis(100);
    let late = now + Duration::from_secs(10);
    let plain = candidate(now);
    let lower = |since| Candidate { dialled_by_lower: true, ..candidate(since) };
    let relayed = |since| Candidate { direct: false, ..candidate(since) };
    let left = |since| Candidate { left_by_peer: true, ..candidate(since) };
    // Dialled by both at once: the lower key's, whichever was noticed first.
    assert!(prefer(plain, lower(soon)));
    assert!(!prefer(lower(now), candidate(soon)));
    // Dialled again much later: whoever did has lost the first.
    assert!(prefer(lower(now), candidate(late)));
    // A direct one is kept against a relayed one of any age, and what the peer is leaving is given up.
    assert!(prefer(relayed(now), candidate(soon)) && !prefer(plain, relayed(late)));
    assert!(prefer(left(now), relayed(soon)) && !prefer(plain, left(late)));
    // Twice by the same side: the first.
    assert!(!prefer(plain, candidate(soon)) && !prefer(lower(now), lower(soon)));
}

#[test]
fn only_peers_that_are_wanted_are_dialled_again_and_ever_more_seldom() {
    let (mut table, _events, start) = table();
    let peer = key(2);
    let attempt = ConnectionId::new_unchecked(1);
    table.told(peer, address(1), start);
    assert_eq!(table.take_dials(start), [], "nobody wants it");
    table.peer_mut(peer, start).want(start);
    table.dial(peer, false, start);
    assert_eq!(table.take_dials(start).len(), 1);
    let mut now = start;
    let mut waits = vec![];
    while now < start + Duration::from_secs(500) {
        table.dial_failed(peer, attempt, "refused", now);
        let next = table.next_retry(now).expect("it is wanted");
        assert_eq!(table.take_dials(next - Duration::from_millis(1)), []);
        assert_eq!(table.take_dials(next).len(), 1);
        waits.push(next - now);
        now = next;
    }
    assert!(waits.first() < Some(&Duration::from_secs(1)));
    assert!(waits.last() >= Some(&Duration::from_secs(60)));
    assert!(waits.last() < Some(&Duration::from_secs(80)));
    // Discovery ends the wait at once, and keeps it short while the peer is nearby.
    table.dial_failed(peer, attempt, "refused", now);
    table.seen_nearby(peer, "service", vec![address(2)], now);
    let dials = table.take_dials(now);
    assert_eq!(dials, [(peer, vec![address(2), address(1)])]);
    for _ in 0..10 {
        table.dial_failed(peer, attempt, "refused", now);
    }
    assert!(table.next_retry(now) < Some(now + Duration::from_secs(3)));
    // Ten minutes after the last request it is left alone.
    let later = start + Duration::from_secs(601);
    assert_eq!(table.next_retry(later), None);
    assert_eq!(table.take_dials(later), []);
}

/// A restarted peer has new ports. An attempt at the old ones, which QUIC gives up after seconds only, held up the new ones.
#[test]
fn an_address_learned_during_an_attempt_is_tried_at_once() {
    let (mut table, _events, now) = table();
    let peer = key(2);
    let [first, second, third] = [1, 2, 3].map(ConnectionId::new_unchecked);
    table.told(peer, address(1), now);
    table.peer_mut(peer, now).want(now);
    table.peer_mut(peer, now).dial_begins(first, vec![address(1)]);
    table.seen_nearby(peer, "service", vec![address(1)], now);
    assert_eq!(table.take_dials(now), [], "it is being tried");
    table.seen_nearby(peer, "service", vec![address(2)], now);
    assert_eq!(table.take_dials(now), [(peer, vec![address(2)])]);
    // What is learned without end is not tried without end.
    table.peer_mut(peer, now).dial_begins(second, vec![address(2)]);
    table.peer_mut(peer, now).dial_begins(third, vec![address(3)]);
    table.seen_nearby(peer, "service", vec![address(4)], now);
    assert_eq!(table.take_dials(now), []);
    // Who waits learns of the failure when none is left.
    for attempt in [third, second] {
        table.dial_failed(peer, attempt, "refused", now);
        assert_eq!(table.peer_mut(peer, now).failures_ever, 0);
    }
    table.dial_failed(peer, first, "refused", now);
    assert_eq!(table.peer_mut(peer, now).failures_ever, 1);
    assert!(table.next_retry(now).is_some());
}

#[test]
fn discovery_is_told_once_and_its_end_too() {
    let (mut table, mut events, now) = table();
    let peer = key(2);
    table.seen_nearby(peer, "wlan", vec![address(1)], now);
    table.seen_nearby(peer, "wlan", vec![address(1)], now);
    table.seen_nearby(key(1), "echo", vec![address(9)], now);
    assert_eq!(events.try_recv(), Ok(NetworkEvent::Discovered { peer }));
    assert!(events.try_recv().is_err(), "nothing new was seen");
    table.seen_nearby(peer, "lan", vec![address(2)], now);
    assert_eq!(events.try_recv(), Ok(NetworkEvent::Discovered { peer }));
    table.gone_nearby(peer, "wlan", now);
    assert!(events.try_recv().is_err(), "it is still seen on the other network");
    assert_eq!(table.peers[&peer].addresses(), [address(2)]);
    table.gone_nearby(peer, "lan", now);
    assert_eq!(events.try_recv(), Ok(NetworkEvent::Lost { peer }));
    assert!(!table.peers[&peer].has_addresses());
}

#[test]
fn strangers_cannot_fill_the_table_or_push_contacts_out() {
    let (mut table, _events, now) = table();
    let contact = key(2);
    table.contacts.insert(contact);
    table.told(contact, address(1), now);
    // Valid keys are cheap to make; here the mere count matters.
    let strangers = (0..=u16::MAX)
        .map(|n| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&n.to_be_bytes());
            SecretKey::from_seed(seed).public()
        })
        .take(MAX_PEERS + 100);
    for (n, stranger) in strangers.enumerate() {
        table.peer_mut(stranger, now + Duration::from_millis(n as u64));
    }
    assert_eq!(table.peers.len(), MAX_PEERS);
    assert!(table.peers.contains_key(&contact));
    for port in 1..1000 {
        table.told(contact, address(port), now);
    }
    assert!(table.peers[&contact].addresses().len() <= 32);
}

#[test]
fn a_newer_record_replaces_the_addresses_of_the_older() {
    let (mut table, _events, now) = table();
    let record = |counter, port| {
        NodeRecord {
            sequence: Sequence::new(0, counter),
            key: key(2),
            server_name: key(2).to_string(),
            addresses: vec![address(port).to_string(), "/ip4/127.0.0.1/tcp/22".into()],
            mailboxes: vec![],
            gateway: None,
        }
        .sign(&secret(2))
        .unwrap()
    };
    table.take_record(record(2, 20), false, 0, now);
    table.take_record(record(1, 10), false, 0, now);
    assert_eq!(table.peers[&key(2)].addresses(), [address(20)]);
    table.take_record(record(3, 30), false, 0, now);
    assert_eq!(table.peers[&key(2)].addresses(), [address(30)]);
}

#[test]
fn a_connection_that_never_greets_is_closed_and_who_waits_is_told() {
    let (mut table, mut events, now) = table();
    let id = ConnectionId::new_unchecked(7);
    table.connection_opened(id, key(2), true, true, false, now);
    let due = table.next_tending().expect("there is a deadline");
    assert!(due <= now + Duration::from_secs(11));
    table.tend_connections(due);
    assert_eq!(table.take_closing(), [id]);
    assert_eq!(table.take_closing(), [], "once is enough");
    assert!(table.next_tending().is_none());
    assert_eq!(table.peers[&key(2)].failures_ever, 1);
    table.connection_gone(id, due);
    assert!(events.try_recv().is_err(), "it was never connected");
}

/// Anybody on the network can announce any key.
#[test]
fn announcements_that_lie_leave_room_for_all_that_is_known_otherwise() {
    let (mut table, _events, now) = table();
    let peer = key(2);
    table.reached_at(peer, address(1), now);
    table.told(peer, address(2), now);
    let record = NodeRecord {
        sequence: Sequence::new(0, 1),
        key: peer,
        server_name: peer.to_string(),
        addresses: vec![address(3).to_string()],
        mailboxes: vec![],
        gateway: None,
    };
    table.take_record(record.sign(&secret(2)).unwrap(), false, 0, now);
    let lies = |n: u16| (0..16).map(|m| address(1000 + n * 16 + m)).collect::<Vec<_>>();
    let lie = |table: &mut Table, n: u16, seconds| {
        table.seen_nearby(peer, &format!("lie{n}._kith._udp.local."), lies(n), now + Duration::from_secs(seconds));
    };
    for n in 0..20 {
        lie(&mut table, n, u64::from(n));
    }
    let addresses = table.peers[&peer].addresses();
    for port in [1, 2, 3] {
        assert!(addresses.contains(&address(port)), "{port}: {addresses:?}");
    }
    assert!(addresses.len() <= 19, "{addresses:?}");
    // Its own announcement comes late, and stays however many lies follow.
    table.seen_nearby(peer, &format!("{peer}._kith._udp.local."), vec![address(4)], now + Duration::from_secs(30));
    for n in 20..60 {
        lie(&mut table, n, u64::from(n) + 20);
    }
    assert_eq!(table.peers[&peer].addresses()[..2], [address(1), address(4)], "and comes first");
}

#[test]
fn peers_that_are_merely_announced_push_out_none_that_the_application_told() {
    let (mut table, _events, now) = table();
    let (told, reached) = (key(2), key(3));
    table.told(told, address(1), now);
    table.reached_at(reached, address(2), now);
    for n in 0..MAX_PEERS as u32 + 50 {
        let mut seed = [9; 32];
        seed[..4].copy_from_slice(&n.to_be_bytes());
        let stranger = SecretKey::from_seed(seed).public();
        table.seen_nearby(stranger, &n.to_string(), vec![address(3)], now + Duration::from_millis(u64::from(n)));
    }
    assert_eq!(table.peers.len(), MAX_PEERS);
    assert!(table.peers.contains_key(&told) && table.peers.contains_key(&reached));
}
