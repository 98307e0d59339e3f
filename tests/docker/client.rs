//! A client of a cluster: it remembers the owner of each slot, and keeps its connections.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use redis::{Connection, FromRedisValue, IntoConnectionInfo, RedisResult};
use redis_trib::cluster::slot::Slot;

pub(crate) struct Client {
    seeds: Vec<String>,
    password: Option<String>,
    owners: BTreeMap<u16, String>,
    connections: BTreeMap<String, Connection>,
}

impl Client {
    /// Begins at one of `seeds` (host:port).
    pub(crate) fn new(seeds: Vec<String>, password: Option<String>) -> Self {
        Self {
            seeds,
            password,
            owners: BTreeMap::new(),
            connections: BTreeMap::new(),
        }
    }

    fn connection(&mut self, addr: &str) -> RedisResult<&mut Connection> {
        match self.connections.entry(addr.to_owned()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let info = format!("redis://{addr}").into_connection_info()?;
                let mut settings = info.redis_settings().clone();
                if let Some(password) = &self.password {
                    settings = settings.set_password(password);
                }
                let client = redis::Client::open(info.set_redis_settings(settings))?;
                let connection = client.get_connection_with_timeout(Duration::from_millis(300))?;
                connection.set_read_timeout(Some(Duration::from_millis(1500)))?;
                Ok(new.insert(connection))
            }
        }
    }

    /// Asks the owner of the key's slot, as far as it is known, and follows redirections.
    pub(crate) fn ask<T: FromRedisValue>(
        &mut self,
        key: &str,
        attempt: usize,
        ask: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        let slot = Slot::of_key(key.as_bytes()).number();
        let mut redirections = 0;
        loop {
            let addr = match self.owners.get(&slot) {
                Some(addr) => addr.clone(),
                None => self.seeds[attempt % self.seeds.len()].clone(),
            };
            let answer = self.connection(&addr).and_then(&ask);
            let Err(error) = &answer else {
                return answer;
            };
            match error.redirect_node() {
                // The other end of an open slot: for this once.
                Some((other, _)) if error.code() == Some("ASK") => {
                    let connection = self.connection(other)?;
                    redis::cmd("ASKING").query::<()>(connection)?;
                    return ask(connection);
                }
                Some((other, _)) => {
                    self.owners.insert(slot, other.to_owned());
                    redirections += 1;
                    if redirections == 5 {
                        return answer;
                    }
                }
                // Whatever else it owned is elsewhere too: a dead address costs its whole timeout each time.
                None => {
                    self.owners.retain(|_, owner| *owner != addr);
                    self.connections.remove(&addr);
                    return answer;
                }
            }
        }
    }
}
