//! `@prod`: clusters of the configuration file.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::server::Spec;

/// A configuration file, readable by its owner only.
struct File {
    folder: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        fs::write(file.path(), text).unwrap();
        file.mode(0o600);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.path(), Permissions::from_mode(mode)).unwrap();
    }

    fn trib(&self, line: &str) -> Trib {
        Trib::new()
            .args(line.split(' '))
            .env("REDIS_TRIB_CONFIG", self.path().to_str().unwrap())
    }
}

fn list(nodes: &Nodes) -> String {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|node| format!("{:?}", node.addr()))
        .collect();
    format!("[{}]", nodes.join(", "))
}

#[test]
fn wherever_a_node_is_expected() {
    let nodes = Nodes::with(4, &Spec::new().quick().password("hunter2"));
    nodes.form(3);
    let spare = Spec::new().quick().password("hunter2").start();
    let source = Spec::new().plain().start();
    let file = File::new(&format!(
        "[clusters.prod]\nnodes = {}\npass_command = \"echo hunter2\"\n",
        list(&nodes)
    ));
    let (master, other, replica) = (nodes[0].id(), nodes[1].id(), nodes[3].id());
    for line in [
        "check @prod".to_string(),
        "info @prod".to_string(),
        "fix @prod --dry-run".to_string(),
        format!("reshard @prod --slots 5 --from {master} --to {other} --dry-run"),
        "rebalance @prod --dry-run".to_string(),
        format!("add-node {} @prod --dry-run", spare.addr()),
        format!(
            "add-node {} {} --settings-of prod --dry-run",
            spare.addr(),
            nodes[0].addr()
        ),
        format!("del-node @prod {replica} --leave-unprotected {replica} --dry-run"),
        format!("failover @prod --to {replica} --dry-run"),
        format!("replace-node @prod {replica} {} --dry-run", spare.addr()),
        "watch @prod --once -n 100ms".to_string(),
        "where @prod key --slot 5".to_string(),
        "slots @prod --by keys".to_string(),
        "drift @prod".to_string(),
        format!("ok-to-stop @prod {master}"),
        "ok-to-stop @prod --max".to_string(),
        "call @prod PING".to_string(),
        "set-timeout @prod 5s --dry-run".to_string(),
        format!("import @prod --from {} --dry-run", source.addr()),
        format!("verify @prod --from {}", source.addr()),
        format!(
            "backup @prod {}/new --dry-run",
            file.folder.path().display()
        ),
        "create @prod --replicas 0 --if-needed --dry-run".to_string(),
    ] {
        let said = file.trib(&line).run();
        let shown = format!("{}{}", said.stdout, said.stderr);
        assert!(!shown.contains("hunter2"), "{line}\n{shown}");
        said.status(0);
    }
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file() {
    let nodes = Nodes::with(3, &Spec::new().quick().password("correct-horse"));
    nodes.form(3);
    let file = File::new("");
    let secret = |name: &str, text: &str| {
        let path = file.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (right, wrong) = (
        secret("right", "correct-horse\n"),
        secret("wrong", "battery-staple\n"),
    );
    let text = |password: &str| format!("[clusters.p]\nnodes = {}\n{password}\n", list(&nodes));
    let url = |password: &str| {
        format!(
            "[clusters.p]\nnodes = \"redis://:{password}@{}\"\n",
            nodes[0].addr()
        )
    };
    for (text, variable, option, code) in [
        (text("pass_file = \"right\""), "", "", 0),
        (text("pass_file = \"wrong\""), "", "", 4),
        (text("pass = \"correct-horse\""), "", "", 0),
        (text("pass_command = \"exit 3\""), "", "", 2),
        (url("correct-horse"), "", "", 0),
        (url("battery-staple"), "correct-horse", "", 0),
        (url("correct-horse"), "battery-staple", "", 4),
        (text("pass_file = \"wrong\""), "correct-horse", "", 0),
        (text("pass_file = \"right\""), "battery-staple", "", 4),
        (
            text("pass_file = \"right\""),
            "battery-staple",
            right.as_str(),
            0,
        ),
        (
            text("pass_file = \"right\""),
            "correct-horse",
            wrong.as_str(),
            4,
        ),
        (text("pass_file = \"missing\""), "", "", 2),
        (text("pass_file = \"missing\""), "correct-horse", "", 0),
        (
            text("user = \"nobody\"\npass = \"correct-horse\""),
            "",
            "",
            4,
        ),
    ] {
        fs::write(file.path(), &text).unwrap();
        let mut trib = file.trib("info @p").env("REDISCLI_AUTH", variable);
        if !option.is_empty() {
            trib = trib.args(["--pass-file", option]);
        }
        let said = trib.run();
        assert_eq!(
            said.status,
            crate::support::command::Ended::Status(code),
            "{text} {variable} {option}\n{}",
            said.stderr
        );
    }
    // The user of the command line beats that of the file.
    fs::write(
        file.path(),
        text("user = \"nobody\"\npass = \"correct-horse\""),
    )
    .unwrap();
    file.trib("info @p --user default").run().status(0);
}

#[test]
fn bad_input() {
    for (text, line, expected) in [
        (
            "[clusters.prod]\nnods = [\"h\"]\n",
            "check @prod",
            "config.toml, line 2, column 1: unknown key \"nods\": the nearest known key is \"nodes\"",
        ),
        (
            "[clusters.prod]\nnodes = \"h\"\n[clusters.dev]\nnodes = \"h\"\n",
            "check @prd",
            "no cluster is named @prd: ",
        ),
        (
            "[clusters.prod]\nnodes = \"h\"\n[clusters.dev]\nnodes = \"h\"\n",
            "config show @prd",
            "has @dev, @prod",
        ),
        (
            "[clusters.prod]\nnodes = [\n",
            "info @prod",
            "config.toml, line ",
        ),
        ("", "check @prod", "has no clusters; add [clusters.prod]"),
        ("", "check @", "as @prod"),
        (
            "",
            "import h --from @prod",
            "not a cluster of the configuration file",
        ),
        (
            "[clusters.a]\nnodes = \"h\"\n[clusters.b]\nnodes = \"h\"\n",
            "add-node @a @b",
            "names @a and @b",
        ),
        (
            "[clusters.a]\nnodes = \"h\"\n",
            "fix @a --confirm b",
            "--confirm b, but the command is about @a",
        ),
        ("", "fix h:1 --confirm b", "names no cluster"),
        (
            "",
            "check 127.0.0.1:1 --settings-of x",
            "no cluster is named @x",
        ),
    ] {
        File::new(text)
            .trib(line)
            .run()
            .status(2)
            .stderr_has(expected);
    }
    let exposed = File::new("[clusters.p]\nnodes = \"redis://:hunter2@127.0.0.1:1\"\n");
    exposed.trib("info @p").run().status(4);
    exposed.mode(0o644);
    exposed
        .trib("info @p")
        .run()
        .status(2)
        .stderr_has("can be read by other users (mode 644) and holds a password: chmod 600")
        .stderr_lacks("hunter2");
    exposed
        .trib("config list -o json")
        .run()
        .status(2)
        .stdout_has("\"code\":");
    // A file that can't be read. (Root may read all files, but no directory as one.)
    let folder = exposed.folder.path().to_str().unwrap();
    Trib::new()
        .args(["info", "@p"])
        .env("REDIS_TRIB_CONFIG", folder)
        .run()
        .status(2)
        .stderr_has("the configuration file ")
        .stderr_has("can't be read");
    Trib::new()
        .args(["config", "list"])
        .env("REDIS_TRIB_CONFIG", format!("{folder}/missing"))
        .run()
        .status(2)
        .stderr_has("can't be read");
    // A missing directory is fine, unless a name is used.
    for line in ["config list", "config check"] {
        let trib = Trib::new().args(line.split(' '));
        trib.env("XDG_CONFIG_HOME", format!("{folder}/missing"))
            .run()
            .status(0);
    }
    Trib::new()
        .args(["check", "@prod"])
        .env("XDG_CONFIG_HOME", format!("{folder}/missing"))
        .run()
        .status(2)
        .stderr_has("missing/redis-trib/config.toml has no clusters");
}

#[test]
fn the_configuration_is_shown_without_secrets() {
    let file = File::new(
        "[clusters.prod]\nnodes = [\"redis://ann:hunter2@h:1\"]\ncacert = \"none.pem\"\nprotected = true\n\
         [clusters.dev]\nnodes = \"h:2\"\npass = \"hunter2\"\n",
    );
    file.trib("config list")
        .run()
        .status(0)
        .stdout_is("@dev   h:2\n@prod  h:1  protected\n");
    let shown = file
        .trib("config show")
        .run()
        .status(0)
        .stdout_lacks("hunter2");
    for part in [
        "[clusters.dev]",
        "pass = \"***\"",
        "redis://ann:***@h:1",
        "protected = true",
    ] {
        assert!(shown.stdout.contains(part), "{part}: {}", shown.stdout);
    }
    file.trib("config show @dev")
        .run()
        .status(0)
        .stdout_lacks("prod");
    file.trib("config check")
        .run()
        .status(1)
        .stdout_has("@prod: cacert: ")
        .stdout_has("2 clusters, 1 problem.");
    file.trib("config check dev")
        .run()
        .status(0)
        .stdout_has("no problems");
    let json = file
        .trib("config check -o json")
        .run()
        .status(1)
        .stdout_lacks("hunter2")
        .json();
    assert_eq!(json["format"], "redis-trib/config");
    assert_eq!(json["clusters"][1]["name"], "prod");
    assert_eq!(json["clusters"][1]["protected"], true);
    assert_eq!(json["problems"][0]["key"], "cacert");
}

#[test]
fn a_protected_cluster_needs_its_name() {
    let nodes = Nodes::quick(3);
    nodes.form(3);
    let file = File::new(&format!(
        "[clusters.prod]\nnodes = {}\nprotected = true\n",
        list(&nodes)
    ));
    let timeout = || {
        format!(
            "{:?}",
            nodes[0].cmd(&["CONFIG", "GET", "cluster-node-timeout"])
        )
    };
    let before = timeout();
    for line in [
        "set-timeout @prod 7s --yes",
        "set-timeout @prod 7s",
        "call @prod --allow-dangerous CONFIG SET cluster-node-timeout 7000",
    ] {
        file.trib(line)
            .run()
            .status(5)
            .stderr_has("pass --confirm prod");
    }
    let by_settings = format!(
        "set-timeout {} 7s --yes --settings-of prod",
        nodes[0].addr()
    );
    file.trib(&by_settings).run().status(5);
    file.trib("set-timeout @prod 7s --dry-run").run().status(0);
    file.trib("check @prod").run();
    let mut terminal = file.trib("set-timeout @prod 7s --yes").terminal();
    terminal
        .expect("Type the name of the cluster (prod) to accept: ")
        .send_line("yes");
    terminal.expect("type prod to accept, or 'no' to decline");
    terminal.expect("to accept: ").send_line("no");
    terminal.finish().status(5);
    assert_eq!(timeout(), before);
    let mut terminal = file.trib("set-timeout @prod 7s").terminal();
    terminal.expect("(prod) to accept: ").send_line("prdo");
    terminal.expect("(prod) to accept: ").send_line("prod");
    terminal
        .expect("Without prompts:")
        .expect("redis-trib set-timeout @prod 7s --confirm prod");
    terminal.finish().status(0);
    assert!(timeout().contains("7000"), "{}", timeout());
    file.trib("set-timeout @prod 8s --confirm prod")
        .run()
        .status(0);
    file.trib("set-timeout @prod 9s --confirm @prod --yes")
        .run()
        .status(0);
    file.trib("call @prod --allow-dangerous --confirm prod CONFIG SET cluster-node-timeout 7000")
        .run()
        .status(0);
}

#[test]
fn names_are_completed() {
    let file = File::new("[clusters.prod]\nnodes = \"h\"\n[clusters.play]\nnodes = \"h\"\n");
    for (shell, words, expected) in [
        ("bash", vec!["check", "@"], vec!["@play", "@prod"]),
        ("bash", vec!["check", "@", "pr"], vec!["@prod"]),
        (
            "bash",
            vec!["add-node", "h", ":", "1", "@", "pr"],
            vec!["@prod"],
        ),
        (
            "bash",
            vec!["check", "h", "--settings-of", "pr"],
            vec!["prod"],
        ),
        (
            "bash",
            vec!["fix", "@", "prod", "--confirm", "pl"],
            vec!["play"],
        ),
        ("bash", vec!["config", "show", "@", "pl"], vec!["@play"]),
        ("fish", vec!["reshard", "@pr"], vec!["@prod"]),
        ("zsh", vec!["backup", "@pr"], vec!["@prod"]),
    ] {
        let said = Trib::new()
            .env("_REDIS_TRIB_COMPLETE", shell)
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .env("REDIS_TRIB_CONFIG", file.path().to_str().unwrap())
            .args(["--", "redis-trib"])
            .args(&words)
            .run()
            .status(0);
        let offered = said.stdout.lines().filter(|line| !line.is_empty());
        let offered: Vec<&str> = offered
            .map(|line| line.split([':', '\t']).next().unwrap())
            .collect();
        assert_eq!(offered, expected, "{words:?}");
    }
}
