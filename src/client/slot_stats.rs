//! CLUSTER SLOT-STATS: the statistics of slots.

use redis::Value;

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};
use crate::cluster::slot::{SLOTS, Slot};
use crate::cluster::slot_stats::{NodeStats, SlotStats};

const SLOT_STATS: &str = "CLUSTER SLOT-STATS";

/// The setting that turns statistics on: `yes`, `no`, or from Redis 8.6 on the names of statistics.
pub const SLOT_STATS_SETTING: &str = "cluster-slot-stats-enabled";

impl NodeClient {
    /// CLUSTER SLOT-STATS of the node's own slots (Redis ≥ 8.2, Valkey ≥ 8.0); `None` where the server does not know it.
    pub async fn cluster_slot_stats(&self) -> Result<Option<NodeStats>, ClientError> {
        let command = Command::named(SLOT_STATS)
            .word("SLOTSRANGE")
            .word(0)
            .word(SLOTS - 1);
        match self.query(Deadline::Read, command, stats).await {
            Err(error) if error.is_unknown_command() => Ok(None),
            stats => stats.map(Some),
        }
    }
}

/// A list of a slot and its statistics: a map, or names and values in turn (RESP2).
fn stats(reply: Reply) -> Result<NodeStats, Fault> {
    let command = reply.command();
    let malformed = || Fault::Malformed { command };
    let Value::Array(slots) = reply.value()? else {
        return Err(malformed());
    };
    let mut all = NodeStats::new();
    for entry in slots {
        let Value::Array(entry) = entry else {
            return Err(malformed());
        };
        let [slot, fields] = <[Value; 2]>::try_from(entry).map_err(|_| malformed())?;
        let slot = match slot {
            Value::Int(number) => u16::try_from(number).ok().and_then(Slot::new),
            _ => None,
        };
        let stats = of_slot(fields).ok_or_else(malformed)?;
        all.insert(slot.ok_or_else(malformed)?, stats);
    }
    Ok(all)
}

fn of_slot(fields: Value) -> Option<SlotStats> {
    let pairs: Vec<(Value, Value)> = match fields {
        Value::Map(pairs) => pairs,
        Value::Array(fields) => {
            let mut fields = fields.into_iter();
            std::iter::from_fn(|| Some((fields.next()?, fields.next()?))).collect()
        }
        _ => return None,
    };
    let mut stats = SlotStats::default();
    for (name, value) in pairs {
        let (Value::BulkString(name), Value::Int(number)) = (name, value) else {
            continue;
        };
        let field = match name.as_slice() {
            b"key-count" => &mut stats.keys,
            b"cpu-usec" => &mut stats.cpu_usec,
            b"network-bytes-in" => &mut stats.bytes_in,
            b"network-bytes-out" => &mut stats.bytes_out,
            b"memory-bytes" => &mut stats.memory,
            _ => continue,
        };
        *field = u64::try_from(number).ok();
    }
    Some(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn entry(slot: i64, fields: &[(&str, i64)]) -> Value {
        let fields = fields
            .iter()
            .flat_map(|(name, value)| [bulk(name), Value::Int(*value)]);
        Value::Array(vec![Value::Int(slot), Value::Array(fields.collect())])
    }

    fn read(value: Value) -> Result<NodeStats, Fault> {
        stats(Reply::new(SLOT_STATS, value))
    }

    #[test]
    fn statistics_that_are_off_are_missing() {
        let off = entry(7, &[("key-count", 2)]);
        let on = entry(
            8,
            &[
                ("key-count", 0),
                ("memory-bytes", 24),
                ("cpu-usec", 57),
                ("network-bytes-in", 47),
                ("network-bytes-out", 12),
                ("later", 1),
            ],
        );
        let all = read(Value::Array(vec![off, on])).unwrap();
        let of = |number: u16| all[&Slot::new(number).unwrap()];
        assert_eq!(of(7).cpu_usec, None);
        assert_eq!(of(7).keys, Some(2));
        assert_eq!(of(8).cpu_usec, Some(57));
        assert_eq!(of(8).bytes_in, Some(47));
        assert_eq!(of(8).memory, Some(24));
    }

    #[test]
    fn other_shapes_are_malformed() {
        let malformed = Err(Fault::Malformed {
            command: SLOT_STATS,
        });
        for value in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![entry(16384, &[])]),
            Value::Array(vec![entry(-1, &[])]),
            Value::Array(vec![Value::Array(vec![Value::Int(1)])]),
            Value::Array(vec![Value::Array(vec![Value::Int(1), Value::Int(1)])]),
        ] {
            assert_eq!(read(value), malformed);
        }
        // A negative counter is none.
        let negative = read(Value::Array(vec![entry(1, &[("cpu-usec", -1)])])).unwrap();
        assert_eq!(negative[&Slot::new(1).unwrap()].cpu_usec, None);
    }
}
