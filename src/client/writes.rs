//! Whether a node takes writes, asked without writing.

use super::error::{ClientError, Fault};
use super::reply::Reply;
use super::{Command, Deadline, NodeClient};
use crate::cluster::write_refusal::WriteRefusal;

impl NodeClient {
    /// Why this node refuses writes; `None` if it takes them, or if that can't be known.
    ///
    /// PING answers MISCONF where writes would (every version). RESTORE of an empty payload, which is invalid, answers
    /// the other refusals, and changes nothing on any server. `key` belongs to a slot that the node serves: a key of
    /// another node would only be redirected. Without one, two commands are asked instead that have none: FUNCTION
    /// RESTORE (Redis ≥ 7.0), and XGROUP HELP, which Redis 5.0 to 6.2 take for a write. The user may lack the right to
    /// any of them.
    pub async fn write_refusal(
        &self,
        key: Option<&[u8]>,
    ) -> Result<Option<WriteRefusal>, ClientError> {
        let mut commands = vec![Command::named("PING")];
        match key {
            Some(key) => commands.push(Command::named("RESTORE").arg(key).arg(0).arg("")),
            None => commands.extend([
                Command::named("FUNCTION RESTORE").arg(""),
                Command::named("XGROUP HELP"),
            ]),
        }
        let replies = self.pipeline(Deadline::Read, commands).await;
        let replies = replies.map_err(|fault| self.at(fault))?;
        Ok(replies.iter().find_map(refusal_in))
    }
}

/// The refusal of writes in a reply, if it is one.
pub(super) fn refusal_in(reply: &Reply) -> Option<WriteRefusal> {
    reply.refusal()?.write_refusal()
}

impl Fault {
    /// Why the server refuses writes, if it said so.
    pub(super) fn write_refusal(&self) -> Option<WriteRefusal> {
        match self {
            Self::Server { code, message, .. } => WriteRefusal::of(code, message),
            Self::Misconf { reason } => WriteRefusal::of("MISCONF", reason),
            _ => None,
        }
    }
}

impl ClientError {
    /// Why the server refuses writes, if it said so.
    pub fn write_refusal(&self) -> Option<WriteRefusal> {
        self.fault.write_refusal()
    }
}
