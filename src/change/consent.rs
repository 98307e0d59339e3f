//! Asking for consent.

use crate::stop::Stop;
use crate::ui::{Answer, PromptError, Ui};

/// Asks for consent to a change; anything but a yes is a stop, with nothing changed.
pub(crate) async fn consent(ui: &Ui, question: &str, about: &str) -> Result<(), Stop> {
    match ui.confirm(question, about).await {
        Ok(Answer::Accepted) => Ok(()),
        Ok(Answer::Declined) => Err(Stop::not_confirmed(anyhow::anyhow!(
            "declined: nothing was changed"
        ))),
        Err(PromptError::NoTerminal) => Err(Stop::not_confirmed(anyhow::anyhow!(
            "there is no terminal to ask on: --yes says yes; nothing was changed"
        ))),
        Err(PromptError::Interrupted) => Err(Stop::interrupted(anyhow::anyhow!(
            "interrupted: nothing was changed"
        ))),
        Err(error) => Err(Stop::not_confirmed(anyhow::anyhow!(
            "{error}: nothing was changed"
        ))),
    }
}
