//! The command line: global options, the subcommands, one match.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::client::Verify;
use crate::cluster::health::shell_word;
use crate::commands::journal;
use crate::commands::{
    CommandResult, add_node, apply, backup, call, check, completions, create, del_node, failover,
    fix, import, info, man, ok_to_stop, rebalance, replace_node, reshard, restore, set_timeout,
};
use crate::compat::Manner;
use crate::journal::Journal;
use crate::resolve::Family;
use crate::seed::AddressMapping;
use crate::ui::{ColorArg, OutputArg, Ui, UiOptions, Verbosity};

/// Make, check and mend Redis and Valkey clusters.
///
/// NODE is host:port, host, [ipv6]:port, redis://user:password@host:port or rediss://…; a name
/// that resolves to several addresses stands for all of these nodes.
// The doc comment is the help: `[ipv6]` is no link, and an escape would be printed.
#[allow(rustdoc::broken_intra_doc_links)]
#[derive(Debug, Parser)]
#[command(
    name = "redis-trib",
    version,
    max_term_width = 100,
    // The last one counts, so that a script can add to what it was given.
    args_override_self = true,
    after_help = "Examples:\n  \
                  redis-trib create --replicas 1 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.7 10.0.0.8 10.0.0.9\n  \
                  redis-trib check 10.0.0.3\n  \
                  redis-trib reshard 10.0.0.3 --slots 4096 --from all --to 8fabdaed --dry-run\n  \
                  redis-trib --cluster check 10.0.0.3:6379      # as redis-cli spells it\n\n\
                  redis-trib COMMAND --help tells more, with examples.\n\n\
                  Exit codes: 0 done or healthy, 1 unhealthy, 2 wrong usage, 3 refused, nothing changed,\n\
                  4 no node reached, 5 not confirmed, 6 stopped part-way, 130 interrupted."
)]
pub struct Cli {
    /// Options that every command takes.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a cluster of empty nodes.
    Create(create::Args),
    /// Judge the health of a cluster.
    Check(check::Args),
    /// Show the masters with their keys, slots and replicas.
    Info(info::Args),
    /// Move slots from masters to masters.
    Reshard(reshard::Args),
    /// Give every master its share of the slots, the keys or the memory.
    Rebalance(rebalance::Args),
    /// Carry out a saved plan, or the rest of one that was cut off.
    Apply(apply::Args),
    /// Mend what is broken, without losing a key.
    Fix(fix::Args),
    /// Save the data of every master to a directory, or check such a directory.
    Backup(backup::Args),
    /// Write the keys of a backup into a cluster.
    Restore(restore::Args),
    /// Copy or move the keys of a standalone server into a cluster.
    Import(import::Args),
    /// Add nodes to a cluster, as masters or as replicas.
    AddNode(add_node::Args),
    /// Remove nodes from a cluster: replicas, masters, dead ones, ghosts.
    DelNode(del_node::Args),
    /// Judge whether nodes can be stopped now, for rolling restarts.
    OkToStop(ok_to_stop::Args),
    /// Let a replica take over from its master.
    Failover(failover::Args),
    /// Put a new node in the place of another, dead or alive.
    ReplaceNode(replace_node::Args),
    /// Send one command to all nodes.
    Call(call::Args),
    /// Set cluster-node-timeout on all nodes.
    SetTimeout(set_timeout::Args),
    /// Print what makes a shell complete our command lines.
    Completions(completions::Args),
    /// Print the man page, or write those of all commands.
    Man(man::Args),
}

