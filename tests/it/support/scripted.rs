//! Nodes with scripted answers: for behavior that no real server can be made to show, and for a thousand
//! nodes at once. All of them share the bench's one runtime.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::{resp, runtime};

/// Answers to commands, by how these begin; of several that fit, the one added last counts.
#[derive(Clone, Default)]
pub(crate) struct Script {
    rules: Vec<Rule>,
}

#[derive(Clone)]
struct Rule {
    prefix: String,
    /// One after the other; the last stays.
    replies: Vec<Reply>,
    asked: Arc<AtomicUsize>,
}

impl Script {
    /// Answers nothing but an error to everything; a base for odd nodes.
    pub(crate) fn silent_about_all() -> Self {
        Self::default()
    }

    /// What every server answers, whatever its part in a cluster: PING, HELLO, AUTH, CLIENT, SELECT, CONFIG
    /// GET, and an INFO of Redis 7.0.15.
    pub(crate) fn new() -> Self {
        Self::default()
            .on("PING", Reply::simple("PONG"))
            .on("HELLO", hello(2))
            .on("HELLO 3", hello(3))
            .on("AUTH", Reply::ok())
            .on("CLIENT", Reply::ok())
            .on("CLIENT LIST", Reply::bulk(""))
            .on("CLIENT ID", Reply::int(1))
            .on("SELECT", Reply::ok())
            .on("READONLY", Reply::ok())
            .on("DBSIZE", Reply::int(0))
            .on("CONFIG GET", Reply::array([]))
            .on(
                "CONFIG GET cluster-node-timeout",
                pair("cluster-node-timeout", "15000"),
            )
            .on("CONFIG GET maxmemory", pair("maxmemory", "0"))
            .on(
                "INFO",
                Reply::bulk(&info(&[("role", "master"), ("connected_slaves", "0")])),
            )
    }

    /// Answers commands that begin with these words (in any case); `""` is every command.
    pub(crate) fn on(self, prefix: &str, reply: Reply) -> Self {
        self.on_each(prefix, [reply])
    }

    /// Answers the first time with the first, and so on; the last one stays.
    pub(crate) fn on_each(
        mut self,
        prefix: &str,
        replies: impl IntoIterator<Item = Reply>,
    ) -> Self {
        let replies: Vec<_> = replies.into_iter().collect();
        assert!(!replies.is_empty(), "no reply to {prefix}");
        self.rules.push(Rule {
            prefix: prefix.to_owned(),
            replies,
            asked: Arc::default(),
        });
        self
    }

    /// Adds a flag to the lines of these nodes in what it answers to that command so far: CLUSTER NODES.
    pub(crate) fn flag(mut self, prefix: &str, ids: &[String], flag: &str) -> Self {
        let rule = self
            .rules
            .iter_mut()
            .rev()
            .find(|rule| rule.prefix == prefix);
        for reply in &mut rule.unwrap().replies {
            let bytes: Vec<u8> = reply
                .parts
                .iter()
                .flat_map(|part| part.bytes().to_vec())
                .collect();
            let text = String::from_utf8(bytes).unwrap();
            // Without the header of the bulk string.
            let lines = text.lines().skip(1).filter(|line| !line.is_empty());
            let lines =
                lines.map(
                    |line| match ids.iter().any(|id| line.starts_with(id.as_str())) {
                        true => line.replacen("master", &format!("master,{flag}"), 1),
                        false => line.to_owned(),
                    },
                );
            let lines: Vec<String> = lines.collect();
            *reply = Reply::bulk(&format!("{}\n", lines.join("\n")));
        }
        self
    }

    /// Begins to serve on a free port of 127.0.0.1.
    pub(crate) fn start(self) -> Scripted {
        self.start_on(listen(IpAddr::V4(Ipv4Addr::LOCALHOST)))
    }

    fn start_on(self, listener: StdListener) -> Scripted {
        let addr = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let connections = Arc::<AtomicUsize>::default();
        let _entered = runtime::handle().enter();
        let listener = TcpListener::from_std(listener).unwrap();
        let accepting = runtime::handle().spawn(accept(
            listener,
            Arc::new(self),
            Arc::clone(&heard),
            Arc::clone(&connections),
        ));
        Scripted {
            addr,
            heard,
            connections,
            accepting,
        }
    }

