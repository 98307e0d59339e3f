//! `INFO` and `CLUSTER INFO`: the facts of a node about itself.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::node::{Addr, NodeId};
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
    /// The time of its clock, in ms (Redis ≥ 6.2).
    pub server_time_ms: Option<u64>,
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
    /// What failed when it last wrote to disk.
    pub disk_failures: DiskFailures,
    /// The time of a CPU that its main thread has used since it started (Redis ≥ 6.2, Valkey).
    pub main_thread_cpu: Option<Duration>,
    /// Bytes in use.
    pub used_memory: Option<u64>,
    /// The limit in bytes; 0 stands for none.
    pub maxmemory: Option<u64>,
    /// What happens at that limit.
    pub maxmemory_policy: Option<Arc<str>>,
    /// Keys evicted since the start.
    pub evicted_keys: Option<u64>,
    /// Keys that have expired since the start; a replica counts none.
    pub expired_keys: Option<u64>,
    /// The link to its master, of a replica.
    pub master_link: Option<MasterLink>,
    /// The address at which it reaches its master, of a replica.
    pub master_addr: Option<Addr>,
    /// The replication offset: bytes that a master has written to its stream, or that a replica has
    /// processed.
    pub replication_offset: Option<u64>,
    /// The replication id, which names the history that the offset counts in.
    pub replication_id: Option<Arc<str>>,
    /// The replication id of the history that this one continues, and the offset up to which it does.
    pub earlier_history: Option<(Arc<str>, u64)>,
    /// Whether it keeps a replication backlog. A replica has one from its first completed full resync on, and drops it
    /// before it loads another.
    pub has_backlog: Option<bool>,
    /// Seconds since the last byte from its master, of a replica whose link is up.
    pub last_io: Option<u64>,
    /// Replicas that this node sees in state `online`.
    pub online_replicas: Vec<OnlineReplica>,
    /// Replicas that wait for or receive a full resync from this node (any other state).
    pub copying_replicas: Vec<Addr>,
    /// Its availability zone (Valkey ≥ 8).
    pub availability_zone: Option<Arc<str>>,
    /// Keys of each database that holds any.
    pub keys: Vec<(u32, u64)>,
    /// The number of its function libraries (Redis ≥ 7.0, Valkey).
    pub function_libraries: Option<u64>,
}

/// Writes to disk of which the last one failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskFailures {
    /// The RDB file.
    pub save: bool,
    /// The append-only file: the node refuses writes until it succeeds again.
    pub append: bool,
    /// The rewrite of the append-only file.
    pub rewrite: bool,
}

