//! `INFO` and `CLUSTER INFO`: the facts of a node about itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::node::Addr;
use crate::cluster::text::clean;

/// A server's version, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Redis or Valkey: their version numbers are unrelated.
    pub product: Product,
    /// For example `[7, 0, 15]`.
    pub numbers: [u16; 3],
}

/// The server software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// Redis.
    Redis,
    /// Valkey.
    Valkey,
}

impl Version {
    /// Whether the server has atomic slot migration: Valkey ≥ 9.0, Redis ≥ 8.4.
    pub fn can_migrate_atomically(self) -> bool {
        match self.product {
            Product::Valkey => self.numbers >= [9, 0, 0],
            Product::Redis => self.numbers >= [8, 4, 0],
        }
    }

    /// Returns the highest RDB version that RESTORE takes (rdb.h of each release); `None` for versions that are not
    /// released yet.
    pub fn highest_rdb_version(self) -> Option<u16> {
        let [major, minor, _] = self.numbers;
        match (self.product, major, minor) {
            (Product::Valkey, ..=8, _) => Some(11),
            (Product::Valkey, 9, _) => Some(80),
            (Product::Redis, 5 | 6, _) => Some(9),
            (Product::Redis, 7, 0) => Some(10),
            (Product::Redis, 7, 1..=3) => Some(11),
            (Product::Redis, 7, _) | (Product::Redis, 8, ..=4) => Some(12),
            (Product::Redis, 8, 5 | 6) => Some(13),
            _ => None,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        let product = match self.product {
            Product::Redis => "redis",
            Product::Valkey => "valkey",
        };
        write!(f, "{product} {major}.{minor}.{patch}")
    }
}

/// The fields of INFO that are used. A missing field is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Info {
    /// The server and its version. Valkey writes `redis_version:7.2.4` beside its own.
    pub version: Option<Version>,
    /// Whether it runs as a cluster node.
    pub cluster_enabled: Option<bool>,
    /// A random id that changes at every start.
    pub run_id: Option<Arc<str>>,
    /// Seconds since it started.
    pub uptime: Option<u64>,
    /// Its process id; 1 in most containers.
    pub process_id: Option<u64>,
    /// Whether systemd or upstart runs it and restarts it (Redis ≥ 6.2).
    pub supervised: bool,
    /// Whether it is loading its data set from disk.
    pub loading: bool,
    /// Whether it writes an append-only file.
    pub aof_enabled: bool,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// The limit in bytes; 0 stands for none.
    pub maxmemory: Option<u64>,
    /// Keys evicted since the start.
    pub evicted_keys: Option<u64>,
    /// The link to its master, of a replica.
    pub master_link: Option<MasterLink>,
    /// The replication offset: bytes that a master has written to its stream, or that a replica has
    /// processed.
    pub replication_offset: Option<u64>,
    /// Replicas that this node sees in state `online`.
    pub online_replicas: Vec<OnlineReplica>,
    /// Replicas that wait for or receive a full resync from this node (any other state).
    pub copying_replicas: Vec<Addr>,
    /// Its availability zone (Valkey ≥ 8).
    pub availability_zone: Option<Arc<str>>,
    /// Keys of each database that holds any.
    pub keys: Vec<(u32, u64)>,
}

/// A replica that follows this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnlineReplica {
    /// Its address as the node sees it.
    pub addr: Addr,
    /// Bytes of the stream that it has not confirmed (it confirms once a second).
    pub behind: Option<u64>,
    /// The time since its last confirmation, in whole seconds.
    pub silent: Option<Duration>,
}

/// `replica 10.0.0.7:6379 is 70 MiB behind, and was last heard of 2 s ago`.
impl fmt::Display for OnlineReplica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "replica {} is ", self.addr)?;
        match self.behind {
            Some(bytes) if bytes >= 1 << 20 => write!(f, "{} MiB behind", bytes >> 20)?,
            Some(bytes) => write!(f, "{bytes} bytes behind")?,
            None => f.write_str("behind")?,
        }
        match self.silent {
            Some(silent) => write!(f, ", and was last heard of {} s ago", silent.as_secs()),
            None => Ok(()),
        }
    }
}

/// The state of a replica's link to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterLink {
    /// Up.
    Up,
    /// Down during a full resync.
    Syncing,
    /// Down, for so many seconds if the server reports it.
    Down(Option<u64>),
}

