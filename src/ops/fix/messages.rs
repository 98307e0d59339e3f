//! Remedies and refusals in words.

use super::state::FixState;
use super::{ConflictWinner, FixContext, advice};
use crate::cluster::copies::ShardCopies;
use crate::cluster::health::Code;
use crate::cluster::merger;
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::numbers::counted;
use crate::cluster::observation::Seen;
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;
use crate::cluster::write_refusal::WriteRefusal;
use crate::event::Pair;
use crate::ops::failover;
use crate::ops::move_slots::unreadable;
use crate::plan::fix::{Consent, FixPlan, FixRefusal, FixStep, PlannedStep, Stray, Strays, Why};
use crate::report::{FixLine, FixView, command_line};
use crate::stop::CommandLine;

/// The cluster, for the question of consent.
pub(super) fn about(state: &FixState) -> String {
    format!(
        "The cluster of {} nodes that {} belongs to.",
        state.diagnosis().topology.members.len(),
        state.name(state.diagnosis().observation.lead)
    )
}

/// The command that resumes, with everything that was given up by name.
pub(super) fn resume(context: FixContext<'_>, state: &FixState) -> CommandLine {
    let mut line = vec!["redis-trib".into(), "fix".into(), state.cluster.seed()];
    let Consent {
        assign,
        accept_loss,
        strays,
        failover,
        accept_data_loss_of,
        evict,
    } = &context.options.consent;
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_string()));
    if !assign.is_empty() {
        add(&["--assign-uncovered", &assign.to_string()]);
    }
    if !accept_loss.is_empty() {
        add(&["--accept-data-loss", &accept_loss.to_string()]);
    }
    match strays {
        Strays::Leave => {}
        Strays::Purge => add(&["--purge-strays"]),
        Strays::Collect => add(&["--collect-strays"]),
    }
    match failover {
        None | Some(Takeover::Planned) => {}
        Some(Takeover::Force) => add(&["--failover", "force"]),
        Some(Takeover::Takeover) => add(&["--failover", "takeover"]),
    }
    if !accept_data_loss_of.is_empty() {
        let ids: Vec<String> = accept_data_loss_of
            .iter()
            .map(ToString::to_string)
            .collect();
        add(&["--accept-data-loss-of", &ids.join(",")]);
    }
    match context.options.on_conflict {
        ConflictWinner::Abort => {}
        ConflictWinner::Owner => add(&["--on-stray-conflict", "owner"]),
        ConflictWinner::Other => add(&["--on-stray-conflict", "other"]),
    }
    if !evict.is_empty() {
        let ids: Vec<String> = evict.iter().map(ToString::to_string).collect();
        add(&["--evict-foreign", &ids.join(",")]);
    }
    line.extend(state.cluster.resume_options());
    line
}

/// The plan as it is shown.
pub(super) fn view(state: &FixState, plan: &FixPlan) -> FixView {
    let mut refused: Vec<FixLine> = plan
        .refusals
        .iter()
        .map(|one| refusal(state, plan, one))
        .collect();
    refused.extend(advice::errors(state, plan, &refused));
    FixView {
        warnings: advice::warnings(state, plan),
        remedies: plan
            .remedies
            .iter()
            .map(|remedy| line(state, remedy))
            .collect(),
        refused,
        strays: strays(state, plan),
    }
}

/// The refusals, as sentences.
pub(super) fn left(state: &FixState, plan: &FixPlan) -> Vec<String> {
    view(state, plan)
        .refused
        .into_iter()
        .map(|line| line.sentence())
        .collect()
}

/// A remedy as a sentence, for errors.
pub(super) fn doing(state: &FixState, remedy: &PlannedStep) -> String {
    line(state, remedy).sentence()
}

/// `slots 5-8: …`
pub(super) fn about_slots(slots: &SlotSet, text: &str) -> String {
    let line = FixLine {
        word: "",
        slots: slots.clone(),
        nodes: Vec::new(),
        keys: 0,
        text: text.to_string(),
        copies: Vec::new(),
    };
    line.sentence()
}

fn keys(count: u64) -> String {
    match count {
        0 => "no key".to_string(),
        many => counted(many, "key"),
    }
}

