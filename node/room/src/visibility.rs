//! Who may see which event: <https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility>.
//!
//! Pure functions of the state at the event. What happened later enters in one place only: in `shared` history, whoever
//! joined at any time afterwards may read what came before.

use ruma::{
    UserId,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};

use crate::event::Event;

/// What the state before and after an event says to one user. Both count where the event itself changes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// `m.room.history_visibility` before and after the event; `shared` where none is set.
    pub visibility: [HistoryVisibility; 2],
    /// The user's membership before and after the event; `leave` where none is set.
    pub membership: [MembershipState; 2],
}

impl Moment {
    /// Reads it from the event and the state events before it: the `m.room.history_visibility` event and the user's
    /// `m.room.member` event, where these exist.
    pub fn new(event: &Event, user: &UserId, visibility: Option<&Event>, membership: Option<&Event>) -> Self {
        let visibility_before = visibility.map_or(HistoryVisibility::Shared, visibility_of);
        let visibility_after = match event.is_state("m.room.history_visibility", "") {
            true => visibility_of(event),
            false => visibility_before.clone(),
        };
        let membership_before = membership.and_then(Event::membership).unwrap_or(MembershipState::Leave);
        let membership_after = match event.is_state("m.room.member", user.as_str()) {
            true => event.membership().unwrap_or(MembershipState::Leave),
            false => membership_before.clone(),
        };
        Self { visibility: [visibility_before, visibility_after], membership: [membership_before, membership_after] }
    }

    /// Whether the user may see the event. `joined_since` tells whether the user joined at any time after it.
    pub fn user_may_see(&self, joined_since: bool) -> bool {
        self.visibility
            .iter()
            .any(|visibility| self.membership.iter().any(|membership| allows(visibility, membership, joined_since)))
    }
}

/// Whether a server may see an event: whether any of its users may. `members` are the memberships of the server's users
/// in the state before the event (and the one that the event itself sets, if it is of such a user); `joined_since` tells
/// whether a user of the server joined at any time after it.
pub fn server_may_see<'a>(
    event: &Event,
    visibility: Option<&Event>,
    members: impl IntoIterator<Item = &'a MembershipState>,
    joined_since: bool,
) -> bool {
    let before = visibility.map_or(HistoryVisibility::Shared, visibility_of);
    let after = match event.is_state("m.room.history_visibility", "") {
        true => visibility_of(event),
        false => before.clone(),
    };
    let visible_to = |membership: &MembershipState| {
        allows(&before, membership, joined_since) || allows(&after, membership, joined_since)
    };
    visible_to(&MembershipState::Leave) || members.into_iter().any(visible_to)
}

/// The value of an `m.room.history_visibility` event; what it does not know or understand counts as `shared`.
pub fn visibility_of(event: &Event) -> HistoryVisibility {
    match event.content_str("history_visibility") {
        Some("world_readable") => HistoryVisibility::WorldReadable,
        Some("invited") => HistoryVisibility::Invited,
        Some("joined") => HistoryVisibility::Joined,
        _ => HistoryVisibility::Shared,
    }
}

/// The chapter's five steps.
fn allows(visibility: &HistoryVisibility, membership: &MembershipState, joined_since: bool) -> bool {
    match (visibility, membership) {
        (HistoryVisibility::WorldReadable, _) | (_, MembershipState::Join) => true,
        (HistoryVisibility::Shared, _) => joined_since,
        (HistoryVisibility::Invited, MembershipState::Invite) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use HistoryVisibility::{Invited, Joined, Shared, WorldReadable};
    use MembershipState::{Ban, Invite, Join, Knock, Leave};

    #[test]
    fn each_visibility_lets_in_whom_the_chapter_says() {
        for joined_since in [false, true] {
            for membership in [Join, Invite, Leave, Ban, Knock] {
                let see = |visibility| allows(&visibility, &membership, joined_since);
                assert!(see(WorldReadable));
                assert_eq!(see(Shared), membership == Join || joined_since);
                assert_eq!(see(Invited), matches!(membership, Join | Invite));
                assert_eq!(see(Joined), membership == Join);
            }
        }
    }

    #[test]
    fn what_an_event_changes_counts_before_and_after_it() {
        let moment = |visibility, membership| Moment { visibility, membership };
        // One's own join is seen although one was not there before, one's own ban although one is gone after it.
        assert!(moment([Joined, Joined], [Leave, Join]).user_may_see(false));
        assert!(moment([Joined, Joined], [Join, Ban]).user_may_see(false));
        assert!(moment([Invited, Invited], [Leave, Invite]).user_may_see(false));
        assert!(!moment([Joined, Joined], [Leave, Invite]).user_may_see(false));
        // The end and the beginning of openness are seen from outside.
        assert!(moment([WorldReadable, Joined], [Leave, Leave]).user_may_see(false));
        assert!(moment([Joined, WorldReadable], [Leave, Leave]).user_may_see(false));
        assert!(!moment([Joined, Invited], [Leave, Leave]).user_may_see(false));
    }
}
