//! `redis-trib completions SHELL`, and what these scripts ask whenever TAB is pressed.
//!
//! The scripts call the program itself, which knows its own options, and asks the cluster for its
//! nodes where a node of it is on the line already (`members`). The words reach us in the
//! arguments, all else in the environment.

mod members;

use std::env;
use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::engine::{self, ArgValueCompleter};
use clap_complete::env::{EnvCompleter, Fish, Zsh};

use members::Which;

use crate::cli::Cli;
use crate::exit_code::ExitCode;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The script asks redis-trib itself, and redis-trib the cluster, whose password it \
    takes from REDISCLI_AUTH: it never asks for one.\n\nExamples:\n  \
    source <(redis-trib completions bash)             # in ~/.bashrc\n  \
    redis-trib completions zsh > ~/.zfunc/_redis-trib # a folder in $fpath\n  \
    redis-trib completions fish > ~/.config/fish/completions/redis-trib.fish"
)]
pub struct Args {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Shells that we have a script for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    /// GNU bash, from 4 on.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

const NAME: &str = "redis-trib";
/// Says that a script asks, and for which shell.
const VARIABLE: &str = "_REDIS_TRIB_COMPLETE";
/// Which word the cursor is in (the scripts of `clap_complete` call it so).
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// bash cuts words at `:` and `=`, and wants completions of the last piece only: it hands us the
/// pieces, and we put them together again.
const BASH: &str = r#"_redis_trib() {
    mapfile -t COMPREPLY < <(
        _REDIS_TRIB_COMPLETE=bash _CLAP_COMPLETE_INDEX="$COMP_CWORD" \
            redis-trib -- "${COMP_WORDS[@]}" 2>/dev/null
    )
    if [[ "${COMPREPLY[0]-}" == *[=:/] ]]; then
        compopt -o nospace
    fi
}
complete -o bashdefault -o nosort -F _redis_trib redis-trib
"#;

/// zsh runs a file of `$fpath` when it is wanted for the first time, and expects completions of it.
const ZSH_AUTOLOADED: &str = r#"if [[ "${funcstack[1]-}" == _redis-trib ]]; then
    _clap_dynamic_completer_redis_trib "$@"
fi
"#;

/// Prints the script.
pub fn run(ui: &Ui, args: Args) -> CommandResult {
    let mut script = Vec::new();
    match args.shell {
        Shell::Bash => script.extend(BASH.as_bytes()),
        Shell::Zsh => {
            Zsh.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
            script.extend(ZSH_AUTOLOADED.as_bytes());
        }
        Shell::Fish => Fish.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?,
    }
    ui.document(&script)?;
    Ok(ExitCode::Done)
}

/// What a script asks.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    shell: Shell,
    /// The line, the program's name first.
    words: Vec<OsString>,
    /// Which of them is completed. It may be one more than there are.
    index: usize,
    /// What of that word stands in front of the piece that the shell completes.
    settled: String,
}

impl Question {
    /// Reads it from the arguments and the environment, if one is asked.
    pub fn read() -> Option<Self> {
        let shell = match env::var(VARIABLE).ok()?.as_str() {
            "bash" => Shell::Bash,
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => return None,
        };
        let words: Vec<OsString> = env::args_os().skip(1).skip_while(|w| w != "--").collect();
        let words = words.into_iter().skip(1).collect();
        let index = env::var(INDEX).ok().and_then(|index| index.parse().ok());
        Some(Self::of(shell, words, index))
    }

    fn of(shell: Shell, words: Vec<OsString>, index: Option<usize>) -> Self {
        let index = index.unwrap_or(words.len().saturating_sub(1));
        let mut question = match shell {
            Shell::Bash => glued(&words, index),
            Shell::Zsh | Shell::Fish => Self {
                shell,
                words,
                index,
                settled: String::new(),
            },
        };
        if question.index >= question.words.len() {
            question.index = question.words.len();
            question.words.push(OsString::new());
        }
        question
    }

    /// What may stand there, in the words of the shell. Whatever goes wrong is nobody's business
    /// while they type.
    pub fn answer(self) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut command = completable();
        let here = env::current_dir().ok();
        let here = here.as_deref();
        // Nothing to offer is an error there, too.
        let _ = match self.shell {
            Shell::Zsh => Zsh.write_complete(&mut command, self.words, here, &mut answer),
            Shell::Fish => Fish.write_complete(&mut command, self.words, here, &mut answer),
            Shell::Bash => self.bash(&mut command).map(|text| answer = text),
        };
        answer
    }

    fn bash(self, command: &mut clap::Command) -> std::io::Result<Vec<u8>> {
        let here = env::current_dir().ok();
        let at_nothing = self
            .words
            .get(self.index)
            .is_some_and(|word| word.is_empty());
        let candidates = engine::complete(command, self.words, self.index, here.as_deref())?;
        let mut values: Vec<String> = candidates
            .iter()
            .filter_map(|candidate| candidate.get_value().to_str())
            .filter_map(|value| value.strip_prefix(&self.settled))
            .map(str::to_string)
            .collect();
        // Thirty options would bury what is wanted there.
        if at_nothing && values.iter().any(|value| !value.starts_with('-')) {
            values.retain(|value| !value.starts_with('-'));
        }
        Ok((values.join("\n") + "\n").into_bytes())
    }
}

