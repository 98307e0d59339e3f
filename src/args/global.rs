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
use crate::ui::{ColorChoice, Mode, OutputFormat, UiOptions, Verbosity};

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub struct GlobalArgs {
    /// The password. Other users of this machine can see it: prefer REDISCLI_AUTH or --pass-file.
    #[arg(short = 'a', long, global = true, value_name = "PASSWORD", help_heading = LOGIN, conflicts_with_all = ["pass_file", "askpass"])]
    pub pass: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, global = true, value_name = "FILE", help_heading = LOGIN, conflicts_with = "askpass")]
    pub pass_file: Option<PathBuf>,
    /// Prompt for the password.
    #[arg(long, global = true, help_heading = LOGIN)]
    pub askpass: bool,
    /// The ACL user [default: the default user].
    #[arg(long, global = true, value_name = "NAME", help_heading = LOGIN)]
    pub user: Option<String>,

    /// Connect with TLS.
    #[arg(long, global = true, help_heading = TLS)]
    pub tls: bool,
    /// Trust the CA certificates in this PEM file instead of the system's.
    #[arg(long, global = true, value_name = "FILE", help_heading = TLS)]
    pub cacert: Option<PathBuf>,
    /// Trust the CA certificates in this directory of PEM files.
    #[arg(long, global = true, value_name = "DIR", help_heading = TLS)]
    pub cacertdir: Option<PathBuf>,
    /// The client certificate, PEM.
    #[arg(long, global = true, value_name = "FILE", help_heading = TLS)]
    pub cert: Option<PathBuf>,
    /// The private key of the client certificate, PEM.
    #[arg(long, global = true, value_name = "FILE", help_heading = TLS)]
    pub key: Option<PathBuf>,
    /// The server name to send and to verify, instead of the host.
    #[arg(long, global = true, value_name = "NAME", help_heading = TLS)]
    pub sni: Option<String>,
    /// How the certificate of a node is verified.
    #[arg(long, global = true, value_name = "LEVEL", default_value = "full", help_heading = TLS)]
    pub tls_verify: VerifyArg,
    /// Do not verify the certificate of a node (--tls-verify none).
    #[arg(long, global = true, help_heading = TLS)]
    pub insecure: bool,

    /// Timeout for opening a connection.
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = duration, help_heading = REACH)]
    pub connect_timeout: Duration,
    /// Timeout for the reply to a command.
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration, help_heading = REACH)]
    pub command_timeout: Duration,
    /// Connect to DIAL for nodes that announce PEER (repeatable; host or host:port).
    #[arg(long, global = true, value_name = "PEER=DIAL", help_heading = REACH)]
    pub address_map: Vec<AddressMapping>,
    /// Use IPv4 if a name has addresses of both kinds.
    #[arg(long, global = true, help_heading = REACH, overrides_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 if a name has addresses of both kinds.
    #[arg(long, global = true, help_heading = REACH, overrides_with = "ipv4")]
    pub ipv6: bool,
    /// Wait until the given names resolve to this many nodes in total.
    #[arg(long, global = true, value_name = "N", help_heading = REACH, value_parser = clap::value_parser!(u16).range(1..))]
    pub expect_nodes: Option<u16>,
    /// Timeout for --expect-nodes.
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration, help_heading = REACH)]
    pub resolve_timeout: Duration,
    /// Nodes that are read in parallel.
    #[arg(long, global = true, value_name = "N", default_value_t = 64, help_heading = REACH, value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: u16,

    /// Append every change to this file as a line of JSON.
    #[arg(long, global = true, value_name = "FILE", help_heading = RECORD)]
    pub journal: Option<PathBuf>,
    /// The reason for the change, written to the journal.
    #[arg(long, global = true, value_name = "TEXT", help_heading = RECORD, requires = "journal")]
    pub reason: Option<String>,
    /// The options that were given, for command lines that resume.
    #[arg(skip)]
    pub resume: ResumeFlags,

    /// Output format.
    #[arg(short = 'o', long, global = true, value_name = "FORMAT", default_value = "auto", help_heading = SHOW)]
    pub output: OutputArg,
    /// When to use colour.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = SHOW)]
    pub color: ColorArg,
    /// Show results, warnings and errors only.
    #[arg(short, long, global = true, help_heading = SHOW, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log all commands and replies on standard error.
    #[arg(short, long, global = true, help_heading = SHOW)]
    pub verbose: bool,
}

/// Returns the options of a parsed command line that a command line that resumes repeats.
pub(crate) fn resume_flags(command: &clap::Command, matches: &ArgMatches) -> ResumeFlags {
    let mut again = ResumeFlags::default();
    let Some((name, matches)) = matches.subcommand() else {
        return again;
    };
    let known = command.find_subcommand(name).into_iter();
    for arg in known.flat_map(clap::Command::get_arguments) {
        let id = arg.get_id().as_str();
        let part = match arg.get_help_heading() {
            // They are about names; a command that resumes names a node by its address.
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
/// The heading of the options that say how slots move.
pub const MOVING: &str = "Moving";

/// How the certificate of a node is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyArg {
    /// Verify the certificate chain and the host name.
    Full,
    /// Verify the certificate chain but not the host name (redis-cli's behaviour).
    Chain,
    /// Verify nothing (insecure).
    None,
}

/// Output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputArg {
    /// `table` on a terminal, `classic` in a pipe.
    Auto,
    /// Tables for people.
    Table,
    /// The lines of redis-trib.rb and redis-cli, for the scripts that read them.
    Classic,
    /// JSON: one document, or one object per line from commands that change a cluster.
    Json,
    /// Metrics for the textfile collector of Prometheus' node exporter (check only).
    Prometheus,
    /// One line and the exit codes of Nagios (check only).
    Nagios,
}

impl From<OutputArg> for OutputFormat {
    fn from(arg: OutputArg) -> Self {
        match arg {
            OutputArg::Auto => Self::Auto,
            OutputArg::Table => Self::Table,
            OutputArg::Classic => Self::Classic,
            OutputArg::Json => Self::Json,
            OutputArg::Prometheus => Self::Prometheus,
            OutputArg::Nagios => Self::Nagios,
        }
    }
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ColorArg {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<ColorArg> for ColorChoice {
    fn from(arg: ColorArg) -> Self {
        match arg {
            ColorArg::Auto => Self::Auto,
            ColorArg::Always => Self::Always,
            ColorArg::Never => Self::Never,
        }
    }
}

impl GlobalArgs {
    /// Returns the options of the output.
    pub fn ui_options(&self, mode: Mode) -> UiOptions {
        UiOptions {
            mode,
            output: self.output.into(),
            color: self.color.into(),
            quiet: if self.quiet {
                Verbosity::Quiet
            } else {
                Verbosity::Normal
            },
        }
    }

    /// Returns the address family to use for names that have both.
    pub fn family(&self) -> Family {
        match (self.ipv4, self.ipv6) {
            (true, _) => Family::V4,
            (_, true) => Family::V6,
            _ => Family::Any,
        }
    }

    /// Returns how the certificate of a node is verified.
    pub fn verify(&self) -> Verify {
        match self.tls_verify {
            _ if self.insecure => Verify::None,
            VerifyArg::Full => Verify::Full,
            VerifyArg::Chain => Verify::Chain,
            VerifyArg::None => Verify::None,
        }
    }

    /// Returns how long to wait for nodes that are still starting: with `--expect-nodes` they may be.
    pub(crate) fn start_timeout(&self) -> Option<Duration> {
        self.expect_nodes.map(|_| self.resolve_timeout)
    }
}
