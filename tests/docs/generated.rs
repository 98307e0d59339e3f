//! Parts of the documents that are made from the program: `UPDATE_DOCS=1 cargo test --test docs` writes them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use clap::CommandFactory;
use redis_trib::cli::Cli;
use redis_trib::cluster::health::Code;

use crate::page::{Page, root};

/// The pages that explain commands.
const GUIDES: [(&str, &str, &[&str]); 9] = [
    ("Inspect", "inspect", &["watch", "where", "slots", "drift"]),
    (
        "Moving slots",
        "moving-slots",
        &["reshard", "rebalance", "apply"],
    ),
    (
        "Nodes",
        "nodes",
        &[
            "create",
            "add-node",
            "del-node",
            "ok-to-stop",
            "failover",
            "place",
            "roll",
            "replace-node",
            "call",
            "set-timeout",
        ],
    ),
    ("Findings", "findings", &["check", "fix"]),
    ("Repair", "repair", &["fix"]),
    (
        "Backup, restore and import",
        "backup-import",
        &["backup", "restore", "import", "verify"],
    ),
    ("Exit codes", "automation", &["check"]),
    (
        "ACL rules",
        "security",
        &["check", "create", "reshard", "fix"],
    ),
    (
        "Completion and man pages",
        "automation",
        &["completions", "man"],
    ),
];

/// The columns of help texts.
const COLUMNS: &str = "100";

#[test]
fn the_command_pages_are_current() {
    let names = commands();
    let root_help = help(None);
    let mut index = String::from(
        "# Commands\n\nThis is the text of `--help`. A page for each command follows; the options below are those of \
         every command.\n\n",
    );
    let mut wanted = BTreeSet::from(["index.md".to_string()]);
    for name in &names {
        let _ = writeln!(index, "- [{name}]({name}.md)");
        wanted.insert(format!("{name}.md"));
        let page = format!(
            "# redis-trib {name}\n\n```text\n{}\n```\n\nSee also: {}[the options of every command](index.md).\n",
            own_part(&help(Some(name)), &root_help),
            guides(name),
        );
        compare(&format!("docs/commands/{name}.md"), &page);
    }
    let _ = write!(index, "\n```text\n{}\n```\n", root_help.trim_end());
    compare("docs/commands/index.md", &index);
    for entry in fs::read_dir(root().join("docs/commands")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            wanted.contains(&name),
            "docs/commands/{name} is of no command"
        );
    }
}

#[test]
fn the_summary_has_every_command() {
    // A comment would end the list that the pages are nested in.
    let mut list = String::from("- [Commands](commands/index.md)\n");
    for name in commands() {
        let _ = writeln!(list, "  - [{name}](commands/{name}.md)");
    }
    replace("docs/SUMMARY.md", "command pages", &list);
}

#[test]
fn the_table_of_findings_is_current() {
    let source = fs::read_to_string(root().join("src/cluster/health/mod.rs")).unwrap();
    let meanings = doc_comments(&source);
    let mut table = String::from("| code | severity | meaning |\n|---|---|---|\n");
    for code in Code::ALL {
        let word = code.word();
        let (_, meaning) = meanings
            .iter()
            .find(|(line, _)| line.contains(&format!("\"{word}\"")))
            .unwrap_or_else(|| panic!("no doc comment of {word}"));
        let _ = writeln!(
            table,
            "| [`{word}`](#{word}) | {} | {meaning} |",
            code.severity().word()
        );
    }
    replace("docs/findings.md", "findings", &format!("\n{table}\n"));
}

/// Each code has its cause, the behaviour of the servers, and the remedy; and there is no other.
#[test]
fn every_finding_is_explained() {
    let page = Page::read("docs/findings.md");
    let sections: Vec<&str> = page.text.split("\n### ").skip(1).collect();
    let explained: BTreeSet<&str> = sections
        .iter()
        .map(|section| section.split('`').nth(1).unwrap())
        .collect();
    let codes: BTreeSet<&str> = Code::ALL.iter().map(|code| code.word()).collect();
    assert_eq!(explained, codes);
    for section in sections {
        for part in ["\n- Cause: ", "\n- Server: ", "\n- Remedy: "] {
            assert!(section.contains(part), "{part:?} is not in ### {section}");
        }
    }
}

