//! Clients at work on a cluster: each writes new keys, and waits until a replica has them (WAIT). What was
//! acknowledged must still be there afterwards.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use redis::IntoConnectionInfo;
use redis_trib::cluster::slot::Slot;

use super::server::Server;
use super::wait::{PATIENCE, until};

/// Writers at work, until [`Self::stop`].
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    longest: Arc<Mutex<Duration>>,
    threads: Vec<JoinHandle<()>>,
}

/// How a writer goes about it.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Between two keys.
    pub(crate) pause: Duration,
    /// How often one key is tried; then the next one is.
    pub(crate) tries: usize,
}

impl Manner {
    /// As fast as it goes, and each key until it is written.
    const KEEN: Self = Self {
        pause: Duration::ZERO,
        tries: usize::MAX,
    };
}

/// What a client remembers of a cluster: the owner of each slot, and its connections.
struct Client {
    /// Where each server listens: the socket is there also where its port is out of reach.
    sockets: BTreeMap<String, PathBuf>,
    owners: BTreeMap<u16, String>,
    connections: BTreeMap<String, redis::Connection>,
}

impl Client {
    fn connection(&mut self, addr: &str) -> redis::RedisResult<&mut redis::Connection> {
        match self.connections.entry(addr.to_owned()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let place = match self.sockets.get(addr) {
                    Some(socket) => redis::ConnectionAddr::Unix(socket.clone()),
                    None => {
                        let (host, port) = addr.rsplit_once(':').unwrap_or_default();
                        redis::ConnectionAddr::Tcp(host.to_owned(), port.parse().unwrap_or(0))
                    }
                };
                let client = redis::Client::open(place.into_connection_info()?)?;
                let connection = client.get_connection_with_timeout(Duration::from_millis(300))?;
                connection.set_read_timeout(Some(Duration::from_millis(1500)))?;
                Ok(new.insert(connection))
            }
        }
    }

    /// SET, and how many replicas have it. MOVED is followed next time, ASK at once.
    fn write(&mut self, key: &str, attempt: usize) -> redis::RedisResult<u64> {
        let slot = Slot::of_key(key.as_bytes()).number();
        let addr = match self.owners.get(&slot) {
            Some(addr) => addr.clone(),
            None => {
                let nth = attempt % self.sockets.len();
                self.sockets.keys().nth(nth).cloned().unwrap_or_default()
            }
        };
        let answer = self.set(&addr, key, false);
        match &answer {
            Ok(_) => drop(self.owners.insert(slot, addr)),
            Err(error) => match error.redirect_node() {
                Some((other, _)) if error.code() == Some("ASK") => {
                    let other = other.to_owned();
                    let answer = self.set(&other, key, true);
                    if answer.is_err() {
                        self.connections.remove(&other);
                    }
                    return answer;
                }
                Some((owner, _)) => drop(self.owners.insert(slot, owner.to_owned())),
                None => {
                    self.owners.remove(&slot);
                    self.connections.remove(&addr);
                }
            },
        }
        answer
    }

    fn set(&mut self, addr: &str, key: &str, asking: bool) -> redis::RedisResult<u64> {
        let connection = self.connection(addr)?;
        if asking {
            redis::cmd("ASKING").query::<()>(connection)?;
        }
        redis::cmd("SET")
            .arg(key)
            .arg(key)
            .query::<()>(connection)?;
        redis::cmd("WAIT").arg(1).arg(500).query(connection)
    }

    /// Whether a replica acknowledged the write within `tries`.
    fn insist(&mut self, key: &str, tries: usize, stop: &AtomicBool) -> bool {
        for attempt in 0..tries {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            match self.write(key, attempt) {
                Ok(1..) => return true,
                // Not confirmed by a replica in time, or not at all: again.
                Ok(0) | Err(_) => thread::sleep(Duration::from_millis(2)),
            }
        }
        false
    }
}

impl Writers {
    /// `count` of them.
    pub(crate) fn start(servers: &[Server], count: usize) -> Self {
        Self::with(servers, count, Manner::KEEN)
    }

    pub(crate) fn with(servers: &[Server], count: usize, manner: Manner) -> Self {
        let sockets = servers
            .iter()
            .map(|server| (server.addr(), server.socket()));
        let sockets: BTreeMap<String, PathBuf> = sockets.collect();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::<Mutex<BTreeSet<String>>>::default();
        let longest = Arc::<Mutex<Duration>>::default();
        let threads = (0..count)
            .map(|writer| {
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                let longest = Arc::clone(&longest);
                let mut client = Client {
                    sockets: sockets.clone(),
                    owners: BTreeMap::new(),
                    connections: BTreeMap::new(),
                };
                thread::spawn(move || {
                    for number in 0_usize.. {
                        let key = format!("written:{writer}:{number}");
                        let began = Instant::now();
                        if client.insist(&key, manner.tries, &stop) {
                            let mut longest = longest.lock().unwrap();
                            *longest = (*longest).max(began.elapsed());
                            acknowledged.lock().unwrap().insert(key);
                        } else if stop.load(Ordering::Relaxed) {
                            return;
                        }
                        thread::sleep(manner.pause);
                    }
                })
            })
            .collect();
        let writers = Self {
            stop,
            acknowledged,
            longest,
            threads,
        };
        writers.wait_for_more(50);
        writers
    }

    /// What was acknowledged so far.
    pub(crate) fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().unwrap().clone()
    }

    /// Until so many more writes are acknowledged.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, count: usize) {
        let before = self.acknowledged.lock().unwrap().len();
        until("writes to be acknowledged", PATIENCE, || {
            match self.acknowledged.lock().unwrap().len() {
                now if now >= before + count => Ok(()),
                now => Err(format!("{} of {count}", now - before)),
            }
        });
    }

    /// Ends them; how long one write took at the most.
    pub(crate) fn stop(&mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        *self.longest.lock().unwrap()
    }

    /// Every acknowledged write is there, on the master of its slot.
    #[track_caller]
    pub(crate) fn assert_kept(&self, servers: &[&Server]) {
        let mut found = BTreeSet::new();
        for server in servers {
            if server.field("role").as_deref() == Some("master") {
                let keys: Vec<String> = redis::cmd("KEYS")
                    .arg("written:*")
                    .query(&mut server.connection().unwrap())
                    .unwrap();
                found.extend(keys);
            }
        }
        let acknowledged = self.acknowledged.lock().unwrap();
        let lost: Vec<&String> = acknowledged.difference(&found).collect();
        assert!(
            lost.is_empty(),
            "{} of {} acknowledged writes are lost, such as {:?}",
            lost.len(),
            acknowledged.len(),
            lost[0]
        );
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
