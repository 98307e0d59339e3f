//! A server's reply to any command, as data: what `call` passes on.

/// A reply. RESP2's types are what servers answer with here; those of RESP3 are kept apart from them
/// where a server uses them all the same.
#[derive(Debug, Clone, PartialEq)]
pub enum Resp {
    /// Nothing (`$-1`, `*-1`, `_`).
    Nil,
    /// A number.
    Int(i64),
    /// A number with a fraction (RESP3).
    Double(f64),
    /// Yes or no (RESP3).
    Bool(bool),
    /// A word of status: `OK`.
    Status(String),
    /// Bytes as they are, which may be no text.
    Bytes(Vec<u8>),
    /// A list; a set, too.
    Array(Vec<Resp>),
    /// Pairs, in the server's order (RESP3).
    Map(Vec<(Resp, Resp)>),
    /// An error: `ERR unknown command`, with its code in front.
    Error(String),
}

impl Resp {
    /// What the server says is wrong, also with one of several replies (EXEC).
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
