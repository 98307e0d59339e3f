//! Completions, as the shells ask for them, and man pages.

use std::process::Command;
use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::server::Spec;
use crate::support::wait::{PATIENCE, until};

/// What the script of that shell asks with these words, the last of which is completed.
fn asked(shell: &str, words: &[&str]) -> Trib {
    Trib::new()
        .env("_REDIS_TRIB_COMPLETE", shell)
        .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
        .arg("--")
        .args(words)
}

fn offered(said: &Finished) -> Vec<&str> {
    said.stdout
        .lines()
        .filter(|line| !line.is_empty())
        .collect()
}

/// What is offered with these words, where something has to be. A node that does not answer within the time that a shell
/// waits leads to an empty offer: then it is asked again.
#[track_caller]
fn wanted(ask: impl Fn() -> Trib) -> Finished {
    until("an offer", PATIENCE, || {
        let said = ask().run().status(0).stderr_empty();
        match offered(&said).is_empty() {
            true => Err("none".to_owned()),
            false => Ok(said),
        }
    })
}

#[test]
fn nodes_of_the_named_cluster() {
    let nodes = Nodes::with(4, &Spec::new().quick().password("hush"));
    nodes.form(3);
    let (addr, id) = (nodes[0].addr(), nodes[1].id());
    let login = |trib: Trib| trib.env("REDISCLI_AUTH", "hush");
    let typed = &id[..12];
    for (shell, words, expected) in [
        (
            "bash",
            vec!["redis-trib", "reshard", &addr, "--to", typed],
            id.clone(),
        ),
        // The node may come later, and values side by side.
        (
            "zsh",
            vec![
                "redis-trib",
                "reshard",
                &addr,
                "--from",
                &format!("x,{typed}"),
            ],
            format!("x,{id}"),
        ),
        (
            "bash",
            vec!["redis-trib", "rebalance", &addr, "--weight", typed],
            format!("{id}="),
        ),
        (
            "bash",
            vec!["redis-trib", "add-node", "n:1", &addr, "--master-id", typed],
            id.clone(),
        ),
        (
            "fish",
            vec!["redis-trib", "reshard", &addr, "--to", typed],
            id.clone(),
        ),
    ] {
        let said = wanted(|| login(asked(shell, &words)));
        let said = offered(&said);
        assert_eq!(said.len(), 1, "{words:?}: {said:?}");
        assert!(said[0].starts_with(&expected), "{words:?}: {said:?}");
    }
    until("the seed to hear of the replica", PATIENCE, || {
        let id = nodes[3].id();
        let seen = nodes[0].nodes_text();
        let line = seen.lines().find(|line| line.starts_with(&id));
        match line.is_some_and(|line| line.contains("slave")) {
            true => Ok(()),
            false => Err(seen.clone()),
        }
    });
    let replica = &nodes[3].id()[..10];
    for command in ["del-node", "failover", "ok-to-stop"] {
        let words = ["redis-trib", command, &addr, replica];
        let said = wanted(|| login(asked("bash", &words)));
        assert_eq!(offered(&said), [nodes[3].id()], "{command}");
    }
    for option in ["--to", "--of"] {
        let words = ["redis-trib", "failover", &addr, option, replica];
        let said = wanted(|| login(asked("bash", &words)));
        assert_eq!(offered(&said), [nodes[3].id()], "{option}");
    }
    // All masters, by id and by address; no replica.
    let words = ["redis-trib", "reshard", &addr, "--to", ""];
    let all = wanted(|| login(asked("fish", &words)));
    assert_eq!(offered(&all).len(), 6, "{}", all.stdout);
    assert!(
        all.stdout
            .contains(&format!("{id}\t{} master of 5461 slots", nodes[1].addr()))
    );
    assert!(!all.stdout.contains(&nodes[3].id()));
    // bash cuts at the colon, and completes what is behind it.
    let (host, port) = addr.split_once(':').unwrap();
    let pieces = [
        "redis-trib",
        "reshard",
        host,
        ":",
        port,
        "--to",
        host,
        ":",
        &port[..2],
    ];
    let said = wanted(|| login(asked("bash", &pieces)));
    assert!(offered(&said).contains(&port), "{}", said.stdout);

    // Without the password: nothing, and silence.
    for words in [
        vec!["redis-trib", "reshard", &addr, "--to", ""],
        vec!["redis-trib", "-a", "hush", "reshard", &addr, "--to", ""],
        vec!["redis-trib", "reshard", "127.0.0.1:1", "--to", ""],
        vec!["redis-trib", "reshard", "--to", ""],
    ] {
        let said = asked("bash", &words).run().status(0).stderr_empty();
        assert_eq!(offered(&said), [""; 0], "{words:?}");
    }
    // One that hangs is not waited for, whatever the timeout of a command.
    nodes[0].stop();
    let reshard = ["redis-trib", "reshard", &addr, "--command-timeout", "50s"];
    let words = [&reshard[..], &["--to", ""]].concat();
    login(asked("bash", &words))
        .run()
        .status(0)
        .stderr_empty()
        .within(Duration::from_secs(20));
    nodes[0].cont();
}

#[test]
fn bash_takes_the_script() {
    let script = Trib::new().args(["completions", "bash"]).run().status(0);
    let program = env!("CARGO_BIN_EXE_redis-trib");
    let folder = std::path::Path::new(program).parent().unwrap();
    // As bash does it when TAB is pressed.
    let line = format!(
        "{}\nexport PATH={}:$PATH\nCOMP_WORDS=(redis-trib resh); COMP_CWORD=1; _redis_trib redis-trib resh ''\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.stdout,
        folder.display()
    );
    let said = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "reshard\n");
    for (shell, has) in [("zsh", "#compdef redis-trib"), ("fish", "complete --")] {
        Trib::new()
            .args(["completions", shell])
            .run()
            .status(0)
            .stdout_has(has);
    }
    Trib::new()
        .args(["completions", "tcsh"])
        .run()
        .status(2)
        .stdout_empty();
}

#[test]
fn man_pages() {
    Trib::new()
        .arg("man")
        .run()
        .status(0)
        .stderr_empty()
        .stdout_has(".TH redis-trib 1");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    Trib::new()
        .args(["man", pages.to_str().unwrap()])
        .run()
        .status(0)
        .stdout_empty();
    for page in ["redis-trib.1", "redis-trib-reshard.1", "redis-trib-check.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH EXAMPLES"), "{page}");
        assert!(!text.contains("[\\fB"), "{page}: a synopsis of all options");
    }
    Trib::new()
        .args(["man", "/dev/null/x"])
        .run()
        .status(3)
        .stderr_has("can't be written");
}