impl Info {
    /// Parses INFO; unknown lines are ignored.
    pub fn parse(text: &str) -> Self {
        let fields: HashMap<&str, &str> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .collect();
        let number = |name: &str| fields.get(name).and_then(|value| value.parse::<u64>().ok());
        let flag = |name: &str| fields.get(name).map(|value| *value == "1");
        let word = |name: &str| {
            let value = clean(fields.get(name)?, 255);
            (!value.is_empty()).then(|| Arc::from(value))
        };
        let version = |name: &str, product| {
            let numbers = parse_version(fields.get(name)?)?;
            Some(Version { product, numbers })
        };
        let master_link = fields.get("master_link_status").map(|status| {
            if *status == "up" {
                MasterLink::Up
            } else if flag("master_sync_in_progress") == Some(true) {
                MasterLink::Syncing
            } else {
                MasterLink::Down(number("master_link_down_since_seconds"))
            }
        });
        let mut keys: Vec<(u32, u64)> = fields
            .iter()
            .filter_map(|(name, value)| {
                let db = name.strip_prefix("db")?.parse().ok()?;
                let count = value
                    .split(',')
                    .find_map(|part| part.strip_prefix("keys="))?;
                Some((db, count.parse().ok()?))
            })
            .collect();
        keys.sort_unstable();
        let written = number("master_repl_offset");
        let replicas: Vec<ReplicaLine> = fields
            .iter()
            .filter_map(|(name, value)| {
                name.strip_prefix("slave")?.parse::<u32>().ok()?;
                ReplicaLine::parse(value, written)
            })
            .collect();
        let (online, copying): (Vec<_>, Vec<_>) =
            replicas.into_iter().partition(|replica| replica.online);
        Self {
            version: version("valkey_version", Product::Valkey)
                .or_else(|| version("redis_version", Product::Redis)),
            cluster_enabled: flag("cluster_enabled"),
            run_id: word("run_id"),
            uptime: number("uptime_in_seconds"),
            process_id: number("process_id"),
            supervised: fields
                .get("process_supervised")
                .is_some_and(|by| matches!(*by, "systemd" | "upstart")),
            loading: flag("loading") == Some(true),
            aof_enabled: flag("aof_enabled") == Some(true),
            used_memory: number("used_memory"),
            maxmemory: number("maxmemory"),
            evicted_keys: number("evicted_keys"),
            master_link,
            replication_offset: number("slave_repl_offset")
                .or_else(|| number("master_repl_offset")),
            online_replicas: online.into_iter().map(|one| one.replica).collect(),
            copying_replicas: copying.into_iter().map(|one| one.replica.addr).collect(),
            availability_zone: word("availability_zone"),
            keys,
        }
    }

    /// Keys in all databases together.
    pub fn total_keys(&self) -> u64 {
        self.keys
            .iter()
            .fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }
}

/// A `slaveN` line of INFO.
struct ReplicaLine {
    replica: OnlineReplica,
    online: bool,
}

impl ReplicaLine {
    /// Parses `ip=10.0.0.7,port=6379,state=online,offset=1400,lag=0`; `written` is the offset of the
    /// master.
    fn parse(text: &str, written: Option<u64>) -> Option<Self> {
        let field = |name: &str| {
            let mut fields = text.split(',').filter_map(|field| field.split_once('='));
            fields.find_map(|(key, value)| (key == name).then_some(value))
        };
        let has = field("offset").and_then(|offset| offset.parse::<u64>().ok());
        let silent = field("lag").and_then(|lag| lag.parse().ok());
        Some(Self {
            replica: OnlineReplica {
                addr: Addr::new(
                    &clean(field("ip").unwrap_or("?"), 255),
                    field("port")
                        .and_then(|port| port.parse().ok())
                        .unwrap_or(0),
                ),
                behind: written
                    .zip(has)
                    .map(|(written, has)| written.saturating_sub(has)),
                silent: silent.map(Duration::from_secs),
            },
            online: field("state")? == "online",
        })
    }
}

/// `7.0.15`, `8.2`, `7.9.240-rc1`: the leading numbers, missing ones as 0.
fn parse_version(text: &str) -> Option<[u16; 3]> {
    let mut numbers = [0; 3];
    for (i, part) in text.splitn(3, '.').enumerate() {
        let digits = part.split(|c: char| !c.is_ascii_digit()).next()?;
        numbers[i] = digits.parse().ok()?;
    }
    Some(numbers)
}

/// The fields of CLUSTER INFO that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClusterInfo {
    /// Whether `cluster_state` is `ok`: the node serves.
    pub ok: bool,
    /// The number of nodes that it knows, with itself and handshakes.
    pub known_nodes: usize,
    /// The highest epoch it has seen.
    pub current_epoch: u64,
    /// The number of vote requests that it has sent since its start.
    pub votes_asked: u64,
}

impl ClusterInfo {
    /// Parses CLUSTER INFO; a missing field counts as 0 and as not ok.
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "cluster_state" => info.ok = value == "ok",
                "cluster_known_nodes" => info.known_nodes = value.parse().unwrap_or_default(),
                "cluster_current_epoch" => info.current_epoch = value.parse().unwrap_or_default(),
                "cluster_stats_messages_auth-req_sent" => {
                    info.votes_asked = value.parse().unwrap_or_default();
                }
                _ => {}
            }
        }
        info
    }
}
