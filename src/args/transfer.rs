//! Options that `import` and `restore` share.

use crate::args::values::number;
use crate::transfer::{AfterFailure, OnConflict, TransferOptions};

/// `--on-existing-key`: how to treat a key that is in the cluster with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OnConflictArg {
    /// Leave it as it is, and report it.
    Skip,
    /// Overwrite it.
    Replace,
    /// Stop at the first such key.
    Abort,
}

impl From<OnConflictArg> for OnConflict {
    fn from(arg: OnConflictArg) -> Self {
        match arg {
            OnConflictArg::Skip => Self::Skip,
            OnConflictArg::Replace => Self::Replace,
            OnConflictArg::Abort => Self::Abort,
        }
    }
}

/// How keys are written.
#[derive(Debug, clap::Args)]
pub(crate) struct TransferArgs {
    /// Stop at the first key that fails.
    #[arg(long)]
    fail_fast: bool,
    /// Number of connections that write to one master at a time.
    #[arg(long = "writers", alias = "lanes", value_name = "N", default_value_t = 2, value_parser = number("connections", 1..=64))]
    lanes: u16,
    /// Do not ask for confirmation.
    #[arg(short, long, overrides_with = "yes")]
    pub(crate) yes: bool,
    /// Show what would be written and exit.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl TransferArgs {
    pub(crate) fn options(&self, on_conflict: OnConflict) -> TransferOptions {
        TransferOptions {
            on_conflict,
            after_failure: match self.fail_fast {
                true => AfterFailure::Stop,
                false => AfterFailure::GoOn,
            },
            lanes: usize::from(self.lanes),
        }
    }
}
