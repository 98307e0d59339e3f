//! Clusters to show, from CLUSTER NODES and INFO as servers write them.

use std::collections::BTreeMap;

use crate::cluster::health::{Background, Diagnosis, Stability};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::observation::{Observation, ObservedNode, Report, Seen};
use crate::cluster::parse::{ClusterInfo, EntryPool, Info};
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::ui::{
    BalanceView, How, LayoutView, MasterShare, Measure, MovesView, NodeName, PlannedMove,
    PlannedShard, TargetMemory,
};

/// The walkthrough's cluster (Redis 3.2 wrote these lines; the bus ports are Redis 7's).
pub(super) const HEALTHY: &str = "\
1977c4d47bfbed850375b2c40d798e4b37e2c070 10.0.0.3:6379@16379 master - 0 1478511905710 1 connected 0-5460
69a0bef4416aca326334766413d852afa96c112c 10.0.0.4:6379@16379 master - 0 1478511907216 2 connected 5461-10922
4744ffb2731aa838bca97927ee0575cb785f7ee6 10.0.0.5:6379@16379 master - 0 1478511907215 3 connected 10923-16383
708fed786ff88bdd9ec75b2711e5e664f64e5ac8 10.0.0.7:6379@16379 slave 1977c4d47bfbed850375b2c40d798e4b37e2c070 0 1478511905710 1 connected
080d52329f736c96f7a7d37883ae5f482859d1f6 10.0.0.8:6379@16379 slave 69a0bef4416aca326334766413d852afa96c112c 0 1478511906714 2 connected
105f108d1bf695166ba6d48a0d0fd060b0cb782d 10.0.0.9:6379@16379 slave 4744ffb2731aa838bca97927ee0575cb785f7ee6 0 1478511907216 3 connected";

const NAMED: &str = "\
1977c4d47bfbed850375b2c40d798e4b37e2c070 2001:db8::a:3:6379@16379,redis-0.redis.default.svc.cluster.local,shard-id=17 master - 0 0 1 connected 0-5460
69a0bef4416aca326334766413d852afa96c112c 2001:db8::a:4:6379@16379,redis-1.redis.default.svc.cluster.local master - 0 0 2 connected 5461-10922
4744ffb2731aa838bca97927ee0575cb785f7ee6 2001:db8::a:5:6379@16379,redis-2.redis.default.svc.cluster.local master - 0 0 3 connected 10923-16383
708fed786ff88bdd9ec75b2711e5e664f64e5ac8 2001:db8::a:7:6379@16379,redis-3.redis.default.svc.cluster.local slave 1977c4d47bfbed850375b2c40d798e4b37e2c070 0 0 1 connected
080d52329f736c96f7a7d37883ae5f482859d1f6 2001:db8::a:8:6379@16379,redis-4.redis.default.svc.cluster.local slave 69a0bef4416aca326334766413d852afa96c112c 0 0 2 connected
105f108d1bf695166ba6d48a0d0fd060b0cb782d 2001:db8::a:9:6379@16379,redis-5.redis.default.svc.cluster.local slave 4744ffb2731aa838bca97927ee0575cb785f7ee6 0 0 3 connected";

/// A look at a cluster, to be bent before it is judged.
pub(super) struct Sample {
    pool: EntryPool,
    pub(super) observation: Observation,
}

impl Sample {
    /// A cluster in which every node answers and sees these lines.
    pub(super) fn new(lines: &str) -> Self {
        let ids: Vec<NodeId> = lines
            .lines()
            .map(|line| line[..40].parse().unwrap())
            .collect();
        let mut sample = Self {
            pool: EntryPool::default(),
            observation: Observation {
                lead: ids[0],
                nodes: BTreeMap::new(),
                bystanders: Vec::new(),
            },
        };
        for (i, id) in ids.iter().enumerate() {
            sample.sees(*id, lines);
            let node = sample.node(*id);
            let Seen::Report(report) = &mut node.seen else {
                unreachable!()
            };
            let is_replica = report.view.myself().master.is_some();
            let link = if is_replica {
                "master_link_status:up\r\n"
            } else {
                ""
            };
            report.info = Info::parse(&format!(
                "redis_version:7.0.15\r\ncluster_enabled:1\r\nused_memory:{}\r\nmaxmemory:{}\r\n{link}db0:keys={},expires=0\r\n",
                1_258_291 * (i + 1),
                2_147_483_648_u64,
                4_115 + 17 * (i % 3),
            ));
        }
        sample
    }

