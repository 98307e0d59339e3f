//! What commands tell, as plain data: the JSON of `--output json` is these structs, and the other renderers read
//! them too.
//!
//! Field names are a contract, the same in every command: a node is `{id, addr, role, zone?}`, slots are ranges
//! `[[start, end], …]`, a count of slots is `slot_count`, memory is `used_memory` and `maxmemory` in bytes, and a
//! time ends in `_ms`. Where a node is named by its id alone, an earlier line or another field describes it. The
//! schemas in `docs/schema` are generated from here.
//!
//! Text that comes from a node is not cleaned here: the renderers do that when they write.

mod amount;
mod backup;
mod call;
mod check;
mod config;
mod create;
mod data;
mod document;
mod drift;
mod failover;
mod fix;
mod info;
mod join;
mod leave;
mod line;
mod move_slots;
mod node;
mod ok_to_stop;
mod place;
mod remedy;
mod replace;
mod roll;
mod set_timeout;
mod slots;
mod throttle;
mod values;
mod verify;
mod watch;
mod where_is;

#[cfg(test)]
mod schema;

pub use crate::cluster::numbers::counted;
pub use backup::{BackupView, Fetched, ShardView, UnreadView};
pub use call::{Called, ReplyView};
pub use check::{
    AliveView, CheckView, FindingView, LinkState, MemberView, NodeState, OpenSlotView,
};
pub use config::{ConfigProblem, ConfigView, NamedClusterView};
pub use create::{LayoutView, PlannedShard};
pub use data::{FailedKey, FailedKeys, TransferPlan, TransferReport, TransferView};
pub use document::{ErrorDocument, Head, Headed};
pub use drift::{DifferenceView, DriftFixView, DriftTargetView, DriftView, UntoldView, ValueView};
pub use failover::{CopyView, FailoverReport, FailoverView};
pub use fix::{FixLine, FixView};
pub use info::{InfoView, MasterView};
pub use join::{Before, ChosenBy, JoinView, JoiningNode};
pub use leave::{LeaveView, LeavingNode};
pub use line::Line;
pub(crate) use move_slots::milliseconds;
pub use move_slots::{
    BalanceView, How, MasterShare, Measure, MovedView, MovesView, OversizedSlotView, PlannedMove,
    TargetMemory, WritePause,
};
pub use node::Node;
pub use ok_to_stop::{BlockedNodes, LargestStopView, Objection, OkToStopDocument, OkToStopView};
pub use place::{PlaceStepView, PlaceView, PlacedGroup};
pub use remedy::{RemedyOptions, command_line, redis_cli_line};
pub use replace::{ReplaceStep, ReplaceView, standing_words};
pub use roll::{RestartedView, RollNodeView, RollStepView, RollView};
pub use set_timeout::{SetTimeoutView, Timeout, TimeoutSet};
pub use slots::{HeatView, MasterHeat, SlotHeat, StatisticsOf, StatisticsView, Unmeasured};
pub use throttle::{RateView, RunState, RunView, ThrottleView, UnansweredView};
pub use verify::{UnequalKey, VerifyView};
pub use watch::{
    WatchEvent, WatchEventKind, WatchFinding, WatchMaster, WatchMove, WatchNode, WatchState,
    WatchTask, WatchView,
};
pub use where_is::{KeyView, OwnersView, SlotView, WhereView};
