//! Keys that a target holds of slots which are not its own: what a broken move left, or a client that
//! wrote after ASKING.
//!
//! An atomic move must not meet them. Valkey 9.1.2 aborts the target's process, and Redis 8.6 drops
//! them without a word, though they may be the only copies.

use std::fmt;
use std::time::{Duration, Instant};

use crate::client::{ClientError, NodeClient};
use crate::cluster::numbers::counted;
use crate::cluster::parse::{ClusterInfo, EntryPool, Info, Product};
use crate::cluster::slot::{Slot, SlotSet};

/// How often a node of Redis is counted again that has more keys than its slots: what it has given
/// away goes little by little.
const LOOKS: usize = 20;
/// Between two of these.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a node may import or trim other slots before its keys are counted: until then it hides some.
const TRIMMED_WITHIN: Duration = Duration::from_secs(30);

/// Keys where none should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strays {
    /// Valkey tells of which slot.
    OfSlot(Slot, u64),
    /// Redis counts the keys of slots that it owns, and all together.
    Elsewhere(u64),
    /// Redis ≥ 8.4 hides the keys of slots that it imports or trims: how many there are can't be told.
    Hidden,
}

/// What is done while a target hides keys (Redis ≥ 8.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hidden {
    /// It is waited until it has imported or trimmed what it does: the answer decides.
    Wait,
    /// Nothing is found: the answer is for a plan, and the target is asked again before slots move.
    Pass,
}

/// `3 keys of slot 42`.
impl fmt::Display for Strays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |count: &u64| counted(*count, "key");
        match self {
            Self::OfSlot(slot, count) => write!(f, "{} of slot {slot}", keys(count)),
            Self::Elsewhere(count) => {
                write!(f, "{} of slots that it does not own", keys(count))
            }
            Self::Hidden => f.write_str("keys of slots that it imports or trims"),
        }
    }
}

/// Looks for keys of these slots, in all databases, on a target that does not own them. (On Redis,
/// for keys of any slot that it does not own.)
pub async fn strays(
    target: &NodeClient,
    product: Product,
    slots: &SlotSet,
    hidden: Hidden,
) -> Result<Option<Strays>, ClientError> {
    match product {
        Product::Valkey => of_slots(target, slots).await,
        Product::Redis => elsewhere(target, hidden).await,
    }
}

async fn of_slots(target: &NodeClient, slots: &SlotSet) -> Result<Option<Strays>, ClientError> {
    let info = Info::parse(&target.info().await?);
    let slots: Vec<Slot> = slots.iter().collect();
    for (database, _) in info.keys {
        let counts = target.cluster_countkeysinslot(database, &slots).await?;
        let mut counted = slots.iter().zip(counts);
        if let Some((slot, count)) = counted.find(|(_, count)| *count > 0) {
            return Ok(Some(Strays::OfSlot(*slot, count)));
        }
    }
    Ok(None)
}

/// Cluster nodes of Redis have database 0 only.
async fn elsewhere(target: &NodeClient, hidden: Hidden) -> Result<Option<Strays>, ClientError> {
    let mut surplus = 0;
    let began = Instant::now();
    while ClusterInfo::parse(&target.cluster_info().await?).hides_keys() {
        if hidden == Hidden::Pass {
            return Ok(None);
        }
        if began.elapsed() >= TRIMMED_WITHIN {
            return Ok(Some(Strays::Hidden));
        }
        tokio::time::sleep(PAUSE).await;
    }
    for look in 0..LOOKS {
        if look > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let text = target.cluster_nodes().await?;
        let owned: SlotSet = match EntryPool::default().view(&text) {
            Ok(view) => view.myself().slots.iter().copied().collect(),
            // The next look at it reports what is wrong with it.
            Err(_) => return Ok(None),
        };
        let (all, counted) = target.dbsize_and_counts(&owned).await?;
        surplus = all.saturating_sub(counted);
        if surplus == 0 {
            return Ok(None);
        }
    }
    Ok(Some(Strays::Elsewhere(surplus)))
}
