//! The options of redis-cli, valkey-cli and redis-trib.rb, and their native names.

use std::ffi::{OsStr, OsString};

use super::{Command, CompatError};

/// The meaning of an option of these tools.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning {
    /// Ignored: it is the default here, or does not concern clusters.
    Idle,
    /// Ignored, with a value.
    IdleValue(&'static str),
    /// The list of commands.
    Help,
    /// `-h`.
    Host,
    /// `-p`.
    Port,
    /// `-u`.
    Uri,
    /// `--tls`.
    Tls,
    /// An option that counts with `--tls` only.
    TlsSwitch(&'static str),
    /// The same with a value.
    TlsValue(&'static str),
    /// `--cluster-copy`: without it, import deletes keys at the source.
    Copy,
    /// `--cluster-weight a=1 b=2`.
    Weights,
    /// A native option for these commands; other commands ignore it.
    Switch {
        /// The native name.
        native: &'static str,
        /// The commands.
        of: &'static [Command],
    },
    /// The same with a value.
    Value {
        /// The name as it is typed.
        theirs: &'static str,
        /// The native name.
        native: &'static str,
        /// The commands.
        of: &'static [Command],
        /// The valid values.
        kind: Kind,
    },
}

impl Meaning {
    /// Whether exactly one word of the option follows.
    pub(super) fn takes_value(self) -> bool {
        match self {
            Self::IdleValue(_) | Self::Host | Self::Port | Self::Uri => true,
            Self::TlsValue(_) | Self::Value { .. } => true,
            Self::Idle | Self::Help | Self::Tls | Self::TlsSwitch(_) | Self::Copy => false,
            Self::Weights | Self::Switch { .. } => false,
        }
    }
}

/// The valid values of an option.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Any text; `cli` validates it.
    Text,
    /// Addresses or ids, or `all`; empty ones between commas do not count.
    List,
    /// A number in this range. These tools accept larger ones: the most stands for them.
    Number {
        least: i64,
        most: i64,
        needed: &'static str,
    },
    /// Milliseconds.
    Millis,
    /// The timeout of MIGRATE in milliseconds; 0 stands for a second, as on the servers.
    MigrateMillis,
    /// Seconds, with a fraction.
    Seconds,
    /// A percentage.
    Percent,
    /// 1 to 65535.
    Port,
}

impl Kind {
    /// Whether the value stands for an option that is not given: 0 slots are asked for.
    pub(super) fn is_left_out(self, value: &OsStr) -> bool {
        self == SLOTS && value.to_str().is_some_and(|text| text.parse() == Ok(0))
    }

    /// Returns the native form of a value.
    pub(super) fn check(
        self,
        option: &'static str,
        value: &OsStr,
    ) -> Result<OsString, CompatError> {
        if self == Self::Text {
            return Ok(value.to_owned());
        }
        let text = value.to_str().ok_or(CompatError::NotText(option))?;
        let wrong = |needed| CompatError::Number {
            option,
            value: super::shown(text),
            needed,
        };
        let within = |least: i64, most: i64| {
            let number = text.parse::<i64>().ok();
            number.filter(|number| (least..=most).contains(number))
        };
        match self {
            Self::Text => Ok(value.to_owned()),
            Self::List => {
                let named = text.split(',').filter(|name| !name.is_empty());
                let named: Vec<String> = named.map(super::address).collect();
                Ok(named.join(",").into())
            }
            Self::Number {
                least,
                most,
                needed,
            } => within(least, i64::MAX)
                .map(|number| number.min(most).to_string().into())
                .ok_or_else(|| wrong(needed)),
            Self::Millis => within(1, i64::MAX)
                .map(|number| format!("{number}ms").into())
                .ok_or_else(|| wrong("must be milliseconds, at least 1")),
            Self::MigrateMillis => match within(0, i64::MAX) {
                Some(0) => Ok("1000ms".into()),
                Some(number) => Ok(format!("{number}ms").into()),
                None => Err(wrong("must be milliseconds, 0 or more")),
            },
            Self::Seconds => {
                let seconds: Option<f64> = text.parse().ok();
                // 0 means no timeout there; here there always is one.
                if seconds == Some(0.0) {
                    return Ok("5s".into());
                }
                seconds
                    .filter(|seconds| seconds.is_finite() && *seconds >= 0.001)
                    .map(|seconds| format!("{}ms", (seconds * 1000.0).round()).into())
                    .ok_or_else(|| wrong("must be seconds, greater than 0"))
            }
            Self::Percent => text
                .strip_suffix('%')
                .unwrap_or(text)
                .parse()
                .ok()
                .filter(|percent: &f64| percent.is_finite() && *percent >= 0.0)
                .map(|percent| percent.to_string().into())
                .ok_or_else(|| wrong("must be a percentage, at least 0")),
            Self::Port => within(1, 65_535)
                .map(|number| number.to_string().into())
                .ok_or_else(|| wrong("must be a port, 1 to 65535")),
        }
    }
}

const REPLICAS: Kind = Kind::Number {
    least: 0,
    most: 999,
    needed: "must be the number of replicas of each master, 0 to 999",
};
const SLOTS: Kind = Kind::Number {
    least: 1,
    most: 16_384,
    needed: "must be a number of slots, 1 or more",
};
const PIPELINE: Kind = Kind::Number {
    least: 1,
    most: 10_000,
    needed: "must be the number of keys for each MIGRATE, 1 or more (with 0, a full slot would look empty)",
};

const EVERY: &[Command] = &Command::ALL;
const MOVES: &[Command] = &[Command::Reshard, Command::Rebalance, Command::Fix];
const RESHARD: &[Command] = &[Command::Reshard];
const REBALANCE: &[Command] = &[Command::Rebalance];
const ADD_NODE: &[Command] = &[Command::AddNode];
const CALL: &[Command] = &[Command::Call];
const IMPORT: &[Command] = &[Command::Import];

/// The meaning of an option of redis-cli or valkey-cli. Their options that do not concern clusters are ignored with their
/// values, as redis-cli ignores them.
pub(super) fn meaning(word: &str) -> Option<Meaning> {
    let switch = |native, of| Meaning::Switch { native, of };
    let value = |theirs, native, of, kind| Meaning::Value {
        theirs,
        native,
        of,
        kind,
    };
    Some(match word {
        "-h" => Meaning::Host,
        "-p" => Meaning::Port,
        "-u" => Meaning::Uri,
        "-a" => value("-a", "--pass", EVERY, Kind::Text),
        "--pass" => value("--pass", "--pass", EVERY, Kind::Text),
        "--user" => value("--user", "--user", EVERY, Kind::Text),
        "--askpass" => switch("--askpass", EVERY),
        "-t" => value("-t", "--connect-timeout", EVERY, Kind::Seconds),
        "-4" => switch("--ipv4", EVERY),
        "-6" => switch("--ipv6", EVERY),
        "--tls" => Meaning::Tls,
        "--sni" => Meaning::TlsValue("--sni"),
        "--cacert" => Meaning::TlsValue("--cacert"),
        "--cacertdir" => Meaning::TlsValue("--cacertdir"),
        "--cert" => Meaning::TlsValue("--cert"),
        "--key" => Meaning::TlsValue("--key"),
        "--insecure" => Meaning::TlsSwitch("--insecure"),
        // The cipher suites of rustls are used instead.
        "--tls-ciphers" => Meaning::IdleValue("--tls-ciphers"),
        "--tls-ciphersuites" => Meaning::IdleValue("--tls-ciphersuites"),

        "--cluster-yes" => switch("--yes", &[Command::Create, Command::Reshard]),
        "--cluster-replicas" => value(
            "--cluster-replicas",
            "--replicas",
            &[Command::Create],
            REPLICAS,
        ),
        // The value may be `all`.
        "--cluster-from" => Meaning::Value {
            theirs: "--cluster-from",
            native: "--from",
            of: &[Command::Reshard, Command::Import],
            kind: Kind::List,
        },
        "--cluster-to" => value("--cluster-to", "--to", RESHARD, Kind::Text),
        "--cluster-slots" => value("--cluster-slots", "--slots", RESHARD, SLOTS),
        "--cluster-timeout" => value("--cluster-timeout", "--timeout", MOVES, Kind::MigrateMillis),
        "--cluster-pipeline" => value("--cluster-pipeline", "--pipeline", MOVES, PIPELINE),
        "--cluster-replace" => switch(
            "--replace",
            &[Command::Reshard, Command::Rebalance, Command::Import],
        ),
        "--cluster-weight" => Meaning::Weights,
        "--cluster-use-empty-masters" | "--cluster-use-empty-primaries" => {
            switch("--use-empty-masters", REBALANCE)
        }
        "--cluster-simulate" => switch("--dry-run", REBALANCE),
        "--cluster-threshold" => value(
            "--cluster-threshold",
            "--threshold",
            REBALANCE,
            Kind::Percent,
        ),
        "--cluster-slave" | "--cluster-replica" => switch("--replica", ADD_NODE),
        "--cluster-master-id" => value("--cluster-master-id", "--master-id", ADD_NODE, Kind::Text),
        // valkey-cli reads the second and its help names the third.
        "--cluster-primary-id" => {
            value("--cluster-primary-id", "--master-id", ADD_NODE, Kind::Text)
        }
        "--cluster-primaries-id" => value(
            "--cluster-primaries-id",
            "--master-id",
            ADD_NODE,
            Kind::Text,
        ),
        "--cluster-only-masters" | "--cluster-only-primaries" => switch("--only-masters", CALL),
        "--cluster-only-replicas" => switch("--only-replicas", CALL),
        "--cluster-copy" => Meaning::Copy,
        "--cluster-from-user" => value("--cluster-from-user", "--from-user", IMPORT, Kind::Text),
        "--cluster-from-pass" => value("--cluster-from-pass", "--from-pass", IMPORT, Kind::Text),
        "--cluster-from-askpass" => switch("--from-askpass", IMPORT),
        // Without it the strategy depends on the servers.
        "--cluster-use-atomic-slot-migration" => {
            switch("--strategy=atomic", &[Command::Reshard, Command::Rebalance])
        }
        // Nodes are always searched for several owners, and fix names the flag that reassigns the slots of a lost master.
        "--cluster-search-multiple-owners" => Meaning::Idle,
        "--cluster-fix-with-unreachable-masters" => Meaning::Idle,
        "--cluster-fix-with-unreachable-primaries" => Meaning::Idle,

        "--help" => Meaning::Help,
        "--no-auth-warning" | "--verbose" => Meaning::Idle,
        // Standard input becomes a word of the command.
        "-x" => switch("--stdin", CALL),
        "-X" => value("-X", "--stdin-for", CALL, Kind::Text),
        "-c" | "-e" | "-2" | "-3" | "--raw" | "--no-raw" | "--csv" | "--json" | "--quoted-json"
        | "--quoted-input" | "--mptcp" => Meaning::Idle,
        "-n" => Meaning::IdleValue("-n"),
        "-r" => Meaning::IdleValue("-r"),
        "-i" => Meaning::IdleValue("-i"),
        "-d" => Meaning::IdleValue("-d"),
        "-D" => Meaning::IdleValue("-D"),
        "--show-pushes" => Meaning::IdleValue("--show-pushes"),
        _ => return None,
    })
}

/// The meaning of an option of redis-trib.rb that is not simply the native one, and its value if that is in the same word.
/// All others are native: of `--weight`, all that are given count in redis-trib.rb, too.
pub(super) fn ruby(word: &str) -> (Option<Meaning>, Option<&str>) {
    let (name, within) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let switch = |native| Meaning::Switch { native, of: EVERY };
    let value = |theirs, kind| Meaning::Value {
        theirs,
        native: theirs,
        of: EVERY,
        kind,
    };
    let meaning = match name {
        "--verbose" => Meaning::Idle,
        // redis-trib.rb accepts it without effect.
        "--auto-weights" => Meaning::Idle,
        "--slave" => switch("--replica"),
        "--simulate" => switch("--dry-run"),
        "--copy" => Meaning::Copy,
        "--timeout" => value("--timeout", Kind::MigrateMillis),
        "--pipeline" => value("--pipeline", PIPELINE),
        "--slots" => value("--slots", SLOTS),
        "--replicas" => value("--replicas", REPLICAS),
        "--threshold" => value("--threshold", Kind::Percent),
        "--from" => value("--from", Kind::List),
        "--to" => value("--to", Kind::Text),
        "--master-id" => value("--master-id", Kind::Text),
        _ => return (None, None),
    };
    (Some(meaning), within)
}
