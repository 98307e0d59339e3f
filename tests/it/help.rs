//! The command line as people learn it: short help, suggestions, and what is wrong with an argument.

use std::fs;

use crate::support::command::Trib;

fn trib(line: &str) -> Trib {
    Trib::new().args(line.split(' '))
}

#[test]
fn the_short_help_is_one_screen() {
    let options = trib("options")
        .run()
        .status(0)
        .stdout_has("--settle-timeout")
        .stdout_has("--tls");
    let all = Trib::new().arg("--help").run().status(0).stdout;
    let commands = all
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let commands: Vec<&str> = commands
        .filter(|name| name.starts_with(char::is_alphabetic))
        .collect();
    assert!(
        commands.contains(&"reshard") && commands.contains(&"options"),
        "{commands:?}"
    );
    for command in commands
        .into_iter()
        .filter(|name| !["help", "redis-trib"].contains(name))
    {
        let short = Trib::new().args([command, "-h"]).run().status(0).stdout;
        assert!(short.lines().count() <= 45, "{command}:\n{short}");
        assert!(short.contains("redis-trib options"), "{command}:\n{short}");
        assert!(!short.contains("--cacertdir"), "{command}:\n{short}");
        let long = Trib::new().args([command, "--help"]).run().status(0).stdout;
        assert!(long.contains("--cacertdir"), "{command}");
        for old in ["--lanes", "--on-conflict", " --timeout "] {
            assert!(!long.contains(old), "{command}: {old}");
        }
    }
    assert!(options.stdout.ends_with('\n'));
}

#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.json");
    fs::write(&plan, "{}").unwrap();
    let (plan, dir) = (
        plan.display().to_string(),
        folder.path().display().to_string(),
    );
    for (line, expected) in [
        ("chekc", "a similar subcommand exists: 'check'".to_string()),
        (
            "help chekc",
            "a similar subcommand exists: 'check'".to_string(),
        ),
        (
            "help rehsard",
            "a similar subcommand exists: 'reshard'".to_string(),
        ),
        (
            "reshard h:1 --slots abc",
            "abc is not a number of slots (1-16384)".to_string(),
        ),
        (
            "reshard h:1 --slots 0",
            "0 is not a number of slots (1-16384)".to_string(),
        ),
        (
            "reshard h:1 --node-pairs x",
            "x is not a number of pairs of nodes (1-1000)".to_string(),
        ),
        (
            &format!("apply 127.0.0.1:1 {plan}"),
            format!("the arguments are swapped: write redis-trib apply {plan} 127.0.0.1:1"),
        ),
        (
            &format!("apply redis://u:hunter2@127.0.0.1:1 {plan}"),
            format!("write redis-trib apply {plan} redis://u@127.0.0.1:1"),
        ),
        (
            &format!("apply @prod {plan}"),
            "the arguments are swapped".to_string(),
        ),
        (
            &format!("restore 127.0.0.1:1 {dir}"),
            format!("the arguments are swapped: write redis-trib restore {dir} 127.0.0.1:1"),
        ),
        (
            &format!("backup {dir}/new 127.0.0.1:1"),
            format!("the arguments are swapped: write redis-trib backup 127.0.0.1:1 {dir}/new"),
        ),
        (
            &format!("backup {dir} localhost:1"),
            format!("write redis-trib backup localhost:1 {dir}"),
        ),
        (
            "backup today 127.0.0.1:1",
            "write redis-trib backup 127.0.0.1:1 today".to_string(),
        ),
    ] {
        // An unknown name is reported after the order of the words.
        let said = if line.contains("@prod") {
            let config = folder.path().join("config.toml");
            fs::write(&config, "[clusters.prod]\nnodes = \"127.0.0.1:1\"\n").unwrap();
            trib(line).env("REDIS_TRIB_CONFIG", config.display().to_string())
        } else {
            trib(line)
        };
        said.run()
            .status(2)
            .stderr_has(&expected)
            .stderr_lacks("hunter2");
    }
    // A directory that has the name of a host, and one that does not exist yet.
    for line in [
        format!("backup 127.0.0.1:1 {dir}/new"),
        "backup localhost:1 today".to_string(),
    ] {
        trib(&line).run().status(4);
    }
}

#[test]
fn old_names_of_options_still_work() {
    for line in [
        "reshard 127.0.0.1:1 --slots 5 --from all --to abcd --timeout 5s --lanes 2 --on-conflict source",
        "reshard 127.0.0.1:1 --slots 5 --from all --to abcd --migrate-timeout 5s --node-pairs 2 --on-move-conflict source",
        "fix 127.0.0.1:1 --timeout 5s --lanes 2 --on-conflict owner",
        "fix 127.0.0.1:1 --migrate-timeout 5s --node-pairs 2 --on-stray-conflict owner",
        "failover 127.0.0.1:1 --to abcd --timeout 5s",
        "failover 127.0.0.1:1 --to abcd --agreement-timeout 5s",
        "import 127.0.0.1:1 --from 127.0.0.1:2 --lanes 3 --on-conflict replace",
        "import 127.0.0.1:1 --from 127.0.0.1:2 --writers 3 --on-existing-key replace",
    ] {
        trib(line).run().status(4);
    }
}
