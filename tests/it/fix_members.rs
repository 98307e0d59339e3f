//! `fix` and members: dead masters, replicas without a master, nodes of which only an id is known;
//! and being killed in the middle.

use std::thread;
use std::time::Duration;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Signal, Trib};
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::proxy::{Cut, Proxy};
use crate::support::server::{Server, Spec, fault_versions, quick, versions};
use crate::support::slots::{assert_closed, names, owned, setslot};
use crate::support::subcommands::fix;
use crate::support::views::{is_held_for_dead, is_struck_out};
use crate::support::wait::{PATIENCE, until};

#[test]
fn a_dead_master_with_a_replica() {
    // Replicas of their own accord wait for a link that is younger than this.
    let nodes = Nodes::with(4, &quick().arg("--cluster-replica-no-failover", "yes"));
    nodes.form(3);
    fill(&nodes[..3], &names(0..20, 1));
    let before = contents(&nodes);
    let dead = nodes[0].id();
    until("the replica to have it all", PATIENCE, || {
        let size = nodes[3].text(&["DBSIZE"]);
        if size == "20" { Ok(()) } else { Err(size) }
    });
    nodes[0].kill();
    is_held_for_dead(&nodes[1], &dead);
    fix(&nodes[1])
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("can't be asked")
        .stderr_has("which has 20 keys")
        .stderr_has("--failover force");
    // What a replica has is not given up, whatever the flags say.
    fix(&nodes[1])
        .args(["--yes", "--accept-data-loss", "0-16383"])
        .run()
        .status(3)
        .stderr_has("--failover force");
    fix(&nodes[1])
        .args(["--yes", "--failover", "force"])
        .run()
        .status(0);
    assert_same(&before, &contents(&nodes[1..]));
}

#[test]
fn a_master_lost_for_good() {
    let nodes = three(&quick());
    fill(&nodes, &names(0..20, 1));
    let dead = nodes[0].id();
    nodes[0].kill();
    is_held_for_dead(&nodes[1], &dead);
    fix(&nodes[1])
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("--accept-data-loss 0-5460");
    let line = || fix(&nodes[1]).args(["--accept-data-loss", "0-5460"]);
    line()
        .arg("--dry-run")
        .run()
        .status(0)
        .stdout_has(&format!("{} ({})", nodes[0].addr(), &dead[..8]))
        .stdout_has("is lost");
    line().arg("--yes").run().status(0);
    let covered = Trib::new().args(["check", &nodes[1].addr()]).run();
    covered.stdout_has("[OK] All 16384 slots covered.");
}

#[test]
fn a_target_that_died_and_was_replaced_matrix() {
    for version in versions() {
        a_target_that_died_and_was_replaced(&quick().version(version));
    }
}

