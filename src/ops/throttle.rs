//! `throttle`: changes the settings of a run that moves slots on this host.

use anyhow::anyhow;

use crate::cluster::numbers::counted;
use crate::cluster::text::clean;
use crate::control::{Change, Flow, Found, Rate, RunStatus, ask_runs};
use crate::event::Events;
use crate::report::{RateView, RunState, RunView, ThrottleView};
use crate::stop::Stop;

/// Asks the run of that name, or the only one, to change its settings. Without a change and without a name, all runs are
/// shown. Files that are no runs get a warning.
pub(crate) async fn throttle(
    run: Option<&str>,
    change: Change,
    events: &Events,
) -> Result<ThrottleView, Stop> {
    // Not before it is clear that there is one.
    let found = ask_runs(Change::default(), |name| {
        run.is_none_or(|run| name.starts_with(run))
    });
    let Found {
        runs: found,
        others,
    } = found.await.map_err(Stop::refused)?;
    for other in others {
        events.warn(clean(&format!("not a run: {other}"), 300));
    }
    if let (None, true) = (run, change == Change::default()) {
        let runs = found.into_iter().filter_map(|(_, status)| status.ok());
        return Ok(ThrottleView {
            runs: runs.map(|status| view(&status)).collect(),
        });
    }
    let exact = found.iter().find(|(name, _)| Some(name.as_str()) == run);
    let name = match (exact, &found[..]) {
        (Some((name, _)), _) | (None, [(name, _)]) => name.clone(),
        (None, []) => {
            let which = run.map_or_else(String::new, |run| format!(" {run:?}"));
            return Err(Stop::refused(anyhow!(
                "no run{which} of this user moves slots on this host: a run can be changed from when its first slot moves \
                 until it ends"
            )));
        }
        (None, several) => return Err(ambiguous(several)),
    };
    let asked = ask_runs(change, |one| one == name)
        .await
        .map_err(Stop::refused)?;
    match asked.runs.into_iter().next() {
        Some((_, Ok(status))) => Ok(ThrottleView {
            runs: vec![view(&status)],
        }),
        Some((_, Err(why))) => Err(Stop::refused(anyhow!("run {name}: {why}"))),
        None => Err(Stop::refused(anyhow!("run {name} has just ended"))),
    }
}

/// Several runs fit: their names are in the message.
fn ambiguous(runs: &[(String, Result<RunStatus, String>)]) -> Stop {
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
        state: match settings.flow {
            Flow::Moving => RunState::Moving,
            Flow::Paused if status.open_pairs > 0 => RunState::Pausing,
            Flow::Paused => RunState::Paused,
        },
        rate: settings.rate.map(|rate| match rate {
            Rate::Keys(per_second) => RateView::Keys { per_second },
            Rate::Bytes(per_second) => RateView::Bytes { per_second },
        }),
        node_pairs: settings.node_pairs,
        max_latency: settings.max_latency,
    }
}
