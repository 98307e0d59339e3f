//! The plan and the result of commands that move slots.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, GAP, Text, draw, first_that_fits, fit, push, total_width};
use super::nodes::shown_ranges;
use crate::report::{BalanceView, Measure, MovedView, MovesView, Node, TargetMemory};
use crate::ui::style::{Tone, bytes, counted, millis, per_second, plain, thousands, wrapped};

/// The least room for ranges of slots.
const LEAST_RANGES: usize = 12;

fn full(node: &Node) -> String {
    node.to_string()
}

fn addr(node: &Node) -> String {
    node.addr.to_string()
}

/// The moves, then what they do to the memory of their targets.
pub(in crate::ui) fn moves(out: &mut impl Write, view: &MovesView, sheet: Sheet) -> io::Result<()> {
    let title = format!("{} to move", counted(view.slot_count() as u64, "slot"));
    writeln!(out, "{}", sheet.style.tone(Tone::Strong, &title))?;
    for how in view.strategies() {
        writeln!(out, "{}", wrapped(&plain(&how.to_string()), 0, sheet.width))?;
    }
    writeln!(out)?;
    let pairs = |name: fn(&Node) -> String| {
        let mut columns = vec![
            Column::new("from", Align::Left),
            Column::new("to", Align::Left),
            Column::new("slots", Align::Right),
            Column::new("how", Align::Left),
        ];
        for one in &view.moves {
            push(
                &mut columns,
                [
                    name(&one.from).into(),
                    name(&one.to).into(),
                    thousands(one.slots.count() as u64).into(),
                    one.how.word().into(),
                ],
            );
        }
        columns
    };
    let width = sheet.width.saturating_sub(GAP + LEAST_RANGES);
    let mut columns = first_that_fits(width, [pairs(full), pairs(addr)]);
    fit(&mut columns, width, &["how"]);
    // The ranges get what is left of the line, if that is enough for one.
    let room = sheet.width.saturating_sub(total_width(&columns) + GAP);
    if room >= LEAST_RANGES {
        let mut ranges = Column::new("ranges", Align::Left);
        ranges.cells = view
            .moves
            .iter()
            .map(|one| shown_ranges(&one.slots.ranges(), room).into())
            .collect();
        columns.push(ranges);
    }
    draw(out, &columns, sheet.style)?;
    writeln!(out)?;
    let targets = &view.targets;
    let mut columns = first_that_fits(sheet.width, [memory(targets, full), memory(targets, addr)]);
    fit(&mut columns, sheet.width, &["limit", "now"]);
    draw(out, &columns, sheet.style)?;
    // A question or bars come next.
    writeln!(out)
}

fn memory(targets: &[TargetMemory], name: fn(&Node) -> String) -> Vec<Column> {
    let mut columns = vec![
        Column::new("memory of", Align::Left),
        Column::new("now", Align::Right),
        Column::new("coming", Align::Right),
        Column::new("after", Align::Right),
        Column::new("limit", Align::Right),
    ];
    for memory in targets {
        let limit = memory.limit.map_or_else(|| "none".to_string(), bytes);
        let after = bytes(memory.after());
        push(
            &mut columns,
            [
                name(&memory.node).into(),
                bytes(memory.used).into(),
                format!("~{}", bytes(memory.coming)).into(),
                match memory.limit {
                    Some(limit) if memory.after() > limit => Text::toned(after, Tone::Bad),
                    _ => after.into(),
                },
                limit.into(),
            ],
        );
    }
    columns
}

/// What every master has, should have, and will have.
pub(in crate::ui) fn balance(
    out: &mut impl Write,
    view: &BalanceView,
    sheet: Sheet,
) -> io::Result<()> {
    let title = format!("Shares of {}", counted(view.masters.len() as u64, "master"));
    writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &title))?;
    let shares = |name: fn(&Node) -> String| {
        let mut columns = vec![
            Column::new("master", Align::Left),
            Column::new("weight", Align::Right),
            Column::new(view.measure.word(), Align::Right),
            Column::new("share", Align::Right),
            Column::new("after", Align::Right),
        ];
        for master in &view.masters {
            push(
                &mut columns,
                [
                    name(&master.node).into(),
                    format!("{:.2}", master.weight).into(),
                    amount(view.measure, master.before).into(),
                    amount(view.measure, master.expected).into(),
                    amount(view.measure, master.after).into(),
                ],
            );
        }
        columns
    };
    let mut columns = first_that_fits(sheet.width, [shares(full), shares(addr)]);
    fit(&mut columns, sheet.width, &["weight"]);
    draw(out, &columns, sheet.style)?;
    writeln!(out)
}

fn amount(measure: Measure, amount: u128) -> String {
    let amount = u64::try_from(amount).unwrap_or(u64::MAX);
    match measure {
        Measure::Slots | Measure::Keys => thousands(amount),
        Measure::Memory | Measure::Network => bytes(amount),
        Measure::Cpu => millis(amount as f64 / 1_000.0),
    }
}

/// What has moved, as a table of one line.
pub(in crate::ui) fn moved(out: &mut impl Write, view: &MovedView, sheet: Sheet) -> io::Result<()> {
    draw(out, &moved_columns(view, sheet.width), sheet.style)?;
    // With one pair, the table has its pause already.
    if view.write_pauses.len() > 1 {
        writeln!(out)?;
        draw(out, &pause_columns(view, sheet.width), sheet.style)?;
    }
    writeln!(out)
}

/// The longest write pause of each pair.
fn pause_columns(view: &MovedView, width: usize) -> Vec<Column> {
    let columns = |name: fn(&Node) -> String| {
        let mut columns = vec![
            Column::new("from", Align::Left),
            Column::new("to", Align::Left),
            Column::new("longest write pause", Align::Right),
        ];
        for pause in &view.write_pauses {
            push(
                &mut columns,
                vec![
                    name(&pause.from).into(),
                    name(&pause.to).into(),
                    millis(pause.longest_write_pause_ms).into(),
                ],
            );
        }
        columns
    };
    first_that_fits(width, [columns(full), columns(addr)])
}

fn moved_columns(view: &MovedView, width: usize) -> Vec<Column> {
    let rate = per_second(view.keys, view.took_ms);
    let mut cells = vec![
        ("slots", thousands(view.slot_count as u64)),
        ("keys", thousands(view.keys)),
        ("bytes", bytes(view.bytes)),
        ("time", millis(view.took_ms)),
        ("keys/s", thousands(rate)),
    ];
    let times = [
        ("longest call", view.longest_call_ms),
        ("mean open", view.mean_open_ms),
        ("longest open", view.longest_open_ms),
        ("longest task", view.longest_task_ms),
        ("write pause", view.longest_write_pause_ms),
    ];
    for (title, time) in times {
        cells.extend(time.map(|time| (title, millis(time))));
    }
    let columns = cells.into_iter().map(|(title, value)| {
        let mut column = Column::new(title, Align::Right);
        column.cells.push(Text::from(value));
        column
    });
    let mut columns: Vec<Column> = columns.collect();
    fit(
        &mut columns,
        width,
        &[
            "mean open",
            "keys/s",
            "bytes",
            "longest open",
            "longest call",
            "keys",
        ],
    );
    columns
}
