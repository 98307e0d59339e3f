//! Clusters on the Raft bus of Valkey 10 (`cluster-protocol raft`), played by scripted nodes: no release has it.

use serde_json::Value;

use crate::support::command::{Finished, Trib};
use crate::support::findings::{codes, finding};
use crate::support::scripted::{FakeCluster, Reply, Script, fake_cluster, fake_cluster_where};
use crate::support::subcommands::{check, check_json, create};

/// CLUSTER INFO of a Raft node.
fn cluster_info(role: &str, leader: &str, voters: usize, nodes: usize) -> Reply {
    Reply::bulk(&format!(
        "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{nodes}\r\ncluster_size:{voters}\r\ncluster_raft_role:{role}\r\n\
         cluster_raft_current_term:4\r\ncluster_raft_commit_index:20\r\ncluster_raft_last_applied:20\r\n\
         cluster_raft_log_entries:20\r\ncluster_raft_leader:{leader}\r\n"
    ))
}

const VALKEY_10: &str = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:10.0.0\r\nrun_id:\
                         1111111111111111111111111111111111111111\r\nloading:0\r\nrole:master\r\ncluster_enabled:1\r\n\
                         used_memory:1000000\r\n";

/// Three masters that all vote, in the words of the Raft bus; `leader` is the index of the one that they name.
fn raft(leader: Option<usize>) -> FakeCluster {
    // Ids are the same in each run.
    let ids = fake_cluster(3, 0).ids;
    let leader_id = leader.map_or_else(String::new, |index| ids[index].clone());
    fake_cluster_where(3, 0, move |index, script| {
        let role = match leader {
            Some(leader) if leader == index => "leader",
            Some(_) => "follower",
            None => "candidate",
        };
        script
            .on("INFO", Reply::bulk(VALKEY_10))
            .on("CLUSTER INFO", cluster_info(role, &leader_id, 3, 3))
    })
}

fn changes(cluster: &FakeCluster) -> Vec<String> {
    let changing = [
        "MEET",
        "SETSLOT",
        "MULTI",
        "FORGET",
        "MIGRATESLOTS",
        "RESET",
        "ADDSLOTS",
        "MIGRATE ",
    ];
    let commands = cluster.nodes.iter().flat_map(|node| node.commands());
    let commands = commands.filter(|line| {
        let line = line.to_ascii_uppercase();
        changing.iter().any(|word| line.contains(word))
    });
    // FORGET of an id that no node has, and MIGRATESLOTS to one, is how rights are tried.
    commands
        .filter(|line| !line.contains(&"0".repeat(40)) && !line.ends_with(" NODE 0"))
        .filter(|line| !line.starts_with("COMMAND INFO"))
        .collect()
}

#[track_caller]
fn refused(trib: Trib, cluster: &FakeCluster, why: &str) {
    trib.run()
        .status(3)
        .stderr_has("cluster-protocol raft")
        .stderr_has(why)
        .stderr_has("nothing was changed");
    assert_eq!(changes(cluster), Vec::<String>::new());
}

#[test]
fn a_raft_cluster_is_read() {
    let cluster = raft(Some(0));
    let addr = cluster.nodes[1].addr();
    check(&addr).run().status(0);
    Trib::new().args(["info", &addr]).run().status(0);
    Trib::new()
        .args(["call", &addr, "--allow-dangerous", "PING"])
        .run()
        .status(0);
    let json = check_json(&addr).run().status(0).json();
    assert!(!codes(&json).contains(&"epoch-collision"), "{json:#}");
    // Two of three voters stay: a majority.
    let stop = Trib::new().args(["ok-to-stop", &addr, &cluster.nodes[2].addr(), "-o", "json"]);
    let json = stop.run().json();
    assert!(
        !json["reasons"].to_string().contains("no-majority"),
        "{json:#}"
    );
}

#[test]
fn ok_without_a_leader_is_not_believed() {
    let cluster = raft(None);
    let json = check_json(&cluster.nodes[0].addr()).run().status(1).json();
    let finding = finding(&json, "cluster-state-not-ok");
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("without a Raft leader"), "{message}");
    assert_eq!(finding["nodes"].as_array().unwrap().len(), 3);
}

