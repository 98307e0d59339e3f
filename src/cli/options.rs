//! `redis-trib options`: the options that every command takes.

use crate::args::global::GlobalArgs;
use crate::exit_code::ExitCode;
use crate::stop::CommandResult;
use crate::ui::Ui;

/// Arguments of `options`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Global options may precede or follow the other words of a command.\n\nExamples:\n  \
    redis-trib options\n  \
    redis-trib options | grep -A2 -e --settle-timeout"
)]
pub struct Args {}

/// Prints the list.
pub fn run(ui: &Ui, _: Args) -> CommandResult {
    ui.document(list().as_bytes())?;
    Ok(ExitCode::Done)
}

fn list() -> String {
    let command = clap::Command::new("redis-trib")
        .disable_help_flag(true)
        .max_term_width(super::WIDTH)
        .help_template("{all-args}");
    <GlobalArgs as clap::Args>::augment_args(command)
        .render_long_help()
        .to_string()
        + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    #[test]
    fn every_global_option_is_listed() {
        let list = list();
        for arg in Cli::command()
            .get_arguments()
            .filter(|arg| arg.is_global_set())
        {
            let flag = format!("--{}", arg.get_long().unwrap_or_default());
            assert!(list.contains(&flag), "{flag}\n{list}");
        }
    }
}