    fn reply(&self, words: &[Vec<u8>]) -> Reply {
        match self
            .rules
            .iter()
            .rev()
            .find(|rule| resp::begins_with(words, &rule.prefix))
        {
            Some(rule) => {
                let asked = rule.asked.fetch_add(1, Ordering::Relaxed);
                rule.replies[asked.min(rule.replies.len() - 1)].clone()
            }
            None => {
                let name = words
                    .first()
                    .map_or_else(String::new, |word| String::from_utf8_lossy(word).into());
                Reply::error(&format!(
                    "ERR unknown command '{name}', with args beginning with: "
                ))
            }
        }
    }
}

/// What a node does when asked.
#[derive(Clone)]
pub(crate) struct Reply {
    delay: Duration,
    parts: Vec<Part>,
    then: Then,
}

#[derive(Clone)]
enum Part {
    Own(Vec<u8>),
    /// A stretch of a text that many nodes share.
    Shared(Arc<str>, Range<usize>),
}

#[derive(Clone, Copy)]
enum Then {
    GoOn,
    Close,
    Hang,
    /// The last part again and again, until the client has had enough.
    Repeat,
}

impl Reply {
    /// These bytes, whatever they are: another protocol, half a reply, control characters.
    pub(crate) fn raw(bytes: impl AsRef<[u8]>) -> Self {
        Self::parts(vec![Part::Own(bytes.as_ref().to_vec())])
    }

    fn parts(parts: Vec<Part>) -> Self {
        Self {
            delay: Duration::ZERO,
            parts,
            then: Then::GoOn,
        }
    }

    pub(crate) fn ok() -> Self {
        Self::simple("OK")
    }

    pub(crate) fn simple(text: &str) -> Self {
        Self::raw(format!("+{text}\r\n"))
    }

    /// `text` with its code, as in `ERR something`.
    pub(crate) fn error(text: &str) -> Self {
        Self::raw(format!("-{text}\r\n"))
    }

    pub(crate) fn int(number: i64) -> Self {
        Self::raw(format!(":{number}\r\n"))
    }

    pub(crate) fn bulk(text: &str) -> Self {
        Self::raw(format!("${}\r\n{text}\r\n", text.len()))
    }

    pub(crate) fn null() -> Self {
        Self::raw("$-1\r\n")
    }

    pub(crate) fn array(items: impl IntoIterator<Item = Self>) -> Self {
        let items: Vec<_> = items.into_iter().collect();
        let mut parts = vec![Part::Own(format!("*{}\r\n", items.len()).into_bytes())];
        parts.extend(items.into_iter().flat_map(|item| item.parts));
        Self::parts(parts)
    }

    /// Never an answer; the connection stays open.
    pub(crate) fn never() -> Self {
        Self {
            then: Then::Hang,
            ..Self::raw("")
        }
    }

    /// No answer but the end of the connection.
    pub(crate) fn close() -> Self {
        Self::raw("").then_close()
    }

    /// A bulk string that claims this length, of which only the start is sent.
    pub(crate) fn claims(length: u64) -> Self {
        Self {
            then: Then::Hang,
            ..Self::raw(format!("${length}\r\nand then"))
        }
    }

    /// An array that claims to have so many items, of which none comes.
    pub(crate) fn claims_items(count: u64) -> Self {
        Self {
            then: Then::Hang,
            ..Self::raw(format!("*{count}\r\n"))
        }
    }

    /// A bulk string that goes on for as long as the client reads it.
    pub(crate) fn endless_bulk() -> Self {
        let header = Part::Own(format!("${}\r\n", i64::MAX).into_bytes());
        let text = Part::Own(vec![b'x'; 64 * 1024]);
        Self {
            then: Then::Repeat,
            ..Self::parts(vec![header, text])
        }
    }

    /// A simple string without an end.
    pub(crate) fn endless_line() -> Self {
        let parts = vec![Part::Own(b"+".to_vec()), Part::Own(vec![b'x'; 64 * 1024])];
        Self {
            then: Then::Repeat,
            ..Self::parts(parts)
        }
    }

    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    pub(crate) fn then_close(mut self) -> Self {
        self.then = Then::Close;
        self
    }
}

fn pair(name: &str, value: &str) -> Reply {
    Reply::array([Reply::bulk(name), Reply::bulk(value)])
}

fn hello(protocol: i64) -> Reply {
    let fields = [
        ("server", Reply::bulk("redis")),
        ("version", Reply::bulk("7.0.15")),
        ("proto", Reply::int(protocol)),
        ("id", Reply::int(1)),
        ("mode", Reply::bulk("cluster")),
        ("role", Reply::bulk("master")),
        ("modules", Reply::array([])),
    ];
    let count = fields.len();
    let mut reply = Reply::array(
        fields
            .into_iter()
            .flat_map(|(name, value)| [Reply::bulk(name), value]),
    );
    if protocol == 3 {
        reply.parts[0] = Part::Own(format!("%{count}\r\n").into_bytes());
    }
    reply
}

