//! In which order the servers of SRV records are tried. RFC 2782.

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones are tried first.
    pub priority: u16,
    /// How often it comes first among those of its priority.
    pub weight: u16,
    /// The host, without a dot at its end. Empty: the service is not offered.
    pub target: String,
    /// Its port.
    pub port: u16,
}

/// Orders records by priority, and those of one priority by lot, each as often first as its weight says. `below` draws a number
/// below the given one.
pub fn order(mut records: Vec<Srv>, below: &dyn Fn(u64) -> u64) -> Vec<Srv> {
    // Those without weight come first, so that they have a small chance.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let same = records.iter().take_while(|record| record.priority == priority);
        let sum: u64 = same.map(|record| u64::from(record.weight)).sum();
        let drawn = below(sum + 1);
        let mut running = 0;
        let chosen = records.iter().take_while(|record| record.priority == priority).position(|record| {
            running += u64::from(record.weight);
            running >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, target: target.to_owned(), port: 1 }
    }

    fn first(records: &[Srv], drawn: u64) -> String {
        order(records.to_vec(), &|most| drawn.min(most - 1)).remove(0).target
    }

    #[test]
    fn lower_priorities_come_first_whatever_their_weight() {
        let records = vec![record(20, 100, "c"), record(10, 0, "b"), record(0, 1, "a")];
        for drawn in [0, 1, 1000] {
            let targets: Vec<_> =
                order(records.clone(), &|most| drawn.min(most - 1)).into_iter().map(|r| r.target).collect();
            assert_eq!(targets, ["a", "b", "c"]);
        }
    }

    #[test]
    fn among_equals_each_is_first_as_often_as_its_weight_says() {
        let records = [record(1, 30, "a"), record(1, 0, "zero"), record(1, 10, "b")];
        let firsts: Vec<_> = (0..=40).map(|drawn| first(&records, drawn)).collect();
        let count = |target: &str| firsts.iter().filter(|first| *first == target).count();
        assert_eq!((count("zero"), count("a"), count("b")), (1, 30, 10));
    }

    #[test]
    fn every_record_comes_once_and_draws_stay_within_what_is_left() {
        let asked = Cell::new(0);
        let ordered = order(vec![record(1, 5, "a"), record(1, 7, "b"), record(2, 9, "c")], &|most| {
            asked.set(asked.get() + most);
            most - 1
        });
        assert_eq!(ordered.len(), 3);
        assert_eq!(asked.get(), (12 + 1) + (5 + 1) + (9 + 1), "b, the last of the first sum, was drawn first");
    }
}
