//! One slot: what each master says and holds of it, and the next step that steps it.
//!
//! The rules, in the order in which they count:
//!
//! - Nothing is given away that a master which can't be asked may come back for.
//! - A node that owns a slot deletes its keys when it learns of another owner with a higher epoch,
//!   unless it is importing it: so losers are fenced before anybody claims (protocol.md section 2).
//! - An owner that is migrating is the authority for the keys that it still has; a copy that is
//!   larger is not a better one.
//! - A node that does not own a slot never loses keys to gossip. What it holds is brought to the
//!   owner, or what the owner holds to it, whichever is less.
//! - A node of Valkey that imports a slot takes it, with a new epoch, as soon as the node that it
//!   imports from is heard of and does not claim it; who owned it deletes its keys then (seen on 8.0,
//!   8.1 and 9.1: a claim of another slot by that node is enough). So nobody is left importing from
//!   anybody but the owner, and nobody but the target of a move while it is under way.
//!
//! Each step leads to a state that this same function steps: a fix that is cut off is finished by
//! the next one.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use crate::cluster::node::NodeId;

/// What a master that answers, and that is believed, says and holds of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) id: NodeId,
    /// Whom it sees as the owner; itself where it claims the slot.
    pub(super) sees: Option<NodeId>,
    pub(super) migrating: Option<NodeId>,
    pub(super) importing: Option<NodeId>,
    /// Its keys of the slot, as far as it tells.
    pub(super) keys: u64,
    /// It may hold more, which it does not tell.
    pub(super) veiled: bool,
    /// It imports the slot for no other reason than that it was made to tell what it holds: no half of a
    /// move, but strays.
    pub(super) unveiled: bool,
    /// It tells of keys of slots that it owns or imports only (Redis ≥ 8, which does not take what it
    /// imports by itself as Valkey does).
    pub(super) hides: bool,
    /// Its configuration epoch.
    pub(super) epoch: u64,
}

impl Stand {
    fn owns(&self) -> bool {
        self.sees == Some(self.id)
    }

    fn is_open(&self) -> bool {
        self.migrating.is_some() || self.importing.is_some()
    }
}

/// What becomes of a node at the other end of an open slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A master that answers.
    Sound,
    /// A replica by now, of that master.
    Follows(NodeId),
    /// It is held for dead and owns nothing: another master took its place, or it never had any. Who that
    /// is shows where one alone has keys of slots that were on their way to it.
    Replaced(Option<NodeId>),
    /// It does not answer, or nobody knows it.
    Away,
}

/// What the user gives up by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Given {
    /// Slots of which nobody has a key may be given to anybody.
    pub(super) assign: bool,
    /// What nodes that can't be asked may have is given up.
    pub(super) accept_loss: bool,
}

/// Everything about a slot.
#[derive(Debug, Clone)]
pub(super) struct Slotwise<'a> {
    /// Masters that answer and are believed, by id.
    pub(super) stands: Vec<Stand>,
    /// A master that can't be asked, or is not to be believed, and that owns the slot as others see.
    pub(super) owner_away: Option<NodeId>,
    /// Any master that can't be asked, and that may hold keys.
    pub(super) somebody_away: Option<NodeId>,
    /// A replica without a master that holds keys of the slot.
    pub(super) orphan: Option<NodeId>,
    /// The nodes that open slots name.
    pub(super) peers: &'a BTreeMap<NodeId, Peer>,
    pub(super) given: Given,
}

