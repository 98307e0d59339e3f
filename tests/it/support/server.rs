//! One real server process: Redis or Valkey, of any version that `tests/servers.sh` knows.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, OnceLock};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::{ConnectionAddr, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo, Value};
use tempfile::TempDir;

use super::network::Network;
use super::ports::{self, BUS_OFFSET, Reserved};
use super::ran;
use super::tls::Material;
use super::wait::{PATIENCE, until};

/// The distribution's server, and the default.
pub(crate) const DEFAULT_VERSION: &str = "redis-7.0";

/// Every version that `tests/servers.sh matrix` provides.
pub(crate) const ALL_VERSIONS: [&str; 8] = [
    "redis-6.2",
    "redis-7.0",
    "redis-8.2",
    "redis-8.6",
    "redis-8.10",
    "valkey-8.0",
    "valkey-8.1",
    "valkey-9.1",
];

/// Those that tests do not run on anyway.
static OTHER_VERSIONS: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let others = ALL_VERSIONS.into_iter();
    others.filter(|name| *name != DEFAULT_VERSION).collect()
});

/// No command of the bench itself takes longer, unless the server hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Of a server's log a failed test shows so many.
const LOG_LINES: usize = 40;

/// The versions that a test of the matrix (its name contains `matrix`) goes through: the default one, all of them
/// under `REDIS_TRIB_MATRIX=1` (`make test-matrix`), all but the default one under `others`, or the one that it names
/// (`REDIS_TRIB_MATRIX=redis-8.10`).
pub(crate) fn versions() -> &'static [&'static str] {
    wanted("REDIS_TRIB_MATRIX")
}

/// The versions that a test of faults goes through: the default one, or all of them under
/// `REDIS_TRIB_FAULTS=1` (`make test-faults`), which takes minutes and wants a machine of its own; or
/// the one that it names (`REDIS_TRIB_FAULTS=valkey-9.1`).
pub(crate) fn fault_versions() -> &'static [&'static str] {
    wanted("REDIS_TRIB_FAULTS")
}

fn wanted(variable: &str) -> &'static [&'static str] {
    let wanted = std::env::var(variable).unwrap_or_default();
    match wanted.as_str() {
        "1" => return &ALL_VERSIONS,
        "others" => return &OTHER_VERSIONS,
        _ => {}
    }
    match ALL_VERSIONS.iter().position(|name| *name == wanted) {
        Some(n) => &ALL_VERSIONS[n..=n],
        None => &[DEFAULT_VERSION],
    }
}

/// The valkey-cli that came with a server of the matrix; `None` without the matrix, or if there came none with it.
pub(crate) fn valkey_cli(version: &str) -> Option<PathBuf> {
    client(version, "valkey-cli")
}

/// A client beside a server of the matrix; `None` without the matrix, or if there is none.
pub(crate) fn client(version: &str, name: &str) -> Option<PathBuf> {
    let path = versions().contains(&version).then(|| program(version))?;
    let path = path.with_file_name(name);
    path.exists().then_some(path)
}

/// Those of `versions` (all that a test would go through) that move slots by themselves.
pub(crate) fn atomic_among(versions: &[&'static str]) -> Vec<&'static str> {
    let able = |version: &&str| ["redis-8.6", "redis-8.10", "valkey-9.1"].contains(version);
    versions.iter().copied().filter(able).collect()
}

/// Whether this machine can listen on `::1`; containers often cannot.
pub(crate) fn has_ipv6() -> bool {
    std::net::TcpListener::bind("[::1]:0").is_ok()
}

/// The server's program. A missing one fails the test: skipping would look like passing.
pub(crate) fn program(version: &str) -> PathBuf {
    assert!(
        ALL_VERSIONS.contains(&version),
        "no server is called {version}; there are {ALL_VERSIONS:?}"
    );
    if version == DEFAULT_VERSION {
        return PathBuf::from("redis-server");
    }
    let cache = std::env::var_os("REDIS_TRIB_SERVERS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers"),
        PathBuf::from,
    );
    let program = cache.join(version).join("redis-server");
    assert!(
        program.exists(),
        "{version} is not at {}; run: tests/servers.sh matrix",
        program.display()
    );
    program
}

/// What kind of server to start. The servers' own defaults hold for all that isn't said here, except that
/// nothing is saved to disk.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    version: String,
    host: String,
    cluster: bool,
    tls: bool,
    /// The user that the bench's own commands log in as.
    admin: Option<(Option<String>, String)>,
    config_file: bool,
    args: Vec<String>,
    /// What stands before its command line: the way into a network of its own.
    enter: Vec<String>,
}

impl Spec {
    pub(crate) fn new() -> Self {
        Self {
            version: DEFAULT_VERSION.to_owned(),
            host: "127.0.0.1".to_owned(),
            cluster: true,
            tls: false,
            admin: None,
            config_file: false,
            args: Vec::new(),
            enter: Vec::new(),
        }
    }

