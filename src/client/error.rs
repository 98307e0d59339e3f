//! Errors of a connection to one node, with the remedy where there is one.

use std::time::Duration;

use super::reply::{clean_line, clean_message};
use super::tls::TlsFault;
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::refusal::{BusyWith, Refusal, RefusalKind};
use crate::exit_code::ExitCode;
use crate::stop::Stop;

/// The longest address that an error prints, in characters: DNS names end at 253.
const ADDR_LIMIT: usize = 270;

/// A request that failed, or a connection that could not be opened.
///
/// Contains no secret. Text that came from a node is cleaned and short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", clean_line(&.addr.to_string(), ADDR_LIMIT))]
pub struct ClientError {
    /// The address that was dialled.
    pub addr: Addr,
    /// What happened there.
    pub fault: Fault,
}

impl ClientError {
    /// Whether the outcome of the command is unknown: it was sent, and no readable answer came back. A change may
    /// have happened: observe the cluster again before anything else.
    pub fn outcome_unknown(&self) -> bool {
        self.fault.outcome_unknown()
    }

    /// Returns the code of a server error (`ERR`, `CLUSTERDOWN`, `MOVED`) that has no [`Fault`] of its own.
    pub fn server_code(&self) -> Option<&str> {
        match &self.fault {
            Fault::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the server does not know the command or the subcommand, because it is too old or the command was
    /// renamed.
    pub fn is_unknown_command(&self) -> bool {
        self.fault.is_unknown_command()
    }

    /// Whether the server does not know the node that a command named: `ERR Unknown node …` (all versions).
    pub fn is_unknown_node(&self) -> bool {
        matches!(&self.fault, Fault::Server { message, .. } if message.starts_with("Unknown node"))
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The name has no address in DNS; the resolver's message.
    #[error("the name does not resolve ({0}): check the spelling and the DNS")]
    NameNotResolved(String),
    /// No server listens on the port.
    #[error("connection refused (is redis-server running on that port?)")]
    Refused,
    /// The TCP connection was not open in time.
    #[error(
        "no connection within {}: check that the host is up and that no firewall blocks the port \
         (--connect-timeout waits longer)",
        humantime::format_duration(*.0)
    )]
    ConnectTimeout(Duration),
    /// The TCP connection failed for another reason; the operating system's message.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The TLS handshake failed.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// The connection ended without a byte, or with a TLS alert, on the first command over plain TCP. A TLS port does
    /// that (Redis 7.0 resets the connection), and so does a published port with no server behind it.
    #[error(
        "closed the connection without an answer: the port may expect TLS (pass --tls), \
         or a published port may have no server behind it"
    )]
    MaybeTls,
    /// The port speaks another protocol.
    #[error("does not speak the Redis protocol (it says {begins:?}): check the port")]
    NotRedis {
        /// The first bytes of its answer, cleaned.
        begins: String,
    },
    /// The server refuses remote clients (`DENIED`, Redis ≥ 3.2 without a password and without `bind`).
    #[error(
        "runs in protected mode and refuses remote connections: \
         set a password or protected-mode no on the server"
    )]
    ProtectedMode,
    /// The server has reached `maxclients`.
    #[error("has reached its limit of clients: raise maxclients on the server")]
    TooManyClients,
    /// `NOAUTH`.
    #[error("needs a password: give it with --pass, --pass-file or REDISCLI_AUTH")]
    PasswordNeeded,
    /// `WRONGPASS` (≥ 6.0) or `ERR invalid password` (older).
    #[error(
        "wrong password (user {user}), or that user is disabled: \
         give the right one with --user and --pass, --pass-file or REDISCLI_AUTH"
    )]
    WrongPassword {
        /// The user of the login; `default` if none was given.
        user: String,
    },
    /// The server has no ACL users (older than Redis 6.0).
    #[error("has no ACL users (older than Redis 6.0): leave out --user")]
    UserUnsupported,
    /// `NOPERM` (Redis ≥ 6.0).
    #[error("{}", no_permission(.command, *.denied))]
    NoPermission {
        /// The command that was refused.
        command: &'static str,
        /// What the user has no right to.
        denied: Denied,
    },
    /// No answer in time. The command may still be executed.
    #[error(
        "no answer to {command} within {}: the server is stopped or busy \
         (--command-timeout waits longer)",
        humantime::format_duration(*.after)
    )]
    Timeout {
        /// The command, or the first of a pipeline.
        command: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The connection ended between the command and its answer.
    #[error(
        "the connection broke before the answer to {command}: check whether the server restarted"
    )]
    Closed {
        /// The command, or the first of a pipeline.
        command: &'static str,
    },
    /// The answer exceeds the size limit.
    #[error("the answer to {command} is longer than {} MiB and was not read", .limit / (1024 * 1024))]
    TooLarge {
        /// The command, or the first of a pipeline.
        command: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A replication stream that stalled.
    #[error(
        "sent nothing for {} after {received} bytes of its data: the server is stopped, or the network is cut \
         (--stall-timeout waits longer)",
        humantime::format_duration(*.after)
    )]
    Stalled {
        /// How long no byte arrived.
        after: Duration,
        /// The bytes received before.
        received: u64,
    },
    /// A replication stream that ended early.
    #[error(
        "the connection broke after {received} bytes of its data: look in the server's log for a crash of the server or its fork"
    )]
    CutOff {
        /// The bytes received before.
        received: u64,
    },
    /// Any other error of the server.
    #[error("{command} was refused: {code} {message}")]
    Server {
        /// The command that was refused.
        command: &'static str,
        /// The first word of the error: `ERR`, `CLUSTERDOWN`, `MOVED`…
        code: String,
        /// The rest of the error: one line, cleaned, at most 300 characters.
        message: String,
    },
    /// The answer does not have the shape of the command's reply.
    #[error("the answer to {command} is malformed: check that this is a Redis or Valkey server")]
    Malformed {
        /// The command, or the first of a pipeline.
        command: &'static str,
    },
    /// `BUSY`: the server executes a script, a function or a command of a module, and answers only a few commands:
    /// AUTH, SCRIPT KILL, FUNCTION KILL, SHUTDOWN NOSAVE.
    #[error("{0}")]
    Busy(BusyWith),
    /// `MASTERDOWN`: the replica has no link to its master, and `replica-serve-stale-data` is `no`.
    #[error(
        "has no link to its master and serves no stale data (MASTERDOWN): bring its master or the link back, or set \
         replica-serve-stale-data yes on it"
    )]
    MasterDown,
    /// `MISCONF`: the server can't write to its disk and refuses writes; its reason.
    #[error(
        "refuses writes because it can't write to its disk (MISCONF): free its disk and look in its log ({reason})"
    )]
    Misconf {
        /// The text of the server, one line, cleaned.
        reason: String,
    },
    /// `LOADING`: the server is loading its data from disk.
    #[error("is still loading its data: wait until it is done, then try again")]
    Loading,
    /// Another node answers at the address of a node.
    #[error(
        "node {found} answers here, not {expected}: the address is a load balancer's, or belongs to another node \
         by now; give the addresses of the nodes themselves",
        found = .found.short(),
        expected = .expected.short()
    )]
    OtherNode {
        /// The node that the address stands for.
        expected: NodeId,
        /// The node that answered.
        found: NodeId,
    },
    /// The server runs without `cluster-enabled yes`. INFO still answers there.
    #[error("is not a cluster node: set cluster-enabled yes in its configuration and restart it")]
    ClusterDisabled,
    /// The journal (`--journal`) can't be written, so no further change is sent; the operating system's message.
    #[error("the journal can't be written ({0}), so no further changes are sent")]
    Journal(String),
}

