//! The model of a cluster: slots, nodes, the view of each node, and findings.
//!
//! Everything here is pure: no sockets, no clock, no environment, no randomness. Text that comes
//! from a node is parsed within bounds and cleaned of control characters, so that everything here may
//! be shown on a terminal.

pub mod copies;
pub mod election;
pub mod functions;
pub mod health;
pub mod holdings;
pub mod identity;
pub mod key;
pub mod links;
pub mod merger;
pub mod naming;
pub mod node;
pub mod numbers;
pub mod observation;
pub mod ok_to_stop;
pub mod parse;
pub mod pattern;
pub mod peer_addrs;
pub mod refusal;
pub mod setup;
pub mod slot;
pub mod slot_stats;
pub mod text;
pub mod topology;
pub mod watch;
pub mod write_refusal;

#[cfg(test)]
mod scale;