    pub(crate) fn version(mut self, name: &str) -> Self {
        self.version = name.to_owned();
        self
    }

    /// A configuration file of its own, empty at first: CONFIG REWRITE has where to write.
    pub(crate) fn config_file(mut self) -> Self {
        self.config_file = true;
        self
    }

    /// A server that is not cluster-enabled.
    pub(crate) fn plain(mut self) -> Self {
        self.cluster = false;
        self
    }

    /// The address to listen on, instead of 127.0.0.1: `::1`, or another of 127.0.0.0/8 to look like another host.
    pub(crate) fn bind(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// A host of its own (127.x.y.z) in that network. Only processes in the network reach its port.
    pub(crate) fn host_in(mut self, network: &Network, host: &str) -> Self {
        self.enter = network.enter();
        self.bind(host)
            .arg("--bind-source-addr", host)
            .arg("--cluster-announce-ip", host)
            // Local is 127.0.0.1 only.
            .arg("--protected-mode", "no")
    }

    /// Started through that command line, which ends by starting the server.
    pub(crate) fn through(mut self, words: &[&str]) -> Self {
        self.enter = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// One option with one value, as on the server's command line: `.arg("--maxmemory", "1mb")`.
    pub(crate) fn arg(self, name: &str, value: impl ToString) -> Self {
        self.words(name, &[&value.to_string()])
    }

    /// One option with several words.
    pub(crate) fn words(mut self, name: &str, values: &[&str]) -> Self {
        self.args.push(name.to_owned());
        self.args
            .extend(values.iter().map(|&value| value.to_owned()));
        self
    }

    /// How long a node may be silent before others doubt it. It also bounds how long a master that got its
    /// slots says `cluster_state:fail` (min of this and 5 s).
    pub(crate) fn node_timeout(self, milliseconds: u32) -> Self {
        self.arg("--cluster-node-timeout", milliseconds)
    }

    /// Waits less than the servers' defaults, for tests that are not about waiting: usable 2 s after it got
    /// slots instead of 5, and replicas are synced at once instead of after 5 s.
    pub(crate) fn quick(self) -> Self {
        self.node_timeout(2000).arg("--repl-diskless-sync-delay", 0)
    }

    /// A password for the default user, with which replicas log in at masters as well.
    pub(crate) fn password(mut self, password: &str) -> Self {
        self.admin = Some((None, password.to_owned()));
        self.arg("--requirepass", password)
            .arg("--masterauth", password)
    }

    /// An ACL user beside the default one; `rules` as ACL SETUSER takes them, for example `~* &* +@all`.
    pub(crate) fn user(self, name: &str, password: &str, rules: &str) -> Self {
        let secret = format!(">{password}");
        let mut words = vec![name, "on", &secret];
        words.extend(rules.split_whitespace());
        self.words("--user", &words)
    }

    /// The user that the bench's own commands log in as if the default user is off.
    pub(crate) fn admin(mut self, user: &str, password: &str) -> Self {
        self.admin = Some((Some(user.to_owned()), password.to_owned()));
        self
    }

    /// TLS and nothing else on the port, on the bus and between master and replica; client certificates are
    /// asked for, but not demanded (`.arg("--tls-auth-clients", "yes")` demands them).
    pub(crate) fn tls(mut self, material: &Material) -> Self {
        self.tls = true;
        self.tls_certificate(&material.server.cert, &material.server.key)
            .arg("--tls-ca-cert-file", material.ca.display())
            .arg("--tls-auth-clients", "optional")
            .arg("--tls-replication", "yes")
            .arg("--tls-cluster", "yes")
    }

    /// Another certificate for the server than the good one; the last one named counts.
    pub(crate) fn tls_certificate(self, cert: &Path, key: &Path) -> Self {
        self.arg("--tls-cert-file", cert.display())
            .arg("--tls-key-file", key.display())
    }

    #[track_caller]
    pub(crate) fn start(&self) -> Server {
        const ATTEMPTS: usize = 10;
        let mut log = String::new();
        for _ in 0..ATTEMPTS {
            match Server::start(self.clone(), ports::reserve()) {
                Ok(server) => return server,
                // A process without a reservation took the port before the server could bind it.
                Err(said) if said.contains("Address already in use") => log = said,
                Err(said) => panic!(
                    "{} did not start with {:?}:\n{said}",
                    self.version, self.args
                ),
            }
        }
        panic!(
            "{} found its port taken {ATTEMPTS} times:\n{log}",
            self.version
        );
    }
}

impl Spec {
    /// On the port of another server, and on another host than it: the tasks of one service.
    #[track_caller]
    pub(crate) fn start_beside(&self, other: &Server) -> Server {
        let host = self.host.parse().expect("a host of 127.0.0.0/8");
        let port = ports::share(other.port(), host);
        Server::start(self.clone(), port).unwrap_or_else(|log| panic!("{log}"))
    }
}

/// A running server. It is killed when this is dropped, and dies with the test process in any case.
pub(crate) struct Server {
    spec: Spec,
    reserved: Reserved,
    dir: TempDir,
    child: Mutex<Child>,
}

impl Server {
    fn start(spec: Spec, reserved: Reserved) -> Result<Self, String> {
        let dir = tempfile::Builder::new()
            .prefix("redis-trib-")
            .tempdir()
            .unwrap();
        let child = spawn(command(&spec, reserved.port, dir.path())).unwrap_or_else(|error| {
            panic!(
                "{} cannot be run ({error}); run: tests/servers.sh default",
                spec.version
            )
        });
        let server = Self {
            spec,
            reserved,
            dir,
            child: Mutex::new(child),
        };
        server.wait_ready()?;
        ran::at(&server.addr(), &server.spec.version);
        Ok(server)
    }

    /// `Err` is the log of a server that ended instead of becoming ready.
    fn wait_ready(&self) -> Result<(), String> {
        let what = format!("{} at {} to answer", self.spec.version, self.addr());
        until(&what, PATIENCE, || {
            if self.child.lock().unwrap().try_wait().unwrap().is_some() {
                return Ok(Err(self.log()));
            }
            match self.answers() {
                Ok(()) => Ok(Ok(())),
                Err(error) => Err(format!("{error}; its log:\n{}", self.log())),
            }
        })
    }

    /// Listening, and says anything at all: an error (NOAUTH, LOADING) is an answer.
    fn answers(&self) -> std::io::Result<()> {
        const LIMIT: Duration = Duration::from_secs(1);
        let addr = (self.host(), self.port())
            .to_socket_addrs()?
            .next()
            .unwrap();
        if self.spec.enter.is_empty() {
            TcpStream::connect_timeout(&addr, LIMIT)?;
        }
        let mut socket = UnixStream::connect(self.socket())?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.write_all(b"PING\r\n")?;
        socket.read_exact(&mut [0])
    }

    pub(crate) fn host(&self) -> &str {
        &self.spec.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.reserved.port
    }

    pub(crate) fn bus_port(&self) -> u16 {
        self.port() + BUS_OFFSET
    }

    /// As `redis-trib` takes it: `127.0.0.1:12000`, `[::1]:12000`.
    pub(crate) fn addr(&self) -> String {
        if self.host().contains(':') {
            format!("[{}]:{}", self.host(), self.port())
        } else {
            format!("{}:{}", self.host(), self.port())
        }
    }

    pub(crate) fn version(&self) -> &str {
        &self.spec.version
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The bench talks to the server on a Unix socket: it is there whatever the server's port speaks (TLS,
    /// IPv6, a proxy's announcement), and a look from here is not seen by a proxy.
    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(self.dir())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_in(self.dir())).unwrap_or_default()
    }

    /// A connection, not through any proxy.
    pub(crate) fn connection(&self) -> redis::RedisResult<redis::Connection> {
        let mut login = RedisConnectionInfo::default();
        if let Some((user, password)) = &self.spec.admin {
            login = login.set_password(password);
            if let Some(user) = user {
                login = login.set_username(user);
            }
        }
        let info = ConnectionAddr::Unix(self.socket())
            .into_connection_info()?
            .set_redis_settings(login);
        let connection = redis::Client::open(info)?.get_connection_with_timeout(COMMAND_LIMIT)?;
        connection.set_read_timeout(Some(COMMAND_LIMIT))?;
        Ok(connection)
    }

    /// Sends one command.
    pub(crate) fn try_cmd<S: AsRef<str>>(&self, args: &[S]) -> redis::RedisResult<Value> {
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(arg.as_ref());
        }
        command.query(&mut self.connection()?)
    }