/// A remedy as it is shown.
pub(super) fn line(state: &FixState, remedy: &PlannedStep) -> FixLine {
    let name = |id: NodeId| state.name(id);
    let held = keys(remedy.keys);
    let text = match remedy.step {
        FixStep::Evict { node, copies } => evicted(state, remedy, node, copies),
        FixStep::Fence { loser, winner } => format!(
            "{} gives up its claim, and keeps its keys ({held}) until they are moved to {}",
            name(loser),
            name(winner)
        ),
        FixStep::Guard { node, owner } => format!(
            "{} imports them from {}, which owns them",
            name(node),
            name(owner)
        ),
        FixStep::Reveal { node, .. } => format!(
            "{} counts its keys in slots that it does not own",
            name(node)
        ),
        FixStep::Claim { node } => {
            format!("{} claims them, with {held}", name(node))
        }
        FixStep::Assign { node } => assigned(state, remedy, node),
        FixStep::Bump { node } if remedy.slots.is_empty() => format!(
            "{} takes a new config epoch: another master has the same",
            name(node)
        ),
        FixStep::Bump { node } => format!(
            "{} owns them, and takes a new config epoch, so that all nodes accept its claim",
            name(node)
        ),
        FixStep::Tell { node, owner } => {
            format!("{} is told that {} owns them", name(node), name(owner))
        }
        FixStep::Close { node } => {
            let left = state.holdings.keys_in(node, &remedy.slots);
            match left {
                0 => format!("closed on {}: no key is left to move", name(node)),
                _ => format!("closed on {}, which keeps its {}", name(node), keys(left)),
            }
        }
        FixStep::Refresh { node } => format!(
            "replicas of {} are told again that the slots are closed",
            name(node)
        ),
        FixStep::TakeOver { replica, master } => taken_over(state, replica, master),
        FixStep::Follow { replica, master } => format!(
            "{} becomes a replica of {}, instead of a node that is not a master",
            name(replica),
            name(master)
        ),
        FixStep::Forget { node } => format!(
            "{} is forgotten: no node reaches it, and it has neither slots nor replicas",
            name(node)
        ),
        FixStep::Finish { from, to } => format!(
            "the move from {} to {} is finished: {held} left to move",
            name(from),
            name(to)
        ),
        FixStep::Gather { from, to } => format!(
            "{held} on {}, which does not own them, moved to {}, which does",
            name(from),
            name(to)
        ),
        FixStep::Purge { from, to } => format!(
            "{held} on {}, which does not own them: deleted if {} has the same value",
            name(from),
            name(to)
        ),
    };
    FixLine {
        word: remedy.step.word(),
        slots: remedy.slots.clone(),
        nodes: remedy.step.nodes(),
        keys: remedy.keys,
        text,
        copies: match remedy.step {
            FixStep::TakeOver { master, .. } => failover::copies(&state.cluster, master),
            _ => Vec::new(),
        },
    }
}

/// Which replica takes over, which copies there are, and which nodes will be unable to follow it.
fn taken_over(state: &FixState, replica: NodeId, master: NodeId) -> String {
    let copies: Vec<String> = failover::copies(&state.cluster, master)
        .iter()
        .map(ToString::to_string)
        .collect();
    let too_old = failover::too_old(&state.cluster, master, replica);
    let too_old: String = too_old.iter().map(|one| format!("; {one}")).collect();
    format!(
        "failover to {}, a replica of {}, which does not answer: writes that it did not replicate are lost (copies \
         that answer: {}){too_old}",
        state.name(replica),
        state.name(master),
        copies.join("; ")
    )
}

/// A step that moves keys, for the slots that were completed.
pub(super) fn moved(state: &FixState, step: FixStep, slots: &SlotSet) -> FixLine {
    let remedy = |keys| PlannedStep {
        step,
        slots: slots.clone(),
        keys,
    };
    let from = match step {
        FixStep::Finish { from, .. }
        | FixStep::Gather { from, .. }
        | FixStep::Purge { from, .. } => from,
        _ => return line(state, &remedy(0)),
    };
    let count = state.holdings.keys_in(from, slots);
    let mut line = line(state, &remedy(count));
    if let FixStep::Finish { from, to } = step {
        line.text = format!(
            "moved from {} to {}, with {}",
            state.name(from),
            state.name(to),
            keys(count)
        );
    }
    line
}

