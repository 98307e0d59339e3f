//! The result of `check`: the nodes as they were seen, and what is wrong.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::info::{MasterView, masters};
use super::remedy::{RemedyOptions, command_line};
use super::values::words;
use crate::cluster::health::{Code, Diagnosis, Finding, Severity};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::{ObservedNode, Seen};
use crate::cluster::parse::{Direction, MasterLink, OpenSlot, Product};
use crate::cluster::refusal::RefusalKind;
use crate::cluster::slot::{Slot, SlotSet};
use crate::cluster::topology::{Member, PeerStatus};

/// The health of a cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CheckView {
    /// No finding is an error.
    pub healthy: bool,
    /// The number of slots that a master which is not down serves, 0 to 16384.
    pub slots_covered: usize,
    /// The number of keys on all masters that answered.
    pub keys: u64,
    /// The id of the node by which the others were found.
    pub lead: NodeId,
    /// Its address.
    pub lead_addr: Option<Addr>,
    /// Whether all nodes that answered see the same owners of slots.
    pub views_agree: bool,
    /// All members: masters by their first slot, each followed by its replicas.
    pub nodes: Vec<MemberView>,
    /// What is wrong, errors first.
    pub findings: Vec<FindingView>,
    /// What else the command found out, as sentences.
    pub notes: Vec<String>,
}

/// A member of the cluster.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemberView {
    /// 40 hex digits.
    pub id: NodeId,
    /// `host:port` by which this program reaches it, or else by which the other members do; null where it is not
    /// known.
    pub addr: Option<Addr>,
    /// Its announced name.
    pub hostname: Option<String>,
    /// Its role.
    pub role: Role,
    /// Its slots.
    pub slots: SlotSet,
    /// Its open slots.
    pub open: Vec<OpenSlotView>,
    /// The id of the master that it replicates.
    pub replicates: Option<NodeId>,
    /// The number of keys in all of its databases; null if it did not answer.
    pub keys: Option<u64>,
    /// Its role, then what the other members report of it: `fail`, `fail?`, `handshake`, `noaddr`.
    pub flags: Vec<&'static str>,
    /// The cluster bus links of the other members to it: `connected` all, `partial` some, `disconnected` none.
    pub link: &'static str,
    /// A replica's link to its master; null for masters and nodes that did not answer.
    pub master_link: Option<LinkState>,
    /// For how long that link has been down, where the server tells.
    pub master_link_down_ms: Option<u64>,
    /// Whether it answered.
    pub answered: bool,
    /// The worst state that is known of it.
    pub state: NodeState,
    /// Its config epoch.
    pub epoch: u64,
    /// `redis` or `valkey`; null if it did not answer.
    pub product: Option<&'static str>,
    /// For example `7.0.15`.
    pub version: Option<String>,
    /// In bytes.
    pub used_memory: Option<u64>,
    /// In bytes; null for no limit.
    pub maxmemory: Option<u64>,
    /// The zone that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A slot that is migrating or importing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OpenSlotView {
    /// The slot.
    pub slot: Slot,
    /// What it does on this node.
    pub direction: Direction,
    /// The id of the node at the other end.
    pub peer: NodeId,
    /// The number of keys of the slot on this node; null if they were not counted.
    pub keys: Option<u64>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FindingView {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: kebab-case.
    pub code: Code,
    /// A sentence for people.
    pub message: String,
    /// The ids of the nodes that it is about.
    pub nodes: Vec<NodeId>,
    /// The slots that it is about.
    pub slots: SlotSet,
    /// A command that helps.
    pub remedy: Option<String>,
}

/// A process that is alive (`check --local`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AliveView {
    /// Always true: anything else is an error.
    alive: bool,
    /// Its address.
    pub addr: Addr,
}

impl AliveView {
    /// The process at that address is alive.
    pub fn of(addr: &Addr) -> Self {
        Self {
            alive: true,
            addr: addr.clone(),
        }
    }
}

/// The link of a replica to its master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkState {
    /// Up.
    Up,
    /// In a full resync.
    Syncing,
    /// Down.
    Down,
}

/// The state of a node: the worst that is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It answers, and no other member reports a problem with it.
    Ok,
    /// A majority of the members flags it `fail`.
    Fail,
    /// Some member flags it `fail` or `fail?`.
    Failing,
    /// It does not answer this program.
    Unreachable,
    /// Another node answers at its address.
    Foreign,
    /// It was met but has never joined.
    Handshake,
    /// Only its id is known.
    NoAddress,
    /// It executes a script, a function or a command of a module, and nothing else.
    Busy,
    /// It answers with another error.
    Error,
    /// It is loading its data from disk.
    Loading,
    /// It is a replica in a full resync.
    Syncing,
    /// It is a replica without a link to its master.
    LinkDown,
}