/// `voters` of four masters vote, the others are learners.
fn with_learners(voters: &[usize]) -> FakeCluster {
    let ids = fake_cluster(4, 0).ids;
    let leader = ids[voters[0]].clone();
    let learners: Vec<String> = (0..4)
        .filter(|index| !voters.contains(index))
        .map(|index| ids[index].clone())
        .collect();
    let size = voters.len();
    // The table is made before the scripts are: learners are flagged in a second cluster that has its addresses.
    fake_cluster_where(4, 0, move |index, script| {
        let role = if learners.contains(&ids[index]) {
            "learner"
        } else {
            "follower"
        };
        script
            .on("INFO", Reply::bulk(VALKEY_10))
            .on("CLUSTER INFO", cluster_info(role, &leader, size, 4))
            .flag("CLUSTER NODES", &learners, "learner")
    })
}

#[test]
fn a_majority_is_one_of_voters() {
    // Nodes 0 and 1 vote: without one of them there is no majority, although three masters of four would be left.
    let cluster = with_learners(&[0, 1]);
    let addr = cluster.nodes[2].addr();
    let stop = |index: usize| -> Value {
        let node = cluster.nodes[index].addr();
        let trib = Trib::new().args(["ok-to-stop", &addr, &node, "-o", "json"]);
        trib.run().json()["reasons"].clone()
    };
    assert!(stop(1).to_string().contains("1 of 2 voters"), "{}", stop(1));
    assert!(!stop(3).to_string().contains("no-majority"), "{}", stop(3));
}

#[test]
fn what_the_raft_bus_does_not_allow_is_refused() {
    let cluster = raft(Some(0));
    let addr = cluster.nodes[0].addr();
    let to = cluster.ids[1].clone();
    let reshard = || {
        Trib::new().args([
            "reshard",
            &addr,
            "--slot-ranges",
            "0-3",
            "--to",
            &to,
            "--yes",
        ])
    };
    refused(reshard(), &cluster, "SETSLOT inside MULTI");
    refused(
        reshard().args(["--strategy", "keys"]),
        &cluster,
        "SETSLOT inside MULTI",
    );
    let fix = Trib::new().args(["fix", &addr, "--yes"]);
    refused(fix, &cluster, "SETSLOT inside MULTI");
    let delete = Trib::new().args(["del-node", &addr, &to, "--yes"]);
    refused(delete, &cluster, "CLUSTER FORGET");

    let alone = |letter: &str| {
        let id = letter.repeat(40);
        Script::new()
            .on("INFO", Reply::bulk(VALKEY_10))
            .on("CLUSTER MYID", Reply::bulk(&id))
            .on("CLUSTER INFO", cluster_info("leader", &id, 1, 1))
            .on(
                "CLUSTER NODES",
                Reply::bulk(&format!(
                    "{id} 127.0.0.1:7000@17000 myself,master - 0 0 0 connected\n"
                )),
            )
            .start()
    };
    let new = FakeCluster {
        nodes: ["a", "b", "c"].map(alone).into(),
        ids: Vec::new(),
    };
    let addrs: Vec<String> = new.nodes.iter().map(|node| node.addr()).collect();
    refused(create(&addrs), &new, "one by one");
    let add = Trib::new().args(["add-node", &addrs[0], &addr, "--yes"]);
    refused(add, &cluster, "one by one");
    assert_eq!(changes(&new), Vec::<String>::new());
}

/// CLUSTER INFO has Raft fields, and CLUSTER NODES is that of gossip: three masters with slots and replicas that no flag
/// calls learners, while cluster_size counts the masters.
#[test]
fn raft_fields_beside_a_table_of_gossip() {
    let ids = fake_cluster(3, 3).ids;
    let cluster = fake_cluster_where(3, 3, move |_, script| {
        let info = cluster_info("follower", &ids[0], 3, 6);
        script
            .on("INFO", Reply::bulk(VALKEY_10))
            .on("CLUSTER INFO", info)
    });
    let addr = cluster.nodes[0].addr();
    let once = |finished: Finished| {
        let said = finished
            .stderr_has("can't be told")
            .stderr_has("cluster_size tells of 3 voters");
        assert_eq!(
            said.stderr.matches("can't be told").count(),
            1,
            "{}",
            said.stderr
        );
    };
    once(check(&addr).run().status(4));
    let reshard = [
        "reshard",
        &addr,
        "--slots",
        "1",
        "--from",
        "all",
        "--to",
        &cluster.ids[1],
        "--yes",
    ];
    once(Trib::new().args(reshard).run().status(4));
    once(Trib::new().args(["fix", &addr, "--yes"]).run().status(4));
    assert_eq!(changes(&cluster), Vec::<String>::new());
}
