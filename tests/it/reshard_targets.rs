//! `reshard` when an end of the move does not take writes for a while: it loads its data, misses a part
//! of the cluster, follows another master, or refuses to write.

use std::thread;
use std::time::Duration;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Ended, Finished, Running, Trib};
use crate::support::counting_writers::Writers;
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::server::{Server, Spec, fault_versions, quick};
use crate::support::slots::{assert_closed, forget_owner, names, owned, until_moved};
use crate::support::stopped_run::{assert_all_named, told};
use crate::support::subcommands::reshard;
use crate::support::wait::{PATIENCE, until};

/// Slots 0-99 on their way to one node, while clients write to them.
struct Move {
    nodes: Nodes,
    to: usize,
    before: Contents,
    writers: Writers,
}

impl Move {
    fn new(nodes: Nodes, to: usize) -> Self {
        fill(&nodes, &names(0..100, 20));
        let before = contents(&nodes);
        let keys = names((0..100).step_by(7), 1);
        let keys = keys.iter().map(|key| format!("{key}:w")).collect();
        let writers = Writers::start(&nodes.addrs(), vec![keys]);
        Self {
            nodes,
            to,
            before,
            writers,
        }
    }

    /// A node that is not an end of it leads.
    fn go(&self) -> Trib {
        let leads = (1..self.nodes.len()).find(|n| *n != self.to).unwrap();
        reshard(&self.nodes[leads])
            .args(["--slot-ranges", "0-99", "--to", &self.nodes[self.to].id()])
            .args(["--yes", "--command-timeout", "3s", "--max-open-slots", "4"])
            .args(["--strategy", "keys"])
    }

    /// Some slots have moved, and more are on their way: for more than half a minute, as nodes that are busy need some of
    /// it to find out that one has died.
    fn begun(&self) -> Running {
        let run = self.go().args(["--rate", "50"]).spawn();
        until_moved(&self.nodes[self.to], 8);
        run
    }

    /// The commands in the message continue the move, and no key is lost or changed.
    #[track_caller]
    fn goes_on(self, ended: &Finished) {
        self.nodes.wait_usable();
        assert_all_named(&ended.stderr, 100);
        let commands = told(&ended.stderr);
        assert!(!commands.is_empty(), "{}", ended.stderr);
        for command in commands {
            // The line has the rate of the run before, and the last one counts.
            let go_on = Trib::new().args(command).arg("--yes");
            go_on.args(["--rate", "100000"]).run().status(0);
        }
        self.has_moved_all();
    }

    #[track_caller]
    fn has_moved_all(self) {
        assert_closed(&self.nodes);
        let target = owned(&self.nodes[self.to]);
        assert_eq!(target[0], (0, 99));
        self.writers.finish(&self.nodes);
        let mut after = contents(&self.nodes);
        after.retain(|key, _| self.before.contains_key(key));
        assert_same(&self.before, &after);
    }
}

/// It stopped part-way, and says of each slot where it stands, and which node it was.
#[track_caller]
fn stopped(run: Running, by: &str) -> Finished {
    let ended = run.wait_within(Duration::from_secs(40)).status(6);
    assert_all_named(&ended.stderr, 100);
    ended.stderr_has(by)
}

/// As messages name it: `127.0.0.1:7000 (1977c4d4)`.
fn name(addr: &str, server: &Server) -> String {
    format!("{addr} ({})", &server.id()[..8])
}

#[test]
fn either_end_loads_its_data_on_each_version() {
    for version in fault_versions() {
        either_end_loads_its_data(&quick().version(version));
    }
}

