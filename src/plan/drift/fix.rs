//! `drift --fix`: which nodes get what one node has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::NodeSetup;
use crate::cluster::functions::listed;
use crate::cluster::node::NodeId;
use crate::cluster::setup::{Item, Kind, Setup, Value};
use crate::cluster::text::clean;

/// The settings that are copied from node to node: no addresses, ports, paths, secrets or replication, and nothing that
/// a server can't change while it runs. An entry with `-` at the end stands for all settings that begin so.
const ALLOWED: [&str; 41] = [
    "acllog-max-len",
    "active-defrag-",
    "active-expire-effort",
    "activedefrag",
    "activerehashing",
    "aof-load-truncated",
    "appendfsync",
    "appendonly",
    "auto-aof-rewrite-",
    "busy-reply-threshold",
    "client-output-buffer-limit",
    "client-query-buffer-limit",
    "cluster-allow-pubsubshard-when-down",
    "cluster-allow-reads-when-down",
    "cluster-allow-replica-migration",
    "cluster-migration-barrier",
    "cluster-require-full-coverage",
    "cluster-slot-stats-enabled",
    "commandlog-",
    "dynamic-hz",
    "hash-max-",
    "hll-sparse-max-bytes",
    "hz",
    "latency-",
    "lazyfree-",
    "lfu-",
    "list-compress-depth",
    "list-max-",
    "loglevel",
    "maxmemory",
    "maxmemory-",
    "no-appendfsync-on-rewrite",
    "notify-keyspace-events",
    "save",
    "set-max-",
    "slowlog-",
    "stop-writes-on-bgsave-error",
    "stream-node-max-",
    "tcp-keepalive",
    "timeout",
    "zset-max-",
];

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// All function libraries.
    Functions,
    /// An ACL user.
    User(String),
    /// A setting.
    Setting(String),
}

impl What {
    fn kind(&self) -> Kind {
        match self {
            Self::Functions => Kind::Library,
            Self::User(_) => Kind::User,
            Self::Setting(_) => Kind::Setting,
        }
    }

    fn covers(&self, item: &Item) -> bool {
        item.kind == self.kind()
            && match self {
                Self::Functions => true,
                Self::User(name) | Self::Setting(name) => item.name == *name,
            }
    }

    /// In words: `functions`, `rules of "bob"`, `hz`.
    pub fn noun(&self) -> String {
        match self {
            Self::Functions => "functions".to_string(),
            Self::User(name) => format!("rules of {name:?}"),
            Self::Setting(name) => format!("value of {name}"),
        }
    }
}

/// As on the command line.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Functions => f.write_str("functions"),
            Self::User(name) => write!(f, "acl:{name}"),
            Self::Setting(name) => write!(f, "config:{name}"),
        }
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "functions" {
            return Ok(Self::Functions);
        }
        match text.split_once(':') {
            Some(("acl", name))
                if clean(name, 64) == name && !name.is_empty() && !name.contains(' ') =>
            {
                Ok(Self::User(name.to_string()))
            }
            Some(("config", name)) => {
                let name = name.to_ascii_lowercase();
                match is_allowed(&name) {
                    true => Ok(Self::Setting(name)),
                    false => Err(format!(
                        "{name:?} is not a setting that is copied from node to node: addresses, ports, paths, secrets, \
                         replication and what a running server can't change are not; set it with CONFIG SET or in the \
                         configuration file"
                    )),
                }
            }
            _ => Err(format!("{text:?} is not functions, acl:USER or config:KEY")),
        }
    }
}

fn is_allowed(name: &str) -> bool {
    ALLOWED.iter().any(|allowed| match allowed.ends_with('-') {
        true => name.starts_with(allowed) && name.len() > allowed.len(),
        false => name == *allowed,
    })
}

/// A plan that gives the others what one node has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DriftFix {
    /// What the source has.
    pub values: BTreeMap<Item, Value>,
    /// The nodes that change, in the order of their ids.
    pub targets: Vec<FixTarget>,
    /// Nodes whose version does not have the setting, or that do not tell.
    skipped: Vec<NodeId>,
    /// Libraries that the source does not have. They stay: FUNCTION FLUSH is never sent.
    extra: BTreeSet<String>,
}

/// A node that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixTarget {
    /// Its id.
    pub id: NodeId,
    /// What it has now.
    pub now: Option<Value>,
}

/// Why nothing can be planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FixRefusal {
    /// The source was not read.
    NoSource(NodeId),
    /// The source does not have it, or does not tell it.
    SourceLacks(NodeId, What),
    /// Functions are loaded on the master of a shard, which was not read.
    NoMaster(NodeId),
}

