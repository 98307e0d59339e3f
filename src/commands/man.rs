//! `redis-trib man`: its man pages, from the words of `--help`.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_mangen::Man;

use super::{CommandResult, Stop};
use crate::cli::Cli;
use crate::exit_code::ExitCode;
use crate::ui::Ui;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib man | man -l -\n  \
    redis-trib man /usr/local/share/man/man1")]
pub struct Args {
    /// Write a page for each command to this directory, which is made where it is missing. Without
    /// it, the page of the program goes to standard output.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the pages.
pub fn run(ui: &Ui, args: Args) -> CommandResult {
    let Some(dir) = args.dir else {
        let mut page = Vec::new();
        Man::new(Cli::command()).render(&mut page)?;
        ui.document(&page)?;
        return Ok(ExitCode::Done);
    };
    std::fs::create_dir_all(&dir)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), &dir))
        .with_context(|| format!("the pages can't be written to {}", dir.display()))
        .map_err(Stop::refused)?;
    Ok(ExitCode::Done)
}
