//! The walkthrough's chapters 模拟故障转移, 节点增加, 重新分片 and 节点删除, as a person goes through them: each
//! command typed at a terminal, each question answered there.

use crate::support::cluster::Nodes;
use crate::support::command::{Terminal, Trib};
use crate::support::server::{Server, Spec};
use crate::support::views::{counts, lines, myself};
use crate::support::wait::{PATIENCE, until};

const PASSWORD: &str = "123456";

/// Typed at a terminal where the password is in the environment.
fn type_in<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Terminal {
    Trib::new()
        .env("REDISCLI_AUTH", PASSWORD)
        .args(words)
        .terminal()
}

/// Types it, answers `yes` to that question, and reads the screen at the end.
#[track_caller]
fn yes_to(question: &str, words: &[&str]) -> String {
    let mut terminal = type_in(words);
    terminal.expect(question).send_line("yes");
    terminal.finish().status(0).screen()
}

/// Reshards with the prompts of redis-trib.rb: how many slots, to which node, from which nodes.
#[track_caller]
fn reshard(node: &Server, slots: &str, to: &Server, from: &[&str]) {
    let mut terminal = type_in(["reshard", &node.addr()]);
    terminal
        .expect("How many slots do you want to move (from 1 to 16384)?")
        .send_line(slots);
    terminal
        .expect("What is the receiving node ID?")
        .send_line(&to.id());
    for (number, name) in (1..).zip(from) {
        terminal
            .expect(&format!("Source node #{number}:"))
            .send_line(name);
    }
    terminal
        .expect("Do you want to proceed with the proposed reshard plan?")
        .send_line("yes");
    terminal.finish().status(0);
}

#[test]
fn failover_a_node_more_resharding_a_node_less() {
    let spec = Spec::new().quick().password(PASSWORD);
    let nodes = Nodes::with(6, &spec);
    let first = nodes[0].addr();

    // Three masters, three replicas.
    let mut words = vec!["create".to_owned(), "--replicas".to_owned(), "1".to_owned()];
    words.extend(nodes.addrs());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let screen = yes_to("Can I set the above configuration?", &words);
    assert!(screen.contains("all 16,384 slots are served"), "{screen}");
    nodes[1].cmd(&["SET", "name", "zeffee"]);
    until("the replica to have the key", PATIENCE, || {
        match nodes[4].text(&["DBSIZE"]).as_str() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    });

    // 模拟故障转移: the second master is stopped, its replica takes over.
    let dead = nodes[1].id();
    nodes[1].kill();
    until("its replica to take over", PATIENCE, || {
        let state = nodes[0].field("cluster_state").unwrap();
        match nodes[4].field("role").unwrap().as_str() {
            "master" if state == "ok" => Ok(()),
            other => Err(format!("{other}, {state}")),
        }
    });
    // Other nodes hear of it a moment later.
    let words = ["check", &first, "--wait", "30s"];
    let ended = type_in(words).finish().status(0);
    assert!(
        ended.screen().contains("warning slotless-node-failed"),
        "{}",
        ended.screen()
    );
    assert_eq!(nodes[4].text(&["GET", "name"]), "zeffee");

    // 节点增加: the seventh service is started without the password, and is named for it.
    let open = Spec::new().quick().start();
    let ended = type_in(["add-node", &open.addr(), &first])
        .finish()
        .status(3);
    assert!(
        ended.screen().contains(&open.addr())
            && ended
                .screen()
                .contains("requires no password, but other nodes do"),
        "{}",
        ended.screen()
    );
    assert_eq!(lines(&open).len(), 1);
    drop(open);
    let master = spec.start();
    let screen = yes_to("Add this node?", &["add-node", &master.addr(), &first]);
    assert!(
        screen.contains("ok: 1 node joined the cluster."),
        "{screen}"
    );
    // Its replica; the master without slots is named.
    let replica = spec.start();
    let words = ["add-node", &replica.addr(), &first, "--replica"];
    let screen = yes_to(
        "Add this node?",
        &[&words[..], &["--master-id", &master.id()]].concat(),
    );
    assert!(
        screen.contains("ok: 1 node joined the cluster."),
        "{screen}"
    );
    assert_eq!(myself(&replica)[3], master.id());

    // 重新分片: at once, a quarter for the new one.
    reshard(&nodes[0], "4096", &master, &["all"]);
    let living = [&nodes[0], &nodes[4], &nodes[2], &master];
    let owned = living.map(|server| counts(std::slice::from_ref(server))[0]);
    assert_eq!(owned, [4096, 4096, 4096, 4096]);

    // 节点删除: a replica can go at once; that it is the only one is said first.
    let words = ["del-node", &first, &replica.id()];
    let ended = type_in(words).finish().status(3);
    let unprotected = format!("--leave-unprotected {}", &replica.id()[..8]);
    assert!(ended.screen().contains(&unprotected), "{}", ended.screen());
    let screen = yes_to(
        "Remove it from the cluster?",
        &[&words[..], &["--leave-unprotected", &replica.id()]].concat(),
    );
    assert!(screen.contains("ok: "), "{screen}");
    assert_eq!(lines(&replica).len(), 1);
    // The master's slots go in three parts of 4096/3 = 1365, and one is left over.
    for to in [&nodes[2], &nodes[0], &nodes[4]] {
        reshard(&nodes[0], "1365", to, &[&master.id(), "done"]);
    }
    assert_eq!(counts(std::slice::from_ref(&master)), [1]);
    let left = myself(&master)[8].clone();
    let mut terminal = type_in(["del-node", &first, &master.id()]);
    terminal
        .expect(&left)
        .expect("--drain")
        .expect("(type 'yes' to accept): ")
        .send_line("no");
    terminal.finish().status(5);
    assert_eq!(counts(std::slice::from_ref(&master)), [1]);
    let screen = yes_to(
        "Remove it from the cluster?",
        &["del-node", &first, &master.id(), "--drain"],
    );
    assert!(screen.contains("ok: "), "{screen}");
    assert_eq!(lines(&master).len(), 1);

    // The dead one goes, too: nothing is left to be warned of but the one host, and the master that has
    // no replica any more.
    yes_to("Remove it from the cluster?", &["del-node", &first, &dead]);
    let ended = type_in(["check", &first]).finish().status(0);
    let screen = ended.screen();
    assert!(!screen.contains("slotless-node-failed"), "{screen}");
    assert!(screen.contains("all 16,384 slots are served"), "{screen}");
    // The node that owns its slot now.
    let owner = [0, 2, 4]
        .into_iter()
        .find(|index| nodes[*index].try_cmd(&["GET", "name"]).is_ok());
    assert_eq!(nodes[owner.unwrap()].text(&["GET", "name"]), "zeffee");
}
