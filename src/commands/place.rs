//! `redis-trib place NODE`: masters even over hosts and zones again.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;

use crate::args::values::duration;
use crate::args::zones::ZoneArgs;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::numbers::counted;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::place::{self, PlaceRequest, Placement};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `place`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Finds the fewest failovers after which the masters are even over zones and hosts.\n\
    With --move-replicas, copies of a shard are kept apart, too; each move sends a full copy.\n\n\
    Examples:\n  \
    redis-trib place 10.0.0.3 --dry-run                # what each host takes down, and the steps\n  \
    redis-trib place 10.0.0.3 --prefer zone=a          # as many masters as possible in zone a\n  \
    redis-trib place 10.0.0.3 --masters 69a0bef4,8fab  # these are masters\n  \
    redis-trib place 10.0.0.3 --move-replicas --undo-out undo.sh"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// Have as many masters as possible in this zone.
    #[arg(long, value_name = "zone=NAME", value_parser = preferred)]
    prefer: Option<String>,
    /// Make these members masters.
    #[arg(long, value_name = "MEMBER", value_delimiter = ',')]
    masters: Vec<String>,
    /// Give replicas other masters, too: each costs a full copy.
    #[arg(long)]
    move_replicas: bool,
    /// Write a shell script that undoes the steps.
    #[arg(long, value_name = "FILE")]
    undo_out: Option<PathBuf>,
    /// Timeout for agreement after a failover.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    agreement_timeout: Duration,
    /// Timeout for the full copy of a replica.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    sync_timeout: Duration,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show the steps and exit.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    zones: ZoneArgs,
}

fn preferred(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some(("zone", zone)) if !zone.is_empty() => Ok(zone.to_string()),
        _ => Err(format!("{text:?} is not zone=NAME")),
    }
}

/// Restores the placement.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let approval = Approval::of(args.yes, args.dry_run);
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "place", seeds, approval).await?;
    let session = change.session();
    let request = PlaceRequest {
        prefer: args.prefer.clone(),
        masters: args.masters.clone(),
        move_replicas: args.move_replicas,
        agreement_timeout: args.agreement_timeout,
        sync_timeout: args.sync_timeout,
        zones: args.zones.rules(&global.args),
    };
    let plan = async || {
        Ok(Plan {
            placement: place::plan(&session, &request).await?,
            undo_out: args.undo_out.clone(),
            move_replicas: args.move_replicas,
        })
    };
    let Some(Plan { placement, .. }) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let work = place::execute(&session, &placement, &request);
    change.execute(work).await?;
    let steps = counted(placement.plan.steps.len() as u64, "step");
    change.finish(&format!(
        "[OK] {steps} carried out; the masters are placed."
    ))
}

/// A planned placement, as the pipeline sees it.
struct Plan {
    placement: Placement,
    undo_out: Option<PathBuf>,
    move_replicas: bool,
}

impl Proposal for Plan {
    fn nothing_to_do(&self) -> Option<String> {
        let plan = &self.placement.plan;
        let by = match self.move_replicas {
            true => "failovers or moves of replicas",
            false => "failovers",
        };
        let known = match plan.is_proven {
            true => format!("No better placement exists for these nodes by {by}: nothing to do."),
            false => format!("No better placement was found by {by}: nothing to do."),
        };
        plan.steps.is_empty().then_some(known)
    }

    fn show_basis(&self, ui: &Ui) -> io::Result<()> {
        ui.place_plan(&self.placement.view())
    }

    fn lock(&self) -> Vec<Target> {
        self.placement.lock()
    }

    fn show(&self, _ui: &Ui) -> io::Result<()> {
        // `show_basis` has shown it, also where nothing is to be done.
        Ok(())
    }

    fn after_show(&self) -> Result<(), Stop> {
        let Some(file) = &self.undo_out else {
            return Ok(());
        };
        std::fs::write(file, self.placement.undo())
            .with_context(|| {
                let file = file.display();
                format!("--undo-out {file}: can't be written; nothing was changed")
            })
            .map_err(Stop::refused)
    }

    fn question(&self) -> Option<Question> {
        let members = self.placement.cluster.diagnosis.topology.members.len();
        Some(Question {
            about: format!(
                "The cluster of {} that {} belongs to.",
                counted(members as u64, "node"),
                self.placement.cluster.seed()
            ),
            text: "Carry out these steps?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.placement.plan.steps == other.placement.plan.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_preferred_by_its_name() {
        assert_eq!(preferred("zone=a"), Ok("a".to_string()));
        for bad in ["a", "zone=", "host=a", ""] {
            assert!(preferred(bad).is_err(), "{bad}");
        }
    }
}
