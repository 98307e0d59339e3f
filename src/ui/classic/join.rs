//! The plan of `add-node`, as redis-trib.rb and redis-cli begin it.

use std::io::{self, Write};

use super::Dialect;
use crate::report::{ChosenBy, JoinView};
use crate::ui::text::join::{before, libraries};

pub(in crate::ui) fn joining(
    out: &mut impl Write,
    view: &JoinView,
    dialect: Dialect,
) -> io::Result<()> {
    for joining in &view.nodes {
        let addr = &joining.node.addr;
        // In the old modes the command has begun with it.
        if dialect.is_native() {
            writeln!(out, ">>> Adding node {addr} to cluster {}", view.lead)?;
        }
        if let Some(sentence) = before(joining) {
            writeln!(out, "It {sentence}")?;
        }
        if let Some(master) = &joining.follows {
            if joining.chosen_by == ChosenBy::Plan {
                writeln!(out, "Automatically selected master {}", master.addr)?;
            }
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
