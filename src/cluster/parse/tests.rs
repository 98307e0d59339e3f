use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::cluster::text::is_unsafe;

const SERVERS: [&str; 8] = [
    "redis-6.2",
    "redis-7.0",
    "redis-8.2",
    "redis-8.6",
    "redis-8.10",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9.1",
];

fn fixture(kind: &str, name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let file = folder.join(kind).join(format!("{name}.txt"));
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn view(text: &str) -> View {
    EntryPool::default()
        .view(text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn fail(text: &str) -> String {
    EntryPool::default().view(text).unwrap_err().to_string()
}

/// A view without the values that change with each recording: nodes by port, `*` marks the writer.
fn render(view: &View) -> String {
    let port = |id: NodeId| match view.entry(id) {
        Some(entry) => entry.port.to_string(),
        None => "?".to_string(),
    };
    let mut lines: Vec<String> = Vec::new();
    for entry in view.entries() {
        let mut words = vec![match &entry.addr {
            Some(addr) => addr.to_string(),
            None => format!(":{}", entry.port),
        }];
        if entry.id == view.myself().id {
            words[0].push('*');
        }
        words.push(entry.role.map_or("-", Role::word).to_string());
        words.extend(entry.master.map(|id| format!("of {}", port(id))));
        if entry.state != EntryState::Fine {
            words.push(format!("{:?}", entry.state));
        }
        if !entry.linked {
            words.push("unlinked".to_string());
        }
        words.extend(entry.hostname.as_deref().map(str::to_string));
        words.extend(entry.slots.iter().map(ToString::to_string));
        for open in &entry.open {
            let (slot, way) = (open.slot, open.direction.word());
            words.push(format!("[{slot} {way} {}]", port(open.peer)));
        }
        lines.push(words.join(" "));
    }
    lines.sort();
    lines.join("\n")
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Every server version reports the same in the same situation.
#[track_caller]
fn all_say(situation: &str, expected: &str) {
    some_say(&SERVERS, situation, expected);
}

#[track_caller]
fn some_say(servers: &[&str], situation: &str, expected: &str) {
    for server in servers {
        let name = format!("{server}.{situation}");
        let said = render(&view(&fixture("cluster-nodes", &name)));
        assert_eq!(said, sorted(expected), "{name}");
    }
}

const OTHERS: &str = "\
127.0.0.1:23002 master 5461-10921
127.0.0.1:23003 master 10922-16383
127.0.0.1:23004 replica of 23001
127.0.0.1:23005 replica of 23002
127.0.0.1:23006 replica of 23003";

#[test]
fn a_fresh_node_knows_its_port_alone() {
    all_say("fresh", ":23001* master");
    for server in SERVERS {
        let view = view(&fixture("cluster-nodes", &format!("{server}.fresh")));
        assert_eq!(view.myself().bus_port, Some(33001), "{server}");
        assert_eq!(view.slots_signature(), 0, "{server}");
    }
}

#[test]
fn six_nodes() {
    let all = format!("127.0.0.1:23001 master 0-5460\n{OTHERS}");
    all_say("six-master", &all.replace(":23003 ", ":23003* "));
    all_say("six-replica", &all.replace(":23006 ", ":23006* "));
    for server in SERVERS {
        let mut pool = EntryPool::default();
        let mut read = |name: &str| {
            let text = fixture("cluster-nodes", &format!("{server}.{name}"));
            pool.view(&text).unwrap()
        };
        let (one, other) = (read("six-master"), read("six-replica"));
        assert_eq!(one.slots_signature(), other.slots_signature(), "{server}");
        assert_ne!(one.slots_signature(), 0);
        // All lines but those of the two writers.
        let shared = one.entries().filter(|entry| {
            let twin = other.entry(entry.id);
            twin.is_some_and(|twin| Arc::ptr_eq(entry, twin))
        });
        assert_eq!(shared.count(), 4, "{server}");
    }
}

#[test]
fn open_slots_are_reported_by_both_ends() {
    let source = "127.0.0.1:23001* master 0-5460 [93 migrating 23002] [95 migrating 23002]";
    all_say("open-source", &format!("{source}\n{OTHERS}"));
    let target = OTHERS.replace(
        "23002 master 5461-10921",
        "23002* master 5461-10921 [93 importing 23001] [94 importing 23001]",
    );
    all_say(
        "open-target",
        &format!("127.0.0.1:23001 master 0-5460\n{target}"),
    );
    // Valkey sends open slots to replicas.
    let replica = |open: &str| {
        let me = format!("23004* replica of 23001{open}");
        let others = OTHERS.replace("23004 replica of 23001", &me);
        format!("127.0.0.1:23001 master 0-5460\n{others}")
    };
    some_say(&SERVERS[..5], "open-replica-of-source", &replica(""));
    let open = " [93 migrating 23002] [95 migrating 23002]";
    some_say(&SERVERS[5..], "open-replica-of-source", &replica(open));
}

#[test]
fn a_handshake_has_no_role_yet() {
    let met = "127.0.0.1:1 - Handshake unlinked";
    all_say(
        "handshake",
        &format!("{met}\n127.0.0.1:23001* master 0-5460\n{OTHERS}"),
    );
}

#[test]
fn a_failed_master_keeps_its_slots_with_or_without_an_address() {
    let failed = format!("127.0.0.1:23001 master 0-5460\n{OTHERS}")
        .replace("23003 master", "23003 master Failed unlinked");
    let first = failed.replace(":23001 ", ":23001* ");
    all_say("failed", &first);
    all_say("failed-replica", &failed.replace(":23006 ", ":23006* "));
    // `master,fail,noaddr`, whose port 0 its replica follows.
    let noaddr = first
        .replace("127.0.0.1:23003", ":0")
        .replace("of 23003", "of 0");
    all_say("noaddr", &noaddr);
}

#[test]
fn announced_names_ports_and_ipv6() {
    all_say(
        "announced-ports",
        "127.0.0.1:6379* master\n127.0.0.1:6380 master",
    );
    let domain = "redis.default.svc.cluster.local";
    some_say(
        &SERVERS[1..],
        "hostnames",
        &format!(
            "127.0.0.1:23001* master redis-0.{domain}\n127.0.0.1:23002 master redis-1.{domain}"
        ),
    );
    for server in SERVERS {
        let view = view(&fixture("cluster-nodes", &format!("{server}.ipv6")));
        let other = view.entries().find(|entry| entry.port == 23002).unwrap();
        let addr = other.addr.as_ref().unwrap();
        assert_eq!(addr.to_string(), "[::1]:23002", "{server}");
        assert_eq!(other.bus_port, Some(33002), "{server}");
    }
}

#[test]
fn redis_3_had_no_bus_port() {
    let view = view(&fixture(
        "cluster-nodes",
        "redis-3.2.by-hand-after-failover",
    ));
    let expected = "\
10.0.0.3:6379 replica of 6379
10.0.0.4:6379 master Failed unlinked
10.0.0.5:6379 master 10923-16383
10.0.0.7:6379* master 0-5460
10.0.0.8:6379 master 5461-10922
10.0.0.9:6379 replica of 6379";
    assert_eq!(render(&view), expected);
    assert!(view.entries().all(|entry| entry.bus_port.is_none()));
}

#[test]
fn info_of_every_server() {
    for (server, version) in SERVERS.iter().zip([
        "redis 6.2.5",
        "redis 7.0.15",
        "redis 8.2.3",
        "redis 8.6.2",
        "redis 8.10.2",
        "valkey 8.0.1",
        "valkey 8.1.8",
        "valkey 9.1.2",
    ]) {
        let read = |situation| Info::parse(&fixture("info", &format!("{server}.{situation}")));
        let (fresh, master, replica) = (read("fresh"), read("six-master"), read("six-replica"));
        for info in [&fresh, &master, &replica] {
            assert_eq!(info.version.unwrap().to_string(), version);
            assert_eq!(info.cluster_enabled, Some(true));
            assert_eq!(info.run_id.as_ref().unwrap().len(), 40);
            assert!(info.used_memory > Some(100_000) && info.maxmemory == Some(0));
            assert_eq!(info.evicted_keys, Some(0));
            assert!(info.process_id > Some(1) && info.uptime.is_some());
            assert!(!info.supervised && !info.loading && !info.aof_enabled);
            assert_eq!(info.availability_zone, None);
        }
        assert_eq!((fresh.total_keys(), fresh.online_replicas.len()), (0, 0));
        assert_eq!(
            (master.keys, master.online_replicas.len()),
            (vec![(0, 1)], 1)
        );
        let [follower] = &master.online_replicas[..] else {
            panic!("{:?}", master.online_replicas)
        };
        assert!(
            follower.behind.is_some_and(|behind| behind < 1000),
            "{follower}"
        );
        assert!(follower.silent.is_some(), "{follower}");
        assert_eq!((fresh.master_link, master.master_link), (None, None));
        assert_eq!(replica.master_link, Some(MasterLink::Up), "{server}");
        let link = read("failed-replica").master_link;
        let is_lately_down = matches!(link, Some(MasterLink::Down(Some(0..60))));
        assert!(is_lately_down, "{server}: {link:?}");
    }
    let zone = Info::parse(&fixture("info", "valkey-9.1.hostnames")).availability_zone;
    assert_eq!(zone.as_deref(), Some("eu-1b"));
}

#[test]
fn info_of_a_replica_that_syncs_or_has_never_had_a_master() {
    let link = |text| Info::parse(text).master_link;
    let syncing = "role:slave\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\n";
    assert_eq!(link(syncing), Some(MasterLink::Syncing));
    let never = "master_link_status:down\r\nmaster_link_down_since_seconds:-1\r\n";
    assert_eq!(link(never), Some(MasterLink::Down(None)));
}

#[test]
fn versions_are_read_as_far_as_they_go() {
    let version = |text: &str| {
        let version = Info::parse(&format!("redis_version:{text}\r\n")).version;
        version.map(|version| version.numbers)
    };
    assert_eq!(version("7.9.240-rc1"), Some([7, 9, 240]));
    assert_eq!(version("8.2"), Some([8, 2, 0]));
    assert_eq!(version("unstable"), None);
    assert_eq!(version("99999.0.0"), None);
}

#[test]
fn cluster_info_of_every_server() {
    for server in SERVERS {
        let read = |name| ClusterInfo::parse(&fixture("cluster-info", &format!("{server}.{name}")));
        let fresh = read("fresh");
        assert_eq!((fresh.ok, fresh.known_nodes), (false, 1), "{server}");
        let six = read("six-master");
        assert_eq!((six.ok, six.known_nodes), (true, 6), "{server}");
        assert!(six.current_epoch >= 3, "{server}");
        assert!(!read("failed").ok, "{server}");
    }
}

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A line of the writer itself, with these slots.
fn own(slots: &str) -> String {
    format!("{A} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected {slots}\n")
}

#[test]
fn malformed_lines_are_errors_with_a_reason() {
    let beyond = format!("[16384-<-{B}]");
    for slots in [
        "16384",
        "5-3",
        "0-16384",
        "-1",
        "+1",
        "99999999999999999999999999",
        "1-2-3",
        "[",
        "[]",
        "[93-<-",
        "[93-<-]",
        "[93-<-bbbb]",
        &beyond,
        "0-5460\0",
        "\u{1b}[31m",
    ] {
        let error = fail(&own(slots));
        let start = "CLUSTER NODES line 1 can't be read: not a slot: ";
        assert!(error.starts_with(start), "{slots:?}: {error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
    for (line, why) in [
        ("-ERR unknown command", "too few fields"),
        ("HTTP/1.1 400 Bad Request", "too few fields"),
        ("a b c d e f g h", "not a node id"),
    ] {
        assert!(fail(line).contains(why), "{line}: {}", fail(line));
    }
    for (from, to, why) in [
        ("10.0.0.1:6379@16379", "10.0.0.1", "no port"),
        ("6379@16379", "70000@16379", "not a port"),
        ("@16379", "@-1", "not a bus port"),
        ("- 0 0 1", "x 0 0 1", "not a master's id"),
        (
            "- 0 0 1",
            "- 0 0 18446744073709551616",
            "not a config epoch",
        ),
    ] {
        let error = fail(&own("").replace(from, to));
        assert!(error.contains(why), "{to}: {error}");
    }
}

#[test]
fn a_view_has_one_writer_and_each_node_once() {
    let other = own("").replace(A, B);
    let none = "CLUSTER NODES has 0 lines marked `myself`, not one";
    assert_eq!(fail(""), none);
    assert_eq!(fail(&other.replace("myself,", "")), none);
    assert_eq!(
        fail(&(own("") + &other)),
        "CLUSTER NODES has 2 lines marked `myself`, not one"
    );
    assert_eq!(
        fail(&(own("") + &own("").replace("myself,", ""))),
        "CLUSTER NODES names aaaaaaaa twice"
    );
}

#[test]
fn a_view_is_bounded() {
    let line = |n: u32| format!("{n:040x} 10.0.0.1:6379@16379 master - 0 0 1 connected\n");
    let many: String = (0..20_000).map(line).collect();
    assert_eq!(fail(&many), "CLUSTER NODES has more than 10000 lines");
    let long = fail(&own(&"0 ".repeat(MAX_LINE)));
    assert!(long.contains("too long") && long.len() < 300);
    // The longest line of a server: every slot open.
    let open: Vec<String> = (0..16384).map(|slot| format!("[{slot}->-{B}]")).collect();
    assert_eq!(view(&own(&open.join(" "))).myself().open.len(), 16384);
}

#[test]
fn overlapping_ranges_are_folded() {
    let slots = view(&own("5 0-10 3-7 11 9-12")).myself().slots.clone();
    let slots: Vec<String> = slots.iter().map(ToString::to_string).collect();
    assert_eq!(slots, ["0-12"]);
}

#[test]
fn unknown_flags_and_fields_are_ignored() {
    let text = own("1-2")
        .replace("@16379", "@16379,redis-0,shard-id=17,tls-port=6380,new=?")
        .replace("myself,master", "myself,master,nofailover,shiny");
    let expected = "10.0.0.1:6379* master redis-0 1-2";
    assert_eq!(render(&view(&text)), expected);
    let nameless = own("").replace("@16379", "@16379,,shard-id=17");
    assert_eq!(view(&nameless).myself().hostname, None);
}

#[test]
fn a_failed_node_without_an_address_is_failed() {
    let state = |flags: &str| {
        let text = own("") + &own("").replace(A, B).replace("myself,master", flags);
        view(&text).entry(B.parse().unwrap()).unwrap().state
    };
    assert_eq!(state("master,fail,noaddr"), EntryState::Failed);
    assert_eq!(state("master,fail?,noaddr"), EntryState::NoAddress);
    assert_eq!(state("master,noaddr"), EntryState::NoAddress);
    assert_eq!(state("handshake,noaddr"), EntryState::Handshake);
    assert_eq!(state("slave,fail?,fail"), EntryState::Failed);
    assert_eq!(state("noflags"), EntryState::Fine);
}

#[test]
fn text_for_a_terminal_loses_unsafe_characters() {
    let evil = "@16379,re\u{1b}[2Jdis\u{202e}\u{9b}0\u{61c}\u{2028}\u{2029}\u{feff}";
    let evil = view(&own("").replace("@16379", evil));
    assert_eq!(evil.myself().hostname.as_deref(), Some("re[2Jdis0"));
    let long = own("").replace("@16379", &format!("@16379,{}", "é".repeat(4000)));
    let hostname = view(&long).myself().hostname.clone().unwrap();
    assert_eq!(hostname.chars().count(), 255);
}

/// One line without its position in the view.
#[derive(Debug, Clone)]
struct Line {
    host: String,
    port: u16,
    bus_port: Option<u16>,
    hostname: Option<String>,
    role: Option<Role>,
    state: EntryState,
    master: Option<NodeId>,
    times: (u32, u64),
    epoch: u64,
    linked: bool,
    slots: Vec<SlotRange>,
    open: Vec<OpenSlot>,
}

fn a_node_id() -> impl Strategy<Value = NodeId> {
    any::<[u8; 20]>().prop_map(|bytes| {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.parse().unwrap()
    })
}

fn a_slot() -> impl Strategy<Value = Slot> {
    (0..crate::cluster::slot::SLOTS).prop_map(|number| Slot::new(number).unwrap())
}

fn some_ranges() -> impl Strategy<Value = Vec<SlotRange>> {
    proptest::collection::vec((a_slot(), a_slot()), 0..5).prop_map(|ends| {
        let range = |(a, b): (Slot, Slot)| SlotRange::new(a.min(b), a.max(b));
        let set: SlotSet = ends.into_iter().filter_map(range).collect();
        set.ranges()
    })
}

fn an_open_slot() -> impl Strategy<Value = OpenSlot> {
    let direction = prop_oneof![Just(Direction::Migrating), Just(Direction::Importing)];
    (a_slot(), direction, a_node_id()).prop_map(|(slot, direction, peer)| OpenSlot {
        slot,
        direction,
        peer,
    })
}

prop_compose! {
    fn a_line()(
        host in prop_oneof![
            3 => any::<std::net::Ipv4Addr>().prop_map(|ip| ip.to_string()),
            2 => any::<std::net::Ipv6Addr>().prop_map(|ip| ip.to_string()),
            1 => Just(String::new()),
        ],
        port in any::<u16>(),
        bus_port in proptest::option::of(1u16..),
        hostname in proptest::option::of("[a-z][a-z0-9.-]{0,20}"),
        role in prop_oneof![Just(None), Just(Some(Role::Master)), Just(Some(Role::Replica))],
        state in prop_oneof![
            Just(EntryState::Fine),
            Just(EntryState::Failing),
            Just(EntryState::Failed),
            Just(EntryState::Handshake),
            Just(EntryState::NoAddress),
        ],
        master in proptest::option::of(a_node_id()),
        times in any::<(u32, u64)>(),
        (epoch, linked) in any::<(u64, bool)>(),
        slots in some_ranges(),
        open in proptest::collection::vec(an_open_slot(), 0..3),
    ) -> Line {
        Line { host, port, bus_port, hostname, role, state, master, times, epoch, linked, slots, open }
    }
}

impl Line {
    /// As clusterGenNodeDescription (Redis 7.0, cluster.c) writes it.
    fn print(&self, id: NodeId, is_myself: bool) -> String {
        let mut flags = Vec::new();
        flags.extend(is_myself.then_some("myself"));
        flags.extend(self.role.map(|role| match role {
            Role::Master => "master",
            Role::Replica => "slave",
        }));
        flags.extend(match self.state {
            EntryState::Fine => None,
            EntryState::Failing => Some("fail?"),
            EntryState::Failed => Some("fail"),
            EntryState::Handshake => Some("handshake"),
            EntryState::NoAddress => Some("noaddr"),
        });
        if flags.is_empty() {
            flags.push("noflags");
        }
        let or_nothing = |text: Option<String>| text.unwrap_or_default();
        let bus = or_nothing(self.bus_port.map(|bus| format!("@{bus}")));
        let name = or_nothing(self.hostname.as_ref().map(|name| format!(",{name}")));
        let master = self.master.map_or("-".to_string(), |id| id.to_string());
        let (host, port, (ping, pong)) = (&self.host, self.port, self.times);
        let (flags, epoch) = (flags.join(","), self.epoch);
        let link = if self.linked {
            "connected"
        } else {
            "disconnected"
        };
        let mut line =
            format!("{id} {host}:{port}{bus}{name} {flags} {master} {ping} {pong} {epoch} {link}");
        for range in &self.slots {
            line += &format!(" {range}");
        }
        for open in &self.open {
            let arrow = match open.direction {
                Direction::Migrating => "->-",
                Direction::Importing => "-<-",
            };
            line += &format!(" [{}{arrow}{}]", open.slot, open.peer);
        }
        line
    }

    fn entry(&self, id: NodeId) -> Entry {
        let is_known = !self.host.is_empty() && self.port != 0;
        Entry {
            id,
            addr: is_known.then(|| Addr::new(&self.host, self.port)),
            port: self.port,
            bus_port: self.bus_port,
            hostname: self.hostname.as_deref().map(Arc::from),
            role: self.role,
            state: self.state,
            master: self.master,
            epoch: self.epoch,
            linked: self.linked,
            learner: false,
            slots: self.slots.clone(),
            open: self.open.clone(),
            claim: claim(id, &self.slots),
        }
    }
}

proptest! {
    #[test]
    fn a_view_reads_as_it_was_printed(
        lines in proptest::collection::btree_map(a_node_id(), a_line(), 1..12),
        pick in any::<proptest::sample::Index>(),
        order in any::<u64>(),
    ) {
        let myself = *lines.keys().nth(pick.index(lines.len())).unwrap();
        let mut printed: Vec<String> =
            lines.iter().map(|(id, line)| line.print(*id, *id == myself)).collect();
        // Servers write them in the order of a hash table.
        printed.sort_by_key(|line| line.bytes().fold(order, |sum, byte| {
            (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }));
        let text = printed.join("\n");
        let expected: Vec<Entry> = lines.iter().map(|(id, line)| line.entry(*id)).collect();
        let mut pool = EntryPool::default();
        // From a pool that does not know the lines, and from one that does.
        for _ in 0..2 {
            let view = pool.view(&text).unwrap();
            prop_assert_eq!(view.myself().id, myself);
            prop_assert!(view.entries().map(|entry| &**entry).eq(&expected));
        }
    }

    #[test]
    fn views_share_a_signature_when_they_see_the_same_owners(
        cuts in proptest::collection::btree_set(1..16383u16, 3),
        moved in 0..3usize,
    ) {
        let text = |cuts: &[u16]| {
            let mut lines = own("");
            let mut first = 0;
            for (n, end) in cuts.iter().enumerate() {
                let last = end - 1;
                lines += &format!("{n:040} 10.0.0.1:1@2 master - 0 0 1 connected {first}-{last}\n");
                first = *end;
            }
            lines
        };
        let cuts: Vec<u16> = cuts.into_iter().collect();
        let mut other = cuts.clone();
        other[moved] += 1;
        prop_assume!(other.windows(2).all(|pair| pair[0] < pair[1]));
        let signature = |cuts: &[u16]| view(&text(cuts)).slots_signature();
        prop_assert_eq!(signature(&cuts), signature(&cuts));
        prop_assert_ne!(signature(&cuts), signature(&other));
    }
}

/// xorshift64*: the same inputs in every run, on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides
    }

    fn slice<'a>(&mut self, text: &'a [u8], longest: usize) -> &'a [u8] {
        let start = self.roll(text.len() + 1);
        let length = self.roll(longest.min(text.len() - start) + 1);
        &text[start..start + length]
    }

    fn mutate(&mut self, text: &mut Vec<u8>, other: &[u8]) {
        const SPICE: [&[u8]; 23] = [
            b" ",
            b"\n",
            b"\r\n",
            b"\0",
            b"\x1b[0m",
            b"\xff",
            b"-",
            b",",
            b":",
            b"@",
            b"[",
            b"]",
            b"->-",
            b"-<-",
            b"=",
            b"myself,",
            b"16384",
            b"5-3",
            b"99999999999999999999",
            b"fail",
            b"noaddr",
            b"+1",
            "\u{202e}é\u{2028}\u{feff}".as_bytes(),
        ];
        for _ in 0..=self.roll(3) {
            let at = self.roll(text.len() + 1);
            match self.roll(5) {
                0 if at < text.len() => text[at] ^= 1 << self.roll(8),
                1 => {
                    let end = (at + self.roll(40)).min(text.len());
                    text.drain(at..end);
                }
                2 => {
                    let part = self.slice(other, 120);
                    text.splice(at..at, part.iter().copied());
                }
                3 => {
                    let part = SPICE[self.roll(SPICE.len())];
                    let end = (at + self.roll(3)).min(text.len());
                    text.splice(at..end, part.iter().copied());
                }
                _ => {
                    let end = (at + self.roll(60)).min(text.len());
                    let part = text[at..end].to_vec();
                    text.splice(at..at, part);
                }
            }
        }
    }
}

/// A million damaged replies: each gives an error or a valid value, never a panic.
#[test]
fn a_million_damaged_replies() {
    const SEED: u64 = 0x5eed_7000;
    const THREADS: u64 = 4;
    const EACH: usize = 250_000;
    let texts = |kind: &str, situations: &[&str]| -> Vec<Vec<u8>> {
        let mut texts = Vec::new();
        for server in SERVERS {
            for situation in situations {
                texts.push(fixture(kind, &format!("{server}.{situation}")).into_bytes());
            }
        }
        texts
    };
    let small = ["fresh", "announced-ports", "ipv6"];
    let large = ["handshake", "open-source", "noaddr"];
    let families = [
        texts("cluster-info", &["fresh", "six-master"]),
        texts("info", &["fresh", "six-replica"]),
        texts("cluster-nodes", &large),
        texts("cluster-nodes", &small),
    ];
    std::thread::scope(|scope| {
        for n in 0..THREADS {
            let families = &families;
            scope.spawn(move || bend(SEED + n, EACH, families));
        }
    });
}

fn bend(seed: u64, inputs: usize, families: &[Vec<Vec<u8>>; 4]) {
    let mut dice = Dice(seed);
    let mut pool = EntryPool::default();
    let (mut good, mut bad) = (0, 0);
    for n in 0..inputs {
        let family = (n % 8).min(3);
        let texts = &families[family];
        let one = &texts[dice.roll(texts.len())];
        let other = &texts[dice.roll(texts.len())];
        let mut text = match family {
            0 | 1 => dice.slice(one, 300).to_vec(),
            _ => one.clone(),
        };
        dice.mutate(&mut text, other);
        let text = String::from_utf8_lossy(&text);
        let is_sane = match family {
            0 => {
                ClusterInfo::parse(&text);
                true
            }
            1 => is_clean(Info::parse(&text).run_id.as_deref()),
            _ => match pool.view(&text) {
                Ok(view) => {
                    good += 1;
                    is_sane(&view)
                }
                Err(error) => {
                    bad += 1;
                    is_clean(Some(&error.to_string()))
                }
            },
        };
        assert!(is_sane, "seed {seed:#x}, input {n}: {text:?}");
        if n % 1000 == 0 {
            pool = EntryPool::default();
        }
    }
    // Some of them were errors, some were not.
    let few = inputs / 20;
    assert!(good > few && bad > few, "{good} good, {bad} bad");
}

fn is_clean(text: Option<&str>) -> bool {
    !text.is_some_and(|text| text.contains(is_unsafe))
}

fn is_sane(view: &View) -> bool {
    let mut entries = view.entries();
    entries.all(|entry| {
        is_clean(entry.addr.as_ref().map(Addr::host))
            && is_clean(entry.hostname.as_deref())
            && entry
                .slots
                .is_sorted_by(|one, next| one.end() < next.start())
    }) && view.entry(view.myself().id).is_some()
        && view.entries().is_sorted_by_key(|entry| entry.id)
}

#[test]
fn slots_in_transit_hide_keys() {
    let hides = |text: &str| ClusterInfo::parse(text).hides_keys();
    assert!(!hides(
        "cluster_state:ok\r\ncluster_slot_migration_active_tasks:0\r\n"
    ));
    assert!(hides("cluster_slot_migration_active_tasks:1\r\n"));
    assert!(hides("cluster_slot_migration_active_trim_running:2\r\n"));
    // Statistics of the past are no state.
    assert!(!hides(
        "cluster_slot_migration_stats_active_trim_started:7\r\n"
    ));
    assert!(!hides("cluster_slot_migration_active_tasks:?\r\n"));
}

/// CLUSTER INFO of a node on the Raft bus.
fn raft_info(role: &str, leader: &str, size: usize) -> ClusterInfo {
    ClusterInfo::parse(&format!(
        "cluster_state:ok\r\ncluster_known_nodes:3\r\ncluster_size:{size}\r\ncluster_raft_role:{role}\r\n\
         cluster_raft_current_term:2\r\ncluster_raft_leader:{leader}\r\n"
    ))
}

#[test]
fn ok_without_a_raft_leader_is_not_trusted() {
    let leader = "a".repeat(40);
    let info = raft_info("follower", &leader, 3);
    let raft = info.raft.unwrap();
    assert!(info.ok);
    assert_eq!((raft.role, raft.voters), (RaftRole::Follower, 3));
    assert_eq!(raft.leader, leader.parse().ok());
    for nobody in ["", &"0".repeat(40), "?", "\u{1b}[2J"] {
        let info = raft_info("candidate", nobody, 3);
        assert!(!info.ok && info.raft.unwrap().leader.is_none(), "{nobody}");
    }
    assert_eq!(
        raft_info("witness", &leader, 3).raft.unwrap().role,
        RaftRole::Other
    );
    let gossip = ClusterInfo::parse("cluster_state:ok\r\ncluster_size:3\r\n");
    assert_eq!((gossip.ok, gossip.raft), (true, None));
}

#[test]
fn raft_fields_beside_a_table_of_gossip_are_refused() {
    let id = |letter: &str| letter.repeat(40);
    let table = |flags: [&str; 3]| {
        let [one, two, three] = flags;
        format!(
            "{} 127.0.0.1:7000@17000 myself,{one} - 0 0 1 connected 0-16383\n\
             {} 127.0.0.1:7001@17001 {two} - 0 0 2 connected\n\
             {} 127.0.0.1:7002@17002 {three} - 0 0 3 connected\n",
            id("a"),
            id("b"),
            id("c")
        )
    };
    let judged = |flags, leader: &str, size| {
        let view = EntryPool::default().view(&table(flags)).unwrap();
        check_raft(&view, &raft_info("leader", leader, size).raft.unwrap())
            .map_err(|error| error.to_string())
    };
    assert_eq!(judged(["master"; 3], &id("a"), 3), Ok(()));
    assert_eq!(
        judged(["master", "master", "master,learner"], &id("b"), 2),
        Ok(())
    );
    // A node that was met is no member yet.
    assert_eq!(
        judged(["master", "handshake", "master"], &id("a"), 2),
        Ok(())
    );
    for (flags, leader, size, why) in [
        // Gossip counts masters with slots.
        (
            ["master"; 3],
            id("a"),
            1,
            "3 of its 3 nodes are no learners",
        ),
        (["master", "master,fail?", "master"], id("a"), 3, "fail?"),
        (["master"; 3], id("d"), 3, "no line for the leader dddddddd"),
    ] {
        let error = judged(flags, &leader, size).unwrap_err();
        assert!(
            error.contains(why) && error.contains("can't be told"),
            "{error}"
        );
    }
}
