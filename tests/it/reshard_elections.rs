//! `reshard` while a master that has no part in the move dies, and its replica is elected.

use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::Running;
use crate::support::keys::{Contents, assert_same, contents, fill};
use crate::support::server::{Spec, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;
use crate::support::wait::until;

/// Three masters with a replica each; slots 0-199 of the first go to the second, slowly.
struct Setting {
    nodes: Nodes,
    before: Contents,
}

impl Setting {
    fn new(spec: &Spec) -> Self {
        let nodes = Nodes::with(6, spec);
        nodes.form(3);
        fill(&nodes[..3], &names((0..200).chain(12_000..12_020), 20));
        let before = contents(&nodes);
        Self { nodes, before }
    }

    /// Starts the move, and waits until it is under way.
    #[track_caller]
    fn start(&self) -> Running {
        let first = self.moved();
        let run = reshard(&self.nodes[0])
            .args([
                "--slot-ranges",
                "0-199",
                "--to",
                &self.nodes[1].id(),
                "--yes",
            ])
            .args([
                "--strategy",
                "keys",
                "--max-open-slots",
                "4",
                "--rate",
                "400",
            ])
            .timeout(Duration::from_secs(90))
            .spawn();
        until("slots to move", Duration::from_secs(20), || {
            match self.moved() - first {
                now if now >= 8 => Ok(()),
                now => Err(now.to_string()),
            }
        });
        run
    }

    fn moved(&self) -> usize {
        owned(&self.nodes[1]).iter().map(|(a, b)| b - a + 1).sum()
    }
}

#[test]
fn a_master_outside_of_the_move_is_replaced_by_its_replica() {
    let setting = Setting::new(&quick());
    let first = setting.moved();
    let run = setting.start();
    setting.nodes[2].kill();
    run.wait_stderr("an election");
    run.wait().status(0);
    assert_eq!(setting.moved() - first, 200);
    assert_eq!(setting.nodes[5].field("role").as_deref(), Some("master"));
    setting.nodes[2].restart();
    setting.nodes.wait_usable();
    assert_closed(&setting.nodes);
    assert_same(&setting.before, &contents(&setting.nodes));
}

#[test]
fn a_master_without_a_replica_is_not_waited_for() {
    let setting = Setting::new(&quick());
    setting.nodes[5].kill();
    until(
        "its replica to be flagged",
        Duration::from_secs(20),
        || match setting.nodes[0].nodes_text().contains("fail ") {
            true => Ok(()),
            false => Err(setting.nodes[0].nodes_text()),
        },
    );
    let run = setting.start();
    setting.nodes[2].kill();
    run.wait_within(Duration::from_secs(30))
        .status(6)
        .stderr_has("cluster_state:fail")
        .stderr_lacks("an election");
}
