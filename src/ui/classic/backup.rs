//! The plan and the result of `backup`.

use std::io::{self, Write};

use crate::report::BackupView;

pub(in crate::ui) fn backup(out: &mut impl Write, view: &BackupView) -> io::Result<()> {
    for shard in &view.shards {
        match &shard.fetched {
            None => writeln!(
                out,
                ">>> Data of {} (slots:{}) from {} {}",
                shard.master,
                shard.slots,
                shard.source.role.word(),
                shard.source
            )?,
            Some(fetched) => writeln!(
                out,
                "{}: {} keys, {} bytes, sha256 {}",
                fetched.file, fetched.keys, fetched.bytes, fetched.sha256
            )?,
        }
    }
    Ok(())
}
