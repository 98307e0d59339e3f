//! Opens a connection: name → TCP → TLS → login.
//!
//! One deadline covers everything up to TLS; the login has the deadline of a command. Without a password and without
//! a connection name, no command is sent: connecting to a thousand nodes costs only the handshakes, and a port that
//! speaks another protocol is detected at the first command.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo};
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tracing::debug;

use super::error::{ClientError, Fault};
use super::reply::clean_message;
use super::stream::{ObservedStream, REPLY_LIMIT, VALUE_LIMIT, Wire};
use super::tls::{TlsClient, TlsFault};
use super::{Command, Deadline, NodeClient, Over, Shared};
use crate::cluster::node::Addr;
use crate::journal::{Journal, SentChanges};

/// The user of a password without a user name (Redis ≥ 6.0).
const DEFAULT_USER: &str = "default";

/// The credentials for a node. The password is never printed, not even by `Debug`.
#[derive(Clone, Default)]
pub struct Login {
    /// The ACL user (Redis ≥ 6.0); without one, the password is the default user's.
    pub user: Option<String>,
    /// The password. With a user but no password, an empty password is sent: users with `nopass` accept it. With
    /// neither, there is no login.
    pub password: Option<SecretString>,
}

impl Login {
    /// The user's name in messages.
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }

    /// AUTH; `None` without credentials.
    pub(super) fn command(&self) -> Option<Command> {
        let user = self.user.as_deref().filter(|user| *user != DEFAULT_USER);
        let password = self.password.as_ref().map(ExposeSecret::expose_secret);
        let mut auth = redis::cmd("AUTH");
        match (user, password) {
            (None, None) => return None,
            // Every version knows this form. It is also better for the default user: without a password set, Redis
            // 7.0 refuses `AUTH x`, but answers OK to `AUTH default x`.
            (None, Some(password)) => auth.arg(password),
            (Some(user), password) => auth.arg(user).arg(password.unwrap_or_default()),
        };
        Some(Command::new("AUTH", auth))
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
    /// Connects and logs in. Tries all addresses of a name in turn; each gets a share of the time.
    pub async fn connect(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
    ) -> Result<NodeClient, ClientError> {
        self.open(addr, transport, Wire::new(REPLY_LIMIT), login)
            .await
            .map_err(|fault| fault.at(addr))
    }

    /// The same for values of any size that a server accepts, one at a time.
    pub async fn connect_for_one_value(
        &self,
        addr: &Addr,
        login: &Login,
        transport: &Transport,
    ) -> Result<NodeClient, ClientError> {
        self.open(addr, transport, Wire::new(VALUE_LIMIT), login)
            .await
            .map_err(|fault| fault.at(addr))
    }

    pub(super) async fn open(
        &self,
        addr: &Addr,
        transport: &Transport,
        wire: Arc<Wire>,
        login: &Login,
    ) -> Result<NodeClient, Fault> {
        let started = Instant::now();
        let dialled = self.stream(addr, transport).await?;
        let remote = dialled.tcp().peer_addr().ok();
        let mut client = match dialled {
            Dialled::Plain(tcp) => self.speak(addr, tcp, Over::Tcp, wire).await?,
            Dialled::Tls(stream) => self.speak(addr, stream, Over::Tls, wire).await?,
        };
        debug!(node = %addr, took = ?started.elapsed(), "connected");
        client.remote = remote.map(|remote| remote.ip().to_canonical());
        client.login = self.introduce(&client, login).await?;
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
        let handshake = tls.connector().connect(tls.server_name(addr.host())?, tcp);
        match timeout_at(deadline, handshake).await {
            Ok(Ok(stream)) => Ok(Dialled::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                let fault = TlsFault::of_io(&error);
                Err(fault.unwrap_or(TlsFault::ClosedInHandshake).into())
            }
            Err(_) => Err(TlsFault::NoAnswer(self.connect_timeout).into()),
        }
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
            driver,
            over,
            wire,
            spoken: AtomicBool::new(false),
            command_timeout: self.command_timeout,
            journal: self.journal.clone(),
        };
        Ok(NodeClient::new(connection, shared, self.sent.clone()))
    }

    /// Sends AUTH and CLIENT SETNAME in one round trip; nothing if neither is needed.
    async fn introduce(&self, client: &NodeClient, login: &Login) -> Result<LoginOutcome, Fault> {
        let auth = login.command();
        let tried = auth.is_some();
        let mut commands = Vec::from_iter(auth);
        if let Some(name) = &self.name {
            commands.push(super::setname(name));
        }
        if commands.is_empty() {
            return Ok(LoginOutcome::NotTried);
        }
        let replies = client.pipeline(Deadline::Change, commands).await;
        let mut replies = replies.map_err(|fault| login.withheld(fault))?.into_iter();
        let outcome = match replies.next() {
            Some(reply) if tried => login.outcome(reply.ok())?,
            Some(reply) => {
                accept_unnamed(reply.ok())?;
                LoginOutcome::NotTried
            }
            None => LoginOutcome::NotTried,
        };
        if let Some(reply) = replies.next() {
            accept_unnamed(reply.ok())?;
        }
        Ok(outcome)
    }
}

/// The name is for other operators. A user without the right to set it (ACL) works without.
fn accept_unnamed(reply: Result<(), Fault>) -> Result<(), Fault> {
    match reply {
        Err(fault @ Fault::NoPermission { .. }) => {
            debug!("the connection has no name: {fault}");
            Ok(())
        }
        Err(fault) if fault.is_unknown_command() => {
            debug!("the connection has no name: {fault}");
            Ok(())
        }
        other => other,
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
        let password = password.expose_secret();
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
