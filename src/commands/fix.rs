//! `redis-trib fix NODE`: repairs what can be repaired, and names the rest.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;

use anyhow::anyhow;

use crate::args::moves::PaceArgs;
use crate::args::values::{node_words, slot_ranges};
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::node::Takeover;
use crate::cluster::numbers::counted;
use crate::cluster::slot::SlotSet;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::fix::rejoin::{self, RejoinPlan};
use crate::ops::fix::{ConflictWinner, Fix, FixOptions, FixRound, FixStart, FixSummary};
use crate::ops::move_slots::node_timeout;
use crate::plan::fix::{Consent, Strays};
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckFor, Ui};

/// Arguments of `fix`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib fix [OPTIONS] <NODE>\n       redis-trib fix --rejoin <NODE>...",
    after_help = "--yes consents to remedies that lose no key; each remedy that loses keys has an option of its \
    own.\nAn interrupted run is continued by the same command.\n\n\
    Examples:\n  \
    redis-trib fix 10.0.0.3:6379 --dry-run\n  \
    redis-trib fix 10.0.0.3 --yes\n  \
    redis-trib fix 10.0.0.3 --assign-uncovered 5461-5470\n  \
    redis-trib fix tasks.master tasks.slave --rejoin --yes    # after a full restart\n  \
    redis-trib fix 10.0.0.3 --evict-foreign 1977c4d4,a2b0c3d9 # two clusters became one\n\n\
    Exit codes: 0 everything is fixed, or nothing was broken; 3 nothing could be fixed; 6 only some faults were."
)]
pub struct Args {
    /// A node of the cluster (also as two words, `host port`); with --rejoin all nodes.
    #[arg(required = true, num_args = 1.., value_name = "NODE")]
    node: Vec<String>,
    /// Let nodes meet again that were all restarted at new addresses.
    ///
    /// They know each other at the old addresses. Slots, roles and config epochs stay. A replica that still connects to
    /// an old address is told its master again.
    #[arg(long)]
    rejoin: bool,
    /// Members of another cluster: both sides forget each other.
    ///
    /// All of its members are named, by their ids or unique prefixes. Those that own slots leave with their keys, which
    /// needs --accept-data-loss. Those that became replicas here have lost theirs already.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', num_args = 1.., conflicts_with = "rejoin")]
    evict_foreign: Vec<String>,
    /// Assign these slots without an owner and without keys.
    ///
    /// They go to the masters, if no node has a key in them.
    #[arg(long, value_name = "RANGES", value_parser = slot_ranges, help_heading = GIVEN_UP)]
    assign_uncovered: Option<SlotSet>,
    /// Assign these slots although keys in them may be lost.
    ///
    /// A node that can't be asked may have keys in them: those keys are lost.
    #[arg(long, value_name = "RANGES", value_parser = slot_ranges, help_heading = GIVEN_UP)]
    accept_data_loss: Option<SlotSet>,
    /// Fail over to a replica of a dead master: force or takeover.
    ///
    /// Writes that the master did not replicate are lost. With `force` a majority of the masters must vote; `takeover`
    /// needs no votes.
    #[arg(long, value_name = "HOW", help_heading = GIVEN_UP, hide_possible_values = true)]
    failover: Option<FailoverArg>,
    /// With --failover: let this replica take over, whatever it lacks.
    ///
    /// Its copy is empty, incomplete or behind another one; what it lacks is lost. A master stands for all of its
    /// replicas.
    #[arg(long, value_name = "MEMBER", value_delimiter = ',', help_heading = GIVEN_UP, requires = "failover")]
    accept_data_loss_of: Vec<String>,
    /// Which copy of a stray key wins: abort (none), owner or other.
    ///
    /// It is for a key that differs between the owner of its slot and another node. `owner` keeps the copy of the node
    /// that owns the slot, `other` that of the other node. With `abort` both stay, and the key is named.
    #[arg(long = "on-stray-conflict", alias = "on-conflict", value_name = "WHOSE", default_value = "abort", help_heading = GIVEN_UP, hide_default_value = true, hide_possible_values = true)]
    on_conflict: ConflictArg,
    /// Delete stray keys, if the owner of the slot has the same value.
    ///
    /// Stray keys are on a node that does not own their slot.
    #[arg(long, help_heading = GIVEN_UP)]
    purge_strays: bool,
    /// Move stray keys to the owner of the slot, if it lacks them.
    ///
    /// Stray keys are on a node that does not own their slot.
    #[arg(long, help_heading = GIVEN_UP, conflicts_with = "purge_strays")]
    collect_strays: bool,
    /// Do not ask for confirmation of remedies that lose no key.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show the remedies and exit.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pace: PaceArgs,
}

