//! `import` from another cluster, also while its slots move and its masters fail.

use redis::Value;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Running, Signal, Trib};
use crate::support::dataset::{self, difference, digest};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{Server, Spec, versions};
use crate::support::slots::{assert_closed, owned, setslot, slot_of};
use crate::support::wait::{PATIENCE, until};

/// Six nodes: three masters with a replica each.
fn with_replicas(spec: &Spec) -> (Nodes, Vec<Proxy>) {
    let (nodes, proxies) = Nodes::behind_proxies(6, spec);
    nodes.form(3);
    (nodes, proxies)
}

fn import(from: &str, node: &str) -> Trib {
    Trib::new().args(["import", "--from", from, node, "--yes"])
}

/// Strings `key:0`…, on their owners.
fn fill(nodes: &Nodes, count: usize) {
    for master in nodes.iter().filter(|server| !owned(server).is_empty()) {
        let ranges = owned(master);
        let mut pipe = redis::pipe();
        for n in 0..count {
            let key = format!("key:{n}");
            let slot = slot_of(key.as_bytes());
            if ranges
                .iter()
                .any(|(first, last)| (*first..=*last).contains(&slot))
            {
                pipe.cmd("SET").arg(key).arg(format!("value {n}")).ignore();
            }
        }
        pipe.query::<()>(&mut master.connection().unwrap()).unwrap();
    }
}

fn masters(nodes: &Nodes) -> impl Iterator<Item = &Server> {
    let is_master = |server: &&Server| server.field("role").as_deref() == Some("master");
    nodes.iter().filter(is_master)
}

fn keys(nodes: &Nodes) -> usize {
    let sizes = masters(nodes).map(|master| match master.cmd(&["DBSIZE"]) {
        Value::Int(keys) => usize::try_from(keys).unwrap(),
        other => panic!("{other:?}"),
    });
    sizes.sum()
}

#[test]
fn matrix_every_type_arrives_from_a_cluster() {
    for version in versions() {
        let spec = Spec::new().quick().version(version);
        let (source, target) = (three(&spec), three(&spec));
        dataset::fill(&source);
        let was = digest(&source);
        let run = |args: &[&str]| {
            import(&source[1].addr(), &target[0].addr())
                .args(args)
                .run()
        };
        run(&["--verify"])
            .status(0)
            .stdout_has("of the cluster of ")
            .stdout_has("3 masters of the source are read side by side")
            .stdout_has(&format!("{} keys copied", was.len()))
            .stdout_has(&format!("{} keys the same", was.len()));
        assert_eq!(difference(&was, &digest(&target)), [""; 0], "{version}");
        run(&["--fail-fast"]).status(0).stdout_has("0 keys copied");
        for node in &*target {
            node.cmd(&["FLUSHALL"]);
        }
        run(&["--move"]).status(0).stdout_has("keys moved");
        assert_eq!(
            difference(&was, &digest(&target)),
            [""; 0],
            "{version}: moved"
        );
        assert_eq!(digest(&source).len(), 0, "{version}");
    }
}

/// The scan of the first master has begun, and stalls.
fn stalled_import(proxies: &[Proxy], source: &Nodes, target: &Nodes) -> Running {
    proxies[0].stall_at("SCAN", 3);
    let running = import(&source[1].addr(), &target[0].addr()).spawn();
    assert!(proxies[0].wait_stalled(PATIENCE));
    running
}

#[test]
fn slots_that_move_while_they_are_read_are_read_again() {
    let spec = Spec::new().quick();
    let (source, proxies) = Nodes::behind_proxies(3, &spec);
    source.form(3);
    let target = three(&spec);
    fill(&source, 12_000);
    // The other masters were read by the time at which the slots arrive there.
    let running = stalled_import(&proxies, &source, &target);
    let first = owned(&source[0])[0].0;
    for slot in first..first + 200 {
        // Directly, not through the proxy that stalls.
        let (from, to) = (&source[0], &source[2]);
        open_slot(from, to, slot);
        move_keys(from, to, slot);
        close_slot(from, to, slot);
    }
    proxies[0].resume();
    running.wait().status(0);
    assert_eq!(keys(&source), 12_000);
    assert_eq!(difference(&digest(&source), &digest(&target)), [""; 0]);
}

/// The keys of an open slot, moved to its target.
fn move_keys(from: &Server, to: &Server, slot: usize) {
    let keys = from.cmd(&["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000"]);
    let keys: Vec<String> = redis::from_redis_value(keys).unwrap();
    let port = to.port().to_string();
    for key in keys {
        from.cmd(&["MIGRATE", to.host(), &port, &key, "0", "5000"]);
    }
}

fn open_slot(from: &Server, to: &Server, slot: usize) {
    setslot(to, slot, &["IMPORTING", &from.id()]);
    setslot(from, slot, &["MIGRATING", &to.id()]);
}