impl Cli {
    /// Reads a command line.
    pub fn read(line: &[OsString]) -> Result<Self, clap::Error> {
        let mut command = grouped();
        let (mut cli, again) = command
            .try_get_matches_from_mut(line)
            .and_then(|matches| {
                let again = Again::of(&command, &matches);
                Ok((Self::from_arg_matches(&matches)?, again))
            })
            .map_err(without_passwords)?;
        cli.global.again = again;
        let format = match (&cli.command, cli.global.output) {
            (Command::Check(_), _) => return Ok(cli),
            (_, OutputArg::Prometheus) => "prometheus",
            (_, OutputArg::Nagios) => "nagios",
            _ => return Ok(cli),
        };
        let message = format!("--output {format} is for check only: take table, classic or json");
        Err(Self::command().error(ErrorKind::ArgumentConflict, message))
    }

    /// Runs the command.
    pub async fn run(mut self, ui: &Ui) -> CommandResult {
        self.global.opened = journal::open(&self.global)?;
        let opened = self.global.opened.clone();
        journal::closed(opened.as_deref(), self.dispatch(ui).await)
    }

    async fn dispatch(self, ui: &Ui) -> CommandResult {
        match self.command {
            Command::Create(args) => create::run(&self.global, ui, args).await,
            Command::Check(args) => check::run(&self.global, ui, args).await,
            Command::Info(args) => info::run(&self.global, ui, args).await,
            Command::Reshard(args) => reshard::run(&self.global, ui, args).await,
            Command::Rebalance(args) => rebalance::run(&self.global, ui, args).await,
            Command::Apply(args) => apply::run(&self.global, ui, args).await,
            Command::Fix(args) => fix::run(&self.global, ui, args).await,
            Command::Failover(args) => failover::run(&self.global, ui, args).await,
            Command::ReplaceNode(args) => replace_node::run(&self.global, ui, args).await,
            Command::Backup(args) => backup::run(&self.global, ui, args).await,
            Command::Restore(args) => restore::run(&self.global, ui, args).await,
            Command::Import(args) => import::run(&self.global, ui, args).await,
            Command::AddNode(args) => add_node::run(&self.global, ui, args).await,
            Command::DelNode(args) => del_node::run(&self.global, ui, args).await,
            Command::OkToStop(args) => ok_to_stop::run(&self.global, ui, args).await,
            Command::Call(args) => call::run(&self.global, ui, args).await,
            Command::SetTimeout(args) => set_timeout::run(&self.global, ui, args).await,
            Command::Completions(args) => completions::run(ui, args),
            Command::Man(args) => man::run(ui, args),
        }
    }
}

/// The commands by what they are for. clap has no headings for subcommands: the list is ours.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Looking", &["check", "info", "ok-to-stop"]),
    (
        "Nodes",
        &["create", "add-node", "del-node", "replace-node", "failover"],
    ),
    ("Slots", &["reshard", "rebalance", "apply", "fix"]),
    ("Data", &["import", "backup", "restore"]),
    ("All nodes at once", &["call", "set-timeout"]),
    ("This program", &["completions", "man", "help"]),
];

/// The command line, with a help that shows the commands by group.
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
        // What this program does not have is not there.
        if !lines.is_empty() {
            list += &format!("{head}{group}:{head:#}\n{lines}\n");
        }
    }
    command
        .override_usage("redis-trib [OPTIONS] <COMMAND>")
        // Listed above the options, and not once more below them.
        .mut_subcommands(|one| one.hide(true))
        .help_template(format!(
            "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}{{all-args}}{{after-help}}"
        ))
}

