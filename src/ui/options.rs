//! What the command line says about output.

use std::collections::BTreeMap;

use crate::cluster::health::Diagnosis;
use crate::cluster::node::NodeId;
use crate::report::RemedyOptions;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// `table`; `classic` in the modes of redis-cli and redis-trib.rb.
    #[default]
    Auto,
    /// For people.
    Table,
    /// The lines of redis-trib.rb and redis-cli, for the scripts that read them.
    Classic,
    /// For programs: one document, or one object per line from commands that change a cluster.
    Json,
    /// Metrics for the textfile collector of Prometheus' node exporter (check only).
    Prometheus,
    /// One line and the exit codes of Nagios (check only).
    Nagios,
}

/// When to write colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also in a pipe.
    Always,
    /// Not at all.
    Never,
}

/// How much is written besides results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// Hints and progress too.
    #[default]
    Normal,
    /// The same, and a log: progress is lines then, since a spinner is no good between them.
    Logged,
    /// Warnings and errors only.
    Quiet,
}

/// The program that this one stands in for; the command line alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// None.
    #[default]
    Native,
    /// redis-cli: `--cluster COMMAND`.
    RedisCli,
    /// valkey-cli: the same, called by that name.
    ValkeyCli,
    /// redis-trib.rb: called by that name.
    RedisTribRb,
}

impl Mode {
    /// One of the old modes: prompts and progress on standard output, answers from a pipe, exit codes 0
    /// and 1.
    pub fn is_old(self) -> bool {
        self != Self::Native
    }

    /// redis-cli or valkey-cli.
    pub fn is_redis_cli(self) -> bool {
        matches!(self, Self::RedisCli | Self::ValkeyCli)
    }
}

/// What the command line says about output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UiOptions {
    /// The format of results.
    pub output: OutputFormat,
    /// When to write colours.
    pub color: ColorChoice,
    /// How much is written besides results.
    pub verbosity: Verbosity,
    /// The program that this one stands in for.
    pub mode: Mode,
}

/// What counts against a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// Errors.
    #[default]
    Lenient,
    /// Warnings too (`--strict`).
    Strict,
}

impl Strictness {
    /// Whether `check` ends with 0.
    pub fn passes(self, diagnosis: &Diagnosis) -> bool {
        match self {
            Self::Lenient => diagnosis.is_healthy(),
            Self::Strict => diagnosis.findings.is_empty(),
        }
    }
}

/// How much `check` shows of the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// A line for each node.
    #[default]
    Nodes,
    /// A line for each shard (`--brief`).
    Shards,
}

/// What `check` shows besides the diagnosis.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CheckExtra {
    /// How much is shown of the nodes.
    pub detail: Detail,
    /// What counts against the cluster.
    pub strictness: Strictness,
    /// The zone of each node, where it is known.
    pub zones: BTreeMap<NodeId, String>,
    /// What else the command found out, as sentences; they come last.
    pub notes: Vec<String>,
    /// What the command lines of remedies repeat.
    pub options: RemedyOptions,
}
