//! A run that is changed while it runs: by `throttle`, by a control file, by keys.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Running, Signal, Trib};
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::server::quick;
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::{check, reshard};
use crate::support::wait::until;

/// A cluster with keys, and a runtime directory of its own.
struct Setting {
    nodes: Nodes,
    before: Contents,
    runtime: tempfile::TempDir,
}

impl Setting {
    fn new() -> Self {
        let nodes = walkthrough(&quick());
        fill(&nodes[..3], &names(0..300, 20));
        let before = contents(&nodes);
        let runtime = tempfile::tempdir().unwrap();
        Self {
            nodes,
            before,
            runtime,
        }
    }

    fn runtime(&self) -> String {
        self.runtime.path().display().to_string()
    }

    /// Moves the slots slowly.
    fn go(&self) -> Trib {
        reshard(&self.nodes[0])
            .args(["--slot-ranges", "0-299", "--to", &self.nodes[3].id()])
            .args(["--strategy", "keys", "--max-open-slots", "4", "--yes"])
            .env("XDG_RUNTIME_DIR", self.runtime())
    }

    fn throttle(&self, args: &[&str]) -> Trib {
        Trib::new()
            .arg("throttle")
            .args(args)
            .env("XDG_RUNTIME_DIR", self.runtime())
    }

    fn moved(&self) -> usize {
        owned(&self.nodes[3]).iter().map(|(a, b)| b - a + 1).sum()
    }

    #[track_caller]
    fn wait_moved(&self, slots: usize) {
        until("slots to move", Duration::from_secs(20), || {
            match self.moved() {
                now if now >= slots => Ok(()),
                now => Err(now.to_string()),
            }
        });
    }

