//! Invites between servers. One is shown to its user, who may accept at once, before its sender's server has made it part of the
//! room. Here such a join waits for the invite; where another server refuses it, this node asks again a moment later.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::watch;

use crate::platform::{Clock, timeout};

/// How long a join waits. The invite may never arrive.
const PATIENCE: Duration = Duration::from_secs(5);

type Invite = (OwnedRoomId, OwnedUserId);

/// How long after it came an invite may not be part of the room yet, in milliseconds.
const FRESH_MS: u64 = 10_000;
/// Of how many invites it is known that they came just now.
const MOST_FRESH: usize = 1_000;

/// Invites that are on their way or came just now.
#[derive(Debug, Default)]
pub struct Invites {
    /// Those of this node's users: as many as there are requests for them.
    leaving: Mutex<BTreeMap<Invite, watch::Sender<usize>>>,
    /// When those for this node's users came.
    came: Mutex<BTreeMap<Invite, u64>>,
}

impl Invites {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Invite, watch::Sender<usize>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that another server invites a user of ours.
    pub fn came(&self, clock: &dyn Clock, room: &RoomId, user: &UserId) {
        let (now, mut came) = (clock.now_ms(), self.came.lock().unwrap_or_else(PoisonError::into_inner));
        came.retain(|_, at| now.saturating_sub(*at) <= FRESH_MS);
        if came.len() < MOST_FRESH {
            came.insert((room.to_owned(), user.to_owned()), now);
        }
    }

    /// Whether the user's invite came so lately that its sender's server may not have it in the room yet.
    pub(super) fn is_fresh(&self, clock: &dyn Clock, room: &RoomId, user: &UserId) -> bool {
        let came = self.came.lock().unwrap_or_else(PoisonError::into_inner);
        let at = came.get(&(room.to_owned(), user.to_owned()));
        at.is_some_and(|at| clock.now_ms().saturating_sub(*at) <= FRESH_MS)
    }

    /// Notes one, until what is given back is dropped.
    pub(super) fn begin(&self, room: &RoomId, user: &UserId) -> OnTheWay<'_> {
        let invite = (room.to_owned(), user.to_owned());
        self.lock().entry(invite.clone()).or_default().send_modify(|count| *count += 1);
        OnTheWay { invites: self, invite }
    }

    /// Waits until none for this user into this room is on its way, for five seconds at most.
    pub async fn arrived(&self, clock: &dyn Clock, room: &RoomId, user: &UserId) {
        let count = self.lock().get(&(room.to_owned(), user.to_owned())).map(watch::Sender::subscribe);
        if let Some(mut count) = count {
            let _ = timeout(clock, PATIENCE, count.wait_for(|count| *count == 0)).await;
        }
    }
}

pub(super) struct OnTheWay<'a> {
    invites: &'a Invites,
    invite: Invite,
}

impl Drop for OnTheWay<'_> {
    fn drop(&mut self) {
        if let Entry::Occupied(entry) = self.invites.lock().entry(self.invite.clone()) {
            entry.get().send_modify(|count| *count = count.saturating_sub(1));
            if *entry.get().borrow() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use ruma::{room_id, user_id};

    use super::*;
    use crate::platform::{ManualClock, SystemClock};

    #[tokio::test]
    async fn a_join_waits_for_all_invites_of_its_user_and_for_no_others() {
        let (invites, clock) = (Invites::default(), SystemClock::new());
        let (room, other, alice, bob) =
            (room_id!("!a:example.org"), room_id!("!b:example.org"), user_id!("@a:x.org"), user_id!("@b:x.org"));
        let (first, second) = (invites.begin(room, alice), invites.begin(room, alice));
        invites.arrived(&clock, other, alice).await;
        invites.arrived(&clock, room, bob).await;
        let mut join = pin!(invites.arrived(&clock, room, alice));
        assert_eq!(futures::poll!(&mut join), Poll::Pending);
        drop(second);
        assert_eq!(futures::poll!(&mut join), Poll::Pending);
        drop(first);
        join.await;
        assert!(invites.lock().is_empty());
        invites.arrived(&clock, room, alice).await;
    }

    #[tokio::test]
    async fn an_invite_is_fresh_for_ten_seconds_and_only_so_many_are_noted() {
        let (invites, clock) = (Invites::default(), ManualClock::new(1_000_000));
        let (room, other, alice) = (room_id!("!a:example.org"), room_id!("!b:example.org"), user_id!("@a:x.org"));
        assert!(!invites.is_fresh(&clock, room, alice));
        invites.came(&clock, room, alice);
        assert!(invites.is_fresh(&clock, room, alice) && !invites.is_fresh(&clock, other, alice));
        clock.advance(Duration::from_millis(FRESH_MS));
        assert!(invites.is_fresh(&clock, room, alice));
        for n in 0..2 * MOST_FRESH {
            invites.came(&clock, &RoomId::parse(format!("!{n}:x.org")).unwrap(), alice);
        }
        assert_eq!(invites.came.lock().unwrap().len(), MOST_FRESH);
        clock.advance(Duration::from_millis(1));
        assert!(!invites.is_fresh(&clock, room, alice));
    }
}
