//! A run that is changed while it runs: by `throttle`, by a control file, by keys.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use humantime::parse_rfc3339;
use serde_json::Value;

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::{Running, Signal, Trib};
use crate::support::journal;
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::server::quick;
use crate::support::slots::{assert_closed, names, owned};
use crate::support::stopped_run::resume;
use crate::support::subcommands::{check, reshard};
use crate::support::wait::{PATIENCE, until};

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

    /// The directory of the sockets: no other run on this host is seen, or changed.
    fn runtime(&self) -> String {
        self.runtime.path().join("redis-trib").display().to_string()
    }

    /// Moves the slots slowly.
    fn go(&self) -> Trib {
        reshard(&self.nodes[0])
            .args(["--slot-ranges", "0-299", "--to", &self.nodes[3].id()])
            .args(["--strategy", "keys", "--max-open-slots", "4", "--yes"])
            .env("REDIS_TRIB_RUNTIME_DIR", self.runtime())
    }

    fn throttle(&self, args: &[&str]) -> Trib {
        Trib::new()
            .arg("throttle")
            .args(args)
            .env("REDIS_TRIB_RUNTIME_DIR", self.runtime())
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

    /// The runs, and those that do not answer, as JSON.
    fn document(&self) -> Value {
        let shown = self.throttle(&["-o", "json"]).run().status(0).stdout;
        let document: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(document["format"], "redis-trib/throttle");
        document
    }

    /// The runs, as JSON.
    fn runs(&self) -> Vec<Value> {
        self.document()["runs"].as_array().unwrap().clone()
    }

    #[track_caller]
    fn wait_paused(&self) {
        until("the run to be paused", PATIENCE, || {
            let document = self.document();
            match document["runs"][0]["state"].as_str() {
                Some("paused") => Ok(()),
                // It may be late to answer.
                _ => Err(document.to_string()),
            }
        });
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

/// A server with `timeout` closes idle connections. With the last one of a run, its lock would be gone.
#[test]
fn a_paused_run_keeps_its_lock_on_servers_that_close_idle_connections() {
    let setting = Setting::new();
    for node in setting.nodes.iter() {
        node.cmd(&["CONFIG", "SET", "timeout", "8"]);
    }
    let run = setting.go().args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    setting.throttle(&["--pause"]).run().status(0);
    setting.wait_paused();
    thread::sleep(Duration::from_secs(12));
    let other = setting.go().run().status(3);
    other.stderr_has("another redis-trib is at work");
    let resumed = setting.throttle(&["--resume", "--rate", "off"]).run();
    resumed.status(0);
    setting.assert_done(run);
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
            .env("REDIS_TRIB_RUNTIME_DIR", setting.runtime())
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
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_closed(&setting.nodes);
}

#[test]
fn a_latency_limit_that_is_set_later_is_measured_first() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.jsonl");
    let run = setting
        .go()
        .args(["--rate", "100", "--journal", &path.display().to_string()])
        .spawn();
    setting.wait_moved(4);
    setting
        .throttle(&["--max-latency", "100ms"])
        .run()
        .status(0)
        .stdout_has("latency limit 100ms");
    assert_eq!(setting.runs()[0]["max_latency_ms"], 100.0);
    setting.throttle(&["--rate", "off"]).run().status(0);
    setting.assert_done(run);
    // No slot is open while the idle latency is measured, which takes 2 s of the run's own time.
    let longest = rests(&journal::lines(&path)).max();
    assert!(longest >= Some(Duration::from_millis(1_950)), "{longest:?}");
}

/// How long no slot was open, each time, by the journal of a run: from the end of the last one to the
/// beginning of the next.
fn rests(lines: &[Value]) -> impl Iterator<Item = Duration> {
    let time = |line: &Value| parse_rfc3339(line["time"].as_str().unwrap()).unwrap();
    let (mut begun, mut ended) = (0, 0);
    lines.windows(2).filter_map(move |pair| {
        let [now, next] = pair else {
            return None;
        };
        let command = |line: &Value| line["command"].as_str().unwrap().to_owned();
        begun += usize::from(command(now).contains(" IMPORTING "));
        ended += usize::from(command(now).contains(" NODE "));
        // Both ends are told the new owner.
        let at_rest = begun > 0 && ended == 2 * begun && command(next).contains(" IMPORTING ");
        at_rest.then(|| time(next).duration_since(time(now)).unwrap_or_default())
    })
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
fn keys_control_a_move_whose_results_go_to_a_file() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results");
    let mut terminal = setting
        .go()
        .args(["--rate", "200", "-o", "json"])
        .env("RESULTS", results.display().to_string())
        .terminal_of("exec \"$0\" \"$@\" >\"$RESULTS\"");
    setting.wait_moved(4);
    terminal.send("p");
    terminal.expect("paused: no slot is open");
    terminal.send("p");
    terminal.expect("the move goes on");
    setting.throttle(&["--rate", "off"]).run().status(0);
    terminal.finish().status(0);
    assert_eq!(setting.moved(), 300);
    assert!(fs::read_to_string(&results).unwrap().contains("\"done\""));
}

/// A shell whose jobs are stopped and continued, and that leaves the settings of the terminal to them.
const JOBS: &str = "set -m; \"$0\" \"$@\"; stty -a | grep -q ' -icanon' && echo keys alone || echo whole lines; read -r answer; fg";

#[test]
fn keys_control_a_move_after_ctrl_z_and_fg() {
    let setting = Setting::new();
    let mut terminal = setting.go().args(["--rate", "200"]).terminal_of(JOBS);
    setting.wait_moved(4);
    terminal.send("p");
    terminal.expect("paused: no slot is open");
    terminal.control('z');
    terminal.expect("whole lines");
    terminal.send_line("go on");
    terminal.send("p");
    terminal.expect("key: moving");
    terminal.send("+");
    terminal.expect("400 keys/s");
    setting.throttle(&["--rate", "off"]).run().status(0);
    terminal.finish().status(0);
    assert_eq!(setting.moved(), 300);
    assert_closed(&setting.nodes);
}

/// The same, for a script that runs the program and then something else.
const JOB_OF_A_SCRIPT: &str = "set -m; sh -c '\"$0\" \"$@\"; echo second line' \"$0\" \"$@\"; \
    stty -a | grep -q ' -icanon' && echo keys alone || echo whole lines; read -r answer; fg";

#[test]
fn ctrl_z_stops_a_script_and_its_move() {
    let setting = Setting::new();
    let mut terminal = setting
        .go()
        .args(["--rate", "200"])
        .terminal_of(JOB_OF_A_SCRIPT);
    setting.wait_moved(4);
    terminal.expect("keys/s");
    terminal.control('z');
    terminal.expect("whole lines");
    // The node may still carry out what was sent.
    thread::sleep(Duration::from_millis(500));
    let moved = setting.moved();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(setting.moved(), moved);
    assert!(moved < 300);
    terminal.send_line("go on");
    terminal.send("p");
    terminal.expect("paused: no slot is open");
    terminal.send("p");
    terminal.expect("key: moving");
    setting.throttle(&["--rate", "off"]).run().status(0);
    terminal.expect("second line");
    terminal.finish().status(0);
    assert_eq!(setting.moved(), 300);
    assert_closed(&setting.nodes);
}

#[test]
fn ctrl_z_without_a_shell_does_not_stop_a_move() {
    let setting = Setting::new();
    let mut terminal = setting.go().args(["--rate", "400"]).terminal();
    setting.wait_moved(4);
    terminal.control('z');
    let moved = setting.moved();
    setting.wait_moved(moved + 8);
    terminal.send("p");
    terminal.expect("paused: no slot is open");
    terminal.control('c');
    terminal.finish().status(130);
}

#[test]
fn bars_fit_into_a_terminal_that_becomes_narrower() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut terminal = setting
        .go()
        .args(["--rate", "400"])
        .env("FOLDER", folder.path().display().to_string())
        .terminal_of(
            "(until test -e \"$FOLDER/narrow\"; do sleep 0.1; done; stty cols 80 </dev/tty; touch \"$FOLDER/is\") & \
             exec \"$0\" \"$@\"",
        );
    setting.wait_moved(4);
    terminal.expect("keys/s");
    fs::write(path("narrow"), "").unwrap();
    until("the terminal to be narrow", Duration::from_secs(10), || {
        path("is").exists().then_some(()).ok_or("wide".to_owned())
    });
    // What was drawn before is out of the way.
    thread::sleep(Duration::from_millis(1_500));
    setting.throttle(&["--pause"]).run().status(0);
    terminal.expect("paused: no slot is open");
    let before = terminal.shown().len();
    terminal.expect("paused:");
    setting
        .throttle(&["--resume", "--rate", "off"])
        .run()
        .status(0);
    terminal.expect("the move goes on");
    let shown = terminal.shown()[before..].to_owned();
    for line in shown.split(['\r', '\n']) {
        let columns = console::measure_text_width(line);
        assert!(columns <= 80, "{columns}: {line:?}");
    }
    terminal.finish().status(0);
}

