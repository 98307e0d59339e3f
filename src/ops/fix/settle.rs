//! After each round: the wait until all nodes have heard of the changes.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::health::{Background, Diagnosis};
use crate::cluster::slot::SLOTS;
use crate::discover;
use crate::event::{Event, Phase};
use crate::session::Session;
use crate::stop::Stop;

/// How long gossip may take. The next round plans for what is not known by then.
const WITHIN: Duration = Duration::from_secs(15);
/// The same while slots have no owner: not all nodes will serve then.
const UNCOVERED: Duration = Duration::from_secs(2);
/// The same while neither the slot owners nor the states change: nodes gossip every second, and a node serves
/// after 5 s at most (protocol.md section 6).
const UNCHANGED: Duration = Duration::from_secs(6);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Waits until all nodes agree and serve, for a limited time or until a signal. What is missing then is not an error.
pub(super) async fn wait(session: &Session) -> Result<(), Stop> {
    let started = Instant::now();
    session.events.phase(Phase::Agree);
    let mut last = (started, None);
    loop {
        let observation = discover::observe(&session.connections, &session.targets()).await;
        let observation = observation.map_err(|error| Stop::partial(anyhow::Error::new(error)))?;
        let diagnosis = Diagnosis::of(observation, &Background::default());
        let reports = diagnosis.observation.reports().count();
        let ok = diagnosis
            .observation
            .reports()
            .filter(|(_, report)| report.cluster.ok)
            .count();
        session.events.send(Event::Waiting {
            phase: Phase::Agree,
            ready: ok,
            total: reports,
        });
        let is_agreed = ok == reports && diagnosis.topology.opinions.len() <= 1;
        let is_covered = diagnosis.slots_covered() == usize::from(SLOTS);
        let now = Some((ok, diagnosis.observation.signature()));
        if last.1 != now {
            last = (Instant::now(), now);
        }
        let within = if is_covered { WITHIN } else { UNCOVERED };
        let is_late = last.0.elapsed() >= UNCHANGED || started.elapsed() >= within;
        if is_agreed || is_late {
            return Ok(());
        }
        // The next round names what is left.
        if session.interrupt.stops(sleep(LOOK_AGAIN)).await.is_err() {
            return Ok(());
        }
    }
}
