//! `redis-trib` makes, checks and mends Redis and Valkey clusters.
//!
//! The rooms, and which way imports run (never back):
//!
//! ```text
//! main → cli → commands → {ui, execute → discover} → {connections → client, event} → plan → cluster
//! ```
//!
//! [`cluster`] and [`plan`] are pure; [`client`] is the only folder that names the `redis` crate.

pub mod client;
pub mod cluster;
pub mod event;
pub mod exit_code;
pub mod plan;
pub mod ui;
