//! A TCP proxy in front of a server: delays, cuts, stalls, and remembers the commands that it saw.
//!
//! It reads what it passes on as RESP; what isn't (TLS, a replication stream) is passed on as it is, and
//! then only bytes can be counted.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{resp, runtime};

/// How a connection ends, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// An orderly end (FIN).
    Close,
    /// "Connection reset by peer" (RST).
    Reset,
}

/// When to cut: `Cut::before("CLUSTER MEET").nth(2).reset()`.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    moment: Moment,
    nth: usize,
    how: How,
    then_refuse: bool,
    /// Nothing ends, but nothing is passed on any more.
    stalls: bool,
}

#[derive(Clone, Debug)]
enum Moment {
    Before(String),
    After(String),
    ReplyByte(usize),
}

impl Cut {
    fn at(moment: Moment) -> Self {
        Self {
            moment,
            nth: 1,
            how: How::Close,
            then_refuse: false,
            stalls: false,
        }
    }

    /// The command never reaches the server. `""` is any command.
    pub(crate) fn before(command: &str) -> Self {
        Self::at(Moment::Before(command.to_owned()))
    }

    /// The server obeys, and its reply never comes back.
    pub(crate) fn after(command: &str) -> Self {
        Self::at(Moment::After(command.to_owned()))
    }

    /// After so many bytes of replies, counted over all connections from now on.
    pub(crate) fn at_reply_byte(count: usize) -> Self {
        Self::at(Moment::ReplyByte(count))
    }

    /// Not the first such command, but the n-th (from 1, over all connections, from now on).
    pub(crate) fn nth(mut self, nth: usize) -> Self {
        self.nth = nth;
        self
    }

    pub(crate) fn reset(mut self) -> Self {
        self.how = How::Reset;
        self
    }

    /// From then on new connections are reset, as if the server were gone (see [`Proxy::refuse`]).
    pub(crate) fn then_refuse(mut self) -> Self {
        self.then_refuse = true;
        self
    }
}

/// What holds for all connections; each looks at it whenever it changes.
#[derive(Clone, Default)]
struct Control {
    target: Option<String>,
    request_delay: Duration,
    reply_delay: Duration,
    stalled: bool,
    refusing: bool,
    /// Connections that began before the last of these are to end.
    cuts: usize,
    cut_how: Option<How>,
    /// What is replaced in all that comes from the server, and by what.
    rewrite: Option<(Vec<u8>, Vec<u8>)>,
}

struct Shared {
    control: watch::Sender<Control>,
    commands: Mutex<Vec<String>>,
    armed: Mutex<Vec<Cut>>,
    connections: AtomicUsize,
}

