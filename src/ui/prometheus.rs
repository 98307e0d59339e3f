//! Metrics for the textfile collector of Prometheus' node exporter.
//!
//! Every code of a finding has a line, also at 0: an alert on a series that vanishes never ends.

use std::io::{self, Write};

use super::node_state::{Condition, Row};
use super::style::plain;
use super::summary::{self, Totals};
use crate::cluster::health::{Code, Diagnosis};
use crate::cluster::node::Addr;
use crate::cluster::parse::MasterLink;

/// `check`.
pub(super) fn check(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let totals = Totals::of(&rows);

    let name = "redis_trib_cluster_healthy";
    head(out, name, "Whether no finding is an error.")?;
    writeln!(out, "{name} {}", u8::from(diagnosis.is_healthy()))?;

    let name = "redis_trib_cluster_slots_covered";
    head(out, name, "Slots that a master which is not down serves.")?;
    writeln!(out, "{name} {}", diagnosis.slots_covered())?;

    let name = "redis_trib_cluster_nodes";
    head(out, name, "Members by role.")?;
    writeln!(out, "{name}{{role=\"master\"}} {}", totals.masters)?;
    writeln!(out, "{name}{{role=\"replica\"}} {}", totals.replicas())?;

    let name = "redis_trib_node_up";
    head(
        out,
        name,
        "Whether a member answers and is not held for dead.",
    )?;
    for row in &rows {
        let answers = row.node.is_some_and(|node| node.report().is_some());
        let up = answers && row.condition != Condition::Fail;
        writeln!(out, "{name}{} {}", labels(row), u8::from(up))?;
    }

    let name = "redis_trib_node_keys";
    head(out, name, "Keys of a member that answers.")?;
    for row in &rows {
        if let Some(keys) = row.keys() {
            writeln!(out, "{name}{} {keys}", labels(row))?;
        }
    }

    let name = "redis_trib_replica_link_up";
    head(out, name, "Whether a replica that answers has its master.")?;
    for row in rows.iter().filter(|row| !row.is_master()) {
        let report = row.node.and_then(|node| node.report());
        if let Some(link) = report.and_then(|report| report.info.master_link) {
            let up = u8::from(link == MasterLink::Up);
            writeln!(out, "{name}{} {up}", labels(row))?;
        }
    }

    let name = "redis_trib_findings";
    head(out, name, "Findings by code and severity.")?;
    for code in Code::ALL {
        let count = summary::findings_about(diagnosis, *code).count();
        let severity = code.severity().word();
        writeln!(
            out,
            "{name}{{code=\"{code}\",severity=\"{severity}\"}} {count}"
        )?;
    }
    Ok(())
}

/// `check --local` of a process that is alive.
pub(super) fn alive(out: &mut impl Write, addr: &Addr) -> io::Result<()> {
    let name = "redis_trib_local_alive";
    head(
        out,
        name,
        "Whether a process answers, and runs in cluster mode.",
    )?;
    writeln!(out, "{name}{{addr=\"{}\"}} 1", escaped(&addr.to_string()))
}

fn head(out: &mut impl Write, name: &str, help: &str) -> io::Result<()> {
    writeln!(out, "# HELP {name} {help}")?;
    writeln!(out, "# TYPE {name} gauge")
}

fn labels(row: &Row<'_>) -> String {
    format!(
        "{{id=\"{}\",addr=\"{}\"}}",
        row.member.id,
        escaped(&row.addr())
    )
}

/// A label's value: backslash, quote and line feed escaped (Prometheus' text format 0.0.4).
fn escaped(value: &str) -> String {
    let escaped = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    plain(&escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        assert_eq!(escaped("a\\b\"c\nd\x1be"), "a\\\\b\\\"c\\nde");
    }
}
