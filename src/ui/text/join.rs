//! Sentences of the plan of `add-node`.

use crate::report::{Before, JoiningNode};
use crate::ui::style::counted;

/// What happens to a node before it joins, without the node; `None` for nothing.
pub(in crate::ui) fn before(joining: &JoiningNode) -> Option<String> {
    match joining.before {
        Before::Nothing => None,
        before => Some(format!("{} before that.", before.words())),
    }
}

pub(in crate::ui) fn libraries(count: usize) -> String {
    format!(
        "New masters get {}.",
        counted(count as u64, "function library")
    )
}
