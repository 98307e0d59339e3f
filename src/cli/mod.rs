//! The command line: global options, the subcommands, one match.

pub mod compat;
pub mod completions;
pub mod man;
mod program;

use std::ffi::OsString;
use std::process::ExitCode as ProcessExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::args::global::{GlobalArgs, OutputArg, resume_flags};
use crate::change::{Global, Kind};
use crate::commands::{
    add_node, apply, backup, call, check, create, del_node, failover, fix, import, info,
    ok_to_stop, rebalance, replace_node, reshard, restore, set_timeout,
};
use crate::exit_code::ExitCode;
use crate::stop::CommandResult;
use crate::ui::{self, Mode, OutputFormat, Ui, Usage};

pub use program::run;

/// Create, check, reshard and repair Redis and Valkey clusters.
///
/// NODE is host:port, host, [ipv6]:port, redis://user:password@host:port or rediss://…; a name
/// that resolves to several addresses stands for all of these nodes.
// The doc comment is the help text: `[ipv6]` is not a link, and an escape would be printed.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Debug, Parser)]
#[command(
    name = "redis-trib",
    version,
    max_term_width = 100,
    // The last value of an option counts, so that a script can append options.
    args_override_self = true,
    after_help = "Examples:\n  \
                  redis-trib create --replicas 1 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.7 10.0.0.8 10.0.0.9\n  \
                  redis-trib check 10.0.0.3\n  \
                  redis-trib reshard 10.0.0.3 --slots 4096 --from all --to 8fabdaed --dry-run\n  \
                  redis-trib --cluster check 10.0.0.3:6379      # the syntax of redis-cli\n\n\
                  redis-trib COMMAND --help shows details and examples.\n\n\
                  Exit codes: 0 done or healthy, 1 unhealthy, 2 wrong usage, 3 refused (nothing was changed),\n\
                  4 no node reached, 5 not confirmed, 6 stopped part-way, 130 interrupted."
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create a cluster from empty nodes.
    Create(create::Args),
    /// Check the health of a cluster.
    Check(check::Args),
    /// Show the masters with their keys, slots and replicas.
    Info(info::Args),
    /// Move slots between masters.
    Reshard(reshard::Args),
    /// Balance slots, keys or memory between the masters.
    Rebalance(rebalance::Args),
    /// Execute a saved plan, or the rest of an interrupted one.
    Apply(apply::Args),
    /// Repair open slots, uncovered slots and conflicting views without losing a key.
    Fix(fix::Args),
    /// Save the data of every master to a directory, or verify such a directory.
    Backup(backup::Args),
    /// Write the keys of a backup into a cluster.
    Restore(restore::Args),
    /// Copy or move the keys of a standalone server into a cluster.
    Import(import::Args),
    /// Add nodes to a cluster, as masters or as replicas.
    AddNode(add_node::Args),
    /// Remove nodes from a cluster: replicas, masters, dead nodes.
    DelNode(del_node::Args),
    /// Check whether nodes can be stopped now, for rolling restarts.
    OkToStop(ok_to_stop::Args),
    /// Fail over to a replica.
    Failover(failover::Args),
    /// Replace a node with a new one.
    ReplaceNode(replace_node::Args),
    /// Send one command to all nodes.
    Call(call::Args),
    /// Set cluster-node-timeout on all nodes.
    SetTimeout(set_timeout::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Print the man page, or write the man pages of all commands.
    Man(man::Args),
}

impl Cli {
    /// Reads a command line.
    pub fn read(line: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = grouped();
        let (mut cli, resume) = command
            .try_get_matches_from_mut(line)
            .and_then(|matches| {
                let resume = resume_flags(&command, &matches);
                Ok((Self::from_arg_matches(&matches)?, resume))
            })
            .map_err(without_passwords)?;
        cli.global.resume = resume;
        let format = match (&cli.command, cli.global.output) {
            (Command::Check(_), _) => return Ok(cli),
            (_, OutputArg::Prometheus) => "prometheus",
            (_, OutputArg::Nagios) => "nagios",
            _ => return Ok(cli),
        };
        let message = format!("--output {format} is for check only: use table, classic or json");
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }

    /// Runs the command and reports its error.
    pub async fn run(self, ui: &Ui) -> ExitCode {
        let kind = self.command.kind();
        ui.command(self.command.name());
        match Global::open(self.global) {
            Ok(global) => {
                let result = self.command.run(&global, ui).await;
                global.end(ui, kind, result)
            }
            Err(stop) => {
                kind.report(ui, &stop);
                stop.code
            }
        }
    }
}

impl Command {
    fn kind(&self) -> Kind {
        match self {
            Self::Check(_) | Self::Info(_) | Self::OkToStop(_) => Kind::Read,
            Self::Completions(_) | Self::Man(_) => Kind::Local,
            _ => Kind::Change,
        }
    }

    /// Its name on the command line.
    fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Check(_) => "check",
            Self::Info(_) => "info",
            Self::Reshard(_) => "reshard",
            Self::Rebalance(_) => "rebalance",
            Self::Apply(_) => "apply",
            Self::Fix(_) => "fix",
            Self::Failover(_) => "failover",
            Self::ReplaceNode(_) => "replace-node",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Import(_) => "import",
            Self::AddNode(_) => "add-node",
            Self::DelNode(_) => "del-node",
            Self::OkToStop(_) => "ok-to-stop",
            Self::Call(_) => "call",
            Self::SetTimeout(_) => "set-timeout",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    async fn run(self, global: &Global, ui: &Ui) -> CommandResult {
        match self {
            Self::Create(args) => create::run(global, ui, args).await,
            Self::Check(args) => check::run(global, ui, args).await,
            Self::Info(args) => info::run(global, ui, args).await,
            Self::Reshard(args) => reshard::run(global, ui, args).await,
            Self::Rebalance(args) => rebalance::run(global, ui, args).await,
            Self::Apply(args) => apply::run(global, ui, args).await,
            Self::Fix(args) => fix::run(global, ui, args).await,
            Self::Failover(args) => failover::run(global, ui, args).await,
            Self::ReplaceNode(args) => replace_node::run(global, ui, args).await,
            Self::Backup(args) => backup::run(global, ui, args).await,
            Self::Restore(args) => restore::run(global, ui, args).await,
            Self::Import(args) => import::run(global, ui, args).await,
            Self::AddNode(args) => add_node::run(global, ui, args).await,
            Self::DelNode(args) => del_node::run(global, ui, args).await,
            Self::OkToStop(args) => ok_to_stop::run(global, ui, args).await,
            Self::Call(args) => call::run(global, ui, args).await,
            Self::SetTimeout(args) => set_timeout::run(global, ui, args).await,
            Self::Completions(args) => completions::run(ui, args),
            Self::Man(args) => man::run(ui, args),
        }
    }
}

/// The commands by purpose. clap has no headings for subcommands, so the list is written here.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Inspect", &["check", "info", "ok-to-stop"]),
    (
        "Nodes",
        &["create", "add-node", "del-node", "replace-node", "failover"],
    ),
    ("Slots", &["reshard", "rebalance", "apply", "fix"]),
    ("Data", &["import", "backup", "restore"]),
    ("All nodes", &["call", "set-timeout"]),
    ("This program", &["completions", "man", "help"]),
];

/// The command line with a help text that lists the commands by group.
fn grouped() -> clap::Command {
    let mut command = Cli::command();
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
        // A group may be empty.
        if !lines.is_empty() {
            list += &format!("{head}{group}:{head:#}\n{lines}\n");
        }
    }
    command
        .override_usage("redis-trib [OPTIONS] <COMMAND>")
        // They are listed above the options, not a second time below.
        .mut_subcommands(|one| one.hide(true))
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{{all-args}}{{after-help}}"
        ))
}

