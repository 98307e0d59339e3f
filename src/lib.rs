//! `redis-trib` creates, checks, reshards and repairs Redis and Valkey clusters.
//!
//! The modules from top to bottom. A module imports from lines below its own only, or within its own folder; after an
//! arrow stand the only modules that it may import. `tests/architecture.rs` checks it.
//!
//! ```text
//! main
//! cli
//! commands
//! change
//! args
//! ui → report, event, resp, shell, stop, exit_code, plan, cluster
//! ops
//! migrate, transfer
//! backup, comparison
//! converge
//! state
//! session
//! discover
//! resolve
//! connections
//! client
//! config → seed, cluster
//! seed → stop, exit_code, cluster
//! rdb
//! control
//! report → event, resp, shell, exit_code, plan, cluster
//! event, interrupt, journal, resp, shell, stop
//! exit_code
//! plan → cluster
//! cluster
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
pub mod comparison;
pub mod config;
pub mod connections;
pub mod control;
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
pub mod shell;
pub mod state;
pub mod stop;
pub mod transfer;
pub mod ui;
