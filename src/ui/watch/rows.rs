//! The words of a frame that the screen and the table share.

use crate::report::{WatchMove, WatchNode, WatchTask, WatchView};
use crate::ui::style::{counted, plain, thousands};

/// The heading of the table of nodes; the first column is the node.
pub(in crate::ui) const TITLES: [&str; 10] = [
    "node", "ops/s", "in/s", "out/s", "cpu", "memory", "clients", "keys", "lag", "state",
];

/// Columns that are left out where they do not fit, in this order.
pub(in crate::ui) const LEAST: [&str; 5] = ["clients", "keys", "out/s", "in/s", "cpu"];

/// The cells of a node, as [`TITLES`] has them, without the first one.
pub(in crate::ui) fn cells(node: &WatchNode) -> [String; 9] {
    let memory = node.used_memory.map(|used| match node.maxmemory {
        Some(max) => format!("{}/{}", short(used), short(max)),
        None => short(used),
    });
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
    [
        known(node.ops_per_second.map(count)),
        known(node.bytes_in_per_second.map(short)),
        known(node.bytes_out_per_second.map(short)),
        known(node.cpu.map(|cpu| format!("{:.0}%", cpu * 100.0))),
        known(memory),
        known(node.clients.map(count)),
        known(node.keys.map(count)),
        known(node.lag_bytes.map(short)),
        node.state.word().to_string(),
    ]
}

pub(in crate::ui) fn addr(node: &WatchNode) -> String {
    plain(&node.node.addr.to_string())
}

/// `1.2G`: bytes in few columns.
pub(in crate::ui) fn short(bytes: u64) -> String {
    scaled(bytes, 1024.0)
}

/// A count in few columns: `950`, `12.3K`, `4.0M`.
pub(in crate::ui) fn count(number: u64) -> String {
    scaled(number, 1000.0)
}

fn scaled(number: u64, step: f64) -> String {
    let mut value = number as f64;
    let mut unit = "";
    for next in ["K", "M", "G", "T", "P"] {
        // 999.95 would be written as 1000.0.
        if value < step * 0.9995 {
            break;
        }
        value /= step;
        unit = next;
    }
    match unit {
        "" => number.to_string(),
        unit if value >= 100.0 => format!("{value:.0}{unit}"),
        unit => format!("{value:.1}{unit}"),
    }
}

/// `state ok, 16,384 of 16,384 slots, 6 nodes`.
pub(in crate::ui) fn state(view: &WatchView) -> String {
    let state = match view.ok {
        Some(true) => "ok",
        Some(false) => "fail",
        None => "unknown",
    };
    format!(
        "state {state}, {} of 16,384 slots, {}",
        thousands(view.slots_covered as u64),
        counted(view.node_count as u64, "node")
    )
}

/// `2 errors, 1 warning`.
pub(in crate::ui) fn findings(view: &WatchView) -> String {
    match (view.errors, view.warnings) {
        (Some(0), Some(0)) => "no findings".to_string(),
        (Some(errors), Some(warnings)) => format!(
            "{}, {}",
            counted(errors as u64, "error"),
            counted(warnings as u64, "warning")
        ),
        _ => "not checked yet".to_string(),
    }
}

/// The sums of all masters.
pub(in crate::ui) fn sums(view: &WatchView) -> String {
    type Figure = fn(&WatchNode) -> Option<u64>;
    let sum = |figure: Figure| {
        let known = view.masters.iter();
        let known: Vec<u64> = known.filter_map(|one| figure(&one.node)).collect();
        let total = known.iter().copied().fold(0_u64, u64::saturating_add);
        (!known.is_empty()).then_some(total)
    };
    let known = |figure: Figure, shown: fn(u64) -> String| {
        sum(figure).map_or_else(|| "-".to_string(), shown)
    };
    format!(
        "masters: {} ops/s, in {}/s, out {}/s, memory {}, {} keys",
        known(|node| node.ops_per_second, count),
        known(|node| node.bytes_in_per_second, short),
        known(|node| node.bytes_out_per_second, short),
        known(|node| node.used_memory, short),
        known(|node| node.keys, count),
    )
}

/// `10.0.0.3:6379 → 10.0.0.4:6379: slot 5 open, 3 moved, 1.2K keys left, 300 keys/s, 4 s left`.
pub(in crate::ui) fn motion(one: &WatchMove) -> String {
    let mut parts = Vec::new();
    match one.open.count() {
        0 => {}
        1 => parts.push(format!("slot {} open", one.open.summary())),
        count => parts.push(format!("{} open", counted(count as u64, "slot"))),
    }
    if one.slots_moved > 0 {
        parts.push(format!("{} moved", thousands(one.slots_moved as u64)));
    }
    if let Some(left) = one.keys_left {
        parts.push(format!("{} keys left", count(left)));
    }
    if let Some(rate) = one.keys_per_second.filter(|rate| *rate > 0) {
        parts.push(format!("{} keys/s", count(rate)));
    }
    if let Some(left) = one.left_ms {
        parts.push(format!("{} s left", left.div_ceil(1000)));
    }
    let text = format!("{} → {}: {}", one.from.addr, one.to.addr, parts.join(", "));
    plain(&text)
}

/// `ASM task 10.0.0.3:6379 → 10.0.0.4:6379: 100 slots, snapshot`.
pub(in crate::ui) fn task(one: &WatchTask) -> String {
    let end = |node: &Option<crate::report::Node>| {
        let node = node.as_ref();
        node.map_or_else(|| "?".to_string(), |node| node.addr.to_string())
    };
    let mut text = format!(
        "ASM task {} → {}: {}, {}",
        end(&one.source),
        end(&one.target),
        counted(one.slot_count as u64, "slot"),
        one.state
    );
    if !one.message.is_empty() {
        text += &format!(": {}", one.message);
    }
    plain(&text)
}

/// `12:04:31`, in UTC.
pub(in crate::ui) fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02}", seconds % 60)
}