    /// The node answers, and sees these lines.
    pub(super) fn sees(&mut self, id: NodeId, lines: &str) {
        let text: String = lines
            .lines()
            .map(|line| match line.strip_prefix(&id.to_string()) {
                Some(rest) => {
                    let (addr, rest) = rest.trim_start().split_once(' ').unwrap();
                    format!("{id} {addr} myself,{rest}\n")
                }
                None => format!("{line}\n"),
            })
            .collect();
        let view = self.pool.view(&text).unwrap();
        let entry = view.myself();
        let (peer, hostname) = (entry.addr.clone(), entry.hostname.clone());
        let info = match self
            .observation
            .nodes
            .get(&id)
            .and_then(|node| node.report())
        {
            Some(report) => report.info.clone(),
            None => Info::default(),
        };
        let seen = Seen::Report(Box::new(Report {
            view,
            cluster: ClusterInfo {
                ok: true,
                known_nodes: 6,
                current_epoch: 3,
                votes_asked: 0,
            },
            info,
            saves: Some(true),
            open_keys: BTreeMap::new(),
            links: BTreeMap::new(),
            jobs: Vec::new(),
        }));
        let dial = peer.clone();
        let node = ObservedNode {
            id,
            dial,
            peer,
            hostname,
            seen,
        };
        self.observation.nodes.insert(id, node);
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut ObservedNode {
        self.observation.nodes.get_mut(&id).unwrap()
    }

    pub(super) fn report(&mut self, id: NodeId) -> &mut Report {
        match &mut self.node(id).seen {
            Seen::Report(report) => report,
            _ => panic!("{id} does not answer"),
        }
    }

    pub(super) fn judged(self, stability: Stability) -> Diagnosis {
        let zones = BTreeMap::new();
        Diagnosis::of(self.observation, &Background { stability, zones })
    }
}

pub(super) fn id(prefix: &str) -> NodeId {
    HEALTHY
        .lines()
        .find(|line| line.starts_with(prefix))
        .unwrap()[..40]
        .parse()
        .unwrap()
}

/// Six nodes, nothing wrong.
pub(super) fn healthy() -> Diagnosis {
    Sample::new(HEALTHY).judged(Stability::Unknown)
}

/// The master .4 has died, and its replica has not taken over: it has no link to it.
pub(super) fn failed_master() -> Diagnosis {
    let lines = HEALTHY.replace(
        "10.0.0.4:6379@16379 master - 0 1478511907216 2 connected",
        "10.0.0.4:6379@16379 master,fail - 1478512160631 1478512158518 2 disconnected",
    );
    let mut sample = Sample::new(&lines);
    let dead = id("69a0");
    sample.node(dead).seen = Seen::Silent("connection refused".to_string());
    for id in ["1977", "4744", "708f", "080d", "105f"].map(id) {
        sample.report(id).cluster.ok = false;
    }
    sample.report(id("080d")).info = Info::parse(
        "redis_version:7.0.15\r\nused_memory:1300000\r\nmaster_link_status:down\r\nmaster_sync_in_progress:0\r\nmaster_link_down_since_seconds:12\r\ndb0:keys=4132,expires=0\r\n",
    );
    sample.judged(Stability::Unknown)
}

/// Slot 93 on its way from .3 to .5, slot 6000 importing without a source that knows.
pub(super) fn open_slots() -> Diagnosis {
    let mut sample = Sample::new(HEALTHY);
    let (source, target) = (id("1977"), id("4744"));
    sample.sees(
        source,
        &HEALTHY.replace(
            " 0-5460",
            &format!(" 0-5460 [93->-{target}] [94->-{target}]"),
        ),
    );
    sample.sees(
        target,
        &HEALTHY.replace(" 10923-16383", &format!(" 10923-16383 [93-<-{source}]")),
    );
    sample.report(source).open_keys = BTreeMap::from([(Slot::new(93).unwrap(), 41)]);
    sample.report(target).open_keys = BTreeMap::from([(Slot::new(93).unwrap(), 2)]);
    sample.judged(Stability::Unknown)
}

/// .5 and its replica believe that .5 owns the first hundred slots.
pub(super) fn disagreement() -> Diagnosis {
    let mut sample = Sample::new(HEALTHY);
    let lines = HEALTHY
        .replace(" 0-5460", " 100-5460")
        .replace(" 10923-16383", " 0-99 10923-16383");
    sample.sees(id("4744"), &lines);
    sample.sees(id("105f"), &lines);
    sample.judged(Stability::Stuck)
}

/// IPv6, announced names, several versions, memory without a limit.
pub(super) fn named() -> Diagnosis {
    let mut sample = Sample::new(NAMED);
    sample.report(id("4744")).info = Info::parse(
        "redis_version:7.2.4\r\nvalkey_version:8.1.8\r\nused_memory:912\r\nmaxmemory:0\r\navailability_zone:eu-1b\r\n",
    );
    sample.judged(Stability::Unknown)
}

/// A masters-only cluster of that many nodes, of which only the first answers; every other master
/// owns every other slot of its part.
pub(super) fn large(nodes: u16) -> Diagnosis {
    let share = 16384 / nodes;
    let lines: Vec<String> = (0..nodes)
        .map(|n| {
            let (first, last) = (n * share, n * share + share - 1);
            let slots: Vec<String> = match n % 2 {
                0 => vec![format!("{first}-{last}")],
                _ => (first..=last)
                    .step_by(2)
                    .map(|slot| slot.to_string())
                    .collect(),
            };
            let (a, b) = (n / 250, n % 250);
            format!(
                "{n:040x} 10.0.{a}.{b}:6379@16379 master - 0 0 {n} connected {}",
                slots.join(" ")
            )
        })
        .collect();
    let mut sample = Sample::new(lines[0].as_str());
    let lead = sample.observation.lead;
    sample.sees(lead, &lines.join("\n"));
    let view = sample.report(lead).view.clone();
    for entry in view.entries().filter(|entry| entry.id != lead) {
        let node = ObservedNode {
            id: entry.id,
            dial: entry.addr.clone(),
            peer: entry.addr.clone(),
            hostname: None,
            seen: Seen::Silent("connection refused".to_string()),
        };
        sample.observation.nodes.insert(entry.id, node);
    }
    sample.judged(Stability::Unknown)
}

/// The walkthrough's plan.
pub(super) fn planned() -> LayoutView {
    let name = |prefix: &str, host: &str, zone: Option<&str>| NodeName {
        id: id(prefix),
        addr: Addr::new(host, 6379),
        zone: zone.map(str::to_string),
    };
    let shard = |master, first, last, replica| PlannedShard {
        master,
        slots: SlotRange::new(Slot::new(first).unwrap(), Slot::new(last).unwrap()).unwrap(),
        replicas: vec![replica],
    };
    LayoutView {
        masters: vec![
            shard(
                name("1977", "10.0.0.3", None),
                0,
                5460,
                name("708f", "10.0.0.7", None),
            ),
            shard(
                name("69a0", "10.0.0.4", None),
                5461,
                10922,
                name("080d", "10.0.0.8", None),
            ),
            shard(
                name("4744", "10.0.0.5", Some("b")),
                10923,
                16383,
                name("105f", "10.0.0.9", None),
            ),
        ],
        warnings: vec!["10.0.0.9:6379 (105f108d) shares its host with its master".to_string()],
    }
}

/// Two masters give to two others, one of them in many pieces.
pub(super) fn moves() -> MovesView {
    let name = |prefix: &str, host: &str| NodeName {
        id: id(prefix),
        addr: Addr::new(host, 6379),
        zone: None,
    };
    let slots = |numbers: &mut dyn Iterator<Item = u16>| -> SlotSet {
        numbers.filter_map(Slot::new).collect()
    };
    MovesView {
        moves: vec![
            PlannedMove {
                from: name("1977", "10.0.0.3"),
                to: name("69a0", "10.0.0.4"),
                slots: slots(&mut (0..=3)),
                how: How::Atomic("both ends can (valkey 9.1.2)".to_string()),
            },
            PlannedMove {
                from: name("1977", "10.0.0.3"),
                to: name("4744", "10.0.0.5"),
                slots: slots(&mut (10..40).step_by(2)),
                how: How::Keys("10.0.0.5:6379 (4744ffb2) holds 2 keys of slot 12".to_string()),
            },
        ],
        targets: vec![
            TargetMemory {
                node: name("69a0", "10.0.0.4"),
                used: 2 << 20,
                coming: 1 << 20,
                limit: Some(4 << 20),
            },
            TargetMemory {
                node: name("4744", "10.0.0.5"),
                used: 2 << 20,
                coming: 3 << 20,
                limit: None,
            },
        ],
    }
}

/// Two masters, of which one weighs twice the other.
pub(super) fn balance() -> BalanceView {
    let master = |prefix: &str, host: &str, weight, before, expected| MasterShare {
        node: NodeName {
            id: id(prefix),
            addr: Addr::new(host, 6379),
            zone: None,
        },
        weight,
        before,
        expected,
        after: expected,
    };
    BalanceView {
        measure: Measure::Slots,
        threshold: 2.0,
        masters: vec![
            master("1977", "10.0.0.3", 2.0, 8192, 10923),
            master("69a0", "10.0.0.4", 1.0, 8192, 5461),
        ],
    }
}
