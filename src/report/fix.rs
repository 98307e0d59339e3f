//! The plan of `fix`, and the steps that were carried out.

use serde::{Serialize, Serializer};

use crate::cluster::node::NodeId;
use crate::cluster::numbers::plural;
use crate::cluster::slot::SlotSet;
use crate::event::FixedStep;
use crate::report::CopyView;

/// The plan of `fix`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FixView {
    /// What is done next, in order.
    pub remedies: Vec<FixLine>,
    /// What is not done, and why.
    pub refused: Vec<FixLine>,
    /// Keys on nodes that do not own their slots.
    pub strays: Vec<FixLine>,
    /// What is not broken but could be better.
    pub warnings: Vec<FixLine>,
}

/// A remedy, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixLine {
    /// Its word, for programs: kebab-case.
    pub word: &'static str,
    /// The slots that it is about, if any.
    pub slots: SlotSet,
    /// The nodes that it is about; first the one that it changes.
    pub nodes: Vec<NodeId>,
    /// The number of keys that it is about.
    pub keys: u64,
    /// What it is, in words that follow the slots.
    pub text: String,
    /// The copies of the shard that answer, where one of them becomes the truth: the master's, then those of the
    /// replicas.
    pub copies: Vec<CopyView>,
}

/// A remedy in JSON.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Remedy<'a> {
    /// What is done, or why nothing is: kebab-case.
    code: &'a str,
    /// The slots that it is about; empty where it is about nodes.
    slots: &'a SlotSet,
    /// The ids of the nodes that it is about; first the one that it changes.
    nodes: &'a [NodeId],
    /// The number of keys that it is about.
    keys: u64,
    /// The copies of the shard that answer, where one of them becomes the truth; else absent.
    #[serde(skip_serializing_if = "<[CopyView]>::is_empty")]
    copies: &'a [CopyView],
    /// A sentence for people.
    message: String,
}

impl Serialize for FixLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let remedy = Remedy {
            code: self.word,
            slots: &self.slots,
            nodes: &self.nodes,
            keys: self.keys,
            copies: &self.copies,
            message: self.sentence(),
        };
        remedy.serialize(serializer)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for FixLine {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Remedy".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Remedy::json_schema(generator)
    }
}

impl FixLine {
    /// `slots 5-8: closed on 127.0.0.1:7000 (1977c4d4): no key is in them`.
    pub fn sentence(&self) -> String {
        // Findings begin with their slots themselves.
        if self.slots.is_empty() || self.text.starts_with("slot") {
            return self.text.clone();
        }
        let noun = plural(self.slots.count() as u64, "slot");
        format!("{noun} {}: {}", self.slots.summary(), self.text)
    }
}

impl From<&FixedStep> for FixLine {
    fn from(step: &FixedStep) -> Self {
        Self {
            word: step.word,
            slots: step.slots.clone(),
            nodes: step.nodes.clone(),
            keys: step.keys,
            text: step.text.clone(),
            copies: Vec::new(),
        }
    }
}
