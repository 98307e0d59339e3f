//! The architecture of `src`, checked as text: which module may import which, and which crate is used where.
//!
//! [`LAYERS`] is the map that stands in `src/lib.rs` too. [`EXCEPTIONS`] can only shrink: an entry that is no longer
//! needed fails the test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// The modules from top to bottom. A module imports from lines below its own only, or within its own folder.
/// After an arrow stand the only modules that it may import.
const LAYERS: &str = "\
main
cli
commands
change
args
ui → report, event, resp, shell, stop, exit_code, plan, cluster
ops
migrate, transfer
backup, comparison
converge
state
session
discover
resolve
connections
client
config → seed, cluster
seed → stop, exit_code, cluster
rdb
control
report → event, resp, shell, exit_code, plan, cluster
event, interrupt, journal, resp, shell, stop
exit_code
plan → cluster
cluster
";

/// Crates that only these modules may name.
const CRATES: [(&str, &[&str]); 12] = [
    ("redis", &["client"]),
    ("clap", &["cli", "commands", "args"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("dialoguer", &["ui"]),
    ("indicatif", &["ui"]),
    ("comfy_table", &["ui"]),
    ("console", &["ui"]),
    ("ratatui", &["ui"]),
    ("crossterm", &["ui"]),
    ("toml", &["config"]),
    ("etcetera", &["config"]),
];

/// Macros and functions that only these modules may use.
const CALLS: [(&str, &[&str]); 5] = [
    ("println!", &["ui"]),
    ("print!", &["ui"]),
    ("eprintln!", &["ui"]),
    ("eprint!", &["ui"]),
    ("process::exit", &[]),
];

/// Findings that are accepted for now, as the test words them.
const EXCEPTIONS: &[&str] = &[];

/// A source file: its path below `src`, and its text without comments and test modules.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        Self {
            path: path.to_string(),
            text: lines.collect::<Vec<_>>().join("\n"),
        }
    }

    /// `ops/join/plan.rs` is of the module `ops`.
    fn module(&self) -> &str {
        module(&self.path)
    }

    /// Every path that the file names, `use` lists expanded: `["crate", "ops", "join"]`.
    fn paths(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for part in self.text.split("\nuse ").skip(1).chain(self.inner_uses()) {
            let tree = part.split(';').next().unwrap_or_default();
            expand(
                &tree.split_whitespace().collect::<String>(),
                &[],
                &mut paths,
            );
        }
        for (at, _) in self.text.match_indices("crate::") {
            let path = self.text[at..].split(|c: char| !(c.is_alphanumeric() || "_:".contains(c)));
            let path = path.into_iter().next().unwrap_or_default();
            paths.push(path.split("::").map(str::to_string).collect());
        }
        paths
    }

    /// `use` inside of functions and modules, and `pub use`.
    fn inner_uses(&self) -> impl Iterator<Item = &str> {
        let uses = self.text.match_indices("use ");
        uses.filter_map(|(at, _)| {
            let line = self.text[..at].rsplit('\n').next()?;
            let starts = line.trim().is_empty() || line.trim_start().starts_with("pub");
            (starts && !(line.is_empty())).then(|| &self.text[at + 4..])
        })
    }

    /// The files of the crate that the file imports from.
    fn imports(&self, files: &BTreeSet<String>) -> BTreeSet<String> {
        let here: Vec<String> = parts(&self.path);
        let imports = self.paths().into_iter().filter_map(|path| {
            let path = match path.first().map(String::as_str)? {
                "crate" => path[1..].to_vec(),
                "self" => [&here[..], &path[1..]].concat(),
                "super" => {
                    let up = path.iter().take_while(|word| *word == "super").count();
                    let base = here.len().checked_sub(up)?;
                    [&here[..base], &path[up..]].concat()
                }
                _ => [&here[..], &path[..]].concat(),
            };
            (1..=path.len()).rev().find_map(|length| {
                let stem = path[..length].join("/");
                let names = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
                names.into_iter().find(|name| files.contains(name))
            })
        });
        imports.filter(|file| *file != self.path).collect()
    }
}

/// `ops/join/plan.rs` → `ops`, `join`, `plan`; `ops/join/mod.rs` → `ops`, `join`.
fn parts(path: &str) -> Vec<String> {
    let stem = path.trim_end_matches(".rs");
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    match stem {
        "lib" | "main" => Vec::new(),
        stem => stem.split('/').map(str::to_string).collect(),
    }
}

