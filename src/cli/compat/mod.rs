//! Translates command lines of `redis-cli --cluster`, `valkey-cli --cluster` and redis-trib.rb into native ones.
//!
//! Pure: the words of a command line become words that `cli` parses, and a mode. The reference is redis-trib.rb 3.2 and
//! 4.0, redis-cli 7.0.15 and 8.10, valkey-cli 8.1 and 9.1. Values that these tools accept but can't handle
//! (`--cluster-pipeline 0`) are refused here, by the name of the option as it was typed. Native options that they do not
//! know are passed on unchanged.

mod help;
mod options;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use options::{Kind, Meaning};
use secrecy::ExposeSecret;

use crate::cluster::node::{Addr, DEFAULT_PORT};
use crate::exit_code::ExitCode;
use crate::seed::{NotAnAddress, Scheme, Seed};
use crate::ui::Mode;

/// Consent by an environment variable; it counts in the redis-cli mode only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// None.
    Open,
    /// Yes to all questions.
    Given,
}

impl Consent {
    /// The variables, valkey-cli's first; the second one counts if the first one is not set.
    pub const VARIABLES: [&'static str; 2] = ["VALKEYCLI_CLUSTER_YES", "REDISCLI_CLUSTER_YES"];

    /// As in redis-cli, only the value `1` is a yes.
    pub fn of(variable: Option<&OsStr>) -> Self {
        match variable {
            Some(value) if value == "1" => Self::Given,
            _ => Self::Open,
        }
    }
}

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedLine {
    /// A command, in native words.
    Command {
        /// The words, with the name of the program first.
        words: Vec<OsString>,
        /// The mode.
        mode: Mode,
    },
    /// The list of commands of that mode.
    Help {
        /// The text.
        text: &'static str,
        /// The exit code of that program.
        code: ExitCode,
    },
}

/// A wrong command line of redis-cli or redis-trib.rb.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompatError {
    /// `--cluster` without a command, or with one that does not exist.
    #[error("{0:?} is not a cluster command: --cluster help lists them")]
    Command(String),
    /// `--cluster` is given twice.
    #[error("--cluster is given twice: run one command at a time")]
    Twice,
    /// An unknown option that starts with `--cluster-`.
    #[error(
        "{0} is not an option of redis-cli --cluster: --cluster help lists them (values are separate \
         words)"
    )]
    Option(String),
    /// An option without its value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// A number outside of its range.
    #[error("{option} {value:?}: {needed}")]
    Number {
        /// The option, as it was typed.
        option: &'static str,
        /// Its value.
        value: String,
        /// The valid values.
        needed: &'static str,
    },
    /// `--cluster-weight` without `NODE=WEIGHT`.
    #[error("--cluster-weight needs NODE=WEIGHT, one or more")]
    Weight,
    /// `--cluster-weight` is given twice.
    #[error(
        "you cannot use --cluster-weight more than once: give all weights after it, as in --cluster-weight n1=w n2=w"
    )]
    WeightTwice,
    /// `-u` with a value that is not a URI.
    #[error("-u: {0}")]
    Uri(NotAnAddress),
    /// A number or an address that is not UTF-8.
    #[error("the value of {0} is not UTF-8")]
    NotText(&'static str),
}

/// The commands of redis-cli, valkey-cli and redis-trib.rb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Create,
    Check,
    Info,
    Fix,
    Reshard,
    Rebalance,
    AddNode,
    DelNode,
    Call,
    SetTimeout,
    Import,
    Backup,
}

