//! docker/compose.yml: a cluster on one machine, and a look at it from outside.

use serde_json::Value;

use crate::chapter;
use crate::engine::{
    IMAGE, PASSWORD, PROJECT, SWARM_WITHIN, docker, lines, program, show, went_well,
};
use crate::support::command::Trib;
use crate::support::wait::until;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/compose.yml");

/// The plugin where it is there, the program of its own otherwise.
fn compose(words: &[&str]) -> Trib {
    let command = match went_well(&docker(["compose", "version"]).run()) {
        true => docker(["compose"]),
        false => program("docker-compose"),
    };
    command
        .args(["--project-name", PROJECT, "--file", FILE])
        .args(words)
        .env("IMAGE", IMAGE)
        .env("auth", PASSWORD)
        .timeout(SWARM_WITHIN)
}

pub(crate) fn clear() {
    let of_project = format!("label=com.docker.compose.project={PROJECT}");
    if !lines(docker(["ps", "--all", "--quiet", "--filter", &of_project])).is_empty() {
        compose(&["down", "--volumes", "--timeout", "2"]).run();
    }
}

fn container(service: &str) -> String {
    let of_service = format!("label=com.docker.compose.service={service}");
    let of_project = format!("label=com.docker.compose.project={PROJECT}");
    let words = [
        "ps",
        "--all",
        "--quiet",
        "--filter",
        &of_service,
        "--filter",
        &of_project,
    ];
    lines(docker(words)).remove(0)
}

/// Up, until the service `create` has ended well.
fn up() {
    show("docker compose -f docker/compose.yml up --detach");
    compose(&["up", "--detach"]).run().status(0);
    until("the service `create` to end well", SWARM_WITHIN, || {
        let create = container("create");
        match lines(docker([
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.ExitCode}}",
            &create,
        ])) {
            said if said == ["exited 0"] => Ok(()),
            said => Err(format!(
                "{said:?}\n{}",
                docker(["logs", &create]).run().stderr
            )),
        }
    });
}

pub(crate) fn run() {
    chapter("compose: the same on one machine", || {
        up();
        let check = [
            "exec",
            "-T",
            "master1",
            "redis-trib",
            "check",
            "tasks.master",
            "--strict",
        ];
        compose(&check)
            .run()
            .status(0)
            .stdout_has("all 16,384 slots are served");
        // And again: what is there is left alone.
        up();
    });

    chapter(
        "compose: from outside, where only mapped addresses can be reached",
        || {
            let text = docker([
                "exec",
                &container("master1"),
                "redis-cli",
                "cluster",
                "nodes",
            ])
            .run()
            .status(0)
            .stdout;
            // Nobody publishes the ports of this file: stand-ins for published ports, one for each node.
            let relays: Vec<(String, u16)> = text
                .lines()
                .map(|line| {
                    line.split(' ')
                        .nth(1)
                        .unwrap()
                        .split('@')
                        .next()
                        .unwrap()
                        .to_owned()
                })
                .map(|peer| (peer.clone(), relay(peer)))
                .collect();
            let mut words = vec![
                "check".to_owned(),
                format!("127.0.0.1:{}", relays[0].1),
                "--output".into(),
                "json".into(),
            ];
            for (peer, port) in &relays {
                words.extend([
                    "--address-map".to_owned(),
                    format!("{peer}=127.0.0.1:{port}"),
                ]);
            }
            show(&format!("redis-trib {}", words.join(" ")));
            let document: Value = Trib::new()
                .args(&words)
                .env("REDISCLI_AUTH", PASSWORD)
                .run()
                .status(0)
                .json();
            assert_eq!(document["healthy"], true, "{document:#}");
            assert_eq!(document["nodes"].as_array().unwrap().len(), 6);
        },
    );

    chapter("compose: down", || {
        compose(&["down", "--volumes", "--timeout", "2"])
            .run()
            .status(0);
    });
}

/// A port on loopback behind which `peer` answers.
fn relay(peer: String) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = std::net::TcpStream::connect(&peer) else {
                continue;
            };
            let pairs = [
                (client.try_clone(), server.try_clone()),
                (Ok(server), Ok(client)),
            ];
            for (from, to) in pairs {
                if let (Ok(mut from), Ok(mut to)) = (from, to) {
                    std::thread::spawn(move || {
                        drop(std::io::copy(&mut from, &mut to));
                        drop(to.shutdown(std::net::Shutdown::Both));
                    });
                }
            }
        }
    });
    port
}