    /// Sends one command that has to succeed.
    #[track_caller]
    pub(crate) fn cmd<S: AsRef<str>>(&self, args: &[S]) -> Value {
        self.try_cmd(args).unwrap_or_else(|error| {
            let words: Vec<_> = args.iter().map(AsRef::as_ref).collect();
            panic!(
                "{} at {}: {}: {error}",
                self.version(),
                self.addr(),
                words.join(" ")
            )
        })
    }

    /// The reply to one command, as text.
    #[track_caller]
    pub(crate) fn text<S: AsRef<str>>(&self, args: &[S]) -> String {
        let value = self.cmd(args);
        String::from_redis_value(value).expect("a reply that is text")
    }

    pub(crate) fn nodes_text(&self) -> String {
        self.text(&["CLUSTER", "NODES"])
    }

    pub(crate) fn id(&self) -> String {
        self.text(&["CLUSTER", "MYID"])
    }

    /// One field of INFO or of CLUSTER INFO: `field("cluster_state")`.
    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let question: &[&str] = if name.starts_with("cluster_") && name != "cluster_enabled" {
            &["CLUSTER", "INFO"]
        } else {
            &["INFO"]
        };
        self.text(question)
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| (key == name).then(|| value.trim_end().to_owned()))
    }

    /// SIGSTOP: connections are still accepted (by the kernel), nothing is answered.
    pub(crate) fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub(crate) fn cont(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).expect("a server that still runs");
    }

    /// SIGKILL, and waits until it's gone.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        // Fails only where it has ended already.
        let _ = child.kill();
        child.wait().unwrap();
    }

    /// Ends it, and starts it again on the same port, in the same folder (with the same nodes.conf).
    #[track_caller]
    pub(crate) fn restart(&self) {
        self.restart_with(&[]);
    }

    /// Ends it, and starts it on another port, with all that it had in its folder: a container that is
    /// back elsewhere.
    #[track_caller]
    pub(crate) fn move_away(&mut self) {
        self.kill();
        self.reserved = ports::reserve();
        self.restart();
    }

    /// Both end, and each is started on the port of the other.
    #[track_caller]
    pub(crate) fn trade_places(&mut self, other: &mut Self) {
        self.kill();
        other.kill();
        std::mem::swap(&mut self.reserved, &mut other.reserved);
        self.restart();
        other.restart();
    }

    /// Ends it, and starts it with an empty folder: another node at the same address.
    #[track_caller]
    pub(crate) fn start_anew(&self) {
        self.kill();
        for name in ["nodes.conf", "dump.rdb"] {
            let _ = fs::remove_file(self.dir().join(name));
        }
        self.restart();
    }

    /// Ends it, and starts another version in its place, with its folder: an upgrade.
    #[track_caller]
    pub(crate) fn restart_as(&self, version: &str) {
        self.kill();
        let spec = self.spec.clone().version(version);
        self.spawn_again(command(&spec, self.port(), self.dir()));
        ran::at(&self.addr(), version);
    }

    /// The same with more arguments, for this start only.
    #[track_caller]
    pub(crate) fn restart_with(&self, args: &[&str]) {
        self.kill();
        let mut command = command(&self.spec, self.port(), self.dir());
        command.args(args);
        self.spawn_again(command);
    }

    #[track_caller]
    fn spawn_again(&self, command: Command) {
        *self.child.lock().unwrap() = spawn(command).expect("a program that has run before");
        if let Err(log) = self.wait_ready() {
            panic!("{} did not start again:\n{log}", self.addr());
        }
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "libtest shows it with the failed test")]
    fn drop(&mut self) {
        // What the servers saw tells more of a rare failure than what the test saw, and is gone with them.
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!(
                "--- the log of {} ends with\n{}",
                self.addr(),
                last.join("\n")
            );
        }
        if let Ok(child) = self.child.get_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}

