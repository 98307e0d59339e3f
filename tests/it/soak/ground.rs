//! The cluster that is soaked: its servers, what they are to each other now, and what has to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redis::cmd;

use crate::support::cluster::Nodes;
use crate::support::command::Trib;
use crate::support::network::Network;
use crate::support::server::{Server, Spec};
use crate::support::slots::slot_of;
use crate::support::wait::until;

/// Six are a cluster; the others join and leave.
pub(super) const MEMBERS: usize = 6;
const SERVERS: usize = 8;

pub(super) struct Ground {
    pub(super) nodes: Nodes,
    pub(super) network: Network,
}

/// The nodes by role, as numbers of the bench.
#[derive(Default)]
pub(super) struct Shape {
    /// With slots.
    pub(super) masters: Vec<usize>,
    pub(super) replicas: Vec<usize>,
    /// Masters with slots and without a replica.
    pub(super) bare: Vec<usize>,
    /// Masters without slots.
    pub(super) empty: Vec<usize>,
    /// In no cluster.
    pub(super) spares: Vec<usize>,
    followers: BTreeMap<usize, Vec<usize>>,
    owners: BTreeMap<u16, usize>,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "masters {:?}, empty ones {:?}, their replicas {:?}, spares {:?}",
            self.masters, self.empty, self.followers, self.spares
        )
    }
}

impl Shape {
    pub(super) fn members(&self) -> Vec<usize> {
        let all = [&self.masters, &self.replicas, &self.empty];
        all.into_iter().flatten().copied().collect()
    }

    pub(super) fn slots_of(&self, master: usize) -> Vec<u16> {
        let owned = self.owners.iter().filter(|(_, owner)| **owner == master);
        owned.map(|(slot, _)| *slot).collect()
    }

    /// Members that are neither this one's master nor its replicas, nor follow the same master.
    pub(super) fn outside_shard_of(&self, node: usize) -> Vec<usize> {
        let of_one = |(master, followers): (&usize, &Vec<usize>)| {
            let shard: Vec<usize> = followers.iter().chain([master]).copied().collect();
            shard.contains(&node).then_some(shard)
        };
        let shard = self.followers.iter().find_map(of_one).unwrap_or_default();
        let mut members = self.members();
        members.retain(|member| *member != node && !shard.contains(member));
        members
    }

    /// Replicas whose masters have another one.
    pub(super) fn to_spare(&self) -> Option<Vec<usize>> {
        let many = self.followers.values().find(|of_one| of_one.len() > 1);
        many.cloned()
    }

    /// How many slots have another owner than in `before`.
    pub(super) fn moved_since(&self, before: &Self) -> usize {
        let moved = |slot: &&u16| self.owners.get(slot) != before.owners.get(slot);
        self.owners.keys().filter(moved).count()
    }
}

impl Ground {
    pub(super) fn new(version: &str) -> Self {
        let network = Network::new();
        let nodes = Nodes::each(SERVERS, |index| {
            let host = format!("127.0.8.{}", index + 1);
            Spec::new()
                .version(version)
                .quick()
                // What was acknowledged is in the file before the answer leaves, so kill -9 loses none of it.
                .arg("--appendonly", "yes")
                .arg("--appendfsync", "no")
                // A link that lost its packets is given up within the time of a step.
                .arg("--repl-timeout", 10)
                .arg("--repl-ping-replica-period", 1)
                .host_in(&network, &host)
        });
        let ground = Self { nodes, network };
        let mut create = ground.trib().args(["create", "--yes", "--replicas", "1"]);
        for server in &ground.nodes[..MEMBERS] {
            create = create.arg(server.addr());
        }
        create.run().status(0);
        ground
    }

    /// The program under test, where the servers are.
    pub(super) fn trib(&self) -> Trib {
        let limits = ["--connect-timeout", "2s", "--command-timeout", "4s"];
        self.network
            .trib()
            .args(limits)
            .timeout(Duration::from_secs(150))
    }

    /// A member that serves and knows the others.
    pub(super) fn seed(&self) -> &Server {
        self.seed_other_than(None)
    }

