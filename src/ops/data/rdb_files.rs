//! The RDB files that paths on the command line stand for: files, the directory that redis-cli's backup writes, the
//! `appendonlydir` of a server, and any directory with RDB files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::cluster::text::is_unsafe;
use crate::transfer::SavedFile;

/// The name of standard input.
const STDIN: &str = "-";
/// The list of files of a backup of this program.
const MANIFEST: &str = "manifest.json";
/// The directory in which a server has its append-only file (appenddirname, Redis ≥ 7.0).
const APPEND_ONLY: &str = "appendonlydir";
/// The largest list of files that is read.
const LARGEST: u64 = 64 << 20;
/// The endings of RDB files.
const ENDINGS: [&str; 4] = [".rdb", ".rdb.gz", ".rdb.zst", ".rdb.zstd"];

/// Where the bytes of a file come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FileOrigin {
    /// A file, which can be read twice.
    Path(PathBuf),
    /// Standard input, which can't.
    Stdin,
}

/// An RDB file to import.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ImportFile {
    /// Where its bytes come from.
    pub(crate) origin: FileOrigin,
    /// Its name in messages.
    pub(crate) name: String,
    /// The slots that its node owned: other keys are left-overs of moved slots.
    pub(crate) slots: SlotSet,
}

impl ImportFile {
    /// The file, if it can be read more than once.
    pub(crate) fn saved(&self) -> Option<SavedFile> {
        match &self.origin {
            FileOrigin::Stdin => None,
            FileOrigin::Path(path) => Some(SavedFile {
                path: path.clone(),
                name: self.name.clone(),
                slots: self.slots.clone(),
                keys: None,
            }),
        }
    }
}

/// The name of the file, or how many there are.
pub(crate) fn listed(files: &[ImportFile]) -> String {
    match files {
        [file] => file.name.clone(),
        files => counted(files.len() as u64, "RDB file"),
    }
}

/// How commands are treated that a server has appended to its RDB file (AOF).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AofIncrements {
    /// They are refused, because they can't be imported.
    Refuse,
    /// They are left out.
    Ignore,
}

/// Whether a path stands for standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == STDIN
}

/// Whether a path is the directory of a backup that this program has written.
pub(crate) fn is_backup(path: &Path) -> bool {
    path.join(MANIFEST).is_file()
}

/// Whether an argument names files and not a server.
pub(crate) fn is_path(text: &str) -> bool {
    if text == STDIN {
        return true;
    }
    let is_url = text.contains("://");
    let has_ending = ENDINGS.iter().any(|ending| text.ends_with(ending));
    !is_url
        && (text.contains('/') || has_ending || (!text.contains(':') && Path::new(text).is_dir()))
}

/// Finds the files that these paths stand for.
pub(crate) fn find(
    paths: &[PathBuf],
    increments: AofIncrements,
) -> anyhow::Result<Vec<ImportFile>> {
    let mut files = Vec::new();
    for path in paths {
        let name = || path.display().to_string();
        if is_stdin(path) {
            files.push(ImportFile {
                origin: FileOrigin::Stdin,
                name: "standard input".to_string(),
                slots: SlotSet::full(),
            });
        } else if fs::metadata(path).with_context(name)?.is_dir() {
            files.extend(of_directory(path, increments).with_context(name)?);
        } else {
            files.push(whole(path.clone()));
        }
    }
    for file in &files {
        // What is missing is reported where it is opened.
        if let FileOrigin::Path(path) = &file.origin
            && fs::metadata(path).is_ok_and(|found| !found.is_file())
        {
            bail!(
                "{} is not a regular file, and files are read twice: pipe it to --from -",
                file.name
            );
        }
    }
    let mut names = BTreeSet::new();
    match files.iter().find(|file| !names.insert(&file.name)) {
        Some(file) => bail!("{} is named twice", file.name),
        None => Ok(files),
    }
}

/// A file whose node is not known.
fn whole(path: PathBuf) -> ImportFile {
    ImportFile {
        name: path.display().to_string(),
        origin: FileOrigin::Path(path),
        slots: SlotSet::full(),
    }
}