/// What a user has no right to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The command, or anything else.
    Command,
    /// A key.
    Key,
    /// A database (Valkey ≥ 9.1: `db=0,1` in the rules of a user).
    Database,
}

impl Denied {
    /// Reads it from the text of `NOPERM`: `No permissions to access a key` (Redis ≥ 7.0, Valkey), `this user has no
    /// permissions to access one of the keys used as arguments` (Redis 6.2), `… access database`.
    pub(super) fn of_message(message: &str) -> Self {
        let accessed = message.split("permissions to access ").nth(1);
        match accessed.map(str::trim_end) {
            Some(what) if what.starts_with("database") => Self::Database,
            Some(what) if what.ends_with(" key") || what.starts_with("one of the keys") => {
                Self::Key
            }
            _ => Self::Command,
        }
    }
}

impl Fault {
    /// Returns the error of the node at that address.
    pub(super) fn at(self, addr: &Addr) -> ClientError {
        ClientError {
            addr: addr.clone(),
            fault: self,
        }
    }

    /// See [`ClientError::outcome_unknown`].
    pub(super) fn outcome_unknown(&self) -> bool {
        match self {
            Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            // The server never answered on that connection. A node that dies right after it executed a
            // command looks the same.
            | Self::MaybeTls => true,
            Self::NameNotResolved(_)
            | Self::Refused
            | Self::ConnectTimeout(_)
            | Self::Unreachable(_)
            | Self::Tls(_)
            | Self::NotRedis { .. }
            | Self::ProtectedMode
            | Self::TooManyClients
            | Self::PasswordNeeded
            | Self::WrongPassword { .. }
            | Self::UserUnsupported
            | Self::NoPermission { .. }
            | Self::Busy(_)
            | Self::MasterDown
            | Self::Misconf { .. }
            | Self::Loading
            | Self::ClusterDisabled
            | Self::OtherNode { .. }
            | Self::Journal(_)
            // Reads only.
            | Self::Stalled { .. }
            | Self::CutOff { .. }
            | Self::Server { .. } => false,
        }
    }

