//! Saved plans: moves of slots as JSON, to be reviewed, applied, resumed and undone.
//!
//! A file names nodes by id only: addresses change, and credentials don't belong in files. It has the
//! owners at the time of the plan, so before it is applied they are compared with the owners now
//! ([`outstanding`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::MovePlan;
use crate::cluster::node::NodeId;
use crate::cluster::slot::{SLOTS, Slot, SlotRange, SlotSet};

/// The value of `format` in the file.
const FORMAT: &str = "redis-trib plan";

/// The version that is written, and the newest that can be read.
pub const VERSION: u64 = 1;

/// Why a plan cannot be saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsavableError {
    /// It has no moves.
    #[error("the plan is empty: there is nothing to save")]
    Empty,
    /// A file has no order, so it could not say which of two moves comes first.
    #[error("slots {slots} are moved twice, which a saved plan cannot hold")]
    SlotTwice {
        /// The slots.
        slots: SlotSet,
    },
}

/// Why a text is not a saved plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFileError {
    /// It is not JSON: truncated, or edited by mistake.
    #[error("damaged: not JSON from line {line}, column {column} on ({why}); save the plan again")]
    NotJson {
        /// The line, from 1 on.
        line: usize,
        /// The column, from 1 on; 0 if the line had not started.
        column: usize,
        /// The problem there.
        why: String,
    },
    /// It is JSON, but not a plan.
    #[error(
        "not a plan of redis-trib (it has no \"format\":\"{FORMAT}\"): give a file written by \
         --plan-out or --undo-out"
    )]
    Foreign,
    /// A later redis-trib wrote it.
    #[error(
        "written in version {found} of the format; this redis-trib reads up to {VERSION}: use the \
         redis-trib that wrote it, or a newer one"
    )]
    Newer {
        /// The version of the file.
        found: u64,
    },
    /// It is a plan, but a part of it is invalid.
    #[error("damaged: {place}: {why}; save the plan again")]
    Damaged {
        /// Where: `moves[3].from`, or a line and column.
        place: String,
        /// The problem there.
        why: String,
    },
    /// A slot number out of range.
    #[error("damaged: {place}: slot {number} is out of range (0 to 16383); save the plan again")]
    SlotOutOfRange {
        /// Where.
        place: String,
        /// The number.
        number: u64,
    },
    /// A slot is moved more than once.
    #[error("damaged: slots {slots} are in it twice; save the plan again")]
    SlotTwice {
        /// The slots.
        slots: SlotSet,
    },
    /// Source and target are the same node.
    #[error("damaged: {place}: from and to are the same node, {id}; save the plan again")]
    SameNode {
        /// Where.
        place: String,
        /// The node.
        id: NodeId,
    },
    /// There are no moves in it.
    #[error("it has no moves: there is nothing to apply")]
    Empty,
}

/// The figures that a plan was made with, for those who review it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWeights {
    /// What was measured: `keys`, `memory`, `cpu`, `network`.
    pub by: &'static str,
    /// The figure of each slot that moves, by slot.
    pub of: Vec<(Slot, u64)>,
}

