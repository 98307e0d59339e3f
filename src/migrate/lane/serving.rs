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

/// A wait for an election.
pub(super) struct ElectionWait {
    deadline: Instant,
    began: Option<Instant>,
}

impl ElectionWait {
    /// Whether it has taken too long.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

impl Lane {
    /// A wait that has not begun. It ends as late as states that normally pass do elsewhere.
    pub(super) fn election_wait(&self) -> ElectionWait {
        let within = ELECTED_WITHIN.max(2 * self.options.node_timeout);
        ElectionWait {
            deadline: Instant::now() + within,
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
        if !may_pass(view) || wait.is_over() {
            return Err(LaneError::Changed(format!(
                "{end} says cluster_state:fail{missing}"
            )));
        }
        wait.began.get_or_insert_with(Instant::now);
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

    /// Called when a node answered CLUSTERDOWN: returns when both ends serve again. Fails with that answer if they do not.
    pub(super) async fn serve_again(
        &self,
        ends: &mut Ends,
        answer: ClientError,
    ) -> Result<(), LaneError> {
        // The look may come before, or after, the moment at which the node refused.
        tokio::time::sleep(LOOK_EVERY).await;
        match self.survey(ends).await {
            Ok(_) => Ok(()),
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
        let wait = self.election_wait();
        loop {
            let replicas = ends.replicas();
            match ends.target.wait_after_write(key, replicas, within).await {
                Err(error) if is_down(&error) && !wait.is_over() => {
                    self.serve_again(ends, error).await?;
                }
                confirmed => return Ok(confirmed?),
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