/// Reports an error of [`Cli::read`]. It is the help or the version if the command line asks for that.
pub fn report_usage(error: &clap::Error, line: &[OsString], mode: Mode) -> ProcessExitCode {
    let text = error.render();
    let usage = Usage {
        colored: text.ansi().to_string(),
        plain: text.to_string(),
    };
    if !error.use_stderr() {
        return ui::help(&usage);
    }
    // Only `check` has the format `nagios`; for another command the format itself is the error.
    let has = |word: &str| line.iter().any(|given| given == word);
    let for_nagios = has("check")
        && (has("nagios") || has("--output=nagios") || has("-o=nagios") || has("-onagios"));
    let output = match for_nagios {
        true => OutputFormat::Nagios,
        false => OutputFormat::Auto,
    };
    ui::usage_error(&usage, output, mode)
}

/// clap repeats the value that it could not parse; an address may contain a password.
fn without_passwords(mut error: clap::Error) -> clap::Error {
    for kind in [ContextKind::InvalidValue, ContextKind::InvalidArg] {
        if let Some(ContextValue::String(said)) = error.get(kind)
            && let Some((before, host)) = said.rsplit_once('@')
        {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            let shown = ContextValue::String(format!("{scheme}://***@{host}"));
            error.insert(kind, shown);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::credentials::resume_flags;

    #[test]
    fn the_command_line_is_consistent() {
        grouped().debug_assert();
    }

    #[test]
    fn resuming_lines_repeat_the_options_of_reach_and_movement() {
        let line = "redis-trib --tls -a secret reshard --cacert /a/the ca.pem --address-map a=b --address-map c=d \
                    --user ann 10.0.0.3 --slots 5 --from all --to 8fab --rate 10MiB --replace --yes -o json";
        let words: Vec<OsString> = line
            .replace("the ca", "the\u{1}ca")
            .split_whitespace()
            .map(|word| word.replace('\u{1}', " ").into())
            .collect();
        let resume = Cli::read(&words).unwrap().global.resume;
        let reach = [
            "--askpass",
            "--user",
            "ann",
            "--tls",
            "--cacert",
            "/a/the ca.pem",
            "--address-map",
            "a=b",
            "--address-map",
            "c=d",
        ];
        assert_eq!(resume.reach, reach);
        assert_eq!(resume.moving, ["--rate", "10MiB", "--replace"]);
    }

    #[test]
    fn the_login_of_a_resuming_line_is_that_of_the_seed() {
        let resumed = |flags: &str, seed: &str| {
            let line = format!("redis-trib {flags} check 10.0.0.3");
            let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
            let global = Cli::read(&words).unwrap().global;
            resume_flags(&global, &[seed.parse().unwrap()])
                .reach
                .join(" ")
        };
        for (flags, seed, expected) in [
            ("--user bob", "10.0.0.3", "--user bob"),
            ("--user bob", "redis://ann@10.0.0.3", "--user ann"),
            ("--user bob", "redis://:pw@10.0.0.3", "--askpass"),
            (
                "--pass-file /a/file --cacert /a/ca.pem",
                "rediss://ann:pw@10.0.0.3",
                "--cacert /a/ca.pem --tls --user ann --askpass",
            ),
        ] {
            assert_eq!(resumed(flags, seed), expected, "{flags} {seed}");
        }
    }

    #[test]
    fn every_command_is_in_a_group() {
        for one in Cli::command().get_subcommands() {
            let name = one.get_name();
            let grouped = GROUPS.iter().any(|(_, names)| names.contains(&name));
            assert!(grouped || one.is_hide_set(), "{name}");
            assert!(one.get_about().is_some(), "{name}");
            assert!(
                one.get_after_help()
                    .is_some_and(|text| text.to_string().contains("Example")),
                "{name} has no examples"
            );
        }
    }
}
