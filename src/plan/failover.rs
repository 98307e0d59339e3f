//! Who takes over from a master, and whether that can be had without losing writes.

use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::parse::MasterLink;

/// A replica that might take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailoverCandidate {
    /// Its id.
    pub id: NodeId,
    /// Its link to its master; `None` where it does not answer us.
    pub link: Option<MasterLink>,
    /// How many bytes of its master's stream it has, where it tells.
    pub offset: Option<u64>,
}

/// Why nobody can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCandidate {
    /// The master has no replica.
    None,
    /// It has some, and none answers.
    Silent,
    /// Some answer; this one is the best, and lacks the link that a planned takeover needs.
    Unlinked(NodeId),
}

/// The replica with the most of the data. A planned takeover needs one whose link to the master is
/// up; the others take any that answers. Between equals the one of the lowest id, so that the same
/// question has the same answer.
pub fn choose(candidates: &[FailoverCandidate], how: Takeover) -> Result<NodeId, NoCandidate> {
    if candidates.is_empty() {
        return Err(NoCandidate::None);
    }
    let best = |fits: fn(&FailoverCandidate) -> bool| {
        let candidates = candidates.iter().filter(|candidate| fits(candidate));
        candidates
            .max_by_key(|candidate| {
                let up = candidate.link == Some(MasterLink::Up);
                // One in the middle of its first copy has nothing whole.
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
    fn only_a_forced_one_goes_without_the_link() {
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
    fn nobody() {
        assert_eq!(choose(&[], Takeover::Force), Err(NoCandidate::None));
        let silent = [candidate(1, None, 1)];
        assert_eq!(choose(&silent, Takeover::Force), Err(NoCandidate::Silent));
    }
}
