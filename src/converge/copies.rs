//! The end of a change: replicas that got another master by it receive their copies.

use std::collections::BTreeSet;
use std::time::Duration;

use super::poll::Polled;
use super::{CopyNews, relinked};
use crate::cluster::node::NodeId;
use crate::connections::Target;
use crate::session::Session;
use crate::state::ClusterState;

/// How long copies are waited for.
const COPIES_WITHIN: Duration = Duration::from_secs(60);

/// Waits until the replicas that got another master since `before` have their copies, or a signal, which it returns. What
/// is missing after that time is a warning: it goes on without us. A replica that can never sync is one at once.
///
/// The command gives up its name before: it only looks, and does not keep other operators waiting.
pub(crate) async fn wait_for_copies(
    session: &Session,
    seeds: &[Target],
    before: &ClusterState,
    left: &BTreeSet<NodeId>,
) -> Result<(), &'static str> {
    session.connections.release_name();
    let events = &session.events;
    let tell = |news: CopyNews<'_>| match news {
        CopyNews::Lacking(names) => events.waiting(format!(
            "copies for replicas that got other masters: {}",
            names.join(", ")
        )),
        CopyNews::CannotSync(message) => events.warn(message.to_string()),
    };
    // After a signal, one look tells whether a copy is missing; a second signal does not wait for that.
    let heard = session.interrupt.heard();
    let within = heard.map_or(COPIES_WITHIN, |_| Duration::ZERO);
    let copies = relinked(session, seeds, before, left, within, tell);
    let copies = match heard {
        None => session.interrupt.stops(copies).await?,
        Some(signal) => tokio::select! {
            biased;
            looked = copies => match looked {
                Ok(Polled::Met(())) => Ok(Polled::Met(())),
                Ok(Polled::Missing(_)) | Err(_) => return Err(signal),
            },
            () = session.interrupt.forced() => return Err(signal),
        },
    };
    match copies {
        Ok(Polled::Met(())) => {}
        Ok(Polled::Missing(lacking)) => events.warn(format!(
            "still without a copy from their new masters: {}",
            lacking.join(", ")
        )),
        // The change itself is done.
        Err(stop) => events.warn(format!(
            "whether all replicas have their copies is not known: {:#}",
            stop.error
        )),
    }
    Ok(())
}
