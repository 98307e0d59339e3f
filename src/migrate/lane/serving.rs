//! Waits while an end of a lane reports `cluster_state:fail` because of a node that has no part in the move.
//!
//! When a master dies, all nodes report that, and refuse keys (CLUSTERDOWN), from when it is flagged as failed until one of its
//! replicas has been elected: a second or two. The slots that a lane has in hand stay open for that time. They are finished
//! afterwards, as if nothing had happened.

use std::time::{Duration, Instant};

use super::watch::missing_owners;
use super::{Ends, Lane, LaneError};
use crate::client::{ClientError, MigrateFault};
use crate::cluster::node::Role;
use crate::cluster::parse::{EntryState, View};
use crate::cluster::slot::SlotSet;
use crate::event::Event;
use crate::migrate::End;

/// How long an election may take at least.
const ELECTED_WITHIN: Duration = Duration::from_secs(15);
/// The interval between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The word for the wait, in the last line of the output.
const WAITED_FOR: &str = "cluster-state-not-ok";

/// A wait for an election. It begins when an end is first seen not to serve: a window may have been open for long before.
pub(super) struct ElectionWait {
    within: Duration,
    began: Option<Instant>,
}

impl ElectionWait {
    fn begin(&mut self, now: Instant) {
        self.began.get_or_insert(now);
    }

    /// A call went through: the next election has all of its time again.
    pub(super) fn served(&mut self) {
        self.began = None;
    }

    /// Whether it has taken too long.
    fn is_over(&self, now: Instant) -> bool {
        self.began.is_some_and(|began| now - began >= self.within)
    }
}

impl Lane {
    /// A wait that has not begun. It ends as late as states that normally pass do elsewhere.
    pub(super) fn election_wait(&self) -> ElectionWait {
        ElectionWait {
            within: ELECTED_WITHIN.max(2 * self.options.node_timeout),
            began: None,
        }
    }

    /// Waits a moment for a node that reports `cluster_state:fail`. Fails if no election can help, or none comes.
    pub(super) async fn await_election(
        &self,
        wait: &mut ElectionWait,
        end: &End,
        view: &View,
    ) -> Result<(), LaneError> {
        let missing = missing_owners(view);
        let now = Instant::now();
        wait.begin(now);
        if !may_pass(view) || wait.is_over(now) {
            return Err(LaneError::Changed(format!(
                "{end} says cluster_state:fail{missing}"
            )));
        }
        let text = format!("an election, since {end} says cluster_state:fail{missing}");
        let _ = self.events.send(Event::WaitingFor(text));
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    /// Notes that the wait is over.
    pub(super) fn election_over(&self, wait: &ElectionWait) {
        if let Some(began) = wait.began {
            let _ = self.events.send(Event::Waited {
                waited_for: vec![WAITED_FOR],
                took: began.elapsed(),
            });
        }
    }

    /// What a step came to; `None` if it is to be taken again, since an end answered CLUSTERDOWN to it, and both serve by now.
    /// Fails with that answer if they do not in time.
    pub(super) async fn unless_down<T>(
        &self,
        wait: &mut ElectionWait,
        ends: &mut Ends,
        outcome: Result<T, LaneError>,
    ) -> Result<Option<T>, LaneError> {
        let answer = match outcome {
            Err(LaneError::Client(error)) if is_down(&error) => error,
            outcome => return outcome.map(Some),
        };
        let now = Instant::now();
        wait.begin(now);
        if wait.is_over(now) {
            return Err(answer.into());
        }
        // The look may come before, or after, the moment at which the node refused.
        tokio::time::sleep(LOOK_EVERY).await;
        match self.survey(ends).await {
            Ok(_) => Ok(None),
            Err(_) => Err(answer.into()),
        }
    }

    /// Writes a key to the target and waits until so many replicas have it; returns how many have.
    pub(super) async fn confirmed(
        &self,
        ends: &mut Ends,
        key: &[u8],
        within: Duration,
    ) -> Result<u64, LaneError> {
        let mut wait = self.election_wait();
        loop {
            let replicas = ends.replicas();
            let confirmed = ends.target.wait_after_write(key, replicas, within).await;
            let confirmed = confirmed.map_err(LaneError::from);
            if let Some(confirmed) = self.unless_down(&mut wait, ends, confirmed).await? {
                return Ok(confirmed);
            }
        }
    }
}

/// Whether a node refuses keys because it reports `cluster_state:fail`: itself, or the target of its MIGRATE.
pub(super) fn is_down(error: &ClientError) -> bool {
    error.server_code() == Some("CLUSTERDOWN")
        || MigrateFault::of(error) == MigrateFault::ClusterDown
}

/// Whether `cluster_state:fail` may pass by itself: each missing owner of slots has a replica that can be elected, and no slot is
/// without an owner.
pub(super) fn may_pass(view: &View) -> bool {
    let is_dead = |state| matches!(state, EntryState::Failing | EntryState::Failed);
    let owned: SlotSet = view
        .entries()
        .flat_map(|entry| entry.slots.iter().copied())
        .collect();
    let missing = view
        .entries()
        .filter(|entry| is_dead(entry.state) && !entry.slots.is_empty());
    let has_candidate = |id| {
        view.entries().any(|entry| {
            entry.role == Some(Role::Replica) && entry.master == Some(id) && !is_dead(entry.state)
        })
    };
    owned == SlotSet::full() && missing.into_iter().all(|entry| has_candidate(entry.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_has_its_time_from_when_an_end_does_not_serve() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut wait = ElectionWait {
            within: ELECTED_WITHIN,
            began: None,
        };
        assert!(!wait.is_over(at(100)), "nothing is waited for");
        wait.begin(at(100));
        wait.begin(at(114));
        assert!(!wait.is_over(at(114)));
        assert!(wait.is_over(at(115)));
        wait.served();
        wait.begin(at(200));
        assert!(!wait.is_over(at(214)));
        assert!(wait.is_over(at(215)));
    }
}
