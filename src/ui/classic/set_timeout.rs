//! The plan of `set-timeout`.

use std::io::{self, Write};

pub(in crate::ui) fn timeouts<W: Write>(out: &mut W) -> io::Result<()> {
    writeln!(
        out,
        ">>> Reconfiguring node timeout in every cluster node..."
    )
}
