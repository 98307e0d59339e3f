//! The pipeline of every command.

pub(crate) mod consent;
pub(crate) mod journal;
pub(crate) mod signals;
