//! What a soak does next: drawn from a seed, written to a log, and read from one again.

use serde::{Deserialize, Serialize};

use super::ground::Shape;

/// An operation, what befalls it, and which of two ways an operator takes to put things right.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) operation: Operation,
    pub(super) faults: Vec<Fault>,
    /// `fix` first, or the same command again first.
    pub(super) fix_first: bool,
    /// How long it waits for the cluster to become well by itself.
    pub(super) patience_s: u64,
}

/// What can happen on a bench.
#[derive(Clone, Copy)]
pub(super) struct Terrain {
    /// Whether the servers move slots by themselves. They don't make sure that what they move has reached
    /// a replica of the target, so masters are left alone meanwhile (docs/limits.md).
    pub(super) moves_in_jobs: bool,
}

/// Servers are named by their number on the bench, because their ids and roles change.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Operation {
    Check,
    Fix,
    /// Slots are left open by somebody else, then `fix`.
    FixOpen {
        slots: Vec<u16>,
        from: usize,
        to: usize,
        migrating: bool,
        importing: bool,
    },
    Reshard {
        slots: u16,
        from: usize,
        to: usize,
        rate: Rate,
    },
    Rebalance {
        heavier: usize,
        weight: u8,
        rate: Rate,
    },
    AddMaster {
        new: usize,
        fill: bool,
    },
    AddReplica {
        new: usize,
        master: usize,
    },
    Leave {
        node: usize,
        drain: bool,
        rate: Rate,
    },
    Replace {
        old: usize,
        new: usize,
    },
    Failover {
        replica: usize,
    },
}

impl Operation {
    fn moves_slots(&self) -> bool {
        match self {
            Self::Reshard { .. } | Self::Rebalance { .. } | Self::FixOpen { .. } => true,
            Self::AddMaster { fill, .. } => *fill,
            Self::Leave { drain, .. } => *drain,
            _ => false,
        }
    }

    /// The node that leaves the cluster.
    pub(super) fn leaving(&self) -> Option<usize> {
        match self {
            Self::Leave { node, .. } | Self::Replace { old: node, .. } => Some(*node),
            _ => None,
        }
    }

    pub(super) fn rate(&self) -> Rate {
        match self {
            Self::Reshard { rate, .. } | Self::Rebalance { rate, .. } => *rate,
            Self::Leave { rate, drain, .. } => rate.filter(|_| *drain),
            _ => None,
        }
    }
}

/// Keys a second; slow moves are met by more faults.
type Rate = Option<u16>;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) blow: Blow,
    /// After the operation began.
    pub(super) after_ms: u64,
    /// Then it is restarted, goes on, is within reach again.
    pub(super) for_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Blow {
    KillServer(usize),
    StopServer(usize),
    CutOff(usize),
    KillTool,
    StopTool,
    InterruptTool,
    /// Somebody else wants to mend meanwhile.
    SecondTool,
}

impl Blow {
    /// The server that it strikes.
    pub(super) fn server(self) -> Option<usize> {
        match self {
            Self::KillServer(node) | Self::StopServer(node) | Self::CutOff(node) => Some(node),
            Self::KillTool | Self::StopTool | Self::InterruptTool | Self::SecondTool => None,
        }
    }
}

