//! What commands that only look write: one document on one line.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::{Name, Range, name, ranges, write_line};
use crate::cluster::health::{Diagnosis, Finding};
use crate::cluster::node::{Addr, NodeId};
use crate::cluster::parse::{MasterLink, OpenSlot, Product};
use crate::cluster::topology::PeerStatus;
use crate::ui::node_state::Row;
use crate::ui::ok_to_stop::OkToStopView;
use crate::ui::remedy::command_line;
use crate::ui::style::plain;
use crate::ui::summary::{self, Totals};

/// What `check` writes.
#[derive(Debug, Serialize)]
struct Check {
    /// No finding is an error.
    healthy: bool,
    /// Slots that a master which is not down serves, 0 to 16384.
    slots_covered: usize,
    /// Keys on all masters that answered.
    keys: u64,
    /// Id of the node that led to the others.
    lead: String,
    /// All members: masters by their first slot, each followed by its replicas.
    nodes: Vec<Node>,
    /// What is wrong, errors first.
    findings: Vec<FindingObject>,
    /// What else the command did, as sentences.
    notes: Vec<String>,
}

/// A member.
#[derive(Debug, Serialize)]
struct Node {
    /// 40 hex digits.
    id: String,
    /// `host:port`, where we reach it, else where the others do; null where nobody knows.
    addr: Option<String>,
    /// Its announced name.
    hostname: Option<String>,
    /// `master` or `replica`.
    role: &'static str,
    /// Its slots.
    slots: Vec<Range>,
    /// Its open slots.
    open: Vec<Open>,
    /// Id of the master that it follows.
    replicates: Option<String>,
    /// Keys in all of its databases; null when it did not answer.
    keys: Option<u64>,
    /// Its role, then what the other members hold against it: `fail`, `fail?`, `handshake`,
    /// `noaddr`.
    flags: Vec<&'static str>,
    /// Bus links of the other members to it: `connected` all, `partial` some, `disconnected` none.
    link: &'static str,
    /// A replica's link to its master: `up`, `syncing`, `down`; null for masters and silent nodes.
    master_link: Option<&'static str>,
    /// The worst that is known of it: `ok`, `fail`, `fail?`, `unreachable`, `foreign`,
    /// `handshake`, `noaddr`, `loading`, `syncing`, `link-down`.
    state: &'static str,
    /// Its configuration epoch.
    epoch: u64,
    /// `redis` or `valkey`; null when it did not answer.
    product: Option<&'static str>,
    /// For example `7.0.15`.
    version: Option<String>,
    /// Bytes.
    used_memory: Option<u64>,
    /// Bytes; null for no limit.
    maxmemory: Option<u64>,
    /// Where it stands.
    zone: Option<String>,
}

/// A slot on its way.
#[derive(Debug, Serialize)]
struct Open {
    slot: u16,
    /// `migrating` or `importing`.
    direction: &'static str,
    /// Id of the node at the other end.
    peer: String,
    /// Keys of the slot on this node; null when not counted.
    keys: Option<u64>,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
struct FindingObject {
    /// `error` or `warning`.
    severity: &'static str,
    /// What it is about, kebab-case.
    code: &'static str,
    /// A sentence for people.
    message: String,
    /// Ids of the nodes it is about.
    nodes: Vec<String>,
    /// The slots it is about.
    slots: Vec<Range>,
    /// A command that helps.
    remedy: Option<String>,
}

/// What `info` writes.
#[derive(Debug, Serialize)]
struct Info {
    /// Keys on all masters that answered.
    keys: u64,
    /// `keys` over 16384.
    keys_per_slot: f64,
    /// Slots that a master which is not down serves, 0 to 16384.
    slots_covered: usize,
    /// All masters, by their first slot.
    masters: Vec<Master>,
}

/// A master in `info`.
#[derive(Debug, Serialize)]
struct Master {
    /// 40 hex digits.
    id: String,
    /// `host:port`.
    addr: Option<String>,
    /// Its announced name.
    hostname: Option<String>,
    /// Its keys; null when it did not answer.
    keys: Option<u64>,
    /// How many slots it owns.
    slots: usize,
    /// How many replicas it has.
    replicas: usize,
}

/// What `ok-to-stop` writes.
#[derive(Debug, Serialize)]
struct Stopping {
    ok: bool,
    /// The nodes that would be stopped.
    nodes: Vec<Name>,
    /// What speaks against it; empty where nothing does.
    reasons: Vec<Reason>,
}

/// Why nodes should not be stopped.
#[derive(Debug, Serialize)]
struct Reason {
    /// `slots-unserved`, `no-successor`, `no-majority`, `last-copy`, `slots-open`, `views-differ`,
    /// `slots-multiple-owners`.
    code: &'static str,
    /// A sentence for people.
    message: String,
    /// The slots that it is about.
    slots: Vec<Range>,
}

/// What `check --local` writes.
#[derive(Debug, Serialize)]
struct Alive {
    /// Always true: a process that is not is an error.
    alive: bool,
    /// `host:port`.
    addr: String,
}

/// `check`.
pub(in crate::ui) fn check(
    out: &mut impl Write,
    diagnosis: &Diagnosis,
    zones: &BTreeMap<NodeId, String>,
    notes: &[String],
) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let document = Check {
        healthy: diagnosis.is_healthy(),
        slots_covered: diagnosis.slots_covered(),
        keys: Totals::of(&rows).keys,
        lead: diagnosis.observation.lead.to_string(),
        nodes: rows.iter().map(|row| node(row, zones)).collect(),
        findings: diagnosis.findings.iter().map(finding).collect(),
        notes: notes.iter().map(|note| plain(note)).collect(),
    };
    write_line(out, &document)
}

