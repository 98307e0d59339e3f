//! Which commands `call` sends to all nodes.

pub(crate) mod danger;
