//! The client against real servers and against ports that are not Redis.

use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair, SigningKey, date_time_ymd};
use secrecy::SecretSlice;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::cluster::node::Takeover;
use crate::cluster::slot::{SLOTS, SlotRange};
use crate::cluster::text::is_unsafe;

const PASSWORD: &str = "tr0ub4dor&3";

fn connector() -> Connector {
    Connector {
        connect_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_secs(5),
        name: None,
        journal: None,
        sent: Default::default(),
    }
}

fn impatient_connector() -> Connector {
    Connector {
        connect_timeout: Duration::from_millis(300),
        command_timeout: Duration::from_millis(300),
        name: None,
        journal: None,
        sent: Default::default(),
    }
}

fn password(password: &str) -> Login {
    Login {
        user: None,
        password: Some(SecretSlice::from(password.as_bytes().to_vec())),
    }
}

fn user(user: &str, word: &str) -> Login {
    Login {
        user: Some(user.to_owned()),
        ..password(word)
    }
}

/// Connects over plain TCP.
async fn plain(connector: Connector, addr: &Addr, login: Login) -> Result<NodeClient, ClientError> {
    connector
        .connect(addr, &login, &Transport::Plain, None)
        .await
}

/// Connects without login, then PING.
async fn ping_error(connector: &Connector, addr: &Addr, transport: &Transport) -> ClientError {
    match connector
        .connect(addr, &Login::default(), transport, None)
        .await
    {
        Ok(client) => client.ping().await.unwrap_err(),
        Err(error) => error,
    }
}

/// A listener that runs `serve` on each connection.
async fn listen<F, R>(serve: F) -> Addr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    Addr::new("127.0.0.1", port)
}

/// A listener that waits for some bytes, sends its own, and closes the connection after `linger`.
async fn answering(answer: Vec<u8>, linger: Duration) -> Addr {
    let answer = Arc::new(answer);
    listen(move |mut stream| {
        let answer = answer.clone();
        async move {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(&answer).await;
            tokio::time::sleep(linger).await;
        }
    })
    .await
}

const LONG: Duration = Duration::from_secs(60);

/// A redis-server process, killed when dropped.
struct Server {
    child: Child,
    addr: Addr,
    _dir: TempDir,
}

