//! The command lines of `redis-cli --cluster` (and valkey-cli's) and of redis-trib.rb, as ours.
//!
//! Pure: the words of a command line become words that `cli` reads, and the manners that they ask
//! for. Peers read: redis-trib.rb 3.2 and 4.0, redis-cli 7.0.15, valkey-cli 8.1 and the source of
//! 9.1. What they let through and can't be meant (`--cluster-pipeline 0`) is refused here, by the
//! name that was typed; options of ours that they don't know are handed on as they are.

mod options;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::net::Ipv6Addr;
use std::path::Path;

use options::{Kind, Meaning};
use secrecy::ExposeSecret;

use crate::cluster::node::{Addr, DEFAULT_PORT};
use crate::seed::{NotAnAddress, Scheme, Seed};
use crate::ui::Mode;

/// What the environment says about consent: it counts in redis-cli's mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Nothing.
    Open,
    /// Yes to all that is asked.
    Given,
}

impl Consent {
    /// The variables that are asked, valkey-cli's first: the other one counts where that is not set.
    pub const VARIABLES: [&'static str; 2] = ["VALKEYCLI_CLUSTER_YES", "REDISCLI_CLUSTER_YES"];

    /// As the peers have it: `1`, and nothing else, is a yes.
    pub fn of(variable: Option<&OsStr>) -> Self {
        match variable {
            Some(value) if value == "1" => Self::Given,
            _ => Self::Open,
        }
    }
}

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParsedLine {
    /// A command, in our words.
    Line {
        /// The program's name first, as in `argv`.
        words: Vec<OsString>,
        /// How it behaves.
        mode: Mode,
    },
    /// The list of commands as that mode spells them.
    Help(&'static str),
}

/// A line in an old spelling that can't be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompatError {
    /// `--cluster` without a command, or with one that does not exist.
    #[error("{0:?} is no cluster command: --cluster help lists them")]
    Command(String),
    /// Two of them.
    #[error("--cluster stands there twice: one command at a time")]
    Twice,
    /// `--cluster-something` that nobody knows.
    #[error(
        "{0} is no option of redis-cli --cluster: --cluster help lists them (values are words of \
         their own)"
    )]
    Option(String),
    /// An option at the end that wants a value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// A number that can't be meant.
    #[error("{option} {value:?}: {needed}")]
    Number {
        /// The option as it was typed.
        option: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        needed: &'static str,
    },
    /// `--cluster-weight` without `NODE=WEIGHT`.
    #[error("--cluster-weight needs NODE=WEIGHT, one or more")]
    Weight,
    /// `-u` with something that is no URI.
    #[error("-u: {0}")]
    Uri(NotAnAddress),
    /// Text that is no UTF-8, where a number or an address is wanted.
    #[error("{0} wants plain text")]
    NotText(&'static str),
}

/// The commands of the peers.
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

    /// Both peers take capitals, too.
    fn of(word: &OsStr) -> Option<Self> {
        let word = word.to_str()?.to_ascii_lowercase();
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// What the peers do without being told so.
    fn unasked(self, consent: Consent) -> &'static [&'static str] {
        match (self, consent) {
            // They never ask before these. (fix's --yes is for what loses nothing.)
            (Self::AddNode | Self::DelNode | Self::SetTimeout | Self::Import, _) => &["--yes"],
            (Self::Rebalance | Self::Fix, _) => &["--yes"],
            (Self::Create | Self::Reshard, Consent::Given) => &["--yes"],
            (Self::Create | Self::Reshard, Consent::Open) => &[],
            // They send whatever they are given.
            (Self::Call, _) => &["--allow-dangerous"],
            (Self::Check | Self::Info | Self::Backup, _) => &[],
        }
    }
}

/// Reads a command line; the first word is the program's name.
pub fn read(line: &[OsString], consent: Consent) -> Result<ParsedLine, CompatError> {
    let (program, words) = match line.split_first() {
        Some((program, words)) => (program.clone(), words),
        None => (OsString::from("redis-trib"), line),
    };
    if asks_for_redis_cli(words) {
        return redis_cli(program, words, consent);
    }
    let called = Path::new(&program).file_name();
    if called.is_some_and(|name| name == "redis-trib.rb") {
        return redis_trib_rb(program, words);
    }
    Ok(ParsedLine::Line {
        words: line.to_vec(),
        mode: Mode::Native,
    })
}