    /// The runs, as JSON.
    fn runs(&self) -> Vec<Value> {
        let shown = self.throttle(&["-o", "json"]).run().status(0).stdout;
        let document: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(document["format"], "redis-trib/throttle");
        document["runs"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn wait_paused(&self) {
        until(
            "the run to be paused",
            Duration::from_secs(20),
            || match self.runs()[0]["state"].as_str() {
                Some("paused") => Ok(()),
                other => Err(format!("{other:?}")),
            },
        );
    }

    /// Nothing is open, and nothing moves.
    #[track_caller]
    fn assert_at_rest(&self) {
        assert_closed(&self.nodes);
        let before = self.moved();
        thread::sleep(Duration::from_millis(700));
        assert_eq!(self.moved(), before);
        assert_closed(&self.nodes);
    }

    #[track_caller]
    fn assert_done(&self, run: Running) {
        run.wait().status(0);
        assert_eq!(self.moved(), 300);
        assert_closed(&self.nodes);
        assert_same(&self.before, &contents(&self.nodes));
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let folder = self.runtime.path().join("redis-trib");
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn a_run_is_paused_resumed_and_hurried() {
    let setting = Setting::new();
    let run = setting.go().args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    let [shown] = &setting.runs()[..] else {
        panic!("one run");
    };
    assert_eq!(shown["command"], "reshard");
    assert_eq!(shown["state"], "moving");
    assert_eq!(shown["rate"]["per_second"], 200);
    assert_eq!(shown["pid"], run.pid());
    setting.throttle(&["--pause"]).run().status(0);
    run.wait_stderr("paused");
    setting.wait_paused();
    setting.assert_at_rest();
    let moved = setting.moved();
    assert!((4..300).contains(&moved), "{moved}");
    let id = shown["run"].as_str().unwrap();
    setting
        .throttle(&[&id[..4], "--resume", "--rate", "off"])
        .run()
        .status(0)
        .stdout_has("moving slots")
        .stdout_has("no rate limit");
    setting.assert_done(run);
    assert!(setting.sockets().is_empty(), "{:?}", setting.sockets());
}

#[test]
fn a_run_that_is_killed_while_paused_leaves_nothing() {
    let setting = Setting::new();
    let run = setting.go().args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    setting.throttle(&["--pause"]).run().status(0);
    setting.wait_paused();
    run.signal(Signal::SIGKILL);
    drop(run.wait());
    assert_eq!(setting.sockets().len(), 1, "the socket of a dead run stays");
    assert_closed(&setting.nodes);
    check(&setting.nodes[0].addr()).run().status(0);
    assert_same(&setting.before, &contents(&setting.nodes));
    // It is recognised, and removed.
    setting
        .throttle(&["--resume"])
        .run()
        .status(3)
        .stderr_has("no run of this user moves slots on this host");
    assert!(setting.sockets().is_empty());
    setting.assert_done(setting.go().spawn());
}

#[test]
fn two_runs_on_one_host_are_told_apart() {
    let setting = Setting::new();
    let other = Setting::new();
    let slow = |one: &Setting| {
        one.go()
            .args(["--rate", "200"])
            .env("XDG_RUNTIME_DIR", setting.runtime())
            .spawn()
    };
    let runs = (slow(&setting), slow(&other));
    setting.wait_moved(4);
    other.wait_moved(4);
    let ended = setting.throttle(&["--pause"]).run().status(2);
    let shown = setting.runs();
    assert_eq!(shown.len(), 2);
    for run in &shown {
        assert!(ended.stderr.contains(run["run"].as_str().unwrap()));
    }
    let of = |pid: u32| {
        let run = shown.iter().find(|run| run["pid"] == pid).unwrap();
        run["run"].as_str().unwrap().to_owned()
    };
    let (first, second) = (of(runs.0.pid()), of(runs.1.pid()));
    setting.throttle(&[&first, "--pause"]).run().status(0);
    runs.0.wait_stderr("paused: no slot is open");
    setting.assert_at_rest();
    setting
        .throttle(&[&second, "--rate", "off"])
        .run()
        .status(0);
    other.assert_done(runs.1);
    setting
        .throttle(&[&first, "--resume", "--rate", "off"])
        .run()
        .status(0);
    setting.assert_done(runs.0);
    setting
        .throttle(&["ffffffff", "--pause"])
        .run()
        .status(3)
        .stderr_has("no run \"ffffffff\"");
}

#[test]
fn a_control_file_is_read_again_and_nonsense_is_reported_once() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    fs::write(&path, "rate 200\n").unwrap();
    let run = setting
        .go()
        .args(["--control", &path.display().to_string()])
        .spawn();
    setting.wait_moved(4);
    assert_eq!(setting.runs()[0]["rate"]["per_second"], 200);
    fs::write(&path, "rate 200\nlanes many\n").unwrap();
    run.wait_stderr("line 2");
    thread::sleep(Duration::from_millis(2_500));
    fs::write(&path, "pause yes\n").unwrap();
    setting.wait_paused();
    setting.assert_at_rest();
    let [shown] = &setting.runs()[..] else {
        panic!("one run");
    };
    assert_eq!(shown["rate"]["per_second"], 200, "what is not named stays");
    fs::write(&path, "pause no\nrate off\nlanes 3\n").unwrap();
    let ended = run.wait().status(0);
    assert_eq!(
        ended.stderr.matches("line 2").count(),
        1,
        "{}",
        ended.stderr
    );
    assert_eq!(setting.moved(), 300);
    assert_closed(&setting.nodes);
    assert_same(&setting.before, &contents(&setting.nodes));
}

#[test]
fn a_paused_run_ends_at_the_first_ctrl_c() {
    let setting = Setting::new();
    let run = setting.go().args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    setting.throttle(&["--pause"]).run().status(0);
    setting.wait_paused();
    let began = Instant::now();
    run.signal(Signal::SIGINT);
    run.wait().status(130).stderr_has("0 open");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_closed(&setting.nodes);
}

#[test]
fn a_latency_limit_that_is_set_later_is_measured_first() {
    let setting = Setting::new();
    let run = setting.go().args(["--rate", "300"]).spawn();
    setting.wait_moved(4);
    setting
        .throttle(&["--max-latency", "100ms", "--rate", "off"])
        .run()
        .status(0)
        .stdout_has("100ms of latency");
    // No slot is open while the idle latency is measured.
    thread::sleep(Duration::from_secs(1));
    setting.assert_at_rest();
    assert!(setting.moved() < 300);
    assert_eq!(setting.runs()[0]["max_latency_ms"], 100.0);
    setting.assert_done(run);
}

#[test]
fn keys_control_a_move_at_a_terminal() {
    let setting = Setting::new();
    let mut terminal = setting.go().args(["--rate", "200"]).terminal();
    setting.wait_moved(4);
    terminal.send("p");
    terminal.expect("paused: no slot is open");
    setting.assert_at_rest();
    terminal.send("+");
    terminal.expect("400 keys/s");
    terminal.send("-");
    terminal.expect("200 keys/s");
    terminal.send("p");
    terminal.expect("key: moving");
    setting.throttle(&["--rate", "off"]).run().status(0);
    terminal.finish().status(0);
    assert_eq!(setting.moved(), 300);
    assert_closed(&setting.nodes);
}

#[test]
fn keys_are_read_while_much_happens() {
    let setting = Setting::new();
    fill(&setting.nodes[..3], &names(0..300, 200));
    let mut terminal = setting.go().args(["--rate", "5000"]).terminal();
    setting.wait_moved(4);
    terminal.send("p");
    terminal.expect("paused: no slot is open");
    assert!(setting.moved() < 300);
    terminal.send("+");
    terminal.expect("10,000 keys/s");
    terminal.send("p");
    terminal.finish().status(0);
    assert_eq!(setting.moved(), 300);
    assert_closed(&setting.nodes);
}

#[test]
fn a_directory_of_others_is_not_trusted() {
    let setting = Setting::new();
    let folder = setting.runtime.path().join("redis-trib");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let _pretender = UnixListener::bind(folder.join("pretender.sock")).unwrap();
    setting
        .throttle(&["pretender", "--pause"])
        .run()
        .status(3)
        .stderr_has("is not a directory of this user with mode 0700");
}

#[test]
fn a_run_that_throttle_does_not_find_says_so() {
    let setting = Setting::new();
    fs::write(setting.runtime.path().join("redis-trib"), "").unwrap();
    let ended = setting.go().run().status(0);
    let said = ended.stderr.matches("throttle can't find this run: ");
    assert_eq!(said.count(), 1, "{}", ended.stderr);
}

#[test]
fn what_is_no_run_is_not_in_the_way() {
    let setting = Setting::new();
    let run = setting.go().args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    let folder = setting.runtime.path().join("redis-trib");
    let (file, deeper) = (folder.join("file.sock"), folder.join("folder.sock"));
    fs::write(&file, "kept").unwrap();
    fs::create_dir(&deeper).unwrap();
    setting
        .throttle(&["--rate", "off"])
        .run()
        .status(0)
        .stderr_has("file.sock is not a socket")
        .stderr_has("folder.sock is not a socket");
    setting.assert_done(run);
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    assert!(deeper.is_dir());
}

#[test]
fn wrong_values_are_wrong_usage() {
    for words in [
        "--rate 0",
        "--rate fast",
        "--node-pairs 0",
        "--lanes many",
        "--max-latency 0",
        "--max-latency 5",
        "--pause --resume",
        "../../etc/passwd --pause",
        "run --pause extra",
    ] {
        let trib = Trib::new().arg("throttle").args(words.split(' '));
        trib.run().status(2);
    }
}
