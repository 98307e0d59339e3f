//! The end of the commands that write keys into a cluster.

use crate::ops::data::Transferred;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Reports what became of the keys, and ends the command.
pub(crate) fn finish(ui: &Ui, transferred: Transferred) -> CommandResult {
    let resume = "the same command continues: keys that are in the cluster already are skipped";
    let Some(stop) = transferred.stop(resume) else {
        ui.transferred(&transferred.view, transferred.took)?;
        return Ok(transferred.exit_code());
    };
    ui.transfer_stopped(&transferred.view, transferred.took)?;
    Err(stop)
}
