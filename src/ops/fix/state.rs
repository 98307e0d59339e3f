//! The state of the cluster that is fixed, as far as a plan needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::anyhow;

use super::Memory;
use crate::cluster::health::{Code, Diagnosis, Severity, Stability};
use crate::cluster::holdings::Holdings;
use crate::cluster::node::NodeId;
use crate::cluster::parse::MasterLink;
use crate::cluster::write_refusal::WriteRefusal;
use crate::connections::Target;
use crate::discover;
use crate::ops::raft::{self, Obstacle};
use crate::ops::writes::write_refusals;
use crate::plan::fix::{self, Consent, FixPlan, Request};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// The interval between two looks: nodes gossip every second.
const SETTLE: Duration = Duration::from_millis(1100);
/// The same if all nodes agree and slots are open: another operator would move some keys in that time (redis-cli moves
/// ten in a millisecond or two).
const TRANSIT: Duration = Duration::from_millis(80);
/// For how many seconds a replica without a link is expected to get one: a replica that is told its master connects within
/// a second, and a small full resync is short.
const JUST_NOW: u64 = 5;
/// The number of looks in which another operator may show.
const LOOKS: usize = 6;

/// A cluster with everything that a plan needs.
pub(super) struct FixState {
    pub(super) cluster: ClusterState,
    pub(super) holdings: Holdings,
    pub(super) stability: Stability,
    /// Nodes with open slots that refuse writes.
    pub(super) refusals: BTreeMap<NodeId, WriteRefusal>,
}

impl FixState {
    /// Looks once, and if something is wrong as often as needed to tell a passing state from a stable one.
    pub(super) async fn look(session: &Session) -> Result<Self, Stop> {
        let cluster = ClusterState::look(session).await?;
        Self::look_on(session, cluster).await
    }

    /// The same, with the first look.
    pub(super) async fn look_on(
        session: &Session,
        mut cluster: ClusterState,
    ) -> Result<Self, Stop> {
        raft::refuse(&cluster, Obstacle::Transactions)?;
        let mut stability = Stability::Unknown;
        let mut holdings = None;
        if is_unsettled(&cluster.diagnosis) {
            for look in 1.. {
                // Keys are counted after gossip has arrived, or during the wait if that is only for keys.
                let counted = match look > 1 || may_change(&cluster.diagnosis) {
                    true => {
                        tokio::time::sleep(SETTLE).await;
                        None
                    }
                    false => {
                        let pause = tokio::time::sleep(TRANSIT);
                        Some(tokio::join!(count(session, &cluster), pause).0)
                    }
                };
                let next = ClusterState::look(session).await?;
                let same = signature(&cluster.diagnosis) == signature(&next.diagnosis);
                let still = cluster.in_transit() == next.in_transit();
                cluster = next;
                stability = match same {
                    true => Stability::Stuck,
                    false => Stability::Settling,
                };
                if same && still && !is_about_to(&cluster.diagnosis) {
                    holdings = counted;
                    break;
                }
                if look == LOOKS && !still {
                    return Err(Stop::refused(anyhow!(
                        "slots {} are being moved: their keys become fewer, so another operator moves them; \
                         wait until that is done",
                        cluster.diagnosis.topology.open_set()
                    )));
                }
                if look == LOOKS {
                    break;
                }
            }
        }
        let holdings = match holdings {
            Some(holdings) => holdings,
            None => count(session, &cluster).await,
        };
        let with_open: BTreeSet<NodeId> = cluster.open_by_node().into_keys().collect();
        let refusals = write_refusals(session, &cluster, &with_open).await;
        Ok(Self {
            cluster,
            holdings,
            stability,
            refusals,
        })
    }

    pub(super) fn diagnosis(&self) -> &Diagnosis {
        &self.cluster.diagnosis
    }

    pub(super) fn name(&self, id: NodeId) -> String {
        self.cluster.name(id)
    }

    /// The masters, as they are reached.
    pub(super) fn masters(&self) -> impl Iterator<Item = &Target> {
        let masters = self.diagnosis().topology.masters();
        masters.filter_map(|master| self.cluster.reach.get(&master.id))
    }

    /// The next step for each fault, without slots that stay open.
    pub(super) fn plan(&self, consent: &Consent, memory: &Memory) -> FixPlan {
        let mut plan = fix::plan(&Request {
            diagnosis: self.diagnosis(),
            stability: self.stability,
            holdings: &self.holdings,
            revealed: &memory.revealed,
            unveiled: &memory.unveiled,
            begun: &memory.begun,
            tried: &memory.tried,
            consent,
            refusals: &self.refusals,
        });
        plan.remedies.retain_mut(|remedy| {
            let is_about_slots = !remedy.slots.is_empty();
            remedy.slots = remedy.slots.difference(&memory.stuck);
            !is_about_slots || !remedy.slots.is_empty()
        });
        plan
    }
}

async fn count(session: &Session, cluster: &ClusterState) -> Holdings {
    let observation = &cluster.diagnosis.observation;
    discover::count_holdings(&session.connections, observation, &cluster.reach).await
}

/// Whether a second look may show more.
fn is_unsettled(diagnosis: &Diagnosis) -> bool {
    may_change(diagnosis) || !diagnosis.topology.open_set().is_empty()
}

/// Whether gossip may change what is seen.
fn may_change(diagnosis: &Diagnosis) -> bool {
    diagnosis.may_settle()
        || is_about_to(diagnosis)
        || diagnosis.topology.opinions.len() > 1
        || diagnosis.slots_covered() < usize::from(crate::cluster::slot::SLOTS)
}

/// Whether a change is expected that does not show as different views.
fn is_about_to(diagnosis: &Diagnosis) -> bool {
    is_about_to_serve(diagnosis) || is_about_to_link(diagnosis)
}

/// Whether a replica lost the link to its master a moment ago, and the master answers.
fn is_about_to_link(diagnosis: &Diagnosis) -> bool {
    let nodes = &diagnosis.observation.nodes;
    let answers = |id: NodeId| nodes.get(&id).is_some_and(|node| node.report().is_some());
    diagnosis.observation.reports().any(|(_, report)| {
        let link = report.info.master_link;
        matches!(link, Some(MasterLink::Down(Some(since))) if since < JUST_NOW)
            && report.view.myself().master.is_some_and(answers)
    })
}

/// Whether nodes do not serve yet although no fault keeps them from it: they do within seconds, mostly (protocol.md
/// section 6).
fn is_about_to_serve(diagnosis: &Diagnosis) -> bool {
    let errors = || {
        let findings = diagnosis.findings.iter();
        findings.filter(|finding| finding.severity() == Severity::Error)
    };
    errors().any(|error| error.code == Code::StateNotOk)
        && errors().all(|error| matches!(error.code, Code::StateNotOk | Code::SlotsOpen))
}

/// The views of the members, and their claims.
fn signature(diagnosis: &Diagnosis) -> impl PartialEq + use<> {
    let members = diagnosis.topology.members.values();
    let claims: Vec<_> = members
        .map(|member| {
            (
                member.id,
                member.role,
                member.slots.clone(),
                member.open.clone(),
            )
        })
        .collect();
    (diagnosis.observation.signature(), claims)
}
