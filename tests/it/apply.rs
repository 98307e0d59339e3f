//! `apply`: saved plans, in whole and in part, and next to open slots that are not part of the plan.

use std::path::{Path, PathBuf};

use crate::support::cluster::Nodes;
use crate::support::command::{Signal, Trib};
use crate::support::keys::Keys;
use crate::support::proxy::How;
use crate::support::server::{Server, Spec, versions};
use crate::support::views::{counts, owned_slots};
use crate::support::wait::PATIENCE;

fn apply(file: &Path, nodes: &[Server]) -> Trib {
    Trib::new().args(["apply", file.to_str().unwrap(), &nodes[0].addr(), "--yes"])
}

fn reshard(nodes: &[Server], slots: &str) -> Trib {
    let (from, to) = (nodes[0].id(), nodes[1].id());
    Trib::new()
        .args(["reshard", &nodes[0].addr(), "--slots", slots])
        .args(["--from", &from, "--to", &to])
}

/// Plans in a folder of their own.
struct Plans(tempfile::TempDir);

impl Plans {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// The plan to move the first `slots` from the first node to the second.
    #[track_caller]
    fn saved(&self, nodes: &[Server], slots: &str) -> PathBuf {
        let file = self.file("plan.json");
        reshard(nodes, slots)
            .args(["--dry-run", "--plan-out", file.to_str().unwrap()])
            .run()
            .status(0);
        file
    }
}

fn move_of(from: &str, to: &str, slots: &str) -> String {
    format!(
        r#"{{"format":"redis-trib plan","version":1,"moves":[{{"from":"{from}","to":"{to}","slots":{slots}}}]}}"#
    )
}

#[test]
fn matrix_a_plan_is_saved_applied_and_undone() {
    for version in versions() {
        let nodes = Nodes::with(2, &Spec::new().quick().version(version));
        nodes.form(2);
        let keys = Keys::fill(&nodes, 2000, |_| true);
        let plans = Plans::new();
        let (plan, undo) = (plans.file("plan.json"), plans.file("undo.json"));
        reshard(&nodes, "500")
            .args(["--dry-run", "--plan-out", plan.to_str().unwrap()])
            .args(["--undo-out", undo.to_str().unwrap()])
            .run()
            .status(0);
        assert_eq!(counts(&nodes), [8192, 8192]);
        // It is shown first, and asked about.
        let file = plan.to_str().unwrap();
        let addr = nodes[0].addr();
        Trib::new()
            .args(["apply", file, &addr])
            .run()
            .status(5)
            .stdout_has("Ready to move 500 slots.");
        apply(&plan, &nodes).arg("--dry-run").run().status(0);
        assert_eq!(counts(&nodes), [8192, 8192]);

        apply(&plan, &nodes).run().status(0);
        assert_eq!(counts(&nodes), [7692, 8692]);
        keys.assert_kept(&nodes);
        apply(&plan, &nodes)
            .run()
            .status(0)
            .stdout_has("All 500 slots of the plan are on their targets");
        apply(&undo, &nodes).run().status(0);
        assert_eq!(counts(&nodes), [8192, 8192]);
        keys.assert_kept(&nodes);
    }
}

/// Killed as it opens, empties and closes slots: the same command again finishes.
#[test]
fn killed_and_applied_again() {
    for (command, nth) in [
        ("CLUSTER SETSLOT", 1),
        ("MIGRATE", 3),
        ("CLUSTER SETSLOT", 100),
    ] {
        let (nodes, proxies) = Nodes::behind_proxies(2, &Spec::new().quick());
        nodes.form(2);
        let keys = Keys::fill(&nodes, 2000, |_| true);
        let plans = Plans::new();
        let plan = plans.saved(&nodes, "300");
        proxies[0].stall_at(command, nth);
        let run = Trib::new()
            .args(["apply", plan.to_str().unwrap(), &proxies[0].addr()])
            .args(["--yes", "--max-open-slots", "16", "--pipeline", "10"])
            .spawn();
        assert!(proxies[0].wait_stalled(PATIENCE), "{command}");
        run.signal(Signal::SIGKILL);
        run.wait().killed_by(Signal::SIGKILL);
        for proxy in &proxies {
            proxy.cut_now(How::Reset);
            proxy.resume();
        }
        assert_ne!(counts(&nodes), [7892, 8492], "killed too late");
        // Shown as it is, open slots and all; nothing is finished by that.
        let before = counts(&nodes);
        apply(&plan, &nodes).arg("--dry-run").run().status(0);
        assert_eq!(counts(&nodes), before);
        apply(&plan, &nodes).run().status(0);
        assert_eq!(counts(&nodes), [7892, 8492]);
        keys.assert_kept(&nodes);
        Trib::new()
            .args(["check", &nodes[0].addr()])
            .run()
            .status(0);
    }
}

