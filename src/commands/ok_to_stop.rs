//! `redis-trib ok-to-stop NODE ID…`: whether nodes can be stopped now.

use crate::change::{Global, Look};
use crate::exit_code::ExitCode;
use crate::ops::ok_to_stop;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Arguments of `ok-to-stop`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: every slot stays served (a replica in sync takes over from a \
    master), a majority\nof the masters stays up, and no master loses its last replica in sync. Exit code 3: one of \
    these does\nnot hold; the reasons are on standard output. For rolling restarts and preStop hooks.\n\nWith --max, \
    exit code 0 means that at least one node can be stopped.\n\nExamples:\n  \
    redis-trib ok-to-stop 10.0.0.3 8fabdaed\n  \
    redis-trib ok-to-stop 10.0.0.3 --max\n  \
    until redis-trib ok-to-stop 127.0.0.1 127.0.0.1:6379 --quiet; do sleep 5; done"
)]
pub struct Args {
    /// A node of the cluster; it may be one of the nodes to stop.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The nodes to stop at the same time: ids, id prefixes, or addresses.
    #[arg(required_unless_present = "max", num_args = 1.., value_name = "ID")]
    ids: Vec<String>,
    /// Find the largest set of these nodes, or of all, that can be stopped together.
    #[arg(long)]
    max: bool,
}

/// Checks whether nodes can be stopped.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seeds = std::slice::from_ref(&args.node);
    let mut look = Look::open(global, ui, seeds).await?;
    if args.max {
        let find = async |session: &Session| ok_to_stop::largest_set(session, &args.ids).await;
        let view = look.run(seeds, find).await?;
        ui.largest_stop(&view)?;
        return Ok(exit_code(view.ok));
    }
    let check = async |session: &Session| ok_to_stop::check(session, &args.ids).await;
    let view = look.run(seeds, check).await?;
    ui.ok_to_stop(&view)?;
    Ok(exit_code(view.objections.is_empty()))
}

fn exit_code(is_ok: bool) -> ExitCode {
    match is_ok {
        true => ExitCode::Done,
        false => ExitCode::Refused,
    }
}
