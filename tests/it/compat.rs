//! The old spellings: the same command line on redis-cli and on us, on equal clusters.

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::keys::fill;
use crate::support::server::{Server, Spec, client};
use crate::support::slots::{assert_closed, owned};
use crate::support::subcommands::{has_redis_cli, redis_cli};
use crate::support::tls::Material;

/// Lines that scripts look for (design.md, section 4), as far as both sides must have them.
const SCRIPTS_LOOK_FOR: [&str; 9] = [
    ">>> Performing Cluster Check",
    "[OK]",
    "[ERR]",
    ">>> Check for open slots...",
    "[WARNING] Node",
    "[WARNING] The following slots are open",
    ">>> Check slots coverage...",
    "keys |",
    "*** No rebalancing needed!",
];

/// Those lines, with addresses and ids by their place in the cluster.
fn lines(finished: &Finished, nodes: &Nodes) -> Vec<String> {
    let mut text = finished.stdout.clone();
    for (index, server) in nodes.iter().enumerate() {
        let id = server.id();
        text = text
            .replace(&server.addr(), &format!("node{index}"))
            .replace(&id, &format!("id{index}"))
            .replace(&id[..8], &format!("id{index}"));
    }
    text.lines()
        .filter(|line| SCRIPTS_LOOK_FOR.iter().any(|said| line.contains(said)))
        .map(|line| line.trim_end().to_string())
        .collect()
}

fn in_any_order(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

fn slots(server: &Server) -> usize {
    owned(server).iter().map(|(a, b)| b - a + 1).sum()
}

fn quick() -> Spec {
    Spec::new().quick()
}

#[test]
fn create_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    let (theirs, ours) = (Nodes::quick(6), Nodes::quick(6));
    let run = |program: Trib, nodes: &Nodes, answer: &str| {
        program
            .args(["--cluster", "create"])
            .args(nodes.addrs())
            .args(["--cluster-replicas", "1"])
            .stdin(answer)
            .run()
    };
    // Declined: nothing is changed; redis-cli calls that a success.
    run(Trib::new(), &ours, "no\n").status(1);
    run(Trib::new(), &ours, "").status(1);
    for server in ours.iter() {
        assert_eq!(server.field("cluster_known_nodes").unwrap(), "1");
    }
    // The answer comes from a pipe, and has no end of line.
    let theirs_said = run(redis_cli(), &theirs, "yes").status(0);
    let ours_said = run(Trib::new(), &ours, "yes")
        .status(0)
        .stderr_empty()
        .stdout_has("Can I set the above configuration? (type 'yes' to accept): ");
    for line in [
        ">>> Performing hash slots allocation on 6 nodes...",
        ">>> Nodes configuration updated",
        ">>> Assign a different config epoch to each node",
        ">>> Sending CLUSTER MEET messages to join the cluster",
        "Waiting for the cluster to join",
        ">>> Performing Cluster Check (using node ",
        "[OK] All nodes agree about slots configuration.",
        "[OK] All 16384 slots covered.",
    ] {
        assert!(theirs_said.stdout.contains(line), "redis-cli: {line}");
        assert!(ours_said.stdout.contains(line), "{line}");
    }
    for index in 0..6 {
        assert_eq!(owned(&theirs[index]), owned(&ours[index]), "{index}");
    }
}

