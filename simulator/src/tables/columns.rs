//! The tables that a run leaves. Times are virtual: nanoseconds since the beginning of the simulation, by no node's clock.

use super::{Column, Kind};

/// `deliveries`: each row is an event that came to be shown on a node.
pub fn deliveries() -> Vec<Column> {
    vec![
        Column::new("event_id", Kind::Text, "", "the event"),
        Column::new("room", Kind::Whole, "", "the room, counted from 0 as in the scenario"),
        Column::new("origin", Kind::Whole, "", "the node whose user sent it; none if no user of the simulation did")
            .or_none(),
        Column::new("node", Kind::Whole, "", "the node on which it is shown"),
        Column::new(
            "begun_ns",
            Kind::Whole,
            "ns",
            "when the user sent it; without an origin, when it was first shown anywhere",
        ),
        Column::new("shown_ns", Kind::Whole, "ns", "when the node had committed it, ready for its users' sync"),
    ]
}

/// `links`: each row is what passed one way of a link in one second. Seconds in which nothing passed have no row.
pub fn links() -> Vec<Column> {
    vec![
        Column::new("second", Kind::Whole, "s", "the second since the beginning"),
        Column::new("from", Kind::Whole, "", "the node that sends"),
        Column::new("to", Kind::Whole, "", "the node that receives"),
        Column::new("requests", Kind::Whole, "", "requests that arrived"),
        Column::new("answers", Kind::Whole, "", "answers whose head arrived"),
        Column::new("lost", Kind::Whole, "", "requests, answers and parts of answers that did not arrive"),
        Column::new("bytes", Kind::Whole, "B", "bytes that arrived, with about what heads and signatures take"),
        Column::new("pdus", Kind::Whole, "", "events that arrived in transactions"),
        Column::new(
            "repeated",
            Kind::Whole,
            "",
            "those among them that had arrived at the node in a transaction before",
        ),
    ]
}

/// `nodes`: each row is a node as it is in the end.
pub fn nodes() -> Vec<Column> {
    vec![
        Column::new("node", Kind::Whole, "", "its number"),
        Column::new("server_name", Kind::Text, "", "its server name"),
        Column::new("honest", Kind::Flag, "", "whether it is not a byzantine one"),
        Column::new("disk_bytes", Kind::Whole, "B", "what its store takes"),
        Column::new("commits", Kind::Whole, "", "commits of its last run"),
        Column::new("position", Kind::Whole, "", "its last stream position"),
        Column::new("sent_bytes", Kind::Whole, "B", "bytes it sent that arrived"),
        Column::new("received_bytes", Kind::Whole, "B", "bytes that arrived at it"),
        Column::new("pdus", Kind::Whole, "", "events that arrived in transactions"),
        Column::new("repeated", Kind::Whole, "", "those among them that had arrived before"),
        Column::new("resolutions", Kind::Whole, "", "rows that it has in `resolutions`"),
    ]
}

/// `resolutions`: each row is an event before which a node had to resolve several states into one, as those that the event
/// follows left different ones.
pub fn resolutions() -> Vec<Column> {
    vec![
        Column::new("at_ns", Kind::Whole, "ns", "when the node showed the event"),
        Column::new("node", Kind::Whole, "", "the node"),
        Column::new("room", Kind::Whole, "", "the room, counted from 0 as in the scenario"),
        Column::new("event_id", Kind::Text, "", "the event"),
        Column::new("follows", Kind::Whole, "", "how many events it follows"),
        Column::new("states", Kind::Whole, "", "how many different states these left"),
        Column::new("conflicts", Kind::Whole, "", "keys of the state that were not the same in all of them"),
    ]
}

/// `faults`: each row is a fault that begins or ends.
pub fn faults() -> Vec<Column> {
    vec![
        Column::new("at_ns", Kind::Whole, "ns", "when"),
        Column::new("kind", Kind::Text, "", "its kind, as in the scenario"),
        Column::new("node", Kind::Whole, "", "the node; none if it is about several").or_none(),
        Column::new("begins", Kind::Flag, "", "whether it begins; some have no end"),
    ]
}

/// `samples`: each row is a look at a room on a node, taken now and then while users and faults are at work.
pub fn samples() -> Vec<Column> {
    vec![
        Column::new("at_ns", Kind::Whole, "ns", "when"),
        Column::new("node", Kind::Whole, "", "the node"),
        Column::new("room", Kind::Whole, "", "the room, counted from 0 as in the scenario"),
        Column::new("extremities", Kind::Whole, "", "forward extremities of the room"),
        Column::new("parked", Kind::Whole, "", "events that wait for those they follow"),
    ]
}
