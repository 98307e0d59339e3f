//! Function libraries, and how they differ between nodes or files.
//!
//! Masters do not tell each other of functions: FUNCTION LOAD changes one master and its replicas. A library has its own
//! copy on each master, and nothing keeps the copies equal. The order of FUNCTION LIST and FUNCTION DUMP differs
//! between processes, so libraries are compared by name.

use std::collections::{BTreeMap, BTreeSet};

use ring::digest::{SHA256, digest};

use super::text::clean;

/// The number of libraries that a sentence names, of codes of one library, and of holders of one code.
const SHOWN: usize = 3;

/// The function libraries of a node or of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Functions(BTreeMap<String, Library>);

/// What is known of a library.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Library {
    /// Of its code.
    hash: [u8; 32],
    /// The functions that it registers, as far as its text names them.
    registered: BTreeSet<String>,
}

impl Functions {
    /// Adds a library. Its code names the engine in its first line.
    pub fn add(&mut self, name: &str, code: &[u8]) {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, code).as_ref());
        let registered = registered(code);
        self.0
            .insert(name.to_string(), Library { hash, registered });
    }

    /// Whether there is a library of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of libraries that both have, with different code.
    pub fn conflicts<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        let both = self.0.iter();
        both.filter(|(name, one)| {
            other
                .0
                .get(*name)
                .is_some_and(|other| other.hash != one.hash)
        })
        .map(|(name, _)| name.as_str())
    }

    /// The names of the libraries.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether both have the library with the same code.
    pub fn has_same(&self, name: &str, other: &Self) -> bool {
        let codes = self.0.get(name).zip(other.0.get(name));
        codes.is_some_and(|(one, other)| one.hash == other.hash)
    }

    /// Whether the text of a library registers the function.
    pub fn registers(&self, function: &str) -> bool {
        let mut libraries = self.0.values();
        libraries.any(|library| library.registered.contains(function))
    }

    /// The libraries that none of `others` has.
    pub fn without<'a>(&self, others: impl Iterator<Item = &'a Self> + Clone) -> Self {
        let mut own = self.clone();
        own.0
            .retain(|name, _| !others.clone().any(|other| other.has(name)));
        own
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The name of a library, as its first line has it: `#!lua name=mylib`. The name has letters, digits and underscores
/// only, and may be quoted (Redis 7.0, `functionExtractLibMetaData`).
pub fn library_name(code: &[u8]) -> Option<String> {
    let line = code.split(|byte| *byte == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.strip_prefix("#!")?
        .split_whitespace()
        .skip(1)
        .find_map(|word| {
            let (option, name) = word.split_once('=')?;
            let name = name.replace(['"', '\''], "");
            (option.eq_ignore_ascii_case("name") && !name.is_empty()).then_some(name)
        })
}

/// The functions that the code of a library registers by a literal name, in lower case: servers do not distinguish it
/// (Redis 7.0, `functionDictType`). A name that the code computes is not found.
fn registered(code: &[u8]) -> BTreeSet<String> {
    let code = without_comments(&String::from_utf8_lossy(code));
    let calls = code.split("register_function").skip(1);
    calls.filter_map(first_name).collect()
}

/// The name after `register_function`: `('f', …)`, `'f'`, or `{function_name = 'f', …}`.
fn first_name(arguments: &str) -> Option<String> {
    let arguments = arguments.trim_start().trim_start_matches('(').trim_start();
    let value = match arguments.strip_prefix('{') {
        None => arguments,
        Some(fields) => {
            let (_, value) = fields.split_once("function_name")?;
            value.trim_start().strip_prefix('=')?.trim_start()
        }
    };
    let quote = value.chars().next().filter(|it| matches!(it, '\'' | '"'))?;
    let (name, rest) = value[1..].split_once(quote)?;
    // The beginning of a name that the code computes.
    if rest.trim_start().starts_with("..") {
        return None;
    }
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = !name.is_empty() && name.bytes().all(is_valid);
    is_name.then(|| name.to_ascii_lowercase())
}

/// Lua code without its comments. Two dashes in a string count as one, and hide the rest of the line.
fn without_comments(code: &str) -> String {
    let mut kept = String::new();
    let mut rest = code;
    while let Some((before, comment)) = rest.split_once("--") {
        kept.push_str(before);
        // `--[[ … ]]` and `--[==[ … ]==]`.
        let level = comment.strip_prefix('[').map(|long| {
            let after = long.trim_start_matches('=');
            (long.len() - after.len(), after.starts_with('['))
        });
        let end = match level {
            Some((level, true)) => {
                let close = format!("]{}]", "=".repeat(level));
                comment.find(&close).map(|at| at + close.len())
            }
            _ => comment.find('\n'),
        };
        rest = end.map_or("", |end| &comment[end..]);
    }
    kept.push_str(rest);
    kept
}

/// Functions that more than one library registers, and the libraries: a server loads only one of these.
pub fn shared_functions<'a>(
    sets: impl Iterator<Item = &'a Functions>,
) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut libraries: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, library) in sets.flat_map(|set| &set.0) {
        for function in &library.registered {
            libraries.entry(function).or_default().insert(name);
        }
    }
    libraries.retain(|_, libraries| libraries.len() > 1);
    libraries
}

