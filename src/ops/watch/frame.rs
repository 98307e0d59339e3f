//! What a tick has found, as it is shown.

use std::time::Duration;

use super::{Motion, Watcher};
use crate::client::AsmTask;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::numbers::counted;
use crate::cluster::parse::{Direction, MasterLink};
use crate::cluster::slot::SlotSet;
use crate::cluster::watch::{Change, Health, Rates, WatchedNode};
use crate::report::{
    Node, WatchEvent, WatchEventKind, WatchFinding, WatchMaster, WatchMove, WatchNode, WatchState,
    WatchTask, WatchView,
};

/// The most findings of a frame; the numbers count all of them.
const FINDINGS: usize = 20;

impl Watcher {
    pub(super) fn frame(
        &self,
        at_ms: u64,
        since: Option<Duration>,
        changes: &[Change],
    ) -> WatchView {
        let findings = self.check.last.as_ref().map(|last| &last.findings);
        let count = |severity: &str| {
            let of = |findings: &Vec<crate::cluster::health::Finding>| {
                let found = findings.iter();
                found
                    .filter(|one| one.severity().word() == severity)
                    .count()
            };
            findings.map(of)
        };
        WatchView {
            at_ms,
            since_ms: since.map(whole_ms),
            ok: self.snapshot.is_ok.filter(|_| !self.readings.is_empty()),
            slots_covered: self.snapshot.slots_covered(),
            node_count: self.snapshot.nodes.len().max(self.targets.len()),
            errors: count("error"),
            warnings: count("warning"),
            findings: findings
                .into_iter()
                .flatten()
                .take(FINDINGS)
                .map(|finding| WatchFinding {
                    severity: finding.severity(),
                    code: finding.code,
                    message: finding.message.clone(),
                })
                .collect(),
            masters: self.masters(),
            moves: self
                .motions
                .iter()
                .map(|(pair, motion)| self.motion(*pair, motion, since))
                .collect(),
            tasks: self
                .tasks
                .iter()
                .map(|(leader, task)| self.task(*leader, task))
                .collect(),
            events: changes
                .iter()
                .map(|change| self.event(at_ms, change))
                .collect(),
        }
    }

    fn masters(&self) -> Vec<WatchMaster> {
        let nodes = &self.snapshot.nodes;
        // A replica whose master is not known is shown by itself.
        let is_top = |node: &WatchedNode| {
            let master = node.master.and_then(|master| nodes.get(&master));
            node.role == Role::Master || master.is_none_or(|master| master.role == Role::Replica)
        };
        let mut masters: Vec<WatchMaster> = nodes
            .iter()
            .filter(|(_, node)| is_top(node))
            .map(|(id, node)| WatchMaster {
                node: self.node(*id, node),
                slots: node.slots.clone(),
                slot_count: node.slots.count(),
                replicas: nodes
                    .iter()
                    .filter(|(_, one)| one.master == Some(*id) && !is_top(one))
                    .map(|(id, one)| self.node(*id, one))
                    .collect(),
            })
            .collect();
        masters.sort_by_key(|master| {
            let first = master.slots.iter().next();
            (first.is_none(), first, master.node.node.addr.clone())
        });
        masters
    }

    fn node(&self, id: NodeId, node: &WatchedNode) -> WatchNode {
        let reading = self.readings.get(&id);
        let info = reading.map(|reading| &reading.info);
        let rates = reading.map_or_else(Rates::default, |reading| match &reading.before {
            Some(before) => reading.sample.since(before),
            None => Rates::default(),
        });
        let is_replica = node.role == Role::Replica;
        let master = node.master.and_then(|master| self.readings.get(&master));
        let written = master.and_then(|master| master.info.replication_offset);
        let has = info.and_then(|info| info.replication_offset);
        WatchNode {
            node: self.name(id),
            state: match (node.health, info) {
                (Health::Failed, _) => WatchState::Fail,
                (Health::Silent, _) | (Health::Up, None) => WatchState::Unreachable,
                (Health::Up, Some(info)) if info.loading => WatchState::Loading,
                (Health::Up, Some(info)) => match info.master_link {
                    Some(MasterLink::Down(_)) if is_replica => WatchState::LinkDown,
                    Some(MasterLink::Syncing) if is_replica => WatchState::Syncing,
                    _ => WatchState::Ok,
                },
            },
            why_silent: self.silent.get(&id).cloned(),
            version: info.and_then(|info| Some(info.version?.to_string())),
            epoch: node.epoch,
            ops_per_second: rates.ops,
            bytes_in_per_second: rates.bytes_in,
            bytes_out_per_second: rates.bytes_out,
            cpu: rates.cpu,
            used_memory: info.and_then(|info| info.used_memory),
            maxmemory: info.and_then(|info| info.maxmemory).filter(|max| *max > 0),
            clients: reading.and_then(|reading| reading.sample.clients),
            keys: info.map(crate::cluster::parse::Info::total_keys),
            // They are read within milliseconds of each other, not at once.
            lag_bytes: written
                .zip(has)
                .filter(|_| is_replica)
                .map(|(written, has)| written.saturating_sub(has)),
            uptime_s: info.and_then(|info| info.uptime),
        }
    }

