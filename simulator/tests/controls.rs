//! Controls: what is broken on purpose must be found, or the simulator is blind. And what is sound must pass.

use kith_simulator::run::{Outcome, run};
use kith_simulator::scenario;

fn outcome(text: &str, seed: u64) -> Outcome {
    run(&scenario::parse(text).unwrap(), seed, None, &mut |_| ()).unwrap()
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    let caught = (1..=5).filter(|seed| {
        let outcome = outcome(include_str!("../scenarios/control-lying-disk.toml"), *seed);
        // Not even over a damaged file.
        let breaches = outcome.record.lock().breaches.clone();
        assert!(!breaches.iter().any(|breach| breach.what.contains("while it started")), "{breaches:?}");
        outcome.passed()
    });
    // Now and then all that it called synced is there after all.
    assert!(caught.count() >= 3);
}

#[test]
fn a_partition_that_never_heals_is_caught() {
    let outcome = outcome(include_str!("../scenarios/control-never-heals.toml"), 1);
    assert!(outcome.passed(), "{:?}", outcome.broken());
    assert!(outcome.broken().contains(&"state"));
}

#[test]
fn a_node_that_skips_authorization_is_caught() {
    let outcome = outcome(include_str!("../scenarios/control-skips-auth.toml"), 1);
    assert!(outcome.passed(), "{:?}", outcome.broken());
    assert_eq!(outcome.broken(), ["extremities", "judgement", "rejection"]);
}

/// The controls without what is wrong in them.
#[test]
fn without_what_is_broken_on_purpose_the_same_scenarios_hold() {
    for (text, wrong) in [
        (include_str!("../scenarios/control-never-heals.toml"), "never_heal = true"),
        (include_str!("../scenarios/control-skips-auth.toml"), "skips_auth = 1"),
        (include_str!("../scenarios/control-lying-disk.toml"), "kind = \"disk_lies\"\nat_s = [5]\n"),
    ] {
        assert!(text.contains(wrong));
        // A disk that begins to lie when all is over does no harm.
        let sound =
            text.replace(wrong, if wrong.contains("disk") { "kind = \"disk_lies\"\nat_s = [600]\n" } else { "" });
        let sound = sound.split("must_fail").next().unwrap_or_default().to_owned();
        let outcome = outcome(&sound, 1);
        assert_eq!(outcome.broken(), Vec::<&str>::new(), "{:?}", outcome.record.lock().breaches);
    }
}

#[test]
fn byzantine_neighbours_are_withstood() {
    let outcome = outcome(include_str!("../scenarios/byzantine-8.toml"), 3);
    assert_eq!(outcome.broken(), Vec::<&str>::new(), "{:?}", outcome.record.lock().breaches);
    let counters = outcome.record.lock().counters.clone();
    for deed in ["byzantine_fork", "byzantine_withhold", "byzantine_lie", "byzantine_flood", "rejected"] {
        assert!(counters.contains_key(deed), "{deed} did not occur: {counters:?}");
    }
}
