//! CLUSTER SHARDS: what a node knows of the zones of the others.

use std::collections::BTreeMap;

use redis::Value;

use super::error::{ClientError, Fault};
use super::reply::{Reply, clean_line};
use super::{Command, Deadline, NodeClient};
use crate::cluster::node::NodeId;
use crate::cluster::parse::MAX_NODES;

const SHARDS: &str = "CLUSTER SHARDS";
/// The longest name of a zone that is read, in characters.
const ZONE_LIMIT: usize = 255;

impl NodeClient {
    /// CLUSTER SHARDS (Redis ≥ 7.0, Valkey): the availability zone of each node, as far as the node knows it. Valkey ≥ 9.1
    /// tells them, of nodes that do not answer too.
    pub async fn cluster_zones(&self) -> Result<BTreeMap<NodeId, String>, ClientError> {
        self.query(Deadline::Read, Command::named(SHARDS), zones)
            .await
    }
}

fn zones(reply: Reply) -> Result<BTreeMap<NodeId, String>, Fault> {
    let malformed = || Fault::Malformed { command: SHARDS };
    let Value::Array(shards) = reply.value()? else {
        return Err(malformed());
    };
    let mut zones = BTreeMap::new();
    for shard in shards {
        let mut fields = pairs(shard).ok_or_else(malformed)?.into_iter();
        let nodes = fields.find(|(name, _)| text(name) == Some("nodes"));
        let Some((_, Value::Array(nodes))) = nodes else {
            return Err(malformed());
        };
        for node in nodes {
            let fields = pairs(node).ok_or_else(malformed)?;
            let field = |wanted: &str| {
                let mut fields = fields.iter();
                fields
                    .find_map(|(name, value)| (text(name) == Some(wanted)).then(|| text(value))?)
            };
            let id = field("id").and_then(|id| id.parse().ok());
            let zone = field("availability-zone").map(|zone| clean_line(zone, ZONE_LIMIT));
            if let (Some(id), Some(zone)) = (id, zone.filter(|zone| !zone.is_empty()))
                && zones.len() < MAX_NODES
            {
                zones.insert(id, zone);
            }
        }
    }
    Ok(zones)
}

/// A map, or names and values in turn (RESP2).
fn pairs(value: Value) -> Option<Vec<(Value, Value)>> {
    match value {
        Value::Map(pairs) => Some(pairs),
        Value::Array(fields) => {
            let mut fields = fields.into_iter();
            Some(std::iter::from_fn(|| Some((fields.next()?, fields.next()?))).collect())
        }
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn read(nodes: Vec<Value>) -> Result<BTreeMap<NodeId, String>, Fault> {
        let shard = Value::Array(vec![
            bulk("slots"),
            Value::Array(vec![Value::Int(0), Value::Int(16383)]),
            bulk("nodes"),
            Value::Array(nodes),
        ]);
        zones(Reply::new(SHARDS, Value::Array(vec![shard])))
    }

    #[test]
    fn zones_are_read_of_the_nodes_that_have_one() {
        let node = |letter: &str, zone: Option<&str>| {
            let mut fields = vec![
                bulk("id"),
                bulk(&letter.repeat(40)),
                bulk("port"),
                Value::Int(7000),
            ];
            fields.extend(
                zone.map(|zone| [bulk("availability-zone"), bulk(zone)])
                    .into_iter()
                    .flatten(),
            );
            Value::Array(fields)
        };
        let found = read(vec![
            node("a", Some("eu-1a")),
            node("b", Some("")),
            node("c", None),
            node("d", Some("x\u{1b}[2Jy")),
        ]);
        let found: Vec<(String, String)> = found
            .unwrap()
            .into_iter()
            .map(|(id, zone)| (id.short(), zone))
            .collect();
        let expected = [("aaaaaaaa", "eu-1a"), ("dddddddd", "x[2Jy")];
        let expected = expected.map(|(id, zone)| (id.to_string(), zone.to_string()));
        assert_eq!(found, expected);
        assert!(read(vec![Value::Int(1)]).is_err());
        assert!(zones(Reply::new(SHARDS, bulk("?"))).is_err());
    }
}
