//! Integration tests, against real servers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(missing_docs)]

mod add_node;
mod apply;
mod atomic;
mod atomic_faults;
mod backup;
mod bench_self;
mod call;
mod check;
mod check_findings;
mod check_input;
mod check_scale;
mod command_line;
mod compat;
mod compat_members;
mod completions;
mod create;
mod create_bad_input;
mod create_names;
mod create_resume;
mod del_node;
mod failover;
mod fix;
mod fix_atomic;
mod fix_conflicts;
mod fix_foreign;
mod fix_members;
mod fix_owners;
mod fix_rejoin;
mod fix_replicas;
mod fix_states;
mod fix_stopped;
mod fix_strays;
mod hostile;
mod import;
mod info;
mod journal;
mod ok_to_stop;
mod partitioned;
mod rebalance;
mod replace_node;
mod reshard;
mod reshard_clients;
mod reshard_conflicts;
mod reshard_faults;
mod reshard_limits;
mod reshard_logins;
mod reshard_targets;
mod restore;
mod secrets;
mod set_timeout;
mod soak;
mod support;
mod walkthrough;
