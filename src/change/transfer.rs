//! What the commands that write keys into a cluster share: the question of consent, and their end.

use std::io;

use super::{Proposal, Question};
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::data::{FilesPlan, Transferred};
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

impl Proposal for FilesPlan {
    fn lock(&self) -> Vec<Target> {
        self.masters()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.transfer_plan(&self.view)?;
        for warning in &self.warnings {
            ui.warn(warning);
        }
        Ok(())
    }

    fn question(&self) -> Option<Question> {
        Some(question(&self.view))
    }

    /// Files do not change, and a failover in the cluster does not matter.
    fn is_same(&self, _: &Self) -> bool {
        true
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
    let Some(stop) = transferred.stop() else {
        ui.transferred(&transferred.view, transferred.took)?;
        return Ok(transferred.exit_code());
    };
    ui.transfer_stopped(&transferred.view, transferred.took)?;
    Err(stop)
}
