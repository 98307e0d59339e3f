//! `redis-trib` creates, checks, reshards and repairs Redis and Valkey clusters.
//!
//! The modules, and the direction of imports (never back; `tests/architecture.rs` checks it):
//!
//! ```text
//! main → cli → commands → {args, change, ops, ui}
//! change → {ops, ui, args}
//! ops → {migrate, transfer, backup} → converge → state → session → {discover, resolve, connections → client}
//!     → {event, journal, report, seed, rdb, resp, stop} → plan → cluster
//! ui → {report, event, plan, cluster}
//! ```
//!
//! [`cluster`], [`plan`] and [`rdb`] are pure; [`client`] is the only folder that names the `redis` crate.

pub mod args;
pub mod backup;
pub mod change;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod connections;
pub mod converge;
pub mod discover;
pub mod event;
pub mod exit_code;
pub mod interrupt;
pub mod journal;
pub mod migrate;
pub mod ops;
pub mod plan;
pub mod rdb;
pub mod report;
pub mod resolve;
pub mod resp;
pub mod seed;
pub mod session;
pub mod state;
pub mod stop;
pub mod transfer;
pub mod ui;
