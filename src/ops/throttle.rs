//! `throttle`: changes the settings of a run that moves slots on this host.

use anyhow::anyhow;

use crate::cluster::numbers::counted;
use crate::cluster::text::clean;
use crate::control::{Change, Found, NoAnswer, Rate, RunStatus, ask_runs};
use crate::event::Events;
use crate::report::{RateView, RunView, ThrottleView, UnansweredView};
use crate::stop::Stop;

/// Asks the run of that name, or the only one, to change its settings. Without a change and without a name, all runs are
/// shown, with those that do not answer. Files that are no runs get a warning.
pub(crate) async fn throttle(
    run: Option<&str>,
    change: Change,
    events: &Events,
) -> Result<ThrottleView, Stop> {
    // Not before it is clear that there is one.
    let found = ask_runs(Change::default(), |name| {
        run.is_none_or(|run| begins_with(name, run))
    });
    let Found {
        runs: found,
        others,
    } = found.await.map_err(Stop::refused)?;
    for other in others {
        events.warn(clean(&format!("not a run: {other}"), 300));
    }
    if let (None, true) = (run, change == Change::default()) {
        let mut shown = ThrottleView {
            runs: Vec::new(),
            unanswered: Vec::new(),
        };
        for (run, status) in found {
            match status {
                Ok(status) => shown.runs.push(view(&status)),
                Err(NoAnswer { pid, why }) => shown.unanswered.push(UnansweredView {
                    run,
                    pid,
                    reason: clean(&why, 300),
                }),
            }
        }
        return Ok(shown);
    }
    let is_named = |name: &str| run.is_some_and(|run| run.eq_ignore_ascii_case(name));
    let exact = found.iter().find(|(name, _)| is_named(name));
    let (name, status) = match (exact, &found[..]) {
        (Some((name, status)), _) | (None, [(name, status)]) => (name, status),
        (None, []) => {
            let which = run.map_or_else(String::new, |run| format!(" {run:?}"));
            return Err(Stop::refused(anyhow!(
                "no run{which} of this user moves slots on this host: a run can be changed from when its first slot moves \
                 until it ends"
            )));
        }
        (None, several) => return Err(ambiguous(several)),
    };
    // What a run that does not answer is asked for would wait in its socket until it does.
    status.as_ref().map_err(|why| unchanged(name, why))?;
    let asked = ask_runs(change, |one| one == name)
        .await
        .map_err(Stop::refused)?;
    match asked.runs.into_iter().next() {
        Some((_, Ok(status))) => Ok(ThrottleView {
            runs: vec![view(&status)],
            unanswered: Vec::new(),
        }),
        Some((_, Err(why))) => Err(unchanged(name, &why)),
        None => Err(Stop::refused(anyhow!("run {name} has just ended"))),
    }
}

/// A run did not do what it was asked for, and will not do it later.
fn unchanged(name: &str, why: &NoAnswer) -> Stop {
    Stop::refused(anyhow!("run {name}: {why}; its settings stay as they are"))
}

/// Whether the name of a run begins like that, in upper or lower case.
fn begins_with(name: &str, beginning: &str) -> bool {
    let head = name.get(..beginning.len());
    head.is_some_and(|head| head.eq_ignore_ascii_case(beginning))
}

/// Several runs fit: their names are in the message.
fn ambiguous(runs: &[(String, Result<RunStatus, NoAnswer>)]) -> Stop {
    let lines: Vec<String> = runs
        .iter()
        .map(|(name, status)| match status {
            Ok(status) => format!("  {name}: {} {}", status.command, status.node),
            Err(why) => format!("  {name}: {why}"),
        })
        .collect();
    Stop::usage(anyhow!(
        "{} on this host move slots: name one of them\n{}",
        counted(runs.len() as u64, "run"),
        lines.join("\n")
    ))
}

fn view(status: &RunStatus) -> RunView {
    let settings = status.settings;
    RunView {
        run: status.run.clone(),
        command: status.command.clone(),
        pid: status.pid,
        node: status.node.clone(),
        state: status.pairs.state(settings.flow).into(),
        rate: settings.rate.map(|rate| match rate {
            Rate::Keys(per_second) => RateView::Keys { per_second },
            Rate::Bytes(per_second) => RateView::Bytes { per_second },
        }),
        node_pairs: settings.pairs_now(),
        max_latency: settings.max_latency,
    }
}
