//! `redis-trib roll NODE --each CMD`: a rolling restart or upgrade.

use std::collections::BTreeMap;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::{duration, number};
use crate::args::zones::ZoneArgs;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::node::NodeId;
use crate::cluster::numbers::counted;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::roll::{self, Only, Restart, RollPlan, RollRequest, WantedVersion};
use crate::seed::Seed;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `roll`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib roll [OPTIONS] <NODE> <--each <CMD>|--pause>",
    after_help = "Shard by shard: the replicas, a planned failover to one of them, the old master. CMD runs with\n\
    REDIS_TRIB_ADDR, _HOST, _PORT, _ID, _ROLE and _ZONE. Ctrl-C stops between two nodes.\n\n\
    Examples:\n  \
    redis-trib roll 10.0.0.3 --each 'ssh -- \"$REDIS_TRIB_HOST\" systemctl restart redis'\n  \
    redis-trib roll 10.0.0.3 --each ./upgrade.sh --until-version 9.1.2 --back\n  \
    redis-trib roll 10.0.0.3 --pause --only zone=a           # a person restarts the nodes of zone a\n  \
    redis-trib roll 10.0.0.3 --each ./restart.sh --dry-run   # shows the order"
)]
#[command(group = clap::ArgGroup::new("restart").required(true))]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The shell command that restarts one node.
    #[arg(long, value_name = "CMD", group = "restart", value_parser = command_line)]
    each: Option<String>,
    /// Ask a person to restart each node instead.
    #[arg(long, group = "restart")]
    pause: bool,
    /// Timeout for CMD.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration)]
    each_timeout: Duration,
    /// Restart these nodes only: replicas, zone=NAME, members.
    #[arg(long, value_name = "WHICH", value_delimiter = ',', value_parser = only)]
    only: Vec<Only>,
    /// Give the masters their roles back at the end.
    #[arg(long)]
    back: bool,
    /// Make these members masters at the end.
    #[arg(long, value_name = "MEMBER", value_delimiter = ',')]
    back_to: Vec<String>,
    /// How many nodes restart side by side, as far as ok-to-stop allows.
    #[arg(long, value_name = "N", default_value = "1", value_parser = number("nodes", 1..=100))]
    max_unavailable: u16,
    /// Timeout for a node to be back and in sync.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    back_within: Duration,
    /// Nodes at this version are done (9.1.2, 9.1 or 9).
    #[arg(long, value_name = "VERSION", value_parser = wanted_version)]
    until_version: Option<WantedVersion>,
    /// Restart masters that have the only copy of their slots.
    #[arg(long)]
    leave_unprotected: bool,
    /// Nodes that are done while they run under this run id.
    #[arg(long, value_name = "ID=RUNID", value_delimiter = ',')]
    done: Vec<DoneNode>,
    /// Timeout for agreement after a failover.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    agreement_timeout: Duration,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show the order and exit.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    zones: ZoneArgs,
}

/// `ID=RUNID`.
#[derive(Debug, Clone)]
struct DoneNode {
    id: NodeId,
    run_id: String,
}

impl FromStr for DoneNode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not ID=RUNID with the full id of a node");
        let (id, run_id) = text.split_once('=').ok_or_else(bad)?;
        let is_run_id = !run_id.is_empty() && run_id.chars().all(|c| c.is_ascii_hexdigit());
        match id.parse() {
            Ok(id) if is_run_id => Ok(Self {
                id,
                run_id: run_id.to_string(),
            }),
            _ => Err(bad()),
        }
    }
}

fn command_line(text: &str) -> Result<String, String> {
    match text.trim().is_empty() {
        true => Err("the command is empty".to_string()),
        false => Ok(text.to_string()),
    }
}

fn only(text: &str) -> Result<Only, String> {
    match text.split_once('=') {
        Some(("zone", "")) => Err(format!("{text:?} names no zone")),
        Some(("zone", zone)) => Ok(Only::Zone(zone.to_string())),
        Some(_) => Err(format!("{text:?} is not replicas, zone=NAME or a member")),
        None if text == "replicas" => Ok(Only::Replicas),
        None if text.is_empty() => Err("the member is empty".to_string()),
        None => Ok(Only::Member(text.to_string())),
    }
}

