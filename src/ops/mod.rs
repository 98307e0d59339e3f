//! What commands do to a cluster, one module per feature.

pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod data;
pub(crate) mod failover;
pub(crate) mod fix;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod move_slots;
pub(crate) mod ok_to_stop;
pub(crate) mod replace;
pub(crate) mod set_timeout;
