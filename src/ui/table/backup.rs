//! The plan and the result of `backup`.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, GAP, Text, draw, first_that_fits, fit, push, total_width};
use super::nodes::shown_ranges;
use crate::report::{BackupView, Node};
use crate::ui::style::{bytes, thousands};

/// The least room for ranges of slots.
const LEAST_RANGES: usize = 12;

pub(in crate::ui) fn backup(
    out: &mut impl Write,
    view: &BackupView,
    sheet: Sheet,
) -> io::Result<()> {
    let is_done = view.shards.iter().any(|shard| shard.fetched.is_some());
    let room = if is_done { 0 } else { GAP + LEAST_RANGES };
    let mut columns = first_that_fits(
        sheet.width.saturating_sub(room),
        [
            columns(view, |node| node.to_string(), is_done),
            columns(view, |node| node.addr.to_string(), is_done),
        ],
    );
    fit(
        &mut columns,
        sheet.width.saturating_sub(room),
        &["role", "from"],
    );
    if !is_done {
        let room = sheet.width.saturating_sub(total_width(&columns) + GAP);
        let room = room.max(LEAST_RANGES);
        let mut slots = Column::new("slots", Align::Left);
        slots.cells = view
            .shards
            .iter()
            .map(|shard| shown_ranges(&shard.slots.ranges(), room).into())
            .collect();
        columns.push(slots);
    }
    draw(out, &columns, sheet.style)?;
    writeln!(out)
}

fn columns(view: &BackupView, name: impl Fn(&Node) -> String, is_done: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::new("data of", Align::Left),
        Column::new("from", Align::Left),
        Column::new("role", Align::Left),
        Column::new("keys", Align::Right),
        Column::new("size", Align::Right),
    ];
    for shard in &view.shards {
        let fetched = shard.fetched.as_ref();
        push(
            &mut columns,
            [
                name(&shard.master).into(),
                name(&shard.source).into(),
                shard.source.role.word().into(),
                fetched.map_or(Text::default(), |one| thousands(one.keys).into()),
                fetched.map_or(Text::default(), |one| bytes(one.bytes).into()),
            ],
        );
    }
    columns.truncate(if is_done { 5 } else { 3 });
    columns
}
