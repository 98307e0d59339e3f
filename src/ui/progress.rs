//! How far the work is.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Asides;
use super::lanes::{Bars, Moving};
use super::move_slots::{MovesView, per_second};
use super::screen::screen;
use super::style::{bytes, thousands};
use crate::event::{Amount, Event, LaneEvent, Pair, Phase, Unit};

/// How progress looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Not at all.
    Silent,
    /// A spinner that moves; a line for each part that is done.
    Spinner,
    /// A line now and then.
    Lines,
    /// redis-trib.rb's lines, and its dots.
    Dots,
}

/// How often a wait without a terminal says how far it is.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// How often redis-trib.rb wrote a dot.
const DOT_EVERY: Duration = Duration::from_secs(1);
const FRAME: Duration = Duration::from_millis(100);

/// The progress of one command.
#[derive(Debug)]
pub(super) struct Progress {
    look: Look,
    asides: Asides,
    current: Option<Part>,
    moving: Moving,
}

/// The part of the work in hand.
#[derive(Debug)]
struct Part {
    phase: Phase,
    began: Instant,
    /// When something was last written about it.
    said: Instant,
    display: Display,
}

#[derive(Debug)]
enum Display {
    /// Everything said stands on lines of its own.
    Complete,
    /// Dots may follow on the same line.
    OpenLine,
    Spinner(ProgressBar),
    Bars(Bars),
}

impl Progress {
    pub(super) fn new(look: Look, asides: Asides) -> Self {
        Self {
            look,
            asides,
            current: None,
            moving: Moving::default(),
        }
    }

    /// What the moves that begin next are.
    pub(super) fn plan(&mut self, view: &MovesView) {
        self.moving.plan(view);
    }

    /// Shows what happened, as far as it shows.
    pub(super) fn event(&mut self, event: &Event) {
        match *event {
            Event::Hint(_) | Event::Warning(_) | Event::WaitingFor(_) => {}
            Event::Added { .. } | Event::FailedOver(_) | Event::Fixed(_) => {}
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
            // The plan has said both.
            Event::SlotsAdded { .. } | Event::Replicates { .. } | Event::Left { .. } => {}
            Event::Lane { lane, ref event } => self.lane(lane, event),
            Event::Amount(amount) => self.amount(amount),
        }
    }

    /// The part in hand has come to its end.
    pub(super) fn finish(&mut self) {
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

    /// The part in hand was broken off.
    pub(super) fn abandon(&mut self) {
        match self.current.take().map(|part| part.display) {
            None | Some(Display::Complete) => {}
            Some(Display::OpenLine) => self.asides.write("\n"),
            Some(Display::Spinner(bar)) => bar.finish_and_clear(),
            Some(Display::Bars(bars)) => bars.clear(),
        }
    }

    /// Does something that writes to the terminal, and keeps the two apart.
    pub(super) fn aside<T>(&mut self, write: impl FnOnce() -> T) -> T {
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
                let (_, width) = console::Term::stderr().size();
                Display::Bars(Bars::new(usize::from(width), &self.moving, FRAME))
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

    /// Slots and keys on their way.
    fn lane(&mut self, lane: Pair, event: &LaneEvent) {
        self.moving.add(event);
        let Some(part) = &mut self.current else {
            return;
        };
        match (self.look, &mut part.display) {
            (_, Display::Bars(bars)) => bars.event(lane, event, &mut self.moving),
            (Look::Lines | Look::Dots, _) if part.said.elapsed() >= LINE_EVERY => {
                self.asides.write(&format!("{}\n", self.moving.line()));
                part.said = Instant::now();
            }
            _ => {}
        }
    }

    /// Work in many small parts.
    fn amount(&mut self, amount: Amount) {
        if self
            .current
            .as_ref()
            .is_none_or(|part| part.phase != amount.phase)
        {
            self.begin(amount.phase);
        }
        let Some(part) = &mut self.current else {
            return;
        };
        let began = part.began.elapsed();
        let far = || format!("{}: {}", doing(amount.phase), so_far(&amount, began));
        match (self.look, &part.display) {
            (_, Display::Spinner(bar)) => bar.set_message(far()),
            (Look::Dots | Look::Lines, _) if part.said.elapsed() >= LINE_EVERY => {
                self.asides.write(&format!("{}\n", far()));
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
            (_, Display::Spinner(bar)) => bar.set_message(far()),
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

/// `1 200 of 5 000 keys, 400 a second`.
fn so_far(amount: &Amount, took: Duration) -> String {
    let shown = |count| match amount.unit {
        Unit::Keys => thousands(count),
        Unit::Bytes => bytes(count),
    };
    let of = match amount.total {
        Some(total) => format!(" of {}", shown(total)),
        None => String::new(),
    };
    let noun = match amount.unit {
        Unit::Keys => " keys",
        Unit::Bytes => "",
    };
    let speed = shown(per_second(amount.done, took));
    format!("{}{of}{noun}, {speed} a second", shown(amount.done))
}

fn spinner(phase: Phase) -> Display {
    let bar = ProgressBar::with_draw_target(None, screen());
    // The template is a constant; one that can't be read leaves indicatif's own.
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
        bar.set_style(style);
    }
    bar.set_message(doing(phase));
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
        Phase::Fetch | Phase::Verify | Phase::Copy => {
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
        Phase::AddSlots => "giving the masters their slots",
        Phase::SetEpochs => "giving every node a config epoch of its own",
        Phase::Meet => "telling the nodes to meet",
        Phase::Join => "waiting for every node to know every other",
        Phase::Replicate => "telling the replicas their masters",
        Phase::TakeOver => "the replica takes over",
        Phase::Move => "moving slots",
        Phase::Fix => "putting right what nodes say",
        Phase::Leave => "the nodes leave: FORGET on all others, RESET on them",
        Phase::Fetch => "fetching the masters' data",
        Phase::Verify => "reading the files of the backup",
        Phase::Copy => "writing keys into the cluster",
        Phase::Agree => "waiting for all nodes to agree about slots and roles",
        Phase::Usable => "waiting for cluster_state:ok and for every replica's copy",
    }
}

fn done(phase: Phase) -> &'static str {
    match phase {
        Phase::Reset => "the new nodes were reset",
        Phase::Functions => "the new nodes have the functions",
        Phase::AddSlots => "the masters have their slots",
        Phase::SetEpochs => "every node has a config epoch of its own",
        Phase::Meet => "the nodes were told to meet",
        Phase::Join => "every node knows every other",
        Phase::Replicate => "the replicas know their masters",
        Phase::TakeOver => "the replica has taken over",
        Phase::Move => "the slots have moved",
        Phase::Fix => "what nodes say is put right",
        Phase::Leave => "the nodes have left",
        Phase::Fetch => "the masters' data are here",
        Phase::Verify => "the files of the backup were read",
        Phase::Copy => "the keys are in the cluster",
        Phase::Agree => "all nodes agree about slots and roles",
        Phase::Usable => "every node says cluster_state:ok, every replica has its copy",
    }
}
