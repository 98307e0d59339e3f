//! The choice of the replica that takes over from a master.

use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::parse::MasterLink;

/// A replica of the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverCandidate {
    /// Its id.
    pub id: NodeId,
    /// Its link to its master; `None` if it does not answer.
    pub link: Option<MasterLink>,
    /// Its replication offset, if it reports one.
    pub offset: Option<u64>,
}

/// Why no replica can take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCandidate {
    /// The master has no replica.
    None,
    /// None of its replicas answers.
    Silent,
    /// None of the replicas that answer has the link that a planned takeover needs; this is the best.
    Unlinked(NodeId),
}

/// The replica with the most data. A planned takeover needs a replica whose link to the master is up;
/// the other kinds take any that answers. Of equal replicas the lowest id wins, so that the result is
/// deterministic.
pub fn choose(candidates: &[FailoverCandidate], how: Takeover) -> Result<NodeId, NoCandidate> {
    if candidates.is_empty() {
        return Err(NoCandidate::None);
    }
    let best = |fits: fn(&FailoverCandidate) -> bool| {
        let candidates = candidates.iter().filter(|candidate| fits(candidate));
        candidates
            .max_by_key(|candidate| {
                let up = candidate.link == Some(MasterLink::Up);
                // A replica in a full resync has no complete data set.
                let whole = candidate.link != Some(MasterLink::Syncing);
                (up, whole, candidate.offset, std::cmp::Reverse(candidate.id))
            })
            .map(|candidate| candidate.id)
    };
    let linked = best(|candidate| candidate.link == Some(MasterLink::Up));
    let answering = best(|candidate| candidate.link.is_some());
    match (how, linked, answering) {
        (_, Some(id), _) => Ok(id),
        (Takeover::Force | Takeover::Takeover, None, Some(id)) => Ok(id),
        (Takeover::Planned, None, Some(id)) => Err(NoCandidate::Unlinked(id)),
        (_, None, None) => Err(NoCandidate::Silent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(number: usize, link: Option<MasterLink>, offset: u64) -> FailoverCandidate {
        FailoverCandidate {
            id: id(number),
            link,
            offset: Some(offset),
        }
    }

    fn id(number: usize) -> NodeId {
        format!("{number:040x}").parse().unwrap()
    }

    const UP: Option<MasterLink> = Some(MasterLink::Up);
    const DOWN: Option<MasterLink> = Some(MasterLink::Down(Some(3)));

    #[test]
    fn the_most_data_wins() {
        let candidates = [
            candidate(1, UP, 10),
            candidate(2, UP, 12),
            candidate(3, None, 99),
        ];
        assert_eq!(choose(&candidates, Takeover::Planned), Ok(id(2)));
        let equal = [candidate(2, UP, 10), candidate(1, UP, 10)];
        assert_eq!(choose(&equal, Takeover::Planned), Ok(id(1)));
    }

    #[test]
    fn only_a_forced_takeover_needs_no_link() {
        let candidates = [candidate(1, DOWN, 10), candidate(2, DOWN, 12)];
        assert_eq!(
            choose(&candidates, Takeover::Planned),
            Err(NoCandidate::Unlinked(id(2)))
        );
        assert_eq!(choose(&candidates, Takeover::Force), Ok(id(2)));
        let syncing = [
            candidate(1, Some(MasterLink::Syncing), 99),
            candidate(2, DOWN, 1),
        ];
        assert_eq!(choose(&syncing, Takeover::Takeover), Ok(id(2)));
    }

    #[test]
    fn no_candidate() {
        assert_eq!(choose(&[], Takeover::Force), Err(NoCandidate::None));
        let silent = [candidate(1, None, 1)];
        assert_eq!(choose(&silent, Takeover::Force), Err(NoCandidate::Silent));
    }
}
