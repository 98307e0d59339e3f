use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::cluster::identity::Twins;
use crate::cluster::links;
use crate::cluster::node::Addr;
use crate::cluster::observation::{Bystander, Report, Seen};
use crate::cluster::parse::{ClusterInfo, EntryPool, Info};
use crate::cluster::refusal::{BusyWith, Refusal, RefusalKind};
use crate::cluster::slot::Slot;
use crate::cluster::text::is_unsafe;
use crate::report::{RemedyOptions, command_line};

/// Three masters, each with a replica, each on a host of its own. Node n has the id nnnn….
const SIX: &str = "\
1 10.0.0.1:6379@16379 master - 0 0 1 connected 0-5460
2 10.0.0.2:6379@16379 master - 0 0 2 connected 5461-10922
3 10.0.0.3:6379@16379 master - 0 0 3 connected 10923-16383
4 10.0.0.4:6379@16379 slave 1 0 0 1 connected
5 10.0.0.5:6379@16379 slave 2 0 0 2 connected
6 10.0.0.6:6379@16379 slave 3 0 0 3 connected";

fn id(n: u32) -> NodeId {
    format!("{n:x}").repeat(40).parse().unwrap()
}

/// The number of a node, from its id.
fn number(id: NodeId) -> String {
    id.short()[..1].to_string()
}

/// Lines with short ids, as a server writes them; `me` marks its own.
fn long(lines: &str, me: u32) -> String {
    let mut text = String::new();
    for line in lines.lines() {
        for (i, word) in line.split(' ').enumerate() {
            let is_id = matches!(i, 0 | 3) && word != "-";
            let word = match (i, word.rsplit_once('-')) {
                _ if is_id => word.repeat(40),
                (2, _) if line.starts_with(&format!("{me:x} ")) => format!("myself,{word}"),
                // [93->-2]
                (_, Some((slot, peer))) if word.starts_with('[') => {
                    format!("{slot}-{}]", peer.trim_end_matches(']').repeat(40))
                }
                _ => word.to_string(),
            };
            text += &word;
            text.push(' ');
        }
        text.push('\n');
    }
    text
}

/// Builds an observation. All nodes answer, agree and are healthy, until a method changes something.
struct World {
    pool: EntryPool,
    lines: String,
    observation: Observation,
    background: Background,
}

impl World {
    fn new(lines: &str) -> Self {
        let numbers = lines.lines().map(|line| line[..1].to_string());
        let numbers: Vec<u32> = numbers
            .map(|n| u32::from_str_radix(&n, 16).unwrap())
            .collect();
        let mut world = Self {
            pool: EntryPool::default(),
            lines: lines.to_string(),
            observation: Observation {
                lead: id(1),
                nodes: BTreeMap::new(),
                bystanders: Vec::new(),
                identities: Default::default(),
            },
            background: Background::default(),
        };
        for n in numbers {
            world = world.sees(n, lines);
        }
        world
    }

    fn six() -> Self {
        Self::new(SIX)
    }

    /// Every node sees this instead.
    fn all(self, from: &str, to: &str) -> Self {
        assert!(self.lines.contains(from), "{from}");
        Self::new(&self.lines.replace(from, to))
    }

    /// These nodes see this instead.
    fn to(mut self, nodes: &[u32], from: &str, to: &str) -> Self {
        assert!(self.lines.contains(from), "{from}");
        let lines = self.lines.replace(from, to);
        for n in nodes {
            self = self.sees(*n, &lines);
        }
        self
    }

    /// These nodes do not have that one in their lists.
    fn forgotten(mut self, nodes: &[u32], gone: u32) -> Self {
        let prefix = format!("{gone:x} ");
        let kept: Vec<&str> = self
            .lines
            .lines()
            .filter(|l| !l.starts_with(&prefix))
            .collect();
        let kept = kept.join("\n");
        for n in nodes {
            self = self.sees(*n, &kept);
        }
        self
    }

    fn sees(mut self, n: u32, lines: &str) -> Self {
        let view = self.pool.view(&long(lines, n)).unwrap();
        let entry = view.myself();
        let link = entry.master.map_or("", |_| "master_link_status:up\n");
        let node = ObservedNode {
            id: id(n),
            dial: entry.addr.clone(),
            peer: entry.addr.clone(),
            hostname: None,
            seen: Seen::Report(Box::new(Report {
                info: Info::parse(&format!("redis_version:7.0.15\n{link}")),
                cluster: ClusterInfo {
                    ok: true,
                    ..ClusterInfo::default()
                },
                refuses: None,
                saves: Some(true),
                open_keys: BTreeMap::new(),
                keys_of_shard: None,
                links: BTreeMap::new(),
                tasks: Vec::new(),
                view,
            })),
        };
        self.observation.nodes.insert(id(n), node);
        self
    }

    fn seen(mut self, n: u32, seen: Seen) -> Self {
        self.observation.nodes.get_mut(&id(n)).unwrap().seen = seen;
        self
    }

    fn silent(self, n: u32) -> Self {
        self.seen(n, Seen::Silent("connection refused".to_string()))
    }

    fn report(&mut self, n: u32) -> &mut Report {
        match &mut self.observation.nodes.get_mut(&id(n)).unwrap().seen {
            Seen::Report(report) => report,
            seen => panic!("{n} is {seen:?}"),
        }
    }

    fn info(mut self, n: u32, text: &str) -> Self {
        self.report(n).info = Info::parse(text);
        self
    }

    fn not_ok(mut self, nodes: &[u32]) -> Self {
        for n in nodes {
            self.report(*n).cluster.ok = false;
        }
        self
    }

    fn keys(mut self, n: u32, counts: &[(u16, u64)]) -> Self {
        let counts = counts
            .iter()
            .map(|(slot, keys)| (Slot::new(*slot).unwrap(), *keys));
        self.report(n).open_keys = counts.collect();
        self
    }

    fn settling(mut self, stability: Stability) -> Self {
        self.background.stability = stability;
        self
    }

    fn zones(mut self, zones: &[(u32, &str)]) -> Self {
        let zones = zones.iter().map(|(n, zone)| (id(*n), zone.to_string()));
        self.background.zones = zones.collect();
        self
    }

    fn judge(self) -> Diagnosis {
        Diagnosis::of(self.observation, &self.background)
    }

    /// Asserts all findings, each as `code [nodes] slots: message`, with its remedy on a line of its own.
    #[track_caller]
    fn says(self, expected: &str) {
        assert_eq!(told(&self.judge()), expected);
    }

    /// Asserts that there is no finding with any of these codes.
    #[track_caller]
    fn says_nothing_of(self, codes: &[Code]) {
        let diagnosis = self.judge();
        let is_said = diagnosis
            .findings
            .iter()
            .any(|finding| codes.contains(&finding.code));
        assert!(!is_said, "{}", told(&diagnosis));
    }
}