#[test]
fn check_and_info_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    let nodes = Nodes::quick(6);
    nodes.form(3);
    nodes.set_long_node_timeout();
    fill(
        &nodes[..3],
        &(0..50).map(|n| format!("k{n}")).collect::<Vec<_>>(),
    );
    let addr = nodes[1].addr();
    let port = nodes[1].port().to_string();
    // The one line that we don't have: three [OK] are what scripts count.
    let alike = |finished: &Finished| {
        let mut lines = lines(finished, &nodes);
        lines.retain(|line| line != "[OK] No multiple owners found.");
        in_any_order(lines)
    };
    for line in [
        vec!["--cluster", "check", &addr],
        vec!["--cluster", "check", nodes[1].host(), &port],
        vec![
            "--no-auth-warning",
            "--cluster",
            "check",
            &addr,
            "--cluster-search-multiple-owners",
        ],
        vec!["--verbose", "--cluster", "check", &addr, "--cluster-yes"],
    ] {
        let theirs = redis_cli().args(&line).run().status(0);
        let ours = Trib::new().args(&line).run().status(0).stderr_empty();
        assert_eq!(alike(&theirs), alike(&ours), "{line:?}");
        assert_eq!(ours.stdout.matches("[OK]").count(), 3);
    }
    let info = ["--cluster", "info", &addr];
    let theirs = redis_cli().args(info).run().status(0);
    let ours = Trib::new().args(info).run().status(0).stderr_empty();
    assert_eq!(
        in_any_order(lines(&theirs, &nodes)),
        in_any_order(lines(&ours, &nodes))
    );

    // An open slot: both say which, and 1.
    nodes[0].cmd(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &nodes[1].id()]);
    nodes[1].cmd(&["CLUSTER", "SETSLOT", "7", "IMPORTING", &nodes[0].id()]);
    let check = ["--cluster", "check", &addr];
    let theirs = redis_cli().args(check).run().status(1);
    let ours = Trib::new().args(check).run().status(1);
    for line in [
        "[WARNING] Node node0 has slots in migrating state 7.",
        "[WARNING] Node node1 has slots in importing state 7.",
        "[WARNING] The following slots are open: 7.",
    ] {
        for (who, said) in [("redis-cli", &theirs), ("redis-trib", &ours)] {
            assert!(
                lines(said, &nodes).iter().any(|one| one == line),
                "{who}: {line}"
            );
        }
    }
}

#[test]
fn reshard_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    let (theirs, ours) = (Nodes::quick(3), Nodes::quick(3));
    for nodes in [&theirs, &ours] {
        nodes.form(3);
    }
    let programs = [(&theirs, true), (&ours, false)];
    // All by options.
    for (nodes, peer) in programs {
        let program = if peer { redis_cli() } else { Trib::new() };
        let said = program
            .args(["--cluster", "reshard", &nodes[0].addr()])
            .args(["--cluster-from", "all", "--cluster-to", &nodes[2].id()])
            .args(["--cluster-slots", "20", "--cluster-yes"])
            .args(["--cluster-timeout", "60000", "--cluster-pipeline", "10"])
            .run()
            .status(0);
        if !peer {
            said.stderr_empty()
                .stdout_has("Ready to move 20 slots.")
                .stdout_has("  Resharding plan:")
                .stdout_has("    Moving slot 0 from ");
        }
        assert_closed(nodes);
    }
    for index in 0..3 {
        assert_eq!(owned(&theirs[index]), owned(&ours[index]), "{index}");
    }
    // One answer from a pipe, without an end of line.
    for (nodes, peer) in programs {
        let program = if peer { redis_cli() } else { Trib::new() };
        let said = program
            .args(["--cluster", "reshard", &nodes[0].addr()])
            .args(["--cluster-from", &nodes[2].id()])
            .args(["--cluster-to", &nodes[0].id(), "--cluster-slots", "7"])
            .stdin("yes")
            .run()
            .status(0)
            .stdout_has("Do you want to proceed with the proposed reshard plan");
        if !peer {
            said.stderr_empty();
        }
        assert_closed(nodes);
    }
    for index in 0..3 {
        assert_eq!(slots(&theirs[index]), slots(&ours[index]), "{index}");
    }
    // All of them. (redis-cli takes a whole pipe for its first answer: it needs them one by one.)
    let (from, to) = (ours[2].id(), ours[0].id());
    let said = Trib::new()
        .args(["--cluster", "reshard", &ours[1].addr()])
        .stdin(&format!("7\n{to}\n{from}\ndone\nyes"))
        .run()
        .status(0)
        .stderr_empty();
    for asked in [
        "How many slots do you want to move (from 1 to 16384)? ",
        "What is the receiving node ID? ",
        "Please enter all the source node IDs.",
        "Source node #1: ",
        "Source node #2: ",
        "Do you want to proceed with the proposed reshard plan",
    ] {
        assert!(said.stdout.contains(asked), "{asked}");
    }
    assert_closed(&ours);
    assert_eq!(slots(&ours[0]), slots(&theirs[0]) + 7);
}

#[test]
fn answers_that_end_too_early_change_nothing() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let before: Vec<_> = nodes.iter().map(owned).collect();
    let reshard = || Trib::new().args(["--cluster", "reshard", &nodes[0].addr()]);
    let id = nodes[1].id();
    // redis-cli asks for ever here.
    reshard().run().status(1).stderr_has("--slots");
    reshard().stdin("5\n").run().status(1).stderr_has("--to");
    reshard().stdin(&format!("5\n{id}\nall\n")).run().status(1);
    let declined = reshard().stdin(&format!("x\n5\n{id}\nall\nno\n")).run();
    declined
        .status(1)
        .stdout_has("\"x\" is not a number")
        .stderr_has("declined: nothing was changed");
    assert_eq!(nodes.iter().map(owned).collect::<Vec<_>>(), before);
}