/// Whether `--cluster` stands where redis-cli would take it for that. What `call` sends is the
/// server's.
fn asks_for_redis_cli(words: &[OsString]) -> bool {
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

/// What is gathered from a line of redis-cli.
#[derive(Default)]
struct Gathered {
    /// Options of ours, with their values.
    options: Vec<OsString>,
    /// TLS options: without --tls redis-cli does not look at them.
    tls: Vec<OsString>,
    wants_tls: bool,
    copy: bool,
    host: Option<OsString>,
    port: Option<OsString>,
    /// All other words, in their order.
    rest: Vec<OsString>,
}

fn redis_cli(
    program: OsString,
    words: &[OsString],
    consent: Consent,
) -> Result<ParsedLine, CompatError> {
    let command = match command_of(words)? {
        Some(command) => command,
        None => return Ok(ParsedLine::Help(options::REDIS_CLI_HELP)),
    };
    let mut gathered = Gathered::default();
    let mut left = words.iter();
    while let Some(word) = left.next() {
        if word == "--cluster" {
            left.next();
            continue;
        }
        match word.to_str().and_then(options::meaning) {
            Some(Meaning::Help) => return Ok(ParsedLine::Help(options::REDIS_CLI_HELP)),
            // `-h` at the end, without a host.
            Some(Meaning::Host) if left.len() == 0 => {
                return Ok(ParsedLine::Help(options::REDIS_CLI_HELP));
            }
            Some(meaning) => gathered.take(command, meaning, &mut left)?,
            None => match word.to_str() {
                Some(text) if text.starts_with("--cluster-") => {
                    // What stands behind `=` may be a password.
                    let name = text.split('=').next().unwrap_or_default();
                    return Err(CompatError::Option(name.to_string()));
                }
                _ => gathered.rest.push(word.clone()),
            },
        }
    }
    let mut ours = vec![program, command.word().into()];
    // Certificates' chains, not their names.
    ours.extend(["--tls-verify".into(), "chain".into()]);
    let rediss = |word: &OsString| {
        let text = word.to_str();
        text.is_some_and(|text| text.starts_with("rediss://") || text.starts_with("valkeys://"))
    };
    if gathered.wants_tls || words.iter().any(rediss) {
        ours.append(&mut gathered.tls);
    }
    ours.append(&mut gathered.options);
    ours.extend(command.unasked(consent).iter().map(OsString::from));
    if command == Command::Import {
        ours.extend(import(gathered.copy, &ours));
    }
    if let Some(node) = gathered.missing_node(command) {
        gathered.rest.insert(0, node);
    }
    ours.extend(named_to_leave(command, &gathered.rest));
    ours.extend(in_our_words(command, gathered.rest)?);
    Ok(ParsedLine::Line {
        words: ours,
        mode: Mode::RedisCli,
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
    // There is one, or we would not be here.
    Ok(command.flatten())
}

impl Gathered {
    /// Takes an option, and its value from the words that are `left`.
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
            Meaning::Switch { ours, of } => {
                if of.contains(&command) {
                    self.options.push(ours.into());
                }
            }
            Meaning::Value {
                theirs,
                ours,
                of,
                kind,
            } => {
                let value = value(theirs)?;
                if of.contains(&command) {
                    let value = kind.check(theirs, &value)?;
                    self.options.extend([ours.into(), value]);
                }
            }
            Meaning::Weights => {
                // As many as there are.
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
                if command == Command::Rebalance {
                    for weight in weights {
                        self.options.extend(["--weight".into(), weight]);
                    }
                }
            }
        }
        Ok(())
    }

    /// `-u redis://user:password@host:port`: where, unless a node is named, and as whom.
    fn uri(&mut self, uri: &OsStr) -> Result<(), CompatError> {
        let text = uri.to_str().ok_or(CompatError::NotText("-u"))?;
        // Its database is for the commands that redis-cli sends otherwise.
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
            let password = password.expose_secret().into();
            self.options.extend(["--pass".into(), password]);
        }
        if seed.scheme == Scheme::Rediss {
            self.wants_tls = true;
            self.tls.push("--tls".into());
        }
        Ok(())
    }

    /// The node of `-h` and `-p`, where the command names none. (redis-cli wants it named, and
    /// ignores these two.)
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

/// redis-trib.rb: the command first, its options in front of its arguments. We take them anywhere.
fn redis_trib_rb(program: OsString, words: &[OsString]) -> Result<ParsedLine, CompatError> {
    let mode = Mode::RedisTribRb;
    let Some((first, words)) = words.split_first() else {
        return Ok(ParsedLine::Help(options::REDIS_TRIB_RB_HELP));
    };
    if first.eq_ignore_ascii_case("help") && words.is_empty() {
        return Ok(ParsedLine::Help(options::REDIS_TRIB_RB_HELP));
    }
    let Some(command) = Command::of(first) else {
        // One of ours, or what `cli` refuses.
        let mut ours = vec![program, first.clone()];
        ours.extend_from_slice(words);
        return Ok(ParsedLine::Line { words: ours, mode });
    };
    let mut ours = vec![program, command.word().into()];
    let mut rest = Vec::new();
    let mut copy = false;
    let mut left = words.iter();
    while let Some(word) = left.next() {
        if command == Command::Call && !rest.is_empty() {
            // What is sent begins behind the node.
            rest.push(word.clone());
            continue;
        }
        let (theirs, value) = options::ruby(word.to_str().unwrap_or_default());
        match theirs {
            Some(Meaning::Copy) => copy = true,
            Some(Meaning::Idle) => {}
            Some(Meaning::Switch { ours: option, .. }) => ours.push(option.into()),
            Some(Meaning::Value {
                theirs,
                ours: option,
                kind,
                ..
            }) => {
                let value = match value {
                    Some(value) => value.into(),
                    None => left.next().ok_or(CompatError::NoValue(theirs))?.clone(),
                };
                ours.extend([option.into(), kind.check(theirs, &value)?]);
            }
            _ => rest.push(word.clone()),
        }
    }
    ours.extend(command.unasked(Consent::Open).iter().map(OsString::from));
    match command {
        Command::Import => {
            let said: Vec<OsString> = ours.iter().chain(&rest).cloned().collect();
            ours.extend(import(copy, &said));
        }
        // It shut the node down, where redis-cli resets it.
        Command::DelNode => ours.push("--shutdown".into()),
        _ => {}
    }
    ours.extend(named_to_leave(command, &rest));
    ours.extend(in_our_words(command, rest)?);
    Ok(ParsedLine::Line { words: ours, mode })
}

/// The peers' import deletes what it has copied, and stops at a key that is there already.
fn import(copy: bool, said: &[OsString]) -> Vec<OsString> {
    let mut options = Vec::new();
    if !copy {
        options.push("--move".into());
    }
    if !said.iter().any(|word| word == "--replace") {
        options.push("--on-conflict=abort".into());
    }
    options
}

/// The peers take out a replica that is its master's last one without a word. (Not even that flag
/// takes out the last copy that is alive.)
fn named_to_leave(command: Command, words: &[OsString]) -> Vec<OsString> {
    let node = |word: &&OsString| !word.to_string_lossy().starts_with('-');
    match (command, words) {
        (Command::DelNode, [_, ids @ ..]) => ids
            .iter()
            .take_while(node)
            .flat_map(|id| ["--leave-unprotected".into(), id.clone()])
            .collect(),
        _ => Vec::new(),
    }
}

/// Addresses and times among the words that are no options of the peers.
fn in_our_words(command: Command, words: Vec<OsString>) -> Result<Vec<OsString>, CompatError> {
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
            // What is sent to the servers stays as it is.
            Some(text) if index == 0 || command != Command::Call => Ok(address(text).into()),
            _ => Ok(word),
        })
        .collect()
}

/// A word that is wrong where it stands; an address may hold a password.
fn shown(word: &str) -> String {
    match word.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => word.to_string(),
    }
}

/// The peers take `host:port@bus`, as CLUSTER NODES writes it, and IPv6 without brackets.
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