/// In some slots no key had moved yet, so their keys do not show which node replaced the target.
fn a_target_that_died_and_was_replaced(spec: &Spec) {
    let nodes = Nodes::with(6, spec);
    nodes.form(3);
    fill(&nodes[..3], &names(5..15, 3));
    let before = contents(&nodes);
    let [a, b] = [nodes[0].id(), nodes[1].id()];
    for slot in 5..15 {
        setslot(&nodes[1], slot, &["IMPORTING", &a]);
        setslot(&nodes[0], slot, &["MIGRATING", &b]);
    }
    let keys = names(5..8, 2);
    let words = [
        "MIGRATE",
        "127.0.0.1",
        &nodes[1].port().to_string(),
        "",
        "0",
        "5000",
        "KEYS",
    ];
    for pair in keys.chunks(2) {
        let pair: Vec<&str> = pair.iter().map(String::as_str).collect();
        nodes[0].cmd(&[&words[..], &pair].concat());
    }
    // Its replica has them.
    assert_eq!(nodes[1].text(&["WAIT", "1", "5000"]), "1");
    until("its replica to have them", PATIENCE, || {
        let [here, there] = [1, 4].map(|node: usize| nodes[node].field("master_repl_offset"));
        match here == there {
            true => Ok(()),
            false => Err(format!("{here:?} {there:?} on {}", nodes[4].version())),
        }
    });
    nodes[1].kill();
    until("its replica to take over", PATIENCE, || {
        match nodes[4].field("role").unwrap().as_str() {
            "master" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
    fix(&nodes[0]).arg("--yes").run().status(0);
    for node in [0, 2, 3, 4, 5] {
        let text = nodes[node].nodes_text();
        assert!(!text.contains("->-") && !text.contains("-<-"), "{text}");
    }
    assert_eq!(owned(&nodes[4])[0], (5, 14));
    let alive: Vec<_> = nodes
        .into_iter()
        .enumerate()
        .filter(|(n, _)| *n != 1)
        .map(|(_, node)| node)
        .collect();
    assert_same(&before, &contents(&alive));
}

#[test]
fn replicas_of_replicas_and_nodes_without_an_address() {
    let nodes = Nodes::with(5, &quick());
    nodes.form(3);
    // Made a replica of a replica: servers refuse that, and it happens when its master becomes one.
    let refused = nodes[4].try_cmd(&["CLUSTER", "REPLICATE", &nodes[3].id()]);
    assert!(refused.is_err());
    // A node whose address another one has.
    let lost = nodes[4].id();
    nodes[4].kill();
    nodes[4].start_anew();
    for node in &nodes[..4] {
        is_struck_out(node, &lost);
    }
    let plan = fix(&nodes[0]).args(["--dry-run", "-o", "json"]).run();
    let plan = plan.status(0).json_lines();
    assert_eq!(plan[0]["remedies"][0]["code"], "forget", "{plan:?}");
    let warnings = plan[0]["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|one| one["code"] == "single-host"));
    fix(&nodes[0]).arg("--yes").run().status(0);
    for node in &nodes[..4] {
        assert!(!node.nodes_text().contains(&lost));
    }
}

/// Two masters behind proxies, with slots in every state that takes several steps.
struct Broken {
    nodes: Nodes,
    proxies: Vec<Proxy>,
    before: Contents,
}

impl Broken {
    fn new(spec: &Spec) -> Self {
        let (nodes, proxies) = Nodes::behind_proxies(2, spec);
        nodes.form(2);
        fill(&nodes, &names(10..16, 4));
        let before = contents(&nodes);
        let broken = Self {
            nodes,
            proxies,
            before,
        };
        broken.break_it();
        broken
    }

    /// Slots 10 and 11 are moving; 12 and 13 are importing, but not migrating at their owner; 14 and
    /// 15 have no owner.
    fn break_it(&self) {
        let has = |node: &Server, slot: &str| {
            let keys = node.text(&["CLUSTER", "COUNTKEYSINSLOT", slot]);
            keys != "0"
        };
        for slot in ["10", "11", "12", "13", "14", "15"] {
            let from = usize::from(!has(&self.nodes[0], slot));
            let (owner, other) = (&self.nodes[from], &self.nodes[1 - from]);
            let set = |node: &Server, words: [&str; 2]| {
                node.cmd(&["CLUSTER", "SETSLOT", slot, words[0], words[1]]);
            };
            match slot {
                "10" | "11" => {
                    set(other, ["IMPORTING", &owner.id()]);
                    set(owner, ["MIGRATING", &other.id()]);
                }
                "12" | "13" => set(other, ["IMPORTING", &owner.id()]),
                _ => {
                    for node in self.nodes.iter() {
                        let _ = node.try_cmd(&["CLUSTER", "DELSLOTS", slot]);
                    }
                }
            }
        }
    }

    fn fix(&self) -> Trib {
        Trib::new()
            .args(["fix", &self.proxies[0].addr(), "--yes"])
            .args(["--pipeline", "2", "--command-timeout", "3s"])
            // Longer than its own waits, which say what is missing.
            .timeout(Duration::from_secs(180))
    }

    #[track_caller]
    fn is_mended(&self) {
        self.fix().run().status(0);
        assert_closed(&self.nodes);
        assert_same(&self.before, &contents(&self.nodes));
    }
}

const COMMANDS: [&str; 4] = [
    "CLUSTER SETSLOT",
    "MIGRATE",
    "CLUSTER BUMPEPOCH",
    "CLUSTER GETKEYSINSLOT",
];

#[test]
fn killed_and_cut_off_at_each_command_on_each_version() {
    for version in fault_versions() {
        let spec = quick().version(version);
        thread::scope(|scope| {
            for command in COMMANDS {
                let spec = &spec;
                scope.spawn(move || killed_and_cut_off_at(command, &Broken::new(spec)));
            }
        });
    }
}

/// Whether it comes to that command before it has ended.
fn stalls(proxy: &Proxy, pid: u32) -> bool {
    let has_ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| stat.contains(") Z "))
    };
    until(
        "it to come to that command, or to its end",
        PATIENCE,
        || match (proxy.wait_stalled(Duration::from_millis(100)), has_ended()) {
            (true, _) => Ok(true),
            (false, true) => Ok(false),
            (false, false) => Err("neither".to_owned()),
        },
    )
}

/// On both nodes, at the first, the second and so on, until there are no more of them.
fn killed_and_cut_off_at(command: &str, broken: &Broken) {
    // The long form takes minutes.
    let most = match std::env::var_os("REDIS_TRIB_FAULTS") {
        Some(_) => 8,
        None => 2,
    };
    let mut reached = 0;
    for proxy in &broken.proxies {
        for nth in 1..=most {
            proxy.stall_at(command, nth);
            let run = broken.fix().spawn();
            let stalled = stalls(proxy, run.pid());
            run.signal(Signal::SIGKILL);
            run.wait();
            // What it had sent is carried out after its death.
            proxy.resume();
            proxy.disarm();
            broken.is_mended();
            broken.break_it();
            if !stalled {
                break;
            }
            reached += 1;
            let cut = [Cut::before, Cut::after][nth % 2];
            proxy.cut(cut(command).nth(nth).reset());
            broken.fix().run();
            proxy.disarm();
            broken.is_mended();
            broken.break_it();
        }
    }
    assert!(reached > 0, "{command} never came");
}
