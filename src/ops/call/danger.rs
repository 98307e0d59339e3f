//! Commands that need a flag before they are sent to all nodes of a cluster.
//!
//! The flags of the server's own command table decide (ACL categories; before Redis 6.0 command flags). Servers also
//! flag informational commands as dangerous (`INFO`, `CONFIG GET`): these are allowed by name.

use std::fmt;

use crate::client::CommandFlags;

/// The danger of a command to other clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Danger {
    /// None that the server flags.
    None,
    /// It may block its connection.
    Blocking,
    /// It changes the server, may stall it, or reads protected data.
    Dangerous,
}

/// Commands that never reply, or reply without end.
const WITHOUT_REPLY: &[&str] = &[
    "MONITOR",
    "SUBSCRIBE",
    "PSUBSCRIBE",
    "SSUBSCRIBE",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "PSYNC",
    "CLIENT|REPLY",
];

/// Commands that only read the state of the server, whatever its flags say. `*` stands for any subcommand.
const INFORMATIONAL: &[&str] = &[
    "INFO",
    "ROLE",
    "LASTSAVE",
    "COMMAND",
    "COMMAND|*",
    "ACL|CAT",
    "ACL|USERS",
    "ACL|WHOAMI",
    "CLIENT|GETNAME",
    "CLIENT|ID",
    "CLIENT|INFO",
    "CLIENT|LIST",
    "CLUSTER|COUNT-FAILURE-REPORTS",
    "CLUSTER|COUNTKEYSINSLOT",
    "CLUSTER|GETKEYSINSLOT",
    "CLUSTER|INFO",
    "CLUSTER|KEYSLOT",
    "CLUSTER|LINKS",
    "CLUSTER|MYID",
    "CLUSTER|NODES",
    "CLUSTER|REPLICAS",
    "CLUSTER|SHARDS",
    "CLUSTER|SLAVES",
    "CLUSTER|SLOTS",
    "CONFIG|GET",
    "LATENCY|DOCTOR",
    "LATENCY|GRAPH",
    "LATENCY|HISTOGRAM",
    "LATENCY|HISTORY",
    "LATENCY|LATEST",
    "MEMORY|DOCTOR",
    "MEMORY|STATS",
    "MEMORY|USAGE",
    "MODULE|LIST",
    "SLOWLOG|GET",
    "SLOWLOG|LEN",
];

/// Dangerous commands that servers without ACL categories (Redis < 6.0) do not flag as `admin`, and blocking commands,
/// which they do not flag at all.
const OLD_DANGEROUS: &[&str] = &[
    "KEYS", "SORT", "FLUSHALL", "FLUSHDB", "MIGRATE", "RESTORE", "CLIENT", "SWAPDB",
];
const OLD_BLOCKING: &[&str] = &[
    "BLPOP",
    "BRPOP",
    "BRPOPLPUSH",
    "BZPOPMAX",
    "BZPOPMIN",
    "WAIT",
    "XREAD",
    "XREADGROUP",
];

/// A command by the names under which servers know it: `CONFIG`, and `CONFIG|SET` from Redis 7.0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandName {
    word: String,
    subcommand: Option<String>,
}

/// Without arguments, which may be secrets; with the subcommand, if the command is known to have one.
impl fmt::Display for CommandName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CONTAINERS: &[&str] = &[
            "ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "FUNCTION", "LATENCY", "MEMORY",
            "MODULE", "OBJECT", "PUBSUB", "SCRIPT", "SLOWLOG", "XGROUP", "XINFO",
        ];
        let word: String = self.word.chars().take(40).collect();
        match &self.subcommand {
            Some(subcommand) if CONTAINERS.contains(&word.as_str()) => {
                let subcommand: String = subcommand.chars().take(40).collect();
                write!(f, "{word} {subcommand}")
            }
            _ => write!(f, "{word}"),
        }
    }
}

impl CommandName {
    /// The name in the first words of a command.
    pub(crate) fn of(words: &[Vec<u8>]) -> Self {
        let upper = |word: &Vec<u8>| String::from_utf8_lossy(word).to_ascii_uppercase();
        Self {
            word: words.first().map(upper).unwrap_or_default(),
            subcommand: words.get(1).map(upper),
        }
    }

    /// The command alone, then with its first argument, which may be a subcommand.
    pub(crate) fn with_container(&self) -> Vec<String> {
        let mut names = vec![self.word.clone()];
        names.extend(self.with_subcommand());
        names
    }

