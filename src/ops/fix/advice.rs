//! Findings of `check` that `fix` does not mend: what a person can do about each.

use super::state::FixState;
use crate::cluster::health::{Code, Finding, Severity};
use crate::cluster::node::NodeId;
use crate::plan::fix::{FixPlan, FixStep};
use crate::ui::FixLine;

/// Errors that the plan neither mends nor refuses.
pub(super) fn errors(state: &FixState, plan: &FixPlan, refused: &[FixLine]) -> Vec<FixLine> {
    let told: Vec<NodeId> = refused.iter().flat_map(|line| line.nodes.clone()).collect();
    let told = [told, mended(plan)].concat();
    of(state, plan, Severity::Error, &told)
}

/// The same of warnings: they are nothing that is broken.
pub(super) fn warnings(state: &FixState, plan: &FixPlan) -> Vec<FixLine> {
    of(state, plan, Severity::Warning, &mended(plan))
}

/// Nodes that are about to be put right, not slots of theirs.
fn mended(plan: &FixPlan) -> Vec<NodeId> {
    let changed = plan.remedies.iter().filter_map(|one| match one.step {
        FixStep::Evict { node, .. }
        | FixStep::Follow { replica: node, .. }
        | FixStep::Forget { node }
        | FixStep::Bump { node } => Some(node),
        _ => None,
    });
    changed.collect()
}

fn of(state: &FixState, plan: &FixPlan, severity: Severity, told: &[NodeId]) -> Vec<FixLine> {
    let findings = state.diagnosis().findings.iter();
    findings
        .filter(|finding| finding.severity() == severity)
        // What it has to say of slots is said; where it says nothing at all, somebody has to.
        .filter(|finding| plan.is_empty() || !is_about_slots(finding.code))
        .filter(|finding| {
            let mut nodes = finding.nodes.iter();
            match finding.code {
                // Named with the one that is put right.
                Code::ReplicaOfReplica | Code::EpochCollision => !nodes.any(|id| told.contains(id)),
                _ => finding.nodes.is_empty() || !nodes.all(|id| told.contains(id)),
            }
        })
        .map(|finding| line(state, finding))
        .collect()
}

fn is_about_slots(code: Code) -> bool {
    matches!(
        code,
        Code::SlotsUncovered
            | Code::SlotsContested
            | Code::SlotsOpen
            | Code::ViewsDiffer
            | Code::StateNotOk
    )
}

fn line(state: &FixState, finding: &Finding) -> FixLine {
    let seed = state.cluster.resume_seed();
    let way_out = match &finding.remedy {
        // Those that name `fix` are for who has not come here yet.
        Some(remedy) if !remedy.starts_with("redis-trib fix") || remedy.contains(" --") => {
            remedy.clone()
        }
        _ => way_out(finding, &seed),
    };
    FixLine {
        word: finding.code.word(),
        slots: finding.slots.clone(),
        nodes: finding.nodes.clone(),
        keys: 0,
        text: format!("{}: {way_out}", finding.message),
    }
}

/// What helps where the finding itself names no command.
fn way_out(finding: &Finding, seed: &str) -> String {
    let code = finding.code;
    // Where there are several, the command is one for each; who stands at a member's address comes second.
    let id = match finding.nodes[..] {
        [only] => only.to_string(),
        [member, _] if code == Code::NodeForeign => member.to_string(),
        _ => "ID".to_string(),
    };
    let wait = || format!("wait for it: redis-trib check {seed} --wait 60s");
    match code {
        Code::SlotsUncovered
        | Code::SlotsContested
        | Code::SlotsOpen
        | Code::ViewsDiffer
        | Code::StateNotOk
        | Code::NodeLoading
        | Code::EpochCollision
        | Code::ReplicaSyncing => wait(),
        Code::NodeFailed | Code::NodeUnreachable => {
            "bring it back, or let a replica of it take over: --failover force".to_string()
        }
        Code::SlotlessFailed | Code::SlotlessUnreachable | Code::NodeNoAddress => {
            format!("bring it back, or take it out: redis-trib del-node {seed} {id}")
        }
        Code::NodeFailing | Code::NodeHandshake => {
            "look at the bus ports, and at the links between the nodes".to_string()
        }
        Code::AddressUnreachable => "tell how it is reached: --address-map PEER=ADDRESS".to_string(),
        Code::NodeForeign => format!(
            "bring the member back at another address and let it meet the others (redis-trib fix \
             --rejoin), or take it out: redis-trib del-node {seed} {id}"
        ),
        Code::NodeForgotten => format!(
            "let them meet again (redis-trib fix --rejoin, with all nodes), or take it out: redis-trib \
             del-node {seed} {id}"
        ),
        Code::SeedNotMember => {
            "take it in (redis-trib add-node), or name a node of the cluster".to_string()
        }
        Code::ProbeFailed => "look at its log".to_string(),
        Code::ReplicaLinkDown => {
            "look at its log and at its master's: a wrong masterauth, a full disk, an output buffer \
             limit"
                .to_string()
        }
        Code::ReplicaOrphan => "it may have the last copy of its keys: read them from it first, then let \
             it follow a master (CLUSTER REPLICATE)"
            .to_string(),
        Code::ReplicaOfReplica => {
            "let it follow a master once one answers: CLUSTER REPLICATE".to_string()
        }
        Code::MasterAlone => {
            format!("give it a replica: redis-trib add-node --replica NEW {seed}")
        }
        Code::ReplicasUneven => {
            "let some follow another master: CLUSTER REPLICATE".to_string()
        }
        Code::OneHost
        | Code::ReplicaSameHost
        | Code::ReplicaSameZone
        | Code::HostQuorum
        | Code::ZoneQuorum => {
            format!("put nodes elsewhere in their place: redis-trib replace-node {seed} {id} NEW")
        }
        Code::SlotsInJob => {
            "nothing is lost by it, and slots that did not move can be moved again: redis-trib reshard"
                .to_string()
        }
        Code::VersionsMixed => {
            format!("restart the older ones, one by one: redis-trib ok-to-stop {seed} {id}")
        }
        Code::RestartsEmpty => {
            "switch persistence on (save, appendonly), or don't let them be restarted".to_string()
        }
    }
}
