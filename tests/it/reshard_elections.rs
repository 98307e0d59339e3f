//! `reshard` while a master that has no part in the move dies, and its replica is elected.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::Nodes;
use crate::support::command::{Running, Trib};
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::server::{Server, Spec, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;
use crate::support::views;
use crate::support::wait::{PATIENCE, until};

/// Three masters with a replica each; slots 0-199 of the first go to the second, slowly.
struct Setting {
    nodes: Nodes,
    before: Contents,
    /// The directory of the sockets of runs.
    runtime: tempfile::TempDir,
}

impl Setting {
    fn new(spec: &Spec) -> Self {
        let nodes = Nodes::with(6, spec);
        nodes.form(3);
        fill(&nodes[..3], &names((0..200).chain(12_000..12_020), 20));
        let before = contents(&nodes);
        let runtime = tempfile::tempdir().unwrap();
        Self {
            nodes,
            before,
            runtime,
        }
    }

    /// Starts the move, and waits until it is under way. It takes 40 s: long enough for busy nodes to flag one that dies.
    #[track_caller]
    fn start(&self) -> Running {
        let first = self.moved();
        let run = reshard(&self.nodes[0])
            .args([
                "--slot-ranges",
                "0-199",
                "--to",
                &self.nodes[1].id(),
                "--yes",
            ])
            .args([
                "--strategy",
                "keys",
                "--max-open-slots",
                "4",
                "--rate",
                "100",
            ])
            .env("REDIS_TRIB_RUNTIME_DIR", directory(&self.runtime))
            .timeout(Duration::from_secs(180))
            .spawn();
        until("slots to move", Duration::from_secs(20), || {
            match self.moved() - first {
                now if now >= 8 => Ok(()),
                now => Err(now.to_string()),
            }
        });
        run
    }

    fn moved(&self) -> usize {
        slots_of(&self.nodes[1])
    }
}

#[test]
fn a_master_outside_of_the_move_is_replaced_by_its_replica() {
    let setting = Setting::new(&quick());
    let first = setting.moved();
    let run = setting.start();
    setting.nodes[2].kill();
    run.wait_stderr("an election");
    lift_rate(&setting.runtime);
    run.wait().status(0);
    assert_eq!(setting.moved() - first, 200);
    assert_eq!(setting.nodes[5].field("role").as_deref(), Some("master"));
    setting.nodes[2].restart();
    setting.nodes.wait_usable();
    assert_closed(&setting.nodes);
    assert_same(&setting.before, &contents(&setting.nodes));
}

/// The successor of a target owns its slots. That is no reason to wait for the target to own them.
#[test]
fn a_target_fails_over_after_its_slots_have_moved() {
    let Setting { nodes, before, .. } = Setting::new(&quick());
    let [source, one, two] = [0, 1, 2].map(|n: usize| nodes[n].id());
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    let moves = [(&one, "[[0,99]]"), (&two, "[[100,199]]")]
        .map(|(to, slots)| format!(r#"{{"from":"{source}","to":"{to}","slots":{slots}}}"#));
    let moves = moves.join(",");
    let text = format!(r#"{{"format":"redis-trib plan","version":1,"moves":[{moves}]}}"#);
    std::fs::write(&plan, text).unwrap();
    let first = [1, 2].map(|n: usize| slots_of(&nodes[n]));
    let run = Trib::new()
        .args(["apply", plan.to_str().unwrap(), &nodes[0].addr(), "--yes"])
        .args(["--strategy", "keys", "--rate", "200"])
        .timeout(Duration::from_secs(120))
        .spawn();
    // A source has one lane at a time.
    let done = until(
        "one target to have its slots",
        Duration::from_secs(40),
        || {
            let moved = [1, 2].map(|n: usize| slots_of(&nodes[n]) - first[n - 1]);
            let done = moved.iter().position(|moved| *moved == 100);
            done.map(|at| at + 1).ok_or(format!("{moved:?}"))
        },
    );
    // A slot of which nobody else has heard yet would have no owner, or its old one.
    let target = nodes[done].id();
    for node in [&nodes[0], &nodes[done + 3]] {
        until("others to know the new owner", PATIENCE, || {
            let knows_all = slots_seen_by(node, &target) == first[done - 1] + 100;
            knows_all.then_some(()).ok_or_else(|| node.nodes_text())
        });
    }
    nodes[done].kill();
    // The other target may have its slots before it hears of the death.
    run.wait().status(0);
    nodes[done].restart();
    nodes.wait_usable();
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

fn slots_of(node: &Server) -> usize {
    owned(node).iter().map(|(a, b)| b - a + 1).sum()
}

/// How many slots that node has, as this one sees it.
fn slots_seen_by(node: &Server, id: &str) -> usize {
    let slots = views::lines(node)
        .into_iter()
        .find(|line| line[0] == id)
        .map(|line| line[8..].to_vec());
    let ranges = slots.unwrap_or_default();
    let size = |range: &String| -> usize {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<usize>().unwrap();
        number(last) - number(first) + 1
    };
    // Without the open ones, of which the node itself tells.
    let closed = ranges.iter().filter(|range| !range.starts_with('['));
    closed.map(size).sum()
}

fn directory(runtime: &tempfile::TempDir) -> String {
    runtime.path().join("redis-trib").display().to_string()
}

fn lift_rate(runtime: &tempfile::TempDir) {
    Trib::new()
        .args(["throttle", "--rate", "off"])
        .env("REDIS_TRIB_RUNTIME_DIR", directory(runtime))
        .run()
        .status(0);
}

#[test]
fn a_master_without_a_replica_is_not_waited_for() {
    let setting = Setting::new(&quick());
    setting.nodes[5].kill();
    until(
        "its replica to be flagged",
        Duration::from_secs(20),
        || match setting.nodes[0].nodes_text().contains("fail ") {
            true => Ok(()),
            false => Err(setting.nodes[0].nodes_text()),
        },
    );
    let run = setting.start();
    setting.nodes[2].kill();
    run.wait_within(Duration::from_secs(30))
        .status(6)
        .stderr_has("cluster_state:fail")
        .stderr_lacks("an election");
}

#[test]
fn two_elections_while_one_slot_is_open() {
    let nodes = Nodes::with(6, &quick());
    nodes.form(3);
    // For a minute: the second one dies after 17 s or later.
    fill(&nodes[..3], &names([7], 3_000));
    let before = contents(&nodes);
    let runtime = tempfile::tempdir().unwrap();
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "7", "--to", &nodes[1].id(), "--yes"])
        .args(["--strategy", "keys", "--rate", "50", "--pipeline", "5"])
        .env("REDIS_TRIB_RUNTIME_DIR", directory(&runtime))
        .timeout(Duration::from_secs(120))
        .spawn();
    until("keys to move", Duration::from_secs(20), || {
        match nodes[1].cmd(&["CLUSTER", "COUNTKEYSINSLOT", "7"]) {
            redis::Value::Int(0) => Err("none".to_string()),
            _ => Ok(()),
        }
    });
    let first = Instant::now();
    nodes[2].kill();
    run.wait_stderr("an election");
    wait_role(&nodes[5], "master");
    nodes[2].restart();
    wait_role(&nodes[2], "slave");
    until(
        "the replica to be in sync",
        Duration::from_secs(20),
        || match nodes[2].field("master_link_status").as_deref() {
            Some("up") => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    // Longer than an election may take since the first, and since the slot was opened.
    thread::sleep(Duration::from_secs(17).saturating_sub(first.elapsed()));
    nodes[5].kill();
    wait_role(&nodes[2], "master");
    lift_rate(&runtime);
    run.wait().status(0);
    nodes[5].restart();
    nodes.wait_usable();
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[track_caller]
fn wait_role(server: &Server, wanted: &str) {
    until(wanted, Duration::from_secs(20), || {
        match server.field("role").as_deref() {
            Some(role) if role == wanted => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}
