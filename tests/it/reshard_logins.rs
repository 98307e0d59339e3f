//! How `reshard` and the servers reach each other and log in: rights, passwords, ports, names.

use crate::support::cluster::{Nodes, walkthrough, walkthrough_of};
use crate::support::command::Trib;
use crate::support::keys::{assert_same, contents, fill};
use crate::support::ports::{self, Reserved};
use crate::support::server::{Server, quick};
use crate::support::slots::{assert_closed, names, owned};
use crate::support::subcommands::reshard;
use crate::support::tls::Material;

/// The rules of docs/security.md for commands that move slots key by key.
const RULES: &str = "+cluster|nodes +cluster|info +info +cluster|setslot +cluster|getkeysinslot \
    +cluster|countkeysinslot +migrate +restore-asking +select +wait +asking +set +del ~*";

fn rules(server: &Server, rules: &str) {
    let mut words = vec!["ACL", "SETUSER", "mover", "reset", "on", ">m0ver"];
    words.extend(rules.split_whitespace());
    server.cmd(&words);
}

fn as_mover(node: &Server) -> Trib {
    reshard(node)
        .env("REDISCLI_AUTH", "m0ver")
        .args(["--user", "mover", "--yes"])
}

#[test]
fn the_least_rights_are_enough() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).unwrap();
    let row = page.lines().find(|line| line.starts_with("| `reshard`"));
    let row = row.unwrap().replace("\\|", "|");
    assert!(row.contains(RULES), "{row}");
    let nodes = Nodes::with(6, &quick());
    nodes.form(3);
    fill(&nodes[..3], &names(0..30, 10));
    let before = contents(&nodes);
    let to = nodes[1].id();
    let go = || as_mover(&nodes[0]).args(["--slot-ranges", "0-29", "--to", &to]);
    // Without any one of the rules nothing is started, or the rule is not needed to start.
    for without in RULES.split_whitespace() {
        let less = RULES.replace(without, "");
        nodes.iter().for_each(|node| rules(node, &less));
        if ["+asking", "+set", "+del", "+cluster|setslot"].contains(&without) {
            continue;
        }
        let ended = go().run();
        let code = format!("{:?}", ended.status);
        assert!(
            ["Status(3)", "Status(4)"].contains(&code.as_str()),
            "{without}: {code} {}",
            ended.stderr
        );
        assert!(!nodes[0].nodes_text().contains("->-"), "{without}");
    }
    nodes.iter().for_each(|node| rules(node, RULES));
    go().run().status(0).stderr_lacks("m0ver");
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn a_source_without_keys_has_its_login_tried_too() {
    let nodes = walkthrough(&quick());
    for node in nodes.iter() {
        rules(node, "+@all ~* &*");
    }
    rules(&nodes[3], "+@all -restore-asking ~* &*");
    let to = nodes[3].id();
    let go = || as_mover(&nodes[0]).args(["--slot-ranges", "0-9", "--to", &to]);
    go().run()
        .status(3)
        .stderr_has("restore-asking")
        .stderr_has("nothing was changed");
    assert_eq!(contents(&nodes).len(), 0, "the key of the trial is gone");
    // If the user may not write the key either, the message says that the result is unknown.
    for node in nodes.iter() {
        rules(node, "+@all -set ~* &*");
    }
    go().run().status(0).stderr_has("could not be tried");
    assert_eq!(owned(&nodes[3]), [(0, 9)]);
    assert_closed(&nodes);
}

#[test]
fn a_target_without_a_password_among_others_that_have_one() {
    // The test logs in as another user, so that the default user can be changed.
    let spec = quick().password("sesame");
    let spec = spec.user("bench", "b", "~* &* +@all").admin("bench", "b");
    let nodes = walkthrough(&spec);
    fill(&nodes[..3], &names(0..10, 5));
    let before = contents(&nodes);
    let ids: Vec<String> = nodes.iter().map(Server::id).collect();
    let go = |to: usize| {
        reshard(&nodes[0])
            .env("REDISCLI_AUTH", "sesame")
            .args(["--slot-ranges", "0-9", "--to", &ids[to], "--yes"])
            .run()
    };
    nodes[3].cmd(&["ACL", "SETUSER", "default", "nopass"]);
    go(3).status(0).stderr_lacks("sesame");
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    // And one with another password than all others: it can't even be looked at.
    nodes[3].cmd(&[
        "ACL",
        "SETUSER",
        "default",
        "resetpass",
        ">sesame",
        ">other",
    ]);
    go(0).status(0);
    nodes[3].cmd(&["CONFIG", "SET", "requirepass", "other"]);
    let ended = go(3).status(3);
    assert!(ended.stderr.contains(&nodes[3].addr()), "{}", ended.stderr);
    assert!(ended.stderr.contains("password"), "{}", ended.stderr);
}

#[test]
fn servers_reach_each_other_by_other_ports_than_we_do() {
    // Over the plain port, nodes announce plain ports; MIGRATE uses TLS (tls-cluster).
    let material = Material::new();
    let plain: Vec<Reserved> = (0..4).map(|_| ports::reserve()).collect();
    let nodes = walkthrough_of(|n| quick().tls(&material).arg("--port", plain[n].port));
    fill(&nodes[..3], &names(0..20, 5));
    let before = contents(&nodes);
    let seed = format!("127.0.0.1:{}", plain[0].port);
    Trib::new()
        .args(["reshard", &seed, "--slot-ranges", "0-19", "--yes"])
        .args(["--to", &nodes[3].id()])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
}

#[test]
fn nodes_that_announce_names_and_write_to_disk() {
    let spec = quick()
        .arg("--cluster-announce-hostname", "localhost")
        .arg("--cluster-preferred-endpoint-type", "hostname")
        .arg("--appendonly", "yes");
    let nodes = walkthrough(&spec);
    fill(&nodes[..3], &names(0..20, 5));
    let before = contents(&nodes);
    reshard(&nodes[0])
        .args(["--slot-ranges", "0-19", "--to", &nodes[3].id(), "--yes"])
        .run()
        .status(0);
    assert_closed(&nodes);
    assert_same(&before, &contents(&nodes));
    // What was moved is on the disk.
    nodes[3].restart();
    nodes.wait_usable();
    assert_same(&before, &contents(&nodes));
}
