//! Clients that overwrite their own keys with rising numbers while slots move. Clients that write new
//! keys and wait for replicas are in [`super::writers`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use redis::{Connection, cmd};

use super::keys::contents;
use super::server::Server;
use super::slots::slot_of;
use super::wait::until;

/// Clients that follow MOVED and ASK, each with keys of its own, each value higher than the last.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<BTreeMap<String, u64>>>,
}

impl Writers {
    /// One thread for each list of keys.
    pub(crate) fn start(seeds: &[String], keys: Vec<Vec<String>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicUsize::new(0));
        let threads = keys
            .into_iter()
            .map(|keys| {
                let (stop, written, seeds) =
                    (Arc::clone(&stop), Arc::clone(&written), seeds.to_vec());
                thread::spawn(move || write(&seeds, &keys, &stop, &written))
            })
            .collect();
        Self {
            stop,
            written,
            threads,
        }
    }

    /// Until they have written so much more.
    pub(crate) fn wait(&self, more: usize) {
        let goal = self.written.load(Ordering::Relaxed) + more;
        until(
            "the writers to get on",
            Duration::from_secs(30),
            || match self.written.load(Ordering::Relaxed) {
                now if now >= goal => Ok(()),
                now => Err(format!("{now} of {goal}")),
            },
        );
    }

    /// Ends them. Whatever was acknowledged is still there, or something newer is.
    #[track_caller]
    pub(crate) fn finish(self, nodes: &[Server]) {
        self.stop.store(true, Ordering::Relaxed);
        let acknowledged: Vec<_> = self
            .threads
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect();
        let contents = contents(nodes);
        for (key, number) in acknowledged.iter().flatten() {
            let Some((value, _)) = contents.get(&(0, key.clone().into_bytes())) else {
                panic!("{key} was written {number} times, and is gone");
            };
            let now: u64 = value
                .chars()
                .filter(char::is_ascii_digit)
                .collect::<String>()
                .parse()
                .unwrap();
            // One more may have arrived than was acknowledged.
            assert!(
                (*number..=number + 1).contains(&now),
                "{key} was acknowledged as {number}, and is {now}"
            );
        }
    }
}

fn write(
    seeds: &[String],
    keys: &[String],
    stop: &AtomicBool,
    written: &AtomicUsize,
) -> BTreeMap<String, u64> {
    let mut connections: BTreeMap<String, Connection> = BTreeMap::new();
    let mut owners: BTreeMap<usize, String> = BTreeMap::new();
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    let mut tries = 0;
    'next: while !stop.load(Ordering::Relaxed) {
        for key in keys {
            let number = acknowledged.get(key).map_or(1, |number| number + 1);
            let slot = slot_of(key.as_bytes());
            let mut asked: Option<String> = None;
            loop {
                if stop.load(Ordering::Relaxed) {
                    break 'next;
                }
                let addr = asked
                    .clone()
                    .or_else(|| owners.get(&slot).cloned())
                    .unwrap_or_else(|| seeds[tries % seeds.len()].clone());
                if !connections.contains_key(&addr) {
                    let client = redis::Client::open(format!("redis://{addr}/")).unwrap();
                    match client.get_connection_with_timeout(Duration::from_secs(1)) {
                        Ok(connection) => {
                            connection
                                .set_read_timeout(Some(Duration::from_secs(3)))
                                .unwrap();
                            connections.insert(addr.clone(), connection);
                        }
                        Err(_) => {
                            tries += 1;
                            owners.remove(&slot);
                            asked = None;
                            thread::sleep(Duration::from_millis(20));
                            continue;
                        }
                    }
                }
                let connection = connections.get_mut(&addr).unwrap();
                let asking = match asked {
                    Some(_) => cmd("ASKING").query::<()>(connection),
                    None => Ok(()),
                };
                let mut set = || cmd("SET").arg(key).arg(number).query::<()>(connection);
                match asking.and_then(|()| set()) {
                    Ok(()) => {
                        acknowledged.insert(key.clone(), number);
                        written.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                    Err(error) => {
                        asked = None;
                        let to = error.redirect_node().map(|(addr, _)| addr.to_owned());
                        match (error.code(), to) {
                            (Some("MOVED"), Some(to)) => drop(owners.insert(slot, to)),
                            (Some("ASK"), Some(to)) => asked = Some(to),
                            _ => {
                                connections.remove(&addr);
                                owners.remove(&slot);
                                tries += 1;
                                thread::sleep(Duration::from_millis(20));
                            }
                        }
                    }
                }
            }
            thread::sleep(Duration::from_micros(300));
        }
    }
    acknowledged
}
