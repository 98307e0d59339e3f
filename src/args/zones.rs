//! `--zone` and `--zone-from`: options of the commands that keep replicas apart.

use std::str::FromStr;

use clap::ValueEnum;

use crate::args::global::GlobalArgs;
use crate::cluster::node::Addr;
use crate::cluster::text::clean;
use crate::ops::join::zones::{ZoneRules, ZoneSource};
use crate::seed::parse_addr;

/// The zones of nodes.
#[derive(Debug, clap::Args)]
pub(crate) struct ZoneArgs {
    /// The node at ADDR is in zone NAME (repeatable).
    #[arg(long, value_name = "ADDR=NAME")]
    zone: Vec<NamedZone>,
    /// The server setting that names the zone of a node [default: availability-zone].
    #[arg(long, value_name = "FIELD")]
    zone_from: Option<ZoneSourceArg>,
}

/// The server setting that names the zone of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ZoneSourceArg {
    /// availability-zone (Valkey 8 and later).
    AvailabilityZone,
    /// cluster-announce-human-nodename (Redis 7.2 and later, Valkey).
    HumanNodename,
    /// cluster-announce-hostname (Redis 7.0 and later, Valkey).
    Hostname,
    /// None: only --zone names zones.
    None,
}

impl From<ZoneSourceArg> for ZoneSource {
    fn from(arg: ZoneSourceArg) -> Self {
        match arg {
            ZoneSourceArg::AvailabilityZone => Self::AvailabilityZone,
            ZoneSourceArg::HumanNodename => Self::HumanNodename,
            ZoneSourceArg::Hostname => Self::Hostname,
            ZoneSourceArg::None => Self::None,
        }
    }
}

/// `10.0.0.3:6379=east`.
#[derive(Debug, Clone)]
struct NamedZone {
    addr: Addr,
    zone: String,
}

impl FromStr for NamedZone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, zone) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} is not ADDR=NAME, for example 10.0.0.3:6379=east"))?;
        if zone.is_empty() {
            return Err(format!("{text:?} names no zone"));
        }
        Ok(Self {
            addr: parse_addr(addr).map_err(|error| error.to_string())?,
            zone: clean(zone, 255),
        })
    }
}

impl ZoneArgs {
    /// Returns the rules by which zones are found. The settings of a named cluster fill what the command line leaves
    /// out.
    pub(crate) fn rules(&self, global: &GlobalArgs) -> ZoneRules {
        let settings = global.named.settings();
        let configured = settings.and_then(|one| one.zone_from.as_deref());
        let configured = configured.and_then(|word| ZoneSourceArg::from_str(word, false).ok());
        let named: Vec<(Addr, String)> = match (self.zone.is_empty(), settings) {
            (true, Some(settings)) => settings.zone.clone(),
            _ => {
                let named = self.zone.iter();
                named
                    .map(|one| (one.addr.clone(), one.zone.clone()))
                    .collect()
            }
        };
        let source = self.zone_from.or(configured);
        ZoneRules {
            named,
            source: source.unwrap_or(ZoneSourceArg::AvailabilityZone).into(),
        }
    }
}
