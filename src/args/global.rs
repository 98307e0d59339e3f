//! Options that every command takes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgMatches, ValueEnum};

use super::again::option_words;
use super::named::NamedCluster;
use super::values::{duration, number};
use crate::client::Verify;
use crate::resolve::Family;
use crate::seed::AddressMapping;
use crate::session::ResumeFlags;
use crate::stop::CommandLine;
use crate::ui::{ColorChoice, Mode, OutputFormat, UiOptions, Verbosity};

/// Options that every command takes.
#[derive(Debug, clap::Args)]
pub struct GlobalArgs {
    /// The password. Other users of this machine can see it: prefer REDISCLI_AUTH or --pass-file.
    #[arg(short = 'a', long, global = true, value_name = "PASSWORD", help_heading = LOGIN, allow_hyphen_values = true, conflicts_with_all = ["pass_file", "askpass"])]
    pub pass: Option<OsString>,
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
    /// How the certificate of a node is verified [default: full].
    #[arg(long, global = true, value_name = "LEVEL", help_heading = TLS)]
    pub tls_verify: Option<VerifyArg>,
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
    #[arg(long, global = true, value_name = "N", help_heading = REACH, value_parser = number("nodes", 1..=u16::MAX))]
    pub expect_nodes: Option<u16>,
    /// Timeout for --expect-nodes.
    #[arg(long, global = true, value_name = "TIME", default_value = "60s", value_parser = duration, help_heading = REACH)]
    pub resolve_timeout: Duration,
    /// How long a command that changes a cluster waits for states that normally pass, such as gossip that has not
    /// arrived [default: 15s, or 2 x cluster-node-timeout if that is longer].
    #[arg(long, global = true, value_name = "TIME", value_parser = duration, help_heading = REACH, hide_default_value = true)]
    pub settle_timeout: Option<Duration>,
    /// Nodes that are read in parallel.
    #[arg(long, global = true, value_name = "N", default_value_t = 64, help_heading = REACH, value_parser = number("nodes", 1..=u16::MAX))]
    pub connections: u16,

    /// Use the login, TLS files, address map and zones of cluster NAME of the configuration file, but not its
    /// nodes. `@NAME` in place of a node uses both.
    #[arg(long, global = true, value_name = "NAME", help_heading = NAMED)]
    pub settings_of: Option<String>,
    /// Consent to changes of cluster NAME of the configuration file. A cluster with `protected = true` needs it
    /// where there is no terminal on which to type the name.
    #[arg(long, global = true, value_name = "NAME", help_heading = NAMED)]
    pub confirm: Option<String>,
    /// The cluster that the command line names, as `@NAME` or by --settings-of.
    #[arg(skip)]
    pub named: NamedCluster,

    /// Append every change to this file as a line of JSON.
    #[arg(long, global = true, value_name = "FILE", help_heading = RECORD)]
    pub journal: Option<PathBuf>,
    /// The reason for the change, written to the journal.
    #[arg(long, global = true, value_name = "TEXT", help_heading = RECORD, requires = "journal")]
    pub reason: Option<String>,
    /// The command line as it was given, without secrets.
    #[arg(skip)]
    pub line: CommandLine,
    /// The same command once more, if that finishes what it left undone; see [`super::again`].
    #[arg(skip)]
    pub again: Option<CommandLine>,
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
    /// Log commands and replies on standard error, without secrets (-vv: connections and waits too).
    #[arg(short, long, global = true, help_heading = SHOW, action = clap::ArgAction::Count)]
    pub verbose: u8,
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
            _ if id == "yes" || id == "confirm" => &mut again.consent,
            Some(LOGIN | TLS | REACH | NAMED | RECORD) => &mut again.reach,
            Some(MOVING) => &mut again.moving,
            Some(SHOW) => continue,
            _ => &mut again.own,
        };
        let words = option_words(arg, matches);
        part.extend(words.iter().cloned());
        if ["zone", "zone_from"].contains(&id) {
            again.zones.extend(words);
        }
    }
    again
}

const LOGIN: &str = "Login";
const TLS: &str = "TLS";
const REACH: &str = "Reaching the nodes";
const NAMED: &str = "Named clusters";
const RECORD: &str = "Record";
/// The heading of the options of the output.
pub(super) const SHOW: &str = "Output";

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
    /// `table`; `classic` if called as redis-cli or redis-trib.rb.
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
            verbosity: match (self.quiet, self.verbose) {
                (true, _) => Verbosity::Quiet,
                (false, 0) => Verbosity::Normal,
                (false, _) => Verbosity::Logged,
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
            None | Some(VerifyArg::Full) => Verify::Full,
            Some(VerifyArg::Chain) => Verify::Chain,
            Some(VerifyArg::None) => Verify::None,
        }
    }

    /// Returns how long to wait for nodes that are still starting: with `--expect-nodes` they may be.
    pub(crate) fn start_timeout(&self) -> Option<Duration> {
        self.expect_nodes.map(|_| self.resolve_timeout)
    }
}
