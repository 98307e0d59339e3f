//! All addresses of a name. musl's `getaddrinfo` returns at most [`GETADDRINFO_LIMIT`], and a name may stand for more
//! nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use domain::base::Name;
use domain::base::name::UncertainName;
use domain::resolv::StubResolver;
use tokio::time::timeout;

use crate::cluster::parse::MAX_NODES;

/// `MAXADDRS` of musl, in all versions up to 1.2.5.
pub(super) const GETADDRINFO_LIMIT: usize = 48;

/// The deadline of all queries for one name.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Asks the DNS servers of `/etc/resolv.conf` for all addresses of `name`. Returns none if they do not answer, or if
/// the name is only in `/etc/hosts`.
pub(super) async fn addresses(name: &str) -> BTreeSet<IpAddr> {
    let resolver = StubResolver::new();
    let look_up = async {
        // As musl does: a name with `ndots` dots is complete, and others are tried in the search domains.
        let is_complete = name.matches('.').count() >= resolver.options().ndots;
        let found = match UncertainName::<Vec<u8>>::from_str(name).ok()? {
            UncertainName::Relative(relative) if !is_complete => {
                resolver.search_host(relative).await
            }
            UncertainName::Relative(relative) => {
                let complete: Name<Vec<u8>> = relative.into_absolute().ok()?;
                resolver.lookup_host(complete).await
            }
            UncertainName::Absolute(complete) => resolver.lookup_host(complete).await,
        };
        Some(found.ok()?.iter().take(MAX_NODES).collect())
    };
    timeout(ANSWER_WITHIN, look_up)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}
