//! The source of keys, as `import` and `verify` name it: `--from`, its login, and which of its keys count.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::anyhow;

use crate::cluster::key::KeyName;
use crate::ops::data::databases::{DatabaseMapping, Databases};
use crate::ops::data::rdb_files::{self, AofIncrements};
use crate::seed::{NotAnAddress, Seed};
use crate::stop::Stop;

/// A server or a cluster that has keys.
#[derive(Debug, clap::Args)]
pub(crate) struct SourceArgs {
    /// A server or cluster node: host:port, redis://user:password@host:port/database; or files (repeatable).
    ///
    /// Files are RDB files (.rdb, .gz, .zst) and directories with RDB files. `import` also takes - for standard input,
    /// and `verify` the directory of a backup.
    #[arg(long, value_name = "SRC", required = true, value_parser = origin)]
    pub(crate) from: Vec<Origin>,
    /// Leave out commands that were appended to the RDB file of an appendonlydir.
    #[arg(long)]
    ignore_aof_increments: bool,
    /// Database of the source, or `all` [default: 0, or that of --from]
    #[arg(long, value_name = "N", value_parser = database)]
    from_db: Option<DatabaseArg>,
    /// Databases FROM and INTO which keys go (Valkey ≥ 9.1): 1=1,2=2
    #[arg(long, value_name = "FROM=INTO", value_delimiter = ',', value_parser = mapping, conflicts_with = "from_db")]
    db_map: Vec<(u32, u32)>,
    /// Prefixes for the names of databases: 1=tenant:,2=other: (a comma in a prefix is \x2c)
    #[arg(long, value_name = "N=PREFIX", value_delimiter = ',', value_parser = prefix)]
    key_prefix: Vec<(u32, Vec<u8>)>,
    /// The ACL user at the source.
    #[arg(long, value_name = "NAME", help_heading = "Login at the source")]
    pub(crate) from_user: Option<String>,
    /// The password at the source. Other users of this machine can see it: prefer --from-pass-file.
    #[arg(
        long,
        value_name = "PASSWORD",
        help_heading = "Login at the source",
        allow_hyphen_values = true
    )]
    pub(crate) from_pass: Option<OsString>,
    /// A file whose first line is the password at the source.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Login at the source",
        conflicts_with = "from_pass"
    )]
    pub(crate) from_pass_file: Option<PathBuf>,
    /// Ask for the password at the source.
    #[arg(long, help_heading = "Login at the source")]
    pub(crate) from_askpass: bool,
    /// Only keys that match this pattern of SCAN: user:*
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true, value_parser = pattern)]
    pub(crate) pattern: Option<String>,
}

/// Where keys come from.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// A server.
    Server(Source),
    /// A file, a directory, or `-`.
    File(PathBuf),
}

/// A pattern of names. An option that follows `--pattern` is most probably not meant as one.
fn pattern(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix('-');
    let is_option = rest.is_some_and(|rest| {
        rest.starts_with('-') || (rest.len() == 1 && rest.starts_with(char::is_alphabetic))
    });
    match is_option {
        true => Err(format!(
            "an option, it seems; names that begin like this match '\\{text}'"
        )),
        false => Ok(text.to_string()),
    }
}

fn origin(text: &str) -> Result<Origin, String> {
    match rdb_files::is_path(text) {
        true => Ok(Origin::File(PathBuf::from(text))),
        false => source(text).map(Origin::Server),
    }
}

/// An address, and the database that it names.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) seed: Seed,
    database: Option<u32>,
}

/// An address with an optional database: a standalone server has several, a cluster node has not.
fn source(text: &str) -> Result<Source, String> {
    let (address, database) = match text.rsplit_once('/') {
        Some((address, number))
            if text.contains("://")
                && !address.ends_with('/')
                && !number.is_empty()
                && number.bytes().all(|c| c.is_ascii_digit()) =>
        {
            let number = number
                .parse()
                .map_err(|_| "the number of the database is too large".to_string())?;
            (address, Some(number))
        }
        _ => (text, None),
    };
    let seed: Seed = address
        .parse()
        .map_err(|error: NotAnAddress| error.to_string())?;
    match seed.cluster {
        Some(_) => {
            Err("the source is a server, not a cluster of the configuration file".to_string())
        }
        None => Ok(Source { seed, database }),
    }
}

/// The value of `--from-db`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DatabaseArg {
    All,
    One(u32),
}

fn database(text: &str) -> Result<DatabaseArg, String> {
    match text {
        "all" => Ok(DatabaseArg::All),
        text => number(text).map(DatabaseArg::One),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|_| !text.starts_with('+'));
    number.ok_or_else(|| format!("{text} is not the number of a database"))
}

/// `1=2`.
fn mapping(text: &str) -> Result<(u32, u32), String> {
    let (from, into) = text
        .split_once('=')
        .ok_or("write it as FROM=INTO, for example 1=1")?;
    Ok((number(from)?, number(into)?))
}

/// `1=tenant:`. Bytes that can't be typed, and commas, are `\xHH`.
fn prefix(text: &str) -> Result<(u32, Vec<u8>), String> {
    let (from, prefix) = text
        .split_once('=')
        .ok_or("write it as N=PREFIX, for example 1=tenant:")?;
    let prefix = KeyName::parse(prefix.as_bytes()).map_err(|error| error.to_string())?;
    let prefix = prefix.bytes().to_vec();
    if prefix.is_empty() {
        Err("the prefix is empty".to_string())
    } else if prefix.iter().any(|byte| b"{}".contains(byte)) {
        Err("a prefix has no braces: they would change the hash tags of keys".to_string())
    } else {
        Ok((number(from)?, prefix))
    }
}

