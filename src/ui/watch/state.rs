//! What a person has chosen on the screen, and the log of events.

use std::cmp::Reverse;
use std::collections::VecDeque;

use crate::cluster::node::NodeId;
use crate::report::{WatchEvent, WatchMaster, WatchNode, WatchView};

/// The most events that are kept.
const LOG: usize = 1_000;

/// The order of the masters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Slots,
    Ops,
    Traffic,
    Cpu,
    Memory,
    Keys,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Slots => Self::Ops,
            Self::Ops => Self::Traffic,
            Self::Traffic => Self::Cpu,
            Self::Cpu => Self::Memory,
            Self::Memory => Self::Keys,
            Self::Keys => Self::Slots,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Ops => "ops/s",
            Self::Traffic => "traffic",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Keys => "keys",
        }
    }

    fn apply(self, masters: &mut [WatchMaster]) {
        let by = |figure: fn(&WatchNode) -> Option<u64>, masters: &mut [WatchMaster]| {
            masters.sort_by_key(|master| Reverse(figure(&master.node)));
        };
        match self {
            // The view has them in this order.
            Self::Slots => {}
            Self::Ops => by(|node| node.ops_per_second, masters),
            Self::Traffic => by(
                |node| {
                    let sent = node.bytes_out_per_second.unwrap_or_default();
                    Some(node.bytes_in_per_second?.saturating_add(sent))
                },
                masters,
            ),
            Self::Cpu => by(|node| node.cpu.map(|cpu| (cpu * 1e6) as u64), masters),
            Self::Memory => by(|node| node.used_memory, masters),
            Self::Keys => by(|node| node.keys, masters),
        }
    }
}

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Sort,
    Pause,
    Up,
    Down,
    Details,
    Close,
}

/// The state of the screen.
#[derive(Debug)]
pub(super) struct State {
    pub(super) seed: String,
    pub(super) interval: String,
    pub(super) is_colored: bool,
    pub(super) sort: Sort,
    pub(super) is_paused: bool,
    pub(super) has_details: bool,
    /// The node that is selected.
    pub(super) selected: Option<NodeId>,
    /// The frame that is shown.
    pub(super) shown: Option<WatchView>,
    /// The last frame, while the screen is paused.
    waiting: Option<WatchView>,
    /// What has happened, the newest first.
    pub(super) log: VecDeque<WatchEvent>,
}

impl State {
    pub(super) fn new(seed: &str, interval: String, is_colored: bool) -> Self {
        Self {
            seed: seed.to_string(),
            interval,
            is_colored,
            sort: Sort::Slots,
            is_paused: false,
            has_details: false,
            selected: None,
            shown: None,
            waiting: None,
            log: VecDeque::new(),
        }
    }

    /// Takes a frame. A paused screen keeps the one that it shows; the log goes on.
    pub(super) fn take(&mut self, view: WatchView) {
        for event in &view.events {
            self.log.push_front(event.clone());
        }
        self.log.truncate(LOG);
        match self.is_paused && self.shown.is_some() {
            true => self.waiting = Some(view),
            false => self.shown = Some(view),
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Sort => self.sort = self.sort.next(),
            Action::Pause => {
                self.is_paused = !self.is_paused;
                if let (false, Some(view)) = (self.is_paused, self.waiting.take()) {
                    self.shown = Some(view);
                }
            }
            Action::Up => self.select(-1),
            Action::Down => self.select(1),
            Action::Details => {
                if self.selected.is_none() {
                    self.select(1);
                }
                self.has_details = !self.has_details;
            }
            Action::Close => self.has_details = false,
        }
    }

    fn select(&mut self, step: isize) {
        let ids: Vec<NodeId> = self
            .masters()
            .iter()
            .flat_map(|master| std::iter::once(&master.node).chain(&master.replicas))
            .map(|node| node.node.id)
            .collect();
        let now = self
            .selected
            .and_then(|id| ids.iter().position(|one| *one == id));
        let next = now.map_or(0, |now| now.saturating_add_signed(step));
        self.selected = ids.get(next.min(ids.len().saturating_sub(1))).copied();
    }

    /// The masters in the chosen order.
    pub(super) fn masters(&self) -> Vec<WatchMaster> {
        let shown = self.shown.as_ref();
        let mut masters = shown.map(|view| view.masters.clone()).unwrap_or_default();
        self.sort.apply(&mut masters);
        masters
    }
}
