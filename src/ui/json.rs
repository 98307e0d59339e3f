//! JSON for programs. Field names are a contract: fields may be added, none is renamed or dropped.
//!
//! Commands that read write one document on one line; commands that change a cluster write one
//! object on each line, told apart by `event`, the last of them `done`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;

use super::calls::Called;
use super::condition::Row;
use super::joining::JoiningView;
use super::layout::{LayoutView, NodeName};
use super::leaving::LeavingView;
use super::mend::{MendLine, MendView};
use super::moves::{BalanceView, MovesView};
use super::paint::plain;
use super::replacing::{ReplacingStep, ReplacingView};
use super::stopping::StoppingView;
use super::succession::{Succeeded, SuccessionView};
use super::timeouts::{TimeoutSet, TimeoutsView};
use super::verdict::{self, Totals};
use crate::cluster::health::{Diagnosis, Finding};
use crate::cluster::node::{Addr, NodeId, Takeover};
use crate::cluster::parse::{MasterLink, OpenSlot, Product};
use crate::cluster::slot::{SlotRange, SlotSet};
use crate::cluster::topology::Standing;
use crate::event::{Event, LaneEvent, Unit};
use crate::exit_code::ExitCode;

/// A range of slots, both ends included: `[0, 5460]`.
type Range = [u16; 2];

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

/// A line of a command that changes a cluster.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Line {
    /// What is about to be made.
    Plan {
        masters: Vec<Shard>,
        warnings: Vec<String>,
    },
    /// What is about to move: `atomic`, `keys` or `mixed`.
    Moves {
        strategy: &'static str,
        moves: Vec<PlannedMove>,
        targets: Vec<TargetMemory>,
    },
    /// What the masters have, should have, and will have.
    Balance {
        by: &'static str,
        threshold: f64,
        masters: Vec<MasterShare>,
    },
    /// Who is about to join.
    Joining {
        lead: String,
        nodes: Vec<JoiningNode>,
        libraries: usize,
        warnings: Vec<String>,
    },
    /// So many have joined.
    Added { nodes: usize },
    /// Who is about to be replaced by whom, in which steps.
    Replacing {
        old: Name,
        new: Name,
        steps: Vec<&'static str>,
        reset: Option<&'static str>,
        keys_lost: u64,
    },
    /// What is about to be mended, and what is not.
    Remedies {
        remedies: Vec<Mend>,
        refused: Vec<Mend>,
        strays: Vec<Mend>,
        warnings: Vec<Mend>,
    },
    /// A remedy was carried out.
    Mended {
        #[serde(flatten)]
        mend: Mend,
    },
    /// Who is about to take over.
    Succession {
        replica: Name,
        master: Name,
        slots: Vec<Range>,
        how: &'static str,
        bytes_behind: Option<u64>,
    },
    /// It has; writes were held for so long at most.
    FailedOver {
        replica: Name,
        master: Name,
        slots: Vec<Range>,
        held_ms: u64,
    },
    /// A part of the work begins.
    Phase { phase: &'static str },
    /// A wait goes on.
    Waiting {
        phase: &'static str,
        ready: usize,
        total: usize,
    },
    /// How far work in many small parts is.
    Progress {
        phase: &'static str,
        /// `keys` or `bytes`.
        unit: &'static str,
        done: u64,
        /// Null where nobody knows.
        total: Option<u64>,
    },
    /// A master was given its slots.
    SlotsAdded { node: String, slots: Vec<Range> },
    /// A replica was told its master.
    Replicates { replica: String, master: String },
    /// Who is about to leave, and which replicas get other masters.
    Leaving {
        nodes: Vec<LeavingNode>,
        replicas: Vec<GivenReplica>,
    },
    /// A node has left the cluster.
    Left { node: String },
    /// Slots begin to move from one node to another.
    LaneStarted {
        from: String,
        to: String,
        slots: usize,
    },
    /// So many slots have their new owner.
    SlotsMoved {
        from: String,
        to: String,
        slots: usize,
    },
    /// A job of the servers failed, and is begun again.
    JobAgain {
        from: String,
        to: String,
        why: String,
    },
    /// A lane is over.
    LaneEnded {
        from: String,
        to: String,
        failure: Option<String>,
    },
    /// What cluster-node-timeout shall be, and is.
    Timeouts {
        timeout_ms: u64,
        nodes: Vec<NodeTimeout>,
    },
    /// A node was told its new timeout.
    TimeoutSet {
        node: Name,
        set: bool,
        persisted: bool,
        failure: Option<String>,
    },
    /// A node has answered a command, or has not.
    Reply {
        node: Name,
        role: &'static str,
        reply: Option<serde_json::Value>,
        failure: Option<String>,
    },
    /// The last line.
    Done { exit_code: u8, message: String },
}

