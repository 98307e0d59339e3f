//! A Markdown page as lines, with what is prose and what is code.

use std::path::{Path, PathBuf};

/// A page of the repository.
pub(crate) struct Page {
    /// Relative to the root of the repository: `docs/nodes.md`.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// A line outside of code blocks, or a line of one.
pub(crate) struct Line<'a> {
    pub(crate) number: usize,
    pub(crate) text: &'a str,
    pub(crate) is_code: bool,
}

impl Page {
    pub(crate) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(root().join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        Self {
            path: PathBuf::from(path),
            text,
        }
    }

    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    pub(crate) fn lines(&self) -> Vec<Line<'_>> {
        let mut is_code = false;
        let lines = self.text.lines().enumerate().map(|(index, text)| {
            let is_fence = text.trim_start().starts_with("```");
            let line = Line {
                number: index + 1,
                text,
                is_code: is_code || is_fence,
            };
            is_code ^= is_fence;
            line
        });
        lines.collect()
    }

    /// The anchors of its headings, as GitHub and mdBook make them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let mut anchors: Vec<String> = Vec::new();
        for line in self.lines().iter().filter(|line| !line.is_code) {
            let Some(heading) = line.text.strip_prefix('#') else {
                continue;
            };
            let base = slug(heading.trim_start_matches('#').trim());
            let same =
                |anchor: &&String| anchor.trim_end_matches(char::is_numeric) == format!("{base}-");
            let count = anchors
                .iter()
                .filter(|one| **one == base || same(one))
                .count();
            anchors.push(match count {
                0 => base,
                count => format!("{base}-{count}"),
            });
        }
        anchors
    }
}

fn slug(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
        .collect::<String>();
    kept.replace(' ', "-")
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that people read.
pub(crate) fn pages() -> Vec<Page> {
    let mut paths: Vec<String> = ["README.md", "README.zh-CN.md", "CONTRIBUTING.md"]
        .map(str::to_string)
        .to_vec();
    for folder in ["docs", "docs/commands"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".md") {
                paths.push(format!("{folder}/{name}"));
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

#[test]
fn anchors_are_those_of_github() {
    let page = Page {
        path: PathBuf::new(),
        text: "# A b\n```sh\n# no heading\n```\n## `slots-open`\n## Compared with redis-cli --cluster\n## A b\n".to_string(),
    };
    let expected = [
        "a-b",
        "slots-open",
        "compared-with-redis-cli---cluster",
        "a-b-1",
    ];
    assert_eq!(page.anchors(), expected);
}
