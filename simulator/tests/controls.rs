//! Controls: what is broken on purpose must be found, or the simulator is blind. And what is sound must pass.

use kith_simulator::engine::Stream;
use kith_simulator::memory::Counting;
use kith_simulator::rejudge;
use kith_simulator::run::{Outcome, run, run_within};
use kith_simulator::scenario;
use kith_store::tables::rooms::EventStatus;
use ruma::{RoomId, RoomVersionId};
use serde_json::json;

#[global_allocator]
static MEMORY: Counting = Counting;

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
fn a_node_that_holds_more_than_the_scenario_allows_is_caught() {
    let text = "version = 1\nname = \"bounds\"\nduration_s = 20\n[nodes]\ncount = 3\n\
                [[workload]]\nkind = \"poisson\"\nrate_per_s = 1\n";
    assert!(outcome(text, 1).broken().is_empty());
    for bound in ["tasks = 1", "memory_mib = 0.2"] {
        let outcome = outcome(&format!("{text}[checks.bounds]\n{bound}\n"), 1);
        assert_eq!(outcome.broken(), ["bounds"], "{bound}");
    }
}

/// What one node rejected is called accepted: no node of the run says so, but judging it again does.
#[test]
fn what_is_rejected_is_rejected_in_whichever_order_it_comes() {
    let outcome = outcome(include_str!("../scenarios/control-skips-auth.toml"), 1);
    let (world, random) = (&outcome.world, Stream::new(1, "test", 0, 0));
    let mut events = rejudge::events(world, 0, 0).unwrap();
    let id = RoomId::parse(world.room_id(0).unwrap()).unwrap();
    let again = |events: &[rejudge::Judged]| rejudge::differing(&RoomVersionId::V12, &id, events, &random);
    assert!(again(&events).is_empty());
    let rejected =
        events.iter_mut().find(|(_, status)| *status == EventStatus::Rejected).expect("the scenario has some");
    let shown = json!({"event_id": rejected.0.event_id()});
    rejected.1 = EventStatus::Accepted;
    assert_eq!(again(&events).len(), 1);
    assert!(!outcome.broken().contains(&"timeline"));
    world.check_shown(0, std::iter::once(&shown));
    assert!(outcome.broken().contains(&"timeline"), "no client may be given it");
}

/// Alone, and off for good: nothing waits for any time, and the time that was waited for never came.
#[test]
fn a_run_in_which_nothing_happens_any_more_ends() {
    let text =
        "version = 1\nname = \"idle\"\nduration_s = 10\nsettle_s = 60\n[nodes]\ncount = 1\n[[rooms]]\nmoderators = 1\n";
    let scenario = scenario::parse(text).unwrap();
    let outcome = run(&scenario, 1, None, &mut |progress| {
        assert!(progress.happened < 1_000_000);
    });
    assert!(outcome.unwrap().broken().is_empty());
    let lying = include_str!("../scenarios/control-lying-disk.toml").replace("count = 3", "count = 1");
    let lying = lying.replace("node = 1", "node = 0") + "\n[[rooms]]\nmoderators = 1\n";
    assert!(outcome_of_any(&lying).contains(&"restart"));
}

fn outcome_of_any(text: &str) -> Vec<&'static str> {
    (1..=8).flat_map(|seed| outcome(text, seed).broken()).collect()
}

#[test]
fn a_run_that_takes_more_work_than_allowed_is_given_up() {
    let text = "version = 1\nname = \"work\"\nduration_s = 60\n[nodes]\ncount = 3\n\
                [[workload]]\nkind = \"poisson\"\nrate_per_s = 1\n";
    let scenario = scenario::parse(text).unwrap();
    let whole = run(&scenario, 1, None, &mut |_| ()).unwrap().happened;
    let most = whole - 100;
    let given_up = run_within(&scenario, 1, None, &mut |_| (), most).unwrap();
    assert!(given_up.happened <= most + 1, "{} of {whole}", given_up.happened);
    assert_eq!(run_within(&scenario, 1, None, &mut |_| (), whole).unwrap().happened, whole);
}

#[test]
fn workloads_begin_and_end_when_they_are_told_to() {
    let text = "version = 1\nname = \"hours\"\nduration_s = 100\n[nodes]\ncount = 2\n\
                [[workload]]\nkind = \"poisson\"\nrate_per_s = 2\nfrom_s = 40\nuntil_s = 60\n";
    let outcome = outcome(text, 1);
    let begin = outcome.phases[0];
    let state = outcome.record.lock();
    let sent: Vec<f64> =
        state.acknowledged.iter().map(|sent| (sent.at - begin) as f64 / 1e9).filter(|at| *at > 0.0).collect();
    assert!(sent.len() > 20 && sent.iter().all(|at| (40.0..61.0).contains(at)), "{sent:?}");
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
