//! Findings of `check` that `fix` does not repair, and what the user can do about each.

use super::state::FixState;
use crate::cluster::health::{Code, Finding, Remedy, Severity};
use crate::cluster::node::NodeId;
use crate::plan::fix::{FixPlan, FixStep};
use crate::report::{FixLine, command_line};

/// Errors for which the plan has neither a remedy nor a refusal.
pub(super) fn errors(state: &FixState, plan: &FixPlan, refused: &[FixLine]) -> Vec<FixLine> {
    let told: Vec<NodeId> = refused.iter().flat_map(|line| line.nodes.clone()).collect();
    let told = [told, fixed(plan)].concat();
    of(state, plan, Severity::Error, &told)
}

/// The same for warnings, which are not faults.
pub(super) fn warnings(state: &FixState, plan: &FixPlan) -> Vec<FixLine> {
    of(state, plan, Severity::Warning, &fixed(plan))
}

/// Nodes for which the plan has a remedy that is not about slots.
fn fixed(plan: &FixPlan) -> Vec<NodeId> {
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
        // The plan covers slots, unless it is empty.
        .filter(|finding| plan.is_empty() || !is_about_slots(finding.code))
        .filter(|finding| {
            let mut nodes = finding.nodes.iter();
            match finding.code {
                // Its nodes include the one with the remedy.
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
        // `fix` itself is running.
        None | Some(Remedy::Fix { .. }) => way_out(finding, &seed),
        Some(remedy) => command_line(remedy, &state.cluster.remedy_options()),
    };
    FixLine {
        word: finding.code.word(),
        slots: finding.slots.clone(),
        nodes: finding.nodes.clone(),
        keys: 0,
        text: format!("{}: {way_out}", finding.message),
        copies: Vec::new(),
    }
}

/// The remedy of a finding that names no command.
fn way_out(finding: &Finding, seed: &str) -> String {
    let code = finding.code;
    // Several nodes need a command each. For a foreign node, the node that answers at the member's address is second.
    let id = match finding.nodes[..] {
        [only] => only.to_string(),
        [member, _] if code == Code::NodeForeign => member.to_string(),
        _ => "ID".to_string(),
    };
    // `del-node` takes several.
    let ids: Vec<String> = finding.nodes.iter().map(NodeId::to_string).collect();
    let ids = ids.join(" ");
    let wait = || format!("wait for it: redis-trib check {seed} --wait 60s");
    match code {
        Code::SlotsUncovered
        | Code::SlotsContested
        | Code::SlotsOpen
        | Code::ViewsDiffer
        | Code::StateNotOk
        | Code::NodeLoading
        | Code::SlotlessLoading
        | Code::EpochCollision
        | Code::ReplicaSyncing => wait(),
        Code::NodeFailed | Code::NodeUnreachable => {
            "start it again, or fail over to a replica of it: --failover force".to_string()
        }
        Code::SlotlessFailed | Code::SlotlessUnreachable | Code::NodeNoAddress => {
            format!("start it again, or remove it: redis-trib del-node {seed} {ids}")
        }
        Code::NodeFailing | Code::NodeHandshake => {
            "check the bus ports and the links between the nodes".to_string()
        }
        Code::NodeBusy => wait(),
        // The messages name what helps.
        Code::NodeClientLimit
        | Code::NodeLogin
        | Code::NodePermission
        | Code::NodeProtected
        | Code::NodeError
        | Code::WritesRefused
        | Code::BusUnauthenticated
        | Code::ReplicaStale => format!("then run it again: redis-trib fix {seed}"),
        Code::AddressUnreachable => "map its address: --address-map PEER=ADDRESS".to_string(),
        Code::NodeForeign => format!(
            "start the member at another address and let it meet the others (redis-trib fix --rejoin), or \
             remove it: redis-trib del-node {seed} {id}"
        ),
        Code::NodeReset => format!("remove it and add it again: redis-trib del-node {seed} {id}"),
        Code::NodeTwice => "stop the copy, and delete its nodes.conf before it starts again".to_string(),
        Code::OwnerUnlinked => {
            "set cluster-announce-ip or bind-source-addr, or open its bus port".to_string()
        }
        Code::NodeForgotten => format!(
            "let the nodes meet again (redis-trib fix --rejoin, with all nodes), or remove it: redis-trib \
             del-node {seed} {id}"
        ),
        Code::SeedNotMember => {
            "add it (redis-trib add-node), or name a node of the cluster".to_string()
        }
        Code::ProbeFailed => "check its log".to_string(),
        Code::PersistenceFailing => "check its disk".to_string(),
        Code::ReplicaCannotSync => {
            format!("replace it with a newer one: redis-trib replace-node {seed} {id} NEW")
        }
        Code::ReplicaLinkDown => {
            "check its log and its master's: a wrong masterauth, a full disk, or an output buffer limit"
                .to_string()
        }
        Code::ReplicaOrphan => "it may have the last copy of its keys: read them from it first, then make it \
             a replica of a master whose data its version can read (CLUSTER REPLICATE)"
            .to_string(),
        Code::ReplicaOfReplica => {
            "make it a replica of a master that answers and whose data its version can read: CLUSTER REPLICATE"
                .to_string()
        }
        Code::MasterAlone => {
            format!("add a replica: redis-trib add-node --replica NEW {seed}")
        }
        Code::ReplicasUneven => {
            format!("give some of them other masters: redis-trib place {seed} --move-replicas")
        }
        Code::ReplicaSameHost | Code::ReplicaSameZone => format!(
            "give them other masters: redis-trib place {seed} --move-replicas; or replace nodes with nodes elsewhere: \
             redis-trib replace-node {seed} {id} NEW"
        ),
        Code::HostQuorum | Code::ZoneQuorum => format!(
            "fail over to replicas elsewhere: redis-trib place {seed}; or replace nodes with nodes elsewhere: redis-trib \
             replace-node {seed} {id} NEW"
        ),
        Code::OneHost => {
            format!("replace nodes with nodes elsewhere: redis-trib replace-node {seed} {id} NEW")
        }
        Code::SlotsInTask => {
            "no data is lost; slots that were not moved can be moved again: redis-trib reshard"
                .to_string()
        }
        Code::VersionsMixed => {
            format!("upgrade the older ones, one by one: redis-trib ok-to-stop {seed} {id}")
        }
        Code::RestartsEmpty => {
            "enable persistence (save, appendonly), or disable automatic restarts".to_string()
        }
        Code::SettingsDiffer => {
            format!("redis-trib drift {seed} shows the values; redis-trib drift --fix config:KEY sets them")
        }
        Code::FunctionsDiffer => {
            "load the same code on all masters: FUNCTION LOAD REPLACE".to_string()
        }
    }
}