    /// The same, but not this node: a node that leaves may know the others for longer than they know it.
    pub(super) fn seed_other_than(&self, leaving: Option<usize>) -> &Server {
        until("a member that says ok", Duration::from_secs(60), || {
            let known = |server: &&Server| {
                let state = server.try_cmd(&["CLUSTER", "INFO"]).ok()?;
                let text: String = redis::FromRedisValue::from_redis_value(state).ok()?;
                let known = text.lines().find_map(|line| {
                    line.strip_prefix("cluster_known_nodes:")?
                        .trim()
                        .parse::<usize>()
                        .ok()
                });
                text.contains("cluster_state:ok").then_some(known?)
            };
            let nodes = self.nodes.iter().enumerate();
            let best = nodes
                .filter(|(n, _)| Some(*n) != leaving)
                .filter_map(|(_, server)| Some((known(&server)?, server)));
            match best.max_by_key(|(known, _)| *known) {
                Some((2.., server)) => Ok(server),
                _ => Err("nobody does".to_owned()),
            }
        })
    }

    pub(super) fn shape(&self) -> Shape {
        let text = self.seed().nodes_text();
        let by_addr: BTreeMap<String, usize> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(n, server)| (server.addr(), n))
            .collect();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
        let index = |fields: &[&str]| {
            let addr = fields[1].split(['@', ',']).next().unwrap_or_default();
            by_addr.get(addr).copied()
        };
        let by_id: BTreeMap<&str, usize> = lines
            .iter()
            .filter_map(|fields| Some((fields[0], index(fields)?)))
            .collect();
        let mut shape = Shape::default();
        for fields in &lines {
            let Some(node) = index(fields) else { continue };
            if fields[2].contains("slave") {
                shape.replicas.push(node);
                if let Some(master) = by_id.get(fields[3]) {
                    shape.followers.entry(*master).or_default().push(node);
                }
                continue;
            }
            let mut owns = false;
            for range in fields[8..].iter().filter(|field| !field.starts_with('[')) {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                for slot in first.parse::<u16>().unwrap()..=last.parse().unwrap() {
                    shape.owners.insert(slot, node);
                    owns = true;
                }
            }
            match owns {
                true => shape.masters.push(node),
                false => shape.empty.push(node),
            }
        }
        shape.masters.sort_unstable();
        shape.replicas.sort_unstable();
        let bare = |master: &&usize| !shape.followers.contains_key(master);
        shape.bare = shape.masters.iter().filter(bare).copied().collect();
        let members: BTreeSet<usize> = shape.members().into_iter().collect();
        shape.spares = (0..self.nodes.len())
            .filter(|n| !members.contains(n))
            .collect();
        shape
    }

    /// What has to hold: every slot has one owner that all members agree about, none is open, each key is
    /// on one master, which owns its slot, and `wanted` are among them. How many keys there are.
    pub(super) fn demand(&self, wanted: &BTreeSet<String>) -> Result<usize, String> {
        let shape = self.shape();
        if shape.owners.len() != 16384 {
            return Err(format!("{} slots are covered", shape.owners.len()));
        }
        let mut said = BTreeSet::new();
        for member in shape.members() {
            let text = self.nodes[member].nodes_text();
            if text.contains("->-") || text.contains("-<-") {
                return Err(format!("{} has open slots:\n{text}", self.name(member)));
            }
            let mut owners: Vec<String> = text
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>())
                .filter(|fields| fields.len() > 8)
                .map(|fields| format!("{} {}", fields[0], fields[8..].join(" ")))
                .collect();
            owners.sort();
            said.insert(owners);
        }
        if said.len() > 1 {
            return Err(format!("the members see different owners: {said:#?}"));
        }
        let mut found = BTreeMap::new();
        for master in shape.masters.iter().chain(&shape.empty) {
            let mut connection = self.nodes[*master].connection().unwrap();
            let keys: Vec<String> = cmd("KEYS").arg("*").query(&mut connection).unwrap();
            for key in keys {
                let slot = slot_of(key.as_bytes());
                let owner = shape.owners[&(slot as u16)];
                let name = self.name(*master);
                if owner != *master {
                    let owner = self.name(owner);
                    return Err(format!("{key} is on {name}; slot {slot} is {owner}'s"));
                }
                if let Some(other) = found.insert(key.clone(), *master) {
                    return Err(format!("{key} is on {name} and on {}", self.name(other)));
                }
            }
        }
        let lost: Vec<&String> = wanted
            .iter()
            .filter(|key| !found.contains_key(*key))
            .collect();
        match lost.first() {
            None => Ok(found.len()),
            Some(first) => {
                let slots: BTreeSet<usize> =
                    lost.iter().map(|key| slot_of(key.as_bytes())).collect();
                Err(format!(
                    "{} of {} acknowledged writes are lost, such as {first}; slots {slots:?}",
                    lost.len(),
                    wanted.len()
                ))
            }
        }
    }

    pub(super) fn name(&self, node: usize) -> String {
        format!("#{node} {}", self.nodes[node].addr())
    }
}
