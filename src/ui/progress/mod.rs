//! The progress of a command.

mod amounts;
mod lanes;
mod screen;

use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::streams::Asides;
use super::style::thousands;
use crate::cluster::node::NodeId;
use crate::event::{AmountProgress, Event, LaneEvent, MoveProgress, MoveState, Pair, Phase};
use crate::report::{MemberView, MovesView};
use crate::ui::Mode;
use lanes::{Bars, Moving};
use screen::screen;

/// How progress looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing is shown.
    Silent,
    /// A spinner, and a line for each part that is done.
    Spinner,
    /// A line every few seconds.
    Lines,
    /// redis-trib.rb's lines and dots.
    Dots,
}

/// The interval between lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// The same while nothing moves.
const PAUSED_LINE_EVERY: Duration = Duration::from_secs(60);
/// The interval between redis-trib.rb's dots.
const DOT_EVERY: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(100);

/// The progress of one command.
#[derive(Debug)]
pub(super) struct Progress {
    look: Look,
    asides: Asides,
    current: Option<Part>,
    /// The spinner of a wait that no phase belongs to.
    wait: Option<ProgressBar>,
    moving: Moving,
    /// Whether each slot that has moved gets a line, as in redis-cli.
    tells_slots: bool,
}

/// The part of the work in hand.
#[derive(Debug)]
struct Part {
    phase: Phase,
    began: Instant,
    /// When its last line was written.
    said: Instant,
    display: Display,
}

#[derive(Debug)]
enum Display {
    /// The cursor is at the start of a line.
    Complete,
    /// The cursor is behind a text; dots may follow.
    OpenLine,
    Spinner(ProgressBar),
    Bars(Box<Bars>),
}

impl Progress {
    pub(super) fn new(look: Look, asides: Asides, mode: Mode) -> Self {
        Self {
            look,
            asides,
            current: None,
            wait: None,
            moving: Moving::default(),
            tells_slots: mode.is_old(),
        }
    }

    /// The nodes of the cluster, for moves that no plan has shown.
    pub(super) fn nodes(&mut self, nodes: &[MemberView]) {
        self.moving.nodes(nodes);
    }

    /// The moves that begin next.
    pub(super) fn plan(&mut self, view: &MovesView) {
        self.moving.plan(view);
    }

    /// The same for moves whose slots are not told one by one.
    pub(super) fn plan_pairs(&mut self, view: &MovesView) {
        self.tells_slots = false;
        self.plan(view);
    }

    /// The label of a node.
    pub(super) fn name(&self, id: NodeId) -> String {
        self.moving.name(id)
    }

    /// Shows an event.
    pub(super) fn event(&mut self, event: &Event) {
        match *event {
            Event::Hint(_) | Event::Note(_) | Event::Warning(_) => {}
            Event::WaitingFor(_) | Event::Waited { .. } => {}
            Event::Added { .. } | Event::FailedOver(_) | Event::Fixed(_) => {}
            Event::Restarting { .. } | Event::Restarted(_) | Event::HookOutput { .. } => {}
            Event::Phase(phase) => self.begin(phase),
            Event::Waiting {
                phase,
                ready,
                total,
            } => {
                if self.current.as_ref().is_none_or(|part| part.phase != phase) {
                    self.begin(phase);
                }
                self.waiting(ready, total);
            }
            // The plan has shown these.
            Event::SlotsAdded { .. } | Event::Replicates { .. } | Event::Left { .. } => {}
            Event::Lane { lane, ref event } => self.lane(lane, event),
            Event::MoveProgress(ref progress) => self.moves(progress),
            Event::Amount(ref progress) => self.amount(progress),
        }
    }

