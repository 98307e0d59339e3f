//! Opens a connection: name → TCP → TLS → login.
//!
//! One deadline covers everything up to TLS; the login has the deadline of a command. A connection to a node whose id
//! is known asks for the id together with the login: an address may be a load balancer's, or another node's by now.
//! Without a password, a connection name and an id, no command is sent: connecting to a thousand nodes costs only the
//! handshakes, and a port that speaks another protocol is detected at the first command.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use secrecy::{ExposeSecret, SecretSlice};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::error::{ClientError, Fault};
use super::line::{Line, Lines, Reopening};
use super::reply::clean_message;
use super::stream::{ObservedStream, REPLY_LIMIT, VALUE_LIMIT, Wire};
use super::tls::{TlsClient, TlsFault};
use super::{Command, Deadline, NodeClient, Over, Shared};
use crate::cluster::node::{Addr, NodeId};
use crate::journal::{Journal, SentChanges};

/// The user of a password without a user name (Redis ≥ 6.0).
const DEFAULT_USER: &str = "default";

const AUTH: &str = "AUTH";

pub(super) const MYID: &str = "CLUSTER MYID";

/// The credentials for a node. The password is never printed, not even by `Debug`.
#[derive(Clone, Default)]
pub struct Login {
    /// The ACL user (Redis ≥ 6.0); without one, the password is the default user's.
    pub user: Option<String>,
    /// The password. With a user but no password, an empty password is sent: users with `nopass` accept it. With
    /// neither, there is no login.
    pub password: Option<SecretSlice<u8>>,
}

impl Login {
    /// The user's name in messages.
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }

    /// The user and the password to send; `None` without credentials. A user without a password gets an empty one:
    /// users with `nopass` accept any.
    pub(super) fn words(&self) -> Option<(Option<&str>, &[u8])> {
        let user = self.user.as_deref().filter(|user| *user != DEFAULT_USER);
        let password = self.password.as_ref().map(ExposeSecret::expose_secret);
        if user.is_none() && password.is_none() {
            return None;
        }
        Some((user, password.unwrap_or_default()))
    }

    /// AUTH; `None` without credentials.
    pub(super) fn command(&self) -> Option<Command> {
        let (user, password) = self.words()?;
        let mut auth = redis::cmd(AUTH);
        match user {
            // Every version knows this form. It is also better for the default user: without a password set, Redis
            // 7.0 refuses `AUTH x`, but answers OK to `AUTH default x`.
            None => auth.arg(password),
            Some(user) => auth.arg(user).arg(password),
        };
        Some(Command::new(AUTH, auth))
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let same_password = match (&self.password, &other.password) {
            (Some(own), Some(other)) => own.expose_secret() == other.expose_secret(),
            (None, None) => true,
            _ => false,
        };
        same_password && self.user == other.user
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .finish()
    }
}

/// The node's answer to the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    /// There were no credentials.
    NotTried,
    /// The node accepted the login. A user other than the default one may log in although the default user needs no
    /// password: that is not visible here.
    Accepted,
    /// The node's default user has no password: every client has all rights. Among nodes that have one, this node
    /// can't talk to its peers either (MIGRATE, replication).
    NoPasswordNeeded,
}

/// The transport below RESP.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// Plain TCP.
    Plain,
    /// TLS with this configuration.
    Tls(TlsClient),
}

/// How connections are opened: everything except the node.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Deadline for the name, TCP and TLS together (`--connect-timeout`).
    pub connect_timeout: Duration,
    /// Deadline for each command and for the login (`--command-timeout`).
    pub command_timeout: Duration,
    /// The name of the connection (CLIENT SETNAME, Redis ≥ 2.6.9): printable ASCII without spaces. A user without the
    /// right to set it works without a name.
    pub name: Option<String>,
    /// The file that records every change (`--journal`).
    pub journal: Option<Arc<Journal>>,
    /// Whether any change was sent, over all connections.
    pub sent: SentChanges,
}

/// An open stream to a node.
pub(super) enum Dialled {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Dialled {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Connector {
    /// Connects and logs in. Tries all addresses of a name in turn; each gets a share of the time. Fails if another
    /// node than `expected` answers.
    pub async fn connect(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
    ) -> Result<NodeClient, ClientError> {
        self.open(addr, transport, Wire::new(REPLY_LIMIT), login, expected)
            .await
            .map_err(|fault| fault.at(addr))
    }

    /// The same for values of any size that a server accepts, one at a time.
    pub async fn connect_for_one_value(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
        expected: Option<NodeId>,
    ) -> Result<NodeClient, ClientError> {
        self.open(addr, transport, Wire::new(VALUE_LIMIT), login, expected)
            .await
            .map_err(|fault| fault.at(addr))
    }