#[test]
fn the_environment_says_yes_in_redis_clis_manner_only() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let flags = |prefix: &str| {
        [
            format!("--{prefix}from"),
            nodes[0].id(),
            format!("--{prefix}to"),
            nodes[1].id(),
            format!("--{prefix}slots"),
            "3".to_string(),
        ]
    };
    let addr = nodes[0].addr();
    let yes = |trib: Trib| trib.env("REDISCLI_CLUSTER_YES", "1").run();
    yes(Trib::new().args(["reshard", &addr]).args(flags(""))).status(5);
    yes(Trib::new()
        .args(["--cluster", "reshard", &addr])
        .args(flags("cluster-")))
    .status(0)
    .stderr_empty();
    assert_eq!(slots(&nodes[0]), 5461 - 3);
    // valkey-cli's is asked first; the other one counts where it is not set.
    let again = || {
        Trib::new()
            .args(["--cluster", "reshard", &addr])
            .args(flags("cluster-"))
    };
    again()
        .env("VALKEYCLI_CLUSTER_YES", "0")
        .env("REDISCLI_CLUSTER_YES", "1")
        .stdin("")
        .run()
        .status(1);
    again()
        .env("VALKEYCLI_CLUSTER_YES", "1")
        .run()
        .status(0)
        .stderr_empty();
    assert_eq!(slots(&nodes[0]), 5461 - 6);
}

#[test]
fn rebalance_as_redis_cli_does() {
    if !has_redis_cli() {
        return;
    }
    let make = || {
        let nodes = Nodes::quick(4);
        nodes.assign(0, 0..=16_383 - 40);
        nodes.assign(1, 16_384 - 40..=16_384 - 21);
        nodes.assign(2, 16_384 - 20..=16_383);
        for index in 0..4 {
            nodes[index].cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        nodes.join();
        nodes.wait_usable();
        nodes
    };
    let (theirs, ours) = (make(), make());
    for (nodes, peer) in [(&theirs, true), (&ours, false)] {
        let program = || if peer { redis_cli() } else { Trib::new() };
        let rebalance = |flags: &[&str]| {
            program()
                .args(["--cluster", "rebalance", &nodes[0].addr()])
                .args(flags)
                .run()
        };
        // Shown only.
        rebalance(&["--cluster-simulate"]).status(0);
        assert_eq!(slots(&nodes[0]), 16_384 - 40);
        // There is no prompt. Several weights follow one option.
        let (first, second) = (nodes[0].id(), nodes[1].id());
        let weights = [format!("{first}=400"), format!("{second}=1")];
        let said = rebalance(&[
            "--cluster-weight",
            &weights[0],
            &weights[1],
            "--cluster-threshold",
            "1",
        ])
        .status(0)
        .stdout_has(">>> Rebalancing across 3 nodes. Total weight = 402.00");
        if !peer {
            said.stderr_empty();
        }
        rebalance(&[
            "--cluster-weight",
            &weights[0],
            &weights[1],
            "--cluster-threshold",
            "10",
        ])
        .status(0)
        .stdout_has("*** No rebalancing needed! All nodes are within the 10.00% threshold.");
        assert_closed(nodes);
    }
    for index in 0..4 {
        let (theirs, ours) = (slots(&theirs[index]), slots(&ours[index]));
        assert!(theirs.abs_diff(ours) <= 1, "{index}: {theirs} and {ours}");
    }
}

#[test]
fn what_the_peers_let_through_is_refused() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let before: Vec<_> = nodes.iter().map(owned).collect();
    let (addr, to) = (nodes[0].addr(), nodes[1].id());
    let reshard = [
        "--cluster",
        "reshard",
        &addr,
        "--cluster-from",
        "all",
        "--cluster-to",
        &to,
    ];
    for (flags, said) in [
        (
            ["--cluster-slots", "5", "--cluster-pipeline", "0"],
            "--cluster-pipeline \"0\"",
        ),
        (
            ["--cluster-slots", "5", "--cluster-pipeline", "ten"],
            "--cluster-pipeline \"ten\"",
        ),
        (
            ["--cluster-slots", "-5", "--cluster-pipeline", "10"],
            "--cluster-slots \"-5\"",
        ),
        (
            ["--cluster-slots", "5", "--cluster-timeout", "-1"],
            "--cluster-timeout \"-1\"",
        ),
    ] {
        Trib::new()
            .args(reshard)
            .args(flags)
            .arg("--cluster-yes")
            .run()
            .status(1)
            .stdout_empty()
            .stderr_has(said);
    }
    assert_eq!(nodes.iter().map(owned).collect::<Vec<_>>(), before);
    for (line, said) in [
        (
            vec!["--cluster", "frobnicate", &addr],
            "is not a cluster command",
        ),
        (
            vec!["--cluster", "check", &addr, "--cluster-bogus"],
            "--cluster-bogus is not an option",
        ),
        (vec!["--cluster", "check", "127.0.0.1:1"], "127.0.0.1:1"),
        (vec!["--cluster", "check"], "<NODE>"),
    ] {
        // 0 and 1 are all that scripts know.
        Trib::new()
            .args(line)
            .run()
            .status(1)
            .stdout_empty()
            .stderr_has(said);
    }
}

