//! `fix --evict-foreign`: two clusters that became one, since a node of the one got the address of a
//! lost node of the other.

use std::time::Duration;

use crate::support::cluster::{Nodes, three};
use crate::support::command::{Signal, Trib};
use crate::support::proxy::Cut;
use crate::support::server::{Server, Spec, quick, versions};
use crate::support::slots::names;
use crate::support::subcommands::fix;
use crate::support::views::is_struck_out;
use crate::support::wait::{PATIENCE, until};

/// Links that are older by this much show which nodes belong together (`cluster::merger`).
const HEAD_START: Duration = Duration::from_millis(2500);

/// A run that waits until CLUSTER FORGET is over, and until nodes see each other.
const MEET_AGAIN: Duration = Duration::from_secs(180);

struct Merged {
    /// Three masters, and at the end the node whose address was taken: it is one of the others by now.
    ours: Nodes,
    /// Two more of the others.
    theirs: Nodes,
    /// The ids of the others.
    foreign: Vec<String>,
}

/// What the others own when they come in.
#[derive(Clone, Copy, PartialEq)]
enum Own {
    Nothing,
    /// One slot that none of our nodes owns.
    Slot,
}

const THEIRS: usize = 5;

impl Merged {
    fn new(spec: &Spec, own: Own) -> Self {
        Self::of(Nodes::with(4, spec), Nodes::with(2, spec), own)
    }

    fn of(ours: Nodes, theirs: Nodes, own: Own) -> Self {
        for index in 0..3 {
            let (from, to) = (index * 16384 / 3, (index + 1) * 16384 / 3 - 1);
            let slots = (from..=to).filter(|slot| own == Own::Nothing || *slot != THEIRS);
            ours.assign(index, slots);
        }
        for (index, node) in ours.iter().enumerate() {
            node.cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 11).to_string()]);
        }
        ours.join();
        for (node, slot) in ours.iter().zip([1, 6000, 12000]) {
            let key = &names([slot], 1)[0];
            until("it to serve", PATIENCE, || {
                let set = node.try_cmd(&["SET", key, "ours"]);
                set.map_err(|error| error.to_string()).map(drop)
            });
        }
        let lost = ours[3].id();
        ours[3].kill();
        // The others form a cluster, at that address too.
        ours[3].start_anew();
        let mut foreign = vec![ours[3].id()];
        foreign.extend(theirs.iter().map(Server::id));
        for (node, other) in [
            (&ours[3], &theirs[0]),
            (&ours[3], &theirs[1]),
            (&theirs[0], &theirs[1]),
        ] {
            meet(node, other);
        }
        if own == Own::Slot {
            theirs[0].cmd(&["CLUSTER", "ADDSLOTS", &THEIRS.to_string()]);
        }
        for node in ours.iter().take(3) {
            is_struck_out(node, &lost);
        }
        let merged = Self {
            ours,
            theirs,
            foreign,
        };
        merged.others_are_linked();
        // A link without an answer for half of it is opened again, and is young then.
        merged.set_node_timeout(15_000);
        std::thread::sleep(HEAD_START);
        let (ours, theirs) = (&merged.ours, &merged.theirs);
        meet(&ours[0], &ours[3]);
        for node in ours.iter().chain(theirs.iter()) {
            until("all to know all", PATIENCE, || {
                let text = node.nodes_text();
                let known = text
                    .lines()
                    .filter(|line| !line.contains("handshake") && !line.contains("noaddr"));
                if known.count() == 6 {
                    Ok(())
                } else {
                    Err(text)
                }
            });
        }
        merged
    }

    fn others(&self) -> impl Iterator<Item = &Server> {
        self.theirs.iter().chain([&self.ours[3]])
    }

    /// Waits until each of the others is linked to the rest of them.
    #[track_caller]
    fn others_are_linked(&self) {
        for node in self.others() {
            until("the others to be linked", PATIENCE, || {
                let text = node.nodes_text();
                let is_linked = |id: &String| {
                    let line = text.lines().find(|line| line.starts_with(id.as_str()));
                    line.is_some_and(|line| {
                        !line.contains("handshake") && line.contains(" connected")
                    })
                };
                match self.foreign.iter().all(is_linked) {
                    true => Ok(()),
                    false => Err(text),
                }
            });
        }
    }

    fn set_node_timeout(&self, milliseconds: u32) {
        for node in self.ours.iter().chain(self.theirs.iter()) {
            let value = milliseconds.to_string();
            node.cmd(&["CONFIG", "SET", "cluster-node-timeout", &value]);
        }
    }

    /// The node timeout of [`quick`] again, once the age of links no longer counts.
    fn gossip_quickly(&self) {
        self.set_node_timeout(2000);
    }

    fn evict(&self, foreign: &[String]) -> Trib {
        fix(&self.ours[0]).args(["--evict-foreign", &foreign.join(",")])
    }

    /// Waits until no node but the one whose address was taken knows nodes of the other cluster.
    #[track_caller]
    fn only_the_taken_node_knows_both(&self) {
        let ours: Vec<String> = self.ours[..3].iter().map(Server::id).collect();
        for (nodes, strangers) in [(&self.ours[..3], &self.foreign), (&self.theirs[..], &ours)] {
            for node in nodes {
                until("it to forget the other cluster", PATIENCE, || {
                    let text = node.nodes_text();
                    match strangers.iter().any(|id| text.contains(id)) {
                        true => Err(text),
                        false => Ok(()),
                    }
                });
            }
        }
    }

    #[track_caller]
    fn is_parted_by_the_same_command(&self) {
        self.evict(&self.foreign).arg("--yes").run().status(0);
        self.is_apart();
        // Nodes that gossip which nodes they forgot (from 7.2 on) have done so by now.
        std::thread::sleep(Duration::from_secs(3));
        self.is_apart();
        Trib::new()
            .args(["check", &self.ours[0].addr()])
            .run()
            .status(0);
    }

    #[track_caller]
    fn is_apart(&self) {
        for node in &self.ours[..3] {
            let text = node.nodes_text();
            assert!(self.foreign.iter().all(|id| !text.contains(id)), "{text}");
            assert_eq!(node.field("cluster_known_nodes").unwrap(), "3", "{text}");
        }
        for node in self.others() {
            let text = node.nodes_text();
            assert!(
                self.ours[..3].iter().all(|one| !text.contains(&one.id())),
                "{text}"
            );
            assert_eq!(
                text.lines().count(),
                3,
                "they still know each other: {text}"
            );
        }
    }
}