fn module(path: &str) -> &str {
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

/// `a::{b, c::{d, e}}` → `a::b`, `a::c::d`, `a::c::e`.
fn expand(tree: &str, before: &[String], paths: &mut Vec<Vec<String>>) {
    let Some((head, rest)) = tree.split_once('{') else {
        let names = tree.split("::").filter(|name| !name.is_empty());
        paths.push(
            before
                .iter()
                .cloned()
                .chain(names.map(str::to_string))
                .collect(),
        );
        return;
    };
    let names = head.split("::").filter(|name| !name.is_empty());
    let before: Vec<String> = before
        .iter()
        .cloned()
        .chain(names.map(str::to_string))
        .collect();
    let (mut depth, mut start) = (0, 0);
    let rest = rest.strip_suffix('}').unwrap_or(rest);
    for (at, c) in rest.char_indices().chain([(rest.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = &rest[start..at];
                if !part.is_empty() {
                    expand(part, &before, paths);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// For each module its line, counted from the top, and the only modules that it may import.
fn layers(map: &str) -> BTreeMap<&str, (usize, Option<Vec<&str>>)> {
    let mut layers = BTreeMap::new();
    for (rank, line) in map.lines().enumerate() {
        let (names, only) = match line.split_once(" → ") {
            Some((names, only)) => (names, Some(only.split(", ").collect::<Vec<_>>())),
            None => (line, None),
        };
        for name in names.split(", ") {
            layers.insert(name, (rank, only.clone()));
        }
    }
    layers
}

/// Everything that is against the map.
fn findings(sources: &[Source]) -> BTreeSet<String> {
    let files: BTreeSet<String> = sources.iter().map(|source| source.path.clone()).collect();
    let layers = layers(LAYERS);
    let mut findings = BTreeSet::new();
    let mut edges: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let module = source.module();
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some((rank, only)) = layers.get(module) else {
            findings.insert(format!("{module} is not on the map"));
            continue;
        };
        let imports = source.imports(&files);
        for import in &imports {
            let other = self::module(import);
            let is_below = layers.get(other).is_some_and(|(below, _)| below > rank);
            let is_listed = only.as_ref().is_none_or(|only| only.contains(&other));
            if other != module && !(is_below && is_listed) {
                findings.insert(format!("{} imports {other}", source.path));
            }
            if let (["commands", one, ..], ["commands", two, ..]) = (
                &parts(&source.path)
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()[..],
                &parts(import).iter().map(String::as_str).collect::<Vec<_>>()[..],
            ) && one != two
            {
                findings.insert(format!("{} imports the command {two}", source.path));
            }
        }
        edges.insert(&source.path, imports);
        for path in source.paths() {
            let named = path.first().map(String::as_str).unwrap_or_default();
            for (name, places) in CRATES {
                if named == name && !places.contains(&module) {
                    findings.insert(format!("{} names the crate {name}", source.path));
                }
            }
        }
        for (name, places) in CRATES {
            let inline = [
                format!("[{name}::"),
                format!("({name}::"),
                format!(" {name}::"),
            ];
            let is_named = inline
                .iter()
                .any(|text| source.text.contains(text.as_str()));
            if is_named && !places.contains(&module) {
                findings.insert(format!("{} names the crate {name}", source.path));
            }
        }
        for (call, places) in CALLS {
            let before = |at: usize| source.text[..at].chars().next_back();
            let mut calls = source.text.match_indices(call);
            if calls.any(|(at, _)| !before(at).is_some_and(|c| c.is_alphanumeric()))
                && !places.contains(&module)
            {
                findings.insert(format!("{} uses {call}", source.path));
            }
        }
    }
    for circle in circles(&edges) {
        let modules: BTreeSet<&str> = circle.iter().map(|path| self::module(path)).collect();
        if modules.len() > 1 {
            findings.insert(format!(
                "import cycle across folders: {}",
                circle.join(", ")
            ));
        }
    }
    findings
}

/// Files that import each other, directly or through others.
fn circles<'a>(edges: &BTreeMap<&'a str, BTreeSet<String>>) -> BTreeSet<Vec<&'a str>> {
    let reach = |from: &str| {
        let mut reached = BTreeSet::new();
        let mut left = vec![from.to_string()];
        while let Some(file) = left.pop() {
            for next in edges.get(file.as_str()).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    left.push(next.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<String>> =
        edges.keys().map(|file| (*file, reach(file))).collect();
    let mut circles = BTreeSet::new();
    for (one, its) in &reached {
        let circle: Vec<&str> = reached
            .iter()
            .filter(|(other, back)| its.contains(**other) && back.contains(*one))
            .map(|(other, _)| *other)
            .collect();
        if circle.len() > 1 {
            circles.insert(circle);
        }
    }
    circles
}

fn read(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, root, sources);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            // Modules of tests alone.
            if !["tests.rs", "samples.rs"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                sources.push(Source::new(&name, &std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
}

#[test]
fn imports_follow_the_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read(&root, &root, &mut sources);
    assert!(sources.len() > 100, "only {} files", sources.len());
    let found = findings(&sources);
    let mut text = String::new();
    for finding in found
        .iter()
        .filter(|one| !EXCEPTIONS.contains(&one.as_str()))
    {
        let _ = writeln!(text, "{finding}");
    }
    for exception in EXCEPTIONS.iter().filter(|one| !found.contains(**one)) {
        let _ = writeln!(text, "no exception any more: {exception}");
    }
    assert!(text.is_empty(), "\n{text}");
}

#[test]
fn the_map_is_that_of_lib_rs() {
    let lib =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let map: String = lib
        .lines()
        .skip_while(|line| *line != "//! ```text")
        .skip(1)
        .take_while(|line| *line != "//! ```")
        .map(|line| format!("{}\n", line.trim_start_matches("//! ")))
        .collect();
    assert_eq!(map, LAYERS);
}

#[test]
fn what_is_against_the_map_is_found() {
    let found = |path: &str, text: &str| {
        let others = [
            "ui/mod.rs",
            "ops/mod.rs",
            "client/mod.rs",
            "commands/fix.rs",
            "cluster/node.rs",
        ];
        let mut sources: Vec<Source> = others.iter().map(|path| Source::new(path, "")).collect();
        sources.push(Source::new(path, text));
        findings(&sources).into_iter().collect::<Vec<_>>()
    };
    let none: [&str; 0] = [];
    assert_eq!(
        found("plan/x.rs", "\nuse crate::cluster::node::NodeId;\n"),
        none
    );
    assert_eq!(
        found(
            "cluster/x.rs",
            "\nuse crate::{ui::Ui, cluster::node::{Addr, NodeId}};\n"
        ),
        ["cluster/x.rs imports ui"]
    );
    assert_eq!(
        found("ops/x.rs", "fn f() { crate::ui::text(b\"\") }"),
        ["ops/x.rs imports ui"]
    );
    assert_eq!(
        found("ui/x.rs", "\nuse crate::client::NodeClient;\n"),
        ["ui/x.rs imports client"]
    );
    assert_eq!(
        found("commands/reshard.rs", "\nuse super::fix::Args;\n"),
        ["commands/reshard.rs imports the command fix"]
    );
    assert_eq!(
        found("ops/x.rs", "#[derive(clap::ValueEnum)]\nenum Y {}"),
        ["ops/x.rs names the crate clap"]
    );
    assert_eq!(
        found("ops/x.rs", "\nuse redis::Cmd;\nfn f() { println!() }"),
        ["ops/x.rs names the crate redis", "ops/x.rs uses println!"]
    );
    assert_eq!(found("new/x.rs", ""), ["new is not on the map"]);
    // Comments and test modules do not count.
    assert_eq!(
        found(
            "cluster/x.rs",
            "// use crate::ui::Ui;\n\n#[cfg(test)]\nmod tests {\n    use crate::ui::Ui;\n}\n"
        ),
        none
    );
    let circle = [
        Source::new("client/a.rs", "\nuse crate::seed::Seed;\n"),
        Source::new("seed.rs", "\nuse crate::client::a::A;\n"),
    ];
    assert_eq!(
        findings(&circle).into_iter().collect::<Vec<_>>(),
        [
            "import cycle across folders: client/a.rs, seed.rs",
            "seed.rs imports client"
        ]
    );
}