/// Which node takes slots without an owner, and what is given up.
fn assigned(state: &FixState, remedy: &PlannedStep, node: NodeId) -> String {
    let name = state.name(node);
    let topology = &state.diagnosis().topology;
    let lost: Vec<String> = topology
        .masters()
        .filter(|master| master.peer_status.silent || master.peer_status.is_lost())
        .filter_map(|master| {
            let slots = master.slots.intersection(&remedy.slots);
            let name = state.name(master.id);
            (!slots.is_empty()).then(|| format!("{name} of slots {slots}"))
        })
        .collect();
    match lost.is_empty() {
        true => format!("{name} takes them: no node that answers has a key in them"),
        false => format!(
            "{name} takes them; what these nodes have in them is lost ({}; the number of keys is not known)",
            lost.join("; ")
        ),
    }
}

/// How a member of another cluster leaves.
fn evicted(state: &FixState, remedy: &PlannedStep, node: NodeId, copies: Option<NodeId>) -> String {
    let name = state.name(node);
    let member = state.diagnosis().topology.members.get(&node);
    if member.is_some_and(|member| member.peer_status.silent) {
        return format!(
            "{name} is forgotten; it does not answer and can't be told to forget the others, so if it comes back, \
             run this again"
        );
    }
    if let Some(master) = copies {
        return format!(
            "{name} leaves without keys: it deleted its own when it became a replica of {}",
            state.name(master)
        );
    }
    let held = state.holdings.keys_in(node, &SlotSet::full()) + state.holdings.hidden(node);
    let held = keys(held);
    match remedy.slots.is_empty() {
        true => format!("{name} leaves, and keeps its data: {held}"),
        false => {
            format!("{name} leaves with them and with {held}; afterwards they have no owner here")
        }
    }
}

fn refusal(state: &FixState, plan: &FixPlan, refusal: &FixRefusal) -> FixLine {
    let (nodes, text) = why(state, plan, refusal);
    FixLine {
        word: refusal.why.word(),
        slots: refusal.slots.clone(),
        nodes,
        keys: 0,
        text,
        copies: match refusal.why {
            Why::FailoverRefused(owner) => failover::copies(&state.cluster, owner),
            _ => Vec::new(),
        },
    }
}

/// Why, and what the user can do.
fn why(state: &FixState, plan: &FixPlan, refusal: &FixRefusal) -> (Vec<NodeId>, String) {
    let name = |id: NodeId| state.name(id);
    let slots = &refusal.slots;
    match refusal.why {
        Why::OwnerAway(owner) => (vec![owner], owner_away(state, owner, slots)),
        Why::FailoverRefused(owner) => (
            vec![owner],
            match plan.refused_failovers.get(&owner) {
                Some(refusal) => format!(
                    "{} (the options are those of redis-trib failover {} --of {})",
                    failover::explain(&state.cluster, refusal),
                    state.cluster.resume_seed(),
                    owner.short()
                ),
                None => owner_away(state, owner, slots),
            },
        ),
        Why::HolderAway(away) => (
            vec![away],
            format!(
                "they have no owner, and {} can't be asked for their keys: start it again, or remove it; \
                 or give up the keys that it may have: --accept-data-loss {slots}",
                name(away)
            ),
        ),
        Why::NobodyHolds => (
            Vec::new(),
            format!(
                "they have no owner, and no node has a key in them: --assign-uncovered {slots} assigns them \
                 to masters"
            ),
        ),
        Why::TargetAway { owner, target } => (
            vec![owner, target],
            format!(
                "open from {} to {}, which can't be asked and may have some of their keys: \
                 start it again; or give up the keys that it may have: --accept-data-loss {slots}",
                name(owner),
                name(target)
            ),
        ),
        Why::NoPassage { owner, target } => (vec![owner, target], no_passage(state, owner, target)),
        Why::HeldByOrphan(replica) => (
            vec![replica],
            format!(
                "they have no owner, and {}, a replica whose master is unknown, has keys in them: \
                 read them from it first; or give them up: --accept-data-loss {slots}",
                name(replica)
            ),
        ),
        Why::Strangers { door } => intruders(state, door),
        Why::LeavesWithKeys { node } => (
            vec![node],
            format!(
                "{} owns them, and keeps its keys in them ({}): if these belong to this cluster, move \
                 the slots first (redis-trib reshard {} --from {node}); if not: --accept-data-loss {slots}",
                name(node),
                match state.holdings.has(node) {
                    true => keys(state.holdings.keys_in(node, slots)),
                    false => "it does not report how many".to_string(),
                },
                state.cluster.resume_seed()
            ),
        ),
        Why::FollowedBy { node, follower } => (
            vec![node, follower],
            format!(
                "{} can't leave without its replica {}: name the replica too, or make it a replica of another \
                 master first (CLUSTER REPLICATE)",
                name(node),
                name(follower)
            ),
        ),
        Why::LastCopy { replica, master } => (
            vec![replica, master],
            format!(
                "{} can't leave while its master {} does not answer: it may have the last copy of the data",
                name(replica),
                name(master)
            ),
        ),
        Why::NoHelp(step) => (
            step.nodes(),
            match step {
                FixStep::Bump { node } if slots.is_empty() => format!(
                    "{} shares its config epoch with another master still: the servers resolve that as soon as \
                     the two are linked, so check the bus ports and the links between them",
                    name(node)
                ),
                FixStep::Bump { node } => format!(
                    "{} has announced its claim, and not all nodes have heard it: check the bus ports and the \
                     links between the nodes",
                    name(node)
                ),
                FixStep::TakeOver { replica, master } => format!(
                    "{} does not answer, and its replica {} did not take over: check the log of {}; --failover takeover \
                     needs no votes. To give its copy up, stop it, and pass --accept-data-loss {slots}",
                    name(master),
                    name(replica),
                    name(replica)
                ),
                _ => format!(
                    "{} was tried, and did not help: check the log of {}",
                    step.word(),
                    step.nodes()
                        .first()
                        .map_or_else(String::new, |id| name(*id))
                ),
            },
        ),
    }
}

