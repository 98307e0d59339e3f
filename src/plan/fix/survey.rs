//! The state of all slots, and the steps that are not about one slot alone.

use std::collections::{BTreeMap, BTreeSet};

use super::Request;
use super::passage::Passage;
use super::slot::{FixStep, MasterState, PeerState, SlotConsent, SlotState, Why};
use crate::cluster::copies::ShardCopies;
use crate::cluster::health::Stability;
use crate::cluster::node::{NodeId, Role, Takeover};
use crate::cluster::observation::Seen;
use crate::cluster::parse::{Direction, Version};
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::{Member, Topology};
use crate::plan::failover::{self, Decision, NamedMember, Refusal};

/// The state of all slots.
pub(super) struct Survey<'a> {
    request: &'a Request<'a>,
    /// Masters that answer, whose keys were counted, and that the other nodes do not flag as failed; by
    /// id.
    sound: Vec<&'a Member>,
    /// The other masters.
    away: Vec<&'a Member>,
    /// Replicas of a master that no node knows.
    orphans: Vec<NodeId>,
    /// Slots that may need a step.
    pub(super) troubled: SlotSet,
    /// The owners of these slots as each healthy master sees them.
    sees: BTreeMap<NodeId, BTreeMap<Slot, NodeId>>,
    peers: BTreeMap<NodeId, PeerState>,
    passage: Passage,
    failovers: BTreeMap<NodeId, Failover>,
    /// Masters that do not answer, of whose data a replica has a safe copy, or one that it is still loading.
    kept: BTreeSet<NodeId>,
}

/// Whether a replica may take over from a master that does not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failover {
    /// This one may.
    Possible { replica: NodeId },
    /// None may.
    Refused(Refusal),
    /// This step did not help.
    Tried(FixStep),
}

impl<'a> Survey<'a> {
    pub(super) fn of(request: &'a Request<'a>) -> Self {
        let topology = &request.diagnosis.topology;
        let (sound, away): (Vec<&Member>, Vec<&Member>) = topology
            .masters()
            // Nodes in handshake have temporary ids. What a node that was reset would be given, no other node would hear.
            .filter(|member| member.peer_status.handshake == 0 && !member.is_reset)
            .partition(|member| is_sound(request, member));
        let orphans = topology
            .members
            .values()
            .filter(|member| member.role == Role::Replica && !member.peer_status.silent)
            .filter(|member| {
                !member
                    .master
                    .is_some_and(|id| topology.members.contains_key(&id))
            })
            .map(|member| member.id)
            .collect();
        let mut survey = Self {
            request,
            sound,
            away,
            orphans,
            troubled: SlotSet::new(),
            sees: BTreeMap::new(),
            peers: BTreeMap::new(),
            passage: Passage::of(request),
            failovers: BTreeMap::new(),
            kept: BTreeSet::new(),
        };
        survey.troubled = survey.find_troubled();
        survey.sees = survey.seen_owners();
        survey.peers = survey.find_peers();
        survey.failovers = survey.find_failovers();
        survey.kept = survey.find_kept();
        survey
    }