fn close_slot(from: &Server, to: &Server, slot: usize) {
    setslot(to, slot, &["NODE", &to.id()]);
    setslot(from, slot, &["NODE", &to.id()]);
}

#[test]
fn a_slot_that_closes_between_the_looks_at_both_nodes_is_read() {
    let spec = Spec::new().quick();
    let (source, proxies) = Nodes::behind_proxies(3, &spec);
    source.form(3);
    let target = three(&spec);
    fill(&source, 12_000);
    let (from, to) = (&source[0], &source[2]);
    let has_keys =
        |slot: &usize| from.text(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) != "0";
    let (first, last) = owned(from)[0];
    let slot = (first..=last).find(has_keys).unwrap();
    let running = stalled_import(&proxies, &source, &target);
    open_slot(from, to, slot);
    move_keys(from, to, slot);
    let looks = || to.text(&["INFO", "commandstats"]);
    let calls = |stats: &str| {
        let line = stats.lines().find(|line| line.contains("cluster|nodes:"));
        let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
        calls.map_or(0, |calls| calls.parse::<usize>().unwrap())
    };
    let before = calls(&looks());
    proxies[0].stall_at("CLUSTER NODES", 1);
    proxies[0].resume();
    assert!(proxies[0].wait_stalled(PATIENCE));
    until("the target of the slot to answer", PATIENCE, || {
        match calls(&looks()) > before {
            true => Ok(()),
            false => Err(looks()),
        }
    });
    close_slot(from, to, slot);
    proxies[0].resume();
    running.wait().status(0);
    assert_eq!(keys(&source), 12_000);
    assert_eq!(difference(&digest(&source), &digest(&target)), [""; 0]);
}

/// `-ASK 3999 :6381`.
#[test]
fn redirections_without_a_host_are_followed() {
    let spec = Spec::new().quick();
    let (source, target) = (three(&spec), three(&spec));
    fill(&source, 6000);
    for node in source.iter().chain(target.iter()) {
        let option = "cluster-preferred-endpoint-type";
        node.cmd(&["CONFIG", "SET", option, "unknown-endpoint"]);
    }
    let slot = slot_of(b"key:0");
    let has = |node: &&Server| {
        let mut ranges = owned(node).into_iter();
        ranges.any(|(first, last)| (first..=last).contains(&slot))
    };
    // Both clusters have the slot open.
    for nodes in [&source, &target] {
        let from = nodes.iter().find(has).unwrap();
        let to = nodes.iter().find(|node| node.id() != from.id()).unwrap();
        open_slot(from, to, slot);
        move_keys(from, to, slot);
    }
    import(&source[1].addr(), &target[0].addr()).run().status(0);
    assert_eq!(keys(&source), 6000);
    assert_eq!(keys(&target), 6000);
}

#[test]
fn a_source_under_reshard_is_read_as_a_whole_in_the_matrix() {
    for version in ["redis-7.0", "redis-8.10", "valkey-9.1"] {
        if !versions().contains(&version) {
            continue;
        }
        let spec = Spec::new().quick().version(version);
        let (source, target) = (three(&spec), three(&spec));
        fill(&source, 20_000);
        let reshard = |from: usize, to: usize| {
            Trib::new()
                .args([
                    "reshard",
                    &source[1].addr(),
                    "--slots",
                    "1500",
                    "--from",
                    &source[from].id(),
                ])
                .args(["--to", &source[to].id(), "--yes"])
                .spawn()
        };
        for (from, to) in [(0, 2), (2, 1), (1, 0)] {
            let moving = reshard(from, to);
            import(&source[1].addr(), &target[0].addr())
                .args(["--verify"])
                .run()
                .status(0)
                .stdout_has("keys the same");
            moving.wait().status(0);
            assert_eq!(keys(&target), 20_000, "{version}");
            for node in &*target {
                node.cmd(&["FLUSHALL"]);
            }
        }
        assert_closed(&source);
    }
}

#[test]
fn a_master_that_fails_while_it_is_read_is_replaced_by_its_replica() {
    let spec = Spec::new().quick();
    let (source, proxies) = with_replicas(&spec);
    let target = three(&spec);
    fill(&source, 6000);
    until("the replicas to have all keys", PATIENCE, || {
        let sizes: Vec<String> = source.iter().map(|node| node.text(&["DBSIZE"])).collect();
        match sizes
            .iter()
            .map(|size| size.parse::<usize>().unwrap())
            .sum::<usize>()
        {
            12_000 => Ok(()),
            _ => Err(format!("{sizes:?}")),
        }
    });
    proxies[0].stall_at("SCAN", 2);
    let running = import(&source[1].addr(), &target[0].addr()).spawn();
    assert!(proxies[0].wait_stalled(PATIENCE));
    source[0].kill();
    proxies[0].resume();
    running.wait().status(0);
    assert_eq!(keys(&target), 6000);
}

