//! Moving slots: a bar for each pair of nodes and one for all, or the words of a line.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cluster::node::NodeId;
use crate::cluster::observation::TaskProgress;
use crate::event::{LaneEvent, MoveProgress, MoveState, Pair, Progress};
use crate::report::{MemberView, MovesView};
use crate::ui::style::{about, bytes, counted, thousands};

/// The interval between two drawings of a bar; lanes send thousands of events a second.
const REDRAW: Duration = Duration::from_millis(200);
/// The time over which rates are measured.
const RECENT: Duration = Duration::from_secs(5);
/// The columns of a bar of 20, its numbers, its rates, and the time, keys and bytes left.
const FULL: usize = WIDE + 31;
/// The columns of a bar of 20, its numbers, its rates and the time left.
const WIDE: usize = 88;
/// The columns of a bar of 10, its numbers, keys a second, and the time and keys left.
const MEDIUM: usize = 81;
/// The columns of a bar of 10, its numbers, and the time and keys left.
const SHORT: usize = 64;
/// The columns of a bar of 10, the percentage, and the time and keys left.
const NARROW: usize = 46;
/// The columns of the percentage, and the time and keys left.
const SLIM: usize = 34;
/// The columns of the percentage, the number of slots and the time left.
const BARE: usize = 26;
/// The label of the pairs that have ended, after their number.
const ENDED: &str = "finished pair";
/// How many pairs have lines of their own, at most.
const PAIRS_IN_LINES: usize = 16;
/// The label of the sum.
const ALL: &str = "all pairs";

/// The moves in progress.
#[derive(Debug, Default)]
pub(super) struct Moving {
    /// The labels of the nodes.
    names: BTreeMap<NodeId, String>,
    /// How many slots the plan moves.
    planned: usize,
    /// The sum of all lanes.
    sum: Flow,
    /// What is left of each pair that moves slots now, and of all.
    left: BTreeMap<Pair, Progress>,
    total_left: Option<Progress>,
    state: MoveState,
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
            LaneEvent::Slots { moved } => self.slots += moved.count(),
            LaneEvent::Started { .. }
            | LaneEvent::Weighed { .. }
            | LaneEvent::Skipped { .. }
            | LaneEvent::TaskRetry { .. }
            | LaneEvent::TaskProgress(_)
            | LaneEvent::Ended { .. } => {}
        }
    }

    /// Whether it is time to draw again.
    fn is_due(&self, now: Instant) -> bool {
        self.shown.is_none_or(|shown| now - shown >= REDRAW)
    }

    /// Notes how far it is, for the rates.
    fn sample(&mut self, now: Instant) {
        self.shown = Some(now);
        self.recent.push_back((now, self.keys, self.bytes));
        while self.recent.len() > 2 && self.recent.front().is_some_and(|r| now - r.0 > RECENT) {
            self.recent.pop_front();
        }
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
}

/// `, 68,800 keys and 6.9 MiB to go, 3 s left`.
fn rest(progress: &Progress) -> String {
    let keys = counted(progress.keys_left(), "key");
    let volume = bytes(progress.bytes_left());
    let left = match progress.left {
        Some(left) => format!(", {} left", about(left)),
        None => String::new(),
    };
    format!(", {keys} and {volume} to go{left}")
}

impl Moving {
    /// The labels of all nodes of a cluster.
    pub(super) fn nodes(&mut self, nodes: &[MemberView]) {
        let labels = nodes
            .iter()
            .filter_map(|node| Some((node.id, node.addr.as_ref()?)));
        self.names = labels.map(|(id, addr)| (id, addr.to_string())).collect();
    }

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
        if let LaneEvent::Skipped { slots, .. } = event {
            self.planned = self.planned.saturating_sub(slots.count());
        }
        self.sum.add(event);
    }

    /// Notes how far the moves have come.
    pub(super) fn come(&mut self, progress: &MoveProgress) {
        self.left = progress.pairs.iter().copied().collect();
        self.total_left = Some(progress.total);
        self.state = progress.state;
    }

    /// Lines for output that is not a terminal: one for all pairs, and one for each that moves slots now.
    pub(super) fn lines(&self, progress: &MoveProgress) -> String {
        let total = &progress.total;
        let state = match progress.state {
            MoveState::Moving => "",
            MoveState::Measuring => "measuring the idle latency: ",
            MoveState::Pausing => "pausing: ",
            MoveState::Paused => "paused: ",
        };
        let mut lines = format!(
            "{state}{} of {}, {}, {} keys/s, {}/s{}\n",
            thousands(total.slots as u64),
            counted(total.slots_total as u64, "slot"),
            counted(total.keys, "key"),
            thousands(total.keys_per_second),
            bytes(total.bytes_per_second),
            rest(total),
        );
        if progress.pairs.len() > 1 {
            let shown = progress.pairs.iter().take(PAIRS_IN_LINES);
            for (pair, one) in shown {
                let (from, to) = (self.name(pair.from), self.name(pair.to));
                let (slots, all) = (thousands(one.slots as u64), one.slots_total as u64);
                let all = counted(all, "slot");
                // A string takes everything.
                let _ = writeln!(lines, "  {from} to {to}: {slots} of {all}{}", rest(one));
            }
        }
        lines
    }

    /// The width of the longest label.
    fn widest(&self) -> usize {
        let widths = self.names.values().map(|name| name.chars().count());
        widths.max().unwrap_or_default()
    }

    pub(super) fn name(&self, id: NodeId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.short())
    }
}

