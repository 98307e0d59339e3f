//! The whole command line in one table: how every command ends in situations in which it must not change
//! anything, and what it writes with `--output json` then.
//!
//! A row is a command line, a column is a [`Situation`], a cell is the exit code. For every cell the tests
//! also compare a fingerprint of all nodes before and after.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::cluster::Nodes;
use crate::support::command::{Ended, Finished, Trib};
use crate::support::ports::{self, Reserved};
use crate::support::server::{Server, Spec};
use crate::support::wait::{PATIENCE, until};

/// The columns of [`TABLE`], in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Situation {
    /// The password is not that of the nodes. Consent is given.
    WrongPassword,
    /// Nothing listens at `{…/dead}`. Consent is given.
    DeadSeed,
    /// `{…/unknown}` is not a member of the cluster. Consent is given.
    UnknownMember,
    /// There is neither a terminal nor consent.
    NoTerminal,
    /// The answer to the prompt on a terminal is "no".
    Declined,
    /// A connection of another redis-trib is on one of the nodes. Consent is given.
    AnotherOperator,
    /// `--dry-run`, without consent.
    DryRun,
}

use Situation::{
    AnotherOperator, DeadSeed, Declined, DryRun, NoTerminal, UnknownMember, WrongPassword,
};

const SITUATIONS: [Situation; 7] = [
    WrongPassword,
    DeadSeed,
    UnknownMember,
    NoTerminal,
    Declined,
    AnotherOperator,
    DryRun,
];

/// The situation does not exist for this command line: it names no member, asks no question, or has no dry
/// run; or another row of the same command has the cell.
const NA: i32 = -1;

/// One command line.
struct Row {
    /// The command and options that tell the rows of one command apart.
    name: &'static str,
    /// The exit code in each situation.
    exit_codes: [i32; SITUATIONS.len()],
    /// The other words. `{seed/dead}` is a live node, except in the situation [`DeadSeed`];
    /// [`Fixture::words`] has all placeholders.
    words: &'static str,
    slots: Slots,
}

impl Row {
    fn command(&self) -> &'static str {
        self.name.split(' ').next().unwrap()
    }
}

/// What the cluster is like when a command line runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slots {
    Stable,
    /// One slot is open, so that `fix` has something to ask about.
    Open,
}

const fn row(name: &'static str, exit_codes: [i32; SITUATIONS.len()], words: &'static str) -> Row {
    Row {
        name,
        exit_codes,
        words,
        slots: Slots::Stable,
    }
}

