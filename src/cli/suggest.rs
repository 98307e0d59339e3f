//! Suggestions for mistyped commands, where clap has none.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::nearest;

/// Adds the nearest command to an error that names an unknown one. clap (4.6) has no suggestion after `help`.
pub(super) fn with_suggestion(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    if error.kind() != ErrorKind::InvalidSubcommand
        || error.get(ContextKind::SuggestedSubcommand).is_some()
    {
        return error;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let known = command.get_subcommands().map(clap::Command::get_name);
    if let Some(near) = nearest(typed, known) {
        let near = ContextValue::Strings(vec![near.to_string()]);
        error.insert(ContextKind::SuggestedSubcommand, near);
    }
    error
}
