//! `check`: the nodes, what is wrong, the verdicts.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::Sheet;
use super::nodes::{draw_nodes, draw_shards};
use crate::cluster::node::Addr;
use crate::cluster::slot::SLOTS;
use crate::report::CheckView;
use crate::ui::style::{Tone, counted, plain, thousands, wrapped};
use crate::ui::summary::{Totals, labelled};

pub(in crate::ui) fn check(out: &mut impl Write, view: &CheckView, sheet: Sheet) -> io::Result<()> {
    let versions = view.versions();
    let lead = view.lead_addr.as_ref();
    heading(out, Totals::of(view), &versions, lead, sheet)?;
    draw_nodes(out, &view.nodes, &versions, sheet)?;
    writeln!(out)?;
    conclusion(out, view, sheet)
}

/// `check --brief`: one line for each shard.
pub(in crate::ui) fn check_brief(
    out: &mut impl Write,
    view: &CheckView,
    sheet: Sheet,
) -> io::Result<()> {
    let versions = view.versions();
    let lead = view.lead_addr.as_ref();
    heading(out, Totals::of(view), &versions, lead, sheet)?;
    draw_shards(out, &view.nodes, sheet)?;
    writeln!(out)?;
    conclusion(out, view, sheet)
}

/// What is wrong, the verdict, and what else was found out.
fn conclusion(out: &mut impl Write, view: &CheckView, sheet: Sheet) -> io::Result<()> {
    findings(out, view, sheet)?;
    verdict(out, view, sheet)?;
    let mut notes = view.notes.iter();
    notes.try_for_each(|note| writeln!(out, "{}", wrapped(&plain(note), 0, sheet.width)))
}

/// `6 nodes: 3 masters, 3 replicas, 12,345 keys, redis 7.0.15, seen from 10.0.0.3:6379`, and an empty line.
pub(super) fn heading(
    out: &mut impl Write,
    totals: Totals,
    versions: &BTreeSet<String>,
    lead: Option<&Addr>,
    sheet: Sheet,
) -> io::Result<()> {
    let masters = counted(totals.masters as u64, "master");
    let mut parts = vec![
        masters.clone(),
        counted(totals.replicas() as u64, "replica"),
    ];
    let keys = counted(totals.keys, "key");
    // A sum over some of the masters only is not told as that of the cluster.
    parts.push(match totals.masters_heard == totals.masters {
        true => keys,
        false => format!("{keys} on {} of {masters}", totals.masters_heard),
    });
    // A single version is written here; several get a column.
    if let (Some(only), 1) = (versions.first(), versions.len()) {
        parts.push(only.clone());
    }
    if let Some(lead) = lead {
        parts.push(format!("seen from {lead}"));
    }
    let nodes = counted(totals.nodes as u64, "node");
    labelled(out, &nodes, Tone::Strong, &parts.join(", "), sheet)?;
    writeln!(out)
}

fn findings(out: &mut impl Write, view: &CheckView, sheet: Sheet) -> io::Result<()> {
    let style = sheet.style;
    for finding in &view.findings {
        let tone = Tone::of(finding.severity);
        let head = format!("{} {}", finding.severity.word(), finding.code);
        labelled(out, &head, tone, &finding.message, sheet)?;
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

/// Whether the cluster is healthy, and what that means for its slots.
fn verdict(out: &mut impl Write, view: &CheckView, sheet: Sheet) -> io::Result<()> {
    let (errors, warnings) = view.counts();
    let (word, tone) = match (view.healthy, warnings) {
        (false, _) => ("not healthy", Tone::Bad),
        (true, 0) => ("healthy", Tone::Good),
        (true, _) => ("healthy", Tone::Warning),
    };
    let mut label = vec![word.to_string()];
    for (count, noun) in [(errors, "error"), (warnings, "warning")] {
        if count > 0 {
            label.push(counted(count as u64, noun));
        }
    }
    let all = thousands(u64::from(SLOTS));
    let mut parts = vec![match view.slots_covered {
        covered if covered == usize::from(SLOTS) => format!("all {all} slots are served"),
        covered => format!("{} of {all} slots are served", thousands(covered as u64)),
    }];
    parts.push(match view.views_agree {
        true => "all nodes agree about slot owners".to_string(),
        false => "nodes disagree about slot owners".to_string(),
    });
    match view.open_slots() {
        0 => {}
        1 => parts.push("1 slot is open".to_string()),
        open => parts.push(format!("{} slots are open", thousands(open as u64))),
    }
    labelled(out, &label.join(", "), tone, &parts.join("; "), sheet)
}
