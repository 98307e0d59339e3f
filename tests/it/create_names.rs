//! `create` of names that stand for many nodes.
//!
//! Names are made by a hosts file of the program's own, in a mount namespace of its own.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::create::{assert_bare, assert_usable, myself};
use crate::support::command::Trib;
use crate::support::server::{Server, Spec, has_ipv6};

/// A hosts file that only the programs see that are started with it.
pub(crate) struct Hosts(TempDir);

impl Hosts {
    #[track_caller]
    pub(crate) fn new(lines: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Self(dir);
        hosts.write(lines);
        let works = std::process::Command::new("unshare")
            .args(Self::NAMESPACE)
            .args(["mount", "--bind"])
            .args([&hosts.file(), Path::new("/etc/hosts")])
            .status()
            .is_ok_and(|status| status.success());
        assert!(
            works,
            "this test needs a mount namespace (unshare --user --mount), and may not have one here"
        );
        hosts
    }

    const NAMESPACE: [&str; 3] = ["--user", "--map-root-user", "--mount"];

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("hosts")
    }

    /// In place: the file is mounted, not its name.
    pub(crate) fn write(&self, lines: &[(&str, &str)]) {
        let text: String = lines
            .iter()
            .map(|(ip, name)| format!("{ip} {name}\n"))
            .collect();
        std::fs::write(self.file(), text).unwrap();
    }

    /// `redis-trib` with these names.
    pub(crate) fn trib(&self) -> Trib {
        let mount = format!(
            "mount --bind {} /etc/hosts && exec \"$0\" \"$@\"",
            self.file().display()
        );
        Trib::new().program("unshare").args(Self::NAMESPACE).args([
            "sh",
            "-c",
            &mount,
            env!("CARGO_BIN_EXE_redis-trib"),
        ])
    }
}

/// Servers on one port of several hosts.
pub(crate) fn services(hosts: &[&str]) -> Vec<Server> {
    // They would call each other from 127.0.0.1, and take that for where the caller is.
    let spec = |host: &str| {
        let spec = Spec::new().quick().bind(host);
        spec.arg("--cluster-announce-ip", host)
    };
    let mut servers = vec![spec(hosts[0]).start()];
    for host in &hosts[1..] {
        servers.push(spec(host).start_beside(&servers[0]));
    }
    servers
}

const SIX: [&str; 6] = [
    "127.0.1.2",
    "127.0.1.3",
    "127.0.1.4",
    "127.0.1.5",
    "127.0.1.6",
    "127.0.1.7",
];

#[test]
fn a_service_of_masters_and_one_of_replicas() {
    let all: Vec<(&str, &str)> = SIX
        .into_iter()
        .zip(["tasks.slave"; 3].into_iter().chain(["tasks.master"; 3]))
        .collect();
    let hosts = Hosts::new(&all[..2]);
    let nodes = services(&SIX);
    let port = nodes[0].port();
    let run = hosts
        .trib()
        .args(["create", "--yes", "--replicas", "1", "--expect-nodes", "6"])
        .args([
            format!("tasks.master:{port}"),
            format!("tasks.slave:{port}"),
        ])
        .spawn();
    run.wait_stderr("waiting: 6 nodes are expected, but \"tasks.master\" does not resolve");
    hosts.write(&all[..5]);
    run.wait_stderr("waiting: 6 nodes are expected, and 5 found yet");
    hosts.write(&all);
    // No two of a shard share a host, so nothing is warned of.
    run.wait().status(0).stdout_lacks("[WARNING]");
    assert_usable(&nodes, 3);
    for server in &nodes[..3] {
        assert!(myself(server)[2].contains("slave"), "{}", server.addr());
    }
}

#[test]
fn too_few_nodes_behind_a_name() {
    let lines = [(SIX[0], "tasks.redis"), (SIX[1], "tasks.redis")];
    let hosts = Hosts::new(&lines);
    hosts
        .trib()
        .args(["create", "--yes", "tasks.redis:7000"])
        .args(["--expect-nodes", "3", "--resolve-timeout", "1s"])
        .run()
        .status(3)
        .within(Duration::from_secs(10))
        .stderr_has("2 found after 1s, 3 expected (--expect-nodes): 127.0.1.2:7000, 127.0.1.3:7000")
        .stderr_has("--resolve-timeout");
}

#[test]
fn a_name_of_two_families() {
    let lines = [("127.0.0.1", "here"), ("::1", "here")];
    let hosts = Hosts::new(&lines);
    if !has_ipv6() {
        return;
    }
    // Nobody listens at the first address: the nodes are told the one that was connected to.
    let nodes: Vec<Server> = (0..3)
        .map(|_| Spec::new().quick().bind("::1").start())
        .collect();
    assert_bare(&nodes);
    hosts
        .trib()
        .args(["create", "--yes", "--no-wait"])
        .args(nodes.iter().map(|node| format!("here:{}", node.port())))
        .run()
        .status(0);
}
