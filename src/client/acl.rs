//! ACL DRYRUN: what a user may do on a node, before another node logs in there as that user.

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};
use redis::Value;

/// The part of a user's rules that lacks the right to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// The user may run it.
    Granted,
    /// The user may not run the command.
    NotTheCommand,
    /// The user may not use the key.
    NotTheKey,
    /// The user may not use the database (Valkey ≥ 9.1).
    NotTheDatabase,
    /// The server does not have the command, or not in this form.
    NoSuchCommand,
}

impl NodeClient {
    /// ACL DRYRUN of each command, given as words (Redis ≥ 7.0, Valkey). Nothing is executed. `None` where DRYRUN is
    /// unknown or denied, or the user does not exist.
    pub async fn acl_dryrun(
        &self,
        user: &str,
        commands: &[&[&str]],
    ) -> Result<Option<Vec<Permission>>, ClientError> {
        let dryrun = |words: &&[&str]| {
            let command = Command::named("ACL DRYRUN").arg(user);
            words
                .iter()
                .fold(command, |command, word| command.arg(word))
        };
        let replies = self
            .pipeline(Deadline::Read, commands.iter().map(dryrun).collect())
            .await
            .map_err(|fault| self.at(fault))?;
        let read = replies.into_iter().map(permission);
        match read.collect::<Result<Option<Vec<Permission>>, Fault>>() {
            Ok(permissions) => Ok(permissions),
            Err(fault) if fault.is_unknown_command() => Ok(None),
            Err(Fault::NoPermission { .. }) => Ok(None),
            Err(fault) => Err(self.at(fault)),
        }
    }
}

/// `None` if the server does not know the user.
fn permission(reply: Reply) -> Result<Option<Permission>, Fault> {
    let malformed = Fault::Malformed {
        command: "ACL DRYRUN",
    };
    let said = match reply.value() {
        Ok(Value::Okay) => return Ok(Some(Permission::Granted)),
        Ok(Value::BulkString(said)) => String::from_utf8_lossy(&said).into_owned(),
        Ok(Value::SimpleString(said)) => said,
        Ok(_) => return Err(malformed),
        Err(Fault::Server { code, message, .. }) if code == "ERR" => {
            // `User 'x' not found`, `Command 'x' not found`, `wrong number of arguments for …`.
            if message.starts_with("User ") {
                return Ok(None);
            }
            if message.starts_with("Command ") || message.starts_with("wrong number of arguments") {
                return Ok(Some(Permission::NoSuchCommand));
            }
            return Err(Fault::Server {
                command: "ACL DRYRUN",
                code,
                message,
            });
        }
        Err(fault) => return Err(fault),
    };
    // `User u has no permissions to run the 'set' command`, `… to access the 'k' key`, `… database`.
    let what = said.rsplit("has no permissions").next().unwrap_or_default();
    Ok(Some(
        if what.ends_with(" key") || what.contains(" one of the keys") {
            Permission::NotTheKey
        } else if what.contains(" access database") {
            Permission::NotTheDatabase
        } else {
            Permission::NotTheCommand
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Option<Permission>, Fault> {
        permission(Reply::new("ACL DRYRUN", value))
    }

    #[test]
    fn answers_name_what_is_missing() {
        let says = |text: &str| read(Value::BulkString(text.as_bytes().to_vec()));
        assert_eq!(read(Value::Okay), Ok(Some(Permission::Granted)));
        assert_eq!(
            says("User repl has no permissions to run the 'set' command"),
            Ok(Some(Permission::NotTheCommand))
        );
        assert_eq!(
            says("User repl has no permissions to access the 'a command' key"),
            Ok(Some(Permission::NotTheKey))
        );
        assert_eq!(
            says("User repl has no permissions to access database"),
            Ok(Some(Permission::NotTheDatabase))
        );
        assert!(read(Value::Int(1)).is_err());
    }
}
