//! `check` and `info`.

use std::io::{self, Write};

use super::{head, heading, slots_line};
use crate::cluster::health::{Code, Severity};
use crate::cluster::node::{Addr, Role};
use crate::report::{CheckView, FindingView, InfoView, MasterView, MemberView, NodeState};
use crate::ui::style::{Style, plain};
use crate::ui::summary::{self, Mark, Marked, Totals};

/// The codes whose findings follow the lines that scripts look for, as details.
const DETAILS: [Code; 3] = [Code::ViewsDiffer, Code::SlotsOpen, Code::SlotsUncovered];

pub(in crate::ui) fn check(out: &mut impl Write, view: &CheckView, style: Style) -> io::Result<()> {
    let masters = view.masters();
    sums(out, &masters, Totals::of(view), style)?;
    let lead = view.lead_addr.as_ref().map(Addr::to_string);
    let lead = lead.unwrap_or_default();
    let using = format!("Performing Cluster Check (using node {lead})");
    heading(out, &using, style)?;
    for node in &view.nodes {
        let replicas = masters.iter().find(|master| master.id == node.id);
        member(out, node, replicas.map_or(0, |one| one.replicas), style)?;
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
    details(out, view, Code::SlotsUncovered)?;
    for finding in &view.findings {
        if DETAILS.contains(&finding.code) {
            continue;
        }
        let mark = match finding.severity {
            Severity::Error => Mark::Err,
            Severity::Warning => Mark::Warning,
        };
        Marked::new(mark, &finding.message).write(out, style)?;
        remedy(out, finding)?;
    }
    let mut notes = view.notes.iter();
    notes.try_for_each(|note| writeln!(out, "{}", plain(note)))
}

pub(in crate::ui) fn info(out: &mut impl Write, view: &InfoView, style: Style) -> io::Result<()> {
    sums(out, &view.masters, Totals::of_info(view), style)
}

/// One line for each master, then the sums.
fn sums(
    out: &mut impl Write,
    masters: &[MasterView],
    totals: Totals,
    style: Style,
) -> io::Result<()> {
    for master in masters {
        // redis-cli leaves out masters that it could not ask, here and in the sum below.
        if let Some(keys) = master.keys {
            let addr = master.addr.as_ref().map(Addr::to_string);
            writeln!(
                out,
                "{} ({}...) -> {keys} keys | {} slots | {} slaves.",
                addr.unwrap_or_default(),
                master.id.short(),
                master.slot_count,
                master.replicas,
            )?;
        }
    }
    totals.line().write(out, style)?;
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
) -> io::Result<()> {
    head(out, node.role, node.id, &node.shown_addr(), style)?;
    let role = match node.role {
        Role::Master => "master",
        Role::Replica => "slave",
    };
    // redis-trib.rb wrote the flags of CLUSTER NODES here, and no others.
    let flags = match node.state {
        NodeState::Fail | NodeState::Failing | NodeState::Handshake | NodeState::NoAddress => {
            format!("{role},{}", node.state.word())
        }
        _ => role.to_string(),
    };
    slots_line(out, &node.slots, &flags)?;
    match (node.role, node.replicates) {
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
