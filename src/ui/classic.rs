//! The lines of redis-trib.rb and redis-cli, for the scripts that read them.
//!
//! Wording, order and indentation are redis-trib.rb 4.0's where it had the line, and redis-cli's
//! where it did not. What those two never said follows after their lines, never between them.

use std::io::{self, Write};

use super::create::{LayoutView, NodeName};
use super::node_state::{Condition, Row};
use super::remedy::command_line;
use super::style::{Style, Tone, plain};
use super::summary::{self, Mark, Totals, Verdict};
use crate::cluster::health::{Code, Diagnosis, Finding, Severity};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::{SlotRange, SlotSet};

/// `check`.
pub(super) fn check(
    out: &mut impl Write,
    diagnosis: &Diagnosis,
    notes: &[String],
    style: Style,
) -> io::Result<()> {
    info(out, diagnosis, style)?;
    let rows = Row::all(diagnosis);
    let lead = diagnosis.observation.lead().and_then(|node| node.addr());
    let lead = lead.map(ToString::to_string).unwrap_or_default();
    let heading = format!(">>> Performing Cluster Check (using node {lead})");
    writeln!(out, "{}", style.tone(Tone::Strong, &heading))?;
    let replicas = summary::replica_counts(&rows);
    for row in &rows {
        let replicas = replicas.get(&row.member.id).copied().unwrap_or_default();
        member(out, row, replicas, style)?;
    }
    summary::agreement(diagnosis).write(out, style)?;
    details(out, diagnosis, Code::ViewsDiffer)?;
    heading_line(out, "Check for open slots...", style)?;
    for line in summary::open_slots(diagnosis) {
        line.write(out, style)?;
    }
    details(out, diagnosis, Code::SlotsOpen)?;
    heading_line(out, "Check slots coverage...", style)?;
    summary::coverage(diagnosis).write(out, style)?;
    details(out, diagnosis, Code::SlotsUncovered)?;
    for finding in &diagnosis.findings {
        if matches!(
            finding.code,
            Code::ViewsDiffer | Code::SlotsOpen | Code::SlotsUncovered
        ) {
            continue;
        }
        let mark = match finding.severity() {
            Severity::Error => Mark::Err,
            Severity::Warning => Mark::Warning,
        };
        Verdict::new(mark, &finding.message).write(out, style)?;
        remedy(out, finding)?;
    }
    notes
        .iter()
        .try_for_each(|note| writeln!(out, "{}", plain(note)))
}

/// `info`: one line for each master, then the sums.
pub(super) fn info(out: &mut impl Write, diagnosis: &Diagnosis, style: Style) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let replicas = summary::replica_counts(&rows);
    for row in rows.iter().filter(|row| row.is_master()) {
        // redis-cli leaves out masters that it could not ask, here and in the sum below.
        if let Some(keys) = row.keys() {
            writeln!(
                out,
                "{} ({}...) -> {keys} keys | {} slots | {} slaves.",
                row.addr(),
                row.member.id.short(),
                row.member.slots.count(),
                replicas.get(&row.member.id).copied().unwrap_or_default(),
            )?;
        }
    }
    let totals = Totals::of(&rows);
    totals.verdict().write(out, style)?;
    writeln!(
        out,
        "{:.2} keys per slot on average.",
        totals.keys_per_slot()
    )
}

/// The plan of `create`.
pub(super) fn layout(out: &mut impl Write, layout: &LayoutView, style: Style) -> io::Result<()> {
    heading_line(out, "Creating cluster", style)?;
    let nodes = layout.nodes();
    let heading = format!("Performing hash slots allocation on {nodes} nodes...");
    heading_line(out, &heading, style)?;
    writeln!(out, "Using {} masters:", layout.masters.len())?;
    for shard in &layout.masters {
        writeln!(out, "{}", shard.master.addr)?;
    }
    let replicas = || {
        layout
            .masters
            .iter()
            .flat_map(|shard| shard.replicas.iter().map(move |replica| (shard, replica)))
    };
    for (shard, replica) in replicas() {
        let master = &shard.master.addr;
        writeln!(out, "Adding replica {} to {master}", replica.addr)?;
    }
    for shard in &layout.masters {
        let NodeName { id, addr, .. } = &shard.master;
        head(out, Role::Master, *id, &addr.to_string(), style)?;
        slots_line(out, &[shard.slots], "master")?;
    }
    for (shard, replica) in replicas() {
        head(
            out,
            Role::Replica,
            replica.id,
            &replica.addr.to_string(),
            style,
        )?;
        writeln!(out, "   replicates {}", shard.master.id)?;
    }
    for warning in &layout.warnings {
        Verdict::new(Mark::Warning, warning).write(out, style)?;
    }
    Ok(())
}

fn heading_line(out: &mut impl Write, text: &str, style: Style) -> io::Result<()> {
    writeln!(out, "{}", style.tone(Tone::Strong, &format!(">>> {text}")))
}

fn member(out: &mut impl Write, row: &Row<'_>, replicas: usize, style: Style) -> io::Result<()> {
    let member = row.member;
    head(out, member.role, member.id, &row.addr(), style)?;
    let role = match member.role {
        Role::Master => "master",
        Role::Replica => "slave",
    };
    // redis-trib.rb wrote the flags of CLUSTER NODES here, and no others.
    let flags = match row.condition {
        Condition::Fail | Condition::Failing | Condition::Handshake | Condition::NoAddress => {
            format!("{role},{}", row.condition.word())
        }
        _ => role.to_string(),
    };
    slots_line(out, &member.slots.ranges(), &flags)?;
    match (member.role, member.master) {
        (Role::Master, _) => writeln!(out, "   {replicas} additional replica(s)"),
        (Role::Replica, Some(master)) => writeln!(out, "   replicates {master}"),
        (Role::Replica, None) => Ok(()),
    }
}

fn head(out: &mut impl Write, role: Role, id: NodeId, addr: &str, style: Style) -> io::Result<()> {
    let letter = match role {
        Role::Master => "M:",
        Role::Replica => "S:",
    };
    writeln!(out, "{} {id} {addr}", style.tone(Tone::Strong, letter))
}

fn slots_line(out: &mut impl Write, ranges: &[SlotRange], flags: &str) -> io::Result<()> {
    let slots: SlotSet = ranges.iter().copied().collect();
    writeln!(out, "   slots:{slots} ({} slots) {flags}", slots.count())
}

/// Who and where, below a line that says only that.
fn details(out: &mut impl Write, diagnosis: &Diagnosis, code: Code) -> io::Result<()> {
    for finding in summary::findings_about(diagnosis, code) {
        writeln!(out, "    {}", plain(&finding.message))?;
        remedy(out, finding)?;
    }
    Ok(())
}

fn remedy(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    match &finding.remedy {
        Some(remedy) => writeln!(out, "    remedy: {}", plain(&command_line(remedy))),
        None => Ok(()),
    }
}
