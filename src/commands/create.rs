//! `redis-trib create NODE…`: a cluster of empty nodes.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::{duration, number, refuse_duplicates};
use crate::args::zones::ZoneArgs;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::node::Addr;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::create::{self, CreatePlan, CreateRequest, Created, Proposed};
use crate::ops::join::Until;
use crate::ops::join::inspect::inspect;
use crate::plan::create::{FewMasters, ReplicaOrder};
use crate::seed::{Seed, parse_addr};
use crate::session::LockHeld;
use crate::stop::{CommandResult, Stop};
use crate::ui::{Mode, Ui};

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib create --replicas 1 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.7 10.0.0.8 10.0.0.9\n  \
    redis-trib create --yes --if-needed --replicas 1 --expect-nodes 6 tasks.master tasks.slave")]
pub struct Args {
    /// The nodes. If names stand for several nodes each, the nodes of the first names become masters, where their
    /// number fits.
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<Seed>,
    /// Replicas of each master.
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = number("replicas", 0..=999))]
    replicas: u16,
    /// Make this node a master (repeatable).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pin_master: Vec<Addr>,
    /// Make this node a replica (repeatable).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pin_replica: Vec<Addr>,
    /// Accept a cluster of one or two masters, which has no automatic failover.
    #[arg(long)]
    allow_few_masters: bool,
    #[command(flatten)]
    zones: ZoneArgs,
    /// Succeed without a change if the nodes form one healthy cluster already.
    #[arg(long)]
    if_needed: bool,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show the plan and exit.
    #[arg(long)]
    dry_run: bool,
    /// Return when all nodes agree about slots and roles, without waiting until they are usable.
    #[arg(long)]
    no_wait: bool,
    /// Timeout for the nodes to join, agree and be usable.
    #[arg(long, value_name = "TIME", default_value = "60s", allow_hyphen_values = true, value_parser = duration)]
    join_timeout: Duration,
}

/// Creates a cluster.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    args.refuse_contradictions()?;
    let request = args.request(global, ui.mode());
    let approval = Approval::of(args.yes, args.dry_run);
    let mut change = Change::open(global, ui, "create", &args.nodes, approval).await?;
    let session = change.session();
    let inspect = async || inspect(&session, global.args.start_timeout()).await;
    let nodes = change.prepare(inspect()).await?;
    let few = nodes.len() / (1 + request.replicas) < 3;
    if few && ui.mode() == Mode::ValkeyCli && change.approval() == Approval::Ask {
        let text = "Valkey cluster requires at least 3 primary nodes for automatic failover. Are you sure?";
        let question = Question {
            about: format!("A new cluster of {} nodes.", nodes.len()),
            text: text.to_string(),
        };
        change.consent(&question).await?;
    }
    // The lock comes before the plan: nodes that another redis-trib is about to join look unhealthy.
    let held = change.lock(&session.targets()).await?;
    // What was read before another redis-trib finished may be out of date.
    let nodes = Cell::new((held == LockHeld::AtOnce).then_some(nodes));
    let plan = async || {
        let nodes = match nodes.take() {
            Some(nodes) => nodes,
            None => inspect().await?,
        };
        Ok(Plan {
            proposed: create::propose(&session, &request, nodes).await?,
            targets: session.targets(),
            approval,
        })
    };
    let Some(plan) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let Proposed::Create(plan) = plan.proposed else {
        return Ok(ExitCode::Done);
    };
    let work = create::execute(&session, &plan, &request);
    let created = change.execute(work).await?;
    report(ui, change, &plan, &created)
}

impl Args {
    /// Refuses what is wrong for any nodes.
    fn refuse_contradictions(&self) -> Result<(), Stop> {
        refuse_duplicates(&self.nodes)?;
        match self
            .pin_master
            .iter()
            .find(|addr| self.pin_replica.contains(addr))
        {
            Some(addr) => Err(Stop::usage(anyhow!(
                "{addr} is pinned as master (--pin-master) and as replica (--pin-replica): remove one"
            ))),
            None => Ok(()),
        }
    }

    fn request(&self, global: &Global, mode: Mode) -> CreateRequest {
        CreateRequest {
            replicas: usize::from(self.replicas),
            pin_master: self.pin_master.clone(),
            pin_replica: self.pin_replica.clone(),
            few_masters: match self.allow_few_masters {
                true => FewMasters::Allow,
                false => FewMasters::Refuse,
            },
            replica_order: match mode.is_redis_cli() {
                true => ReplicaOrder::RedisCli,
                false => ReplicaOrder::Given,
            },
            zones: self.zones.rules(&global.args),
            if_needed: self.if_needed,
            until: match self.no_wait {
                true => Until::Agreed,
                false => Until::Usable,
            },
            within: self.join_timeout,
        }
    }
}

/// What is to be done, and whether it will be.
struct Plan {
    proposed: Proposed,
    targets: Vec<Target>,
    approval: Approval,
}

impl Plan {
    /// The plan, if any of its steps is left to do.
    fn unfinished(&self) -> Option<&CreatePlan> {
        match &self.proposed {
            Proposed::Create(plan) if !plan.progress.rest.is_empty() => Some(plan),
            Proposed::Create(_) | Proposed::Exists(_) => None,
        }
    }
}

impl Proposal for Plan {
    fn nothing_to_do(&self) -> Option<String> {
        match self.proposed {
            Proposed::Exists(nodes) => Some(exists(nodes)),
            Proposed::Create(_) => None,
        }
    }

    fn lock(&self) -> Vec<Target> {
        self.targets.clone()
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        let Proposed::Create(plan) = &self.proposed else {
            return Ok(());
        };
        let (done, left) = (plan.progress.done, plan.progress.rest.len());
        if left > 0 || self.approval == Approval::DryRun {
            ui.layout(&plan.view())?;
        }
        if done > 0 && left > 0 && self.approval != Approval::DryRun {
            ui.note(&format!(
                "an interrupted create has done {done} of {} steps: this one does the rest",
                done + left
            ));
        }
        Ok(())
    }

    fn question(&self) -> Option<Question> {
        let plan = self.unfinished()?;
        Some(Question {
            about: format!("A new cluster of {} nodes.", plan.nodes.len()),
            text: "Can I set the above configuration?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self.unfinished(), other.unfinished()) {
            (Some(one), Some(other)) => {
                one.view() == other.view() && one.progress.rest == other.progress.rest
            }
            _ => false,
        }
    }
}

fn report(ui: &Ui, change: Change<'_>, plan: &CreatePlan, created: &Created) -> CommandResult {
    let took = created.took;
    match &created.diagnosis {
        None => ui.agreed(plan.nodes.len(), took, &plan.nodes[0].target.addr)?,
        Some(diagnosis) if created.changed => ui.created(diagnosis, took)?,
        Some(diagnosis) => {
            let nodes = diagnosis.topology.members.len();
            return change.finish(&exists(nodes));
        }
    }
    Ok(ExitCode::Done)
}

fn exists(nodes: usize) -> String {
    format!("These nodes already form a healthy cluster of {nodes}: nothing to do.")
}
