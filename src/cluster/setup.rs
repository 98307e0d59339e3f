//! How nodes are set up, in a form that can be compared and shown: settings, ACL users, function libraries, modules and
//! the version of the server.
//!
//! Each value is a hash and, if it is no secret, a short text. What differs between nodes by its nature (addresses,
//! ports, paths, the master of a replica) is left out.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};

use super::parse::Version;
use super::text::clean;

/// The longest name that is shown, in characters.
const NAME_LIMIT: usize = 64;

/// The longest value that is shown, in characters.
const VALUE_LIMIT: usize = 60;

/// The most things of one kind that are compared: a server has about 250 settings. What a hostile node tells beyond that
/// is not kept.
const MOST: usize = 10_000;

/// Settings that are left out, besides those of [`LEFT_OUT_AT_THE_BEGINNING`] and [`LEFT_OUT_AT_THE_END`].
const LEFT_OUT: [&str; 7] = [
    "appendfilename",
    "availability-zone",
    "dbfilename",
    "dir",
    "replicaof",
    "slaveof",
    "syslog-ident",
];

/// Addresses and sockets.
const LEFT_OUT_AT_THE_BEGINNING: [&str; 6] = [
    "bind",
    "cluster-announce-",
    "rdma-",
    "replica-announce-",
    "slave-announce-",
    "unixsocket",
];

/// Paths, ports and the processors of a host.
const LEFT_OUT_AT_THE_END: [&str; 8] = [
    "-dir", "cpulist", "dirname", "file", "-ip", "-path", "port", "-socket",
];

/// Parts of the names of settings whose values are not shown.
const SECRET: [&str; 7] = ["auth", "cred", "key", "pass", "secret", "seed", "token"];

/// Settings that have such a part in their names, and hold no secret.
const NO_SECRET: [&str; 5] = [
    "key-memory-histograms",
    "notify-keyspace-events",
    "tls-auth-clients",
    "tls-auth-clients-user",
    "tracking-table-max-keys",
];

/// Settings that have two names: the second one is used if the node tells both.
const ALIASES: [(&str, &str); 5] = [
    (
        "commandlog-execution-slower-than",
        "slowlog-log-slower-than",
    ),
    ("commandlog-slow-execution-max-len", "slowlog-max-len"),
    ("lua-time-limit", "busy-reply-threshold"),
    ("masterauth", "primaryauth"),
    ("masteruser", "primaryuser"),
];

/// Rules that servers of some versions write out, and others leave out.
const IMPLIED_RULES: [&[u8]; 3] = [b"sanitize-payload", b"resetchannels", b"alldbs"];

/// What kind of thing is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The version of the server.
    Version,
    /// A setting.
    Setting,
    /// An ACL user.
    User,
    /// A function library.
    Library,
    /// A module.
    Module,
}

impl Kind {
    /// The word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Setting => "setting",
            Self::User => "user",
            Self::Library => "function",
            Self::Module => "module",
        }
    }

    /// All things of that kind, in words.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Version => "versions",
            Self::Setting => "settings",
            Self::User => "ACL users",
            Self::Library => "functions",
            Self::Module => "modules",
        }
    }
}

/// A thing that nodes have or do not have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// Its name, cleaned and short.
    pub name: String,
}

impl Item {
    /// The word that names it on the command line: `maxmemory`, `acl:bob`, `function:mylib`, `module:search`, `version`.
    pub fn key(&self) -> String {
        match self.kind {
            Kind::Version => "version".to_string(),
            Kind::Setting => self.name.clone(),
            Kind::User => format!("acl:{}", self.name),
            Kind::Library => format!("function:{}", self.name),
            Kind::Module => format!("module:{}", self.name),
        }
    }
}

/// The value of an item on a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    hash: [u8; 32],
    /// The value, cleaned and short; `None` for secrets, rules and code.
    pub shown: Option<String>,
}

impl Value {
    fn hidden(bytes: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
        Self { hash, shown: None }
    }

    fn shown(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut shown = clean(&text, VALUE_LIMIT);
        if text.chars().count() > VALUE_LIMIT {
            shown.push('…');
        }
        Self {
            shown: Some(shown),
            ..Self::hidden(bytes)
        }
    }
}

/// The setup of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setup {
    items: BTreeMap<Item, Value>,
    /// Kinds that the node did not tell, and why.
    untold: BTreeMap<Kind, String>,
}

