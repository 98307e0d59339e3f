//! Every relative link leads to a file, and its anchor to a heading.

use std::path::{Component, Path, PathBuf};

use crate::page::{Line, Page, pages, root};

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let mut errors = String::new();
    let mut count = 0;
    for page in &pages {
        for (number, target) in links(page) {
            count += 1;
            if let Err(error) = follow(page, &target, &pages) {
                errors += &format!("{}:{number}: {target}: {error}\n", page.name());
            }
        }
    }
    assert!(errors.is_empty(), "\n{errors}");
    assert!(count > 100, "only {count} links found");
}

#[test]
fn every_page_is_in_the_summary() {
    let summary = Page::read("docs/SUMMARY.md");
    let linked: Vec<String> = links(&summary)
        .into_iter()
        .map(|(_, target)| target)
        .collect();
    for page in pages() {
        let Ok(path) = page.path.strip_prefix("docs") else {
            continue;
        };
        let path = path.display().to_string();
        let is_there = path == "SUMMARY.md" || linked.contains(&path);
        assert!(is_there, "docs/SUMMARY.md lacks {path}");
    }
}

/// Targets of `[text](target)` and `![text](target)` outside of code, by line.
fn links(page: &Page) -> Vec<(usize, String)> {
    let lines = page.lines();
    let prose = lines.iter().filter(|line| !line.is_code);
    prose
        .flat_map(|line| {
            of_line(line)
                .into_iter()
                .map(|target| (line.number, target))
        })
        .collect()
}

fn of_line(line: &Line<'_>) -> Vec<String> {
    // Inline code has no links.
    let text: String = line
        .text
        .split('`')
        .step_by(2)
        .collect::<Vec<_>>()
        .join("`");
    let targets = text.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target.to_string()))
        .collect()
}

fn follow(page: &Page, target: &str, pages: &[Page]) -> Result<(), String> {
    if target.starts_with("http://") || target.starts_with("https://") {
        return Ok(());
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = page.path.parent().unwrap_or(Path::new(""));
    let path = match file {
        "" => page.path.clone(),
        file => normalized(&folder.join(file)),
    };
    // The site has only what is in docs.
    if page.path.starts_with("docs") && !path.starts_with("docs") {
        return Err("leaves docs".to_string());
    }
    if !root().join(&path).exists() {
        return Err(format!("{} does not exist", path.display()));
    }
    if anchor.is_empty() {
        return Ok(());
    }
    let page = pages.iter().find(|page| page.path == path);
    let anchors = page.ok_or("an anchor of a file that is no page")?.anchors();
    match anchors.iter().any(|one| one == anchor) {
        true => Ok(()),
        false => Err(format!("no such heading; there are {anchors:?}")),
    }
}

/// `docs/commands/../nodes.md` → `docs/nodes.md`.
fn normalized(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts
}

#[test]
fn what_is_wrong_with_a_link_is_found() {
    let page = |path: &str, text: &str| Page {
        path: path.into(),
        text: text.to_string(),
    };
    let pages = [page("docs/README.md", "# One\n## `two`\n")];
    let from = page("docs/nodes.md", "# Here\n`[no](x)` [a](b) ![c](d.svg)\n");
    assert_eq!(
        links(&from),
        [(2, "b".to_string()), (2, "d.svg".to_string())]
    );
    let try_it = |target: &str| follow(&from, target, &pages).is_ok();
    assert!(try_it("https://example.com"));
    assert!(try_it("README.md#two"));
    assert!(try_it("commands/../README.md"));
    assert!(!try_it("README.md#three"));
    assert!(!try_it("nowhere.md"));
    assert!(!try_it("../CONTRIBUTING.md"));
}
