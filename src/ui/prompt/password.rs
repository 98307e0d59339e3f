//! The prompt for a password.

use std::io::{self, IsTerminal};

use dialoguer::Password;
use secrecy::SecretSlice;

use super::{Asked, PromptError, line, select};

/// Asks for a password without echo.
pub(in crate::ui) async fn ask(
    question: &str,
    asked: Asked,
) -> Result<SecretSlice<u8>, PromptError> {
    match asked {
        // `echo secret | redis-cli --askpass` shows no prompt.
        Asked::Input(_) | Asked::RedisCliPipe(_) if !io::stdin().is_terminal() => {
            let answer = line("", asked).await?;
            let answer = answer.trim_end_matches(['\n', '\r']);
            return Ok(answer.as_bytes().to_vec().into());
        }
        _ if !Asked::Terminal.may_answer() => return Err(PromptError::NoTerminal),
        _ => {}
    }
    let question = question.to_string();
    let password = select::ask(move || {
        Password::new()
            .with_prompt(question)
            .allow_empty_password(true)
            .interact()
    });
    match password.await? {
        // Enter alone, or the end of input.
        password if password.is_empty() => Err(PromptError::Closed),
        password => Ok(password.into_bytes().into()),
    }
}