/// The bars of a terminal: one for each pair of nodes, one for the pairs that have ended, and their sum. All are drawn at
/// the same moment, so that the numbers add up.
#[derive(Debug)]
pub(super) struct Bars {
    multi: MultiProgress,
    total: ProgressBar,
    lanes: BTreeMap<Pair, Lane>,
    ended: Option<Ended>,
    room: Room,
    /// The width of the labels.
    label: usize,
    /// The width of the terminal.
    width: usize,
}

/// What fits into a line. A line that is wider than the terminal would become two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    /// Everything.
    Full,
    /// Everything but the keys and bytes that are left.
    Wide,
    /// The number of slots, keys a second, and the time and keys left.
    Medium,
    /// The same, without keys a second.
    Short,
    /// The percentage, and the time and keys left.
    Narrow,
    /// The same, without a bar.
    Slim,
    /// The percentage and the time left, without a bar.
    Bare,
    /// The same, without the number of slots.
    Least,
}

impl Room {
    fn of(width: usize, label: usize) -> Self {
        if width > label + FULL {
            Self::Full
        } else if width > label + WIDE {
            Self::Wide
        } else if width > label + MEDIUM {
            Self::Medium
        } else if width > label + SHORT {
            Self::Short
        } else if width > label + NARROW {
            Self::Narrow
        } else if width > label + SLIM {
            Self::Slim
        } else if width > label + BARE {
            Self::Bare
        } else {
            Self::Least
        }
    }

    fn style(self) -> ProgressStyle {
        let template = match self {
            Self::Full | Self::Wide => "{prefix} {bar:20} {msg}",
            Self::Medium | Self::Short | Self::Narrow => "{prefix} {bar:10} {msg}",
            // What does not fit is cut off.
            Self::Slim | Self::Bare | Self::Least => "{prefix} {wide_msg}",
        };
        // Falls back to indicatif's own style; the templates are constants.
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
    }
}

/// The numbers behind a bar.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    done: usize,
    planned: usize,
    /// Keys and bytes a second.
    rates: (u64, u64),
    /// What is left, once that is known.
    left: Option<Progress>,
    state: MoveState,
}

impl Shown {
    /// In columns, so that the numbers of all bars are aligned.
    fn text(self, room: Room) -> String {
        let (keys, volume) = self.rates;
        let of = format!(
            "{:>6} of {:>6} slots",
            thousands(self.done as u64),
            thousands(self.planned as u64)
        );
        let keys = thousands(keys);
        let left = match (self.state, self.left.and_then(|rest| rest.left)) {
            (MoveState::Paused, _) => "paused".to_string(),
            (MoveState::Pausing, _) => "pausing".to_string(),
            (MoveState::Measuring, _) => "measuring".to_string(),
            (MoveState::Moving, Some(left)) => format!("{} left", about(left)),
            (MoveState::Moving, None) => String::new(),
        };
        let with_keys = || match self.left {
            Some(rest) => format!("{left:>11}: {:>11} keys", thousands(rest.keys_left())),
            None => format!("{left:>11}"),
        };
        let percent = 100 * self.done / self.planned.max(1);
        match room {
            Room::Full | Room::Wide => {
                let wide = format!("{of} {keys:>9} keys/s {:>11}/s {left:>11}", bytes(volume));
                match (room, self.left) {
                    (Room::Full, Some(rest)) => format!(
                        "{wide}: {:>11} keys, {:>11}",
                        thousands(rest.keys_left()),
                        bytes(rest.bytes_left())
                    ),
                    _ => wide,
                }
            }
            Room::Medium => format!("{of} {keys:>9} keys/s {}", with_keys()),
            Room::Short => format!("{of} {}", with_keys()),
            Room::Narrow | Room::Slim => format!("{percent:>3}% {}", with_keys()),
            Room::Bare => {
                let planned = thousands(self.planned as u64);
                format!("{percent:>3}% of {planned:>6} {left:>11}")
            }
            Room::Least => format!("{percent:>3}% {left:>11}"),
        }
    }