    pub(super) async fn open(
        &self,
        addr: &Addr,
        transport: &Transport,
        wire: Arc<Wire>,
        login: &Login,
        expected: Option<NodeId>,
    ) -> Result<NodeClient, Fault> {
        let started = Instant::now();
        let dialled = self.stream(addr, transport).await?;
        let remote = dialled.tcp().peer_addr().ok();
        let reopening = Reopening {
            connector: self.clone(),
            login: login.clone(),
            transport: transport.clone(),
        };
        let mut client = match dialled {
            Dialled::Plain(tcp) => self.speak(addr, tcp, Over::Tcp, wire, reopening).await?,
            Dialled::Tls(stream) => self.speak(addr, stream, Over::Tls, wire, reopening).await?,
        };
        debug!(node = %addr, took = ?started.elapsed(), "connected");
        client.remote = remote.map(|remote| remote.ip().to_canonical());
        (client.login, client.named) = self.introduce(&client, login, expected).await?;
        if let Some(id) = expected {
            client.shared.lines.learn_id(id);
        }
        Ok(client)
    }

    /// Opens a stream on which nothing was sent yet.
    pub(super) async fn stream(
        &self,
        addr: &Addr,
        transport: &Transport,
    ) -> Result<Dialled, Fault> {
        let now = Instant::now();
        // The clock can't represent the deadline: a day is as good.
        let deadline = now
            .checked_add(self.connect_timeout)
            .unwrap_or(now + Duration::from_secs(24 * 60 * 60));
        let tcp = self.dial(addr, deadline).await?;
        let Transport::Tls(tls) = transport else {
            return Ok(Dialled::Plain(tcp));
        };
        let names = tls.server_names(addr.host())?;
        let mut tcp = Some(tcp);
        let mut fault = TlsFault::ClosedInHandshake;
        for (nth, name) in names.iter().enumerate() {
            // A handshake that failed has closed its connection.
            let tcp = match tcp.take() {
                Some(tcp) => tcp,
                None => self.dial(addr, deadline).await?,
            };
            let handshake = tls.connector().connect(name.clone(), tcp);
            fault = match timeout_at(deadline, handshake).await {
                Ok(Ok(stream)) => return Ok(Dialled::Tls(Box::new(stream))),
                Ok(Err(error)) => TlsFault::of_io(&error).unwrap_or(TlsFault::ClosedInHandshake),
                Err(_) => TlsFault::NoAnswer(self.connect_timeout),
            };
            match &fault {
                TlsFault::NameMismatch { .. } => {
                    fault = fault.also_asked(names.get(..nth).unwrap_or_default());
                }
                // A server that does not know the requested name may refuse it.
                TlsFault::Alert(_) => {}
                _ => break,
            }
        }
        Err(fault.into())
    }

    async fn dial(&self, addr: &Addr, deadline: Instant) -> Result<TcpStream, Fault> {
        let lookup = timeout_at(deadline, lookup_host((addr.host(), addr.port()))).await;
        let targets: Vec<SocketAddr> = match lookup {
            Ok(Ok(targets)) => targets.collect(),
            Ok(Err(error)) => {
                return Err(Fault::NameNotResolved(clean_message(&error.to_string())));
            }
            Err(_) => return Err(Fault::NameNotResolved("no answer in time".to_owned())),
        };
        let mut fault = Fault::NameNotResolved("no address".to_owned());
        let count = targets.len() as u32;
        for (tried, target) in (0..count).zip(targets) {
            // An address that does not answer must not use up the time of the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let until = Instant::now() + left / (count - tried);
            fault = match timeout_at(until, TcpStream::connect(target)).await {
                Ok(Ok(stream)) => {
                    // Requests are written whole: waiting for more data only costs time.
                    return match stream.set_nodelay(true) {
                        Ok(()) => Ok(stream),
                        Err(error) => Err(Fault::Unreachable(clean_message(&error.to_string()))),
                    };
                }
                Ok(Err(error)) => match error.kind() {
                    io::ErrorKind::ConnectionRefused => Fault::Refused,
                    io::ErrorKind::TimedOut => Fault::ConnectTimeout(self.connect_timeout),
                    _ => Fault::Unreachable(clean_message(&error.to_string())),
                },
                Err(_) => Fault::ConnectTimeout(self.connect_timeout),
            };
        }
        Err(fault)
    }

    async fn speak<S>(
        &self,
        addr: &Addr,
        stream: S,
        over: Over,
        wire: Arc<Wire>,
        reopening: Reopening,
    ) -> Result<NodeClient, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Every version speaks RESP2. The library name is not sent, because operators look for each other in CLIENT
        // LIST. Without login, database and library name the crate sends nothing here.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Deadlines are set by this module: the crate's 500 ms would cut off CLUSTER NODES of a busy node.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let stream = ObservedStream::new(stream, wire.clone());
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| Fault::Unreachable(clean_message(&error.to_string())))?;
        let driver = tokio::spawn(driver).abort_handle();
        let shared = Shared {
            addr: addr.clone(),
            lines: Lines::new(Line::new(connection, wire, driver), reopening),
            over,
            command_timeout: self.command_timeout,
            journal: self.journal.clone(),
        };
        Ok(NodeClient::new(shared, self.sent.clone()))
    }

