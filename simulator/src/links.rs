//! Links that come and go: by chance, as nodes walk, or as it is written.

use crate::engine::{Nanos, seconds};
use crate::network::contacts;
use crate::network::mobility::Walk;
use crate::world::World;

/// Lets links come and go until `end`, from now on; all are on then again.
pub fn begin(world: &World, end: Nanos) {
    let network = &world.scenario().network;
    if network.link_up_s > 0.0 {
        for (pair, number) in world.air().pairs().into_iter().zip(0..) {
            let world = world.clone();
            world.clone().spawn("link", async move { by_chance(&world, pair, number, end).await });
        }
    }
    if let Some(mobility) = &network.mobility {
        let walk = Walk::new(mobility, world.count(), world.seed(), world.timeline().now());
        let world = world.clone();
        world.clone().spawn("walk", async move { as_they_walk(&world, walk, end).await });
    }
    if let Some(text) = network.contacts.as_ref().and_then(|contacts| contacts.text.as_deref()) {
        // Checked when the scenario was read.
        let trace = contacts::read(text, world.count()).unwrap_or_default();
        let world = world.clone();
        world.clone().spawn("contacts", async move { as_written(&world, trace, end).await });
    }
}

async fn by_chance(world: &World, pair: (u32, u32), number: u64, end: Nanos) {
    let random = world.stream("links", number);
    let network = &world.scenario().network;
    loop {
        for (on, mean) in [(false, network.link_up_s), (true, network.link_down_s)] {
            world.timeline().sleep(seconds(random.exponential(mean)).max(1_000_000)).await;
            if world.timeline().now() >= end {
                return;
            }
            if !on {
                world.record().count("link_down");
            }
            world.air().switch(pair, on);
        }
    }
}

async fn as_they_walk(world: &World, mut walk: Walk, end: Nanos) {
    let pairs = world.air().pairs();
    let mut on: Vec<bool> = vec![true; pairs.len()];
    while world.timeline().now() < end {
        let places = walk.places(world.timeline().now());
        for (pair, on) in pairs.iter().zip(&mut on) {
            let (Some(a), Some(b)) = (places.get(pair.0 as usize), places.get(pair.1 as usize)) else { continue };
            let near = walk.in_range(*a, *b);
            if near != *on {
                *on = near;
                world.record().count(if near { "link_up" } else { "link_down" });
                world.air().switch(*pair, near);
            }
        }
        world.timeline().sleep(walk.step()).await;
    }
}

async fn as_written(world: &World, trace: Vec<contacts::Contact>, end: Nanos) {
    let begin = world.timeline().now();
    for pair in world.air().pairs() {
        world.air().switch(pair, false);
    }
    for contact in trace {
        let at = begin.saturating_add(contact.at);
        if at >= end {
            break;
        }
        world.timeline().sleep_until(at).await;
        if !contact.up {
            world.record().count("link_down");
        }
        world.air().switch(contact.pair, contact.up);
    }
}
