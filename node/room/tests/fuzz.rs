//! What the fuzz targets do (`fuzz/entry.rs`), with bytes made by proptest: random ones, and texts and events with a few
//! bytes changed. The fuzzer itself goes much farther; this shows on every run that the targets work and hold.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../fuzz/entry.rs"]
mod entry;
mod seeds;
mod support;

use std::{fs, path::PathBuf};

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

#[test]
fn the_targets_get_beyond_the_front_door() {
    let allowed = seeds::auth_rules().iter().filter(|seed| entry::auth_rules(seed)).count();
    let forbidden = seeds::auth_rules().len() - allowed;
    assert!(allowed >= 100 && forbidden >= 50, "{allowed} allowed, {forbidden} not");
    let tally = seeds::tally(&seeds::handle_pdu(2_000));
    for (what, count, least) in [
        ("accepted", tally.accepted, 10_000),
        ("rejected", tally.rejected, 5_000),
        ("soft-failed", tally.soft_failed, 40),
        ("missing", tally.missing, 1_000),
        ("forked", tally.forked, 3_000),
        ("in conflict", tally.in_conflict, 2_000),
    ] {
        assert!(count >= least, "{what}: {tally:?}");
    }
}

/// What the fuzzer begins with: `fuzz/run` asks for it.
#[test]
#[ignore = "writes files into the folder that KITH_FUZZ_SEEDS names"]
fn seeds_are_written() {
    let folder = PathBuf::from(std::env::var_os("KITH_FUZZ_SEEDS").expect("KITH_FUZZ_SEEDS names a folder"));
    for (target, seeds) in [
        ("event_parsing", seeds::event_parsing()),
        ("canonical_json", seeds::canonical_json()),
        ("auth_rules", seeds::auth_rules()),
        ("handle_pdu", seeds::handle_pdu(60)),
    ] {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(number.to_string()), seed).unwrap();
        }
    }
}

/// What a corpus that the fuzzer has made of `handle_pdu` reaches.
#[test]
#[ignore = "reads the folder that KITH_FUZZ_CORPUS names"]
fn a_corpus_is_told_by_what_it_reaches() {
    let folder = PathBuf::from(std::env::var_os("KITH_FUZZ_CORPUS").expect("KITH_FUZZ_CORPUS names a folder"));
    let corpus: Vec<Vec<u8>> =
        fs::read_dir(folder).unwrap().map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    println!("{} inputs: {:?}", corpus.len(), seeds::tally(&corpus));
}
