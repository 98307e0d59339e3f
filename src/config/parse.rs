//! From the text of the file to settings, with the line and column of what is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use secrecy::{SecretSlice, SecretString};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ClusterConfig, ConfigError, PasswordSource, nearest};
use crate::seed::{Seed, is_cluster_name, parse_addr};

/// The keys of a cluster.
const KEYS: [&str; 16] = [
    "nodes",
    "user",
    "pass",
    "pass_file",
    "pass_command",
    "tls",
    "cacert",
    "cacertdir",
    "cert",
    "key",
    "sni",
    "tls_verify",
    "address_map",
    "zone",
    "zone_from",
    "protected",
];

/// The values of `tls_verify`.
pub(crate) const TLS_VERIFY: [&str; 3] = ["full", "chain", "none"];

/// The values of `zone_from`.
pub(crate) const ZONE_FROM: [&str; 4] = ["availability-zone", "human-nodename", "hostname", "none"];

/// What stands for a secret.
const MASKED: &str = "\"***\"";

type Key<'a> = Spanned<Cow<'a, str>>;
type Value<'a> = Spanned<DeValue<'a>>;

/// Reads all clusters.
pub(super) fn parse(
    path: &Path,
    text: &str,
) -> Result<BTreeMap<String, ClusterConfig>, ConfigError> {
    let reader = Reader { path, text };
    let document = DeTable::parse(text).map_err(|error| {
        // The error itself shows the line, which may hold a password.
        reader.wrong(
            error.span().unwrap_or_default(),
            error.message().to_string(),
        )
    })?;
    let mut clusters = BTreeMap::new();
    for (key, value) in document.get_ref() {
        if key.get_ref() != "clusters" {
            let known = "only [clusters.NAME] is known here".to_string();
            return Err(reader.unknown_key(key, ["clusters"], &known));
        }
        for (name, cluster) in reader.table(key, value)? {
            if !is_cluster_name(name.get_ref()) {
                let what = "a cluster name has letters, digits, '-', '_' and '.'".to_string();
                return Err(reader.wrong(name.span(), what));
            }
            let table = reader.table(name, cluster)?;
            clusters.insert(name.get_ref().to_string(), reader.cluster(name, table)?);
        }
    }
    Ok(clusters)
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, span: Range<usize>, what: String) -> ConfigError {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        ConfigError::Wrong {
            file: self.path.to_path_buf(),
            line,
            column: before[start..].chars().count() + 1,
            what,
        }
    }

    fn unknown_key<'k>(
        &self,
        key: &Key<'_>,
        known: impl IntoIterator<Item = &'k str>,
        all: &str,
    ) -> ConfigError {
        let name = key.get_ref();
        let hint = match nearest(name, known) {
            Some(near) => format!("the nearest known key is {near:?}"),
            None => all.to_string(),
        };
        self.wrong(key.span(), format!("unknown key {name:?}: {hint}"))
    }

    /// A value of another type than the key has.
    fn mistyped(&self, key: &Key<'_>, value: &Value<'_>, wanted: &str) -> ConfigError {
        let is = value.get_ref().type_str();
        let what = format!("{} is {wanted}, not {is}", key.get_ref());
        self.wrong(value.span(), what)
    }

    fn table<'t, 'v>(
        &self,
        key: &Key<'_>,
        value: &'t Value<'v>,
    ) -> Result<&'t DeTable<'v>, ConfigError> {
        let table = value.get_ref().as_table();
        table.ok_or_else(|| self.mistyped(key, value, "a table"))
    }

    fn string<'t>(&self, key: &Key<'_>, value: &'t Value<'_>) -> Result<&'t str, ConfigError> {
        match value.get_ref().as_str() {
            Some("") => {
                let what = format!(
                    "{} is empty: leave it out, or give it a value",
                    key.get_ref()
                );
                Err(self.wrong(value.span(), what))
            }
            Some(text) => Ok(text),
            None => Err(self.mistyped(key, value, "a string")),
        }
    }

    fn flag(&self, key: &Key<'_>, value: &Value<'_>) -> Result<bool, ConfigError> {
        let flag = value.get_ref().as_bool();
        flag.ok_or_else(|| self.mistyped(key, value, "true or false"))
    }

    /// Strings that `parse` reads; one string stands for a list of one.
    fn list<T>(
        &self,
        key: &Key<'_>,
        value: &Value<'_>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let one = |value: &Value<'_>| {
            let text = self.string(key, value)?;
            parse(text).map_err(|why| self.wrong(value.span(), format!("{}: {why}", key.get_ref())))
        };
        match value.get_ref() {
            DeValue::Array(values) => values.iter().map(one).collect(),
            DeValue::String(_) => Ok(vec![one(value)?]),
            _ => Err(self.mistyped(key, value, "a list of strings")),
        }
    }

    /// One of these words.
    fn word(
        &self,
        key: &Key<'_>,
        value: &Value<'_>,
        words: &[&str],
    ) -> Result<String, ConfigError> {
        let text = self.string(key, value)?;
        match words.contains(&text) {
            true => Ok(text.to_string()),
            false => {
                let what = format!("{} is one of {}", key.get_ref(), words.join(", "));
                Err(self.wrong(value.span(), what))
            }
        }
    }

    /// `~/ca.pem`, or a path from the directory of the file.
    fn path(&self, key: &Key<'_>, value: &Value<'_>) -> Result<PathBuf, ConfigError> {
        let text = self.string(key, value)?;
        let home = text.strip_prefix("~/").zip(etcetera::home_dir().ok());
        Ok(match (home, self.path.parent()) {
            (Some((below, home)), _) => home.join(below),
            (None, Some(folder)) => folder.join(text),
            (None, None) => PathBuf::from(text),
        })
    }

    fn cluster(&self, name: &Key<'_>, table: &DeTable<'_>) -> Result<ClusterConfig, ConfigError> {
        let mut cluster = ClusterConfig::default();
        let mut tls = None;
        let mut password_key: Option<&'static str> = None;
        for (key, value) in table {
            let Some(known) = KEYS.into_iter().find(|known| known == key.get_ref()) else {
                let all = format!("the keys are {}", KEYS.join(", "));
                return Err(self.unknown_key(key, KEYS, &all));
            };
            if known.starts_with("pass")
                && let Some(other) = password_key.replace(known)
            {
                let what = format!("{known} and {other} both give a password: keep one");
                return Err(self.wrong(key.span(), what));
            }
            match known {
                "nodes" => cluster.nodes = self.list(key, value, node)?,
                "user" => cluster.user = Some(self.string(key, value)?.to_string()),
                "pass" => {
                    let text = self.string(key, value)?.as_bytes().to_vec();
                    cluster.password = Some(PasswordSource::Text(SecretSlice::from(text)));
                }
                "pass_file" => {
                    cluster.password = Some(PasswordSource::File(self.path(key, value)?));
                }
                "pass_command" => {
                    let text = self.string(key, value)?.to_string();
                    cluster.password = Some(PasswordSource::Command(SecretString::from(text)));
                }
                "tls" => tls = Some(self.flag(key, value)?),
                "cacert" => cluster.cacert = Some(self.path(key, value)?),
                "cacertdir" => cluster.cacertdir = Some(self.path(key, value)?),
                "cert" => cluster.cert = Some(self.path(key, value)?),
                "key" => cluster.key = Some(self.path(key, value)?),
                "sni" => cluster.sni = Some(self.string(key, value)?.to_string()),
                "tls_verify" => cluster.tls_verify = Some(self.word(key, value, &TLS_VERIFY)?),
                "address_map" => cluster.address_map = self.list(key, value, FromStr::from_str)?,
                "zone" => cluster.zone = self.list(key, value, zone)?,
                "zone_from" => cluster.zone_from = Some(self.word(key, value, &ZONE_FROM)?),
                _ => cluster.protected = self.flag(key, value)?,
            }
            cluster.shown.push((known, shown(known, value.get_ref())));
        }
        if cluster.nodes.is_empty() {
            let what = format!(
                "[clusters.{}] needs nodes = [\"host:port\"]",
                name.get_ref()
            );
            return Err(self.wrong(name.span(), what));
        }
        let has_tls_settings = cluster.cacert.is_some()
            || cluster.cacertdir.is_some()
            || cluster.cert.is_some()
            || cluster.key.is_some()
            || cluster.sni.is_some()
            || cluster.tls_verify.is_some();
        if has_tls_settings && tls == Some(false) {
            let what = format!(
                "[clusters.{}] has tls = false and TLS settings",
                name.get_ref()
            );
            return Err(self.wrong(name.span(), what));
        }
        cluster.tls = tls.unwrap_or(has_tls_settings);
        Ok(cluster)
    }
}