impl NodeState {
    /// One word, the same in every format.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Failing => "fail?",
            Self::Unreachable => "unreachable",
            Self::Foreign => "foreign",
            Self::Handshake => "handshake",
            Self::NoAddress => "noaddr",
            Self::Busy => "busy",
            Self::Error => "error",
            Self::Loading => "loading",
            Self::Syncing => "syncing",
            Self::LinkDown => "link-down",
        }
    }

    fn of_refusal(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Busy(_) => Self::Busy,
            _ => Self::Error,
        }
    }

    fn of(member: &Member, node: Option<&ObservedNode>) -> Self {
        let peer_status = member.peer_status;
        if peer_status.is_down() {
            return Self::Fail;
        }
        if peer_status.handshake > 0 {
            return Self::Handshake;
        }
        let report = match node.map(|node| &node.seen) {
            Some(Seen::Report(report)) => report,
            Some(Seen::OtherNode(_)) => return Self::Foreign,
            Some(Seen::Silent(_)) => return Self::Unreachable,
            Some(Seen::Refused(refusal)) => return Self::of_refusal(refusal.kind),
            Some(Seen::Loading) => return Self::Loading,
            Some(Seen::NoAddress) | None => return Self::NoAddress,
        };
        if report.info.loading {
            return Self::Loading;
        }
        match report.info.master_link {
            Some(MasterLink::Down(_)) if member.role == Role::Replica => return Self::LinkDown,
            Some(MasterLink::Syncing) if member.role == Role::Replica => return Self::Syncing,
            _ => {}
        }
        if peer_status.no_address > 0 {
            Self::NoAddress
        } else if peer_status.failed + peer_status.failing > 0 {
            Self::Failing
        } else {
            Self::Ok
        }
    }
}

words! {
    LinkState: |link| match link {
        LinkState::Up => "up",
        LinkState::Syncing => "syncing",
        LinkState::Down => "down",
    }, ["up", "syncing", "down"];
    NodeState: |state| state.word(), [
        "ok", "fail", "fail?", "unreachable", "foreign", "handshake", "noaddr", "busy", "error", "loading", "syncing",
        "link-down",
    ];
}

impl CheckView {
    /// The view of a diagnosis; `zones` and `options` are those of the command line.
    pub fn of(
        diagnosis: &Diagnosis,
        zones: &BTreeMap<NodeId, String>,
        notes: &[String],
        options: &RemedyOptions,
    ) -> Self {
        let findings = diagnosis.findings.iter();
        let nodes: Vec<MemberView> = diagnosis
            .topology
            .reading_order()
            .into_iter()
            .map(|member| {
                let node = diagnosis.observation.nodes.get(&member.id);
                MemberView::of(member, node, zones.get(&member.id))
            })
            .collect();
        let masters = nodes.iter().filter(|node| node.is_master());
        let lead = diagnosis.observation.lead();
        Self {
            healthy: diagnosis.is_healthy(),
            slots_covered: diagnosis.slots_covered(),
            keys: masters
                .filter_map(|master| master.keys)
                .fold(0, u64::saturating_add),
            lead: diagnosis.observation.lead,
            lead_addr: lead.and_then(|node| node.addr().cloned()),
            views_agree: diagnosis.topology.opinions.len() <= 1,
            nodes,
            findings: findings.map(|one| FindingView::of(one, options)).collect(),
            notes: notes.to_vec(),
        }
    }

    /// The findings of a code.
    pub fn findings_about(&self, code: Code) -> impl Iterator<Item = &FindingView> {
        self.findings.iter().filter(move |f| f.code == code)
    }

    /// The number of errors and of warnings.
    pub fn counts(&self) -> (usize, usize) {
        let is_error = |finding: &&FindingView| finding.severity == Severity::Error;
        let errors = self.findings.iter().filter(is_error).count();
        (errors, self.findings.len() - errors)
    }

    /// The number of slots that are open on some node.
    pub fn open_slots(&self) -> usize {
        let open = self.nodes.iter().flat_map(|node| &node.open);
        open.map(|open| open.slot).collect::<SlotSet>().count()
    }

