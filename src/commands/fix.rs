//! `redis-trib fix NODE`: what is broken is mended, or refused by name.

use std::collections::BTreeSet;

use anyhow::anyhow;

use crate::args::moves::PaceArgs;
use crate::args::values::{node_words, slot_ranges};
use crate::change::Global;
use crate::change::legacy::Access;
use crate::cluster::naming::NoSuchNode;
use crate::cluster::node::{NodeId, Takeover};
use crate::cluster::slot::SlotSet;
use crate::exit_code::ExitCode;
use crate::ops::fix::{Approval, ConflictWinner, FixSummary, Job};
use crate::plan::fix::{Consent, Strays};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `fix`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib fix [OPTIONS] <NODE>\n       redis-trib fix --rejoin <NODE>...",
    after_help = "Nothing is lost that is not named: --yes consents to remedies that lose no key, and \
    what loses some has a flag of its own. What was cut off is finished by the same command.\n\n\
    Examples:\n  \
    redis-trib fix 10.0.0.3:6379 --dry-run\n  \
    redis-trib fix 10.0.0.3 --yes\n  \
    redis-trib fix 10.0.0.3 --assign-uncovered 5461-5470\n  \
    redis-trib fix tasks.master tasks.slave --rejoin --yes    # after a full restart\n  \
    redis-trib fix 10.0.0.3 --evict-foreign 1977c4d4,a2b0c3d9 # two clusters became one\n\n\
    Exit codes: 0 all is mended, or nothing was broken; 3 nothing could be mended; 6 some was."
)]
pub struct Args {
    /// A node of the cluster (`host port` as two words is understood too); with --rejoin all of them.
    #[arg(required = true, num_args = 1.., value_name = "NODE")]
    pub(crate) node: Vec<String>,
    /// All nodes were restarted at new addresses, and know each other at the old ones: let them meet.
    /// Nothing else is changed.
    #[arg(long)]
    pub(crate) rejoin: bool,
    /// Members of another cluster, all of them (ids, or the beginning of one): they and the others forget
    /// each other. Their keys stay with them.
    #[arg(long, value_name = "ID,…", value_delimiter = ',', num_args = 1.., conflicts_with = "rejoin")]
    pub(crate) evict_foreign: Vec<String>,
    /// Give these slots to masters where nobody owns them and nobody has a key of them.
    #[arg(long, value_name = "RANGES", value_parser = slot_ranges, help_heading = GIVEN_UP)]
    pub(crate) assign_uncovered: Option<SlotSet>,
    /// Give these slots to other masters though a node that can't be asked may hold keys of them:
    /// those keys are lost.
    #[arg(long, value_name = "RANGES", value_parser = slot_ranges, help_heading = GIVEN_UP)]
    pub(crate) accept_data_loss: Option<SlotSet>,
    /// Let a replica take over where a master is dead: what that had not sent is lost.
    #[arg(long, value_name = "HOW", help_heading = GIVEN_UP)]
    pub(crate) failover: Option<HowArg>,
    /// Whose value stays of a key that differs between the owner of its slot and another node.
    #[arg(long, value_name = "WHOSE", default_value = "abort", help_heading = GIVEN_UP)]
    pub(crate) on_conflict: ConflictWinner,
    /// Delete keys on nodes that don't own their slot, where the owner has the same.
    #[arg(long, help_heading = GIVEN_UP)]
    pub(crate) purge_strays: bool,
    /// Bring keys of nodes that don't own their slot to the owner, where it lacks them.
    #[arg(long, help_heading = GIVEN_UP, conflicts_with = "purge_strays")]
    pub(crate) collect_strays: bool,
    /// Don't ask; consents to remedies that lose no key.
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Show what would be done, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
}

/// How a replica of a dead master takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum HowArg {
    /// A majority of masters must agree.
    Force,
    /// Without anybody's vote.
    Takeover,
}

const GIVEN_UP: &str = "What may be given up";

