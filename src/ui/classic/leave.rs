//! The plan of `del-node`.

use std::io::{self, Write};

use super::Dialect;
use crate::report::LeaveView;

pub(in crate::ui) fn leaving(
    out: &mut impl Write,
    view: &LeaveView,
    dialect: Dialect,
) -> io::Result<()> {
    for (replica, to) in &view.given {
        writeln!(out, ">>> {} as replica of {}", replica.addr, to.addr)?;
    }
    if !dialect.is_native() {
        // The command has begun with it.
        return Ok(());
    }
    view.leavers.iter().try_for_each(|leaver| {
        let (id, lead) = (leaver.node.id, &view.lead);
        writeln!(out, ">>> Removing node {id} from cluster {lead}")
    })
}
