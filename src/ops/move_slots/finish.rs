//! After the moves: waiting until all nodes agree, or telling what is left and how to go on.

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::{AGREE_WITHIN, Part};
use crate::args::moves::MoveArgs;
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;
use crate::converge::one_opinion;
use crate::converge::poll::Polled;
use crate::event::{Event, Pair, Phase};
use crate::migrate::{Outcome, SlotProgress};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::shell::shell_word;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::ui::Ui;

/// Waits until all nodes agree, so that the next command never meets "Nodes don't agree".
pub(super) async fn agree(
    session: &Session,
    ui: &Ui,
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
    ui.event(&Event::Phase(Phase::Agree));
    let seeds = session.targets();
    let agreed = one_opinion(&session.connections, &seeds, &owners, AGREE_WITHIN).await;
    match agreed.map_err(|error| Stop::partial(anyhow!("all slots moved, but then: {error}")))? {
        Polled::Met(()) => Ok(()),
        Polled::Missing(differing) => Err(Stop::partial(anyhow!(
            "all slots moved, but after {} s not all nodes agree: {differing}",
            AGREE_WITHIN.as_secs()
        ))),
    }
}

/// Slots that stayed where they were.
pub(super) fn tell_skipped(ui: &Ui, cluster: &ClusterState, outcome: &Outcome) {
    for (pair, slots) in &outcome.skipped {
        if !slots.is_empty() {
            ui.warn(&format!(
                "slots {slots} stay on {}: they hold big keys",
                cluster.name(pair.from)
            ));
        }
    }
}

/// What is done, what is left, and the commands that go on.
pub(super) fn rest(
    args: &MoveArgs,
    part: Part,
    cluster: &ClusterState,
    outcome: &Outcome,
    moved: usize,
    interrupted: bool,
) -> String {
    let name = |id: NodeId| cluster.name(id);
    let mut lines = Vec::new();
    for (pair, why) in &outcome.failures {
        lines.push(format!("{} to {}: {why}", name(pair.from), name(pair.to)));
    }
    if interrupted {
        lines.push("interrupted".to_string());
    }
    let mut by_state: BTreeMap<(Pair, &str), SlotSet> = BTreeMap::new();
    for (slot, (pair, standing)) in &outcome.open {
        let word = match standing {
            SlotProgress::Importing => "importing at the target",
            SlotProgress::Migrating => "migrating, its keys may be on both",
            SlotProgress::Claimed => "claimed by the target",
            SlotProgress::Gathered => "with keys on a node that does not own them",
            SlotProgress::Unknown => "state unknown, its keys may be on both nodes",
            SlotProgress::InTask => "in an ASM task, which may go on by itself",
        };
        by_state.entry((*pair, word)).or_default().insert(*slot);
    }
    for ((pair, word), slots) in &by_state {
        lines.push(format!(
            "open: slots {slots} from {} to {}, {word}",
            name(pair.from),
            name(pair.to)
        ));
    }
    let left: usize = outcome.left.values().map(SlotSet::count).sum();
    lines.push(format!(
        "{moved} slots moved, {} open, {left} not begun. To go on:",
        outcome.open.len()
    ));
    let options = cluster.resume_options();
    let saved = args.plan_out.as_ref().filter(|_| part == Part::Last);
    match args.applied.as_ref().or(saved) {
        Some(file) => lines.push(format!(
            "  redis-trib apply {} {}{options}",
            shell_word(&file.to_string_lossy()),
            cluster.seed()
        )),
        None => {
            let mut to_do: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
            // One that is no master any more takes nothing; whom it follows has what it had.
            let now = |to: NodeId| outcome.successors.get(&to).copied().unwrap_or(to);
            for (pair, slots) in &outcome.left {
                let rest = to_do.entry(now(pair.to)).or_default();
                *rest = rest.union(slots);
            }
            for (slot, (pair, _)) in &outcome.open {
                to_do.entry(now(pair.to)).or_default().insert(*slot);
            }
            for (to, slots) in to_do {
                if !slots.is_empty() {
                    lines.push(format!(
                        "  redis-trib reshard {} --finish-open --slot-ranges {slots} --to \
                         {to}{options}",
                        cluster.seed()
                    ));
                }
            }
        }
    }
    lines.join("\n")
}
