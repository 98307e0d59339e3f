//! The clocks of nodes: a node decides by its own clock whether a key has expired, and this machine's may be wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::client::Expiry;
use crate::cluster::node::Addr;
use crate::connections::{Connections, Target};

/// A clock, as it was read once. It goes on with the time since then, which no correction of this machine's clock changes.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Milliseconds since 1970.
    told: u64,
    read: Instant,
    owner: ClockOwner,
}

/// Whose clock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ClockOwner {
    Node,
    Machine,
}

/// Clocks that differ by less, in milliseconds, are taken as the same: they are not read at the same moment.
const SAME: u64 = 1_000;

impl Clock {
    /// The clock of a node that has just told its time, in milliseconds since 1970.
    pub fn told(milliseconds: u64) -> Self {
        Self {
            told: milliseconds,
            read: Instant::now(),
            owner: ClockOwner::Node,
        }
    }

    /// The clock of this machine.
    pub fn of_machine() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let told = since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        Self {
            owner: ClockOwner::Machine,
            ..Self::told(told)
        }
    }

    /// When a key expires by another clock that expires at `time` by this one.
    pub(super) fn expiry_by(self, other: Self, time: u64) -> Expiry {
        if self.owner == ClockOwner::Machine {
            return Expiry::At(time);
        }
        let (here, there) = (self.now(), other.now());
        match other.owner {
            ClockOwner::Machine => Expiry::In(time.saturating_sub(here)),
            ClockOwner::Node if here.abs_diff(there) < SAME => Expiry::At(time),
            ClockOwner::Node => Expiry::At(time.saturating_add(there).saturating_sub(here)),
        }
    }

    /// The current time in milliseconds since 1970.
    pub(super) fn now(self) -> u64 {
        let since = u64::try_from(self.read.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.told.saturating_add(since)
    }

    /// Whether that time is over.
    pub(super) fn is_past(self, expires: Expiry) -> bool {
        matches!(expires, Expiry::At(time) if time <= self.now())
    }
}

/// Reads the clocks of nodes. Those that do not answer are missing in the result; those that deny TIME have that of this
/// machine.
pub(super) async fn read(
    connections: &Arc<Connections>,
    targets: Vec<Target>,
) -> HashMap<Addr, Clock> {
    let asking = connections.fan_out(targets, async |connections, target| {
        let client = connections.client(&target).await.ok()?;
        let told = client.time().await.ok()?;
        Some((
            target.addr,
            told.map_or_else(Clock::of_machine, Clock::told),
        ))
    });
    asking.await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(told: u64) -> Clock {
        Clock::told(told)
    }

    #[test]
    fn a_key_has_the_same_time_left_by_another_clock() {
        let hour = 3_600_000;
        let (early, late) = (node(1_000_000_000), node(1_000_000_000 + hour));
        let within = |expiry, expected: u64| match expiry {
            Expiry::At(time) | Expiry::In(time) => assert!(time.abs_diff(expected) < 500, "{time}"),
            Expiry::Never => panic!("never"),
        };
        within(early.expiry_by(late, 1_000_600_000), 1_000_600_000 + hour);
        within(late.expiry_by(early, 1_000_600_000 + hour), 1_000_600_000);
        // It has expired.
        within(late.expiry_by(early, 1_000_600_000), 1_000_600_000 - hour);
        // The same clock, read at other moments: the time is exact.
        let same = node(1_000_000_900);
        assert_eq!(
            early.expiry_by(same, 1_000_600_000),
            Expiry::At(1_000_600_000)
        );
        // A node that denies TIME.
        let unknown = Clock::of_machine();
        let left = early.expiry_by(unknown, 1_000_600_000);
        assert!(matches!(left, Expiry::In(_)));
        within(left, 600_000);
        assert_eq!(unknown.expiry_by(early, 7), Expiry::At(7));
    }
}
