//! How people write the name of a key, which may be any bytes.

use std::fmt::{self, Write as _};

use super::text::is_unsafe;

/// The name of a key. As text, a byte that is not printable is `\xHH`, and a backslash is `\\`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(Vec<u8>);

/// The text is not the name of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a key: \\x is followed by two hex digits, as \\x00; a backslash is \\\\")]
pub struct NotAKeyName {
    text: String,
}

impl KeyName {
    /// Reads `\xHH` as one byte and `\\` as a backslash. Everything else is taken as it is, other backslashes too.
    ///
    /// # Errors
    ///
    /// If `\x` is not followed by two hex digits.
    pub fn parse(text: &[u8]) -> Result<Self, NotAKeyName> {
        let mut key = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match (first, after) {
                (b'\\', [b'\\', after @ ..]) => {
                    key.push(b'\\');
                    rest = after;
                }
                (b'\\', [b'x', after @ ..]) => {
                    let (byte, after) = hex(after).ok_or_else(|| NotAKeyName {
                        text: String::from_utf8_lossy(text).into_owned(),
                    })?;
                    key.push(byte);
                    rest = after;
                }
                _ => key.push(*first),
            }
        }
        Ok(Self(key))
    }

    /// The bytes of the name.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The byte that two hex digits stand for, and what follows them.
fn hex(text: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = text.split_first_chunk::<2>()?;
    let digit = |c: &u8| char::from(*c).to_digit(16);
    Some(((digit(high)? * 16 + digit(low)?) as u8, rest))
}

/// The text that [`KeyName::parse`] reads. It is safe to print.
impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

/// Any bytes as text, in the form of a key.
pub fn shown(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    };
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if is_unsafe(c) => escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes()),
                c => text.push(c),
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_may_be_any_bytes() {
        for (text, bytes) in [
            ("user:1", &b"user:1"[..]),
            ("", b""),
            (r"a\x00\xFFb", b"a\x00\xffb"),
            (r"\\x00", br"\x00"),
            (r"C:\dir\n", br"C:\dir\n"),
            (r"end\", br"end\"),
            ("é漢", "é漢".as_bytes()),
        ] {
            let key = KeyName::parse(text.as_bytes()).unwrap();
            assert_eq!(key.bytes(), bytes, "{text}");
        }
        let shown = |bytes: &[u8]| shown(bytes);
        assert_eq!(shown(b"a\x00\xff\n\\ b"), r"a\x00\xff\x0a\\ b");
        assert_eq!(
            shown("é\u{202e}\u{1b}[2J".as_bytes()),
            r"é\xe2\x80\xae\x1b[2J"
        );
        for bad in [r"a\x", r"\x0", r"\xg0", r"\x0g"] {
            let error = KeyName::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("two hex digits"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_text_of_a_key_is_that_key(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = shown(&bytes);
            prop_assert!(!text.chars().any(is_unsafe));
            let key = KeyName::parse(text.as_bytes()).unwrap();
            prop_assert_eq!(key.bytes(), &bytes[..]);
            prop_assert_eq!(key.to_string(), text);
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text in proptest::collection::vec(prop_oneof![
            Just(b'\\'), Just(b'x'), Just(b'0'), Just(b'F'), any::<u8>(),
        ], 0..12)) {
            if let Ok(key) = KeyName::parse(&text) {
                prop_assert!(key.bytes().len() <= text.len());
            }
        }
    }
}