impl DiskFailures {
    /// Whether any of them failed.
    pub fn any(self) -> bool {
        self.save || self.append || self.rewrite
    }
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
    /// Down, for so many seconds; `None` if it was not up since the server started (or since it follows this master,
    /// Redis < 7).
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
        let seconds = |name: &str| {
            let seconds = fields.get(name)?.parse::<f64>().ok()?;
            Duration::try_from_secs_f64(seconds).ok()
        };
        let flag = |name: &str| fields.get(name).map(|value| *value == "1");
        let failed = |name: &str| fields.get(name) == Some(&"err");
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
                // Old servers write the time since 1970 for a link that was never up, newer ones -1.
                let uptime = number("uptime_in_seconds").unwrap_or(u64::MAX);
                let since = number("master_link_down_since_seconds");
                MasterLink::Down(since.filter(|since| *since <= uptime.saturating_add(1)))
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
            server_time_ms: number("server_time_usec").map(|time| time / 1000),
            uptime: number("uptime_in_seconds"),
            process_id: number("process_id"),
            supervised: fields
                .get("process_supervised")
                .is_some_and(|by| matches!(*by, "systemd" | "upstart")),
            loading: flag("loading") == Some(true),
            aof_enabled: flag("aof_enabled") == Some(true),
            disk_failures: DiskFailures {
                save: failed("rdb_last_bgsave_status"),
                append: flag("aof_enabled") == Some(true) && failed("aof_last_write_status"),
                rewrite: flag("aof_enabled") == Some(true) && failed("aof_last_bgrewrite_status"),
            },
            main_thread_cpu: seconds("used_cpu_sys_main_thread")
                .zip(seconds("used_cpu_user_main_thread"))
                .map(|(system, user)| system.saturating_add(user)),
            used_memory: number("used_memory"),
            maxmemory: number("maxmemory"),
            maxmemory_policy: word("maxmemory_policy"),
            evicted_keys: number("evicted_keys"),
            expired_keys: number("expired_keys"),
            master_link,
            master_addr: word("master_host").zip(number("master_port")).and_then(
                |(host, port): (Arc<str>, u64)| Some(Addr::new(&host, port.try_into().ok()?)),
            ),
            replication_offset: number("slave_repl_offset")
                .or_else(|| number("master_repl_offset")),
            replication_id: word("master_replid"),
            earlier_history: word("master_replid2").zip(number("second_repl_offset")),
            has_backlog: flag("repl_backlog_active"),
            last_io: number("master_last_io_seconds_ago"),
            online_replicas: online.into_iter().map(|one| one.replica).collect(),
            copying_replicas: copying.into_iter().map(|one| one.replica.addr).collect(),
            availability_zone: word("availability_zone"),
            keys,
            function_libraries: number("number_of_libraries"),
        }
    }

    /// Keys of one database.
    pub fn keys_of(&self, database: u32) -> u64 {
        let keys = self.keys.iter().find(|(number, _)| *number == database);
        keys.map_or(0, |(_, keys)| *keys)
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
    /// Whether `cluster_state` is `ok`: the node serves. On the Raft bus it counts only while the node knows a leader: a
    /// node that has lost its majority goes on saying `ok`.
    pub ok: bool,
    /// The number of nodes that it knows, with itself and handshakes.
    pub known_nodes: usize,
    /// The highest epoch it has seen.
    pub current_epoch: u64,
    /// The number of votes that it has got since its start.
    pub votes_received: u64,
    /// ASM tasks in which it takes or gives slots, and the trims of slots that it gave away (Redis ≥ 8.4).
    pub slots_in_transit: u64,
    /// The Raft fields, of a node with `cluster-protocol raft` (Valkey ≥ 10).
    pub raft: Option<RaftInfo>,
}

/// What a node on the Raft bus reports of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RaftInfo {
    /// Its role.
    pub role: RaftRole,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
    /// The number of voters (`cluster_size`, which on the other bus counts masters with slots).
    pub voters: usize,
}

/// A role on the Raft bus. It has nothing to do with master and replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftRole {
    /// Every change goes through it.
    Leader,
    /// It votes.
    Follower,
    /// It votes, and stands for election.
    Candidate,
    /// It has no vote.
    Learner,
    /// A role that a later version added.
    Other,
}

impl ClusterInfo {
    /// Parses CLUSTER INFO; a missing field counts as 0 and as not ok.
    pub fn parse(text: &str) -> Self {
        let mut info = Self::default();
        let (mut role, mut leader, mut size) = (None, None, 0);
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let number = || value.parse::<u64>().unwrap_or_default();
            match name {
                "cluster_state" => info.ok = value == "ok",
                "cluster_known_nodes" => info.known_nodes = value.parse().unwrap_or_default(),
                "cluster_size" => size = value.parse().unwrap_or_default(),
                "cluster_current_epoch" => info.current_epoch = number(),
                "cluster_stats_messages_auth-ack_received" => info.votes_received = number(),
                "cluster_slot_migration_active_tasks"
                | "cluster_slot_migration_active_trim_running" => {
                    info.slots_in_transit = info.slots_in_transit.saturating_add(number());
                }
                "cluster_raft_role" => {
                    role = Some(match value {
                        "leader" => RaftRole::Leader,
                        "follower" => RaftRole::Follower,
                        "candidate" | "pre-candidate" => RaftRole::Candidate,
                        "learner" => RaftRole::Learner,
                        _ => RaftRole::Other,
                    });
                }
                "cluster_raft_leader" => {
                    leader = value.parse().ok().filter(|id| *id != NodeId::NOBODY);
                }
                _ => {}
            }
        }
        info.raft = role.map(|role| RaftInfo {
            role,
            leader,
            voters: size,
        });
        info.ok &= info.raft.is_none_or(|raft| raft.leader.is_some());
        info
    }

    /// Whether SCAN, KEYS, DBSIZE and COUNTKEYSINSLOT hide keys of the node now. (Redis ≥ 8.4: those of slots that it
    /// imports or trims. INFO counts them.)
    pub fn hides_keys(&self) -> bool {
        self.slots_in_transit > 0
    }
}
