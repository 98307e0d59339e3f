//! Docker, as it is typed.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::command::{Ended, Finished, Terminal, Trib};
use crate::support::wait::until;

/// The image under test; `make test-docker` builds it.
pub(crate) const IMAGE: &str = "redis-trib:test";
/// What tells our things from other people's.
pub(crate) const LABEL: &str = "redis-trib.test";
/// The names that the walkthrough gives.
pub(crate) const NETWORK: &str = "net1";
pub(crate) const SERVICES: [&str; 5] = ["master", "slave", "redis007", "redis008", "client"];
pub(crate) const PASSWORD: &str = "123456";
/// The secret that docker/stack.yml names.
pub(crate) const SECRET: &str = "redis-auth";
/// The names under which docker/stack.yml and docker/compose.yml are started.
pub(crate) const STACK: &str = "redis-trib-test";
pub(crate) const PROJECT: &str = "redis-trib-test-compose";

/// A node is missed sooner, and gets its first copy at once.
pub(crate) const QUICK: [&str; 4] = [
    "--cluster-node-timeout",
    "3000",
    "--repl-diskless-sync-delay",
    "0",
];

/// How long one command may take.
const WITHIN: Duration = Duration::from_secs(90);
/// How long Swarm may take to start or stop containers.
pub(crate) const SWARM_WITHIN: Duration = Duration::from_secs(120);

pub(crate) fn program(name: &str) -> Trib {
    let mut trib = Trib::new().program(name).timeout(WITHIN);
    for name in ["DOCKER_HOST", "XDG_RUNTIME_DIR"] {
        if let Ok(value) = std::env::var(name) {
            trib = trib.env(name, value);
        }
    }
    trib
}

pub(crate) fn docker<S: AsRef<str>>(words: impl IntoIterator<Item = S>) -> Trib {
    program("docker").args(words)
}

pub(crate) fn went_well(ran: &Finished) -> bool {
    ran.status == Ended::Status(0)
}

/// What it prints, line by line; nothing where it fails.
pub(crate) fn lines(command: Trib) -> Vec<String> {
    let ran = command.run();
    match went_well(&ran) {
        true => ran.stdout.lines().map(str::to_owned).collect(),
        false => Vec::new(),
    }
}

static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Shows the line as an operator would type it.
pub(crate) fn show(line: &str) {
    let now = STARTED.elapsed().as_secs_f64();
    println!("{now:6.1} $ {line}");
}

/// Runs a line with a shell, as it stands in the docs.
#[track_caller]
pub(crate) fn shell(line: &str) -> Finished {
    show(line);
    program("bash").args(["-o", "pipefail", "-c", line]).run()
}

/// Until it ends well.
pub(crate) fn retried(what: &str, run: impl Fn() -> Finished) {
    let started = Instant::now();
    while !went_well(&run()) {
        if started.elapsed() > SWARM_WITHIN {
            eprintln!("waited in vain for {what}");
            return;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The healthy containers of a service, the oldest last.
pub(crate) fn containers(service: &str) -> Vec<String> {
    let of_service = format!("label=com.docker.swarm.service.name={service}");
    lines(docker([
        "ps",
        "--quiet",
        "--filter",
        &of_service,
        "--filter",
        "health=healthy",
    ]))
}

/// Once there are so many of them.
#[track_caller]
pub(crate) fn healthy(service: &str, count: usize) -> Vec<String> {
    until(
        &format!("{count} healthy containers of {service}"),
        SWARM_WITHIN,
        || {
            let found = containers(service);
            match found.len() {
                now if now == count => Ok(found),
                now => Err(format!("{now} of {count}")),
            }
        },
    )
}

/// Without a terminal, as scripts do.
pub(crate) fn inside<S: AsRef<str>>(container: &str, words: impl IntoIterator<Item = S>) -> Trib {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.as_ref().to_owned())
        .collect();
    show(&format!("docker exec {container} {}", words.join(" ")));
    quietly(container, words)
}

/// As `inside`, without being shown.
pub(crate) fn quietly<S: AsRef<str>>(container: &str, words: impl IntoIterator<Item = S>) -> Trib {
    docker(["exec", container]).args(words)
}

/// On a terminal, as people do.
pub(crate) fn typed<S: AsRef<str>>(
    container: &str,
    words: impl IntoIterator<Item = S>,
) -> Terminal {
    let words: Vec<String> = words
        .into_iter()
        .map(|word| word.as_ref().to_owned())
        .collect();
    show(&format!("docker exec -ti {container} {}", words.join(" ")));
    docker(["exec", "-ti", container]).args(words).terminal()
}

/// What `check` says of the cluster; nothing where it sees none.
pub(crate) fn checked(container: &str, node: &str) -> Value {
    let ran = quietly(container, ["redis-trib", "check", node, "--output", "json"]).run();
    serde_json::from_str(&ran.stdout).unwrap_or_default()
}

/// The codes of what `check` has found.
pub(crate) fn codes(document: &Value) -> Vec<&str> {
    let findings = document["findings"].as_array().into_iter().flatten();
    findings
        .filter_map(|finding| finding["code"].as_str())
        .collect()
}

/// The nodes of a role.
pub(crate) fn nodes<'a>(document: &'a Value, role: &'a str) -> impl Iterator<Item = &'a Value> {
    let nodes = document["nodes"].as_array().into_iter().flatten();
    nodes.filter(move |node| node["role"] == role)
}

/// How many slots the node with that id has.
pub(crate) fn slots_of(document: &Value, id: &str) -> u64 {
    let all = document["nodes"].as_array().into_iter().flatten();
    let ranges = all
        .filter(|node| node["id"] == id)
        .flat_map(|node| node["slots"].as_array().into_iter().flatten());
    ranges
        .map(|range| range[1].as_u64().unwrap() - range[0].as_u64().unwrap() + 1)
        .sum()
}

/// The id of the node in a container.
pub(crate) fn id_of(container: &str) -> String {
    quietly(container, ["redis-cli", "cluster", "myid"])
        .run()
        .status(0)
        .stdout
        .trim()
        .to_owned()
}

/// Whether the node in a container is a master.
pub(crate) fn is_master(container: &str) -> bool {
    quietly(container, ["redis-cli", "role"])
        .run()
        .status(0)
        .stdout
        .starts_with("master")
}