/// INFO of a node that is healthy as far as it's its own business.
fn info(replication: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\nrun_id:0123456789abcdef0123456789abcdef01234567\r\n\
         uptime_in_seconds:3600\r\n\r\n# Memory\r\nused_memory:2000000\r\nmaxmemory:0\r\n\r\n\
         # Persistence\r\nloading:0\r\nrdb_bgsave_in_progress:0\r\naof_enabled:0\r\n\r\n# Replication\r\n",
    );
    for (name, value) in replication {
        text.push_str(&format!("{name}:{value}\r\n"));
    }
    text.push_str("\r\n# Cluster\r\ncluster_enabled:1\r\n\r\n# Keyspace\r\n");
    text
}

/// A scripted node at work; it falls silent when this is dropped.
pub(crate) struct Scripted {
    addr: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Scripted {
    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Every command heard, each in one line.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn listen(ip: IpAddr) -> StdListener {
    let listener = StdListener::bind((ip, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

async fn accept(
    listener: TcpListener,
    script: Arc<Script>,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
) {
    let mut open = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.fetch_add(1, Ordering::Relaxed);
                let (script, heard) = (Arc::clone(&script), Arc::clone(&heard));
                open.spawn(async move { drop(serve(stream, &script, &heard).await) });
                while open.try_join_next().is_some() {}
            }
            // Out of descriptors, most likely: those at work will give some back.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &Script,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while stream.read_buf(&mut buffer).await? > 0 {
        loop {
            let reply = match resp::command(&buffer) {
                Ok(Some((words, length))) => {
                    buffer.drain(..length);
                    if words.is_empty() {
                        continue;
                    }
                    heard.lock().unwrap().push(resp::as_text(&words));
                    script.reply(&words)
                }
                Ok(None) => break,
                // As Redis does when a client speaks TLS to its plain port. A node that answers everything
                // (the empty prefix) answers this too.
                Err(resp::NotResp) => match script
                    .rules
                    .iter()
                    .rev()
                    .find(|rule| rule.prefix.is_empty())
                {
                    Some(rule) => rule.replies[0].clone().then_close(),
                    None => Reply::error("ERR Protocol error: unexpected byte").then_close(),
                },
            };
            if !answer(&mut stream, &reply).await? {
                return stream.shutdown().await;
            }
        }
    }
    Ok(())
}

/// Whether the conversation goes on.
async fn answer(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<bool> {
    sleep(reply.delay).await;
    for part in &reply.parts {
        stream.write_all(part.bytes()).await?;
    }
    match reply.then {
        Then::GoOn => Ok(true),
        Then::Close => Ok(false),
        Then::Hang => {
            // Until the client leaves.
            tokio::io::copy(stream, &mut tokio::io::sink()).await?;
            Ok(false)
        }
        Then::Repeat => loop {
            let Some(part) = reply.parts.last() else {
                return Ok(false);
            };
            stream.write_all(part.bytes()).await?;
        },
    }
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared(text, range) => &text.as_bytes()[range.clone()],
        }
    }
}

/// A healthy cluster of scripted nodes, on 127.0.0.1 to 127.0.0.200 (a host each for anti-affinity), that all
/// tell the same about each other.
pub(crate) struct FakeCluster {
    pub(crate) nodes: Vec<Scripted>,
    /// The node ids, in the order of `nodes`: masters first.
    pub(crate) ids: Vec<String>,
}

/// `masters` that share all slots, and `replicas` of them in turn.
pub(crate) fn fake_cluster(masters: usize, replicas: usize) -> FakeCluster {
    fake_cluster_where(masters, replicas, |_, script| script)
}

/// The same, but some of them behave differently: `change` gets each node's index and script.
pub(crate) fn fake_cluster_where(
    masters: usize,
    replicas: usize,
    change: impl Fn(usize, Script) -> Script,
) -> FakeCluster {
    const HOSTS: usize = 200;
    const SLOTS: usize = 16384;
    let count = masters + replicas;
    // A listener and a connection or two for each node.
    let wanted = 4 * count as u64 + 256;
    let granted = rlimit::increase_nofile_limit(wanted).unwrap();
    assert!(
        granted >= wanted,
        "{count} nodes need {wanted} descriptors, and only {granted} are granted"
    );

    let listeners: Vec<_> = (0..count)
        .map(|index| {
            listen(IpAddr::V4(Ipv4Addr::new(
                127,
                0,
                0,
                (index % HOSTS + 1) as u8,
            )))
        })
        .collect();
    let ids: Vec<_> = (0..count).map(node_id).collect();
    let mut table = String::new();
    // Where "myself," goes in, for each node.
    let mut myself = Vec::new();
    for (index, listener) in listeners.iter().enumerate() {
        let addr = listener.local_addr().unwrap();
        let port = addr.port();
        // No server listens there; only the format counts.
        let bus = port.checked_add(10_000).unwrap_or(port - 10_000);
        table.push_str(&format!("{} {addr}@{bus} ", ids[index]));
        myself.push(table.len());
        if index < masters {
            let (from, to) = (index * SLOTS / masters, (index + 1) * SLOTS / masters - 1);
            let range = if from == to {
                from.to_string()
            } else {
                format!("{from}-{to}")
            };
            table.push_str(&format!(
                "master - 0 1700000000000 {} connected {range}\n",
                index + 1
            ));
        } else {
            let master = (index - masters) % masters;
            table.push_str(&format!(
                "slave {} 0 1700000000000 {} connected\n",
                ids[master],
                master + 1
            ));
        }
    }
    let table: Arc<str> = table.into();
    let cluster_info = Reply::bulk(&format!(
        "cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_slots_ok:16384\r\ncluster_slots_pfail:0\r\n\
         cluster_slots_fail:0\r\ncluster_known_nodes:{count}\r\ncluster_size:{masters}\r\n\
         cluster_current_epoch:{masters}\r\ncluster_my_epoch:1\r\n"
    ));
    let addrs: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    let nodes = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listener)| {
            let facts = if index < masters {
                let slaves = (index + masters..count)
                    .step_by(masters)
                    .count()
                    .to_string();
                info(&[
                    ("role", "master"),
                    ("connected_slaves", &slaves),
                    ("master_repl_offset", "100"),
                ])
            } else {
                let master = addrs[(index - masters) % masters];
                info(&[
                    ("role", "slave"),
                    ("master_host", &master.ip().to_string()),
                    ("master_port", &master.port().to_string()),
                    ("master_link_status", "up"),
                    ("master_sync_in_progress", "0"),
                    ("slave_repl_offset", "100"),
                ])
            };
            let script = Script::new()
                .on("CLUSTER NODES", with_myself(&table, myself[index]))
                .on("CLUSTER INFO", cluster_info.clone())
                .on("CLUSTER MYID", Reply::bulk(&ids[index]))
                .on("INFO", Reply::bulk(&facts));
            // The nodes of a larger cluster are not asked.
            let script = match count {
                ..=12 => script.on("CLUSTER LINKS", old_links(&ids, index)),
                _ => script,
            };
            change(index, script).start_on(listener)
        })
        .collect();
    FakeCluster { nodes, ids }
}

