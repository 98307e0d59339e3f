//! The walkthrough's own chapters, with its services, its names and its password, and each command as it stands
//! as docs/containers.md retells it.

use std::time::Duration;

use serde_json::Value;

use crate::chapter;
use crate::engine::{
    IMAGE, LABEL, NETWORK, PASSWORD, QUICK, SWARM_WITHIN, checked, codes, docker, healthy, id_of,
    inside, is_master, lines, nodes, show, slots_of, typed,
};
use crate::support::command::Terminal;
use crate::support::wait::until;
use crate::writer::Writer;

/// As `docker service create` of the walkthrough; the password where it is given.
pub(crate) fn service(name: &str, replicas: usize, network: &str, auth: Option<&str>) {
    let auth = auth
        .map(|auth| format!("-e auth={auth}"))
        .unwrap_or_default();
    show(&format!(
        "docker service create --replicas {replicas} --network {network} --name {name} {auth} {IMAGE}"
    ));
    docker([
        "service",
        "create",
        "--detach",
        "--quiet",
        "--no-resolve-image",
        "--label",
        LABEL,
    ])
    .args([
        "--replicas",
        &replicas.to_string(),
        "--network",
        network,
        "--name",
        name,
    ])
    .args(auth.split_whitespace())
    .arg(IMAGE)
    .args(QUICK)
    .run()
    .status(0);
}

/// A container in the same network where a client can run: this program.
pub(crate) fn client(network: &str, auth: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let mount = format!(
        "type=bind,source={},target=/client,readonly",
        program.display()
    );
    docker([
        "service",
        "create",
        "--detach",
        "--quiet",
        "--no-resolve-image",
        "--label",
        LABEL,
    ])
    .args([
        "--name",
        "client",
        "--network",
        network,
        "-e",
        &format!("auth={auth}"),
    ])
    .args([
        "--mount",
        &mount,
        "--health-cmd",
        "true",
        "--health-interval",
        "1s",
    ])
    .args(["--stop-signal", "KILL", IMAGE, "sleep", "infinity"])
    .run()
    .status(0);
    healthy("client", 1).remove(0)
}

pub(crate) fn gone(services: &[&str]) {
    docker(["service", "rm"]).args(services).run().status(0);
    for service in services {
        until(
            &format!("the containers of {service} to end"),
            SWARM_WITHIN,
            || {
                let filter = format!("label=com.docker.swarm.service.name={service}");
                match lines(docker(["ps", "--quiet", "--filter", &filter])).len() {
                    0 => Ok(()),
                    left => Err(format!("{left} left")),
                }
            },
        );
    }
}

/// Answers yes, and reads the screen at the end.
#[track_caller]
fn yes_to(question: &str, mut terminal: Terminal) -> String {
    terminal.expect(question).send_line("yes");
    terminal.finish().status(0).screen()
}