impl Server {
    async fn start(arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The bus port, port + 10000, must be a port as well.
        let port = std::iter::repeat_with(free_port)
            .find(|port| *port < 55_000)
            .unwrap();
        let flag = if arguments.contains(&"--tls-cert-file") {
            "--tls-port"
        } else {
            "--port"
        };
        let child = Process::new("redis-server")
            .args([flag, &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
            .args(arguments)
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..500 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let addr = Addr::new("127.0.0.1", port);
        Self {
            child,
            addr,
            _dir: dir,
        }
    }

    async fn client(&self) -> NodeClient {
        plain(connector(), &self.addr, Login::default())
            .await
            .unwrap()
    }

    async fn login(&self, login: &Login) -> Result<LoginOutcome, Fault> {
        match connector()
            .connect(&self.addr, login, &Transport::Plain, None)
            .await
        {
            Ok(client) => {
                client.ping().await.unwrap();
                Ok(client.login_outcome())
            }
            Err(error) => Err(error.fault),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

// ---- a real server ----

#[tokio::test]
async fn another_node_than_expected_is_an_error() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let id = server.client().await.cluster_myid().await.unwrap();
    let connect = async |expected| {
        let (connector, login) = (connector(), Login::default());
        let opened = connector.connect(&server.addr, &login, &Transport::Plain, Some(expected));
        opened.await.map(drop).map_err(|error| error.fault)
    };
    assert_eq!(connect(id).await, Ok(()));
    let expected = NodeId::NOBODY;
    assert_eq!(
        connect(expected).await,
        Err(Fault::OtherNode {
            expected,
            found: id
        })
    );
}

#[tokio::test]
async fn a_cluster_node_is_looked_at_and_changed() {
    let server = Server::start(&["--cluster-enabled", "yes", "--save", "60 1"]).await;
    let client = server.client().await;
    client.ping().await.unwrap();
    let id = client.cluster_myid().await.unwrap();

    let look = client.look().await.unwrap();
    assert!(look.nodes.contains(&id.to_string()));
    assert!(look.nodes.contains("myself,master"));
    assert!(look.cluster_info.contains("cluster_state:fail"));
    assert!(look.info.contains("redis_version:"));
    assert_eq!(look.save.as_deref(), Some("60 1"));
    // Requests of several tasks share one connection.
    let other = client.clone();
    let task = tokio::spawn(async move { other.cluster_nodes().await });
    assert_eq!(look.nodes, client.cluster_nodes().await.unwrap());
    assert_eq!(look.nodes, task.await.unwrap().unwrap());

    let error = client.set(b"k", b"v", LONG).await.unwrap_err();
    assert_eq!(error.server_code(), Some("CLUSTERDOWN"));
    assert!(!error.outcome_unknown() && !error.is_unknown_command());

    client.cluster_set_config_epoch(7).await.unwrap();
    client.cluster_addslots(&SlotSet::full()).await.unwrap();
    let some: SlotSet = SlotRange::new(Slot::new(1).unwrap(), Slot::new(3).unwrap())
        .into_iter()
        .collect();
    let busy = client.cluster_addslots(&some).await.unwrap_err();
    assert_eq!(
        busy.fault,
        Fault::Server {
            command: "CLUSTER ADDSLOTS",
            code: "ERR".to_owned(),
            message: "Slot 1 is already busy".to_owned()
        }
    );
    client.cluster_delslots(&some).await.unwrap();
    assert!(
        client
            .cluster_nodes()
            .await
            .unwrap()
            .contains("7 connected 0 4-16383")
    );
    client.cluster_addslots(&some).await.unwrap();
    client.cluster_addslots(&SlotSet::new()).await.unwrap();

    // A lone master reports `ok` after its next cron.
    while !client
        .cluster_info()
        .await
        .unwrap()
        .contains("cluster_state:ok")
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.set(b"{k}\0\xff", b"v\r\n", LONG).await.unwrap();
    assert_eq!(client.get(b"{k}\0\xff").await.unwrap().unwrap(), b"v\r\n");
    assert_eq!(client.get(b"none").await.unwrap(), None);
    assert_eq!(client.dbsize().await.unwrap(), 1);
    let slots: Vec<Slot> = Slot::all().collect();
    let counts = client.cluster_countkeysinslot(0, &slots).await.unwrap();
    assert_eq!(counts.len(), usize::from(SLOTS));
    assert_eq!(counts.iter().sum::<u64>(), 1);
    assert_eq!(counts[usize::from(Slot::of_key(b"k").number())], 1);
    assert_eq!(client.del(b"{k}\0\xff").await.unwrap(), 1);
    assert_eq!(client.del(b"{k}\0\xff").await.unwrap(), 0);

    client.readonly().await.unwrap();
    client.client_setname("redis-trib/test").await.unwrap();
    assert!(
        client
            .client_list()
            .await
            .unwrap()
            .contains("name=redis-trib/test")
    );
    let values = client
        .config_get(&["save", "no-such", "port"])
        .await
        .unwrap();
    assert_eq!(values.keys().collect::<Vec<_>>(), ["port", "save"]);
    assert_eq!(values["port"], server.addr.port().to_string());

    let lone = client.cluster_forget(id).await.unwrap_err();
    assert!(
        lone.to_string().contains("CLUSTER FORGET was refused: ERR"),
        "{lone}"
    );
    assert_eq!(
        client
            .cluster_replicate(id)
            .await
            .unwrap_err()
            .server_code(),
        Some("ERR")
    );
    let loopback = "127.0.0.1".parse().unwrap();
    client.cluster_meet(loopback, 1, None).await.unwrap();
    client.cluster_meet(loopback, 1, Some(2)).await.unwrap();
    let unknown = client
        .change(Command::named("CLUSTER NONSENSE"))
        .await
        .unwrap_err();
    assert!(unknown.is_unknown_command());
}

#[tokio::test]
async fn info_works_without_cluster_support() {
    let server = Server::start(&[]).await;
    let client = server.client().await;
    assert_eq!(
        client.look().await.unwrap_err().fault,
        Fault::ClusterDisabled
    );
    assert!(client.info().await.unwrap().contains("cluster_enabled:0"));
}

#[tokio::test]
async fn login_errors_are_distinguished() {
    let open = Server::start(&[]).await;
    let none = Login::default();
    assert_eq!(open.login(&none).await, Ok(LoginOutcome::NotTried));
    let unneeded = Ok(LoginOutcome::NoPasswordNeeded);
    assert_eq!(open.login(&password(PASSWORD)).await, unneeded);
    assert_eq!(open.login(&user("default", PASSWORD)).await, unneeded);

    let rules = format!("{PASSWORD} ~* +@all -config -client|setname");
    let mut arguments = vec!["--requirepass", PASSWORD, "--user", "limited", "on"];
    let rules = format!(">{rules}");
    arguments.extend(rules.split(' '));
    arguments.extend(["--cluster-enabled", "yes"]);
    let closed = Server::start(&arguments).await;
    let accepted = Ok(LoginOutcome::Accepted);
    assert_eq!(closed.login(&password(PASSWORD)).await, accepted);
    assert_eq!(closed.login(&user("default", PASSWORD)).await, accepted);
    assert_eq!(closed.login(&user("limited", PASSWORD)).await, accepted);
    for (login, user) in [
        (password("guess"), "default"),
        (user("limited", "guess"), "limited"),
        (user("nobody", PASSWORD), "nobody"),
    ] {
        let wrong = Fault::WrongPassword {
            user: user.to_owned(),
        };
        assert_eq!(closed.login(&login).await, Err(wrong));
    }

    // Without credentials the error shows at the first command; with a connection name, when connecting.
    let error = ping_error(&connector(), &closed.addr, &Transport::Plain).await;
    assert_eq!(error.fault, Fault::PasswordNeeded);
    let named = Connector {
        name: Some("redis-trib".to_owned()),
        ..connector()
    };
    let refused = named
        .connect(&closed.addr, &none, &Transport::Plain, None)
        .await;
    assert_eq!(refused.unwrap_err().fault, Fault::PasswordNeeded);

    // A user without the right to CLIENT SETNAME or CONFIG GET can still look.
    let login = user("limited", PASSWORD);
    let client = named.connect(&closed.addr, &login, &Transport::Plain, None);
    let client = client.await.unwrap();
    let denied = client.client_setname("x").await.unwrap_err();
    let command = "CLIENT SETNAME";
    assert_eq!(
        denied.fault,
        Fault::NoPermission {
            command,
            denied: Denied::Command
        }
    );
    assert_eq!(client.look().await.unwrap().save, None);
    assert!(client.config_get(&["save"]).await.unwrap().is_empty());

    let client = plain(named, &closed.addr, password(PASSWORD));
    let client = client.await.unwrap();
    assert!(
        client
            .client_list()
            .await
            .unwrap()
            .contains("name=redis-trib ")
    );
}

#[tokio::test]
async fn login_errors_of_older_servers_are_distinguished() {
    let wrong = Fault::WrongPassword {
        user: "default".to_owned(),
    };
    // The messages of Redis 3.2 to 5.0 (from their sources).
    for (login, answer, expected) in [
        (
            password(PASSWORD),
            "-ERR Client sent AUTH, but no password is set",
            Ok(LoginOutcome::NoPasswordNeeded),
        ),
        (password(PASSWORD), "-ERR invalid password", Err(wrong)),
        (
            user("admin", PASSWORD),
            "-ERR wrong number of arguments for 'auth' command",
            Err(Fault::UserUnsupported),
        ),
    ] {
        let answer = format!("{answer}\r\n-ERR unknown command 'CLIENT'\r\n");
        let addr = answering(answer.into_bytes(), LONG).await;
        let named = Connector {
            name: Some("redis-trib".to_owned()),
            ..connector()
        };
        let outcome = plain(named, &addr, login).await;
        let outcome = outcome.map(|client| client.login_outcome());
        assert_eq!(outcome.map_err(|error| error.fault), expected);
    }
}

#[tokio::test]
async fn a_full_server_and_a_closed_port_have_their_own_errors() {
    let mut server = Server::start(&["--maxclients", "1"]).await;
    // The connection that waited for the start may remain for a moment.
    let client = loop {
        let client = server.client().await;
        if client.ping().await.is_ok() {
            break client;
        }
    };
    let error = ping_error(&connector(), &server.addr, &Transport::Plain).await;
    assert!(
        matches!(error.fault, Fault::TooManyClients | Fault::MaybeTls),
        "{error}"
    );
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let error = client.dbsize().await.unwrap_err();
    assert_eq!(error.fault, Fault::Closed { command: "DBSIZE" });
    assert!(error.outcome_unknown());
    let error = ping_error(&connector(), &server.addr, &Transport::Plain).await;
    assert_eq!(error.fault, Fault::Refused);
}

// ---- ports that are not Redis ----

#[tokio::test]
async fn endless_replies_end() {
    for (header, unit) in [
        (&b"$99999999999\r\n"[..], &b"x"[..]),
        (b"*99999999999\r\n", b":1\r\n"),
        (b"+", b"x"),
        (b"", b">1\r\n+x\r\n"),
    ] {
        let chunk = unit.repeat(64 * 1024 / unit.len());
        let addr = listen(move |mut stream| {
            let chunk = chunk.clone();
            async move {
                let _ = stream.write_all(header).await;
                while stream.write_all(&chunk).await.is_ok() {}
            }
        })
        .await;
        let wire = Wire::new(1024 * 1024);
        let connector = Connector {
            command_timeout: LONG,
            ..connector()
        };
        let login = Login::default();
        let opened = connector.open(&addr, &Transport::Plain, wire, &login, None);
        let fault = opened.await.unwrap().look().await.unwrap_err().fault;
        let limit = 1024 * 1024;
        let command = "CLUSTER NODES";
        assert_eq!(fault, Fault::TooLarge { command, limit }, "{header:?}");
    }
}

#[tokio::test]
async fn other_protocols_are_named() {
    let not_redis = |begins: &str| Fault::NotRedis {
        begins: begins.to_owned(),
    };
    for (answer, expected) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>"[..],
            not_redis("HTTP/1.1 400 Bad Request"),
        ),
        (
            b"SSH-2.0-OpenSSH_9.2\x1b[31m\r\n",
            not_redis("SSH-2.0-OpenSSH_9.2[31m"),
        ),
        (b"\x15\x03\x03\x00\x02\x02\x46", Fault::MaybeTls),
        (b"", Fault::MaybeTls),
        (b"$-9\r\n\r\n$x\r\n", Fault::Malformed { command: "PING" }),
        (b":1\r\n", Fault::Malformed { command: "PING" }),
        (b"+\xff\xfe\r\n", Fault::Malformed { command: "PING" }),
        (b"$10\r\nabc", Fault::Closed { command: "PING" }),
        (
            b"-DENIED Redis is running in protected mode\r\n",
            Fault::ProtectedMode,
        ),
        (
            b"-ERR max number of clients reached\r\n",
            Fault::TooManyClients,
        ),
        (
            b"-LOADING Redis is loading the dataset in memory\r\n",
            Fault::Loading,
        ),
    ] {
        let addr = answering(answer.to_vec(), Duration::ZERO).await;
        let error = ping_error(&connector(), &addr, &Transport::Plain).await;
        assert_eq!(
            error.fault,
            expected,
            "{:?}",
            String::from_utf8_lossy(answer)
        );
    }
}

#[tokio::test]
async fn a_refusal_in_a_broken_pipeline_is_reported() {
    let answer = b"-DENIED Redis is running in protected mode\r\n".to_vec();
    let addr = answering(answer, Duration::ZERO).await;
    let opened = plain(connector(), &addr, Login::default());
    let error = opened.await.unwrap().look().await.unwrap_err();
    assert_eq!(error.fault, Fault::ProtectedMode);
}

#[tokio::test]
async fn deep_and_wide_replies_are_errors() {
    for answer in [
        b"*1\r\n".repeat(100_000),
        b"*2147483647\r\n".repeat(50),
        b"%9223372036854775807\r\n".to_vec(),
        b"|9223372036854775807\r\n".to_vec(),
        b"=-5\r\n".to_vec(),
        b"!-5\r\n".to_vec(),
        b"*-9223372036854775808\r\n".to_vec(),
    ] {
        let addr = answering(answer, Duration::ZERO).await;
        let error = ping_error(&connector(), &addr, &Transport::Plain).await;
        // A server does not send RESP3 types to a client that speaks RESP2.
        let told = matches!(error.fault, Fault::NotRedis { .. }) || error.outcome_unknown();
        assert!(told, "{error}");
    }
}

/// Fragments of the protocol in any order: an error each, in time.
#[tokio::test]
async fn fragments_of_the_protocol_are_errors() {
    const BITS: [&[u8]; 16] = [
        b"*2\r\n",
        b"$3\r\nabc\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b":9\r\n",
        b"+x\r\n",
        b"-ERR \x1b[2J\r\n",
        b"%1\r\n",
        b"$99",
        b"\r\n",
        b"*1000000\r\n",
        b">2\r\n",
        b"_\r\n",
        b"\0\xff",
        b"$5\r\nab",
        b",1e999\r\n",
    ];
    let mut word: u64 = 0x5eed;
    for _ in 0..200 {
        let mut answer = Vec::new();
        for _ in 0..6 {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            answer.extend_from_slice(BITS[(word >> 33) as usize % BITS.len()]);
        }
        let shown = answer.escape_ascii().to_string();
        let addr = answering(answer, Duration::ZERO).await;
        let error = ping_error(&impatient_connector(), &addr, &Transport::Plain).await;
        assert!(!error.to_string().contains(is_unsafe), "{shown}: {error}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_answer_runs_into_the_deadline() {
    let addr = listen(|stream| async move {
        let _open = stream;
        tokio::time::sleep(LONG).await;
    })
    .await;
    let error = ping_error(&impatient_connector(), &addr, &Transport::Plain).await;
    let after = Duration::from_millis(300);
    let command = "PING";
    assert_eq!(error.fault, Fault::Timeout { command, after });
    assert!(error.outcome_unknown());
    let error = impatient_connector()
        .connect(&addr, &password(PASSWORD), &Transport::Plain, None)
        .await;
    let command = "AUTH";
    assert_eq!(error.unwrap_err().fault, Fault::Timeout { command, after });
}

/// Answers DUMP with a value of `count` parts, of which only some arrive.
async fn dump_in_parts(arriving: u64) -> Result<Vec<u8>, ClientError> {
    let count = 5;
    let addr = listen(move |mut stream| async move {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        let _ = stream.write_all(b":-1\r\n$50\r\n").await;
        for _ in 0..arriving {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let _ = stream.write_all(&[b'x'; 10]).await;
        }
        if arriving == count {
            let _ = stream.write_all(b"\r\n").await;
        }
        tokio::time::sleep(LONG).await;
    })
    .await;
    let connector = Connector {
        command_timeout: Duration::from_secs(1),
        ..connector()
    };
    let client = plain(connector, &addr, Login::default()).await.unwrap();
    let dumped = client.dump_many(&[b"key"], ExpiryQuestion::Left, Asking::No);
    let value = dumped.await?.pop().unwrap().unwrap().unwrap();
    Ok(value.payload)
}

#[tokio::test]
async fn a_value_is_waited_for_while_it_arrives() {
    assert_eq!(dump_in_parts(5).await.unwrap(), [b'x'; 50]);
    let error = dump_in_parts(2).await.unwrap_err();
    let (command, after) = ("PTTL", Duration::from_secs(1));
    assert_eq!(error.fault, Fault::Timeout { command, after });
}

#[tokio::test]
async fn a_key_that_is_created_between_its_commands_keeps_its_time_to_live() {
    let addr = listen(|mut stream| async move {
        let mut buffer = [0; 4096];
        let answers = [
            b":-1\r\n$1\r\na\r\n:-2\r\n$1\r\nb\r\n:-2\r\n$-1\r\n".as_slice(),
            b":5000\r\n$1\r\nb\r\n",
        ];
        for answer in answers {
            let _ = stream.read(&mut buffer).await;
            let _ = stream.write_all(answer).await;
        }
        tokio::time::sleep(LONG).await;
    })
    .await;
    let client = plain(connector(), &addr, Login::default()).await.unwrap();
    let keys: [&[u8]; 3] = [b"one", b"two", b"three"];
    let dumped = client.dump_many(&keys, ExpiryQuestion::Left, Asking::No);
    let value = |payload: &[u8], expires| {
        let payload = payload.to_vec();
        Ok(Some(Dumped { payload, expires }))
    };
    let expected = [
        value(b"a", Expiry::Never),
        value(b"b", Expiry::In(5000)),
        Ok(None),
    ];
    assert_eq!(dumped.await.unwrap(), expected);
}

#[tokio::test]
async fn a_late_reply_does_not_become_the_next_commands() {
    let addr = listen(|mut stream| async move {
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).await;
        tokio::time::sleep(Duration::from_millis(450)).await;
        let _ = stream.write_all(b":1\r\n:2\r\n").await;
        tokio::time::sleep(LONG).await;
    })
    .await;
    let client = plain(impatient_connector(), &addr, Login::default());
    let client = client.await.unwrap();
    assert!(client.dbsize().await.unwrap_err().outcome_unknown());
    assert_eq!(client.dbsize().await.unwrap(), 2);
}

#[tokio::test]
async fn names_that_do_not_resolve_are_errors() {
    let addr = Addr::new("no-such-host.invalid", 6379);
    let error = ping_error(&connector(), &addr, &Transport::Plain).await;
    assert!(matches!(error.fault, Fault::NameNotResolved(_)), "{error}");
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    // localhost is ::1 and 127.0.0.1, or only the latter.
    let addr = answering(b"+PONG\r\n".to_vec(), LONG).await;
    let addr = Addr::new("localhost", addr.port());
    let client = plain(connector(), &addr, Login::default());
    client.await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn the_driver_ends_with_the_last_client() {
    let addr = listen(|mut stream| async move {
        let mut buffer = [0; 4096];
        while let Ok(1..) = stream.read(&mut buffer).await {}
    })
    .await;
    let client = plain(impatient_connector(), &addr, Login::default());
    let client = client.await.unwrap();
    let _ = client.ping().await;
    let driver = client.shared.lines.driver();
    let other = client.clone();
    drop(client);
    assert!(!driver.is_finished());
    drop(other);
    while !driver.is_finished() {
        tokio::task::yield_now().await;
    }
}

// ---- connections that the server closes ----

/// A listener whose connections each run `serve` with their number, from 0.
async fn listen_numbered<F, R>(serve: F) -> Addr
where
    F: Fn(TcpStream, usize) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    listen(move |stream| serve(stream, count.fetch_add(1, Ordering::SeqCst))).await
}

/// Answers each packet with the next answer, then closes the connection after `linger`.
async fn answer_each(mut stream: TcpStream, answers: &[&str], linger: Duration) {
    let mut buffer = [0; 4096];
    for answer in answers {
        if !matches!(stream.read(&mut buffer).await, Ok(1..)) {
            return;
        }
        let _ = stream.write_all(answer.as_bytes()).await;
    }
    tokio::time::sleep(linger).await;
}

const MYID: &str = "1111111111111111111111111111111111111111";

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn a_closed_connection_to_a_real_server_is_opened_again() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let client = server.client().await;
    client.look().await.unwrap();
    let killer = server.client().await;
    let kill: [&[u8]; 6] = [b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"];
    for _ in 0..3 {
        killer.call(&kill).await.unwrap();
        client.config_set(NODE_TIMEOUT, "7000").await.unwrap();
    }
    let timeout = client.node_timeout().await.unwrap();
    assert_eq!(timeout, Some(Duration::from_secs(7)));
    assert!(!client.is_closed());
}

#[tokio::test]
async fn a_connection_that_is_opened_again_is_on_its_database() {
    let server = Server::start(&[]).await;
    let client = server.client().await;
    client.select(3).await.unwrap();
    client.set(b"key", b"value", LONG).await.unwrap();
    let killer = server.client().await;
    let kill: [&[u8]; 6] = [b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"];
    killer.call(&kill).await.unwrap();
    assert_eq!(
        client.get(b"key").await.unwrap().as_deref(),
        Some(&b"value"[..])
    );
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_opened_again() {
    let server = Server::start(&["--timeout", "1", "--cluster-enabled", "yes"]).await;
    let client = server.client().await;
    client.look().await.unwrap();
    while !client.is_closed() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Not even a change that must not be sent twice is lost.
    client.cluster_set_config_epoch(7).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_got_lost_is_asked_for_again_where_that_is_safe() {
    let addr = listen_numbered(|stream, number| async move {
        match number {
            // Closed instead of the second answer.
            0 => answer_each(stream, &["+PONG\r\n", ""], Duration::ZERO).await,
            _ => answer_each(stream, &["+OK\r\n"], LONG).await,
        }
    })
    .await;
    let slots = [(Slot::new(5).unwrap(), SetSlot::Stable)];
    let client = plain(connector(), &addr, Login::default()).await.unwrap();
    client.ping().await.unwrap();
    let outcomes = client.cluster_setslots(&slots).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    // The next client gets connections that answer once. An unknown outcome stays unknown here.
    let addr = listen_numbered(|stream, _| async move {
        answer_each(stream, &["+PONG\r\n", ""], Duration::ZERO).await;
    })
    .await;
    let client = plain(connector(), &addr, Login::default()).await.unwrap();
    client.ping().await.unwrap();
    let error = client.cluster_failover(Takeover::Force).await.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
}

#[tokio::test]
async fn another_node_or_another_process_does_not_take_over_a_connection() {
    for (id, run) in [(MYID, "b"), (MYID.replace('1', "2").as_str(), "a")] {
        let (id, run) = (bulk(id), bulk(&format!("run_id:{run}\r\n")));
        let addr = listen_numbered(move |stream, number| {
            let (id, run) = (id.clone(), run.clone());
            async move {
                match number {
                    0 => {
                        let first = [bulk(MYID), bulk("run_id:a\r\n")];
                        let answers = [first[0].as_str(), first[1].as_str(), ""];
                        answer_each(stream, &answers, Duration::ZERO).await;
                    }
                    _ => answer_each(stream, &[id.as_str(), run.as_str(), "+OK\r\n"], LONG).await,
                }
            }
        })
        .await;
        let client = plain(connector(), &addr, Login::default()).await.unwrap();
        client.cluster_myid().await.unwrap();
        client.info().await.unwrap();
        let error = client.config_set(NODE_TIMEOUT, "7000").await.unwrap_err();
        assert!(matches!(error.fault, Fault::Closed { .. }), "{error}");
    }
}

// ---- secrets and control characters ----

#[tokio::test]
async fn server_errors_carry_no_control_characters() {
    let answer = b"-ERR \x1b[2Jgone\x07 \xc2\x9b31m\xe2\x80\xaeright\r\n".to_vec();
    let addr = answering(answer, LONG).await;
    let error = ping_error(&connector(), &addr, &Transport::Plain).await;
    let text = error.to_string();
    assert_eq!(
        text,
        format!("{addr}: PING was refused: ERR [2Jgone 31mright")
    );
}

#[tokio::test]
async fn the_password_is_never_printed() {
    let login = user("admin", PASSWORD);
    let shown = |text: String| {
        assert!(!text.contains(PASSWORD), "{text}");
    };
    shown(format!("{login:?} {:?}", connector()));
    for answer in [
        format!("500 unrecognized: AUTH {PASSWORD}\r\n"),
        format!("{PASSWORD}\r\n"),
        format!("-ERR what is {PASSWORD}?\r\n"),
        format!("-{PASSWORD} no\r\n"),
        format!("*2\r\n$4\r\nAUTH\r\n${}\r\n{PASSWORD}\r\n", PASSWORD.len()),
    ] {
        for linger in [Duration::ZERO, LONG] {
            let addr = answering(answer.clone().into_bytes(), linger).await;
            let refused = impatient_connector()
                .connect(&addr, &login, &Transport::Plain, None)
                .await;
            let error = refused.unwrap_err();
            shown(format!(
                "{error} {error:?} {:#}",
                anyhow::Error::from(error.clone())
            ));
        }
    }
    let addr = answering(b"+OK\r\n".to_vec(), LONG).await;
    let client = connector()
        .connect(&addr, &login, &Transport::Plain, None)
        .await;
    shown(format!("{client:?}"));
}

// ---- TLS ----

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "test CA");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.crt"), &pem).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            pem,
            dir,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for those names, in files as well.
    fn issue(&self, name: &str, names: &[&str], edit: impl FnOnce(&mut CertificateParams)) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{name}.crt")), cert.pem()).unwrap();
        fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).unwrap();
        (cert.der().clone(), key)
    }

    fn options(&self, verify: Verify) -> TlsOptions {
        TlsOptions {
            ca_file: Some(self.file("ca.crt")),
            verify,
            ..TlsOptions::default()
        }
    }

    fn client(&self, verify: Verify) -> Transport {
        Transport::Tls(TlsClient::new(&self.options(verify)).unwrap())
    }
}

type Pair = (CertificateDer<'static>, KeyPair);

/// A TLS server that answers PONG to everything.
async fn tls_server((cert, key): Pair) -> Addr {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let key = ring::default_provider()
        .key_provider
        .load_private_key(key)
        .unwrap();
    let identity = tokio_rustls::rustls::sign::CertifiedKey::new(vec![cert], key);
    let resolver = tokio_rustls::rustls::sign::SingleCertAndKey::from(identity);
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    listen(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(b"+PONG\r\n").await;
                let _ = stream.flush().await;
                tokio::time::sleep(LONG).await;
            }
        }
    })
    .await
}