#[test]
fn somebody_elses_open_slots_are_left_alone() {
    let nodes = Nodes::quick(2);
    nodes.form(2);
    let plans = Plans::new();
    let plan = plans.saved(&nodes, "10");
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "5000", "MIGRATING", &nodes[1].id()]);
    apply(&plan, &nodes)
        .run()
        .status(3)
        .stderr_has("slots-open")
        .stderr_has("5000");
    assert_eq!(counts(&nodes), [8192, 8192]);
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let plans = Plans::new();
    let (first, second, third) = (nodes[0].id(), nodes[1].id(), nodes[2].id());
    let before = counts(&nodes);
    // The first slot is neither's.
    let misplaced = plans.write(
        "misplaced",
        &move_of(&second, &third, "[[0,3],[6000,6001]]"),
    );
    apply(&misplaced, &nodes)
        .run()
        .status(3)
        .stderr_has("0-3")
        .stderr_has(&second)
        .stderr_has(&third)
        .stderr_has(&first);
    let stranger = "f".repeat(40);
    let unknown = plans.write("unknown", &move_of(&first, &stranger, "[[0,3]]"));
    apply(&unknown, &nodes)
        .run()
        .status(3)
        .stderr_has(&stranger);
    assert_eq!(counts(&nodes), before);
}

#[test]
fn a_target_that_became_a_replica_is_named() {
    let nodes = Nodes::quick(3);
    nodes.form(2);
    let plans = Plans::new();
    let to = nodes[2].id();
    let plan = plans.write("plan", &move_of(&nodes[1].id(), &to, "[[16000,16003]]"));
    apply(&plan, &nodes)
        .run()
        .status(3)
        .stderr_has(&nodes[2].addr())
        .stderr_has("replica of")
        .stderr_has(&nodes[0].addr());
}

/// Wrong usage, before any node is asked.
#[test]
fn a_file_that_is_no_plan() {
    let plans = Plans::new();
    let id = "a".repeat(40);
    let to = "b".repeat(40);
    let cases = [
        (plans.file("missing"), "can't be read"),
        (plans.write("empty", ""), "not JSON"),
        (
            plans.write("cut", &move_of(&id, &to, "[[0,3]]")[..90]),
            "not JSON",
        ),
        (plans.write("foreign", r#"{"moves":[]}"#), "not a plan"),
        (
            plans.write(
                "newer",
                r#"{"format":"redis-trib plan","version":99,"moves":[]}"#,
            ),
            "version 99",
        ),
        (
            plans.write("slot", &move_of(&id, &to, "[[0,16384]]")),
            "16384",
        ),
        (
            plans.write("itself", &move_of(&id, &id, "[[0,1]]")),
            "same node",
        ),
    ];
    for (file, said) in cases {
        Trib::new()
            .args(["apply", file.to_str().unwrap(), "127.0.0.1:1"])
            .run()
            .status(2)
            .stderr_has(file.to_str().unwrap())
            .stderr_has(said);
    }
}

#[test]
fn a_plan_that_can_not_be_kept_is_not_carried_out() {
    let nodes = Nodes::quick(2);
    nodes.form(2);
    for flag in ["--plan-out", "--undo-out"] {
        reshard(&nodes, "10")
            .args(["--yes", flag, "/dev/full"])
            .run()
            .status(3)
            .stderr_has(flag)
            .stderr_has("/dev/full");
    }
    assert_eq!(counts(&nodes), [8192, 8192]);
    assert_eq!(owned_slots(&nodes[0]).first(), Some(&0));
}
