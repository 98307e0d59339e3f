//! `redis-trib info NODE`: the masters with their keys, slots and replicas.

use crate::args::values::node_words;
use crate::change::{Global, Look};
use crate::cluster::health::{Background, Diagnosis};
use crate::discover;
use crate::exit_code::ExitCode;
use crate::session::Session;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Arguments of `info`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib info [OPTIONS] <NODE>",
    after_help = "Examples:\n  \
    redis-trib info 10.0.0.3:6379\n  \
    redis-trib info 10.0.0.3 --output json | jq .keys"
)]
pub struct Args {
    /// A node of the cluster (also as two words: `host port`).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
}

/// Shows the masters with their keys, slots and replicas.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seeds = [node_words(&args.node)?];
    let mut look = Look::open(global, ui, &seeds).await?;
    let observe = async |session: &Session| {
        Ok(discover::observe(&session.connections, &session.targets()).await?)
    };
    let observation = look.run(&seeds, observe).await?;
    ui.info(&Diagnosis::of(observation, &Background::default()))?;
    Ok(ExitCode::Done)
}