/// A remedy, or why there is none.
#[derive(Debug, Serialize)]
struct Mend {
    /// What is done, or why nothing is: kebab-case.
    code: &'static str,
    /// The slots it is about; none where it is about nodes.
    slots: Vec<Range>,
    /// Ids of the nodes it is about; first whom it changes.
    nodes: Vec<String>,
    /// The keys it is about.
    keys: u64,
    /// A sentence for people.
    message: String,
}

/// Slots that go from one node to another.
#[derive(Debug, Serialize)]
struct PlannedMove {
    from: Name,
    to: Name,
    slots: Vec<Range>,
    /// `atomic` or `keys`.
    strategy: &'static str,
    /// Why, in words.
    reason: String,
}

/// A node that joins.
#[derive(Debug, Serialize)]
struct JoiningNode {
    #[serde(flatten)]
    node: Name,
    /// What it becomes.
    role: &'static str,
    /// Id of the master that it will follow.
    replicates: Option<String>,
    /// `soft`, `hard`, or null where it joins as it is.
    reset: Option<&'static str>,
    /// Keys that it loses by that.
    keys_lost: u64,
    /// Slots that it gets.
    slots: usize,
}

/// The memory of a node that takes slots, in bytes.
#[derive(Debug, Serialize)]
struct TargetMemory {
    #[serde(flatten)]
    node: Name,
    used: u64,
    coming: u64,
    limit: Option<u64>,
}

/// A node that leaves.
#[derive(Debug, Serialize)]
struct LeavingNode {
    #[serde(flatten)]
    node: Name,
    role: &'static str,
    /// Slots that it gives away before.
    slots: usize,
    /// False where it does not answer: the others forget it.
    reachable: bool,
}

/// A replica that gets another master.
#[derive(Debug, Serialize)]
struct GivenReplica {
    #[serde(flatten)]
    node: Name,
    /// Id of the master that it will follow.
    replicates: String,
}

/// The timeout of a node; null where it does not tell.
#[derive(Debug, Serialize)]
struct NodeTimeout {
    #[serde(flatten)]
    node: Name,
    timeout_ms: Option<u64>,
}

/// A master's share: slots, keys or bytes.
#[derive(Debug, Serialize)]
struct MasterShare {
    #[serde(flatten)]
    node: Name,
    weight: f64,
    before: u64,
    expected: u64,
    after: u64,
}

/// A master of a plan.
#[derive(Debug, Serialize)]
struct Shard {
    #[serde(flatten)]
    master: Name,
    slots: Vec<Range>,
    replicas: Vec<Name>,
}

/// A node of a plan.
#[derive(Debug, Serialize)]
struct Name {
    id: String,
    addr: String,
    zone: Option<String>,
}

/// `check`.
pub(super) fn check(
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
    line(out, &document)
}

/// `check --local` of a process that is alive.
pub(super) fn alive(out: &mut impl Write, addr: &Addr) -> io::Result<()> {
    let document = Alive {
        alive: true,
        addr: addr.to_string(),
    };
    line(out, &document)
}

/// `ok-to-stop`.
pub(super) fn stopping(out: &mut impl Write, view: &StoppingView) -> io::Result<()> {
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
    line(out, &document)
}

/// `info`.
pub(super) fn info(out: &mut impl Write, diagnosis: &Diagnosis) -> io::Result<()> {
    let rows = Row::all(diagnosis);
    let totals = Totals::of(&rows);
    let replicas = verdict::replica_counts(&rows);
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
    line(out, &document)
}

/// The plan of `create`.
pub(super) fn layout(out: &mut impl Write, layout: &LayoutView) -> io::Result<()> {
    let masters = layout.masters.iter().map(|shard| Shard {
        master: name(&shard.master),
        slots: vec![range(shard.slots)],
        replicas: shard.replicas.iter().map(name).collect(),
    });
    line(
        out,
        &Line::Plan {
            masters: masters.collect(),
            warnings: layout.warnings.iter().map(|w| plain(w)).collect(),
        },
    )
}

/// The plan of `reshard` and its kin.
pub(super) fn moves(out: &mut impl Write, view: &MovesView) -> io::Result<()> {
    let moves = view.moves.iter().map(|one| PlannedMove {
        from: name(&one.from),
        to: name(&one.to),
        slots: ranges(&one.slots),
        strategy: one.how.word(),
        reason: plain(one.how.reason()),
    });
    let targets = view.targets.iter().map(|memory| TargetMemory {
        node: name(&memory.node),
        used: memory.used,
        coming: memory.coming,
        limit: memory.limit,
    });
    line(
        out,
        &Line::Moves {
            strategy: view.strategy(),
            moves: moves.collect(),
            targets: targets.collect(),
        },
    )
}

