//! A server's reply to any command, as data, for `call`.

/// A reply. Servers answer with RESP2 types here; RESP3 types are kept distinct where a server sends them anyway.
#[derive(Debug, Clone, PartialEq)]
pub enum Resp {
    /// Nil (`$-1`, `*-1`, `_`).
    Nil,
    /// An integer.
    Int(i64),
    /// A floating-point number (RESP3).
    Double(f64),
    /// A boolean (RESP3).
    Bool(bool),
    /// A status: `OK`.
    Status(String),
    /// Bytes, which may not be text.
    Bytes(Vec<u8>),
    /// An array, or a set.
    Array(Vec<Resp>),
    /// Pairs, in the server's order (RESP3).
    Map(Vec<(Resp, Resp)>),
    /// An error with its code: `ERR unknown command`.
    Error(String),
}

impl Resp {
    /// Returns the error, also if it is the one of several replies (EXEC).
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Error(text) => Some(text),
            Self::Array(items) => items.iter().find_map(Self::error),
            Self::Map(pairs) => pairs
                .iter()
                .find_map(|(key, value)| key.error().or_else(|| value.error())),
            Self::Nil
            | Self::Int(_)
            | Self::Double(_)
            | Self::Bool(_)
            | Self::Status(_)
            | Self::Bytes(_) => None,
        }
    }
}