/// The plan as the text of a file, one move per line; then the figures that it was made with.
///
/// # Errors
///
/// If it is empty or moves a slot twice.
pub fn to_json(plan: &MovePlan, weights: Option<&SlotWeights>) -> Result<String, UnsavableError> {
    if plan.slots_moved() == 0 {
        return Err(UnsavableError::Empty);
    }
    let slots = repeated(plan.moves().flat_map(|one| one.slots.iter()));
    if !slots.is_empty() {
        return Err(UnsavableError::SlotTwice { slots });
    }
    // By hand: hex digits and numbers need no escaping, and serde would write one line per number.
    let moves: Vec<String> = plan
        .moves()
        .map(|one| {
            let ranges: Vec<String> = one
                .slots
                .ranges()
                .into_iter()
                .map(|range| format!("[{},{}]", range.start(), range.end()))
                .collect();
            let (from, to, slots) = (one.from, one.to, ranges.join(","));
            format!(r#"{{"from":"{from}","to":"{to}","slots":[{slots}]}}"#)
        })
        .collect();
    let weights = weights.map(|weights| {
        let of = weights.of.iter();
        let of: Vec<String> = of
            .map(|(slot, weight)| format!("[{slot},{weight}]"))
            .collect();
        format!(r#","by":"{}","weights":[{}]"#, weights.by, of.join(","))
    });
    Ok(format!(
        "{{\"format\":\"{FORMAT}\",\"version\":{VERSION},\"created_by\":\"redis-trib {}\",\"moves\":[\n{}\n]{}}}\n",
        env!("CARGO_PKG_VERSION"),
        moves.join(",\n"),
        weights.unwrap_or_default(),
    ))
}

/// The part of a file that is read. Other fields are ignored: a change of meaning comes with another
/// version.
#[derive(Deserialize)]
struct Saved {
    moves: Vec<SavedMove>,
}

#[derive(Deserialize)]
struct SavedMove {
    from: String,
    to: String,
    slots: Vec<(u64, u64)>,
}

/// The plan in a file. Moves of the same pair become one move.
///
/// # Errors
///
/// If the text is not a complete plan of a version that can be read.
pub fn from_json(text: &str) -> Result<MovePlan, PlanFileError> {
    let object: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
        if error.is_data() {
            // Valid JSON, but a list or a number.
            PlanFileError::Foreign
        } else {
            let (line, column, why) = located(&error);
            PlanFileError::NotJson { line, column, why }
        }
    })?;
    if object.get("format").and_then(Value::as_str) != Some(FORMAT) {
        return Err(PlanFileError::Foreign);
    }
    match object.get("version").and_then(Value::as_u64) {
        None | Some(0) => {
            return Err(PlanFileError::Damaged {
                place: "version".to_owned(),
                why: "not a whole number from 1 on".to_owned(),
            });
        }
        Some(found) if found > VERSION => return Err(PlanFileError::Newer { found }),
        Some(_) => {}
    }
    // From the text again, for lines and columns.
    let saved: Saved = serde_json::from_str(text).map_err(|error| {
        let (line, column, why) = located(&error);
        PlanFileError::Damaged {
            place: format!("line {line}, column {column}"),
            why,
        }
    })?;
    plan_of(saved.moves)
}

/// The position of a serde_json error, and its reason without the "at line 1 column 2" at its end.
fn located(error: &serde_json::Error) -> (usize, usize, String) {
    let (line, column) = (error.line(), error.column());
    let mut why = error.to_string();
    if let Some(at) = why.rfind(" at line ") {
        why.truncate(at);
    }
    (line, column, why)
}

fn plan_of(saved: Vec<SavedMove>) -> Result<MovePlan, PlanFileError> {
    let mut moves: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut all = Vec::new();
    let mut count = 0;
    for (index, one) in saved.iter().enumerate() {
        let from = node(&one.from, || format!("moves[{index}].from"))?;
        let to = node(&one.to, || format!("moves[{index}].to"))?;
        if from == to {
            return Err(PlanFileError::SameNode {
                place: format!("moves[{index}]"),
                id: from,
            });
        }
        if one.slots.is_empty() {
            return Err(PlanFileError::Damaged {
                place: format!("moves[{index}].slots"),
                why: "no slots".to_owned(),
            });
        }
        let slots = moves.entry((from, to)).or_default();
        for (nth, bounds) in one.slots.iter().enumerate() {
            let range = range(*bounds, || format!("moves[{index}].slots[{nth}]"))?;
            slots.insert_range(range);
            all.push(range);
            count += range.count();
            // More than there are: some are in it twice.
            if count > usize::from(SLOTS) {
                return Err(PlanFileError::SlotTwice {
                    slots: repeated(all.into_iter().flat_map(SlotRange::slots)),
                });
            }
        }
    }
    let slots = repeated(all.into_iter().flat_map(SlotRange::slots));
    if !slots.is_empty() {
        return Err(PlanFileError::SlotTwice { slots });
    }
    let plan = MovePlan::of_moves(moves);
    if plan.is_empty() {
        return Err(PlanFileError::Empty);
    }
    Ok(plan)
}

