//! `redis-trib failover NODE --to MEMBER | --of MEMBER`: a replica takes over from its master.

use std::io;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::values::duration;
use crate::args::values::node_words;
use crate::change::{Approval, Change, Global, Proposal, Question};
use crate::cluster::node::Takeover;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::failover;
use crate::plan::failover::{Decision, NamedMember, Request};
use crate::resolve::find_member;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `failover`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib failover [OPTIONS] <NODE> <--to <MEMBER>|--of <MEMBER>|REPLICA>",
    after_help = "A member is named by its id, a unique prefix of its id of 4 or more characters, or its \
    address.\nThe command can be run again: what is done already is success.\n\nExamples:\n  \
    redis-trib failover 10.0.0.3 --to 105f108d           # this replica takes over, no write is lost\n  \
    redis-trib failover 10.0.0.3 --of 10.0.0.5:6379      # the best replica of this master takes over\n  \
    redis-trib failover 10.0.0.3 --of 69a0bef4 --force   # this master is dead, and no replica was elected"
)]
#[command(group = clap::ArgGroup::new("member").required(true))]
pub struct Args {
    /// A node of the cluster, as host:port.
    #[arg(value_name = "NODE")]
    node: String,
    /// The replica that takes over, as with --to.
    #[arg(value_name = "REPLICA", group = "member")]
    replica: Option<String>,
    /// Make this member the master. Nothing is changed if it is the master already.
    #[arg(long, value_name = "MEMBER", group = "member")]
    to: Option<String>,
    /// Hand over from this master to its best replica. Nothing is changed if it is a replica whose master
    /// answers.
    #[arg(long, value_name = "MEMBER", group = "member")]
    of: Option<String>,
    /// Take over without the master, if it is dead: writes that it has not replicated ARE LOST. A majority
    /// of the masters must vote.
    #[arg(long, conflicts_with = "takeover")]
    force: bool,
    /// Take over without votes, if the majority of the masters is gone: like --force, and both sides of a
    /// split network may accept writes, of which one side's ARE LOST.
    #[arg(long)]
    takeover: bool,
    /// Let this replica take over although its copy is empty, incomplete or behind another one: what it lacks IS
    /// LOST. A master stands for all of its replicas. With --force or --takeover.
    #[arg(long, value_name = "MEMBER", value_delimiter = ',')]
    accept_data_loss_of: Vec<String>,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    yes: bool,
    /// Show which replica would take over and exit.
    #[arg(long)]
    dry_run: bool,
    /// Timeout for the wait until all nodes agree and the old master is a replica.
    #[arg(long = "agreement-timeout", alias = "timeout", value_name = "TIME", default_value = "30s", value_parser = duration)]
    timeout: Duration,
}

impl Args {
    fn request(&self, cluster: &ClusterState) -> Result<Request, Stop> {
        let find = |name: &String| {
            let found = find_member(&cluster.diagnosis.observation, name);
            found.map_err(Stop::refused)
        };
        let member = match (&self.replica, &self.to, &self.of) {
            (Some(name), ..) => NamedMember::Positional(find(name)?),
            (_, Some(name), _) => NamedMember::To(find(name)?),
            (.., Some(name)) => NamedMember::Of(find(name)?),
            (None, None, None) => {
                return Err(Stop::usage(anyhow!(
                    "--to MEMBER or --of MEMBER is missing"
                )));
            }
        };
        let how = match (self.force, self.takeover) {
            (_, true) => Takeover::Takeover,
            (true, false) => Takeover::Force,
            (false, false) => Takeover::Planned,
        };
        let accepted = self.accept_data_loss_of.iter().map(find);
        Ok(Request {
            member,
            how,
            accepted: accepted.collect::<Result<_, _>>()?,
        })
    }
}

/// Fails over to a replica.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(std::slice::from_ref(&args.node))?;
    let approval = Approval::of(args.yes, args.dry_run);
    let mut change = Change::open(global, ui, "failover", &[seed], approval).await?;
    let session = change.session();
    let plan = async || {
        let request = |cluster: &ClusterState| args.request(cluster);
        let (cluster, decision) = failover::observe_and_plan(&session, request).await?;
        match decision {
            Ok(decision) => Ok(Plan { cluster, decision }),
            Err(error) => {
                session.refuse_if_at_work(&cluster.answering()).await?;
                Err(Stop::refused(anyhow!("{error}; nothing was changed")))
            }
        }
    };
    let Some(Plan { cluster, decision }) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    let Decision::FailOver(plan) = decision else {
        return Ok(ExitCode::Done);
    };
    let work = failover::execute(&session, &cluster, &plan, args.timeout);
    let done = change.execute(work).await?;
    ui.failed_over(&(&done).into())?;
    change.finish("")
}

/// A failover, and the cluster for which it was planned.
struct Plan {
    cluster: ClusterState,
    decision: Decision,
}

impl Proposal for Plan {
    fn nothing_to_do(&self) -> Option<String> {
        match self.decision {
            Decision::NoChange(already) => Some(failover::already(&self.cluster, already)),
            Decision::FailOver(_) => None,
        }
    }

    fn lock(&self) -> Vec<Target> {
        let replica = match self.decision {
            Decision::FailOver(plan) => Some(plan.replica),
            Decision::NoChange(_) => None,
        };
        failover::lock(&self.cluster, replica)
    }

    fn show(&self, ui: &Ui) -> io::Result<()> {
        match self.decision {
            Decision::FailOver(plan) => ui.failover_plan(&failover::view(&self.cluster, &plan)),
            Decision::NoChange(_) => Ok(()),
        }
    }

    fn question(&self) -> Option<Question> {
        let Decision::FailOver(plan) = self.decision else {
            return None;
        };
        Some(Question {
            about: format!(
                "The cluster of {} nodes that {} belongs to.",
                self.cluster.diagnosis.topology.members.len(),
                self.cluster.seed()
            ),
            text: match plan.how {
                Takeover::Planned => "Fail over?",
                Takeover::Force | Takeover::Takeover => "Fail over, and lose such writes?",
            }
            .to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.decision == other.decision
    }
}