    /// Shows what is waited for on a terminal; returns whether that was done.
    pub(super) fn wait(&mut self, text: &str, left: Duration) -> bool {
        if self.look != Look::Spinner {
            return false;
        }
        let bar = self.wait.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, screen());
            // What does not fit is cut off: a second line would stay on the screen.
            if let Ok(style) = ProgressStyle::with_template("{spinner} {left} left, {wide_msg}") {
                let deadline = Instant::now() + left;
                // Counted down at each frame: the next call may be seconds away.
                let style =
                    style.with_key("left", move |_: &ProgressState, out: &mut dyn Write| {
                        let left = deadline.saturating_duration_since(Instant::now());
                        let _ = out.write_str(&seconds(left));
                    });
                bar.set_style(style);
            }
            bar.set_message(text.to_string());
            bar.enable_steady_tick(FRAME);
            bar
        });
        bar.set_message(text.to_string());
        true
    }

    fn end_wait(&mut self) {
        if let Some(bar) = self.wait.take() {
            bar.finish_and_clear();
        }
    }

    /// Ends the part in hand.
    pub(super) fn finish(&mut self) {
        self.end_wait();
        let Some(part) = self.current.take() else {
            return;
        };
        match part.display {
            Display::Complete => return,
            Display::OpenLine => return self.asides.write("\n"),
            Display::Spinner(bar) => bar.finish_and_clear(),
            Display::Bars(bars) => bars.clear(),
        }
        let seconds = part.began.elapsed().as_secs_f64();
        self.asides
            .write(&format!("{} ({seconds:.1} s)\n", done(part.phase)));
    }

    /// Removes the display of the part in hand, which did not end.
    pub(super) fn abandon(&mut self) {
        self.end_wait();
        match self.current.take().map(|part| part.display) {
            None | Some(Display::Complete) => {}
            Some(Display::OpenLine) => self.asides.write("\n"),
            Some(Display::Spinner(bar)) => bar.finish_and_clear(),
            Some(Display::Bars(bars)) => bars.clear(),
        }
    }

    /// Runs a function that writes to the terminal while the display is out of the way.
    pub(super) fn aside<T>(&mut self, write: impl FnOnce() -> T) -> T {
        if let Some(bar) = &self.wait {
            return bar.suspend(write);
        }
        match self.current.as_mut().map(|part| &mut part.display) {
            None | Some(Display::Complete) => write(),
            Some(display @ Display::OpenLine) => {
                self.asides.write("\n");
                *display = Display::Complete;
                write()
            }
            Some(Display::Spinner(bar)) => bar.suspend(write),
            Some(Display::Bars(bars)) => bars.suspend(write),
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.finish();
        self.moving.begin();
        let display = match self.look {
            Look::Silent => Display::Complete,
            Look::Spinner if phase == Phase::Move => {
                let bars = Bars::new(screen(), width(), &self.moving, FRAME);
                Display::Bars(Box::new(bars))
            }
            Look::Spinner => spinner(phase),
            Look::Lines => {
                self.asides.write(&format!("{}\n", doing(phase)));
                Display::Complete
            }
            Look::Dots => classic(phase, self.asides),
        };
        let now = Instant::now();
        self.current = Some(Part {
            phase,
            began: now,
            said: now,
            display,
        });
    }

    /// Shows an event of a lane.
    fn lane(&mut self, lane: Pair, event: &LaneEvent) {
        self.moving.add(event);
        if let (Look::Dots, true, LaneEvent::Slots { moved }) = (self.look, self.tells_slots, event)
        {
            let (from, to) = (self.moving.name(lane.from), self.moving.name(lane.to));
            let lines: String = moved
                .iter()
                .map(|slot| format!("Moving slot {slot} from {from} to {to}: \n"))
                .collect();
            let asides = self.asides;
            self.aside(|| asides.write(&lines));
            return;
        }
        let Some(part) = &mut self.current else {
            return;
        };
        if let Display::Bars(bars) = &mut part.display {
            bars.event(lane, event, &mut self.moving);
        }
    }

    /// Shows how far the moves have come.
    fn moves(&mut self, progress: &MoveProgress) {
        self.moving.come(progress);
        let Some(part) = &mut self.current else {
            return;
        };
        match (self.look, &mut part.display) {
            (_, Display::Bars(bars)) => {
                bars.resize(width());
                bars.draw(&mut self.moving, Instant::now());
            }
            (Look::Lines | Look::Dots, _) if part.said.elapsed() >= lines_every(progress.state) => {
                self.asides.write(&self.moving.lines(progress));
                part.said = Instant::now();
            }
            _ => {}
        }
    }

    /// Shows the progress of work in many small steps.
    fn amount(&mut self, progress: &AmountProgress) {
        if self
            .current
            .as_ref()
            .is_none_or(|part| part.phase != progress.phase)
        {
            self.begin(progress.phase);
        }
        let Some(part) = &mut self.current else {
            return;
        };
        match (self.look, &part.display) {
            (_, Display::Spinner(bar)) => {
                bar.set_prefix(amounts::sum(doing(progress.phase), progress));
                bar.set_message(amounts::above(progress, width()));
            }
            (Look::Dots | Look::Lines, _) if part.said.elapsed() >= LINE_EVERY => {
                let sum = amounts::sum(doing(progress.phase), progress);
                let lines = [vec![sum], amounts::parts(progress)].concat();
                self.asides.write(&format!("{}\n", lines.join("\n")));
                part.said = Instant::now();
            }
            _ => {}
        }
    }

    fn waiting(&mut self, ready: usize, total: usize) {
        let Some(part) = &mut self.current else {
            return;
        };
        let far = || format!("{}: {ready} of {total}", doing(part.phase));
        match (self.look, &part.display) {
            (Look::Silent, _) => {}
            (_, Display::Spinner(bar)) => bar.set_prefix(far()),
            (Look::Dots, display) if part.said.elapsed() >= DOT_EVERY => {
                if matches!(display, Display::Complete) {
                    part.display = Display::OpenLine;
                }
                self.asides.write(".");
                part.said = Instant::now();
            }
            (Look::Lines, _) if part.said.elapsed() >= LINE_EVERY => {
                self.asides.write(&format!(
                    "{} ({} s)\n",
                    far(),
                    part.began.elapsed().as_secs()
                ));
                part.said = Instant::now();
            }
            (Look::Dots | Look::Lines | Look::Spinner, _) => {}
        }
    }
}

/// The width of the terminal.
fn width() -> usize {
    let (_, width) = console::Term::stderr().size();
    usize::from(width)
}