/// The shares of `rebalance`.
pub(super) fn balance(out: &mut impl Write, view: &BalanceView) -> io::Result<()> {
    let amount = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
    let masters = view.masters.iter().map(|master| MasterShare {
        node: name(&master.node),
        weight: master.weight,
        before: amount(master.before),
        expected: amount(master.expected),
        after: amount(master.after),
    });
    line(
        out,
        &Line::Balance {
            by: view.measure.word(),
            threshold: view.threshold,
            masters: masters.collect(),
        },
    )
}

/// The plan of `del-node`.
pub(super) fn leaving(out: &mut impl Write, view: &LeavingView) -> io::Result<()> {
    let nodes = view.leavers.iter().map(|leaver| LeavingNode {
        node: name(&leaver.node),
        role: leaver.role.word(),
        slots: leaver.slots,
        reachable: leaver.answers,
    });
    let replicas = view.given.iter().map(|(replica, to)| GivenReplica {
        node: name(replica),
        replicates: to.id.to_string(),
    });
    line(
        out,
        &Line::Leaving {
            nodes: nodes.collect(),
            replicas: replicas.collect(),
        },
    )
}

/// The plan of `add-node`.
pub(super) fn joining(out: &mut impl Write, view: &JoiningView) -> io::Result<()> {
    let nodes = view.nodes.iter().map(|joining| JoiningNode {
        node: name(&joining.node),
        role: joining.role().word(),
        replicates: joining.follows.as_ref().map(|node| node.id.to_string()),
        reset: joining.before.reset(),
        keys_lost: joining.before.keys_lost(),
        slots: joining.slots,
    });
    line(
        out,
        &Line::Joining {
            lead: view.lead.to_string(),
            nodes: nodes.collect(),
            libraries: view.libraries,
            warnings: view.warnings.iter().map(|w| plain(w)).collect(),
        },
    )
}

/// The plan of `replace-node`.
pub(super) fn replacing(out: &mut impl Write, view: &ReplacingView) -> io::Result<()> {
    line(
        out,
        &Line::Replacing {
            old: name(&view.old),
            new: name(&view.new),
            steps: view.steps.iter().map(ReplacingStep::word).collect(),
            reset: view.before.reset(),
            keys_lost: view.before.keys_lost(),
        },
    )
}

/// The plan of `failover`.
pub(super) fn succession(out: &mut impl Write, view: &SuccessionView) -> io::Result<()> {
    line(
        out,
        &Line::Succession {
            replica: name(&view.replica),
            master: name(&view.master),
            slots: ranges(&view.slots),
            how: match view.how {
                Takeover::Planned => "planned",
                Takeover::Force => "force",
                Takeover::Takeover => "takeover",
            },
            bytes_behind: view.behind,
        },
    )
}

/// The replica has taken over.
pub(super) fn succeeded(out: &mut impl Write, succeeded: &Succeeded) -> io::Result<()> {
    line(
        out,
        &Line::FailedOver {
            replica: name(&succeeded.replica),
            master: name(&succeeded.master),
            slots: ranges(&succeeded.slots),
            held_ms: millis(succeeded.held),
        },
    )
}

/// They have joined.
pub(super) fn added(out: &mut impl Write, nodes: usize) -> io::Result<()> {
    line(out, &Line::Added { nodes })
}

/// The plan of `set-timeout`.
pub(super) fn timeouts(out: &mut impl Write, view: &TimeoutsView) -> io::Result<()> {
    let nodes = view.nodes.iter().map(|timeout| NodeTimeout {
        node: name(&timeout.node),
        timeout_ms: timeout.now.as_ref().ok().copied().flatten().map(millis),
    });
    line(
        out,
        &Line::Timeouts {
            timeout_ms: millis(view.wanted),
            nodes: nodes.collect(),
        },
    )
}