    fn show(self, bar: &ProgressBar, room: Room) {
        bar.set_position(self.done as u64);
        bar.set_message(self.text(room).trim_end().to_string());
    }
}

#[derive(Debug)]
struct Lane {
    bar: ProgressBar,
    slots: usize,
    flow: Flow,
    /// The ASM task in hand, which moves slots all at once.
    task: Option<TaskProgress>,
}

impl Lane {
    fn shown(&self, now: Instant, left: Option<Progress>, state: MoveState) -> Shown {
        Shown {
            done: self.flow.slots,
            planned: self.slots,
            rates: self.flow.rates(now),
            left,
            state,
        }
    }
}

/// `task: 1,200 of 5,000 keys, 24%`, or the percentage alone.
fn task_text(task: TaskProgress, room: Room) -> String {
    match (room, task.percent) {
        (Room::Full | Room::Wide, _) | (_, None) => format!("task: {task}"),
        (_, Some(percent)) => format!("task: {percent}%"),
    }
}

/// The pairs whose lanes have ended. Failures are reported at the end of the command.
#[derive(Debug)]
struct Ended {
    bar: ProgressBar,
    lanes: usize,
    shown: Shown,
}

/// A bar that is not on the screen yet.
fn bar(label: &str, shown: Shown, room: Room) -> ProgressBar {
    let hidden = ProgressDrawTarget::hidden();
    let bar = ProgressBar::with_draw_target(Some(shown.planned as u64), hidden);
    bar.set_style(room.style());
    bar.set_prefix(label.to_string());
    shown.show(&bar, room);
    bar
}

impl Bars {
    pub(super) fn new(
        target: ProgressDrawTarget,
        width: usize,
        moving: &Moving,
        frame: Duration,
    ) -> Self {
        let multi = MultiProgress::with_draw_target(target);
        // Two labels and an arrow, or what stands in their place.
        let label = (2 * moving.widest() + 3).max(ENDED.len() + 7);
        let room = Room::of(width, label);
        let planned = moving.planned;
        let nothing = Shown {
            planned,
            ..Shown::default()
        };
        let total = multi.add(bar(&format!("{ALL:<label$}"), nothing, room));
        total.enable_steady_tick(frame);
        Self {
            multi,
            total,
            lanes: BTreeMap::new(),
            ended: None,
            room,
            label,
            width,
        }
    }

    /// Fits the bars into a terminal of another width.
    pub(super) fn resize(&mut self, width: usize) {
        if width == self.width {
            return;
        }
        self.width = width;
        self.room = Room::of(width, self.label);
        let lanes = self.lanes.values().map(|lane| &lane.bar);
        let ended = self.ended.as_ref().map(|ended| (&ended.bar, ended.shown));
        if let Some((bar, shown)) = ended {
            shown.show(bar, self.room);
        }
        let ended = ended.map(|(bar, _)| bar);
        for bar in lanes.chain(ended).chain([&self.total]) {
            bar.set_style(self.room.style());
        }
    }

    pub(super) fn event(&mut self, pair: Pair, event: &LaneEvent, moving: &mut Moving) {
        let now = Instant::now();
        match event {
            LaneEvent::Started { slots } => self.start(pair, *slots, moving),
            LaneEvent::Ended { .. } => self.end(pair),
            LaneEvent::TaskRetry { .. } | LaneEvent::Weighed { .. } => {}
            LaneEvent::TaskProgress(progress) => {
                if let Some(lane) = self.lanes.get_mut(&pair) {
                    lane.task = Some(*progress);
                }
            }
            LaneEvent::Skipped { slots, .. } => {
                if let Some(lane) = self.lanes.get_mut(&pair) {
                    lane.slots = lane.slots.saturating_sub(slots.count());
                    lane.bar.set_length(lane.slots as u64);
                }
                self.total.set_length(moving.planned as u64);
            }
            LaneEvent::Keys { .. } | LaneEvent::Slots { .. } => {
                if let Some(lane) = self.lanes.get_mut(&pair) {
                    lane.task = None;
                    lane.flow.add(event);
                }
            }
        }
        if moving.sum.is_due(now) {
            self.draw(moving, now);
        }
    }

