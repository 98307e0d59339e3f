//! Replies of a node, checked before use.
//!
//! Replies are untrusted: a reply of the wrong shape is an error that names the command, and text loses every
//! character that is unsafe to print.

use std::collections::BTreeMap;

use redis::Value;

use super::error::Fault;
use crate::cluster::text::is_unsafe;

/// The most characters of a server's error text that are kept.
const MESSAGE_LIMIT: usize = 300;

/// A command's reply, not yet checked.
#[derive(Debug)]
pub(super) struct Reply {
    command: &'static str,
    value: Value,
}

impl Reply {
    pub(super) fn new(command: &'static str, value: Value) -> Self {
        Self { command, value }
    }

    /// The command that was sent.
    pub(super) fn command(&self) -> &'static str {
        self.command
    }

    /// The value as it arrived.
    pub(super) fn raw(&self) -> &Value {
        &self.value
    }

    /// Returns why the server refused the command, if it did.
    pub(super) fn refusal(&self) -> Option<Fault> {
        self.refusal_in(&self.value)
    }

    /// The same for one command of a transaction; `self` is the reply to EXEC.
    pub(super) fn refusal_of(&self, nth: usize) -> Option<Fault> {
        match &self.value {
            Value::Array(values) => self.refusal_in(values.get(nth)?),
            value => self.refusal_in(value),
        }
    }

    fn refusal_in(&self, value: &Value) -> Option<Fault> {
        match value {
            Value::ServerError(error) => Some(Fault::of_server(
                self.command,
                error.code(),
                error.details().unwrap_or_default(),
            )),
            _ => None,
        }
    }

    /// Returns the value; a server's error becomes the fault that it means.
    pub(super) fn value(self) -> Result<Value, Fault> {
        match self.refusal() {
            Some(fault) => Err(fault),
            None => Ok(self.value),
        }
    }

    /// Returns the reply as received, errors included.
    pub(super) fn any(self) -> Value {
        self.value
    }

    /// `+OK`.
    pub(super) fn ok(self) -> Result<(), Fault> {
        let command = self.command;
        match self.value()? {
            Value::Okay => Ok(()),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// `+PONG`, or another status.
    pub(super) fn status(self, expected: &str) -> Result<(), Fault> {
        let command = self.command;
        match self.value()? {
            Value::SimpleString(word) if word == expected => Ok(()),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// A count: an integer that is not negative.
    pub(super) fn count(self) -> Result<u64, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Int(number) => u64::try_from(number).map_err(|_| Fault::Malformed { command }),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Any integer.
    pub(super) fn integer(self) -> Result<i64, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Int(number) => Ok(number),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Whether the reply is nil (`$-1`, `*-1`) instead of an array.
    pub(super) fn nil(self) -> Result<bool, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Nil => Ok(true),
            Value::Array(_) => Ok(false),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// An array, each element as a reply of its own.
    pub(super) fn parts(self) -> Result<Vec<Self>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Array(values) => Ok(values
                .into_iter()
                .map(|value| Self::new(command, value))
                .collect()),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Text of one or many lines, cleaned; see [`clean_text`].
    pub(super) fn text(self) -> Result<String, Fault> {
        let command = self.command;
        text_of(self.value()?).ok_or(Fault::Malformed { command })
    }

    /// Bytes as received; `None` for nil (`$-1`).
    pub(super) fn bytes(self) -> Result<Option<Vec<u8>>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::BulkString(bytes) => Ok(Some(bytes)),
            Value::Nil => Ok(None),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Any status (`+OK`, `+NOKEY`).
    pub(super) fn word(self) -> Result<String, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Okay => Ok("OK".to_string()),
            Value::SimpleString(word) => Ok(word),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// An array of byte strings, as received.
    pub(super) fn byte_strings(self) -> Result<Vec<Vec<u8>>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Array(values) => values
                .into_iter()
                .map(|value| match value {
                    Value::BulkString(bytes) => Ok(bytes),
                    _ => Err(Fault::Malformed { command }),
                })
                .collect(),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// Which elements of an array are not nil: COMMAND INFO returns nil for unknown commands.
    pub(super) fn known(self) -> Result<Vec<bool>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Array(values) => Ok(values
                .into_iter()
                .map(|value| matches!(value, Value::Array(fields) if !fields.is_empty()))
                .collect()),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// The reply to EXEC: one reply for each of the commands of that name.
    pub(super) fn replies(self, name: &'static str) -> Result<Vec<Reply>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Array(values) => Ok(values
                .into_iter()
                .map(|value| Reply::new(name, value))
                .collect()),
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// An array of records: names and values in turn (RESP2), or maps. Values are numbers and cleaned texts; others
    /// are omitted.
    pub(super) fn records(self) -> Result<Vec<BTreeMap<String, String>>, Fault> {
        let command = self.command;
        let malformed = || Fault::Malformed { command };
        let Value::Array(records) = self.value()? else {
            return Err(malformed());
        };
        let record = |record: Value| {
            let pairs: Vec<(Value, Value)> = match record {
                Value::Map(pairs) => pairs,
                Value::Array(fields) => {
                    let mut fields = fields.into_iter();
                    std::iter::from_fn(|| Some((fields.next()?, fields.next()?))).collect()
                }
                _ => return Err(malformed()),
            };
            let mut fields = BTreeMap::new();
            for (name, value) in pairs {
                let name = text_of(name).ok_or_else(malformed)?;
                let value = match value {
                    Value::Int(number) => Some(number.to_string()),
                    value => text_of(value),
                };
                fields.extend(value.map(|value| (name, value)));
            }
            Ok(fields)
        };
        records.into_iter().map(record).collect()
    }

    /// A cursor, and byte strings.
    pub(super) fn scanned(self) -> Result<(u64, Vec<Vec<u8>>), Fault> {
        let command = self.command;
        let malformed = || Fault::Malformed { command };
        let Value::Array(parts) = self.value()? else {
            return Err(malformed());
        };
        let [cursor, keys] = <[Value; 2]>::try_from(parts).map_err(|_| malformed())?;
        let cursor = text_of(cursor).and_then(|text| text.parse().ok());
        let keys = Self::new(command, keys).byte_strings()?;
        Ok((cursor.ok_or_else(malformed)?, keys))
    }

    /// The reply to EXEC of one command that counts; `None` if the transaction was aborted.
    pub(super) fn executed_count(self) -> Result<Option<u64>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Nil => Ok(None),
            Value::Array(mut replies) if replies.len() == 1 => {
                let only = replies.pop().unwrap_or(Value::Nil);
                Self::new(command, only).count().map(Some)
            }
            _ => Err(Fault::Malformed { command }),
        }
    }

    /// An array of texts, each of them cleaned.
    pub(super) fn texts(self) -> Result<Vec<String>, Fault> {
        let command = self.command;
        match self.value()? {
            Value::Array(values) => values
                .into_iter()
                .map(|value| text_of(value).ok_or(Fault::Malformed { command }))
                .collect(),
            _ => Err(Fault::Malformed { command }),
        }
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(clean_text(bytes)),
        Value::SimpleString(text) => Some(clean_text(text.into_bytes())),
        _ => None,
    }
}

/// Converts bytes of a node to text: invalid UTF-8 is replaced, line ends stay (INFO and CLUSTER NODES need them),
/// every other unsafe character is removed.
fn clean_text(bytes: Vec<u8>) -> String {
    let kept = |c: char| matches!(c, '\n' | '\r') || !is_unsafe(c);
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    // Avoids a copy: nearly every reply is safe, and a look at a thousand nodes has 200 MB.
    if text.chars().all(kept) {
        text
    } else {
        text.chars().filter(|c| kept(*c)).collect()
    }
}

/// Returns a server's message or name as one safe line of at most `limit` characters; a cut is shown as `…`.
pub(super) fn clean_line(text: &str, limit: usize) -> String {
    let mut safe = text
        .trim()
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_unsafe(*c));
    let mut line: String = safe.by_ref().take(limit).collect();
    if safe.next().is_some() {
        line.push('…');
    }
    line
}

