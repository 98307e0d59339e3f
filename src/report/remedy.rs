//! Remedies of findings as command lines.

use crate::cluster::health::Remedy;
use crate::cluster::node::{Addr, NodeId};
use crate::shell::{cancel_task, redis_cli, shell_word};

/// The options of this run that the command line of a remedy repeats.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemedyOptions {
    /// How nodes are reached: a line without them would meet a login or a certificate that it can't pass.
    pub reach: Vec<String>,
    /// The zones of nodes: a placement without them would be another one.
    pub zones: Vec<String>,
}

/// The command line, in words that a shell takes.
pub fn command_line(remedy: &Remedy, options: &RemedyOptions) -> String {
    let zones = match remedy {
        Remedy::Place { .. } => &options.zones[..],
        _ => &[],
    };
    let lines: Vec<String> = bare_lines(remedy)
        .into_iter()
        .map(|line| with_options(line, zones, &options.reach))
        .collect();
    lines.join(" && ")
}

/// The command line that sends `command` to the node at `addr`; `reach` is how this run reaches nodes.
pub fn redis_cli_line(addr: &Addr, command: &str, reach: &[String]) -> String {
    with_options(redis_cli(addr, command), &[], reach)
}

fn with_options(line: String, zones: &[String], reach: &[String]) -> String {
    if let Some(rest) = line.strip_prefix("redis-cli ") {
        return format!("redis-cli {}{rest}", redis_cli_options(reach));
    }
    let options = zones.iter().chain(reach);
    let options = options.map(|word| format!(" {}", shell_word(word)));
    options.fold(line, |line, option| line + &option)
}

/// The commands, one after the other.
fn bare_lines(remedy: &Remedy) -> Vec<String> {
    let line = match remedy {
        Remedy::AddAgain { seed, node, addr } => {
            let add = format!(
                "redis-trib add-node {} {} --replica",
                word(addr),
                word(seed)
            );
            return vec![format!("redis-trib del-node {} {node}", word(seed)), add];
        }
        Remedy::MeetAndAssign { seed, nodes, slots } => {
            let nodes: Vec<String> = nodes.iter().map(word).collect();
            let assign = format!("redis-trib fix {} --assign-uncovered {slots}", word(seed));
            return vec![
                format!("redis-trib fix --rejoin {}", nodes.join(" ")),
                assign,
            ];
        }
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
        Remedy::ForceFailover { seed, master } => {
            format!("redis-trib failover {} --of {master} --force", word(seed))
        }
        Remedy::Kill { node, command } => redis_cli(node, command),
        Remedy::Place {
            seed,
            move_replicas,
        } => {
            let flag = if *move_replicas {
                " --move-replicas"
            } else {
                ""
            };
            format!("redis-trib place {}{flag}", word(seed))
        }
        Remedy::Save { node } => redis_cli(node, "BGSAVE"),
        Remedy::CancelTask {
            leader,
            product,
            task,
        } => redis_cli(leader, &cancel_task(*product, task)),
    };
    vec![line]
}

/// The options that redis-cli has, too, each followed by a space. It reads the password from REDISCLI_AUTH.
fn redis_cli_options(reach: &[String]) -> String {
    const WITH_VALUE: [&str; 6] = [
        "--user",
        "--cacert",
        "--cacertdir",
        "--cert",
        "--key",
        "--sni",
    ];
    const SWITCHES: [&str; 3] = ["--tls", "--insecure", "--askpass"];
    let mut options = String::new();
    let mut words = reach.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if SWITCHES.contains(&word) {
            options += &format!("{word} ");
        } else if WITH_VALUE.contains(&word) {
            let value = shell_word(words.next().unwrap_or_default());
            options += &format!("{word} {value} ");
        } else if word == "--tls-verify" && words.next() == Some("none") {
            options += "--insecure ";
        }
    }
    options
}

fn word(addr: &Addr) -> String {
    shell_word(&addr.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::parse::Product;
    use crate::cluster::slot::Slot;

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
                Remedy::AddAgain {
                    seed: seed(),
                    node,
                    addr: addr(7001),
                },
                format!(
                    "redis-trib del-node 10.0.0.1:7000 {node} && redis-trib add-node 10.0.0.1:7001 10.0.0.1:7000 \
                     --replica"
                ),
            ),
            (
                Remedy::MeetAndAssign {
                    seed: seed(),
                    nodes: vec![seed(), addr(7001)],
                    slots: [Slot::new(3).unwrap(), Slot::new(4).unwrap()]
                        .into_iter()
                        .collect(),
                },
                "redis-trib fix --rejoin 10.0.0.1:7000 10.0.0.1:7001 && redis-trib fix 10.0.0.1:7000 \
                 --assign-uncovered 3-4"
                    .to_string(),
            ),
            (
                Remedy::Replicate {
                    replica: seed(),
                    master: node,
                },
                format!("redis-cli -h 10.0.0.1 -p 7000 CLUSTER REPLICATE {node}"),
            ),
            (
                Remedy::ForceFailover {
                    seed: seed(),
                    master: node,
                },
                format!("redis-trib failover 10.0.0.1:7000 --of {node} --force"),
            ),
            (
                Remedy::Kill {
                    node: seed(),
                    command: "SCRIPT KILL",
                },
                "redis-cli -h 10.0.0.1 -p 7000 SCRIPT KILL".to_string(),
            ),
            (
                Remedy::Place {
                    seed: seed(),
                    move_replicas: false,
                },
                "redis-trib place 10.0.0.1:7000".to_string(),
            ),
            (
                Remedy::Place {
                    seed: seed(),
                    move_replicas: true,
                },
                "redis-trib place 10.0.0.1:7000 --move-replicas".to_string(),
            ),
            (
                Remedy::Save { node: seed() },
                "redis-cli -h 10.0.0.1 -p 7000 BGSAVE".to_string(),
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
            assert_eq!(command_line(&remedy, &RemedyOptions::default()), expected);
        }
    }

    #[test]
    fn remedies_keep_the_options_that_reach_the_nodes() {
        let seed = || Addr::new("10.0.0.1", 7000);
        let reach =
            "--tls --cacert /a/ca.pem --user ann --askpass --connect-timeout 9s --tls-verify none";
        let of = |reach: Vec<&str>| RemedyOptions {
            reach: reach.into_iter().map(str::to_string).collect(),
            zones: vec!["--zone".to_string(), "10.0.0.1:7000=a b".to_string()],
        };
        let options = of(reach.split(' ').collect());
        assert_eq!(
            command_line(&Remedy::Fix { seed: seed() }, &options),
            "redis-trib fix 10.0.0.1:7000 --tls --cacert /a/ca.pem --user ann --askpass --connect-timeout 9s \
             --tls-verify none"
        );
        assert_eq!(
            command_line(&Remedy::Save { node: seed() }, &options),
            "redis-cli --tls --cacert /a/ca.pem --user ann --askpass --insecure -h 10.0.0.1 -p 7000 BGSAVE"
        );
        let spaced = of(vec!["--cacert", "/a/the ca.pem"]);
        assert_eq!(
            command_line(&Remedy::Wait { seed: seed() }, &spaced),
            "redis-trib check 10.0.0.1:7000 --wait 60s --cacert '/a/the ca.pem'"
        );
        let place = Remedy::Place {
            seed: seed(),
            move_replicas: false,
        };
        assert_eq!(
            command_line(&place, &spaced),
            "redis-trib place 10.0.0.1:7000 --zone '10.0.0.1:7000=a b' --cacert '/a/the ca.pem'"
        );
    }
}