/// Numbers from a seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn pick(&mut self, of: &[usize]) -> usize {
        of[self.below(of.len())]
    }

    /// Two different ones, where there are two.
    fn pair(&mut self, of: &[usize]) -> Option<(usize, usize)> {
        let first = self.below(of.len());
        let others = of.len().checked_sub(1).filter(|others| *others > 0)?;
        let second = (first + 1 + self.below(others)) % of.len();
        Some((of[first], of[second]))
    }

    pub(super) fn step(&mut self, shape: &Shape, terrain: Terrain) -> Step {
        let operation = self.operation(shape);
        let targets = match terrain.moves_in_jobs && operation.moves_slots() {
            true => shape.replicas.clone(),
            false => shape.members(),
        };
        let mut faults = Vec::new();
        if self.chance(70) && !targets.is_empty() {
            let first = self.pick(&targets);
            faults.push(self.server_fault(first, true));
            // Two nodes of one shard at a time may lose what the one that was left has acknowledged.
            let others = shape.outside_shard_of(first);
            let others: Vec<usize> = others.into_iter().filter(|n| targets.contains(n)).collect();
            if self.chance(25) && !others.is_empty() {
                let second = self.pick(&others);
                faults.push(self.server_fault(second, false));
            }
        }
        if self.chance(50) {
            faults.push(self.tool_fault());
        }
        Step {
            operation,
            faults,
            fix_first: self.chance(50),
            patience_s: [0, 2, 6][self.below(3)],
        }
    }

    fn operation(&mut self, shape: &Shape) -> Operation {
        let masters = &shape.masters;
        for _ in 0..100 {
            let drawn = match self.below(14) {
                0 => Some(Operation::Check),
                1 => Some(Operation::Fix),
                2 | 3 => self.pair(masters).map(|(from, to)| Operation::FixOpen {
                    slots: self.some_of(&shape.slots_of(from)),
                    from,
                    to,
                    migrating: self.chance(60),
                    importing: self.chance(80),
                }),
                4..=6 => self.pair(masters).map(|(from, to)| Operation::Reshard {
                    slots: self.between(1, 1200) as u16,
                    from,
                    to,
                    rate: self.rate(),
                }),
                7 | 8 => Some(Operation::Rebalance {
                    heavier: self.pick(masters),
                    weight: self.between(1, 3) as u8,
                    rate: self.rate(),
                }),
                9 | 10 => self.growth(shape),
                11 => self.shrinking(shape),
                12 if !shape.spares.is_empty() => Some(Operation::Replace {
                    old: self.pick(&shape.members()),
                    new: self.pick(&shape.spares),
                }),
                _ if !shape.replicas.is_empty() => Some(Operation::Failover {
                    replica: self.pick(&shape.replicas),
                }),
                _ => None,
            };
            if let Some(operation) = drawn {
                return operation;
            }
        }
        Operation::Fix
    }

    /// A master that lacks a replica gets one first: without it its writes are not acknowledged.
    fn growth(&mut self, shape: &Shape) -> Option<Operation> {
        if shape.spares.is_empty() {
            return None;
        }
        let new = self.pick(&shape.spares);
        if !shape.bare.is_empty() {
            let master = self.pick(&shape.bare);
            return Some(Operation::AddReplica { new, master });
        }
        Some(match self.chance(50) {
            true => Operation::AddMaster {
                new,
                fill: self.chance(70),
            },
            false => Operation::AddReplica {
                new,
                master: self.pick(&shape.masters),
            },
        })
    }

    fn shrinking(&mut self, shape: &Shape) -> Option<Operation> {
        let members = shape.masters.len() + shape.replicas.len();
        if members <= 6 {
            return None;
        }
        let (node, drain) = match shape.masters.len() > 3 {
            true => (self.pick(&shape.masters), true),
            false => (self.pick(&shape.to_spare()?), false),
        };
        Some(Operation::Leave {
            node,
            drain,
            rate: self.rate(),
        })
    }

    fn rate(&mut self) -> Rate {
        self.chance(60).then(|| self.between(300, 3000) as u16)
    }

    fn some_of(&mut self, slots: &[u16]) -> Vec<u16> {
        let count = self.between(1, 40) as usize;
        let start = self.below(slots.len().max(1));
        slots.iter().copied().skip(start).take(count).collect()
    }

    fn server_fault(&mut self, node: usize, can_cut: bool) -> Fault {
        let blow = match self.below(3) {
            0 => Blow::KillServer(node),
            1 if can_cut => Blow::CutOff(node),
            _ => Blow::StopServer(node),
        };
        Fault {
            blow,
            after_ms: self.between(0, 1500),
            // Below and above the time that it takes until a replica is elected.
            for_ms: self.between(100, 6000),
        }
    }

    fn tool_fault(&mut self) -> Fault {
        let blow = match self.below(6) {
            0 | 1 => Blow::StopTool,
            2 => Blow::InterruptTool,
            3 => Blow::SecondTool,
            _ => Blow::KillTool,
        };
        Fault {
            blow,
            after_ms: self.between(20, 1500),
            for_ms: self.between(100, 5000),
        }
    }
}
