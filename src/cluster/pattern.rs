//! Patterns of key names, as SCAN takes them (`stringmatchlen` of the servers), for keys that no server lists.

/// A pattern of key names: `*`, `?`, `[a-c]`, `[^a]`, and `\` before a character that stands for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// Any bytes, also none.
    Any,
    /// One byte of these ranges, or of none of them.
    One {
        is_negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl KeyPattern {
    /// Reads a pattern. Every text is one: a class without its `]` ends at the end.
    pub fn new(text: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            let part = match (first, after) {
                (b'*', _) => Part::Any,
                (b'?', _) => Part::One {
                    is_negated: true,
                    ranges: Vec::new(),
                },
                (b'[', _) => class(&mut rest),
                (b'\\', [byte, after @ ..]) => {
                    rest = after;
                    byte_itself(*byte)
                }
                (byte, _) => byte_itself(*byte),
            };
            parts.push(part);
        }
        Self(parts)
    }

    /// Whether a name matches. The time is at most the product of both lengths.
    pub fn matches(&self, name: &[u8]) -> bool {
        let (mut part, mut at) = (0, 0);
        // The last `*`, and where what it stands for ends: as short as possible first.
        let mut star: Option<(usize, usize)> = None;
        loop {
            match (self.0.get(part), name.get(at)) {
                (Some(Part::Any), _) => {
                    star = Some((part, at));
                    part += 1;
                }
                (Some(one), Some(byte)) if one.takes(*byte) => {
                    part += 1;
                    at += 1;
                }
                (None, None) => return true,
                _ => match star {
                    Some((stood, end)) if end < name.len() => {
                        star = Some((stood, end + 1));
                        part = stood + 1;
                        at = end + 1;
                    }
                    _ => return false,
                },
            }
        }
    }
}

impl Part {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Any => true,
            Self::One { is_negated, ranges } => {
                let is_in = ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&byte));
                is_in != *is_negated
            }
        }
    }
}

fn byte_itself(byte: u8) -> Part {
    Part::One {
        is_negated: false,
        ranges: vec![(byte, byte)],
    }
}

/// Reads what follows `[`.
fn class(rest: &mut &[u8]) -> Part {
    let is_negated = rest.first() == Some(&b'^');
    if is_negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        let (range, after) = match *rest {
            [] => break,
            [b'\\', byte, after @ ..] => ((*byte, *byte), after),
            [b']', after @ ..] => {
                *rest = after;
                break;
            }
            [one, b'-', other, after @ ..] => ((*one.min(other), *one.max(other)), after),
            [byte, after @ ..] => ((*byte, *byte), after),
        };
        ranges.push(range);
        *rest = after;
    }
    Part::One { is_negated, ranges }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        KeyPattern::new(pattern.as_bytes()).matches(name.as_bytes())
    }

    #[test]
    fn patterns_are_those_of_scan() {
        for (pattern, yes, no) in [
            ("user:*", &["user:1", "user:"][..], &["user", "xuser:1"][..]),
            ("*", &["", "a"], &[]),
            ("h?llo", &["hello", "h?llo"], &["hllo", "heello"]),
            ("h[ae]llo", &["hallo", "hello"], &["hillo", "h[ae]llo"]),
            ("h[^e]llo", &["hallo"], &["hello", "hllo"]),
            ("h[a-c]llo", &["hbllo"], &["hdllo"]),
            ("h[c-a]llo", &["hbllo"], &["hdllo"]),
            (r"a\*b", &["a*b"], &["acb"]),
            (r"[\]]", &["]"], &["\\"]),
            ("a*b*c", &["abc", "axbxbxc"], &["axbx", "acb"]),
            ("*a*a*b", &["aab", "xaxaxb"], &["ab"]),
            ("[ab", &["a", "b"], &["[", "ab"]),
            ("a\\", &["a\\"], &["a"]),
            ("[]", &[], &["a", ""]),
        ] {
            for name in yes {
                assert!(matches(pattern, name), "{pattern:?} {name:?}");
            }
            for name in no {
                assert!(!matches(pattern, name), "{pattern:?} {name:?}");
            }
        }
    }

    /// The servers' algorithm, without its limits.
    fn recursive(parts: &[Part], name: &[u8]) -> bool {
        match (parts.split_first(), name.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((Part::Any, rest)), _) => {
                (0..=name.len()).any(|from| recursive(rest, &name[from..]))
            }
            (Some((part, rest)), Some((byte, after))) => {
                part.takes(*byte) && recursive(rest, after)
            }
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn the_result_is_that_of_trying_everything(pattern in "[ab*?\\[\\]^\\\\-]{0,8}", name in "[ab-]{0,8}") {
            let pattern = KeyPattern::new(pattern.as_bytes());
            prop_assert_eq!(pattern.matches(name.as_bytes()), recursive(&pattern.0, name.as_bytes()));
        }
    }
}