    /// Returns the fault that a server error means. `message` is as received.
    pub(super) fn of_server(command: &'static str, code: &str, message: &str) -> Self {
        match code {
            "NOAUTH" => Self::PasswordNeeded,
            "NOPERM" => Self::NoPermission {
                command,
                denied: Denied::of_message(message),
            },
            "LOADING" => Self::Loading,
            "BUSY" => Self::Busy(BusyWith::of_message(message)),
            "MASTERDOWN" => Self::MasterDown,
            "MISCONF" => Self::Misconf {
                reason: misconf_reason(message),
            },
            "DENIED" => Self::ProtectedMode,
            // Redis 3.2 to 8.6, Valkey 8 to 9.1.
            "ERR" if message.starts_with("This instance has cluster support disabled") => {
                Self::ClusterDisabled
            }
            "ERR" if message.starts_with("max number of clients") => Self::TooManyClients,
            // A server that does not know a command repeats the arguments, passwords and values included.
            _ => Self::Server {
                command,
                code: clean_line(code, 32),
                message: clean_message(match message.split_once(", with args beginning with:") {
                    Some((said, _)) => said,
                    None => message,
                }),
            },
        }
    }

    /// Returns the refusal of a node that was reached and answered with an error; `None` for one that could not be
    /// reached, did not answer, or speaks another protocol.
    pub fn refusal(&self) -> Option<Refusal> {
        let kind = match self {
            Self::Busy(with) => RefusalKind::Busy(*with),
            Self::TooManyClients => RefusalKind::ClientLimit,
            Self::PasswordNeeded | Self::WrongPassword { .. } | Self::UserUnsupported => {
                RefusalKind::Login
            }
            Self::NoPermission { .. } => RefusalKind::Permission,
            Self::ProtectedMode => RefusalKind::ProtectedMode,
            Self::MasterDown => RefusalKind::MasterDown,
            Self::Misconf { .. } => RefusalKind::Misconf,
            Self::Loading | Self::ClusterDisabled | Self::Server { .. } => RefusalKind::Other,
            Self::NameNotResolved(_)
            | Self::Refused
            | Self::ConnectTimeout(_)
            | Self::Unreachable(_)
            | Self::Tls(_)
            | Self::MaybeTls
            | Self::NotRedis { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::TooLarge { .. }
            | Self::Stalled { .. }
            | Self::CutOff { .. }
            | Self::Malformed { .. }
            | Self::Journal(_)
            | Self::OtherNode { .. } => return None,
        };
        Some(Refusal {
            kind,
            said: self.to_string(),
        })
    }

    /// Whether a retry may succeed: servers start, finish loading, come back. A wrong password, certificate or option
    /// does not change by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NameNotResolved(_)
            | Self::Refused
            | Self::ConnectTimeout(_)
            | Self::Unreachable(_)
            | Self::MaybeTls
            | Self::TooManyClients
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Server { .. }
            | Self::Stalled { .. }
            | Self::CutOff { .. }
            | Self::Busy(_)
            | Self::MasterDown
            | Self::Misconf { .. }
            | Self::Loading
            | Self::Tls(TlsFault::NoAnswer(_) | TlsFault::ClosedInHandshake) => true,
            Self::Tls(_)
            | Self::NotRedis { .. }
            | Self::ProtectedMode
            | Self::PasswordNeeded
            | Self::WrongPassword { .. }
            | Self::UserUnsupported
            | Self::NoPermission { .. }
            | Self::TooLarge { .. }
            | Self::Malformed { .. }
            | Self::Journal(_)
            | Self::OtherNode { .. }
            | Self::ClusterDisabled => false,
        }
    }

    /// Whether the node accepted a connection and then answered nothing in time: its process is stopped or busy.
    pub fn is_silence(&self) -> bool {
        matches!(
            self,
            Self::Timeout { .. } | Self::Tls(TlsFault::NoAnswer(_))
        )
    }

    /// Whether the server does not know the command or the subcommand.
    pub fn is_unknown_command(&self) -> bool {
        let Self::Server { code, message, .. } = self else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        code == "ERR"
            && [
                // For commands: all versions; for subcommands: Redis ≥ 7.0.
                "unknown command",
                "unknown subcommand",
                // Subcommands of CLUSTER and of CONFIG, CLIENT before Redis 5.0.
                "wrong cluster subcommand",
                "config subcommand must be one of",
                "syntax error, try client",
            ]
            .iter()
            .any(|beginning| message.starts_with(beginning))
    }
}

