//! Clients at work on a cluster: each writes new keys, and waits until a replica has them (WAIT). What was
//! acknowledged must still be there afterwards.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

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

/// What a client remembers of a cluster: who owns which slot, and its connections.
struct Client {
    ports: Vec<u16>,
    owners: BTreeMap<u16, u16>,
    connections: BTreeMap<u16, redis::Connection>,
}

impl Client {
    fn connection(&mut self, port: u16) -> redis::RedisResult<&mut redis::Connection> {
        match self.connections.entry(port) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
                let connection = client.get_connection_with_timeout(Duration::from_millis(300))?;
                connection.set_read_timeout(Some(Duration::from_millis(1500)))?;
                Ok(new.insert(connection))
            }
        }
    }

    /// SET, and how many replicas have it; a redirection is followed once, next time.
    fn write(&mut self, key: &str, attempt: usize) -> redis::RedisResult<u64> {
        let slot = Slot::of_key(key.as_bytes()).number();
        let port = match self.owners.get(&slot) {
            Some(port) => *port,
            None => self.ports[attempt % self.ports.len()],
        };
        let connection = self.connection(port)?;
        let answer = redis::cmd("SET").arg(key).arg(key).query::<()>(connection);
        let answer =
            answer.and_then(|()| redis::cmd("WAIT").arg(1).arg(500).query::<u64>(connection));
        match &answer {
            Ok(_) => drop(self.owners.insert(slot, port)),
            Err(error) => match error.redirect_node() {
                Some((addr, _)) => {
                    let port = addr.rsplit_once(':').unwrap().1.parse().unwrap();
                    self.owners.insert(slot, port);
                }
                None => {
                    self.owners.remove(&slot);
                    self.connections.remove(&port);
                }
            },
        }
        answer
    }
}

impl Writers {
    /// `count` of them, on servers of 127.0.0.1.
    pub(crate) fn start(servers: &[Server], count: usize) -> Self {
        let ports: Vec<u16> = servers.iter().map(Server::port).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::<Mutex<BTreeSet<String>>>::default();
        let longest = Arc::<Mutex<Duration>>::default();
        let threads = (0..count)
            .map(|writer| {
                let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
                let longest = Arc::clone(&longest);
                let mut client = Client {
                    ports: ports.clone(),
                    owners: BTreeMap::new(),
                    connections: BTreeMap::new(),
                };
                thread::spawn(move || {
                    for number in 0_usize.. {
                        let key = format!("written:{writer}:{number}");
                        let began = Instant::now();
                        for attempt in 0.. {
                            if stop.load(Ordering::Relaxed) {
                                return;
                            }
                            match client.write(&key, attempt) {
                                Ok(1..) => break,
                                // Not confirmed by a replica in time, or not at all: again.
                                Ok(0) | Err(_) => thread::sleep(Duration::from_millis(2)),
                            }
                        }
                        let mut longest = longest.lock().unwrap();
                        *longest = (*longest).max(began.elapsed());
                        acknowledged.lock().unwrap().insert(key);
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