const fn with_open_slot(row: Row) -> Row {
    Row {
        slots: Slots::Open,
        ..row
    }
}

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // exit codes:                          pass seed memb term decl oper  dry
    row("create --allow-few-masters",     [  4,   4,  NA,   5,   5,   3,   0], "{spare/dead}"),
    row("create --pin-master",            [ NA,  NA,   2,  NA,  NA,  NA,  NA], "127.0.0.1:1 {spare}"),
    row("check",                          [  4,   4,  NA,   0,  NA,   0,  NA], "{seed/dead}"),
    row("check --local",                  [  4,   4,  NA,   0,  NA,   0,  NA], "{seed/dead}"),
    row("info",                           [  4,   4,  NA,   0,  NA,   0,  NA], "{seed/dead}"),
    row("watch --once",                   [  4,   4,  NA,   0,  NA,   0,  NA], "-n 100ms {seed/dead}"),
    row("where",                          [  4,   4,  NA,   0,  NA,   0,  NA], "{seed/dead} key:1"),
    row("where --slot",                   [  4,   4,  NA,   0,  NA,   0,  NA], "5 {seed/dead}"),
    row("slots --by",                     [  4,   4,  NA,   0,  NA,   0,  NA], "keys {seed/dead}"),
    row("slots --enable-stats",           [  4,   4,  NA,   3,  NA,   3,   3], "{seed/dead}"),
    row("drift --ignore",                 [  4,   4,  NA,   0,  NA,   0,  NA], "slowlog-max-len {seed/dead}"),
    row("drift --fix",                    [  4,   4,   3,   5,   5,   3,   0], "config:slowlog-max-len --from {master/unknown} {seed/dead}"),
    row("fix",                            [  4,   4,  NA,   0,  NA,   3,   0], "{seed/dead}"),
    with_open_slot(
    row("fix",                            [ NA,  NA,  NA,   5,   5,   3,   0], "{seed}")),
    row("fix --evict-foreign",            [  4,   4,   3,  NA,  NA,  NA,  NA], "{replica/unknown} -- {seed/dead}"),
    row("fix --rejoin",                   [  4,   4,  NA,   0,  NA,   0,   0], "{seed/dead}"),
    row("reshard",                        [  4,   4,   3,   5,   5,   3,   0], "--slots 10 --from {master} --to {other/unknown} {seed/dead}"),
    row("reshard",                        [ NA,  NA,   3,  NA,  NA,  NA,  NA], "--slots 10 --from {master/unknown} --to {other} {seed}"),
    row("rebalance --weight",             [  4,   4,   3,   5,   5,   3,   0], "{master/unknown}=2 {seed/dead}"),
    row("rebalance",                      [ NA,  NA,  NA,   0,  NA,   0,   0], "{seed}"),
    row("apply",                          [  4,   4,   3,   5,   5,   3,   0], "{plan/unknown} {seed/dead}"),
    row("add-node",                       [  4,   4,  NA,   5,   5,   3,   0], "{spare} {seed/dead}"),
    row("add-node",                       [ NA,   3,  NA,  NA,  NA,  NA,  NA], "{spare/dead} {seed}"),
    row("add-node --fill",                [  4,   4,  NA,   5,   5,   3,   0], "{spare} {seed/dead}"),
    row("add-node --replica",             [  4,   4,   3,   5,   5,   3,   0], "--master-id {master/unknown} {spare} {seed/dead}"),
    row("del-node",                       [ NA,  NA,   3,  NA,  NA,  NA,  NA], "{seed} {unknown-id}"),
    row("del-node --drain",               [  4,   4,   3,   5,   5,   3,   0], "{seed/dead} {other/unknown}"),
    row("del-node --leave-unprotected",   [  4,   4,  NA,   5,   5,   3,   0], "{replica} {seed/dead} {replica}"),
    row("del-node --leave-unprotected",   [ NA,  NA,   3,  NA,  NA,  NA,  NA], "{replica/unknown} {seed} {replica}"),
    row("call",                           [  4,   4,  NA,   5,  NA,   3,  NA], "{seed/dead} CONFIG SET cluster-allow-replica-migration no"),
    row("call",                           [  4,   4,  NA,   0,  NA,   0,  NA], "{seed/dead} DBSIZE"),
    row("set-timeout",                    [  4,   4,  NA,   5,   5,   3,   0], "{seed/dead} 5s"),
    row("import",                         [  4,   4,  NA,   5,   5,   3,   0], "--from {source} {seed/dead}"),
    row("import",                         [ NA,   4,  NA,  NA,  NA,  NA,  NA], "--from {source/dead} {seed}"),
    row("import",                         [  4,   4,  NA,   5,   5,   3,   0], concat!("--from ", env!("CARGO_MANIFEST_DIR"), "/fixtures/rdb/redis-7.0.rdb {seed/dead}")),
    row("import --move",                  [  4,   4,  NA,   5,   5,   3,   0], "--from {source} {seed/dead}"),
    row("verify --from",                  [  4,   4,  NA,   0,  NA,   0,  NA], "{source} {seed/dead} --pattern none:*"),
    row("verify --from",                  [ NA,   4,  NA,  NA,  NA,  NA,  NA], "{source/dead} {seed}"),
    row("backup",                         [  4,   4,  NA,   0,  NA,   0,   0], "{seed/dead} {directory}"),
    row("restore",                        [  4,   4,  NA,   5,   5,   3,   0], "{backup} {seed/dead}"),
    row("failover",                       [  4,   4,   3,   5,   5,   3,   0], "{seed/dead} {replica/unknown}"),
    row("failover --to",                  [  4,   4,   3,   5,   5,   3,   0], "{replica/unknown} {seed/dead}"),
    row("failover --of",                  [  4,   4,   3,   5,   5,   3,   0], "{master/unknown} {seed/dead}"),
    row("replace-node",                   [  4,   4,   3,   5,   5,   3,   0], "{seed/dead} {replica/unknown} {spare}"),
    row("replace-node",                   [ NA,   3,  NA,  NA,  NA,  NA,  NA], "{seed} {replica} {spare/dead}"),
    row("place",                          [  4,   4,  NA,   0,  NA,   0,   0], "{seed/dead}"),
    row("place --masters",                [ NA,  NA,   3,   5,   5,   3,   0], "{replica/unknown} {seed}"),
    row("roll --only",                    [  4,   4,  NA,   5,   5,   3,   0], "replicas --each true {seed/dead}"),
    row("roll --each",                    [ NA,  NA,   3,  NA,  NA,  NA,  NA], "true --only {replica/unknown} {seed}"),
    row("ok-to-stop",                     [  4,   4,   3,   0,  NA,   0,  NA], "{seed/dead} {master/unknown}"),
    row("ok-to-stop",                     [ NA,  NA,  NA,   3,  NA,   3,  NA], "{seed} {replica}"),
    row("ok-to-stop --max",               [  4,   4,   3,   0,  NA,   0,  NA], "{seed/dead} {master/unknown}"),
    row("ok-to-stop --max",               [ NA,  NA,  NA,   0,  NA,   0,  NA], "{seed}"),
];

