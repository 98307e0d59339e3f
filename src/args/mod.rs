//! Option groups and value parsers that commands share.

pub mod again;
pub mod global;
pub(crate) mod moves;
pub(crate) mod named;
pub(crate) mod source;
pub(crate) mod transfer;
pub(crate) mod values;
pub(crate) mod zones;
