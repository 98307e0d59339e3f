//! Which commands may not go to all nodes of a cluster just like that.
//!
//! What a server says about its commands decides (ACL categories, flags before Redis 6.0). It also
//! calls dangerous what only tells about it (`INFO`, `CONFIG GET`): those are let through by name.

use std::fmt;

use crate::client::CommandFlags;

/// What a command may do to those who did not ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Danger {
    /// Nothing that the server warns of.
    None,
    /// It may wait for others.
    Blocking,
    /// It changes the server, or holds it up, or shows what is not for everybody.
    Dangerous,
}

/// Commands that answer never, or without end: no reply could be waited for.
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

/// Commands that only tell about the server, whatever it says of them. `*` stands for any
/// subcommand.
const TELLING: &[&str] = &[
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

/// Dangerous commands of servers that have no ACL categories and don't flag them as `admin`
/// (Redis < 6.0), and the blocking ones, which they don't flag at all.
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
pub(crate) struct Name {
    word: String,
    subcommand: Option<String>,
}

/// Without its arguments, which may be secrets; with its subcommand, where it has one for sure.
impl fmt::Display for Name {
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

impl Name {
    /// Of the first words of a command line.
    pub(crate) fn of(words: &[&[u8]]) -> Self {
        let upper = |word: &&[u8]| String::from_utf8_lossy(word).to_ascii_uppercase();
        Self {
            word: words.first().map(upper).unwrap_or_default(),
            subcommand: words.get(1).map(upper),
        }
    }

    /// The command alone, then with its first argument, which may be a subcommand.
    pub(crate) fn both(&self) -> Vec<String> {
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

    /// Whether no reply would ever come, or too many.
    pub(crate) fn has_no_reply(&self) -> bool {
        self.is_in(WITHOUT_REPLY)
    }

    /// Whether it only tells about the server.
    pub(crate) fn only_tells(&self) -> bool {
        self.is_in(TELLING)
    }

    /// What one server's answer to COMMAND INFO of [`Self::both`] means. What it does not know it
    /// will not do.
    pub(crate) fn danger(&self, flags: &[Option<CommandFlags>]) -> Danger {
        // The subcommand's own flags, where servers have them (Redis ≥ 7.0).
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

    fn name(line: &str) -> Name {
        Name::of(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>())
    }

    fn flags(flags: &[&str], categories: &[&str]) -> Option<CommandFlags> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        Some(CommandFlags {
            flags: words(flags),
            categories: words(categories),
        })
    }

    #[test]
    fn commands_without_an_end_are_told_by_name() {
        for line in ["monitor", "SUBSCRIBE a b", "Client Reply OFF", "psync ? -1"] {
            assert!(name(line).has_no_reply(), "{line}");
        }
        for line in ["CLIENT LIST", "PUBSUB CHANNELS", "GET MONITOR"] {
            assert!(!name(line).has_no_reply(), "{line}");
        }
    }

    #[test]
    fn what_only_tells_is_no_danger() {
        for line in [
            "info",
            "INFO memory",
            "config get *",
            "CLUSTER NODES",
            "command info get",
        ] {
            assert!(name(line).only_tells(), "{line}");
        }
        for line in [
            "CONFIG SET a b",
            "CONFIG",
            "CLUSTER RESET",
            "KEYS *",
            "ACL LOG RESET",
        ] {
            assert!(!name(line).only_tells(), "{line}");
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
        // Redis 6.2: `config|set` is nobody.
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
