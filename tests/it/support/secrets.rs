//! No test may see a password that it gave to the program: whatever it says and writes is looked through.

use std::fs;
use std::path::{Path, PathBuf};

/// Passwords on a command line, and the files that it has written.
pub(crate) struct Secrets {
    words: Vec<String>,
    files: Vec<PathBuf>,
}

/// Before a password.
const BEFORE_PASSWORD: [&str; 5] = [
    "-a",
    "--pass",
    "--from-pass",
    "--cluster-from-pass",
    "--auth",
];
/// Before a file that holds one.
const BEFORE_PASSWORD_FILE: [&str; 2] = ["--pass-file", "--from-pass-file"];
/// Before a file that is written.
const BEFORE_WRITTEN_FILE: [&str; 3] = ["--journal", "--plan-out", "--undo-out"];

impl Secrets {
    pub(crate) fn of(args: &[String], env: &[(String, String)]) -> Self {
        let (mut words, mut files) = (Vec::new(), Vec::new());
        for (n, arg) in args.iter().enumerate() {
            let next = args.get(n + 1).map(String::as_str);
            let value_of = |names: &[&str]| match arg.split_once('=') {
                Some((name, value)) if names.contains(&name) => Some(value),
                None if names.contains(&arg.as_str()) => next,
                _ => None,
            };
            words.extend(value_of(&BEFORE_PASSWORD).map(str::to_owned));
            words.extend(value_of(&BEFORE_PASSWORD_FILE).and_then(first_line));
            files.extend(value_of(&BEFORE_WRITTEN_FILE).map(PathBuf::from));
            words.extend(in_address(arg));
        }
        let variables = ["REDISCLI_AUTH", "REDISCLI_FROM_AUTH"];
        words.extend(
            env.iter()
                .filter(|(name, _)| variables.contains(&name.as_str()))
                .map(|(_, value)| value.clone()),
        );
        words.retain(|word| is_told_apart(word));
        Self { words, files }
    }

    /// None of them stands in what was said, in files that were written, or in any file of that folder.
    #[track_caller]
    pub(crate) fn assert_kept(&self, line: &str, said: &[&str], home: &Path) {
        if self.words.is_empty() {
            return;
        }
        let in_home = fs::read_dir(home).into_iter().flatten().flatten();
        let files = self
            .files
            .iter()
            .cloned()
            .chain(in_home.map(|entry| entry.path()));
        let files: Vec<String> = files
            .filter(|path| path.is_file() && !path.is_symlink())
            .filter_map(|path| fs::read(path).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .collect();
        for text in said.iter().copied().chain(files.iter().map(String::as_str)) {
            for word in &self.words {
                assert!(
                    !text.contains(word),
                    "`{line}` shows the password {word}:\n{text}"
                );
            }
        }
    }
}

fn first_line(path: &str) -> Option<String> {
    // A device may have no end.
    if !Path::new(path).is_file() {
        return None;
    }
    let text = fs::read_to_string(path).ok()?;
    text.lines().next().map(str::to_owned)
}

/// `redis://user:password@host`.
fn in_address(word: &str) -> Option<String> {
    let (_, rest) = word.split_once("://")?;
    let (login, _) = rest.rsplit_once('@')?;
    let (_, password) = login.split_once(':')?;
    Some(password.to_owned())
}

/// Whether a text that holds this holds it as a password: "wrong" stands in texts of its own right.
fn is_told_apart(word: &str) -> bool {
    word.len() >= 4 && word != "wrong"
}
