//! `--journal FILE`: opened before the command starts, checked when it has ended.

use std::sync::Arc;

use anyhow::{Context, anyhow};

use crate::args::global::GlobalArgs;
use crate::journal::Journal;
use crate::session::{run_id, who};
use crate::stop::{CommandResult, Stop};

/// Opens the journal that the command line asks for.
pub(super) fn open(global: &GlobalArgs) -> Result<Option<Arc<Journal>>, Stop> {
    let Some(path) = &global.journal else {
        return Ok(None);
    };
    let journal = Journal::open(path, run_id(), who(), global.reason.clone())
        .with_context(|| {
            let path = path.display();
            format!("--journal {path}: can't be written, so nothing is changed; name another file")
        })
        .map_err(Stop::usage)?;
    Ok(Some(Arc::new(journal)))
}

/// Reports a journal that lacks changes, even if the command succeeded.
pub(super) fn closed(journal: Option<&Journal>, result: CommandResult) -> CommandResult {
    match (journal.and_then(Journal::broken), &result) {
        (Some(error), Ok(_)) => Err(Stop::partial(anyhow!(
            "everything is done, but the journal lacks the last changes: it can't be written ({error})"
        ))),
        _ => result,
    }
}
