//! Commands and replies as `--verbose` shows them: a line for each, without passwords, keys and values.

use std::time::Duration;

use redis::Value;
use tracing::info;

use super::journaling::words;
use super::reply::{Reply, clean_line};
use super::{Command, Fault};
use crate::cluster::node::Addr;
use crate::cluster::numbers::{bytes, counted};

/// Commands of a pipeline that have a line of their own: as many as one look at a node has. A window of a move has
/// thousands.
const SHOWN: usize = 5;
/// What stands for a masked word.
const MASK: &str = "***";
/// The most characters of a reply.
const LONGEST: usize = 80;
/// The replies of these commands hold nothing that belongs to a user.
const OPEN: [&str; 6] = ["CLUSTER", "INFO", "PING", "ROLE", "TIME", "WAIT"];

/// The commands of a pipeline, before they are sent.
pub(super) struct Logged {
    lines: Vec<String>,
    /// How many more there are.
    more: usize,
}

impl Logged {
    /// Returns `None` if nobody looks.
    pub(super) fn of(commands: &[Command]) -> Option<Self> {
        tracing::enabled!(tracing::Level::INFO).then(|| Self {
            lines: commands.iter().take(SHOWN).map(line).collect(),
            more: commands.len().saturating_sub(SHOWN),
        })
    }

    /// Writes them with their replies.
    pub(super) fn write(&self, addr: &Addr, result: &Result<Vec<Reply>, Fault>, took: Duration) {
        let ms = took.as_secs_f64() * 1_000.0;
        // Of the whole pipeline: who does not speak Redis may answer each command with the first one.
        let is_masked = self.lines.iter().any(|line| line.contains(MASK));
        for (n, line) in self.lines.iter().enumerate() {
            let reply = match result {
                Ok(replies) => {
                    let one = replies.get(n);
                    one.map_or_else(String::new, |one| reply(one, is_masked))
                }
                Err(fault) => format!("no reply: {}", told(fault, is_masked)),
            };
            info!("{addr}  {line}  →  {reply}  ({ms:.1} ms)");
        }
        if self.more > 0 {
            let replies = result.iter().flatten().skip(SHOWN);
            let errors = replies.filter(|reply| reply.refusal().is_some()).count();
            let more = format!("and {}", counted(self.more as u64, "command"));
            let errors = match errors {
                0 => String::new(),
                some => format!(", {}", counted(some as u64, "error")),
            };
            info!("{addr}  {more} more in this pipeline{errors}");
        }
    }
}

/// `MIGRATE 10.0.0.4 6379 "" 0 5000 AUTH *** KEYS (12 keys)`.
fn line(command: &Command) -> String {
    if command.arg_kinds.is_empty() {
        // All of its words are hidden, but not which command it is.
        let names = command.name.split(' ').count();
        let hidden = command.packed.args_iter().count().saturating_sub(names);
        return format!("{}{}", command.name, " ***".repeat(hidden));
    }
    match words(command) {
        (words, 0) => words,
        (words, keys) => format!("{words} ({})", counted(keys as u64, "key")),
    }
}

/// A fault without the words of the server where they may repeat what is masked: what speaks in lines likes to repeat
/// what it did not understand.
fn told(fault: &Fault, is_masked: bool) -> String {
    match fault {
        Fault::NotRedis { .. } => "does not speak the Redis protocol".to_owned(),
        Fault::Server { .. } | Fault::NoPermission { .. } if is_masked => {
            "refused (text withheld: it may repeat what is masked)".to_owned()
        }
        other => clean_line(&other.to_string(), 2 * LONGEST),
    }
}

fn reply(reply: &Reply, is_masked: bool) -> String {
    if let Some(fault) = reply.refusal() {
        return told(&fault, is_masked);
    }
    let first = reply.command().split(' ').next().unwrap_or_default();
    shown(reply.raw(), OPEN.contains(&first))
}

fn shown(value: &Value, open: bool) -> String {
    match value {
        Value::Nil => "(nil)".to_owned(),
        Value::Okay => "OK".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::SimpleString(text) if open => clean_line(text, LONGEST),
        Value::BulkString(text) => match std::str::from_utf8(text) {
            Ok(text) if open && text.trim().lines().count() == 1 => clean_line(text, LONGEST),
            Ok(text) if open => {
                let lines = counted(text.lines().count() as u64, "line");
                format!("{lines}, {}", bytes(text.len() as u64))
            }
            _ => bytes(text.len() as u64),
        },
        Value::SimpleString(text) => bytes(text.len() as u64),
        Value::Array(values) | Value::Set(values) => counted(values.len() as u64, "value"),
        Value::Map(pairs) => counted(pairs.len() as u64, "field"),
        _ => "a reply".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_no_secrets() {
        let auth = Command::named("AUTH").arg("ann").arg("s3cret");
        assert_eq!(line(&auth), "AUTH *** ***");
        let mut packed = redis::cmd("AUTH");
        packed.arg("s3cret");
        assert_eq!(line(&Command::new("AUTH", packed)), "AUTH ***");
        let migrate = Command::named("MIGRATE")
            .word("10.0.0.4")
            .word(6379)
            .key(b"a")
            .key(b"b");
        assert_eq!(line(&migrate), "MIGRATE 10.0.0.4 6379 (2 keys)");
    }

    #[test]
    fn replies_have_no_values_of_users() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for (value, open, expected) in [
            (text("a\r\nb\r\n"), true, "2 lines, 6 B"),
            (text("abc"), true, "abc"),
            (text("abc"), false, "3 B"),
            (
                Value::Array(vec![Value::Nil, Value::Nil]),
                false,
                "2 values",
            ),
            (Value::Okay, false, "OK"),
            (Value::Int(7), false, "7"),
        ] {
            assert_eq!(shown(&value, open), expected);
        }
        let echoed = "ERR unknown command 'AUTH', with args beginning with: 's3cret'";
        let error = redis::parse_redis_value(format!("-{echoed}\r\n").as_bytes());
        let reply = super::reply(&Reply::new("CLIENT", error.unwrap_or(Value::Nil)), true);
        assert!(!reply.contains("s3cret"), "{reply}");
        let begins = "500 unrecognized: AUTH s3cret".to_owned();
        let reply = told(&Fault::NotRedis { begins }, false);
        assert!(!reply.contains("s3cret"), "{reply}");
    }
}
