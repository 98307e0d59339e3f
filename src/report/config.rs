//! The clusters of the configuration file, without secrets.

use std::collections::BTreeMap;

use serde::Serialize;

/// The result of `config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigView {
    /// The file; null if there is no home directory.
    pub file: Option<String>,
    /// The clusters in the order of their names.
    pub clusters: Vec<NamedClusterView>,
    /// What `config check` found.
    pub problems: Vec<ConfigProblem>,
}

/// A named cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NamedClusterView {
    /// Its name, without `@`.
    pub name: String,
    /// The addresses that stand for it.
    pub nodes: Vec<String>,
    /// Whether changes need its name as consent.
    pub protected: bool,
    /// The settings as TOML values; `***` stands for a secret.
    pub settings: BTreeMap<&'static str, String>,
}

/// A setting that can't work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConfigProblem {
    /// The cluster, without `@`.
    pub cluster: String,
    /// The key of the setting.
    pub key: &'static str,
    /// A sentence for people.
    pub message: String,
}
