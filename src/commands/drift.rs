//! `redis-trib drift NODE`: what differs among the nodes, and giving all what one has.

use std::io;

use anyhow::anyhow;

use crate::change::{Approval, Change, Global, Look, Proposal, Question};
use crate::cluster::numbers::counted;
use crate::connections::Target;
use crate::exit_code::ExitCode;
use crate::ops::drift::{self, Fix};
use crate::plan::drift::{Ignored, What};
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `drift`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Compares CONFIG GET * (without addresses, ports and paths), ACL users, functions, modules and\n\
    versions. Passwords and rules are compared by their hashes and never shown.\nExit code 1: something differs, \
    or a node did not tell everything.\n\nExamples:\n  \
    redis-trib drift 10.0.0.3\n  \
    redis-trib drift 10.0.0.3 --ignore io-threads --ignore 'acl:*' --output json\n  \
    redis-trib drift 10.0.0.3 --fix config:maxmemory --from 69a0bef4 --dry-run"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// Leave out a setting, acl:USER, function:NAME, module:NAME or version; * at the end (repeatable).
    #[arg(long, value_name = "KEY", value_delimiter = ',', value_parser = ignored)]
    ignore: Vec<String>,
    /// Give all nodes what --from has: functions, acl:USER or config:KEY.
    #[arg(long, value_name = "WHAT", requires = "from")]
    fix: Option<What>,
    /// The member that has it as it should be.
    #[arg(long, value_name = "MEMBER", requires = "fix")]
    from: Option<String>,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes", requires = "fix")]
    yes: bool,
    /// Show what --fix would change, and exit.
    #[arg(long, requires = "fix")]
    dry_run: bool,
}

fn ignored(text: &str) -> Result<String, String> {
    match text.is_empty() {
        true => {
            Err("a KEY is a setting, acl:USER, function:NAME, module:NAME or version".to_string())
        }
        false => Ok(text.to_string()),
    }
}

impl Args {
    /// Whether the command changes nodes.
    pub fn changes_nodes(&self) -> bool {
        self.fix.is_some()
    }
}

/// Compares the nodes, or gives them what one of them has.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    if let (Some(what), Some(from)) = (&args.fix, &args.from) {
        return fix(global, ui, &args, what, from).await;
    }
    let ignored = Ignored::new(args.ignore.clone());
    let seeds = std::slice::from_ref(&args.node);
    let mut look = Look::open(global, ui, seeds).await?;
    let compare = async |session: &Session| drift::compare(session, &ignored).await;
    let view = look.run(seeds, compare).await?;
    ui.drift(&view)?;
    Ok(match view.same {
        true => ExitCode::Done,
        false => ExitCode::Unhealthy,
    })
}

async fn fix(global: &Global, ui: &Ui, args: &Args, what: &What, from: &str) -> CommandResult {
    if !args.ignore.is_empty() {
        return Err(Stop::usage(anyhow!(
            "--ignore is for the comparison, and --fix names what it changes: leave one of them out"
        )));
    }
    let approval = Approval::of(args.yes, args.dry_run);
    let seeds = std::slice::from_ref(&args.node);
    let mut change = Change::open(global, ui, "drift", seeds, approval).await?;
    let session = change.session();
    let plan = async || Ok(Planned(drift::plan(&session, what, from).await?));
    let Some(Planned(plan)) = change.approve(plan).await? else {
        return Ok(ExitCode::Done);
    };
    change.execute(drift::execute(&session, &plan)).await?;
    let nodes = counted(plan.len() as u64, "node");
    change.finish(&format!(
        "[OK] {what} is copied to {nodes}, and was read back."
    ))
}

/// A planned fix, as the pipeline sees it.
struct Planned(Fix);

impl Proposal for Planned {
    fn nothing_to_do(&self) -> Option<String> {
        let is_empty = self.0.is_empty();
        is_empty.then(|| "No node differs from that one: nothing to do.".to_string())
    }

    fn show_basis(&self, ui: &Ui) -> io::Result<()> {
        ui.drift_fix(&self.0.view())
    }

    fn lock(&self) -> Vec<Target> {
        self.0.lock()
    }

    fn show(&self, _ui: &Ui) -> io::Result<()> {
        Ok(())
    }

    fn question(&self) -> Option<Question> {
        let nodes = counted(self.0.len() as u64, "node");
        Some(Question {
            about: format!("{nodes} will change, one after the other."),
            text: "Copy it?".to_string(),
        })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.is_same(&other.0)
    }
}
