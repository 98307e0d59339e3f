//! Every shell example says whether a test runs it, and why not. `tests/it/examples.rs` runs those that it can.

use crate::page::pages;

const RUN: [&str; 2] = ["run", "run, on empty nodes"];

#[test]
fn every_example_is_marked() {
    let mut errors = String::new();
    let mut runs = 0;
    for page in pages() {
        let lines = page.lines();
        for (index, line) in lines.iter().enumerate() {
            if line.text != "```sh" || page.name() == "CONTRIBUTING.md" {
                continue;
            }
            let above = index.checked_sub(1).map_or("", |index| lines[index].text);
            let mark = above
                .strip_prefix("<!-- example: ")
                .and_then(|rest| rest.strip_suffix(" -->"));
            let is_known = mark.is_some_and(|mark| {
                runs += usize::from(RUN.contains(&mark));
                RUN.contains(&mark)
                    || mark
                        .strip_prefix("skip, ")
                        .is_some_and(|reason| reason.len() > 8)
            });
            if !is_known {
                errors += &format!("{}:{}: {mark:?}\n", page.name(), line.number);
            }
        }
    }
    assert!(
        errors.is_empty(),
        "examples need a line above them, `<!-- example: run -->`, `<!-- example: run, on empty nodes -->` or \
         `<!-- example: skip, REASON -->`:\n{errors}"
    );
    assert!(runs > 15, "only {runs} examples are run");
}
