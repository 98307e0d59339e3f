//! From a plan to commands: one round after the other, the steps of a round side by side.
//!
//! Before nodes are told to meet, all of them are read again: an address may by now be another
//! cluster's, and CLUSTER MEET merges clusters (redis/redis#6174, #7287).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use crate::client::ClientError;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{EntryPool, EntryState, ParseError, View};
use crate::connections::{Connections, Target};
use crate::event::{Event, Phase};
use crate::plan::{Plan, Step};

/// A node that a plan names.
#[derive(Debug, Clone)]
pub struct Party {
    /// Where we reach it.
    pub target: Target,
    /// Where the other nodes reach it. CLUSTER MEET takes IP addresses only.
    pub ip: IpAddr,
    /// Its port, for the other nodes.
    pub port: u16,
    /// Its bus port, where it is not port + 10000 (Redis ≥ 4).
    pub bus_port: Option<u16>,
}

/// The nodes that a plan names, by id.
pub type Parties = BTreeMap<NodeId, Party>;

/// What carries a plan out.
pub struct Execution {
    /// Kept open from step to step.
    pub connections: Arc<Connections>,
    /// Who is who.
    pub parties: Arc<Parties>,
    /// Who is told.
    pub events: UnboundedSender<Event>,
}

/// Why a plan was not carried out to its end.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// A command was refused, or not answered.
    #[error("{what}: {error}")]
    Failed {
        /// What was to be done.
        what: &'static str,
        /// The node and what it said.
        error: ClientError,
    },
    /// A node's CLUSTER NODES can't be read.
    #[error("{addr}: {error}")]
    Unreadable {
        /// The node, by address.
        addr: String,
        /// What is wrong with it.
        error: ParseError,
    },
    /// Another node answers than the one that was planned with.
    #[error("{addr} was {planned} and is {found} now: the address was given to another node", planned = .planned.short(), found = .found.short())]
    Replaced {
        /// The address.
        addr: String,
        /// Who was there.
        planned: NodeId,
        /// Who is there.
        found: NodeId,
    },
    /// A node got to know somebody who is not in the plan.
    #[error("{addr} knows {stranger} by now, who is not in the plan: meeting it would merge two clusters", stranger = .stranger.short())]
    Stranger {
        /// The node, by address.
        addr: String,
        /// Who should not be there.
        stranger: NodeId,
    },
}

impl Execution {
    /// Carries the plan out.
    pub async fn run(&self, plan: &Plan) -> Result<(), Halt> {
        let mut phase = None;
        for round in &plan.rounds {
            let next = round.first().map(phase_of);
            if next != phase {
                phase = next;
                self.tell(phase.map(Event::Phase));
                if phase == Some(Phase::Meet) {
                    self.look_again().await?;
                }
            }
            self.round(round).await?;
        }
        Ok(())
    }

    fn tell(&self, event: Option<Event>) {
        if let Some(event) = event {
            // Nobody listens any more when we were interrupted.
            let _ = self.events.send(event);
        }
    }

    async fn round(&self, steps: &[Step]) -> Result<(), Halt> {
        let mut doing = JoinSet::new();
        for step in steps.iter().cloned() {
            let connections = Arc::clone(&self.connections);
            let parties = Arc::clone(&self.parties);
            doing.spawn(async move {
                let done = apply(&connections, &parties, &step).await;
                (step, done)
            });
        }
        while let Some(Ok((step, done))) = doing.join_next().await {
            done.map_err(|error| Halt::Failed {
                what: what(&step),
                error,
            })?;
            self.tell(event_of(&step));
        }
        Ok(())
    }

    /// Reads every party's id and whom it knows.
    async fn look_again(&self) -> Result<(), Halt> {
        for (id, view) in views(&self.connections, &self.parties).await? {
            let addr = || {
                self.parties
                    .get(&id)
                    .map_or_else(String::new, |party| party.target.addr.to_string())
            };
            let found = view.myself().id;
            if found != id {
                return Err(Halt::Replaced {
                    addr: addr(),
                    planned: id,
                    found,
                });
            }
            // Handshakes have passing ids.
            let stranger = view.entries().find(|entry| {
                entry.state != EntryState::Handshake && !self.parties.contains_key(&entry.id)
            });
            if let Some(stranger) = stranger {
                return Err(Halt::Stranger {
                    addr: addr(),
                    stranger: stranger.id,
                });
            }
        }
        Ok(())
    }
}

/// The view of every party, side by side.
pub async fn views(
    connections: &Arc<Connections>,
    parties: &Parties,
) -> Result<Vec<(NodeId, View)>, Halt> {
    let mut reading = JoinSet::new();
    for (id, party) in parties {
        let (id, target) = (*id, party.target.clone());
        let connections = Arc::clone(connections);
        reading.spawn(async move {
            let text = async { connections.client(&target).await?.cluster_nodes().await }.await;
            (id, target, text)
        });
    }
    let mut pool = EntryPool::default();
    let mut views = Vec::with_capacity(parties.len());
    while let Some(Ok((id, target, text))) = reading.join_next().await {
        let text = text.map_err(|error| Halt::Failed {
            what: "reading the nodes again",
            error,
        })?;
        let view = pool.view(&text).map_err(|error| Halt::Unreadable {
            addr: target.addr.to_string(),
            error,
        })?;
        views.push((id, view));
    }
    views.sort_unstable_by_key(|(id, _)| *id);
    Ok(views)
}

async fn apply(
    connections: &Connections,
    parties: &Parties,
    step: &Step,
) -> Result<(), ClientError> {
    let party = |id: &NodeId| parties.get(id);
    match step {
        Step::AddSlots { node, slots } => {
            let Some(node) = party(node) else {
                return Ok(());
            };
            let client = connections.client(&node.target).await?;
            client.cluster_addslots(slots).await
        }
        Step::SetConfigEpoch { node, epoch } => {
            let Some(node) = party(node) else {
                return Ok(());
            };
            let client = connections.client(&node.target).await?;
            client.cluster_set_config_epoch(*epoch).await
        }
        Step::Meet { node, with } => {
            let (Some(node), Some(with)) = (party(node), party(with)) else {
                return Ok(());
            };
            let client = connections.client(&node.target).await?;
            client.cluster_meet(with.ip, with.port, with.bus_port).await
        }
        Step::Replicate { replica, master } => {
            let Some(node) = party(replica) else {
                return Ok(());
            };
            let client = connections.client(&node.target).await?;
            client.cluster_replicate(*master).await
        }
    }
}

fn phase_of(step: &Step) -> Phase {
    match step {
        Step::AddSlots { .. } => Phase::AddSlots,
        Step::SetConfigEpoch { .. } => Phase::SetEpochs,
        Step::Meet { .. } => Phase::Meet,
        Step::Replicate { .. } => Phase::Replicate,
    }
}

fn what(step: &Step) -> &'static str {
    match step {
        Step::AddSlots { .. } => "giving slots",
        Step::SetConfigEpoch { .. } => "setting the config epoch",
        Step::Meet { .. } => "telling a node to meet another",
        Step::Replicate { .. } => "making a node a replica",
    }
}

fn event_of(step: &Step) -> Option<Event> {
    match step {
        Step::AddSlots { node, slots } => Some(Event::SlotsAdded {
            node: *node,
            slots: slots.clone(),
        }),
        Step::Replicate { replica, master } => Some(Event::Replicates {
            replica: *replica,
            master: *master,
        }),
        Step::SetConfigEpoch { .. } | Step::Meet { .. } => None,
    }
}
