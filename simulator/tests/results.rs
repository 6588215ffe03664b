//! What the pages in `docs/results` say, on a small scale.

use kith_simulator::memory::Counting;
use kith_simulator::output;
use kith_simulator::run::run;
use kith_simulator::scenario::{self, Workload};
use kith_simulator::sweep::figure::graph_width;

#[global_allocator]
static MEMORY: Counting = Counting;

/// The mean number of extremities when so many of eight nodes write at a time.
fn width(writers: u32, cites: u32) -> f64 {
    let mut scenario = scenario::parse(include_str!("../scenarios/results/graph-width.toml")).unwrap();
    (scenario.nodes.count, scenario.nodes.cites, scenario.duration_s) = (8, cites, 24.0);
    let [Workload::Rounds { writers: changed, .. }] = &mut scenario.workload[..] else { panic!("rounds alone") };
    *changed = writers;
    let outcome = run(&scenario, 1, None, &mut |_| ()).unwrap();
    assert!(outcome.passed(), "{:?}", outcome.broken());
    // Each round every writer has spoken, and no one twice.
    assert_eq!(outcome.record.lock().acknowledged.len() as u32 % writers, 0);
    output::summary(&outcome)["mean_extremities"].as_f64().unwrap()
}

#[test]
fn the_graph_is_as_wide_as_the_formula_says_and_as_narrow_as_can_be_by_the_nodes_own_choice() {
    assert!((width(8, 0) - 8.0).abs() < 1e-9);
    assert!((width(3, 0) - 3.0).abs() < 1e-9);
    let (is, should) = (width(8, 2), graph_width(8.0, 2.0).unwrap());
    assert!((is / should - 1.0).abs() < 0.15 && is > 8.3, "{is}, by the formula {should}");
}
