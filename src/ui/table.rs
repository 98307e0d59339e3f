//! Tables for a person at a terminal.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::columns::{Align, Column, Text, branch, draw, push, total_width};
use super::create::{LayoutView, NodeName};
use super::node_state::Row;
use super::node_table::{self, keys, memory};
use super::remedy::command_line;
use super::style::{Style, Tone, counted, plain, thousands};
use super::summary::{self, Mark, Totals, Verdict};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Role;
use crate::cluster::parse::Version;

/// Where a table goes: how wide, and whether in colour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sheet {
    pub(super) width: usize,
    pub(super) style: Style,
}

/// `check`: the nodes, what is wrong, the verdicts.
pub(super) fn check(
    out: &mut impl Write,
    diagnosis: &Diagnosis,
    notes: &[String],
    sheet: Sheet,
) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let versions = versions(diagnosis);
    writeln!(
        out,
        "{}\n",
        summary(diagnosis, &rows, &versions, sheet.style)
    )?;
    node_table::draw_nodes(out, &rows, &versions, sheet)?;
    writeln!(out)?;
    findings(out, diagnosis, sheet)?;
    sum(Totals::of(&rows)).write(out, sheet.style)?;
    summary::agreement(diagnosis).write(out, sheet.style)?;
    for line in summary::open_slots(diagnosis) {
        line.write(out, sheet.style)?;
    }
    summary::coverage(diagnosis).write(out, sheet.style)?;
    if let Some(count) = count_findings(diagnosis) {
        count.write(out, sheet.style)?;
    }
    notes
        .iter()
        .try_for_each(|note| writeln!(out, "{}", plain(note)))
}

/// `info`: the masters, and the sums.
pub(super) fn info(out: &mut impl Write, diagnosis: &Diagnosis, sheet: Sheet) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let versions = versions(diagnosis);
    writeln!(
        out,
        "{}\n",
        summary(diagnosis, &rows, &versions, sheet.style)
    )?;
    let replicas = summary::replica_counts(&rows);
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("keys", Align::Right),
        Column::new("slots", Align::Right),
        Column::new("replicas", Align::Right),
        Column::new("memory", Align::Right),
        Column::new("state", Align::Left),
    ];
    for row in rows.iter().filter(|row| row.is_master()) {
        let replicas = replicas.get(&row.member.id).copied().unwrap_or_default();
        push(
            &mut columns,
            [
                Text::toned(row.addr(), Tone::Strong),
                row.member.id.short().into(),
                keys(row).into(),
                thousands(row.member.slots.count() as u64).into(),
                replicas.to_string().into(),
                memory(row).into(),
                Text::toned(row.condition.to_string(), row.condition.tone()),
            ],
        );
    }
    if total_width(&columns) > sheet.width {
        columns.retain(|column| column.title != "memory");
    }
    draw(out, &columns, sheet.style)?;
    let totals = Totals::of(&rows);
    writeln!(out)?;
    sum(totals).write(out, sheet.style)?;
    writeln!(
        out,
        "{:.2} keys per slot on average.",
        totals.keys_per_slot()
    )
}

/// The keys of the cluster. A sum over some of its masters is no summary, and is not marked as one.
fn sum(totals: Totals) -> Verdict {
    let (keys, heard, all) = (totals.keys, totals.masters_heard, totals.masters);
    if heard == all {
        return totals.verdict();
    }
    let silent = match all - heard {
        1 => "1 does not answer".to_string(),
        many => format!("{many} do not answer"),
    };
    let text = format!("{keys} keys in {heard} of {all} masters; {silent}.");
    Verdict::new(Mark::Warning, text)
}

/// The plan of `create`.
pub(super) fn layout(out: &mut impl Write, layout: &LayoutView, sheet: Sheet) -> io::Result<()> {
    let replicas = layout.nodes() - layout.masters.len();
    writeln!(
        out,
        "{}\n",
        sheet.style.tone(
            Tone::Strong,
            &format!(
                "A new cluster of {}: {}, {}",
                counted(layout.nodes() as u64, "node"),
                counted(layout.masters.len() as u64, "master"),
                counted(replicas as u64, "replica"),
            )
        )
    )?;
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("role", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("range", Align::Left),
    ];
    let mut zones = Column::new("zone", Align::Left);
    let zone = |name: &NodeName| Text::from(plain(name.zone.as_deref().unwrap_or("-")));
    let mut zoned = false;
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
        zones.cells.push(zone(&shard.master));
        zoned |= shard.master.zone.is_some();
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
            zones.cells.push(zone(replica));
            zoned |= replica.zone.is_some();
        }
    }
    if zoned {
        columns.push(zones);
    }
    draw(out, &columns, sheet.style)?;
    if !layout.warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in &layout.warnings {
        Verdict::new(Mark::Warning, warning).write(out, sheet.style)?;
    }
    Ok(())
}

fn summary(
    diagnosis: &Diagnosis,
    rows: &[Row<'_>],
    versions: &BTreeSet<Version>,
    style: Style,
) -> String {
    let totals = Totals::of(rows);
    let mut parts = vec![
        counted(totals.masters as u64, "master"),
        counted(totals.replicas() as u64, "replica"),
        counted(totals.keys, "key"),
    ];
    // One version is said once; several get a column.
    if let (Some(only), 1) = (versions.first(), versions.len()) {
        parts.push(only.to_string());
    }
    let lead = diagnosis.observation.lead().and_then(|node| node.addr());
    if let Some(lead) = lead {
        parts.push(format!("seen from {lead}"));
    }
    let nodes = counted(totals.nodes as u64, "node");
    format!("{}: {}", style.tone(Tone::Strong, &nodes), parts.join(", "))
}

fn versions(diagnosis: &Diagnosis) -> BTreeSet<Version> {
    let reports = diagnosis.observation.reports();
    reports
        .filter_map(|(_, report)| report.info.version)
        .collect()
}

fn findings(out: &mut impl Write, diagnosis: &Diagnosis, sheet: Sheet) -> io::Result<()> {
    let style = sheet.style;
    for finding in &diagnosis.findings {
        let tone = Tone::of(finding.severity());
        let head = format!("{} {}", finding.severity().word(), finding.code);
        let message = plain(&finding.message);
        let mut room = sheet.width.saturating_sub(head.chars().count() + 2);
        write!(out, "{}:", style.tone(tone, &head))?;
        // Lines are broken between words, though never between an address and its `(id)`.
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
        // Never broken: it is there to be copied.
        if let Some(remedy) = &finding.remedy {
            writeln!(
                out,
                "  → {}",
                style.tone(Tone::Strong, &plain(&command_line(remedy)))
            )?;
        }
    }
    if diagnosis.findings.is_empty() {
        Ok(())
    } else {
        writeln!(out)
    }
}

fn count_findings(diagnosis: &Diagnosis) -> Option<Verdict> {
    let (errors, warnings) = summary::counts(diagnosis);
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
    Some(Verdict::new(mark, format!("{}.", parts.join(", "))))
}
