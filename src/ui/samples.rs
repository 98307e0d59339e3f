//! Clusters to show, from CLUSTER NODES and INFO as servers write them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::health::{Background, Diagnosis, Stability};
use crate::cluster::node::{Addr, NodeId, Role, Takeover};
use crate::cluster::observation::{Observation, ObservedNode, Report, Seen};
use crate::cluster::parse::{ClusterInfo, EntryPool, Info};
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::report::{
    BackupView, BalanceView, Before, CheckView, ChosenBy, CopyView, FailedKey, FailedKeys,
    FailoverReport, FailoverView, Fetched, FixLine, FixView, How, JoinView, JoiningNode,
    LayoutView, LeaveView, LeavingNode, MasterShare, Measure, MovesView, Node, Objection,
    OkToStopView, PlaceStepView, PlaceView, PlacedGroup, PlannedMove, PlannedShard, RemedyOptions,
    ReplaceStep, ReplaceView, RestartedView, RollNodeView, RollStepView, RollView, SetTimeoutView,
    ShardView, TargetMemory, Timeout, TransferPlan, TransferView, UnequalKey, VerifyView,
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
                identities: Default::default(),
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
                ..ClusterInfo::default()
            },
            info,
            refuses: None,
            saves: Some(true),
            open_keys: BTreeMap::new(),
            keys_of_shard: None,
            links: BTreeMap::new(),
            tasks: Vec::new(),
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
        Diagnosis::of(
            self.observation,
            &Background {
                stability,
                zones,
                ..Background::default()
            },
        )
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

/// The result of `check`.
pub(super) fn checked(diagnosis: &Diagnosis) -> CheckView {
    CheckView::of(diagnosis, &BTreeMap::new(), &[], &RemedyOptions::default())
}

fn named_node(prefix: &str, host: &str, role: Role) -> Node {
    Node {
        id: id(prefix),
        addr: Addr::new(host, 6379),
        role,
        zone: None,
    }
}

fn master(prefix: &str, host: &str) -> Node {
    named_node(prefix, host, Role::Master)
}

fn replica(prefix: &str, host: &str) -> Node {
    named_node(prefix, host, Role::Replica)
}

/// The widest address that is not a name.
pub(super) fn wide(prefix: &str, role: Role) -> Node {
    Node {
        addr: Addr::new("255.255.255.255", 65535),
        ..named_node(prefix, "", role)
    }
}

/// The node with the widest address.
fn widen(node: &mut Node) {
    *node = wide(&node.id.to_string(), node.role);
}

/// The walkthrough's plan.
pub(super) fn planned() -> LayoutView {
    let shard = |master, first, last, replica| PlannedShard {
        master,
        slots: SlotRange::new(Slot::new(first).unwrap(), Slot::new(last).unwrap()).unwrap(),
        replicas: vec![replica],
    };
    let zoned = Node {
        zone: Some("b".to_string()),
        ..master("4744", "10.0.0.5")
    };
    LayoutView {
        masters: vec![
            shard(
                master("1977", "10.0.0.3"),
                0,
                5460,
                replica("708f", "10.0.0.7"),
            ),
            shard(
                master("69a0", "10.0.0.4"),
                5461,
                10922,
                replica("080d", "10.0.0.8"),
            ),
            shard(zoned, 10923, 16383, replica("105f", "10.0.0.9")),
        ],
        replicas: 1,
        warnings: vec!["10.0.0.9:6379 (105f108d) shares its host with its master".to_string()],
    }
}

pub(super) fn slots(numbers: impl IntoIterator<Item = u16>) -> SlotSet {
    numbers.into_iter().filter_map(Slot::new).collect()
}

/// Two masters give to two others, one of them in many pieces.
pub(super) fn moves() -> MovesView {
    MovesView {
        moves: vec![
            PlannedMove {
                from: master("1977", "10.0.0.3"),
                to: master("69a0", "10.0.0.4"),
                slots: slots(0..=3),
                how: How::Atomic("both ends can (valkey 9.1.2)".to_string()),
            },
            PlannedMove {
                from: master("1977", "10.0.0.3"),
                to: master("4744", "10.0.0.5"),
                slots: slots((10..40).step_by(2)),
                how: How::Keys("10.0.0.5:6379 (4744ffb2) holds 2 keys of slot 12".to_string()),
            },
        ],
        targets: vec![
            TargetMemory {
                node: master("69a0", "10.0.0.4"),
                used: 2 << 20,
                coming: 1 << 20,
                limit: Some(4 << 20),
            },
            TargetMemory {
                node: master("4744", "10.0.0.5"),
                used: 2 << 20,
                coming: 3 << 20,
                limit: None,
            },
        ],
        warnings: vec!["no slot is left on 10.0.0.3:6379 (1977c4d4)".to_string()],
    }
}

