//! The end of a run: waiting until all nodes agree, or the text and the resume commands of an unfinished run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::anyhow;

use super::{AGREE_WITHIN, Worked};
use crate::cluster::node::NodeId;
use crate::cluster::numbers::{counted, thousands};
use crate::cluster::slot::SlotSet;
use crate::converge::one_opinion;
use crate::converge::poll::Polled;
use crate::event::{Pair, Phase};
use crate::exit_code::ExitCode;
use crate::migrate::{Outcome, SlotProgress};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandLine, Stop};

/// Waits until all nodes agree, so that the next command does not meet "Nodes don't agree".
pub(super) async fn agree(
    session: &Session,
    state: &ClusterState,
    plan: &MovePlan,
    outcome: &Outcome,
) -> Result<(), Stop> {
    let skipped = outcome.skipped.values();
    let skipped = skipped.fold(SlotSet::new(), |all, slots| all.union(slots));
    let mut owners: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    for one in plan.moves() {
        let owned = owners.entry(one.to).or_default();
        owned.union_with(&one.slots.difference(&skipped));
    }
    session.events.phase(Phase::Agree);
    let seeds = session.targets();
    let before = &state.diagnosis.topology;
    let connections = &session.connections;
    let agreed = one_opinion(connections, &seeds, &owners, before, AGREE_WITHIN).await;
    match agreed.map_err(|error| Stop::partial(anyhow!("all slots moved, but then: {error}")))? {
        Polled::Met(()) => Ok(()),
        Polled::Missing(wrong) => Err(Stop::partial(anyhow!(
            "all slots moved, but after {} s {wrong}",
            AGREE_WITHIN.as_secs()
        ))),
    }
}

/// Warns of slots that stayed on their source.
pub(super) fn warn_of_skipped(session: &Session, state: &ClusterState, outcome: &Outcome) {
    for (pair, slots) in &outcome.skipped {
        if !slots.is_empty() {
            session.events.warn(format!(
                "slots {slots} stay on {}: they hold big keys",
                state.name(pair.from)
            ));
        }
    }
}

/// What an unfinished run did, what remains, and the commands that resume it.
pub(super) fn unfinished(state: &ClusterState, worked: &Worked, plan_file: Option<&Path>) -> Stop {
    let outcome = &worked.outcome;
    let name = |id: NodeId| state.name(id);
    let mut lines = Vec::new();
    for (pair, why) in &outcome.failures {
        lines.push(format!("{} to {}: {why}", name(pair.from), name(pair.to)));
    }
    if worked.stopped {
        lines.push("interrupted".to_string());
    }
    let mut by_progress: BTreeMap<(Pair, &str), SlotSet> = BTreeMap::new();
    for (slot, (pair, progress)) in &outcome.open {
        let words = match progress {
            SlotProgress::Importing => "importing at the target",
            SlotProgress::Migrating => "migrating, with keys possibly on both nodes",
            SlotProgress::Claimed => "claimed by the target",
            SlotProgress::Gathered => "with keys on a node that does not own them",
            SlotProgress::Unknown => "state unknown, its keys may be on both nodes",
            SlotProgress::InTask => "in an ASM task, which may still complete",
        };
        by_progress.entry((*pair, words)).or_default().insert(*slot);
    }
    // Those that this command was to finish, and did not come to.
    let open_before = state.diagnosis.topology.open_set();
    let mut still_open = 0;
    for (pair, left) in &outcome.left {
        let slots = left.intersection(&open_before);
        still_open += slots.count();
        if !slots.is_empty() {
            by_progress.insert((*pair, "as before"), slots);
        }
    }
    for ((pair, words), slots) in &by_progress {
        lines.push(format!(
            "open: slots {slots} from {} to {}, {words}",
            name(pair.from),
            name(pair.to)
        ));
    }
    lines.extend(state.rate_left_out());
    let moved: usize = outcome.moved.values().map(SlotSet::count).sum();
    let left: usize = outcome.left.values().map(SlotSet::count).sum();
    lines.push(format!(
        "{} moved, {} open, {} not begun",
        counted(moved as u64, "slot"),
        thousands((outcome.open.len() + still_open) as u64),
        thousands((left - still_open) as u64)
    ));
    let code = match worked.stopped {
        true => ExitCode::Interrupted,
        // The lanes could not even begin.
        false if !outcome.touched => ExitCode::Refused,
        false => ExitCode::Partial,
    };
    Stop::new(code, anyhow!("{}", lines.join("\n"))).with_resume(match plan_file {
        Some(file) => vec![apply_again(state, file)],
        None => reshard_rest(state, outcome),
    })
}

fn apply_again(state: &ClusterState, file: &Path) -> CommandLine {
    let mut command = ["redis-trib", "apply"].map(str::to_string).to_vec();
    command.push(file.to_string_lossy().into_owned());
    command.push(state.seed());
    command.extend(state.resume_options());
    command
}

/// One command for each target that has not got all of its slots.
fn reshard_rest(state: &ClusterState, outcome: &Outcome) -> Vec<CommandLine> {
    let mut to_do: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    // A target that failed over takes no more slots; its successor has what it had.
    let now = |to: NodeId| outcome.successors.get(&to).copied().unwrap_or(to);
    for (pair, slots) in &outcome.left {
        to_do.entry(now(pair.to)).or_default().union_with(slots);
    }
    for (slot, (pair, _)) in &outcome.open {
        to_do.entry(now(pair.to)).or_default().insert(*slot);
    }
    to_do.retain(|_, slots| !slots.is_empty());
    let command = |(to, slots): (NodeId, SlotSet)| {
        let mut command = ["redis-trib", "reshard"].map(str::to_string).to_vec();
        command.push(state.seed());
        command.push("--finish-open".to_string());
        command.extend(["--slot-ranges".to_string(), slots.to_string()]);
        command.extend(["--to".to_string(), to.to_string()]);
        command.extend(state.resume_options());
        command
    };
    to_do.into_iter().map(command).collect()
}