/// The fault of a PING over TLS, if any.
async fn over(transport: &Transport, addr: &Addr) -> Result<(), Fault> {
    let connected = connector()
        .connect(addr, &Login::default(), transport, None)
        .await;
    let client = connected.map_err(|error| error.fault)?;
    client.ping().await.map_err(|error| error.fault)
}

fn tls_fault(result: Result<(), Fault>) -> TlsFault {
    match result {
        Err(Fault::Tls(fault)) => fault,
        other => panic!("not a TLS fault: {other:?}"),
    }
}

#[tokio::test]
async fn certificates_are_verified_by_mode() {
    let ca = Authority::new();
    let (full, chain, none) = (
        ca.client(Verify::Full),
        ca.client(Verify::Chain),
        ca.client(Verify::None),
    );

    let good = tls_server(ca.issue("good", &["127.0.0.1", "localhost"], |_| ())).await;
    assert_eq!(over(&full, &good).await, Ok(()));
    assert_eq!(over(&chain, &good).await, Ok(()));
    let by_name = Addr::new("localhost", good.port());
    assert_eq!(over(&full, &by_name).await, Ok(()));

    let other = tls_server(ca.issue("other", &["redis.example", "10.0.0.1"], |_| ())).await;
    let mismatch = TlsFault::NameMismatch {
        asked: "127.0.0.1".to_owned(),
        names: vec!["redis.example".to_owned(), "10.0.0.1".to_owned()],
    };
    assert_eq!(tls_fault(over(&full, &other).await), mismatch);
    assert_eq!(over(&chain, &other).await, Ok(()));
    let options = TlsOptions {
        sni: Some("redis.example".to_owned()),
        ..ca.options(Verify::Full)
    };
    let sni = Transport::Tls(TlsClient::new(&options).unwrap());
    assert_eq!(over(&sni, &other).await, Ok(()));

    let nameless = tls_server(ca.issue("nameless", &[], |_| ())).await;
    let fault = tls_fault(over(&full, &nameless).await);
    assert!(fault.to_string().contains("no name at all"), "{fault}");
    assert_eq!(over(&chain, &nameless).await, Ok(()));

    let expired = tls_server(ca.issue("expired", &["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }))
    .await;
    let since = TlsFault::Expired(Some("on 2002-01-01T00:00:00Z".to_owned()));
    assert_eq!(tls_fault(over(&full, &expired).await), since);
    assert_eq!(tls_fault(over(&chain, &expired).await), since);
    assert_eq!(over(&none, &expired).await, Ok(()));

    let early = tls_server(ca.issue("early", &["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2999, 1, 1);
        params.not_after = date_time_ymd(3000, 1, 1);
    }))
    .await;
    let fault = tls_fault(over(&chain, &early).await);
    assert!(fault.to_string().contains("from 2999-01-01"), "{fault}");

    // Another CA, with the same name or not.
    let other_ca = Authority::new();
    for verify in [Verify::Full, Verify::Chain] {
        let fault = tls_fault(over(&other_ca.client(verify), &good).await);
        assert_eq!(fault, TlsFault::UnknownIssuer);
    }
    assert_eq!(over(&other_ca.client(Verify::None), &good).await, Ok(()));

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let selfsigned = params.self_signed(&key).unwrap();
    fs::write(ca.file("self.crt"), selfsigned.pem()).unwrap();
    let as_server = tls_server((selfsigned.der().clone(), key)).await;
    let options = TlsOptions {
        ca_file: Some(ca.file("self.crt")),
        ..TlsOptions::default()
    };
    let client = Transport::Tls(TlsClient::new(&options).unwrap());
    assert_eq!(
        tls_fault(over(&client, &as_server).await),
        TlsFault::CaAsServer
    );
}

/// DER: a tag, the shortest length, a value.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let [high, low] = (value.len() as u16).to_be_bytes();
    let header = match value.len() {
        ..0x80 => vec![tag, low],
        0x80..0x100 => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [&header, value].concat()
}

/// The range of the value of a DER element.
fn der_extent(element: &[u8]) -> (usize, usize) {
    let (header, length) = match element[1] {
        0x81 => (3, usize::from(element[2])),
        0x82 => (4, usize::from(element[2]) << 8 | usize::from(element[3])),
        length => (2, usize::from(length)),
    };
    (header, header + length)
}

/// The elements of a DER sequence.
fn der_elements(sequence: &[u8]) -> Vec<&[u8]> {
    let mut rest = &sequence[der_extent(sequence).0..];
    let mut elements = Vec::new();
    while !rest.is_empty() {
        let (element, others) = rest.split_at(der_extent(rest).1);
        elements.push(element);
        rest = others;
    }
    elements
}

/// A self-signed X.509 v1 certificate: v3 without version and extensions, signed anew.
fn version_one() -> Pair {
    let key = KeyPair::generate().unwrap();
    let v3 = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let v3 = v3.self_signed(&key).unwrap();
    let parts = der_elements(v3.der());
    let mut inner = der_elements(parts[0]);
    inner.retain(|part| !matches!(part[0], 0xa0 | 0xa3));
    let tbs = der(0x30, &inner.concat());
    let signature = [vec![0], key.sign(&tbs).unwrap()].concat();
    let whole = [tbs, parts[1].to_vec(), der(0x03, &signature)].concat();
    (CertificateDer::from(der(0x30, &whole)), key)
}

#[tokio::test]
async fn certificates_of_version_one_are_named() {
    let ca = Authority::new();
    let addr = tls_server(version_one()).await;
    for verify in [Verify::Full, Verify::Chain] {
        let fault = tls_fault(over(&ca.client(verify), &addr).await);
        assert_eq!(fault, TlsFault::VersionOne);
    }
    assert_eq!(over(&ca.client(Verify::None), &addr).await, Ok(()));
}

#[tokio::test]
async fn tls_and_plain_ports_are_distinguished() {
    let ca = Authority::new();
    let tls = ca.client(Verify::None);
    let addr = tls_server(ca.issue("good", &["127.0.0.1"], |_| ())).await;
    let error = ping_error(&connector(), &addr, &Transport::Plain).await;
    assert_eq!(error.fault, Fault::MaybeTls);

    let plain = answering(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), LONG).await;
    assert_eq!(tls_fault(over(&tls, &plain).await), TlsFault::NotTls);
    let gone = answering(Vec::new(), Duration::ZERO).await;
    assert_eq!(
        tls_fault(over(&tls, &gone).await),
        TlsFault::ClosedInHandshake
    );

    // Redis on a plain port waits for the end of a command.
    let redis = Server::start(&[]).await;
    let error = ping_error(&impatient_connector(), &redis.addr, &tls).await;
    assert_eq!(
        error.fault,
        Fault::Tls(TlsFault::NoAnswer(Duration::from_millis(300)))
    );
}

#[tokio::test]
async fn a_real_server_asks_for_a_client_certificate() {
    let ca = Authority::new();
    ca.issue("server", &["127.0.0.1"], |_| ());
    ca.issue("client", &[], |_| ());
    let paths = ["server.crt", "server.key", "ca.crt"].map(|f| ca.file(f).display().to_string());
    let server = Server::start(&[
        "--port",
        "0",
        "--tls-cert-file",
        &paths[0],
        "--tls-key-file",
        &paths[1],
        "--tls-ca-cert-file",
        &paths[2],
    ])
    .await;
    for _ in 0..20 {
        let fault = tls_fault(over(&ca.client(Verify::Full), &server.addr).await);
        assert_eq!(fault, TlsFault::ClientCertificateNeeded);
    }
    let options = TlsOptions {
        cert: Some(ca.file("client.crt")),
        key: Some(ca.file("client.key")),
        ..ca.options(Verify::Full)
    };
    let client = Transport::Tls(TlsClient::new(&options).unwrap());
    assert_eq!(over(&client, &server.addr).await, Ok(()));

    let other_ca = Authority::new();
    other_ca.issue("client", &[], |_| ());
    let options = TlsOptions {
        cert: Some(other_ca.file("client.crt")),
        key: Some(other_ca.file("client.key")),
        ..options
    };
    let client = Transport::Tls(TlsClient::new(&options).unwrap());
    let fault = tls_fault(over(&client, &server.addr).await);
    assert!(matches!(fault, TlsFault::Alert(_)), "{fault}");

    let error = ping_error(&connector(), &server.addr, &Transport::Plain).await;
    assert_eq!(error.fault, Fault::MaybeTls);
}

#[test]
fn bad_tls_files_are_named_with_their_options() {
    let ca = Authority::new();
    ca.issue("one", &["a"], |_| ());
    ca.issue("two", &["b"], |_| ());
    fs::write(ca.file("empty"), "").unwrap();
    fs::write(
        ca.file("damaged"),
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    fs::write(
        ca.file("encrypted"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::write(
        ca.file("encrypted-old"),
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    )
    .unwrap();
    fs::create_dir(ca.file("dir")).unwrap();
    fs::create_dir(ca.file("cas")).unwrap();
    fs::write(ca.file("cas/abcd.0"), &ca.pem).unwrap();
    fs::write(ca.file("cas/README"), "nothing").unwrap();

    let identity = |cert: &str, key: &str| TlsOptions {
        cert: Some(ca.file(cert)),
        key: Some(ca.file(key)),
        ..ca.options(Verify::Full)
    };
    let authorities = |file: Option<&str>, dir: Option<&str>| TlsOptions {
        ca_file: file.map(|file| ca.file(file)),
        ca_dir: dir.map(|dir| ca.file(dir)),
        ..TlsOptions::default()
    };
    let says = |options: &TlsOptions, expected: &[&str]| {
        let text = TlsClient::new(options).map(|_| ()).unwrap_err().to_string();
        for part in expected {
            assert!(text.contains(part), "{text:?} lacks {part:?}");
        }
    };
    says(
        &authorities(Some("none"), None),
        &["--cacert ", "none", "can't be read"],
    );
    says(
        &authorities(Some("dir"), None),
        &["--cacert ", "dir", "can't be read"],
    );
    says(
        &authorities(Some("empty"), None),
        &["--cacert ", "no certificate"],
    );
    says(
        &authorities(Some("damaged"), None),
        &["--cacert ", "damaged certificate"],
    );
    says(
        &authorities(None, Some("dir")),
        &["--cacertdir ", "no certificate"],
    );
    says(
        &authorities(None, Some("none")),
        &["--cacertdir ", "can't be read"],
    );
    TlsClient::new(&authorities(None, Some("cas"))).unwrap();
    says(&identity("none", "one.key"), &["--cert ", "can't be read"]);
    says(&identity("one.crt", "none"), &["--key ", "can't be read"]);
    says(
        &identity("one.crt", "two.key"),
        &["--key ", "not the key of"],
    );
    says(
        &identity("one.crt", "one.crt"),
        &["--key ", "no private key"],
    );
    says(
        &identity("one.key", "one.key"),
        &["--cert ", "no certificate"],
    );
    says(&identity("one.crt", "encrypted"), &["--key ", "passphrase"]);
    says(
        &identity("one.crt", "encrypted-old"),
        &["--key ", "passphrase"],
    );
    let lone = |cert: Option<&str>, key: Option<&str>| TlsOptions {
        cert: cert.map(|file| ca.file(file)),
        key: key.map(|file| ca.file(file)),
        ..ca.options(Verify::Full)
    };
    says(&lone(Some("one.crt"), None), &["--cert needs --key"]);
    says(&lone(None, Some("one.key")), &["--key needs --cert"]);
    let options = TlsOptions {
        sni: Some("not a name".to_owned()),
        ..ca.options(Verify::None)
    };
    says(&options, &["--sni", "not a name"]);
    let client = TlsClient::new(&identity("one.crt", "one.key")).unwrap();
    assert!(!format!("{client:?}").contains("PRIVATE"));
}
