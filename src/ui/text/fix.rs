//! The plan of `fix`.

use std::io::{self, Write};

use crate::report::FixView;
use crate::ui::style::{Style, Tone, plain};

pub(in crate::ui) fn plan(out: &mut impl Write, view: &FixView, style: Style) -> io::Result<()> {
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
        writeln!(out, "{}", style.tone(tone, title))?;
        for line in lines {
            writeln!(out, "  {}", plain(&line.sentence()))?;
        }
    }
    Ok(())
}
