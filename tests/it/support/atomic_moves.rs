//! Clusters whose slots move by atomic slot migration, and tasks that last as long as a test needs.

use std::time::Duration;

use super::cluster::{Nodes, walkthrough};
use super::command::{Running, Trib};
use super::keys::{Contents, assert_same, contents, fill};
use super::server::{Server, quick};
use super::slots::{assert_closed, names, owned};
use super::subcommands::reshard;
use super::wait::until;

/// Delays each key of a task by `micros` microseconds, so that tasks last as long as a test needs.
pub(crate) fn slow(server: &Server, micros: u32) {
    server.cmd(&["CONFIG", "SET", "rdb-key-save-delay", &micros.to_string()]);
}

/// Waits until a task runs on this node, as its state shows.
#[track_caller]
pub(crate) fn wait_for_job(server: &Server) {
    let valkey = server.version().starts_with("valkey");
    until("a job to be under way", Duration::from_secs(20), || {
        let log = match valkey {
            true => server.cmd(&["CLUSTER", "GETSLOTMIGRATIONS"]),
            false => server.cmd(&["CLUSTER", "MIGRATION", "STATUS", "ALL"]),
        };
        let log = format!("{log:?}");
        match log.contains("snapshotting") || log.contains("send-bulk-and-stream") {
            true => Ok(()),
            false => Err(log),
        }
    });
}

/// Nodes of one version, slots 0-99 of the first filled, and a fourth master without slots.
pub(crate) struct Setting {
    pub(crate) nodes: Nodes,
    pub(crate) before: Contents,
}

impl Setting {
    pub(crate) fn new(version: &str) -> Self {
        let nodes = walkthrough(&quick().version(version));
        fill(&nodes[..3], &names(0..100, 20));
        let before = contents(&nodes);
        Self { nodes, before }
    }

    /// All of them go to the fourth.
    pub(crate) fn go(&self) -> Trib {
        reshard(&self.nodes[0]).args([
            "--slot-ranges",
            "0-99",
            "--to",
            &self.nodes[3].id(),
            "--yes",
            "--strategy",
            "atomic",
        ])
    }

    /// Starts a move whose task lasts some seconds.
    pub(crate) fn start(&self, more: &[&str]) -> Running {
        self.start_delayed(2000, more)
    }

    /// Starts a move whose task lasts 20 s: what a test does next comes before its end for certain.
    pub(crate) fn start_long(&self, more: &[&str]) -> Running {
        self.start_delayed(10_000, more)
    }

    fn start_delayed(&self, micros: u32, more: &[&str]) -> Running {
        slow(&self.nodes[0], micros);
        let run = self.go().args(more).spawn();
        // A task that was canceled before may still be listed by the servers.
        run.wait_stderr("Moving slots");
        wait_for_job(&self.nodes[0]);
        run
    }

    #[track_caller]
    pub(crate) fn assert_moved(&self) {
        assert_closed(&self.nodes);
        assert_eq!(owned(&self.nodes[3]), [(0, 99)]);
        assert_same(&self.before, &contents(&self.nodes));
    }

    #[track_caller]
    pub(crate) fn assert_stayed(&self) {
        assert_closed(&self.nodes);
        assert_eq!(owned(&self.nodes[3]), []);
        assert_same(&self.before, &contents(&self.nodes));
    }
}

/// Three masters with a replica each; slots 0-99 of the first are filled, and go to the second.
pub(crate) struct Shards {
    pub(crate) nodes: Nodes,
    pub(crate) before: Contents,
}

impl Shards {
    pub(crate) fn new(version: &str) -> Self {
        let nodes = Nodes::with(6, &quick().version(version));
        nodes.form(3);
        fill(&nodes[..3], &names(0..100, 20));
        let before = contents(&nodes);
        Self { nodes, before }
    }

    pub(crate) fn go(&self, to: &Server) -> Trib {
        reshard(&self.nodes[2]).args([
            "--slot-ranges",
            "0-99",
            "--to",
            &to.id(),
            "--yes",
            "--command-timeout",
            "2s",
        ])
    }

    pub(crate) fn start(&self) -> Running {
        slow(&self.nodes[0], 2000);
        let run = self.go(&self.nodes[1]).spawn();
        run.wait_stderr("Moving slots");
        wait_for_job(&self.nodes[0]);
        run
    }

    #[track_caller]
    pub(crate) fn failed_over(&self, victim: usize) {
        until("the failover", Duration::from_secs(30), || {
            match self.nodes[victim + 3].field("role").as_deref() {
                Some("master") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    #[track_caller]
    pub(crate) fn back(&self, victim: usize) {
        self.nodes[victim].restart();
        until("the old master to follow", Duration::from_secs(30), || {
            let link = self.nodes[victim].field("master_link_status");
            match link.as_deref() {
                Some("up") => Ok(()),
                other => Err(format!("{other:?}\n{}", self.nodes[victim].nodes_text())),
            }
        });
    }
}
