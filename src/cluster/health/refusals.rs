//! Findings about nodes that are reached and answer with an error.

use std::collections::BTreeMap;

use super::{Code, Judge};
use crate::cluster::node::NodeId;
use crate::cluster::observation::Seen;
use crate::cluster::refusal::{Refusal, RefusalKind};
use crate::cluster::slot::SlotSet;

impl Judge<'_> {
    pub(super) fn refusals(&mut self) {
        let mut alike: BTreeMap<&Refusal, Vec<NodeId>> = BTreeMap::new();
        for node in self.observation.nodes.values() {
            let refusal = match &node.seen {
                Seen::Refused(refusal) => Some(refusal),
                Seen::Report(report) => report.refuses.as_ref(),
                Seen::Silent(_) | Seen::Loading | Seen::OtherNode(_) | Seen::NoAddress => None,
            };
            if let Some(refusal) = refusal {
                alike.entry(refusal).or_default().push(node.id);
            }
        }
        for (refusal, nodes) in alike {
            match refusal.kind {
                // A command ends what one node executes.
                RefusalKind::Busy(with) => {
                    for id in nodes {
                        let message = format!("{} {refusal}", self.name(id));
                        self.add(Code::NodeBusy, message, &[id], SlotSet::new());
                        self.remedy(self.kill(id, with));
                    }
                }
                // BGSAVE is a command for each node, too.
                RefusalKind::Misconf => {
                    for id in nodes {
                        let message = format!("{}: {}", self.name(id), refusal.said);
                        self.add(Code::WritesRefused, message, &[id], SlotSet::new());
                        self.remedy(self.save(id));
                    }
                }
                kind => self.add_nodes(code(kind), &nodes, |names| {
                    format!("{names}: {}", refusal.said)
                }),
            }
        }
    }
}

fn code(kind: RefusalKind) -> Code {
    match kind {
        RefusalKind::Busy(_) => Code::NodeBusy,
        RefusalKind::ClientLimit => Code::NodeClientLimit,
        RefusalKind::Login => Code::NodeLogin,
        RefusalKind::Permission => Code::NodePermission,
        RefusalKind::ProtectedMode => Code::NodeProtected,
        RefusalKind::MasterDown => Code::ReplicaStale,
        RefusalKind::Misconf => Code::WritesRefused,
        RefusalKind::Other => Code::NodeError,
    }
}