/// A step for one slot, or for many at once. Steps are ordered by [`FixStep::stage`], whatever the
/// order of the variants here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FixStep {
    /// A member of another cluster and all members of this one forget each other: `--evict-foreign`.
    Evict {
        /// The node.
        node: NodeId,
        /// The master that it follows by now, where that stays: it leaves empty.
        copies: Option<NodeId>,
    },
    /// A node that imports slots from somebody else than their owner is set right: `IMPORTING owner`.
    Guard {
        /// The node.
        node: NodeId,
        /// The owner.
        owner: NodeId,
    },
    /// A claimant gives up its claim and keeps its keys: `DELSLOTS`, `IMPORTING winner`, `NODE
    /// winner`, in one transaction.
    Fence {
        /// Who gives up.
        loser: NodeId,
        /// Who stays.
        winner: NodeId,
    },
    /// A node forgets that slots are on their way: `STABLE`.
    Close {
        /// The node.
        node: NodeId,
    },
    /// A node that does not tell what it holds of slots that are not its own is made to.
    Reveal {
        /// The node.
        node: NodeId,
        /// Whom it is to import them from, for a moment.
        from: NodeId,
    },
    /// A holder of the keys takes the slots, with a new epoch: `NODE itself`, `BUMPEPOCH`.
    Claim {
        /// The holder.
        node: NodeId,
    },
    /// A node takes slots of which nobody has a key: `--assign-uncovered`, `--accept-data-loss`.
    Assign {
        /// The node.
        node: NodeId,
    },
    /// The owner repeats its claim with a new epoch, so that all hear it: `BUMPEPOCH`.
    Bump {
        /// The owner.
        node: NodeId,
    },
    /// A node is told who owns slots: `NODE owner`.
    Tell {
        /// Who is told.
        node: NodeId,
        /// The owner.
        owner: NodeId,
    },
    /// A move that was begun is done to its end.
    Finish {
        /// The owner.
        from: NodeId,
        /// Who becomes it.
        to: NodeId,
    },
    /// Keys are brought to the owner.
    Gather {
        /// Who holds them.
        from: NodeId,
        /// The owner.
        to: NodeId,
    },
    /// Keys that equal their owner's are deleted where they don't belong: `--purge-strays`.
    Purge {
        /// Where they are.
        from: NodeId,
        /// The owner.
        to: NodeId,
    },
    /// A replica takes over from its dead master: `--failover`.
    TakeOver {
        /// The master.
        master: NodeId,
    },
    /// A replica of a replica follows the master at the end of the chain; an empty one of a master that
    /// nobody knows any.
    Follow {
        /// The replica.
        replica: NodeId,
        /// The master.
        master: NodeId,
    },
    /// All members forget a node that nobody can reach, that owns nothing, and whom nobody follows.
    Forget {
        /// The node.
        node: NodeId,
    },
    /// A master repeats to its replicas that slots are not on their way: `STABLE` (Valkey ≥ 8).
    Refresh {
        /// The master.
        node: NodeId,
    },
}

impl Ord for FixStep {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |step: &Self| (step.stage(), step.operands());
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for FixStep {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FixStep {
    /// The position of the step in the safety order: the steps of a plan run by ascending stage. No
    /// two kinds of step share a stage.
    ///
    /// A claim has a new config epoch, and every node that hears it deletes its keys of the slots
    /// unless it imports them from the claimant. So `Guard` and `Fence` (which set `IMPORTING`) come
    /// before `Claim`, and `Reveal` (which makes a node count its keys) before the claimant is final.
    /// `Tell` names an owner and follows the claim that makes it the owner. Keys move (`Finish`,
    /// `Gather`) and are deleted (`Purge`) once ownership is settled.
    pub fn stage(&self) -> u8 {
        match self {
            Self::Evict { .. } => 0,
            Self::Guard { .. } => 1,
            Self::Fence { .. } => 2,
            Self::Close { .. } => 3,
            Self::Reveal { .. } => 4,
            Self::Claim { .. } => 5,
            Self::Assign { .. } => 6,
            Self::Bump { .. } => 7,
            Self::Tell { .. } => 8,
            Self::Finish { .. } => 9,
            Self::Gather { .. } => 10,
            Self::Purge { .. } => 11,
            Self::TakeOver { .. } => 12,
            Self::Follow { .. } => 13,
            Self::Forget { .. } => 14,
            Self::Refresh { .. } => 15,
        }
    }

    /// The nodes of the step, which order steps of one stage.
    fn operands(&self) -> (NodeId, Option<NodeId>) {
        match *self {
            Self::Evict { node, copies } => (node, copies),
            Self::Guard { node, owner } | Self::Tell { node, owner } => (node, Some(owner)),
            Self::Fence { loser, winner } => (loser, Some(winner)),
            Self::Reveal { node, from } => (node, Some(from)),
            Self::Close { node }
            | Self::Claim { node }
            | Self::Assign { node }
            | Self::Bump { node }
            | Self::Forget { node }
            | Self::Refresh { node } => (node, None),
            Self::Finish { from, to } | Self::Gather { from, to } | Self::Purge { from, to } => {
                (from, Some(to))
            }
            Self::TakeOver { master } => (master, None),
            Self::Follow { replica, master } => (replica, Some(master)),
        }
    }

    /// Whether it moves keys, or deletes some: all others are a command or a few.
    pub fn moves_keys(self) -> bool {
        matches!(
            self,
            Self::Finish { .. } | Self::Gather { .. } | Self::Purge { .. }
        )
    }

    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Evict { .. } => "evict",
            Self::Fence { .. } => "fence",
            Self::Guard { .. } => "guard",
            Self::Reveal { .. } => "reveal",
            Self::Claim { .. } => "claim",
            Self::Assign { .. } => "assign",
            Self::Bump { .. } => "bump-epoch",
            Self::Tell { .. } => "tell",
            Self::Close { .. } => "close",
            Self::Finish { .. } => "finish",
            Self::Gather { .. } => "gather",
            Self::Purge { .. } => "purge",
            Self::Refresh { .. } => "refresh",
            Self::TakeOver { .. } => "take-over",
            Self::Follow { .. } => "follow",
            Self::Forget { .. } => "forget",
        }
    }

