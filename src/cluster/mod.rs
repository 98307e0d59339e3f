//! The model of a cluster: slots, nodes, the view of each node, and findings.
//!
//! Everything here is pure: no sockets, no clock, no environment, no randomness. Text that comes
//! from a node is parsed within bounds and cleaned of control characters, so that everything here may
//! be shown on a terminal.

pub mod health;
pub mod holdings;
pub mod merger;
pub mod naming;
pub mod node;
pub mod numbers;
pub mod observation;
pub mod ok_to_stop;
pub mod parse;
pub mod slot;
pub mod text;
pub mod topology;

#[cfg(test)]
mod scale;
