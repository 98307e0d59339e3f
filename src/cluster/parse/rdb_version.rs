//! RDB versions: which server reads the values of which other server.
//!
//! DUMP, MIGRATE and replication all write the RDB version of their server, and RESTORE and a replica refuse a newer
//! one, whatever the value is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Product, Version};
use crate::cluster::numbers::counted;

/// The last RDB version that Redis and Valkey share.
const LAST_SHARED: u16 = 11;
/// The first RDB version of Valkey's own.
const FIRST_OF_VALKEY: u16 = 80;

impl Version {
    /// Returns the RDB version that the server writes, which is the highest that it reads (rdb.h of each release);
    /// `None` for versions that are not released yet.
    pub fn highest_rdb_version(self) -> Option<u16> {
        let [major, minor, _] = self.numbers;
        match (self.product, major, minor) {
            (Product::Valkey, ..=8, _) => Some(LAST_SHARED),
            (Product::Valkey, 9, _) => Some(FIRST_OF_VALKEY),
            (Product::Redis, 3, _) => Some(6),
            (Product::Redis, 4, _) => Some(8),
            (Product::Redis, 5 | 6, _) => Some(9),
            (Product::Redis, 7, 0) => Some(10),
            (Product::Redis, 7, 1..=3) => Some(11),
            (Product::Redis, 7, _) | (Product::Redis, 8, ..=4) => Some(12),
            (Product::Redis, 8, 5 | 6) => Some(13),
            (Product::Redis, 8, 7 | 8) => Some(14),
            (Product::Redis, 8, 9 | 10) => Some(15),
            (Product::Redis, 8, 11 | 12) => Some(16),
            _ => None,
        }
    }

    /// Whether the server reads values of that RDB version; `None` for servers that are not released yet. Valkey
    /// refuses the versions between the last one that it shares with Redis and its own.
    pub fn reads_rdb_version(self, version: u16) -> Option<bool> {
        let highest = self.highest_rdb_version()?;
        let is_of_redis_only = (LAST_SHARED + 1..FIRST_OF_VALKEY).contains(&version);
        Some(version <= highest && !(highest >= FIRST_OF_VALKEY && is_of_redis_only))
    }

    /// Whether RESTORE of this server takes the values of a source: keys can move from there to here. What is not
    /// known of servers that are not released yet counts as yes: the first key shows it.
    pub fn takes_values_of(self, source: Self) -> bool {
        let Some(version) = source.highest_rdb_version() else {
            return true;
        };
        self.reads_rdb_version(version).unwrap_or(true)
    }

    /// Whether this server can be a replica of that master. Valkey writes an older RDB version for an older Valkey
    /// replica (9.1 for 8.0 and 8.1); Redis does not.
    pub fn can_follow(self, master: Self) -> bool {
        let both_valkey = self.product == Product::Valkey && master.product == Product::Valkey;
        both_valkey || self.takes_values_of(master)
    }

    /// The same for nodes of which the version may be unknown, which counts as yes.
    pub fn may_follow(replica: Option<Self>, master: Option<Self>) -> bool {
        let known = replica.zip(master);
        known.is_none_or(|(replica, master)| replica.can_follow(master))
    }

    /// `redis 7.0.15 on 5 nodes, valkey 8.1.8 on 1 node`, if the versions of nodes differ.
    pub fn differing(versions: impl IntoIterator<Item = Self>) -> Option<String> {
        let mut nodes: BTreeMap<Self, u64> = BTreeMap::new();
        for version in versions {
            *nodes.entry(version).or_default() += 1;
        }
        let list = nodes
            .iter()
            .map(|(version, count)| format!("{version} on {}", counted(*count, "node")));
        (nodes.len() > 1).then(|| list.collect::<Vec<_>>().join(", "))
    }

    /// `redis 8.2.3 (RDB version 12) and redis 8.6.1 (RDB version 13)`: each version once, for messages.
    pub fn with_rdb_versions(versions: impl IntoIterator<Item = Self>) -> String {
        let each: BTreeSet<Self> = versions.into_iter().collect();
        let each: Vec<String> = each.into_iter().map(Self::with_rdb_version).collect();
        each.join(" and ")
    }

    /// `redis 8.2.3 (RDB version 12)`, for messages.
    pub fn with_rdb_version(self) -> String {
        match self.highest_rdb_version() {
            Some(version) => format!("{self} (RDB version {version})"),
            None => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(product: Product, major: u16, minor: u16) -> Version {
        Version {
            product,
            numbers: [major, minor, 0],
        }
    }

    /// As tried with MIGRATE between real servers; none of them looks at the value.
    #[test]
    fn values_go_to_servers_that_read_their_rdb_version() {
        use Product::{Redis, Valkey};
        let servers = [
            server(Redis, 6, 2),
            server(Redis, 7, 0),
            server(Redis, 8, 2),
            server(Redis, 8, 6),
            server(Redis, 8, 10),
            server(Valkey, 8, 0),
            server(Valkey, 8, 1),
            server(Valkey, 9, 1),
        ];
        let rows: Vec<String> = servers
            .iter()
            .map(|source| {
                let taken = servers.iter().map(|target| target.takes_values_of(*source));
                taken.map(|taken| if taken { 'x' } else { '.' }).collect()
            })
            .collect();
        assert_eq!(
            rows,
            [
                "xxxxxxxx", ".xxxxxxx", "..xxx...", "...xx...", "....x...", "..xxxxxx", "..xxxxxx",
                ".......x",
            ]
        );
    }

    #[test]
    fn versions_that_are_not_released_yet_are_not_refused() {
        let (now, later) = (server(Product::Redis, 8, 6), server(Product::Redis, 9, 0));
        assert!(now.takes_values_of(later) && later.takes_values_of(now));
        let newest = server(Product::Redis, 8, 10);
        assert!(!now.takes_values_of(newest) && newest.takes_values_of(now));
    }

    #[test]
    fn an_older_valkey_follows_a_newer_one_and_an_older_redis_does_not() {
        use Product::{Redis, Valkey};
        assert!(server(Valkey, 8, 0).can_follow(server(Valkey, 9, 1)));
        assert!(!server(Redis, 7, 0).can_follow(server(Redis, 8, 2)));
        assert!(server(Redis, 8, 2).can_follow(server(Redis, 8, 4)));
        assert!(!server(Valkey, 9, 1).can_follow(server(Redis, 8, 2)));
        assert!(server(Valkey, 9, 1).can_follow(server(Redis, 7, 0)));
        let text = server(Redis, 8, 2).with_rdb_version();
        assert_eq!(text, "redis 8.2.0 (RDB version 12)");
        let (old, new) = (server(Redis, 7, 0), server(Redis, 8, 2));
        assert!(!Version::may_follow(Some(old), Some(new)));
        assert!(Version::may_follow(Some(new), Some(old)));
        assert!(Version::may_follow(None, Some(new)) && Version::may_follow(Some(old), None));
        assert_eq!(
            Version::with_rdb_versions([new, old, new]),
            "redis 7.0.0 (RDB version 10) and redis 8.2.0 (RDB version 12)"
        );
    }
}
