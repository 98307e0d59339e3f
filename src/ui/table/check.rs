//! `check`: the nodes, what is wrong, the verdicts.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Sheet;
use super::nodes::draw_nodes;
use crate::cluster::node::Addr;
use crate::report::CheckView;
use crate::ui::style::{Style, Tone, counted, plain};
use crate::ui::summary::{self, Mark, Marked, Totals};

pub(in crate::ui) fn check(out: &mut impl Write, view: &CheckView, sheet: Sheet) -> io::Result<()> {
    let totals = Totals::of(view);
    let versions = view.versions();
    let heading = heading(totals, &versions, view.lead_addr.as_ref(), sheet.style);
    writeln!(out, "{heading}\n")?;
    draw_nodes(out, &view.nodes, &versions, sheet)?;
    writeln!(out)?;
    findings(out, view, sheet)?;
    sum(totals).write(out, sheet.style)?;
    summary::agreement(view).write(out, sheet.style)?;
    for line in summary::open_slots(view) {
        line.write(out, sheet.style)?;
    }
    summary::coverage(view).write(out, sheet.style)?;
    if let Some(count) = count_findings(view) {
        count.write(out, sheet.style)?;
    }
    let mut notes = view.notes.iter();
    notes.try_for_each(|note| writeln!(out, "{}", plain(note)))
}

/// `6 nodes: 3 masters, 3 replicas, 12,345 keys, redis 7.0.15, seen from 10.0.0.3:6379`.
pub(super) fn heading(
    totals: Totals,
    versions: &BTreeSet<String>,
    lead: Option<&Addr>,
    style: Style,
) -> String {
    let mut parts = vec![
        counted(totals.masters as u64, "master"),
        counted(totals.replicas() as u64, "replica"),
        counted(totals.keys, "key"),
    ];
    // A single version is written here; several get a column.
    if let (Some(only), 1) = (versions.first(), versions.len()) {
        parts.push(only.clone());
    }
    if let Some(lead) = lead {
        parts.push(format!("seen from {lead}"));
    }
    let nodes = counted(totals.nodes as u64, "node");
    format!("{}: {}", style.tone(Tone::Strong, &nodes), parts.join(", "))
}

/// The keys of the cluster. A sum over some of its masters only is marked as a warning.
pub(super) fn sum(totals: Totals) -> Marked {
    let (keys, heard, all) = (totals.keys, totals.masters_heard, totals.masters);
    if heard == all {
        return totals.line();
    }
    let silent = match all - heard {
        1 => "1 does not answer".to_string(),
        many => format!("{many} do not answer"),
    };
    let text = format!("{keys} keys in {heard} of {all} masters; {silent}.");
    Marked::new(Mark::Warning, text)
}

fn findings(out: &mut impl Write, view: &CheckView, sheet: Sheet) -> io::Result<()> {
    let style = sheet.style;
    for finding in &view.findings {
        let tone = Tone::of(finding.severity);
        let head = format!("{} {}", finding.severity.word(), finding.code);
        let message = plain(&finding.message);
        let mut room = sheet.width.saturating_sub(head.chars().count() + 2);
        write!(out, "{}:", style.tone(tone, &head))?;
        // Lines are broken between words, but not between an address and its `(id)`.
        let mut used = 0;
        for word in message.replace(" (", "\u{a0}(").split(' ') {
            let width = word.chars().count();
            if used > 0 && used + 1 + width > room {
                write!(out, "\n   ")?;
                room = sheet.width.saturating_sub(4);
                used = 0;
            }
            write!(out, " {}", word.replace('\u{a0}', " "))?;
            used += width + usize::from(used > 0);
        }
        writeln!(out)?;
        // Never broken, so that it can be copied.
        if let Some(remedy) = &finding.remedy {
            writeln!(out, "  → {}", style.tone(Tone::Strong, &plain(remedy)))?;
        }
    }
    if view.findings.is_empty() {
        Ok(())
    } else {
        writeln!(out)
    }
}

fn count_findings(view: &CheckView) -> Option<Marked> {
    let (errors, warnings) = view.counts();
    let mut parts = Vec::new();
    if errors > 0 {
        parts.push(counted(errors as u64, "error"));
    }
    if warnings > 0 {
        parts.push(counted(warnings as u64, "warning"));
    }
    let mark = match (errors, warnings) {
        (0, 0) => return None,
        (0, _) => Mark::Warning,
        _ => Mark::Err,
    };
    Some(Marked::new(mark, format!("{}.", parts.join(", "))))
}
