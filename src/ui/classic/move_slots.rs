//! The plan and the result of commands that move slots.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::cluster::slot::Slot;
use crate::report::{BalanceView, MovedView, MovesView, PlannedMove};
use crate::ui::style::{bytes, counted, millis, per_second, plain, thousands};

/// The plan as redis-trib.rb printed it. It had one target; of several each slot names its own.
pub(in crate::ui) fn moves(out: &mut impl Write, view: &MovesView) -> io::Result<()> {
    let targets = view.each(|one| &one.to);
    writeln!(out, "\nReady to move {} slots.", view.slot_count())?;
    writeln!(out, "  Source nodes:")?;
    for node in view.each(|one| &one.from) {
        writeln!(out, "    M: {} {}", node.id, node.addr)?;
    }
    let plural = if targets.len() > 1 { "s" } else { "" };
    writeln!(out, "  Destination node{plural}:")?;
    for node in &targets {
        writeln!(out, "    M: {} {}", node.id, node.addr)?;
    }
    writeln!(out, "  Resharding plan:")?;
    let planned: BTreeMap<Slot, &PlannedMove> = view
        .moves
        .iter()
        .flat_map(|one| one.slots.iter().map(move |slot| (slot, one)))
        .collect();
    for (slot, one) in planned {
        write!(out, "    Moving slot {slot} from {}", one.from.id)?;
        if targets.len() > 1 {
            write!(out, " to {}", one.to.id)?;
        }
        writeln!(out)?;
    }
    for how in view.strategies() {
        writeln!(out, "  Strategy: {}", plain(&how.to_string()))?;
    }
    for memory in &view.targets {
        let limit = match memory.limit {
            Some(limit) => format!(" of {}", bytes(limit)),
            None => String::new(),
        };
        writeln!(
            out,
            "  Memory of {}: {} now, about {} coming, {} after{limit}",
            memory.node,
            bytes(memory.used),
            bytes(memory.coming),
            bytes(memory.after()),
        )?;
    }
    Ok(())
}

/// A plan that is only a part of what a command does: each pair on one line.
pub(in crate::ui) fn moves_by_pair(out: &mut impl Write, view: &MovesView) -> io::Result<()> {
    view.moves.iter().try_for_each(|one| {
        let PlannedMove {
            from, to, slots, ..
        } = one;
        let count = counted(slots.count() as u64, "slot");
        writeln!(out, ">>> {count} from {from} to {to}: {slots}")
    })
}

/// The moves of `rebalance`, as redis-cli and redis-trib.rb print them: a mark for each slot.
pub(in crate::ui) fn balance_moves(out: &mut impl Write, view: &MovesView) -> io::Result<()> {
    view.moves.iter().try_for_each(|one| {
        let (from, to, slots) = (&one.from.addr, &one.to.addr, one.slots.count());
        writeln!(out, "Moving {slots} slots from {from} to {to}")?;
        writeln!(out, "{}", "#".repeat(slots))
    })
}

/// As redis-cli says it.
pub(in crate::ui) fn balance(out: &mut impl Write, view: &BalanceView) -> io::Result<()> {
    let weight: f64 = view.masters.iter().map(|master| master.weight).sum();
    writeln!(
        out,
        ">>> Rebalancing across {} nodes. Total weight = {weight:.2}",
        view.masters.len()
    )
}

/// What has moved, in one line.
pub(in crate::ui) fn moved(view: &MovedView) -> String {
    let mut longest = Vec::new();
    if let Some(call) = view.longest_call_ms {
        longest.push(format!("longest call {}", millis(call)));
    }
    if let (Some(open), Some(mean)) = (view.longest_open_ms, view.mean_open_ms) {
        let (open, mean) = (millis(open), millis(mean));
        longest.push(format!("longest time a slot was open {open} (mean {mean})"));
    }
    if let Some(task) = view.longest_task_ms {
        longest.push(format!("longest task {}", millis(task)));
    }
    if let Some(pause) = view.longest_write_pause_ms {
        let pairs: Vec<String> = view
            .write_pauses
            .iter()
            .map(|one| {
                let pause = millis(one.longest_write_pause_ms);
                format!("{} to {} {pause}", one.from.addr, one.to.addr)
            })
            .collect();
        let pairs = match pairs.len() {
            0 | 1 => String::new(),
            _ => format!(" ({})", pairs.join(", ")),
        };
        longest.push(format!("longest write pause {}{pairs}", millis(pause)));
    }
    let longest = match longest.is_empty() {
        true => String::new(),
        false => format!("; {}", longest.join(", ")),
    };
    format!(
        "{} and {} moved in {} ({} keys/s, {}/s){longest}.",
        counted(view.slot_count as u64, "slot"),
        counted(view.keys, "key"),
        millis(view.took_ms),
        thousands(per_second(view.keys, view.took_ms)),
        bytes(per_second(view.bytes, view.took_ms)),
    )
}
