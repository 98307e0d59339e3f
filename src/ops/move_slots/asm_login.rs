//! How the source of an ASM task logs in to the target, and what it may do there (Valkey).
//!
//! The source of a task is a client of the target: it sends AUTH with its own `primaryuser` and `primaryauth`, and
//! without `primaryauth` no AUTH at all, so that it is the target's default user. Then it sends CLUSTER SYNCSLOTS,
//! SELECT, and each key as the commands of an append-only file, followed by what clients write meanwhile. The target
//! checks all of that against the rules of the user (9.1). A rule that is missing shows only after the task has
//! begun, as a lost connection.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretSlice;

use crate::client::{ClientError, Fault, Login, LoginOutcome, Permission};
use crate::connections::{Connections, DialOptions, Target};

/// The settings of a source that say how it logs in; each under its new and its old name.
pub(super) const OPTIONS: [&str; 4] = ["primaryuser", "primaryauth", "masteruser", "masterauth"];

const DEFAULT_USER: &str = "default";

/// The key of a trial: only a user with `~*` may use it.
const KEY: &str = "redis-trib:trial";

/// Commands that a source sends, with the rule that allows each. Streams alone take five commands.
const SENT: [(&[&str], &str); 16] = [
    (&["CLUSTER", "SYNCSLOTS", "ESTABLISH"], "+cluster|syncslots"),
    (&["SET", KEY, "v"], "+@write"),
    (&["RPUSH", KEY, "v"], "+@write"),
    (&["SADD", KEY, "v"], "+@write"),
    (&["ZADD", KEY, "1", "v"], "+@write"),
    (&["HMSET", KEY, "f", "v"], "+@write"),
    (
        &["HSETEX", KEY, "PXAT", "1", "FIELDS", "1", "f", "v"],
        "+@write",
    ),
    (&["XADD", KEY, "*", "f", "v"], "+@write"),
    (&["XSETID", KEY, "0-1"], "+@write"),
    (&["XGROUP", "CREATE", KEY, "g", "0"], "+@write"),
    (&["XGROUP", "CREATECONSUMER", KEY, "g", "c"], "+@write"),
    (&["XCLAIM", KEY, "g", "c", "0", "0-1"], "+@write"),
    (&["PEXPIREAT", KEY, "1"], "+@write"),
    // What clients write during a task.
    (&["DEL", KEY], "+@write"),
    (&["UNLINK", KEY], "+@write"),
    (&["LPOP", KEY], "+@write"),
];

/// The login of a source at its targets; `None` if the source does not tell its settings.
fn login_of(options: &BTreeMap<String, String>) -> Option<Login> {
    let option = |names: [&str; 2]| {
        let values = names.into_iter().filter_map(|name| options.get(name));
        values.max_by_key(|value| value.len())
    };
    let password = option(["primaryauth", "masterauth"])?;
    if password.is_empty() {
        return Some(Login::default());
    }
    let user = option(["primaryuser", "masteruser"]);
    Some(Login {
        user: user.filter(|user| !user.is_empty()).cloned(),
        password: Some(SecretSlice::from(password.clone().into_bytes())),
    })
}

/// Why a source with these settings can't run a task at the target, in words that follow the names of both; `None` if
/// it can, or if that can't be found out. `databases` are those of the source that hold keys.
pub(super) async fn problem(
    connections: &Connections,
    options: &BTreeMap<String, String>,
    databases: &[u32],
    (source, target): (&str, &str),
    reach: &Target,
) -> Option<String> {
    let login = login_of(options)?;
    let user = login.user.as_deref().unwrap_or(DEFAULT_USER).to_string();
    let how = match (&login.password, &login.user) {
        (None, _) => format!("{source} has no primaryauth, and is the default user of {target}"),
        (Some(_), None) => format!("{source} logs in to {target} with its primaryauth as default"),
        (Some(_), Some(_)) => {
            format!("{source} logs in to {target} with its primaryuser {user} and primaryauth")
        }
    };
    let names = (source, target);
    if let Some(why) = login_fails(connections, login, names, reach).await {
        return Some(format!(
            "{source} can't log in to {target}: {how}, and there: {why}"
        ));
    }
    let missing = missing_rules(connections, &user, databases, reach).await?;
    if missing.is_empty() {
        return None;
    }
    Some(format!(
        "{how}, and that user needs more rules there: ACL SETUSER {user} {rules}",
        rules = missing.join(" ")
    ))
}

