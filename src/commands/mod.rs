//! The subcommands, one file each. Each reads the same: discover → request → plan → show → confirm → execute →
//! verify.

pub mod add_node;
pub mod apply;
pub mod backup;
pub mod call;
pub mod check;
pub mod config;
pub mod create;
pub mod del_node;
pub mod drift;
pub mod failover;
pub mod fix;
pub mod import;
pub mod info;
pub mod ok_to_stop;
pub mod place;
pub mod rebalance;
pub mod replace_node;
pub mod reshard;
pub mod restore;
pub mod roll;
pub mod set_timeout;
pub mod slots;
pub mod throttle;
pub mod verify;
pub mod watch;
pub mod where_is;
