//! The result of `verify`, and of `import --verify`.

use std::io::{self, Write};

use super::TextFormat;
use crate::report::VerifyView;
use crate::ui::style::{counted, plain, thousands};
use crate::ui::summary::{Mark, Marked};

/// The keys that are not the same, by kind.
pub(in crate::ui) fn found(
    out: &mut impl Write,
    view: &VerifyView,
    format: TextFormat,
) -> io::Result<()> {
    for (kind, count, what) in [
        ("missing", view.missing, "missing in the cluster"),
        ("different", view.different, "different"),
        (
            "extra",
            view.extra.unwrap_or_default(),
            "only in the cluster",
        ),
        ("uncompared", view.uncompared, "could not be compared"),
    ] {
        let found = || view.found.iter().filter(|one| one.kind == kind);
        let named = found().count() as u64;
        // Keys of files that were not read have no names.
        if named == 0 {
            continue;
        }
        let text = format!("{} {what}:", counted(count, "key"));
        format.marked(out, &Marked::new(Mark::Warning, text))?;
        for one in found() {
            let mut text = format!("\"{}\"", plain(&one.key));
            if one.database != 0 {
                text += &format!(" of database {}", one.database);
            }
            if !one.what.is_empty() {
                text += &format!(": {}", one.what);
            }
            format.sentence(out, "    ", &text)?;
        }
        if count > named {
            writeln!(out, "    and {} more", thousands(count - named))?;
        }
    }
    for note in &view.notes {
        format.marked(out, &Marked::new(Mark::Warning, plain(note)))?;
    }
    Ok(())
}

/// The result in one line.
pub(in crate::ui) fn summary(view: &VerifyView) -> String {
    let mut parts = vec![format!("{} the same", counted(view.same, "key"))];
    for (count, what) in [
        (view.missing, "missing"),
        (view.different, "different"),
        (view.extra.unwrap_or_default(), "only in the cluster"),
        (view.uncompared, "could not be compared"),
    ] {
        if count > 0 {
            parts.push(format!("{} {what}", thousands(count)));
        }
    }
    if view.gone > 0 {
        parts.push(format!(
            "{} deleted or expired meanwhile",
            thousands(view.gone)
        ));
    }
    let tolerance = humantime::format_duration(view.ttl_tolerance);
    format!(
        "{}; compared by type, value and time to live (within {tolerance}) in {:.1} s.",
        parts.join(", "),
        view.took.as_secs_f64()
    )
}
