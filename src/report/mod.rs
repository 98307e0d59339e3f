//! What commands tell, as plain data: the JSON of `--output json` is these structs, and the other renderers read
//! them too.
//!
//! Field names are a contract, the same in every command: a node is `{id, addr, role, zone?}`, slots are ranges
//! `[[start, end], …]`, a count of slots is `slot_count`, memory is `used_memory` and `maxmemory` in bytes, and a
//! time ends in `_ms`. Where a node is named by its id alone, an earlier line or another field describes it. The
//! schemas in `docs/schema` are generated from here.
//!
//! Text that comes from a node is not cleaned here: the renderers do that when they write.

mod backup;
mod call;
mod check;
mod create;
mod data;
mod document;
mod failover;
mod fix;
mod info;
mod join;
mod leave;
mod line;
mod move_slots;
mod node;
mod ok_to_stop;
mod remedy;
mod replace;
mod set_timeout;
mod values;

#[cfg(test)]
mod schema;

pub use crate::cluster::numbers::counted;
pub use backup::{BackupView, Fetched, ShardView};
pub use call::{Called, ReplyView};
pub use check::{
    AliveView, CheckView, FindingView, LinkState, MemberView, NodeState, OpenSlotView,
};
pub use create::{LayoutView, PlannedShard};
pub use data::{FailedKey, FailedKeys, TransferPlan, TransferReport, TransferView};
pub use document::{ErrorDocument, Head, Headed};
pub use failover::{FailoverReport, FailoverView};
pub use fix::{FixLine, FixView};
pub use info::{InfoView, MasterView};
pub use join::{Before, JoinView, JoiningNode};
pub use leave::{LeaveView, LeavingNode};
pub use line::Line;
pub use move_slots::{
    BalanceView, How, MasterShare, Measure, MovedView, MovesView, PlannedMove, TargetMemory,
};
pub use node::Node;
pub use ok_to_stop::{Objection, OkToStopDocument, OkToStopView};
pub use remedy::command_line;
pub use replace::{ReplaceStep, ReplaceView, standing_words};
pub use set_timeout::{SetTimeoutView, Timeout, TimeoutSet};
