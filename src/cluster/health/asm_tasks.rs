//! Atomic slot migration tasks that are running, stuck, or failed.

use super::{Code, Judge, slots_are};
use crate::cluster::node::NodeId;
use crate::cluster::observation::ObservedTask;

impl Judge<'_> {
    pub(super) fn tasks(&mut self) {
        let tasks: Vec<(NodeId, ObservedTask)> = self
            .observation
            .reports()
            .flat_map(|(node, report)| report.tasks.iter().map(|task| (node.id, task.clone())))
            .collect();
        for (leader, task) in tasks {
            let end = |id: Option<NodeId>| id.map_or_else(|| "?".to_string(), |id| self.name(id));
            let (source, target) = (end(task.source), end(task.target));
            let slots = slots_are(&task.slots);
            let said = match task.said.as_str() {
                "" => String::new(),
                said => format!(": {said}"),
            };
            let progress = task.progress.map(|progress| progress.to_string());
            let progress = match progress.filter(|text| !text.is_empty()) {
                Some(progress) => format!(" ({progress})"),
                None => String::new(),
            };
            let message = match task.goes_on {
                true => format!(
                    "{slots} moving from {source} to {target} in an atomic slot migration task, state \
                     {}{progress}{said}",
                    task.state
                ),
                false => format!(
                    "{slots} still at {source}: the atomic slot migration task to {target} failed{said}"
                ),
            };
            let ends = [task.source, task.target].into_iter().flatten();
            let nodes: Vec<NodeId> = ends.collect();
            let remedy = self.cancel_task(leader, &task);
            self.add(Code::SlotsInTask, message, &nodes, task.slots);
            // A task without an error ends by itself.
            if task.goes_on && !task.said.is_empty() {
                self.remedy(remedy);
            }
        }
    }
}
