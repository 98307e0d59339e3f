//! Findings about masters and their replicas.

use super::{Code, Judge, count};
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::MasterLink;
use crate::cluster::slot::SlotSet;

impl Judge<'_> {
    pub(super) fn replication(&mut self) {
        self.links();
        self.replica_counts();
    }

    fn links(&mut self) {
        let mut syncing = Vec::new();
        let mut orphans = Vec::new();
        for member in self.topology.members.values() {
            if member.role != Role::Replica || member.peer_status.is_down() {
                continue;
            }
            let master = member.master.and_then(|id| self.topology.members.get(&id));
            match master {
                None => orphans.push(member.id),
                Some(master) if master.role == Role::Replica => {
                    let message = format!(
                        "replica {} follows {}, which is a replica itself: it can't take over from a master",
                        self.name(member.id),
                        self.name(master.id),
                    );
                    let nodes = [member.id, master.id];
                    self.add(Code::ReplicaOfReplica, message, &nodes, SlotSet::new());
                    self.remedy(self.replicate(member.id, master.master));
                }
                // All links to a failed master are down.
                Some(master) if master.peer_status.is_down() => continue,
                Some(_) => {}
            }
            let report = self.node(member.id).and_then(|node| node.report());
            let link = report.and_then(|report| report.info.master_link);
            if matches!(link, Some(MasterLink::Down(_) | MasterLink::Syncing))
                && let Some(message) = self.cannot_sync(member.id, member.master)
            {
                self.add(
                    Code::ReplicaCannotSync,
                    message,
                    &[member.id],
                    SlotSet::new(),
                );
                continue;
            }
            match link {
                // It loads the copy that it has received: the link comes up when that is done.
                Some(MasterLink::Down(_) | MasterLink::Syncing)
                    if report.is_some_and(|report| report.info.loading) => {}
                Some(MasterLink::Down(since)) => {
                    let master = member.master.map_or_else(
                        || "its master".to_string(),
                        |id| format!("its master {}", self.name(id)),
                    );
                    let down = since.map_or_else(
                        || "is down".to_string(),
                        |seconds| format!("has been down for {seconds} s"),
                    );
                    let message = format!(
                        "replica {}: the link to {master} {down}",
                        self.name(member.id)
                    );
                    self.add(Code::ReplicaLinkDown, message, &[member.id], SlotSet::new());
                }
                Some(MasterLink::Syncing) => syncing.push(member.id),
                Some(MasterLink::Up) | None => {}
            }
        }
        self.add_nodes(Code::ReplicaSyncing, &syncing, |names| {
            format!("full resync from the master under way: {names}")
        });
        self.add_nodes(Code::ReplicaOrphan, &orphans, |names| {
            format!("replicas of a master that no node knows: {names}")
        });
    }

    /// Why a full resync from that master can never succeed. The replica logs "Can't handle RDB format version", and
    /// starts again every second.
    fn cannot_sync(&self, replica: NodeId, master: Option<NodeId>) -> Option<String> {
        let version = |id| self.node(id)?.report()?.info.version;
        let (own, masters) = (version(replica)?, version(master?)?);
        (!own.can_follow(masters)).then(|| {
            format!(
                "replica {} can't sync: it runs {}, and its master {} runs {}, whose data it can't read: upgrade the \
                 replica",
                self.name(replica),
                own.with_rdb_version(),
                master.map_or_else(String::new, |id| self.name(id)),
                masters.with_rdb_version()
            )
        })
    }

    fn replica_counts(&mut self) {
        let owners: Vec<(NodeId, usize)> = self
            .topology
            .masters()
            .filter(|master| !master.slots.is_empty() && !master.peer_status.is_lost())
            .map(|master| {
                let replicas = self.topology.replicas_of(master.id);
                (
                    master.id,
                    replicas.filter(|r| !r.peer_status.is_lost()).count(),
                )
            })
            .collect();
        let with = |number: usize| -> Vec<NodeId> {
            let owners = owners.iter().filter(|(_, replicas)| *replicas == number);
            owners.map(|(id, _)| *id).collect()
        };
        let alone = with(0);
        if alone.len() == owners.len() && owners.len() > 1 {
            let message = format!(
                "none of the {} masters has a replica that is up",
                owners.len()
            );
            self.add(Code::MasterAlone, message, &alone, SlotSet::new());
        } else {
            self.add_nodes(Code::MasterAlone, &alone, |names| {
                let masters = count(alone.len(), "master has", "masters have");
                format!("{masters} no replica that is up: {names}")
            });
        }
        let counts = || {
            owners
                .iter()
                .map(|(_, replicas)| *replicas)
                .filter(|n| *n > 0)
        };
        let (Some(most), Some(fewest)) = (counts().max(), counts().min()) else {
            return;
        };
        if most > fewest + 1 {
            self.add_nodes(Code::ReplicasUneven, &with(most), |names| {
                let replicas = count(fewest, "replica", "replicas");
                format!("some masters have only {replicas}, these have {most}: {names}")
            });
            self.remedy(self.place(true));
        }
    }
}
