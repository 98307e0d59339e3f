//! The soak test: clients write while a cluster is resharded, grows, shrinks and is fixed, and while its servers
//! and redis-trib itself are killed, stopped and cut off, in an order drawn from a seed. After each step, every
//! write that a replica acknowledged (WAIT 1) is still there.
//!
//! `make test` soaks for some seconds; `make soak MINUTES=10` for as long as it says, with `SEED=…` and
//! `VERSION=valkey-8.1`. `REPLAY=target/soak/….jsonl` does the steps of a log again.

// The seed and the count of what was done are its result.
#![allow(clippy::print_stdout)]

mod ground;
mod step;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::ground::{Ground, Shape};
use self::step::{Blow, Dice, Fault, Operation, Step, Terrain};
use crate::support::command::{Ended, Finished, Running, Signal};
use crate::support::keys::fill;
use crate::support::server::{ALL_VERSIONS, DEFAULT_VERSION, atomic_among};
use crate::support::writers::{Manner, Writers};

/// How long an operator tries to put things right after a step.
const MENDING: Duration = Duration::from_secs(120);

/// As many at once as keep the servers busy, and small enough a total to be looked through after each step.
const WRITERS: usize = 4;
const MANNER: Manner = Manner {
    pause: Duration::from_millis(4),
    tries: 200,
};

/// A key for each slot, so that a move has something to do.
const FILLED: usize = 16_384;

#[test]
fn a_seed_that_is_always_the_same() {
    Soak::new(DEFAULT_VERSION, 20_261_128).run(Duration::from_secs(15));
}

#[test]
fn a_seed_of_its_own() {
    Soak::new(DEFAULT_VERSION, seed_of_now()).run(Duration::from_secs(15));
}

/// Runs for `make soak`, and does nothing otherwise.
#[test]
fn for_as_long_as_it_is_told() {
    let version = told("VERSION").unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    let seed = told("SEED").unwrap_or_else(seed_of_now);
    if let Some(log) = told::<PathBuf>("REPLAY") {
        Soak::new(&version, seed).replay(&log);
    } else if let Some(minutes) = told::<f64>("MINUTES") {
        Soak::new(&version, seed).run(Duration::from_secs_f64(60.0 * minutes));
    }
}

/// What the environment says; empty counts as unset.
fn told<T: FromStr>(name: &str) -> Option<T> {
    let name = format!("REDIS_TRIB_SOAK_{name}");
    let text = std::env::var(&name).ok().filter(|text| !text.is_empty())?;
    let Ok(value) = text.parse() else {
        panic!("{name}={text}")
    };
    Some(value)
}

fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

struct Soak {
    ground: Ground,
    writers: Writers,
    /// Keys that were there from the start.
    filled: Vec<String>,
    dice: Dice,
    terrain: Terrain,
    /// Another run of the program that was started meanwhile.
    second: Option<Running>,
    /// The steps, one a line, to be replayed.
    steps: File,
    /// All that was run, and what it said.
    story: File,
    whereabouts: String,
    began: Instant,
    tally: Tally,
}

#[derive(Default)]
struct Tally {
    steps: usize,
    faults: usize,
    moves: usize,
}

