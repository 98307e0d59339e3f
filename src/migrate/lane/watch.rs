//! What both ends of a lane are, looked at before anything is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::serving::may_pass;
use super::{Ends, LAG_WITHIN, Lane, LaneError, REPLICAS_WITHIN, Window};
use crate::client::NodeClient;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::parse::{
    ClusterInfo, Direction, Entry, EntryPool, EntryState, Info, OnlineReplica, View,
};
use crate::cluster::slot::{Slot, SlotSet};
use crate::migrate::{End, Lag, barrier_key};

impl Lane {
    /// Looks whether both ends still are what they were: masters, the same processes, the source
    /// the owner of these slots, and the open ones open on both ends. (A master that was a replica
    /// for a moment has forgotten what was open, and served keys that are gone as missing.)
    pub(super) async fn look(
        &self,
        ends: &mut Ends,
        owned: &SlotSet,
        open: &SlotSet,
    ) -> Result<(), LaneError> {
        let (source, target) = self.survey(ends).await?;
        let has: SlotSet = source.myself().slots.iter().copied().collect();
        let lost = owned.difference(&has);
        if !lost.is_empty() {
            return Err(LaneError::Changed(format!(
                "{} does not own slots {lost} any more",
                self.source
            )));
        }
        for (end, view, direction, peer) in [
            (&self.source, &source, Direction::Migrating, self.target.id),
            (&self.target, &target, Direction::Importing, self.source.id),
        ] {
            let forgotten = open.difference(&open_on(view.myself(), direction, Some(peer)));
            if !forgotten.is_empty() {
                return Err(LaneError::Changed(format!(
                    "{end} does not know any more that slots {forgotten} are on their way"
                )));
            }
        }
        Ok(())
    }

    /// Both ends' views, if both still are what they were, whatever they do with slots. Waits for an election elsewhere.
    pub(super) async fn survey(&self, ends: &mut Ends) -> Result<(View, View), LaneError> {
        let mut wait = self.election_wait();
        loop {
            let (views, is_serving) = self.survey_now(ends).await?;
            let Some((end, view)) = is_serving.missing(&self.source, &self.target, &views) else {
                self.election_over(&wait);
                return Ok(views);
            };
            self.await_election(&mut wait, end, view).await?;
        }
    }

    async fn survey_now(&self, ends: &mut Ends) -> Result<((View, View), Serving), LaneError> {
        let (source, target) = tokio::try_join!(ends.source.look(), ends.target.look())?;
        let mut pool = EntryPool::default();
        let mut read = |end: &End, text: &str| {
            let view = pool.view(text);
            view.map_err(|error| LaneError::Changed(format!("{}: {error}", end.target.addr)))
        };
        let source_view = read(&self.source, &source.nodes)?;
        let target_view = read(&self.target, &target.nodes)?;
        let source_info = Info::parse(&source.info);
        let target_info = Info::parse(&target.info);
        self.regulator.note_cpu(&self.source, &source_info);
        self.regulator.note_cpu(&self.target, &target_info);
        for (end, view) in [(&self.source, &source_view), (&self.target, &target_view)] {
            let myself = view.myself();
            if myself.id != end.id || myself.role != Some(Role::Master) {
                return Err(LaneError::Changed(match followed(view) {
                    Some(master) => format!("{end} is no master any more, it follows {master}"),
                    None => format!("{end} is no master any more"),
                }));
            }
        }
        if target_view.entry(self.source.id).is_none() {
            return Err(LaneError::Changed(format!(
                "{} does not know {}",
                self.target, self.source
            )));
        }
        let restarted =
            |then: &Option<Arc<str>>, now: &Option<Arc<str>>| then.is_some() && then != now;
        if restarted(&ends.source_run, &source_info.run_id) {
            return Err(LaneError::Changed(format!("{} restarted", self.source)));
        }
        if restarted(&ends.target_run, &target_info.run_id) {
            return Err(LaneError::Changed(format!("{} restarted", self.target)));
        }
        if ends
            .evicted
            .is_some_and(|then| target_info.evicted_keys > Some(then))
        {
            return Err(LaneError::Changed(format!(
                "{} evicts keys (maxmemory): it loses what it is given",
                self.target
            )));
        }
        ends.databases = databases(&source_info);
        ends.target_databases = databases(&target_info);
        ends.source_run = source_info.run_id;
        ends.target_run = target_info.run_id;
        ends.evicted = target_info.evicted_keys;
        ends.replicas_of_source = source_info.online_replicas;
        ends.replicas_of_target = target_info.online_replicas;
        ends.target_product = target_info.version.map(|version| version.product);
        ends.limited = target_info.maxmemory.is_some_and(|limit| limit > 0);
        ends.looked = Instant::now();
        let serving = Serving {
            source: ClusterInfo::parse(&source.cluster_info).ok,
            target: ClusterInfo::parse(&target.cluster_info).ok,
        };
        Ok(((source_view, target_view), serving))
    }

    /// Waits until the target's replicas have what was moved. They stop the lane where they don't:
    /// the keys have left the source, and the target alone would have them.
    pub(super) async fn confirm(
        &self,
        ends: &mut Ends,
        closing: &SlotSet,
    ) -> Result<(), LaneError> {
        if ends.replicas() == 0 || closing.is_empty() {
            return Ok(());
        }
        let Some(key) = barrier_key(closing) else {
            return Ok(());
        };
        let confirmed = self.confirmed(ends, &key, REPLICAS_WITHIN).await?;
        if confirmed >= ends.replicas() as u64 {
            return Ok(());
        }
        // One may have gone since it was counted.
        self.survey(ends).await?;
        if confirmed >= ends.replicas() as u64 {
            return Ok(());
        }
        Err(LaneError::Changed(format!(
            "{confirmed} of the {} replicas of {} have what was moved, after {} s: look at the \
             others, and go on when they have caught up",
            ends.replicas(),
            self.target,
            REPLICAS_WITHIN.as_secs()
        )))
    }

