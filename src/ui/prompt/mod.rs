//! Prompts: natively on a terminal only; in the two old modes answers may be piped in.
//!
//! An answer is read as a line from the terminal, not key by key. `dialoguer` (0.12) reads
//! key by key: `console` (0.16) switches the terminal to raw mode for each key, so Ctrl-D and Ctrl-Z do
//! nothing, and a signal that reaches another thread leaves the terminal raw. Here the kernel
//! edits the line, Ctrl-C is an ordinary SIGINT, Ctrl-D is the end of input, and there are no settings to
//! restore.

pub(super) mod password;
pub(super) mod select;

use std::io::{self, IsTerminal};

use tokio::sync::oneshot;

use super::streams::Asides;
use super::style::plain;

/// Where an answer may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// A person at a terminal; the question goes to standard error.
    Terminal,
    /// Standard input, also from a script.
    Input(Asides),
    /// A pipe to redis-cli.
    RedisCliPipe(Asides),
}

impl Asked {
    fn asides(self) -> Asides {
        match self {
            Self::Terminal => Asides::Stderr,
            Self::Input(asides) | Self::RedisCliPipe(asides) => asides,
        }
    }

    /// Whether an answer may come.
    pub(super) fn may_answer(self) -> bool {
        match self {
            Self::Terminal => io::stdin().is_terminal() && io::stderr().is_terminal(),
            Self::Input(_) | Self::RedisCliPipe(_) => true,
        }
    }
}

/// An answer to a question of consent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `yes`, in any case of letters, or the name that was asked for.
    Accepted,
    /// `no` or Enter, or anything else from a script.
    Declined,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// Standard input or standard error is not a terminal.
    #[error("there is no terminal to ask on")]
    NoTerminal,
    /// The input ended (Ctrl-D, or the terminal went away).
    #[error("the input ended before an answer")]
    Closed,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The terminal could not be read or written.
    #[error("can't ask on the terminal: {0}")]
    Io(#[from] io::Error),
}

const RESHARD: &str = "Do you want to proceed with the proposed reshard plan?";

/// Asks for consent: first what it is about, then the question.
pub(super) async fn confirm(
    question: &str,
    cluster: &str,
    asked: Asked,
) -> Result<Answer, PromptError> {
    let question = match (asked, question.strip_suffix('?')) {
        // The one that redis-cli and redis-trib.rb ask in another way.
        (Asked::Input(_) | Asked::RedisCliPipe(_), Some(text)) if question == RESHARD => {
            format!("{text} (yes/no)? ")
        }
        _ => format!("{} (type 'yes' to accept): ", plain(question)),
    };
    let read = match asked {
        Asked::RedisCliPipe(_) => answer_to_redis_cli,
        Asked::Terminal | Asked::Input(_) => answer,
    };
    let first = format!("{}\n{question}", plain(cluster));
    until_clear(
        &first,
        &question,
        asked,
        read,
        "type 'yes' to accept, or 'no' to decline",
    )
    .await
}

/// Asks for the name of a protected cluster: a `yes` is typed too easily.
pub(super) async fn confirm_name(
    name: &str,
    cluster: &str,
    asked: Asked,
) -> Result<Answer, PromptError> {
    let question = format!("Type the name of the cluster ({name}) to accept: ");
    let first = format!("{}\n@{name} is protected. {question}", plain(cluster));
    let read = |line: &str| match line.trim().trim_start_matches('@') == name {
        true => Some(Answer::Accepted),
        false => no(line),
    };
    let hint = format!("type {name} to accept, or 'no' to decline");
    until_clear(&first, &question, asked, read, &hint).await
}

/// Asks until the answer is clear: a typing error at the last question must not discard the answers before it. A script
/// that answers redis-cli's questions is asked once.
async fn until_clear(
    first: &str,
    question: &str,
    asked: Asked,
    read: impl Fn(&str) -> Option<Answer>,
    hint: &str,
) -> Result<Answer, PromptError> {
    let mut text = first.to_string();
    loop {
        let answer = read(&line(&text, asked).await?);
        match (answer, asked) {
            (Some(answer), _) => return Ok(answer),
            (None, Asked::Terminal) => text = format!("{hint}\n{question}"),
            (None, _) => return Ok(Answer::Declined),
        }
    }
}

/// Asks for a line.
pub(super) async fn line(question: &str, asked: Asked) -> Result<String, PromptError> {
    if !asked.may_answer() {
        return Err(PromptError::NoTerminal);
    }
    let mut line = Line {
        asides: asked.asides(),
        answered: false,
    };
    let ended = match read_line(question, line.asides).await {
        Ok(Some(text)) => {
            line.answered = true;
            return Ok(text);
        }
        Ok(None) => PromptError::Closed,
        Err(error) => PromptError::Io(error),
    };
    Err(ended)
}

/// A question on the terminal. Without an answer (end of input, or the prompt was dropped after Ctrl-C) the cursor is
/// still behind it.
struct Line {
    asides: Asides,
    answered: bool,
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.answered {
            self.asides.write("\n");
        }
    }
}

/// Writes the question and reads a line; `None` at the end of input.
async fn read_line(question: &str, asides: Asides) -> io::Result<Option<String>> {
    asides.write(question);
    let (sender, receiver) = oneshot::channel();
    // This is not a thread of the runtime: the runtime waits for its threads when it
    // ends, and after Ctrl-C this line may never be finished.
    std::thread::Builder::new()
        .name("prompt".to_string())
        .spawn(move || {
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line);
            // After Ctrl-C the receiver is gone.
            let _ = sender.send(read.map(|bytes| (bytes > 0).then_some(line)));
        })?;
    // A thread that ended without sending has read nothing.
    receiver.await.unwrap_or(Ok(None))
}

