//! Type, time to live and size of one key.

use super::error::{ClientError, Fault};
use super::reply::clean_line;
use super::values::Reader;

/// The longest name of a type that is read, in characters.
const TYPE_LIMIT: usize = 64;

/// Type, time to live and size of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// The server's name of its type: `string`, `hash`, `ReJSON-RL`…
    pub type_name: String,
    /// Milliseconds to live; `None` if the key does not expire.
    pub ttl: Option<u64>,
    /// Approximate bytes in memory; `None` where the server does not report them (Redis < 4.0, ACL).
    pub memory: Option<u64>,
}

impl Reader<'_> {
    /// TYPE, PTTL and MEMORY USAGE (Redis ≥ 4.0); `None` if the key does not exist, or has moved to another node. None
    /// of them counts as an access of the key.
    pub async fn facts(&self) -> Result<Option<KeyFacts>, ClientError> {
        let commands = vec![
            self.on_key("TYPE"),
            self.on_key("PTTL"),
            self.on_key("MEMORY USAGE"),
        ];
        let replies = match self.ask(commands).await {
            Err(error) if error.server_code() == Some("ASK") => return Ok(None),
            replies => replies?,
        };
        let [type_name, ttl, memory] = self.exactly("TYPE", replies)?;
        let type_name = match type_name.word() {
            Err(Fault::Server { code, .. }) if code == "ASK" => return Ok(None),
            word => word.map_err(|fault| self.at(fault))?,
        };
        if type_name == "none" {
            return Ok(None);
        }
        let ttl = match ttl.integer() {
            // The key vanished between the commands.
            Err(Fault::Server { code, .. }) if code == "ASK" => return Ok(None),
            Ok(-2) => return Ok(None),
            ttl => u64::try_from(ttl.map_err(|fault| self.at(fault))?).ok(),
        };
        Ok(Some(KeyFacts {
            type_name: clean_line(&type_name, TYPE_LIMIT),
            ttl,
            memory: memory.count().ok(),
        }))
    }
}