    /// The nodes that it is about: first whom it changes.
    pub fn nodes(self) -> Vec<NodeId> {
        match self {
            Self::Fence { loser, winner } => vec![loser, winner],
            Self::Guard { node, owner } | Self::Tell { node, owner } => vec![node, owner],
            Self::Evict { node, .. }
            | Self::Reveal { node, .. }
            | Self::Claim { node }
            | Self::Assign { node }
            | Self::Bump { node }
            | Self::Close { node }
            | Self::Refresh { node }
            | Self::Forget { node } => vec![node],
            Self::TakeOver { master } => vec![master],
            Self::Follow { replica, master } => vec![replica, master],
            Self::Finish { from, to } | Self::Gather { from, to } | Self::Purge { from, to } => {
                vec![from, to]
            }
        }
    }
}

/// Why slots stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Their owner can't be asked, and may come back.
    OwnerAway(NodeId),
    /// They have no owner, and a node that can't be asked may hold their keys.
    HolderAway(NodeId),
    /// They have no owner, and nobody has a key of them.
    NobodyHolds,
    /// Their owner gives them to a node that can't be asked, and that may have some of their keys.
    TargetAway {
        /// The owner.
        owner: NodeId,
        /// Where they go.
        target: NodeId,
    },
    /// They have no owner, and a replica whose master nobody knows holds keys of them.
    HeldByOrphan(NodeId),
    /// A step was taken before, and made no difference.
    NoHelp(FixStep),
    /// Members came in with another cluster, and nobody said whether they are to stay.
    Strangers {
        /// The node through whose address they came.
        door: NodeId,
    },
    /// A node that is to leave owns slots, and has keys of them or can't be asked.
    LeavesWithKeys {
        /// The node.
        node: NodeId,
    },
    /// A node that is to leave has a replica that is not.
    FollowedBy {
        /// The node.
        node: NodeId,
        /// The replica.
        follower: NodeId,
    },
    /// A node that is to leave follows a master that is not, and that can't be asked.
    LastCopy {
        /// The node.
        replica: NodeId,
        /// Its master.
        master: NodeId,
    },
}

impl Why {
    /// Its word in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::OwnerAway(_) => "owner-away",
            Self::HolderAway(_) => "holder-away",
            Self::NobodyHolds => "nobody-holds",
            Self::TargetAway { .. } => "target-away",
            Self::HeldByOrphan(_) => "held-by-orphan",
            Self::NoHelp(_) => "no-help",
            Self::Strangers { .. } => "foreign-node",
            Self::LeavesWithKeys { .. } => "leaves-with-keys",
            Self::FollowedBy { .. } => "followed",
            Self::LastCopy { .. } => "last-copy",
        }
    }
}

/// What is to be done about a slot next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing.
    Fine,
    /// These, by [`FixStep::stage`]; then it is looked at again.
    Steps(Vec<FixStep>),
    /// Give it to anybody.
    Assign,
    /// Leave it.
    Refuse(Why),
    /// It is fine, but these hold keys of it that they should not, and so says no state.
    Strays { owner: NodeId, holders: Vec<NodeId> },
}