    /// Sends AUTH, CLIENT SETNAME and CLUSTER MYID in one round trip; nothing if none is needed. Returns the answer to the
    /// login, and whether the connection has its name.
    async fn introduce(
        &self,
        client: &NodeClient,
        login: &Login,
        expected: Option<NodeId>,
    ) -> Result<(LoginOutcome, bool), Fault> {
        let auth = login.command();
        let mut commands = Vec::from_iter(auth);
        if let Some(name) = &self.name {
            commands.push(super::setname(name));
        }
        if expected.is_some() {
            commands.push(Command::named(MYID));
        }
        if commands.is_empty() {
            return Ok((LoginOutcome::NotTried, false));
        }
        let replies = client.exchange(Deadline::Change, commands).await;
        let (mut outcome, mut named) = (LoginOutcome::NotTried, false);
        for reply in replies.map_err(|fault| login.withheld(fault))? {
            match reply.command() {
                AUTH => outcome = login.outcome(reply.ok())?,
                MYID => compare_id(expected, reply.text())?,
                _ => named = is_named(reply.ok())?,
            }
        }
        Ok((outcome, named))
    }
}

/// Fails if another node answered than the expected one. A user without the right to ask (ACL), and a node that answers
/// nothing at present (LOADING, BUSY), are believed: the next command has the same answer.
pub(super) fn compare_id(
    expected: Option<NodeId>,
    reply: Result<String, Fault>,
) -> Result<(), Fault> {
    let told = match reply {
        Ok(text) => text.parse::<NodeId>().ok(),
        Err(fault @ Fault::PasswordNeeded) => return Err(fault),
        Err(fault) => {
            debug!("the node does not tell its id: {fault}");
            None
        }
    };
    match (expected, told) {
        (Some(expected), Some(found)) if expected != found => {
            Err(Fault::OtherNode { expected, found })
        }
        _ => Ok(()),
    }
}

/// Whether the connection has its name, which is for other operators. A user without the right to set it (ACL) works
/// without.
fn is_named(reply: Result<(), Fault>) -> Result<bool, Fault> {
    match reply {
        Err(fault @ Fault::NoPermission { .. }) => {
            debug!("the connection has no name: {fault}");
            Ok(false)
        }
        Err(fault) if fault.is_unknown_command() => {
            debug!("the connection has no name: {fault}");
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

impl Login {
    /// Returns what the answer to AUTH means.
    pub(super) fn outcome(&self, answer: Result<(), Fault>) -> Result<LoginOutcome, Fault> {
        let fault = match answer {
            Ok(()) => return Ok(LoginOutcome::Accepted),
            Err(fault) => fault,
        };
        let Fault::Server { code, message, .. } = &fault else {
            return Err(fault);
        };
        let says = |beginning| code == "ERR" && message.starts_with(beginning);
        let wrong = || Fault::WrongPassword {
            user: clean_message(self.user()),
        };
        if code == "WRONGPASS" || says("invalid password") {
            Err(wrong())
        } else if says("AUTH <password> called without any password") // Redis ≥ 6.0, Valkey
            || says("Client sent AUTH, but no password is set")
        // Redis < 6.0
        {
            Ok(LoginOutcome::NoPasswordNeeded)
        } else if says("wrong number of arguments") {
            Err(Fault::UserUnsupported)
        } else {
            Err(self.withheld(fault))
        }
    }

    /// Returns a login fault without the text of the server: a server that is not Redis but speaks in lines may
    /// repeat what it did not understand.
    fn withheld(&self, fault: Fault) -> Fault {
        let Some(password) = &self.password else {
            return fault;
        };
        let password = &*String::from_utf8_lossy(password.expose_secret());
        match fault {
            Fault::Server { command, code, .. } => Fault::Server {
                command,
                code: if password.contains(&code) || !code.bytes().all(|c| c.is_ascii_uppercase()) {
                    String::new()
                } else {
                    code
                },
                message: "(text withheld: it may repeat the password)".to_owned(),
            },
            Fault::NotRedis { begins } => {
                let word = begins.split_whitespace().next().unwrap_or_default();
                Fault::NotRedis {
                    begins: if word.contains(password) || password.contains(word) {
                        "…".to_owned()
                    } else {
                        format!("{word} …")
                    },
                }
            }
            other => other,
        }
    }
}
