//! Which nodes are about to join a cluster, and that they did.

use std::io::{self, Write};

use super::columns::{Align, Column, Text, draw, push};
use super::create::NodeName;
use super::style::{Tone, counted, plain, thousands};
use super::summary::{Mark, Verdict};
use super::table::Sheet;
use super::{Format, Ui};
use crate::cluster::node::{Addr, Role};

/// The plan of `add-node`.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinView {
    /// The member that was named, or led to the others.
    pub lead: Addr,
    /// How many members there are.
    pub members: usize,
    /// Those that join.
    pub nodes: Vec<JoiningNode>,
    /// Libraries of functions that new masters get.
    pub libraries: usize,
    /// What people should know.
    pub warnings: Vec<String>,
}

/// A node that joins.
#[derive(Debug, Clone, PartialEq)]
pub struct JoiningNode {
    /// The node.
    pub node: NodeName,
    /// Its master, where it becomes a replica.
    pub follows: Option<NodeName>,
    /// What is done to it before.
    pub before: Before,
    /// How many slots it gets (`--fill`).
    pub slots: usize,
}

/// What is done to a node before it joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nothing,
    /// It forgets the nodes that it knew.
    Reset,
    /// It loses its keys, of which there are so many, and its id.
    Flush(u64),
}

impl JoiningNode {
    /// What it becomes.
    pub fn role(&self) -> Role {
        match self.follows {
            None => Role::Master,
            Some(_) => Role::Replica,
        }
    }
}

impl Before {
    /// In words; empty for nothing.
    pub(super) fn words(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Reset => "forgets its old cluster".to_string(),
            Self::Flush(keys) => format!("LOSES its {} and its id", counted(keys, "key")),
        }
    }

    /// Its word in JSON.
    pub(super) fn reset(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Reset => Some("soft"),
            Self::Flush(_) => Some("hard"),
        }
    }

    /// Keys that are lost.
    pub(super) fn keys_lost(self) -> u64 {
        match self {
            Self::Flush(keys) => keys,
            Self::Nothing | Self::Reset => 0,
        }
    }
}

/// As redis-trib.rb and redis-cli begin it.
fn classic(out: &mut impl Write, view: &JoinView) -> io::Result<()> {
    for joining in &view.nodes {
        let addr = &joining.node.addr;
        writeln!(out, ">>> Adding node {addr} to cluster {}", view.lead)?;
        if joining.before != Before::Nothing {
            writeln!(out, "It {} before that.", joining.before.words())?;
        }
        if let Some(master) = &joining.follows {
            writeln!(out, ">>> Configure node as replica of {}.", master.addr)?;
        }
        if joining.slots > 0 {
            writeln!(out, "It gets {} slots.", joining.slots)?;
        }
    }
    if view.libraries > 0 {
        writeln!(out, "{}", libraries(view.libraries))?;
    }
    Ok(())
}

fn libraries(count: usize) -> String {
    let noun = if count == 1 { "library" } else { "libraries" };
    format!("New masters get {count} {noun} of functions.")
}

fn table(out: &mut impl Write, view: &JoinView, sheet: Sheet) -> io::Result<()> {
    let new = counted(view.nodes.len() as u64, "new node");
    let heading = format!(
        "{new} for the cluster of {} that {} belongs to",
        counted(view.members as u64, "node"),
        view.lead
    );
    writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &heading))?;
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("role", Align::Left),
        Column::new("follows", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("zone", Align::Left),
        Column::new("before that", Align::Left),
    ];
    for joining in &view.nodes {
        let zone = joining.node.zone.as_deref().map(plain);
        let before = joining.before.words();
        push(
            &mut columns,
            [
                Text::toned(joining.node.addr.to_string(), Tone::Strong),
                joining.node.id.short().into(),
                joining.role().word().into(),
                joining
                    .follows
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default()
                    .into(),
                thousands(joining.slots as u64).into(),
                zone.unwrap_or_default().into(),
                match joining.before {
                    Before::Flush(_) => Text::toned(before, Tone::Bad),
                    Before::Nothing | Before::Reset => before.into(),
                },
            ],
        );
    }
    let is_told = |title: &str| {
        let mut nodes = view.nodes.iter();
        match title {
            "follows" => nodes.any(|joining| joining.follows.is_some()),
            "zone" => nodes.any(|joining| joining.node.zone.is_some()),
            "before that" => nodes.any(|joining| joining.before != Before::Nothing),
            _ => true,
        }
    };
    columns.retain(|column| is_told(column.title));
    draw(out, &columns, sheet.style)?;
    writeln!(out)?;
    if view.libraries > 0 {
        writeln!(out, "{}", libraries(view.libraries))?;
    }
    Ok(())
}

impl Ui {
    /// Who is about to join.
    pub fn joining(&self, view: &JoinView) -> io::Result<()> {
        self.progress().abandon();
        self.result(|out| {
            match self.format {
                Format::Table(sheet) => table(out, view, sheet)?,
                Format::Json => return super::json::joining(out, view),
                Format::Classic(_) | Format::Prometheus | Format::Nagios => classic(out, view)?,
            }
            let style = self.stdout_paint();
            view.warnings
                .iter()
                .try_for_each(|warning| Verdict::new(Mark::Warning, warning).write(out, style))
        })
    }

    /// They have joined: the line that scripts look for.
    pub fn added(&self, nodes: usize) -> io::Result<()> {
        self.progress().finish();
        let style = self.stdout_paint();
        self.result(|out| match self.format {
            Format::Json => super::json::added(out, nodes),
            _ => {
                let text = match nodes {
                    1 => "New node added correctly.".to_string(),
                    many => format!("{many} new nodes added correctly."),
                };
                Verdict::new(Mark::Ok, text).write(out, style)
            }
        })
    }
}