fn of_directory(path: &Path, increments: AofIncrements) -> anyhow::Result<Vec<ImportFile>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    let has = |name: &str| names.iter().any(|other| other == name);
    if has(MANIFEST) {
        bail!("this is a backup of redis-trib: use redis-trib restore");
    }
    refuse_parts_of_backups(&names)?;
    let rdb: Vec<&String> = names
        .iter()
        .filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)))
        .collect();
    if has("nodes.json") {
        return of_redis_cli(path, &rdb);
    }
    // A server that died while it wrote its manifest leaves `temp-…`.
    let is_manifest = |name: &&String| name.ends_with(".manifest") && !name.starts_with("temp-");
    let manifests: Vec<&String> = names.iter().filter(is_manifest).collect();
    match &manifests[..] {
        [] => {}
        [manifest] => return Ok(vec![of_aof(path, manifest, increments)?]),
        [one, other, ..] => bail!(
            "this is the appendonlydir of several servers, or of one that changed its appendfilename ({}, {}): name \
             the base file of the right one",
            printable(one),
            printable(other)
        ),
    }
    if let Some(increment) = names.iter().find(|name| name.ends_with(".incr.aof")) {
        bail!(
            "this is an appendonlydir without its manifest file (*.manifest), and {increment} has commands that can't \
             be imported: name the base file itself to leave them out"
        );
    }
    if path.join(APPEND_ONLY).is_dir() {
        bail!(
            "this is the directory of a server that has an {APPEND_ONLY}, too: name the RDB file, or the {APPEND_ONLY} \
             itself"
        );
    }
    if rdb.is_empty() {
        bail!(
            "there is no RDB file ({}) in this directory",
            ENDINGS.join(", ")
        );
    }
    Ok(rdb.iter().map(|name| whole(path.join(name))).collect())
}