/// The same with the widest addresses and numbers.
pub(super) fn wide_moves() -> MovesView {
    let mut view = moves();
    for one in &mut view.moves {
        widen(&mut one.from);
        widen(&mut one.to);
        one.slots = slots((0..16384).step_by(2));
        one.how = How::Keys(String::new());
    }
    for target in &mut view.targets {
        widen(&mut target.node);
        target.used = 1023 << 20;
        target.coming = 1023 << 20;
        target.limit = Some(1023 << 20);
    }
    view
}

/// Two masters, of which one has twice the weight of the other.
pub(super) fn balance() -> BalanceView {
    let share = |prefix: &str, host: &str, weight, before, expected| MasterShare {
        node: master(prefix, host),
        weight,
        before,
        expected,
        after: expected,
    };
    BalanceView {
        oversized: Vec::new(),
        measure: Measure::Slots,
        threshold: 2.0,
        masters: vec![
            share("1977", "10.0.0.3", 2.0, 8192, 10923),
            share("69a0", "10.0.0.4", 1.0, 8192, 5461),
        ],
    }
}

/// The same with the widest addresses and numbers.
pub(super) fn wide_balance() -> BalanceView {
    let mut view = balance();
    view.measure = Measure::Memory;
    for share in &mut view.masters {
        widen(&mut share.node);
        share.weight = 1000.0;
        (share.before, share.expected, share.after) = (1023 << 20, 1023 << 20, 1023 << 20);
    }
    view
}

/// A replica and a master join.
pub(super) fn joining() -> JoinView {
    let zoned = Node {
        zone: Some("eu-central-1a".to_string()),
        ..replica("708f", "10.0.0.7")
    };
    JoinView {
        lead: Addr::new("10.0.0.3", 6379),
        members: 6,
        nodes: vec![
            JoiningNode {
                node: zoned,
                follows: Some(master("1977", "10.0.0.3")),
                chosen_by: ChosenBy::Plan,
                before: Before::Flush(1_234_567),
                slots: 0,
            },
            JoiningNode {
                node: master("4744", "10.0.0.5"),
                follows: None,
                chosen_by: ChosenBy::Plan,
                before: Before::Nothing,
                slots: 4096,
            },
        ],
        libraries: 2,
        warnings: Vec::new(),
    }
}

/// The same with the widest addresses.
pub(super) fn wide_joining() -> JoinView {
    let mut view = joining();
    for joining in &mut view.nodes {
        let zone = joining.node.zone.take();
        widen(&mut joining.node);
        joining.node.zone = zone;
        joining.follows.iter_mut().for_each(widen);
    }
    view
}

/// A master, a replica and a dead node leave; a replica gets another master.
pub(super) fn leaving() -> LeaveView {
    let leaver = |node: Node, slots, answers| LeavingNode {
        node,
        slots,
        answers,
    };
    LeaveView {
        lead: "10.0.0.3:6379".to_string(),
        leavers: vec![
            leaver(master("69a0", "10.0.0.4"), 5462, true),
            leaver(replica("080d", "10.0.0.8"), 0, true),
            leaver(master("4744", "10.0.0.5"), 0, false),
        ],
        given: vec![(replica("105f", "10.0.0.9"), master("1977", "10.0.0.3"))],
    }
}

/// The same with the widest addresses.
pub(super) fn wide_leaving() -> LeaveView {
    let mut view = leaving();
    for leaver in &mut view.leavers {
        widen(&mut leaver.node);
    }
    for (replica, master) in &mut view.given {
        widen(replica);
        widen(master);
    }
    view
}

fn copy(
    node: Node,
    key_count: u64,
    offset: u64,
    link: Option<&'static str>,
    link_age: Option<u64>,
) -> CopyView {
    CopyView {
        node,
        key_count,
        replication_offset: Some(offset),
        link,
        link_age,
        danger: None,
    }
}

