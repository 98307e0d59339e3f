//! Function libraries: a library is loaded on every master, since masters do not tell each other of functions.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::report::{FailureReason, TransferReport, quoted};
use super::slots::SlotOwners;
use super::{OnConflict, Stopper, TransferError};
use crate::client::{ClientError, Fault, RestoreMode};
use crate::cluster::functions::library_name;

/// Loads libraries.
pub(super) struct LibraryLoader {
    owners: Arc<SlotOwners>,
    on_conflict: OnConflict,
    /// Libraries that were loaded already: every master and every file may have all of them.
    loaded: Mutex<BTreeSet<Vec<u8>>>,
}

/// Loads the code of libraries on every master. The report covers what was done even if the transfer stopped.
pub async fn load_libraries(
    owners: Arc<SlotOwners>,
    codes: &[Vec<u8>],
    on_conflict: OnConflict,
    stopper: &Stopper,
) -> (TransferReport, Option<TransferError>) {
    let loader = LibraryLoader::new(owners, on_conflict);
    let mut report = TransferReport::default();
    for code in codes {
        if stopper.is_halted() {
            break;
        }
        if let Err(why) = loader.load(code, &mut report).await {
            stopper.halt(why);
        }
    }
    (report, stopper.why())
}

impl LibraryLoader {
    pub(super) fn new(owners: Arc<SlotOwners>, on_conflict: OnConflict) -> Self {
        Self {
            owners,
            on_conflict,
            loaded: Mutex::default(),
        }
    }

    /// Loads a library of functions on every master.
    pub(super) async fn load(
        &self,
        code: &[u8],
        report: &mut TransferReport,
    ) -> Result<(), TransferError> {
        // One library after the other: of two that a server can't have both, all masters get the same one.
        let mut loaded = self.loaded.lock().await;
        if !loaded.insert(code.to_vec()) {
            return Ok(());
        }
        if self.on_conflict != OnConflict::Replace
            && let Some(owner) = self.has_other_code(code).await?
        {
            // Loaded on the other masters, it would differ from this one.
            return self.differs(code, owner, report);
        }
        let mut everywhere = true;
        for owner in self.owners.all() {
            let client = self.owners.connections().client(&owner.target).await?;
            let mode = match self.on_conflict {
                OnConflict::Replace => RestoreMode::Replace,
                OnConflict::Skip | OnConflict::Abort => RestoreMode::Keep,
            };
            let error = match client.function_load(code, mode).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            let libraries = client.function_list().await?;
            let mut loaded = libraries.iter().flat_map(|all| all.values());
            if loaded.any(|library| library.code == code) {
                continue;
            }
            everywhere = false;
            let (reason, why) = match (already_exists(&error), libraries) {
                (true, Some(_)) if self.on_conflict == OnConflict::Abort => {
                    return self.differs(code, owner.name, report);
                }
                (true, Some(_)) => (FailureReason::Differs, error.to_string()),
                (true, None) => (
                    FailureReason::Refused,
                    format!(
                        "{error}; the user may not run FUNCTION LIST, so it is not known whether its code is the same"
                    ),
                ),
                (false, _) => (FailureReason::Refused, error.to_string()),
            };
            report.fail_named(reason, name_of(code), &why);
            break;
        }
        report.functions += u64::from(everywhere);
        Ok(())
    }

    /// The first master that has the library with other code.
    async fn has_other_code(&self, code: &[u8]) -> Result<Option<String>, TransferError> {
        let Some(name) = library_name(code) else {
            return Ok(None);
        };
        for owner in self.owners.all() {
            let client = self.owners.connections().client(&owner.target).await?;
            let loaded = client.function_code(&name).await?;
            if loaded.is_some_and(|loaded| loaded != code) {
                return Ok(Some(owner.name));
            }
        }
        Ok(None)
    }

    /// Reports a library that a master has with other code, or stops for it.
    fn differs(
        &self,
        code: &[u8],
        node: String,
        report: &mut TransferReport,
    ) -> Result<(), TransferError> {
        let key = name_of(code);
        if self.on_conflict == OnConflict::Abort {
            return Err(TransferError::Conflict { key, node });
        }
        let why = format!("{node} has it with other code");
        report.fail_named(FailureReason::Differs, key, &why);
        Ok(())
    }
}

/// `ERR Library 'mylib' already exists`.
fn already_exists(error: &ClientError) -> bool {
    match &error.fault {
        Fault::Server { message, .. } => message.ends_with("already exists"),
        _ => false,
    }
}

/// `the functions "#!lua name=mylib"`.
fn name_of(code: &[u8]) -> String {
    let line = code.split(|byte| *byte == b'\n').next().unwrap_or_default();
    format!("the functions {}", quoted(line))
}