/// The next step for a slot.
pub(super) fn decide(slot: &Slotwise<'_>) -> Decision {
    let owners: Vec<&Stand> = slot.stands.iter().filter(|stand| stand.owns()).collect();
    if let Some(away) = slot.owner_away
        && !slot.given.accept_loss
    {
        return Decision::Refuse(Why::OwnerAway(away));
    }
    let mut decision = match owners[..] {
        [] => unowned(slot),
        [owner] => owned(slot, owner),
        [..] => contested(slot, &owners),
    };
    if let Decision::Steps(steps) = &mut decision {
        steps.sort_unstable();
    }
    decision
}

/// Nobody who answers claims it.
fn unowned(slot: &Slotwise<'_>) -> Decision {
    let accepted = slot.given.accept_loss;
    if let Some(away) = slot.somebody_away
        && !accepted
    {
        return Decision::Refuse(Why::HolderAway(away));
    }
    if let Some(orphan) = slot.orphan
        && !accepted
    {
        return Decision::Refuse(Why::HeldByOrphan(orphan));
    }
    if let Some(reveal) = reveal(slot) {
        return reveal;
    }
    let holders = || slot.stands.iter().filter(|stand| stand.keys > 0);
    let Some(winner) = holders().max_by_key(|stand| claim(stand)) else {
        return if slot.given.assign || accepted {
            Decision::Assign
        } else {
            Decision::Refuse(Why::NobodyHolds)
        };
    };
    let others = slot.stands.iter().filter(|stand| stand.id != winner.id);
    let close: Vec<FixStep> = others
        .filter(|stand| stand.importing.is_some() && !stand.hides)
        .map(|stand| FixStep::Close { node: stand.id })
        .collect();
    if !close.is_empty() {
        return Decision::Steps(close);
    }
    Decision::Steps(vec![FixStep::Claim { node: winner.id }])
}

/// What nodes hold that don't tell; nothing where all do.
fn reveal(slot: &Slotwise<'_>) -> Option<Decision> {
    let veiled = slot.stands.iter().filter(|stand| stand.veiled);
    let steps: Vec<FixStep> = veiled
        .filter_map(|stand| {
            let from = slot.stands.iter().find(|other| other.id != stand.id)?.id;
            Some(FixStep::Reveal {
                node: stand.id,
                from,
            })
        })
        .collect();
    (!steps.is_empty()).then_some(Decision::Steps(steps))
}

/// Who of several that have keys should own them: who was giving them away is the authority for
/// what it has; then who has most; then who was last heard of.
fn claim(stand: &Stand) -> (bool, u64, u64, Reverse<NodeId>) {
    let is_source = stand.migrating.is_some() && stand.keys > 0;
    (is_source, stand.keys, stand.epoch, Reverse(stand.id))
}

/// Several claim it, and would delete each other's keys as soon as they hear each other.
fn contested(slot: &Slotwise<'_>, owners: &[&Stand]) -> Decision {
    let Some(winner) = owners.iter().max_by_key(|stand| claim(stand)) else {
        return Decision::Fine;
    };
    let astray = slot
        .stands
        .iter()
        .filter(|stand| !stand.owns() && stand.importing.is_some_and(|from| from != winner.id));
    let mut steps: Vec<FixStep> = astray
        .map(|stand| FixStep::Guard {
            node: stand.id,
            owner: winner.id,
        })
        .collect();
    let losers = owners.iter().filter(|stand| stand.id != winner.id);
    steps.extend(losers.map(|loser| FixStep::Fence {
        loser: loser.id,
        winner: winner.id,
    }));
    steps.push(FixStep::Claim { node: winner.id });
    Decision::Steps(steps)
}

