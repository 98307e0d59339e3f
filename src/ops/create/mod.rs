//! Creating a cluster.

pub(crate) mod existing;
pub(crate) mod plan;
pub(crate) mod unfit;