/// `check --local` of a process that is alive.
pub(in crate::ui) fn alive(out: &mut impl Write, addr: &Addr) -> io::Result<()> {
    let document = Alive {
        alive: true,
        addr: addr.to_string(),
    };
    write_line(out, &document)
}

/// `ok-to-stop`.
pub(in crate::ui) fn stopping(out: &mut impl Write, view: &OkToStopView) -> io::Result<()> {
    let reasons = view.objections.iter().map(|objection| Reason {
        code: objection.code,
        message: plain(&objection.message),
        slots: ranges(&objection.slots),
    });
    let document = Stopping {
        ok: view.objections.is_empty(),
        nodes: view.stopping.iter().map(name).collect(),
        reasons: reasons.collect(),
    };
    write_line(out, &document)
}

/// `info`.
pub(in crate::ui) fn info(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let totals = Totals::of(&rows);
    let replicas = summary::replica_counts(&rows);
    let masters = rows.iter().filter(|row| row.is_master());
    let document = Info {
        keys: totals.keys,
        keys_per_slot: totals.keys_per_slot(),
        slots_covered: diagnosis.slots_covered(),
        masters: masters
            .map(|row| Master {
                id: row.member.id.to_string(),
                addr: addr(row),
                hostname: hostname(row),
                keys: row.keys(),
                slots: row.member.slots.count(),
                replicas: replicas.get(&row.member.id).copied().unwrap_or_default(),
            })
            .collect(),
    };
    write_line(out, &document)
}

fn node(row: &Row<'_>, zones: &BTreeMap<NodeId, String>) -> Node {
    let member = row.member;
    let report = row.node.and_then(|node| node.report());
    let info = report.map(|report| &report.info);
    let zone = zones.get(&member.id).cloned();
    let version = info.and_then(|info| info.version);
    Node {
        id: member.id.to_string(),
        addr: addr(row),
        hostname: hostname(row),
        role: member.role.word(),
        slots: ranges(&member.slots),
        open: member
            .open
            .iter()
            .map(|open| open_slot(open, report.and_then(|r| r.open_keys.get(&open.slot))))
            .collect(),
        replicates: member.master.map(|id| id.to_string()),
        keys: row.keys(),
        flags: flags(row),
        link: link(member.peer_status),
        master_link: info
            .and_then(|info| info.master_link)
            .filter(|_| !row.is_master())
            .map(|link| match link {
                MasterLink::Up => "up",
                MasterLink::Syncing => "syncing",
                MasterLink::Down(_) => "down",
            }),
        state: row.condition.word(),
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
            .or_else(|| Some(info?.availability_zone.as_deref()?.to_string()))
            .map(|zone| plain(&zone)),
    }
}

fn flags(row: &Row<'_>) -> Vec<&'static str> {
    let peer_status = row.member.peer_status;
    let mut flags = vec![row.member.role.word()];
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

fn open_slot(open: &OpenSlot, keys: Option<&u64>) -> Open {
    Open {
        slot: open.slot.number(),
        direction: open.direction.word(),
        peer: open.peer.to_string(),
        keys: keys.copied(),
    }
}

fn finding(finding: &Finding) -> FindingObject {
    FindingObject {
        severity: finding.severity().word(),
        code: finding.code.word(),
        message: plain(&finding.message),
        nodes: finding.nodes.iter().map(ToString::to_string).collect(),
        slots: ranges(&finding.slots),
        remedy: finding
            .remedy
            .as_ref()
            .map(|remedy| plain(&command_line(remedy))),
    }
}

fn addr(row: &Row<'_>) -> Option<String> {
    Some(row.node?.addr()?.to_string())
}

fn hostname(row: &Row<'_>) -> Option<String> {
    Some(plain(row.node?.hostname.as_deref()?))
}
