//! One frame as a plain table: `watch --once`.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, Text, branch, draw, fit, push};
use crate::report::{WatchNode, WatchState, WatchView};
use crate::ui::style::{Tone, plain};
use crate::ui::watch::rows;

pub(in crate::ui) fn frame(out: &mut impl Write, view: &WatchView, sheet: Sheet) -> io::Result<()> {
    let title = format!("{}, {}", rows::state(view), rows::findings(view));
    writeln!(out, "{}", sheet.style.tone(Tone::Strong, &title))?;
    writeln!(out, "{}\n", rows::sums(view))?;
    let align = |title: &str| match title {
        "node" | "state" => Align::Left,
        _ => Align::Right,
    };
    let mut columns: Vec<Column> = rows::TITLES
        .iter()
        .map(|title| Column::new(title, align(title)))
        .collect();
    for master in &view.masters {
        push(&mut columns, row(&master.node, ""));
        for (i, replica) in master.replicas.iter().enumerate() {
            push(
                &mut columns,
                row(replica, branch(i + 1 == master.replicas.len())),
            );
        }
    }
    fit(&mut columns, sheet.width, &rows::LEAST);
    draw(out, &columns, sheet.style)?;
    if !view.moves.is_empty() || !view.tasks.is_empty() {
        writeln!(out)?;
    }
    for one in &view.moves {
        writeln!(out, "{}", rows::motion(one))?;
    }
    for one in &view.tasks {
        writeln!(out, "{}", rows::task(one))?;
    }
    if !view.events.is_empty() {
        writeln!(out)?;
    }
    for event in &view.events {
        writeln!(
            out,
            "{} {}",
            rows::clock(event.at_ms),
            plain(&event.message)
        )?;
    }
    Ok(())
}

fn row(node: &WatchNode, branch: &str) -> Vec<Text> {
    let name = match branch {
        "" => rows::addr(node),
        branch => format!("{branch} {}", rows::addr(node)),
    };
    let tone = match node.state {
        WatchState::Ok => Tone::Good,
        WatchState::Loading | WatchState::Syncing => Tone::Warning,
        WatchState::Unreachable | WatchState::Fail | WatchState::LinkDown => Tone::Bad,
    };
    let mut cells: Vec<Text> = vec![name.into()];
    let mut figures: Vec<String> = rows::cells(node).into();
    let state = figures.pop().unwrap_or_default();
    cells.extend(figures.into_iter().map(Text::from));
    cells.push(Text::toned(state, tone));
    cells
}
