//! The table of nodes in `check`.
//!
//! Every cell is cut to what fits before the table is drawn, so that a node is always one line: with
//! a thousand of them a wrapped table can't be read. What gives way first is said in [`Fit`].

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, GAP, Text, branch, cut, draw, fit, push, total_width};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::Direction;
use crate::cluster::slot::SlotRange;
use crate::report::{MemberView, NodeState};
use crate::ui::style::{Tone, bytes, plain, thousands};

/// One line for each node.
pub(super) fn draw_nodes(
    out: &mut impl Write,
    nodes: &[MemberView],
    versions: &BTreeSet<String>,
    sheet: Sheet,
) -> io::Result<()> {
    let slots: Vec<Vec<SlotRange>> = nodes.iter().map(|node| node.slots.ranges()).collect();
    let fit = Fit::of(nodes, &slots, versions, sheet.width);
    let mut columns = fit.columns();
    for (i, node) in nodes.iter().enumerate() {
        let last = nodes.get(i + 1).is_none_or(MemberView::is_master);
        push(&mut columns, fit.cells(node, &slots[i], last));
    }
    draw(out, &columns, sheet.style)
}

/// One line for each master, with its replicas counted.
pub(super) fn draw_shards(
    out: &mut impl Write,
    nodes: &[MemberView],
    sheet: Sheet,
) -> io::Result<()> {
    let mut columns = vec![
        Column::new("master", Align::Left),
        Column::new("id", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("keys", Align::Right),
        Column::new("replicas", Align::Left),
        Column::new("state", Align::Left),
    ];
    let mut replicas: BTreeMap<NodeId, (usize, usize)> = BTreeMap::new();
    for node in nodes.iter().filter(|node| !node.is_master()) {
        if let Some(master) = node.replicates {
            let (all, ok) = replicas.entry(master).or_default();
            *all += 1;
            *ok += usize::from(node.state == NodeState::Ok);
        }
    }
    for master in nodes.iter().filter(|node| node.is_master()) {
        let (all, ok) = replicas.get(&master.id).copied().unwrap_or_default();
        push(
            &mut columns,
            [
                Text::toned(shown_addr(master), Tone::Strong),
                master.id.short().into(),
                thousands(master.slots.count() as u64).into(),
                keys(master.keys).into(),
                match ok == all {
                    true => all.to_string().into(),
                    false => Text::toned(format!("{ok} of {all} ok"), Tone::Warning),
                },
                Text::toned(state(master), Tone::of_state(master.state)),
            ],
        );
    }
    fit(&mut columns, sheet.width, &["id", "keys"]);
    draw(out, &columns, sheet.style)
}

/// What of a node has room in the width that there is. Address, number of slots, keys and state always stay. The others
/// give way in this order: memory, version, name, ranges, id, role.
#[derive(Debug, Clone, Copy)]
struct Fit {
    /// Room for ranges of slots; 0 for no column.
    ranges: usize,
    /// Room for announced names; 0 for no column.
    hostname: usize,
    memory: Shown,
    version: Shown,
    id: Shown,
    role: Shown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Yes,
    No,
}

/// The minimum width of a column: `10923-16383`, and the start of a name.
const LEAST_RANGES: usize = 11;
const LEAST_HOSTNAME: usize = 16;

impl Fit {
    fn of(
        nodes: &[MemberView],
        slots: &[Vec<SlotRange>],
        versions: &BTreeSet<String>,
        width: usize,
    ) -> Self {
        let longest = |text: &dyn Fn(&MemberView) -> String| {
            nodes.iter().map(|node| text(node).chars().count()).max()
        };
        let hostname = longest(&hostname).filter(|n| *n > 0).unwrap_or_default();
        let ranges = slots.iter().map(|ranges| full_width(ranges)).max();
        let ranges = ranges.unwrap_or_default();
        let mut fit = Self {
            ranges: 0,
            hostname: 0,
            memory: Shown::No,
            version: Shown::No,
            id: Shown::Yes,
            role: Shown::Yes,
        };
        // The width of everything that stays, measured on the cells themselves.
        let fixed = |fit: Self| {
            let mut columns = fit.columns();
            for node in nodes {
                push(&mut columns, fit.cells(node, &[], true));
            }
            total_width(&columns)
        };
        if fixed(fit) > width {
            fit.id = Shown::No;
        }
        if fixed(fit) > width {
            fit.role = Shown::No;
        }
        let mut room = width.saturating_sub(fixed(fit));
        let mut take = |wanted: usize| {
            let taken = wanted > 0 && room >= wanted + GAP;
            room -= if taken { wanted + GAP } else { 0 };
            taken
        };
        if ranges > 0 && take(ranges.clamp("ranges".len(), LEAST_RANGES)) {
            fit.ranges = ranges.clamp("ranges".len(), LEAST_RANGES);
        }
        if hostname > 0 && take(hostname.clamp("name".len(), LEAST_HOSTNAME)) {
            fit.hostname = hostname.clamp("name".len(), LEAST_HOSTNAME);
        }
        let wide = |text: &dyn Fn(&MemberView) -> String, title: &str| {
            longest(text).unwrap_or_default().max(title.len())
        };
        if versions.len() > 1 && take(wide(&version, "version")) {
            fit.version = Shown::Yes;
        }
        let is_told = |node: &MemberView| memory_of(node) != "-";
        if nodes.iter().any(is_told) && take(wide(&memory_of, "memory")) {
            fit.memory = Shown::Yes;
        }
        // What is left goes to names, then to ranges.
        if fit.hostname > 0 {
            let more = hostname.saturating_sub(fit.hostname).min(room);
            fit.hostname += more;
            room -= more;
        }
        if fit.ranges > 0 {
            fit.ranges += ranges.saturating_sub(fit.ranges).min(room);
        }
        fit
    }

    fn columns(self) -> Vec<Column> {
        let all = [
            ("node", Align::Left, true),
            ("name", Align::Left, self.hostname > 0),
            ("id", Align::Left, self.id == Shown::Yes),
            ("role", Align::Left, self.role == Shown::Yes),
            ("slots", Align::Right, true),
            ("ranges", Align::Left, self.ranges > 0),
            ("keys", Align::Right, true),
            ("memory", Align::Right, self.memory == Shown::Yes),
            ("version", Align::Left, self.version == Shown::Yes),
            ("state", Align::Left, true),
        ];
        all.into_iter()
            .filter(|(_, _, shown)| *shown)
            .map(|(title, align, _)| Column::new(title, align))
            .collect()
    }

    /// The cells of a node, in the order of [`Self::columns`].
    fn cells(self, node: &MemberView, ranges: &[SlotRange], last: bool) -> Vec<Text> {
        let count = node.slots.count();
        let mut cells = vec![match node.role {
            Role::Master => Text::toned(shown_addr(node), Tone::Strong),
            Role::Replica => format!("{} {}", branch(last), shown_addr(node)).into(),
        }];
        if self.hostname > 0 {
            cells.push(cut(&hostname(node), self.hostname).into());
        }
        if self.id == Shown::Yes {
            cells.push(node.id.short().into());
        }
        if self.role == Shown::Yes {
            cells.push(node.role.word().into());
        }
        cells.push(match (node.role, count) {
            (Role::Replica, 0) => Text::default(),
            _ => thousands(count as u64).into(),
        });
        if self.ranges > 0 {
            cells.push(shown_ranges(ranges, self.ranges).into());
        }
        cells.push(keys(node.keys).into());
        if self.memory == Shown::Yes {
            cells.push(memory_of(node).into());
        }
        if self.version == Shown::Yes {
            cells.push(version(node).into());
        }
        cells.push(Text::toned(state(node), Tone::of_state(node.state)));
        cells
    }
}

fn shown_addr(node: &MemberView) -> String {
    match &node.addr {
        Some(addr) => addr.to_string(),
        None => "(no address)".to_string(),
    }
}

fn hostname(node: &MemberView) -> String {
    plain(node.hostname.as_deref().unwrap_or_default())
}

pub(super) fn keys(keys: Option<u64>) -> String {
    keys.map_or_else(|| "-".to_string(), thousands)
}

pub(super) fn memory(used: Option<u64>, limit: Option<u64>) -> String {
    match (used, limit) {
        (None, _) => "-".to_string(),
        (Some(used), None) => bytes(used),
        (Some(used), Some(limit)) => format!("{} of {}", bytes(used), bytes(limit)),
    }
}

fn memory_of(node: &MemberView) -> String {
    memory(node.used_memory, node.maxmemory)
}

fn version(node: &MemberView) -> String {
    node.server().unwrap_or_else(|| "-".to_string())
}

/// The state of a node, and its numbers of open slots.
fn state(node: &MemberView) -> String {
    let mut text = node.shown_state();
    for direction in [Direction::Migrating, Direction::Importing] {
        let open = &node.open;
        let count = open.iter().filter(|o| o.direction == direction).count();
        if count > 0 {
            text = format!("{text}, {count} {}", direction.word());
        }
    }
    text
}

fn full_width(ranges: &[SlotRange]) -> usize {
    let digits = |number: u16| number.checked_ilog10().map_or(1, |n| n as usize + 1);
    let width = |range: &SlotRange| {
        let (start, end) = (range.start().number(), range.end().number());
        let end = if start == end { 0 } else { digits(end) + 1 };
        digits(start) + end
    };
    ranges.iter().map(width).sum::<usize>() + ranges.len().saturating_sub(1)
}

/// As many ranges as have room, and how many there are besides: `0-99,200-299 +4`.
pub(super) fn shown_ranges(ranges: &[SlotRange], room: usize) -> String {
    if full_width(ranges) <= room {
        let all: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        return all.join(",");
    }
    let mut text = String::new();
    let mut best = format!("{} ranges", ranges.len());
    for (i, range) in ranges.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&range.to_string());
        let more = format!(" +{}", ranges.len() - i - 1);
        if text.len() + more.len() > room {
            break;
        }
        best = format!("{text}{more}");
    }
    best
}
