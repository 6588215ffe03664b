//! Writes the tables of a run.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Cell, Sheet, TableError, columns};
use crate::engine::Nanos;
use crate::run::Outcome;

fn at(nanos: Nanos) -> Cell<'static> {
    Cell::from(nanos)
}

fn count(many: usize) -> Cell<'static> {
    Cell::from(many as u64)
}

/// What passed at a node, over all its links.
#[derive(Default)]
struct Totals {
    sent: u64,
    received: u64,
    pdus: u64,
    repeated: u64,
    resolutions: u64,
}

/// Writes all tables into a folder, as Parquet; as CSV, too, if that is wanted.
///
/// # Errors
/// When a file cannot be written.
pub fn write(outcome: &Outcome, folder: &Path, csv: bool) -> Result<(), TableError> {
    let state = outcome.record.lock();
    let mut totals: BTreeMap<u32, Totals> = BTreeMap::new();

    let mut sheet = Sheet::create(folder, "deliveries", columns::deliveries(), csv)?;
    for row in &state.deliveries {
        let Some(event) = state.events.get(row.event as usize) else { continue };
        let (id, room, origin) = (event.id.as_str().into(), event.room.into(), event.origin.into());
        sheet.row(&[id, room, origin, row.node.into(), at(event.begun), at(row.at)])?;
    }
    sheet.close()?;

    let mut sheet = Sheet::create(folder, "links", columns::links(), csv)?;
    for ((second, from, to), traffic) in &state.links {
        let sender = totals.entry(*from).or_default();
        sender.sent += traffic.bytes;
        let receiver = totals.entry(*to).or_default();
        receiver.received += traffic.bytes;
        receiver.pdus += traffic.pdus;
        receiver.repeated += traffic.repeated;
        let (requests, answers, lost) = (traffic.requests.into(), traffic.answers.into(), traffic.lost.into());
        let (bytes, pdus, repeated) = (traffic.bytes.into(), traffic.pdus.into(), traffic.repeated.into());
        sheet.row(&[at(*second), (*from).into(), (*to).into(), requests, answers, lost, bytes, pdus, repeated])?;
    }
    sheet.close()?;

    let mut sheet = Sheet::create(folder, "resolutions", columns::resolutions(), csv)?;
    for (event, row) in &state.resolutions {
        totals.entry(row.node).or_default().resolutions += 1;
        let Some(event) = state.events.get(*event as usize) else { continue };
        let (follows, states, conflicts) = (count(row.follows), count(row.states), count(row.conflicts));
        let id = event.id.as_str().into();
        sheet.row(&[at(row.at), row.node.into(), row.room.into(), id, follows, states, conflicts])?;
    }
    sheet.close()?;

    let mut sheet = Sheet::create(folder, "faults", columns::faults(), csv)?;
    for row in &state.faults {
        sheet.row(&[at(row.at), row.kind.into(), row.node.into(), row.begins.into()])?;
    }
    sheet.close()?;

    let mut sheet = Sheet::create(folder, "samples", columns::samples(), csv)?;
    for row in &state.samples {
        let (extremities, parked) = (row.extremities.into(), row.parked.into());
        sheet.row(&[at(row.at), row.node.into(), row.room.into(), extremities, parked])?;
    }
    sheet.close()?;
    drop(state);

    let mut sheet = Sheet::create(folder, "nodes", columns::nodes(), csv)?;
    let world = &outcome.world;
    for number in world.numbers() {
        let disk = world.database_bytes(number).unwrap_or(0);
        let stats = world.node(number).map(|node| node.store.stats()).unwrap_or_default();
        let name = world.server_name(number);
        let sums = totals.remove(&number).unwrap_or_default();
        sheet.row(&[
            number.into(),
            name.as_str().into(),
            world.is_honest(number).into(),
            disk.into(),
            stats.commits.into(),
            stats.position.into(),
            sums.sent.into(),
            sums.received.into(),
            sums.pdus.into(),
            sums.repeated.into(),
            sums.resolutions.into(),
        ])?;
    }
    sheet.close()
}
