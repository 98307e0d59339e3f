//! What can go wrong between us and one node, in words that say what to do next.

use std::time::Duration;

use super::reply::{clean_line, clean_message};
use super::tls::TlsFault;
use crate::cluster::node::Addr;
use crate::exit_code::ExitCode;
use crate::stop::Stop;

/// The longest address that an error prints, in characters: DNS names end at 253.
const ADDR_LIMIT: usize = 270;

/// A request that did not succeed, or a connection that did not come about.
///
/// It holds no secret, and every text in it that came from a node is cleaned and short.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {fault}", clean_line(&.addr.to_string(), ADDR_LIMIT))]
pub struct ClientError {
    /// The address that was dialled.
    pub addr: Addr,
    /// What happened there.
    pub fault: Fault,
}

impl ClientError {
    /// Whether it is not known what became of the command: it was sent, and no answer that could
    /// be read came back. A change may have happened; observe again before anything else.
    pub fn outcome_unknown(&self) -> bool {
        self.fault.outcome_unknown()
    }

    /// The code of a server's error (`ERR`, `CLUSTERDOWN`, `MOVED`), where it was one without a
    /// fault of its own.
    pub fn server_code(&self) -> Option<&str> {
        match &self.fault {
            Fault::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the server does not know the command or the subcommand: it is older than they are,
    /// or they were renamed.
    pub fn is_unknown_command(&self) -> bool {
        self.fault.is_unknown_command()
    }

    /// Whether the server does not know the node that it was told of: `ERR Unknown node …` (all
    /// versions).
    pub fn is_unknown_node(&self) -> bool {
        matches!(&self.fault, Fault::Server { message, .. } if message.starts_with("Unknown node"))
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// DNS knows no address for the name; the resolver's words.
    #[error("the name does not resolve ({0}): look at the spelling and at the DNS")]
    NameNotResolved(String),
    /// Nobody listens there.
    #[error("connection refused: is a server running, and on that port?")]
    Refused,
    /// No TCP connection in that time.
    #[error(
        "no connection within {}: is the host up, and no firewall between? \
         (--connect-timeout waits longer)",
        humantime::format_duration(*.0)
    )]
    ConnectTimeout(Duration),
    /// No TCP connection for another reason; the operating system's words.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// TLS did not come about.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// The connection ended without a byte, or with a TLS alert, on the first command over plain
    /// TCP: a TLS port does that (Redis 7.0 resets the connection), and so does a published port
    /// with nothing behind it.
    #[error(
        "closed the connection without an answer: does the port expect TLS (--tls), \
         or is nothing behind a published port?"
    )]
    MaybeTls,
    /// Something else speaks there.
    #[error("does not speak the Redis protocol (it says {begins:?}): is the port right?")]
    NotRedis {
        /// The beginning of what it said, cleaned.
        begins: String,
    },
    /// The server turns away everyone who is not local (`DENIED`, Redis ≥ 3.2 without a password
    /// and without `bind`).
    #[error(
        "runs in protected mode and refuses connections from elsewhere: \
         set a password or protected-mode no on the server"
    )]
    ProtectedMode,
    /// The server has as many clients as it takes.
    #[error("has no room for another client: raise maxclients on the server")]
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
        /// The user who tried to log in; `default` where none was named.
        user: String,
    },
    /// The server is older than users are (Redis 6.0).
    #[error("knows no users (older than Redis 6.0): leave out --user")]
    UserUnsupported,
    /// `NOPERM` (Redis ≥ 6.0).
    #[error("the user may not run {command}: let ACL SETUSER allow it, or log in as another user")]
    NoPermission {
        /// The command that was refused.
        command: &'static str,
    },
    /// No answer in time. The command may yet be carried out.
    #[error(
        "no answer to {command} within {}: the server is stopped or busy \
         (--command-timeout waits longer)",
        humantime::format_duration(*.after)
    )]
    Timeout {
        /// The command, or the first of a pipeline.
        command: &'static str,
        /// How long we waited.
        after: Duration,
    },
    /// The connection ended between the command and its answer.
    #[error("the connection broke before the answer to {command}: did the server restart?")]
    Closed {
        /// The command, or the first of a pipeline.
        command: &'static str,
    },
    /// The answer has no end that we would wait for.
    #[error("the answer to {command} is longer than {} MiB: given up", .limit / (1024 * 1024))]
    TooLarge {
        /// The command, or the first of a pipeline.
        command: &'static str,
        /// The most that is read, in bytes.
        limit: u64,
    },
    /// A stream of data that came to a halt.
    #[error(
        "sent nothing for {} after {received} bytes of its data: it is stopped, or the network is cut \
         (--stall-timeout waits longer)",
        humantime::format_duration(*.after)
    )]
    Stalled {
        /// How long nothing came.
        after: Duration,
        /// How much had come before.
        received: u64,
    },
    /// A stream of data that ended before its end.
    #[error(
        "the connection broke after {received} bytes of its data: did the server or its fork die?"
    )]
    CutOff {
        /// How much had come.
        received: u64,
    },
    /// An error of the server that has no fault of its own.
    #[error("{command} was refused: {code} {message}")]
    Server {
        /// The command that was refused.
        command: &'static str,
        /// The first word of the error: `ERR`, `CLUSTERDOWN`, `MOVED`…
        code: String,
        /// The rest of it: one line, cleaned, at most 300 characters.
        message: String,
    },
    /// The answer is not of the shape that the command has.
    #[error("the answer to {command} makes no sense: is this a Redis or Valkey server?")]
    Malformed {
        /// The command, or the first of a pipeline.
        command: &'static str,
    },
    /// `LOADING`: the server is reading its data from disk.
    #[error("is still loading its data: wait until it has, then try again")]
    Loading,
    /// The server runs without `cluster-enabled yes`; INFO still answers there.
    #[error("is not a cluster node: set cluster-enabled yes in its configuration and restart it")]
    ClusterDisabled,
    /// The journal (`--journal`) can't be written, so nothing more is changed; the operating system's
    /// words.
    #[error("is told to change nothing more: the journal can't be written ({0})")]
    Journal(String),
}

