//! `where`: the nodes of keys and slots, and what the owners tell of the keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::client::{ClientError, KeyFacts, NodeClient};
use crate::cluster::key::{self, KeyName};
use crate::cluster::node::NodeId;
use crate::cluster::parse::Direction;
use crate::cluster::slot::{Slot, hash_tag};
use crate::connections::{Connections, Target};
use crate::report::{KeyView, Node, OwnersView, SlotView, WhereView};
use crate::session::Session;
use crate::state::{ClusterState, name, open_at_masters};
use crate::stop::Stop;

/// What is looked up.
pub(crate) struct WhereRequest {
    /// Keys.
    pub(crate) keys: Vec<KeyName>,
    /// Slots.
    pub(crate) slots: Vec<Slot>,
    /// The database of the keys.
    pub(crate) database: u32,
}

/// A question to the owner of a slot; the number is its place among all.
type Numbered = (usize, Question);

#[derive(Debug, Clone)]
enum Question {
    /// Type, time to live and size of a key. While its slot moves, the target may have it.
    Key(KeyName, Option<Reach>),
    /// The number of keys in a slot.
    Slot(Slot),
}

/// A node, and how it is reached.
type Reach = (NodeId, Target);

/// What a node told, or why it did not.
type Answer = Result<Found, String>;

#[derive(Debug)]
enum Found {
    /// The key, and the node that has it; `None` if it does not exist.
    Key(Option<(NodeId, KeyFacts)>),
    /// The number of keys.
    Count(u64),
}

/// Looks up keys and slots. What a node does not tell is left open, with the reason.
pub(crate) async fn look_up(session: &Session, request: WhereRequest) -> Result<WhereView, Stop> {
    let cluster = ClusterState::look(session).await?;
    let of_keys = request.keys.iter().map(|key| Slot::of_key(key.bytes()));
    let slots: Vec<Slot> = of_keys.chain(request.slots.iter().copied()).collect();
    let places: Vec<OwnersView> = slots.iter().map(|slot| place(&cluster, *slot)).collect();

    let mut answers: Vec<Answer> = Vec::with_capacity(slots.len());
    let mut by_owner: BTreeMap<NodeId, (Target, Vec<Numbered>)> = BTreeMap::new();
    for (number, place) in places.iter().enumerate() {
        let owner = match reach_owner(&cluster, place) {
            Ok(owner) => owner,
            Err(why) => {
                answers.push(Err(why));
                continue;
            }
        };
        answers.push(Err("it gave no answer".to_string()));
        let question = match request.keys.get(number) {
            Some(key) => {
                let target = place.moving_to.as_ref();
                let target = target.and_then(|node| reach(&cluster, node.id));
                Question::Key(key.clone(), target)
            }
            None => Question::Slot(place.slot),
        };
        let (id, target) = owner;
        let group = by_owner.entry(id).or_insert((target, Vec::new()));
        group.1.push((number, question));
    }
    let database = request.database;
    let asking = session
        .connections
        .fan_out(by_owner, |connections, (id, (target, questions))| {
            ask_all(connections, (id, target), questions, database)
        });
    for (number, answer) in asking.await.into_iter().flatten() {
        answers[number] = answer;
    }

    let mut keys = Vec::new();
    let mut slots = Vec::new();
    for (number, (place, answer)) in places.into_iter().zip(answers).enumerate() {
        match request.keys.get(number) {
            Some(key) => keys.push(key_view(&cluster, key, place, answer)),
            None => {
                let (keys, why_unknown) = match answer {
                    Ok(Found::Count(keys)) => (Some(keys), None),
                    Ok(Found::Key(_)) => (None, None),
                    Err(why) => (None, Some(why)),
                };
                slots.push(SlotView {
                    place,
                    keys,
                    why_unknown,
                });
            }
        }
    }
    Ok(WhereView {
        database,
        keys,
        slots,
    })
}

fn key_view(cluster: &ClusterState, key: &KeyName, place: OwnersView, answer: Answer) -> KeyView {
    let mut view = KeyView {
        key: key.to_string(),
        hash_tag: hash_tag(key.bytes()).map(key::shown),
        place,
        exists: None,
        node: None,
        type_name: None,
        memory_usage: None,
        ttl_ms: None,
        why_unknown: None,
    };
    match answer {
        Ok(Found::Key(Some((id, facts)))) => {
            view.exists = Some(true);
            view.node = Some(name(&cluster.diagnosis, id));
            view.type_name = Some(facts.type_name);
            view.memory_usage = facts.memory;
            view.ttl_ms = facts.ttl;
        }
        Ok(Found::Key(None) | Found::Count(_)) => view.exists = Some(false),
        Err(why) => view.why_unknown = Some(why),
    }
    view
}

