//! What nodes reply to a command.

use serde::Serialize;
use serde_json::{Value, json};

use super::node::Node;
use crate::resp::Resp;

/// A node with its reply.
#[derive(Debug)]
pub struct Called<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its reply, or why there is none.
    pub reply: &'a Result<Resp, String>,
}

/// The same in JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReplyView<'a> {
    /// The node.
    pub node: &'a Node,
    /// The reply in JSON's types; null also where there is none. Bytes that are not UTF-8 are `{"hex":"00ff"}`, an
    /// error is `{"error":"ERR …"}`.
    pub reply: Option<Value>,
    /// Why there is no reply, or the error that it holds.
    pub failure: Option<String>,
}

impl<'a> ReplyView<'a> {
    /// The reply of a node.
    pub fn of(called: &Called<'a>) -> Self {
        Self {
            node: called.node,
            reply: called.reply.as_ref().ok().map(value),
            failure: match called.reply {
                Ok(reply) => reply.error().map(str::to_string),
                Err(why) => Some(why.clone()),
            },
        }
    }
}

/// Numbers, strings, lists and null as JSON has them; bytes that are not UTF-8 as `{"hex":"00ff"}`, an
/// error as `{"error":"ERR …"}`, pairs whose keys are not text as a list of pairs.
fn value(reply: &Resp) -> Value {
    match reply {
        Resp::Nil => Value::Null,
        Resp::Int(number) => json!(number),
        // JSON has neither infinity nor NaN.
        Resp::Double(number) if !number.is_finite() => json!(number.to_string()),
        Resp::Double(number) => json!(number),
        Resp::Bool(truth) => json!(truth),
        Resp::Status(text) => json!(text),
        Resp::Error(text) => json!({ "error": text }),
        Resp::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => {
                let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
                json!({ "hex": hex.collect::<String>() })
            }
        },
        Resp::Array(items) => items.iter().map(value).collect(),
        Resp::Map(pairs) => {
            let text = |key: &Resp| match value(key) {
                Value::String(text) => Some(text),
                _ => None,
            };
            let named: Option<serde_json::Map<String, Value>> = pairs
                .iter()
                .map(|(key, item)| Some((text(key)?, value(item))))
                .collect();
            match named {
                Some(object) => Value::Object(object),
                None => pairs
                    .iter()
                    .map(|(key, item)| json!([value(key), value(item)]))
                    .collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_stay_in_json() {
        let reply = Resp::Array(vec![
            Resp::Int(-1),
            Resp::Nil,
            Resp::Bytes(b"two\nlines \x1b[31m".to_vec()),
            Resp::Bytes(vec![0, 255, b'a']),
            Resp::Array(vec![Resp::Status("OK".into()), Resp::Array(Vec::new())]),
            Resp::Error("ERR no".into()),
        ]);
        let expected = json!([
            -1,
            null,
            "two\nlines \u{1b}[31m",
            { "hex": "00ff61" },
            ["OK", []],
            { "error": "ERR no" }
        ]);
        assert_eq!(value(&reply), expected);
        let map = Resp::Map(vec![(Resp::Bytes(b"a".to_vec()), Resp::Double(0.5))]);
        assert_eq!(value(&map), json!({ "a": 0.5 }));
        let map = Resp::Map(vec![(Resp::Int(1), Resp::Bool(true))]);
        assert_eq!(value(&map), json!([[1, true]]));
    }
}