fn either_end_loads_its_data(spec: &Spec) {
    thread::scope(|scope| {
        for victim in [0, 1] {
            scope.spawn(move || {
                // What was acknowledged is on disk, so that nothing may be lost here either.
                let disk = spec
                    .clone()
                    .node_timeout(20_000)
                    .arg("--appendonly", "yes")
                    .arg("--appendfsync", "always");
                let nodes = Nodes::with(3, &disk);
                nodes.form(3);
                // They take 80 s, so that it still loads after two runs.
                let slot = [200, 6000][victim];
                fill(&nodes, &names([slot], 40_000));
                let one = Move::new(nodes, 1);
                // Longer than the 2 s between two answers of a node that loads, on a busy machine too.
                let go_on = one.go().arg("--finish-open").args([
                    "--settle-timeout",
                    "1s",
                    "--command-timeout",
                    "10s",
                ]);
                let run = one.begun();
                let node = &one.nodes[victim];
                let name = name(&node.addr(), node);
                // It answers once in 1024 commands (2 s), and most of them by saying that it loads.
                node.restart_with(&["--key-load-delay", "2000"]);
                let ended = stopped(run, &name);
                let early = go_on.run().status(3).stderr_has(&name);
                let loading = node.field("loading").as_deref() == Some("1");
                assert!(loading, "it has loaded too fast");
                early.stderr_has("node-loading");
                // Seen; the rest is loaded at once.
                until("it to have loaded", Duration::from_secs(60), || {
                    let _ = node.try_cmd(&["CONFIG", "SET", "key-load-delay", "0"]);
                    match node.field("loading").as_deref() {
                        Some("0") => Ok(()),
                        other => Err(format!("{other:?}")),
                    }
                });
                one.goes_on(&ended);
            });
        }
    });
}

/// With cluster-require-full-coverage no node serves anything while a part of the slots has no owner.
#[test]
fn a_part_of_the_cluster_goes_down_on_each_version() {
    for version in fault_versions() {
        a_part_of_the_cluster_goes_down(&quick().version(version));
    }
}

fn a_part_of_the_cluster_goes_down(spec: &Spec) {
    let one = Move::new(walkthrough(spec), 3);
    let run = one.begun();
    let name = name(&one.nodes[2].addr(), &one.nodes[2]);
    one.nodes[2].kill();
    let ended = stopped(run, &format!("it misses {name}"));
    let early = reshard(&one.nodes[1])
        .args(["--slot-ranges", "0-99", "--to", &one.nodes[3].id()])
        .args(["--yes", "--finish-open"])
        .run()
        .status(3);
    early.stderr_has(&name);
    one.nodes[2].restart();
    one.goes_on(&ended);
}

/// Only the target misses a part of the slots, and only since it was looked at.
#[test]
fn the_target_alone_says_clusterdown_on_each_version() {
    for version in fault_versions() {
        the_target_alone_says_clusterdown(&quick().version(version));
    }
}

fn the_target_alone_says_clusterdown(spec: &Spec) {
    let (nodes, proxies) = Nodes::behind_proxies(3, &spec.clone().node_timeout(20_000));
    nodes.form(3);
    let one = Move::new(nodes, 1);
    proxies[0].stall_at("MIGRATE", 30);
    let run = one.go().args(["--command-timeout", "8s"]).spawn();
    assert!(proxies[0].wait_stalled(PATIENCE));
    // The owner of the slot is stopped, so the target does not learn of it again.
    one.nodes[2].stop();
    forget_owner(&one.nodes[1], 16_383);
    proxies[0].resume();
    let ended = run.wait_within(PATIENCE).status(6);
    assert_all_named(&ended.stderr, 100);
    let ended = ended
        .stderr_has("CLUSTERDOWN")
        .stderr_has(&name(&proxies[1].addr(), &one.nodes[1]))
        .stderr_has("it knows no owner of slots 16383");
    one.nodes[2].cont();
    one.goes_on(&ended);
}

/// A master without slots and keys may become a replica, and forgets what it imports.
#[test]
fn the_target_is_made_a_replica_on_each_version() {
    for version in fault_versions() {
        the_target_is_made_a_replica(&quick().version(version));
    }
}