/// Each of three pairs has keys.
const THREE_PAIRS: &str = "0-99,6000-6099,11000-11099";

#[test]
fn a_terminal_of_few_rows_has_the_sum() {
    let setting = Setting::new();
    fill(
        &setting.nodes[..3],
        &names((6_000..6_100).chain(11_000..11_100), 20),
    );
    let mut terminal = reshard(&setting.nodes[0])
        .args(["--slot-ranges", THREE_PAIRS, "--to", &setting.nodes[3].id()])
        .args(["--strategy", "keys", "--rate", "400", "--yes"])
        .env("REDIS_TRIB_RUNTIME_DIR", setting.runtime())
        .terminal_of("stty rows 2; exec \"$0\" \"$@\"");
    terminal.expect("… ");
    terminal.expect(" more");
    terminal.expect("all pairs");
    terminal.expect("all pairs");
    terminal.control('c');
    terminal.finish().status(130);
    assert_closed(&setting.nodes);
}

#[test]
fn a_pause_is_marked_in_lines_and_in_json() {
    let setting = Setting::new();
    let pause = |run: &Running| {
        setting.wait_moved(4);
        let id = setting.runs()[0]["run"].as_str().unwrap().to_owned();
        // A name is found by its beginning, in upper case too.
        let beginning = id[..5].to_ascii_uppercase();
        setting.throttle(&[&beginning, "--pause"]).run().status(0);
        run.wait_stderr(&format!(
            "paused: no slot is open, and nothing is in flight; resume with redis-trib throttle {id} --resume"
        ));
    };
    let run = setting.go().args(["--rate", "200", "-o", "json"]).spawn();
    // Told once a second, for 30 s.
    run.wait_stdout("\"state\":\"moving\"");
    pause(&run);
    run.wait_stdout("\"state\":\"paused\"");
    let paused = Instant::now();
    thread::sleep(Duration::from_secs(3));
    let paused = paused.elapsed();
    setting.throttle(&["--resume"]).run().status(0);
    until("it to be told again", Duration::from_secs(20), || {
        let shown = run.stdout_so_far();
        let (_, after) = shown.rsplit_once("\"state\":\"paused\"").unwrap();
        let is_told = after.contains("\"state\":\"moving\"");
        is_told.then_some(()).ok_or(shown.clone())
    });
    setting.throttle(&["--rate", "off"]).run().status(0);
    let ended = run
        .wait()
        .status(0)
        .stderr_has("the move goes on, after a pause of");
    // The pause is no part of the time of the move.
    let lines = ended.json_lines();
    let moved = lines.iter().find(|line| line["event"] == "moved").unwrap();
    assert_eq!(moved["slot_count"], 300);
    let took = Duration::from_secs_f64(moved["took_ms"].as_f64().unwrap() / 1_000.0);
    assert!(
        took + paused <= ended.elapsed,
        "{took:?}, {paused:?}, {:?}",
        ended.elapsed
    );
    assert_closed(&setting.nodes);
}