/// Refuses files of a backup that has no list of them: which are missing is not known.
fn refuse_parts_of_backups(names: &[String]) -> anyhow::Result<()> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let is_unfinished = |name: &&String| {
        [".rdb.partial", ".json.partial"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    if let Some(name) = names.iter().find(is_unfinished) {
        bail!(
            "this is an unfinished backup ({}): make it again, or name the files to import one by one",
            printable(name)
        );
    }
    let is_of_node = |name: &&String| {
        let id = name.strip_suffix(".rdb");
        id.is_some_and(|id| id.parse::<NodeId>().is_ok())
    };
    if let Some(name) = names.iter().find(is_of_node) {
        bail!(
            "this is a backup of redis-trib without its manifest.json ({name}), so keys may be missing: make it again, \
             or name the files to import one by one"
        );
    }
    let is_of_redis_cli =
        |name: &&String| name.starts_with("redis-node-") && name.ends_with(".rdb");
    match names.iter().find(is_of_redis_cli) {
        Some(name) if !has("nodes.json") => bail!(
            "this is a backup of redis-cli without its nodes.json ({}), so keys may be missing: make it again, or name \
             the files to import one by one",
            printable(name)
        ),
        _ => Ok(()),
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// A node in redis-cli's `nodes.json`, as far as it is needed.
#[derive(Deserialize)]
struct BackedUp {
    name: String,
    #[serde(default)]
    slots: Vec<Vec<u16>>,
}

impl BackedUp {
    fn slots(&self) -> Option<SlotSet> {
        let range = |ends: &Vec<u16>| match ends[..] {
            [one] => SlotRange::new(Slot::new(one)?, Slot::new(one)?),
            [start, end] => SlotRange::new(Slot::new(start)?, Slot::new(end)?),
            _ => None,
        };
        self.slots.iter().map(range).collect()
    }
}

/// The files of redis-cli's backup are named by their nodes: `redis-node-HOST-PORT-ID.rdb`.
fn of_redis_cli(path: &Path, rdb: &[&String]) -> anyhow::Result<Vec<ImportFile>> {
    let text = text_of(&path.join("nodes.json"))?;
    let nodes: Vec<BackedUp> = serde_json::from_str(&text).context("nodes.json is damaged")?;
    let mut files = BTreeMap::new();
    let mut covered = SlotSet::new();
    for node in &nodes {
        let name = &node.name;
        if name.is_empty() || name.contains(is_unsafe) {
            bail!("nodes.json is damaged: {name:?} is not a node id");
        }
        let slots = node.slots();
        let slots =
            slots.ok_or_else(|| anyhow!("nodes.json is damaged: node {name} has invalid slots"))?;
        if slots.is_empty() {
            continue;
        }
        let mut of_node = rdb.iter().filter(|file| file.contains(name.as_str()));
        let file = of_node.next().ok_or_else(|| {
            anyhow!(
                "data would be missing: there is no file of node {name}, which owned slots {slots}"
            )
        })?;
        if !covered.intersection(&slots).is_empty() {
            bail!(
                "nodes.json is damaged: two nodes own slots {}",
                covered.intersection(&slots)
            );
        }
        covered = covered.union(&slots);
        let mut file = whole(path.join(file));
        file.slots = slots;
        files.insert(file.name.clone(), file);
    }
    let missing = SlotSet::full().difference(&covered);
    if !missing.is_empty() {
        bail!("data would be missing: no node in nodes.json owns slots {missing}");
    }
    Ok(files.into_values().collect())
}

/// A line of the manifest of an append-only file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AofFile {
    name: String,
    kind: AofKind,
}

/// The content of a file of an append-only file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AofKind {
    Base,
    Increment,
    /// An older file, which the base has replaced.
    History,
}

/// Reads a line of a manifest (aof.c, aofLoadManifestFromFile): pairs of a name and a value, at least three, in any order.
/// Redis 8.0 and later write more pairs than 7.0: `file a.aof.1.incr.aof seq 1 type i startoffset 0`.
fn aof_file(line: &str) -> Option<AofFile> {
    let words = split_quoted(line)?;
    if words.len() < 6 || !words.len().is_multiple_of(2) {
        return None;
    }
    let (mut name, mut kind, mut has_number) = (None, None, false);
    for pair in words.chunks_exact(2) {
        match pair[0].to_ascii_lowercase().as_str() {
            "file" => name = Some(pair[1].clone()),
            "seq" => has_number = true,
            // The server reads the first letter.
            "type" => kind = pair[1].chars().next(),
            _ => {}
        }
    }
    let kind = match kind? {
        'b' => AofKind::Base,
        'i' => AofKind::Increment,
        'h' => AofKind::History,
        _ => return None,
    };
    has_number.then_some(())?;
    Some(AofFile { name: name?, kind })
}

/// The words of a line. In double quotes there are escapes: the server writes a name so that has spaces or bytes that are
/// not printable (sds.c, sdscatrepr). `None` if a quote has no end, or a word is not UTF-8.
fn split_quoted(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii().as_bytes();
    while !rest.is_empty() {
        let word;
        (word, rest) = match rest {
            [b'"', inside @ ..] => quoted_word(inside)?,
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace);
                let (word, rest) = rest.split_at_checked(end.unwrap_or(rest.len()))?;
                (word.to_vec(), rest)
            }
        };
        words.push(String::from_utf8(word).ok()?);
        // The end of a quote is the end of a word.
        if !rest.first().is_none_or(u8::is_ascii_whitespace) {
            return None;
        }
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

/// The word before the closing quote, and what follows that.
fn quoted_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        let byte;
        (byte, rest) = match rest {
            [b'"', rest @ ..] => return Some((word, rest)),
            [b'\\', b'x', high, low, rest @ ..]
                if [high, low].iter().all(|digit| digit.is_ascii_hexdigit()) =>
            {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                let byte = digit(*high)? << 4 | digit(*low)?;
                (u8::try_from(byte).ok()?, rest)
            }
            [b'\\', escaped, rest @ ..] => {
                let byte = match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                };
                (byte, rest)
            }
            [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        word.push(byte);
    }
}

