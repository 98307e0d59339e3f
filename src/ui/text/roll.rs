//! The plan and the results of `roll`.

use std::io::{self, Write};

use super::TextFormat;
use crate::report::{Node, RestartedView, RollStepView, RollView};
use crate::ui::style::{counted, ms};
use crate::ui::summary::{Mark, Marked};

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    view: &RollView,
    format: TextFormat,
) -> io::Result<()> {
    let pending = view.nodes.iter().filter(|node| node.is_pending).count();
    let text = format!(
        "Restarting {pending} of {}",
        counted(view.nodes.len() as u64, "node")
    );
    writeln!(out, "{}", format.heading(&text))?;
    for (number, step) in (1..).zip(&view.steps) {
        format.sentence(out, &format!("  {number:>2}. "), &sentence(view, step))?;
    }
    for warning in &view.warnings {
        format.marked(out, &Marked::new(Mark::Warning, warning))?;
    }
    Ok(())
}

fn sentence(view: &RollView, step: &RollStepView) -> String {
    match step {
        RollStepView::Restart { nodes } => {
            let names: Vec<String> = nodes.iter().map(|node| described(view, node)).collect();
            format!("restart {}", names.join(" and "))
        }
        RollStepView::FailOver {
            to,
            from,
            only_copy,
        } => {
            let window = match only_copy {
                true => format!(
                    "; a single copy is in sync until {} has restarted",
                    from.addr
                ),
                false => String::new(),
            };
            format!("{} takes over from {}{window}", to.addr, from.addr)
        }
    }
}

/// `127.0.0.1:7000 (1977c4d4), zone a, redis 7.0.15`.
fn described(view: &RollView, node: &Node) -> String {
    let mut text = node.to_string();
    if let Some(zone) = &node.zone {
        text += &format!(", zone {zone}");
    }
    let mut nodes = view.nodes.iter();
    let version = nodes
        .find(|one| one.node.id == node.id)
        .and_then(|one| one.version.as_ref());
    match version {
        Some(version) => text + ", " + version,
        None => text,
    }
}

/// What has happened to a node, in one sentence.
pub(in crate::ui) fn restarted(view: &RestartedView) -> String {
    let version = view.version.as_ref();
    let version = version.map_or_else(String::new, |version| format!(" and runs {version}"));
    format!(
        "{} {} has restarted{version}; it was back in {:.1} s.",
        view.node.role.word(),
        view.node,
        ms(view.took) / 1000.0
    )
}