/// Where a slot is.
fn place(cluster: &ClusterState, slot: Slot) -> OwnersView {
    let (diagnosis, topology) = (&cluster.diagnosis, &cluster.diagnosis.topology);
    let named = |id: NodeId| name(diagnosis, id);
    let mut claims: Vec<_> = topology
        .masters()
        .filter(|master| master.slots.contains(slot))
        .collect();
    // The claim that nodes accept: that of a node which is up, with the highest config epoch.
    claims.sort_by_key(|master| {
        (
            master.peer_status.is_lost(),
            std::cmp::Reverse(master.epoch),
        )
    });
    let owner = claims.first().map(|master| master.id);
    let replicas: Vec<Node> = owner
        .into_iter()
        .flat_map(|owner| topology.replicas_of(owner))
        .map(|replica| named(replica.id))
        .collect();
    OwnersView {
        slot,
        owner: owner.map(named),
        other_claims: claims.iter().skip(1).map(|one| named(one.id)).collect(),
        replicas,
        moving_to: moving_to(cluster, slot, owner).map(named),
    }
}

/// The target of a move of that slot: key by key, or as an ASM task.
fn moving_to(cluster: &ClusterState, slot: Slot, owner: Option<NodeId>) -> Option<NodeId> {
    let mut open = open_at_masters(&cluster.diagnosis).filter(|(_, open)| open.slot == slot);
    let by_key = open.find_map(|(member, open)| match open.direction {
        Direction::Migrating if Some(member.id) == owner => Some(open.peer),
        Direction::Importing if Some(open.peer) == owner => Some(member.id),
        Direction::Migrating | Direction::Importing => None,
    });
    by_key.or_else(|| {
        let reports = cluster.diagnosis.observation.reports();
        let mut tasks = reports.flat_map(|(_, report)| &report.tasks);
        tasks.find_map(|task| {
            task.target
                .filter(|_| task.goes_on && task.slots.contains(slot))
        })
    })
}

fn reach(cluster: &ClusterState, id: NodeId) -> Option<Reach> {
    let node = cluster.diagnosis.observation.nodes.get(&id)?;
    let answers = node.report().is_some();
    let target = cluster.reach.get(&id).filter(|_| answers)?;
    Some((id, target.clone()))
}

fn reach_owner(cluster: &ClusterState, place: &OwnersView) -> Result<Reach, String> {
    let Some(owner) = &place.owner else {
        return Err(format!("no node owns slot {}", place.slot));
    };
    reach(cluster, owner.id).ok_or_else(|| {
        let why = cluster.diagnosis.observation.why_absent(owner.id);
        format!("{owner} does not answer: {why}")
    })
}

/// Asks one owner, on one connection.
async fn ask_all(
    connections: Arc<Connections>,
    owner: Reach,
    questions: Vec<Numbered>,
    database: u32,
) -> Vec<(usize, Answer)> {
    let client = match connections.temporary(&owner.1).await {
        Ok(client) => client,
        Err(error) => {
            let why = error.to_string();
            let unanswered = questions.into_iter().map(|(n, _)| (n, Err(why.clone())));
            return unanswered.collect();
        }
    };
    let mut answers = Vec::with_capacity(questions.len());
    for (number, question) in questions {
        let answer = match question {
            Question::Slot(slot) => {
                let counts = client.cluster_countkeysinslot(database, &[slot]).await;
                counts.map(|counts| Found::Count(counts.iter().sum()))
            }
            Question::Key(key, moving_to) => {
                let found = facts(&client, owner.0, &key, database).await;
                match (found, moving_to) {
                    (Ok(None), Some((id, target))) => {
                        let there = async {
                            let client = connections.own(&target).await?;
                            facts(&client, id, &key, database).await
                        };
                        there.await
                    }
                    (found, _) => found,
                }
                .map(Found::Key)
            }
        };
        answers.push((number, answer.map_err(|error| error.to_string())));
    }
    answers
}

async fn facts(
    client: &NodeClient,
    node: NodeId,
    key: &KeyName,
    database: u32,
) -> Result<Option<(NodeId, KeyFacts)>, ClientError> {
    let facts = client.reader(database, key.bytes()).facts().await?;
    Ok(facts.map(|facts| (node, facts)))
}