/// How a replica of a dead master takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailoverArg {
    /// A majority of the masters must vote.
    Force,
    /// Without votes.
    Takeover,
}

/// Which value wins if two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ConflictArg {
    /// Neither: both stay, and the key is named.
    Abort,
    /// The value on the node that owns the slot.
    Owner,
    /// The value on the other node.
    Other,
}

impl From<ConflictArg> for ConflictWinner {
    fn from(arg: ConflictArg) -> Self {
        match arg {
            ConflictArg::Abort => Self::Abort,
            ConflictArg::Owner => Self::Owner,
            ConflictArg::Other => Self::Other,
        }
    }
}

const GIVEN_UP: &str = "What may be given up";

impl Args {
    fn consent(&self, session: &Session, start: &FixStart) -> Result<Consent, Stop> {
        Ok(Consent {
            evict: start.foreign(session, &self.evict_foreign)?,
            accept_data_loss_of: start.members(&self.accept_data_loss_of)?,
            assign: self.assign_uncovered.clone().unwrap_or_default(),
            accept_loss: self.accept_data_loss.clone().unwrap_or_default(),
            strays: match (self.purge_strays, self.collect_strays) {
                (true, _) => Strays::Purge,
                (_, true) => Strays::Collect,
                _ => Strays::Leave,
            },
            failover: self.failover.map(|how| match how {
                FailoverArg::Force => Takeover::Force,
                FailoverArg::Takeover => Takeover::Takeover,
            }),
        })
    }
}

/// Fixes a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let approval = Approval::of(args.yes, args.dry_run);
    if args.rejoin {
        return rejoin(global, ui, &args.node, approval).await;
    }
    let seed = node_words(&args.node)?;
    let mut change = Change::open(global, ui, "fix", &[seed], approval).await?;
    let session = change.session();
    change.check_before(CheckFor::Fix).await?;
    let start = change
        .prepare(FixStart::observe(&session, args.dry_run))
        .await?;
    let options = FixOptions {
        consent: args.consent(&session, &start)?,
        on_conflict: args.on_conflict.into(),
        moving: change
            .prepare(async {
                let timeout = node_timeout(&session, start.cluster()).await;
                Ok(args.pace.options(timeout))
            })
            .await?,
        with_warnings: args.dry_run,
    };
    // Before the observations that wait until a state is stable: another operator keeps it from that.
    let lock = change.lock(&start.lock()).await?;
    let mut fix = Fix::new(&session, &options);
    let mut round = change.prepare(fix.first_round(start, lock)).await?;
    let mut asked = SlotSet::new();
    if ui.mode().is_old() && !args.dry_run {
        round = cover(&mut change, ui, &mut fix, round, &mut asked).await?;
    }
    if round.kinds().is_empty() {
        ui.fix_plan(&round.view())?;
        if args.dry_run {
            let code = match round.left().is_empty() {
                true => ExitCode::Done,
                false => ExitCode::Refused,
            };
            ui.done(code, "Dry run: nothing was changed.")?;
            return Ok(code);
        }
    }
    let mut approved = BTreeSet::new();
    loop {
        let kinds = round.kinds();
        if kinds.is_empty() {
            break;
        }
        let asks = approval == Approval::Ask && !kinds.is_subset(&approved);
        if approved.is_empty() || asks {
            let resume = fix.resume(&round);
            let planned = Cell::new(Some(round));
            let plan = async || match planned.take() {
                Some(round) => Ok(round),
                None => fix.observe().await,
            };
            let now = change.approve(plan).await;
            let now = now.map_err(|stop| match approved.is_empty() {
                true => stop,
                false => stop.with_resume([resume]),
            });
            let Some(now) = now? else {
                return Ok(ExitCode::Done);
            };
            approved.extend(kinds);
            approved.extend(now.kinds());
            round = now;
            // The faults may have gone while the user was asked.
            continue;
        }
        change.execute(fix.carry_out(&round)).await?;
        round = change.execute(fix.next_round()).await?;
        if ui.mode().is_old() {
            round = cover(&mut change, ui, &mut fix, round, &mut asked).await?;
        }
    }
    report(change, &fix.end(&round))
}