/// A library that is not the same everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryDifference<K> {
    /// Its name.
    pub library: String,
    /// Those that have it, by its code; the largest group first.
    pub groups: Vec<Vec<K>>,
    /// Those that do not have it.
    pub missing: Vec<K>,
}

impl<K> LibraryDifference<K> {
    /// Whether there is more than one code of the library.
    pub fn is_conflict(&self) -> bool {
        self.groups.len() > 1
    }
}

impl<K: Ord + Clone> LibraryDifference<K> {
    /// Those that differ from the majority; all, if there is none.
    fn deviating(&self) -> BTreeSet<K> {
        let mut groups: Vec<&Vec<K>> = self.groups.iter().chain([&self.missing]).collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
        let rest = match &groups[..] {
            [most, next, ..] if most.len() > next.len() => &groups[1..],
            _ => &groups[..],
        };
        rest.iter().copied().flatten().cloned().collect()
    }
}

/// The libraries that are not the same in all of `sets`, by name.
pub fn differences<K: Ord + Clone>(sets: &BTreeMap<K, Functions>) -> Vec<LibraryDifference<K>> {
    let names: BTreeSet<&String> = sets.values().flat_map(|set| set.0.keys()).collect();
    let mut differences = Vec::new();
    for name in names {
        let mut by_code: BTreeMap<[u8; 32], Vec<K>> = BTreeMap::new();
        let mut missing = Vec::new();
        for (holder, set) in sets {
            match set.0.get(name) {
                Some(library) => {
                    let holders = by_code.entry(library.hash).or_default();
                    holders.push(holder.clone());
                }
                None => missing.push(holder.clone()),
            }
        }
        if by_code.len() < 2 && missing.is_empty() {
            continue;
        }
        let mut groups: Vec<Vec<K>> = by_code.into_values().collect();
        // By the first holder where groups have the same size, so that the sentence does not depend on the hash.
        groups.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        differences.push(LibraryDifference {
            library: name.clone(),
            groups,
            missing,
        });
    }
    differences
}

/// Those whose libraries differ from the majority.
pub fn deviating<K: Ord + Clone>(differences: &[LibraryDifference<K>]) -> BTreeSet<K> {
    let all = differences.iter().map(LibraryDifference::deviating);
    all.flatten().collect()
}

/// The member of the largest group with equal libraries; among equal groups, one with the most libraries.
pub fn most_common<K: Ord + Clone>(sets: &BTreeMap<K, Functions>) -> Option<K> {
    let equal = |set: &Functions| sets.values().filter(|other| *other == set).count();
    let mut best: Option<(usize, usize, &K)> = None;
    for (holder, set) in sets {
        let rank = (equal(set), set.0.len());
        if best.is_none_or(|(count, libraries, _)| rank > (count, libraries)) {
            best = Some((rank.0, rank.1, holder));
        }
    }
    best.map(|(_, _, holder)| holder.clone())
}

/// The differences in words: `library "l" has different code on A than on B; library "m" is missing on B`. The number
/// of names is limited.
pub fn describe<K>(differences: &[LibraryDifference<K>], name: impl Fn(&K) -> String) -> String {
    let shown = differences.iter().take(SHOWN);
    let mut parts: Vec<String> = shown.map(|one| sentence(one, &name)).collect();
    match differences.len().saturating_sub(SHOWN) {
        0 => {}
        1 => parts.push("1 library more differs".to_string()),
        more => parts.push(format!("{more} libraries more differ")),
    }
    parts.join("; ")
}

