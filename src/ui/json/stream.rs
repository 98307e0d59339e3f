//! What commands that change a cluster tell, as lines.

use std::io::{self, Write};
use std::time::Duration;

use super::line::{
    GivenReplica, JoiningNode, LeavingNode, Line, MasterShare, Mend, NodeTimeout, PlannedMove,
    Shard, TargetMemory,
};
use super::{name, range, ranges, write_line};
use crate::cluster::node::Takeover;
use crate::event::{Event, LaneEvent, MoveStats, Unit};
use crate::exit_code::ExitCode;
use crate::stop::CommandLine;
use crate::ui::call::Called;
use crate::ui::create::{LayoutView, NodeName};
use crate::ui::failover::{FailoverReport, FailoverView};
use crate::ui::fix::{FixLine, FixView};
use crate::ui::join::JoinView;
use crate::ui::leave::LeaveView;
use crate::ui::move_slots::{BalanceView, MovesView};
use crate::ui::replace::{ReplaceStep, ReplaceView};
use crate::ui::set_timeout::{SetTimeoutView, TimeoutSet};
use crate::ui::style::plain;

/// The plan of `create`.
pub(in crate::ui) fn layout(out: &mut impl Write, layout: &LayoutView) -> io::Result<()> {
    let masters = layout.masters.iter().map(|shard| Shard {
        master: name(&shard.master),
        slots: vec![range(shard.slots)],
        replicas: shard.replicas.iter().map(name).collect(),
    });
    write_line(
        out,
        &Line::Plan {
            masters: masters.collect(),
            warnings: layout.warnings.iter().map(|w| plain(w)).collect(),
        },
    )
}

/// The plan of `reshard` and its kin.
pub(in crate::ui) fn moves(out: &mut impl Write, view: &MovesView) -> io::Result<()> {
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
    write_line(
        out,
        &Line::Moves {
            strategy: view.strategy(),
            moves: moves.collect(),
            targets: targets.collect(),
        },
    )
}

/// What has moved.
pub(in crate::ui) fn moved(
    out: &mut impl Write,
    slots: usize,
    tally: &MoveStats,
    took: Duration,
) -> io::Result<()> {
    let by_key = tally.longest_open > Duration::ZERO;
    let in_jobs = tally.longest_job > Duration::ZERO;
    write_line(
        out,
        &Line::Moved {
            slots,
            keys: tally.keys,
            bytes: tally.bytes,
            took_ms: milliseconds(took),
            longest_call_ms: by_key.then(|| milliseconds(tally.longest_call)),
            longest_open_ms: by_key.then(|| milliseconds(tally.longest_open)),
            mean_open_ms: by_key.then(|| milliseconds(tally.mean_open())),
            longest_job_ms: in_jobs.then(|| milliseconds(tally.longest_job)),
        },
    )
}

/// To the microsecond.
fn milliseconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}

/// The shares of `rebalance`.
pub(in crate::ui) fn balance(out: &mut impl Write, view: &BalanceView) -> io::Result<()> {
    let amount = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
    let masters = view.masters.iter().map(|master| MasterShare {
        node: name(&master.node),
        weight: master.weight,
        before: amount(master.before),
        expected: amount(master.expected),
        after: amount(master.after),
    });
    write_line(
        out,
        &Line::Balance {
            by: view.measure.word(),
            threshold: view.threshold,
            masters: masters.collect(),
        },
    )
}

/// The plan of `del-node`.
pub(in crate::ui) fn leaving(out: &mut impl Write, view: &LeaveView) -> io::Result<()> {
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
    write_line(
        out,
        &Line::Leaving {
            nodes: nodes.collect(),
            replicas: replicas.collect(),
        },
    )
}