fn meet(node: &Server, other: &Server) {
    let (port, bus) = (other.port().to_string(), other.bus_port().to_string());
    node.cmd(&["CLUSTER", "MEET", other.host(), &port, &bus]);
}

#[test]
fn two_clusters_are_parted_matrix() {
    for version in versions() {
        two_clusters_are_parted(&quick().version(version));
    }
}

fn two_clusters_are_parted(spec: &Spec) {
    let merged = Merged::new(spec, Own::Nothing);
    let nodes = &merged.ours;
    // Redis 6.2 can't tell how old its links are: there the user has to know.
    if nodes[0].version() != "redis-6.2" {
        let check = Trib::new()
            .args(["check", &nodes[0].addr(), "-o", "json"])
            .run();
        let report = check.status(1).json();
        let findings = report["findings"].as_array().unwrap();
        let named = findings
            .iter()
            .find(|one| one["code"] == "foreign-node")
            .unwrap();
        let mut ids: Vec<&str> = named["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_str().unwrap())
            .collect();
        let mut foreign: Vec<&str> = merged.foreign.iter().map(String::as_str).collect();
        ids.sort_unstable();
        foreign.sort_unstable();
        assert_eq!(ids, foreign);
        assert!(
            named["remedy"]
                .as_str()
                .unwrap()
                .contains("--evict-foreign"),
            "{named}"
        );
        fix(&nodes[0])
            .arg("--yes")
            .run()
            .status(3)
            .stderr_has("--evict-foreign");
    }
    merged.gossip_quickly();
    merged
        .evict(&merged.foreign[..1])
        .arg("--dry-run")
        .run()
        .status(0);
    merged
        .evict(&merged.foreign)
        .run()
        .status(5)
        .stderr_has("--yes");
    merged
        .evict(&[nodes[0].id()])
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("name one that stays");
    merged.evict(&merged.foreign).arg("--yes").run().status(0);
    merged.is_apart();

    Trib::new()
        .args(["check", &nodes[0].addr()])
        .run()
        .status(0);
    for (node, slot) in nodes.iter().zip([1, 6000, 12000]) {
        assert_eq!(node.text(&["GET", &names([slot], 1)[0]]), "ours");
    }
    // Nodes that gossip which nodes they forgot (from 7.2 on) have done so by now.
    std::thread::sleep(Duration::from_secs(3));
    merged.is_apart();
}

#[test]
fn slots_that_leave_are_named_first_matrix() {
    for version in versions() {
        let spec = quick().arg("--cluster-require-full-coverage", "no");
        slots_that_leave_are_named_first(&spec.version(version));
    }
}

fn slots_that_leave_are_named_first(spec: &Spec) {
    let merged = Merged::new(spec, Own::Slot);
    merged.gossip_quickly();
    let nodes = &merged.ours;
    let key = &names([THEIRS], 1)[0];
    until("the slot to be served", PATIENCE, || {
        let set = merged.theirs[0].try_cmd(&["SET", key, "somebody's"]);
        set.map_err(|error| error.to_string()).map(drop)
    });
    merged
        .evict(&merged.foreign)
        .arg("--yes")
        .run()
        .status(3)
        .stderr_has("slot 5: ")
        .stderr_has("--accept-data-loss 5");
    merged
        .evict(&merged.foreign)
        .args(["--yes", "--accept-data-loss", "5"])
        .run()
        .status(0);
    merged.is_apart();
    Trib::new()
        .args(["check", &nodes[0].addr()])
        .run()
        .status(0);
    let connection = &mut merged.theirs[0].connection().unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(connection).unwrap();
    assert_eq!(keys, std::slice::from_ref(key), "its keys are its own");
}

#[test]
fn killed_when_some_have_forgotten_matrix() {
    for version in versions() {
        killed_when_some_have_forgotten(&quick().version(version));
    }
}

fn killed_when_some_have_forgotten(spec: &Spec) {
    let merged = || {
        let (ours, proxies) = Nodes::behind_proxies(4, spec);
        let theirs = Nodes::with(2, spec);
        let merged = Merged::of(ours, theirs, Own::Nothing);
        merged.gossip_quickly();
        (merged, proxies)
    };
    // Between the first and the last FORGET. On Valkey 8.1 and 9.1, a node that pings within that time
    // loses the members of its own side, which can't be prevented from outside.
    let (one, proxies) = merged();
    if ["redis-6.2", "redis-7.0"].contains(&one.ours[0].version()) {
        proxies[3].stall_at("CLUSTER FORGET", 1);
        let run = one.evict(&one.foreign).arg("--yes").spawn();
        assert!(proxies[3].wait_stalled(PATIENCE), "it never came to that");
        // The next run looks for nodes that ours still know: it would not find those that were not told.
        one.only_the_taken_node_knows_both();
        run.signal(Signal::SIGKILL);
        run.wait();
        // What it had sent is carried out after its death.
        proxies[3].resume();
        proxies[3].disarm();
        one.is_parted_by_the_same_command();
    }
    // A node whose connection is cut gets FORGET again at once: an answer to its next ping would make it lose the
    // members of its own side. If that was too late, they meet again.
    let (one, proxies) = merged();
    proxies[1].cut(Cut::before("CLUSTER FORGET").nth(2).reset());
    let run = one.evict(&one.foreign).arg("--yes").timeout(MEET_AGAIN);
    run.run().status(0);
    proxies[1].disarm();
    one.is_parted_by_the_same_command();
}

#[test]
fn who_lost_its_own_side_meets_it_again_matrix() {
    // It was seen on 8.1 too, and takes a minute each.
    for version in versions().iter().filter(|name| **name == "valkey-9.1") {
        who_lost_its_own_side_meets_it_again(&quick().version(version));
    }
}

fn who_lost_its_own_side_meets_it_again(spec: &Spec) {
    // The run, once a node of the others has forgotten its own side.
    let lost = || {
        let (ours, mut proxies) = Nodes::behind_proxies(4, spec);
        let (theirs, behind) = Nodes::behind_proxies(2, spec);
        let one = Merged::of(ours, theirs, Own::Nothing);
        one.gossip_quickly();
        // All of the others are told late: gossip of one that has forgotten our nodes would part them in peace.
        proxies.extend(behind);
        let others = &proxies[3..];
        for proxy in others {
            proxy.stall_at("CLUSTER FORGET", 1);
        }
        let run = one.evict(&one.foreign).arg("--yes");
        let run = run.timeout(MEET_AGAIN).spawn();
        for proxy in others {
            assert!(proxy.wait_stalled(PATIENCE), "it never came to that");
        }
        let mates = || one.theirs.iter().map(Server::id);
        until("it to forget its own side", PATIENCE, || {
            let text = one.ours[3].nodes_text();
            match mates().any(|id| text.contains(&id)) {
                true => Err(text),
                false => Ok(()),
            }
        });
        for proxy in others {
            proxy.resume();
            proxy.disarm();
        }
        (one, proxies, run)
    };
    let (one, _proxies, run) = lost();
    run.wait_stderr("meet again in 63 s");
    run.signal(Signal::SIGINT);
    let run = run.wait().status(130).stderr_has("CLUSTER MEET");
    // It would refuse: they know no foreign node any more.
    assert!(!run.stderr.contains("redis-trib fix"), "{}", run.stderr);
    drop(one);

    let (one, _proxies, run) = lost();
    run.wait().status(0).stderr_has("meet again in 63 s");
    one.is_apart();
    Trib::new()
        .args(["check", &one.ours[0].addr()])
        .run()
        .status(0);
}

#[test]
fn nobody_is_put_out_half() {
    let nodes = three(&quick());
    let replica = Nodes::with(1, &quick());
    meet(&nodes[0], &replica[0]);
    until("it to follow", PATIENCE, || {
        let told = replica[0].try_cmd(&["CLUSTER", "REPLICATE", &nodes[1].id()]);
        told.map(drop).map_err(|error| error.to_string())
    });
    until("all to know the replica", PATIENCE, || {
        let text = nodes[0].nodes_text();
        if text.contains("slave") {
            Ok(())
        } else {
            Err(text)
        }
    });
    let line = |id: &str| fix(&nodes[0]).args(["--yes", "--evict-foreign", id]);
    line(&nodes[1].id())
        .run()
        .status(3)
        .stderr_has("can't leave without its replica");
    line("abcdefabcdef")
        .run()
        .status(3)
        .stderr_has("is not a node of this cluster");
    assert_eq!(nodes[0].field("cluster_known_nodes").unwrap(), "4");
}
