//! `redis-trib throttle [RUN]`: changes a run that moves slots, while it runs.

use std::time::Duration;

use crate::change::Global;
use crate::control::values::{Limit, duration, node_pairs, rate};
use crate::control::{Change, Flow, Rate};
use crate::exit_code::ExitCode;
use crate::ops::throttle::throttle;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Arguments of `throttle`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The same user on the same host can change a run, from its first slot until it ends. Without\n\
    options, the settings are shown. RUN is needed where several runs move slots.\n\n\
    A paused run has no slot open and moves no key. First it finishes the slots or the task in\n\
    progress: an ASM task that runs is not cancelled, and no other one begins. The rate of ASM\n\
    tasks is kept between tasks, not within one.\n\nExamples:\n  \
    redis-trib throttle                                  # which runs there are, and their settings\n  \
    redis-trib throttle --rate 5000 --max-latency 5ms\n  \
    redis-trib throttle 5f3a09c1 --pause"
)]
pub struct Args {
    /// The run: its id, or the beginning of it, in upper or lower case.
    #[arg(value_name = "RUN", value_parser = run_name)]
    run: Option<String>,
    /// Limit of keys (5000) or bytes (10MiB) per second over all pairs, or off.
    #[arg(long, value_name = "N|SIZE|off", value_parser = rate_limit)]
    rate: Option<Limit<Rate>>,
    /// How many pairs of nodes move slots at a time, or off for the default.
    #[arg(long, alias = "lanes", value_name = "N|off", value_parser = pairs_limit)]
    node_pairs: Option<Limit<usize>>,
    /// By how much the move may delay other clients of its nodes, or off.
    #[arg(long, value_name = "TIME|off", value_parser = latency_limit)]
    max_latency: Option<Limit<Duration>>,
    /// Pause: open no slot.
    #[arg(long, conflicts_with = "resume")]
    pause: bool,
    /// Go on after a pause.
    #[arg(long)]
    resume: bool,
}

fn run_name(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !text.is_empty() && text.len() <= 64 && text.chars().all(is_name) {
        true => Ok(text.to_string()),
        false => Err("not the name of a run: redis-trib throttle lists them".to_string()),
    }
}

fn rate_limit(text: &str) -> Result<Limit<Rate>, String> {
    Limit::parse(text, rate)
}

fn pairs_limit(text: &str) -> Result<Limit<usize>, String> {
    Limit::parse(text, node_pairs)
}

fn latency_limit(text: &str) -> Result<Limit<Duration>, String> {
    Limit::parse(text, duration)
}

impl Args {
    fn change(&self) -> Change {
        Change {
            rate: self.rate,
            node_pairs: self.node_pairs,
            max_latency: self.max_latency,
            flow: match (self.pause, self.resume) {
                (true, _) => Some(Flow::Paused),
                (_, true) => Some(Flow::Moving),
                _ => None,
            },
        }
    }
}

/// Changes a run, or shows the runs.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let view = global
        .local(ui, async |events| {
            throttle(args.run.as_deref(), args.change(), events).await
        })
        .await?;
    ui.throttle(&view)?;
    Ok(ExitCode::Done)
}
