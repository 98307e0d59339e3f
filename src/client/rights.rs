//! The rights that a user lacks for copying keys, asked without changing anything.
//!
//! ACL DRYRUN tells them (Redis ≥ 7.0, Valkey), but few limited users may run it. A server checks the rules of a user before
//! anything else (Redis ≥ 6.0), so the commands themselves are sent then, in forms that do nothing: RESTORE and FUNCTION LOAD
//! of nothing, which are invalid, and UNLINK in a transaction that is dropped. Only commands are asked for: a user may be
//! limited to the keys that are wanted.

use redis::Value;

use super::acl::Permission;
use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::transfer::ExpiryQuestion;
use super::{Command, Deadline, NodeClient};

/// The key of the questions. Nothing is written to it.
const KEY: &str = "redis-trib:trial";

/// A right that copying keys needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferRight {
    /// To read values: DUMP, and what tells the expiry.
    Read(ExpiryQuestion),
    /// To delete keys that have not changed: WATCH, MULTI, EXEC, UNLINK.
    Delete,
    /// To write values: RESTORE.
    Write,
    /// To load functions: FUNCTION LOAD.
    LoadFunctions,
    /// To compare functions: FUNCTION LIST.
    ListFunctions,
}

/// Commands in the words of ACL DRYRUN, each with the rule that allows it.
type Asked = Vec<(Vec<&'static str>, &'static str)>;

impl TransferRight {
    fn commands(self) -> Asked {
        match self {
            Self::Read(question) => vec![
                (vec!["DUMP", KEY], "+dump"),
                match question {
                    ExpiryQuestion::Time => (vec!["PEXPIRETIME", KEY], "+pexpiretime"),
                    ExpiryQuestion::Left => (vec!["PTTL", KEY], "+pttl"),
                },
            ],
            Self::Delete => vec![
                (vec!["WATCH", KEY], "+watch"),
                (vec!["UNWATCH"], "+unwatch"),
                (vec!["EXEC"], "+exec"),
                (vec!["MULTI"], "+multi"),
                (vec!["UNLINK", KEY], "+unlink"),
            ],
            // Of nothing.
            Self::Write => vec![(vec!["RESTORE", KEY, "0", ""], "+restore")],
            Self::LoadFunctions => vec![(vec!["FUNCTION", "LOAD", ""], "+function|load")],
            // No library has this name.
            Self::ListFunctions => vec![(
                vec!["FUNCTION", "LIST", "LIBRARYNAME", ""],
                "+function|list",
            )],
        }
    }
}

impl NodeClient {
    /// The rules that the user of this connection lacks, as ACL SETUSER takes them. The connection must be the caller's
    /// own, and `user` the name of its user.
    pub async fn missing_rules(
        &self,
        user: &str,
        rights: &[TransferRight],
    ) -> Result<Vec<&'static str>, ClientError> {
        let asked: Asked = rights.iter().flat_map(|right| right.commands()).collect();
        let commands: Vec<&[&str]> = asked.iter().map(|(words, _)| words.as_slice()).collect();
        if let Some(answers) = self.acl_dryrun(user, &commands).await? {
            let answers = asked.iter().zip(answers);
            let denied = answers.filter(|(_, answer)| *answer == Permission::NotTheCommand);
            return Ok(denied.map(|((_, rule), _)| *rule).collect());
        }
        let mut missing = Vec::new();
        for right in rights {
            missing.extend(match right {
                TransferRight::Delete => self.missing_to_delete().await?,
                right => self.missing_of(right.commands()).await?,
            });
        }
        Ok(missing)
    }

    async fn missing_of(&self, asked: Asked) -> Result<Vec<&'static str>, ClientError> {
        let (commands, rules): (Vec<Command>, Vec<&str>) = asked
            .into_iter()
            .map(|(words, rule)| (command(&words), rule))
            .unzip();
        let replies = self.asked(commands).await?;
        let denied = replies.iter().zip(rules);
        Ok(denied
            .filter_map(|(reply, rule)| is_denied(reply).then_some(rule))
            .collect())
    }

    async fn missing_to_delete(&self) -> Result<Vec<&'static str>, ClientError> {
        let mut before = TransferRight::Delete.commands();
        let last = before.split_off(before.len() - 2);
        let mut missing = self.missing_of(before).await?;
        let begun = self.asked(vec![Command::named("MULTI")]).await?;
        match begun.first() {
            Some(reply) if matches!(reply.raw(), Value::Okay) => {}
            // Outside of a transaction UNLINK would be executed. Its rule does no harm to a user that has it.
            Some(reply) if is_denied(reply) => {
                missing.extend(last.into_iter().map(|(_, rule)| rule));
                return Ok(missing);
            }
            _ => return Ok(missing),
        }
        let unlink = Command::named("UNLINK").arg(KEY);
        let replies = self.asked(vec![unlink, Command::named("DISCARD")]).await?;
        if replies.first().is_some_and(is_denied) {
            missing.push("+unlink");
        }
        Ok(missing)
    }

    async fn asked(&self, commands: Vec<Command>) -> Result<Vec<Reply>, ClientError> {
        let replies = self.pipeline(Deadline::Read, commands).await;
        replies.map_err(|fault: Fault| self.at(fault))
    }
}

/// The command of these words, of which the first two may be its name.
fn command(words: &[&'static str]) -> Command {
    let (name, args) = match words {
        ["FUNCTION", "LOAD", args @ ..] => ("FUNCTION LOAD", args),
        ["FUNCTION", "LIST", args @ ..] => ("FUNCTION LIST", args),
        [name, args @ ..] => (*name, args),
        [] => ("PING", words),
    };
    let command = Command::named(name);
    args.iter().fold(command, |command, arg| command.arg(*arg))
}

/// Whether the user may not run the command: `NOPERM User ann has no permissions to run the 'dump' command` (`this user
/// has no permissions to run …` before Redis 7.0), or for EXEC `EXECABORT Transaction discarded because of: NOPERM …`. A
/// denied key reads otherwise.
fn is_denied(reply: &Reply) -> bool {
    match reply.raw() {
        Value::ServerError(error) => {
            ["NOPERM", "EXECABORT"].contains(&error.code())
                && error
                    .details()
                    .is_some_and(|text| text.contains("permissions to run the"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_commands_are_told_from_denied_keys() {
        for (line, denied) in [
            (
                "-NOPERM User ann has no permissions to run the 'dump' command\r\n",
                true,
            ),
            (
                "-NOPERM this user has no permissions to run the 'dump' command or its subcommand\r\n",
                true,
            ),
            (
                "-EXECABORT Transaction discarded because of: NOPERM User ann has no permissions to run the 'exec' command\r\n",
                true,
            ),
            (
                "-EXECABORT Transaction discarded because of previous errors.\r\n",
                false,
            ),
            ("-NOPERM No permissions to access a key\r\n", false),
            ("-ERR DUMP payload version or checksum are wrong\r\n", false),
            ("$-1\r\n", false),
        ] {
            let value = redis::parse_redis_value(line.as_bytes()).unwrap();
            assert_eq!(is_denied(&Reply::new("DUMP", value)), denied, "{line}");
        }
    }
}
