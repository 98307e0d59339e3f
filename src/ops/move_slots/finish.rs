//! After the moves: waiting until all nodes agree, or telling what is left and how to go on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::Instant;

use super::{AGREE_WITHIN, Part};
use crate::args::moves::MoveArgs;
use crate::cluster::health::{Background, Code, Diagnosis};
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotSet};
use crate::discover;
use crate::event::{Event, Pair, Phase};
use crate::migrate::{Outcome, SlotProgress};
use crate::plan::MovePlan;
use crate::session::Session;
use crate::shell::shell_word;
use crate::state::Cluster;
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
    let deadline = Instant::now() + AGREE_WITHIN;
    // Whoever takes slots tells all others at once; where that is lost, gossip tells them later.
    let mut pause = Duration::from_millis(5);
    ui.event(&Event::Phase(Phase::Agree));
    loop {
        let observation = discover::observe(&session.connections, &session.targets())
            .await
            .map_err(|error| Stop::partial(anyhow!("all slots moved, but then: {error}")))?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        let misplaced: Option<Slot> = plan.moves().find_map(|one| {
            let member = diagnosis.topology.members.get(&one.to)?;
            let missing = one.slots.difference(&member.slots);
            missing.difference(&skipped).iter().next()
        });
        let opinions = diagnosis.topology.opinions.len();
        if opinions == 1 && misplaced.is_none() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let differing = diagnosis
                .findings
                .iter()
                .find(|finding| finding.code == Code::ViewsDiffer)
                .map_or(String::new(), |finding| finding.message.clone());
            return Err(Stop::partial(anyhow!(
                "all slots moved, but after {} s not all nodes agree: {differing}",
                AGREE_WITHIN.as_secs()
            )));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Slots that stayed where they were.
pub(super) fn tell_skipped(ui: &Ui, cluster: &Cluster, outcome: &Outcome) {
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
    cluster: &Cluster,
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
            SlotProgress::InJob => "in a job of the servers, which may go on by itself",
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
    let options = cluster.moving_again();
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