    /// The masters, in the order of the nodes.
    pub fn masters(&self) -> Vec<MasterView> {
        masters(&self.nodes)
    }

    /// The versions of the nodes that answered, each once.
    pub fn versions(&self) -> BTreeSet<String> {
        self.nodes.iter().filter_map(MemberView::server).collect()
    }
}

impl MemberView {
    fn of(member: &Member, node: Option<&ObservedNode>, zone: Option<&String>) -> Self {
        let report = node.and_then(ObservedNode::report);
        let info = report.map(|report| &report.info);
        let version = info.and_then(|info| info.version);
        let master_link = info
            .and_then(|info| info.master_link)
            .filter(|_| member.role == Role::Replica);
        Self {
            id: member.id,
            addr: node.and_then(|node| node.addr().cloned()),
            hostname: node.and_then(|node| node.hostname.as_deref().map(str::to_string)),
            role: member.role,
            slots: member.slots.clone(),
            open: member
                .open
                .iter()
                .map(|open| open_slot(open, report.and_then(|r| r.open_keys.get(&open.slot))))
                .collect(),
            replicates: member.master,
            keys: info.map(|info| info.total_keys()),
            flags: flags(member),
            link: link(member.peer_status),
            master_link: master_link.map(|link| match link {
                MasterLink::Up => LinkState::Up,
                MasterLink::Syncing => LinkState::Syncing,
                MasterLink::Down(_) => LinkState::Down,
            }),
            master_link_down_ms: match master_link {
                Some(MasterLink::Down(Some(seconds))) => Some(seconds.saturating_mul(1000)),
                _ => None,
            },
            answered: report.is_some(),
            state: NodeState::of(member, node),
            epoch: member.epoch,
            product: version.map(|version| match version.product {
                Product::Redis => "redis",
                Product::Valkey => "valkey",
            }),
            version: version.map(|version| {
                let [major, minor, patch] = version.numbers;
                format!("{major}.{minor}.{patch}")
            }),
            used_memory: info.and_then(|info| info.used_memory),
            maxmemory: info.and_then(|info| info.maxmemory).filter(|max| *max > 0),
            zone: zone
                .cloned()
                .or_else(|| Some(info?.availability_zone.as_deref()?.to_string())),
        }
    }

    /// Whether it is a master.
    pub fn is_master(&self) -> bool {
        self.role == Role::Master
    }

    /// `redis 7.0.15`; `None` if it did not answer.
    pub fn server(&self) -> Option<String> {
        Some(format!("{} {}", self.product?, self.version.as_ref()?))
    }

    /// Its state for people: `link down 12 s`.
    pub fn shown_state(&self) -> String {
        match (self.state, self.master_link_down_ms) {
            (NodeState::LinkDown, Some(ms)) => format!("link down {} s", ms / 1000),
            (NodeState::LinkDown, None) => "link down".to_string(),
            (state, _) => state.word().to_string(),
        }
    }

    /// Its address; empty where none is known.
    pub fn shown_addr(&self) -> String {
        self.addr.as_ref().map(Addr::to_string).unwrap_or_default()
    }
}

impl FindingView {
    fn of(finding: &Finding, options: &RemedyOptions) -> Self {
        let remedy = finding.remedy.as_ref();
        Self {
            severity: finding.severity(),
            code: finding.code,
            message: finding.message.clone(),
            nodes: finding.nodes.clone(),
            slots: finding.slots.clone(),
            remedy: remedy.map(|remedy| command_line(remedy, options)),
        }
    }
}

fn open_slot(open: &OpenSlot, keys: Option<&u64>) -> OpenSlotView {
    OpenSlotView {
        slot: open.slot,
        direction: open.direction,
        peer: open.peer,
        keys: keys.copied(),
    }
}

fn flags(member: &Member) -> Vec<&'static str> {
    let peer_status = member.peer_status;
    let mut flags = vec![member.role.word()];
    if peer_status.is_down() {
        flags.push("fail");
    } else if peer_status.failed + peer_status.failing > 0 {
        flags.push("fail?");
    }
    if peer_status.handshake > 0 {
        flags.push("handshake");
    }
    if peer_status.no_address > 0 {
        flags.push("noaddr");
    }
    flags
}

fn link(peer_status: PeerStatus) -> &'static str {
    if peer_status.linked == peer_status.asked {
        "connected"
    } else if peer_status.linked == 0 {
        "disconnected"
    } else {
        "partial"
    }
}
