//! What is done, and what is not and why, in words.

use super::look::Ward;
use crate::cluster::health::{Code, Finding, Severity};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::plan::fix::{FixPlan, Mend, Refusal, Remedy, Stray, Why};
use crate::ui::{MendLine, MendView};

/// Which cluster it is about.
pub(super) fn about(ward: &Ward) -> String {
    format!(
        "The cluster of {} nodes that {} belongs to.",
        ward.diagnosis().topology.members.len(),
        ward.name(ward.diagnosis().observation.lead)
    )
}

/// The command that goes on.
pub(super) fn again(ward: &Ward) -> String {
    format!("To go on: redis-trib fix {}", ward.cluster.seed())
}

/// The plan as it is shown.
pub(super) fn view(ward: &Ward, plan: &FixPlan) -> MendView {
    let mut refused: Vec<MendLine> = plan.refusals.iter().map(|one| refusal(ward, one)).collect();
    refused.extend(others(ward, plan));
    MendView {
        remedies: plan
            .remedies
            .iter()
            .map(|remedy| line(ward, remedy))
            .collect(),
        refused,
        strays: plan.strays.iter().map(|one| stray(ward, one)).collect(),
    }
}

/// What is refused, as sentences.
pub(super) fn left(ward: &Ward, plan: &FixPlan) -> Vec<String> {
    view(ward, plan)
        .refused
        .into_iter()
        .map(|line| line.sentence())
        .collect()
}

/// A remedy in a few words, for errors.
pub(super) fn doing(ward: &Ward, remedy: &Remedy) -> String {
    line(ward, remedy).sentence()
}

/// `slots 5-8: …`
pub(super) fn about_slots(slots: &SlotSet, text: &str) -> String {
    let line = MendLine {
        word: "",
        slots: slots.clone(),
        nodes: Vec::new(),
        keys: 0,
        text: text.to_string(),
    };
    line.sentence()
}

fn keys(count: u64) -> String {
    match count {
        0 => "no key".to_string(),
        1 => "1 key".to_string(),
        many => format!("{many} keys"),
    }
}

/// A remedy as it is shown.
pub(super) fn line(ward: &Ward, remedy: &Remedy) -> MendLine {
    let name = |id: NodeId| ward.name(id);
    let held = keys(remedy.keys);
    let text = match remedy.mend {
        Mend::Fence { loser, winner } => format!(
            "{} gives up its claim, and keeps its keys ({held}) until they are brought to {}",
            name(loser),
            name(winner)
        ),
        Mend::Guard { node, owner } => format!(
            "{} marks {held} as being on the way to {}",
            name(node),
            name(owner)
        ),
        Mend::Reveal { node, .. } => format!(
            "{} is made to tell what it holds of slots that are not its own",
            name(node)
        ),
        Mend::Claim { node } => format!("{} owns them, with {held}, and all are told", name(node)),
        Mend::Assign { node } => format!("{} takes them: nobody has a key of them", name(node)),
        Mend::Bump { node } => format!(
            "{} owns them, and repeats that with a new epoch, so that all hear it",
            name(node)
        ),
        Mend::Tell { node, owner } => {
            format!("{} is told that {} owns them", name(node), name(owner))
        }
        Mend::Close { node } => format!("closed on {}: nothing is on its way there", name(node)),
        Mend::Refresh { node } => format!(
            "replicas of {} hear again that nothing is on its way",
            name(node)
        ),
        Mend::Finish { from, to } => format!(
            "the move from {} to {} is finished: {held} left to move",
            name(from),
            name(to)
        ),
        Mend::Gather { from, to } => format!(
            "{held} on {}, which does not own them, brought to {}, which does",
            name(from),
            name(to)
        ),
        Mend::Purge { from, to } => format!(
            "{held} on {}, which does not own them: deleted where {} has the same",
            name(from),
            name(to)
        ),
    };
    MendLine {
        word: remedy.mend.word(),
        slots: remedy.slots.clone(),
        nodes: remedy.mend.nodes(),
        keys: remedy.keys,
        text,
    }
}

fn refusal(ward: &Ward, refusal: &Refusal) -> MendLine {
    let (nodes, text) = why(ward, refusal);
    MendLine {
        word: refusal.why.word(),
        slots: refusal.slots.clone(),
        nodes,
        keys: 0,
        text,
    }
}