/// Why keys that are on the target of a move can neither be joined by the others there nor come back.
fn no_passage(state: &FixState, owner: NodeId, target: NodeId) -> String {
    let refuses = |id: NodeId| {
        let refusal = state.refusals.get(&id)?;
        let (name, way_out) = (state.name(id), refusal.way_out());
        Some(format!("{name} refuses writes: {refusal}; {way_out}"))
    };
    let pair = |from, to| unreadable(&state.cluster, Pair { from, to });
    let causes = [
        refuses(owner),
        refuses(target),
        pair(owner, target),
        pair(target, owner),
    ];
    let causes: Vec<String> = causes.into_iter().flatten().collect();
    let has_replica = state.diagnosis().topology.replicas_of(target).next();
    let failover = match (state.refusals.get(&target), has_replica) {
        (Some(WriteRefusal::SaveFailed | WriteRefusal::AppendFailed), Some(_)) => format!(
            " (redis-trib failover {} --of {target})",
            state.cluster.resume_seed()
        ),
        _ => String::new(),
    };
    format!(
        "some of their keys are on {} already, and can move neither there nor back: {}{failover}. They stay open until \
         then, and clients find every key",
        state.name(target),
        causes.join("; ")
    )
}

/// The nodes that seem to belong to another cluster, and the choices of the user.
fn intruders(state: &FixState, door: NodeId) -> (Vec<NodeId>, String) {
    let intruders = merger::intruders(&state.diagnosis().observation).remove(&door);
    let intruders: Vec<NodeId> = intruders.into_iter().flatten().collect();
    let names: Vec<String> = intruders.iter().map(|id| state.name(*id)).collect();
    let ids: Vec<String> = intruders.iter().map(|id| id.short()).collect();
    let text = format!(
        "{} seem to belong to another cluster, and nothing is fixed before that is decided: if they do, remove \
         them with --evict-foreign {}; if not, remove the node through whose address they seem to have \
         joined: redis-trib del-node {} {door}",
        names.join(", "),
        ids.join(","),
        state.cluster.resume_seed()
    );
    (intruders, text)
}