/// The base file of an append-only file (Redis ≥ 7.0), whose manifest has a line for each file:
/// `file appendonly.aof.1.base.rdb seq 1 type b`.
fn of_aof(path: &Path, manifest: &str, increments: AofIncrements) -> anyhow::Result<ImportFile> {
    let text = text_of(&path.join(manifest))?;
    let mut base = None;
    let (mut appended, mut missing) = (Vec::new(), Vec::new());
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
    {
        let AofFile { name, kind } = aof_file(line).ok_or_else(|| {
            anyhow!(
                "{manifest} is damaged: {:?} is not a line of it",
                printable(line)
            )
        })?;
        if name.contains('/') || name.contains(is_unsafe) {
            bail!(
                "{manifest} is damaged: {:?} is not a file name",
                printable(&name)
            );
        }
        match kind {
            AofKind::Base => {
                if let Some(other) = base.replace(name) {
                    bail!("{manifest} is damaged: {other} is not the only base file in it");
                }
            }
            AofKind::Increment => match fs::metadata(path.join(&name)) {
                Ok(file) if file.len() == 0 => {}
                Ok(_) => appended.push(name),
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(name),
                Err(error) => return Err(error).with_context(|| name),
            },
            AofKind::History => {}
        }
    }
    let base = base.ok_or_else(|| {
        anyhow!("{manifest} names no base file: BGREWRITEAOF on the server makes one")
    })?;
    if !base.ends_with(".rdb") {
        bail!(
            "the base file {base} has commands instead of data: set aof-use-rdb-preamble yes on the server, and make \
             another one (BGREWRITEAOF)"
        );
    }
    if increments == AofIncrements::Ignore {
        return Ok(whole(path.join(base)));
    }
    if !missing.is_empty() {
        bail!(
            "data would be missing: {} {} missing, with commands that were written after {base}: copy all files of the \
             directory, or leave these commands out (--ignore-aof-increments)",
            missing.join(" and "),
            if missing.len() == 1 { "is" } else { "are" }
        );
    }
    if !appended.is_empty() {
        bail!(
            "{} {} commands that were written after {base}, which can't be imported: make a new base file on the \
             server (BGREWRITEAOF), or leave them out (--ignore-aof-increments)",
            appended.join(" and "),
            if appended.len() == 1 { "has" } else { "have" }
        );
    }
    Ok(whole(path.join(base)))
}