pub(super) fn failover() -> FailoverView {
    FailoverView {
        replica: replica("080d", "10.0.0.8"),
        master: master("69a0", "10.0.0.4"),
        slots: slots(5461..=10922),
        how: Takeover::Planned,
        behind: Some(2048),
        chosen_of: 2,
        copies: vec![
            copy(master("69a0", "10.0.0.4"), 3000, 120_048, None, None),
            copy(
                replica("080d", "10.0.0.8"),
                3000,
                118_000,
                Some("up"),
                Some(1000),
            ),
            CopyView {
                danger: Some("never-synced"),
                ..copy(replica("105f", "10.0.0.9"), 0, 0, Some("down"), None)
            },
        ],
        warnings: vec!["10.0.0.4:6379 (69a0bef4) runs redis 7.0.15".to_string()],
    }
}

pub(super) fn failed_over() -> FailoverReport {
    FailoverReport {
        replica: replica("080d", "10.0.0.8"),
        master: master("69a0", "10.0.0.4"),
        slots: slots(5461..=10922),
        held: Duration::from_millis(23),
        how: Takeover::Planned,
    }
}

pub(super) fn roll_plan() -> RollView {
    let (old, new) = (master("69a0", "10.0.0.4"), replica("080d", "10.0.0.8"));
    let in_zone = Node {
        zone: Some("eu-1a".to_string()),
        ..new.clone()
    };
    let node = |node: &Node, is_pending| RollNodeView {
        node: node.clone(),
        version: Some("redis 7.0.15".to_string()),
        is_pending,
    };
    RollView {
        nodes: vec![node(&old, true), node(&new, true)],
        steps: vec![
            RollStepView::Restart {
                nodes: vec![in_zone],
            },
            RollStepView::FailOver {
                to: new,
                from: old.clone(),
                only_copy: true,
            },
            RollStepView::Restart { nodes: vec![old] },
        ],
        warnings: vec!["--zone 10.0.0.77:6379=a: no node has that address".to_string()],
    }
}

pub(super) fn restarted() -> RestartedView {
    RestartedView {
        node: replica("080d", "10.0.0.8"),
        run_id: "c0ffee".to_string(),
        version: Some("redis 8.2.3".to_string()),
        took: Duration::from_millis(2_340),
    }
}

pub(super) fn place_plan() -> PlaceView {
    let group = |name: &str, before, after| PlacedGroup {
        kind: "host",
        name: name.to_string(),
        masters_before: before,
        masters_after: after,
        shards_lost_before: before / 2,
        shards_lost_after: 0,
        quorum_lost_before: before > 1,
        quorum_lost_after: after > 1,
    };
    PlaceView {
        steps: vec![
            PlaceStepView::FailOver {
                to: replica("080d", "10.0.0.8"),
                from: master("69a0", "10.0.0.4"),
            },
            PlaceStepView::Move {
                replica: replica("105f", "10.0.0.9"),
                from: master("4744", "10.0.0.5"),
                to: master("1977", "10.0.0.3"),
                copied_bytes: 3 << 30,
            },
        ],
        groups: vec![group("10.0.0.4", 2, 1), group("10.0.0.8", 0, 1)],
        is_proven: true,
        warnings: Vec::new(),
    }
}

pub(super) fn replace_plan() -> ReplaceView {
    let old = master("69a0", "10.0.0.4");
    ReplaceView {
        what: "a master with 5,462 slots".to_string(),
        answers: true,
        new: master("105f", "10.0.0.9"),
        before: Before::Reset,
        steps: vec![
            ReplaceStep::Follows(old.clone()),
            ReplaceStep::TakesOver,
            ReplaceStep::Leaves,
        ],
        old,
    }
}

pub(super) fn fixing() -> FixView {
    let line = |word, slots, text: &str| FixLine {
        word,
        slots,
        nodes: vec![id("1977")],
        keys: 12,
        text: text.to_string(),
        copies: Vec::new(),
    };
    FixView {
        remedies: vec![
            line("close", slots([93]), "closed on 10.0.0.3:6379 (1977c4d4)"),
            line(
                "claim",
                slots((0..60).step_by(2)),
                "claimed by 10.0.0.3:6379 (1977c4d4)",
            ),
        ],
        refused: vec![line("lost", slots(5461..=10922), "no node has them")],
        strays: vec![line("stray", SlotSet::new(), "12 keys are left")],
        warnings: vec![line("replica-syncing", SlotSet::new(), "10.0.0.7 syncs")],
    }
}

