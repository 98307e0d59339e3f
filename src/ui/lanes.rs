//! Slots on their way: a bar for every pair of nodes and one for all, or words for a line.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::move_slots::MovesView;
use super::screen::screen;
use super::style::{bytes, counted, thousands};
use crate::cluster::node::NodeId;
use crate::event::{LaneEvent, Pair};

/// Faster than this nobody reads, and lanes tell of thousands of keys a second.
const REDRAW: Duration = Duration::from_millis(200);
/// Rates are those of so long a time.
const RECENT: Duration = Duration::from_secs(5);
/// The columns of a lane's bar, its numbers and its rates.
const LANE: usize = 80;
/// The same without what is less needed.
const SHORT_LANE: usize = 42;
/// The columns of all that is said of the whole.
const TOTAL: usize = 94;
/// The same without what is less needed.
const SHORT_TOTAL: usize = 64;

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The nodes of the plan, as lanes are labelled.
    names: BTreeMap<NodeId, String>,
    /// How many slots the plan moves.
    planned: usize,
    /// All lanes together.
    sum: Flow,
}

/// How much has moved, and how fast.
#[derive(Debug)]
struct Flow {
    began: Instant,
    slots: usize,
    keys: u64,
    bytes: u64,
    /// Keys and bytes at moments of the last seconds.
    recent: VecDeque<(Instant, u64, u64)>,
    shown: Option<Instant>,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            slots: 0,
            keys: 0,
            bytes: 0,
            recent: VecDeque::new(),
            shown: None,
        }
    }
}

impl Flow {
    fn add(&mut self, event: &LaneEvent) {
        match event {
            LaneEvent::Keys { keys, bytes } => {
                self.keys += keys;
                self.bytes += bytes;
            }
            LaneEvent::Slots { moved } => self.slots += moved,
            LaneEvent::Started { .. } | LaneEvent::Again { .. } | LaneEvent::Ended { .. } => {}
        }
    }

    /// Whether it is time to show it again.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.shown.is_some_and(|shown| now - shown < REDRAW) {
            return false;
        }
        self.shown = Some(now);
        self.recent.push_back((now, self.keys, self.bytes));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|r| now - r.0 > RECENT) {
            self.recent.pop_front();
        }
        true
    }

    /// Keys and bytes in a second.
    fn rates(&self, now: Instant) -> (u64, u64) {
        let start = (self.began, 0, 0);
        let (since, keys, bytes) = *self.recent.front().unwrap_or(&start);
        let (since, keys, bytes) = if now - since < REDRAW {
            start
        } else {
            (since, keys, bytes)
        };
        let seconds = (now - since).as_secs_f64().max(0.001);
        let rate = |count: u64| (count as f64 / seconds) as u64;
        (rate(self.keys - keys), rate(self.bytes - bytes))
    }

    /// How long the rest takes, if it goes on as it went.
    fn left(&self, planned: usize, now: Instant) -> Option<Duration> {
        let rest = planned.saturating_sub(self.slots) as f64;
        let pace = (now - self.began).as_secs_f64() / self.slots as f64;
        Duration::try_from_secs_f64(rest * pace).ok()
    }
}

/// `3 s`, `4 min`, `2 h`: nobody knows it better.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{} s", seconds.max(1)),
        seconds @ 100..=5999 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

impl Moving {
    /// What is about to move.
    pub(super) fn plan(&mut self, view: &MovesView) {
        let ends = view.moves.iter().flat_map(|one| [&one.from, &one.to]);
        self.names = ends.map(|node| (node.id, node.addr.to_string())).collect();
        self.planned = view.moves.iter().map(|one| one.slots.count()).sum();
        self.sum = Flow::default();
    }

    /// It begins now.
    pub(super) fn begin(&mut self) {
        self.sum = Flow::default();
    }

    pub(super) fn add(&mut self, event: &LaneEvent) {
        self.sum.add(event);
    }

    /// For those who have no terminal.
    pub(super) fn line(&mut self) -> String {
        let now = Instant::now();
        self.sum.shown = None;
        self.sum.is_due(now);
        let (keys, volume) = self.sum.rates(now);
        let left = match self.sum.left(self.planned, now) {
            Some(left) => format!(", {} left", about(left)),
            None => String::new(),
        };
        format!(
            "{} of {}, {}, {} keys/s, {}/s{left}",
            thousands(self.sum.slots as u64),
            counted(self.planned as u64, "slot"),
            counted(self.sum.keys, "key"),
            thousands(keys),
            bytes(volume),
        )
    }

    /// The columns of the longest label.
    fn widest(&self) -> usize {
        let widths = self.names.values().map(|name| name.chars().count());
        widths.max().unwrap_or_default()
    }

    fn name(&self, id: NodeId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.short())
    }
}

/// The bars of a terminal.
#[derive(Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    lanes: BTreeMap<Pair, Lane>,
    /// How much there is room for in the line of a lane.
    room: Room,
    /// The same in the line of all of them.
    total_room: Room,
}