/// The plan of `add-node`.
pub(in crate::ui) fn joining(out: &mut impl Write, view: &JoinView) -> io::Result<()> {
    let nodes = view.nodes.iter().map(|joining| JoiningNode {
        node: name(&joining.node),
        role: joining.role().word(),
        replicates: joining.follows.as_ref().map(|node| node.id.to_string()),
        reset: joining.before.reset(),
        keys_lost: joining.before.keys_lost(),
        slots: joining.slots,
    });
    write_line(
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
pub(in crate::ui) fn replacing(out: &mut impl Write, view: &ReplaceView) -> io::Result<()> {
    write_line(
        out,
        &Line::Replacing {
            old: name(&view.old),
            new: name(&view.new),
            steps: view.steps.iter().map(ReplaceStep::word).collect(),
            reset: view.before.reset(),
            keys_lost: view.before.keys_lost(),
        },
    )
}

/// The plan of `failover`.
pub(in crate::ui) fn succession(out: &mut impl Write, view: &FailoverView) -> io::Result<()> {
    write_line(
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
pub(in crate::ui) fn succeeded(out: &mut impl Write, succeeded: &FailoverReport) -> io::Result<()> {
    write_line(
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
pub(in crate::ui) fn added(out: &mut impl Write, nodes: usize) -> io::Result<()> {
    write_line(out, &Line::Added { nodes })
}

/// The plan of `set-timeout`.
pub(in crate::ui) fn timeouts(out: &mut impl Write, view: &SetTimeoutView) -> io::Result<()> {
    let nodes = view.nodes.iter().map(|timeout| NodeTimeout {
        node: name(&timeout.node),
        timeout_ms: timeout.now.as_ref().ok().copied().flatten().map(millis),
    });
    write_line(
        out,
        &Line::Timeouts {
            timeout_ms: millis(view.wanted),
            nodes: nodes.collect(),
        },
    )
}

/// What came of telling one node.
pub(in crate::ui) fn timeout_set(
    out: &mut impl Write,
    node: &NodeName,
    outcome: &TimeoutSet,
) -> io::Result<()> {
    let failure = match outcome {
        TimeoutSet::Persisted => None,
        TimeoutSet::InForce(why) | TimeoutSet::Failed(why) => Some(plain(why)),
    };
    write_line(
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
pub(in crate::ui) fn called(
    out: &mut impl Write,
    called: &Called<'_>,
    reply: Option<serde_json::Value>,
) -> io::Result<()> {
    let failure = match called.reply {
        Ok(reply) => reply.error().map(plain),
        Err(why) => Some(plain(why)),
    };
    write_line(
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
pub(in crate::ui) fn remedies(out: &mut impl Write, view: &FixView) -> io::Result<()> {
    let lines = |lines: &[FixLine]| lines.iter().map(mend).collect();
    write_line(
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
pub(in crate::ui) fn mended(out: &mut impl Write, one: &FixLine) -> io::Result<()> {
    write_line(out, &Line::Mended { mend: mend(one) })
}

fn mend(line: &FixLine) -> Mend {
    Mend {
        code: line.word,
        slots: ranges(&line.slots),
        nodes: line.nodes.iter().map(ToString::to_string).collect(),
        keys: line.keys,
        message: plain(&line.sentence()),
    }
}

/// Something that happened.
pub(in crate::ui) fn event(out: &mut impl Write, event: &Event) -> io::Result<()> {
    let object = match event {
        // For people: on standard error.
        Event::Hint(_) | Event::Warning(_) | Event::WaitingFor(_) => return Ok(()),
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
    write_line(out, &object)
}

/// The last line.
pub(in crate::ui) fn done(
    out: &mut impl Write,
    code: ExitCode,
    message: &str,
    resume: &[CommandLine],
) -> io::Result<()> {
    let lines: Vec<String> = message.lines().map(plain).collect();
    let message = lines.join("\n");
    let exit_code = code as u8;
    write_line(
        out,
        &Line::Done {
            exit_code,
            message,
            resume: resume.to_vec(),
        },
    )
}
