//! Options that `import` and `restore` share.

use crate::transfer::OnConflict;

/// `--on-conflict`: how to treat a key that is in the cluster with another value.
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
