//! `redis-trib config list|show|check`: the named clusters of the configuration file, without secrets.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::config::{ClusterConfig, Config, PasswordSource};
use crate::exit_code::ExitCode;
use crate::report::{ConfigProblem, ConfigView, NamedClusterView};
use crate::seed::is_cluster_name;
use crate::stop::{CommandResult, Stop};
use crate::ui::{ConfigText, Ui};

/// Arguments of `config`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib config [OPTIONS] <list|show|check> [@NAME]",
    after_help = "The file is ~/.config/redis-trib/config.toml (XDG_CONFIG_HOME), or the one that REDIS_TRIB_CONFIG \
    names:\n\n  \
    [clusters.prod]\n  \
    nodes = [\"10.0.0.3:6379\", \"10.0.0.4:6379\"]\n  \
    user = \"operator\"\n  \
    pass_file = \"prod.pass\"            # or pass_command = \"pass show redis/prod\"\n  \
    cacert = \"/etc/redis/ca.pem\"       # TLS files imply TLS\n  \
    address_map = [\"172.17.0.2:6379=localhost:7001\"]\n  \
    zone = [\"10.0.0.3:6379=east\"]      # and zone_from = \"hostname\"\n  \
    protected = true                   # changes need the name: --confirm prod\n\n\
    @prod then stands wherever a command expects NODE. The command line beats the environment, and the\n\
    environment beats the file. A file that other users can read must not hold a password.\n\nExamples:\n  \
    redis-trib check @prod\n  \
    redis-trib config list\n  \
    redis-trib config show @prod          # secrets are masked\n  \
    redis-trib config check               # exit code 1: a file that a setting names can't be read"
)]
pub struct Args {
    /// What to do with the configuration.
    #[arg(value_name = "ACTION")]
    action: Action,
    /// One cluster only.
    #[arg(value_name = "@NAME", value_parser = name)]
    name: Option<String>,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// List the clusters.
    List,
    /// Show the settings. Secrets are masked.
    Show,
    /// Read the file and the files that it names. No node is contacted.
    Check,
}

fn name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix('@').unwrap_or(text);
    match is_cluster_name(name) {
        true => Ok(name.to_string()),
        false => Err("a cluster name has letters, digits, '-', '_' and '.'".to_string()),
    }
}

/// Lists, shows or checks the clusters.
pub fn run(ui: &Ui, args: Args) -> CommandResult {
    let mut config = Config::load().map_err(Stop::from)?;
    if let Some(name) = &args.name {
        if !config.clusters.contains_key(name) {
            return Err(config.unknown(name).into());
        }
        config.clusters.retain(|one, _| one == name);
    }
    let problems: Vec<ConfigProblem> = match args.action {
        Action::Check => config.clusters.iter().flat_map(problems).collect(),
        Action::List | Action::Show => Vec::new(),
    };
    let has_problems = !problems.is_empty();
    let view = ConfigView {
        file: config.path.map(|path| path.display().to_string()),
        clusters: config.clusters.into_iter().map(cluster).collect(),
        problems,
    };
    let text = match args.action {
        Action::List => ConfigText::List,
        Action::Show => ConfigText::Show,
        Action::Check => ConfigText::Check,
    };
    ui.config(&view, text)?;
    Ok(match has_problems {
        true => ExitCode::Unhealthy,
        false => ExitCode::Done,
    })
}

fn cluster((name, config): (String, ClusterConfig)) -> NamedClusterView {
    NamedClusterView {
        name,
        nodes: config
            .nodes
            .iter()
            .map(|seed| seed.addr.to_string())
            .collect(),
        protected: config.protected,
        settings: config.shown.into_iter().collect(),
    }
}

/// Files that can't be read, and a password file that others can read.
fn problems((name, config): (&String, &ClusterConfig)) -> Vec<ConfigProblem> {
    let problem = |key, message| ConfigProblem {
        cluster: name.clone(),
        key,
        message,
    };
    let unreadable = config.files().filter_map(|(key, path)| {
        let read = match key {
            "cacertdir" => fs::read_dir(path).map(drop),
            _ => File::open(path).map(drop),
        };
        let error = read.err()?;
        Some(problem(
            key,
            format!("{} can't be read: {error}", path.display()),
        ))
    });
    let mut problems: Vec<ConfigProblem> = unreadable.collect();
    if let Some(PasswordSource::File(path)) = &config.password
        && let Ok(about) = fs::metadata(path)
        && about.mode() & 0o044 != 0
    {
        let path = path.display();
        let message = format!("{path} can be read by other users: chmod 600 {path}");
        problems.push(problem("pass_file", message));
    }
    problems
}
