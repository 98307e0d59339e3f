//! The clusters of the configuration file.

use std::io::{self, Write};

use crate::report::{ConfigView, NamedClusterView, counted};
use crate::ui::style::plain;

/// One line for each cluster.
pub(in crate::ui) fn list(out: &mut Vec<u8>, view: &ConfigView) -> io::Result<()> {
    let widest = view.clusters.iter().map(|one| one.name.len() + 1).max();
    for one in &view.clusters {
        let name = format!("@{}", one.name);
        let protected = if one.protected { "  protected" } else { "" };
        let nodes = plain(&one.nodes.join(" "));
        let width = widest.unwrap_or_default();
        writeln!(out, "{name:width$}  {nodes}{protected}")?;
    }
    match (view.clusters.is_empty(), &view.file) {
        (true, Some(file)) => writeln!(out, "No clusters: {} has none.", plain(file)),
        (true, None) => writeln!(out, "No clusters: there is no configuration file."),
        (false, _) => Ok(()),
    }
}

/// The settings, as they stand in the file.
pub(in crate::ui) fn show(out: &mut Vec<u8>, view: &ConfigView) -> io::Result<()> {
    if let Some(file) = &view.file {
        writeln!(out, "# {}", plain(file))?;
    }
    for NamedClusterView { name, settings, .. } in &view.clusters {
        writeln!(out, "\n[clusters.{name}]")?;
        for (key, value) in settings {
            writeln!(out, "{key} = {}", plain(value))?;
        }
    }
    Ok(())
}

/// The problems, or that there are none.
pub(in crate::ui) fn check(out: &mut Vec<u8>, view: &ConfigView) -> io::Result<()> {
    for problem in &view.problems {
        let message = plain(&problem.message);
        writeln!(out, "@{}: {}: {message}", problem.cluster, problem.key)?;
    }
    let file = view.file.as_deref().unwrap_or("the configuration file");
    let clusters = counted(view.clusters.len() as u64, "cluster");
    match view.problems.len() as u64 {
        0 => writeln!(out, "{}: {clusters}, no problems.", plain(file)),
        many => writeln!(
            out,
            "{}: {clusters}, {}.",
            plain(file),
            counted(many, "problem")
        ),
    }
}