pub(super) fn timeouts() -> SetTimeoutView {
    let timeout = |node, now| Timeout { node, now };
    SetTimeoutView {
        wanted: Duration::from_secs(5),
        nodes: vec![
            timeout(
                wide("1977", Role::Master),
                Ok(Some(Duration::from_secs(15))),
            ),
            timeout(wide("69a0", Role::Master), Ok(None)),
            timeout(
                wide("708f", Role::Replica),
                Err("connection refused".to_string()),
            ),
        ],
    }
}

pub(super) fn backup(is_done: bool) -> BackupView {
    let shard = |name: &str, master: Node, source: Node, slots| ShardView {
        master,
        slots,
        source,
        fetched: is_done.then(|| Fetched {
            file: format!("{name}.rdb"),
            bytes: 12_345_678,
            keys: 1_234_567,
            sha256: "ab".repeat(32),
            unread: None,
        }),
    };
    BackupView {
        shards: vec![
            shard(
                "0",
                master("1977", "10.0.0.3"),
                replica("708f", "10.0.0.7"),
                slots(0..=8191),
            ),
            shard(
                "8192",
                master("69a0", "10.0.0.4"),
                master("69a0", "10.0.0.4"),
                slots((8192..8232).step_by(4)),
            ),
        ],
        directory: "/backup".to_string(),
    }
}

/// The same with the widest addresses.
pub(super) fn wide_backup(is_done: bool) -> BackupView {
    let mut view = backup(is_done);
    for shard in &mut view.shards {
        widen(&mut shard.master);
        widen(&mut shard.source);
    }
    view
}

pub(super) fn transfer_plan() -> TransferPlan {
    TransferPlan {
        from: "database 0 of 10.0.0.2:6379 (redis 7.0.15)".to_string(),
        keys: Some(60_000),
        to: "10.0.0.3:6379".to_string(),
        masters: 3,
        present: 1,
        notes: vec!["They stay at the source.".to_string()],
    }
}

pub(super) fn transferred() -> TransferView {
    TransferView {
        done: "copied",
        written: 59_998,
        bytes: 12_345_678,
        same: 1,
        expired: 3,
        gone: 0,
        deleted: 0,
        strays: 0,
        functions: 2,
        evicted: 0,
        failed: vec![FailedKeys {
            reason: "too-large",
            count: 2,
            examples: vec![FailedKey {
                key: r#"a "b" \x00"#.to_string(),
                why: "its value has 600 MiB".to_string(),
            }],
        }],
    }
}

pub(super) fn compared() -> VerifyView {
    let unequal = |kind, key: &str, what: &str| UnequalKey {
        kind,
        database: 0,
        key: key.to_string(),
        what: what.to_string(),
    };
    VerifyView {
        from: "database 0 of 10.0.0.2:6379 (redis 7.0.15)".to_string(),
        to: "10.0.0.3:6379".to_string(),
        same: 59_998,
        settled: 2,
        gone: 3,
        missing: 101,
        different: 1,
        extra: Some(0),
        uncompared: 4,
        notes: vec!["Functions differ: library \"lib\" is missing in the cluster.".to_string()],
        ttl_tolerance: Duration::from_secs(5),
        found: vec![
            unequal("missing", r#"a "b" \x00"#, ""),
            unequal(
                "different",
                "user:1",
                "a string at the source, a list in the cluster",
            ),
            unequal(
                "uncompared",
                "doc:1",
                "the dumps of the values differ, and redis-trib can't decode them",
            ),
        ],
        took: Duration::from_millis(2_500),
    }
}

pub(super) fn not_ok_to_stop() -> OkToStopView {
    OkToStopView {
        stopping: vec![master("1977", "10.0.0.3")],
        objections: vec![Objection {
            code: "slots-unserved",
            message: "slots 0-5460 would not be served".to_string(),
            slots: slots(0..=5460),
        }],
    }
}

/// The healthy cluster with the widest addresses, and as much to say of each node as there may be.
pub(super) fn wide_check() -> CheckView {
    let mut view = checked(&failed_master());
    view.lead_addr = Some(Addr::new("255.255.255.255", 65535));
    for node in &mut view.nodes {
        node.addr = Some(Addr::new("255.255.255.255", 65535));
        node.keys = Some(9_999_999);
        node.used_memory = Some(1023 << 20);
        node.maxmemory = Some(1023 << 20);
    }
    view
}
