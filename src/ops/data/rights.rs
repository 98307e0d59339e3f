//! Rights that are missing for a transfer, noticed before anything is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::anyhow;

use super::{Afterwards, infos};
use crate::client::{ClientError, ExpiryQuestion, TransferRight};
use crate::connections::{Connections, Target};
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::Stop;
use crate::transfer::OnConflict;

/// Whether functions are loaded, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoadsFunctions {
    Yes,
    No,
}

/// What is done with the keys of the cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkAtTarget {
    pub(super) on_conflict: OnConflict,
    pub(super) functions: LoadsFunctions,
    pub(super) afterwards: Afterwards,
}

impl WorkAtTarget {
    /// Keys and functions that are there are compared, unless they are overwritten.
    fn rights(self) -> Vec<TransferRight> {
        let keeps = self.on_conflict != OnConflict::Replace;
        let mut rights = vec![TransferRight::Write];
        if keeps || self.afterwards == Afterwards::Compare {
            rights.push(COMPARE);
        }
        if self.functions == LoadsFunctions::Yes {
            rights.push(TransferRight::LoadFunctions);
            if keeps {
                rights.push(TransferRight::ListFunctions);
            }
        }
        rights
    }
}

/// The right to values and to their times to live.
pub(super) const COMPARE: TransferRight = TransferRight::Read(ExpiryQuestion::Left);

/// Refuses a transfer for which the user lacks a right on a master of the cluster.
pub(super) async fn refuse_missing_at_target(
    session: &Session,
    cluster: &ClusterState,
    work: WorkAtTarget,
) -> Result<(), Stop> {
    refuse_missing_at_owners(session, cluster, &work.rights()).await
}

/// Refuses if the user lacks one of these rights on an owner of slots.
pub(super) async fn refuse_missing_at_owners(
    session: &Session,
    cluster: &ClusterState,
    rights: &[TransferRight],
) -> Result<(), Stop> {
    let owners = infos(cluster).into_keys();
    let targets = owners.filter_map(|id| cluster.reach.get(&id).cloned());
    refuse_missing(session, targets.collect(), rights).await
}

/// Refuses if the user lacks one of these rights on one of these nodes.
pub(super) async fn refuse_missing(
    session: &Session,
    targets: Vec<Target>,
    rights: &[TransferRight],
) -> Result<(), Stop> {
    let rights: Arc<[TransferRight]> = rights.into();
    let asking = session.connections.fan_out(targets, |connections, target| {
        let rights = Arc::clone(&rights);
        async move {
            let rules = missing(&connections, &target, &rights).await;
            (target, rules)
        }
    });
    let mut lines = Vec::new();
    for (target, rules) in asking.await {
        let rules: BTreeSet<&str> = match rules {
            Ok(rules) => rules.into_iter().collect(),
            // The transfer waits for a node that does not answer for a moment, or says why it can't.
            Err(error) => {
                tracing::warn!(%error, "the rights of the user are not known");
                continue;
            }
        };
        if !rules.is_empty() {
            let user = user_of(&target);
            let rules: Vec<&str> = rules.into_iter().collect();
            lines.push(format!(
                "{}: ACL SETUSER {user} {}",
                target.addr,
                rules.join(" ")
            ));
        }
    }
    match lines.is_empty() {
        true => Ok(()),
        false => Err(Stop::refused(anyhow!(
            "the user lacks rights that are needed, so nothing was done; these rules add them:\n  {}",
            lines.join("\n  ")
        ))),
    }
}

fn user_of(target: &Target) -> &str {
    target.access.login.user.as_deref().unwrap_or("default")
}

async fn missing(
    connections: &Connections,
    target: &Target,
    rights: &[TransferRight],
) -> Result<Vec<&'static str>, ClientError> {
    let client = connections.own(target).await?;
    client.missing_rules(user_of(target), rights).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_needs_rights_to_read() {
        use TransferRight::{ListFunctions, LoadFunctions, Write};
        for (on_conflict, functions, afterwards, expected) in [
            (
                OnConflict::Replace,
                LoadsFunctions::No,
                Afterwards::End,
                &[Write][..],
            ),
            (
                OnConflict::Replace,
                LoadsFunctions::Yes,
                Afterwards::Compare,
                &[Write, COMPARE, LoadFunctions],
            ),
            (
                OnConflict::Skip,
                LoadsFunctions::No,
                Afterwards::End,
                &[Write, COMPARE],
            ),
            (
                OnConflict::Abort,
                LoadsFunctions::Yes,
                Afterwards::End,
                &[Write, COMPARE, LoadFunctions, ListFunctions],
            ),
        ] {
            let work = WorkAtTarget {
                on_conflict,
                functions,
                afterwards,
            };
            assert_eq!(work.rights(), expected, "{work:?}");
        }
    }
}