/// Why, and what a person can do.
fn why(ward: &Ward, refusal: &Refusal) -> (Vec<NodeId>, String) {
    let name = |id: NodeId| ward.name(id);
    let slots = &refusal.slots;
    match refusal.why {
        Why::OwnerAway(owner) => (vec![owner], owner_away(ward, owner, slots)),
        Why::HolderAway(away) => (
            vec![away],
            format!(
                "nobody owns them, and {} can't be asked for their keys: bring it back, or forget it; \
                 or give up what it may hold: --accept-data-loss {slots}",
                name(away)
            ),
        ),
        Why::NobodyHolds => (
            Vec::new(),
            format!(
                "nobody owns them, and nobody has a key of them: --assign-uncovered {slots} gives \
                 them to masters"
            ),
        ),
        Why::TargetAway { owner, target } => (
            vec![owner, target],
            format!(
                "on their way from {} to {}, which can't be asked and may have some of their keys: \
                 bring it back; or give up what it may hold: --accept-data-loss {slots}",
                name(owner),
                name(target)
            ),
        ),
        Why::HeldByOrphan(replica) => (
            vec![replica],
            format!(
                "nobody owns them, and {}, a replica whose master nobody knows, has keys of them: \
                 read them from it first; or give them up: --accept-data-loss {slots}",
                name(replica)
            ),
        ),
        Why::NoHelp(mend) => (
            mend.nodes(),
            match mend {
                Mend::Bump { node } => format!(
                    "{} has told everybody that it owns them, and some don't hear it: look at the bus \
                     ports and the links between them",
                    name(node)
                ),
                _ => format!(
                    "{} was tried, and made no difference: look at the log of {}",
                    mend.word(),
                    mend.nodes()
                        .first()
                        .map_or_else(String::new, |id| name(*id))
                ),
            },
        ),
    }
}

fn owner_away(ward: &Ward, owner: NodeId, slots: &SlotSet) -> String {
    let name = ward.name(owner);
    let diagnosis = ward.diagnosis();
    let node = diagnosis.observation.nodes.get(&owner);
    if node.is_some_and(|node| node.report().is_some()) {
        return format!(
            "{name} owns them and answers us, but the others hold it for dead: look at its bus port \
             and its links"
        );
    }
    let mut replicas = diagnosis
        .topology
        .replicas_of(owner)
        .filter(|r| !r.standing.silent);
    match replicas.next() {
        Some(replica) => {
            let replica = ward.name(replica.id);
            format!(
                "{name} owns them and can't be asked: bring it back, or let its replica {replica} take \
                 over"
            )
        }
        None => format!(
            "{name} owns them and can't be asked, and no replica of it answers: bring it back; or give \
             its keys up, however many they were: --accept-data-loss {slots}"
        ),
    }
}

fn stray(ward: &Ward, stray: &Stray) -> MendLine {
    MendLine {
        word: "stray-keys",
        slots: stray.slots.clone(),
        nodes: vec![stray.node, stray.owner],
        keys: stray.keys,
        text: format!(
            "{} on {}, which does not own them ({} does): --purge-strays deletes those that the owner \
             has too, --collect-strays brings it what it lacks",
            keys(stray.keys),
            ward.name(stray.node),
            ward.name(stray.owner)
        ),
    }
}

/// Errors of `check` that are about no slot of the plan: what they say is what there is to say.
fn others(ward: &Ward, plan: &FixPlan) -> Vec<MendLine> {
    let about_slots = |code: Code| {
        matches!(
            code,
            Code::SlotsUncovered
                | Code::SlotsContested
                | Code::SlotsOpen
                | Code::ViewsDiffer
                | Code::StateNotOk
        )
    };
    let told: Vec<NodeId> = plan
        .refusals
        .iter()
        .flat_map(|refusal| why(ward, refusal).0)
        .collect();
    let findings = ward.diagnosis().findings.iter();
    findings
        .filter(|finding| finding.severity() == Severity::Error && !about_slots(finding.code))
        .filter(|finding| {
            !finding.nodes.iter().all(|id| told.contains(id)) || finding.nodes.is_empty()
        })
        .map(of_finding)
        .collect()
}

fn of_finding(finding: &Finding) -> MendLine {
    let remedy = match &finding.remedy {
        Some(remedy) => format!(": {remedy}"),
        None => String::new(),
    };
    MendLine {
        word: finding.code.word(),
        slots: finding.slots.clone(),
        nodes: finding.nodes.clone(),
        keys: 0,
        text: format!("{}{remedy}", finding.message),
    }
}
