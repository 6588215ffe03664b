//! What the fuzz targets do (`fuzz/entry.rs`), with bytes made by proptest: random ones, and texts and events with a few
//! bytes changed. The fuzzer itself goes much farther; this shows on every run that the targets work and hold.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../fuzz/entry.rs"]
mod entry;

use proptest::{collection::vec, prelude::*, sample::Index};

const EVENT: &str = r#"{"type":"m.room.member","state_key":"@a:a.example","sender":"@a:a.example","room_id":"!room:a.example","content":{"membership":"join","n":[1,-2,true,null,{"\u00e9":"\n"}]},"prev_events":["$aSmZ2mHJVLSyzqDjKDNFsmgnMUNEiZTG8r0Fs6zfQlE"],"auth_events":[],"depth":3,"origin_server_ts":1,"hashes":{"sha256":"AA"},"signatures":{"a.example":{"ed25519:1":"AA"}}}"#;
const STATE: &str = r#"{"type":"m.room.create","state_key":"","sender":"@a:a.example","content":{"creator":"@a:a.example"}}
{"state_key":"@a:a.example","sender":"@a:a.example","content":{"membership":"join"}}
{"type":"m.room.power_levels","state_key":"","content":{"users":{"@a:a.example":100},"events":{"m.room.topic":10}}}
{"type":"m.room.join_rules","state_key":"","content":{"join_rule":"restricted"}}
{"state_key":"@b:b.example","sender":"@b:b.example","content":{"membership":"join","join_authorised_via_users_server":"@a:a.example"}}"#;

/// A version and a text in which some bytes were replaced and some left out.
fn altered(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edits = vec(
        (any::<Index>(), prop::option::of(prop::sample::select(b"{}[]\",:\\0189.eE-+ u\n\x00\xff".to_vec()))),
        0..4,
    );
    (any::<u8>(), edits).prop_map(move |(version, edits)| {
        let mut bytes = text.as_bytes().to_vec();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            match byte {
                Some(byte) => bytes[place] = byte,
                None => drop(bytes.remove(place)),
            }
        }
        bytes.insert(0, version);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_event_parsing_panic(
        data in prop_oneof![1 => vec(any::<u8>(), 0..400), 4 => altered(EVENT)],
    ) {
        entry::event_parsing(&data);
    }

    #[test]
    fn what_is_read_as_canonical_json_means_the_same_when_written(
        data in prop_oneof![1 => vec(any::<u8>(), 0..400), 4 => altered(EVENT).prop_map(|data| data[1..].to_vec())],
    ) {
        entry::canonical_json(&data);
    }

    #[test]
    fn no_state_makes_the_authorization_rules_panic(
        data in prop_oneof![1 => vec(any::<u8>(), 0..400), 4 => altered(STATE)],
    ) {
        entry::auth_rules(&data);
    }

    #[test]
    fn no_event_makes_a_room_panic_or_lose_its_extremities(data in vec(any::<u8>(), 0..160)) {
        entry::handle_pdu(&data);
    }
}

#[test]
fn what_is_altered_by_nothing_is_an_event() {
    let text = |version: u8, text: &str| [&[version], text.as_bytes()].concat();
    for version in 0..12 {
        entry::event_parsing(&text(version, EVENT));
        entry::auth_rules(&text(version, STATE));
        entry::handle_pdu(&[vec![version], vec![0; 200]].concat());
    }
    entry::canonical_json(EVENT.as_bytes());
}