/// The words that bash had before it cut them.
fn glued(pieces: &[OsString], index: usize) -> Question {
    let cuts = |piece: &OsStr| {
        let text = piece.to_str().unwrap_or_default();
        !text.is_empty() && text.chars().all(|c| matches!(c, ':' | '='))
    };
    let mut words: Vec<OsString> = Vec::new();
    let mut settled = String::new();
    let mut word_of_index = pieces.len();
    for (at, piece) in pieces.iter().enumerate() {
        let after_cut = at > 0 && cuts(&pieces[at - 1]);
        let continues = after_cut && !piece.is_empty() && !piece.to_string_lossy().starts_with('-');
        let last = words.last_mut();
        match last.filter(|_| at > 1 && (cuts(piece) || continues)) {
            Some(word) => {
                if at == index {
                    settled = word.to_string_lossy().into_owned();
                }
                word.push(piece);
                if at == index && cuts(piece) {
                    settled = word.to_string_lossy().into_owned();
                }
            }
            None => words.push(piece.clone()),
        }
        if at == index {
            word_of_index = words.len() - 1;
        }
    }
    if index >= pieces.len() {
        word_of_index = words.len();
    }
    Question {
        shell: Shell::Bash,
        words,
        index: word_of_index,
        settled,
    }
}

/// Arguments that name members of the cluster: the command, the argument, which members, and what follows the name.
const MEMBER_ARGS: [(&str, &str, Which, &str); 10] = [
    ("add-node", "master_id", Which::Masters, ""),
    ("del-node", "ids", Which::All, ""),
    ("failover", "of", Which::All, ""),
    ("failover", "replica", Which::All, ""),
    ("failover", "to", Which::All, ""),
    ("ok-to-stop", "ids", Which::All, ""),
    ("rebalance", "weight", Which::Masters, "="),
    ("replace-node", "old", Which::All, ""),
    ("reshard", "from", Which::Masters, ""),
    ("reshard", "to", Which::Masters, ""),
];

/// The command line, with completers for the arguments that name members.
fn completable() -> clap::Command {
    MEMBER_ARGS
        .into_iter()
        .fold(Cli::command(), |command, (name, arg, which, suffix)| {
            command.mut_subcommand(name, |one| {
                one.mut_arg(arg, |arg| {
                    arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
                        members::nodes(typed, which, suffix)
                    }))
                })
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(pieces: &[&str], index: usize) -> (Vec<String>, usize, String) {
        let pieces = pieces.iter().map(OsString::from).collect();
        let question = Question::of(Shell::Bash, pieces, Some(index));
        let words = question.words.iter().map(|w| w.to_string_lossy().into());
        (words.collect(), question.index, question.settled)
    }

    #[test]
    fn what_bash_cut_is_put_together() {
        for (pieces, index, words, at, settled) in [
            (vec!["redis-trib", "ch"], 1, vec!["redis-trib", "ch"], 1, ""),
            (vec!["redis-trib", ""], 1, vec!["redis-trib", ""], 1, ""),
            (
                vec!["redis-trib", "reshard", "h", ":", "70", "--to", "8f"],
                6,
                vec!["redis-trib", "reshard", "h:70", "--to", "8f"],
                4,
                "",
            ),
            (
                vec![
                    "redis-trib",
                    "reshard",
                    "h",
                    ":",
                    "70",
                    "--to",
                    "10.0.0.3",
                    ":",
                ],
                7,
                vec!["redis-trib", "reshard", "h:70", "--to", "10.0.0.3:"],
                4,
                "10.0.0.3:",
            ),
            (
                vec!["redis-trib", "reshard", "h", "--to", "10.0.0.3", ":", "7"],
                6,
                vec!["redis-trib", "reshard", "h", "--to", "10.0.0.3:7"],
                4,
                "10.0.0.3:",
            ),
            (
                vec!["redis-trib", "reshard", "h", "--to", "=", "8f"],
                5,
                vec!["redis-trib", "reshard", "h", "--to=8f"],
                3,
                "--to=",
            ),
            (
                vec!["redis-trib", "check", "[", "::", "1", "]", ":", "7"],
                7,
                vec!["redis-trib", "check", "[::1", "]:7"],
                3,
                "]:",
            ),
            // Behind a space nothing is put together.
            (
                vec!["redis-trib", "reshard", "h", ":", ""],
                4,
                vec!["redis-trib", "reshard", "h:", ""],
                3,
                "",
            ),
            (
                vec!["redis-trib", "reshard", "h", ":", "--to", ""],
                5,
                vec!["redis-trib", "reshard", "h:", "--to", ""],
                4,
                "",
            ),
        ] {
            let words = words.into_iter().map(str::to_string).collect();
            let expected = (words, at, settled.to_string());
            assert_eq!(question(&pieces, index), expected, "{pieces:?}");
        }
    }

    #[test]
    fn the_word_may_not_be_there_yet() {
        let words = vec![OsString::from("redis-trib"), OsString::from("check")];
        let question = Question::of(Shell::Zsh, words, Some(2));
        assert_eq!(question.words.len(), 3);
        assert_eq!(question.index, 2);
        let nothing = Question::of(Shell::Bash, Vec::new(), None);
        assert_eq!(nothing.index, 0);
    }

    #[test]
    fn commands_and_options_are_known() {
        let offered = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let index = words.len() - 1;
            let answer = Question::of(Shell::Bash, words, Some(index)).answer();
            String::from_utf8(answer).unwrap()
        };
        assert_eq!(offered(&["redis-trib", "resh"]), "reshard\n");
        assert!(offered(&["redis-trib", ""]).contains("check\n"));
        assert!(!offered(&["redis-trib", ""]).contains("--"));
        assert!(offered(&["redis-trib", "check", "--wa"]).contains("--wait\n"));
        assert!(offered(&["redis-trib", "check", "--output", "j"]).contains("json\n"));
        // Nobody to ask: silence.
        assert_eq!(offered(&["redis-trib", "reshard", "--to", ""]).trim(), "");
    }
}
