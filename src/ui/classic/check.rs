//! `check` and `info`.

use std::io::{self, Write};

use super::{Dialect, head, heading, slots_line};
use crate::cluster::health::{Code, Severity};
use crate::cluster::node::{Addr, Role};
use crate::report::{CheckView, FindingView, InfoView, MasterView, MemberView, NodeState};
use crate::ui::Mode;
use crate::ui::style::{Style, plain};
use crate::ui::summary::{self, Mark, Marked, Totals};

/// The codes whose findings follow the lines that scripts look for, as details.
const DETAILS: [Code; 3] = [Code::ViewsDiffer, Code::SlotsOpen, Code::SlotsUncovered];

#[cfg(test)]
pub(in crate::ui) fn check(
    out: &mut impl Write,
    view: &CheckView,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    check_of(out, view, Nodes::Listed, style, dialect)
}

/// The same with or without the nodes.
pub(in crate::ui) fn check_of(
    out: &mut impl Write,
    view: &CheckView,
    nodes: Nodes,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    sums_of(out, view, style, dialect)?;
    checked(out, view, nodes, style, dialect)?;
    for finding in &view.findings {
        if DETAILS.contains(&finding.code) {
            continue;
        }
        match finding.severity {
            Severity::Error => Marked::new(Mark::Err, &finding.message).write(out, style)?,
            Severity::Warning if dialect.marks_warnings() => {
                Marked::new(Mark::Warning, &finding.message).write(out, style)?;
            }
            Severity::Warning => writeln!(out, "note: {}", plain(&finding.message))?,
        }
        remedy(out, finding)?;
    }
    let mut notes = view.notes.iter();
    notes.try_for_each(|note| writeln!(out, "{}", plain(note)))
}

/// Whether the check lists the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ui) enum Nodes {
    /// All of them.
    Listed,
    /// None.
    LeftOut,
}

/// The check itself, which these programs print before changes too.
pub(in crate::ui) fn checked(
    out: &mut impl Write,
    view: &CheckView,
    nodes: Nodes,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    let lead = view.lead_addr.as_ref().map(Addr::to_string);
    let lead = lead.unwrap_or_default();
    let using = format!("Performing Cluster Check (using node {lead})");
    heading(out, &using, style)?;
    if nodes == Nodes::Listed {
        let seen = dialect.seen(view);
        let masters = seen.masters();
        for node in &seen.nodes {
            let replicas = masters.iter().find(|master| master.id == node.id);
            let replicas = replicas.map_or(0, |one| one.replicas);
            member(out, node, replicas, style, dialect)?;
        }
    }
    summary::agreement(view).write(out, style)?;
    details(out, view, Code::ViewsDiffer)?;
    heading(out, "Check for open slots...", style)?;
    for line in summary::open_slots(view) {
        line.write(out, style)?;
    }
    details(out, view, Code::SlotsOpen)?;
    heading(out, "Check slots coverage...", style)?;
    summary::coverage(view).write(out, style)?;
    details(out, view, Code::SlotsUncovered)
}

pub(in crate::ui) fn info(out: &mut impl Write, view: &InfoView, style: Style) -> io::Result<()> {
    let native = Dialect::of(Mode::Native);
    sums(out, &view.masters, Totals::of_info(view), style, native)
}

/// The masters and the sums of a cluster, as these programs see it.
pub(in crate::ui) fn sums_of(
    out: &mut impl Write,
    view: &CheckView,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    let seen = dialect.seen(view);
    sums(out, &seen.masters(), Totals::of(&seen), style, dialect)
}

/// One line for each master, then the sums.
fn sums(
    out: &mut impl Write,
    masters: &[MasterView],
    totals: Totals,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    for master in masters {
        // redis-cli leaves out masters that it could not ask, here and in the sum below.
        if let Some(keys) = master.keys {
            let addr = master.addr.as_ref().map(Addr::to_string);
            writeln!(
                out,
                "{} ({}...) -> {keys} keys | {} slots | {} {}.",
                addr.unwrap_or_default(),
                master.id.short(),
                master.slot_count,
                master.replicas,
                dialect.replicas(),
            )?;
        }
    }
    totals.line(dialect.masters()).write(out, style)?;
    writeln!(
        out,
        "{:.2} keys per slot on average.",
        totals.keys_per_slot()
    )
}

fn member(
    out: &mut impl Write,
    node: &MemberView,
    replicas: usize,
    style: Style,
    dialect: Dialect,
) -> io::Result<()> {
    head(out, node.role, node.id, &node.shown_addr(), style)?;
    let role = dialect.flag(node.role);
    // redis-trib.rb wrote the flags of CLUSTER NODES here, and no others.
    let flags = match node.state {
        NodeState::Fail | NodeState::Failing | NodeState::Handshake | NodeState::NoAddress => {
            format!("{role},{}", node.state.word())
        }
        _ => role.to_string(),
    };
    slots_line(out, &node.slots, &flags, dialect)?;
    match (node.role, node.replicates) {
        (Role::Master, _) if replicas == 0 && !dialect.tells_no_replicas() => Ok(()),
        (Role::Master, _) => writeln!(out, "   {replicas} additional replica(s)"),
        (Role::Replica, Some(master)) => writeln!(out, "   replicates {master}"),
        (Role::Replica, None) => Ok(()),
    }
}

/// The nodes and slots, below a line that has neither.
fn details(out: &mut impl Write, view: &CheckView, code: Code) -> io::Result<()> {
    for finding in view.findings_about(code) {
        writeln!(out, "    {}", plain(&finding.message))?;
        remedy(out, finding)?;
    }
    Ok(())
}

fn remedy(out: &mut impl Write, finding: &FindingView) -> io::Result<()> {
    match &finding.remedy {
        Some(remedy) => writeln!(out, "    remedy: {}", plain(remedy)),
        None => Ok(()),
    }
}
