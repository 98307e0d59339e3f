//! `redis-trib set-timeout NODE DURATION`: cluster-node-timeout of all nodes.

use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::duration;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::client::NODE_TIMEOUT;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::set_timeout::{self, Member};
use crate::report::{SetTimeoutView, TimeoutSet};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `set-timeout`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A node that does not reply for this long is flagged as failed. The value is set on every \
    node (CONFIG SET),\nwritten to its configuration file (CONFIG REWRITE), and read back; nodes that can't write \
    the file are\nnamed.\n\nExample:\n  \
    redis-trib set-timeout 10.0.0.3 15s"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The new cluster-node-timeout, 100ms at least.
    #[arg(value_name = "DURATION", value_parser = node_timeout)]
    timeout: Duration,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show the current timeouts and exit.
    #[arg(long)]
    dry_run: bool,
}

/// The minimum of redis-trib.rb and redis-cli: below it, busy nodes are flagged as failed.
const MINIMUM: Duration = Duration::from_millis(100);

/// Parses a duration in whole milliseconds, with its unit.
fn node_timeout(text: &str) -> Result<Duration, String> {
    if let Ok(number) = text.parse::<u64>() {
        return Err(format!(
            "{number} has no unit: write {number}ms, or {number}s"
        ));
    }
    let time = duration(text)?;
    if time < MINIMUM {
        Err("below 100ms, busy nodes would be flagged as failed".to_string())
    } else if time.subsec_nanos() % 1_000_000 != 0 {
        Err("the servers count in whole milliseconds".to_string())
    } else {
        Ok(time)
    }
}

/// Sets the timeout.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let approval = Approval::of(args.yes, args.dry_run);
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "set-timeout", seeds, approval).await?;
    let session = change.session();
    let plan = async || {
        Ok(Plan {
            timeout: args.timeout,
            members: set_timeout::members(&session).await?,
        })
    };
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let work = set_timeout::execute(&session, &plan.members, plan.timeout);
    let outcomes = change.execute(work).await?;
    report(ui, change, &plan, &outcomes)
}

/// The new timeout, and what the members have now.
struct Plan {
    timeout: Duration,
    members: Vec<Member>,
}

impl Proposal for Plan {
    fn lock(&self) -> Vec<Target> {
        let reaches = self.members.iter().map(|member| &member.reach);
        reaches.filter_map(|reach| reach.clone().ok()).collect()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.timeouts(&SetTimeoutView {
            wanted: self.timeout,
            nodes: self
                .members
                .iter()
                .map(|member| member.now.clone())
                .collect(),
        })
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: format!("A cluster of {} nodes.", self.members.len()),
            text: "Set the timeout on all of them?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        let nodes = |plan: &Self| -> Vec<_> {
            let members = plan.members.iter();
            members
                .map(|member| (member.now.node.id, member.reach.is_ok()))
                .collect()
        };
        nodes(self) == nodes(other)
    }
}

fn report(ui: &Ui, change: Change<'_>, plan: &Plan, outcomes: &[TimeoutSet]) -> CommandResult {
    let (mut persisted, mut in_force) = (0, 0);
    let mut failures = Vec::new();
    for (member, outcome) in plan.members.iter().zip(outcomes) {
        let node = &member.now.node;
        match outcome {
            TimeoutSet::Persisted => persisted += 1,
            TimeoutSet::InForce(_) => in_force += 1,
            TimeoutSet::Failed(why) => failures.push(format!("{node}: {why}")),
        }
        ui.timeout_set(node, outcome)?;
    }
    let (set, all) = (persisted + in_force, plan.members.len());
    ui.timeouts_set(set, failures.len())?;
    if in_force > 0 {
        ui.warn(&format!(
            "{in_force} of {all} nodes could not write the timeout to their configuration file: they use it until they \
             restart"
        ));
    }
    if failures.is_empty() {
        let time = humantime::format_duration(plan.timeout);
        let message =
            format!("{NODE_TIMEOUT} is {time} on all {set} nodes; {persisted} have it on disk");
        return change.finish_quietly(&message);
    }
    Err(Stop::partial(anyhow!(
        "{set} of {all} nodes have the new timeout; these do not:\n{}\nThe same command tries all nodes again",
        failures.join("\n")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit_and_are_whole_milliseconds() {
        assert_eq!(node_timeout("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(node_timeout("100ms"), Ok(MINIMUM));
        let bare = node_timeout("15000").unwrap_err();
        assert!(bare.contains("15000ms"), "{bare}");
        for bad in ["99ms", "0s", "1500us", "-1s", "", "15 parsecs", "2w"] {
            assert!(node_timeout(bad).is_err(), "{bad:?}");
        }
    }
}
