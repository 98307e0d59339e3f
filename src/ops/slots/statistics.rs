//! Turns the statistics of slots on for the time of a sample, and restores the settings, also after a signal.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::{HeatRequest, Metric, Missing, Sample, sample, unmeasured, view};
use crate::client::{ClientError, Fault, NodeClient, SLOT_STATS_SETTING};
use crate::cluster::node::NodeId;
use crate::connections::Target;
use crate::report::{HeatView, StatisticsOf, StatisticsView};
use crate::session::Session;
use crate::shell::command_line;
use crate::state::{ClusterState, name};
use crate::stop::{CommandLine, Stop};

/// The masters whose statistics are off.
pub(crate) struct StatisticsPlan {
    cluster: ClusterState,
    /// The setting of each of them.
    settings: BTreeMap<NodeId, Setting>,
    /// Whether all masters have one setting, which is to be restored.
    is_uniform: bool,
}

#[derive(Debug, Clone)]
struct Setting {
    target: Target,
    now: String,
}

/// The statistics that are counters, as Redis ≥ 8.6 names them. Memory can't be turned on while the server runs.
const COUNTERS: [&str; 2] = ["cpu", "net"];

/// The value that turns the counters on where statistics have no names (Valkey, Redis < 8.6).
const ON: &str = "yes";

/// Finds the masters whose statistics are off.
pub(crate) async fn plan(session: &Session, by: Metric) -> Result<StatisticsPlan, Stop> {
    let cluster = ClusterState::look(session).await?;
    let owners = cluster.owners();
    let owners = owners.iter().filter(|owner| !owner.slots.is_empty());
    let targets =
        owners.filter_map(|owner| Some((owner.id, cluster.reach.get(&owner.id)?.clone())));
    let asking = session.connections.fan_out(
        targets.collect::<Vec<_>>(),
        |connections, (id, target)| async move {
            let asked = async {
                let client = connections.client(&target).await?;
                let stats = client.cluster_slot_stats().await?;
                let is_off =
                    stats.map(|stats| stats.values().any(|stats| stats.load(by).is_none()));
                let mut values = client.config_get(&[SLOT_STATS_SETTING]).await?;
                Ok::<_, ClientError>((is_off, values.remove(SLOT_STATS_SETTING)))
            };
            let asked = asked.await;
            (id, target, asked)
        },
    );
    let mut settings = BTreeMap::new();
    let mut all = BTreeSet::new();
    let mut unsupported = BTreeMap::new();
    for (id, target, asked) in asking.await {
        // A master that does not answer is reported by the sample.
        let Ok((is_off, now)) = asked else { continue };
        let Some(is_off) = is_off else {
            unsupported.insert(id, Missing::Unsupported);
            continue;
        };
        match (is_off, now) {
            (true, Some(now)) if !is_setting(&now) => {
                return Err(Stop::refused(anyhow!(
                    "{} reports {SLOT_STATS_SETTING} as {now:?}, which is no value of it",
                    cluster.name(id)
                )));
            }
            (true, Some(now)) => {
                all.insert(now.clone());
                settings.insert(id, Setting { target, now });
            }
            (true, None) => {
                return Err(Stop::refused(anyhow!(
                    "{} does not report {SLOT_STATS_SETTING} (CONFIG GET), so it could not be restored",
                    cluster.name(id)
                )));
            }
            (false, now) => all.extend(now),
        }
    }
    if !unsupported.is_empty() {
        let sample = Sample {
            nodes: BTreeMap::new(),
            took: None,
            failures: unsupported,
        };
        return Err(unmeasured(&cluster, &sample, by));
    }
    Ok(StatisticsPlan {
        is_uniform: all.len() == 1,
        cluster,
        settings,
    })
}

/// Whether a node may have such a setting: `no`, `yes`, or names of statistics. It is printed as a part of a command.
fn is_setting(value: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c == '-' || c == ' ';
    !value.is_empty() && value.len() <= 64 && value.chars().all(is_word)
}

impl StatisticsPlan {
    /// Whether all statistics are on already.
    pub(crate) fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// The number of masters whose setting changes.
    pub(crate) fn len(&self) -> usize {
        self.settings.len()
    }

    /// The masters of the cluster.
    pub(crate) fn masters(&self) -> Vec<Target> {
        self.cluster.answering()
    }

