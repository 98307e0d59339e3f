//! `redis-trib watch NODE`: a live look at a cluster.

use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep_until};

use crate::args::values::duration;
use crate::change::{Global, Look};
use crate::exit_code::ExitCode;
use crate::ops::watch::Watcher;
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::{Reader, Ui, WatchOutput, WatchScreen};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: q quit, s sort, p pause, arrows select, Enter node details.\n\
    It only reads, and runs beside commands that change the cluster.\n\nExamples:\n  \
    redis-trib watch 10.0.0.3\n  \
    redis-trib watch 10.0.0.3 -n 500ms\n  \
    redis-trib watch 10.0.0.3 --once                # one table, also in a pipe\n  \
    redis-trib watch 10.0.0.3 --output json | jq -c .events[]"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The time between two frames.
    #[arg(short = 'n', long, value_name = "TIME", default_value = "2s", value_parser = duration)]
    interval: Duration,
    /// Print one frame as a table and exit. Rates are those of one interval.
    #[arg(long)]
    once: bool,
}

/// Shows a cluster until a key, a signal, or the end of the output.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let output = match ui.watch_output() {
        WatchOutput::Screen | WatchOutput::NoTerminal if args.once => WatchOutput::Table,
        WatchOutput::NoTerminal => {
            return Err(Stop::usage(anyhow!(
                "watch needs a terminal on standard input and output: use --once for one table, or --output json for one \
                 object per frame"
            )));
        }
        output => output,
    };
    let seeds = std::slice::from_ref(&args.node);
    let mut look = Look::open(global, ui, seeds).await?;
    let watching = async |session: &Session| watch(session, ui, &args, output).await;
    look.run(seeds, watching).await?;
    Ok(ExitCode::Done)
}

async fn watch(session: &Session, ui: &Ui, args: &Args, output: WatchOutput) -> Result<(), Stop> {
    let mut watcher = Watcher::begin(session, args.interval).await?;
    if args.once {
        let next = Instant::now() + args.interval;
        watcher.tick().await;
        sleep_until(next).await;
        let view = watcher.tick().await;
        return Ok(ui.watch_once(&view)?);
    }
    match output {
        WatchOutput::Screen => {
            let screen = ui.watch_screen(&args.node.to_string(), args.interval)?;
            on_screen(&mut watcher, screen, args.interval).await
        }
        _ => loop {
            let next = Instant::now() + args.interval;
            if ui.watch_frame(&watcher.tick().await)? == Reader::Gone {
                return Ok(());
            }
            sleep_until(next).await;
        },
    }
}

/// Shows frames until `q` is pressed. Keys are heard while nodes are asked, too.
async fn on_screen(
    watcher: &mut Watcher,
    mut screen: WatchScreen,
    interval: Duration,
) -> Result<(), Stop> {
    loop {
        let next = Instant::now() + interval;
        let Some(view) = screen.until_quit(watcher.tick()).await? else {
            return Ok(());
        };
        screen.show(view)?;
        if screen.until_quit(sleep_until(next)).await?.is_none() {
            return Ok(());
        }
    }
}
