//! How far work in many small steps has come.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::event::Amount;

/// How much of something is done, and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AmountView {
    /// How much is done.
    pub done: u64,
    /// How much there is; null where that is not known.
    pub total: Option<u64>,
    /// The speed of the last seconds.
    pub per_second: u64,
    /// The estimated time for the rest; null while nothing is done, or the total is not known.
    pub time_left_ms: Option<u64>,
}

/// A file or a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PartAmount {
    /// The name of the file, or the address of the master, with the database if there are several.
    pub name: String,
    /// How much of it is done.
    #[serde(flatten)]
    pub amount: AmountView,
}

impl From<Amount> for AmountView {
    fn from(amount: Amount) -> Self {
        let left = |left: Duration| u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Self {
            done: amount.done,
            total: amount.total,
            per_second: amount.per_second,
            time_left_ms: amount.left.map(left),
        }
    }
}

impl From<&(Arc<str>, Amount)> for PartAmount {
    fn from((name, amount): &(Arc<str>, Amount)) -> Self {
        Self {
            name: name.to_string(),
            amount: (*amount).into(),
        }
    }
}
