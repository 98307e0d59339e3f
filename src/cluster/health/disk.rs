//! Findings about nodes that fail to write to their disks, and go on.

use super::{Code, Judge};
use crate::cluster::node::NodeId;
use crate::cluster::parse::DiskFailures;
use crate::cluster::slot::SlotSet;

impl Judge<'_> {
    /// Nodes that go on without a copy on disk lose what they have when they stop. Those that refuse writes for it are
    /// in `refusals`.
    pub(super) fn disks(&mut self) {
        let failing: Vec<(NodeId, String)> = self
            .observation
            .reports()
            .filter(|(_, report)| report.refuses_writes().is_none())
            .filter_map(|(node, report)| Some((node.id, failed(report.info.disk_failures)?)))
            .collect();
        for (id, failed) in failing {
            let message = format!(
                "{} takes writes, but {failed} failed: it would lose data in a restart; look in its log for the reason (a \
                 full disk, or a directory that is gone)",
                self.name(id)
            );
            self.add(Code::PersistenceFailing, message, &[id], SlotSet::new());
            self.remedy(self.save(id));
        }
    }
}

/// What failed on the disk of a node, in words.
fn failed(failures: DiskFailures) -> Option<String> {
    let named = [
        (failures.save, "the last RDB save"),
        (failures.append, "the last write to the append-only file"),
        (failures.rewrite, "the last rewrite of the append-only file"),
    ];
    let named = named.iter().filter(|(failed, _)| *failed);
    let named: Vec<&str> = named.map(|(_, words)| *words).collect();
    (!named.is_empty()).then(|| named.join(" and "))
}
