//! `redis-trib completions SHELL`, and the questions of these scripts whenever TAB is pressed.
//!
//! The scripts call the program itself. It knows its options, and asks the cluster for its nodes if the line names a
//! node of it already (`members`). The words of the line are in the arguments, everything else in the environment.

mod members;
mod names;

use std::env;
use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::engine::{self, ArgValueCompleter};
use clap_complete::env::{EnvCompleter, Fish, Zsh};

use members::Which;

use crate::args::named::NODE_ARGS;
use crate::cli::Cli;
use crate::exit_code::ExitCode;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The script calls redis-trib, which asks the cluster for its nodes. It takes the password \
    from REDISCLI_AUTH and never asks for one.\n\nExamples:\n  \
    source <(redis-trib completions bash)             # in ~/.bashrc\n  \
    redis-trib completions zsh > ~/.zfunc/_redis-trib # a folder in $fpath\n  \
    redis-trib completions fish > ~/.config/fish/completions/redis-trib.fish"
)]
pub struct Args {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Shells that have a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    /// GNU bash 4 and later.
    Bash,
    /// The Z shell.
    Zsh,
    /// fish.
    Fish,
}

const NAME: &str = "redis-trib";
/// The variable that a script sets to the name of its shell.
const VARIABLE: &str = "_REDIS_TRIB_COMPLETE";
/// The variable with the index of the word to complete (the name that the scripts of `clap_complete` use).
const INDEX: &str = "_CLAP_COMPLETE_INDEX";

/// bash cuts words at `:`, `=` and `@` and wants completions of the last piece only: the script passes the pieces, and the
/// program joins them.
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

/// zsh runs a file of `$fpath` when it is needed for the first time, and expects completions from it.
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

/// The question of a script.
#[derive(Debug, PartialEq, Eq)]
pub struct Question {
    shell: Shell,
    /// The line, with the name of the program first.
    words: Vec<OsString>,
    /// The index of the word to complete. It may be one more than the last one.
    index: usize,
    /// The part of that word before the piece that the shell completes.
    settled: String,
}

impl Question {
    /// Reads the question from the arguments and the environment; `None` if a script did not call.
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
            Shell::Bash => joined(&words, index),
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

    /// The candidates in the format of the shell. Errors are not shown: they would disturb the line that is typed.
    pub fn answer(self) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut command = completable();
        let here = env::current_dir().ok();
        let here = here.as_deref();
        // No candidate is an error there, too.
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
        // Thirty options would hide the other candidates.
        if at_nothing && values.iter().any(|value| !value.starts_with('-')) {
            values.retain(|value| !value.starts_with('-'));
        }
        Ok((values.join("\n") + "\n").into_bytes())
    }
}

/// Joins the pieces that bash has cut.
fn joined(pieces: &[OsString], index: usize) -> Question {
    let cuts = |piece: &OsStr| {
        let text = piece.to_str().unwrap_or_default();
        text.starts_with([':', '=']) && text.chars().all(|c| matches!(c, ':' | '=' | '@'))
    };
    // `@prod` is two pieces, and bash completes both together.
    let opens_name = |piece: &OsStr| piece.to_str().is_some_and(|text| text.ends_with('@'));
    let before_name = |word: &OsStr| {
        let word = word.to_string_lossy();
        word.strip_suffix('@').unwrap_or(&word).to_string()
    };
    let mut words: Vec<OsString> = Vec::new();
    let mut settled = String::new();
    let mut word_of_index = pieces.len();
    for (at, piece) in pieces.iter().enumerate() {
        let after_cut = at > 0 && (cuts(&pieces[at - 1]) || opens_name(&pieces[at - 1]));
        let continues = after_cut && !piece.is_empty() && !piece.to_string_lossy().starts_with('-');
        let last = words.last_mut();
        match last.filter(|_| at > 1 && (cuts(piece) || continues)) {
            Some(word) => {
                if at == index {
                    settled = before_name(word);
                }
                word.push(piece);
                if at == index && cuts(piece) {
                    settled = before_name(word);
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

/// Arguments that name members of the cluster: the command, the id of the argument, the members, and the suffix of a name.
const MEMBER_ARGS: [(&str, &str, Which, &str); 16] = [
    ("add-node", "master_id", Which::Masters, ""),
    ("del-node", "ids", Which::All, ""),
    ("drift", "from", Which::All, ""),
    ("failover", "accept_data_loss_of", Which::All, ""),
    ("failover", "of", Which::All, ""),
    ("failover", "replica", Which::All, ""),
    ("failover", "to", Which::All, ""),
    ("fix", "accept_data_loss_of", Which::All, ""),
    ("ok-to-stop", "ids", Which::All, ""),
    ("place", "masters", Which::All, ""),
    ("rebalance", "weight", Which::Masters, "="),
    ("replace-node", "old", Which::All, ""),
    ("reshard", "from", Which::Masters, ""),
    ("reshard", "to", Which::Masters, ""),
    ("roll", "back_to", Which::All, ""),
    ("roll", "only", Which::All, ""),
];

/// The command line, with completers for the arguments that name members or clusters.
fn completable() -> clap::Command {
    let with_names = |arg: clap::Arg| match arg.get_id().as_str() {
        "settings_of" | "confirm" => arg.add(ArgValueCompleter::new(|typed: &OsStr| {
            names::all(typed, "")
        })),
        id if NODE_ARGS.contains(&id) => arg.add(ArgValueCompleter::new(|typed: &OsStr| {
            names::all(typed, "@")
        })),
        _ => arg,
    };
    let command = Cli::command()
        .mut_args(with_names)
        .mut_subcommands(|one| one.mut_args(with_names))
        .mut_subcommand("config", |one| {
            one.mut_arg("name", |arg| {
                arg.add(ArgValueCompleter::new(|typed: &OsStr| {
                    names::all(typed, "@")
                }))
            })
        });
    MEMBER_ARGS
        .into_iter()
        .fold(command, |command, (name, arg, which, suffix)| {
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
    fn pieces_of_bash_are_joined() {
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
            (
                vec!["redis-trib", "check", "@"],
                2,
                vec!["redis-trib", "check", "@"],
                2,
                "",
            ),
            (
                vec!["redis-trib", "reshard", "@", "pr", "--to", "8f"],
                3,
                vec!["redis-trib", "reshard", "@pr", "--to", "8f"],
                2,
                "",
            ),
            (
                vec!["redis-trib", "add-node", "h", ":", "1", "@", "pr"],
                6,
                vec!["redis-trib", "add-node", "h:1", "@pr"],
                3,
                "",
            ),
            // A piece after a space is not joined.
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
    fn the_word_may_not_exist_yet() {
        let words = vec![OsString::from("redis-trib"), OsString::from("check")];
        let question = Question::of(Shell::Zsh, words, Some(2));
        assert_eq!(question.words.len(), 3);
        assert_eq!(question.index, 2);
        let nothing = Question::of(Shell::Bash, Vec::new(), None);
        assert_eq!(nothing.index, 0);
    }

    #[test]
    fn member_arguments_exist() {
        let command = Cli::command();
        for (name, id, ..) in MEMBER_ARGS {
            let subcommand = command.find_subcommand(name);
            let mut args = subcommand
                .into_iter()
                .flat_map(clap::Command::get_arguments);
            assert!(args.any(|arg| arg.get_id() == id), "{name}: {id}");
        }
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
        // No node to ask: no candidates.
        assert_eq!(offered(&["redis-trib", "reshard", "--to", ""]).trim(), "");
    }
}
