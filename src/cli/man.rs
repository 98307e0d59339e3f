//! `redis-trib man`: man pages, generated from the text of `--help`.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit_code::ExitCode;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib man | man -l -\n  \
    redis-trib man /usr/local/share/man/man1")]
pub struct Args {
    /// Write a page for each command to this directory, which is created if needed. Without it, the
    /// page of the program is printed.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Writes the pages.
pub fn run(ui: &Ui, args: Args) -> CommandResult {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = args.dir else {
        ui.document(&page(&command)?)?;
        return Ok(ExitCode::Done);
    };
    write_all(&command, &dir)
        .with_context(|| format!("the pages can't be written to {}", dir.display()))
        .map_err(Stop::refused)?;
    Ok(ExitCode::Done)
}

fn write_all(command: &Command, dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for one in std::iter::once(command).chain(command.get_subcommands()) {
        let name = Man::new(one.clone()).get_filename();
        std::fs::write(dir.join(name), page(one)?)?;
    }
    Ok(())
}

/// The page of clap_mangen with another synopsis, which would list all options, and with examples that are not filled
/// like prose.
fn page(command: &Command) -> io::Result<Vec<u8>> {
    let usage = command.clone().render_usage().to_string();
    let after = command.get_after_help().map(ToString::to_string);
    let man = Man::new(command.clone()).source(concat!("redis-trib ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    let usage = usage.trim_start_matches("Usage: ");
    page.extend(format!(".SH SYNOPSIS\n{}\n", escaped(usage)).bytes());
    man.render_description_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    man.render_options_section(&mut page)?;
    page.extend(notes(&after.unwrap_or_default()).bytes());
    Ok(page)
}

/// The text below the options: prose and examples, each on its own line.
fn notes(text: &str) -> String {
    let mut roff = String::new();
    for line in text.lines() {
        match line.strip_prefix("  ") {
            Some(example) => roff += &format!(".PP\n.nf\n.RS 2\n{}\n.RE\n.fi\n", escaped(example)),
            None if line == "Examples:" => roff += ".SH EXAMPLES\n",
            None if line.is_empty() => {}
            None => {
                if roff.is_empty() {
                    roff += ".SH NOTES\n";
                }
                roff += &format!(".PP\n{}\n", escaped(line));
            }
        }
    }
    roff
}

/// Text without roff markup: plain hyphens and quotes, no request at the start of a line.
fn escaped(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('`', "\\(ga");
    match text.starts_with('.') {
        true => format!("\\&{text}"),
        false => text,
    }
}
