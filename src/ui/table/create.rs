//! The plan of `create`.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, GAP, Text, branch, cut, draw, fit, push, total_width};
use crate::cluster::node::Role;
use crate::report::{LayoutView, Node};
use crate::ui::style::{Tone, counted, plain, thousands};
use crate::ui::summary::{Mark, Marked};

/// The least room for a zone.
const LEAST_ZONE: usize = 8;

pub(in crate::ui) fn layout(
    out: &mut impl Write,
    layout: &LayoutView,
    sheet: Sheet,
) -> io::Result<()> {
    let replicas = layout.nodes() - layout.masters.len();
    let heading = format!(
        "A new cluster of {}: {}, {}",
        counted(layout.nodes() as u64, "node"),
        counted(layout.masters.len() as u64, "master"),
        counted(replicas as u64, "replica"),
    );
    writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &heading))?;
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("role", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("range", Align::Left),
    ];
    let mut nodes: Vec<&Node> = Vec::new();
    for shard in &layout.masters {
        push(
            &mut columns,
            [
                Text::toned(shard.master.addr.to_string(), Tone::Strong),
                shard.master.id.short().into(),
                Role::Master.word().into(),
                thousands(shard.slots.count() as u64).into(),
                shard.slots.to_string().into(),
            ],
        );
        nodes.push(&shard.master);
        for (i, replica) in shard.replicas.iter().enumerate() {
            let branch = branch(i + 1 == shard.replicas.len());
            push(
                &mut columns,
                [
                    format!("{branch} {}", replica.addr).into(),
                    replica.id.short().into(),
                    Role::Replica.word().into(),
                    Text::default(),
                    Text::default(),
                ],
            );
            nodes.push(replica);
        }
    }
    let has_zones = nodes.iter().any(|node| node.zone.is_some());
    let zone_room = if has_zones { GAP + LEAST_ZONE } else { 0 };
    fit(
        &mut columns,
        sheet.width.saturating_sub(zone_room),
        &["id", "role"],
    );
    if has_zones {
        // A zone gets what is left of the line, and a little at least.
        let room = sheet
            .width
            .saturating_sub(total_width(&columns) + GAP)
            .max(LEAST_ZONE);
        let mut zones = Column::new("zone", Align::Left);
        for node in nodes {
            let zone = plain(node.zone.as_deref().unwrap_or("-"));
            zones.cells.push(cut(&zone, room).into());
        }
        columns.push(zones);
    }
    draw(out, &columns, sheet.style)?;
    if !layout.warnings.is_empty() {
        writeln!(out)?;
    }
    let mut warnings = layout.warnings.iter();
    warnings.try_for_each(|one| Marked::new(Mark::Warning, one).write_in(out, sheet))
}
