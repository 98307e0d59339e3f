//! Which process answers as which node.
//!
//! An address is not an identity: several addresses may lead to one process (dual stack, NAT, `--address-map`), one
//! address to several nodes (a load balancer), and a copied nodes.conf lets two processes answer as one node. The run
//! id, which a process chooses at its start, tells these apart.

use std::collections::BTreeMap;
use std::fmt;

use super::node::{Addr, NodeId};

/// What is known about processes and node ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identities {
    /// Node ids under which two processes answer.
    pub twins: Vec<Twins>,
    /// Further addresses at which a node answers, besides the one that is dialled.
    pub aliases: BTreeMap<Addr, NodeId>,
}

/// Two processes that answer at the same time under one node id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twins {
    /// The id.
    pub id: NodeId,
    /// The address of one.
    pub one: Addr,
    /// The address of the other.
    pub other: Addr,
}

/// One sentence, with the remedy.
impl fmt::Display for Twins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "two processes answer as node {}: one at {}, one at {} (their run ids differ, so a nodes.conf was copied): \
             stop the copy; to use it as a node of its own, delete its nodes.conf before it starts again",
            self.id.short(),
            self.one,
            self.other
        )
    }
}
