//! The list. `docs/mutants.md` has it with what caught each.

use crate::Mutant;

/// All of them, by where they are.
pub const ALL: &[Mutant] = &[
    Mutant {
        name: "answers-before-commit",
        file: "store/src/writer.rs",
        does: "Changes are answered before they are on disk.",
    },
    Mutant {
        name: "publishes-before-commit",
        file: "store/src/writer.rs",
        does: "The stream position is published before what lies there is on disk.",
    },
    Mutant { name: "commits-without-sync", file: "store/src/medium.rs", does: "Commits are not synced to the disk." },
    Mutant {
        name: "counters-start-again",
        file: "store/src/writer.rs",
        does: "The marks of the counters are not written, so that after a crash numbers are given twice.",
    },
    Mutant {
        name: "reads-past-the-batch",
        file: "store/src/tx.rs",
        does: "Reading a range, a change does not see what its neighbours in the same commit wrote.",
    },
    Mutant {
        name: "older-write-wins",
        file: "store/src/overlay.rs",
        does: "Of two changes of one commit that write the same row, the earlier one wins.",
    },
    Mutant {
        name: "takes-failure-for-success",
        file: "store/src/writer.rs",
        does: "After a commit that failed, its changes are answered as if it had reached the disk.",
    },
    Mutant {
        name: "skips-event-signature",
        file: "node/room/src/receive.rs",
        does: "The signatures of events that come are not verified.",
    },
    Mutant {
        name: "skips-content-hash",
        file: "node/room/src/receive.rs",
        does: "The content hash of events that come is not compared.",
    },
    Mutant { name: "skips-auth", file: "node/room/src/auth.rs", does: "Every state allows every event." },
    Mutant {
        name: "skips-auth-events",
        file: "node/room/src/engine.rs",
        does: "Events are not judged by the auth events they cite.",
    },
    Mutant {
        name: "skips-state-before",
        file: "node/room/src/engine.rs",
        does: "Events are not judged by the state before them.",
    },
    Mutant {
        name: "skips-soft-failure",
        file: "node/room/src/engine.rs",
        does: "Events are not judged by the current state.",
    },
    Mutant {
        name: "rejected-state-counts",
        file: "node/room/src/engine.rs",
        does: "A rejected state event changes the state after it.",
    },
    Mutant {
        name: "soft-failed-is-live",
        file: "node/room/src/engine.rs",
        does: "A soft-failed event becomes a forward extremity.",
    },
    Mutant {
        name: "loses-an-extremity",
        file: "node/room/src/engine.rs",
        does: "A new event takes the place of all forward extremities, not only of those it follows.",
    },
    Mutant {
        name: "keeps-followed-extremity",
        file: "node/room/src/engine.rs",
        does: "Of several forward extremities that an event follows, only the first is replaced.",
    },
    Mutant {
        name: "stops-at-hidden-events",
        file: "node/room/src/engine.rs",
        does: "An event that follows an extremity through a soft-failed or rejected one leaves it in place.",
    },
    Mutant {
        name: "missing-prev-is-known",
        file: "node/room/src/engine.rs",
        does: "An event is judged although some of those it follows are missing.",
    },
    Mutant {
        name: "first-fork-wins",
        file: "node/room/src/resolve.rs",
        does: "Where states conflict, the first of them is taken.",
    },
    Mutant {
        name: "forgets-auth-difference",
        file: "node/room/src/resolve.rs",
        does: "State resolution does without the auth difference.",
    },
    Mutant {
        name: "unchecked-outliers",
        file: "node/room/src/join.rs",
        does: "The state that another server gives is believed: its events are not judged.",
    },
    Mutant {
        name: "acknowledges-before-commit",
        file: "node/src/rooms/commit.rs",
        does: "A client is told that its event is sent before it is on disk.",
    },
    Mutant {
        name: "keeps-head-of-failed-commit",
        file: "node/src/rooms/commit.rs",
        does: "After a commit that failed the room goes on from what was not stored.",
    },
    Mutant { name: "shows-soft-failed", file: "node/src/rooms/head.rs", does: "Soft-failed events are shown." },
    Mutant {
        name: "forgets-rejection",
        file: "node/src/rooms/head.rs",
        does: "That an event was rejected is not stored with it.",
    },
    Mutant {
        name: "declares-no-gap",
        file: "node/src/rooms/head.rs",
        does: "Events that are missing before a bridged one are not noted as a gap.",
    },
    Mutant {
        name: "needs-more-power",
        file: "node/src/rooms/head.rs",
        does: "A redaction needs more than the power level that is set for it (> for >=).",
    },
    Mutant {
        name: "anybody-redacts",
        file: "node/src/rooms/redaction.rs",
        does: "Whoever redacts what others sent needs no power for it.",
    },
    Mutant {
        name: "forgets-early-redaction",
        file: "node/src/rooms/redaction.rs",
        does: "A redaction that comes before its target is forgotten.",
    },
    Mutant {
        name: "ignores-right-copy",
        file: "node/src/rooms/room.rs",
        does: "An event that came first with a false content stays without it when the right copy comes.",
    },
    Mutant {
        name: "leaves-gap-open",
        file: "node/src/rooms/change.rs",
        does: "A gap stays declared when the event that was missing comes.",
    },
    Mutant {
        name: "keeps-departed-server",
        file: "node/src/rooms/members.rs",
        does: "A server whose last user left a room still counts as in it.",
    },
    Mutant {
        name: "queue-keeps-its-end",
        file: "node/src/rooms/addressees.rs",
        does: "What is said while something waits for a server is not queued for it.",
    },
    Mutant {
        name: "forgets-skipped-states",
        file: "node/src/rooms/states.rs",
        does: "A state that is stored as a delta over several steps lacks what changed in between.",
    },
    Mutant {
        name: "repeats-transactions",
        file: "node/src/rooms/transactions.rs",
        does: "A request that a client sends again makes a second event.",
    },
    Mutant {
        name: "skips-request-signature",
        file: "node/src/server_api/mod.rs",
        does: "The signature of requests between servers is not verified.",
    },
    Mutant {
        name: "shows-to-strangers",
        file: "node/src/server_api/visibility.rs",
        does: "A server that has no part in a room is shown what is said there.",
    },
    Mutant {
        name: "takes-foreign-transactions",
        file: "node/src/server_api/transactions.rs",
        does: "A transaction may name another server as its origin than the one that signed it.",
    },
    Mutant {
        name: "believes-foreign-users",
        file: "node/src/e2ee/receive.rs",
        does: "A server may send device messages in the name of users of other servers.",
    },
    Mutant {
        name: "delivers-messages-twice",
        file: "node/src/e2ee/receive.rs",
        does: "A device message that comes again is delivered again.",
    },
    Mutant {
        name: "queue-moves-too-early",
        file: "node/src/federation/outgoing/sender.rs",
        does: "What could not be delivered leaves the queue all the same.",
    },
    Mutant {
        name: "forgets-queue-position",
        file: "node/src/federation/outgoing/queue.rs",
        does: "Up to where a server was sent our events is not stored.",
    },
    Mutant {
        name: "drops-queued-messages",
        file: "node/src/federation/outgoing/queue.rs",
        does: "Device messages for a server that cannot be reached are dropped as if they had waited for a month.",
    },
    Mutant {
        name: "never-retries",
        file: "node/src/federation/outgoing/mod.rs",
        does: "A server that could not be reached is not tried again when its time has come.",
    },
    Mutant {
        name: "sleeps-after-restart",
        file: "node/src/federation/outgoing/mod.rs",
        does: "What waited for other servers when the node stopped is not sent when it starts.",
    },
    Mutant {
        name: "compares-no-heads",
        file: "node/src/federation/heads.rs",
        does: "The heads of rooms that other servers tell of are not looked at.",
    },
    Mutant {
        name: "fetches-nothing-missing",
        file: "node/src/federation/missing/gap.rs",
        does: "What other servers give of missing events is not looked at.",
    },
    Mutant {
        name: "hasty-timeout",
        file: "transport/src/transport.rs",
        does: "The time limit of requests is taken for milliseconds.",
    },
    Mutant {
        name: "keeps-last-part",
        file: "transport/src/network.rs",
        does: "Of a body that comes in parts only the last is read.",
    },
];
