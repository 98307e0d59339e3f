//! Moves of slots that the servers do by themselves, at once: under way, stuck, or failed.

use super::{Code, Judge, slots_are};
use crate::cluster::node::NodeId;
use crate::cluster::observation::ObservedTask;

impl Judge<'_> {
    pub(super) fn jobs(&mut self) {
        let jobs: Vec<(NodeId, ObservedTask)> = self
            .observation
            .reports()
            .flat_map(|(node, report)| report.jobs.iter().map(|job| (node.id, job.clone())))
            .collect();
        for (leader, job) in jobs {
            let end = |id: Option<NodeId>| id.map_or_else(|| "?".to_string(), |id| self.name(id));
            let (source, target) = (end(job.source), end(job.target));
            let slots = slots_are(&job.slots);
            let said = match job.said.as_str() {
                "" => String::new(),
                said => format!(": {said}"),
            };
            let message = match job.goes_on {
                true => format!(
                    "{slots} on the way from {source} to {target} in a job of the servers, which says \
                     {}{said}",
                    job.state
                ),
                false => format!(
                    "{slots} at {source} still: the servers' job that was to move them to {target} \
                     failed{said}"
                ),
            };
            let ends = [job.source, job.target].into_iter().flatten();
            let nodes: Vec<NodeId> = ends.collect();
            let remedy = self.cancel_task(leader, &job);
            self.add(Code::SlotsInJob, message, &nodes, job.slots);
            // One that goes well comes to its end.
            if job.goes_on && !job.said.is_empty() {
                self.remedy(remedy);
            }
        }
    }
}
