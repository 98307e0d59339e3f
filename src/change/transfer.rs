//! What the commands that write keys into a cluster share: the question of consent, and their end.

use super::Question;
use crate::exit_code::ExitCode;
use crate::ops::data::Transferred;
use crate::report::{TransferPlan, VerifyView};
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Asks for consent to a transfer.
pub(crate) fn question(view: &TransferPlan) -> Question {
    Question {
        about: format!(
            "A cluster of {} masters with {} keys ({}).",
            view.masters, view.present, view.to
        ),
        text: "Write these keys?".to_string(),
    }
}

/// Ends a command whose result was compared with the source.
pub(crate) fn finish_compared(
    ui: &Ui,
    transferred: &Transferred,
    compared: &VerifyView,
) -> CommandResult {
    let code = match compared.unequal() {
        0 => transferred.exit_code(),
        _ => ExitCode::Unhealthy,
    };
    ui.compared_after(compared, code)?;
    Ok(code)
}

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
