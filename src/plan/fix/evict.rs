//! Nodes of another cluster: they leave before anything else is planned, since which slots are open,
//! claimed twice or uncovered depends on them.
//!
//! No keys are deleted. Slots that these nodes own in the merged slot table leave with them, with the
//! keys in them. Such keys may belong to either cluster, so the user has to name the slots.

use super::{FixPlan, FixRefusal, FixStep, PlannedStep, Request, Why};
use crate::cluster::merger;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;

/// The plan for nodes of another cluster; `None` if there are none.
pub(super) fn first(request: &Request<'_>) -> Option<FixPlan> {
    let topology = &request.diagnosis.topology;
    let wanted = &request.consent.evict;
    let members: Vec<&Member> = topology.members.values().collect();
    let leaving: Vec<&Member> = members
        .into_iter()
        .filter(|member| wanted.contains(&member.id))
        .collect();
    if leaving.is_empty() {
        let doors = merger::intruders(&request.diagnosis.observation);
        let undecided = |door| FixRefusal {
            why: Why::Strangers { door },
            slots: SlotSet::new(),
        };
        return (!doors.is_empty()).then(|| FixPlan {
            refusals: doors.into_keys().map(undecided).collect(),
            ..FixPlan::default()
        });
    }
    let refusals: Vec<FixRefusal> = leaving
        .iter()
        .filter_map(|member| refusal(request, member))
        .collect();
    // All or none: a node that stays would bring the others back by gossip.
    if !refusals.is_empty() {
        return Some(FixPlan {
            refusals,
            ..FixPlan::default()
        });
    }
    let remedy = |member: &&Member| PlannedStep {
        step: step(request, member),
        slots: member.slots.clone(),
        keys: request.holdings.keys_in(member.id, &member.slots),
    };
    Some(FixPlan {
        remedies: leaving.iter().map(remedy).collect(),
        ..FixPlan::default()
    })
}

/// A node that follows a master that stays has deleted its own keys, and has a copy of the master's.
fn step(request: &Request<'_>, member: &Member) -> FixStep {
    let master = member.master.filter(|_| member.role == Role::Replica);
    FixStep::Evict {
        node: member.id,
        copies: master.filter(|id| !request.consent.evict.contains(id)),
    }
}

fn refusal(request: &Request<'_>, member: &Member) -> Option<FixRefusal> {
    let topology = &request.diagnosis.topology;
    let wanted = &request.consent.evict;
    let node = member.id;
    let whole = |why| FixRefusal {
        why,
        slots: SlotSet::new(),
    };
    let stays = |id: &NodeId| !wanted.contains(id);
    let step = step(request, member);
    if request.tried.contains(&step) {
        return Some(whole(Why::NoHelp(step)));
    }
    let mut followers = topology.replicas_of(node).map(|replica| replica.id);
    if let Some(follower) = followers.find(stays) {
        return Some(whole(Why::FollowedBy { node, follower }));
    }
    if let FixStep::Evict {
        copies: Some(master),
        ..
    } = step
    {
        let known = topology.members.get(&master);
        let answers = known.is_some_and(|master| !master.peer_status.silent);
        return (!answers).then(|| {
            whole(Why::LastCopy {
                replica: node,
                master,
            })
        });
    }
    // Slots that it imports may be migrating from a master that stays.
    let open = member.open.iter().map(|open| open.slot).collect();
    let served = member.slots.union(&open);
    let held = match request.holdings.has(node) {
        true => request.holdings.slots(node).intersection(&served),
        false => served,
    };
    let kept = held.difference(&request.consent.accept_loss);
    (!kept.is_empty()).then_some(FixRefusal {
        why: Why::LeavesWithKeys { node },
        slots: kept,
    })
}
