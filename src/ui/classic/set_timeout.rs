//! The plan of `set-timeout`.

use std::io::{self, Write};

pub(in crate::ui) fn timeouts(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        ">>> Reconfiguring node timeout in every cluster node..."
    )
}
