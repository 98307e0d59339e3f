//! The plan of `place`.

use std::io::{self, Write};

use super::TextFormat;
use crate::report::{PlaceStepView, PlaceView, PlacedGroup};
use crate::ui::style::{bytes, counted};
use crate::ui::summary::{Mark, Marked};

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    view: &PlaceView,
    format: TextFormat,
) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        format.heading("What the loss of each place takes down")
    )?;
    for group in &view.groups {
        format.sentence(out, "  ", &line(group))?;
    }
    for warning in &view.warnings {
        format.marked(out, &Marked::new(Mark::Warning, warning))?;
    }
    if view.steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", format.heading("Steps"))?;
    for (number, step) in (1..).zip(&view.steps) {
        format.sentence(out, &format!("  {number:>2}. "), &sentence(step))?;
    }
    format.sentence(
        out,
        "",
        match view.is_proven {
            true => "No placement of these nodes is better, and none as good takes fewer steps.",
            false => "A better placement may exist: there are too many to try all.",
        },
    )
}

/// `host 10.0.0.1: 3 masters → 1 master, the majority → no majority`.
fn line(group: &PlacedGroup) -> String {
    let state = |masters: usize, lost: usize, quorum: bool| {
        let mut text = counted(masters as u64, "master");
        if lost > 0 {
            text += &format!(", all copies of {}", counted(lost as u64, "shard"));
        }
        if quorum {
            text += ", the majority of the masters";
        }
        text
    };
    let before = state(
        group.masters_before,
        group.shards_lost_before,
        group.quorum_lost_before,
    );
    let after = state(
        group.masters_after,
        group.shards_lost_after,
        group.quorum_lost_after,
    );
    match before == after {
        true => format!("{} {}: {before}", group.kind, group.name),
        false => format!("{} {}: {before} → {after}", group.kind, group.name),
    }
}

fn sentence(step: &PlaceStepView) -> String {
    match step {
        PlaceStepView::FailOver { to, from } => {
            format!("{to} takes over from {from}: writes are held for milliseconds")
        }
        PlaceStepView::Move {
            replica,
            from,
            to,
            copied_bytes,
        } => format!(
            "replica {replica} leaves {} and follows {}: its copy is discarded, {} forks and sends {}",
            from.addr,
            to.addr,
            to.addr,
            bytes(*copied_bytes)
        ),
    }
}
