//! `POST /search` (client-server specification, "Server Side Search"): full text over what a user may see.
//!
//! A search walks through the words of all searchable events of the user's rooms (`rooms::search`), off the async threads and over
//! several short snapshots. Of the events that may fit it takes the latest [`MOST_CANDIDATES`], reads them, and keeps those that do and
//! that the user may see: nothing is counted that is not seen. Ordered by time a search goes on from there with the next
//! batch; ordered by rank the best of these candidates are all there is.

mod context;
mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_store::Read;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, UInt,
    api::client::search::search_events::v3::{
        self as search_events, Criteria, GroupingKey, OrderBy, ResultCategories, ResultGroup, ResultGroupMap,
        ResultRoomEvents, SearchKeys, SearchResult,
    },
};

use self::token::{Batch, Group};
use super::{members::state_for, page_length, viewer};
use crate::{
    Node,
    accounts::limits::{self, Action},
    http::{Answer, MatrixError, Routes, Session},
    platform::SpawnerExt as _,
    rooms::{
        client_event::{Form, Showing, Viewer},
        filter::passes,
        read,
        search::{self, MOST_TERMS, Query},
        visibility::Eyes,
    },
};

/// The longest search term, in bytes.
const LONGEST_TERM: usize = 1_000;
/// Results of one answer, if the client does not say.
const PAGE: usize = 10;
/// The most a client gets.
const LONGEST_PAGE: usize = 100;
/// How many events that may fit one request reads.
const MOST_CANDIDATES: usize = 2_000;
/// How many rows are walked through over one snapshot.
const AT_ONCE: usize = 20_000;
/// How many rows one request walks through: some seconds' worth. Rooms in which something happened lately come first.
const MOST_SCANNED: usize = 5_000_000;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(search_events)
}

async fn search_events(
    node: Arc<Node>,
    session: Session,
    request: search_events::Request,
) -> Answer<search_events::Response> {
    limits::check(&node, Action::Search, session.user_id.as_str())?;
    let mut categories = ResultCategories::new();
    if let Some(criteria) = request.search_categories.room_events {
        let search = Search::new(viewer(&node, &session), criteria, request.next_batch.as_deref())?;
        let spawner = node.spawner.clone();
        let results = spawner.blocking("search", move || search.run(&node)).await.map_err(MatrixError::internal)?;
        categories.room_events = results?;
    }
    Ok(search_events::Response::new(categories))
}

/// One search.
struct Search {
    viewer: Viewer,
    criteria: Criteria,
    query: Query,
    /// The types of events that are searched.
    kinds: Vec<&'static str>,
    by_rank: bool,
    batch: Option<Batch>,
}

/// A room that is searched.
struct Place {
    number: u64,
    id: OwnedRoomId,
}

/// Where an event stands in the order of time: its timestamp, then its number. With the place of its room in the list.
type Candidate = (u64, u64, usize);

/// An event that was looked for.
#[derive(Debug, Clone)]
struct Hit {
    rank: f64,
    timestamp: u64,
    number: u64,
    place: usize,
    sender: String,
}

/// What was found.
struct Found {
    /// In the wanted order.
    hits: Vec<Hit>,
    /// The earliest candidate that was looked at, if there may be more before it.
    cut: Option<(u64, u64)>,
}

impl Search {
    fn new(viewer: Viewer, criteria: Criteria, next_batch: Option<&str>) -> Answer<Self> {
        if criteria.search_term.len() > LONGEST_TERM {
            return Err(MatrixError::invalid_param(format!("`search_term` has at most {LONGEST_TERM} bytes")));
        }
        let query = Query::parse(&criteria.search_term)
            .ok_or_else(|| MatrixError::invalid_param(format!("one search looks for at most {MOST_TERMS} words")))?;
        let all = [SearchKeys::ContentBody, SearchKeys::ContentName, SearchKeys::ContentTopic];
        let keys = criteria.keys.as_deref().unwrap_or(&all);
        let kinds = keys.iter().filter_map(|key| search::type_of_key(key.as_str())).collect();
        let by_rank = match &criteria.order_by {
            Some(OrderBy::Recent) => false,
            Some(OrderBy::Rank) | None => true,
            Some(other) => return Err(MatrixError::invalid_param(format!("`order_by` cannot be {other}"))),
        };
        let batch = next_batch.map(Batch::parse).transpose()?;
        Ok(Self { viewer, criteria, query, kinds, by_rank, batch })
    }