fn sentence<K>(difference: &LibraryDifference<K>, name: &impl Fn(&K) -> String) -> String {
    let LibraryDifference {
        library,
        groups,
        missing,
    } = difference;
    let library = library_words(library);
    let names = |of: &[K]| listed(of.iter().map(name));
    match &groups[..] {
        [one] if one.len() < missing.len() => {
            return format!("{library} is only on {}", names(one));
        }
        [] | [_] => return format!("{library} is missing on {}", names(missing)),
        _ => {}
    }
    let codes = match &groups[..] {
        [one, other] => format!(
            "{library} has different code on {} than on {}",
            names(one),
            names(other)
        ),
        more => {
            let shown = more.iter().take(SHOWN).map(|group| names(group));
            let mut shown: Vec<String> = shown.collect();
            if more.len() > SHOWN {
                shown.push(format!("{} more", more.len() - SHOWN));
            }
            format!(
                "{library} has {} different codes, on {}",
                more.len(),
                shown.join(" / ")
            )
        }
    };
    match missing.is_empty() {
        true => codes,
        false => format!("{codes}, and is missing on {}", names(missing)),
    }
}

/// `library "mylib"`: a name from a node or a file, made safe to print.
pub fn library_words(name: &str) -> String {
    format!("library \"{}\"", clean(name, 64))
}