fn answer(line: &str) -> Option<Answer> {
    match line.trim().eq_ignore_ascii_case("yes") {
        true => Some(Answer::Accepted),
        false => no(line),
    }
}

/// redis-cli (7.0) compares the first three bytes of its input: scripts may rely on either answer.
fn answer_to_redis_cli(line: &str) -> Option<Answer> {
    Some(match line.starts_with("yes") {
        true => Answer::Accepted,
        false => Answer::Declined,
    })
}

/// `no`, or Enter alone, which is no typing error.
fn no(line: &str) -> Option<Answer> {
    let line = line.trim().to_ascii_lowercase();
    matches!(line.as_str(), "no" | "n" | "").then_some(Answer::Declined)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn only_yes_accepts() {
        for yes in ["yes\n", "YES\r\n", " Yes \n"] {
            assert_eq!(answer(yes), Some(Answer::Accepted), "{yes:?}");
        }
        for no in ["no\n", " No\r\n", "n\n", "", "\n"] {
            assert_eq!(answer(no), Some(Answer::Declined), "{no:?}");
        }
        for unclear in ["y\n", "yse\n", "yes please\n", "\u{1b}yes\n"] {
            assert_eq!(answer(unclear), None, "{unclear:?}");
        }
    }

    #[test]
    fn redis_cli_compares_three_bytes() {
        for yes in ["yes", "yes\n", "yes\r\n", "yes please\n", "yesterday\n"] {
            assert_eq!(answer_to_redis_cli(yes), Some(Answer::Accepted), "{yes:?}");
        }
        for no in ["YES\n", "Yes\n", " yes\n", "ye\n", "y\n", "no\n", "\n", ""] {
            assert_eq!(answer_to_redis_cli(no), Some(Answer::Declined), "{no:?}");
        }
    }

    /// The program that the tests below run on a pseudo-terminal.
    #[test]
    #[ignore = "run by the other tests, on a pseudo-terminal"]
    fn child() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let question = "Can I set the above configuration?";
        let cluster = "A new cluster\u{1b}[2J of 6 nodes.";
        // The pipeline of a command drops the prompt at the first signal, too.
        let asked = runtime.block_on(async {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => Err(PromptError::Interrupted),
                answer = confirm(question, cluster, Asked::Terminal) => answer,
            }
        });
        runtime.shutdown_background();
        writeln!(io::stderr(), "result: {asked:?}").unwrap();
    }

    /// Asks on a pseudo-terminal, presses keys, and returns the output until the program ended.
    fn on_terminal(keys: &str) -> String {
        let binary = std::env::current_exe().unwrap();
        let child = "--ignored --exact ui::prompt::tests::child --nocapture";
        // The shell survives Ctrl-C, and prints the settings of the terminal before and after.
        let script = format!(
            "trap : INT; stty -a; {} {child}; stty -a; echo over",
            binary.display()
        );
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg(script);
        let mut terminal = rexpect::session::spawn_command(command, Some(20_000)).unwrap();
        let before = terminal.exp_string("(type 'yes' to accept): ").unwrap();
        terminal.send(keys).unwrap();
        terminal.flush().unwrap();
        let after = terminal.exp_string("over").unwrap();
        let settings = |text: &str| {
            let start = text.find("speed").unwrap();
            text[start..start + 400].to_string()
        };
        assert_eq!(settings(&before), settings(&after));
        assert!(before.contains("A new cluster[2J of 6 nodes."), "{before}");
        assert!(
            !(before + &after).contains("\u{1b}[?25l"),
            "the cursor was hidden"
        );
        after
    }

    #[test]
    fn a_prompt_leaves_the_terminal_as_it_was() {
        for (keys, result) in [
            ("yes\r", "Ok(Accepted)"),
            // The terminal edits the line.
            ("no\u{7f}\u{7f}yes\r", "Ok(Accepted)"),
            ("no\r", "Ok(Declined)"),
            // A typing error asks again.
            ("yse\ryes\r", "Ok(Accepted)"),
            ("y\rn\r", "Ok(Declined)"),
            ("\r", "Ok(Declined)"),
            ("\u{4}", "Err(Closed)"),
            ("ye\u{3}", "Err(Interrupted)"),
        ] {
            let shown = on_terminal(keys);
            let line = shown
                .lines()
                .find(|line| line.contains("result: "))
                .unwrap_or_default();
            let expected = format!("result: {result}");
            let line = line.trim();
            // The cursor has left the line of the question. (What was typed ahead was echoed before it.)
            let is_typed_ahead = keys.trim_end().contains('\r');
            let is_right = line == expected || is_typed_ahead && line.ends_with(&expected);
            assert!(is_right, "{keys:?}: {shown}");
        }
    }

    #[test]
    fn without_a_terminal_there_is_no_prompt() {
        let child = "--ignored --exact ui::prompt::tests::child --nocapture";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(child.split(' '))
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let shown = String::from_utf8(output.stderr).unwrap();
        assert!(shown.contains("result: Err(NoTerminal)"), "{shown}");
        assert!(!shown.contains("yes"), "{shown}");
    }
}