/// What the target said to the login of a source, without the advice for our own logins.
fn said(fault: &Fault) -> String {
    match fault {
        Fault::PasswordNeeded => "it requires a password (NOAUTH)".to_string(),
        Fault::WrongPassword { user } => format!("wrong password for user {user}, or it is off"),
        fault => fault.to_string(),
    }
}

/// Why the target does not accept the login, in words that follow "and there:".
async fn login_fails(
    connections: &Connections,
    login: Login,
    (source, name): (&str, &str),
    target: &Target,
) -> Option<String> {
    // `AUTH x` is an error where the default user has no password, and a source stops at any error. With `primaryuser
    // default` it sends `AUTH default x`, which is none; our own connections never send that.
    let sends_only_password = login.user.is_none() && login.password.is_some();
    let access = DialOptions {
        login,
        transport: target.access.transport.clone(),
    };
    let target = Target {
        access: Arc::new(access),
        ..target.clone()
    };
    let mut outcome = LoginOutcome::NotTried;
    let answer = match connections.own(&target).await {
        Ok(client) => {
            outcome = client.login_outcome();
            client.ping().await
        }
        Err(error) => Err(error),
    };
    // A source sends no PING: only the login counts. A node that refuses writes answers PING with MISCONF.
    let is_accepted = |error: &ClientError| {
        matches!(error.fault, Fault::NoPermission { .. }) || error.write_refusal().is_some()
    };
    if let Some(error) = answer.err().filter(|error| !is_accepted(error)) {
        return Some(said(&error.fault));
    }
    (sends_only_password && outcome == LoginOutcome::NoPasswordNeeded).then(|| {
        format!(
            "the default user has no password, so that AUTH with one is an error. Clear primaryauth of {source}, set its \
             primaryuser to default, or give the default user of {name} that password"
        )
    })
}

/// The rules that a user of the target lacks for a task, in the order of [`SENT`]; `None` if we may not ask.
async fn missing_rules(
    connections: &Connections,
    user: &str,
    databases: &[u32],
    target: &Target,
) -> Option<Vec<&'static str>> {
    let numbers: Vec<String> = match databases {
        [] => vec!["0".to_string()],
        some => some.iter().map(ToString::to_string).collect(),
    };
    let selects: Vec<[&str; 2]> = numbers.iter().map(|n| ["SELECT", n.as_str()]).collect();
    let selects = selects.iter().map(|words| (&words[..], "+select"));
    let sent: Vec<(&[&str], &'static str)> = SENT.into_iter().chain(selects).collect();
    let commands: Vec<&[&str]> = sent.iter().map(|(words, _)| *words).collect();
    let client = connections.client(target).await.ok()?;
    let answers = client.acl_dryrun(user, &commands).await.ok()??;
    let mut missing = Vec::new();
    for ((_, rule), answer) in sent.iter().zip(answers) {
        let rule = match answer {
            Permission::Granted | Permission::NoSuchCommand => continue,
            Permission::NotTheCommand => rule,
            Permission::NotTheKey => "~*",
            Permission::NotTheDatabase => "alldbs",
        };
        if !missing.contains(&rule) {
            missing.push(rule);
        }
    }
    // A command that is denied hides that its key is denied, too.
    if missing.contains(&"+@write") && !missing.contains(&"~*") {
        missing.push("~*");
    }
    Some(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn login(options: &[(&str, &str)]) -> Option<(Option<String>, Option<String>)> {
        let options = options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let login = login_of(&options.collect())?;
        let password = login
            .password
            .map(|password| String::from_utf8(password.expose_secret().to_vec()).unwrap());
        Some((login.user, password))
    }

    #[test]
    fn a_source_without_primaryauth_sends_no_auth() {
        let none = Some((None, None));
        assert_eq!(login(&[("primaryauth", ""), ("primaryuser", "")]), none);
        // The user counts only with a password.
        assert_eq!(login(&[("primaryauth", ""), ("primaryuser", "repl")]), none);
    }

    #[test]
    fn both_names_of_the_settings_are_read() {
        let repl = Some((Some("repl".to_string()), Some("r".to_string())));
        assert_eq!(
            login(&[("primaryauth", "r"), ("primaryuser", "repl")]),
            repl
        );
        assert_eq!(login(&[("masterauth", "r"), ("masteruser", "repl")]), repl);
        let default = Some((None, Some("r".to_string())));
        assert_eq!(login(&[("masterauth", "r"), ("masteruser", "")]), default);
    }

    #[test]
    fn settings_that_are_not_told_are_not_known() {
        assert_eq!(login(&[("io-threads", "1")]), None);
    }
}