/// The reason in the text of a MISCONF error. For RDB files the text explains at length and has none (all versions):
/// `Redis is configured to save RDB snapshots, but …`; for the AOF: `Errors writing to the AOF file: No space left`.
fn no_permission(command: &str, denied: Denied) -> String {
    match denied {
        Denied::Database => format!(
            "the user is limited to some databases, and {command} needs another one, or all of them: ACL SETUSER with \
             alldbs, or log in as another user"
        ),
        Denied::Key => format!(
            "the user may not use a key of {command}: allow it with ACL SETUSER (~PATTERN), or log in as another user"
        ),
        Denied::Command => format!(
            "the user may not run {command}: allow it with ACL SETUSER, or log in as another user"
        ),
    }
}

fn misconf_reason(message: &str) -> String {
    if message.contains("RDB snapshots") {
        "the last save of an RDB file failed".to_string()
    } else {
        clean_message(message)
    }
}

impl From<ClientError> for Stop {
    fn from(error: ClientError) -> Self {
        let code = match error.fault {
            Fault::ClusterDisabled => ExitCode::Refused,
            _ => ExitCode::Unreachable,
        };
        Self::new(code, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(fault: Fault) -> ClientError {
        fault.at(&Addr::new("127.0.0.1", 7000))
    }

    #[test]
    fn errors_name_the_node_and_the_remedy() {
        assert_eq!(
            error(Fault::WrongPassword {
                user: "default".into()
            })
            .to_string(),
            "127.0.0.1:7000: wrong password (user default), or that user is disabled: \
             give the right one with --user and --pass, --pass-file or REDISCLI_AUTH"
        );
        assert_eq!(
            error(Fault::Timeout {
                command: "CLUSTER MEET",
                after: Duration::from_millis(1500)
            })
            .to_string(),
            "127.0.0.1:7000: no answer to CLUSTER MEET within 1s 500ms: \
             the server is stopped or busy (--command-timeout waits longer)"
        );
        let hostile = Fault::Refused.at(&Addr::new("a\u{1b}[2Jb", 1)).to_string();
        assert!(hostile.starts_with("a[2Jb:1: connection refused"));
    }

    #[test]
    fn server_errors_are_cleaned_and_short() {
        let long = format!("bad \u{1b}]0;title\u{7}{}", "y".repeat(1000));
        let error = error(Fault::of_server("INFO", "E\u{1b}RR", &long));
        let text = error.to_string();
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{7}'),
            "{text:?}"
        );
        assert!(text.chars().count() < 400);
        assert_eq!(error.server_code(), Some("ERR"));
    }

    #[test]
    fn unknown_commands_of_all_versions_are_recognized() {
        for message in [
            "unknown subcommand 'FOO'. Try CLUSTER HELP.",
            "unknown command 'FOO', with args beginning with: ",
            "Unknown subcommand or wrong number of arguments for 'FOO'. Try CLUSTER HELP.",
            "Wrong CLUSTER subcommand or number of arguments",
        ] {
            let fault = Fault::of_server("CLUSTER FOO", "ERR", message);
            assert!(error(fault).is_unknown_command(), "{message}");
        }
        let fault = Fault::of_server("GET", "ERR", "value is not an integer");
        assert!(!error(fault).is_unknown_command());
        assert!(!error(Fault::Loading).is_unknown_command());
    }

    #[test]
    fn a_node_that_answers_with_an_error_was_reached() {
        let said = |code: &str, message: &str| Fault::of_server("INFO", code, message).refusal();
        for (code, message, kind) in [
            (
                "BUSY",
                "Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                RefusalKind::Busy(BusyWith::Script),
            ),
            ("NOAUTH", "Authentication required.", RefusalKind::Login),
            (
                "NOPERM",
                "this user has no permissions",
                RefusalKind::Permission,
            ),
            (
                "DENIED",
                "Redis is running in protected mode",
                RefusalKind::ProtectedMode,
            ),
            (
                "ERR",
                "max number of clients reached",
                RefusalKind::ClientLimit,
            ),
            (
                "MASTERDOWN",
                "Link with MASTER is down",
                RefusalKind::MasterDown,
            ),
            (
                "MISCONF",
                "Errors writing to the AOF file: full",
                RefusalKind::Misconf,
            ),
            ("ERR", "unknown command 'CLUSTER'", RefusalKind::Other),
        ] {
            assert_eq!(said(code, message).unwrap().kind, kind, "{code} {message}");
        }
        assert_eq!(Fault::Refused.refusal(), None);
        assert_eq!(Fault::Closed { command: "INFO" }.refusal(), None);
        let full = Fault::of_server("SET", "MISCONF", "Errors writing to the AOF file: full");
        assert!(
            full.to_string()
                .ends_with("(Errors writing to the AOF file: full)")
        );
    }

    #[test]
    fn what_is_denied_is_read_from_the_text() {
        for (text, denied) in [
            ("No permissions to access a key", Denied::Key),
            ("No permissions to access a key\r\n", Denied::Key),
            (
                "this user has no permissions to access one of the keys used as arguments",
                Denied::Key,
            ),
            (
                "User ann has no permissions to access the 'a database' key",
                Denied::Key,
            ),
            (
                "User ann has no permissions to access database",
                Denied::Database,
            ),
            ("No permissions to access database", Denied::Database),
            ("No permissions to access a channel", Denied::Command),
            (
                "User ann has no permissions to run the 'dump' command",
                Denied::Command,
            ),
            ("", Denied::Command),
        ] {
            assert_eq!(Denied::of_message(text), denied, "{text}");
        }
    }

    #[test]
    fn only_unanswered_commands_have_an_unknown_outcome() {
        assert!(error(Fault::Closed { command: "SET" }).outcome_unknown());
        assert!(!error(Fault::Refused).outcome_unknown());
        assert!(!error(Fault::of_server("SET", "CLUSTERDOWN", "")).outcome_unknown());
    }
}
