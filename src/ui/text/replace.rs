//! The plan of `replace-node`.

use std::io::{self, Write};

use super::TextFormat;
use crate::report::{Before, ReplaceStep, ReplaceView};

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    view: &ReplaceView,
    format: TextFormat,
) -> io::Result<()> {
    let ReplaceView { old, what, new, .. } = view;
    let text = format!("Replacing {old}, {what}, by {new}");
    writeln!(out, "{}", format.heading(&text))?;
    if view.before != Before::Nothing {
        writeln!(out, "   The new one {} before.", view.before.words())?;
    }
    for (number, step) in (1..).zip(&view.steps) {
        let before = format!("   {number}. ");
        format.sentence(out, &before, &sentence(view, step))?;
    }
    Ok(())
}

fn sentence(view: &ReplaceView, step: &ReplaceStep) -> String {
    let (old, new) = (&view.old.addr, &view.new.addr);
    match step {
        ReplaceStep::Joins => format!("{new} joins as a master without slots"),
        ReplaceStep::Follows(master) => {
            format!(
                "{new} joins as a replica of {}, and gets its copy",
                master.addr
            )
        }
        ReplaceStep::TakesOver => {
            format!(
                "{new} takes over: writes are held for a moment and none is lost, no slot moves"
            )
        }
        ReplaceStep::Leaves if view.answers => {
            format!("{old} is forgotten by all members, and reset: its copy and its id go")
        }
        ReplaceStep::Leaves => format!("{old} is forgotten by all members"),
    }
}
