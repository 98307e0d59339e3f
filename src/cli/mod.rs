//! The command line: global options, the subcommands, one match.

pub mod compat;
pub mod completions;
mod help;
pub mod man;
pub mod options;
mod program;
mod suggest;

use std::ffi::OsString;
use std::process::ExitCode as ProcessExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::args::again::same_command;
use crate::args::global::{GlobalArgs, OutputArg, resume_flags};
use crate::args::named::NamedCluster;
use crate::change::{Global, Kind};
use crate::commands::{
    add_node, apply, backup, call, check, config, create, del_node, drift, failover, fix, import,
    info, ok_to_stop, place, rebalance, replace_node, reshard, restore, roll, set_timeout, slots,
    throttle, verify, watch, where_is,
};
use crate::exit_code::ExitCode;
use crate::session::ResumeFlags;
use crate::stop::{CommandLine, CommandResult};
use crate::ui::{self, Mode, OutputFormat, Ui, Usage};

use help::grouped;
pub use program::run;

/// Create, check, reshard and repair Redis and Valkey clusters.
///
/// NODE is host:port, host, [ipv6]:port, redis://user:password@host:port or rediss://…; a name
/// that resolves to several addresses stands for all of these nodes, and @prod for the cluster of
/// that name in the configuration file (redis-trib config --help).
// The doc comment is the help text: `[ipv6]` is not a link, and an escape would be printed.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Debug, Parser)]
#[command(
    name = "redis-trib",
    version,
    max_term_width = WIDTH,
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
    /// Show a live screen of the cluster.
    Watch(watch::Args),
    /// Show where keys and slots are.
    #[command(name = "where")]
    WhereIs(where_is::Args),
    /// Show the load of slots, and the hottest ones.
    Slots(slots::Args),
    /// Show what differs among the nodes: settings, users, functions, modules.
    Drift(drift::Args),
    /// Move slots between masters.
    Reshard(reshard::Args),
    /// Balance slots, keys or memory between the masters.
    Rebalance(rebalance::Args),
    /// Execute a saved plan, or the rest of an interrupted one.
    Apply(apply::Args),
    /// Change the speed of a running move, or pause it.
    Throttle(throttle::Args),
    /// Repair open slots, uncovered slots and conflicting views without losing a key.
    Fix(fix::Args),
    /// Save the data of every master to a directory, or verify such a directory.
    Backup(backup::Args),
    /// Write the keys of a backup into a cluster.
    Restore(restore::Args),
    /// Copy or move the keys of a server or a cluster into a cluster.
    Import(import::Args),
    /// Compare the keys of a server, a cluster or a backup with those of a cluster.
    Verify(verify::Args),
    /// Add nodes to a cluster, as masters or as replicas.
    AddNode(add_node::Args),
    /// Remove nodes from a cluster: replicas, masters, dead nodes.
    DelNode(del_node::Args),
    /// Check whether nodes can be stopped now, for rolling restarts.
    OkToStop(ok_to_stop::Args),
    /// Fail over to a replica.
    Failover(failover::Args),
    /// Spread the masters evenly over hosts and zones again.
    Place(place::Args),
    /// Replace a node with a new one.
    ReplaceNode(replace_node::Args),
    /// Restart or upgrade the nodes one after the other.
    Roll(roll::Args),
    /// Send one command to all nodes.
    Call(call::Args),
    /// Set cluster-node-timeout on all nodes.
    SetTimeout(set_timeout::Args),
    /// List, show and check the named clusters of the configuration file.
    Config(config::Args),
    /// List the global options.
    Options(options::Args),
    /// Print the completion script of a shell.
    Completions(completions::Args),
    /// Print the man page, or write the man pages of all commands.
    Man(man::Args),
}

/// The width of help texts; on a narrower terminal they are narrower.
const WIDTH: usize = 100;