/// A field of the JSON document that a reading command writes; `None` for commands that write a stream of
/// events.
fn document_field(name: &str) -> Option<&'static str> {
    match name {
        "check" => Some("healthy"),
        "check --local" => Some("alive"),
        "info" | "watch --once" => Some("masters"),
        "where" | "where --slot" => Some("keys"),
        "verify --from" => Some("same"),
        "slots --by" => Some("slots"),
        "drift --ignore" => Some("differences"),
        "ok-to-stop" | "ok-to-stop --max" => Some("ok"),
        _ => None,
    }
}

/// The option that gives consent; `None` for commands that need none.
fn consent(row: &Row) -> Option<&'static str> {
    match row.command() {
        "check" | "info" | "watch" | "where" | "verify" | "slots" | "ok-to-stop" | "backup" => None,
        "drift" if row.name != "drift --fix" => None,
        "call" => Some("--allow-dangerous"),
        _ => Some("--yes"),
    }
}

/// The end of every prompt for consent.
const PROMPT: &str = "(type 'yes' to accept): ";

const PASSWORD: &str = "correct-horse";
const WRONG_PASSWORD: &str = "battery-staple";

/// The name that another redis-trib gives to its connection. Of two that start at the same time, the name
/// that sorts first wins, so this one sorts before every name of ours.
const OTHER_OPERATOR: &str = "redis-trib/add-node/!ann@host/00000000";

/// The slot that [`Slots::Open`] opens. No key is in it.
const OPEN_SLOT: &str = "16383";

/// A cluster that no cell changes, and the other servers and files that command lines name.
struct Fixture {
    /// Three masters and a replica of the first.
    nodes: Nodes,
    /// An empty node outside of the cluster.
    spare: Server,
    /// A standalone server with a key.
    source: Server,
    /// A backup, two plans, and room for more backups.
    folder: TempDir,
    /// A port on which nothing listens.
    dead: Reserved,
    /// The number of directories named so far; each run gets a new one.
    directories: Cell<usize>,
}

