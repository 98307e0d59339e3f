//! `redis-trib restore DIR NODE`: the keys of a backup into a cluster of any shape.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::backup::{no_backup, read_back};
use crate::args::values::node_words;
use crate::backup::Manifest;
use crate::change::Global;
use crate::change::legacy::Access;
use crate::change::legacy::Signals;
use crate::change::legacy::consent;
use crate::cluster::parse::Info;
use crate::exit_code::ExitCode;
use crate::ops::data::{
    TransferArgs, alone, flow, infos, notes, owners, rdb_version, taker, tell, warn_of_evictions,
};
use crate::rdb::Encoding;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::transfer::{self, OnConflict, Part};
use crate::ui::{TransferPlan, Ui};

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib restore /backup/2026-11-22 10.0.0.3:6379 --dry-run\n  \
    redis-trib restore /backup/2026-11-22 10.0.0.3 --on-conflict skip --yes")]
pub struct Args {
    /// The directory of a backup.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A node of the cluster (`host port` as two words is understood too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// What becomes of keys that are in the cluster with another value.
    #[arg(long, value_name = "WHAT", default_value = "abort")]
    on_conflict: OnConflict,
    #[command(flatten)]
    transfer: TransferArgs,
}

/// Restores a backup.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let outcome = restore(global, ui, &args).await;
    if let Err(stop) = &outcome {
        ui.stopped(stop.code, &stop.error)?;
    }
    outcome
}

async fn restore(global: &Global, ui: &Ui, args: &Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let path = args.directory.as_path();
    let mut signals = Signals::listen()?;
    let manifest = Manifest::read(path).map_err(|error| Stop {
        code: ExitCode::Refused,
        ..no_backup(path, &error)
    })?;
    let intent = match args.transfer.dry_run {
        true => Access::Read,
        false => Access::Change("restore"),
    };
    let session = crate::change::legacy::open(global, ui, &[seed], intent).await?;
    let cluster = taker(&session).await?;
    // All of it, before the first key is written.
    let manifest = tokio::select! {
        read = read_back(ui, path, manifest) => read.map_err(|stop| Stop::new(ExitCode::Refused, stop.error))?,
        _ = signals.next() => {
            return Err(Stop::interrupted(anyhow!("interrupted: nothing was changed")));
        }
    };
    ui.transfer_plan(&args.plan(&cluster, &manifest))?;
    for warning in doubts(&cluster, &manifest) {
        ui.warn(&warning);
    }
    if args.transfer.dry_run {
        ui.done(ExitCode::Done, "Dry run: nothing was changed.")?;
        return Ok(ExitCode::Done);
    }
    if !args.transfer.yes {
        let about = format!("the cluster of {}", session.targets()[0].addr);
        consent(ui, "Write these keys", &about).await?;
    }
    alone(&session, &cluster).await?;
    let owners = owners(&session).await?;
    let options = args.transfer.options(args.on_conflict);
    let parts = parts(path, &manifest);
    let ended =
        flow(
            ui,
            &mut signals,
            manifest.keys(),
            |meter, stopper| async move {
                transfer::restore(owners, parts, options, meter, &stopper).await
            },
        )
        .await;
    warn_of_evictions(ui, &session, &cluster).await;
    let go_on = "what is there is passed over when the same command is run again";
    tell(ui, "restored", ended, go_on)
}

fn parts(path: &Path, manifest: &Manifest) -> Vec<Part> {
    let part = |file: &crate::backup::FileFacts| Part {
        path: path.join(&file.file),
        name: file.file.clone(),
        slots: file.slots.clone(),
    };
    manifest.files.iter().map(part).collect()
}

impl Args {
    fn plan(&self, cluster: &ClusterState, manifest: &Manifest) -> TransferPlan {
        let masters = infos(cluster);
        let mut notes = notes(cluster, self.on_conflict);
        let mut servers: Vec<&str> = manifest
            .files
            .iter()
            .map(|file| file.found.server.as_str())
            .collect();
        servers.sort_unstable();
        servers.dedup();
        notes.push(format!(
            "Saved from {} master{} of {}, {}.",
            manifest.files.len(),
            if manifest.files.len() == 1 { "" } else { "s" },
            servers.join(" and "),
            humantime::format_rfc3339_seconds(manifest.began)
        ));
        let of_modules: u64 = manifest
            .files
            .iter()
            .filter_map(|file| file.found.encodings.get(Encoding::Module2.word()))
            .sum();
        if of_modules > 0 {
            notes.push(format!(
                "{of_modules} of them have types of modules, which the masters must have loaded."
            ));
        }
        let to = cluster.diagnosis.observation.lead();
        TransferPlan {
            from: self.directory.display().to_string(),
            keys: manifest.keys(),
            to: to.map_or_else(String::new, ToString::to_string),
            masters: masters.len(),
            present: masters.values().map(Info::total_keys).sum(),
            notes,
        }
    }
}

/// What will hardly work.
fn doubts(cluster: &ClusterState, manifest: &Manifest) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut forms: BTreeMap<&str, u64> = BTreeMap::new();
    for file in &manifest.files {
        for (word, count) in &file.found.encodings {
            *forms.entry(word).or_default() += count;
        }
    }
    for (id, info) in infos(cluster) {
        let Some(version) = info.version else {
            continue;
        };
        let Some(most) = rdb_version(version) else {
            continue;
        };
        let too_new: Vec<String> = forms
            .iter()
            .filter(|(word, _)| {
                let encoding = Encoding::of_word(word);
                encoding.is_some_and(|encoding| !takes(most, encoding))
            })
            .map(|(word, count)| format!("{count} of {word}"))
            .collect();
        if !too_new.is_empty() {
            doubts.push(format!(
                "{} ({version}) does not take all forms of values: {}; such keys will fail",
                cluster.diagnosis.observation.name(id),
                too_new.join(", ")
            ));
        }
    }
    let others: u64 = manifest
        .files
        .iter()
        .flat_map(|file| &file.found.databases)
        .filter(|(database, _)| **database != 0)
        .map(|(_, keys)| keys)
        .sum();
    if others > 0 {
        doubts.push(format!(
            "{others} keys are in databases other than 0, which only Valkey 9 has in a cluster \
             (cluster-databases)"
        ));
    }
    doubts
}

/// Whether RESTORE of a server whose own version is `most` takes such a value. Valkey refuses the
/// versions between its own and the last that it shares with Redis.
fn takes(most: u16, encoding: Encoding) -> bool {
    let version = encoding.version();
    version <= most && !(most >= 80 && (12..80).contains(&version))
}
