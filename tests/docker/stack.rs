//! docker/stack.yml: formed by itself, watched, rolled over container by container, stopped and back again.

use std::time::Duration;

use crate::chapter;
use crate::engine::{
    IMAGE, LABEL, SECRET, STACK, SWARM_WITHIN, checked, docker, healthy, id_of, inside, is_master,
    lines, program, quietly, shell, show,
};
use crate::support::wait::until;
use crate::walkthrough::{client, gone, whole};
use crate::writer::Writer;

/// Characters that mean something to shells, to redis.conf and to addresses.
const PASSWORD: &str = r#"a "pass\word" $HOME @ 7"#;

fn of_stack(service: &str) -> String {
    format!("{STACK}_{service}")
}

fn deploy() {
    show("docker stack deploy -c docker/stack.yml redis");
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/stack.yml");
    let words = [
        "stack",
        "deploy",
        "--resolve-image",
        "never",
        "-c",
        file,
        STACK,
    ];
    docker(words).env("IMAGE", IMAGE).run().status(0);
}

/// The states of the tasks of the service `create`, the last one first.
fn created() -> Vec<String> {
    let words = [
        "service",
        "ps",
        "--no-trunc",
        "--format",
        "{{.CurrentState}} {{.Error}}",
    ];
    lines(docker(words).arg(of_stack("create")))
}

fn is_complete(tasks: &[String]) -> bool {
    tasks
        .first()
        .is_some_and(|last| last.starts_with("Complete"))
}

fn nodes() -> Vec<String> {
    [
        healthy(&of_stack("master"), 3),
        healthy(&of_stack("slave"), 3),
    ]
    .concat()
}