#[track_caller]
fn reshard(container: &str, slots: &str, to: &str, from: &[&str]) {
    let mut terminal = typed(container, ["redis-trib", "reshard", "tasks.slave"]);
    terminal
        .expect("How many slots do you want to move (from 1 to 16384)?")
        .send_line(slots)
        .expect("What is the receiving node ID?")
        .send_line(to);
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

/// Until `check` has no complaint at all.
#[track_caller]
pub(crate) fn whole(container: &str, node: &str) {
    inside(
        container,
        ["redis-trib", "check", node, "--wait", "60s", "--strict"],
    )
    .run()
    .status(0)
    .stdout_has("all 16,384 slots are served");
}

pub(crate) fn run() {
    chapter("The image: small, without root, with both programs", || {
        let size = lines(docker(["image", "inspect", IMAGE, "--format", "{{.Size}}"]));
        println!(
            "{} MB, with the base",
            size[0].parse::<u64>().unwrap() / 1_000_000
        );
        let run = |words: &[&str]| docker(["run", "--rm", IMAGE]).args(words).run().status(0);
        run(&["id", "-u"]).stdout_is("999\n");
        run(&["redis-trib", "--version"]).stdout_has("redis-trib ");
        run(&["redis-trib.rb", "help"]).stdout_has("Usage:");
        run(&["redis-cli", "--version"]).stdout_has("redis-cli ");
    });

    chapter("创建服务: a network, two services of three", || {
        show("docker network create --driver overlay net1");
        docker([
            "network", "create", "--driver", "overlay", "--label", LABEL, NETWORK,
        ])
        .run()
        .status(0);
        service("master", 3, NETWORK, Some(PASSWORD));
        service("slave", 3, NETWORK, Some(PASSWORD));
        let client = client(NETWORK, PASSWORD);
        let masters = healthy("master", 3);
        healthy("slave", 3);
        // The password is in the environment, where the walkthrough puts it, and nowhere else.
        docker(["top", &masters[0], "-eo", "pid,args"])
            .run()
            .status(0)
            .stdout_has("redis-server")
            .stdout_lacks(PASSWORD);
        docker([
            "inspect",
            "--format",
            "{{.Path}} {{.Args}} {{.State.Health}}",
            &masters[0],
        ])
        .run()
        .status(0)
        .stdout_lacks(PASSWORD);
        inside(&masters[0], ["stat", "-c", "%a", "/data/redis.conf"])
            .run()
            .stdout_is("600\n");
        drop(client);
    });

    let operator = healthy("slave", 3).remove(0);
    let client = healthy("client", 1).remove(0);
    chapter("创建集群: by the names alone", || {
        let words = [
            "redis-trib",
            "create",
            "--replicas",
            "1",
            "--expect-nodes",
            "6",
            "tasks.master",
            "tasks.slave",
        ];
        let screen = yes_to(
            "Can I set the above configuration?",
            typed(&operator, words),
        );
        assert!(screen.contains("all 16,384 slots are served"), "{screen}");
        let document = checked(&operator, "tasks.master");
        let mut roles: Vec<&str> = Vec::new();
        for container in healthy("master", 3).iter().chain(&healthy("slave", 3)) {
            roles.push(if is_master(container) {
                "master"
            } else {
                "replica"
            });
        }
        assert_eq!(
            roles,
            [
                "master", "master", "master", "replica", "replica", "replica"
            ]
        );
        assert_eq!(nodes(&document, "replica").count(), 3);
    });

    chapter(
        "check, inside: on a terminal, without one, by the old name",
        || {
            let screen = typed(&operator, ["redis-trib", "check", "tasks.master"])
                .finish()
                .status(0)
                .screen();
            assert!(
                screen.contains("6 nodes: 3 masters, 3 replicas") && screen.contains("10923-16383"),
                "{screen}"
            );
            let ended = inside(
                &operator,
                ["redis-trib", "check", "127.0.0.1", "-o", "classic"],
            )
            .run()
            .status(0);
            assert_eq!(ended.stdout.matches("[OK]").count(), 3, "{}", ended.stdout);
            let words = ["redis-trib.rb", "check", "127.0.0.1:6379"];
            inside(&operator, words)
                .run()
                .status(0)
                .stdout_has(">>> Performing Cluster Check");
        },
    );

    let writer = chapter(
        "测试可用: a real client, logged in on every node that it is sent to",
        || {
            for [key, value] in [["a", "dfdf"], ["name", "zeffee"]] {
                let screen = typed(&operator, ["redis-cli", "-c", "set", key, value])
                    .finish()
                    .status(0)
                    .screen();
                assert!(screen.contains("OK"), "{screen}");
                inside(&operator, ["redis-cli", "-c", "get", key])
                    .run()
                    .stdout_is(&format!("{value}\n"));
            }
            Writer::start(&client, "walkthrough", 0)
        },
    );

    chapter("模拟故障转移: docker stop of a master", || {
        let victim = healthy("master", 3).remove(0);
        let dead = id_of(&victim);
        let slots = slots_of(&checked(&operator, "tasks.slave"), &dead);
        show(&format!("docker stop {victim}"));
        docker(["stop", &victim]).run().status(0);
        let named = |document: &Value| {
            let findings = document["findings"].as_array().into_iter().flatten();
            let mut ids = findings.filter(|finding| finding["code"] == "slotless-node-failed");
            ids.any(|finding| finding["nodes"].to_string().contains(&dead))
        };
        let document = until("the failover", SWARM_WITHIN, || {
            let document = checked(&operator, "tasks.slave");
            match named(&document) && document["healthy"] == true {
                true => Ok(document),
                false => Err(format!("{:?}", codes(&document))),
            }
        });
        let heirs = nodes(&document, "master")
            .filter(|node| slots_of(&document, node["id"].as_str().unwrap()) == slots);
        assert!(slots > 5000 && heirs.count() >= 1, "{document:#}");
        let screen = typed(&operator, ["redis-trib", "check", "tasks.slave"])
            .finish()
            .status(0)
            .screen();
        assert!(
            screen.contains(&format!("({}) is down", &dead[..8])),
            "{screen}"
        );
        inside(&operator, ["redis-cli", "-c", "get", "name"])
            .run()
            .stdout_is("zeffee\n");
        writer.goes_on();

        // Swarm has started another container by now: an empty one.
        healthy("master", 3);
        let words = ["redis-trib", "del-node", "tasks.slave", &dead];
        yes_to("Remove it from the cluster?", typed(&operator, words));
        let words = [
            "redis-trib",
            "add-node",
            "--replica",
            "tasks.master",
            "tasks.slave",
        ];
        yes_to("Add this node?", typed(&operator, words));
        whole(&operator, "tasks.master");
    });

    let (seventh, eighth) = chapter(
        "节点增加: the seventh service, without its password and with it",
        || {
            service("redis007", 1, NETWORK, None);
            healthy("redis007", 1);
            let ended = typed(
                &operator,
                ["redis-trib", "add-node", "tasks.redis007", "tasks.master"],
            )
            .finish()
            .status(3);
            let screen = ended.screen();
            assert!(screen.contains("requires no password"), "{screen}");
            gone(&["redis007"]);
            service("redis007", 1, NETWORK, Some(PASSWORD));
            service("redis008", 1, NETWORK, Some(PASSWORD));
            let seventh = healthy("redis007", 1).remove(0);
            let eighth = healthy("redis008", 1).remove(0);
            let words = ["redis-trib", "add-node", "tasks.redis007", "tasks.master"];
            let screen = yes_to("Add this node?", typed(&operator, words));
            assert!(
                screen.contains("ok: 1 node joined the cluster."),
                "{screen}"
            );
            (seventh, eighth)
        },
    );

    let new = id_of(&seventh);
    chapter(
        "重新分片: a quarter for the new one, by the old questions",
        || {
            reshard(&operator, "4096", &new, &["all"]);
            let document = checked(&operator, "tasks.slave");
            let counts: Vec<u64> = nodes(&document, "master")
                .map(|node| slots_of(&document, node["id"].as_str().unwrap()))
                .collect();
            assert_eq!(counts, [4096; 4]);
        },
    );

    chapter(
        "节点删除: a replica, then the master in steps, as redis-trib.rb wanted it",
        || {
            let words = [
                "redis-trib",
                "add-node",
                "--yes",
                "--replica",
                "--master-id",
                &new,
                "tasks.redis008",
                "tasks.slave",
            ];
            inside(&operator, words).run().status(0);
            let replica = id_of(&eighth);
            let words = ["redis-trib", "del-node", "tasks.slave", &replica[..8]];
            typed(&operator, words).finish().status(3);
            let words = [&words[..], &["--leave-unprotected", &replica[..8]]].concat();
            yes_to("Remove it from the cluster?", typed(&operator, words));
            let document = checked(&operator, "tasks.slave");
            let others: Vec<&str> = nodes(&document, "master")
                .map(|node| node["id"].as_str().unwrap())
                .filter(|id| *id != new)
                .collect();
            for to in &others {
                reshard(&operator, "1365", to, &[&new, "done"]);
            }
            reshard(&operator, "1", others[0], &[&new, "done"]);
            yes_to(
                "Remove it from the cluster?",
                typed(&operator, ["redis-trib", "del-node", "tasks.slave", &new]),
            );
            whole(&operator, "tasks.slave");
        },
    );

    chapter(
        "节点删除, and 节点增加 before it, in one command each",
        || {
            let words = [
                "redis-trib",
                "add-node",
                "--yes",
                "--fill",
                "tasks.redis007",
                "tasks.slave",
            ];
            inside(&operator, words).run().status(0);
            // It has another id since it left.
            let new = id_of(&seventh);
            assert_eq!(slots_of(&checked(&operator, "tasks.slave"), &new), 4096);
            let words = ["redis-trib", "del-node", "--drain", "tasks.slave", &new];
            let screen = yes_to("Remove it from the cluster?", typed(&operator, words));
            assert!(
                screen.contains("ok: 1 node has left the cluster; 6 stay."),
                "{screen}"
            );
            show("docker service rm redis007");
            gone(&["redis007", "redis008"]);
            writer.stop();
            whole(&operator, "tasks.slave");
        },
    );

    partitions(&operator, &client);

    chapter("All of it is removed", || {
        gone(&["master", "slave", "client"])
    });
}

/// A member that others can't reach, in both of Docker's ways. The client waits for a replica (WAIT): what a
/// master takes that is cut off is gone otherwise, and no tool can help that.
fn partitions(operator: &str, client: &str) {
    chapter(
        "A partition: docker network disconnect of a master, and its return",
        || {
            let writer = Writer::start(client, "disconnected", 1);
            let victim = a_master_besides(operator);
            let id = id_of(&victim);
            show(&format!("docker network disconnect {NETWORK} {victim}"));
            docker(["network", "disconnect", NETWORK, &victim])
                .run()
                .status(0);
            failed_over(operator, &id);
            show(&format!("docker network connect {NETWORK} {victim}"));
            docker(["network", "connect", NETWORK, &victim])
                .run()
                .status(0);
            until(
                "it to follow its successor",
                SWARM_WITHIN,
                || match is_master(&victim) {
                    false => Ok(()),
                    true => Err("still a master".to_owned()),
                },
            );
            writer.goes_on();
            inside(operator, ["redis-trib", "fix", "--yes", "127.0.0.1"])
                .run()
                .status(0);
            whole(operator, "127.0.0.1");
            writer.stop();
        },
    );

    chapter(
        "A partition: docker pause of the target of a reshard, mended with fix",
        || {
            let writer = Writer::start(client, "paused", 1);
            let victim = a_master_besides(operator);
            let id = id_of(&victim);
            let words = [
                "redis-trib",
                "reshard",
                "127.0.0.1",
                "--slots",
                "2000",
                "--from",
                "all",
                "--to",
                &id,
                "--yes",
            ];
            let run = inside(
                operator,
                words.iter().chain(&["--rate", "100", "--timeout", "2s"]),
            )
            .spawn();
            let before = slots_of(&checked(operator, "127.0.0.1"), &id);
            until(
                "some slots to have moved",
                Duration::from_secs(60),
                || match slots_of(&checked(operator, "127.0.0.1"), &id) {
                    now if now > before => Ok(()),
                    now => Err(format!("{now} of {before}")),
                },
            );
            show(&format!("docker pause {victim}"));
            docker(["pause", &victim]).run().status(0);
            let ended = run.wait();
            println!("{}", ended.stderr.lines().last().unwrap_or_default());
            ended.status(6);
            failed_over(operator, &id);
            show(&format!("docker unpause {victim}"));
            docker(["unpause", &victim]).run().status(0);
            until(
                "it to follow its successor",
                SWARM_WITHIN,
                || match is_master(&victim) {
                    false => Ok(()),
                    true => Err("still a master".to_owned()),
                },
            );
            // Until then the half-moved slots send clients to a replica, which sends them back.
            inside(operator, ["redis-trib", "fix", "--yes", "127.0.0.1"])
                .run()
                .status(0);
            writer.goes_on();
            whole(operator, "127.0.0.1");
            writer.stop();
        },
    );
}

/// A container whose node is a master, and which is not the one that we type in.
fn a_master_besides(operator: &str) -> String {
    let all = [healthy("master", 3), healthy("slave", 3)].concat();
    all.into_iter()
        .find(|container| container != operator && is_master(container))
        .unwrap()
}

/// Until the members hold it for dead and serve all slots without it.
#[track_caller]
fn failed_over(operator: &str, id: &str) {
    until("the failover", SWARM_WITHIN, || {
        let document = checked(operator, "127.0.0.1");
        match document["slots_covered"] == 16384 && slots_of(&document, id) == 0 {
            true => Ok(()),
            false => Err(format!("{:?}", codes(&document))),
        }
    });
}
