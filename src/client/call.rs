//! Any command at all, as `call` sends it, and what the server says about commands.

use std::collections::BTreeSet;

use redis::Value;

use super::error::{ClientError, Fault};
use super::journaling::ArgKind;
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};
use crate::resp::Resp;

/// What a command is called in errors: its own name was given by the user, who knows it, and so may
/// a password have been.
const NAME: &str = "the command";

/// What a server says about one command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommandFlags {
    /// Its flags: `write`, `admin`, `blocking` (Redis ≥ 7.0)…
    pub flags: BTreeSet<String>,
    /// Its ACL categories: `@dangerous`, `@blocking`…; empty before Redis 6.0.
    pub categories: BTreeSet<String>,
}

impl NodeClient {
    /// Sends words as they are, and gives back whatever the server says to them. What the server
    /// refuses is a reply too: [`Resp::Error`].
    pub async fn call(&self, words: &[&[u8]]) -> Result<Resp, ClientError> {
        let mut packed = redis::Cmd::new();
        for word in words {
            packed.arg(*word);
        }
        let command = Command {
            name: NAME,
            packed,
            // A journal says which command it was, and nothing of what went with it.
            arg_kinds: vec![ArgKind::Word],
        };
        let replies = self.pipeline(Deadline::Change, vec![command]).await;
        let malformed = Fault::Malformed { command: NAME };
        let reply = replies.and_then(|mut replies| replies.pop().ok_or(malformed));
        reply
            .map(|reply| resp(reply.any()))
            .map_err(|fault| self.at(fault))
    }

    /// COMMAND INFO of each name (Redis ≥ 2.8.13; `config|set` from 7.0 on); `None` for a command
    /// that the server does not know.
    pub async fn command_flags(
        &self,
        names: &[String],
    ) -> Result<Vec<Option<CommandFlags>>, ClientError> {
        let mut command = Command::named("COMMAND INFO");
        for name in names {
            command = command.arg(name);
        }
        let read = |reply: Reply| {
            let malformed = Fault::Malformed {
                command: "COMMAND INFO",
            };
            match reply.value()? {
                Value::Array(items) if items.len() == names.len() => {
                    let flags = items.into_iter().map(|item| match item {
                        Value::Nil => Ok(None),
                        Value::Array(fields) => Ok(Some(flags(&fields))),
                        _ => Err(malformed.clone()),
                    });
                    flags.collect()
                }
                _ => Err(malformed),
            }
        };
        self.query(Deadline::Read, command, read).await
    }
}

/// name, arity, flags, first key, last key, step, ACL categories (≥ 6.0), and more.
fn flags(fields: &[Value]) -> CommandFlags {
    let words = |field: Option<&Value>| match field {
        Some(Value::Array(words) | Value::Set(words)) => words.iter().filter_map(word).collect(),
        _ => BTreeSet::new(),
    };
    CommandFlags {
        flags: words(fields.get(2)),
        categories: words(fields.get(6)),
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::SimpleString(word) => Some(word.to_ascii_lowercase()),
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).to_ascii_lowercase()),
        _ => None,
    }
}

fn resp(value: Value) -> Resp {
    let all = |values: Vec<Value>| values.into_iter().map(resp).collect();
    match value {
        Value::Nil => Resp::Nil,
        Value::Int(number) => Resp::Int(number),
        Value::Double(number) => Resp::Double(number),
        Value::Boolean(truth) => Resp::Bool(truth),
        Value::Okay => Resp::Status("OK".to_string()),
        Value::SimpleString(word) => Resp::Status(word),
        Value::BulkString(bytes) => Resp::Bytes(bytes),
        Value::VerbatimString { text, .. } => Resp::Bytes(text.into_bytes()),
        Value::BigNumber(digits) => Resp::Bytes(digits),
        Value::Array(values) | Value::Set(values) => Resp::Array(all(values)),
        Value::Push { data, .. } => Resp::Array(all(data)),
        Value::Map(pairs) => Resp::Map(
            pairs
                .into_iter()
                .map(|(key, value)| (resp(key), resp(value)))
                .collect(),
        ),
        Value::Attribute { data, .. } => resp(*data),
        Value::ServerError(error) => Resp::Error(match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_string(),
        }),
        // The crate may learn more types than the protocol has today.
        other => Resp::Bytes(format!("{other:?}").into_bytes()),
    }
}