#[test]
fn lists_of_commands() {
    // redis-cli ends with 1 after its list.
    for (line, code) in [
        (vec!["--cluster", "help"], 1),
        (vec!["--cluster", "check", "-h"], 0),
    ] {
        let help = Trib::new().args(line).run().status(code).stderr_empty();
        help.stdout_has("Cluster Manager Commands");
    }
    let help = Trib::new().called("redis-trib.rb").arg("help").run();
    help.status(0).stdout_has("Usage: redis-trib.rb");
}

/// Every option in `--cluster help` of redis-cli is known.
#[test]
fn all_of_redis_clis_options_are_known() {
    if has_redis_cli() {
        lists_what_we_know(redis_cli());
    }
}

/// The same for the newest of both.
#[test]
fn all_options_of_the_newest_peers_are_known_matrix() {
    let peers = [
        client("redis-8.10", "redis-cli"),
        client("valkey-9.1", "valkey-cli"),
    ];
    for peer in peers.into_iter().flatten() {
        lists_what_we_know(Trib::new().program(peer));
    }
}

#[track_caller]
fn lists_what_we_know(peer: Trib) {
    let theirs = peer.args(["--cluster", "help"]).run();
    let text = format!("{} {}", theirs.stdout, theirs.stderr);
    let options = text.split_whitespace();
    let options: Vec<&str> = options
        .filter(|word| word.starts_with("--cluster-"))
        .collect();
    assert!(options.len() > 20, "{options:?}");
    for option in options {
        let said = Trib::new()
            .args(["--cluster", "check", "127.0.0.1:1", option])
            .run();
        let said = said.status(1);
        assert!(!said.stderr.contains("is not an option"), "{}", said.stderr);
    }
    let commands: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   ") && !line.contains("--"))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 11, "{commands:?}");
    for command in commands {
        let said = Trib::new()
            .args(["--cluster", command, "127.0.0.1:1"])
            .run();
        assert!(
            !said.stderr.contains("is not a cluster command"),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn passwords_and_places() {
    let nodes = Nodes::with(3, &quick().password("hush"));
    nodes.form(3);
    let (addr, port) = (nodes[0].addr(), nodes[0].port().to_string());
    for line in [
        vec![
            "-a",
            "hush",
            "--no-auth-warning",
            "--cluster",
            "check",
            &addr,
        ],
        vec![
            "--cluster",
            "check",
            &addr,
            "--pass",
            "hush",
            "--user",
            "default",
        ],
        vec![
            "-a",
            "hush",
            "-h",
            "127.0.0.1",
            "-p",
            &port,
            "--cluster",
            "check",
        ],
        vec!["-4", "-a", "hush", "--cluster", "check", "localhost", &port],
        vec!["-u", &format!("redis://:hush@{addr}"), "--cluster", "check"],
    ] {
        Trib::new()
            .args(line)
            .run()
            .status(0)
            .stderr_empty()
            .stdout_has("[OK] All 16384");
    }
    let check = || Trib::new().args(["--cluster", "check", &addr]);
    check()
        .env("REDISCLI_AUTH", "hush")
        .run()
        .status(0)
        .stderr_empty();
    check()
        .env("VALKEYCLI_AUTH", "hush")
        .env("REDISCLI_AUTH", "wrong")
        .run()
        .status(0)
        .stderr_empty();
    let uri = format!("valkey://default:hush@{addr}/5");
    Trib::new()
        .args(["-u", &uri, "--cluster", "check"])
        .run()
        .status(0)
        .stderr_empty();
    // As redis-cli: no terminal, no question.
    check()
        .arg("--askpass")
        .stdin("hush")
        .run()
        .status(0)
        .stderr_empty();
    check().run().status(1).stderr_has("needs a password");
}

#[test]
fn certificates_need_no_names_there() {
    let material = Material::new();
    let misnamed = &material.misnamed;
    let spec = quick()
        .tls(&material)
        .tls_certificate(&misnamed.cert, &misnamed.key);
    let nodes = Nodes::with(3, &spec);
    nodes.form(3);
    let addr = nodes[0].addr();
    let path = |path: &std::path::Path| path.to_str().unwrap().to_string();
    let tls = [
        "--tls".to_string(),
        "--cacert".to_string(),
        path(&material.ca),
        "--cert".to_string(),
        path(&material.client.cert),
        "--key".to_string(),
        path(&material.client.key),
    ];
    let before = Trib::new().args(&tls).args(["--cluster", "check", &addr]);
    before.run().status(0).stderr_empty();
    let behind = Trib::new().args(["--cluster", "check", &addr]).args(&tls);
    behind.run().status(0).stderr_empty();
    // Natively they do, and a CA that signed nothing here is wrong everywhere.
    Trib::new()
        .args(["check", &addr])
        .args(&tls)
        .run()
        .status(4);
    let foreign = [
        "--tls".to_string(),
        "--cacert".to_string(),
        path(&material.other_ca),
    ];
    Trib::new()
        .args(["--cluster", "check", &addr])
        .args(foreign)
        .run()
        .status(1);
}

#[test]
fn called_as_redis_trib_rb() {
    let nodes = Nodes::quick(7);
    let ruby = || Trib::new().called("redis-trib.rb");
    ruby()
        .args(["create", "--replicas", "1"])
        .args(nodes.addrs())
        .stdin("yes")
        .run()
        .status(0)
        .stderr_empty()
        .stdout_has("[OK] All 16384 slots covered.")
        .stdout_has("\nAdding extra replicas...\nAdding replica ");
    // The walkthrough's masters.
    assert_eq!(owned(&nodes[0]), [(0, 5460)]);
    assert_eq!(owned(&nodes[1]), [(5461, 10_922)]);
    let addr = nodes[0].addr();
    ruby().args(["check", &addr]).run().status(0).stderr_empty();
    let (to, from) = (nodes[0].id(), nodes[1].id());
    ruby()
        .args([
            "reshard", "--from", &from, "--to", &to, "--slots", "6", "--yes",
        ])
        .args(["--timeout", "60000", "--pipeline", "20", &addr])
        .run()
        .status(0)
        .stderr_empty();
    assert_eq!(slots(&nodes[0]), 5467);
    ruby()
        .args(["rebalance", "--threshold", "1", "--simulate", &addr])
        .run()
        .status(0)
        .stdout_has("*** No rebalancing needed! All nodes are within the 1.00% threshold.");
    ruby().args(["check", "127.0.0.1:1"]).run().status(1);
}

/// The walkthrough's reshard: typed, by the old name.
#[test]
fn redis_trib_rb_on_a_terminal() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let ruby = || Trib::new().called("redis-trib.rb");
    let (to, from) = (nodes[0].id(), nodes[2].id());
    let mut terminal = ruby().args(["reshard", &nodes[1].addr()]).terminal();
    terminal.expect(">>> Performing Cluster Check");
    terminal.expect("All 16384 slots covered.");
    terminal
        .expect("How many slots do you want to move (from 1 to 16384)? ")
        .send_line("9");
    terminal
        .expect("What is the receiving node ID? ")
        .send_line(&to);
    terminal.expect("Source node #1").send_line(&from);
    terminal.expect("Source node #2").send_line("done");
    terminal.expect("Ready to move 9 slots.");
    terminal
        .expect("Do you want to proceed with the proposed reshard plan")
        .send_line("yes");
    terminal.finish().status(0);
    assert_closed(&nodes);
    assert_eq!(slots(&nodes[0]), 5461 + 9);
    // Ctrl-C at a prompt: 1, and nothing is changed.
    let mut terminal = ruby().args(["reshard", &nodes[1].addr()]).terminal();
    terminal.expect("How many slots").control('c');
    terminal.finish().status(1);
}