    fn with_subcommand(&self) -> Option<String> {
        let subcommand = self.subcommand.as_ref()?;
        Some(format!("{}|{subcommand}", self.word))
    }

    fn is_in(&self, list: &[&str]) -> bool {
        let with_subcommand = self.with_subcommand();
        let any = format!("{}|*", self.word);
        list.iter().any(|name| {
            *name == self.word
                || *name == any && self.subcommand.is_some()
                || Some(*name) == with_subcommand.as_deref()
        })
    }

    /// Whether it never replies, or replies without end.
    pub(crate) fn has_no_reply(&self) -> bool {
        self.is_in(WITHOUT_REPLY)
    }

    /// Whether it only reads the state of the server.
    pub(crate) fn is_informational(&self) -> bool {
        self.is_in(INFORMATIONAL)
    }

    /// The danger by one server's reply to COMMAND INFO of [`Self::with_container`]. A command that the server does not
    /// know is no danger.
    pub(crate) fn danger(&self, flags: &[Option<CommandFlags>]) -> Danger {
        // The flags of the subcommand, if the server has them (Redis ≥ 7.0).
        let Some(flags) = flags.iter().rev().flatten().next() else {
            return Danger::None;
        };
        let old = flags.categories.is_empty();
        let has = |word: &str| {
            flags.flags.contains(word) || flags.categories.contains(&format!("@{word}"))
        };
        if has("dangerous") || has("admin") || old && self.is_in(OLD_DANGEROUS) {
            Danger::Dangerous
        } else if has("blocking") || old && self.is_in(OLD_BLOCKING) {
            Danger::Blocking
        } else {
            Danger::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(line: &str) -> CommandName {
        let words = line.split(' ').map(|word| word.as_bytes().to_vec());
        CommandName::of(&words.collect::<Vec<_>>())
    }

    fn flags(flags: &[&str], categories: &[&str]) -> Option<CommandFlags> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Some(CommandFlags {
            flags: words(flags),
            categories: words(categories),
        })
    }

    #[test]
    fn commands_without_a_reply_are_known_by_name() {
        for line in ["monitor", "SUBSCRIBE a b", "Client Reply OFF", "psync ? -1"] {
            assert!(name(line).has_no_reply(), "{line}");
        }
        for line in ["CLIENT LIST", "PUBSUB CHANNELS", "GET MONITOR"] {
            assert!(!name(line).has_no_reply(), "{line}");
        }
    }

    #[test]
    fn informational_commands_are_no_danger() {
        for line in [
            "info",
            "INFO memory",
            "config get *",
            "CLUSTER NODES",
            "command info get",
        ] {
            assert!(name(line).is_informational(), "{line}");
        }
        for line in [
            "CONFIG SET a b",
            "CONFIG",
            "CLUSTER RESET",
            "KEYS *",
            "ACL LOG RESET",
        ] {
            assert!(!name(line).is_informational(), "{line}");
        }
    }

    #[test]
    fn a_subcommand_counts_before_its_command() {
        let danger = |line: &str, both: &[Option<CommandFlags>]| name(line).danger(both);
        let plain = flags(&["readonly"], &["@read"]);
        let admin = flags(&["admin"], &["@admin", "@dangerous"]);
        // Redis 7.0: the container is harmless.
        assert_eq!(
            danger("CONFIG SET a b", &[plain.clone(), admin.clone()]),
            Danger::Dangerous
        );
        assert_eq!(
            danger("SCRIPT EXISTS a", &[admin.clone(), plain.clone()]),
            Danger::None
        );
        // Redis 6.2 does not know `config|set`.
        assert_eq!(danger("CONFIG SET a b", &[admin, None]), Danger::Dangerous);
        assert_eq!(danger("GET a", &[plain, None]), Danger::None);
        assert_eq!(danger("NOSUCH a", &[None, None]), Danger::None);
        let blocking = flags(&["write"], &["@write", "@blocking"]);
        assert_eq!(danger("BLPOP a 0", &[blocking]), Danger::Blocking);
        // Redis 5.0.
        let old = flags(&["readonly"], &[]);
        assert_eq!(
            danger("KEYS *", std::slice::from_ref(&old)),
            Danger::Dangerous
        );
        assert_eq!(danger("BLPOP a 0", &[old]), Danger::Blocking);
    }
}
