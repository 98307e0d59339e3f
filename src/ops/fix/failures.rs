//! What was tried without success. A later round may fix it all the same.

use crate::cluster::slot::SlotSet;
use crate::event::Pair;
use crate::migrate::schedule::MoveMethod;

/// All of them, in the order in which they happened.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<Failure>);

#[derive(Debug)]
struct Failure {
    text: String,
    left: Option<Left>,
}

/// What a lane did not move, which the next round plans again.
#[derive(Debug)]
struct Left {
    lane: (MoveMethod, Pair),
    slots: SlotSet,
}

impl Failures {
    /// Adds one that is not tried again.
    pub(super) fn add(&mut self, text: String) {
        self.0.push(Failure { text, left: None });
    }

    /// Adds that of a lane which left these slots.
    pub(super) fn add_lane(&mut self, lane: (MoveMethod, Pair), slots: SlotSet, text: String) {
        let left = Some(Left { lane, slots });
        self.0.push(Failure { text, left });
    }

    /// These slots were tried again: what failed before does not count for them.
    pub(super) fn tried_again(&mut self, lane: (MoveMethod, Pair), slots: &SlotSet) {
        self.0.retain_mut(|failure| match &mut failure.left {
            Some(left) if left.lane == lane => {
                left.slots = left.slots.difference(slots);
                !left.slots.is_empty()
            }
            _ => true,
        });
    }

    /// Those that hold at the end, when only `stuck` slots are not fixed. A pair may not come up again: if one of its nodes
    /// failed over, its successor takes part instead.
    pub(super) fn at_end(self, stuck: &SlotSet) -> Vec<String> {
        let lasting = self.0.into_iter().filter(|failure| match &failure.left {
            Some(left) => !left.slots.intersection(stuck).is_empty(),
            None => true,
        });
        lasting.map(|failure| failure.text).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot::Slot;

    fn pair(from: u8, to: u8) -> Pair {
        let node = |n: u8| format!("{n:040x}").parse().unwrap();
        Pair {
            from: node(from),
            to: node(to),
        }
    }

    fn slots(first: usize, count: usize) -> SlotSet {
        Slot::all().skip(first).take(count).collect()
    }

    /// The failures of a lane that moves 0-9 in three rounds, and of another that is not repeated.
    fn failed() -> Failures {
        let mut failures = Failures::default();
        let lane = (MoveMethod::Keys, pair(1, 2));
        failures.add_lane(lane, slots(4, 6), "a replica lagged".to_string());
        failures.add_lane(
            (MoveMethod::Gather, pair(1, 2)),
            slots(20, 5),
            "other".to_string(),
        );
        failures.tried_again(lane, &slots(4, 6));
        failures.add_lane(lane, slots(7, 3), "a node restarted".to_string());
        failures
    }

    #[test]
    fn what_a_later_round_moves_is_no_failure() {
        let mut failures = failed();
        failures.tried_again((MoveMethod::Keys, pair(1, 2)), &slots(7, 3));
        failures.add("a failover".to_string());
        assert_eq!(failures.at_end(&slots(20, 1)), ["other", "a failover"]);
    }

    #[test]
    fn what_stays_open_is_named_with_the_last_reason() {
        let mut failures = failed();
        // The rest was tried, and one slot of it is not fixed.
        failures.tried_again((MoveMethod::Keys, pair(1, 2)), &slots(8, 2));
        assert_eq!(failures.at_end(&slots(7, 1)), ["a node restarted"]);
    }

    #[test]
    fn slots_that_moved_to_a_successor_are_no_failure() {
        let mut failures = failed();
        failures.tried_again((MoveMethod::Keys, pair(1, 3)), &slots(7, 3));
        assert!(failures.at_end(&SlotSet::new()).is_empty());
    }
}
