//! How a node is, in a word or two: the same word in every format.

use std::fmt;

use super::style::Tone;
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Role;
use crate::cluster::observation::{ObservedNode, Seen};
use crate::cluster::parse::MasterLink;
use crate::cluster::topology::Member;

/// How a node is: the worst that is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// It answers, and nobody holds anything against it.
    Ok,
    /// A majority of the members holds it for dead.
    Fail,
    /// Some member can't hear it.
    Failing,
    /// It does not answer us.
    Unreachable,
    /// At its address another node answers.
    Foreign,
    /// Met, and never joined.
    Handshake,
    /// Known by id only.
    NoAddress,
    /// Reading its data from disk.
    Loading,
    /// A replica that receives a whole copy.
    Syncing,
    /// A replica without its master, for so many seconds where the server tells.
    LinkDown(Option<u64>),
}

impl Condition {
    pub(super) fn of(member: &Member, node: Option<&ObservedNode>) -> Self {
        let peer_status = member.peer_status;
        if peer_status.is_down() {
            return Self::Fail;
        }
        if peer_status.handshake > 0 {
            return Self::Handshake;
        }
        let report = match node.map(|node| &node.seen) {
            Some(Seen::Report(report)) => report,
            Some(Seen::Stranger(_)) => return Self::Foreign,
            Some(Seen::Silent(_)) => return Self::Unreachable,
            Some(Seen::Loading) => return Self::Loading,
            Some(Seen::NoAddress) | None => return Self::NoAddress,
        };
        if report.info.loading {
            return Self::Loading;
        }
        match report.info.master_link {
            Some(MasterLink::Down(since)) if member.role == Role::Replica => {
                return Self::LinkDown(since);
            }
            Some(MasterLink::Syncing) if member.role == Role::Replica => return Self::Syncing,
            _ => {}
        }
        if peer_status.no_address > 0 {
            Self::NoAddress
        } else if peer_status.failed + peer_status.failing > 0 {
            Self::Failing
        } else {
            Self::Ok
        }
    }

    /// One word, for programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Failing => "fail?",
            Self::Unreachable => "unreachable",
            Self::Foreign => "foreign",
            Self::Handshake => "handshake",
            Self::NoAddress => "noaddr",
            Self::Loading => "loading",
            Self::Syncing => "syncing",
            Self::LinkDown(_) => "link-down",
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Failing | Self::Handshake | Self::NoAddress | Self::Loading | Self::Syncing => {
                Tone::Warning
            }
            Self::Fail | Self::Unreachable | Self::Foreign | Self::LinkDown(_) => Tone::Bad,
        }
    }
}

/// For people: `link down 12 s`.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkDown(Some(seconds)) => write!(f, "link down {seconds} s"),
            Self::LinkDown(None) => f.write_str("link down"),
            other => f.write_str(other.word()),
        }
    }
}

/// A member with what was seen of it.
pub(super) struct Row<'a> {
    pub(super) member: &'a Member,
    pub(super) node: Option<&'a ObservedNode>,
    pub(super) condition: Condition,
}

impl<'a> Row<'a> {
    /// All members, in the order in which people read them.
    pub(super) fn all(diagnosis: &'a Diagnosis) -> Vec<Self> {
        let order = diagnosis.topology.reading_order();
        let row = |member: &'a Member| {
            let node = diagnosis.observation.nodes.get(&member.id);
            let condition = Condition::of(member, node);
            Self {
                member,
                node,
                condition,
            }
        };
        order.into_iter().map(row).collect()
    }

    /// Its address; empty where none is known.
    pub(super) fn addr(&self) -> String {
        let addr = self.node.and_then(ObservedNode::addr);
        addr.map(ToString::to_string).unwrap_or_default()
    }

    /// Its keys; `None` when it did not answer.
    pub(super) fn keys(&self) -> Option<u64> {
        let report = self.node?.report()?;
        Some(report.info.total_keys())
    }

    pub(super) fn is_master(&self) -> bool {
        self.member.role == Role::Master
    }
}