/// How much a line has room for. One that is longer than the terminal is wide becomes two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// All there is to say.
    Wide,
    /// How far it is, and keys a second.
    Short,
    /// How far it is.
    Narrow,
}

impl Room {
    fn of(width: usize, wide: usize, short: usize) -> Self {
        if width > wide {
            Self::Wide
        } else if width > short {
            Self::Short
        } else {
            Self::Narrow
        }
    }
}

#[derive(Debug)]
struct Lane {
    bar: ProgressBar,
    slots: usize,
    flow: Flow,
}

impl Bars {
    pub(super) fn new(width: usize, moving: &Moving, frame: Duration) -> Self {
        let multi = MultiProgress::with_draw_target(screen());
        let total = multi.add(ProgressBar::new(moving.planned as u64));
        let total_room = Room::of(width, TOTAL, SHORT_TOTAL);
        total.set_style(style(match total_room {
            Room::Wide => "{bar:20} {msg} ({elapsed})",
            Room::Short | Room::Narrow => "{bar:10} {msg}",
        }));
        total.set_message(format!("0 of {}", counted(moving.planned as u64, "slot")));
        total.enable_steady_tick(frame);
        // Two names and an arrow stand before it.
        let names = 2 * moving.widest() + 3;
        Self {
            multi,
            total,
            lanes: BTreeMap::new(),
            room: Room::of(width, names + LANE, names + SHORT_LANE),
            total_room,
        }
    }

    pub(super) fn event(&mut self, pair: Pair, event: &LaneEvent, moving: &mut Moving) {
        let now = Instant::now();
        match event {
            LaneEvent::Started { slots } => self.start(pair, *slots, moving),
            LaneEvent::Ended { .. } => {
                // What failed is told at the end, in whole sentences.
                if let Some(lane) = self.lanes.remove(&pair) {
                    lane.bar.finish_and_clear();
                    self.multi.remove(&lane.bar);
                }
            }
            LaneEvent::Again { .. } => {}
            LaneEvent::Keys { .. } | LaneEvent::Slots { .. } => {
                let room = self.room;
                if let Some(lane) = self.lanes.get_mut(&pair) {
                    lane.flow.add(event);
                    if lane.flow.is_due(now) {
                        lane.show(room, now);
                    }
                }
            }
        }
        if moving.sum.is_due(now) {
            let (keys, volume) = moving.sum.rates(now);
            let left = match moving.sum.left(moving.planned, now) {
                Some(left) => format!(", {} left", about(left)),
                None => String::new(),
            };
            self.total.set_position(moving.sum.slots as u64);
            let far = format!(
                "{} of {}",
                thousands(moving.sum.slots as u64),
                counted(moving.planned as u64, "slot"),
            );
            let keys = thousands(keys);
            self.total.set_message(match self.total_room {
                Room::Wide => format!("{far}, {keys} keys/s, {}/s{left}", bytes(volume)),
                Room::Short => format!("{far}, {keys} keys/s{left}"),
                Room::Narrow => format!("{far}{left}"),
            });
        }
    }

    /// Above the total, which stays at the bottom.
    fn start(&mut self, pair: Pair, slots: usize, moving: &Moving) {
        let bar = ProgressBar::new(slots as u64);
        let bar = self.multi.insert_before(&self.total, bar);
        // Labels are as wide as the widest, so that the bars stand below each other.
        let widest = moving.widest();
        let (from, to) = (moving.name(pair.from), moving.name(pair.to));
        bar.set_style(style(match self.room {
            Room::Wide => "{prefix} {bar:20} {msg}",
            Room::Short | Room::Narrow => "{prefix} {bar:10} {msg}",
        }));
        bar.set_prefix(format!("{from:>widest$} → {to:<widest$}"));
        let flow = Flow::default();
        let lane = Lane { bar, slots, flow };
        lane.show(self.room, lane.flow.began);
        self.lanes.insert(pair, lane);
    }

    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.multi.suspend(write)
    }

    pub(super) fn clear(self) {
        for lane in self.lanes.into_values() {
            lane.bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

impl Lane {
    fn show(&self, room: Room, now: Instant) {
        let (keys, volume) = self.flow.rates(now);
        let (done, slots) = (self.flow.slots as u64, self.slots as u64);
        self.bar.set_position(done);
        let of = format!("{:>6}/{}", thousands(done), thousands(slots));
        self.bar.set_message(match room {
            Room::Wide => {
                let left = self
                    .flow
                    .left(self.slots, now)
                    .map_or_else(String::new, about);
                format!(
                    "{of} slots {:>8} keys/s {:>11}/s {left:>7}",
                    thousands(keys),
                    bytes(volume)
                )
            }
            Room::Short => format!("{of} {:>8} keys/s", thousands(keys)),
            Room::Narrow => of,
        });
    }
}

/// The templates are constants; one that can't be read leaves indicatif's own.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
