//! After each round: until all have heard what was changed.

use std::time::Duration;

use tokio::time::Instant;

use super::Job;
use crate::change::legacy::Signals;
use crate::cluster::health::{Background, Diagnosis};
use crate::cluster::slot::SLOTS;
use crate::discover;
use crate::event::{Event, Phase};
use crate::stop::Stop;

/// How long gossip may take. What is not heard by then is planned for.
const WITHIN: Duration = Duration::from_secs(15);
/// The same where it can't end well.
const UNCOVERED: Duration = Duration::from_secs(2);
/// The same where neither who is seen as an owner changes nor who serves: gossip comes each second, and
/// nobody waits longer than 5 s before it serves (protocol.md section 6).
const UNCHANGED: Duration = Duration::from_secs(6);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until all agree and serve, for a while at most.
pub(super) async fn wait(job: &Job<'_>, signals: &mut Signals) -> Result<(), Stop> {
    let started = Instant::now();
    job.ui.event(&Event::Phase(Phase::Agree));
    let mut last = (started, None);
    loop {
        let targets = job.session.targets();
        let observation = discover::observe(&job.session.connections, &targets).await;
        let observation = observation.map_err(|error| Stop::partial(anyhow::Error::new(error)))?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        let reports = diagnosis.observation.reports().count();
        let ok = diagnosis
            .observation
            .reports()
            .filter(|(_, report)| report.cluster.ok)
            .count();
        job.ui.event(&Event::Waiting {
            phase: Phase::Agree,
            ready: ok,
            total: reports,
        });
        let all_well = ok == reports && diagnosis.topology.opinions.len() <= 1;
        // Where slots are left without an owner not everybody will serve.
        let is_covered = diagnosis.slots_covered() == usize::from(SLOTS);
        let now = Some((ok, diagnosis.observation.signature()));
        if last.1 != now {
            last = (Instant::now(), now);
        }
        let within = if is_covered { WITHIN } else { UNCOVERED };
        let enough = last.0.elapsed() >= UNCHANGED || started.elapsed() >= within;
        if all_well || enough {
            return Ok(());
        }
        tokio::select! {
            _ = signals.next() => return Err(Stop::interrupted(anyhow::anyhow!(
                "interrupted while the nodes hear of what was changed; the same command goes on"
            ))),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}
