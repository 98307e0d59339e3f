//! Asking for a password.

use std::io::{self, IsTerminal, Write};

use dialoguer::Password;
use secrecy::SecretString;
use tokio::sync::oneshot;

use super::prompt::{Asked, PromptError};

/// Asks for a password, which does not show. `dialoguer` switches the terminal's echo off and, on
/// Ctrl-C, never on again: that is seen to here.
pub(super) async fn ask(question: &str, asked: Asked) -> Result<SecretString, PromptError> {
    match asked {
        // `echo secret | redis-cli --askpass` asks nothing.
        Asked::Anybody(_) if !io::stdin().is_terminal() => {
            let line = super::prompt::line("", asked).await?;
            return Ok(line.trim_end_matches(['\n', '\r']).into());
        }
        _ if !Asked::Terminal.may_answer() => return Err(PromptError::NoTerminal),
        _ => {}
    }
    let settings = rustix::termios::tcgetattr(io::stdin()).map_err(io::Error::from)?;
    let (sender, receiver) = oneshot::channel();
    let question = question.to_string();
    // Off the runtime, for the reason given in `prompt`.
    std::thread::Builder::new()
        .name("password".to_string())
        .spawn(move || {
            let prompt = Password::new()
                .with_prompt(question)
                .allow_empty_password(true);
            // Nobody listens any more after Ctrl-C.
            let _ = sender.send(prompt.interact());
        })?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => {
            let when = rustix::termios::OptionalActions::Now;
            rustix::termios::tcsetattr(io::stdin(), when, &settings).map_err(io::Error::from)?;
            writeln!(io::stderr().lock())?;
            signal?;
            Err(PromptError::Interrupted)
        }
        password = receiver => match password {
            Ok(Ok(password)) if !password.is_empty() => Ok(password.into()),
            Ok(Err(dialoguer::Error::IO(error))) => Err(error.into()),
            // Enter alone, or the end of input.
            Ok(Ok(_)) | Err(_) => Err(PromptError::Closed),
        },
    }
}
