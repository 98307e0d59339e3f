//! `fix NODE… --rejoin`: nodes that were all restarted at new addresses, as containers and pods are,
//! and that know each other at the old ones only.
//!
//! Nodes are who their own nodes.conf says, whatever their address: those that remember each other's
//! ids are of one cluster. They are told to meet at their new addresses, each some of the others, and
//! that is all: a node that meets one it knows takes the new address for it (Redis 3.2 to 8.6, Valkey
//! 8 to 9.1). Slots, roles and epochs stay what they were.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::change::Global;
use crate::change::legacy::Access;
use crate::change::legacy::consent;
use crate::cluster::node::NodeId;
use crate::cluster::parse::{EntryState, MasterLink};
use crate::commands::fix::Args;
use crate::converge::Watch;
use crate::exit_code::ExitCode;
use crate::seed::Seed;
use crate::session::Session;
use crate::state::ClusterState;
use crate::state::{Participant, Participants};
use crate::stop::{CommandResult, Stop};
use crate::ui::{FixLine, FixView, Ui};

/// How long all may take to see each other.
const WITHIN: Duration = Duration::from_secs(60);
/// How long replicas may take to find their masters, by themselves and when told again.
const LINKED_WITHIN: Duration = Duration::from_secs(40);
/// Between two looks at them.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How long they are left to it: they try once a second.
const BY_THEMSELVES: Duration = Duration::from_secs(3);
/// Between telling one and telling it again: it takes the address that it knows then, which may be the old
/// one still. More often would keep a large master from ever sending its copy.
const TELL_AGAIN: Duration = Duration::from_secs(8);

/// Lets nodes meet again.
pub(crate) async fn run(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let seeds: Vec<Seed> = args
        .node
        .iter()
        .map(|node| node.parse().map_err(Stop::usage))
        .collect::<Result<_, _>>()?;
    let session = crate::change::legacy::open(global, ui, &seeds, Access::Change("fix")).await?;
    let cluster = ClusterState::look(&session).await?;
    let observation = &cluster.diagnosis.observation;
    if let Some(stranger) = observation.bystanders.first() {
        return Err(Stop::refused(anyhow!(
            "{} ({}) remembers no other node: it lost its nodes.conf, or belongs elsewhere; nothing was \
             changed",
            stranger.dial,
            stranger.id.short()
        )));
    }
    let participants = participants(&session, &cluster).await?;
    let strangers = unlinked(&cluster, &participants);
    if strangers.is_empty() {
        ui.done(ExitCode::Done, "[OK] These nodes all see each other.")?;
        return Ok(ExitCode::Done);
    }
    let absent: BTreeSet<NodeId> = observation
        .nodes
        .keys()
        .filter(|id| !participants.contains_key(id))
        .copied()
        .collect();
    ui.remedies(&view(&cluster, &participants, &strangers, &absent))?;
    if args.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(ExitCode::Done);
    }
    if !args.yes {
        let about = format!("{} nodes of one cluster.", participants.len());
        consent(ui, "Let them meet?", &about).await?;
    }
    let targets = participants.values().map(|participant| &participant.target);
    session.refuse_others(targets).await?;
    meet(&session, &participants).await?;
    let (events, mut told) = mpsc::unbounded_channel();
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let watch = Watch {
        connections: Arc::clone(&session.connections),
        participants: Arc::new(participants),
        absent: Arc::new(absent),
        events,
        deadline: Instant::now() + WITHIN,
        within: WITHIN,
        nudged: Arc::default(),
    };
    let joined = async {
        let watch = watch;
        watch.join().await
    };
    let (joined, ()) = tokio::join!(joined, show);
    if let Err(late) = joined {
        let error = anyhow!("{late}\nThe same command again goes on.");
        ui.stopped(ExitCode::Partial, &error)?;
        return Err(Stop::partial(error));
    }
    relink(&session, ui).await?;
    ui.hint(&format!(
        "redis-trib check {} --wait 30s",
        cluster.resume_seed()
    ));
    ui.done(ExitCode::Done, "[OK] All nodes see each other again.")?;
    Ok(ExitCode::Done)
}