pub(crate) fn run() {
    chapter(
        "The stack: six nodes, a volume for each, and a service that forms the cluster",
        || {
            show("printf '%s' 'a password' | docker secret create redis-auth -");
            docker(["secret", "create", "--label", LABEL, SECRET, "-"])
                .stdin(PASSWORD)
                .run()
                .status(0);
            deploy();
            let nodes = nodes();
            until("the cluster to be formed", SWARM_WITHIN, || {
                match created() {
                    tasks if is_complete(&tasks) => Ok(()),
                    tasks => Err(tasks.join(", ")),
                }
            });
            whole(&nodes[0], "tasks.master");
            docker(["inspect", &nodes[0]])
                .run()
                .status(0)
                .stdout_lacks("pass");
            docker(["top", &nodes[0], "-eo", "pid,args"])
                .run()
                .status(0)
                .stdout_lacks("pass");
            // Once more: there is nothing to do.
            let task = || {
                lines(docker(["service", "ps", "--quiet", &of_stack("create")]))
                    .into_iter()
                    .next()
            };
            let before = task();
            docker([
                "service",
                "update",
                "--detach",
                "--force",
                &of_stack("create"),
            ])
            .run()
            .status(0);
            until(
                "the service to have run again",
                SWARM_WITHIN,
                || match created() {
                    tasks if is_complete(&tasks) && task() != before => Ok(()),
                    tasks => Err(tasks.join(", ")),
                },
            );
            // It is written to the volume: the next containers have it too.
            inside(
                &nodes[0],
                ["redis-trib", "set-timeout", "--yes", "tasks.master", "3s"],
            )
            .run()
            .status(0);
        },
    );

    chapter("Recipes: CI, a shell, jq, Prometheus, Nagios", || {
        let node = nodes().remove(0);
        shell(&format!(
            "docker exec {node} redis-trib check tasks.master --wait 60s --probe-write"
        ))
        .status(0);
        shell(&format!("docker exec {node} redis-trib check tasks.master >/dev/null || echo 'the cluster is ill'"))
            .status(0)
            .stdout_empty();
        shell(&format!(
            r#"docker exec {node} redis-trib check tasks.master --output json | jq -c '[.healthy, .slots_covered, ([.nodes[] | select(.role == "master")] | length)]'"#
        ))
        .status(0)
        .stdout_is("[true,16384,3]\n");
        let collected = tempfile::tempdir().unwrap();
        let file = collected.path().join("redis.prom");
        let file = file.display();
        shell(&format!(
            "docker exec {node} redis-trib check tasks.master --output prometheus > {file}.new; mv {file}.new {file}"
        ))
        .status(0);
        program("grep")
            .args(["-E", "^redis_trib_[a-z_]+.* 16384$", &file.to_string()])
            .run()
            .status(0);
        shell(&format!(
            "docker exec {node} redis-trib check tasks.master --output nagios"
        ))
        .status(0)
        .stdout_has("OK");
    });

    let client = client(&format!("{STACK}_net1"), PASSWORD);
    chapter(
        "Every container is replaced, one by one, while a client writes",
        || {
            let writer = Writer::start(&client, "rolling", 0);
            let first = addresses();
            // The masters first: then those that were replicas are masters, with a replica, when it is their turn.
            let mut old = nodes();
            old.sort_by_key(|container| !is_master(container));
            for container in old {
                replace(&container);
            }
            let now = addresses();
            assert!(
                first.iter().all(|addr| !now.contains(addr)),
                "{first:?} {now:?}"
            );
            let one = nodes().remove(0);
            whole(&one, "tasks.master");
            inside(
                &one,
                [
                    "redis-trib",
                    "call",
                    "127.0.0.1",
                    "CONFIG",
                    "GET",
                    "cluster-node-timeout",
                ],
            )
            .run()
            .status(0)
            .stdout_lacks("15000");
            writer.stop();
        },
    );

    chapter(
        "The whole stack is stopped, and comes back with other addresses",
        || {
            let one = nodes().remove(0);
            inside(&one, ["redis-cli", "-c", "set", "name", "zeffee"])
                .run()
                .status(0)
                .stdout_has("OK");
            let keys = |node: &str| {
                let document = checked(node, "tasks.master");
                let masters = crate::engine::nodes(&document, "master");
                masters
                    .map(|node| node["keys"].as_u64().unwrap())
                    .sum::<u64>()
            };
            let before = keys(&one);
            gone(&["client"]);
            show("docker stack rm redis");
            docker(["stack", "rm", STACK]).run().status(0);
            until("the network to be gone", SWARM_WITHIN, || {
                match lines(docker([
                    "network",
                    "ls",
                    "--quiet",
                    "--filter",
                    &format!("name={STACK}_net1"),
                ]))
                .len()
                {
                    0 => Ok(()),
                    _ => Err("still there".to_owned()),
                }
            });
            deploy();
            let one = nodes().remove(0);
            // It finds a cluster, and leaves it alone: it is ill.
            until(
                "the service `create` to be refused",
                SWARM_WITHIN,
                || match created() {
                    tasks if tasks.iter().any(|task| task.contains("non-zero exit (3)")) => Ok(()),
                    tasks => Err(tasks.join(", ")),
                },
            );
            docker(["service", "logs", &of_stack("create")])
                .run()
                .stderr_has("redis-trib fix --rejoin tasks.master:6379 tasks.slave:6379");
            until("nobody else to be at work", SWARM_WITHIN, || {
                let ran = inside(
                    &one,
                    [
                        "redis-trib",
                        "fix",
                        "--rejoin",
                        "--yes",
                        "tasks.master",
                        "tasks.slave",
                    ],
                )
                .run();
                match crate::engine::went_well(&ran) {
                    true => Ok(()),
                    false => {
                        std::thread::sleep(Duration::from_secs(1));
                        Err(ran.stderr)
                    }
                }
            });
            whole(&one, "tasks.master");
            inside(&one, ["redis-cli", "-c", "get", "name"])
                .run()
                .stdout_is("zeffee\n");
            assert_eq!(keys(&one), before);
        },
    );

    chapter("The stack is removed", || {
        docker(["stack", "rm", STACK]).run().status(0);
    });
}

/// Where the members are, as one of them says.
fn addresses() -> Vec<String> {
    let text = quietly(&nodes()[0], ["redis-cli", "cluster", "nodes"])
        .run()
        .status(0)
        .stdout;
    text.lines()
        .filter_map(|line| Some(line.split(' ').nth(1)?.split('@').next()?.to_owned()))
        .collect()
}

/// Follows docs/containers.md: check whether it may be stopped, fail over, stop, wait.
fn replace(container: &str) {
    let other = nodes()
        .into_iter()
        .find(|other| other != container)
        .unwrap();
    let id = id_of(container);
    until("it to be ok to stop", SWARM_WITHIN, || {
        let ran = inside(&other, ["redis-trib", "ok-to-stop", "tasks.master", &id]).run();
        match crate::engine::went_well(&ran) {
            true => Ok(()),
            false => {
                std::thread::sleep(Duration::from_secs(1));
                Err(ran.stdout)
            }
        }
    });
    inside(
        &other,
        [
            "redis-trib",
            "failover",
            "--yes",
            "tasks.master",
            "--of",
            &id,
        ],
    )
    .run()
    .status(0);
    show(&format!("docker stop {container}"));
    docker(["stop", container]).run().status(0);
    until("Swarm to have another one", SWARM_WITHIN, || {
        let now = nodes();
        match now.iter().any(|one| id_of(one) == id) {
            true => Ok(()),
            false => Err(format!("{now:?}")),
        }
    });
    whole(&other, "tasks.master");
}
