//! `redis-trib` makes, checks and mends Redis and Valkey clusters.
//!
//! The rooms, and which way imports run (never back):
//!
//! ```text
//! main → cli → commands → {ui, execute, migrate, agreement, discover, resolve}
//!      → {connections → client → journal, event, resp, seed} → plan → cluster
//! commands → {backup, transfer} → {connections → client, event, rdb} → cluster
//! ```
//!
//! [`compat`] (old command lines as ours), [`cluster`], [`plan`] and [`rdb`] are pure; [`client`] is the only folder that names the `redis` crate.

pub mod agreement;
pub mod backup;
pub mod cli;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod compat;
pub mod connections;
pub mod discover;
pub mod event;
pub mod execute;
pub mod exit_code;
pub mod journal;
pub mod migrate;
pub mod plan;
pub mod rdb;
pub mod resolve;
pub mod resp;
pub mod seed;
pub mod transfer;
pub mod ui;
