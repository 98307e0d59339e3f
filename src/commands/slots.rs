//! `redis-trib slots NODE`: the load of slots.

use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::{duration, number};
use crate::change::{Approval, Change, Global, Look, Proposal, Question};
use crate::cluster::slot::SLOTS;
use crate::cluster::slot_stats::Metric;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::slots::{self, HeatRequest, StatisticsPlan};
use crate::report::HeatView;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `slots`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The load comes from CLUSTER SLOT-STATS (Redis ≥ 8.2, Valkey ≥ 8.0), sampled twice for cpu\nand \
    network. These need cluster-slot-stats-enabled: --enable-stats turns it on for the sample,\nand restores it, \
    also after Ctrl-C.\nExit code 1: some masters could not be measured. Exit code 3: none could.\n\nExamples:\n  \
    redis-trib slots 10.0.0.3\n  \
    redis-trib slots 10.0.0.3 --by network --for 30s --top 20 --output json\n  \
    redis-trib slots 10.0.0.3 --enable-stats --yes"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// What to measure.
    #[arg(long, value_name = "WHAT", default_value = "cpu")]
    by: ByArg,
    /// How long to measure cpu and network.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    time: Duration,
    /// How many slots to show.
    #[arg(long, value_name = "N", default_value = "10", value_parser = number("slots", 1..=SLOTS))]
    top: u16,
    /// Turn the statistics on for the time of the sample.
    #[arg(long)]
    enable_stats: bool,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes", requires = "enable_stats")]
    yes: bool,
    /// Show which settings --enable-stats would change, and exit.
    #[arg(long, requires = "enable_stats")]
    dry_run: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ByArg {
    /// The time of commands on the main thread.
    Cpu,
    /// Bytes received and sent.
    Network,
    /// The number of keys.
    Keys,
    /// The memory of the keys (Redis ≥ 8.6, if it is counted since the start).
    Memory,
}

impl Args {
    /// Whether the command changes settings.
    pub fn changes_nodes(&self) -> bool {
        self.enable_stats
    }

    fn request(&self) -> HeatRequest {
        HeatRequest {
            by: match self.by {
                ByArg::Cpu => Metric::Cpu,
                ByArg::Network => Metric::Network,
                ByArg::Keys => Metric::Keys,
                ByArg::Memory => Metric::Memory,
            },
            time: self.time,
            top: usize::from(self.top),
        }
    }
}

/// Measures the load of slots.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if args.enable_stats && !args.request().by.is_counter() {
        return Err(Stop::usage(anyhow!(
            "--enable-stats is for --by cpu and --by network only: keys are always counted, and memory can't be turned \
             on while a server runs"
        )));
    }
    if args.enable_stats {
        return with_statistics(global, ui, &args).await;
    }
    let seeds = std::slice::from_ref(&args.node);
    let mut look = Look::open(global, ui, seeds).await?;
    let heat = async |session: &Session| slots::heat(session, args.request()).await;
    let view = look.run(seeds, heat).await?;
    ui.heat(&view)?;
    Ok(exit_code(&view))
}

fn exit_code(view: &HeatView) -> ExitCode {
    match view.failures.is_empty() {
        true => ExitCode::Done,
        false => ExitCode::Unhealthy,
    }
}

async fn with_statistics(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let approval = Approval::of(args.yes, args.dry_run);
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "slots", seeds, approval).await?;
    let session = change.session();
    let request = args.request();
    let found = change.prepare(slots::plan(&session, request.by)).await?;
    if found.is_empty() && !args.dry_run {
        // They are on everywhere, or the sample says why they can't be.
        let view = change.prepare(slots::heat(&session, request)).await?;
        return finish(ui, change, &view);
    }
    let plan = async || Ok(Statistics(slots::plan(&session, request.by).await?));
    let Some(Statistics(plan)) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let work = slots::with_statistics(&session, &plan, request);
    let view = change.execute(work).await?;
    finish(ui, change, &view)
}

fn finish(ui: &Ui, change: Change<'_>, view: &HeatView) -> CommandResult {
    ui.heat_line(view)?;
    change.finish_quietly("measured")?;
    Ok(exit_code(view))
}

/// The settings that change for the time of the sample.
struct Statistics(StatisticsPlan);

impl Proposal for Statistics {
    fn nothing_to_do(&self) -> Option<String> {
        let is_empty = self.0.is_empty();
        is_empty.then(|| "The statistics are on everywhere: nothing would change.".to_string())
    }

    fn lock(&self) -> Vec<Target> {
        self.0.masters()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.statistics(&self.0.view())
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: format!("{} masters do not count the load of slots.", self.0.len()),
            text: "Turn the statistics on for the sample?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}