impl Setup {
    /// Notes the version.
    pub fn add_version(&mut self, version: Version) {
        let value = Value::shown(version.to_string().as_bytes());
        self.add(Kind::Version, "version", value);
    }

    /// Notes all settings, as CONFIG GET * has them.
    pub fn add_settings(&mut self, settings: Vec<(Vec<u8>, Vec<u8>)>) {
        let named = settings.into_iter().take(MOST).filter_map(|(name, value)| {
            let name = std::str::from_utf8(&name).ok()?.to_ascii_lowercase();
            is_name(&name).then_some((name, value))
        });
        let settings: BTreeMap<String, Vec<u8>> = named.collect();
        for (name, value) in &settings {
            let is_alias = other_name(name).is_some_and(|other| settings.contains_key(&other));
            if is_alias || is_left_out(name) {
                continue;
            }
            let value = match is_secret(name) {
                true => Value::hidden(value),
                false => Value::shown(value),
            };
            self.add(Kind::Setting, name, value);
        }
    }

    /// Notes the users, each as a line of ACL LIST: `user bob on #… ~* +@all`.
    pub fn add_users(&mut self, lines: &[Vec<u8>]) {
        for line in lines.iter().take(MOST) {
            if let Some((name, rules)) = user_of(line) {
                let name = String::from_utf8_lossy(name).into_owned();
                self.add(Kind::User, &name, Value::hidden(&canonical(rules)));
            }
        }
    }

    /// Notes a function library with its code.
    pub fn add_library(&mut self, name: &str, code: &[u8]) {
        self.add(Kind::Library, name, Value::hidden(code));
    }

    /// Notes a module with its version.
    pub fn add_module(&mut self, name: &str, version: &str) {
        self.add(Kind::Module, name, Value::shown(version.as_bytes()));
    }

    /// The node did not tell things of that kind.
    pub fn miss(&mut self, kind: Kind, why: impl Into<String>) {
        self.untold.insert(kind, why.into());
    }

    fn add(&mut self, kind: Kind, name: &str, value: Value) {
        let name = clean(name, NAME_LIMIT);
        if self.items.len() < MOST {
            self.items.insert(Item { kind, name }, value);
        }
    }

    /// What the node has.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.keys()
    }

    /// The value of an item; `None` if the node does not have it.
    pub fn get(&self, item: &Item) -> Option<&Value> {
        self.items.get(item)
    }

    /// The value of the server's version.
    pub fn version(&self) -> Option<&Value> {
        self.items.get(&Item {
            kind: Kind::Version,
            name: "version".to_string(),
        })
    }

    /// The kinds that the node did not tell, and why.
    pub fn untold(&self) -> &BTreeMap<Kind, String> {
        &self.untold
    }
}

/// Whether that is the name of a setting: CONFIG takes such names only.
pub fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= NAME_LIMIT && name.chars().all(is_part)
}

/// Whether a setting differs between nodes by its nature.
pub fn is_left_out(name: &str) -> bool {
    LEFT_OUT.contains(&name)
        || LEFT_OUT_AT_THE_BEGINNING
            .iter()
            .any(|part| name.starts_with(part))
        || LEFT_OUT_AT_THE_END.iter().any(|part| name.ends_with(part))
}

/// Whether the value of a setting is not shown.
pub fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|part| name.contains(part)) && !NO_SECRET.contains(&name)
}

/// The name of a setting that it is an alias of.
fn other_name(name: &str) -> Option<String> {
    let other = match ALIASES.iter().find(|(alias, _)| *alias == name) {
        Some((_, other)) => (*other).to_string(),
        None => name
            .replace("slave", "replica")
            .replace("ziplist", "listpack"),
    };
    (other != name).then_some(other)
}

/// The name and the rules of a line of ACL LIST.
pub fn user_of(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(b"user ")?;
    let end = rest.iter().position(|byte| *byte == b' ');
    Some(match end {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, &[]),
    })
}

/// The rules of a user; a selector, which is in parentheses, is one rule.
pub fn rules_of(rules: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    let mut is_open = false;
    for word in rules
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
    {
        match all.last_mut() {
            Some(selector) if is_open => {
                selector.push(b' ');
                selector.extend_from_slice(word);
            }
            _ => {
                is_open = word.starts_with(b"(");
                all.push(word.to_vec());
            }
        }
        is_open &= !word.ends_with(b")");
    }
    all
}