impl Cli {
    /// Reads a command line.
    pub fn read(line: &[OsString]) -> Result<Self, clap::Error> {
        let (mut cli, resume, again, named) = match Self::parse_words(Self::command(), line) {
            Ok(parsed) => parsed,
            Err(error) if error.kind() == ErrorKind::DisplayVersion => return Err(error),
            // The help texts take longer than all the rest: they are made if they are shown.
            Err(_) => {
                let command = grouped();
                let error = Self::parse_words(command.clone(), line);
                let error = error.map_err(without_passwords);
                error.map_err(|error| suggest::with_suggestion(error, &command))?
            }
        };
        cli.global.resume = resume;
        cli.global.named = named;
        cli.global.line.clone_from(&again);
        cli.global.again = cli.command.can_be_repeated().then_some(again);
        let format = match (&cli.command, cli.global.output) {
            (Command::Check(_), _) => return Ok(cli),
            (_, OutputArg::Prometheus) => "prometheus",
            (_, OutputArg::Nagios) => "nagios",
            _ => return Ok(cli),
        };
        let message = format!("--output {format} is for check only: use table, classic or json");
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }

    fn parse_words(
        mut command: clap::Command,
        line: &[OsString],
    ) -> Result<(Self, ResumeFlags, CommandLine, NamedCluster), clap::Error> {
        let matches = command.try_get_matches_from_mut(line)?;
        let named = NamedCluster::read(&matches)
            .map_err(|why| command.error(ErrorKind::ArgumentConflict, why))?;
        let resume = resume_flags(&command, &matches);
        let again = same_command(&command, &matches);
        Ok((Self::from_arg_matches(&matches)?, resume, again, named))
    }