/// The links of that node to all others, which are old.
fn old_links(ids: &[String], index: usize) -> Reply {
    let others = ids.iter().enumerate().filter(|(other, _)| *other != index);
    let link = |id: &str| {
        let pairs = [
            "direction",
            "to",
            "node",
            id,
            "create-time",
            "1700000000000",
        ];
        Reply::array(pairs.map(Reply::bulk))
    };
    Reply::array(others.map(|(_, id)| link(id)))
}

/// A thousand nodes tell a thousand lines each; all but one word of it is the same memory.
fn with_myself(table: &Arc<str>, at: usize) -> Reply {
    const WORD: &str = "myself,";
    Reply::parts(vec![
        Part::Own(format!("${}\r\n", table.len() + WORD.len()).into_bytes()),
        Part::Shared(Arc::clone(table), 0..at),
        Part::Own(WORD.as_bytes().to_vec()),
        Part::Shared(Arc::clone(table), at..table.len()),
        Part::Own(b"\r\n".to_vec()),
    ])
}

/// Forty hex digits that look random (unique prefixes are short), the same in every run.
fn node_id(index: usize) -> String {
    let mix = |mut value: u64| {
        value = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value ^ (value >> 27)
    };
    let seed = index as u64 + 1;
    format!(
        "{:016x}{:016x}{:08x}",
        mix(seed),
        mix(seed + 1_000_000),
        seed
    )
}
