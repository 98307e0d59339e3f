//! Talking to one node.
