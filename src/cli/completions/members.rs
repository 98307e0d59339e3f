//! Completion of members: one node of the cluster is asked, within a short time and without error messages.

use std::ffi::OsStr;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use clap_complete::engine::CompletionCandidate;

use super::Question;
use crate::args::global::GlobalArgs;
use crate::args::named::NamedCluster;
use crate::args::values::node_words;
use crate::change::{Global, Look};
use crate::cli::Cli;
use crate::cluster::node::Role;
use crate::cluster::parse::{EntryPool, View};
use crate::cluster::slot::SlotSet;
use crate::seed::{Seed, parse_addr};
use crate::ui::{Ui, UiOptions};

/// The time limit: TAB must not block the shell.
const TIME_LIMIT: Duration = Duration::from_millis(900);

/// The members to offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    All,
    Masters,
}

/// Ids and addresses that begin with the typed text, each with `suffix`.
pub(super) fn nodes(typed: &OsStr, which: Which, suffix: &str) -> Vec<CompletionCandidate> {
    let (Some(typed), Some(view)) = (typed.to_str(), Question::read().and_then(ask)) else {
        return Vec::new();
    };
    let entries = view
        .entries()
        .filter(|entry| which == Which::All || entry.role == Some(Role::Master));
    let mut offered: Vec<(String, String)> = Vec::new();
    for entry in entries {
        // Text that a shell might execute is not offered.
        let addr = entry.addr.as_ref().map(ToString::to_string);
        let addr = addr.filter(|addr| addr.is_ascii() && parse_addr(addr).is_ok());
        let slots: SlotSet = entry.slots.iter().copied().collect();
        let about = match entry.role {
            Some(Role::Replica) => "replica".to_string(),
            _ => format!("master of {} slots", slots.count()),
        };
        let shown = addr.clone().unwrap_or_else(|| "no address".to_string());
        offered.push((entry.id.to_string(), format!("{shown} {about}")));
        if let Some(addr) = addr {
            offered.push((addr, format!("{} {about}", entry.id.short())));
        }
    }
    offered.retain(|(value, _)| value.starts_with(typed));
    offered.sort();
    let candidate = |(value, about): (String, String)| {
        CompletionCandidate::new(value + suffix).help(Some(about.into()))
    };
    offered.into_iter().map(candidate).collect()
}

/// The view of the node that the line names.
fn ask(question: Question) -> Option<View> {
    let (global, seed) = target(question)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let view = runtime.block_on(async {
        tokio::time::timeout(TIME_LIMIT, look(global, seed))
            .await
            .ok()?
    });
    // A DNS request may still be running.
    runtime.shutdown_background();
    view
}

async fn look(global: GlobalArgs, seed: Seed) -> Option<View> {
    let ui = Ui::new(UiOptions::default());
    let seeds = [seed];
    let global = Global::open(global).ok()?;
    let look = Look::open(&global, &ui, &seeds).await.ok()?;
    let session = look.sessions().open(&seeds).await.ok()?;
    for target in session.targets() {
        let Ok(client) = session.connections.temporary(&target).await else {
            continue;
        };
        let Ok(text) = client.cluster_nodes().await else {
            continue;
        };
        if let Ok(view) = EntryPool::default().view(&text) {
            return Some(view);
        }
    }
    None
}

/// The options and the node of an unfinished line. The password comes from REDISCLI_AUTH or the configuration file:
/// no `pass_command` is run and nothing is asked while the line is typed.
fn target(question: Question) -> Option<(GlobalArgs, Seed)> {
    let mut words = question.words;
    // Without a word at that position, the next word would be parsed in its place.
    *words.get_mut(question.index)? = "?".into();
    let matches = Cli::command()
        .ignore_errors(true)
        .try_get_matches_from(words)
        .ok()?;
    let named = NamedCluster::read(&matches).ok()?.for_completion();
    let (_, matches) = matches.subcommand()?;
    let mut global = GlobalArgs::from_arg_matches(matches).ok()?;
    global.pass = None;
    global.pass_file = None;
    global.askpass = false;
    global.expect_nodes = None;
    global.journal = None;
    global.confirm = None;
    global.named = named;
    Some((global, node(matches)?))
}

fn node(matches: &ArgMatches) -> Option<Seed> {
    // `add-node NEW… EXISTING`: the last one is a member.
    let named = |id: &str| {
        let words = matches.try_get_raw(id).ok()??;
        let words: Option<Vec<String>> =
            words.map(|word| Some(word.to_str()?.to_string())).collect();
        words
    };
    let words = match named("node") {
        Some(words) => words,
        None => vec![named("nodes")?.pop()?],
    };
    let words: Vec<String> = words.into_iter().filter(|word| word != "?").collect();
    node_words(&words).ok()
}
