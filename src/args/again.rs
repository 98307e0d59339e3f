//! Command lines that repeat options of this one, without secrets: the same command once more, or another one that
//! finishes the work.

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches};

use super::global::SHOW;
use crate::stop::CommandLine;

/// The option that prompts for the password.
pub(super) const ASKPASS: &str = "--askpass";

/// The option that prompts for the password of the source of `import`.
const FROM_ASKPASS: &str = "--from-askpass";

/// Returns the words of a parsed command line: the positional arguments first, then the options that were given.
/// Passwords become prompts; options of the output are left out.
pub(crate) fn same_command(command: &clap::Command, matches: &ArgMatches) -> CommandLine {
    let mut words = vec!["redis-trib".to_string()];
    let Some((name, matches)) = matches.subcommand() else {
        return words;
    };
    words.push(name.to_string());
    let mut options = Vec::new();
    let known = command.find_subcommand(name).into_iter();
    for arg in known.flat_map(clap::Command::get_arguments) {
        match arg.get_long() {
            _ if arg.get_help_heading() == Some(SHOW) => {}
            None => {
                for value in given(arg, matches) {
                    let (value, had_password) = without_password(&value);
                    words.push(value);
                    if had_password {
                        options.push(ASKPASS.to_string());
                    }
                }
            }
            Some(_) => options.extend(option_words(arg, matches)),
        }
    }
    words.extend(with_one_prompt(options));
    words
}

/// An option as it was given, with a prompt for each password; nothing if it was not given.
pub(super) fn option_words(arg: &Arg, matches: &ArgMatches) -> Vec<String> {
    let Some(long) = arg.get_long() else {
        return Vec::new();
    };
    let flag = format!("--{long}");
    let is_given = matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine);
    match arg.get_id().as_str() {
        _ if !is_given => Vec::new(),
        "pass" => vec![ASKPASS.to_string()],
        "from_pass" => vec![FROM_ASKPASS.to_string()],
        _ if !arg.get_action().takes_values() => vec![flag],
        _ => {
            let mut words = Vec::new();
            for value in given(arg, matches) {
                let (value, had_password) = without_password(&value);
                words.extend([flag.clone(), value]);
                if had_password {
                    words.push(FROM_ASKPASS.to_string());
                }
            }
            words
        }
    }
}

/// The values that were given for an argument.
fn given(arg: &Arg, matches: &ArgMatches) -> Vec<String> {
    let id = arg.get_id().as_str();
    if matches.value_source(id) != Some(ValueSource::CommandLine) {
        return Vec::new();
    }
    let values = matches.get_raw(id).into_iter().flatten();
    values
        .map(|value| value.to_string_lossy().into_owned())
        .collect()
}

/// A prompt once, and not beside a file.
fn with_one_prompt(options: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for word in &options {
        let is_prompt = word == ASKPASS || word == FROM_ASKPASS;
        let file = word.replace("askpass", "pass-file");
        if !is_prompt || !kept.contains(word) && !options.contains(&file) {
            kept.push(word.clone());
        }
    }
    kept
}

/// An address without its password, and whether it had one. Other values stay as they are.
pub(super) fn without_password(value: &str) -> (String, bool) {
    let mut url = match value.contains("://") {
        true => url::Url::parse(value).ok(),
        false => None,
    };
    match &mut url {
        Some(url) if url.password().is_some() => match url.set_password(None) {
            Ok(()) => (url.to_string(), true),
            // An address without a host has no password either.
            Err(()) => (String::new(), true),
        },
        _ => (value.to_string(), false),
    }
}