    /// Before more is opened, until no replica of either end stays too far behind. Those of the source
    /// have the deletions to follow, those of the target the keys; what they have not read yet waits in
    /// their master's memory, and beyond a limit there they are cut off, and begin anew.
    pub(super) async fn wait_for_replicas(&self, ends: &mut Ends) -> Result<(), LaneError> {
        let deadline = Instant::now() + LAG_WITHIN;
        loop {
            let lagging = [
                (&self.source, &ends.replicas_of_source),
                (&self.target, &ends.replicas_of_target),
            ]
            .into_iter()
            .find_map(|(end, replicas)| {
                let replica = replicas.iter().find(|replica| self.stays_behind(replica))?;
                Some((end, replica.clone()))
            });
            let Some((end, replica)) = lagging else {
                return Ok(());
            };
            if Instant::now() >= deadline {
                return Err(LaneError::Changed(format!(
                    "{replica} of {end}, and comes no closer within {} s: look at it, and go on when \
                     it has caught up (--max-replica-lag)",
                    LAG_WITHIN.as_secs()
                )));
            }
            // Replicas tell how far they are once a second.
            tokio::time::sleep(Duration::from_millis(200)).await;
            let (source, target) = tokio::try_join!(ends.source.info(), ends.target.info())?;
            ends.replicas_of_source = Info::parse(&source).online_replicas;
            ends.replicas_of_target = Info::parse(&target).online_replicas;
        }
    }

    pub(super) fn stays_behind(&self, replica: &OnlineReplica) -> bool {
        match self.options.max_replica_lag {
            Lag::Bytes(most) => replica.behind.is_some_and(|behind| behind > most),
            Lag::Time(longest) => replica.silent.is_some_and(|silent| silent > longest),
        }
    }

    /// How many bytes the target has below its maxmemory; `None` without such a limit. One that is
    /// full refuses keys, or, with an eviction policy, drops others for them without a word.
    pub(super) async fn room(&self, ends: &Ends) -> Result<Option<u64>, LaneError> {
        if !ends.limited {
            return Ok(None);
        }
        let info = Info::parse(&ends.target.info().await?);
        let limit = info.maxmemory.filter(|limit| *limit > 0);
        Ok(limit.map(|limit| limit.saturating_sub(info.used_memory.unwrap_or(0))))
    }

    /// Slots of which the target had no key when they were opened: what it has of them later came
    /// from this source. (Redis 8.6 counts the keys of slots that it owns or imports only.)
    pub(super) async fn bare(&self, ends: &Ends, opened: &Window) -> Result<SlotSet, LaneError> {
        let slots: Vec<Slot> = opened
            .iter()
            .filter(|(_, keys)| *keys > 0)
            .map(|(slot, _)| *slot)
            .collect();
        let counts = self
            .count(&ends.target, &ends.target_databases, &slots)
            .await?;
        let without_keys = slots.into_iter().zip(counts).filter(|(_, keys)| *keys == 0);
        Ok(without_keys.map(|(slot, _)| slot).collect())
    }
}

/// Which ends report `cluster_state:ok`.
struct Serving {
    source: bool,
    target: bool,
}

impl Serving {
    /// The end that does not, and its view. The source counts only where an election may be due: it may give its keys away
    /// in any other state.
    fn missing<'a>(
        &self,
        source: &'a End,
        target: &'a End,
        views: &'a (View, View),
    ) -> Option<(&'a End, &'a View)> {
        let (source_view, target_view) = views;
        if !self.target {
            return Some((target, target_view));
        }
        (!self.source && may_pass(source_view)).then_some((source, source_view))
    }
}

/// What a node says of itself and the others; `None` where it says nothing that can be read.
pub(super) async fn view_of(client: &NodeClient) -> Option<View> {
    let text = client.cluster_nodes().await.ok()?;
    EntryPool::default().view(&text).ok()
}

/// Slots that are open on a node in that direction, with that node at the other end or any.
pub(super) fn open_on(entry: &Entry, direction: Direction, peer: Option<NodeId>) -> SlotSet {
    entry
        .open
        .iter()
        .filter(|open| open.direction == direction && peer.is_none_or(|peer| open.peer == peer))
        .map(|open| open.slot)
        .collect()
}

/// Databases that hold keys; 0 always: counting none would look like counting no key.
pub(super) fn databases(info: &Info) -> Vec<u32> {
    let mut databases: Vec<u32> = info.keys.iter().map(|(database, _)| *database).collect();
    if !databases.contains(&0) {
        databases.push(0);
    }
    databases
}

/// The master that a node follows.
pub(super) fn followed(view: &View) -> Option<&Entry> {
    view.entry(view.myself().master?).map(AsRef::as_ref)
}

/// What a node misses that serves nothing, in words that follow what it says.
pub(super) fn missing_owners(view: &View) -> String {
    let missing: Vec<String> = view
        .entries()
        .filter(|entry| matches!(entry.state, EntryState::Failing | EntryState::Failed))
        .filter(|entry| !entry.slots.is_empty())
        .map(ToString::to_string)
        .collect();
    if !missing.is_empty() {
        return format!(": it misses {}, which owns slots", missing.join(", "));
    }
    let owned: SlotSet = view
        .entries()
        .flat_map(|entry| entry.slots.iter().copied())
        .collect();
    let unowned = SlotSet::full().difference(&owned);
    match unowned.is_empty() {
        true => String::new(),
        false => format!(": it knows no owner of slots {unowned}"),
    }
}
