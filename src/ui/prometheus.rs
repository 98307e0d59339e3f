//! Metrics for the textfile collector of Prometheus' node exporter.
//!
//! Every code of a finding has a line, also at 0: an alert on a series that vanishes never ends.

use std::io::{self, Write};

use super::style::plain;
use super::summary::Totals;
use crate::cluster::health::Code;
use crate::cluster::node::Addr;
use crate::report::{CheckView, LinkState, MemberView, NodeState};

/// `check`.
pub(super) fn check(out: &mut impl Write, view: &CheckView) -> io::Result<()> {
    let totals = Totals::of(view);

    let name = "redis_trib_cluster_healthy";
    head(out, name, "Whether no finding is an error.")?;
    writeln!(out, "{name} {}", u8::from(view.healthy))?;

    let name = "redis_trib_cluster_slots_covered";
    head(out, name, "Slots that a master which is not down serves.")?;
    writeln!(out, "{name} {}", view.slots_covered)?;

    let name = "redis_trib_cluster_nodes";
    head(out, name, "Members by role.")?;
    writeln!(out, "{name}{{role=\"master\"}} {}", totals.masters)?;
    writeln!(out, "{name}{{role=\"replica\"}} {}", totals.replicas())?;

    let name = "redis_trib_node_up";
    head(
        out,
        name,
        "Whether a member answers and is not flagged fail.",
    )?;
    for node in &view.nodes {
        let up = node.answered && node.state != NodeState::Fail;
        writeln!(out, "{name}{} {}", labels(node), u8::from(up))?;
    }

    let name = "redis_trib_node_keys";
    head(out, name, "Keys of a member that answers.")?;
    for node in &view.nodes {
        if let Some(keys) = node.keys {
            writeln!(out, "{name}{} {keys}", labels(node))?;
        }
    }

    let name = "redis_trib_replica_link_up";
    head(
        out,
        name,
        "Whether the link of a replica that answers to its master is up.",
    )?;
    for node in &view.nodes {
        if let Some(link) = node.master_link {
            let up = u8::from(link == LinkState::Up);
            writeln!(out, "{name}{} {up}", labels(node))?;
        }
    }

    let name = "redis_trib_findings";
    head(out, name, "Findings by code and severity.")?;
    for code in Code::ALL {
        let count = view.findings_about(*code).count();
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

fn labels(node: &MemberView) -> String {
    let addr = escaped(&node.shown_addr());
    format!("{{id=\"{}\",addr=\"{addr}\"}}", node.id)
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