/// A transaction that deleted the keys, and whose reply did not come.
#[test]
fn keys_whose_deletion_was_not_answered_have_moved() {
    let spec = Spec::new().quick();
    let (source, proxies) = Nodes::behind_proxies(3, &spec);
    source.form(3);
    let target = three(&spec);
    fill(&source, 60);
    let was = digest(&source);
    for proxy in &proxies {
        proxy.cut(Cut::after("EXEC").nth(2));
    }
    import(&source[0].addr(), &target[0].addr())
        .args(["--move"])
        .run()
        .status(0)
        .stdout_has("[OK] 60 keys moved");
    assert_eq!(keys(&source), 0);
    assert_eq!(difference(&was, &digest(&target)), [""; 0]);
}

#[test]
fn replicas_are_read_if_the_user_says_so() {
    let spec = Spec::new().quick();
    let (source, proxies) = with_replicas(&spec);
    let target = three(&spec);
    fill(&source, 1000);
    until("the replicas to be in sync", PATIENCE, || {
        let sizes: Vec<String> = source.iter().map(|node| node.text(&["DBSIZE"])).collect();
        match sizes
            .iter()
            .map(|size| size.parse::<usize>().unwrap())
            .sum::<usize>()
        {
            2000 => Ok(()),
            _ => Err(format!("{sizes:?}")),
        }
    });
    for proxy in &proxies {
        proxy.forget_commands();
    }
    import(&source[0].addr(), &target[0].addr())
        .arg("--from-replicas")
        .run()
        .status(0)
        .stdout_has("Replicas of the source are read");
    for (n, proxy) in proxies.iter().enumerate() {
        let dumps = proxy.count("DUMP");
        assert_eq!(
            dumps > 0,
            source[n].field("role").as_deref() == Some("slave"),
            "node {n}: {dumps}"
        );
    }
    let masters = digest(&source[..3]);
    assert_eq!(difference(&masters, &digest(&target)), [""; 0]);
    let (from, node) = (source[0].addr(), target[0].addr());
    import(&from, &node)
        .args(["--from-replicas", "--move"])
        .run()
        .status(2);
    let lone = Spec::new().plain().start();
    import(&lone.addr(), &node)
        .arg("--from-replicas")
        .run()
        .status(3)
        .stderr_has("is a standalone server");
}

#[test]
fn killed_and_run_again() {
    let spec = Spec::new().quick();
    let (source, proxies) = Nodes::behind_proxies(3, &spec);
    source.form(3);
    let target = three(&spec);
    fill(&source, 3000);
    let was = digest(&source);
    for (command, nth, moves) in [
        ("SCAN", 1, false),
        ("DUMP", 300, false),
        ("DUMP", 400, true),
        ("MULTI", 100, true),
    ] {
        proxies[1].stall_at(command, nth);
        let extra: &[&str] = if moves { &["--move"] } else { &[] };
        let running = import(&source[0].addr(), &target[0].addr())
            .args(extra)
            .spawn();
        assert!(proxies[1].wait_stalled(PATIENCE), "{command}");
        running.signal(Signal::SIGKILL);
        running.wait().killed_by(Signal::SIGKILL);
        proxies[1].resume();
    }
    import(&source[0].addr(), &target[0].addr())
        .arg("--move")
        .run()
        .status(0);
    assert_eq!(keys(&source), 0);
    assert_eq!(difference(&was, &digest(&target)), [""; 0]);
}

#[test]
fn clusters_that_can_not_be_a_source_are_refused() {
    let spec = Spec::new().quick();
    let (source, target) = (three(&spec), three(&spec));
    let (from, node) = (source[0].addr(), target[0].addr());
    import(&target[1].addr(), &node)
        .run()
        .status(3)
        .stderr_has("a node of the cluster itself");
    let empty = spec.start();
    import(&empty.addr(), &node)
        .run()
        .status(3)
        .stderr_has("without a cluster that serves slots");
    let slot = owned(&source[0])[0].0.to_string();
    source[1].cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source[0].id()]);
    source[0].cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &source[1].id()]);
    import(&from, &node)
        .arg("--move")
        .run()
        .status(3)
        .stderr_has("slots of the source cluster are open");
    import(&from, &node).run().status(0);
    source[2].kill();
    import(&from, &node)
        .args(["--settle-timeout", "1s"])
        .run()
        .status(3)
        .stderr_has("the source cluster can't be read as a whole");
}

#[test]
fn the_plan_for_a_source_of_one_master_says_so() {
    let source = Nodes::with(1, &Spec::new().quick());
    source.form(1);
    let nodes = three(&Spec::new().quick());
    let (from, node) = (source[0].addr(), nodes[0].addr());
    Trib::new()
        .args(["import", "--from", &from, &node, "--dry-run"])
        .run()
        .status(0)
        .stdout_has("The only master of the source is read.");
}
