//! Whether a key that is on both ends has the same value there.
//!
//! Equal DUMPs prove equal values; unequal ones prove nothing, since the order in a hash table
//! depends on the process (a set of 1,000 members that was moved with COPY dumped differently). So
//! what dumps differently is held against each other by its type, in pieces of some hundred
//! kilobytes: neither we nor the servers have the whole of a large value at hand at once.
//!
//! Clients may write meanwhile. At the source: each piece of the target's copy was equal to what the
//! source had at some moment, and what the source has since is newer, so that nothing is lost when the
//! source's value is sent over the copy. At the target (with ASKING only): the key is watched there, and
//! a copy that changed under the comparison is not equal.

use std::sync::Arc;
use std::time::Duration;

use super::End;
use crate::client::{ClientError, Fault, Glance, Kind, NodeClient, Reader};
use crate::comparison::{Unequal, same_pieces};
use crate::connections::Connections;

/// Values up to this size are dumped; the servers' main threads do that in one go.
const DUMPED: u64 = 1 << 20;
/// The same for values that can't be compared in another way.
const DUMPED_AT_MOST: u64 = 16 << 20;
/// How often a key that clients write at the target is looked at again.
const LOOKS: usize = 3;

/// What holding two copies against each other came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The source has no such key any more.
    Gone,
    /// Only the source has it.
    LockHeld,
    /// Both have the same.
    Equal,
    /// They differ, or it is not known that they are the same. The text says how, without values.
    Differ(String),
}

/// A connection to either end, for this alone: what is too large to be read ends a connection.
pub(super) struct Comparison {
    source: NodeClient,
    target: NodeClient,
    /// The allowed difference of times to live: MIGRATE sends the remaining time, and takes some time
    /// itself.
    ttl_slack: u64,
}

impl Comparison {
    pub(super) async fn open(
        connections: &Arc<Connections>,
        source: &End,
        target: &End,
        on_its_way: Duration,
    ) -> Result<Self, ClientError> {
        let (source, target) = tokio::try_join!(
            connections.own(&source.target),
            connections.own(&target.target),
        )?;
        let slack = on_its_way.max(Duration::from_secs(5));
        Ok(Self {
            source,
            target,
            ttl_slack: u64::try_from(slack.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Compares one key of one database.
    pub(super) async fn of(&self, database: u32, key: &[u8]) -> Result<Verdict, ClientError> {
        let (here, there) = (
            self.source.reader(database, key),
            self.target.reader(database, key),
        );
        for _ in 0..LOOKS {
            let watched = match there.watch().await {
                Ok(()) => true,
                // Without the permission, assume that clients of the target do not change the key.
                Err(error) if matches!(error.fault, Fault::NoPermission { .. }) => false,
                Err(error) => return Err(error),
            };
            let verdict = self.compare(here, there, database, key).await;
            // A connection that has ended watches nothing any more.
            let lost = matches!(&verdict, Err(error) if error.outcome_unknown());
            let unchanged = lost || !watched || there.is_unchanged().await?;
            match verdict {
                Ok(Verdict::Equal) if !unchanged => {}
                verdict => return verdict,
            }
        }
        Ok(Verdict::Differ(
            "it is being written at the target".to_string(),
        ))
    }

    async fn compare(
        &self,
        here: Reader<'_>,
        there: Reader<'_>,
        database: u32,
        key: &[u8],
    ) -> Result<Verdict, ClientError> {
        let glances = tokio::try_join!(here.glance(), there.glance())?;
        let (mine, other) = match glances {
            (None, _) => return Ok(Verdict::Gone),
            (Some(_), None) => return Ok(Verdict::LockHeld),
            (Some(mine), Some(other)) => (mine, other),
        };
        if mine.kind != other.kind {
            return Ok(Verdict::Differ(format!(
                "{} at the source, {} at the target",
                mine.kind, other.kind
            )));
        }
        let weight = |glance: Glance| glance.weight.unwrap_or(0);
        let heavier = weight(mine).max(weight(other));
        let may_be_dumped = match mine.kind {
            Kind::Other => DUMPED_AT_MOST,
            _ => DUMPED,
        };
        let dumps_are_equal = async {
            let (mine, other) = tokio::try_join!(
                self.source.dump(database, key),
                self.target.dump(database, key)
            )?;
            Ok::<_, ClientError>(mine == other)
        };
        let parted = if heavier <= may_be_dumped && dumps_are_equal.await? {
            Ok(())
        } else {
            same_pieces(here, there, mine.kind, heavier).await
        };
        match parted.and_then(|()| self.same_ttl(mine, other)) {
            Ok(()) => Ok(Verdict::Equal),
            Err(Unequal::At(place)) => Ok(Verdict::Differ(place)),
            Err(Unequal::Unread(error)) => match error.fault {
                // It left, or expired, meanwhile.
                Fault::Server { ref code, .. } if code == "ASK" => Ok(Verdict::Gone),
                Fault::NoPermission { .. } | Fault::TooLarge { .. } => {
                    Ok(Verdict::Differ(format!("they can't be compared: {error}")))
                }
                _ if error.is_unknown_command() => {
                    Ok(Verdict::Differ(format!("they can't be compared: {error}")))
                }
                _ => Err(error),
            },
        }
    }

    fn same_ttl(&self, mine: Glance, other: Glance) -> Result<(), Unequal> {
        let same = match (mine.ttl, other.ttl) {
            (None, None) => true,
            (Some(mine), Some(other)) => mine.abs_diff(other) <= self.ttl_slack,
            _ => false,
        };
        if same {
            Ok(())
        } else {
            Err(Unequal::At("they differ in their time to live".to_string()))
        }
    }
}