/// Mends a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if args.rejoin {
        return crate::ops::fix::rejoin::run(global, ui, &args).await;
    }
    let seed = node_words(&args.node)?;
    let session = crate::change::legacy::open(global, ui, &[seed], Access::Change("fix")).await?;
    let consent = Consent {
        evict: foreign(&session, ui, &args.evict_foreign).await?,
        assign: args.assign_uncovered.clone().unwrap_or_default(),
        accept_loss: args.accept_data_loss.clone().unwrap_or_default(),
        strays: match (args.purge_strays, args.collect_strays) {
            (true, _) => Strays::Purge,
            (_, true) => Strays::Collect,
            _ => Strays::Leave,
        },
        failover: args.failover.map(|how| match how {
            HowArg::Force => Takeover::Force,
            HowArg::Takeover => Takeover::Takeover,
        }),
    };
    let asking = match (args.dry_run, args.yes) {
        (true, _) => Approval::DryRun,
        (_, true) => Approval::Yes,
        _ => Approval::Ask,
    };
    let job = Job {
        session: &session,
        ui,
        pace: &args.pace,
        on_conflict: args.on_conflict,
        consent: &consent,
        asking,
    };
    match crate::ops::fix::fix(&job).await {
        Ok(mended) => end(ui, asking, &mended),
        Err(stop) => {
            ui.stopped(stop.code, &stop.error)?;
            Err(stop)
        }
    }
}

/// The members of another cluster, by what the user calls them.
async fn foreign(session: &Session, ui: &Ui, names: &[String]) -> Result<BTreeSet<NodeId>, Stop> {
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let cluster = ClusterState::look(session).await?;
    let observation = &cluster.diagnosis.observation;
    let mut ids = BTreeSet::new();
    for name in names {
        match (observation.find(name), name.parse::<NodeId>()) {
            (Ok(id), _) => drop(ids.insert(id)),
            // Members pass on whom they forgot (Redis and Valkey from 7.2 on): after a run that was cut off
            // they may be gone. The beginning of an id may be a slip as well.
            (Err(NoSuchNode::Unknown(_)), Ok(id)) => {
                ui.hint(&format!("{} is no member, or not any more", id.short()));
            }
            (Err(error), _) => return Err(Stop::refused(error)),
        }
    }
    if ids.contains(&observation.lead) {
        return Err(Stop::refused(anyhow!(
            "{} is the node that was asked for the cluster: name one that stays, and those that are to \
             leave it with --evict-foreign",
            cluster.name(observation.lead)
        )));
    }
    Ok(ids)
}

/// What came of it, and the exit code that says so.
fn end(ui: &Ui, asking: Approval, mended: &FixSummary) -> CommandResult {
    let FixSummary { steps, left, .. } = mended;
    if asking == Approval::DryRun {
        let code = match (left.is_empty(), mended.planned) {
            (false, 0) => ExitCode::Refused,
            _ => ExitCode::Done,
        };
        ui.done(code, "Dry run: nothing was changed.")?;
        return Ok(code);
    }
    let count = |keys: u64, done: &str| match keys {
        0 => String::new(),
        1 => format!(", 1 key {done}"),
        keys => format!(", {keys} keys {done}"),
    };
    let keys = count(mended.keys, "brought home")
        + &count(mended.purged, "deleted (the owner has the same)");
    let taken = match steps {
        1 => "1 step taken".to_string(),
        steps => format!("{steps} steps taken"),
    };
    match (left.is_empty(), steps) {
        (true, 0) => {
            ui.done(ExitCode::Done, "[OK] Nothing is broken.")?;
            Ok(ExitCode::Done)
        }
        (true, _) => {
            ui.done(
                ExitCode::Done,
                &format!("[OK] All is mended: {taken}{keys}."),
            )?;
            Ok(ExitCode::Done)
        }
        (false, steps) => {
            let error = anyhow!("not all can be mended:\n{}", left.join("\n"));
            let stop = match (steps, mended.failed) {
                (0, false) => Stop::refused(error),
                _ => Stop::partial(error.context(format!("{taken}{keys}"))),
            };
            ui.stopped(stop.code, &stop.error)?;
            Err(stop)
        }
    }
}
