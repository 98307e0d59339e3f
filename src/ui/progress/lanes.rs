//! Moving slots: a bar for each pair of nodes and one for all, or the words of a line.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::screen::screen;
use crate::cluster::node::NodeId;
use crate::event::{LaneEvent, Pair};
use crate::report::MovesView;
use crate::ui::style::{bytes, counted, thousands};

/// The interval between two drawings of a bar; lanes send thousands of events a second.
const REDRAW: Duration = Duration::from_millis(200);
/// The time over which rates are measured.
const RECENT: Duration = Duration::from_secs(5);
/// The columns of a lane's bar, its numbers and its rates.
const LANE: usize = 80;
/// The same without bytes and the time left.
const SHORT_LANE: usize = 42;
/// The columns of the bar of all lanes.
const TOTAL: usize = 94;
/// The same without bytes and the time left.
const SHORT_TOTAL: usize = 64;

/// The moves in progress.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The labels of the nodes.
    names: BTreeMap<NodeId, String>,
    /// How many slots the plan moves.
    planned: usize,
    /// The sum of all lanes.
    sum: Flow,
}

/// How much has moved, and when.
#[derive(Debug)]
struct Flow {
    began: Instant,
    slots: usize,
    keys: u64,
    bytes: u64,
    /// Keys and bytes at points in the last seconds.
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
            LaneEvent::Started { .. } | LaneEvent::TaskRetry { .. } | LaneEvent::Ended { .. } => {}
        }
    }

    /// Whether it is time to draw it again.
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

    /// Keys and bytes a second.
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

    /// The estimated time for the rest.
    fn left(&self, planned: usize, now: Instant) -> Option<Duration> {
        let rest = planned.saturating_sub(self.slots) as f64;
        let pace = (now - self.began).as_secs_f64() / self.slots as f64;
        Duration::try_from_secs_f64(rest * pace).ok()
    }
}

/// `3 s`, `4 min`, `2 h`.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{} s", seconds.max(1)),
        seconds @ 100..=5999 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h", seconds.div_ceil(3600)),
    }
}

impl Moving {
    /// Sets the plan.
    pub(super) fn plan(&mut self, view: &MovesView) {
        let ends = view.moves.iter().flat_map(|one| [&one.from, &one.to]);
        self.names = ends.map(|node| (node.id, node.addr.to_string())).collect();
        self.planned = view.moves.iter().map(|one| one.slots.count()).sum();
        self.sum = Flow::default();
    }

    /// Starts the clock.
    pub(super) fn begin(&mut self) {
        self.sum = Flow::default();
    }

    pub(super) fn add(&mut self, event: &LaneEvent) {
        self.sum.add(event);
    }

    /// A line for output that is not a terminal.
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

    /// The width of the longest label.
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
    /// What fits into the line of a lane.
    room: Room,
    /// What fits into the line of all lanes.
    total_room: Room,
}

/// What fits into a line. A line that is wider than the terminal would become two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Everything.
    Wide,
    /// The number of slots, and keys a second.
    Short,
    /// The number of slots.
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
        // Two labels and an arrow are before the bar.
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
                // Failures are reported at the end.
                if let Some(lane) = self.lanes.remove(&pair) {
                    lane.bar.finish_and_clear();
                    self.multi.remove(&lane.bar);
                }
            }
            LaneEvent::TaskRetry { .. } => {}
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

    /// Adds a bar above the total.
    fn start(&mut self, pair: Pair, slots: usize, moving: &Moving) {
        let bar = ProgressBar::new(slots as u64);
        let bar = self.multi.insert_before(&self.total, bar);
        // Labels are padded to the widest, so that the bars are aligned.
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

/// Falls back to indicatif's own style; the templates are constants.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