fn wanted_version(text: &str) -> Result<WantedVersion, String> {
    let numbers: Result<Vec<u16>, _> = text.split('.').map(str::parse).collect();
    match numbers {
        Ok(numbers) if numbers.len() <= 3 => Ok(WantedVersion(numbers)),
        _ => Err(format!("{text:?} is not a version such as 9.1.2")),
    }
}

impl Args {
    fn request(&self, global: &Global) -> RollRequest {
        RollRequest {
            restart: match &self.each {
                Some(command) => Restart::Each {
                    command: command.clone(),
                    within: self.each_timeout,
                },
                None => Restart::Pause,
            },
            only: self.only.clone(),
            back: self.back,
            back_to: self.back_to.clone(),
            max_unavailable: usize::from(self.max_unavailable),
            back_within: self.back_within,
            until_version: self.until_version.clone(),
            leave_unprotected: self.leave_unprotected,
            done: self
                .done
                .iter()
                .map(|done| (done.id, done.run_id.clone()))
                .collect::<BTreeMap<_, _>>(),
            agreement_timeout: self.agreement_timeout,
            zones: self.zones.rules(&global.args),
        }
    }
}

/// Restarts the nodes.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if args.pause && !args.dry_run && !ui.can_ask() {
        return Err(Stop::usage(anyhow!(
            "--pause needs a terminal: --each CMD restarts the nodes without one"
        )));
    }
    let approval = Approval::of(args.yes, args.dry_run);
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "roll", seeds, approval).await?;
    let session = change.session();
    let request = args.request(global);
    let plan = async || Ok(Plan(roll::plan(&session, &request).await?));
    let Some(Plan(plan)) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let ask = async |question: &str| match session.interrupt.stops(ui.question(question)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Stop::partial(anyhow!("{error}"))),
        Err(signal) => Err(Stop::interrupted(anyhow!("interrupted ({signal})"))),
    };
    let work = roll::execute(&session, plan, &request, ask);
    let rolled = change.execute(work).await?;
    change.finish(&format!(
        "[OK] {} restarted, {}.",
        counted(rolled.restarted as u64, "node"),
        counted(rolled.failovers as u64, "failover")
    ))
}

/// A planned roll, as the pipeline sees it.
struct Plan(RollPlan);

impl Proposal for Plan {
    fn nothing_to_do(&self) -> Option<String> {
        let message = "All these nodes are done: nothing to do.";
        self.0.is_empty().then(|| message.to_string())
    }

    fn lock(&self) -> Vec<Target> {
        self.0.lock()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        ui.roll_plan(&self.0.view())
    }

    fn question(&self) -> Option<Question> {
        Some(Question {
            about: format!(
                "The cluster of {} that {} belongs to.",
                counted(
                    self.0.cluster.diagnosis.topology.members.len() as u64,
                    "node"
                ),
                self.0.cluster.seed()
            ),
            text: "Restart these nodes?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked() {
        assert_eq!(only("replicas"), Ok(Only::Replicas));
        assert_eq!(only("zone=a"), Ok(Only::Zone("a".to_string())));
        assert_eq!(only("1977"), Ok(Only::Member("1977".to_string())));
        for bad in ["zone=", "host=a", ""] {
            assert!(only(bad).is_err(), "{bad}");
        }
        assert_eq!(wanted_version("9.1.2"), Ok(WantedVersion(vec![9, 1, 2])));
        assert_eq!(wanted_version("9"), Ok(WantedVersion(vec![9])));
        for bad in ["", "9.", "v9", "9.1.2.3", "99999", "-1"] {
            assert!(wanted_version(bad).is_err(), "{bad}");
        }
        assert!(command_line(" ").is_err());
        let id = "a".repeat(40);
        assert!(format!("{id}=ab12").parse::<DoneNode>().is_ok());
        for bad in [
            "a=b".to_string(),
            id.clone(),
            format!("{id}="),
            format!("{id}=x y"),
        ] {
            assert!(bad.parse::<DoneNode>().is_err(), "{bad}");
        }
    }
}
