//! The plan of `add-node`.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, Text, cut, draw, first_that_fits, push};
use crate::report::{Before, JoinView, Node};
use crate::ui::style::{Tone, counted, plain, thousands, wrapped};
use crate::ui::text::join::{before, libraries};

/// The title of the column that says what a node loses.
const BEFORE: &str = "before that";

pub(in crate::ui) fn joining(
    out: &mut impl Write,
    view: &JoinView,
    sheet: Sheet,
) -> io::Result<()> {
    /// Enough for most names of zones.
    const SHORT_ZONE: usize = 16;
    let new = counted(view.nodes.len() as u64, "new node");
    let heading = format!(
        "{new} for the cluster of {} that {} belongs to",
        counted(view.members as u64, "node"),
        view.lead
    );
    let heading = wrapped(&heading, 0, sheet.width);
    writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &heading))?;
    let full = |node: &Node| node.to_string();
    let addr = |node: &Node| node.addr.to_string();
    let columns = first_that_fits(
        sheet.width,
        [
            columns(view, full, usize::MAX, &[]),
            columns(view, addr, usize::MAX, &[]),
            columns(view, addr, usize::MAX, &["id"]),
            columns(view, addr, SHORT_ZONE, &["id", BEFORE]),
            columns(view, addr, usize::MAX, &["id", "zone", "role", BEFORE]),
        ],
    );
    draw(out, &columns, sheet.style)?;
    writeln!(out)?;
    if !columns.iter().any(|column| column.title == BEFORE) {
        for joining in &view.nodes {
            if let Some(sentence) = before(joining) {
                let text = format!("{} {sentence}", joining.node.addr);
                writeln!(out, "{}", wrapped(&text, 0, sheet.width))?;
            }
        }
    }
    if view.libraries > 0 {
        writeln!(out, "{}", libraries(view.libraries))?;
    }
    Ok(())
}

/// All columns that have something to say, except for some.
fn columns(
    view: &JoinView,
    name: impl Fn(&Node) -> String,
    zone_room: usize,
    without: &[&str],
) -> Vec<Column> {
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("role", Align::Left),
        Column::new("follows", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("zone", Align::Left),
        Column::new(BEFORE, Align::Left),
    ];
    for joining in &view.nodes {
        let zone = plain(joining.node.zone.as_deref().unwrap_or_default());
        let before = joining.before.words();
        push(
            &mut columns,
            [
                Text::toned(joining.node.addr.to_string(), Tone::Strong),
                joining.node.id.short().into(),
                joining.node.role.word().into(),
                joining
                    .follows
                    .as_ref()
                    .map(&name)
                    .unwrap_or_default()
                    .into(),
                thousands(joining.slots as u64).into(),
                cut(&zone, zone_room).into(),
                match joining.before {
                    Before::Flush(_) => Text::toned(before, Tone::Bad),
                    Before::Nothing | Before::Reset => before.into(),
                },
            ],
        );
    }
    let is_told = |title: &str| {
        let mut nodes = view.nodes.iter();
        match title {
            "follows" => nodes.any(|joining| joining.follows.is_some()),
            "zone" => nodes.any(|joining| joining.node.zone.is_some()),
            BEFORE => nodes.any(|joining| joining.before != Before::Nothing),
            _ => true,
        }
    };
    columns.retain(|column| is_told(column.title) && !without.contains(&column.title));
    columns
}