/// The interval between two lines about moves.
fn lines_every(state: MoveState) -> Duration {
    match state {
        MoveState::Moving | MoveState::Measuring | MoveState::Pausing => LINE_EVERY,
        MoveState::Paused => PAUSED_LINE_EVERY,
    }
}

/// The seconds that are left: `5 s`.
pub(super) fn seconds(left: Duration) -> String {
    format!("{} s", thousands(left.as_secs_f64().ceil() as u64))
}

fn spinner(phase: Phase) -> Display {
    let bar = ProgressBar::with_draw_target(None, screen());
    // The template is a constant; one that can't be read leaves indicatif's own.
    if let Ok(style) = ProgressStyle::with_template("{msg}{spinner} {prefix} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_prefix(doing(phase));
    bar.enable_steady_tick(FRAME);
    Display::Spinner(bar)
}

/// redis-trib.rb's lines (walkthrough), as far as it had one for the phase.
fn classic(phase: Phase, asides: Asides) -> Display {
    let say = |text| asides.write(text);
    match phase {
        Phase::AddSlots | Phase::Replicate | Phase::Fix => Display::Complete,
        Phase::TakeOver => {
            say(">>> Sending CLUSTER FAILOVER\n");
            Display::Complete
        }
        Phase::Reset => {
            say(">>> Resetting the new nodes\n");
            Display::Complete
        }
        Phase::Functions => {
            say(">>> Copying functions to the new nodes\n");
            Display::Complete
        }
        Phase::Move => {
            say(">>> Moving slots\n");
            Display::Complete
        }
        Phase::Fetch | Phase::Verify | Phase::FindCollisions | Phase::Copy | Phase::Compare => {
            say(&format!(">>> {}\n", doing(phase)));
            Display::Complete
        }
        Phase::SetEpochs => {
            say(">>> Nodes configuration updated\n");
            say(">>> Assign a different config epoch to each node\n");
            Display::Complete
        }
        Phase::Meet => {
            say(">>> Sending CLUSTER MEET messages to join the cluster\n");
            Display::Complete
        }
        Phase::Join => {
            say("Waiting for the cluster to join");
            Display::OpenLine
        }
        Phase::Leave => {
            say(">>> Sending CLUSTER FORGET messages to the cluster...\n");
            Display::Complete
        }
        Phase::ResetSoft => {
            say(">>> Sending CLUSTER RESET SOFT to the deleted node.\n");
            Display::Complete
        }
        Phase::ShutDown => {
            say(">>> SHUTDOWN the node.\n");
            Display::Complete
        }
        Phase::Agree => {
            say("Waiting for all nodes to agree");
            Display::OpenLine
        }
        Phase::Usable => {
            say("Waiting for the cluster to be usable");
            Display::OpenLine
        }
    }
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Reset => "resetting the new nodes",
        Phase::Functions => "copying functions to the new nodes",
        Phase::AddSlots => "assigning slots to the masters",
        Phase::SetEpochs => "setting a different config epoch on each node",
        Phase::Meet => "sending CLUSTER MEET to the nodes",
        Phase::Join => "waiting for every node to know every other",
        Phase::Replicate => "attaching replicas to their masters",
        Phase::TakeOver => "failing over to the replica",
        Phase::Move => "moving slots",
        Phase::Fix => "fixing slot owners and node tables",
        Phase::Leave => "removing the nodes: FORGET on the others, RESET on the nodes",
        Phase::ResetSoft => "resetting the nodes that have left",
        Phase::ShutDown => "shutting down the nodes that have left",
        Phase::Fetch => "fetching the masters' data",
        Phase::Verify => "reading the files",
        Phase::FindCollisions => "looking for names that collide",
        Phase::Copy => "writing keys into the cluster",
        Phase::Compare => "comparing keys",
        Phase::Agree => "waiting for all nodes to agree about slots and roles",
        Phase::Usable => "waiting for cluster_state:ok and for replicas to sync",
    }
}

fn done(phase: Phase) -> &'static str {
    match phase {
        Phase::Reset => "the new nodes were reset",
        Phase::Functions => "the new nodes have the functions",
        Phase::AddSlots => "slots are assigned to the masters",
        Phase::SetEpochs => "each node has a different config epoch",
        Phase::Meet => "CLUSTER MEET was sent to the nodes",
        Phase::Join => "every node knows every other",
        Phase::Replicate => "replicas are attached to their masters",
        Phase::TakeOver => "the replica has taken over",
        Phase::Move => "the slots have moved",
        Phase::Fix => "slot owners and node tables are fixed",
        Phase::Leave => "the nodes have left",
        Phase::ResetSoft => "the nodes that have left were reset",
        Phase::ShutDown => "the nodes that have left were shut down",
        Phase::Fetch => "the masters' data are fetched",
        Phase::Verify => "the files were read",
        Phase::FindCollisions => "names that collide were looked for",
        Phase::Copy => "the keys are in the cluster",
        Phase::Compare => "the keys were compared",
        Phase::Agree => "all nodes agree about slots and roles",
        Phase::Usable => "all nodes report cluster_state:ok; all replicas are in sync",
    }
}