impl Command {
    const ALL: [Self; 12] = [
        Self::Create,
        Self::Check,
        Self::Info,
        Self::Fix,
        Self::Reshard,
        Self::Rebalance,
        Self::AddNode,
        Self::DelNode,
        Self::Call,
        Self::SetTimeout,
        Self::Import,
        Self::Backup,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Check => "check",
            Self::Info => "info",
            Self::Fix => "fix",
            Self::Reshard => "reshard",
            Self::Rebalance => "rebalance",
            Self::AddNode => "add-node",
            Self::DelNode => "del-node",
            Self::Call => "call",
            Self::SetTimeout => "set-timeout",
            Self::Import => "import",
            Self::Backup => "backup",
        }
    }

    /// Upper case is accepted, as in these tools.
    fn of(word: &OsStr) -> Option<Self> {
        let word = word.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// Native options that these tools imply.
    fn implied(self, consent: Consent) -> &'static [&'static str] {
        match (self, consent) {
            // They never ask before these commands. (--yes of fix covers lossless remedies only.)
            (Self::AddNode | Self::SetTimeout | Self::Import, _) => &["--yes"],
            // They remove the last replica of a master, too. (The last copy that is alive can't be removed.)
            (Self::DelNode, _) => &["--yes", "--leave-all-unprotected"],
            (Self::Rebalance | Self::Fix, _) => &["--yes"],
            (Self::Create | Self::Reshard, Consent::Given) => &["--yes"],
            (Self::Create | Self::Reshard, Consent::Open) => &[],
            // They send any command.
            (Self::Call, _) => &["--allow-dangerous"],
            (Self::Check | Self::Info | Self::Backup, _) => &[],
        }
    }
}

/// Parses a command line; the first word is the name of the program.
pub fn read(line: &[OsString], consent: Consent) -> Result<ParsedLine, CompatError> {
    let (program, words) = match line.split_first() {
        Some((program, words)) => (program.clone(), words),
        None => (OsString::from("redis-trib"), line),
    };
    if is_redis_cli(words) {
        return redis_cli(program, words, consent);
    }
    let called = Path::new(&program).file_name();
    if called.is_some_and(|name| name == "redis-trib.rb") {
        return redis_trib_rb(program, words);
    }
    Ok(ParsedLine::Command {
        words: line.to_vec(),
        mode: Mode::Native,
    })
}

/// Whether `--cluster` is at a position where redis-cli parses it. Words after `call` are for the server.
fn is_redis_cli(words: &[OsString]) -> bool {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--cluster" {
            return true;
        }
        match word.to_str().and_then(options::meaning) {
            Some(meaning) if meaning.takes_value() => {
                words.next();
            }
            None if word == Command::Call.word() => return false,
            Some(_) | None => {}
        }
    }
    false
}

/// The parts of a command line of redis-cli.
#[derive(Default)]
struct RedisCliLine {
    /// Native options with their values.
    options: Vec<OsString>,
    /// TLS options: redis-cli ignores them without --tls.
    tls: Vec<OsString>,
    wants_tls: bool,
    copy: bool,
    has_weights: bool,
    host: Option<OsString>,
    port: Option<OsString>,
    /// All other words, in order.
    rest: Vec<OsString>,
}

fn redis_cli(
    program: OsString,
    words: &[OsString],
    consent: Consent,
) -> Result<ParsedLine, CompatError> {
    let is_valkey_cli = Path::new(&program).file_name() == Some(OsStr::new("valkey-cli"));
    let (mode, list) = match is_valkey_cli {
        true => (Mode::ValkeyCli, help::VALKEY_CLI),
        false => (Mode::RedisCli, help::REDIS_CLI),
    };
    let command = match command_of(words)? {
        Some(command) => command,
        // These tools end with 1 after the list.
        None => {
            return Ok(ParsedLine::Help {
                text: list,
                code: ExitCode::Unhealthy,
            });
        }
    };
    let asked_for_help = Ok(ParsedLine::Help {
        text: list,
        code: ExitCode::Done,
    });
    let mut line_parts = RedisCliLine::default();
    let mut left = words.iter();
    while let Some(word) = left.next() {
        if word == "--cluster" {
            left.next();
            continue;
        }
        match word.to_str().and_then(options::meaning) {
            Some(Meaning::Help) => return asked_for_help,
            // `-h` at the end of the line, without a host.
            Some(Meaning::Host) if left.len() == 0 => return asked_for_help,
            Some(meaning) => line_parts.take(command, meaning, &mut left)?,
            None => match word.to_str() {
                Some(text) if text.starts_with("--cluster-") => {
                    // The text after `=` may be a password.
                    let name = text.split('=').next().unwrap_or_default();
                    return Err(CompatError::Option(name.to_string()));
                }
                _ => line_parts.rest.push(word.clone()),
            },
        }
    }
    let mut native = vec![program, command.word().into()];
    // As in redis-cli: verify the certificate chain but not the host name.
    native.extend(["--tls-verify".into(), "chain".into()]);
    let rediss = |word: &OsString| {
        let text = word.to_str();
        text.is_some_and(|text| text.starts_with("rediss://") || text.starts_with("valkeys://"))
    };
    if line_parts.wants_tls || words.iter().any(rediss) {
        native.append(&mut line_parts.tls);
    }
    if command == Command::AddNode {
        drop_master_id(&mut line_parts.options, &line_parts.rest);
    }
    native.append(&mut line_parts.options);
    native.extend(command.implied(consent).iter().map(OsString::from));
    match command {
        Command::Import => native.extend(import(line_parts.copy, &native)),
        // Since 8.1 it asks instead of refusing them.
        Command::Create if is_valkey_cli => native.push("--allow-few-masters".into()),
        Command::Reshard | Command::Rebalance => {
            native.extend(move_defaults(is_valkey_cli, &native, words));
        }
        _ => {}
    }
    if let Some(node) = line_parts.missing_node(command) {
        line_parts.rest.insert(0, node);
    }
    native.extend(native_words(command, line_parts.rest)?);
    Ok(ParsedLine::Command {
        words: native,
        mode,
    })
}