/// clap repeats what it could not read; an address among that may hold a password.
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

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub struct GlobalArgs {
    /// The password. Others on this machine can see it here: prefer REDISCLI_AUTH or --pass-file.
    #[arg(short = 'a', long, global = true, value_name = "PASSWORD", help_heading = LOGIN, conflicts_with_all = ["pass_file", "askpass"])]
    pub pass: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, global = true, value_name = "FILE", help_heading = LOGIN, conflicts_with = "askpass")]
    pub pass_file: Option<PathBuf>,
    /// Ask for the password.
    #[arg(long, global = true, help_heading = LOGIN)]
    pub askpass: bool,
    /// The ACL user [default: the default user].
    #[arg(long, global = true, value_name = "NAME", help_heading = LOGIN)]
    pub user: Option<String>,

    /// Speak TLS to the nodes.
    #[arg(long, global = true, help_heading = TLS)]
    pub tls: bool,
    /// Trust the CA certificates in this PEM file instead of the system's.
    #[arg(long, global = true, value_name = "FILE", help_heading = TLS)]
    pub cacert: Option<PathBuf>,
    /// Trust the CA certificates in this directory of PEM files.
    #[arg(long, global = true, value_name = "DIR", help_heading = TLS)]
    pub cacertdir: Option<PathBuf>,
    /// Our own certificate, PEM.
    #[arg(long, global = true, value_name = "FILE", help_heading = TLS)]
    pub cert: Option<PathBuf>,
    /// The private key of our certificate, PEM.
    #[arg(long, global = true, value_name = "FILE", help_heading = TLS)]
    pub key: Option<PathBuf>,
    /// The server name to ask for and to check, instead of the host.
    #[arg(long, global = true, value_name = "NAME", help_heading = TLS)]
    pub sni: Option<String>,
    /// What of a node's certificate is checked.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "full", help_heading = TLS)]
    pub tls_verify: VerifyArg,
    /// Check nothing of a node's certificate (--tls-verify none).
    #[arg(long, global = true, help_heading = TLS)]
    pub insecure: bool,

    /// How long one connection may take to come about.
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = REACH)]
    pub connect_timeout: Duration,
    /// How long one command may take to be answered.
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = REACH)]
    pub command_timeout: Duration,
    /// Nodes that announce PEER are reached at DIAL from here (repeatable; host or host:port).
    #[arg(long, global = true, value_name = "PEER=DIAL", help_heading = REACH)]
    pub address_map: Vec<AddressMapping>,
    /// Where a name has addresses of both kinds, take IPv4.
    #[arg(long, global = true, help_heading = REACH, overrides_with = "ipv6")]
    pub ipv4: bool,
    /// Where a name has addresses of both kinds, take IPv6.
    #[arg(long, global = true, help_heading = REACH, overrides_with = "ipv4")]
    pub ipv6: bool,
    /// Wait until the names given stand for this many nodes in all.
    #[arg(long, global = true, value_name = "N", help_heading = REACH, value_parser = clap::value_parser!(u16).range(1..))]
    pub expect_nodes: Option<u16>,
    /// How long to wait for --expect-nodes.
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration, help_heading = REACH)]
    pub resolve_timeout: Duration,
    /// How many nodes are looked at side by side.
    #[arg(long, global = true, value_name = "N", default_value_t = 64, help_heading = REACH, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,

    /// Append every change to this file, as a line of JSON.
    #[arg(long, global = true, value_name = "FILE", help_heading = RECORD)]
    pub journal: Option<PathBuf>,
    /// Why, for the lines of the journal.
    #[arg(long, global = true, value_name = "TEXT", help_heading = RECORD, requires = "journal")]
    pub reason: Option<String>,
    /// The journal, once it is open.
    #[arg(skip)]
    pub opened: Option<Arc<Journal>>,
    /// What was given of these options, for command lines that go on.
    #[arg(skip)]
    pub again: Again,

    /// What results look like.
    #[arg(short = 'o', long, global = true, value_name = "FORMAT", default_value = "auto", help_heading = SHOW)]
    pub output: OutputArg,
    /// When to colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = SHOW)]
    pub color: ColorArg,
    /// Show results and errors only, no progress.
    #[arg(short, long, global = true, help_heading = SHOW, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Tell on standard error what goes over the wire.
    #[arg(short, long, global = true, help_heading = SHOW)]
    pub verbose: bool,
}

/// Options as they were given, for a command line that goes on where this one stopped: it reaches the same
/// nodes, and moves in the same way. Never a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Again {
    /// How nodes are reached, and what is recorded.
    pub reach: Vec<String>,
    /// How slots move.
    pub moving: Vec<String>,
}

