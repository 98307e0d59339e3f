//! Making a connection: name → TCP → TLS → login.
//!
//! One deadline holds for everything up to TLS, the command's own for the login. Without a
//! password and without a name to give, no command is sent: connecting to a thousand nodes costs
//! nothing but the handshakes, and what speaks there shows at the first command.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
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
use super::stream::{REPLY_LIMIT, VALUE_LIMIT, Watched, Wire};
use super::tls::{TlsClient, TlsFault};
use super::{Command, Deadline, NodeClient, Over};
use crate::cluster::node::Addr;
use crate::journal::{Journal, SentChanges};

/// The user that a password without a name belongs to (Redis ≥ 6.0).
const DEFAULT_USER: &str = "default";

/// Who we are to a node. The password never shows, not in `Debug` either.
#[derive(Clone, Default)]
pub struct Login {
    /// The ACL user (Redis ≥ 6.0); without one, the password is the default user's.
    pub user: Option<String>,
    /// The password. With a user but no password, an empty one is sent: users with `nopass` take
    /// it. With neither, nobody logs in.
    pub password: Option<SecretString>,
}

impl Login {
    /// The user's name in messages.
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or(DEFAULT_USER)
    }

    /// AUTH; `None` where there is nothing to say.
    pub(super) fn command(&self) -> Option<Command> {
        let user = self.user.as_deref().filter(|user| *user != DEFAULT_USER);
        let password = self.password.as_ref().map(ExposeSecret::expose_secret);
        let mut auth = redis::cmd("AUTH");
        match (user, password) {
            (None, None) => return None,
            // The form of every version. For the default user it is also the better one: without a
            // password set, Redis 7.0 refuses `AUTH x`, but says OK to `AUTH default x`.
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

/// What a node said to the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginOutcome {
    /// There was nothing to log in with.
    NotTried,
    /// The node took it. A user other than the default one may be let in while the default user
    /// needs no password: that does not show here.
    Accepted,
    /// The node's default user has no password: anybody may do anything there. Among nodes that
    /// have one it will not be able to talk to its peers either (MIGRATE, replication).
    NoPasswordNeeded,
}

/// What is spoken on the wire below RESP.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// Plain TCP.
    Plain,
    /// TLS, with these certificates.
    Tls(TlsClient),
}

/// How connections are made: everything about them but the node.
#[derive(Debug, Clone)]
pub struct Connector {
    /// For the name, TCP and TLS together (`--connect-timeout`).
    pub connect_timeout: Duration,
    /// For each command, and for the login (`--command-timeout`).
    pub command_timeout: Duration,
    /// The name that the connection gives itself (CLIENT SETNAME, Redis ≥ 2.6.9): printable ASCII
    /// without spaces. A user who may not name connections goes without a name.
    pub name: Option<String>,
    /// Where every change is written down (`--journal`).
    pub journal: Option<Arc<Journal>>,
    /// Whether any change was sent, over all connections.
    pub sent: SentChanges,
}

/// A stream to a node.
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
    /// Connects and logs in. All the addresses of a name are tried in turn, each with its share of
    /// the time.
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

    /// The same for values of any size that a server takes, one at a time.
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

    /// A stream on which nobody has said anything yet.
    pub(super) async fn stream(
        &self,
        addr: &Addr,
        transport: &Transport,
    ) -> Result<Dialled, Fault> {
        let now = Instant::now();
        // A time beyond all clocks is as good as a day.
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
            // A silent address must not eat the time of the others.
            let left = deadline.saturating_duration_since(Instant::now());
            let until = Instant::now() + left / (count - tried);
            fault = match timeout_at(until, TcpStream::connect(target)).await {
                Ok(Ok(stream)) => {
                    // Requests are written whole: waiting for more to send only costs time.
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
        // RESP2 is what every version speaks; the library names itself nowhere, since CLIENT LIST
        // is where operators look for each other. Without login, database and library name the
        // crate sends nothing here.
        let info = RedisConnectionInfo::default().set_skip_set_lib_name();
        // Deadlines are ours: the crate's 500 ms would cut off CLUSTER NODES of a busy node.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let stream = Watched::new(stream, wire.clone());
        let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
            .await
            .map_err(|error| Fault::Unreachable(clean_message(&error.to_string())))?;
        let driver = tokio::spawn(driver).abort_handle();
        Ok(NodeClient::new(
            addr.clone(),
            connection,
            driver,
            over,
            wire,
            self.command_timeout,
            self.journal.clone(),
            self.sent.clone(),
        ))
    }

    /// AUTH and CLIENT SETNAME in one round trip; none where neither is wanted.
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
                named(reply.ok())?;
                LoginOutcome::NotTried
            }
            None => LoginOutcome::NotTried,
        };
        if let Some(reply) = replies.next() {
            named(reply.ok())?;
        }
        Ok(outcome)
    }
}

/// A name is for the other operators; who may not give one (ACL) works without.
fn named(reply: Result<(), Fault>) -> Result<(), Fault> {
    match reply {
        Err(fault @ Fault::NoPermission { .. }) => {
            debug!("the connection stays without a name: {fault}");
            Ok(())
        }
        Err(fault) if fault.is_unknown_command() => {
            debug!("the connection stays without a name: {fault}");
            Ok(())
        }
        other => other,
    }
}

impl Login {
    /// What the answer to AUTH means.
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

    /// A fault of the login without the words of whoever answered: something that is no Redis, but
    /// speaks in lines, likes to repeat what it did not understand.
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
                message: "(the text is withheld: it might repeat the password)".to_owned(),
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