    fn name(&self, id: NodeId) -> Node {
        let node = self.snapshot.nodes.get(&id);
        let dial = self.targets.get(&id).map(|target| target.addr.clone());
        let peer = || node.and_then(|node| node.addr.clone());
        Node {
            id,
            addr: dial.or_else(peer).unwrap_or_else(|| Addr::new("?", 0)),
            role: node.map_or(Role::Master, |node| node.role),
            zone: None,
        }
    }

    fn motion(
        &self,
        (from, to): (NodeId, NodeId),
        motion: &Motion,
        since: Option<Duration>,
    ) -> WatchMove {
        let mut open = SlotSet::new();
        for (end, direction, peer) in [
            (from, Direction::Migrating, to),
            (to, Direction::Importing, from),
        ] {
            let slots = self.snapshot.nodes.get(&end).into_iter();
            let slots = slots.flat_map(|node| &node.open);
            for slot in slots.filter(|one| one.direction == direction && one.peer == peer) {
                open.insert(slot.slot);
            }
        }
        let left: u64 = motion.keys.values().copied().fold(0, u64::saturating_add);
        let ms = since.map(whole_ms).filter(|ms| *ms > 0);
        let rate = motion
            .keys_moved
            .zip(ms)
            .map(|(moved, ms)| moved.saturating_mul(1000) / ms);
        let is_known = !motion.keys.is_empty();
        WatchMove {
            from: self.name(from),
            to: self.name(to),
            open,
            slots_moved: motion.slots_moved,
            keys_left: is_known.then_some(left),
            keys_per_second: rate,
            left_ms: rate
                .filter(|rate| *rate > 0 && is_known)
                .map(|rate| left.saturating_mul(1000) / rate),
        }
    }

    fn task(&self, leader: NodeId, task: &AsmTask) -> WatchTask {
        WatchTask {
            leader: self.name(leader),
            slot_count: task.slots.count(),
            slots: task.slots.clone(),
            source: task.source.map(|id| self.name(id)),
            target: task.target.map(|id| self.name(id)),
            state: task.state.clone(),
            message: task.message.clone(),
        }
    }

    fn event(&self, at_ms: u64, change: &Change) -> WatchEvent {
        let name = |id: &NodeId| self.name(*id).to_string();
        let named = |id: &Option<NodeId>| id.as_ref().map_or_else(|| "no node".to_string(), name);
        let count = |slots: &SlotSet| match slots.count() {
            1 => format!("slot {}", slots.summary()),
            count => counted(count as u64, "slot"),
        };
        let about = |ids: &[Option<NodeId>]| -> Vec<Node> {
            ids.iter().flatten().map(|id| self.name(*id)).collect()
        };
        let none = SlotSet::new();
        let (event, message, nodes, slots) = match change {
            Change::State { is_ok } => {
                let word = if *is_ok { "ok" } else { "fail" };
                (
                    WatchEventKind::State,
                    format!("cluster_state is {word}"),
                    Vec::new(),
                    &none,
                )
            }
            Change::FailedOver { to, from, slots } => (
                WatchEventKind::Failover,
                format!(
                    "{} took over {} from {}",
                    name(to),
                    count(slots),
                    name(from)
                ),
                about(&[Some(*from), Some(*to)]),
                slots,
            ),
            Change::Promoted(id) => (
                WatchEventKind::Promoted,
                format!("{} became a master", name(id)),
                about(&[Some(*id)]),
                &none,
            ),
            Change::Follows { replica, master } => (
                WatchEventKind::Follows,
                format!("{} is a replica of {} now", name(replica), named(master)),
                about(&[Some(*replica), *master]),
                &none,
            ),
            Change::Lost(id) => {
                let why = self.silent.get(id).map(|why| format!(": {why}"));
                let why = why.unwrap_or_else(|| ": flagged fail".to_string());
                (
                    WatchEventKind::NodeLost,
                    format!("{} is lost{why}", name(id)),
                    about(&[Some(*id)]),
                    &none,
                )
            }
            Change::Back(id) => (
                WatchEventKind::NodeBack,
                format!("{} is back", name(id)),
                about(&[Some(*id)]),
                &none,
            ),
            Change::Restarted(id) => (
                WatchEventKind::Restarted,
                format!("{} was restarted", name(id)),
                about(&[Some(*id)]),
                &none,
            ),
            Change::Joined(id) => (
                WatchEventKind::Joined,
                format!("{} joined", name(id)),
                about(&[Some(*id)]),
                &none,
            ),
            Change::Left(id) => (
                WatchEventKind::Left,
                format!("{} left", name(id)),
                about(&[Some(*id)]),
                &none,
            ),
            Change::SlotsMoved { from, to, slots } => (
                WatchEventKind::SlotsMoved,
                format!(
                    "{} moved from {} to {}",
                    count(slots),
                    named(from),
                    named(to)
                ),
                about(&[*from, *to]),
                slots,
            ),
            Change::Epoch { from, to } => (
                WatchEventKind::Epoch,
                format!("current epoch {from} → {to}"),
                Vec::new(),
                &none,
            ),
        };
        WatchEvent {
            at_ms,
            event,
            message,
            nodes,
            slots: slots.clone(),
        }
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
