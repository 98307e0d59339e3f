//! Option groups and value parsers that commands share.

pub mod global;
pub(crate) mod moves;
pub(crate) mod transfer;
pub(crate) mod values;
