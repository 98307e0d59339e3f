//! Atomic moves whose servers lack rights on each other, and users without a password.
//!
//! The source of a task on Valkey logs in to the target with its own primaryuser and primaryauth.

use crate::support::cluster::{Nodes, walkthrough};
use crate::support::command::Trib;
use crate::support::keys::{assert_same, contents, fill};
use crate::support::server::{Server, Spec, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;

const VALKEY: &str = "valkey-9.1";

/// The rules that a replication user has where nobody thought of atomic moves.
const REPLICATION: &str = "-@all +psync +replconf +ping +cluster|syncslots";

fn user(node: &Server, name: &str, rules: &str) {
    let mut words = vec!["ACL", "SETUSER", name];
    words.extend(rules.split_whitespace());
    node.cmd(&words);
}

fn replicate_as(nodes: &Nodes, name: &str, password: &str) {
    for node in nodes.iter() {
        node.cmd(&["CONFIG", "SET", "primaryuser", name]);
        node.cmd(&["CONFIG", "SET", "primaryauth", password]);
    }
}

fn go(nodes: &Nodes) -> Trib {
    let to = nodes[3].id();
    reshard(&nodes[0]).args(["--slot-ranges", "0-9", "--to", &to, "--yes"])
}

fn closed_and_moved(nodes: &Nodes) {
    assert_closed(nodes);
    assert_eq!(owned(&nodes[3]), [(0, 9)]);
}

#[test]
fn missing_rules_are_foreseen_and_named() {
    let nodes = walkthrough(&quick().version(VALKEY));
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    for node in nodes.iter() {
        user(node, "repl", &format!("on >r {REPLICATION}"));
    }
    replicate_as(&nodes, "repl", "r");
    let refused = go(&nodes).args(["--strategy", "atomic"]).run().status(3);
    let refused = refused
        .stderr_has("primaryuser repl")
        .stderr_has("nothing was changed")
        .stderr_has("ACL SETUSER repl +@write +select ~*");
    assert!(
        !refused.stderr.contains("+cluster|syncslots "),
        "{}",
        refused.stderr
    );
    assert_eq!(owned(&nodes[3]), []);
    // A dry run says so, too, in JSON.
    let shown = go(&nodes).args(["--dry-run", "--output", "json"]).run();
    let shown = shown.status(0);
    assert!(
        shown.stdout.contains("+@write +select ~*"),
        "{}",
        shown.stdout
    );
    // The rules that are named are the ones that are needed.
    user(&nodes[3], "repl", "+@write +select ~*");
    let ended = go(&nodes).args(["--strategy", "atomic"]).run().status(0);
    ended.stdout_has("longest task");
    closed_and_moved(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn auto_moves_key_by_key_where_rules_are_missing() {
    let nodes = walkthrough(&quick().version(VALKEY));
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    user(&nodes[3], "repl", "on >r -@all +psync");
    replicate_as(&nodes, "repl", "r");
    go(&nodes).run().status(0);
    closed_and_moved(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// Without primaryauth a source is the default user, whatever primaryuser is.
#[test]
fn without_primaryauth_the_default_user_counts() {
    let spec = quick().version(VALKEY);
    let spec = spec.user("bench", "b", "~* &* +@all").admin("bench", "b");
    let nodes = walkthrough(&spec);
    for node in nodes.iter() {
        node.cmd(&["CONFIG", "SET", "primaryuser", "nobody"]);
    }
    let atomic = || {
        go(&nodes)
            .env("REDISCLI_AUTH", "b")
            .args(["--user", "bench", "--strategy", "atomic"])
            .run()
    };
    user(
        &nodes[3],
        "default",
        "nopass -@all +cluster|syncslots +select ~*",
    );
    atomic()
        .status(3)
        .stderr_has("no primaryauth")
        .stderr_has("ACL SETUSER default +@write");
    user(&nodes[3], "default", "resetpass >secret");
    atomic()
        .status(3)
        .stderr_has("no primaryauth")
        .stderr_has("NOAUTH")
        .stderr_lacks("--pass");
    user(&nodes[3], "default", "nopass +@write");
    atomic().status(0);
    closed_and_moved(&nodes);
}

/// `AUTH x` is an error at a default user without a password, and a source stops at any error.
#[test]
fn a_primaryauth_that_the_target_does_not_need_is_foreseen() {
    let nodes = walkthrough(&quick().version(VALKEY));
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    replicate_as(&nodes, "", "s");
    let atomic = || go(&nodes).args(["--strategy", "atomic"]).run();
    atomic()
        .status(3)
        .stderr_has("primaryauth as default")
        .stderr_has("the default user has no password")
        .stderr_has("primaryuser to default")
        .stderr_has("nothing was changed");
    // `auto` knows it before.
    let shown = go(&nodes).args(["--dry-run", "--output", "json"]).run();
    shown
        .status(0)
        .stdout_has("the default user has no password")
        .stdout_lacks("\"strategy\":\"atomic\"");
    // The remedy: the source then sends `AUTH default s`.
    replicate_as(&nodes, "default", "s");
    atomic().status(0);
    closed_and_moved(&nodes);
    assert_same(&before, &contents(&nodes));
}

/// Who may neither read the settings nor ask DRYRUN finds out by a task that fails.
#[test]
fn a_task_that_fails_for_missing_rights_goes_on_key_by_key() {
    let nodes = walkthrough(&quick().version(VALKEY));
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    for node in nodes.iter() {
        user(node, "repl", &format!("on >r {REPLICATION}"));
        user(node, "mover", "on >m ~* &* +@all -acl -config");
    }
    replicate_as(&nodes, "repl", "r");
    let as_mover = || {
        go(&nodes)
            .env("REDISCLI_AUTH", "m")
            .args(["--user", "mover"])
    };
    let failed = as_mover().args(["--strategy", "atomic"]).run().status(6);
    failed
        .stderr_has("primaryuser and primaryauth")
        .stderr_has("+cluster|syncslots +select +@write ~*");
    assert_eq!(owned(&nodes[3]), []);
    // The login fails at once.
    user(&nodes[3], "repl", "off");
    let ended = as_mover().run().status(0);
    ended.stderr_has("moving the rest key by key");
    closed_and_moved(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn a_user_without_a_password_moves_keys_matrix() {
    for version in ["redis-7.0", VALKEY] {
        let spec: Spec = quick().version(version);
        let spec = spec.user("bench", "b", "~* &* +@all").admin("bench", "b");
        let nodes = walkthrough(&spec);
        fill(&nodes[..3], &names(0..10, 5));
        let before = contents(&nodes);
        for node in nodes.iter() {
            user(node, "mover", "on nopass ~* &* +@all");
            user(node, "default", "off");
        }
        let go = || go(&nodes).args(["--user", "mover", "--strategy", "keys"]);
        go().run().status(0);
        closed_and_moved(&nodes);
        assert_same(&before, &contents(&nodes));
    }
}
