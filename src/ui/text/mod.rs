//! Text that is the same in `table` and `classic`, but for its headings.

pub(super) mod call;
pub(super) mod data;
pub(super) mod failover;
pub(super) mod fix;
pub(super) mod join;
pub(super) mod replace;
