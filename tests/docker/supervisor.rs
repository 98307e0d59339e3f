//! Starts the story in a process group of its own, and clears away what it made: when it is done, when it fails,
//! when it takes too long, and on Ctrl-C.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::engine::{
    IMAGE, LABEL, NETWORK, PROJECT, SECRET, SERVICES, STACK, docker, lines, retried, went_well,
};

/// For the whole story; it takes a third of this on two quiet cores.
const WITHIN: Duration = Duration::from_secs(15 * 60);

/// The exit code of the whole.
pub(crate) fn run(parts: &[String]) -> i32 {
    let started = Instant::now();
    if let Err(reason) = ready() {
        eprintln!("make test-docker: {reason}");
        return 1;
    }
    // What a run that was killed has left.
    clear();
    if let Some(taken) = taken() {
        eprintln!(
            "make test-docker: {taken} is there already, and the walkthrough makes its own: remove it, or run this elsewhere"
        );
        return 1;
    }
    begin_swarm();
    let outcome = story(parts);
    println!("\n== clearing away");
    clear();
    match outcome {
        Ok(status) if status.success() => {
            println!(
                "\nThe walkthrough went well: {:.0} s",
                started.elapsed().as_secs_f64()
            );
            0
        }
        Ok(status) => {
            eprintln!(
                "\nThe walkthrough failed after {:.0} s",
                started.elapsed().as_secs_f64()
            );
            status.code().unwrap_or(1)
        }
        Err(reason) => {
            eprintln!("\nThe walkthrough was stopped: {reason}");
            130
        }
    }
}

fn ready() -> Result<(), String> {
    let info = docker([
        "info",
        "--format",
        "{{.Swarm.LocalNodeState}} {{.Swarm.Nodes}}",
    ])
    .run();
    let said = info.stdout.clone();
    if !went_well(&info) {
        return Err(format!("no Docker engine answers: {}", info.stderr.trim()));
    }
    let nodes = said
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    if said.starts_with("active") && nodes != Some(1) {
        return Err(
            "this machine is part of a swarm of several machines, which don't have the image"
                .into(),
        );
    }
    if lines(docker(["images", "--quiet", IMAGE])).is_empty() {
        return Err(format!(
            "the image {IMAGE} is not there: make test-docker builds it"
        ));
    }
    Ok(())
}

/// What the walkthrough would create but already exists.
fn taken() -> Option<String> {
    let swarm = lines(docker(["info", "--format", "{{.Swarm.LocalNodeState}}"]));
    if swarm != ["active"] {
        return None;
    }
    let services = lines(docker(["service", "ls", "--format", "{{.Name}}"]));
    let secrets = lines(docker(["secret", "ls", "--format", "{{.Name}}"]));
    let networks = lines(docker(["network", "ls", "--format", "{{.Name}}"]));
    let service = services
        .iter()
        .find(|name| SERVICES.contains(&name.as_str()));
    let service = service.map(|name| format!("a service {name}"));
    let secret = secrets
        .iter()
        .find(|name| *name == SECRET)
        .map(|name| format!("a secret {name}"));
    let network = networks
        .iter()
        .find(|name| *name == NETWORK)
        .map(|name| format!("a network {name}"));
    service.or(secret).or(network)
}

/// A swarm that we begin is marked, so that it is ours to end, also in the next run.
fn begin_swarm() {
    if lines(docker(["info", "--format", "{{.Swarm.LocalNodeState}}"])) != ["active"] {
        docker(["swarm", "init", "--advertise-addr", "127.0.0.1"])
            .run()
            .status(0);
        let here = lines(docker(["info", "--format", "{{.Swarm.NodeID}}"])).remove(0);
        docker(["node", "update", "--label-add", LABEL, &here])
            .run()
            .status(0);
    }
}

fn story(parts: &[String]) -> Result<ExitStatus, String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("story")
        .args(parts)
        .process_group(0)
        .spawn()
        .unwrap();
    let group = Pid::from_raw(child.id().cast_signed());
    let (tell, told) = tokio::sync::oneshot::channel();
    let waiting = std::thread::spawn(move || tell.send(child.wait().unwrap()).is_ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).unwrap();
        let mut terminate = signal(SignalKind::terminate()).unwrap();
        let mut hangup = signal(SignalKind::hangup()).unwrap();
        tokio::select! {
            status = told => Ok(status.unwrap()),
            _ = interrupt.recv() => Err("interrupted".to_owned()),
            _ = terminate.recv() => Err("terminated".to_owned()),
            _ = hangup.recv() => Err("the terminal is gone".to_owned()),
            () = tokio::time::sleep(WITHIN) => Err(format!("not done after {WITHIN:?}")),
        }
    });
    // Programs that the story has started may outlive it.
    let _ = killpg(group, Signal::SIGKILL);
    waiting.join().unwrap();
    if let Ok(status) = &outcome
        && let Some(number) = status.signal()
    {
        return Err(format!("killed by signal {number}"));
    }
    outcome
}

/// Takes away what the story makes, as far as it is there. The image and its base stay for the next run.
fn clear() {
    crate::compose::clear();
    if lines(docker(["info", "--format", "{{.Swarm.LocalNodeState}}"])) == ["active"] {
        let ours = |kind: &str| {
            lines(docker([
                kind,
                "ls",
                "--quiet",
                "--filter",
                &format!("label={LABEL}"),
            ]))
        };
        let stack = format!("label=com.docker.stack.namespace={STACK}");
        let mut services = lines(docker(["service", "ls", "--quiet", "--filter", &stack]));
        services.extend(ours("service"));
        for service in services {
            docker(["service", "rm", &service]).run();
        }
        // The network can't go before the last container has left it.
        for network in ours("network").into_iter().chain(lines(docker([
            "network", "ls", "--quiet", "--filter", &stack,
        ]))) {
            retried("the network to be removed", || {
                for container in lines(docker([
                    "ps",
                    "--all",
                    "--quiet",
                    "--filter",
                    &format!("network={network}"),
                ])) {
                    docker(["rm", "--force", "--volumes", &container]).run();
                }
                docker(["network", "rm", &network]).run()
            });
        }
        for secret in ours("secret") {
            docker(["secret", "rm", &secret]).run();
        }
        let here = docker(["node", "inspect", "self", "--format", "{{.Spec.Labels}}"]).run();
        if here.stdout.contains(LABEL) {
            docker(["swarm", "leave", "--force"]).run();
        }
    }
    for project in [STACK, PROJECT] {
        for volume in lines(docker([
            "volume",
            "ls",
            "--quiet",
            "--filter",
            &format!("name=^{project}_"),
        ])) {
            retried("the volume to be removed", || {
                docker(["volume", "rm", "--force", &volume]).run()
            });
        }
    }
}
