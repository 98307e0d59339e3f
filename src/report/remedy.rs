//! Remedies of findings as command lines.

use crate::cluster::health::Remedy;
use crate::cluster::node::{Addr, NodeId};
use crate::shell::{cancel_task, redis_cli, shell_word};

/// The command line, in words that a shell takes.
pub fn command_line(remedy: &Remedy) -> String {
    match remedy {
        Remedy::Wait { seed } => format!("redis-trib check {} --wait 60s", word(seed)),
        Remedy::Fix { seed } => format!("redis-trib fix {}", word(seed)),
        Remedy::Rejoin { nodes } => {
            let nodes: Vec<String> = nodes.iter().map(word).collect();
            format!("redis-trib fix --rejoin {}", nodes.join(" "))
        }
        Remedy::EvictForeign { seed, nodes } => {
            let nodes: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
            let nodes = nodes.join(",");
            format!("redis-trib fix {} --evict-foreign {nodes}", word(seed))
        }
        Remedy::MapAddresses { seed, peers } => {
            let maps = peers.iter().map(|peer| {
                let map = shell_word(&format!("{peer}=ADDRESS-FROM-HERE"));
                format!(" --address-map {map}")
            });
            let maps: String = maps.collect();
            format!("redis-trib check {}{maps}", word(seed))
        }
        Remedy::Forget { seed, node } => format!("redis-trib del-node {} {node}", word(seed)),
        Remedy::Replicate { replica, master } => {
            redis_cli(replica, &format!("CLUSTER REPLICATE {master}"))
        }
        Remedy::ForceFailover { replica } => redis_cli(replica, "CLUSTER FAILOVER FORCE"),
        Remedy::CancelTask {
            leader,
            product,
            task,
        } => redis_cli(leader, &cancel_task(*product, task)),
    }
}

fn word(addr: &Addr) -> String {
    shell_word(&addr.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::parse::Product;

    #[test]
    fn every_remedy_is_one_command_line() {
        let addr = |port| Addr::new("10.0.0.1", port);
        let node: NodeId = "a".repeat(40).parse().unwrap();
        let other: NodeId = "b".repeat(40).parse().unwrap();
        let seed = || addr(7000);
        let cancel = |product| Remedy::CancelTask {
            leader: seed(),
            product,
            task: "17".to_string(),
        };
        for (remedy, expected) in [
            (
                Remedy::Wait { seed: seed() },
                "redis-trib check 10.0.0.1:7000 --wait 60s".to_string(),
            ),
            (
                Remedy::Fix { seed: seed() },
                "redis-trib fix 10.0.0.1:7000".to_string(),
            ),
            (
                Remedy::Rejoin {
                    nodes: vec![seed(), addr(7001)],
                },
                "redis-trib fix --rejoin 10.0.0.1:7000 10.0.0.1:7001".to_string(),
            ),
            (
                Remedy::EvictForeign {
                    seed: seed(),
                    nodes: vec![node, other],
                },
                format!("redis-trib fix 10.0.0.1:7000 --evict-foreign {node},{other}"),
            ),
            (
                Remedy::MapAddresses {
                    seed: seed(),
                    peers: vec![addr(1), Addr::new("a b", 2)],
                },
                "redis-trib check 10.0.0.1:7000 --address-map 10.0.0.1:1=ADDRESS-FROM-HERE \
                 --address-map 'a b:2=ADDRESS-FROM-HERE'"
                    .to_string(),
            ),
            (
                Remedy::Forget { seed: seed(), node },
                format!("redis-trib del-node 10.0.0.1:7000 {node}"),
            ),
            (
                Remedy::Replicate {
                    replica: seed(),
                    master: node,
                },
                format!("redis-cli -h 10.0.0.1 -p 7000 CLUSTER REPLICATE {node}"),
            ),
            (
                Remedy::ForceFailover { replica: seed() },
                "redis-cli -h 10.0.0.1 -p 7000 CLUSTER FAILOVER FORCE".to_string(),
            ),
            (
                cancel(Product::Redis),
                "redis-cli -h 10.0.0.1 -p 7000 CLUSTER MIGRATION CANCEL ID 17".to_string(),
            ),
            (
                cancel(Product::Valkey),
                "redis-cli -h 10.0.0.1 -p 7000 CLUSTER CANCELSLOTMIGRATIONS".to_string(),
            ),
        ] {
            assert_eq!(command_line(&remedy), expected);
        }
    }
}