    fn run(&self, node: &Node) -> Answer<ResultRoomEvents> {
        let mut results = ResultRoomEvents::new();
        results.highlights = self.query.terms();
        if self.query.is_empty() {
            results.count = Some(UInt::from(0u32));
            return Ok(results);
        }
        let places = node.store.read(|read| self.places(read))?;
        let (candidates, is_cut) = self.scan(node, &places)?;
        let snapshot = node.store.snapshot()?;
        let found = self.look(&snapshot, &places, &candidates, is_cut)?;
        self.answer(&snapshot, &places, found, results)
    }

    /// The rooms that the user is or was in and wants to search, those first in which something happened to the user lately.
    fn places(&self, read: &dyn Read) -> Answer<Vec<Place>> {
        let filter = &self.criteria.filter;
        let group = self.batch.as_ref().and_then(|batch| batch.group.as_ref());
        let mut places = Vec::new();
        for (number, part) in read::rooms_of(read, &self.viewer.user_id)? {
            if part.joined_at == 0 && part.membership != kith_store::tables::rooms::membership::JOIN {
                continue;
            }
            let Some(row) = read::room(read, number)? else { continue };
            let Ok(id) = OwnedRoomId::try_from(row.room_id) else { continue };
            let is_wanted = !filter.not_rooms.contains(&id)
                && filter.rooms.as_ref().is_none_or(|rooms| rooms.contains(&id))
                && !matches!(group, Some(Group::Room(room)) if *room != id);
            if is_wanted {
                places.push((part.position, Place { number, id }));
            }
        }
        places.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
        Ok(places.into_iter().map(|(_, place)| place).collect())
    }

    /// The latest events that may fit, and whether there may be others before them.
    fn scan(&self, node: &Node, places: &[Place]) -> Answer<(BTreeSet<Candidate>, bool)> {
        let hashes = self.query.hashes();
        let before = self.batch.as_ref().filter(|_| !self.by_rank).map(|batch| (batch.timestamp, batch.number));
        let mut candidates = BTreeSet::new();
        let mut is_cut = false;
        let mut left = MOST_SCANNED;
        for (index, place) in places.iter().enumerate() {
            let mut next = Some(0);
            while let Some(from) = next {
                if left == 0 || *node.stopping().borrow() {
                    return Ok((candidates, is_cut));
                }
                let rows = AT_ONCE.min(left);
                left -= rows;
                next = node.store.read(|read| {
                    search::scan(read, (place.number, from), rows, &hashes, |timestamp, number| {
                        if before.is_none_or(|before| (timestamp, number) < before) {
                            candidates.insert((timestamp, number, index));
                        }
                        if candidates.len() > MOST_CANDIDATES {
                            candidates.pop_first();
                            is_cut = true;
                        }
                    })
                })?;
            }
        }
        Ok((candidates, is_cut))
    }