    pub(super) fn draw(&mut self, moving: &mut Moving, now: Instant) {
        let mut rates = (0, 0);
        for (pair, lane) in &mut self.lanes {
            lane.flow.sample(now);
            let shown = lane.shown(now, moving.left.get(pair).copied(), moving.state);
            rates.0 += shown.rates.0;
            rates.1 += shown.rates.1;
            shown.show(&lane.bar, self.room);
            if let (Some(task), MoveState::Moving | MoveState::Pausing) = (lane.task, moving.state)
            {
                lane.bar.set_message(task_text(task, self.room));
            }
        }
        moving.sum.sample(now);
        let total = Shown {
            done: moving.sum.slots,
            planned: moving.planned,
            rates,
            left: moving.total_left,
            state: moving.state,
        };
        total.show(&self.total, self.room);
    }

    /// Adds a bar above the total.
    fn start(&mut self, pair: Pair, slots: usize, moving: &Moving) {
        // Labels are padded to the widest, so that the bars are aligned.
        let widest = moving.widest();
        let (from, to) = (moving.name(pair.from), moving.name(pair.to));
        let label = format!("{from:>widest$} → {to:<widest$}");
        let label = format!("{label:<width$}", width = self.label);
        let nothing = Shown {
            planned: slots,
            ..Shown::default()
        };
        let below = self.ended.as_ref().map_or(&self.total, |ended| &ended.bar);
        let bar = bar(&label, nothing, self.room);
        let bar = self.multi.insert_before(below, bar);
        // Shown now, not at the next event.
        bar.tick();
        let flow = Flow::default();
        self.lanes.insert(
            pair,
            Lane {
                bar,
                slots,
                flow,
                task: None,
            },
        );
    }

    /// Removes the bar of a lane; the one of all that have ended counts its slots.
    fn end(&mut self, pair: Pair) {
        let Some(lane) = self.lanes.remove(&pair) else {
            return;
        };
        let (lanes, mut shown) = match &self.ended {
            Some(ended) => (ended.lanes + 1, ended.shown),
            None => (1, Shown::default()),
        };
        shown.done += lane.flow.slots;
        shown.planned += lane.slots;
        let text = counted(lanes as u64, ENDED);
        let label = format!("{text:<width$}", width = self.label);
        match &mut self.ended {
            Some(ended) => {
                (ended.lanes, ended.shown) = (lanes, shown);
                ended.bar.set_length(shown.planned as u64);
                ended.bar.set_prefix(label);
                shown.show(&ended.bar, self.room);
            }
            // It is never on the screen without its label and its numbers.
            None => {
                let bar = bar(&label, shown, self.room);
                let bar = self.multi.insert_before(&self.total, bar);
                self.ended = Some(Ended { bar, lanes, shown });
            }
        }
        lane.bar.finish_and_clear();
        self.multi.remove(&lane.bar);
    }

