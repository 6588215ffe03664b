//! What links are like: latency, and who can dial whom.

use crate::engine::{Nanos, Stream, millis};
use crate::scenario::{Latency, Nat, NatKind};

/// One way's latency between two nodes, without jitter: the same for the link's whole life.
pub fn latency(latency: &Latency, seed: u64, from: u32, to: u32) -> Nanos {
    // Of the link, whichever way it is used.
    let link = || Stream::new(seed, "latency", u64::from(from.min(to)) << 32 | u64::from(from.max(to)), 0);
    millis(match latency {
        Latency::Constant { ms } => *ms,
        Latency::Uniform { min_ms, max_ms } => link().between(*min_ms, *max_ms),
        Latency::Normal { mean_ms, deviation_ms } => link().normal(*mean_ms, *deviation_ms),
        Latency::LogNormal { median_ms, sigma } => median_ms * link().normal(0.0, *sigma).exp(),
        Latency::Matrix { ms } => {
            let at = |index: u32| index as usize % ms.len().max(1);
            ms.get(at(from)).and_then(|row| row.get(at(to))).copied().unwrap_or_default()
        }
    })
}

/// The address translation of each node; none for those that anybody can dial.
pub fn nats(nats: &[Nat], count: u32, seed: u64) -> Vec<Option<NatKind>> {
    let mut order: Vec<usize> = (0..count as usize).collect();
    Stream::new(seed, "nat", 0, 0).shuffle(&mut order);
    let mut kinds = vec![None; count as usize];
    let mut order = order.into_iter();
    for nat in nats {
        let many = (nat.share * f64::from(count)).round() as usize;
        for node in order.by_ref().take(many) {
            if let Some(kind) = kinds.get_mut(node) {
                *kind = Some(nat.kind);
            }
        }
    }
    kinds
}

/// Whether two nodes can come to a connection, by one dialling the other or by punching through.
pub fn can_connect(one: Option<NatKind>, other: Option<NatKind>) -> bool {
    use NatKind::{AddressRestricted, Closed, PortRestricted, Symmetric};
    match (one, other) {
        // Whoever is open is dialled.
        (None, _) | (_, None) => true,
        (Some(Closed), _) | (_, Some(Closed)) => false,
        // The port that a symmetric one uses towards us is not known before; it passes where ports do not matter.
        (Some(Symmetric), Some(kind)) | (Some(kind), Some(Symmetric)) => kind == AddressRestricted,
        (Some(PortRestricted | AddressRestricted), Some(PortRestricted | AddressRestricted)) => true,
    }
}

/// Whether the first can begin a connection at once to the second: by dialling it, where nothing lets nobody in. All others either
/// are dialled by the other side, or punch through, for which both have to know of each other first.
pub fn can_dial(_: Option<NatKind>, other: Option<NatKind>) -> bool {
    other.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_has_one_latency_in_both_directions_and_another_link_another() {
        let drawn = Latency::LogNormal { median_ms: 30.0, sigma: 0.5 };
        assert_eq!(latency(&drawn, 1, 3, 4), latency(&drawn, 1, 4, 3));
        assert_ne!(latency(&drawn, 1, 3, 4), latency(&drawn, 1, 3, 5));
        let matrix = Latency::Matrix { ms: vec![vec![0.0, 1.0], vec![2.0, 0.0]] };
        assert_eq!(latency(&matrix, 1, 0, 1), millis(1.0));
        assert_eq!(latency(&matrix, 1, 3, 2), millis(2.0));
    }

    #[test]
    fn as_many_nodes_are_behind_address_translation_as_is_said() {
        let kinds =
            nats(&[Nat { kind: NatKind::Symmetric, share: 0.3 }, Nat { kind: NatKind::Closed, share: 0.2 }], 10, 5);
        let count = |kind| kinds.iter().filter(|found| **found == kind).count();
        assert_eq!((count(Some(NatKind::Symmetric)), count(Some(NatKind::Closed)), count(None)), (3, 2, 5));
    }

    #[test]
    fn only_what_is_open_is_dialled() {
        use NatKind::{Closed, PortRestricted};
        assert!(can_dial(None, None) && can_dial(Some(Closed), None));
        assert!(!can_dial(None, Some(PortRestricted)) && !can_dial(Some(PortRestricted), Some(PortRestricted)));
    }

    #[test]
    fn who_can_dial_whom() {
        use NatKind::{AddressRestricted, Closed, PortRestricted, Symmetric};
        for (one, other, can) in [
            (None, Some(Closed), true),
            (Some(Closed), Some(Closed), false),
            (Some(PortRestricted), Some(PortRestricted), true),
            (Some(Symmetric), Some(PortRestricted), false),
            (Some(Symmetric), Some(Symmetric), false),
            (Some(Symmetric), Some(AddressRestricted), true),
            (Some(Closed), Some(AddressRestricted), false),
        ] {
            assert_eq!(can_connect(one, other), can, "{one:?} {other:?}");
            assert_eq!(can_connect(other, one), can, "{other:?} {one:?}");
        }
    }
}
