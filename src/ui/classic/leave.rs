//! The plan of `del-node`.

use std::io::{self, Write};

use crate::report::LeaveView;

pub(in crate::ui) fn leaving(out: &mut impl Write, view: &LeaveView) -> io::Result<()> {
    for (replica, to) in &view.given {
        writeln!(out, ">>> {} as replica of {}", replica.addr, to.addr)?;
    }
    view.leavers.iter().try_for_each(|leaver| {
        let (id, lead) = (leaver.node.id, &view.lead);
        writeln!(out, ">>> Removing node {id} from cluster {lead}")
    })
}