    fn topology(&self) -> &'a Topology {
        &self.request.diagnosis.topology
    }

    pub(super) fn masters(&self) -> Vec<(NodeId, &'a SlotSet)> {
        self.sound.iter().map(|m| (m.id, &m.slots)).collect()
    }

    /// Slots that are open, have no owner or several, an unhealthy owner, or keys outside their owner.
    fn find_troubled(&self) -> SlotSet {
        let mut troubled = SlotSet::new();
        let mut owned = SlotSet::new();
        for member in &self.sound {
            troubled.union_with(&owned.intersection(&member.slots));
            owned.union_with(&member.slots);
            troubled.union_with(&member.open.iter().map(|open| open.slot).collect());
            let held = self.request.holdings.slots(member.id);
            troubled.union_with(&held.difference(&member.slots));
        }
        for member in &self.away {
            troubled.union_with(&member.slots);
        }
        troubled.union(&SlotSet::full().difference(&owned))
    }

    fn seen_owners(&self) -> BTreeMap<NodeId, BTreeMap<Slot, NodeId>> {
        if self.troubled.is_empty() {
            return BTreeMap::new();
        }
        let nodes = &self.request.diagnosis.observation.nodes;
        let seen = |member: &&Member| {
            let report = nodes.get(&member.id)?.report()?;
            let mut owners = BTreeMap::new();
            for entry in report.view.entries().filter(|e| !e.slots.is_empty()) {
                let slots: SlotSet = entry.slots.iter().copied().collect();
                owners.extend(
                    slots
                        .intersection(&self.troubled)
                        .iter()
                        .map(|s| (s, entry.id)),
                );
            }
            Some((member.id, owners))
        };
        self.sound.iter().filter_map(seen).collect()
    }

    fn find_peers(&self) -> BTreeMap<NodeId, PeerState> {
        let open = self.sound.iter().flat_map(|member| &member.open);
        let named: BTreeSet<NodeId> = open.map(|open| open.peer).collect();
        named.into_iter().map(|id| (id, self.peer(id))).collect()
    }

    fn peer(&self, id: NodeId) -> PeerState {
        let is_sound = |id| self.sound.iter().any(|member| member.id == id);
        let Some(member) = self.topology().members.get(&id) else {
            return PeerState::Unreachable;
        };
        match (member.role, member.master) {
            (Role::Master, _) if is_sound(id) => PeerState::Healthy,
            (Role::Replica, Some(master)) if is_sound(master) => PeerState::Follows(master),
            (Role::Master, _)
                if member.peer_status.silent
                    && member.peer_status.is_down()
                    && member.slots.is_empty() =>
            {
                PeerState::Replaced(self.successor_of_target(id))
            }
            _ => PeerState::Unreachable,
        }
    }

    /// The master that has keys of slots that were migrating to `gone`: it was a replica of `gone` and
    /// took over. `None` if several masters have such keys, or none has.
    fn successor_of_target(&self, gone: NodeId) -> Option<NodeId> {
        let mut found = BTreeSet::new();
        for owner in &self.sound {
            let migrating: SlotSet = owner
                .open
                .iter()
                .filter(|open| open.direction == Direction::Migrating && open.peer == gone)
                .map(|open| open.slot)
                .collect();
            let holders = self.sound.iter().filter(|member| {
                let held = self.request.holdings.slots(member.id);
                member.id != owner.id && !held.intersection(&migrating).is_empty()
            });
            found.extend(holders.map(|member| member.id));
        }
        match found.len() {
            1 => found.pop_first(),
            _ => None,
        }
    }

    pub(super) fn slot_state(&self, slot: Slot) -> SlotState<'_> {
        let Request {
            holdings,
            revealed,
            unveiled,
            consent,
            ..
        } = *self.request;
        let open = |member: &Member, direction| {
            let mut open = member.open.iter().filter(|open| open.slot == slot);
            open.find(|open| open.direction == direction)
                .map(|open| open.peer)
        };
        let state = |member: &&Member| {
            let owns = member.slots.contains(slot);
            let importing = open(member, Direction::Importing);
            let is_in = |known: &BTreeMap<NodeId, SlotSet>| {
                let slots = known.get(&member.id);
                slots.is_some_and(|slots| slots.contains(slot))
            };
            MasterState {
                id: member.id,
                sees: match owns {
                    true => Some(member.id),
                    false => self
                        .sees
                        .get(&member.id)
                        .and_then(|seen| seen.get(&slot).copied()),
                },
                migrating: open(member, Direction::Migrating),
                importing,
                keys: holdings.keys(member.id, slot),
                may_hold_more: holdings.hidden(member.id) > 0
                    && !owns
                    && importing.is_none()
                    && !is_in(revealed),
                imports_to_count: is_in(unveiled),
                counts_own_only: holdings.hides(member.id),
                epoch: member.epoch,
            }
        };
        let owner_away = self.away.iter().find(|member| member.slots.contains(slot));
        // A replica with a safe copy takes over first. If that failed, the copy is there all the same.
        let has_copy = owner_away.is_some_and(|owner| self.kept.contains(&owner.id));
        SlotState {
            masters: self.sound.iter().map(state).collect(),
            unreachable_owner: owner_away.map(|member| member.id),
            unreachable_master: self.away.first().map(|member| member.id),
            orphan: self
                .orphans
                .iter()
                .copied()
                .find(|id| holdings.keys(*id, slot) > 0),
            peers: &self.peers,
            passage: &self.passage,
            consent: SlotConsent {
                assign: consent.assign.contains(slot),
                accept_loss: consent.accept_loss.contains(slot) && !has_copy,
            },
        }
    }

    /// Owners whose claims some nodes do not accept, or that share a config epoch, in two observations.
    pub(super) fn unheard(&self, unsettled: &SlotSet) -> BTreeMap<FixStep, SlotSet> {
        let mut bumps: BTreeMap<FixStep, SlotSet> = BTreeMap::new();
        if self.request.stability != Stability::Stuck {
            return bumps;
        }
        let topology = self.topology();
        let mut differing = SlotSet::new();
        if let Some((most, others)) = topology.opinions.split_first() {
            for other in others {
                for slots in other.difference(most).into_values() {
                    differing.union_with(&slots);
                }
            }
        }
        let differing = differing.difference(unsettled);
        for member in &self.sound {
            let unheard = member.slots.intersection(&differing);
            if !unheard.is_empty() {
                bumps.insert(FixStep::Bump { node: member.id }, unheard);
            }
        }
        let mut epochs: BTreeMap<u64, NodeId> = BTreeMap::new();
        for member in self.sound.iter().filter(|member| !member.slots.is_empty()) {
            if epochs.insert(member.epoch, member.id).is_some() {
                bumps.entry(FixStep::Bump { node: member.id }).or_default();
            }
        }
        bumps
    }

    /// Slots that are open on a node, or have no owner, and of which the node holds keys.
    pub(super) fn begun(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut begun = self.request.begun.clone();
        let claimed = self.sound.iter().chain(&self.away);
        let claimed = claimed.fold(SlotSet::new(), |all, member| all.union(&member.slots));
        for member in &self.sound {
            let open: SlotSet = member.open.iter().map(|open| open.slot).collect();
            let unveiled = self.request.unveiled.get(&member.id);
            let open = unveiled.map_or_else(|| open.clone(), |slots| open.difference(slots));
            let held = self.request.holdings.slots(member.id);
            let free = held.difference(&claimed);
            let slots = begun.entry(member.id).or_default();
            slots.union_with(&held.intersection(&open).union(&free));
        }
        begun
    }

    /// Nodes with uncounted keys are made to count the slots of other owners.
    pub(super) fn reveal_strays(&self) -> BTreeMap<FixStep, SlotSet> {
        let mut reveal = BTreeMap::new();
        for id in self.hidden().into_keys() {
            let known = self.request.revealed.get(&id);
            for owner in self.sound.iter().filter(|owner| owner.id != id) {
                let slots = owner.slots.difference(&self.troubled);
                let slots = known.map_or_else(|| slots.clone(), |known| slots.difference(known));
                if !slots.is_empty() {
                    let (node, from) = (id, owner.id);
                    reveal.insert(FixStep::Reveal { node, from }, slots);
                }
            }
        }
        reveal
    }

    pub(super) fn hidden(&self) -> BTreeMap<NodeId, u64> {
        let hidden = |member: &&Member| (member.id, self.request.holdings.hidden(member.id));
        let hidden = self.sound.iter().map(hidden);
        hidden.filter(|(_, keys)| *keys > 0).collect()
    }

    /// A replica of the unreachable owner takes over, if the user allows that and there is one. The error is why the
    /// slots stay as they are.
    pub(super) fn successor(&self, why: Why) -> Result<FixStep, Why> {
        let (Why::OwnerAway(master), Some(_)) = (why, self.request.consent.failover) else {
            return Err(why);
        };
        match self.failovers.get(&master) {
            None => Err(why),
            Some(Failover::Tried(step)) => Err(Why::NoHelp(*step)),
            Some(Failover::Refused(_)) => Err(Why::FailoverRefused(master)),
            Some(Failover::Possible { replica }) => Ok(FixStep::TakeOver {
                replica: *replica,
                master,
            }),
        }
    }

    /// Why failovers that the user allows are refused, by master.
    pub(super) fn refused_failovers(self) -> BTreeMap<NodeId, Refusal> {
        let failovers = self.failovers.into_iter();
        let refused = failovers.filter_map(|(id, failover)| match failover {
            Failover::Refused(refusal) => Some((id, refusal)),
            Failover::Possible { .. } | Failover::Tried(_) => None,
        });
        refused.collect()
    }

    /// What becomes of masters that do not answer and have a replica that does.
    fn find_failovers(&self) -> BTreeMap<NodeId, Failover> {
        let silent = self.away.iter().filter(|member| member.peer_status.silent);
        let with_replica = silent.filter(|member| {
            let mut replicas = self.topology().replicas_of(member.id);
            replicas.any(|replica| !replica.peer_status.silent)
        });
        let failover = |member: &&Member| Some((member.id, self.plan_failover(member.id)?));
        with_replica.filter_map(failover).collect()
    }

    fn plan_failover(&self, master: NodeId) -> Option<Failover> {
        let Request { consent, tried, .. } = *self.request;
        let is_of_master = |step: &&FixStep| matches!(step, FixStep::TakeOver { master: its, .. } if *its == master);
        if let Some(step) = tried.iter().find(is_of_master) {
            return Some(Failover::Tried(*step));
        }
        match self.failover_from(master, consent.failover.unwrap_or(Takeover::Force)) {
            Ok(Decision::FailOver(plan)) => Some(Failover::Possible {
                replica: plan.replica,
            }),
            Ok(Decision::NoChange(_)) => None,
            Err(refusal) => Some(Failover::Refused(refusal)),
        }
    }

    fn failover_from(&self, master: NodeId, how: Takeover) -> Result<Decision, Refusal> {
        let request = failover::Request {
            member: NamedMember::Of(master),
            how,
            accepted: self.request.consent.accept_data_loss_of.clone(),
        };
        failover::plan(self.request.diagnosis, &request)
    }

    fn find_kept(&self) -> BTreeSet<NodeId> {
        let observation = &self.request.diagnosis.observation;
        let copies = |master| ShardCopies::of(observation, self.topology(), master);
        let silent = self.away.iter().filter(|member| member.peer_status.silent);
        let is_kept = |member: &&&Member| {
            // A takeover needs no votes: if it is refused, it is for the copies.
            self.failover_from(member.id, Takeover::Takeover).is_ok()
                || copies(member.id).has_loading_replica()
        };
        silent.filter(is_kept).map(|member| member.id).collect()
    }

    /// Whether a node can be a replica of that master, as far as their versions tell.
    fn can_follow(&self, replica: NodeId, master: NodeId) -> bool {
        let nodes = &self.request.diagnosis.observation;
        Version::may_follow(nodes.version_of(replica), nodes.version_of(master))
    }

    /// The master with slots that has the fewest replicas, of those that the replica can follow.
    fn least_replicated(&self, replica: NodeId) -> Option<NodeId> {
        let owners = self.sound.iter().filter(|member| !member.slots.is_empty());
        owners
            .filter(|member| self.can_follow(replica, member.id))
            .map(|member| (self.topology().replicas_of(member.id).count(), member.id))
            .min()
            .map(|(_, id)| id)
    }

    /// Steps for replicas of replicas, replicas of unknown masters, and nodes that no node can reach.
    pub(super) fn members(&self) -> BTreeMap<FixStep, SlotSet> {
        let topology = self.topology();
        let mut steps = BTreeMap::new();
        for member in topology.members.values() {
            let peer_status = member.peer_status;
            let master = member.master.and_then(|id| topology.members.get(&id));
            let end = master
                .filter(|master| master.role == Role::Replica)
                .and_then(|master| self.sound.iter().find(|m| Some(m.id) == master.master));
            if let (Role::Replica, false, Some(end)) = (member.role, peer_status.silent, end)
                && !end.slots.is_empty()
                && self.can_follow(member.id, end.id)
            {
                let (replica, master) = (member.id, end.id);
                steps.insert(FixStep::Follow { replica, master }, SlotSet::new());
            }
            // It has no key that would be lost.
            let is_empty_orphan = self.orphans.contains(&member.id)
                && self.request.holdings.has(member.id)
                && self.request.holdings.is_empty(member.id);
            if is_empty_orphan && let Some(master) = self.least_replicated(member.id) {
                let replica = member.id;
                steps.insert(FixStep::Follow { replica, master }, SlotSet::new());
            }
            // A failed node that all nodes know may return to its address; one whose address another node
            // has (Redis and Valkey write `fail,noaddr` then) can't.
            let nodes = &self.request.diagnosis.observation.nodes;
            let has_no_address = nodes
                .get(&member.id)
                .is_some_and(|node| matches!(node.seen, Seen::NoAddress));
            // A node named by an open slot may have keys of it: that is decided first.
            let is_named = self.peers.contains_key(&member.id);
            let is_unreachable_to_all = peer_status.silent
                && (peer_status.is_lost() || peer_status.is_lost_to_all_who_know_it())
                && member.slots.is_empty()
                && !is_named
                && topology.replicas_of(member.id).next().is_none()
                && (has_no_address || peer_status.known < peer_status.asked)
                && peer_status.handshake == 0;
            if is_unreachable_to_all {
                steps.insert(FixStep::Forget { node: member.id }, SlotSet::new());
            }
        }
        steps
    }

    /// Slots that are open on replicas and not on their masters (Valkey ≥ 8 sends open slots to
    /// replicas, and a replica that hung may have missed the end).
    pub(super) fn stale(&self, unsettled: &SlotSet) -> BTreeMap<FixStep, SlotSet> {
        let topology = self.topology();
        let mut refresh: BTreeMap<FixStep, SlotSet> = BTreeMap::new();
        for master in &self.sound {
            for replica in topology
                .replicas_of(master.id)
                .filter(|r| !r.peer_status.silent)
            {
                let stale = replica
                    .open
                    .iter()
                    .filter(|open| !master.open.contains(open));
                let stale: SlotSet = stale.map(|open| open.slot).collect();
                let stale = stale.difference(unsettled);
                if !stale.is_empty() {
                    let slots = refresh
                        .entry(FixStep::Refresh { node: master.id })
                        .or_default();
                    slots.union_with(&stale);
                }
            }
        }
        refresh
    }
}

/// Whether a master answers, has loaded its data set, was counted, and is not flagged by the others.
fn is_sound(request: &Request<'_>, member: &Member) -> bool {
    let node = request.diagnosis.observation.nodes.get(&member.id);
    let report = node.and_then(|node| node.report());
    report.is_some_and(|report| !report.info.loading)
        && request.holdings.has(member.id)
        && !member.peer_status.is_lost()
}

#[cfg(test)]
mod tests;