#[test]
fn a_control_file_may_come_later() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let run = setting
        .go()
        .args(["--rate", "200", "--control", &path.display().to_string()])
        .spawn();
    setting.wait_moved(4);
    run.wait_stderr("there is no such file yet; it is read as soon as it exists");
    thread::sleep(Duration::from_millis(1_500));
    // The last of two lines for a setting counts.
    fs::write(&path, "pause no\nrate 7\nrate 300\npause yes\n").unwrap();
    run.wait_stderr(&format!(
        "resume with the line \"pause no\" in {}",
        path.display()
    ));
    assert_eq!(setting.runs()[0]["rate"]["per_second"], 300);
    setting.assert_at_rest();
    fs::write(&path, "rate off\npause no\n").unwrap();
    let ended = run.wait().status(0);
    assert_eq!(ended.stderr.matches("no such file yet").count(), 1);
    assert_eq!(setting.moved(), 300);
}

/// A task that runs ends first, and no other one starts.
#[test]
fn a_pause_waits_for_the_task_in_hand() {
    for version in ["redis-8.10", "valkey-9.1"] {
        let nodes = walkthrough(&quick().version(version));
        let slots = || (0..20).chain(6_000..6_020).chain(11_000..11_020);
        fill(&nodes[..3], &names(slots(), 300));
        let before = contents(&nodes);
        let folder = tempfile::tempdir().unwrap();
        let control = folder.path().join("control");
        // Each task of 20 slots is to be paid for with a minute.
        fs::write(&control, "rate 100\n").unwrap();
        let run = reshard(&nodes[0])
            .args(["--slot-ranges", "0-19,6000-6019,11000-11019"])
            .args(["--to", &nodes[3].id(), "--yes", "-o", "json"])
            .args([
                "--strategy",
                "atomic",
                "--control",
                &control.display().to_string(),
            ])
            .spawn();
        run.wait_stdout("lane-started");
        fs::write(&control, "pause yes\n").unwrap();
        run.wait_stderr("paused: no slot is open, and nothing is in flight");
        run.wait_stdout("\"state\":\"paused\"");
        let moved = owned(&nodes[3]);
        thread::sleep(Duration::from_millis(1_500));
        assert_eq!(owned(&nodes[3]), moved, "{version}");
        // Whole tasks only.
        for (first, last) in &moved {
            assert_eq!(last - first, 19, "{version}: {moved:?}");
        }
        assert!(moved.len() < 3, "{version}: {moved:?}");
        fs::write(&control, "pause no\nrate off\n").unwrap();
        run.wait().status(0);
        assert_eq!(owned(&nodes[3]).len(), 3, "{version}");
        assert_closed(&nodes);
        assert_same(&before, &contents(&nodes));
    }
}

