//! What `del-node` is about to do.

use std::io::{self, Write};

use super::columns::{Align, Column, Text, draw, push};
use super::create::NodeName;
use super::style::{Tone, counted, thousands};
use super::{Format, Ui, json};
use crate::cluster::node::Role;

/// Who leaves, and what that means for others.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaveView {
    /// The node by which the cluster was found.
    pub lead: String,
    /// Who leaves.
    pub leavers: Vec<LeavingNode>,
    /// Replicas that get another master, each with that one.
    pub given: Vec<(NodeName, NodeName)>,
}

/// A node that leaves.
#[derive(Debug, Clone, PartialEq)]
pub struct LeavingNode {
    /// The node.
    pub node: NodeName,
    /// What it does now.
    pub role: Role,
    /// How many slots it gives away before.
    pub slots: usize,
    /// Whether it can be told; else the others forget it, and that is all.
    pub answers: bool,
}

impl LeavingNode {
    fn what(&self) -> &'static str {
        match (self.answers, self.role) {
            (false, _) => "does not answer: the others forget it",
            (true, Role::Replica) => "leaves, and deletes its copy",
            (true, Role::Master) if self.slots > 0 => "gives its slots away, then leaves",
            (true, Role::Master) => "leaves",
        }
    }
}

impl Ui {
    /// The plan.
    pub fn leaving(&self, view: &LeaveView) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Json => json::leaving(out, view),
            Format::Table(sheet) => {
                let title = format!("{} to leave", counted(view.leavers.len() as u64, "node"));
                writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &title))?;
                let mut columns = vec![
                    Column::new("node", Align::Left),
                    Column::new("id", Align::Left),
                    Column::new("role", Align::Left),
                    Column::new("slots", Align::Right),
                    Column::new("what happens", Align::Left),
                ];
                for leaver in &view.leavers {
                    push(
                        &mut columns,
                        [
                            Text::toned(leaver.node.addr.to_string(), Tone::Strong),
                            leaver.node.id.short().into(),
                            leaver.role.word().into(),
                            thousands(leaver.slots as u64).into(),
                            leaver.what().into(),
                        ],
                    );
                }
                for (replica, to) in &view.given {
                    push(
                        &mut columns,
                        [
                            replica.addr.to_string().into(),
                            replica.id.short().into(),
                            Role::Replica.word().into(),
                            Text::default(),
                            format!("stays, and follows {to}").into(),
                        ],
                    );
                }
                draw(out, &columns, sheet.style)?;
                writeln!(out)
            }
            Format::Classic(_) | Format::Prometheus | Format::Nagios => {
                for (replica, to) in &view.given {
                    writeln!(out, ">>> {} as replica of {}", replica.addr, to.addr)?;
                }
                view.leavers.iter().try_for_each(|leaver| {
                    let (id, lead) = (leaver.node.id, &view.lead);
                    writeln!(out, ">>> Removing node {id} from cluster {lead}")
                })
            }
        })
    }
}