    /// Runs the command and reports its error.
    pub async fn run(self, ui: &Ui) -> ExitCode {
        let kind = self.command.kind();
        ui.command(self.command.name());
        if kind == Kind::Read {
            ui.writes_document();
        }
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
            Self::Check(_)
            | Self::Info(_)
            | Self::Watch(_)
            | Self::WhereIs(_)
            | Self::Verify(_)
            | Self::OkToStop(_)
            | Self::Throttle(_)
            | Self::Config(_) => Kind::Read,
            Self::Slots(args) if !args.changes_nodes() => Kind::Read,
            Self::Drift(args) if !args.changes_nodes() => Kind::Read,
            Self::Options(_) | Self::Completions(_) | Self::Man(_) => Kind::Local,
            _ => Kind::Change,
        }
    }

    /// Whether the same command finishes what it left undone. Others name the command that does: a second `reshard`
    /// moves more slots, a second `call` sends the command again, and `backup` needs an empty directory.
    fn can_be_repeated(&self) -> bool {
        match self {
            Self::Create(_)
            | Self::Rebalance(_)
            | Self::Apply(_)
            | Self::Fix(_)
            | Self::Restore(_)
            | Self::Import(_)
            | Self::AddNode(_)
            | Self::DelNode(_)
            | Self::Failover(_)
            | Self::Drift(_)
            | Self::Place(_)
            | Self::ReplaceNode(_)
            | Self::SetTimeout(_) => true,
            Self::Check(_)
            | Self::Info(_)
            | Self::Watch(_)
            | Self::WhereIs(_)
            | Self::Verify(_)
            | Self::Slots(_)
            | Self::Reshard(_)
            | Self::Backup(_)
            | Self::OkToStop(_)
            | Self::Roll(_)
            | Self::Call(_)
            | Self::Throttle(_)
            | Self::Config(_)
            | Self::Options(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }

    /// Its name on the command line.
    fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Check(_) => "check",
            Self::Info(_) => "info",
            Self::Watch(_) => "watch",
            Self::WhereIs(_) => "where",
            Self::Slots(_) => "slots",
            Self::Drift(_) => "drift",
            Self::Reshard(_) => "reshard",
            Self::Rebalance(_) => "rebalance",
            Self::Apply(_) => "apply",
            Self::Throttle(_) => "throttle",
            Self::Fix(_) => "fix",
            Self::Failover(_) => "failover",
            Self::Place(_) => "place",
            Self::ReplaceNode(_) => "replace-node",
            Self::Backup(_) => "backup",
            Self::Restore(_) => "restore",
            Self::Roll(_) => "roll",
            Self::Import(_) => "import",
            Self::Verify(_) => "verify",
            Self::AddNode(_) => "add-node",
            Self::DelNode(_) => "del-node",
            Self::OkToStop(_) => "ok-to-stop",
            Self::Call(_) => "call",
            Self::SetTimeout(_) => "set-timeout",
            Self::Config(_) => "config",
            Self::Options(_) => "options",
            Self::Completions(_) => "completions",
            Self::Man(_) => "man",
        }
    }

    async fn run(self, global: &Global, ui: &Ui) -> CommandResult {
        match self {
            Self::Create(args) => create::run(global, ui, args).await,
            Self::Check(args) => check::run(global, ui, args).await,
            Self::Info(args) => info::run(global, ui, args).await,
            Self::Watch(args) => watch::run(global, ui, args).await,
            Self::WhereIs(args) => where_is::run(global, ui, args).await,
            Self::Slots(args) => slots::run(global, ui, args).await,
            Self::Drift(args) => drift::run(global, ui, args).await,
            Self::Reshard(args) => reshard::run(global, ui, args).await,
            Self::Rebalance(args) => rebalance::run(global, ui, args).await,
            Self::Apply(args) => apply::run(global, ui, args).await,
            Self::Throttle(args) => throttle::run(global, ui, args).await,
            Self::Fix(args) => fix::run(global, ui, args).await,
            Self::Failover(args) => failover::run(global, ui, args).await,
            Self::Place(args) => place::run(global, ui, args).await,
            Self::ReplaceNode(args) => replace_node::run(global, ui, args).await,
            Self::Backup(args) => backup::run(global, ui, args).await,
            Self::Restore(args) => restore::run(global, ui, args).await,
            Self::Roll(args) => roll::run(global, ui, args).await,
            Self::Import(args) => import::run(global, ui, args).await,
            Self::Verify(args) => verify::run(global, ui, args).await,
            Self::AddNode(args) => add_node::run(global, ui, args).await,
            Self::DelNode(args) => del_node::run(global, ui, args).await,
            Self::OkToStop(args) => ok_to_stop::run(global, ui, args).await,
            Self::Call(args) => call::run(global, ui, args).await,
            Self::SetTimeout(args) => set_timeout::run(global, ui, args).await,
            Self::Config(args) => config::run(ui, args),
            Self::Options(args) => options::run(ui, args),
            Self::Completions(args) => completions::run(ui, args),
            Self::Man(args) => man::run(ui, args),
        }
    }
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
        assert_eq!(resume.consent, ["--yes"]);
    }

    #[test]
    fn the_same_command_has_no_secret() {
        for (line, expected) in [
            (
                "create redis://ann:pw@h:1 rediss://:pw@h:2 h:3 --replicas 1 --yes -o json",
                Some("create redis://ann@h:1 rediss://h:2 h:3 --replicas 1 --yes --askpass"),
            ),
            (
                "import --from redis://ann:pw@h:1/3 h:2 -a secret --move",
                Some("import h:2 --from redis://ann@h:1/3 --move --askpass --from-askpass"),
            ),
            (
                "import --from h:1 --from-pass secret h 2 --pass-file /f",
                Some("import h 2 --pass-file /f --from h:1 --from-askpass"),
            ),
            (
                "set-timeout h:1 5s --user ann",
                Some("set-timeout h:1 5s --user ann"),
            ),
            ("reshard h:1 --slots 5 --from all --to 8fab", None),
            ("call h:1 FLUSHALL", None),
        ] {
            let words = line.split(' ').map(OsString::from);
            let words: Vec<OsString> = ["redis-trib".into()].into_iter().chain(words).collect();
            let again = Cli::read(&words).unwrap().global.again;
            let mut again = again.map(|words| words[1..].to_vec());
            let mut expected = expected.map(|line| line.split(' ').map(str::to_string).collect());
            // The order of the options is that of their definition.
            again
                .iter_mut()
                .for_each(|words: &mut Vec<String>| words.sort());
            expected
                .iter_mut()
                .for_each(|words: &mut Vec<String>| words.sort());
            assert_eq!(again, expected, "{line}");
        }
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
            let grouped = help::GROUPS.iter().any(|(_, names)| names.contains(&name));
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
