//! How a node is set up: its settings, ACL users, modules and functions.
//!
//! Settings and rules hold passwords and hashes of passwords: the caller compares them and drops them.

use std::collections::BTreeMap;

use redis::Value;

use super::error::{ClientError, Fault};
use super::membership::{Libraries, libraries};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};

/// The names and values of settings.
pub(super) type Settings = Vec<(Vec<u8>, Vec<u8>)>;

/// What a node told of its setup, each part by itself: one may be denied, or unknown to an old server.
pub struct RawSetup {
    /// CONFIG GET *: names and values.
    pub settings: Result<Settings, Fault>,
    /// ACL LIST: a line for each user (Redis ≥ 6.0).
    pub users: Result<Vec<Vec<u8>>, Fault>,
    /// MODULE LIST: the fields of each (Redis ≥ 4.0).
    pub modules: Result<Vec<BTreeMap<String, String>>, Fault>,
    /// FUNCTION LIST WITHCODE (Redis ≥ 7.0).
    pub libraries: Result<Libraries, Fault>,
}

impl NodeClient {
    /// CONFIG GET *, ACL LIST, MODULE LIST and FUNCTION LIST in one round trip.
    pub async fn setup(&self) -> Result<RawSetup, ClientError> {
        let commands = vec![
            Command::named("CONFIG GET").word("*"),
            Command::named("ACL LIST"),
            Command::named("MODULE LIST"),
            Command::named("FUNCTION LIST").word("WITHCODE"),
        ];
        let replies = self.pipeline(Deadline::Read, commands).await;
        let replies = replies.map_err(|fault| self.at(fault))?;
        let command = "CONFIG GET";
        let [settings, users, modules, functions] =
            <[Reply; 4]>::try_from(replies).map_err(|_| self.at(Fault::Malformed { command }))?;
        Ok(RawSetup {
            settings: pairs(settings),
            users: users.byte_strings(),
            modules: modules.records(),
            libraries: libraries(functions),
        })
    }
}

impl NodeClient {
    /// ACL SETUSER with `reset` and these rules (Redis ≥ 6.0), in one call: all of them take effect, or none. Passwords
    /// among the rules are hashes.
    pub async fn acl_setuser(&self, user: &str, rules: &[Vec<u8>]) -> Result<(), ClientError> {
        let command = Command::named("ACL SETUSER").arg(user).word("reset");
        let command = rules
            .iter()
            .fold(command, |command, rule| command.arg(rule));
        self.change(command).await.map_err(|error| ClientError {
            fault: without_rules(error.fault),
            ..error
        })
    }

    /// ACL SAVE (Redis ≥ 6.0): writes the users to the ACL file.
    pub async fn acl_save(&self) -> Result<(), ClientError> {
        self.change(Command::named("ACL SAVE")).await
    }
}

/// A server repeats the rule that it refuses, which may be the hash of a password.
fn without_rules(fault: Fault) -> Fault {
    match fault {
        Fault::Server { command, code, .. } => Fault::Server {
            command,
            code,
            message: "a rule is not valid on this version of the server".to_string(),
        },
        fault => fault,
    }
}

/// Names and values in turn (RESP2), or a map.
fn pairs(reply: Reply) -> Result<Settings, Fault> {
    let command = reply.command();
    let bytes = |value: Value| match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(Fault::Malformed { command }),
    };
    let flat = match reply.value()? {
        Value::Map(pairs) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
        Value::Array(flat) => flat,
        _ => return Err(Fault::Malformed { command }),
    };
    let mut flat = flat.into_iter();
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        pairs.push((bytes(name)?, bytes(value)?));
    }
    Ok(pairs)
}