    /// Of the candidates those that fit and are seen, in order.
    fn look(&self, read: &dyn Read, places: &[Place], candidates: &BTreeSet<Candidate>, is_cut: bool) -> Answer<Found> {
        let group = self.batch.as_ref().and_then(|batch| batch.group.as_ref());
        let mut views: BTreeMap<usize, Eyes<'_>> = BTreeMap::new();
        let mut hits = Vec::new();
        for &(timestamp, number, index) in candidates.iter().rev() {
            let Some(place) = places.get(index) else { continue };
            let Some(event) = read::event(read, number)? else { continue };
            let Some(rank) = self.query.rank(&event, &self.kinds) else { continue };
            let eyes = match views.entry(index) {
                std::collections::btree_map::Entry::Occupied(eyes) => eyes.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(Eyes::new(read, place.number, &self.viewer.user_id)?)
                }
            };
            let is_of_group = !matches!(group, Some(Group::Sender(sender)) if sender != event.sender());
            if is_of_group && passes(&self.criteria.filter, place.id.as_str(), &event) && eyes.sees(&event)? {
                let sender = event.sender().to_owned();
                hits.push(Hit { rank, timestamp, number, place: index, sender });
            }
        }
        let cut = candidates.first().filter(|_| is_cut).map(|&(timestamp, number, _)| (timestamp, number));
        if self.by_rank {
            hits.sort_by(|a, b| b.rank.total_cmp(&a.rank).then((b.timestamp, b.number).cmp(&(a.timestamp, a.number))));
        }
        Ok(Found { hits, cut: cut.filter(|_| !self.by_rank) })
    }

    fn answer(
        &self,
        read: &dyn Read,
        places: &[Place],
        found: Found,
        mut results: ResultRoomEvents,
    ) -> Answer<ResultRoomEvents> {
        let count = match &self.batch {
            Some(batch) => batch.count,
            None => found.hits.len() as u64,
        };
        results.count = Some(UInt::new_saturating(count));
        let limit = self.criteria.filter.limit.map_or(PAGE, page_length).clamp(1, LONGEST_PAGE);
        let mut hits = found.hits;
        if self.by_rank
            && let Some(batch) = &self.batch
        {
            hits.retain(|hit| batch.is_before(hit.rank, hit.timestamp, hit.number));
        }
        let rest = hits.split_off(limit.min(hits.len()));
        let batch_after = |hit: &Hit, group| Batch {
            rank: hit.rank.to_bits(),
            timestamp: hit.timestamp,
            number: hit.number,
            count,
            group,
        };
        let group = self.batch.as_ref().and_then(|batch| batch.group.clone());
        results.next_batch = match (hits.last(), rest.is_empty(), found.cut) {
            (Some(last), false, _) => Some(batch_after(last, group).to_string()),
            (_, _, Some((timestamp, number))) => Some(Batch { rank: 0, timestamp, number, count, group }.to_string()),
            _ => None,
        };
        let mut ids = Vec::new();
        for hit in &hits {
            let (id, result) = self.result(read, places, hit)?;
            ids.push(id);
            results.results.push(result);
        }
        for grouping in &self.criteria.groupings.group_by {
            let rest_of = |group: &Group| rest.iter().any(|hit| group.has(places, hit));
            let mut groups: BTreeMap<Group, (ResultGroup, &Hit)> = BTreeMap::new();
            for (hit, id) in hits.iter().zip(&ids) {
                let Some(group) = Group::of(grouping.key.as_ref(), places, hit) else { continue };
                let order = UInt::new_saturating(groups.len() as u64);
                let (its, last) = groups.entry(group).or_insert_with(|| {
                    let mut its = ResultGroup::new();
                    its.order = Some(order);
                    (its, hit)
                });
                its.results.extend(id.clone());
                *last = hit;
            }
            let groups = groups.into_iter().map(|(group, (mut its, last))| {
                its.next_batch = (rest_of(&group) || found.cut.is_some())
                    .then(|| batch_after(last, Some(group.clone())).to_string());
                (group, its)
            });
            match &grouping.key {
                Some(GroupingKey::RoomId) => {
                    results.groups.insert(ResultGroupMap::RoomId(
                        groups.filter_map(|(group, its)| Some((group.room()?, its))).collect(),
                    ));
                }
                Some(GroupingKey::Sender) => {
                    let groups =
                        groups.filter_map(|(group, its)| Some((OwnedUserId::try_from(group.sender()?).ok()?, its)));
                    results.groups.insert(ResultGroupMap::Sender(groups.collect()));
                }
                _ => {}
            }
        }
        if self.criteria.include_state == Some(true) {
            let shown: BTreeSet<usize> = hits.iter().map(|hit| hit.place).collect();
            for place in shown.into_iter().filter_map(|index| places.get(index)) {
                let eyes = Eyes::new(read, place.number, &self.viewer.user_id)?;
                let state = state_for(read, place.number, &eyes)?.events(read)?;
                let form = Form { room_id: Some(place.id.as_str()), relations: false };
                let showing = Showing::new(read, &eyes, &self.viewer, form);
                let state: Result<_, _> = state.iter().map(|event| showing.raw_state(event)).collect();
                results.state.insert(place.id.clone(), state?);
            }
        }
        Ok(results)
    }

    /// A hit as the client is given it.
    fn result(&self, read: &dyn Read, places: &[Place], hit: &Hit) -> Answer<(Option<OwnedEventId>, SearchResult)> {
        let mut result = SearchResult::new();
        let (Some(place), Some(event)) = (places.get(hit.place), read::event(read, hit.number)?) else {
            return Ok((None, result));
        };
        let eyes = Eyes::new(read, place.number, &self.viewer.user_id)?;
        let form = Form { room_id: Some(place.id.as_str()), relations: true };
        let showing = Showing::new(read, &eyes, &self.viewer, form);
        result.rank = Some(hit.rank);
        result.context = context::around(read, &eyes, &showing, &event, &self.criteria.event_context)?;
        result.result = Some(showing.raw(&event)?);
        Ok((OwnedEventId::try_from(event.row.event_id.as_str()).ok(), result))
    }
}