/// What came of telling one node.
pub(super) fn timeout_set(
    out: &mut impl Write,
    node: &NodeName,
    outcome: &TimeoutSet,
) -> io::Result<()> {
    let failure = match outcome {
        TimeoutSet::Persisted => None,
        TimeoutSet::InForce(why) | TimeoutSet::Failed(why) => Some(plain(why)),
    };
    line(
        out,
        &Line::TimeoutSet {
            node: name(node),
            set: !matches!(outcome, TimeoutSet::Failed(_)),
            persisted: *outcome == TimeoutSet::Persisted,
            failure,
        },
    )
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a node said to a command; `failure` says why it said nothing, or what it said is wrong.
pub(super) fn called(
    out: &mut impl Write,
    called: &Called<'_>,
    reply: Option<serde_json::Value>,
) -> io::Result<()> {
    let failure = match called.reply {
        Ok(reply) => reply.error().map(plain),
        Err(why) => Some(plain(why)),
    };
    line(
        out,
        &Line::Reply {
            node: name(called.node),
            role: called.role.word(),
            reply,
            failure,
        },
    )
}

/// The plan of `fix`.
pub(super) fn remedies(out: &mut impl Write, view: &MendView) -> io::Result<()> {
    let lines = |lines: &[MendLine]| lines.iter().map(mend).collect();
    line(
        out,
        &Line::Remedies {
            remedies: lines(&view.remedies),
            refused: lines(&view.refused),
            strays: lines(&view.strays),
            warnings: lines(&view.warnings),
        },
    )
}

/// A remedy that was carried out.
pub(super) fn mended(out: &mut impl Write, one: &MendLine) -> io::Result<()> {
    line(out, &Line::Mended { mend: mend(one) })
}

fn mend(line: &MendLine) -> Mend {
    Mend {
        code: line.word,
        slots: ranges(&line.slots),
        nodes: line.nodes.iter().map(ToString::to_string).collect(),
        keys: line.keys,
        message: plain(&line.sentence()),
    }
}

/// Something that happened.
pub(super) fn event(out: &mut impl Write, event: &Event) -> io::Result<()> {
    let object = match event {
        Event::Phase(phase) => Line::Phase {
            phase: phase.word(),
        },
        Event::Waiting {
            phase,
            ready,
            total,
        } => Line::Waiting {
            phase: phase.word(),
            ready: *ready,
            total: *total,
        },
        Event::SlotsAdded { node, slots } => Line::SlotsAdded {
            node: node.to_string(),
            slots: ranges(slots),
        },
        Event::Lane { lane, event } => {
            let (from, to) = (lane.from.to_string(), lane.to.to_string());
            match event {
                LaneEvent::Started { slots } => Line::LaneStarted {
                    from,
                    to,
                    slots: *slots,
                },
                LaneEvent::Slots { moved } => Line::SlotsMoved {
                    from,
                    to,
                    slots: *moved,
                },
                LaneEvent::Again { why } => Line::JobAgain {
                    from,
                    to,
                    why: plain(why),
                },
                LaneEvent::Ended { failure } => Line::LaneEnded {
                    from,
                    to,
                    failure: failure.as_deref().map(plain),
                },
                // Thousands a second; the sum is in the last line.
                LaneEvent::Keys { .. } => return Ok(()),
            }
        }
        Event::Left { node } => Line::Left {
            node: node.to_string(),
        },
        Event::Amount(amount) => Line::Progress {
            phase: amount.phase.word(),
            unit: match amount.unit {
                Unit::Keys => "keys",
                Unit::Bytes => "bytes",
            },
            done: amount.done,
            total: amount.total,
        },
        Event::Replicates { replica, master } => Line::Replicates {
            replica: replica.to_string(),
            master: master.to_string(),
        },
    };
    line(out, &object)
}

/// The last line.
pub(super) fn done(out: &mut impl Write, code: ExitCode, message: &str) -> io::Result<()> {
    let message = plain(message);
    let exit_code = code as u8;
    line(out, &Line::Done { exit_code, message })
}

pub(super) fn line(out: &mut impl Write, document: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, document)?;
    writeln!(out)
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
        link: link(member.standing),
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
    let standing = row.member.standing;
    let mut flags = vec![row.member.role.word()];
    if standing.is_down() {
        flags.push("fail");
    } else if standing.failed + standing.failing > 0 {
        flags.push("fail?");
    }
    if standing.handshake > 0 {
        flags.push("handshake");
    }
    if standing.no_address > 0 {
        flags.push("noaddr");
    }
    flags
}

fn link(standing: Standing) -> &'static str {
    if standing.linked == standing.asked {
        "connected"
    } else if standing.linked == 0 {
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
        remedy: finding.remedy.as_deref().map(plain),
    }
}

fn addr(row: &Row<'_>) -> Option<String> {
    Some(row.node?.addr()?.to_string())
}

fn hostname(row: &Row<'_>) -> Option<String> {
    Some(plain(row.node?.hostname.as_deref()?))
}

fn name(name: &NodeName) -> Name {
    Name {
        id: name.id.to_string(),
        addr: name.addr.to_string(),
        zone: name.zone.as_deref().map(plain),
    }
}

fn range(range: SlotRange) -> Range {
    [range.start().number(), range.end().number()]
}

fn ranges(slots: &SlotSet) -> Vec<Range> {
    slots.ranges().into_iter().map(range).collect()
}