impl Fault {
    /// The fault of that node.
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
            // Nothing was ever heard on that connection, but a node that dies right after it did
            // what it was told looks the same.
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
            | Self::Loading
            | Self::ClusterDisabled
            | Self::Journal(_)
            // They only read.
            | Self::Stalled { .. }
            | Self::CutOff { .. }
            | Self::Server { .. } => false,
        }
    }

    /// What a server's error means. `message` is as it came.
    pub(super) fn of_server(command: &'static str, code: &str, message: &str) -> Self {
        match code {
            "NOAUTH" => Self::PasswordNeeded,
            "NOPERM" => Self::NoPermission { command },
            "LOADING" => Self::Loading,
            "DENIED" => Self::ProtectedMode,
            // Redis 3.2 to 8.6, Valkey 8 to 9.1.
            "ERR" if message.starts_with("This instance has cluster support disabled") => {
                Self::ClusterDisabled
            }
            "ERR" if message.starts_with("max number of clients") => Self::TooManyClients,
            // A server that does not know a command repeats its arguments, passwords and values among
            // them.
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

    /// Whether it may be gone when one tries again: servers start, load, come back. What a password,
    /// a certificate or an option causes stays.
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
            | Self::ClusterDisabled => false,
        }
    }

    pub(super) fn is_unknown_command(&self) -> bool {
        let Self::Server { code, message, .. } = self else {
            return false;
        };
        let message = message.to_ascii_lowercase();
        code == "ERR"
            && [
                // Any version, for commands; Redis ≥ 7.0 for subcommands.
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
    fn errors_name_the_node_and_what_to_do() {
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
    fn unknown_commands_of_all_ages_are_told() {
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
    fn only_what_was_sent_and_not_answered_is_unknown() {
        assert!(error(Fault::Closed { command: "SET" }).outcome_unknown());
        assert!(!error(Fault::Refused).outcome_unknown());
        assert!(!error(Fault::of_server("SET", "CLUSTERDOWN", "")).outcome_unknown());
    }
}
