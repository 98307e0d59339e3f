//! Completion of the names of clusters in the configuration file.

use std::ffi::OsStr;

use clap_complete::engine::CompletionCandidate;

use crate::config::Config;

/// The names that begin with the typed text, each behind `mark`. A wrong file has none: errors would disturb the line.
pub(super) fn all(typed: &OsStr, mark: &str) -> Vec<CompletionCandidate> {
    let (Some(typed), Ok(config)) = (typed.to_str(), Config::load()) else {
        return Vec::new();
    };
    let clusters = config.clusters.iter();
    let named = clusters.map(|(name, cluster)| (format!("{mark}{name}"), cluster));
    let named = named.filter(|(name, _)| name.starts_with(typed));
    let candidate = |(name, cluster): (String, &crate::config::ClusterConfig)| {
        let nodes: Vec<String> = cluster
            .nodes
            .iter()
            .map(|seed| seed.addr.to_string())
            .collect();
        CompletionCandidate::new(name).help(Some(nodes.join(" ").into()))
    };
    named.map(candidate).collect()
}