impl FixRefusal {
    /// The sentence.
    pub fn explain(&self, name: impl Fn(NodeId) -> String) -> String {
        match self {
            Self::NoSource(id) => format!(
                "{} does not answer, or does not tell how it is set up",
                name(*id)
            ),
            Self::SourceLacks(id, what) => match what {
                What::Functions => format!(
                    "{} has no functions to copy; functions are never removed",
                    name(*id)
                ),
                What::User(user) => format!(
                    "{} has no user {user:?}; users are never removed",
                    name(*id)
                ),
                What::Setting(key) => format!("{} does not tell the setting {key}", name(*id)),
            },
            Self::NoMaster(id) => format!(
                "{} does not answer, and functions are loaded on masters",
                name(*id)
            ),
        }
    }
}

impl DriftFix {
    /// Whether a node with that setup has what the source has.
    pub fn is_met_by(&self, setup: &Setup) -> bool {
        self.values
            .iter()
            .all(|(item, value)| setup.get(item) == Some(value))
    }

    /// What the plan leaves as it is.
    pub fn warnings(&self, name: impl Fn(NodeId) -> String) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.skipped.is_empty() {
            let nodes = listed(self.skipped.iter().map(|id| name(*id)));
            warnings.push(format!("not known on, and not changed on: {nodes}"));
        }
        if !self.extra.is_empty() {
            let libraries = listed(self.extra.iter().map(|name| format!("{name:?}")));
            warnings.push(format!(
                "libraries that the source does not have stay as they are: {libraries}"
            ));
        }
        warnings
    }
}