/// Asks before slots without an owner get one, as redis-cli and redis-trib.rb do whatever their options are. Slots that
/// were asked about before stay as they were answered.
async fn cover(
    change: &mut Change<'_>,
    ui: &Ui,
    fix: &mut Fix<'_>,
    round: FixRound,
    asked: &mut SlotSet,
) -> Result<FixRound, Stop> {
    let uncovered = round.uncovered();
    let cases = [
        (
            uncovered.without_keys,
            "have no keys across the cluster",
            "Fix these slots by covering with a random node?",
        ),
        (
            uncovered.on_one_node,
            "have keys in just one node",
            "Fix these slots by covering with those nodes?",
        ),
        (
            uncovered.on_several_nodes,
            "have keys in multiple nodes",
            "Fix these slots by moving keys into a single node?",
        ),
    ];
    let mut is_first = asked.is_empty();
    for (slots, what, question) in cases {
        let slots = slots.difference(asked);
        if slots.is_empty() {
            continue;
        }
        if std::mem::take(&mut is_first) {
            ui.old_heading("Fixing slots coverage...")?;
        }
        asked.union_with(&slots);
        ui.uncovered(what, &slots)?;
        let about = match slots.count() {
            1 => "1 slot has no owner.".to_string(),
            many => format!("{} have no owner.", counted(many as u64, "slot")),
        };
        if change
            .agreed(&Question {
                about,
                text: question.to_string(),
            })
            .await?
        {
            fix.allow_assigning(&slots);
        } else {
            fix.decline(&slots);
        }
    }
    Ok(fix.replan(round))
}

impl Proposal for FixRound {
    fn lock(&self) -> Vec<Target> {
        self.lock()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.fix_plan(&self.view())
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: self.about(),
            text: "Carry out these remedies?".to_string(),
        })
    }

    /// Consent is for kinds of remedies: which slots they are about changes while people read.
    fn is_same(&self, other: &Self) -> bool {
        self.kinds().is_subset(&other.kinds())
    }
}

/// What was done, and the exit code for it.
fn report(change: Change<'_>, summary: &FixSummary) -> CommandResult {
    let count = |keys: u64, done: &str| match keys {
        0 => String::new(),
        keys => format!(", {} {done}", counted(keys, "key")),
    };
    let done = format!("{} done", counted(summary.steps as u64, "step"));
    let done = done
        + &count(summary.keys, "moved to the owner of the slot")
        + &count(summary.purged, "deleted (the owner has the same)");
    match (summary.left.is_empty(), summary.steps) {
        (true, 0) => change.finish("[OK] Nothing is broken."),
        (true, _) => change.finish(&format!("[OK] Everything is fixed: {done}.")),
        (false, steps) => {
            let error = anyhow!("not everything can be fixed:\n{}", summary.left.join("\n"));
            Err(Stop::refused(match steps > 0 || summary.has_failures {
                true => error.context(done),
                false => error,
            }))
        }
    }
}

/// `--rejoin`.
async fn rejoin(global: &Global, ui: &Ui, nodes: &[String], approval: Approval) -> CommandResult {
    let seeds: Vec<Seed> = nodes
        .iter()
        .map(|node| node.parse().map_err(Stop::usage))
        .collect::<Result<_, _>>()?;
    let mut change = Change::open(global, ui, "fix", &seeds, approval).await?;
    let session = change.session();
    let plan = change.approve(async || RejoinPlan::observe(&session).await);
    let Some(plan) = plan.await? else {
        return Ok(ExitCode::Done);
    };
    change.execute(rejoin::execute(&session, &plan)).await?;
    change.finish("[OK] All nodes see each other again.")
}

impl Proposal for RejoinPlan {
    fn nothing_to_do(&self) -> Option<String> {
        let message = "[OK] These nodes all see each other.";
        self.is_joined().then(|| message.to_string())
    }

    fn lock(&self) -> Vec<Target> {
        match self.is_joined() {
            true => Vec::new(),
            false => self.lock(),
        }
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.fix_plan(&self.view())
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: format!("{} nodes of one cluster.", self.len()),
            text: "Tell them to meet?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}
