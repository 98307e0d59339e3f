//! Functions that masters do not share: FCALL of a key works or fails by the slot of the key.

use std::collections::BTreeMap;

use super::{Code, Diagnosis, Finding};
use crate::cluster::functions::{Functions, describe, deviating, differences};
use crate::cluster::node::NodeId;
use crate::cluster::slot::SlotSet;

impl Diagnosis {
    /// Adds the finding that masters have different functions. `functions` has the masters whose libraries are known.
    pub fn compare_functions(&mut self, functions: &BTreeMap<NodeId, Functions>) {
        let differences = differences(functions);
        if differences.is_empty() {
            return;
        }
        let what = describe(&differences, |id| self.observation.name(*id));
        self.add(Finding {
            code: Code::FunctionsDiffer,
            message: format!(
                "function libraries differ between masters, so FCALL depends on the slot: {what} (load the same \
                 code on all masters: FUNCTION LOAD REPLACE)"
            ),
            nodes: deviating(&differences).into_iter().collect(),
            slots: SlotSet::new(),
            remedy: None,
        });
    }
}
