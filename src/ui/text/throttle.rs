//! The runs that move slots, a line each.

use std::io::{self, Write};

use crate::cluster::numbers::counted;
use crate::report::{RateView, RunState, RunView, ThrottleView, UnansweredView};
use crate::ui::style::{bytes, plain, thousands};

pub(in crate::ui) fn throttle<W: Write>(out: &mut W, view: &ThrottleView) -> io::Result<()> {
    if view.runs.is_empty() && view.unanswered.is_empty() {
        return writeln!(out, "no run of this user moves slots on this host");
    }
    view.runs.iter().try_for_each(|run| one(out, run))?;
    for UnansweredView { run, reason, .. } in &view.unanswered {
        writeln!(out, "{}", plain(&format!("{run}  {reason}")))?;
    }
    Ok(())
}

fn one<W: Write>(out: &mut W, run: &RunView) -> io::Result<()> {
    let state = match run.state {
        RunState::Moving => "moving slots",
        RunState::Measuring => "measuring the idle latency: nothing is in progress",
        RunState::Pausing => "pausing: the slots and tasks in hand are finished first",
        RunState::Paused => "paused: nothing is in progress",
    };
    let rate = match run.rate {
        None => "no rate limit".to_string(),
        Some(RateView::Keys { per_second }) => format!("{} keys/s", thousands(per_second)),
        Some(RateView::Bytes { per_second }) => format!("{}/s", bytes(per_second)),
    };
    let pairs = match run.node_pairs {
        None => "default number of node pairs".to_string(),
        Some(pairs) => counted(pairs as u64, "node pair"),
    };
    let latency = match run.max_latency {
        None => "no latency limit".to_string(),
        Some(limit) => format!("latency limit {}", humantime::format_duration(limit)),
    };
    let RunView {
        run,
        command,
        pid,
        node,
        ..
    } = run;
    let head = format!("{run}  {command} {node} (process {pid})");
    writeln!(out, "{}", plain(&head))?;
    writeln!(out, "  {state}")?;
    writeln!(out, "  {rate}, {pairs}, {latency}")
}
