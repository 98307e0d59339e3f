//! Lines of a `--journal` file.

use std::fs;
use std::path::Path;

use serde_json::Value;

pub(crate) fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// The first two words of a line's command.
pub(crate) fn words(line: &Value) -> String {
    let command = line["command"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').take(2).collect();
    match words[0] {
        "CLUSTER" => words.join(" "),
        name => name.to_owned(),
    }
}