    /// Whether the same settings of the same masters change.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let values = |plan: &Self| -> BTreeMap<NodeId, String> {
            let settings = plan.settings.iter();
            settings.map(|(id, one)| (*id, one.now.clone())).collect()
        };
        values(self) == values(other)
    }

    /// What is shown.
    pub(crate) fn view(&self) -> StatisticsView {
        let nodes = self.settings.iter().map(|(id, setting)| StatisticsOf {
            node: name(&self.cluster.diagnosis, *id),
            now: setting.now.clone(),
        });
        StatisticsView {
            nodes: nodes.collect(),
            restore: self.restore_commands(self.settings.keys().copied().collect()),
        }
    }

    /// The commands that restore the settings of these masters.
    fn restore_commands(&self, nodes: BTreeSet<NodeId>) -> Vec<CommandLine> {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut settings = self.settings.iter().filter(|(id, _)| nodes.contains(id));
        if self.is_uniform {
            let Some((_, first)) = settings.next() else {
                return Vec::new();
            };
            let mut line = words(&["redis-trib", "call"]);
            line.push(self.cluster.seed());
            line.extend(self.cluster.reach_options());
            line.extend(words(&[
                "--only-masters",
                "--allow-dangerous",
                "CONFIG",
                "SET",
                SLOT_STATS_SETTING,
                &first.now,
            ]));
            return vec![line];
        }
        // `call` sends the same value to all masters.
        settings
            .map(|(_, setting)| {
                let (host, port) = (setting.target.addr.host(), setting.target.addr.port());
                let port = port.to_string();
                words(&[
                    "redis-cli",
                    "-h",
                    host,
                    "-p",
                    &port,
                    "CONFIG",
                    "SET",
                    SLOT_STATS_SETTING,
                    &setting.now,
                ])
            })
            .collect()
    }
}

/// Turns the statistics on, takes a sample, and restores the settings, whatever happened in between.
pub(crate) async fn with_statistics(
    session: &Session,
    plan: &StatisticsPlan,
    request: HeatRequest,
) -> Result<HeatView, Stop> {
    let settings: Vec<(NodeId, Setting)> = plan
        .settings
        .iter()
        .map(|(id, setting)| (*id, setting.clone()))
        .collect();
    let enabling =
        session
            .connections
            .fan_out(settings.clone(), |connections, (id, setting)| async move {
                let enable = async {
                    let client = connections.client(&setting.target).await?;
                    enable(&client, &setting.now).await
                };
                (id, enable.await)
            });
    let enabled = enabling.await;
    let refused: Vec<String> = enabled
        .iter()
        .filter_map(|(_, result)| Some(result.as_ref().err()?.to_string()))
        .collect();
    let result = match refused.is_empty() {
        true => {
            let sampling = sample(session, &plan.cluster, request.by, request.time);
            match session.interrupt.stops(sampling).await {
                Ok(sample) => view(&plan.cluster, request, &sample),
                Err(signal) => Err(Stop::interrupted(anyhow!(
                    "interrupted ({signal}): the sample was not finished"
                ))),
            }
        }
        false => Err(Stop::refused(anyhow!(
            "the statistics can't be turned on:\n  {}",
            refused.join("\n  ")
        ))),
    };
    let restoring =
        session
            .connections
            .fan_out(settings, |connections, (id, setting)| async move {
                let restore = async {
                    let client = connections.client(&setting.target).await?;
                    restore(&client, &setting.now).await
                };
                (id, restore.await)
            });
    let failed: BTreeMap<NodeId, String> = restoring
        .await
        .into_iter()
        .filter_map(|(id, result)| Some((id, result.err()?.to_string())))
        .collect();
    if failed.is_empty() {
        let restored = |stop: Stop| Stop {
            error: anyhow!("{:#}; {SLOT_STATS_SETTING} was restored", stop.error),
            ..stop
        };
        return result.map_err(restored);
    }
    let commands = plan.restore_commands(failed.keys().copied().collect());
    let lines: Vec<String> = commands.iter().map(|words| command_line(words)).collect();
    let reasons: Vec<&str> = failed.values().map(String::as_str).collect();
    Err(Stop::partial(anyhow!(
        "{SLOT_STATS_SETTING} could not be restored:\n  {}\nThis restores it:\n  {}",
        reasons.join("\n  "),
        lines.join("\n  ")
    ))
    .with_resume(commands))
}

/// Turns the counters on. Redis ≥ 8.6 takes the names of statistics, and refuses `yes` on a server that does not count
/// memory since its start.
async fn enable(client: &NodeClient, now: &str) -> Result<(), ClientError> {
    let mut names: Vec<&str> = now.split(' ').filter(|name| *name != "no").collect();
    names.extend(
        COUNTERS
            .iter()
            .filter(|name| !now.split(' ').any(|one| one == **name)),
    );
    let named = client
        .config_set(SLOT_STATS_SETTING, &names.join(" "))
        .await;
    match named {
        Err(error) if matches!(error.fault, Fault::Server { .. }) => {
            client.config_set(SLOT_STATS_SETTING, ON).await
        }
        named => named,
    }
}

/// Restores the setting, and reads it back.
async fn restore(client: &NodeClient, value: &str) -> Result<(), ClientError> {
    let set = client.config_set(SLOT_STATS_SETTING, value).await;
    let now = client.config_get(&[SLOT_STATS_SETTING]).await;
    match now {
        // A change that timed out may have been made.
        Ok(values)
            if values
                .get(SLOT_STATS_SETTING)
                .is_some_and(|now| now == value) =>
        {
            Ok(())
        }
        _ => set,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_are_settings() {
        for value in ["no", "yes", "cpu net", "cpu mem"] {
            assert!(is_setting(value), "{value}");
        }
        for value in ["", "no; rm", "no\nyes", "NO", &"a".repeat(65)] {
            assert!(!is_setting(value), "{value}");
        }
    }
}