impl Soak {
    fn new(version: &str, seed: u64) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/soak");
        fs::create_dir_all(&folder).unwrap();
        let path = |ending: &str| folder.join(format!("{version}-{seed}.{ending}"));
        let (steps, story) = (path("jsonl"), path("log"));
        let whereabouts = format!(
            "seed {seed} on {version}; the steps are in {}, what was said in {}",
            steps.display(),
            story.display()
        );
        println!("{whereabouts}");
        let ground = Ground::new(version);
        let terrain = Terrain {
            moves_in_jobs: ALL_VERSIONS
                .iter()
                .any(|name| *name == version && !atomic_among(&[name]).is_empty()),
        };
        let filled: Vec<String> = (0..FILLED).map(|n| format!("filled:{n}")).collect();
        fill(&ground.nodes[..ground::MEMBERS], &filled);
        Self {
            filled,
            writers: Writers::with(&ground.nodes, WRITERS, MANNER),
            ground,
            dice: Dice(seed),
            terrain,
            second: None,
            steps: File::create(steps).unwrap(),
            story: File::create(story).unwrap(),
            whereabouts,
            began: Instant::now(),
            tally: Tally::default(),
        }
    }

    fn run(mut self, limit: Duration) {
        while self.began.elapsed() < limit {
            let shape = self.ground.shape();
            let step = self.dice.step(&shape, self.terrain);
            self.take(&step, &shape);
        }
        self.end();
    }

    fn replay(mut self, log: &Path) {
        let text = fs::read_to_string(log).unwrap_or_else(|error| panic!("{log:?}: {error}"));
        for line in text.lines() {
            let step = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            let shape = self.ground.shape();
            self.take(&step, &shape);
        }
        self.end();
    }

    fn end(mut self) {
        self.writers.stop();
        let keys = self.hold();
        let writes = self.writers.acknowledged().len();
        let Tally {
            steps,
            faults,
            moves,
        } = self.tally;
        println!(
            "{}: {steps} steps, {faults} faults, {moves} moves of slots, {writes} acknowledged writes, \
             {keys} keys; nothing is lost after {} s",
            self.whereabouts,
            self.began.elapsed().as_secs()
        );
    }

    fn tell(&mut self, text: &str) {
        let at = self.began.elapsed().as_secs_f64();
        writeln!(self.story, "[{at:7.2}] {text}").unwrap();
    }

    /// One step, and all is well again after it.
    fn take(&mut self, step: &Step, before: &Shape) {
        let line = serde_json::to_string(step).unwrap();
        writeln!(self.steps, "{line}").unwrap();
        self.tell(&format!("step {}: {line}\n{before}", self.tally.steps));
        self.tally.steps += 1;
        self.tally.faults += step.faults.len();
        let ended = self.disturbed(step);
        self.put_right(step, &ended);
        self.hold();
        self.tally.moves += self.ground.shape().moved_since(before);
    }

    /// The operation with what befalls it. At the end all servers run and reach each other.
    fn disturbed(&mut self, step: &Step) -> Finished {
        if let Operation::FixOpen { .. } = &step.operation {
            self.leave_open(&step.operation);
        }
        let hit = step.faults.iter().filter_map(|fault| fault.blow.server());
        let hit: Vec<usize> = hit.collect();
        let words = self.words(&step.operation, &hit);
        // A server that is stopped would not tell what is needed for it.
        let mending = self.words(&Operation::Fix, &hit);
        let mut run = self.ground.trib().args(&words).spawn();
        let started = Instant::now();
        let mut due: Vec<(u64, bool, Blow)> = Vec::new();
        for Fault {
            blow,
            after_ms,
            for_ms,
        } in &step.faults
        {
            due.push((*after_ms, true, *blow));
            due.push((*after_ms + *for_ms, false, *blow));
        }
        due.sort_by_key(|(at, _, _)| *at);
        for (at, begins, blow) in due {
            let at = Duration::from_millis(at);
            if blow.server().is_none() {
                while started.elapsed() < at && !run.has_ended() {
                    thread::sleep(Duration::from_millis(2));
                }
            } else {
                thread::sleep(at.saturating_sub(started.elapsed()));
            }
            self.strike(blow, begins, &mut run, &mending);
        }
        let ended = run.wait();
        self.judge(&words, &ended);
        if let Some(second) = self.second.take() {
            let ended = second.wait();
            self.judge(&["(the second)".to_owned()], &ended);
        }
        ended
    }

    /// It ended in a way that it may.
    fn judge(&mut self, words: &[String], ended: &Finished) {
        self.told(words, ended);
        let expected = match ended.status {
            // 101: a panic.
            Ended::Status(status) => [0, 1, 3, 4, 6, 130].contains(&status),
            // A program that has just been started does not handle SIGINT yet.
            Ended::Signal(signal) => {
                [Signal::SIGKILL as i32, Signal::SIGINT as i32].contains(&signal)
            }
        };
        if !expected {
            self.give_up(&format!("{words:?} ended with {:?}", ended.status));
        }
    }

    fn strike(&mut self, blow: Blow, begins: bool, run: &mut Running, mending: &[String]) {
        let nodes = &self.ground.nodes;
        match (blow, begins) {
            (Blow::KillServer(node), true) => nodes[node].kill(),
            (Blow::KillServer(node), false) => nodes[node].restart(),
            (Blow::StopServer(node), true) => nodes[node].stop(),
            (Blow::StopServer(node), false) => nodes[node].cont(),
            (Blow::CutOff(node), true) => self.ground.network.cut(nodes[node].host()),
            (Blow::CutOff(_), false) => self.ground.network.heal(),
            (Blow::SecondTool, true) => {
                self.second = Some(self.ground.trib().args(mending).spawn());
            }
            (Blow::SecondTool, false) => {}
            (Blow::KillTool | Blow::StopTool | Blow::InterruptTool, _) if run.has_ended() => {}
            (Blow::KillTool, true) => run.signal(Signal::SIGKILL),
            (Blow::InterruptTool, true) => run.signal(Signal::SIGINT),
            (Blow::StopTool, true) => run.signal(Signal::SIGSTOP),
            (Blow::StopTool, false) => run.signal(Signal::SIGCONT),
            (Blow::KillTool | Blow::InterruptTool, false) => {}
        }
        self.tell(&format!(
            "{blow:?} {}",
            if begins { "begins" } else { "ends" }
        ));
    }

    /// What another tool would leave behind. A node that has just changed its part refuses, which is as good.
    fn leave_open(&self, operation: &Operation) {
        let Operation::FixOpen {
            slots,
            from,
            to,
            migrating,
            importing,
        } = operation
        else {
            return;
        };
        let nodes = &self.ground.nodes;
        let (source, target) = (nodes[*from].id(), nodes[*to].id());
        for slot in slots {
            let slot = slot.to_string();
            if *importing {
                let _ = nodes[*to].try_cmd(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]);
            }
            if *migrating {
                let _ = nodes[*from].try_cmd(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]);
            }
        }
    }

    /// The command line, to a seed that nothing befalls.
    fn words(&self, operation: &Operation, hit: &[usize]) -> Vec<String> {
        let addr = |node: &usize| self.ground.nodes[*node].addr();
        let shape = self.ground.shape();
        let mut seeds = shape
            .members()
            .into_iter()
            .filter(|node| !hit.contains(node));
        let leaving = operation.leaving();
        let seed = seeds
            .find(|node| Some(*node) != leaving)
            .expect("six members, two of them hit");
        let seed = addr(&seed);
        let mut words: Vec<String> = Vec::new();
        let mut add = |some: &[&str]| words.extend(some.iter().map(|word| (*word).to_owned()));
        match operation {
            Operation::Check => add(&["check", &seed]),
            Operation::Fix | Operation::FixOpen { .. } => add(&["fix", &seed, "--yes"]),
            Operation::Reshard {
                slots, from, to, ..
            } => {
                let (from, to) = (addr(from), addr(to));
                add(&["reshard", &seed, "--yes", "--slots", &slots.to_string()]);
                add(&["--from", &from, "--to", &to, "--finish-open"]);
            }
            Operation::Rebalance {
                heavier, weight, ..
            } => {
                let weight = format!("{}={weight}", addr(heavier));
                add(&["rebalance", &seed, "--yes", "--threshold", "0"]);
                add(&["--weight", &weight, "--use-empty-masters", "--finish-open"]);
            }
            Operation::AddMaster { new, fill } => {
                add(&["add-node", &addr(new), &seed, "--yes", "--join-timeout=20s"]);
                if *fill {
                    add(&["--fill"]);
                }
            }
            Operation::AddReplica { new, master } => {
                let master = self.ground.nodes[*master].id();
                add(&["add-node", &addr(new), &seed, "--yes", "--join-timeout=20s"]);
                add(&["--replica", "--master-id", &master]);
            }
            Operation::Leave { node, drain, .. } => {
                add(&["del-node", &seed, &addr(node), "--yes"]);
                if *drain {
                    add(&["--drain"]);
                }
            }
            Operation::Replace { old, new } => {
                let (old, new) = (addr(old), addr(new));
                add(&["replace-node", &seed, &old, &new, "--yes"]);
                add(&["--join-timeout=20s", "--sync-timeout=30s"]);
            }
            Operation::Failover { replica } => {
                add(&["failover", &seed, "--to", &addr(replica), "--yes"]);
            }
        }
        words.extend(operation.rate().map(|rate| format!("--rate={rate}")));
        words
    }

    fn said(&mut self, words: &[&str]) -> Finished {
        let ended = self.ground.trib().args(words).run();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        self.told(&words, &ended);
        ended
    }

    fn told(&mut self, words: &[String], ended: &Finished) {
        self.tell(&format!(
            "$ redis-trib {}\n{:?} after {:.1} s\n{}{}",
            words.join(" "),
            ended.status,
            ended.elapsed.as_secs_f64(),
            ended.stdout,
            ended.stderr
        ));
    }

    /// As an operator would: `fix`, the same command again, and once more, until `check` finds nothing.
    fn put_right(&mut self, step: &Step, ended: &Finished) {
        let deadline = Instant::now() + MENDING;
        let patience = format!("{}s", step.patience_s);
        let is_done = ended.status == Ended::Status(0);
        let mut mends = step.fix_first || is_done;
        let mut again = !is_done;
        loop {
            // The node that was asked before may have left meanwhile, and its cluster with it.
            let seed = self.ground.seed_other_than(step.operation.leaving()).addr();
            let mut check = vec!["check", &seed];
            check.extend(
                ["--wait", &patience]
                    .into_iter()
                    .filter(|_| step.patience_s > 0),
            );
            let is_well = self.said(&check).status == Ended::Status(0);
            // A refused step is not retried forever: its node may have another role by now.
            if is_well && !again {
                break;
            }
            if Instant::now() >= deadline {
                self.give_up("nothing helps");
            }
            if mends && !is_well {
                self.said(&["fix", &seed, "--yes"]);
            } else if again {
                let words = self.words(&step.operation, &[]);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let ended = self.said(&words);
                again = ![Ended::Status(0), Ended::Status(3)].contains(&ended.status);
            }
            mends = !mends || !again;
        }
        self.clean_spares();
    }

    /// Empties the nodes that are in no cluster, so that they can join one.
    fn clean_spares(&mut self) {
        let shape = self.ground.shape();
        for node in shape.spares {
            let server = &self.ground.nodes[node];
            let known = server.nodes_text().lines().count();
            let keys = server.field("db0");
            if known == 1 && keys.is_none() {
                continue;
            }
            let addr = server.addr();
            if known == 1 {
                // A node that is killed right after its RESET comes back with the keys of its append-only
                // file, and takes their slots (seen on Valkey 9.1). No other node knows of it.
                server.cmd(&["FLUSHALL"]);
                server.cmd(&["CLUSTER", "RESET", "HARD"]);
                continue;
            }
            let seed = self.ground.seed().addr();
            let ended = self.said(&["del-node", &seed, &addr, "--yes"]);
            if ended.status != Ended::Status(0) {
                self.give_up(&format!("{addr} can't be emptied"));
            }
        }
    }

    /// What has to hold, holds, or will in a moment. How many keys there are.
    fn hold(&mut self) -> usize {
        let mut wanted = self.writers.acknowledged();
        wanted.extend(self.filled.iter().cloned());
        let mut said = String::new();
        for _ in 0..10 {
            match self.ground.demand(&wanted) {
                Ok(keys) => return keys,
                Err(error) => said = error,
            }
            thread::sleep(Duration::from_secs(1));
        }
        self.give_up(&said)
    }

    fn give_up(&mut self, why: &str) -> ! {
        let mut text = String::new();
        for server in self.ground.nodes.iter() {
            let view = match server.try_cmd(&["CLUSTER", "NODES"]) {
                Ok(_) => server.nodes_text(),
                Err(error) => error.to_string(),
            };
            let log = server.log();
            let skipped = log.lines().count().saturating_sub(60);
            let log: Vec<&str> = log.lines().skip(skipped).collect();
            let _ = writeln!(text, "== {}\n{view}\n{}", server.addr(), log.join("\n"));
        }
        self.tell(&format!("{why}\n{text}"));
        panic!("step {}: {why}\n{}", self.tally.steps - 1, self.whereabouts);
    }
}
