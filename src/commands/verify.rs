//! `redis-trib verify --from SRC NODE`: whether a cluster has the keys of a source.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;

use crate::args::source::SourceArgs;
use crate::args::values::{duration, node_words};
use crate::change::{Global, Look};
use crate::exit_code::ExitCode;
use crate::ops::data::rdb_files;
use crate::ops::data::source::{ClusterNodes, SourceRequest};
use crate::ops::data::verify::{self, VerifyFilesRequest, VerifyRequest};
use crate::report::VerifyView;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::transfer::{Direction, ReadFrom};
use crate::ui::Ui;

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "SRC may also be RDB files, directories with RDB files, or the directory of a backup. Both sides are only read. A key that is not the same is compared three times, a moment apart. Memory \
    does not depend on the number of keys: about 4 MiB for each of 16 connections at most, and 16 MiB of names.\n\
    Exit code 1: keys are missing, different, or only in the cluster.\n\nExamples:\n  \
    redis-trib verify --from 10.0.0.9:6379 10.0.0.3:6379\n  \
    redis-trib verify --from 10.0.0.9 10.0.0.3 --both-ways --output json\n  \
    redis-trib verify --from /backup/2026-11-22 10.0.0.3\n  \
    redis-trib verify --from a.rdb.gz --from b.rdb.gz 10.0.0.3"
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
    if let Some(paths) = args.source.files()? {
        let request = of_files(&args, &paths)?;
        let mut look = Look::open(global, ui, &seeds).await?;
        let work = async |session: &Session| verify::verify_files(session, request).await;
        return end(ui, &look.run(&seeds, work).await?);
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
            cluster_nodes: ClusterNodes::Read,
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

/// The files that the paths stand for, and what is compared of them.
fn of_files(args: &Args, paths: &[PathBuf]) -> Result<VerifyFilesRequest, Stop> {
    let source = &args.source;
    let usage = |text: &str| Err(Stop::usage(anyhow!("{text}")));
    if args.both_ways {
        return usage("--both-ways compares two servers, and --from names a file");
    }
    if source.has_login() {
        return usage("a login is for a server, and --from names a file");
    }
    if paths.iter().any(|path| rdb_files::is_stdin(path)) {
        return usage(
            "keys are compared up to three times, and standard input can be read only once: save it to a file",
        );
    }
    let (pattern, tolerance) = (source.pattern.as_deref(), args.ttl_tolerance);
    let databases = source.databases()?;
    let refused = |error: anyhow::Error| Stop::refused(anyhow!("{error:#}"));
    if let [directory] = paths
        && rdb_files::is_backup(directory)
    {
        let databases = source.names_databases().then_some(databases);
        let request = VerifyFilesRequest::of_backup(directory, databases, pattern, tolerance);
        return request.map_err(Stop::refused);
    }
    if let Some(directory) = paths.iter().find(|path| rdb_files::is_backup(path)) {
        return usage(&format!(
            "{} is a backup of redis-trib, which is compared alone",
            directory.display()
        ));
    }
    let files = rdb_files::find(paths, source.increments()).map_err(refused)?;
    let request = VerifyFilesRequest::of_files(&files, &databases, pattern, tolerance);
    Ok(request)
}

fn end(ui: &Ui, view: &VerifyView) -> CommandResult {
    ui.compared(view)?;
    Ok(match view.unequal() {
        0 => ExitCode::Done,
        _ => ExitCode::Unhealthy,
    })
}