/// One claims it.
fn owned(slot: &Slotwise<'_>, owner: &Stand) -> Decision {
    let others = || slot.stands.iter().filter(|stand| stand.id != owner.id);
    // Who takes part in it and sees another owner would answer with CLUSTERDOWN or MOVED.
    let tell: Vec<FixStep> = others()
        .filter(|stand| (stand.is_open() || stand.keys > 0) && stand.sees != Some(owner.id))
        .map(|stand| FixStep::Tell {
            node: stand.id,
            owner: owner.id,
        })
        .collect();
    if !tell.is_empty() {
        return Decision::Steps(tell);
    }
    let guard: Vec<FixStep> = others()
        .filter(|stand| stand.importing.is_some_and(|from| from != owner.id))
        .map(|stand| FixStep::Guard {
            node: stand.id,
            owner: owner.id,
        })
        .collect();
    if !guard.is_empty() {
        return Decision::Steps(guard);
    }
    if owner.importing.is_some() {
        return Decision::Steps(vec![FixStep::Close { node: owner.id }]);
    }
    let holders: Vec<&Stand> = others().filter(|stand| stand.keys > 0).collect();
    match owner.migrating {
        Some(peer) => migrating(slot, owner, peer, &holders),
        None => at_home(slot, owner, &holders),
    }
}

/// Its owner gives it away.
fn migrating(slot: &Slotwise<'_>, owner: &Stand, peer: NodeId, holders: &[&Stand]) -> Decision {
    let finish = |to: NodeId| {
        let others = slot.stands.iter();
        let others = others.filter(|stand| stand.id != owner.id && stand.id != to);
        let close: Vec<FixStep> = others
            .filter(|stand| stand.importing.is_some() && !stand.hides)
            .map(|stand| FixStep::Close { node: stand.id })
            .collect();
        Decision::Steps(match close.is_empty() {
            true => vec![FixStep::Finish { from: owner.id, to }],
            false => close,
        })
    };
    let close = || Decision::Steps(vec![FixStep::Close { node: owner.id }]);
    let state = slot.peers.get(&peer).copied().unwrap_or(Peer::Away);
    let target = match state {
        Peer::Sound => Some(peer),
        Peer::Follows(master) => Some(master),
        Peer::Replaced(_) | Peer::Away => None,
    };
    let target = target.and_then(|id| slot.stands.iter().find(|stand| stand.id == id));
    match target {
        // Its target owns it itself, by way of a failover.
        Some(target) if target.id == owner.id => close(),
        Some(target) if target.importing.is_some() || target.keys > 0 || target.veiled => {
            finish(target.id)
        }
        // The target has forgotten, and has nothing: clients that are sent there are sent back.
        Some(_) => match holders {
            [only] if only.importing.is_some() => finish(only.id),
            // What others hold is gathered then.
            _ => close(),
        },
        // Who took the target's place has what was moved already.
        None => {
            let veiled = match (state, holders) {
                (Peer::Replaced(_), [only]) => return finish(only.id),
                (Peer::Replaced(successor), []) => match (reveal(slot), successor) {
                    // Of this slot nothing had been moved yet.
                    (None, Some(id)) if id != owner.id => return finish(id),
                    (veiled, _) => veiled,
                },
                _ => None,
            };
            let refusal = Decision::Refuse(Why::TargetAway {
                owner: owner.id,
                target: peer,
            });
            veiled.unwrap_or(match slot.given.accept_loss {
                true => close(),
                false => refusal,
            })
        }
    }
}

