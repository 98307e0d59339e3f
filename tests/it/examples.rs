//! The shell examples of README.md and the docs, as they stand there, each block on a cluster of its own: three
//! masters with a replica each, three empty nodes, and a standalone server. Their addresses and ids stand for those
//! of the examples (docs/README.md). `tests/docs/examples.rs` checks that every block is marked.

use std::path::Path;
use std::time::Duration;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::keys::fill;
use crate::support::server::{Server, Spec, quick};
use crate::support::slots::names;

/// The pages with examples that run. README.zh-CN.md has those of README.md (tests/docs/prose.rs).
const PAGES: [&str; 9] = [
    "README.md",
    "docs/automation.md",
    "docs/backup-import.md",
    "docs/findings.md",
    "docs/inspect.md",
    "docs/migrating-from-redis-cli.md",
    "docs/moving-slots.md",
    "docs/nodes.md",
    "docs/repair.md",
];

/// The host part of the nodes, in the order of [`Playground::nodes`].
const HOSTS: [&str; 6] = ["3", "4", "5", "7", "8", "9"];
const SPARE_HOSTS: [&str; 3] = ["13", "14", "15"];
const IDS: [&str; 6] = [
    "1977c4d4", "69a0bef4", "4744ffb2", "708fed78", "080d5232", "105f108d",
];

/// Nothing asks here. `call` sends all words after its command to the nodes, and others have no `--yes`.
const ANSWERS_YES: &str = r#"redis-trib() {
    case $1 in
        create|reshard|rebalance|apply|fix|restore|import|add-node|del-node|failover|replace-node|set-timeout)
            set -- "$@" --yes ;;
    esac
    "$PROGRAM" "$@"
}
"#;

struct Example {
    page: &'static str,
    line: usize,
    on_empty_nodes: bool,
    script: String,
}

fn examples(page: &'static str) -> Vec<Example> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let marks = lines.iter().enumerate().filter_map(|(index, line)| {
        let on_empty_nodes = match *line {
            "<!-- example: run -->" => false,
            "<!-- example: run, on empty nodes -->" => true,
            _ => return None,
        };
        let code = lines[index + 2..].iter().take_while(|line| **line != "```");
        Some(Example {
            page,
            line: index + 1,
            on_empty_nodes,
            script: code.map(|line| format!("{line}\n")).collect(),
        })
    });
    marks.collect()
}

struct Playground {
    nodes: Nodes,
    spares: Nodes,
    source: Server,
    dir: tempfile::TempDir,
}

impl Playground {
    fn new(on_empty_nodes: bool) -> Self {
        let nodes = Nodes::with(6, &quick());
        if !on_empty_nodes {
            nodes.form(3);
            fill(&nodes[..3], &names(0..50, 4));
        }
        let source = Spec::new().plain().start();
        for number in 0..20 {
            source.cmd(&["SET", &format!("imported:{number}"), "a value"]);
        }
        Self {
            nodes,
            spares: Nodes::with(3, &quick()),
            source,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The example with the addresses, ids and paths of this playground.
    fn translated(&self, script: &str) -> String {
        let servers = || {
            let nodes = HOSTS.iter().zip(self.nodes.iter());
            nodes.chain(SPARE_HOSTS.iter().zip(self.spares.iter()))
        };
        let mut text = script.to_string();
        let source = [(&"20", &self.source)];
        // 10.0.0.3 is the beginning of no other address once the longer ones are gone.
        for (host, server) in source
            .into_iter()
            .chain(servers().collect::<Vec<_>>().into_iter().rev())
        {
            let name = format!("10.0.0.{host}");
            let option = format!("-h {} -p {}", server.host(), server.port());
            text = text
                .replace(&format!("-h {name} "), &format!("{option} "))
                .replace(&format!("{name}:6379"), &server.addr())
                .replace(&name, &server.addr());
        }
        for (id, server) in IDS.iter().zip(self.nodes.iter()) {
            if text.contains(id) {
                text = text.replace(id, &server.id()[..8]);
            }
        }
        let dir = self.dir.path().display().to_string();
        text.replace("/backup/", &format!("{dir}/"))
            .replace("/var/log/", &format!("{dir}/"))
    }
}

fn run(example: &Example) {
    let playground = Playground::new(example.on_empty_nodes);
    let script = playground.translated(&example.script);
    assert!(
        !script.contains("10.0.0."),
        "an address without a server: {script}"
    );
    let dir = playground.dir.path().display();
    let place = format!("# {}:{}", example.page, example.line);
    let whole = format!("{place}\nset -euo pipefail\n{ANSWERS_YES}cd '{dir}'\nset -x\n{script}");
    Trib::new()
        .program("bash")
        .args(["-c", &whole])
        .env("PROGRAM", env!("CARGO_BIN_EXE_redis-trib"))
        .timeout(Duration::from_secs(120))
        .run()
        .status(0);
}

fn run_page(page: &'static str) {
    assert!(PAGES.contains(&page));
    let examples = examples(page);
    assert!(!examples.is_empty(), "{page} has no example that runs");
    examples.iter().for_each(run);
}

#[test]
fn readme() {
    run_page("README.md");
}

#[test]
fn automation() {
    run_page("docs/automation.md");
}

#[test]
fn backup_import() {
    run_page("docs/backup-import.md");
}

#[test]
fn findings() {
    run_page("docs/findings.md");
}

#[test]
fn inspect() {
    run_page("docs/inspect.md");
}

#[test]
fn migrating_from_redis_cli() {
    run_page("docs/migrating-from-redis-cli.md");
}

#[test]
fn moving_slots() {
    run_page("docs/moving-slots.md");
}

#[test]
fn nodes() {
    run_page("docs/nodes.md");
}

#[test]
fn repair() {
    run_page("docs/repair.md");
}

#[test]
fn every_page_with_examples_is_run() {
    let mut pages = vec!["README.md".to_string()];
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap() {
        pages.push(format!(
            "docs/{}",
            entry.unwrap().file_name().to_string_lossy()
        ));
    }
    for page in pages.iter().filter(|page| page.ends_with(".md")) {
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
        let has_examples = text.contains("<!-- example: run");
        assert_eq!(has_examples, PAGES.contains(&page.as_str()), "{page}");
    }
}