fn log_in(dir: &Path) -> PathBuf {
    dir.join("log")
}

fn command(spec: &Spec, port: u16, dir: &Path) -> Command {
    let program = program(&spec.version);
    // Rust would need `unsafe` to set this in the child, so setpriv (util-linux) does, and becomes the server.
    let mut command = if cfg!(target_os = "linux") {
        let mut words = spec.enter.iter().map(String::as_str).chain(["setpriv"]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    if spec.config_file {
        let file = dir.join("server.conf");
        File::options()
            .create(true)
            .append(true)
            .open(&file)
            .unwrap();
        command.arg(file);
    }
    let port = port.to_string();
    // A server built without TLS doesn't know tls-port.
    if spec.tls {
        command.args(["--port", "0", "--tls-port", &port]);
    } else {
        command.args(["--port", &port]);
    }
    command
        .args(["--bind", &spec.host, "--save", "", "--appendonly", "no"])
        .args(["--cluster-enabled", if spec.cluster { "yes" } else { "no" }])
        .arg("--dir")
        .arg(dir)
        .arg("--unixsocket")
        .arg(socket_in(dir))
        .args(&spec.args);
    let log = File::options()
        .create(true)
        .append(true)
        .open(log_in(dir))
        .unwrap();
    command
        .stdin(Stdio::null())
        .stderr(log.try_clone().unwrap())
        .stdout(log);
    command
}

/// Starts a process from a thread that lasts as long as ours: the parent-death signal is bound to the thread
/// that forked, and a server that several tests share would die with the test that started it.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Order = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || {
                for (mut command, reply) in inbox {
                    let _ = reply.send(command.spawn());
                }
            })
            .unwrap();
        orders
    });
    let (reply, answer) = channel();
    spawner.send((command, reply)).unwrap();
    answer.recv().unwrap()
}

pub(crate) fn quick() -> Spec {
    Spec::new().quick()
}