#[test]
fn the_table_of_exit_codes_is_current() {
    let source = fs::read_to_string(root().join("src/exit_code.rs")).unwrap();
    let mut table = String::from("| code | meaning |\n|---|---|\n");
    for (line, meaning) in doc_comments(&source) {
        if let Some((_, code)) = line.trim_end_matches(',').split_once(" = ") {
            let _ = writeln!(table, "| {code} | {meaning} |");
        }
    }
    assert!(table.lines().count() > 8, "{table}");
    replace("docs/automation.md", "exit codes", &format!("\n{table}\n"));
}

/// Links to the pages that explain the command.
fn guides(name: &str) -> String {
    let mut links = String::new();
    for (title, page, commands) in GUIDES {
        if commands.contains(&name) {
            let _ = write!(links, "[{title}](../{page}.md), ");
        }
    }
    links
}

/// The names of the subcommands, as `help` lists them.
fn commands() -> Vec<String> {
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    let names: Vec<String> = shown.map(|one| one.get_name().to_string()).collect();
    names.into_iter().filter(|name| name != "help").collect()
}

fn help(name: Option<&str>) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redis-trib"));
    let output = command
        .args(name)
        .arg("--help")
        .env_clear()
        .env("COLUMNS", COLUMNS)
        .output()
        .unwrap();
    assert!(output.status.success(), "{name:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // Values of options are followed by lines of spaces.
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

/// A help text without the sections that `redis-trib --help` has too: the options of every command.
fn own_part(text: &str, root_help: &str) -> String {
    let shared: BTreeSet<&str> = sections(root_help).into_iter().collect();
    let own = sections(text)
        .into_iter()
        .filter(|section| !shared.contains(section));
    own.collect::<Vec<_>>().join("\n\n")
}

/// Parts that begin with a line `Heading:`.
fn sections(text: &str) -> Vec<&str> {
    let mut starts = vec![0];
    for (at, _) in text.match_indices("\n\n") {
        let line = text[at + 2..].lines().next().unwrap_or_default();
        if line.ends_with(':') && !line.starts_with(' ') {
            starts.push(at + 2);
        }
    }
    starts.push(text.len());
    starts
        .windows(2)
        .map(|pair| text[pair[0]..pair[1]].trim_end())
        .collect()
}

/// The lines of items with their doc comments, joined.
fn doc_comments(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut comment = String::new();
    for line in source.lines().map(str::trim) {
        match line.strip_prefix("/// ") {
            Some(text) => comment = format!("{comment} {text}"),
            None if line.starts_with("#[") => {}
            None => {
                if !comment.is_empty() {
                    found.push((line.to_string(), comment.trim().to_string()));
                }
                comment.clear();
            }
        }
    }
    found
}

fn update() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

#[track_caller]
fn compare(path: &str, text: &str) {
    let file = root().join(path);
    if update() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let current = fs::read_to_string(&file).unwrap_or_default();
    assert!(
        current == text,
        "{path} is not current: UPDATE_DOCS=1 cargo test --test docs"
    );
}

/// Compares, or replaces, what is between `<!-- generated: NAME; … -->` and `<!-- end -->`.
#[track_caller]
fn replace(path: &str, name: &str, text: &str) {
    let page = Page::read(path);
    let mark = format!("<!-- generated: {name};");
    let (before, rest) = page
        .text
        .split_once(&mark)
        .unwrap_or_else(|| panic!("{path} has no {mark}"));
    let (mark_end, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    compare(
        path,
        &format!("{before}{mark}{mark_end}-->\n{text}<!-- end -->{after}"),
    );
}

#[test]
fn a_section_that_the_root_has_too_is_left_out() {
    let root = "About.\n\nUsage: x\n\nOptions:\n  -a\n\n  -b\n\nLogin:\n  -c\n";
    let text = "Other.\n\nUsage: y\n\nOptions:\n  -d\n\nLogin:\n  -c\n\nExamples:\n  y\n";
    let expected = "Other.\n\nUsage: y\n\nOptions:\n  -d\n\nExamples:\n  y";
    assert_eq!(own_part(text, root), expected);
}