fn told(diagnosis: &Diagnosis) -> String {
    let mut lines = Vec::new();
    for finding in &diagnosis.findings {
        let nodes: Vec<String> = finding.nodes.iter().map(|id| number(*id)).collect();
        let slots = match finding.slots.is_empty() {
            true => String::new(),
            false => format!(" {}", finding.slots),
        };
        let (code, message) = (finding.code, &finding.message);
        lines.push(format!("{code} [{}]{slots}: {message}", nodes.join(" ")));
        lines.extend(
            finding
                .remedy
                .as_ref()
                .map(|remedy| format!("$ {}", command_line(remedy, &RemedyOptions::default()))),
        );
    }
    lines.join("\n")
}

#[test]
fn a_healthy_cluster_has_no_findings() {
    World::six().says("");
    let diagnosis = World::six().judge();
    assert!(diagnosis.is_healthy() && !diagnosis.may_settle());
    assert_eq!(diagnosis.slots_covered(), 16384);
}

#[test]
fn a_fresh_cluster_on_one_host_has_one_warning() {
    let mut lines = SIX.to_string();
    for n in 1..=6 {
        lines = lines.replace(
            &format!("10.0.0.{n}:6379@16379"),
            &format!("127.0.0.1:700{n}@1700{n}"),
        );
    }
    World::new(&lines).says("single-host []: all 6 nodes run on one host, 127.0.0.1");
    assert!(World::new(&lines).judge().is_healthy());
}

#[test]
fn a_fresh_node_is_in_no_cluster() {
    let alone = || World::new("1 :7000@17000 master - 0 0 0 connected").not_ok(&[1]);
    alone().says("seed-not-member [1]: 11111111 (no address) is in no cluster: it knows no other node and owns no slots");
    assert!(!alone().judge().is_healthy());
    // With slots it is a cluster of one.
    World::new("1 10.0.0.1:7000@17000 master - 0 0 0 connected 0-16383").says(
        "master-without-replicas [1]: 1 master has no replica that is up: 10.0.0.1:7000 (11111111)",
    );
    let met = "1 10.0.0.1:1@2 master - 0 0 0 connected\n2 10.0.0.2:1@2 master - 0 0 0 connected";
    World::new(met).says("slots-uncovered [] 0-16383: 16,384 slots have no owner: 0-16383\n$ redis-trib fix 10.0.0.1:1");
}

#[test]
fn a_named_node_in_no_cluster() {
    let mut world = World::six();
    world.observation.bystanders.push(Bystander {
        id: id(9),
        dial: Addr::new("10.0.0.9", 6379),
    });
    world.says("seed-not-member [9]: 10.0.0.9:6379 (99999999) was given as a node, but is in no cluster: it knows no other node and owns no slots");
}

#[test]
fn slots_without_an_owner() {
    World::six()
        .all("0-5460", "1-5460")
        .says("slots-uncovered [] 0: 1 slot has no owner: 0\n$ redis-trib fix 10.0.0.1:6379");
    World::six()
        .all("0-5460", "2-5459")
        .settling(Stability::Settling)
        .says("slots-uncovered [] 0-1,5460: 3 slots have no owner: 0-1,5460\n$ redis-trib check 10.0.0.1:6379 --wait 60s");
    let every_second: Vec<String> = (0..50).map(|n| (n * 2).to_string()).collect();
    World::six()
        .all("0-5460", &format!("{} 100-5460", every_second.join(" ")))
        .says("slots-uncovered [] 1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35,37,39,41,43,45,47,49,51,53,55,57,59,61,63,65,67,69,71,73,75,77,79,81,83,85,87,89,91,93,95,97,99: \
              50 slots have no owner: 1,3,5,7,9,11,13,15 and 42 more ranges\n$ redis-trib fix 10.0.0.1:6379");
}

/// The second master has failed, and no replica was promoted.
fn failed_master_world() -> World {
    World::six()
        .all(
            "master - 0 0 2 connected",
            "master,fail - 0 0 2 disconnected",
        )
        .silent(2)
        .not_ok(&[1, 3, 4, 5, 6])
}

