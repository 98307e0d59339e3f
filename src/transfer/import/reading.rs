//! Reads the keys of a standalone server in bulk. What that leaves, for whatever reason, is left to a
//! [`KeyReader`](crate::transfer::keyspace::KeyReader).

use crate::client::{BulkReader, ClientError, ExpiryQuestion, ReadKey};
use crate::transfer::keyspace::{Keyspace, Place};

/// A connection to the source for many keys.
pub(super) struct BulkSource {
    source: Keyspace,
    reader: Option<BulkReader>,
}

impl BulkSource {
    pub(super) fn new(source: Keyspace) -> Self {
        Self {
            source,
            reader: None,
        }
    }

    /// Keys with their expiry; `None` if another connection has to read them.
    pub(super) async fn dump(
        &mut self,
        keys: &[&[u8]],
        question: ExpiryQuestion,
    ) -> Result<Option<Vec<ReadKey<'_>>>, ClientError> {
        // Keys of a cluster are on several nodes, and move between them.
        let Place::Server {
            target,
            connections,
            ..
        } = &self.source.place
        else {
            return Ok(None);
        };
        // A connection that fails, or is given up in the middle of its replies, is not used again.
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => match connections
                .bulk_reader(target, self.source.database)
                .await?
            {
                Some(reader) => reader,
                None => return Ok(None),
            },
        };
        reader.dump(keys, question).await?;
        Ok(Some(self.reader.insert(reader).keys(question)))
    }
}