fn owner_away(state: &FixState, owner: NodeId, slots: &SlotSet) -> String {
    let name = state.name(owner);
    let diagnosis = state.diagnosis();
    let node = diagnosis.observation.nodes.get(&owner);
    if node.is_some_and(|node| node.report().is_some()) {
        return format!(
            "{name} owns them and answers, but the other nodes flag it as failed: if it has just been started, \
             wait (redis-trib check {} --wait 60s); if not, check its bus port and its links{}",
            state.cluster.resume_seed(),
            rival(state, owner, slots).unwrap_or_default()
        );
    }
    let unreached = diagnosis
        .findings
        .iter()
        .find(|finding| finding.code == Code::AddressUnreachable && finding.nodes.contains(&owner));
    if let Some(finding) = unreached {
        let options = state.cluster.remedy_options();
        let remedy = finding.remedy.as_ref();
        let remedy = remedy.map(|remedy| command_line(remedy, &options));
        let remedy = remedy.as_deref().unwrap_or("--address-map");
        return format!(
            "{name} owns them; the other nodes reach it, but redis-trib does not: map its address ({remedy})"
        );
    }
    if let Some(Seen::Refused(refusal)) = node.map(|node| &node.seen) {
        return format!("{name} owns them and {refusal}");
    }
    let copies = ShardCopies::of(&diagnosis.observation, &diagnosis.topology, owner);
    let replicas = diagnosis.topology.replicas_of(owner);
    let answering: Vec<NodeId> = replicas
        .filter(|replica| !replica.peer_status.silent)
        .map(|replica| replica.id)
        .collect();
    let safe = answering.iter().copied();
    let safe = copies.best(safe.filter(|id| copies.danger(*id).is_none()));
    if safe.is_none() && copies.has_loading_replica() {
        return format!(
            "{name} owns them and can't be asked, and a replica of it is loading its data set from disk: wait until \
             it has (redis-trib check {} --wait 60s), and run this again; to give up its copy, stop it",
            state.cluster.resume_seed()
        );
    }
    match safe.or_else(|| copies.best_of_all(answering)) {
        Some(replica) => {
            let node = diagnosis.observation.nodes.get(&replica);
            let databases = node.and_then(|node| Some(&node.report()?.info.keys));
            let count = databases.map_or(0, |all| all.iter().map(|(_, keys)| keys).sum());
            format!(
                "{name} owns them and can't be asked: start it again, or fail over to its replica {}, \
                 which has {}: --failover force, or --failover takeover if too few masters are left \
                 to vote",
                state.name(replica),
                keys(count)
            )
        }
        None => format!(
            "{name} owns them and can't be asked, and no replica of it answers: start it again; or give \
             up its keys, whose number is not known: --accept-data-loss {slots}"
        ),
    }
}

fn strays(state: &FixState, plan: &FixPlan) -> Vec<FixLine> {
    let told = plan.strays.iter().map(|one| stray(state, one));
    let hidden = plan.hidden.iter().map(|(node, count)| FixLine {
        word: "hidden-keys",
        slots: SlotSet::new(),
        nodes: vec![*node],
        keys: *count,
        copies: Vec::new(),
        text: format!(
            "{} has about {} in slots that it does not own, and does not list them: --collect-strays finds them \
             and moves them to the owners, --purge-strays deletes those that the owner has too",
            state.name(*node),
            keys(*count)
        ),
    });
    told.chain(hidden).collect()
}

/// The other node that claims slots of an owner that is flagged as failed, and which of the two will lose its keys.
fn rival(state: &FixState, owner: NodeId, slots: &SlotSet) -> Option<String> {
    let topology = &state.diagnosis().topology;
    let member = topology.members.get(&owner)?;
    let claims = |other: &&Member| !other.slots.intersection(slots).is_empty();
    let mut others = topology.masters().filter(|other| other.id != owner);
    let other = others.find(claims)?;
    let loser = match member.epoch < other.epoch {
        true => member,
        false => other,
    };
    let contested = member.slots.intersection(&other.slots).intersection(slots);
    Some(format!(
        ". {} claims slots {contested} too: as soon as the two are linked, {}, which has the older config epoch, \
         deletes its keys in them ({}): save these first",
        state.name(other.id),
        state.name(loser.id),
        match state.holdings.has(loser.id) {
            true => keys(state.holdings.keys_in(loser.id, &contested)),
            false => "their number is not known".to_string(),
        }
    ))
}

fn stray(state: &FixState, stray: &Stray) -> FixLine {
    FixLine {
        word: "stray-keys",
        slots: stray.slots.clone(),
        nodes: vec![stray.node, stray.owner],
        keys: stray.keys,
        copies: Vec::new(),
        text: format!(
            "{} on {}, which does not own them ({} does): --purge-strays deletes those that the owner \
             has too, --collect-strays moves those that it lacks",
            keys(stray.keys),
            state.name(stray.node),
            state.name(stray.owner)
        ),
    }
}
