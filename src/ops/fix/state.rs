//! The cluster that is summary, as it is now.

use std::time::Duration;

use anyhow::anyhow;

use super::Memory;
use crate::cluster::health::{Code, Diagnosis, Severity, Stability};
use crate::cluster::holdings::Holdings;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{Direction, MasterLink, OpenSlot};
use crate::connections::Target;
use crate::discover;
use crate::plan::fix::{self, Consent, FixPlan, Request};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;

/// Between two looks: gossip comes each second.
const SETTLE: Duration = Duration::from_millis(1100);
/// The same where all agree, and slots are open: whoever moves keys takes some within that time (redis-cli
/// ten of them each millisecond or two).
const TRANSIT: Duration = Duration::from_millis(80);
/// How many seconds ago a replica lost the link that it is about to get again: one that is told whom to
/// follow calls that one within a second, and has its copy soon where there is little to copy.
const JUST_NOW: u64 = 5;
/// Looks that may show somebody else at work.
const LOOKS: usize = 6;

/// A cluster with everything that a plan needs.
pub(super) struct FixState {
    pub(super) cluster: ClusterState,
    pub(super) holdings: Holdings,
    pub(super) stability: Stability,
}

impl FixState {
    /// Looks once, and where something is wrong as often as it takes to tell what is on its way from
    /// what stays so.
    pub(super) async fn look(session: &Session) -> Result<Self, Stop> {
        let cluster = ClusterState::look(session).await?;
        Self::look_on(session, cluster).await
    }

    /// The same, where the first look was just taken.
    pub(super) async fn look_on(
        session: &Session,
        mut cluster: ClusterState,
    ) -> Result<Self, Stop> {
        let mut stability = Stability::Unknown;
        let mut holdings = None;
        if is_unsettled(&cluster.diagnosis) {
            for look in 1.. {
                // What waits for gossip is counted when that has come; what waits for keys meanwhile.
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
                let still = in_transit(&cluster.diagnosis) == in_transit(&next.diagnosis);
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
                        "slots {} are on their way: their keys become fewer, so somebody else \
                         moves them; wait until that is done",
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
        Ok(Self {
            cluster,
            holdings,
            stability,
        })
    }

    pub(super) fn diagnosis(&self) -> &Diagnosis {
        &self.cluster.diagnosis
    }

    pub(super) fn name(&self, id: NodeId) -> String {
        self.cluster.name(id)
    }

    /// How all masters are reached.
    pub(super) fn masters(&self) -> impl Iterator<Item = &Target> {
        let masters = self.diagnosis().topology.masters();
        masters.filter_map(|master| self.cluster.reach.get(&master.id))
    }

    /// The next step for what is broken, without the slots that have shown to be stuck.
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

/// Whether a second look may tell more.
fn is_unsettled(diagnosis: &Diagnosis) -> bool {
    may_change(diagnosis) || !diagnosis.topology.open_set().is_empty()
}

/// Whether gossip may.
fn may_change(diagnosis: &Diagnosis) -> bool {
    diagnosis.may_settle()
        || is_about_to(diagnosis)
        || diagnosis.topology.opinions.len() > 1
        || diagnosis.slots_covered() < usize::from(crate::cluster::slot::SLOTS)
}

/// Whether something is on its way that no two views differ about.
fn is_about_to(diagnosis: &Diagnosis) -> bool {
    is_about_to_serve(diagnosis) || is_about_to_link(diagnosis)
}

/// Whether a replica lost its master a moment ago, and that one answers.
fn is_about_to_link(diagnosis: &Diagnosis) -> bool {
    let nodes = &diagnosis.observation.nodes;
    let answers = |id: NodeId| nodes.get(&id).is_some_and(|node| node.report().is_some());
    diagnosis.observation.reports().any(|(_, report)| {
        let link = report.info.master_link;
        matches!(link, Some(MasterLink::Down(Some(since))) if since < JUST_NOW)
            && report.view.myself().master.is_some_and(answers)
    })
}

/// Whether some do not serve yet, and nothing that is wrong keeps them from it: it is a matter of
/// seconds, mostly (protocol.md section 6).
fn is_about_to_serve(diagnosis: &Diagnosis) -> bool {
    let errors = || {
        let findings = diagnosis.findings.iter();
        findings.filter(|finding| finding.severity() == Severity::Error)
    };
    errors().any(|error| error.code == Code::StateNotOk)
        && errors().all(|error| matches!(error.code, Code::StateNotOk | Code::SlotsOpen))
}

/// What members disagree about, and what they claim.
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

/// Open slots as masters tell of them, with the keys that their owners still have: these become
/// fewer while somebody moves them, whereas clients create keys at the other end only.
fn in_transit(diagnosis: &Diagnosis) -> Vec<(NodeId, OpenSlot, Option<u64>)> {
    let open = diagnosis.topology.open_slots();
    open.filter(|(member, _)| member.role == Role::Master)
        .map(|(member, open)| {
            let node = diagnosis.observation.nodes.get(&member.id);
            let keys = match open.direction {
                Direction::Migrating => node
                    .and_then(|node| node.report())
                    .and_then(|report| report.open_keys.get(&open.slot).copied()),
                Direction::Importing => None,
            };
            (member.id, open, keys)
        })
        .collect()
}
