//! What commands do to a cluster, one module per feature.

pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod create;
pub(crate) mod data;
pub(crate) mod drift;
pub(crate) mod failover;
pub(crate) mod fix;
pub(crate) mod functions;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod move_slots;
pub(crate) mod ok_to_stop;
pub(crate) mod place;
pub(crate) mod raft;
pub(crate) mod replace;
pub(crate) mod roll;
pub(crate) mod set_timeout;
pub(crate) mod slots;
pub(crate) mod throttle;
pub(crate) mod watch;
pub(crate) mod where_is;
pub(crate) mod writes;
