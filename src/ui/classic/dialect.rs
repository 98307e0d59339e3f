//! What differs between the programs whose lines `classic` prints.

use crate::cluster::node::Role;
use crate::cluster::slot::SlotSet;
use crate::report::{CheckView, MemberView, NodeState};
use crate::ui::Mode;

/// The words of one of these programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ui) struct Dialect(Mode);

impl Dialect {
    pub(in crate::ui) const fn of(mode: Mode) -> Self {
        Self(mode)
    }

    /// `[0-5460],[7000]` in redis-cli, `0-5460,7000` in redis-trib.rb.
    pub(in crate::ui) fn slots(self, slots: &SlotSet) -> String {
        let text = slots.to_string();
        match self.0.is_redis_cli() && !text.is_empty() {
            true => format!("[{}]", text.replace(',', "],[")),
            false => text,
        }
    }

    /// `3 slaves`, `3 replicas`.
    pub(in crate::ui) fn replicas(self) -> &'static str {
        match self.0 {
            Mode::ValkeyCli => "replicas",
            _ => "slaves",
        }
    }

    /// `3 masters`, `3 primaries`.
    pub(in crate::ui) fn masters(self) -> &'static str {
        match self.0 {
            Mode::ValkeyCli => "primaries",
            _ => "masters",
        }
    }

    /// Whether a master without replicas gets a line that says so.
    pub(in crate::ui) fn tells_no_replicas(self) -> bool {
        !self.0.is_redis_cli()
    }

    pub(in crate::ui) fn is_native(self) -> bool {
        !self.0.is_old()
    }

    /// Whether warnings besides those about open slots have the mark that scripts look for. These programs know no
    /// other warning.
    pub(in crate::ui) fn marks_warnings(self) -> bool {
        !self.0.is_old()
    }

    /// The line before the slots of a new cluster.
    pub(in crate::ui) fn position(self) -> Option<&'static str> {
        match self.0 {
            Mode::RedisCli => Some("Master"),
            Mode::ValkeyCli => Some("Primary"),
            Mode::Native | Mode::RedisTribRb => None,
        }
    }

    /// What is said of a replica on the host of its master.
    pub(in crate::ui) fn same_host(self) -> Option<&'static str> {
        match self.0 {
            Mode::RedisCli => Some("Some slaves are in the same host as their master"),
            Mode::ValkeyCli => Some("Some replicas are in the same host as their primary"),
            Mode::Native | Mode::RedisTribRb => None,
        }
    }

    /// The nodes as these programs see them: they leave out nodes that failed or do not answer.
    pub(in crate::ui) fn seen(self, view: &CheckView) -> CheckView {
        let is_seen = |node: &&MemberView| {
            !self.0.is_old()
                || (node.answered && !matches!(node.state, NodeState::Fail | NodeState::NoAddress))
        };
        CheckView {
            nodes: view.nodes.iter().filter(is_seen).cloned().collect(),
            ..view.clone()
        }
    }

    pub(in crate::ui) fn flag(self, role: Role) -> &'static str {
        match role {
            Role::Master => "master",
            Role::Replica => "slave",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot::{Slot, SlotRange};

    #[test]
    fn slots_are_written_as_each_program_does() {
        let slot = |number| Slot::new(number).unwrap();
        let ranges = [(0, 5460), (7000, 7000), (9000, 9001)];
        let ranges = ranges.map(|(a, b)| SlotRange::new(slot(a), slot(b)).unwrap());
        let slots: SlotSet = ranges.into_iter().collect();
        for (mode, expected) in [
            (Mode::RedisCli, "[0-5460],[7000],[9000-9001]"),
            (Mode::ValkeyCli, "[0-5460],[7000],[9000-9001]"),
            (Mode::RedisTribRb, "0-5460,7000,9000-9001"),
            (Mode::Native, "0-5460,7000,9000-9001"),
        ] {
            assert_eq!(Dialect::of(mode).slots(&slots), expected, "{mode:?}");
            assert_eq!(Dialect::of(mode).slots(&SlotSet::new()), "", "{mode:?}");
        }
    }
}
