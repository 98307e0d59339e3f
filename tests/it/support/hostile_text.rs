//! Text that could act on a terminal or pass for a line of its own, and a check for what is left of it.

/// A title, a colour, a line that passes for one of ours, C1 controls, bidirectional marks, line and paragraph
/// separators, a byte order mark.
pub(crate) const HOSTILE: &str = "\u{1b}]0;title\u{7}\u{1b}[31m\rINJECTED\u{9b}2J\u{202e}rtl\u{0}\u{8}\
    \u{2066}a\u{61c}b\u{200f}c\u{2028}INJECTED\u{2029}INJECTED\u{feff}d\u{7f}e";

/// Whether a terminal or a reader of lines could act on a character. Apart from the program's own list on purpose.
pub(crate) fn is_unsafe(c: char) -> bool {
    let code = u32::from(c);
    let is_control = code < 0x20 || (0x7f..0xa0).contains(&code);
    let is_mark = [0x61c, 0x200e, 0x200f, 0xfeff].contains(&code);
    let is_bidi = (0x2028..=0x202e).contains(&code) || (0x2066..=0x2069).contains(&code);
    (is_control && c != '\n') || is_mark || is_bidi
}
