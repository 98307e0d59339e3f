//! The plan of `fix`.

use std::io::{self, Write};

use super::TextFormat;
use crate::report::FixView;
use crate::ui::style::Tone;

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    view: &FixView,
    format: TextFormat,
) -> io::Result<()> {
    let lists = [
        ("To be done:", &view.remedies, Tone::Strong),
        ("Not fixed:", &view.refused, Tone::Bad),
        ("Left alone:", &view.strays, Tone::Warning),
        (
            "Not broken, but a person should look at it:",
            &view.warnings,
            Tone::Warning,
        ),
    ];
    for (title, lines, tone) in lists {
        if lines.is_empty() {
            continue;
        }
        writeln!(out, "{}", format.style().tone(tone, title))?;
        for line in lines {
            format.sentence(out, "  ", &line.sentence())?;
        }
    }
    Ok(())
}