/// Text of a file, for messages.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !is_unsafe(*c)).take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    fn found(files: &[(&str, &str)], increments: AofIncrements) -> Result<Vec<String>, String> {
        let directory = directory(files);
        let found = find(&[directory.path().to_path_buf()], increments);
        let found = found.map_err(|error| format!("{error:#}"))?;
        let name = |file: ImportFile| match file.origin {
            FileOrigin::Path(path) => path.file_name().unwrap().to_string_lossy().into_owned(),
            FileOrigin::Stdin => "-".to_string(),
        };
        Ok(found.into_iter().map(name).collect())
    }

    fn refusal(files: &[(&str, &str)]) -> String {
        found(files, AofIncrements::Refuse).unwrap_err()
    }

    #[test]
    fn arguments_are_paths_or_servers() {
        for path in ["-", "a.rdb", "./a", "/b/c", "dir/", "x.rdb.gz", "y.rdb.zst"] {
            assert!(is_path(path), "{path}");
        }
        for server in [
            "10.0.0.9",
            "host:6379",
            "redis://h:1/3",
            "rediss://h",
            "[::1]:6379",
            "@prod",
        ] {
            assert!(!is_path(server), "{server}");
        }
    }

    #[test]
    fn any_directory_with_files() {
        let files = [("b.rdb", ""), ("a.rdb.gz", ""), ("notes.txt", "")];
        assert_eq!(
            found(&files, AofIncrements::Refuse).unwrap(),
            ["a.rdb.gz", "b.rdb"]
        );
        assert!(refusal(&[("notes.txt", "")]).contains("there is no RDB file"));
        assert!(refusal(&[]).contains("there is no RDB file"));
        assert!(refusal(&[("manifest.json", "{}"), ("a.rdb", "")]).contains("redis-trib restore"));
        let none = find(&[PathBuf::from("/nowhere/at/all")], AofIncrements::Refuse);
        assert!(format!("{:#}", none.unwrap_err()).starts_with("/nowhere/at/all: No such file"));
    }

    #[test]
    fn pipes_are_no_files() {
        let home = directory(&[]);
        let pipe = home.path().join("pipe.rdb");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        for path in [pipe.as_path(), Path::new("/dev/null"), home.path()] {
            let why = find(&[path.to_path_buf()], AofIncrements::Refuse).unwrap_err();
            assert!(format!("{why:#}").contains("--from -"), "{why:#}");
        }
    }

    #[test]
    fn parts_of_backups_and_directories_of_servers_are_refused() {
        let node = format!("{}.rdb", "a1".repeat(20));
        let partial = format!("{node}.partial");
        for (names, says) in [
            (&[node.as_str(), &partial][..], "an unfinished backup"),
            (&["manifest.json.partial"], "an unfinished backup"),
            (
                &["redis-node-h-1-aa.rdb.partial", "a.rdb"],
                "an unfinished backup",
            ),
            (&[&node, "a.rdb"], "redis-trib without its manifest.json"),
            (
                &["redis-node-h-1-aa.rdb"],
                "redis-cli without its nodes.json",
            ),
            (
                &["a.aof.1.base.rdb", "a.aof.2.incr.aof"],
                "a.aof.2.incr.aof has commands",
            ),
        ] {
            let files: Vec<(&str, &str)> = names.iter().map(|name| (*name, "")).collect();
            let why = refusal(&files);
            assert!(why.contains(says), "{why}");
        }
        let home = directory(&[("dump.rdb", "")]);
        fs::create_dir(home.path().join(APPEND_ONLY)).unwrap();
        let why = find(&[home.path().to_path_buf()], AofIncrements::Refuse).unwrap_err();
        assert!(format!("{why:#}").contains("name the RDB file"), "{why:#}");
    }

    #[test]
    fn files_of_redis_cli_are_those_of_the_nodes() {
        let nodes = r#"[{"name": "aa", "host": "h", "port": 1, "slots": [[0,8191],[9000]]},
            {"name": "bb", "slots": [[8192,8999],[9001,16383]]}, {"name": "cc", "slots": []}]"#;
        let (one, other) = ("redis-node-h-1-aa.rdb", "redis-node-h-2-bb.rdb");
        let all = [("nodes.json", nodes), (one, ""), (other, "")];
        assert_eq!(found(&all, AofIncrements::Refuse).unwrap(), [one, other]);
        assert!(
            refusal(&all[..2])
                .contains("no file of node bb, which owned slots 8192-8999,9001-16383")
        );
        for (from, to, says) in [
            ("[0,8191]", "[0,99999]", "nodes.json is damaged"),
            ("[0,8191]", "[0,16384]", "invalid slots"),
            ("[0,8191]", "[5,4]", "invalid slots"),
            ("[0,8191]", "[0,8192]", "two nodes own slots 8192"),
            ("[0,8191]", "[1,8191]", "no node in nodes.json owns slots 0"),
            ("\"aa\"", "\"\"", "not a node id"),
            ("[{", "[", "nodes.json is damaged"),
        ] {
            let nodes = nodes.replacen(from, to, 1);
            let why = refusal(&[("nodes.json", &nodes), (one, ""), (other, "")]);
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn appended_commands_are_refused_by_name() {
        let base = "file a.aof.2.base.rdb seq 2 type b\n";
        let with = "file a.aof.1.incr.aof seq 1 type h\nfile a.aof.3.incr.aof seq 3 type i\n";
        let manifest = [base, with].concat();
        let empty = [
            ("a.aof.manifest", manifest.as_str()),
            ("a.aof.3.incr.aof", ""),
        ];
        assert_eq!(
            found(&empty, AofIncrements::Refuse).unwrap(),
            ["a.aof.2.base.rdb"]
        );
        let full = [
            ("a.aof.manifest", manifest.as_str()),
            ("a.aof.3.incr.aof", "*1"),
        ];
        let why = refusal(&full);
        assert!(why.contains("a.aof.3.incr.aof has commands"), "{why}");
        assert!(why.contains("--ignore-aof-increments"), "{why}");
        assert_eq!(
            found(&full, AofIncrements::Ignore).unwrap(),
            ["a.aof.2.base.rdb"]
        );
        for (text, says) in [
            (
                "file a.aof.1.base.aof seq 1 type b",
                "has commands instead of data",
            ),
            ("file ../x.rdb seq 1 type b", "is not a file name"),
            ("file x", "is not a line of it"),
            (
                "file a.rdb seq 1 type b\nfile b.rdb seq 2 type b",
                "a.rdb is not the only base file",
            ),
            ("", "names no base file"),
        ] {
            let why = refusal(&[("a.aof.manifest", text)]);
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn one_of_several_manifests_is_not_chosen() {
        let line = "file a.rdb seq 1 type b\n";
        let files = [("6379.aof.manifest", line), ("6380.aof.manifest", line)];
        let why = refusal(&files);
        assert!(
            why.contains("6379.aof.manifest, 6380.aof.manifest"),
            "{why}"
        );
        let files = [("a.aof.manifest", line), ("temp-a.aof.manifest", "")];
        assert_eq!(found(&files, AofIncrements::Refuse).unwrap(), ["a.rdb"]);
    }

    #[test]
    fn missing_increments_are_refused_by_name() {
        let manifest = "file a.aof.1.base.rdb seq 1 type b\nfile a.aof.1.incr.aof seq 1 type i\n\
                        file a.aof.2.incr.aof seq 2 type i\n";
        let files = [("a.aof.manifest", manifest), ("a.aof.1.incr.aof", "")];
        let why = refusal(&files);
        assert!(why.contains("a.aof.2.incr.aof is missing"), "{why}");
        assert!(why.contains("--ignore-aof-increments"), "{why}");
        assert!(refusal(&files[..1]).contains("a.aof.1.incr.aof and a.aof.2.incr.aof are missing"));
        assert_eq!(
            found(&files, AofIncrements::Ignore).unwrap(),
            ["a.aof.1.base.rdb"]
        );
    }

    #[test]
    fn lines_of_manifests_have_any_pairs() {
        let file = |name: &str, kind| {
            let name = name.to_string();
            Some(AofFile { name, kind })
        };
        for (line, expected) in [
            ("file a.rdb seq 1 type b", file("a.rdb", AofKind::Base)),
            // Redis 8.0 and later.
            (
                "file a.aof seq 1 type i startoffset 0",
                file("a.aof", AofKind::Increment),
            ),
            (
                "file a.aof seq 1 type i startoffset 0 endoffset 90",
                file("a.aof", AofKind::Increment),
            ),
            ("TYPE h seq 7  file a.aof ", file("a.aof", AofKind::History)),
            (
                r#"file "my \"own\".1.base.rdb" seq 1 type b"#,
                file(r#"my "own".1.base.rdb"#, AofKind::Base),
            ),
            (
                r#"file "\xc3\xa4\\.rdb" seq 1 type b"#,
                file(r"ä\.rdb", AofKind::Base),
            ),
            ("file a.rdb seq 1 type x", None),
            ("file a.rdb seq 1", None),
            ("file a.rdb seq 1 type b more", None),
            ("file a.rdb type b more 1", None),
            ("seq 1 type b more 1", None),
            (r#"file "a.rdb seq 1 type b"#, None),
            (r#"file "a.rdb"x seq 1 type b"#, None),
            (r#"file "\xff" seq 1 type b"#, None),
            (r#"file "a\"#, None),
        ] {
            assert_eq!(aof_file(line), expected, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_of_a_manifest_is_read_or_refused(line in r#"(file|seq|type|[a-z"\\x0-9 é]{0,12}| ){0,9}"#) {
            let _ = aof_file(&line);
        }
    }
}