fn node(text: &str, place: impl Fn() -> String) -> Result<NodeId, PlanFileError> {
    text.parse().map_err(
        |error: crate::cluster::node::NotANodeId| PlanFileError::Damaged {
            place: place(),
            why: error.to_string(),
        },
    )
}

fn range((start, end): (u64, u64), place: impl Fn() -> String) -> Result<SlotRange, PlanFileError> {
    let slot = |number: u64| {
        u16::try_from(number)
            .ok()
            .and_then(Slot::new)
            .ok_or_else(|| PlanFileError::SlotOutOfRange {
                place: place(),
                number,
            })
    };
    SlotRange::new(slot(start)?, slot(end)?).ok_or_else(|| PlanFileError::Damaged {
        place: place(),
        why: format!("{start} to {end} runs backwards"),
    })
}

fn repeated(slots: impl Iterator<Item = Slot>) -> SlotSet {
    let mut once = SlotSet::new();
    let mut twice = SlotSet::new();
    for slot in slots {
        if once.contains(slot) {
            twice.insert(slot);
        }
        once.insert(slot);
    }
    twice
}

/// Slots of a plan that neither the source nor the target owns.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Misplaced {
    /// The slots, by source, target and owner; never empty.
    pub slots: Vec<Astray>,
}

/// Slots with an owner that the plan does not expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// The slots.
    pub slots: SlotSet,
    /// The source in the plan.
    pub from: NodeId,
    /// The target in the plan.
    pub to: NodeId,
    /// The owner; `None`: they have none.
    pub owner: Option<NodeId>,
}

impl fmt::Display for Astray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slots, from, to, ..
        } = self;
        write!(f, "slots {slots} move from {from} to {to}, but ")?;
        match self.owner {
            Some(owner) => write!(f, "{owner} owns them"),
            None => write!(f, "have no owner"),
        }
    }
}

/// The first few, so that a plan of another cluster does not fill the screen.
impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        write!(f, "the plan no longer matches this cluster: ")?;
        for (index, astray) in self.slots.iter().take(SHOWN).enumerate() {
            if index > 0 {
                write!(f, "; ")?;
            }
            write!(f, "{astray}")?;
        }
        if let Some(more) = self.slots.len().checked_sub(SHOWN).filter(|n| *n > 0) {
            write!(f, "; and {more} more")?;
        }
        write!(f, ". Make a new plan")
    }
}

/// The rest of a plan: slots that the source still owns. Slots that the target owns are done, so an
/// interrupted plan resumes when it is applied again; empty if all is done. For plans that move no slot
/// twice, as in files.
///
/// # Errors
///
/// If any slot has another owner or none.
pub fn outstanding(
    plan: &MovePlan,
    owner_of: impl Fn(Slot) -> Option<NodeId>,
) -> Result<MovePlan, Misplaced> {
    let mut left: BTreeMap<(NodeId, NodeId), SlotSet> = BTreeMap::new();
    let mut astray: BTreeMap<(NodeId, NodeId, Option<NodeId>), SlotSet> = BTreeMap::new();
    for one in plan.moves() {
        for slot in one.slots.iter() {
            let owner = owner_of(slot);
            if owner == Some(one.from) {
                left.entry((one.from, one.to)).or_default().insert(slot);
            } else if owner != Some(one.to) {
                let case = (one.from, one.to, owner);
                astray.entry(case).or_default().insert(slot);
            }
        }
    }
    if astray.is_empty() {
        return Ok(MovePlan::of_moves(left));
    }
    let slots = astray
        .into_iter()
        .map(|((from, to, owner), slots)| Astray {
            slots,
            from,
            to,
            owner,
        })
        .collect();
    Err(Misplaced { slots })
}

/// The plan that gives all moved slots back.
pub fn inverse(plan: &MovePlan) -> MovePlan {
    let back = plan
        .moves()
        .map(|one| ((one.to, one.from), one.slots.clone()));
    MovePlan::of_moves(back.collect())
}

/// Every master that a plan names.
pub fn nodes(plan: &MovePlan) -> BTreeSet<NodeId> {
    plan.moves().flat_map(|one| [one.from, one.to]).collect()
}

#[cfg(test)]
mod tests;