/// Plans to give what `from` has to all others that have something else.
pub fn plan_fix(nodes: &[NodeSetup], what: &What, from: NodeId) -> Result<DriftFix, FixRefusal> {
    let source = nodes
        .iter()
        .find(|node| node.id == from)
        .ok_or(FixRefusal::NoSource(from))?;
    let items = source.setup.items().filter(|item| what.covers(item));
    let values = items.filter_map(|item| Some((item.clone(), source.setup.get(item)?.clone())));
    let mut plan = DriftFix {
        values: values.collect(),
        ..DriftFix::default()
    };
    if plan.values.is_empty() {
        return Err(FixRefusal::SourceLacks(from, what.clone()));
    }
    let mut nodes: Vec<&NodeSetup> = nodes.iter().collect();
    nodes.sort_by_key(|node| node.id);
    let mut targets: BTreeMap<NodeId, Option<Value>> = BTreeMap::new();
    for node in &nodes {
        let now = plan
            .values
            .keys()
            .find_map(|item| node.setup.get(item))
            .cloned();
        let is_unknown = node.setup.untold().contains_key(&what.kind())
            || (what.kind() == Kind::Setting && now.is_none());
        if is_unknown {
            plan.skipped.push(node.id);
            continue;
        }
        if *what == What::Functions {
            let own = node.setup.items().filter(|item| what.covers(item));
            let extra = own.filter(|item| !plan.values.contains_key(item));
            plan.extra.extend(extra.map(|item| item.name.clone()));
        }
        if plan.is_met_by(&node.setup) {
            continue;
        }
        match what {
            // FUNCTION RESTORE is sent to masters, which pass it on.
            What::Functions => {
                if !nodes.iter().any(|other| other.id == node.shard) {
                    return Err(FixRefusal::NoMaster(node.shard));
                }
                targets.insert(node.shard, None);
            }
            What::User(_) | What::Setting(_) => {
                targets.insert(node.id, now);
            }
        }
    }
    let targets = targets.into_iter().map(|(id, now)| FixTarget { id, now });
    plan.targets = targets.collect();
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    fn node(number: u8, shard: u8, change: impl FnOnce(&mut Setup)) -> NodeSetup {
        let mut setup = Setup::default();
        change(&mut setup);
        NodeSetup {
            id: id(number),
            shard: id(shard),
            setup,
        }
    }

    fn ids(plan: &DriftFix) -> Vec<NodeId> {
        plan.targets.iter().map(|target| target.id).collect()
    }

    #[test]
    fn what_may_be_copied() {
        for good in [
            "functions",
            "acl:bob",
            "acl:default",
            "config:maxmemory",
            "config:MAXMEMORY-policy",
            "config:hz",
        ] {
            assert!(good.parse::<What>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "function",
            "acl:",
            "acl:a b",
            "acl:a\u{1b}",
            "config:",
            "config:port",
            "config:dir",
            "config:requirepass",
            "config:masterauth",
            "config:replicaof",
            "config:repl-backlog-size",
            "config:cluster-announce-ip",
            "config:bind",
            "config:slowlog-",
            "config:hash-seed",
        ] {
            assert!(bad.parse::<What>().is_err(), "{bad}");
        }
        for allowed in ALLOWED {
            assert!(
                !crate::cluster::setup::is_left_out(allowed)
                    && !crate::cluster::setup::is_secret(allowed)
                    || allowed == "notify-keyspace-events",
                "{allowed}"
            );
        }
    }

    #[test]
    fn functions_go_to_masters_and_nothing_is_removed() {
        let with =
            |code: &'static str| move |setup: &mut Setup| setup.add_library("lib", code.as_bytes());
        let mut nodes = vec![
            node(1, 1, with("new")),
            node(2, 1, with("new")),
            node(3, 3, with("new")),
            node(4, 3, with("old")),
        ];
        nodes.push(node(5, 5, |setup| setup.add_library("other", b"x")));
        let plan = plan_fix(&nodes, &What::Functions, id(2)).unwrap();
        assert_eq!(ids(&plan), [id(3), id(5)]);
        assert!(plan.warnings(|id| id.to_string())[0].contains("\"other\""));
        nodes.retain(|node| node.id != id(3));
        assert_eq!(
            plan_fix(&nodes, &What::Functions, id(1)),
            Err(FixRefusal::NoMaster(id(3)))
        );
        nodes[0] = node(1, 1, |_| ());
        assert!(matches!(
            plan_fix(&nodes, &What::Functions, id(1)),
            Err(FixRefusal::SourceLacks(..))
        ));
    }

    #[test]
    fn a_user_goes_to_all_and_a_setting_to_those_that_know_it() {
        let bob = |rules: &'static str| {
            move |setup: &mut Setup| setup.add_users(&[format!("user bob {rules}").into_bytes()])
        };
        let what = What::User("bob".to_string());
        let nodes = [
            node(1, 1, bob("on")),
            node(2, 1, bob("off")),
            node(3, 3, |_| ()),
            node(4, 3, bob("on")),
        ];
        assert_eq!(
            ids(&plan_fix(&nodes, &what, id(1)).unwrap()),
            [id(2), id(3)]
        );
        assert_eq!(
            plan_fix(&nodes, &what, id(3)),
            Err(FixRefusal::SourceLacks(id(3), what.clone()))
        );
        assert_eq!(
            plan_fix(&nodes, &what, id(9)),
            Err(FixRefusal::NoSource(id(9)))
        );

        let hz = |value: &'static str| {
            move |setup: &mut Setup| setup.add_settings(vec![(b"hz".to_vec(), value.into())])
        };
        let nodes = [
            node(1, 1, hz("10")),
            node(2, 1, hz("20")),
            node(3, 3, |_| ()),
        ];
        let plan = plan_fix(&nodes, &What::Setting("hz".to_string()), id(1)).unwrap();
        assert_eq!(ids(&plan), [id(2)]);
        assert_eq!(plan.skipped, [id(3)]);
    }

    proptest! {
        /// After the plan every node that tells has what the source has, and no other node was changed.
        #[test]
        fn the_plan_removes_the_difference(values in prop::collection::vec(0..3_u8, 1..8), from in 0..8_usize, turn in 0..8_usize) {
            let setup = |value: u8| move |setup: &mut Setup| setup.add_settings(vec![(b"hz".to_vec(), value.to_string().into_bytes())]);
            let nodes: Vec<NodeSetup> = (0..).zip(&values).map(|(n, value)| node(n, n, setup(*value))).collect();
            let from = from % nodes.len();
            let what = What::Setting("hz".to_string());
            let plan = plan_fix(&nodes, &what, nodes[from].id).unwrap();
            for (node, value) in nodes.iter().zip(&values) {
                prop_assert_eq!(ids(&plan).contains(&node.id), *value != values[from]);
            }
            let mut turned = nodes.clone();
            let turn = turn % turned.len();
            turned.rotate_left(turn);
            prop_assert_eq!(&plan_fix(&turned, &what, nodes[from].id).unwrap(), &plan);
            let after: Vec<NodeSetup> = (0..).zip(&nodes).map(|(n, _)| node(n, n, setup(values[from]))).collect();
            prop_assert!(plan_fix(&after, &what, nodes[from].id).unwrap().targets.is_empty());
        }
    }
}