/// A server's error text, as [`Fault`]s store it.
pub(super) fn clean_message(text: &str) -> String {
    clean_line(text, MESSAGE_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_keeps_line_ends_and_no_unsafe_character() {
        let dirty =
            "a\r\nb\u{1b}[31mc\u{9b}2Jd\u{202e}e\u{2066}f\0\u{7f}\t\u{7}é\u{2028}g\u{2029}\u{feff}"
                .as_bytes();
        assert_eq!(clean_text(dirty.to_vec()), "a\r\nb[31mc2Jdefég");
        assert_eq!(clean_text(b"x\xffy".to_vec()), "x\u{fffd}y");
        assert_eq!(clean_text(b"plain\n".to_vec()), "plain\n");
    }

    #[test]
    fn lines_are_one_line_and_short() {
        assert_eq!(clean_line(" a\r\nb\tc\u{1b}d ", 80), "a  b cd");
        assert_eq!(clean_line("abcdef", 3), "abc…");
        assert_eq!(clean_message(&"x".repeat(10_000)).chars().count(), 301);
    }

    #[test]
    fn other_shapes_are_malformed() {
        let reply = |value| Reply::new("DBSIZE", value);
        let malformed = Fault::Malformed { command: "DBSIZE" };
        assert_eq!(reply(Value::Int(-1)).count(), Err(malformed.clone()));
        assert_eq!(reply(Value::Nil).count(), Err(malformed.clone()));
        assert_eq!(reply(Value::Int(1)).ok(), Err(malformed.clone()));
        assert_eq!(reply(Value::Okay).text(), Err(malformed.clone()));
        assert_eq!(reply(Value::Int(7)).bytes(), Err(malformed.clone()));
        assert_eq!(reply(Value::Okay).status("PONG"), Err(malformed.clone()));
        assert_eq!(
            reply(Value::Array(vec![Value::Nil])).texts(),
            Err(malformed)
        );
        assert_eq!(reply(Value::Int(7)).count(), Ok(7));
        assert_eq!(reply(Value::Nil).bytes(), Ok(None));
    }

    /// Values of any shape and depth.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            Just(Value::Okay),
            any::<i64>().prop_map(Value::Int),
            ".{0,12}".prop_map(Value::SimpleString),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Value::BulkString),
        ];
        leaf.prop_recursive(4, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        /// Every reply is a value, or an error that names the command; all texts are safe.
        #[test]
        fn any_shape_is_read_or_malformed(value in values()) {
            let reply = || Reply::new("INFO", value.clone());
            let malformed = Fault::Malformed { command: "INFO" };
            let mut faults = vec![
                reply().ok().err(), reply().count().err(), reply().integer().err(), reply().nil().err(),
                reply().parts().err(), reply().bytes().err(), reply().word().err(), reply().known().err(),
                reply().byte_strings().err(), reply().scanned().err(), reply().executed_count().err(),
                reply().status("PONG").err(),
            ];
            let is_safe = |text: &str| text.chars().all(|c| matches!(c, '\n' | '\r') || !is_unsafe(c));
            match reply().text() {
                Ok(text) => prop_assert!(is_safe(&text)),
                Err(fault) => faults.push(Some(fault)),
            }
            match reply().texts() {
                Ok(texts) => prop_assert!(texts.iter().all(|text| is_safe(text))),
                Err(fault) => faults.push(Some(fault)),
            }
            match reply().records() {
                Ok(records) => {
                    let mut words = records.iter().flatten().flat_map(|(name, value)| [name, value]);
                    prop_assert!(words.all(|text| is_safe(text)));
                }
                Err(fault) => faults.push(Some(fault)),
            }
            prop_assert!(faults.into_iter().flatten().all(|fault| fault == malformed));
        }
    }
}