impl Again {
    fn of(command: &clap::Command, matches: &ArgMatches) -> Self {
        let mut again = Self::default();
        let Some((name, matches)) = matches.subcommand() else {
            return again;
        };
        let known = command.find_subcommand(name).into_iter();
        for arg in known.flat_map(clap::Command::get_arguments) {
            let id = arg.get_id().as_str();
            let part = match arg.get_help_heading() {
                // These are about names, and the command goes on with an address.
                _ if ["expect_nodes", "resolve_timeout"].contains(&id) => continue,
                Some(LOGIN | TLS | REACH | RECORD) => &mut again.reach,
                Some(MOVING) => &mut again.moving,
                _ => continue,
            };
            let (Some(long), Some(ValueSource::CommandLine)) =
                (arg.get_long(), matches.value_source(id))
            else {
                continue;
            };
            if id == "pass" {
                part.push("--askpass".to_string());
            } else if arg.get_action().takes_values() {
                for value in matches.get_raw(id).into_iter().flatten() {
                    let value = shell_word(&value.to_string_lossy());
                    part.push(format!("--{long} {value}"));
                }
            } else {
                part.push(format!("--{long}"));
            }
        }
        again
    }
}

const LOGIN: &str = "Login";
const TLS: &str = "TLS";
const REACH: &str = "Reaching the nodes";
const RECORD: &str = "Record";
const SHOW: &str = "Output";
/// How slots move: options of the commands that move some.
pub const MOVING: &str = "Moving";

/// What of a node's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyArg {
    /// Its chain, its dates and its names.
    Full,
    /// Its chain and its dates, whatever its names (as redis-cli does).
    Chain,
    /// Nothing: anybody may answer.
    None,
}

impl GlobalArgs {
    /// What the user wants to see.
    pub fn ui_options(&self, manner: Manner) -> UiOptions {
        UiOptions {
            manner,
            output: self.output,
            color: self.color,
            quiet: if self.quiet {
                Verbosity::Quiet
            } else {
                Verbosity::Normal
            },
        }
    }

    /// Which addresses of a name count.
    pub fn family(&self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }

    /// What of a node's certificate is checked.
    pub fn verify(&self) -> Verify {
        match self.tls_verify {
            _ if self.insecure => Verify::None,
            VerifyArg::Full => Verify::Full,
            VerifyArg::Chain => Verify::Chain,
            VerifyArg::None => Verify::None,
        }
    }
}

/// A time with its unit, above zero and at most a week.
pub fn duration(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
    let time = humantime::parse_duration(text)
        .map_err(|_| "not a time: write it with its unit, as 500ms, 60s or 5m".to_string())?;
    if time.is_zero() {
        Err("a time must be above zero".to_string())
    } else if time > LONGEST {
        Err("a time may be a week at most".to_string())
    } else {
        Ok(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        grouped().debug_assert();
    }

    #[test]
    fn what_goes_on_reaches_the_same_nodes_and_moves_in_the_same_way() {
        let line = "redis-trib --tls -a secret reshard --cacert /a/the ca.pem --address-map a=b --address-map c=d \
                    --user ann 10.0.0.3 --slots 5 --from all --to 8fab --rate 10MiB --replace --yes -o json";
        let words: Vec<OsString> = line
            .replace("the ca", "the\u{1}ca")
            .split_whitespace()
            .map(|word| word.replace('\u{1}', " ").into())
            .collect();
        let again = Cli::read(&words).unwrap().global.again;
        let reach = [
            "--askpass",
            "--user ann",
            "--tls",
            "--cacert '/a/the ca.pem'",
            "--address-map a=b",
            "--address-map c=d",
        ];
        assert_eq!(again.reach, reach);
        assert_eq!(again.moving, ["--rate 10MiB", "--replace"]);
    }

    #[test]
    fn every_command_stands_in_a_group() {
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
