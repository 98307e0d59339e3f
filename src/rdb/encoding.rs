//! The value types of RDB files, by number and product.

use std::fmt;

use crate::cluster::parse::Version as ServerVersion;

/// The product that wrote a file or a payload. Type numbers up to 21 mean the same in both.
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

/// How a value is encoded.
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
    /// A stream that records the ids of its producers (Redis ≥ 8.6).
    Stream4,
    /// A stream whose groups have pending entries without a consumer, by XNACK (Redis ≥ 8.8).
    Stream5,
    /// An array (Redis ≥ 8.8).
    Array,
    /// A hash with its own copy of its template, the values in one listpack (Redis ≥ 8.10; DUMP).
    TemplateListpack,
    /// The same with a reference to a template elsewhere in the RDB file.
    TemplateListpackRef,
    /// A hash with its own copy of its template (Redis ≥ 8.10; DUMP).
    TemplateArray,
    /// The same with a reference to a template elsewhere in the RDB file.
    TemplateArrayRef,
    /// A roaring bitmap (Redis ≥ 8.12).
    Bitmap,
    /// A hash with field TTLs (Valkey ≥ 9.0).
    ValkeyHash2,
}

/// A row of the table: number, type, the first RDB version with it, its name.
type Row = (u8, Encoding, u16, &'static str);

/// Types of both products.
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

const REDIS: [Row; 12] = [
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
    (27, Encoding::Stream5, 14, "stream-5"),
    (28, Encoding::Array, 14, "array"),
    (29, Encoding::TemplateListpack, 15, "hash-template-listpack"),
    (
        30,
        Encoding::TemplateListpackRef,
        15,
        "hash-template-listpack-ref",
    ),
    (31, Encoding::TemplateArray, 15, "hash-template-array"),
    (
        32,
        Encoding::TemplateArrayRef,
        15,
        "hash-template-array-ref",
    ),
    (BITMAP, Encoding::Bitmap, 16, "roaring-bitmap"),
];

/// Redis 8.8 can be built with another type of this number (a rate limiter), in RDB version 14.
const BITMAP: u8 = 33;

const VALKEY: [Row; 1] = [(22, Encoding::ValkeyHash2, 80, "hash-field-ttl-valkey")];

/// All known types.
fn rows() -> impl Iterator<Item = &'static Row> {
    SHARED.iter().chain(&REDIS).chain(&VALKEY)
}

impl Encoding {
    /// Returns the type of that number in a file or payload of that RDB version; `None` if it is unknown.
    pub fn of(number: u8, dialect: Dialect, version: u16) -> Option<Self> {
        let own: &[Row] = match dialect {
            Dialect::Redis => &REDIS,
            Dialect::Valkey => &VALKEY,
        };
        let mut rows = SHARED.iter().chain(own);
        rows.find(|row| row.0 == number && (row.0 != BITMAP || version >= row.2))
            .map(|row| row.1)
    }

    /// Returns the number of the type.
    pub(super) fn number(self) -> u8 {
        self.row().map_or(u8::MAX, |row| row.0)
    }

    /// Returns the next older type that holds the same value ([`older`](super::older::older)), if there is one.
    pub(super) fn older(self) -> Option<Self> {
        Some(match self {
            Self::Stream5 => Self::Stream4,
            Self::Stream4 => Self::Stream3,
            Self::Stream3 => Self::Stream2,
            Self::Stream2 => Self::Stream,
            Self::TemplateListpack | Self::TemplateArray | Self::HashListpack => Self::Hash,
            Self::SetListpack => Self::Set,
            Self::ZSetListpack => Self::ZSet2,
            Self::ListQuicklist2 => Self::List,
            _ => return None,
        })
    }

    /// Returns the type of the other product that holds the same value, where neither reads the type of the other
    /// ([`translated`](super::older::translated)).
    pub(super) fn of_other_product(self) -> Option<Self> {
        Some(match self {
            Self::HashMetadata
            | Self::HashListpackEx
            | Self::HashMetadataPreGa
            | Self::HashListpackExPreGa => Self::ValkeyHash2,
            Self::ValkeyHash2 => Self::HashMetadata,
            _ => return None,
        })
    }

    /// Whether fields of the hash expire.
    pub fn has_field_ttls(self) -> bool {
        self.of_other_product().is_some()
    }

    /// The product whose servers know the type; both know most.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::ValkeyHash2 => Dialect::Valkey,
            _ => Dialect::Redis,
        }
    }

    fn row(self) -> Option<&'static Row> {
        rows().find(|row| row.1 == self)
    }

    /// Returns the first RDB version with the type, which every server that knows the type accepts: the oldest server
    /// that knows it understands a payload of that version, and so do both products if both know it.
    pub fn version(self) -> u16 {
        self.row().map_or(u16::MAX, |row| row.2)
    }

    /// Whether RESTORE of that server accepts the type, or another one that holds the same value; `None` for
    /// servers that are not released yet.
    pub fn is_accepted_by(self, server: ServerVersion) -> Option<bool> {
        let accepts = |encoding: Self| server.reads_rdb_version(encoding.version());
        let mut forms = std::iter::successors(Some(self), |encoding| encoding.older());
        let first = forms.next().and_then(accepts)?;
        let mut forms = forms.chain(self.of_other_product());
        Some(first || forms.any(|encoding| accepts(encoding) == Some(true)))
    }

    /// Returns the name in manifests and messages.
    pub fn word(self) -> &'static str {
        self.row().map_or("unknown", |row| row.3)
    }

    /// Returns the type of that name.
    pub fn of_word(word: &str) -> Option<Self> {
        rows().find(|row| row.3 == word).map(|row| row.1)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
