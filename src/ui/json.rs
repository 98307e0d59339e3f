//! JSON for programs: the views as they are, one object a line.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use super::style::plain;

/// Writes a document or a line.
pub(super) fn write(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    value.serialize(&mut Serializer::with_formatter(&mut *out, Clean))?;
    writeln!(out)
}

/// Writes a line with a reply of a node, whose text is kept as it is.
pub(super) fn write_as_is(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out)
}

/// Compact JSON whose strings have nothing that a terminal would act on.
struct Clean;

impl Formatter for Clean {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        writer.write_all(plain(fragment).as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote
            | CharEscape::ReverseSolidus
            | CharEscape::Solidus
            | CharEscape::LineFeed => CompactFormatter.write_char_escape(writer, escape),
            CharEscape::Backspace
            | CharEscape::FormFeed
            | CharEscape::CarriageReturn
            | CharEscape::Tab
            | CharEscape::AsciiControl(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cleaned_once_and_quoted_once() {
        let mut out = Vec::new();
        let text = "a \"b\" c\\d\x1b[2J\t\u{9b}e\nf\u{202e}";
        write(&mut out, &text).unwrap();
        let expected = "\"a \\\"b\\\" c\\\\d[2Je\\nf\"\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