/// `a, b, c and 2 more`.
pub fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(libraries: &[(&str, &str)]) -> Functions {
        let mut functions = Functions::default();
        for (name, code) in libraries {
            functions.add(name, code.as_bytes());
        }
        functions
    }

    /// Nodes `a`, `b`, … with these libraries, and the differences in words.
    fn said(nodes: &[&[(&str, &str)]]) -> String {
        let nodes = ('a'..).zip(nodes).map(|(name, set)| (name, functions(set)));
        describe(&differences(&nodes.collect()), char::to_string)
    }

    #[test]
    fn equal_libraries_in_any_order_do_not_differ() {
        assert_eq!(said(&[]), "");
        assert_eq!(said(&[&[("l", "1")]]), "");
        assert_eq!(said(&[&[], &[], &[]]), "");
        let one: &[(&str, &str)] = &[("l", "1"), ("m", "2")];
        let other: &[(&str, &str)] = &[("m", "2"), ("l", "1")];
        assert_eq!(said(&[one, other]), "");
    }

    #[test]
    fn what_differs_is_said() {
        let (none, one, other): (&[_], &[_], &[_]) = (&[], &[("l", "1")], &[("l", "2")]);
        for (nodes, expected) in [
            (&[one, none][..], "library \"l\" is missing on b"),
            (&[none, one], "library \"l\" is missing on a"),
            (&[none, one, none], "library \"l\" is only on b"),
            (&[one, none, one], "library \"l\" is missing on b"),
            (
                &[one, other],
                "library \"l\" has different code on a than on b",
            ),
            (
                &[one, other, other],
                "library \"l\" has different code on b, c than on a",
            ),
            (
                &[one, none, other],
                "library \"l\" has different code on a than on c, and is missing on b",
            ),
            (
                &[one, other, &[("l", "3")]],
                "library \"l\" has 3 different codes, on a / b / c",
            ),
            (
                &[&[("l", "1"), ("m", "1")], &[("n", "1")]],
                "library \"l\" is missing on b; library \"m\" is missing on b; library \"n\" is missing on a",
            ),
        ] {
            assert_eq!(said(nodes), expected);
        }
    }

    #[test]
    fn the_number_of_names_is_limited() {
        let names: Vec<String> = (0..1_000).map(|n| format!("lib{n:04}")).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        assert_eq!(
            said(&[&all, &[]]),
            "library \"lib0000\" is missing on b; library \"lib0001\" is missing on b; library \"lib0002\" is \
             missing on b; 997 libraries more differ"
        );
        let codes: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        let sets: Vec<[(&str, &str); 1]> =
            codes.iter().map(|code| [("l", code.as_str())]).collect();
        let mut nodes: Vec<&[(&str, &str)]> = sets.iter().map(|set| &set[..]).collect();
        nodes.extend([&[][..]; 9]);
        assert_eq!(
            said(&nodes),
            "library \"l\" has 9 different codes, on a / b / c / 6 more, and is missing on j, k, l and 6 more"
        );
        let long = "x\u{1b}[31m".repeat(1_000);
        assert!(said(&[&[(&long, "1")], &[]]).len() < 100);
    }

    #[test]
    fn those_that_differ_from_the_majority_are_named() {
        let (none, one, other) = (
            functions(&[]),
            functions(&[("l", "1")]),
            functions(&[("l", "2")]),
        );
        let deviating = |sets: &[&Functions]| -> String {
            let sets = ('a'..).zip(sets).map(|(name, set)| (name, (*set).clone()));
            deviating(&differences(&sets.collect())).iter().collect()
        };
        assert_eq!(deviating(&[&one, &one, &none]), "c");
        assert_eq!(deviating(&[&none, &one, &none]), "b");
        assert_eq!(deviating(&[&one, &other, &other]), "a");
        assert_eq!(deviating(&[&one, &other]), "ab");
        assert_eq!(deviating(&[&one, &none]), "ab");
        assert_eq!(deviating(&[&one, &one]), "");
    }

    #[test]
    fn the_source_for_new_nodes_is_of_the_majority() {
        let (none, one, two) = (
            functions(&[]),
            functions(&[("l", "1")]),
            functions(&[("l", "1"), ("m", "1")]),
        );
        let source = |sets: &[&Functions]| {
            let sets = ('a'..).zip(sets).map(|(name, set)| (name, (*set).clone()));
            most_common(&sets.collect())
        };
        assert_eq!(source(&[]), None);
        assert_eq!(source(&[&none, &one, &one]), Some('b'));
        assert_eq!(source(&[&none, &none, &two]), Some('a'));
        assert_eq!(source(&[&none, &one, &two]), Some('c'));
        assert_eq!(source(&[&one, &one]), Some('a'));
    }

    #[test]
    fn the_first_line_names_the_library() {
        for (code, name) in [
            ("#!lua name=mylib\nredis.…", Some("mylib")),
            ("#!LUA\tNAME=\"mylib\" \n", Some("mylib")),
            ("#!js name='mylib'", Some("mylib")),
            ("#!lua api=1 name=mylib\r\n", Some("mylib")),
            ("#!lua\nname=mylib", None),
            ("#!lua name=\n", None),
            ("return 1", None),
            ("", None),
        ] {
            assert_eq!(library_name(code.as_bytes()).as_deref(), name, "{code}");
        }
        assert_eq!(library_name(b"#!lua name=\xff\n"), None);
    }

    #[test]
    fn registered_functions_are_found_by_their_literal_names() {
        for (code, names) in [
            ("redis.register_function('f', cb)", &["f"][..]),
            ("server.register_function( \"F_1\" ,cb)", &["f_1"]),
            (
                "redis.register_function{\n  callback = cb,\n  function_name='f', flags={}}",
                &["f"],
            ),
            (
                "redis.register_function({function_name = 'f', callback = cb}) redis.register_function('g', cb)",
                &["f", "g"],
            ),
            ("redis.register_function'f'", &["f"]),
            (
                "-- redis.register_function('f', cb)\nredis.register_function('g', cb)",
                &["g"],
            ),
            (
                "--[[ redis.register_function('f', cb)\n]] redis.register_function('g', cb)",
                &["g"],
            ),
            ("--[[ redis.register_function('f', cb)", &[]),
            ("redis.register_function(name, cb)", &[]),
            ("redis.register_function('f' .. n, cb)", &[]),
            (
                "--[=[ redis.register_function('f', cb)\n]] --\n]=] redis.register_function('g', cb)",
                &["g"],
            ),
            ("--[= redis.register_function('f', cb)\n", &[]),
            ("redis.register_function('f g', cb)", &[]),
            ("redis.register_function(", &[]),
            ("redis.register_function{", &[]),
            ("redis.register_function('f", &[]),
            ("", &[]),
        ] {
            let found = registered(code.as_bytes());
            assert_eq!(found.iter().collect::<Vec<_>>(), names, "{code}");
        }
    }

    #[test]
    fn functions_of_two_libraries_are_named() {
        let f = "redis.register_function('f', cb)";
        let one = functions(&[("a", f), ("c", "")]);
        let other = functions(&[("b", f)]);
        assert!(shared_functions([&one, &one].into_iter()).is_empty());
        let shared = shared_functions([&one, &other].into_iter());
        assert_eq!(shared, BTreeMap::from([("f", BTreeSet::from(["a", "b"]))]));
    }

    #[test]
    fn conflicts_are_of_libraries_that_both_have() {
        let one = functions(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let other = functions(&[("b", "2"), ("c", "1"), ("d", "1")]);
        assert_eq!(one.conflicts(&other).collect::<Vec<_>>(), ["b"]);
    }
}
