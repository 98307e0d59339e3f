//! The configuration file: clusters with a name, so that `@prod` stands for addresses, login, TLS files and zones.
//!
//! `~/.config/redis-trib/config.toml` (XDG), or the file that `REDIS_TRIB_CONFIG` names. The file is read only if a
//! command line names a cluster. A file that is wrong anywhere is refused as a whole. No error shows a value: it may be a
//! password.

mod parse;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use secrecy::{SecretSlice, SecretString};

use crate::cluster::node::Addr;
use crate::seed::{AddressMapping, Seed};

/// The variable that names another file.
pub const VARIABLE: &str = "REDIS_TRIB_CONFIG";

/// A configuration file of a few clusters has some kilobytes.
const LARGEST: u64 = 1 << 20;

/// The configuration file.
#[derive(Debug, Default)]
pub struct Config {
    /// Where it is; `None` if there is no home directory.
    pub path: Option<PathBuf>,
    /// The clusters by their names.
    pub clusters: BTreeMap<String, ClusterConfig>,
}

/// The settings of a cluster. They have the names of the options that they stand for.
#[derive(Debug, Default)]
pub struct ClusterConfig {
    /// The nodes that stand for the cluster; one that answers is enough.
    pub nodes: Vec<Seed>,
    /// The ACL user.
    pub user: Option<String>,
    /// Where the password comes from.
    pub password: Option<PasswordSource>,
    /// Whether to connect with TLS. TLS files imply it.
    pub tls: bool,
    /// The CA certificates to trust.
    pub cacert: Option<PathBuf>,
    /// The directory of CA certificates to trust.
    pub cacertdir: Option<PathBuf>,
    /// The client certificate.
    pub cert: Option<PathBuf>,
    /// The private key of the client certificate.
    pub key: Option<PathBuf>,
    /// The server name to send and to verify.
    pub sni: Option<String>,
    /// How certificates are verified: `full`, `chain` or `none`.
    pub tls_verify: Option<String>,
    /// Addresses to connect to instead of announced ones.
    pub address_map: Vec<AddressMapping>,
    /// The zones of nodes.
    pub zone: Vec<(Addr, String)>,
    /// The server setting that names the zone of a node: as in `--zone-from`.
    pub zone_from: Option<String>,
    /// Whether changes need the name of the cluster as consent.
    pub protected: bool,
    /// The settings as they stand in the file, with secrets masked.
    pub shown: Vec<(&'static str, String)>,
}

/// Where the password of a cluster comes from.
#[derive(Debug)]
pub enum PasswordSource {
    /// The file itself.
    Text(SecretSlice<u8>),
    /// The first line of a file.
    File(PathBuf),
    /// The first line that a shell command writes. The command may contain a secret.
    Command(SecretString),
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the configuration file {} can't be read: {error}", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Something in the file is wrong.
    #[error("{}, line {line}, column {column}: {what}", .file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// Other users can read a password, or write a command that this user would run.
    #[error(
        "{} can be {verb} by other users (mode {mode:03o}) and holds a {what}: chmod 600 {}",
        .file.display(),
        .file.display()
    )]
    Exposed {
        /// The file.
        file: PathBuf,
        /// `read` or `written`.
        verb: &'static str,
        /// Its permissions.
        mode: u32,
        /// `password` or `pass_command`.
        what: &'static str,
    },
    /// No cluster has that name.
    #[error("no cluster is named @{name}: {known}")]
    Unknown {
        /// The name.
        name: String,
        /// The known names, or where the file would be.
        known: String,
    },
}

impl Config {
    /// Reads the file. One that does not exist has no clusters, unless `REDIS_TRIB_CONFIG` names it.
    pub fn load() -> Result<Self, ConfigError> {
        let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        let path = match &named {
            Some(path) => Some(PathBuf::from(path)),
            None => default_path(),
        };
        let Some(path) = path else {
            return Ok(Self::default());
        };
        match read(&path) {
            Ok((text, mode)) => Self::of(&path, &text, mode),
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => Ok(Self {
                path: Some(path),
                clusters: BTreeMap::new(),
            }),
            Err(error) => Err(ConfigError::Unreadable { file: path, error }),
        }
    }

    /// Reads the text of a file with these permissions.
    fn of(path: &Path, text: &str, mode: u32) -> Result<Self, ConfigError> {
        let clusters = parse::parse(path, text)?;
        let exposed = |verb, what| ConfigError::Exposed {
            file: path.to_path_buf(),
            verb,
            mode: mode & 0o777,
            what,
        };
        for cluster in clusters.values() {
            if cluster.holds_password() && mode & 0o044 != 0 {
                return Err(exposed("read", "password"));
            }
            // A shared group of one user is common (umask 002).
            if matches!(cluster.password, Some(PasswordSource::Command(_))) && mode & 0o002 != 0 {
                return Err(exposed("written", "pass_command"));
            }
        }
        Ok(Self {
            path: Some(path.to_path_buf()),
            clusters,
        })
    }

    /// The settings of a cluster.
    pub fn take(mut self, name: &str) -> Result<ClusterConfig, ConfigError> {
        match self.clusters.remove(name) {
            Some(cluster) => Ok(cluster),
            None => Err(self.unknown(name)),
        }
    }

    /// The error for a name that no cluster has. It lists those that exist.
    pub fn unknown(&self, name: &str) -> ConfigError {
        let file = match &self.path {
            Some(path) => path.display().to_string(),
            None => format!("the configuration file (set {VARIABLE})"),
        };
        let known: Vec<String> = self
            .clusters
            .keys()
            .map(|name| format!("@{name}"))
            .collect();
        let known = match known.is_empty() {
            true => format!(
                "{file} has no clusters; add [clusters.{name}] with nodes = [\"host:port\"]"
            ),
            false => format!("{file} has {}", known.join(", ")),
        };
        ConfigError::Unknown {
            name: name.to_string(),
            known,
        }
    }
}

impl ClusterConfig {
    /// Whether the file itself has a password of the cluster.
    fn holds_password(&self) -> bool {
        matches!(self.password, Some(PasswordSource::Text(_)))
            || self.nodes.iter().any(|seed| seed.password.is_some())
    }

    /// The files that the settings name.
    pub fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let pass_file = match &self.password {
            Some(PasswordSource::File(file)) => Some(file),
            _ => None,
        };
        let named = [
            ("pass_file", pass_file),
            ("cacert", self.cacert.as_ref()),
            ("cacertdir", self.cacertdir.as_ref()),
            ("cert", self.cert.as_ref()),
            ("key", self.key.as_ref()),
        ];
        let named = named.into_iter();
        named.filter_map(|(key, file)| Some((key, file?.as_path())))
    }
}

/// `$XDG_CONFIG_HOME/redis-trib/config.toml`, or below `~/.config`.
fn default_path() -> Option<PathBuf> {
    let folders = etcetera::base_strategy::Xdg::new().ok()?;
    Some(folders.config_dir().join("redis-trib").join("config.toml"))
}

/// The text and the permissions of the same file.
fn read(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    Ok((text, mode))
}

/// The known word that is nearest to a mistyped one, if one is near.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let known = known.into_iter().map(|one| {
        let typed = word.to_lowercase().replace('-', "_");
        (
            strsim::damerau_levenshtein(&typed, &one.replace('-', "_")),
            one,
        )
    });
    // More changes than a third of the word are another word.
    let limit = word.chars().count().div_ceil(3).max(1);
    let nearest = known.min_by_key(|(distance, _)| *distance)?;
    (nearest.0 <= limit).then_some(nearest.1)
}

#[cfg(test)]
mod tests;
