//! Options that every command takes.

use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, ValueEnum};

use super::values::duration;
use crate::client::Verify;
use crate::resolve::Family;
use crate::seed::AddressMapping;
use crate::session::ResumeFlags;
use crate::ui::{ColorArg, Mode, OutputArg, UiOptions, Verbosity};

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
    /// What was given of these options, for command lines that resume.
    #[arg(skip)]
    pub resume: ResumeFlags,

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

/// Reads from a parsed command line what [`ResumeFlags`] repeats.
pub(crate) fn resume_flags(command: &clap::Command, matches: &ArgMatches) -> ResumeFlags {
    let mut again = ResumeFlags::default();
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
                part.extend([format!("--{long}"), value.to_string_lossy().into_owned()]);
            }
        } else {
            part.push(format!("--{long}"));
        }
    }
    again
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
    pub fn ui_options(&self, mode: Mode) -> UiOptions {
        UiOptions {
            mode,
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