impl SourceArgs {
    /// The databases of the source, and where their keys go.
    pub(crate) fn databases(&self) -> Result<Databases, Stop> {
        let mut prefixes = BTreeMap::new();
        for (from, prefix) in &self.key_prefix {
            if prefixes.insert(*from, prefix.clone()).is_some() {
                return Err(Stop::usage(anyhow!(
                    "--key-prefix names database {from} twice"
                )));
            }
        }
        let mut pairs = self.db_map.clone();
        let named = match &self.from[..] {
            [Origin::Server(source)] => source.database,
            _ => None,
        };
        // 0 is how addresses end that mean no database.
        if let Some(named) = named.filter(|named| *named != 0)
            && !pairs.is_empty()
            && !pairs.iter().any(|(from, _)| *from == named)
        {
            return Err(Stop::usage(anyhow!(
                "--from names database {named}, which is not in --db-map: add it there, or leave it out"
            )));
        }
        if pairs.is_empty() {
            let one = match (self.from_db, named) {
                (Some(DatabaseArg::One(one)), Some(other)) if one != other => {
                    return Err(Stop::usage(anyhow!(
                        "--from names database {other}, and --from-db {one}: leave one out"
                    )));
                }
                (Some(DatabaseArg::All), Some(other)) => {
                    return Err(Stop::usage(anyhow!(
                        "--from names database {other}, and --from-db all: leave one out"
                    )));
                }
                (Some(DatabaseArg::All), None) => return Ok(Databases::All(prefixes)),
                (Some(DatabaseArg::One(one)), _) | (None, Some(one)) => one,
                (None, None) => 0,
            };
            pairs.push((one, 0));
        }
        let mut mappings: BTreeMap<u32, DatabaseMapping> = BTreeMap::new();
        for (from, into) in pairs {
            let prefix = prefixes.remove(&from).unwrap_or_default();
            let mapping = DatabaseMapping { from, into, prefix };
            if mappings.insert(from, mapping).is_some() {
                return Err(Stop::usage(anyhow!("--db-map names database {from} twice")));
            }
        }
        match prefixes.into_keys().next() {
            Some(from) => Err(Stop::usage(anyhow!(
                "--key-prefix names database {from}, which is not read"
            ))),
            None => Ok(Databases::Some(mappings.into_values().collect())),
        }
    }

    /// Whether keys get other names or databases.
    pub(crate) fn maps(&self) -> bool {
        !self.db_map.is_empty()
            || !self.key_prefix.is_empty()
            || self.from_db == Some(DatabaseArg::All)
    }

    /// The server.
    pub(crate) fn server(&self) -> Result<&Seed, Stop> {
        match &self.from[..] {
            [Origin::Server(source)] => Ok(&source.seed),
            _ => Err(Stop::usage(anyhow!(
                "exactly one --from is expected, and a server"
            ))),
        }
    }

    /// The files and directories that `--from` names; `None` if it names a server.
    pub(crate) fn files(&self) -> Result<Option<Vec<PathBuf>>, Stop> {
        let mut files = Vec::new();
        for from in &self.from {
            match from {
                Origin::File(path) => files.push(path.clone()),
                Origin::Server(_) if self.from.len() > 1 => {
                    return Err(Stop::usage(anyhow!(
                        "only files can be named together (--from a.rdb --from b.rdb)"
                    )));
                }
                Origin::Server(_) if self.ignore_aof_increments => {
                    return Err(Stop::usage(anyhow!(
                        "--ignore-aof-increments is for files, and --from names a server"
                    )));
                }
                Origin::Server(_) => return Ok(None),
            }
        }
        Ok(Some(files))
    }

    /// How commands after an RDB file are treated.
    pub(crate) fn increments(&self) -> AofIncrements {
        match self.ignore_aof_increments {
            true => AofIncrements::Ignore,
            false => AofIncrements::Refuse,
        }
    }

    /// Whether a login is given.
    pub(crate) fn has_login(&self) -> bool {
        self.from_user.is_some()
            || self.from_pass.is_some()
            || self.from_pass_file.is_some()
            || self.from_askpass
    }

    /// Whether databases of the source are named.
    pub(crate) fn names_databases(&self) -> bool {
        self.maps() || self.from_db.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_may_begin_with_a_hyphen() {
        for good in ["user:*", "-*", "-1", "-", "", "-abc", "\\--yes", "a--b"] {
            assert_eq!(pattern(good), Ok(good.to_string()));
        }
        for option in ["--yes", "-h", "--"] {
            assert!(pattern(option).is_err(), "{option}");
        }
    }

    #[test]
    fn databases_mappings_and_prefixes_are_read() {
        assert_eq!(database("all"), Ok(DatabaseArg::All));
        assert_eq!(database("15"), Ok(DatabaseArg::One(15)));
        assert_eq!(mapping("1=2"), Ok((1, 2)));
        assert_eq!(prefix("3=tenant:"), Ok((3, b"tenant:".to_vec())));
        assert_eq!(prefix(r"3=a=\x00"), Ok((3, b"a=\0".to_vec())));
        assert_eq!(prefix(r"3=a\x2cb"), Ok((3, b"a,b".to_vec())));
        for bad in ["-1", "", "x", "+1", "4294967296"] {
            assert!(database(bad).is_err(), "{bad}");
        }
        for bad in ["1", "1=", "=1", "a=1", "1=2=3"] {
            assert!(mapping(bad).is_err(), "{bad}");
        }
        for bad in ["1", "1=", "x=a", "1={a}", "1=a}"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
    }
}