/// The rules in one form: the hashes of passwords have no order, and some rules are written by some versions only.
fn canonical(rules: &[u8]) -> Vec<u8> {
    let (mut passwords, mut others): (Vec<_>, Vec<_>) = rules_of(rules)
        .into_iter()
        .filter(|rule| !IMPLIED_RULES.contains(&rule.as_slice()))
        .partition(|rule| rule.starts_with(b"#"));
    passwords.sort();
    passwords.append(&mut others);
    passwords.join(&b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Vec<String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let mut setup = Setup::default();
        setup.add_settings(pairs.collect());
        let all = setup.items.iter();
        all.map(|(item, value)| format!("{}={}", item.name, value.shown.as_deref().unwrap_or("?")))
            .collect()
    }

    fn user(line: &str) -> Value {
        let mut setup = Setup::default();
        setup.add_users(&[line.as_bytes().to_vec()]);
        setup.items.into_values().next().unwrap()
    }

    #[test]
    fn what_belongs_to_a_node_is_left_out_and_secrets_are_hidden() {
        let told = settings(&[
            ("port", "7000"),
            ("tls-port", "0"),
            ("dir", "/a"),
            ("bind", "::1"),
            ("logfile", "/a"),
            ("unixsocketperm", "0"),
            ("cluster-announce-ip", "10.0.0.1"),
            ("replicaof", ""),
            ("tls-key-file", "/k"),
            ("tls-ca-cert-dir", "/k"),
            ("server_cpulist", "1"),
            ("appenddirname", "a"),
            ("cluster-config-file", "nodes.conf"),
            ("requirepass", "s3cret"),
            ("masterauth", "s3cret"),
            ("tls-key-file-pass", "s3cret"),
            ("hash-seed", "s3cret"),
            ("maxmemory", "100"),
            ("notify-keyspace-events", "KEA"),
            ("bad name\u{1b}", "x"),
        ]);
        assert_eq!(
            told,
            [
                "hash-seed=?",
                "masterauth=?",
                "maxmemory=100",
                "notify-keyspace-events=KEA",
                "requirepass=?",
                "tls-key-file-pass=?",
            ]
        );
    }

    #[test]
    fn a_setting_with_two_names_is_one() {
        let told = settings(&[
            ("slave-priority", "1"),
            ("replica-priority", "1"),
            ("hash-max-ziplist-value", "64"),
            ("lua-time-limit", "5"),
            ("busy-reply-threshold", "5"),
        ]);
        assert_eq!(
            told,
            [
                "busy-reply-threshold=5",
                "hash-max-ziplist-value=64",
                "replica-priority=1"
            ]
        );
    }

    #[test]
    fn long_and_hostile_values_are_cleaned_but_compared_whole() {
        let long = |end: &str| format!("\u{1b}[31m{}{end}", "x".repeat(100));
        let values: Vec<Value> = ["a", "b"]
            .map(|end| Value::shown(long(end).as_bytes()))
            .into();
        assert_ne!(values[0], values[1]);
        let shown = values[0].shown.clone().unwrap();
        assert!(
            shown.chars().count() <= VALUE_LIMIT + 1 && shown.starts_with("[31mx"),
            "{shown}"
        );
    }

    #[test]
    fn users_are_compared_by_what_their_rules_mean() {
        let bob = user("user bob on #aa #bb ~a* resetchannels -@all (~b +get)");
        assert_eq!(bob.shown, None);
        assert_eq!(
            bob,
            user("user bob on sanitize-payload #bb #aa ~a* -@all (~b +get)")
        );
        for other in [
            "user bob on #aa ~a* -@all (~b +get)",
            "user bob off #aa #bb ~a* -@all (~b +get)",
            "user bob",
        ] {
            assert_ne!(bob, user(other), "{other}");
        }
    }

    #[test]
    fn a_selector_is_one_rule() {
        let rules = rules_of(b"on #aa (~b resetchannels -@all +get) (%R~c) +@all");
        let rules: Vec<_> = rules
            .iter()
            .map(|rule| std::str::from_utf8(rule).unwrap())
            .collect();
        assert_eq!(
            rules,
            [
                "on",
                "#aa",
                "(~b resetchannels -@all +get)",
                "(%R~c)",
                "+@all"
            ]
        );
        assert_eq!(
            user_of(b"user bob on +@all"),
            Some((&b"bob"[..], &b"on +@all"[..]))
        );
        assert_eq!(user_of(b"nobody"), None);
    }
}
