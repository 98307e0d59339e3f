//! `redis-trib verify --from SRC NODE`: whether a cluster has the keys of a source.

use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::source::SourceArgs;
use crate::args::values::{duration, node_words};
use crate::change::{Global, Look};
use crate::exit_code::ExitCode;
use crate::ops::data::source::SourceRequest;
use crate::ops::data::verify::{self, VerifyRequest};
use crate::report::VerifyView;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::transfer::{Direction, ReadFrom};
use crate::ui::Ui;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SRC may also be the directory of a backup. Both sides are only read. A key that is not the same is compared three times, a moment apart. Memory \
    does not depend on the number of keys: about 4 MiB for each of 16 connections at most, and 16 MiB of names.\n\
    Exit code 1: keys are missing, different, or only in the cluster.\n\nExamples:\n  \
    redis-trib verify --from 10.0.0.9:6379 10.0.0.3:6379\n  \
    redis-trib verify --from 10.0.0.9 10.0.0.3 --both-ways --output json\n  \
    redis-trib verify --from /backup/2026-11-22 10.0.0.3"
)]
pub struct Args {
    /// A node of the cluster (also as two words: `host port`).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    #[command(flatten)]
    source: SourceArgs,
    /// Also look for keys that only the cluster has.
    #[arg(long)]
    both_ways: bool,
    /// By how much the times to live of a key may differ.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    ttl_tolerance: Duration,
}

/// Compares keys.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seeds = [node_words(&args.node)?];
    if let Some(directory) = args.source.directory() {
        return backup(global, ui, &args, directory, &seeds).await;
    }
    let databases = args.source.databases()?;
    if args.both_ways && args.source.maps() {
        return Err(Stop::usage(anyhow!(
            "--both-ways compares one database with one: leave out --from-db all, --db-map and --key-prefix"
        )));
    }
    let also = std::slice::from_ref(args.source.server()?);
    let mut look = Look::open_also(global, ui, &seeds, also).await?;
    let request = VerifyRequest {
        source: SourceRequest {
            session: None,
            target: args.source.of_look(global, &mut look).await?,
            databases,
            read_from: ReadFrom::Masters,
        },
        pattern: args.source.pattern,
        direction: match args.both_ways {
            true => Direction::BothWays,
            false => Direction::Source,
        },
        ttl_tolerance: args.ttl_tolerance,
    };
    let work = async |session: &Session| verify::verify(session, request).await;
    let view = look.run(&seeds, work).await?;
    end(ui, &view)
}

/// Compares the keys of a backup.
async fn backup(
    global: &Global,
    ui: &Ui,
    args: &Args,
    directory: &Path,
    seeds: &[Seed],
) -> CommandResult {
    let source = &args.source;
    let has_database = source.one_database().is_some() || source.maps();
    if args.both_ways || source.pattern.is_some() || source.has_login() || has_database {
        return Err(Stop::usage(anyhow!(
            "--from names a directory: --both-ways, --pattern, databases and a login are for servers"
        )));
    }
    let mut look = Look::open(global, ui, seeds).await?;
    let tolerance = args.ttl_tolerance;
    let work = async |session: &Session| verify::verify_backup(session, directory, tolerance).await;
    let view = look.run(seeds, work).await?;
    end(ui, &view)
}

fn end(ui: &Ui, view: &VerifyView) -> CommandResult {
    ui.compared(view)?;
    Ok(match view.unequal() {
        0 => ExitCode::Done,
        _ => ExitCode::Unhealthy,
    })
}