pub(crate) struct Proxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of `target` (`host:port`).
    pub(crate) fn to(target: &str) -> Self {
        let proxy = Self::unconnected();
        proxy.point_at(target);
        proxy
    }

    /// For a server that has to announce the proxy's port, and so starts later; see [`Self::point_at`].
    pub(crate) fn unconnected() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            control: watch::Sender::default(),
            commands: Mutex::default(),
            armed: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let _entered = runtime::handle().enter();
        let listener = TcpListener::from_std(listener).unwrap();
        let accepting = runtime::handle().spawn(accept(listener, Arc::clone(&shared)));
        Self {
            addr,
            shared,
            accepting,
        }
    }

    pub(crate) fn point_at(&self, target: &str) {
        self.change(|control| control.target = Some(target.to_owned()));
    }

    pub(crate) fn addr(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Holds back all that goes to the server. A delay, not a limit: what comes later waits no longer.
    pub(crate) fn delay_requests(&self, delay: Duration) {
        self.change(|control| control.request_delay = delay);
    }

    /// Holds back all that comes from the server.
    pub(crate) fn delay_replies(&self, delay: Duration) {
        self.change(|control| control.reply_delay = delay);
    }

    /// Replaces these bytes by as many others in all that comes from the server.
    pub(crate) fn rewrite(&self, from: &[u8], to: &[u8]) {
        assert_eq!(from.len(), to.len());
        self.change(|control| control.rewrite = Some((from.to_vec(), to.to_vec())));
    }

    /// The end of [`Self::rewrite`].
    pub(crate) fn stop_rewriting(&self) {
        self.change(|control| control.rewrite = None);
    }

    /// Connections are accepted, what comes in is read (and counted), nothing is passed on.
    pub(crate) fn stall(&self) {
        self.change(|control| control.stalled = true);
    }

    /// Resets new connections at once, as if no server listened. Open connections stay.
    pub(crate) fn refuse(&self) {
        self.change(|control| control.refusing = true);
    }

    /// The end of [`Self::stall`] and [`Self::refuse`]; what was held back is passed on.
    pub(crate) fn resume(&self) {
        self.change(|control| {
            control.stalled = false;
            control.refusing = false;
        });
    }

    /// Cuts once when that moment comes.
    pub(crate) fn cut(&self, cut: Cut) {
        assert!(cut.nth > 0, "the first is number 1");
        self.shared.armed.lock().unwrap().push(cut);
    }

    /// Holds back the n-th such command and all that comes after it, on all connections; see
    /// [`Self::wait_stalled`].
    pub(crate) fn stall_at(&self, command: &str, nth: usize) {
        let mut cut = Cut::before(command).nth(nth);
        cut.stalls = true;
        self.cut(cut);
    }

    /// Whether it has come to a stall within that time.
    pub(crate) fn wait_stalled(&self, limit: Duration) -> bool {
        let started = std::time::Instant::now();
        while started.elapsed() < limit {
            if self.shared.control.borrow().stalled {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Drops the faults that have not happened yet.
    pub(crate) fn disarm(&self) {
        self.shared.armed.lock().unwrap().clear();
    }

    /// Cuts all connections there are. What a stall held back until then never reaches the server.
    pub(crate) fn cut_now(&self, how: How) {
        self.change(|control| {
            control.cuts += 1;
            control.cut_how = Some(how);
        });
    }

    /// Every command seen, in the order seen, each in one line.
    pub(crate) fn commands(&self) -> Vec<String> {
        self.shared.commands.lock().unwrap().clone()
    }

    /// How many commands began with these words; `""` counts all.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        let wanted: Vec<_> = prefix.split_whitespace().collect();
        let begins = |command: &String| {
            let mut words = command.split(' ');
            wanted.iter().all(|wanted| {
                words
                    .next()
                    .is_some_and(|word| word.eq_ignore_ascii_case(wanted))
            })
        };
        self.shared
            .commands
            .lock()
            .unwrap()
            .iter()
            .filter(|command| begins(command))
            .count()
    }

    pub(crate) fn forget_commands(&self) {
        self.shared.commands.lock().unwrap().clear();
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    fn change(&self, change: impl FnOnce(&mut Control)) {
        self.shared.control.send_modify(change);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections belong to this task and end with it.
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(serve(client, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    let mut control = shared.control.subscribe();
    let (refusing, cuts, target) = {
        let now = control.borrow_and_update();
        (now.refusing, now.cuts, now.target.clone())
    };
    let upstream = match target {
        Some(target) if !refusing => timeout(Duration::from_secs(10), TcpStream::connect(target))
            .await
            .ok()
            .and_then(Result::ok),
        _ => None,
    };
    let Some(mut upstream) = upstream else {
        return end(client, How::Reset).await;
    };
    let _ = client.set_nodelay(true);
    let _ = upstream.set_nodelay(true);

    let how = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = upstream.split();
        let (requests, outgoing) = unbounded_channel();
        let (replies, incoming) = unbounded_channel();
        let link = Link::default();
        // A client that half-closes still gets its replies, so the server's end decides, or a cut's.
        let request_path = async {
            let reading = read_requests(from_client, requests, &shared, &link);
            let writing = write(to_server, outgoing, &shared, cuts, |control| {
                control.request_delay
            });
            match tokio::join!(reading, writing).1 {
                Some(how) => how,
                None => std::future::pending().await,
            }
        };
        let reply_path = async {
            let reading = read_replies(from_server, replies, &shared, &link);
            let writing = write(to_client, incoming, &shared, cuts, |control| {
                control.reply_delay
            });
            let ((), how) = tokio::join!(reading, writing);
            how.unwrap_or(How::Close)
        };
        let cut_from_outside = async {
            match control.wait_for(|now| now.cuts > cuts).await {
                Ok(now) => now.cut_how.unwrap_or(How::Close),
                Err(_) => How::Close,
            }
        };
        tokio::select! {
            how = request_path => how,
            how = reply_path => how,
            how = cut_from_outside => how,
        }
    };
    drop(upstream);
    end(client, how).await;
}

async fn end(mut client: TcpStream, how: How) {
    match how {
        How::Reset => {
            let _ = client.set_zero_linger();
        }
        How::Close => {
            let _ = client.shutdown().await;
            // Closing a socket with unread bytes in it would send a RST, so they are read.
            let mut nowhere = tokio::io::sink();
            let drain = tokio::io::copy(&mut client, &mut nowhere);
            let _ = timeout(Duration::from_secs(2), drain).await;
        }
    }
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Link {
    requests: AtomicUsize,
    /// The reply not to pass on: its number, and how to end instead.
    withheld: Mutex<Option<(usize, How)>>,
    /// SYNC was sent: what follows from the server is a stream, not replies.
    stream: std::sync::atomic::AtomicBool,
}

/// Bytes on their way, or the end of the way.
enum Passing {
    Bytes(Instant, Vec<u8>),
    Cut(How),
}

async fn read_requests(
    mut from: ReadHalf<'_>,
    to: UnboundedSender<Passing>,
    shared: &Shared,
    link: &Link,
) {
    let mut buffer = Vec::new();
    let mut resp = true;
    loop {
        if !matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
        while resp {
            match resp::command(&buffer) {
                Ok(Some((words, length))) => {
                    let bytes: Vec<u8> = buffer.drain(..length).collect();
                    shared.commands.lock().unwrap().push(resp::as_text(&words));
                    let number = link.requests.fetch_add(1, Ordering::Relaxed) + 1;
                    if resp::begins_with(&words, "SYNC") || resp::begins_with(&words, "PSYNC") {
                        link.stream.store(true, Ordering::Relaxed);
                    }
                    match shared.cut_at_command(&words) {
                        Some(Cut {
                            moment: Moment::Before(_),
                            how,
                            ..
                        }) => {
                            let _ = to.send(Passing::Cut(how));
                            return;
                        }
                        Some(Cut { how, .. }) => {
                            *link.withheld.lock().unwrap() = Some((number, how))
                        }
                        None => {}
                    }
                    if to.send(Passing::Bytes(Instant::now(), bytes)).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(resp::NotResp) => resp = false,
            }
        }
        if !resp {
            link.stream.store(true, Ordering::Relaxed);
            if to
                .send(Passing::Bytes(Instant::now(), std::mem::take(&mut buffer)))
                .is_err()
            {
                return;
            }
        }
    }
}

async fn read_replies(
    mut from: ReadHalf<'_>,
    to: UnboundedSender<Passing>,
    shared: &Shared,
    link: &Link,
) {
    let mut buffer = Vec::new();
    let mut number = 0;
    loop {
        if !matches!(from.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
        loop {
            let length = if link.stream.load(Ordering::Relaxed) {
                if shared.ends_amid_rewritten(&buffer) {
                    break;
                }
                Ok(Some(buffer.len()))
            } else {
                resp::message_length(&buffer)
            };
            let bytes: Vec<u8> = match length {
                Ok(Some(0) | None) => break,
                Ok(Some(length)) => buffer.drain(..length).collect(),
                Err(resp::NotResp) => std::mem::take(&mut buffer),
            };
            // A push answers no command.
            if bytes[0] != b'>' {
                number += 1;
            }
            let withheld = *link.withheld.lock().unwrap();
            if let Some((withheld, how)) = withheld
                && withheld <= number
            {
                let _ = to.send(Passing::Cut(how));
                return;
            }
            let (bytes, cut) = shared.cut_in_reply(bytes);
            if to.send(Passing::Bytes(Instant::now(), bytes)).is_err() {
                return;
            }
            if let Some(how) = cut {
                let _ = to.send(Passing::Cut(how));
                return;
            }
        }
    }
}

/// Passes on what is due; `Some` where it came to a cut, `None` at the end of what there was. `cuts` is how many cuts
/// from outside there were when the connection began.
async fn write(
    mut to: WriteHalf<'_>,
    mut passing: UnboundedReceiver<Passing>,
    shared: &Shared,
    cuts: usize,
    delay: impl Fn(&Control) -> Duration,
) -> Option<How> {
    let mut control = shared.control.subscribe();
    while let Some(next) = passing.recv().await {
        match next {
            Passing::Cut(how) => return Some(how),
            Passing::Bytes(arrived, bytes) => {
                let wait = delay(&control.borrow());
                sleep_until(arrived + wait).await;
                // After a cut and the end of a stall both hold: the cut came first.
                let how = {
                    let is_due = |now: &Control| !now.stalled || now.cuts > cuts;
                    let now = control.wait_for(is_due).await.ok()?;
                    (now.cuts > cuts).then(|| now.cut_how.unwrap_or(How::Close))
                };
                if how.is_some() {
                    return how;
                }
                to.write_all(&bytes).await.ok()?;
            }
        }
    }
    let _ = to.shutdown().await;
    None
}

impl Shared {
    /// Whether this command is one to cut at; such a cut happens once.
    fn cut_at_command(&self, words: &[Vec<u8>]) -> Option<Cut> {
        let cut = take_due(&mut self.armed.lock().unwrap(), |cut| match &cut.moment {
            Moment::Before(prefix) | Moment::After(prefix) if resp::begins_with(words, prefix) => {
                cut.nth -= 1;
                cut.nth == 0
            }
            _ => false,
        });
        if cut.as_ref().is_some_and(|cut| cut.stalls) {
            self.control.send_modify(|control| control.stalled = true);
            return None;
        }
        self.carry_out(cut)
    }

    /// Whether the bytes end with the beginning of those that are replaced.
    fn ends_amid_rewritten(&self, bytes: &[u8]) -> bool {
        let control = self.control.borrow();
        let rewritten = control.rewrite.as_ref();
        rewritten
            .is_some_and(|(from, _)| (1..from.len()).any(|length| bytes.ends_with(&from[..length])))
    }

    /// What of these bytes is still to be passed on.
    fn cut_in_reply(&self, mut bytes: Vec<u8>) -> (Vec<u8>, Option<How>) {
        if let Some((from, to)) = &self.control.borrow().rewrite {
            while let Some(at) = bytes.windows(from.len()).position(|window| window == from) {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
        let cut = take_due(&mut self.armed.lock().unwrap(), |cut| {
            match &mut cut.moment {
                Moment::ReplyByte(left) if *left <= bytes.len() => true,
                Moment::ReplyByte(left) => {
                    *left -= bytes.len();
                    false
                }
                _ => false,
            }
        });
        if let Some(Cut {
            moment: Moment::ReplyByte(left),
            ..
        }) = &cut
        {
            bytes.truncate(*left);
        }
        (bytes, self.carry_out(cut).map(|cut| cut.how))
    }

    fn carry_out(&self, cut: Option<Cut>) -> Option<Cut> {
        if cut.as_ref().is_some_and(|cut| cut.then_refuse) {
            self.control.send_modify(|control| control.refusing = true);
        }
        cut
    }
}

fn take_due(armed: &mut Vec<Cut>, mut due: impl FnMut(&mut Cut) -> bool) -> Option<Cut> {
    let at = armed.iter_mut().position(&mut due)?;
    Some(armed.remove(at))
}