/// With --rate, the servers would not move the slots by themselves.
#[test]
fn a_line_that_resumes_tasks_has_no_rate() {
    let nodes = walkthrough(&quick().version("valkey-9.1"));
    let slots = || (0..20).chain(6_000..6_020).chain(11_000..11_020);
    fill(&nodes[..3], &names(slots(), 100));
    let folder = tempfile::tempdir().unwrap();
    let control = folder.path().join("control");
    // Each task of 20 slots is to be paid for with 20 s.
    fs::write(&control, "rate 100\n").unwrap();
    let run = reshard(&nodes[0])
        .args(["--slot-ranges", "0-19,6000-6019,11000-11019", "--yes"])
        .args(["--to", &nodes[3].id()])
        .args(["--control", &control.display().to_string()])
        .spawn();
    until("a task to end", Duration::from_secs(20), || {
        let moved = owned(&nodes[3]);
        (!moved.is_empty()).then_some(()).ok_or("none".to_owned())
    });
    run.signal(Signal::SIGINT);
    let ended = run
        .wait()
        .status(130)
        .stderr_has("set it again with redis-trib throttle --rate 100");
    fs::write(&control, "rate off\n").unwrap();
    resume(&ended)
        .run()
        .status(0)
        .stdout_has("Strategy: atomic")
        .stdout_lacks("key by key");
    assert_eq!(owned(&nodes[3]).len(), 3);
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

/// A run of cron has no runtime directory. A throttle of a login session has one.
#[test]
fn a_run_of_another_environment_is_found() {
    let setting = Setting::new();
    let shared = |trib: Trib| trib.env("REDIS_TRIB_RUNTIME_DIR", "");
    let run = shared(setting.go()).args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    let session = setting.runtime.path().display().to_string();
    let throttle = |args: &[&str]| {
        let throttle = shared(setting.throttle(args));
        throttle.env("XDG_RUNTIME_DIR", &session).run().status(0)
    };
    // Other tests may have runs there.
    let shown = throttle(&["-o", "json"]).stdout;
    let document: Value = serde_json::from_str(&shown).unwrap();
    let mut runs = document["runs"].as_array().unwrap().iter();
    let this = runs.find(|shown| shown["pid"] == run.pid()).expect(&shown);
    throttle(&[this["run"].as_str().unwrap(), "--rate", "off"]);
    setting.assert_done(run);
}

#[test]
fn a_suspended_run_is_named() {
    let setting = Setting::new();
    let run = setting.go().args(["--rate", "200"]).spawn();
    setting.wait_moved(4);
    let id = setting.runs()[0]["run"].as_str().unwrap().to_owned();
    run.signal(Signal::SIGSTOP);
    let silent = format!(
        "{id}  no answer within 5 s: process {} may be suspended",
        run.pid()
    );
    let shown = setting.throttle(&[]).run().status(0);
    shown.stdout_has(&silent).stdout_lacks("no run");
    let document = setting.document();
    assert_eq!(document["runs"].as_array().unwrap().len(), 0);
    assert_eq!(document["unanswered"][0]["run"], id);
    assert_eq!(document["unanswered"][0]["pid"], run.pid());
    // A change that is refused is not made later.
    let refused = setting.throttle(&["--rate", "off", "--pause"]).run();
    refused
        .status(3)
        .stderr_has(&format!("run {id}: no answer within 5 s"))
        .stderr_has("its settings stay as they are");
    run.signal(Signal::SIGCONT);
    let shown = &setting.runs()[0];
    assert_eq!(shown["rate"]["per_second"], 200);
    assert_eq!(shown["state"], "moving");
    setting.throttle(&["--rate", "off"]).run().status(0);
    setting.assert_done(run);
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
