//! The plan of `del-node`.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, Text, draw, first_that_fits, push};
use crate::cluster::node::Role;
use crate::report::{LeaveView, LeavingNode, Node};
use crate::ui::style::{Tone, counted, thousands};

pub(in crate::ui) fn leaving(
    out: &mut impl Write,
    view: &LeaveView,
    sheet: Sheet,
) -> io::Result<()> {
    let title = format!("{} to leave", counted(view.leavers.len() as u64, "node"));
    writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &title))?;
    let full = |node: &Node| node.to_string();
    let addr = |node: &Node| node.addr.to_string();
    let columns = first_that_fits(
        sheet.width,
        [
            columns(view, full, &[]),
            columns(view, addr, &[]),
            columns(view, addr, &["id"]),
            columns(view, addr, &["id", "role", "slots"]),
        ],
    );
    draw(out, &columns, sheet.style)?;
    writeln!(out)
}

/// All columns except for some.
fn columns(view: &LeaveView, name: impl Fn(&Node) -> String, without: &[&str]) -> Vec<Column> {
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("role", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("what happens", Align::Left),
    ];
    for leaver in &view.leavers {
        push(
            &mut columns,
            [
                Text::toned(leaver.node.addr.to_string(), Tone::Strong),
                leaver.node.id.short().into(),
                leaver.node.role.word().into(),
                thousands(leaver.slots as u64).into(),
                what_happens(leaver).into(),
            ],
        );
    }
    for (replica, master) in &view.given {
        push(
            &mut columns,
            [
                replica.addr.to_string().into(),
                replica.id.short().into(),
                Role::Replica.word().into(),
                Text::default(),
                format!("stays, follows {}", name(master)).into(),
            ],
        );
    }
    columns.retain(|column| !without.contains(&column.title));
    columns
}

fn what_happens(leaver: &LeavingNode) -> &'static str {
    match (leaver.answers, leaver.node.role) {
        (false, _) => "does not answer: the others forget it",
        (true, Role::Replica) => "leaves, and deletes its copy",
        (true, Role::Master) if leaver.slots > 0 => "gives its slots away, then leaves",
        (true, Role::Master) => "leaves",
    }
}