/// The command after `--cluster`; `None` for `help`.
fn command_of(words: &[OsString]) -> Result<Option<Command>, CompatError> {
    let mut command = None;
    let mut left = words.iter();
    while let Some(word) = left.next() {
        if word == "--cluster" {
            let named = left.next().ok_or(CompatError::NoValue("--cluster"))?;
            if command.is_some() {
                return Err(CompatError::Twice);
            }
            command = Some(match Command::of(named) {
                Some(command) => Some(command),
                None if named.eq_ignore_ascii_case("help") => None,
                None => return Err(CompatError::Command(shown(&named.to_string_lossy()))),
            });
        } else if let Some(meaning) = word.to_str().and_then(options::meaning)
            && meaning.takes_value()
        {
            left.next();
        }
    }
    // The line has `--cluster`, so there is a command or `help`.
    Ok(command.flatten())
}

impl RedisCliLine {
    /// Adds an option, with its value from the words that are `left`.
    fn take<'a>(
        &mut self,
        command: Command,
        meaning: Meaning,
        left: &mut (impl Iterator<Item = &'a OsString> + Clone),
    ) -> Result<(), CompatError> {
        let mut value = |option| left.next().ok_or(CompatError::NoValue(option)).cloned();
        match meaning {
            Meaning::Idle | Meaning::Help => {}
            Meaning::IdleValue(option) => drop(value(option)?),
            Meaning::Host => self.host = Some(value("-h")?),
            Meaning::Port => {
                let port = value("-p")?;
                Kind::Port.check("-p", &port)?;
                self.port = Some(port);
            }
            Meaning::Uri => self.uri(&value("-u")?)?,
            Meaning::Tls => {
                self.wants_tls = true;
                self.tls.push("--tls".into());
            }
            Meaning::TlsSwitch(option) => self.tls.push(option.into()),
            Meaning::TlsValue(option) => {
                let value = value(option)?;
                self.tls.extend([option.into(), value]);
            }
            Meaning::Copy => self.copy = true,
            Meaning::Switch { native, of } => {
                if of.contains(&command) {
                    self.options.push(native.into());
                }
            }
            Meaning::Value {
                theirs,
                native,
                of,
                kind,
            } => {
                let value = value(theirs)?;
                if of.contains(&command) && !kind.is_left_out(&value) {
                    let value = kind.check(theirs, &value)?;
                    set(&mut self.options, native, value);
                }
            }
            Meaning::Weights => {
                // All words that follow and look like weights.
                let mut weights = Vec::new();
                while let Some(weight) = left.clone().next() {
                    let is_weight = weight
                        .to_str()
                        .is_some_and(|text| text.contains('=') && !text.starts_with("--"));
                    if !is_weight {
                        break;
                    }
                    weights.push(weight.clone());
                    left.next();
                }
                if weights.is_empty() {
                    return Err(CompatError::Weight);
                }
                if std::mem::replace(&mut self.has_weights, true) {
                    return Err(CompatError::WeightTwice);
                }
                if command == Command::Rebalance {
                    for weight in weights {
                        self.options.extend(["--weight".into(), weight]);
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds `-u redis://user:password@host:port`: the node, unless another one is named, and the login.
    fn uri(&mut self, uri: &OsStr) -> Result<(), CompatError> {
        let text = uri.to_str().ok_or(CompatError::NotText("-u"))?;
        // The database does not matter for cluster commands.
        let text = match text.rsplit_once('/') {
            Some((server, database)) if !server.ends_with('/') && is_digits(database) => server,
            _ => text,
        };
        let seed: Seed = text.parse().map_err(CompatError::Uri)?;
        self.host = Some(seed.addr.host().into());
        self.port = Some(seed.addr.port().to_string().into());
        if let Some(user) = seed.user {
            self.options.extend(["--user".into(), user.into()]);
        }
        if let Some(password) = seed.password {
            let bytes = password.expose_secret().to_vec();
            self.options
                .extend(["--pass".into(), OsString::from_vec(bytes)]);
        }
        if seed.scheme == Scheme::Rediss {
            self.wants_tls = true;
            self.tls.push("--tls".into());
        }
        Ok(())
    }

    /// The node of `-h` and `-p`, if the command names none. (redis-cli requires a node and ignores these options.)
    fn missing_node(&self, command: Command) -> Option<OsString> {
        if self.host.is_none() && self.port.is_none() {
            return None;
        }
        let first = self.rest.first().and_then(|word| word.to_str());
        let lacks = match command {
            Command::Create | Command::AddNode => false,
            Command::DelNode | Command::Call | Command::SetTimeout | Command::Backup => {
                !first.is_some_and(|word| word.contains(':'))
            }
            _ => first.is_none_or(|word| word.starts_with('-')),
        };
        let host = self.host.as_ref().and_then(|host| host.to_str());
        let port = self
            .port
            .as_ref()
            .and_then(|port| port.to_str()?.parse().ok());
        let addr = Addr::new(host.unwrap_or("127.0.0.1"), port.unwrap_or(DEFAULT_PORT));
        lacks.then(|| addr.to_string().into())
    }
}

/// Translates a line of redis-trib.rb. There the command comes first, its options before its arguments; here options may
/// be anywhere.
fn redis_trib_rb(program: OsString, words: &[OsString]) -> Result<ParsedLine, CompatError> {
    let mode = Mode::RedisTribRb;
    let asked_for_help = ParsedLine::Help {
        text: help::REDIS_TRIB_RB,
        code: ExitCode::Done,
    };
    let Some((first, words)) = words.split_first() else {
        return Ok(asked_for_help);
    };
    if first.eq_ignore_ascii_case("help") && words.is_empty() {
        return Ok(asked_for_help);
    }
    let Some(command) = Command::of(first) else {
        // A native command, or one that `cli` refuses.
        let mut native = vec![program, first.clone()];
        native.extend_from_slice(words);
        return Ok(ParsedLine::Command {
            words: native,
            mode,
        });
    };
    let mut native = vec![program, command.word().into()];
    let mut rest = Vec::new();
    let mut copy = false;
    let mut left = words.iter();
    while let Some(word) = left.next() {
        if command == Command::Call && !rest.is_empty() {
            // The words after the node are sent to the servers.
            rest.push(word.clone());
            continue;
        }
        let (theirs, value) = options::ruby(word.to_str().unwrap_or_default());
        match theirs {
            Some(Meaning::Copy) => copy = true,
            Some(Meaning::Idle) => {}
            Some(Meaning::Switch { native: option, .. }) => native.push(option.into()),
            Some(Meaning::Value {
                theirs,
                native: option,
                kind,
                ..
            }) => {
                let value = match value {
                    Some(value) => value.into(),
                    None => left.next().ok_or(CompatError::NoValue(theirs))?.clone(),
                };
                let value = kind.check(theirs, &value)?;
                set(&mut native, option, value);
            }
            _ => rest.push(word.clone()),
        }
    }
    native.extend(command.implied(Consent::Open).iter().map(OsString::from));
    match command {
        Command::Import => {
            let given: Vec<OsString> = native.iter().chain(&rest).cloned().collect();
            native.extend(import(copy, &given));
        }
        Command::AddNode => drop_master_id(&mut native, &rest),
        // redis-trib.rb shuts the node down; redis-cli resets it.
        Command::DelNode => native.push("--shutdown".into()),
        _ => {}
    }
    native.extend(native_words(command, rest)?);
    Ok(ParsedLine::Command {
        words: native,
        mode,
    })
}

/// Sets an option with a value; of two the last one counts.
fn set(options: &mut Vec<OsString>, native: &str, value: OsString) {
    let place = options.iter().position(|option| option == native);
    match place.and_then(|place| options.get_mut(place + 1)) {
        Some(earlier) => *earlier = value,
        None => options.extend([native.into(), value]),
    }
}

/// Drops the master of a node that is not added as a replica: these tools ignore it.
fn drop_master_id(options: &mut Vec<OsString>, rest: &[OsString]) {
    let mut given = options.iter().chain(rest);
    if given.any(|word| word == "--replica" || word == "--slave") {
        return;
    }
    if let Some(place) = options.iter().position(|option| option == "--master-id") {
        options.drain(place..place + 2);
    }
}

/// The import of these tools deletes the keys that it has copied, and stops at a key that exists in the cluster.
fn import(copy: bool, given: &[OsString]) -> Vec<OsString> {
    let mut options = Vec::new();
    if !copy {
        options.push("--move".into());
    }
    if !given.iter().any(|word| word == "--replace") {
        options.push("--on-conflict=abort".into());
    }
    options
}

/// How slots move without an option for it. valkey-cli moves them key by key unless
/// `--cluster-use-atomic-slot-migration` is given (9.1). redis-cli uses ASM tasks where it can, and `--cluster-timeout` is
/// the deadline of each (8.10); before, slots moved key by key, and it was the timeout of MIGRATE only.
fn move_defaults(is_valkey_cli: bool, native: &[OsString], words: &[OsString]) -> Vec<OsString> {
    let is_strategy = |word: &OsString| {
        let text = word.to_str();
        text.is_some_and(|text| text.starts_with("--strategy"))
    };
    if is_valkey_cli {
        return match native.iter().any(is_strategy) {
            true => Vec::new(),
            false => vec!["--strategy=keys".into()],
        };
    }
    let option = words.iter().rposition(|word| word == "--cluster-timeout");
    let value = option.and_then(|at| words.get(at + 1)?.to_str()?.parse::<u64>().ok());
    // 0 is the servers' own timeout of MIGRATE, and no deadline.
    match value.filter(|value| *value > 0) {
        Some(value) => vec!["--task-deadline".into(), format!("{value}ms").into()],
        None => Vec::new(),
    }
}

/// Translates addresses and times among the words that are not options.
fn native_words(command: Command, words: Vec<OsString>) -> Result<Vec<OsString>, CompatError> {
    let is_number = |word: &OsString| {
        let text = word.to_str();
        text.is_some_and(|text| text.parse::<i64>().is_ok())
    };
    let time = match command {
        Command::SetTimeout => words.iter().rposition(is_number),
        _ => None,
    };
    words
        .into_iter()
        .enumerate()
        .map(|(index, word)| match word.to_str() {
            Some(_) if Some(index) == time => Kind::Millis.check("set-timeout", &word),
            // Words for the servers stay unchanged.
            Some(text) if index == 0 || command != Command::Call => Ok(address(text).into()),
            _ => Ok(word),
        })
        .collect()
}

/// A wrong word for an error message; an address may contain a password.
fn shown(word: &str) -> String {
    match word.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => word.to_string(),
    }
}

/// These tools accept `host:port@bus`, the format of CLUSTER NODES, and IPv6 without brackets.
fn address(word: &str) -> String {
    let word = match word.split_once('@') {
        Some((addr, bus)) if is_digits(bus) && addr.contains(':') => addr,
        _ => word,
    };
    match word.rsplit_once(':') {
        Some((host, port)) if is_digits(port) && host.parse::<Ipv6Addr>().is_ok() => {
            format!("[{host}]:{port}")
        }
        _ => word.to_string(),
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
