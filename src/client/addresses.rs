//! What a node tells of its addresses.

use super::error::ClientError;
use super::{NodeClient, Over};
use crate::cluster::peer_addrs::{AddressFacts, SETTINGS};

impl NodeClient {
    /// CONFIG GET of the settings about addresses, and where this connection ended. Where CONFIG is denied, only the
    /// latter is known.
    pub async fn address_facts(&self) -> Result<AddressFacts, ClientError> {
        let settings = self.config_get(&SETTINGS).await?;
        let over_tls = matches!(self.shared.over, Over::Tls);
        Ok(AddressFacts {
            remote: self.remote_ip(),
            ..AddressFacts::of_settings(&settings, over_tls)
        })
    }
}
