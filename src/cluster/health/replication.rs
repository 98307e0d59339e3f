//! Masters and their replicas.

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
                        "{} follows {}, a replica itself, and can't take over for anybody",
                        self.name(member.id),
                        self.name(master.id),
                    );
                    let nodes = [member.id, master.id];
                    self.add(Code::ReplicaOfReplica, message, &nodes, SlotSet::new());
                    self.remedy(self.replicate(member.id, master.master));
                }
                // A dead master has no links.
                Some(master) if master.peer_status.is_down() => continue,
                Some(_) => {}
            }
            let report = self.node(member.id).and_then(|node| node.report());
            match report.and_then(|report| report.info.master_link) {
                Some(MasterLink::Down(since)) => {
                    let master = member.master.map_or_else(
                        || "its master".to_string(),
                        |id| format!("its master {}", self.name(id)),
                    );
                    let since = since.map_or_else(String::new, |s| format!(" for {s} s"));
                    let message = format!(
                        "replica {} has had no link to {master}{since}",
                        self.name(member.id)
                    );
                    self.add(Code::ReplicaLinkDown, message, &[member.id], SlotSet::new());
                }
                Some(MasterLink::Syncing) => syncing.push(member.id),
                Some(MasterLink::Up) | None => {}
            }
        }
        self.add_nodes(Code::ReplicaSyncing, &syncing, |names| {
            format!("receiving a whole copy from their masters: {names}")
        });
        self.add_nodes(Code::ReplicaOrphan, &orphans, |names| {
            format!("replicas of a master that no member knows: {names}")
        });
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
                format!("some masters have only {replicas}, but {most} have: {names}")
            });
        }
    }
}