    pub(super) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.multi.suspend(write)
    }

    pub(super) fn clear(self) {
        for lane in self.lanes.into_values() {
            lane.bar.finish_and_clear();
        }
        if let Some(ended) = self.ended {
            ended.bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;
    use crate::cluster::slot::Slot;

    fn pair(from: char, to: char) -> Pair {
        let id = |digit: char| digit.to_string().repeat(40).parse().unwrap();
        Pair {
            from: id(from),
            to: id(to),
        }
    }

    /// The done and planned slots of the lanes, those that have ended, and the total.
    fn sums(bars: &Bars) -> ((u64, u64), (u64, u64)) {
        let of = |bar: &ProgressBar| (bar.position(), bar.length().unwrap());
        let lanes = bars.lanes.values().map(|lane| of(&lane.bar));
        let ended = bars.ended.iter().map(|ended| of(&ended.bar));
        let sum = lanes
            .chain(ended)
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        (sum, of(&bars.total))
    }

    #[test]
    fn lanes_add_up_to_the_total() {
        let mut moving = Moving {
            planned: 30,
            ..Moving::default()
        };
        let hidden = ProgressDrawTarget::hidden();
        let mut bars = Bars::new(hidden, 120, &moving, Duration::from_secs(60));
        let (one, two) = (pair('a', 'b'), pair('a', 'c'));
        let moved = |start: u16, end: u16| LaneEvent::Slots {
            moved: (start..=end).filter_map(Slot::new).collect(),
        };
        let events = [
            (one, LaneEvent::Started { slots: 10 }),
            (two, LaneEvent::Started { slots: 20 }),
            (one, moved(0, 6)),
            (two, moved(100, 102)),
            (one, moved(7, 9)),
            (
                one,
                LaneEvent::Ended {
                    failure: None,
                    write_pause: None,
                },
            ),
            (two, moved(103, 110)),
        ];
        for (pair, event) in events {
            moving.add(&event);
            bars.event(pair, &event, &mut moving);
            bars.draw(&mut moving, Instant::now());
            let (lanes, total) = sums(&bars);
            assert_eq!(lanes.0, total.0);
        }
        assert_eq!(sums(&bars), ((21, 30), (21, 30)));
    }

    #[test]
    fn bars_get_full_without_the_slots_that_are_skipped() {
        let mut moving = Moving {
            planned: 30,
            ..Moving::default()
        };
        let hidden = ProgressDrawTarget::hidden();
        let mut bars = Bars::new(hidden, 120, &moving, Duration::from_secs(60));
        let (one, two) = (pair('a', 'b'), pair('a', 'c'));
        let slots = |start: u16, end: u16| (start..=end).filter_map(Slot::new).collect();
        for (pair, event) in [
            (one, LaneEvent::Started { slots: 10 }),
            (two, LaneEvent::Started { slots: 20 }),
            (
                one,
                LaneEvent::Skipped {
                    slots: slots(0, 1),
                    keys: 2,
                    bytes: 2 << 30,
                },
            ),
            (one, LaneEvent::Slots { moved: slots(2, 9) }),
        ] {
            moving.add(&event);
            bars.event(pair, &event, &mut moving);
            bars.draw(&mut moving, Instant::now());
        }
        assert_eq!(sums(&bars), ((8, 28), (8, 28)));
        let lane = &bars.lanes[&one].bar;
        assert_eq!((lane.position(), lane.length()), (8, Some(8)));
        assert!(
            lane.message().contains("8 of      8 slots"),
            "{}",
            lane.message()
        );
    }

    /// Remembers what is drawn.
    #[derive(Debug, Clone, Default)]
    struct Recorder(Arc<Mutex<Vec<String>>>);

    impl TermLike for Recorder {
        fn width(&self) -> u16 {
            120
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write_str(line)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push(text.to_string());
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_bar_has_a_label_and_slots() {
        let mut moving = Moving {
            planned: 30,
            ..Moving::default()
        };
        let drawn = Recorder::default();
        let target = ProgressDrawTarget::term_like_with_hz(Box::new(drawn.clone()), 255);
        let mut bars = Bars::new(target, 120, &moving, Duration::from_secs(60));
        let (one, two) = (pair('a', 'b'), pair('a', 'c'));
        let ended = || LaneEvent::Ended {
            failure: None,
            write_pause: None,
        };
        for (pair, event) in [
            (one, LaneEvent::Started { slots: 10 }),
            (two, LaneEvent::Started { slots: 20 }),
            (one, ended()),
            (two, ended()),
        ] {
            moving.add(&event);
            bars.event(pair, &event, &mut moving);
            std::thread::sleep(Duration::from_millis(20));
            bars.draw(&mut moving, Instant::now());
        }
        let drawn = drawn.0.lock().unwrap();
        let bars: Vec<&String> = drawn.iter().filter(|line| line.contains(" of ")).collect();
        assert!(bars.iter().any(|line| line.starts_with("1 finished pair ")));
        assert!(
            bars.iter()
                .any(|line| line.starts_with("2 finished pairs "))
        );
        for line in bars {
            assert!(!line.starts_with(' '), "{line:?}");
            assert!(!line.contains(" of      0 slots"), "{line:?}");
        }
    }

    #[test]
    fn a_line_for_all_and_one_for_each_pair() {
        let moving = Moving::default();
        let far = Progress {
            slots: 1_200,
            slots_total: 5_461,
            keys: 30_000,
            keys_total: 100_000,
            bytes: 3 << 20,
            bytes_total: 10 << 20,
            keys_per_second: 26_000,
            bytes_per_second: 2 << 20,
            left: Some(Duration::from_secs(300)),
        };
        let mut progress = MoveProgress {
            state: MoveState::Moving,
            pairs: vec![(pair('a', 'b'), far)],
            total: far,
        };
        let total = "1,200 of 5,461 slots, 30,000 keys, 26,000 keys/s, 2.0 MiB/s, 70,000 keys and 7.0 MiB to go, \
                     5 min left\n";
        assert_eq!(moving.lines(&progress), total);
        let waits = Progress {
            slots_total: 9,
            ..Progress::default()
        };
        progress.pairs.push((pair('a', 'c'), waits));
        let lines = moving.lines(&progress);
        let pairs = "  aaaaaaaa to bbbbbbbb: 1,200 of 5,461 slots, 70,000 keys and 7.0 MiB to go, 5 min left\n  \
                     aaaaaaaa to cccccccc: 0 of 9 slots, 0 keys and 0 B to go\n";
        assert_eq!(lines, format!("{total}{pairs}"));
        progress.state = MoveState::Paused;
        assert!(
            moving
                .lines(&progress)
                .starts_with("paused: 1,200 of 5,461")
        );
    }

    #[test]
    fn numbers_stand_below_each_other() {
        let few = Shown {
            done: 1,
            planned: 9,
            ..Shown::default()
        };
        let many = Shown {
            done: 16_384,
            planned: 16_384,
            rates: (1_234_567, 99 << 20),
            left: Some(Progress {
                keys_total: 999_999_999,
                bytes_total: 99 << 30,
                left: Some(Duration::from_secs(99)),
                ..Progress::default()
            }),
            state: MoveState::Moving,
        };
        for (room, width) in [
            (Room::Full, FULL - 21),
            (Room::Wide, WIDE - 21),
            (Room::Medium, MEDIUM - 12),
            (Room::Short, SHORT - 12),
            (Room::Narrow, NARROW - 12),
            (Room::Slim, SLIM),
            (Room::Bare, BARE),
            (Room::Least, 16),
        ] {
            let (few, many) = (few.text(room), many.text(room));
            assert_eq!(few.find(" of "), many.find(" of "));
            assert_eq!(few.find("keys/s"), many.find("keys/s"));
            assert!(many.contains("99 s left"), "{many}");
            assert!(many.chars().count() <= width, "{many}");
        }
    }

    #[test]
    fn a_narrow_terminal_has_no_room_for_rates() {
        let label = "127.0.0.1:30001 → 127.0.0.1:30004".chars().count();
        assert_eq!(Room::of(120, label), Room::Medium);
        assert_eq!(Room::of(100, label), Room::Short);
        assert_eq!(Room::of(80, label), Room::Narrow);
        assert_eq!(Room::of(60, label), Room::Bare);
        assert_eq!(Room::of(80, label + 10), Room::Slim);
        assert_eq!(Room::of(60, label + 10), Room::Least);
    }

    #[test]
    fn a_terminal_of_80_columns_tells_the_percentage_and_what_is_left() {
        let mut shown = Shown {
            done: 1_200,
            planned: 5_461,
            left: Some(Progress {
                keys_total: 70_000,
                left: Some(Duration::from_secs(300)),
                ..Progress::default()
            }),
            ..Shown::default()
        };
        let text = " 21%  5 min left:      70,000 keys";
        assert_eq!(shown.text(Room::Narrow), text);
        assert_eq!(shown.text(Room::Slim), text);
        shown.state = MoveState::Paused;
        let text = " 21%      paused:      70,000 keys";
        assert_eq!(shown.text(Room::Narrow), text);
    }

    #[test]
    fn bars_fit_again_after_a_resize() {
        let mut moving = Moving::default();
        let names = [("a", "127.0.0.1:30001"), ("b", "127.0.0.1:30004")];
        let id = |digit: &str| digit.repeat(40).parse().unwrap();
        moving.names = names.map(|(n, name)| (id(n), name.to_string())).into();
        let hidden = ProgressDrawTarget::hidden();
        let mut bars = Bars::new(hidden, 120, &moving, Duration::from_secs(60));
        let one = pair('a', 'b');
        bars.event(one, &LaneEvent::Started { slots: 10 }, &mut moving);
        for width in [120, 80, 60, 200] {
            bars.resize(width);
            bars.draw(&mut moving, Instant::now());
            let bar = match bars.room {
                Room::Full | Room::Wide => 21,
                Room::Medium | Room::Short | Room::Narrow => 11,
                Room::Slim | Room::Bare | Room::Least => 0,
            };
            for line in [&bars.total, &bars.lanes[&one].bar] {
                let text = line.prefix() + &line.message();
                let columns = text.chars().count() + 1 + bar;
                assert!(columns <= width, "{columns} of {width}: {text}");
            }
        }
    }
}
