//! Waits for states that normally pass: a refusal that would have passed five seconds later helps nobody.
//!
//! A state is waited for while it is young: up to `--settle-timeout`, counted from when it began as far as the servers
//! tell, else from when it was first seen. Commands wait for their own preconditions only, and refuse what is left.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use crate::cluster::health::{Code, Finding, Passing, Severity};
use crate::cluster::node::NodeId;
use crate::discover;
use crate::event::Event;
use crate::session::Session;
use crate::state::{ClusterState, unhealthy};
use crate::stop::Stop;

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(300);

/// The shortest default of `--settle-timeout`.
const SHORTEST: Duration = Duration::from_secs(15);

/// A state that keeps a command from its work, and normally passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PassingState {
    /// The word for it in JSON: the code of a finding.
    pub(crate) word: &'static str,
    /// What tells it from another state with that word.
    pub(crate) nodes: Vec<NodeId>,
    /// What it is, in words.
    pub(crate) message: String,
    /// For how long it has lasted, if the servers tell.
    pub(crate) age: Option<Duration>,
}

/// Observes the cluster until no finding that `blocks` is left, or one is left that does not pass or is not young any
/// more. The caller refuses what is left.
pub(crate) async fn settled(
    session: &Session,
    blocks: impl Fn(&ClusterState, &Finding) -> bool,
) -> Result<ClusterState, Stop> {
    let waits_for = |cluster: &ClusterState| passing(cluster, &blocks);
    passed(
        session,
        async || ClusterState::look(session).await,
        waits_for,
    )
    .await
}

/// The same, and owners whose links are missing for long are errors. Two looks must show that.
pub(crate) async fn settled_with_links(
    session: &Session,
    blocks: impl Fn(&ClusterState, &Finding) -> bool,
) -> Result<ClusterState, Stop> {
    let waits_for = |cluster: &ClusterState| passing(cluster, &blocks);
    let look = async || ClusterState::settled_with_links(session).await;
    passed(session, look, waits_for).await
}

/// Calls `look` until `waits_for` returns no state, or one that is not young any more. Returns the last look.
pub(crate) async fn passed(
    session: &Session,
    look: impl AsyncFn() -> Result<ClusterState, Stop>,
    waits_for: impl Fn(&ClusterState) -> Vec<PassingState>,
) -> Result<ClusterState, Stop> {
    let cluster = look().await?;
    let states = waits_for(&cluster);
    if states.is_empty() {
        return Ok(cluster);
    }
    let within = settle_timeout(session, &cluster).await;
    let mut wait = Wait::new(session, within);
    let mut last = (cluster, states);
    loop {
        let (cluster, states) = last;
        if states.is_empty() || wait.is_over(&states) {
            return Ok(cluster);
        }
        wait.tell(&states);
        sleep(LOOK_AGAIN).await;
        let cluster = look().await?;
        let states = waits_for(&cluster);
        last = (cluster, states);
    }
}

/// The findings that block, if all of them normally pass; empty if the command need not wait, or would wait in vain.
fn passing(
    cluster: &ClusterState,
    blocks: impl Fn(&ClusterState, &Finding) -> bool,
) -> Vec<PassingState> {
    let diagnosis = &cluster.diagnosis;
    let blocking = diagnosis.findings.iter().filter(|f| blocks(cluster, f));
    let states = blocking.map(|finding| match diagnosis.passing(finding) {
        Passing::No => None,
        Passing::Since(age) => Some(PassingState {
            word: finding.code.word(),
            // The others are about the cluster as a whole.
            nodes: match finding.code {
                Code::ReplicaLinkDown => finding.nodes.clone(),
                _ => Vec::new(),
            },
            message: finding.message.clone(),
            age,
        }),
    });
    states.collect::<Option<Vec<_>>>().unwrap_or_default()
}

/// `--settle-timeout`, or the longer one of 15 s and two node timeouts.
async fn settle_timeout(session: &Session, cluster: &ClusterState) -> Duration {
    if let Some(given) = session.settle_timeout {
        return given;
    }
    let lead = cluster.reach.get(&cluster.diagnosis.observation.lead);
    let node_timeout = discover::node_timeout(&session.connections, lead).await;
    SHORTEST.max(node_timeout * 2)
}

/// A wait in progress. When it ends, whatever ends it, it says how long it took.
struct Wait<'a> {
    session: &'a Session,
    within: Duration,
    began: Instant,
    first_seen: BTreeMap<(&'static str, Vec<NodeId>), Instant>,
    waited_for: Vec<&'static str>,
}

impl<'a> Wait<'a> {
    fn new(session: &'a Session, within: Duration) -> Self {
        Self {
            session,
            within,
            began: Instant::now(),
            first_seen: BTreeMap::new(),
            waited_for: Vec::new(),
        }
    }

    /// Whether one of the states is not young any more. States that follow each other end the wait, too.
    fn is_over(&mut self, states: &[PassingState]) -> bool {
        let now = Instant::now();
        let mut oldest = Duration::ZERO;
        for state in states {
            let key = (state.word, state.nodes.clone());
            let seen = *self.first_seen.entry(key).or_insert(now);
            oldest = oldest.max(state.age.unwrap_or_default()).max(now - seen);
        }
        oldest >= self.within || now - self.began >= self.within * 2
    }

    fn tell(&mut self, states: &[PassingState]) {
        for state in states {
            if !self.waited_for.contains(&state.word) {
                self.waited_for.push(state.word);
            }
        }
        if let Some(first) = states.first() {
            self.session.events.waiting(format!(
                "{}: {} (this normally passes; --settle-timeout {})",
                first.word,
                first.message,
                humantime::format_duration(self.within)
            ));
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if !self.waited_for.is_empty() {
            self.session.events.send(Event::Waited {
                waited_for: std::mem::take(&mut self.waited_for),
                took: self.began.elapsed(),
            });
        }
    }
}

/// Observes a cluster and refuses it unless slots can be moved on it. Waits for errors that normally pass.
pub(crate) async fn healthy(session: &Session) -> Result<ClusterState, Stop> {
    let cluster = settled_with_links(session, |_, finding| finding.blocks_changes()).await?;
    let blocking = cluster.diagnosis.findings.iter();
    let errors: Vec<String> = blocking
        .filter(|finding| finding.blocks_changes())
        .map(|finding| format!("{}: {}", finding.code, finding.message))
        .collect();
    if errors.is_empty() {
        return Ok(cluster);
    }
    session.refuse_if_at_work(&cluster.answering()).await?;
    let findings = &cluster.diagnosis.findings;
    let hint = match findings.iter().any(|f| f.code == Code::SlotsOpen) {
        true => "\nfinish the open slots first: the same command with --finish-open",
        false => "",
    };
    Err(Stop::refused(anyhow!("{}{hint}", unhealthy(&errors))))
}

/// Whether the finding is an error.
pub(crate) fn is_error(finding: &Finding) -> bool {
    finding.severity() == Severity::Error
}