fn node(text: &str) -> Result<Seed, String> {
    let seed: Seed = text
        .parse()
        .map_err(|error: crate::seed::NotAnAddress| error.to_string())?;
    match seed.cluster {
        Some(_) => Err("a node is an address, not the name of a cluster".to_string()),
        None => Ok(seed),
    }
}

fn zone(text: &str) -> Result<(crate::cluster::node::Addr, String), String> {
    let (addr, zone) = text
        .split_once('=')
        .filter(|(_, zone)| !zone.is_empty())
        .ok_or_else(|| format!("{text:?} is not ADDR=NAME, for example 10.0.0.3:6379=east"))?;
    let addr = parse_addr(addr).map_err(|error| error.to_string())?;
    Ok((addr, crate::cluster::text::clean(zone, 255)))
}

/// The value as TOML, with secrets masked: a command may contain a token.
fn shown(key: &str, value: &DeValue<'_>) -> String {
    match value {
        _ if matches!(key, "pass" | "pass_command") => MASKED.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(values) => {
            let values: Vec<String> = values.iter().map(|one| shown(key, one.get_ref())).collect();
            format!("[{}]", values.join(", "))
        }
        other => format!("{:?}", without_password(other.as_str().unwrap_or_default())),
    }
}

/// `redis://ann:***@host:port`.
fn without_password(text: &str) -> String {
    let masked = text.split_once("://").and_then(|(scheme, rest)| {
        let (login, host) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:***@{host}"))
    });
    masked.unwrap_or_else(|| text.to_string())
}
