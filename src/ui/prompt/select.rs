//! Prompts that read key by key: passwords and lists.
//!
//! `dialoguer` (0.12) switches the terminal's echo off, hides the cursor, and leaves both that way on Ctrl-C;
//! this module restores them.

use std::io;

use console::Term;
use dialoguer::{MultiSelect, Select};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::oneshot;

use super::PromptError;
use crate::ui::style::plain;

/// Asks on a thread of its own, for the reason given in `read_line`, and leaves the terminal as it was.
pub(super) async fn ask<T: Send + 'static>(
    prompt: impl FnOnce() -> dialoguer::Result<T> + Send + 'static,
) -> Result<T, PromptError> {
    let settings = tcgetattr(io::stdin()).map_err(io::Error::from)?;
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("prompt".to_string())
        .spawn(move || {
            // After Ctrl-C the receiver is gone.
            let _ = sender.send(prompt());
        })?;
    let mut terminal = Terminal {
        settings,
        answered: false,
    };
    let answer = receiver.await;
    terminal.answered = matches!(answer, Ok(Ok(_)));
    match answer {
        Ok(Ok(answer)) => Ok(answer),
        // Ctrl-C as a key; the signal follows.
        Ok(Err(dialoguer::Error::IO(error))) if error.kind() == io::ErrorKind::Interrupted => {
            Err(PromptError::Interrupted)
        }
        Ok(Err(dialoguer::Error::IO(error))) => Err(error.into()),
        // The end of input.
        Err(_) => Err(PromptError::Closed),
    }
}

/// The terminal's settings. Without an answer (also when the prompt was dropped after Ctrl-C) they are restored.
struct Terminal {
    settings: Termios,
    answered: bool,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        // There is nothing to do if that fails.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.settings);
        let _ = Term::stderr().show_cursor();
        let _ = Term::stderr().write_line("");
    }
}

/// Asks for one of a list and returns its index; `None` if none was taken (Esc).
pub(in crate::ui) async fn one_of(
    title: &str,
    items: &[String],
) -> Result<Option<usize>, PromptError> {
    let (title, items) = (plain(title), cleaned(items));
    let keys = format!("{title} (arrows, Enter takes it, Esc goes back)");
    ask(move || {
        let list = Select::new().with_prompt(keys).items(&items).default(0);
        list.interact_on_opt(&Term::stderr())
    })
    .await
}

/// Asks for some of a list and returns their indexes; `None` if none were taken (Esc).
pub(in crate::ui) async fn some_of(
    title: &str,
    items: &[String],
) -> Result<Option<Vec<usize>>, PromptError> {
    let (title, items) = (plain(title), cleaned(items));
    let keys = format!("{title} (arrows, Space marks, Enter takes them, Esc goes back)");
    let chosen = ask(move || {
        let list = MultiSelect::new().with_prompt(keys).items(&items);
        list.interact_on_opt(&Term::stderr())
    });
    Ok(chosen.await?.filter(|chosen| !chosen.is_empty()))
}

fn cleaned(items: &[String]) -> Vec<String> {
    items.iter().map(|item| plain(item)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::Duration;

    /// Not a test: the program that the test below runs. Like the pipeline, it drops the prompt at a signal.
    #[test]
    #[ignore = "run by the other test, on a pseudo-terminal"]
    fn child() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let items = ["one".to_string(), "two".to_string()];
        let result = runtime.block_on(async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => "dropped".to_string(),
                asked = one_of("Which one?", &items) => format!("{asked:?}"),
            }
        });
        writeln!(io::stderr(), "result: {result}").unwrap();
        runtime.shutdown_background();
    }

    #[test]
    fn a_list_leaves_the_terminal_as_it_was() {
        let binary = std::env::current_exe().unwrap();
        let child = "--ignored --exact ui::prompt::select::tests::child --nocapture";
        for (keys, is_killed, results) in [
            ("\r", false, vec!["Ok(Some(0))"]),
            ("\u{1b}", false, vec!["Ok(None)"]),
            // The terminal is in raw mode: Ctrl-C is a key, for which `console` raises the signal.
            ("\u{3}", false, vec!["dropped", "Err(Interrupted)"]),
            // A signal from outside, while a thread reads keys.
            ("", true, vec!["dropped"]),
        ] {
            let program = binary.display();
            // `timeout` runs it in the foreground, where it may read the terminal.
            let run = match is_killed {
                false => format!("{program} {child}"),
                true => format!("timeout --foreground -s INT 5 {program} {child}"),
            };
            let script = format!("trap : INT; stty -a; {run}; stty -a; echo over");
            let mut command = std::process::Command::new("sh");
            command.arg("-c").arg(script);
            let mut terminal = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
            let before = terminal.exp_string("Which one?").unwrap();
            terminal.exp_string("two").unwrap();
            std::thread::sleep(Duration::from_millis(200));
            terminal.send(keys).unwrap();
            terminal.flush().unwrap();
            let after = terminal.exp_string("over").unwrap();
            let settings = |text: &str| {
                let start = text.find("speed").unwrap();
                text[start..start + 400].to_string()
            };
            assert_eq!(settings(&before), settings(&after), "{keys:?}");
            let is_result = |result: &&str| after.contains(&format!("result: {result}"));
            assert!(results.iter().any(is_result), "{keys:?}: {after}");
            // The cursor is visible again.
            let shown = after.rfind("\u{1b}[?25h");
            assert!(shown > after.rfind("\u{1b}[?25l"), "{keys:?}: {after}");
        }
    }
}