/// Replicas that go on calling their master at its old address are told once more whom they follow: one that
/// hears of the new address by gossip notes it, and does not tell its replication (Redis 7.0).
async fn relink(session: &Session, ui: &Ui) -> Result<(), Stop> {
    let begun = Instant::now();
    let mut told: BTreeMap<NodeId, Instant> = BTreeMap::new();
    loop {
        let looked = ClusterState::look(session).await;
        let cluster = looked
            .map_err(|stop| Stop::partial(stop.error.context("the nodes have met, but then")))?;
        let observation = &cluster.diagnosis.observation;
        let detached: Vec<(NodeId, NodeId)> = observation
            .reports()
            .filter(|(_, report)| matches!(report.info.master_link, Some(MasterLink::Down(_))))
            .filter_map(|(node, report)| Some((node.id, report.view.myself().master?)))
            .filter(|(_, master)| {
                observation
                    .nodes
                    .get(master)
                    .is_some_and(|n| n.report().is_some())
            })
            .collect();
        if detached.is_empty() {
            return Ok(());
        }
        if begun.elapsed() >= LINKED_WITHIN {
            let names: Vec<String> = detached.iter().map(|(id, _)| cluster.name(*id)).collect();
            ui.warn(&format!(
                "still without a link to their masters: {}",
                names.join(", ")
            ));
            return Ok(());
        }
        if begun.elapsed() >= BY_THEMSELVES {
            for (replica, master) in detached {
                let Some(target) = cluster.reach.get(&replica) else {
                    continue;
                };
                if told
                    .get(&replica)
                    .is_some_and(|at| at.elapsed() < TELL_AGAIN)
                {
                    continue;
                }
                told.insert(replica, Instant::now());
                let tell = async {
                    let client = session.connections.client(target).await?;
                    client.cluster_replicate(master).await
                };
                if let Err(error) = tell.await {
                    let name = cluster.name(replica);
                    ui.warn(&format!(
                        "{name} could not be told its master again: {error}"
                    ));
                }
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The nodes that answered, at the addresses where they were reached.
async fn participants(session: &Session, cluster: &ClusterState) -> Result<Participants, Stop> {
    let mut participants = Participants::new();
    for (node, report) in cluster.diagnosis.observation.reports() {
        let Some(target) = cluster.reach.get(&node.id).cloned() else {
            continue;
        };
        let client = session.connections.client(&target).await?;
        let peer = session.connections.peer_of(&target.addr);
        let ip: Option<IpAddr> = peer.ip().or_else(|| client.remote_ip());
        let Some(ip) = ip else {
            return Err(Stop::refused(anyhow!(
                "{} has no IP address that the others could be told; nothing was changed",
                cluster.name(node.id)
            )));
        };
        let participant = Participant {
            id: node.id,
            port: peer.port(),
            bus_port: report.view.myself().bus_port,
            target,
            ip,
        };
        participants.insert(participant.id, participant);
    }
    Ok(participants)
}

/// Who has no link to whom. One to an old address may have been taken up by somebody else who listens
/// there now: it leads nowhere, and the node is held for failing.
fn unlinked(cluster: &ClusterState, participants: &Participants) -> BTreeMap<NodeId, usize> {
    let mut unlinked = BTreeMap::new();
    for (node, report) in cluster.diagnosis.observation.reports() {
        let others = participants.keys().filter(|id| **id != node.id);
        let missing = others
            .filter(|id| {
                let entry = report.view.entry(**id);
                entry.is_none_or(|entry| !entry.linked || entry.state != EntryState::Fine)
            })
            .count();
        if missing > 0 {
            unlinked.insert(node.id, missing);
        }
    }
    unlinked
}

fn view(
    cluster: &ClusterState,
    participants: &Participants,
    strangers: &BTreeMap<NodeId, usize>,
    absent: &BTreeSet<NodeId>,
) -> FixView {
    let line = |word, id: NodeId, text| FixLine {
        word,
        slots: Default::default(),
        nodes: vec![id],
        keys: 0,
        text,
    };
    let meets = strangers.iter().map(|(id, missing)| {
        let others = participants.len() - 1;
        let text = format!(
            "{} meets the others at their new addresses: it sees {} of {others}",
            cluster.name(*id),
            others - missing
        );
        line("meet", *id, text)
    });
    let missing = absent.iter().map(|id| {
        let text = format!(
            "{} was not named, or does not answer: name its new address too",
            cluster.name(*id)
        );
        line("not-named", *id, text)
    });
    FixView {
        remedies: meets.collect(),
        refused: missing.collect(),
        ..FixView::default()
    }
}

/// Node i meets i+1, then i+2, then i+4 and so on. Each is asked right before who it is.
async fn meet(session: &Session, participants: &Participants) -> Result<(), Stop> {
    let all: Vec<&Participant> = participants.values().collect();
    let offsets = std::iter::successors(Some(1_usize), |offset| offset.checked_mul(2));
    for offset in offsets.take_while(|offset| *offset < all.len()) {
        for (one, other) in all.iter().zip(&all[offset..]) {
            let late =
                |error: anyhow::Error| Stop::partial(error.context("the nodes have begun to meet"));
            for participant in [one, other] {
                let client = session.connections.client(&participant.target).await;
                let client = client.map_err(|error| late(error.into()))?;
                let id = client
                    .cluster_myid()
                    .await
                    .map_err(|error| late(error.into()))?;
                if id != participant.id {
                    return Err(late(anyhow!(
                        "{} was {} and is {} now",
                        participant.target.addr,
                        participant.id.short(),
                        id.short()
                    )));
                }
            }
            let client = session.connections.client(&one.target).await;
            let client = client.map_err(|error| late(error.into()))?;
            let met = client
                .cluster_meet(other.ip, other.port, other.bus_port)
                .await;
            met.map_err(|error| late(error.into()))?;
        }
    }
    Ok(())
}
