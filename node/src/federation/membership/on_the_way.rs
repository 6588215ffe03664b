//! Invites on their way to another server. It may show one to its user, who accepts at once, before the answer is back and the
//! invite is part of the room here: that join waits for it.

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

/// The invites of this node's users that are on their way: as many as there are requests for them.
#[derive(Debug, Default)]
pub struct Invites(Mutex<BTreeMap<Invite, watch::Sender<usize>>>);

impl Invites {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Invite, watch::Sender<usize>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    use crate::platform::SystemClock;

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
}
