//! `playground.sh`: starts a cluster that stays, says how to use it, and removes all of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::ports::reserve;
use crate::support::server::{program, quick};

struct Playground {
    home: TempDir,
    path: String,
}

impl Playground {
    fn with_path(path: String) -> Self {
        Self {
            home: tempfile::tempdir().unwrap(),
            path,
        }
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("playground")
    }

    fn run(&self, args: &[&str]) -> Finished {
        self.command(args).run()
    }

    fn command(&self, args: &[&str]) -> Trib {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("playground.sh");
        Trib::new()
            .program(script)
            .args(args)
            .env("PATH", &self.path)
            .env("REDIS_TRIB", env!("CARGO_BIN_EXE_redis-trib"))
            .env("REDIS_TRIB_PLAYGROUND", self.dir().to_str().unwrap())
            // The nodes have none.
            .env("REDISCLI_AUTH", "of another cluster")
    }
}

/// Also when the test fails.
impl Drop for Playground {
    fn drop(&mut self) {
        self.run(&["stop"]);
    }
}

fn path() -> String {
    std::env::var("PATH").unwrap()
}

/// The first node that the script has printed.
fn first_node(started: &Finished) -> String {
    let text = started.stdout.as_str();
    let nodes = text.split_once("A cluster is running: ").unwrap().1;
    nodes.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn the_cluster_stays_until_it_is_stopped() {
    let playground = Playground::with_path(path());
    let port = reserve().port.to_string();
    let started = playground.run(&["--port", &port]).status(0);
    let node = first_node(&started);
    started
        .stdout_has(&format!("check {node}\n"))
        .stdout_has("playground.sh stop\n");
    Trib::new()
        .args(["check", &node, "--output", "table"])
        .run()
        .status(0)
        .stdout_has("6 nodes: 3 masters, 3 replicas");

    let again = playground.run(&[]).status(0);
    assert_eq!(first_node(&again), node);

    playground.run(&["stop"]).status(0).stdout_has("removed");
    assert!(!playground.dir().exists());
    Trib::new().args(["check", &node]).run().status(4);
    playground
        .run(&["stop"])
        .status(0)
        .stdout_has("No playground");
}

#[test]
fn ports_that_are_taken_are_left_out() {
    let others = Nodes::with(2, &quick());
    let playground = Playground::with_path(path());
    let port = others[0].port().to_string();
    let started = playground
        .run(&["--nodes=3", "--keep", &format!("--port={port}")])
        .status(0);
    assert!(!started.stdout.contains(&format!(" {}\n", others[0].addr())));
    let node = first_node(&started);
    Trib::new()
        .args(["info", &node, "--output", "table"])
        .run()
        .status(0)
        .stdout_has("3 masters");
}

#[test]
fn two_starts_at_once_make_one_playground() {
    let playground = Playground::with_path(path());
    let port = reserve().port.to_string();
    let first = playground.command(&["--port", &port]).spawn();
    first.wait_stdout("Starting 6 nodes");
    playground
        .run(&["--port", &port])
        .status(1)
        .stderr_has("another playground.sh is starting");
    // The first one is killed, and what it has started ends.
    playground.run(&["stop"]).status(0).stdout_has("removed");
    first.wait();
    playground
        .run(&["stop"])
        .status(0)
        .stdout_has("No playground");
}

/// The programs that the script needs, and no more: a minimal system with Valkey.
fn only_valkey(folder: &Path) -> String {
    let tools = [
        "cat", "cut", "dirname", "grep", "id", "mkdir", "rm", "seq", "sh", "sleep", "tr", "uname",
        "wc",
    ];
    for tool in tools {
        let found = std::env::split_paths(&path())
            .map(|folder| folder.join(tool))
            .find(|file| file.exists());
        symlink(found.unwrap(), folder.join(tool)).unwrap();
    }
    folder.to_str().unwrap().to_owned()
}

#[test]
fn valkey_server_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let playground = Playground::with_path(only_valkey(folder.path()));
    playground
        .run(&[])
        .status(1)
        .stderr_has("neither redis-server nor valkey-server was found");
    assert!(!playground.dir().exists());

    let valkey = program("valkey-8.1");
    symlink(valkey, folder.path().join("valkey-server")).unwrap();
    let port = reserve().port.to_string();
    playground
        .run(&["--port", &port, "--nodes", "3"])
        .status(0)
        .stdout_has("Valkey server v=8.1")
        .stdout_has("3 masters, 0 replicas");
}

#[test]
fn bad_arguments_start_nothing() {
    let playground = Playground::with_path(path());
    for (args, reason) in [
        (&["--nodes", "2"][..], "'2' is not a number from 3 to 60"),
        (&["--nodes"], "'' is not a number from 3 to 60"),
        (&["--port", "99999"], "'99999' is not a number"),
        (&["pause"], "unknown argument 'pause'"),
        (&["--nodes", "3", "stop"], "'stop' comes first"),
    ] {
        playground.run(args).status(2).stderr_has(reason);
    }
    playground
        .run(&["--help"])
        .status(0)
        .stdout_has("Usage: playground.sh");
    // A folder that the script has not made is not removed.
    fs::create_dir(playground.dir()).unwrap();
    fs::write(playground.dir().join("precious"), "").unwrap();
    playground.run(&[]).status(1).stderr_has("is no playground");
    playground.run(&["stop"]).status(0);
    assert!(playground.dir().join("precious").exists());
}