impl Fixture {
    fn new() -> Self {
        let spec = Spec::new().quick().password(PASSWORD);
        let nodes = Nodes::with(4, &spec);
        nodes.form(3);
        let fixture = Self {
            nodes,
            spare: spec.start(),
            source: Spec::new().plain().start(),
            folder: tempfile::tempdir().unwrap(),
            dead: ports::reserve(),
            directories: Cell::default(),
        };
        // With the short timeout nodes might flag each other `fail?` on a machine that is busy with other tests.
        for server in fixture.cluster_nodes() {
            server.cmd(&["CONFIG", "SET", "cluster-node-timeout", "15000"]);
        }
        // Something for `drift`.
        fixture.nodes[1].cmd(&["CONFIG", "SET", "slowlog-max-len", "77"]);
        fixture.fill();
        fixture.wait_until_settled();
        fixture.save_plans_and_backup();
        fixture
    }

    /// The nodes of the cluster and the spare one.
    fn cluster_nodes(&self) -> impl Iterator<Item = &Server> {
        self.nodes.iter().chain([&self.spare])
    }

    /// Writes some keys to each master.
    fn fill(&self) {
        for n in 0..30 {
            let key = format!("key:{n}");
            // The other masters answer MOVED.
            let mut masters = self.nodes[..3].iter();
            assert!(masters.any(|master| master.try_cmd(&["SET", &key, "value"]).is_ok()));
        }
        self.source.cmd(&["SET", "key", "value"]);
    }

    /// Waits until gossip and replication have nothing left to change.
    fn wait_until_settled(&self) {
        until("all nodes to have one view", PATIENCE, || {
            let views: BTreeSet<Vec<String>> = self.nodes.iter().map(view).collect();
            let epochs: BTreeSet<_> = self
                .nodes
                .iter()
                .map(|server| server.field("cluster_current_epoch"))
                .collect();
            if views.len() == 1 && epochs.len() == 1 {
                Ok(())
            } else {
                Err(format!("{views:#?}\n{epochs:?}"))
            }
        });
        until("the replica to have all keys", PATIENCE, || {
            let (master, replica) = (&self.nodes[0], &self.nodes[3]);
            let sizes = [master, replica].map(|server| server.text(&["DBSIZE"]));
            if sizes[0] == sizes[1] {
                Ok(())
            } else {
                Err(format!("{sizes:?}"))
            }
        });
    }

