//! The help texts: the commands by group, and `-h`, which fits on one screen.
//!
//! `-h` shows the options of the command. Options that say how slots move are named there and explained by `--help`, and
//! one line points to the global ones, which `redis-trib options` lists.

use clap::CommandFactory;

use super::{Cli, WIDTH};
use crate::args::global::MOVING;

/// The commands by purpose. clap has no headings for subcommands, so the list is written here.
pub(super) const GROUPS: [(&str, &[&str]); 6] = [
    (
        "Inspect",
        &[
            "check",
            "info",
            "watch",
            "where",
            "slots",
            "drift",
            "ok-to-stop",
        ],
    ),
    (
        "Nodes",
        &[
            "create",
            "add-node",
            "del-node",
            "replace-node",
            "failover",
            "place",
        ],
    ),
    (
        "Slots",
        &["reshard", "rebalance", "apply", "throttle", "fix"],
    ),
    ("Data", &["import", "verify", "backup", "restore"]),
    ("All nodes", &["call", "roll", "set-timeout"]),
    ("This program", &["config", "options", "completions", "man"]),
];

/// The command line with its help texts.
pub(super) fn grouped() -> clap::Command {
    let in_short = |arg: clap::Arg| {
        let is_long_only = arg.is_global_set();
        arg.hide_short_help(is_long_only)
    };
    let mut command = Cli::command().mut_args(in_short).mut_subcommands(short);
    command.build();
    let head = *command.get_styles().get_header();
    let literal = *command.get_styles().get_literal();
    let mut list = String::new();
    for (group, names) in GROUPS {
        let lines: String = names
            .iter()
            .filter_map(|name| command.find_subcommand(name))
            .map(|one| {
                let about = one.get_about().map(ToString::to_string).unwrap_or_default();
                format!("  {literal}{:<13}{literal:#} {about}\n", one.get_name())
            })
            .collect();
        // No line between groups: the list fits on one screen.
        list += &format!("{head}{group}:{head:#}\n{lines}");
    }
    list += "\n";
    let after = command.get_after_help().map(ToString::to_string);
    let after = after.unwrap_or_default();
    command
        .override_usage("redis-trib [OPTIONS] <COMMAND>")
        // They are listed above the options, not a second time below.
        .mut_subcommands(|one| one.hide(true))
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{{all-args}}{{after-help}}"
        ))
        .after_help(format!("{GLOBAL}\n{DETAILS}"))
        .after_long_help(after)
}

const GLOBAL: &str = "Global options (login, TLS, reaching the nodes, output): redis-trib options";

const DETAILS: &str = "Example: redis-trib check 10.0.0.3\n\
                       Options and examples of a command: redis-trib COMMAND -h. Exit codes: redis-trib --help";

/// A subcommand whose `-h` is short.
fn short(command: clap::Command) -> clap::Command {
    let is_advanced = |arg: &clap::Arg| arg.get_help_heading() == Some(MOVING);
    let advanced: Vec<String> = command
        .get_arguments()
        .filter(|arg| is_advanced(arg) && !arg.is_hide_set())
        .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
        .collect();
    let after = command.get_after_help().map(ToString::to_string);
    let after = after.unwrap_or_default();
    let name = command.get_name().to_string();
    command
        .mut_args(|arg| {
            let hide = is_advanced(&arg);
            arg.hide_short_help(hide)
        })
        .after_help(format!("{}\n\n{after}", short_notes(&name, &advanced)))
        .after_long_help(after)
}

/// The options that `-h` does not explain.
fn short_notes(name: &str, advanced: &[String]) -> String {
    if advanced.is_empty() {
        return GLOBAL.to_string();
    }
    let mut lines = vec![String::from(" ")];
    for (place, option) in advanced.iter().enumerate() {
        let comma = if place + 1 < advanced.len() { "," } else { "" };
        let word = format!(" {option}{comma}");
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= WIDTH => *line += &word,
            _ => lines.push(format!(" {word}")),
        }
    }
    let list = lines.join("\n");
    format!("How slots move (redis-trib {name} --help explains it):\n{list}\n\n{GLOBAL}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_help_fits_on_one_screen() {
        let mut command = grouped().term_width(WIDTH);
        command.build();
        let mut all = vec![command.clone()];
        all.extend(command.get_subcommands().cloned());
        for mut one in all {
            let name = one.get_name().to_string();
            if name == "help" {
                continue;
            }
            let text = one.render_help().to_string();
            let lines = text.lines().count();
            // The program's own lists the commands.
            let most = if name == "redis-trib" { 53 } else { 45 };
            assert!(lines <= most, "{name} -h has {lines} lines:\n{text}");
            assert!(text.contains("redis-trib options"), "{name}:\n{text}");
            assert!(text.contains("Example"), "{name}:\n{text}");
            let wide = text.lines().find(|line| line.chars().count() > WIDTH);
            assert_eq!(wide, None, "{name}");
            // Nothing is left out of the long one.
            let long = one.render_long_help().to_string();
            for option in one.get_opts().filter(|arg| !arg.is_hide_set()) {
                let flag = format!("--{}", option.get_long().unwrap_or_default());
                assert!(long.contains(&flag), "{name}: {flag}");
                let in_short = text.contains(&flag) || option.is_global_set();
                assert!(in_short, "{name} -h: {flag}");
            }
        }
    }
}
