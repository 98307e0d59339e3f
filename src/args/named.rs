//! `@prod`: the cluster of the configuration file that a command line names, and the settings that it brings.
//!
//! The command line beats the environment, and the environment beats the file.

use std::ffi::OsStr;

use clap::{ArgMatches, ValueEnum};

use super::global::{GlobalArgs, VerifyArg};
use crate::config::{ClusterConfig, Config, ConfigError, PasswordSource};
use crate::exit_code::ExitCode;
use crate::seed::{Seed, is_cluster_name};
use crate::stop::Stop;

/// Arguments that name nodes.
pub(crate) const NODE_ARGS: [&str; 4] = ["node", "nodes", "words", "new"];

/// The cluster that a command line names.
#[derive(Debug, Default)]
pub struct NamedCluster {
    name: Option<String>,
    settings: Option<ClusterConfig>,
    runs_commands: bool,
}

impl NamedCluster {
    /// Finds the name on a parsed command line. Two names are an error: a command has one login.
    pub(crate) fn read(matches: &ArgMatches) -> Result<Self, String> {
        let Some((_, matches)) = matches.subcommand() else {
            return Ok(Self::default());
        };
        let mut name: Option<String> = None;
        for id in NODE_ARGS.into_iter().chain(["settings_of"]) {
            let Ok(Some(words)) = matches.try_get_raw(id) else {
                continue;
            };
            // Behind the node of `backup` stands a directory.
            let count = if id == "words" { 1 } else { usize::MAX };
            for found in words.take(count).filter_map(|word| name_of(id, word)) {
                if let Some(other) = name.replace(found.clone()).filter(|other| *other != found) {
                    return Err(format!(
                        "the command line names @{other} and @{found}: settings of one cluster only can be used"
                    ));
                }
            }
        }
        Ok(Self {
            name,
            settings: None,
            runs_commands: true,
        })
    }

    /// The same for a line that is being typed: `pass_command` is not run, as it may ask.
    pub(crate) fn for_completion(self) -> Self {
        Self {
            runs_commands: false,
            ..self
        }
    }

    /// The settings, if the command line names a cluster.
    pub(crate) fn settings(&self) -> Option<&ClusterConfig> {
        self.settings.as_ref()
    }
}

fn name_of(id: &str, word: &OsStr) -> Option<String> {
    let word = word.to_str()?;
    let name = match (word.strip_prefix('@'), id) {
        (Some(name), _) => name,
        (None, "settings_of") => word,
        (None, _) => return None,
    };
    is_cluster_name(name).then(|| name.to_string())
}

impl GlobalArgs {
    /// Reads the settings of the named cluster. They fill what the command line leaves out.
    pub(crate) fn load_named(&mut self) -> Result<(), Stop> {
        self.check_confirm()?;
        let Some(name) = &self.named.name else {
            return Ok(());
        };
        let settings = Config::load().and_then(|config| config.take(name))?;
        self.fill(&settings);
        self.named.settings = Some(settings);
        Ok(())
    }

    fn check_confirm(&self) -> Result<(), Stop> {
        let confirmed = self
            .confirm
            .as_deref()
            .map(|name| name.trim_start_matches('@'));
        match (confirmed, &self.named.name) {
            (Some(one), Some(other)) if one != other => Err(Stop::usage(anyhow::anyhow!(
                "--confirm {one}, but the command is about @{other}"
            ))),
            (Some(one), None) => Err(Stop::usage(anyhow::anyhow!(
                "--confirm {one}: the command names no cluster of the configuration file, as @{one}"
            ))),
            _ => Ok(()),
        }
    }

    fn fill(&mut self, settings: &ClusterConfig) {
        fn or<T: Clone>(given: &mut Option<T>, setting: &Option<T>) {
            if given.is_none() {
                given.clone_from(setting);
            }
        }
        or(&mut self.user, &settings.user);
        or(&mut self.cacert, &settings.cacert);
        or(&mut self.cacertdir, &settings.cacertdir);
        or(&mut self.cert, &settings.cert);
        or(&mut self.key, &settings.key);
        or(&mut self.sni, &settings.sni);
        self.tls |= settings.tls;
        if !self.insecure {
            let verify = settings.tls_verify.as_deref();
            or(
                &mut self.tls_verify,
                &verify.and_then(|word| VerifyArg::from_str(word, false).ok()),
            );
        }
        if self.address_map.is_empty() {
            self.address_map.clone_from(&settings.address_map);
        }
    }

    /// The seeds, with the nodes of a named cluster in place of its name.
    pub(crate) fn expand(&self, seeds: &[Seed]) -> Vec<Seed> {
        let nodes = |seed: &Seed| match (&seed.cluster, self.named.settings()) {
            (Some(name), Some(settings)) => {
                let nodes = settings.nodes.iter();
                nodes.map(|node| self.node_of(node, name)).collect()
            }
            _ => vec![seed.clone()],
        };
        seeds.iter().flat_map(nodes).collect()
    }

    /// A node of the file. The login of its address gives way to that of the command line and the environment.
    fn node_of(&self, node: &Seed, cluster: &str) -> Seed {
        let mut seed = Seed {
            cluster: Some(cluster.to_string()),
            ..node.clone()
        };
        if self.gives_password() || password_variable().is_some() {
            seed.password = None;
        }
        let user_is_of_the_file = self
            .named
            .settings()
            .is_some_and(|settings| settings.user == self.user);
        if self.user.is_some() && !user_is_of_the_file {
            seed.user.clone_from(&self.user);
        }
        seed
    }

    /// Whether an option gives the password.
    fn gives_password(&self) -> bool {
        self.pass.is_some() || self.pass_file.is_some() || self.askpass
    }

    /// Where the configuration file says that the password comes from.
    pub(crate) fn configured_password(&self) -> Option<&PasswordSource> {
        let password = self.named.settings()?.password.as_ref();
        password.filter(|source| {
            self.named.runs_commands || !matches!(source, PasswordSource::Command(_))
        })
    }

    /// The name of the cluster, if it is protected and its name was not given as consent.
    pub(crate) fn name_to_confirm(&self) -> Option<&str> {
        let is_protected = self.named.settings().is_some_and(|one| one.protected);
        let name = self.named.name.as_deref();
        name.filter(|_| is_protected && self.confirm.is_none())
    }

    /// The name of the cluster that the command line names.
    pub(crate) fn cluster_name(&self) -> Option<&str> {
        self.named.name.as_deref()
    }
}

/// The password in the environment, by the names of valkey-cli and redis-cli. An empty one counts as unset.
pub(crate) fn password_variable() -> Option<std::ffi::OsString> {
    let variable = |name| std::env::var_os(name).filter(|password| !password.is_empty());
    variable("VALKEYCLI_AUTH").or_else(|| variable("REDISCLI_AUTH"))
}

impl From<ConfigError> for Stop {
    fn from(error: ConfigError) -> Self {
        Self::new(ExitCode::Usage, error)
    }
}
