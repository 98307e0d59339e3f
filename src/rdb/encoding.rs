//! The types of values, by number and by who numbered them.

use std::fmt;

use crate::cluster::parse::Version as ServerVersion;

/// Who wrote a file or a payload. The numbers mean the same up to 21.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Redis; Valkey up to 8.1 writes the same, up to version 11.
    Redis,
    /// Valkey from 9.0 on.
    Valkey,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        })
    }
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoding {
    /// A string.
    String,
    /// A list of strings.
    List,
    /// A set of strings.
    Set,
    /// A sorted set, its scores as text.
    ZSet,
    /// A hash.
    Hash,
    /// A sorted set, its scores as 64-bit floats (Redis ≥ 4.0).
    ZSet2,
    /// A module's value (Redis ≥ 4.0).
    Module2,
    /// A hash in one string (Redis < 2.6).
    HashZipmap,
    /// A list in one ziplist.
    ListZiplist,
    /// A set of integers.
    SetIntset,
    /// A sorted set in one ziplist.
    ZSetZiplist,
    /// A hash in one ziplist.
    HashZiplist,
    /// A list of ziplists (Redis ≥ 3.2).
    ListQuicklist,
    /// A stream (Redis ≥ 5.0).
    Stream,
    /// A hash in one listpack (Redis ≥ 7.0).
    HashListpack,
    /// A sorted set in one listpack (Redis ≥ 7.0).
    ZSetListpack,
    /// A list of listpacks (Redis ≥ 7.0).
    ListQuicklist2,
    /// A stream (Redis ≥ 7.0).
    Stream2,
    /// A set in one listpack (Redis ≥ 7.2).
    SetListpack,
    /// A stream (Redis ≥ 7.2).
    Stream3,
    /// A hash with field TTLs, of Redis 7.4's release candidates.
    HashMetadataPreGa,
    /// A hash with field TTLs in one listpack, of Redis 7.4's release candidates.
    HashListpackExPreGa,
    /// A hash with field TTLs (Redis ≥ 7.4).
    HashMetadata,
    /// A hash with field TTLs in one listpack (Redis ≥ 7.4).
    HashListpackEx,
    /// A stream that remembers who added what (Redis ≥ 8.6).
    Stream4,
    /// A hash with field TTLs (Valkey ≥ 9.0).
    ValkeyHash2,
}

/// One row of the table: number, type, the RDB version that brought it, its word.
type Row = (u8, Encoding, u16, &'static str);

/// What both know.
const SHARED: [Row; 20] = [
    (0, Encoding::String, 1, "string"),
    (1, Encoding::List, 1, "list"),
    (2, Encoding::Set, 1, "set"),
    (3, Encoding::ZSet, 1, "zset"),
    (4, Encoding::Hash, 1, "hash"),
    (5, Encoding::ZSet2, 8, "zset-2"),
    (7, Encoding::Module2, 8, "module"),
    (9, Encoding::HashZipmap, 1, "hash-zipmap"),
    (10, Encoding::ListZiplist, 1, "list-ziplist"),
    (11, Encoding::SetIntset, 1, "set-intset"),
    (12, Encoding::ZSetZiplist, 1, "zset-ziplist"),
    (13, Encoding::HashZiplist, 4, "hash-ziplist"),
    (14, Encoding::ListQuicklist, 7, "list-quicklist"),
    (15, Encoding::Stream, 9, "stream"),
    (16, Encoding::HashListpack, 10, "hash-listpack"),
    (17, Encoding::ZSetListpack, 10, "zset-listpack"),
    (18, Encoding::ListQuicklist2, 10, "list-quicklist-2"),
    (19, Encoding::Stream2, 10, "stream-2"),
    (20, Encoding::SetListpack, 11, "set-listpack"),
    (21, Encoding::Stream3, 11, "stream-3"),
];

const REDIS: [Row; 5] = [
    (22, Encoding::HashMetadataPreGa, 12, "hash-field-ttl-rc"),
    (
        23,
        Encoding::HashListpackExPreGa,
        12,
        "hash-field-ttl-listpack-rc",
    ),
    (24, Encoding::HashMetadata, 12, "hash-field-ttl"),
    (25, Encoding::HashListpackEx, 12, "hash-field-ttl-listpack"),
    (26, Encoding::Stream4, 13, "stream-4"),
];

const VALKEY: [Row; 1] = [(22, Encoding::ValkeyHash2, 80, "hash-field-ttl-valkey")];

/// Everything that is known.
fn rows() -> impl Iterator<Item = &'static Row> {
    SHARED.iter().chain(&REDIS).chain(&VALKEY)
}

impl Encoding {
    /// The type of that number; `None` where it is not known.
    pub fn of(number: u8, dialect: Dialect) -> Option<Self> {
        let own: &[Row] = match dialect {
            Dialect::Redis => &REDIS,
            Dialect::Valkey => &VALKEY,
        };
        let mut rows = SHARED.iter().chain(own);
        rows.find(|row| row.0 == number).map(|row| row.1)
    }

    fn row(self) -> Option<&'static Row> {
        rows().find(|row| row.1 == self)
    }

    /// The RDB version that brought it, which every server that knows the type takes: a payload of
    /// that version is understood by the oldest of them, and by both products where both know it.
    pub fn version(self) -> u16 {
        self.row().map_or(u16::MAX, |row| row.2)
    }

    /// Whether RESTORE of that server takes the type; `None` for servers that are not released yet. Valkey 9 takes its
    /// own version 80 and what it shares with Redis (up to 11), but not the versions of Redis in between.
    pub fn is_taken_by(self, server: ServerVersion) -> Option<bool> {
        let highest = server.highest_rdb_version()?;
        let version = self.version();
        let is_between = highest >= 80 && (12..80).contains(&version);
        Some(version <= highest && !is_between)
    }

    /// Its word, in manifests and messages.
    pub fn word(self) -> &'static str {
        self.row().map_or("unknown", |row| row.3)
    }

    /// The type of that word.
    pub fn of_word(word: &str) -> Option<Self> {
        rows().find(|row| row.3 == word).map(|row| row.1)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
