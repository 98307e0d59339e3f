//! The length of the README and of sentences.

use crate::page::{Page, pages};

const README_LINES: usize = 160;
const SENTENCE_WORDS: usize = 35;

/// Sentences that may be longer: how they begin.
const LONGER: &[&str] = &[];

#[test]
fn the_readmes_are_short_and_in_step() {
    let (english, chinese) = (Page::read("README.md"), Page::read("README.zh-CN.md"));
    for page in [&english, &chinese] {
        let lines = page.text.lines().count();
        assert!(lines <= README_LINES, "{} has {lines} lines", page.name());
    }
    let headings = |page: &Page| {
        let lines = page.lines();
        let levels = lines
            .iter()
            .filter(|line| !line.is_code && line.text.starts_with('#'));
        levels.map(|line| line.text.find(' ')).collect::<Vec<_>>()
    };
    assert_eq!(
        headings(&english),
        headings(&chinese),
        "the chapters differ"
    );
    // The commands are the same; comments are translated.
    let code = |page: &Page| {
        let lines = page.lines();
        let code = lines.iter().filter(|line| line.is_code);
        code.map(|line| line.text.split(" #").next().unwrap().trim_end().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(code(&english), code(&chinese), "the examples differ");
}

#[test]
fn sentences_are_short() {
    let mut longest = (0, String::new());
    let mut errors = String::new();
    let mut unused: Vec<&str> = LONGER.to_vec();
    for page in pages() {
        // Chinese has no spaces between words.
        if page.name().contains(".zh") {
            continue;
        }
        for sentence in sentences(&page) {
            let words = words(&sentence);
            if words <= SENTENCE_WORDS {
                if words > longest.0 {
                    longest = (words, format!("{}: {sentence}", page.name()));
                }
            } else if let Some(at) = LONGER.iter().position(|start| sentence.starts_with(start)) {
                unused.retain(|start| *start != LONGER[at]);
            } else {
                errors += &format!("{}: {words} words: {sentence}\n", page.name());
            }
        }
    }
    assert!(errors.is_empty(), "\n{errors}");
    assert!(unused.is_empty(), "not needed any more: {unused:?}");
    println!("the longest sentence, {} words, {}", longest.0, longest.1);
}

/// Sentences of a page outside of code blocks, tables and comments.
fn sentences(page: &Page) -> Vec<String> {
    let mut paragraphs = vec![String::new()];
    for line in page.lines() {
        let text = line.text.trim();
        let is_item = text.starts_with("- ")
            || text
                .split_once(". ")
                .is_some_and(|(n, _)| n.parse::<u8>().is_ok());
        let ends = line.is_code || text.is_empty() || text.starts_with(['|', '#', '<', '!']);
        if ends || is_item {
            paragraphs.push(String::new());
        }
        if !ends {
            let paragraph = paragraphs.last_mut().unwrap();
            *paragraph += text.trim_start_matches("- ");
            paragraph.push(' ');
        }
    }
    let mut sentences = Vec::new();
    for paragraph in paragraphs {
        let mut sentence = String::new();
        for word in paragraph.split_whitespace() {
            sentence += word;
            sentence.push(' ');
            if word
                .trim_end_matches(['"', ')', '*'])
                .ends_with(['.', '?', '!'])
            {
                sentences.push(std::mem::take(&mut sentence).trim().to_string());
            }
        }
        sentences.push(sentence.trim().to_string());
    }
    sentences.retain(|sentence| !sentence.is_empty());
    sentences
}

/// The number of words, those of inline code included; signs alone are none.
fn words(sentence: &str) -> usize {
    let words = sentence.split_whitespace();
    words
        .filter(|word| word.chars().any(char::is_alphanumeric))
        .count()
}

#[test]
fn words_are_counted_outside_of_code_blocks() {
    assert_eq!(words("Use `redis-trib check NODE` now."), 5);
    assert_eq!(words("See [Two clusters](repair.md#two) - twice."), 4);
    let page = Page {
        path: "x.md".into(),
        text: "# A\nOne two.\nThree: four\n\n| no | table |\n- five\n- six. Seven\n```sh\nno code\n```\n".to_string(),
    };
    let expected = ["One two.", "Three: four", "five", "six.", "Seven"];
    assert_eq!(sentences(&page), expected);
}