fn the_target_is_made_a_replica(spec: &Spec) {
    // Before the login is tried, before SETSLOT at either node, and before the first key.
    let moments = [
        (0, "MIGRATE", 1, 3),
        // The target refuses the first command: nothing was changed.
        (3, "CLUSTER SETSLOT", 1, 3),
        (0, "CLUSTER SETSLOT", 1, 6),
        (0, "MIGRATE", 2, 6),
    ];
    thread::scope(|scope| {
        for (at, command, nth, code) in moments {
            scope.spawn(move || becomes_a_replica(spec, at, command, nth, code));
        }
    });
}

fn becomes_a_replica(spec: &Spec, at: usize, command: &str, nth: usize, code: i32) {
    let (nodes, proxies) = Nodes::behind_proxies(4, spec);
    nodes.form(4);
    // It gives its own slots away first, to a node that is no end of the move.
    let away = format!("{}-{}", owned(&nodes[3])[0].0, owned(&nodes[3])[0].1);
    nodes[3].cmd(&["CONFIG", "SET", "cluster-allow-replica-migration", "no"]);
    reshard(&nodes[1])
        .args(["--slot-ranges", &away, "--to", &nodes[2].id(), "--yes"])
        .run()
        .status(0);
    let mut one = Move::new(nodes, 3);
    let [target, master] = [3, 2].map(|n: usize| name(&proxies[n].addr(), &one.nodes[n]));
    proxies[at].stall_at(command, nth);
    let run = one.go().spawn();
    let stalled = proxies[at].wait_stalled(PATIENCE);
    assert!(stalled, "{command} number {nth}");
    let node = &one.nodes[3];
    let limit = Duration::from_secs(5);
    until("it to be made a replica", limit, || {
        node.try_cmd(&["CLUSTER", "REPLICATE", &one.nodes[2].id()])
            .map_err(|error| error.to_string())
    });
    proxies[at].resume();
    let ended = run.wait_within(Duration::from_secs(40)).status(code);
    assert_all_named(&ended.stderr, 100);
    let ended = ended.stderr_has(&target).stderr_has(&master);
    // It can't take slots any more, but its master can.
    one.to = 2;
    one.goes_on(&ended);
}

/// Every link takes its time, and for a while the one to the target takes longer than MIGRATE waits: what
/// it had sent arrives all the same, and is on both ends until the call is made again.
#[test]
fn links_that_are_slow_on_each_version() {
    for version in fault_versions() {
        links_that_are_slow(&quick().version(version));
    }
}

fn links_that_are_slow(spec: &Spec) {
    let (nodes, proxies) = Nodes::behind_proxies(3, spec);
    nodes.form(3);
    let one = Move::new(nodes, 1);
    let slow = |delay: u64| {
        for proxy in &proxies {
            proxy.delay_requests(Duration::from_millis(delay));
            proxy.delay_replies(Duration::from_millis(delay));
        }
    };
    slow(15);
    let run = one.go().args(["--timeout", "500ms"]).spawn();
    until_moved(&one.nodes[1], 8);
    proxies[1].delay_requests(Duration::from_millis(900));
    thread::sleep(Duration::from_millis(1500));
    slow(15);
    let ended = run.wait_within(Duration::from_secs(60));
    slow(0);
    match ended.status {
        Ended::Status(0) => one.has_moved_all(),
        _ => one.goes_on(&ended.status(6)),
    }
}

/// A server that wants replicas, or whose disk is full, refuses every write.
#[test]
fn the_target_refuses_to_write_on_each_version() {
    for version in fault_versions() {
        the_target_refuses_to_write(&quick().version(version));
    }
}

fn the_target_refuses_to_write(spec: &Spec) {
    let one = Move::new(walkthrough(spec), 3);
    let run = one.begun();
    one.nodes[3].cmd(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let ended = stopped(run, &name(&one.nodes[3].addr(), &one.nodes[3])).stderr_has("NOREPLICAS");
    one.nodes[3].cmd(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    one.goes_on(&ended);
}