    /// Saves a plan, the same plan with an unknown node in it, and a backup.
    fn save_plans_and_backup(&self) {
        let plan = self.path("plan");
        let trib = || Trib::new().env("REDISCLI_AUTH", PASSWORD);
        trib()
            .args(["reshard", &self.nodes[0].addr(), "--slots", "10"])
            .args(["--from", &self.nodes[0].id(), "--to", &self.nodes[1].id()])
            .args(["--dry-run", "--plan-out", &shown(&plan)])
            .run()
            .status(0);
        let text = std::fs::read_to_string(plan).unwrap();
        let foreign = text.replace(&self.nodes[1].id(), &unknown_id());
        assert_ne!(text, foreign);
        std::fs::write(self.path("foreign-plan"), foreign).unwrap();
        trib()
            .args([
                "backup",
                &self.nodes[0].addr(),
                &shown(&self.path("backup")),
            ])
            .run()
            .status(0);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the words of a row in that situation, after the command.
    fn words(&self, row: &Row, situation: Situation, directory: &Path) -> Vec<String> {
        let [master, other, _, replica] = &self.nodes[..] else {
            panic!("four nodes");
        };
        let dead = format!("127.0.0.1:{}", self.dead.port);
        let addr_or_dead = |server: &Server| match situation {
            DeadSeed => dead.clone(),
            _ => server.addr(),
        };
        let id_or_unknown = |server: &Server| match situation {
            UnknownMember => unknown_id()[..10].to_owned(),
            _ => server.id(),
        };
        let plan = match situation {
            UnknownMember => "foreign-plan",
            _ => "plan",
        };
        let values = [
            ("{seed}", master.addr()),
            ("{seed/dead}", addr_or_dead(master)),
            ("{master}", master.id()),
            ("{master/unknown}", id_or_unknown(master)),
            ("{other}", other.id()),
            ("{other/unknown}", id_or_unknown(other)),
            ("{replica}", replica.id()),
            ("{replica/unknown}", id_or_unknown(replica)),
            ("{unknown-id}", unknown_id()),
            ("{spare}", self.spare.addr()),
            ("{spare/dead}", addr_or_dead(&self.spare)),
            ("{source}", self.source.addr()),
            ("{source/dead}", addr_or_dead(&self.source)),
            ("{plan/unknown}", shown(&self.path(plan))),
            ("{backup}", shown(&self.path("backup"))),
            ("{directory}", shown(directory)),
        ];
        let options = row.name.split(' ').skip(1);
        let words = options.chain(row.words.split(' ')).map(str::to_owned);
        let words = words.map(|word| {
            values
                .iter()
                .fold(word, |word, (name, value)| word.replace(name, value))
        });
        let words: Vec<String> = words.collect();
        assert!(
            !words.concat().contains('{'),
            "{words:?}: a placeholder that does not exist"
        );
        words
    }

    /// Runs one cell and says what is wrong with it.
    fn run(&self, row: &Row, situation: Situation, exit_code: i32) -> Vec<String> {
        self.directories.set(self.directories.get() + 1);
        let directory = self.path(&format!("directory-{}", self.directories.get()));
        let mut trib = Trib::new().args([row.command(), "-o", "json"]).env(
            "REDISCLI_AUTH",
            match situation {
                WrongPassword => WRONG_PASSWORD,
                _ => PASSWORD,
            },
        );
        match (situation, consent(row)) {
            (DryRun, _) => trib = trib.arg("--dry-run"),
            (NoTerminal | Declined, _) | (_, None) => {}
            (_, Some(option)) => trib = trib.arg(option),
        }
        let trib = trib.args(self.words(row, situation, &directory));
        let _other = (situation == AnotherOperator).then(|| {
            // `create` looks at no other node.
            let server = if row.command() == "create" {
                &self.spare
            } else {
                &self.nodes[1]
            };
            other_operator(server)
        });
        let before = self.fingerprint();
        let finished = if situation == Declined {
            let mut terminal = trib.terminal();
            terminal.expect(PROMPT).send_line("no");
            terminal.finish()
        } else {
            trib.run()
        };
        let mut wrong = Vec::new();
        if finished.status != Ended::Status(exit_code) {
            wrong.push(format!(
                "{:?} instead of exit code {exit_code}",
                finished.status
            ));
        }
        wrong.extend(wrong_output(row.name, situation, &finished));
        wrong.extend(difference(&before, &self.fingerprint()));
        if row.words.contains("{directory}") {
            let wanted = exit_code == 0 && situation != DryRun;
            if directory.exists() != wanted {
                wrong.push(format!("{} exists: {}", directory.display(), !wanted));
            }
        }
        if !wrong.is_empty() {
            wrong.push(format!(
                "--- stdout\n{}--- stderr\n{}",
                finished.screen(),
                finished.stderr
            ));
        }
        wrong
    }

    /// Returns the state of each server, by address.
    fn fingerprint(&self) -> BTreeMap<String, Vec<String>> {
        let mut nodes: BTreeMap<_, _> = self
            .cluster_nodes()
            .map(|server| (server.addr(), state(server)))
            .collect();
        let keys = format!("keys: {}", self.source.text(&["DBSIZE"]));
        nodes.insert(self.source.addr(), vec![keys]);
        nodes
    }

    fn open_slot(&self) {
        let (source, target) = (&self.nodes[2], &self.nodes[1]);
        target.cmd(&["CLUSTER", "SETSLOT", OPEN_SLOT, "IMPORTING", &source.id()]);
        source.cmd(&["CLUSTER", "SETSLOT", OPEN_SLOT, "MIGRATING", &target.id()]);
    }

    fn close_slot(&self) {
        for server in [&self.nodes[2], &self.nodes[1]] {
            server.cmd(&["CLUSTER", "SETSLOT", OPEN_SLOT, "STABLE"]);
        }
    }
}

/// Runs every cell of these columns on one cluster.
#[track_caller]
fn run_columns(situations: &[Situation]) {
    let fixture = Fixture::new();
    let baseline = fixture.fingerprint();
    let mut wrong = String::new();
    for (row, situation, exit_code) in cells(situations) {
        if row.slots == Slots::Open {
            fixture.open_slot();
        }
        let mut found = fixture.run(row, situation, exit_code);
        if row.slots == Slots::Open {
            fixture.close_slot();
        }
        let changes = difference(&baseline, &fixture.fingerprint());
        let is_changed = !changes.is_empty();
        if found.is_empty() {
            found = changes;
        }
        if !found.is_empty() {
            let _ = writeln!(wrong, "\n{situation:?}: {} {}", row.name, row.words);
            for line in found {
                let _ = writeln!(wrong, "  {line}");
            }
        }
        // What follows would run on another cluster.
        if is_changed {
            break;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Returns the cells of these columns that exist.
fn cells(situations: &[Situation]) -> impl Iterator<Item = (&'static Row, Situation, i32)> {
    TABLE.iter().flat_map(move |row| {
        SITUATIONS
            .into_iter()
            .zip(row.exit_codes)
            .filter(|(situation, exit_code)| *exit_code != NA && situations.contains(situation))
            .map(move |(situation, exit_code)| (row, situation, exit_code))
    })
}

/// Returns what is wrong with the JSON of a cell.
fn wrong_output(name: &str, situation: Situation, finished: &Finished) -> Option<String> {
    let Ended::Status(exit_code) = finished.status else {
        return None;
    };
    // On a terminal there are a prompt and an error between the lines. rexpect switches the echo off, so the
    // next line follows the prompt directly.
    let screen = finished.screen().replace(PROMPT, "\n");
    let lines = screen
        .lines()
        .filter(|line| situation != Declined || line.starts_with('{'));
    let objects: Option<Vec<Value>> = lines.map(|line| serde_json::from_str(line).ok()).collect();
    let Some(objects) = objects else {
        return Some("a line of stdout is not JSON".to_owned());
    };
    match document_field(name) {
        Some(field) => wrong_document(name, situation, exit_code, field, &objects),
        None => wrong_stream(name, exit_code, &objects),
    }
}

fn wrong_document(
    name: &str,
    situation: Situation,
    exit_code: i32,
    field: &str,
    objects: &[Value],
) -> Option<String> {
    let [document] = objects else {
        return Some(format!("writes {} documents", objects.len()));
    };
    let is_right = if matches!(situation, WrongPassword | DeadSeed | UnknownMember) {
        let command = name.split(' ').next().unwrap();
        let error = &document["error"];
        document["format"] == format!("redis-trib/{command}")
            && document["version"] == 1
            && error["code"] == exit_code
            && error["message"].is_string()
    } else {
        document.get(field).is_some()
    };
    (!is_right).then(|| format!("the document is {document}"))
}

fn wrong_stream(name: &str, exit_code: i32, objects: &[Value]) -> Option<String> {
    let is_done = |object: &Value| object["event"] == "done";
    let count = objects.iter().filter(|object| is_done(object)).count();
    match count {
        1 => {
            let last = objects.last()?;
            let first = objects.first()?;
            if !has_format(name, first) {
                return Some(format!("the first line is {first}"));
            }
            // The marks of text are not for programs.
            let is_unmarked =
                |message: &str| !["[", "*", ">"].iter().any(|mark| message.starts_with(mark));
            let is_right = is_done(last)
                && last["exit_code"] == exit_code
                && last["resume"].is_array()
                && last["message"].as_str().is_some_and(is_unmarked);
            (!is_right).then(|| format!("the last line is {last}"))
        }
        count => Some(format!("writes `done` {count} times")),
    }
}

/// Whether a document or the first line of a stream says what it is.
fn has_format(name: &str, object: &Value) -> bool {
    let command = name.split(' ').next().unwrap();
    object["format"] == format!("redis-trib/{command}") && object["version"] == 1
}

/// Returns the state of a node, without what changes by itself.
fn state(server: &Server) -> Vec<String> {
    let mut lines = view(server);
    for name in ["cluster_current_epoch", "cluster_my_epoch"] {
        lines.push(format!("{name}: {:?}", server.field(name)));
    }
    lines.push(format!("keys: {}", server.text(&["DBSIZE"])));
    for name in ["cluster-node-timeout", "cluster-allow-replica-migration"] {
        let pair: Vec<String> =
            redis::from_redis_value(server.cmd(&["CONFIG", "GET", name])).unwrap();
        lines.push(pair.join(": "));
    }
    lines
}

/// Returns the lines of CLUSTER NODES without ping and pong times, link states, and the flags `myself` and
/// `fail?`.
fn view(server: &Server) -> Vec<String> {
    let text = server.nodes_text();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let flags: Vec<&str> = fields[2]
                .split(',')
                .filter(|flag| !["myself", "fail?"].contains(flag))
                .collect();
            let (addr, flags) = (fields[1], flags.join(","));
            // After these: ping-sent, pong-recv, config-epoch, link-state, slots.
            [
                &[fields[0], addr, &flags, fields[3], fields[6]],
                &fields[8..],
            ]
            .concat()
            .join(" ")
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// Returns what changed on which node.
fn difference(
    before: &BTreeMap<String, Vec<String>>,
    after: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    before
        .iter()
        .filter(|(addr, state)| after[*addr] != **state)
        .map(|(addr, state)| format!("{addr} was changed: {state:#?}\nis now {:#?}", after[addr]))
        .collect()
}

/// Opens a connection that looks like one of another redis-trib.
fn other_operator(server: &Server) -> redis::Connection {
    let mut connection = server.connection().unwrap();
    redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg(OTHER_OPERATOR)
        .query::<()>(&mut connection)
        .unwrap();
    connection
}

/// An id that no node has.
fn unknown_id() -> String {
    "f".repeat(40)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Every command in `--help` has a row, and a cell in each situation that its options make possible.
#[test]
fn the_table_is_complete() {
    let help = |words: &[&str]| Trib::new().args(words).arg("--help").run().status(0).stdout;
    let all = help(&[]);
    let (commands, _) = all.split_once("\nOptions:").unwrap();
    let commands: BTreeSet<&str> = commands
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|name| {
            ![
                "throttle",
                "config",
                "options",
                "completions",
                "man",
                "help",
            ]
            .contains(name)
        })
        .collect();
    let rows: BTreeSet<&str> = TABLE.iter().map(Row::command).collect();
    assert_eq!(commands, rows);
    for command in commands {
        let options = help(&[command]);
        for situation in SITUATIONS {
            let exists = match situation {
                // The help does not show whether a command names members.
                UnknownMember => continue,
                // The servers of the fixture have no statistics to turn on: tests/it/slots.rs.
                Declined => options.contains("--yes") && command != "slots",
                DryRun => options.contains("--dry-run"),
                WrongPassword | DeadSeed | NoTerminal | AnotherOperator => true,
            };
            let has_cell = cells(&[situation]).any(|(row, ..)| row.command() == command);
            assert_eq!(has_cell, exists, "{command}: {situation:?}");
        }
    }
}

#[test]
fn wrong_passwords_and_dead_seeds() {
    run_columns(&[WrongPassword, DeadSeed]);
}

#[test]
fn unknown_members_and_dry_runs() {
    run_columns(&[UnknownMember, DryRun]);
}

#[test]
fn no_terminal_and_no_consent() {
    run_columns(&[NoTerminal]);
}

#[test]
fn declined() {
    run_columns(&[Declined]);
}

#[test]
fn another_operator() {
    run_columns(&[AnotherOperator]);
}