#[test]
fn a_failed_master() {
    let down = |since: &str| {
        format!(
            "master_link_status:down\nmaster_sync_in_progress:0\nmaster_link_down_since_seconds:{since}\n"
        )
    };
    failed_master_world().info(5, &down("12")).says("\
slots-uncovered [2] 5461-10922: 5,462 slots are not served because 10.0.0.2:6379 (22222222) is down: 5461-10922
$ redis-trib failover 10.0.0.1:6379 --of 2222222222222222222222222222222222222222 --force
node-failed [2] 5461-10922: master 10.0.0.2:6379 (22222222) is down: flagged `fail` by 5 of 5 nodes; connection refused
cluster-state-not-ok [1 3 4 5 6]: all 5 nodes report cluster_state:fail");
    assert_eq!(failed_master_world().judge().slots_covered(), 10922);
    // A replica whose copy may be incomplete is not proposed.
    for info in [
        &down("-1"),
        "master_link_status:down\nmaster_sync_in_progress:1\n",
        &format!("loading:1\n{}", down("12")),
    ] {
        let diagnosis = failed_master_world().info(5, info).judge();
        assert_eq!(diagnosis.findings[0].remedy, None, "{info}");
    }
}

#[test]
fn a_master_that_the_others_flag_as_failed_and_that_answers() {
    let world = World::six().to(
        &[1, 3, 4, 5, 6],
        "master - 0 0 2 connected",
        "master,fail - 0 0 2 disconnected",
    );
    world.says("\
slots-uncovered [2] 5461-10922: 5,462 slots are not served because 10.0.0.2:6379 (22222222) is down: 5461-10922
node-failed [2] 5461-10922: master 10.0.0.2:6379 (22222222) is down: flagged `fail` by 5 of 5 nodes; it answers redis-trib: check its bus port and its links");
    // Links are up again before the other nodes clear the flag.
    let world = World::six().to(
        &[1, 3, 4, 5, 6],
        "master - 0 0 2 connected",
        "master,fail - 0 0 2 connected",
    );
    let diagnosis = world.judge();
    let down = diagnosis
        .findings
        .iter()
        .find(|f| f.code == Code::NodeFailed);
    let message = &down.unwrap().message;
    assert!(
        message.contains("the flag passes if it has just restarted"),
        "{message}"
    );
}

#[test]
fn nodes_that_answer_at_another_address_than_the_others_know() {
    let lines = SIX
        .replace("10.0.0.2:6379@16379", "10.0.9.2:6379@16379")
        .replace(
            "master - 0 0 2 connected",
            "master,fail - 0 0 2 disconnected",
        );
    let mut world = World::six();
    for n in [1, 3, 4, 5, 6] {
        world = world.sees(n, &lines);
    }
    let diagnosis = world.judge();
    let down = diagnosis
        .findings
        .iter()
        .find(|f| f.code == Code::NodeFailed);
    let nodes = (1..=6).map(|n| Addr::new(&format!("10.0.0.{n}"), 6379));
    let nodes = nodes.collect();
    assert_eq!(down.unwrap().remedy, Some(Remedy::Rejoin { nodes }));
}

#[test]
fn a_failed_master_that_was_replaced() {
    let world = World::new(
        &SIX.replace(
            "master - 0 0 2 connected 5461-10922",
            "master,fail - 0 0 2 disconnected",
        )
        .replace(
            "slave 2 0 0 2 connected",
            "master - 0 0 4 connected 5461-10922",
        ),
    );
    world.silent(2).says("\
slotless-node-failed [2]: master 10.0.0.2:6379 (22222222) is down: flagged `fail` by 5 of 5 nodes; connection refused
master-without-replicas [5]: 1 master has no replica that is up: 10.0.0.5:6379 (55555555)");
}

#[test]
fn too_few_masters_to_vote() {
    let lines = SIX
        .replace(
            "master - 0 0 1 connected",
            "master,fail - 0 0 1 disconnected",
        )
        .replace(
            "master - 0 0 2 connected",
            "master,fail - 0 0 2 disconnected",
        );
    let mut world = World::new(&lines).silent(1).silent(2).info(
        5,
        "master_link_status:down\nmaster_link_down_since_seconds:12\n",
    );
    world.observation.lead = id(3);
    let told = told(&world.judge());
    assert!(
        told.contains("(22222222) is down and too few masters are up to elect a replica: 5461"),
        "{told}"
    );
    assert!(
        !told.contains("FAILOVER") && !told.contains("TAKEOVER"),
        "{told}"
    );
}

#[test]
fn the_last_of_two_masters_reports_only_fail_suspected() {
    let two = "\
1 10.0.0.1:6379@16379 master - 0 0 1 connected 0-8191
2 10.0.0.2:6379@16379 master,fail? - 0 0 2 connected 8192-16383";
    World::new(two).silent(2).not_ok(&[1]).says("\
slots-uncovered [2] 8192-16383: 8,192 slots are not served because 10.0.0.2:6379 (22222222) is down and has no replica: 8192-16383
node-failed [2] 8192-16383: master 10.0.0.2:6379 (22222222) is down: flagged `fail?` by 1 of 1 node; connection refused
cluster-state-not-ok [1]: 1 node reports cluster_state:fail: 10.0.0.1:6379 (11111111)
master-without-replicas [1]: 1 master has no replica that is up: 10.0.0.1:6379 (11111111)");
    // It is up if it answers redis-trib.
    World::new(two).says_nothing_of(&[Code::NodeFailed, Code::SlotsUncovered]);
}

#[test]
fn a_master_whose_address_no_node_knows() {
    let lost = |flags: &str| {
        World::six()
            .all(
                "10.0.0.2:6379@16379 master - 0 0 2 connected",
                &format!(":0@0 {flags} - 0 0 2 disconnected"),
            )
            .seen(2, Seen::NoAddress)
    };
    lost("master,noaddr").says("\
slots-uncovered [2] 5461-10922: 5,462 slots are not served because 22222222 (no address) has no known address: 5461-10922
node-noaddr [2]: known by id only, address unknown: 22222222 (no address)");
    // What Redis and Valkey write when a new node answers at the address of a failed one.
    lost("master,fail,noaddr").says("\
slots-uncovered [2] 5461-10922: 5,462 slots are not served because 22222222 (no address) is down: 5461-10922
node-failed [2] 5461-10922: master 22222222 (no address) is down: flagged `fail` by 5 of 5 nodes");
}

#[test]
fn a_node_without_address_may_be_forgotten_if_it_owns_nothing() {
    let ghost = "\n7 :0@0 slave,noaddr 1 0 0 1 disconnected";
    let forget = format!("redis-trib del-node 10.0.0.1:6379 {}", id(7));
    World::new(&format!("{SIX}{ghost}"))
        .seen(7, Seen::NoAddress)
        .says(&format!(
            "node-noaddr [7]: known by id only, address unknown: 77777777 (no address)\n$ {forget}"
        ));
    let with_slots =
        SIX.replace("0-5460", "1-5460") + "\n7 :0@0 master,noaddr - 0 0 7 disconnected 0";
    let diagnosis = World::new(&with_slots).seen(7, Seen::NoAddress).judge();
    assert!(
        diagnosis
            .findings
            .iter()
            .all(|finding| finding.remedy.is_none())
    );
}

/// The links to slot owners that are missing.
fn missing_links(world: &World) -> MissingLinks {
    let topology = Topology::of(&world.observation);
    links::missing(&world.observation, &topology, 1000, |member| {
        !member.slots.is_empty()
    })
}

#[test]
fn an_owner_that_a_member_does_not_reach() {
    let first = SIX.lines().next().unwrap();
    let addr = first.split(' ').nth(1).unwrap();
    let lost = first
        .replace(addr, ":0@0")
        .replace("master", "master,noaddr");
    for seen in [
        lost.replace("connected", "disconnected"),
        first.replace("connected", "disconnected"),
    ] {
        let mut world = World::six().to(&[2], first, &seen);
        let missing = missing_links(&world);
        assert_eq!(
            missing.keys().copied().collect::<Vec<_>>(),
            [(id(2), id(1))]
        );
        // One look is no proof.
        let codes = [Code::OwnerUnlinked];
        world.background.missing_links = MissingLinks::new();
        World::six().to(&[2], first, &seen).says_nothing_of(&codes);
        world.background.missing_links = missing;
        let diagnosis = world.judge();
        assert!(!diagnosis.is_healthy());
        let told = told(&diagnosis);
        assert!(told.contains("slot-owner-unlinked [1]"), "{told}");
        assert!(
            told.contains("cluster-announce-ip 10.0.0.1 or bind-source-addr"),
            "{told}"
        );
        assert!(!told.contains("node-noaddr"), "{told}");
    }
}

#[test]
fn replicas_and_dead_owners_are_no_missing_links() {
    let first = SIX.lines().next().unwrap();
    let dead = first
        .replace("master", "master,fail")
        .replace("connected", "disconnected");
    let world = World::six().to(&[2, 3, 4, 5, 6], first, &dead);
    assert!(missing_links(&world).is_empty());
    let last = SIX.lines().last().unwrap();
    let world = World::six().to(&[2], last, &last.replace("connected", "disconnected"));
    assert!(missing_links(&world).is_empty());
}

#[test]
fn two_processes_with_one_id() {
    let mut world = World::six();
    world.observation.identities.twins.push(Twins {
        id: id(2),
        one: Addr::new("10.0.0.2", 6379),
        other: Addr::new("10.0.0.9", 6379),
    });
    let told = told(&world.judge());
    assert!(told.contains("node-id-twice [2]"), "{told}");
    assert!(
        told.contains("10.0.0.2:6379") && told.contains("10.0.0.9:6379"),
        "{told}"
    );
}

#[test]
fn a_handshake_that_does_not_complete() {
    let met = format!("{SIX}\n7 10.0.0.7:6379@16379 handshake - 0 0 0 disconnected");
    let mut world = World::six().sees(1, &met);
    world.observation.nodes.insert(
        id(7),
        ObservedNode {
            id: id(7),
            dial: None,
            peer: Some(Addr::new("10.0.0.7", 6379)),
            hostname: None,
            seen: Seen::NoAddress,
        },
    );
    world.says(
        "node-handshake [7]: in handshake, not joined (is the cluster bus port open?): 10.0.0.7:6379 (77777777)",
    );
}

#[test]
fn slots_of_two_masters() {
    World::six()
        .to(&[2], "5461-10922", "93 5461-10922")
        .says("\
slots-multiple-owners [1 2] 93: slot 93 is claimed by 2 masters: 10.0.0.1:6379 (11111111), 10.0.0.2:6379 (22222222)
$ redis-trib fix 10.0.0.1:6379
views-differ [2] 93: 1 of 6 nodes sees other slot owners than most: 10.0.0.2:6379 (22222222) sees 93 at 10.0.0.2:6379 (22222222) instead of at 10.0.0.1:6379 (11111111)");
    // The claim of a failed master does not count.
    failed_master_world()
        .to(&[1], "0-5460", "0-5461")
        .says_nothing_of(&[Code::SlotsContested]);
}

#[test]
fn views_that_differ_and_whether_they_still_change() {
    let differ = |stability| {
        World::six()
            .to(&[3, 6], "0-5460", "0-5000")
            .settling(stability)
    };
    let stuck = "views-differ [3 6] 5001-5460: 2 of 6 nodes see other slot owners than most (not changing by itself): \
        10.0.0.3:6379 (33333333), 10.0.0.6:6379 (66666666) see 5001-5460 unassigned instead of at 10.0.0.1:6379 (11111111)";
    differ(Stability::Stuck).says(&format!("{stuck}\n$ redis-trib fix 10.0.0.1:6379"));
    let settling = stuck.replace("not changing by itself", "still changing");
    differ(Stability::Settling).says(&format!(
        "{settling}\n$ redis-trib check 10.0.0.1:6379 --wait 60s"
    ));
    differ(Stability::Unknown).says(&stuck.replace(" (not changing by itself)", ""));
    let diagnosis = differ(Stability::Unknown).judge();
    assert!(diagnosis.may_settle());
    let halves = World::six().to(&[2, 3, 6], "0-5460", "0-5000").judge();
    assert!(told(&halves).contains("3 of 6 nodes see other slot owners than the other half: "));
}

#[test]
fn many_opinions_share_one_finding() {
    let mut world = World::six();
    for n in 1..=6 {
        let cut = format!("10923-{}", 16383 - n);
        world = world.to(&[n], "10923-16383", &cut);
    }
    let diagnosis = world.judge();
    let differ = |finding: &&Finding| finding.code == Code::ViewsDiffer;
    let last = diagnosis.findings.iter().rfind(differ).unwrap();
    assert_eq!(diagnosis.findings.iter().filter(differ).count(), 5);
    assert!(
        last.message.ends_with("sees 16378-16382 in 1 other way"),
        "{}",
        last.message
    );
}

/// Slot 93 is moving from 1 to 2; both report it.
fn moving() -> World {
    World::six()
        .to(&[1], "0-5460", "0-5460 [93->-2]")
        .to(&[2], "5461-10922", "5461-10922 [93-<-1]")
}

#[test]
fn an_open_slot_that_both_ends_report() {
    let (one, two) = ("10.0.0.1:6379 (11111111)", "10.0.0.2:6379 (22222222)");
    moving().says(&format!(
        "slots-open [1 2] 93: slot 93 is moving from {one} to {two}\n$ redis-trib fix 10.0.0.1:6379"
    ));
    moving()
        .keys(1, &[(93, 41)])
        .keys(2, &[(93, 1)])
        .says(&format!(
            "slots-open [1 2] 93: slot 93 is moving from {one} with 41 keys to {two} with 1 key\n$ redis-trib fix 10.0.0.1:6379"
        ));
    // Valkey's replicas report it too.
    moving()
        .to(
            &[4],
            "slave 1 0 0 1 connected",
            "slave 1 0 0 1 connected [93->-2]",
        )
        .says(&format!(
            "slots-open [1 2] 93: slot 93 is moving from {one} to {two}\n$ redis-trib fix 10.0.0.1:6379"
        ));
}

#[test]
fn an_open_slot_that_one_end_reports() {
    let (one, two) = ("10.0.0.1:6379 (11111111)", "10.0.0.2:6379 (22222222)");
    let importing = || World::six().to(&[2], "5461-10922", "5461-10922 [93-<-1]");
    let says = format!(
        "slots-open [1 2] 93: slot 93 is importing on {two} with 0 keys from {one}, which is not migrating it\n$ redis-trib fix 10.0.0.1:6379"
    );
    importing().keys(2, &[(93, 0)]).says(&says);
    let uncounted = says.replace(" with 0 keys", "");
    importing().says(&uncounted);
    let held = uncounted.replace(two, &format!("{two} with 7 keys"));
    importing().keys(2, &[(93, 7)]).says(&held);
    // A source that does not answer may be migrating.
    importing()
        .keys(2, &[(93, 0)])
        .silent(1)
        .says_nothing_of(&[Code::SlotsUncovered]);
    let diagnosis = importing().keys(2, &[(93, 0)]).silent(3).silent(1).judge();
    assert!(told(&diagnosis).contains("from 10.0.0.1:6379 (11111111), which does not answer"));

    World::six()
        .to(&[1], "0-5460", "0-5460 [93->-2] [95->-2] [96->-2]")
        .keys(2, &[(93, 0), (95, 0), (96, 0)])
        .says(&format!("slots-open [1 2] 93,95-96: slots 93,95-96 are migrating on {one} to {two} with 0 keys, which is not importing it\n$ redis-trib fix 10.0.0.1:6379"));
    World::six()
        .to(&[1], "0-5460", "0-5460 [93->-9]")
        .says(&format!(
            "slots-open [1 9] 93: slot 93 is migrating on {one} to 99999999, which no node knows\n$ redis-trib fix 10.0.0.1:6379"
        ));
}

#[test]
fn a_node_that_a_minority_flags() {
    World::six()
        .to(&[3], "master - 0 0 2 connected", "master,fail? - 0 0 2 connected")
        .says("node-failing [2]: 10.0.0.2:6379 (22222222) is flagged as failing by 1 of 5 nodes: 10.0.0.3:6379 (33333333)");
    // A link that is down for a moment is no finding.
    World::six()
        .to(
            &[3],
            "master - 0 0 2 connected",
            "master - 0 0 2 disconnected",
        )
        .says("");
}

fn refused(kind: RefusalKind, said: &str) -> Seen {
    Seen::Refused(Refusal {
        kind,
        said: said.to_string(),
    })
}

#[test]
fn nodes_that_answer_with_an_error() {
    let busy = refused(RefusalKind::Busy(BusyWith::Function), "is busy");
    World::six().seen(2, busy).says(
        "node-busy [2]: 10.0.0.2:6379 (22222222) is busy\n$ redis-cli -h 10.0.0.2 -p 6379 FUNCTION KILL",
    );
    // Whatever the other nodes make of it.
    World::six()
        .all("master - 0 0 2 connected", "master - 0 0 2 disconnected")
        .seen(2, refused(RefusalKind::Busy(BusyWith::Module), "is busy"))
        .says("node-busy [2]: 10.0.0.2:6379 (22222222) is busy");
    World::six()
        .seen(2, refused(RefusalKind::Login, "needs a password"))
        .seen(5, refused(RefusalKind::Login, "needs a password"))
        .says(
            "node-login-failed [2 5]: 10.0.0.2:6379 (22222222), 10.0.0.5:6379 (55555555): needs a password",
        );
    for (kind, code) in [
        (RefusalKind::ClientLimit, Code::NodeClientLimit),
        (RefusalKind::Permission, Code::NodePermission),
        (RefusalKind::ProtectedMode, Code::NodeProtected),
        (RefusalKind::Other, Code::NodeError),
    ] {
        World::six()
            .seen(5, refused(kind, "no"))
            .says(&format!("{code} [5]: 10.0.0.5:6379 (55555555): no"));
    }
}

#[test]
fn nodes_that_refuse_ping() {
    for (n, kind, code) in [
        (2, RefusalKind::Misconf, Code::WritesRefused),
        (5, RefusalKind::MasterDown, Code::ReplicaStale),
    ] {
        let mut world = World::six();
        world.report(n).refuses = Some(Refusal {
            kind,
            said: "refuses".to_string(),
        });
        world.says(&format!(
            "{code} [{n}]: 10.0.0.{n}:6379 ({}): refuses",
            n.to_string().repeat(8)
        ));
    }
}

#[test]
fn nodes_that_do_not_answer_redis_trib() {
    World::six().silent(5).silent(6).says("\
announced-address-unreachable [5 6]: 10.0.0.5:6379 (55555555), 10.0.0.6:6379 (66666666): connected to the other nodes, but can't be reached from here: connection refused
$ redis-trib check 10.0.0.1:6379 --address-map 10.0.0.5:6379=ADDRESS-FROM-HERE --address-map 10.0.0.6:6379=ADDRESS-FROM-HERE");
    World::six()
        .all("slave 2 0 0 2 connected", "slave 2 0 0 2 disconnected")
        .silent(5)
        .says("slotless-node-unreachable [5]: 10.0.0.5:6379 (55555555) does not answer: connection refused");
    World::six()
        .all("master - 0 0 2 connected", "master - 0 0 2 disconnected")
        .silent(2)
        .says("node-unreachable [2]: 10.0.0.2:6379 (22222222) does not answer: connection refused");
}

#[test]
fn another_node_at_the_address() {
    World::six().seen(5, Seen::OtherNode(id(9))).says(
        "foreign-node [5 9]: node 99999999 answers at the address of 10.0.0.5:6379 (55555555); it is not a member of the cluster",
    );
    World::six()
        .seen(5, Seen::OtherNode(id(6)))
        .says("foreign-node [5 6]: node 66666666 answers at the address of 10.0.0.5:6379 (55555555); it is another member of the cluster");
}

/// 7 is lost, and 4, 5 and 6 don't know it. `within` and `across`: since when nodes of one side have links to each other,
/// and to the other side.
fn with_newcomers(within: u64, across: u64) -> World {
    divided(&[4, 5, 6], within, across)
}

/// The same with other nodes that don't know it.
fn divided(forgetful: &[u32], within: u64, across: u64) -> World {
    let masters = SIX
        .replace("slave 1", "master -")
        .replace("slave 2", "master -")
        .replace("slave 3", "master -");
    let lost = "\n7 :0@0 slave,fail,noaddr 1 0 0 1 disconnected";
    let mut world = World::new(&(masters + lost))
        .seen(7, Seen::NoAddress)
        .forgotten(forgetful, 7);
    for n in 1..7 {
        let is_one_side = |peer| forgetful.contains(&peer) == forgetful.contains(&n);
        let since = |peer| if is_one_side(peer) { within } else { across };
        world.report(n).links = (1..7)
            .filter(|peer| *peer != n)
            .map(|peer| (id(peer), since(peer)))
            .collect();
    }
    world
}

#[test]
fn members_that_joined_from_another_cluster() {
    let names = "10.0.0.4:6379 (44444444), 10.0.0.5:6379 (55555555), 10.0.0.6:6379 (66666666)";
    let came = |names: &str| {
        format!(
            "{names} joined from another cluster through the former address of 77777777 (no address): their \
             links to each other are older than their links to the rest"
        )
    };
    let told = |world: World| {
        let findings = world.judge().findings.into_iter();
        let told = findings.filter(|f| matches!(f.code, Code::NodeForeign | Code::NodeForgotten));
        told.map(|f| (f.code, f.message)).collect::<Vec<_>>()
    };
    let world = with_newcomers(1000, 60_000);
    assert_eq!(told(world), [(Code::NodeForeign, came(names))]);
    let remedy = with_newcomers(1000, 60_000).judge().findings[0]
        .remedy
        .clone()
        .unwrap();
    let seed = Addr::new("10.0.0.1", 6379);
    let nodes = [4, 5, 6].map(id).to_vec();
    assert_eq!(remedy, Remedy::EvictForeign { seed, nodes });
    // Seen from one of them, the rest is foreign.
    let mut world = with_newcomers(1000, 60_000);
    world.observation.lead = id(4);
    let rest = "10.0.0.1:6379 (11111111), 10.0.0.2:6379 (22222222), 10.0.0.3:6379 (33333333)";
    assert_eq!(told(world), [(Code::NodeForeign, came(rest))]);
    // They joined together; and a restarted node has no evidence.
    assert_eq!(told(with_newcomers(1000, 2000))[0].0, Code::NodeForgotten);
    let mut world = with_newcomers(1000, 60_000);
    world
        .report(5)
        .links
        .values_mut()
        .for_each(|since| *since = 90_000);
    assert_eq!(told(world)[0].0, Code::NodeForeign);
    // The other way round: no foreign node has older links to the rest than to its own cluster.
    let mut world = with_newcomers(1000, 60_000);
    world.report(5).links.insert(id(2), 10);
    world.report(5).links.insert(id(4), 5000);
    world.report(5).links.insert(id(6), 5000);
    assert_eq!(told(world)[0].0, Code::NodeForgotten);
    // 3 was cut off while the others forgot 7, and has new links only.
    let world = divided(&[1, 2, 4, 5, 6], 1000, 60_000);
    assert_eq!(told(world)[0].0, Code::NodeForgotten);
}

#[test]
fn replicas_with_other_settings_than_their_masters() {
    let world = |policy: &str| {
        World::six()
            .info(
                1,
                "maxmemory:100\nmaxmemory_policy:noeviction\naof_enabled:1\n",
            )
            .info(
                4,
                &format!("maxmemory:200\nmaxmemory_policy:{policy}\naof_enabled:1\n"),
            )
            // Shards may differ from each other.
            .info(2, "maxmemory:7\n")
            .info(5, "maxmemory:7\n")
            // Nothing is known of these two.
            .info(3, "aof_enabled:1\n")
    };
    let said = |what: &str| {
        format!(
            "shard-settings-differ [4]: replicas have other settings than their masters, so a failover changes what \
             clients see: {what} (redis-trib drift shows the values)"
        )
    };
    let name = "10.0.0.4:6379 (44444444)";
    world("noeviction").says(&said(&format!("maxmemory on {name}")));
    let both = format!("maxmemory on {name}; maxmemory-policy on {name}");
    world("allkeys-lru").says(&said(&both));
}

#[test]
fn a_node_that_some_do_not_know() {
    let said = "node-unknown-to-some [6]: 10.0.0.6:6379 (66666666) is unknown to 2 of 5 nodes: 10.0.0.1:6379 (11111111), 10.0.0.2:6379 (22222222)";
    World::six().forgotten(&[1, 2], 6).says(said);
    World::six()
        .forgotten(&[1, 2], 6)
        .settling(Stability::Settling)
        .says(&format!(
            "{said}\n$ redis-trib check 10.0.0.1:6379 --wait 60s"
        ));
}

#[test]
fn members_that_do_not_serve() {
    World::six().not_ok(&[3]).says(
        "\
cluster-state-not-ok [3]: 1 node reports cluster_state:fail: 10.0.0.3:6379 (33333333)
$ redis-trib check 10.0.0.1:6379 --wait 60s",
    );
    World::six().info(3, "loading:1\n").says(
        "\
node-loading [3]: loading the data set from disk: 10.0.0.3:6379 (33333333)
$ redis-trib check 10.0.0.1:6379 --wait 60s",
    );
}

#[test]
fn a_replica_that_loads_is_a_warning() {
    let said = "\
slotless-node-loading [6]: loading the data set from disk: 10.0.0.6:6379 (66666666)
$ redis-trib check 10.0.0.1:6379 --wait 60s";
    // With its link down, as long as it loads.
    let info = "loading:1\nmaster_link_status:down\nmaster_link_down_since_seconds:7\n";
    World::six().info(6, info).says(said);
    let world = World::six().seen(6, Seen::Loading);
    assert!(told(&world.judge()).contains(said));
}

/// Whether the only error passes.
#[track_caller]
fn passing(world: World, code: Code) -> Passing {
    let diagnosis = world.judge();
    let mut findings = diagnosis.findings.iter();
    let finding = findings.find(|finding| finding.code == code);
    let Some(finding) = finding else {
        panic!("no {code}: {}", told(&diagnosis));
    };
    diagnosis.passing(finding)
}

#[test]
fn states_that_pass_and_states_that_do_not() {
    let seconds = |seconds| Passing::Since(Some(std::time::Duration::from_secs(seconds)));
    let world = || World::six();
    let down = "master_link_status:down\nmaster_link_down_since_seconds:7\n";
    assert_eq!(
        passing(world().not_ok(&[3]), Code::StateNotOk),
        Passing::Since(None)
    );
    // A link that was lost 7 s ago, also to a master that restarts.
    assert_eq!(
        passing(world().info(6, down), Code::ReplicaLinkDown),
        seconds(7)
    );
    assert_eq!(
        passing(world().info(6, down).silent(3), Code::ReplicaLinkDown),
        seconds(7)
    );
    // A node that answers becomes known; a node that does not answer has left.
    let unknown = world().forgotten(&[1, 2], 6);
    assert_eq!(passing(unknown, Code::NodeForgotten), Passing::Since(None));
    let gone = world().forgotten(&[1, 2], 6).silent(6);
    assert_eq!(passing(gone, Code::NodeForgotten), Passing::No);
    // A failed master whose replica will be elected, and one without a replica.
    let failed = |replica_info: &str| {
        let from = "3 10.0.0.3:6379@16379 master";
        let failed = world().to(&[1, 2, 4, 5, 6], from, "3 10.0.0.3:6379@16379 master,fail");
        failed.silent(3).info(6, replica_info)
    };
    assert_eq!(passing(failed(down), Code::NodeFailed), seconds(7));
    assert_eq!(passing(failed(down), Code::SlotsUncovered), seconds(7));
    let alone = || failed(down).silent(6);
    assert_eq!(passing(alone(), Code::NodeFailed), Passing::No);
    assert_eq!(passing(alone(), Code::SlotsUncovered), Passing::No);
    // A node that is busy, and one that nobody here can reach.
    let slow = Seen::Silent("no answer to CLUSTER NODES within 10s".to_string());
    assert_eq!(
        passing(world().seen(3, slow), Code::AddressUnreachable),
        Passing::Since(None)
    );
    assert_eq!(
        passing(world().silent(3), Code::AddressUnreachable),
        Passing::No
    );
}

#[test]
fn a_probe_that_failed() {
    let mut diagnosis = World::six().judge();
    diagnosis.probe_failed(id(1), "OOM");
    assert_eq!(
        told(&diagnosis),
        "probe-write-failed [1]: 10.0.0.1:6379 (11111111) does not take writes: OOM"
    );
    assert!(!diagnosis.is_healthy());
}

#[test]
fn replicas_and_their_links() {
    let down = "master_link_status:down\nmaster_link_down_since_seconds:12\n";
    World::six()
        .info(5, down)
        .says("replica-link-down [5]: replica 10.0.0.5:6379 (55555555): the link to its master 10.0.0.2:6379 (22222222) has been down for 12 s");
    World::six()
        .info(5, "master_link_status:down\nmaster_sync_in_progress:1\n")
        .says(
            "replica-syncing [5]: full resync from the master under way: 10.0.0.5:6379 (55555555)",
        );
    failed_master_world()
        .info(5, down)
        .says_nothing_of(&[Code::ReplicaLinkDown]);
}

#[test]
fn replicas_of_replicas_and_of_unknown_masters() {
    let chain = World::six().all("slave 3 0", "slave 5 0");
    let remedy = format!("redis-cli -h 10.0.0.6 -p 6379 CLUSTER REPLICATE {}", id(2));
    chain.says(&format!("\
replica-of-replica [6 5]: replica 10.0.0.6:6379 (66666666) follows 10.0.0.5:6379 (55555555), which is a replica itself: it can't take over from a master
$ {remedy}
master-without-replicas [3]: 1 master has no replica that is up: 10.0.0.3:6379 (33333333)"));
    World::six().all("slave 3 0", "slave 9 0").says(
        "\
replica-without-master [6]: replicas of a master that no node knows: 10.0.0.6:6379 (66666666)
master-without-replicas [3]: 1 master has no replica that is up: 10.0.0.3:6379 (33333333)",
    );
}

#[test]
fn numbers_of_replicas() {
    let masters: Vec<&str> = SIX.lines().take(3).collect();
    World::new(&masters.join("\n"))
        .says("master-without-replicas [1 2 3]: none of the 3 masters has a replica that is up");
    let more = format!(
        "{SIX}\n7 10.0.0.7:6379@16379 slave 1 0 0 1 connected\n8 10.0.0.8:6379@16379 slave 1 0 0 1 connected"
    );
    World::new(&more).says("uneven-replicas [1]: some masters have only 1 replica, these have 3: 10.0.0.1:6379 (11111111)\n$ redis-trib place 10.0.0.1:6379 --move-replicas");
    // A difference of one results from numbers that don't divide evenly.
    let one_more: Vec<&str> = more.lines().take(7).collect();
    World::new(&one_more.join("\n")).says("");
}

#[test]
fn nodes_that_fail_together() {
    World::six()
        .all("10.0.0.5:6379", "10.0.0.2:6380")
        .says("replica-on-masters-host [5]: replicas on the same host as their master: 10.0.0.2:6380 (55555555)\n$ redis-trib place 10.0.0.1:6379 --move-replicas");
    World::six()
        .all("10.0.0.3:6379", "10.0.0.2:6380")
        .says("host-holds-quorum [2 3]: 2 of 3 masters run on host 10.0.0.2: if it fails, no replica can be elected\n$ redis-trib place 10.0.0.1:6379");
    World::six()
        .zones(&[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "a"), (6, "a")])
        .says(
            "\
replica-in-masters-zone [5]: replicas in the same zone as their master: 10.0.0.5:6379 (55555555)
$ redis-trib place 10.0.0.1:6379 --move-replicas
zone-holds-quorum [1 2]: 2 of 3 masters run in zone a: if it fails, no replica can be elected
$ redis-trib place 10.0.0.1:6379",
        );
    World::six()
        .zones(&[(1, "a"), (2, "b"), (3, "c"), (4, "b"), (5, "c"), (6, "a")])
        .says("");
}

#[test]
fn masters_with_the_same_epoch() {
    let collision = |stability| {
        World::six()
            .all("master - 0 0 2", "master - 0 0 1")
            .settling(stability)
    };
    let said = "epoch-collision [1 2]: 2 masters share the config epoch 1: 10.0.0.1:6379 (11111111), 10.0.0.2:6379 (22222222)";
    collision(Stability::Unknown).says(said);
    collision(Stability::Stuck).says(&format!("{said}\n$ redis-trib fix 10.0.0.1:6379"));
    // Masters without slots lose nothing by it.
    let empty = format!("{SIX}\n7 10.0.0.7:6379@16379 master - 0 0 1 connected");
    World::new(&empty).says("");
}

#[test]
fn versions() {
    World::six()
        .info(1, "redis_version:7.2.4\nvalkey_version:8.1.8\n")
        .says("mixed-versions []: nodes run different versions: redis 7.0.15 on 5 nodes, valkey 8.1.8 on 1 node");
}

#[test]
fn a_master_that_restarts_empty() {
    let contained = |n: u32, info: &str, saves: Option<bool>| {
        let mut world = World::six().info(n, &format!("redis_version:7.0.15\n{info}"));
        world.report(n).saves = saves;
        world
    };
    let said = "restarts-empty [1]: without persistence, but restarted automatically: a restart empties the replicas too: 10.0.0.1:6379 (11111111)";
    contained(1, "process_id:1\n", Some(false)).says(said);
    contained(
        1,
        "process_id:77\nprocess_supervised:systemd\n",
        Some(false),
    )
    .says(said);
    for world in [
        contained(1, "process_id:1\n", Some(true)),
        contained(1, "process_id:1\n", None),
        contained(1, "process_id:1\naof_enabled:1\n", Some(false)),
        contained(1, "process_id:77\nprocess_supervised:no\n", Some(false)),
        contained(4, "process_id:1\nmaster_link_status:up\n", Some(false)),
    ] {
        world.says("");
    }
}

#[test]
fn a_partition_with_a_majority_on_one_side() {
    // 3 and 6 are cut off; no failover of 3 happened, since its replica is cut off too.
    let majority = |lines: String| {
        lines
            .replace(
                "master - 0 0 3 connected",
                "master,fail - 0 0 3 disconnected",
            )
            .replace("slave 3 0 0 3 connected", "slave,fail 3 0 0 3 disconnected")
    };
    let minority = SIX
        .replace(
            "master - 0 0 1 connected",
            "master,fail? - 0 0 1 disconnected",
        )
        .replace(
            "master - 0 0 2 connected",
            "master,fail? - 0 0 2 disconnected",
        );
    let mut world = World::six();
    for n in [1, 2, 4, 5] {
        world = world.sees(n, &majority(SIX.to_string()));
    }
    for n in [3, 6] {
        world = world.sees(n, &minority);
    }
    let diagnosis = world.not_ok(&[3, 6]).judge();
    let codes: Vec<(Code, String)> = diagnosis
        .findings
        .iter()
        .map(|f| (f.code, f.nodes.iter().map(|id| number(*id)).collect()))
        .collect();
    let expected = [
        (Code::SlotsUncovered, "3"),
        (Code::NodeFailed, "3"),
        (Code::StateNotOk, "36"),
        (Code::SlotlessFailed, "6"),
        (Code::NodeFailing, "1"),
        (Code::NodeFailing, "2"),
    ];
    let expected = expected.map(|(code, nodes)| (code, nodes.to_string()));
    assert_eq!(codes, expected, "{}", told(&diagnosis));
    assert!(
        diagnosis.findings[0]
            .message
            .contains("and so are its replicas")
    );
}

#[test]
fn remedies_are_safe_to_paste_for_any_announced_host() {
    let world = World::six()
        .all("10.0.0.5:6379", "$(reboot)'x:6379")
        .silent(5);
    let diagnosis = world.judge();
    let remedy = command_line(
        diagnosis.findings[0].remedy.as_ref().unwrap(),
        &RemedyOptions::default(),
    );
    assert!(
        remedy.ends_with(r"--address-map '$(reboot)'\''x:6379=ADDRESS-FROM-HERE'"),
        "{remedy}"
    );
}

#[test]
fn every_code_has_its_own_word() {
    let words: BTreeSet<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(words.len(), Code::ALL.len());
    let is_kebab = |word: &str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    assert!(words.into_iter().all(is_kebab));
}

#[test]
fn reading_order_is_by_slots() {
    let lines = SIX
        .replace("0-5460", "x")
        .replace("5461-10922", "0-5460")
        .replace('x', "5461-10922");
    let lines = format!(
        "{lines}\n7 10.0.0.7:6379@16379 master - 0 0 0 connected\n8 10.0.0.8:6379@16379 slave 9 0 0 0 connected"
    );
    let diagnosis = World::new(&lines).judge();
    let order: String = diagnosis
        .topology
        .reading_order()
        .iter()
        .map(|member| number(member.id))
        .collect();
    assert_eq!(order, "25143678");
}

prop_compose! {
    /// What one node reports of another.
    fn a_line()(
        flags in prop_oneof![
            6 => Just("master"), 3 => Just("slave"), 1 => Just("master,fail"), 1 => Just("master,fail?"),
            1 => Just("slave,fail"), 1 => Just("handshake"), 1 => Just("master,noaddr"), 1 => Just("noflags"),
        ],
        host in 1..4u8,
        master in 1..9u32,
        epoch in 0..4u64,
        link in prop_oneof![4 => Just("connected"), 1 => Just("disconnected")],
        (start, length) in (0..16384u32, 0..6000u32),
        open in proptest::option::of((90..96u16, any::<bool>(), 1..10u32)),
        is_known in proptest::bool::weighted(0.85),
    ) -> Option<String> {
        let master = if flags.starts_with("slave") { format!("{master}") } else { "-".to_string() };
        let mut slots = format!("{start}-{}", (start + length).min(16383));
        if flags.starts_with("slave") {
            slots.clear();
        }
        if let Some((slot, out, peer)) = open {
            slots += &format!(" [{slot}{}{peer}]", if out { "->-" } else { "-<-" });
        }
        let rest = format!("10.0.0.{host}:6379@16379 {flags} {master} 0 0 {epoch} {link} {slots}");
        is_known.then(|| rest.trim_end().to_string())
    }
}

/// Observations of any shape: eight nodes, each of which may report anything of any other.
/// Its last save failed.
const UNSAVED: &str = "redis_version:7.0.15\nrdb_last_bgsave_status:err\n";

#[test]
fn a_master_that_refuses_writes_can_be_told_to_save_and_blocks_no_move() {
    let mut world = World::six().info(2, UNSAVED);
    world.report(2).refuses = Some(Refusal {
        kind: RefusalKind::Misconf,
        said: "refuses".to_string(),
    });
    let diagnosis = world.judge();
    let finding = &diagnosis.findings[0];
    assert_eq!(finding.code, Code::WritesRefused);
    assert_eq!(finding.nodes, [id(2)]);
    assert!(matches!(finding.remedy, Some(Remedy::Save { .. })));
    assert!(!diagnosis.is_healthy() && !finding.blocks_changes());
    let codes: Vec<Code> = diagnosis.findings.iter().map(|f| f.code).collect();
    assert!(!codes.contains(&Code::PersistenceFailing));
}

#[test]
fn a_save_that_fails_without_refusing_writes_is_a_warning() {
    let diagnosis = World::six().info(2, UNSAVED).judge();
    assert!(diagnosis.is_healthy());
    let finding = &diagnosis.findings[0];
    assert_eq!(finding.code, Code::PersistenceFailing);
    assert!(
        finding.message.contains("takes writes"),
        "{}",
        finding.message
    );
    // A file that is not written to can't fail.
    World::six()
        .info(
            2,
            "redis_version:7.0.15\naof_enabled:0\naof_last_write_status:err\n",
        )
        .says_nothing_of(&[Code::PersistenceFailing, Code::WritesRefused]);
}

#[test]
fn a_replica_that_can_not_read_its_masters_data_never_syncs() {
    for link in [
        "master_link_status:down\nmaster_link_down_since_seconds:-1\n",
        "master_link_status:down\nmaster_sync_in_progress:1\n",
    ] {
        let older = format!("redis_version:7.0.15\n{link}");
        let mut world = World::six().info(5, &older);
        let master = world.report(5).view.myself().master.unwrap();
        let master = (1..=6).find(|n| id(*n) == master).unwrap();
        let diagnosis = world.info(master, "redis_version:8.2.3\n").judge();
        let codes: Vec<Code> = diagnosis.findings.iter().map(|f| f.code).collect();
        assert!(
            codes.contains(&Code::ReplicaCannotSync),
            "{}",
            told(&diagnosis)
        );
        assert!(!codes.contains(&Code::ReplicaSyncing));
        assert!(!codes.contains(&Code::ReplicaLinkDown));
        // Of the same RDB version it may.
        let same = format!("redis_version:8.2.3\n{link}");
        World::six()
            .info(5, &same)
            .info(master, "redis_version:8.4.0\n")
            .says_nothing_of(&[Code::ReplicaCannotSync]);
    }
}

fn a_world() -> impl Strategy<Value = World> {
    let views = proptest::collection::vec(proptest::collection::vec(a_line(), 8), 8);
    let seen = proptest::collection::vec(0..8u8, 8);
    let infos = proptest::collection::vec(0..4usize, 8);
    let stability = prop_oneof![
        Just(Stability::Unknown),
        Just(Stability::Settling),
        Just(Stability::Stuck)
    ];
    (views, seen, infos, stability).prop_map(|(views, seen, infos, stability)| {
        const INFOS: [&str; 4] = [
            "master_link_status:up\n",
            "redis_version:7.0.15\nmaster_link_status:down\nmaster_link_down_since_seconds:3\n",
            "redis_version:8.2.3\nmaster_link_status:down\nmaster_sync_in_progress:1\nloading:1\n",
            "process_id:1\n",
        ];
        let mut world = World::six();
        world.background.stability = stability;
        for (n, view) in (1..=8).zip(views) {
            let lines = (1..=8).zip(view).filter_map(|(other, line)| {
                // A node knows itself, and its own address.
                let line = match line {
                    None if other == n => "10.0.0.1:1@2 master - 0 0 0 connected".to_string(),
                    line => line?,
                };
                Some(format!("{other:x} {line}"))
            });
            let lines: Vec<String> = lines.collect();
            world = world.sees(n, &lines.join("\n"));
            let report = world.report(n);
            report.info = Info::parse(INFOS[infos[n as usize - 1]]);
            report.saves = Some(false);
            report.cluster.ok = seen[n as usize - 1] != 4;
            report.open_keys = (90..96).map(|slot| (Slot::new(slot).unwrap(), 0)).collect();
            world = match seen[n as usize - 1] {
                0 if n > 1 => world.silent(n),
                1 if n > 1 => world.seen(n, Seen::OtherNode(id(9))),
                2 if n > 1 => world.seen(n, Seen::NoAddress),
                _ => world,
            };
        }
        world
    })
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.observation.fmt(f)
    }
}

proptest! {
    // Each case is eight views of eight lines.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_observation_gives_consistent_findings(world in a_world()) {
        let diagnosis = world.judge();
        let topology = &diagnosis.topology;
        let served = topology.served();
        prop_assert_eq!(diagnosis.slots_covered(), served.count());
        prop_assert!(served.count() <= 16384);
        let claimed = topology.masters().fold(SlotSet::new(), |sum, m| sum.union(&m.slots));
        let is_part = |part: &SlotSet, whole: &SlotSet| part.difference(whole).is_empty();
        prop_assert!(is_part(&served, &claimed));
        let mut uncovered = SlotSet::new();
        for finding in &diagnosis.findings {
            match finding.code {
                Code::SlotsUncovered => {
                    prop_assert!(finding.slots.intersection(&served).is_empty());
                    uncovered = uncovered.union(&finding.slots);
                }
                Code::SlotsContested => {
                    prop_assert!(is_part(&finding.slots, &served));
                    for node in &finding.nodes {
                        prop_assert!(is_part(&finding.slots, &topology.members[node].slots));
                    }
                }
                Code::SlotsOpen => prop_assert!(is_part(&finding.slots, &topology.open_set())),
                Code::ViewsDiffer | Code::NodeFailed => {}
                code => prop_assert!(finding.slots.is_empty(), "{}", code),
            }
            prop_assert!(!finding.message.is_empty());
            prop_assert!(!finding.message.contains(is_unsafe));
        }
        // Every slot is served, or named as not served.
        prop_assert_eq!(uncovered, SlotSet::full().difference(&served));
        let open: SlotSet = diagnosis.findings.iter().filter(|f| f.code == Code::SlotsOpen)
            .flat_map(|finding| finding.slots.iter().collect::<Vec<_>>()).collect();
        prop_assert_eq!(open, topology.open_set());
        let order = |f: &Finding| (f.severity(), f.code);
        prop_assert!(diagnosis.findings.is_sorted_by_key(order));
        let held: usize = topology.opinions.iter().map(|opinion| opinion.held_by.len()).sum();
        prop_assert_eq!(held, diagnosis.observation.reports().count());
        prop_assert_eq!(topology.reading_order().len(), topology.members.len());
    }
}