/// Its owner keeps it.
fn at_home(slot: &Slotwise<'_>, owner: &Stand, holders: &[&Stand]) -> Decision {
    let (open, strays): (Vec<&Stand>, Vec<&Stand>) = holders
        .iter()
        .partition(|stand| stand.is_open() && !stand.unveiled);
    let mut steps: Vec<FixStep> = match (&open[..], &strays[..]) {
        // Half a move, whose source forgot (Redis forgets in a failover): the shorter way.
        ([target], []) if target.keys > owner.keys && target.importing.is_some() => {
            vec![FixStep::Finish {
                from: owner.id,
                to: target.id,
            }]
        }
        _ => open
            .iter()
            .map(|stand| FixStep::Gather {
                from: stand.id,
                to: owner.id,
            })
            .collect(),
    };
    let idle = slot
        .stands
        .iter()
        .filter(|stand| stand.id != owner.id && stand.is_open() && stand.keys == 0);
    steps.extend(idle.map(|stand| FixStep::Close { node: stand.id }));
    match (steps.is_empty(), strays.is_empty()) {
        (false, _) => Decision::Steps(steps),
        (true, true) => Decision::Fine,
        (true, false) => Decision::Strays {
            owner: owner.id,
            holders: strays.iter().map(|stand| stand.id).collect(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::samples::node;

    /// One step of each kind, in the order in which a plan runs them.
    fn in_safety_order() -> [FixStep; 16] {
        let (one, two) = (node(1), node(2));
        [
            FixStep::Evict {
                node: one,
                copies: None,
            },
            FixStep::Guard {
                node: one,
                owner: two,
            },
            FixStep::Fence {
                loser: one,
                winner: two,
            },
            FixStep::Close { node: one },
            FixStep::Reveal {
                node: one,
                from: two,
            },
            FixStep::Claim { node: one },
            FixStep::Assign { node: one },
            FixStep::Bump { node: one },
            FixStep::Tell {
                node: one,
                owner: two,
            },
            FixStep::Finish { from: one, to: two },
            FixStep::Gather { from: one, to: two },
            FixStep::Purge { from: one, to: two },
            FixStep::TakeOver { master: one },
            FixStep::Follow {
                replica: one,
                master: two,
            },
            FixStep::Forget { node: one },
            FixStep::Refresh { node: one },
        ]
    }

    #[test]
    fn steps_sort_in_safety_order_and_no_two_kinds_share_a_stage() {
        let expected = in_safety_order();
        let mut words: Vec<&str> = expected.iter().map(|step| step.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), expected.len(), "a kind is listed twice");
        assert!(expected.is_sorted_by(|one, next| one.stage() < next.stage()));
        let mut shuffled = expected;
        shuffled.reverse();
        shuffled.sort_unstable();
        assert_eq!(shuffled, expected);
        let keyed: BTreeMap<FixStep, ()> = expected.iter().rev().map(|step| (*step, ())).collect();
        assert!(keyed.into_keys().eq(expected));
    }

    #[test]
    fn the_stage_comes_before_the_nodes() {
        let late = FixStep::Fence {
            loser: node(9),
            winner: node(8),
        };
        let mut steps = [FixStep::Claim { node: node(1) }, late];
        steps.sort_unstable();
        assert_eq!(steps, [late, FixStep::Claim { node: node(1) }]);
        let of = |node| FixStep::Claim { node };
        let mut steps = [of(node(2)), of(node(1))];
        steps.sort_unstable();
        assert_eq!(steps, [of(node(1)), of(node(2))]);
    }

    #[test]
    fn keys_are_protected_before_a_claim_and_moved_after_it() {
        let stage = |wanted: &str| {
            let step = in_safety_order()
                .into_iter()
                .find(|step| step.word() == wanted);
            step.unwrap().stage()
        };
        for (earlier, later) in [
            // A loser that hears a claim before its fence deletes its keys.
            ("fence", "claim"),
            // Valkey: a node that imports from a node without the slot takes the slot itself.
            ("guard", "fence"),
            ("guard", "claim"),
            ("close", "claim"),
            // A holder that has not counted its keys is no loser yet.
            ("reveal", "claim"),
            // No owner is named before it has claimed.
            ("claim", "tell"),
            ("assign", "tell"),
            ("claim", "finish"),
            ("fence", "gather"),
            // What is not at its owner yet is brought there before copies are deleted.
            ("gather", "purge"),
            // Nodes leave before any slot is looked at.
            ("evict", "guard"),
        ] {
            assert!(stage(earlier) < stage(later), "{earlier} before {later}");
        }
    }

    #[test]
    fn contested_slots_are_fenced_before_the_claim() {
        let owner = |number: usize, keys| Stand {
            id: node(number),
            sees: Some(node(number)),
            migrating: None,
            importing: None,
            keys,
            veiled: false,
            unveiled: false,
            hides: false,
            epoch: 1,
        };
        let importer = Stand {
            sees: None,
            importing: Some(node(2)),
            ..owner(3, 0)
        };
        let peers = BTreeMap::new();
        let slot = Slotwise {
            // The winner has the lowest id, so that an order by node would put its claim first.
            stands: vec![owner(1, 5), owner(2, 1), importer],
            owner_away: None,
            somebody_away: None,
            orphan: None,
            peers: &peers,
            given: Given::default(),
        };
        let Decision::Steps(steps) = decide(&slot) else {
            panic!("no steps");
        };
        let words: Vec<&str> = steps.iter().map(|step| step.word()).collect();
        assert_eq!(words, ["guard", "fence", "claim"]);
    }
}
