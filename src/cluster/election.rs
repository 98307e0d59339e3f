//! Whether the masters will elect a replica: the votes that can be foreseen.
//!
//! The rules of Redis 3.2 to 8.6 and Valkey 8.0 to 9.1 (`clusterSendFailoverAuthIfNeeded`): every master with slots has a
//! vote, dead ones count for the majority, and a master votes for no replica that claims a slot with a config epoch older
//! than that of the slot's owner in its own view. A replica learns the epoch of its master from that master only, so one
//! that was down during the change stays without votes if its master is dead.
//!
//! On the Raft bus (Valkey 10) a majority of the voters must be up, and nothing else counts.

use super::node::NodeId;
use super::observation::{Observation, Seen};
use super::parse::EntryState;
use super::slot::SlotSet;
use super::topology::{Bus, Member, Topology};

/// The votes that a replica can get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Votes {
    /// All nodes with a vote: masters with slots; on the Raft bus, nodes that are no learners.
    pub voters: usize,
    /// Their word: `masters`, on the Raft bus `voters`.
    pub word: &'static str,
    /// Those that answer, or that other nodes reach.
    pub answering: usize,
    /// Those that answer and will refuse, since they know a newer config epoch.
    pub refusing: Vec<NodeId>,
    /// The config epoch of its master that the replica knows.
    pub epoch: u64,
    /// The newest config epoch of an owner of its slots that a voter knows.
    pub newest_epoch: u64,
}

/// Whether a node is up, as far as anybody knows. One that answers only on the bus is, too: it may refuse our connection
/// (`maxclients`, no right), or have an address that can't be reached from here.
pub(super) fn is_up(observation: &Observation, member: &Member) -> bool {
    let status = &member.peer_status;
    let node = observation.nodes.get(&member.id);
    let refuses_us = node.is_some_and(|node| matches!(node.seen, Seen::Refused(_)));
    !status.is_down() && (!status.silent || refuses_us || status.linked > 0)
}

impl Votes {
    /// The votes for `replica`, if it stands for election in the place of `master`.
    pub fn of(
        observation: &Observation,
        topology: &Topology,
        replica: NodeId,
        master: NodeId,
    ) -> Self {
        let report = |id: NodeId| observation.nodes.get(&id).and_then(|node| node.report());
        let known = report(replica).and_then(|report| report.view.entry(master));
        let epoch = known.map_or(0, |entry| entry.epoch);
        let claimed: SlotSet = known
            .map(|entry| entry.slots.iter().copied().collect())
            .unwrap_or_default();
        let mut votes = Self {
            voters: 0,
            word: topology.bus.voters_word(),
            answering: 0,
            refusing: Vec::new(),
            epoch,
            newest_epoch: epoch,
        };
        for voter in topology.voters() {
            votes.voters += 1;
            if !is_up(observation, voter) {
                continue;
            }
            votes.answering += 1;
            // A Raft leader proposes what its log allows; config epochs play no part.
            if topology.bus == Bus::Raft {
                continue;
            }
            let view = report(voter.id).map(|report| &report.view);
            let owners = view.into_iter().flat_map(|view| view.entries());
            let newest = owners
                .filter(|owner| owner.state != EntryState::Handshake && owner.epoch > epoch)
                .filter(|owner| {
                    let slots: SlotSet = owner.slots.iter().copied().collect();
                    !slots.intersection(&claimed).is_empty()
                })
                .map(|owner| owner.epoch)
                .max();
            if let Some(newest) = newest {
                votes.refusing.push(voter.id);
                votes.newest_epoch = votes.newest_epoch.max(newest);
            }
        }
        votes
    }

    /// Whether a majority answers.
    pub fn have_majority(&self) -> bool {
        self.answering * 2 > self.voters
    }

    /// Whether a majority answers and will not refuse.
    pub fn are_enough(&self) -> bool {
        (self.answering - self.refusing.len()) * 2 > self.voters
    }
}
