//! The plan of `create`.

use std::io::{self, Write};

use super::{Dialect, head, heading, slots_line};
use crate::cluster::node::Role;
use crate::cluster::slot::SlotSet;
use crate::report::{LayoutView, Node};
use crate::ui::style::{Style, plain};
use crate::ui::summary::{Mark, Marked};

pub(in crate::ui) fn layout(
    out: &mut impl Write,
    layout: &LayoutView,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    if dialect.position().is_none() {
        heading(out, "Creating cluster", style)?;
    }
    let nodes = layout.nodes();
    let text = format!("Performing hash slots allocation on {nodes} nodes...");
    heading(out, &text, style)?;
    match dialect.position() {
        Some(word) => {
            for (place, shard) in layout.masters.iter().enumerate() {
                let (first, last) = (shard.slots.start(), shard.slots.end());
                writeln!(out, "{word}[{place}] -> Slots {first} - {last}")?;
            }
        }
        None => {
            writeln!(out, "Using {} masters:", layout.masters.len())?;
            for shard in &layout.masters {
                writeln!(out, "{}", shard.master.addr)?;
            }
        }
    }
    let replicas = || {
        layout
            .masters
            .iter()
            .flat_map(|shard| shard.replicas.iter().map(move |replica| (shard, replica)))
    };
    let mut extra = Vec::new();
    for shard in &layout.masters {
        let asked = layout.replicas.min(shard.replicas.len());
        let (replicas, more) = shard.replicas.split_at(asked);
        added(out, &shard.master, replicas)?;
        if !more.is_empty() {
            extra.push((shard, more));
        }
    }
    if !extra.is_empty() {
        writeln!(out, "Adding extra replicas...")?;
    }
    for (shard, more) in extra {
        added(out, &shard.master, more)?;
    }
    for shard in &layout.masters {
        let addr = shard.master.addr.to_string();
        head(out, Role::Master, shard.master.id, &addr, style)?;
        let slots: SlotSet = [shard.slots].into_iter().collect();
        slots_line(out, &slots, dialect.flag(Role::Master), dialect)?;
    }
    for (shard, replica) in replicas() {
        let addr = replica.addr.to_string();
        head(out, Role::Replica, replica.id, &addr, style)?;
        writeln!(out, "   replicates {}", shard.master.id)?;
    }
    let mut pairs = replicas();
    if let Some(warning) = dialect.same_host()
        && pairs.any(|(shard, replica)| shard.master.addr.host() == replica.addr.host())
    {
        Marked::new(Mark::Warning, warning).write(out, style)?;
    }
    let mut warnings = layout.warnings.iter();
    warnings.try_for_each(|one| match dialect.marks_warnings() {
        true => Marked::new(Mark::Warning, one).write(out, style),
        false => writeln!(out, "note: {}", plain(one)),
    })
}

fn added(out: &mut impl Write, master: &Node, replicas: &[Node]) -> io::Result<()> {
    for replica in replicas {
        writeln!(out, "Adding replica {} to {}", replica.addr, master.addr)?;
    }
    Ok(())
}
