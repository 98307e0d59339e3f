//! `redis-trib where NODE KEY…`: where keys and slots are.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::args::values::slot;
use crate::change::{Global, Look};
use crate::cluster::key::KeyName;
use crate::cluster::slot::Slot;
use crate::exit_code::ExitCode;
use crate::ops::where_is::{self, WhereRequest};
use crate::seed::Seed;
use crate::session::Session;
use crate::stop::{CommandResult, Stop};
use crate::ui::Ui;

/// Arguments of `where`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "redis-trib where [OPTIONS] <NODE> [KEY]...",
    after_help = "A key may have any bytes: \\xHH stands for one byte, \\\\ for a backslash.\nLooking at a key does \
    not count as an access.\nExit code 1: a slot has no owner, or its owner does not answer.\n\nExamples:\n  \
    redis-trib where 10.0.0.3 user:1000 'cart:{1000}'\n  \
    redis-trib where 10.0.0.3 'session:\\x00\\xff' --output json\n  \
    redis-trib where 10.0.0.3 --slot 8000"
)]
pub struct Args {
    /// A node of the cluster.
    #[arg(value_name = "NODE")]
    node: Seed,
    /// The keys; bytes that can't be typed as \xHH.
    #[arg(value_name = "KEY", required_unless_present = "slot")]
    keys: Vec<OsString>,
    /// A slot (repeatable).
    #[arg(long, value_name = "SLOT", value_parser = slot, value_delimiter = ',')]
    slot: Vec<Slot>,
    /// The database of the keys (Valkey ≥ 9.0 has several in a cluster).
    #[arg(long, value_name = "N", default_value = "0", value_parser = database)]
    db: u32,
}

fn database(text: &str) -> Result<u32, String> {
    let number = text.parse::<i32>().ok();
    let number = number.and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("{text} is not the number of a database, 0 or more"))
}

/// Shows where keys and slots are.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let keys = args.keys.iter().map(|key| KeyName::parse(key.as_bytes()));
    let keys = keys.collect::<Result<_, _>>().map_err(Stop::usage)?;
    let request = WhereRequest {
        keys,
        slots: args.slot,
        database: args.db,
    };
    let seeds = std::slice::from_ref(&args.node);
    let mut look = Look::open(global, ui, seeds).await?;
    let look_up = async |session: &Session| where_is::look_up(session, request).await;
    let view = look.run(seeds, look_up).await?;
    ui.where_is(&view)?;
    Ok(match view.is_complete() {
        true => ExitCode::Done,
        false => ExitCode::Unhealthy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_are_numbers_from_0_on() {
        assert_eq!(database("15"), Ok(15));
        for bad in ["-1", "", "x", "4294967296", "2147483648"] {
            assert!(database(bad).is_err(), "{bad}");
        }
    }
}
