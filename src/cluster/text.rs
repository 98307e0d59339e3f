//! Text from outside (a node, a file, a key) made safe to print.
//!
//! This is the only list of dangerous characters: everything that shows such text asks here.

/// Whether a terminal or a reader of lines could act on a character: C0, DEL and C1 controls, line and paragraph
/// separators, bidirectional marks (Unicode TR 9) and the byte order mark.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{061C}'
                | '\u{200E}'
                | '\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2066}'..='\u{2069}'
                | '\u{FEFF}'
        )
}

/// Returns `text` without unsafe characters, at most `max` characters of it.
pub fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|c| !is_unsafe(*c)).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unsafe_character_is_removed() {
        let controls = ('\0'..='\u{1f}').chain('\u{7f}'..='\u{9f}');
        let separators = ['\u{2028}', '\u{2029}', '\u{feff}'];
        let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
        let bidi = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let all = controls.chain(separators).chain(marks).chain(bidi);
        for c in all {
            assert_eq!(clean(&format!("a{c}b"), 80), "ab", "{c:?}");
        }
        assert_eq!(clean("é \u{a0}…漢\u{10ffff}", 80), "é \u{a0}…漢\u{10ffff}");
    }

    #[test]
    fn the_limit_counts_the_characters_that_are_kept() {
        assert_eq!(clean("\u{1b}a\u{2028}bcd", 3), "abc");
    }
}
