//! Atomic slot migration: jobs in which two servers move slots by themselves.
//!
//! Valkey ≥ 9.0 is asked at the source (CLUSTER MIGRATESLOTS), Redis ≥ 8.4 at the target (CLUSTER
//! MIGRATION IMPORT). Both keep a log of their jobs, the ended ones too, and both may learn new
//! states and fields: a state that is not known counts as one that goes on.

use std::collections::BTreeMap;

use super::error::{ClientError, Fault};
use super::reply::{Reply, clean_line, clean_message};
use super::{Command, Deadline, NodeClient};
use crate::cluster::node::NodeId;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};

const MIGRATESLOTS: &str = "CLUSTER MIGRATESLOTS";
const GETSLOTMIGRATIONS: &str = "CLUSTER GETSLOTMIGRATIONS";
const CANCELSLOTMIGRATIONS: &str = "CLUSTER CANCELSLOTMIGRATIONS";
/// IMPORT, STATUS and CANCEL are words of one subcommand.
const MIGRATION: &str = "CLUSTER MIGRATION";

/// The longest state that is kept, in characters.
const STATE_LIMIT: usize = 40;

/// A job, as one of its two servers tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsmTask {
    /// Its name: the same on both servers.
    pub id: String,
    /// What the server that tells is in it.
    pub side: Side,
    /// What moves.
    pub slots: SlotSet,
    /// Who gives, where the server tells.
    pub source: Option<NodeId>,
    /// Who takes, where the server tells.
    pub target: Option<NodeId>,
    /// The server's word for how far it is; cleaned.
    pub state: String,
    /// How it ended; `None` while it goes on. (Redis begins a failed one again by itself, about
    /// each second and for ever.)
    pub end: Option<JobEnd>,
    /// What went wrong last, in the server's words; empty, or cleaned.
    pub message: String,
    /// How often the server began it again (Redis).
    pub retries: u64,
}

/// What a server is in a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It gives.
    Source,
    /// It takes.
    Target,
}

/// How a job ended, as a server tells it. On Valkey `Failed` at the source does not mean that the
/// target did not take the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobEnd {
    /// The target owns the slots.
    Done,
    /// It failed.
    Failed,
    /// It was called off.
    Cancelled,
}

/// The commands for it that a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtomicCommands {
    /// CLUSTER MIGRATESLOTS (Valkey).
    pub migrateslots: bool,
    /// CLUSTER MIGRATION (Redis).
    pub migration: bool,
}

impl NodeClient {
    /// COMMAND INFO: which of the commands the server has (every version answers).
    pub async fn atomic_commands(&self) -> Result<AtomicCommands, ClientError> {
        let command = Command::named("COMMAND INFO")
            .word("cluster|migrateslots")
            .word("cluster|migration");
        let known = self.query(Deadline::Read, command, Reply::known).await?;
        let knows = |n: usize| known.get(n).copied().unwrap_or(false);
        Ok(AtomicCommands {
            migrateslots: knows(0),
            migration: knows(1),
        })
    }

    /// CLUSTER MIGRATESLOTS at the source (Valkey ≥ 9.0), and its log of jobs right after: the
    /// answer does not name the job. OK is a promise: a target that is a replica is told later.
    pub async fn cluster_migrateslots(
        &self,
        slots: &SlotSet,
        to: NodeId,
    ) -> Result<Vec<AsmTask>, ClientError> {
        let mut start = Command::named(MIGRATESLOTS).word("SLOTSRANGE");
        for range in slots.ranges() {
            start = start
                .word(range.start().number())
                .word(range.end().number());
        }
        let commands = vec![
            start.word("NODE").word(to),
            Command::named(GETSLOTMIGRATIONS),
        ];
        let replies = self.pipeline(Deadline::Change, commands).await;
        let read = |replies: Vec<Reply>| {
            let malformed = Fault::Malformed {
                command: MIGRATESLOTS,
            };
            let [start, log] = <[Reply; 2]>::try_from(replies).map_err(|_| malformed)?;
            start.ok()?;
            valkey_jobs(log)
        };
        replies.and_then(read).map_err(|fault| self.at(fault))
    }

    /// Whether this user may start a job at this source (Valkey ≥ 9.0): asks for one to a node that
    /// can't exist, which is refused in any case, and by another error where the right is missing.
    pub async fn may_migrateslots(&self) -> Result<(), ClientError> {
        let command = Command::named(MIGRATESLOTS)
            .word("SLOTSRANGE")
            .word(0)
            .word(0)
            .word("NODE")
            .word("0");
        match self.query(Deadline::Read, command, Reply::ok).await {
            Err(error) if error.server_code() == Some("ERR") && !error.is_unknown_command() => {
                Ok(())
            }
            answer => answer,
        }
    }

    /// CLUSTER GETSLOTMIGRATIONS (Valkey ≥ 9.0): the newest first. A node that became a replica, or
    /// restarted, has forgotten.
    pub async fn cluster_getslotmigrations(&self) -> Result<Vec<AsmTask>, ClientError> {
        let command = Command::named(GETSLOTMIGRATIONS);
        self.query(Deadline::Read, command, valkey_jobs).await
    }

    /// CLUSTER CANCELSLOTMIGRATIONS (Valkey ≥ 9.0): calls off all jobs of which this node is the
    /// source. None is no error.
    pub async fn cluster_cancelslotmigrations(&self) -> Result<(), ClientError> {
        match self.change(Command::named(CANCELSLOTMIGRATIONS)).await {
            Err(ClientError {
                fault: Fault::Server { message, .. },
                ..
            }) if message.starts_with("No migrations ongoing") => Ok(()),
            answer => answer,
        }
    }

    /// CLUSTER MIGRATION IMPORT at the target (Redis ≥ 8.4): the job's name. The slots have one
    /// owner, all of them. Keys of them that the target has already are dropped without a word.
    pub async fn cluster_migration_import(&self, slots: &SlotSet) -> Result<String, ClientError> {
        let mut command = Command::named(MIGRATION).word("IMPORT");
        for range in slots.ranges() {
            command = command
                .word(range.start().number())
                .word(range.end().number());
        }
        self.query(Deadline::Change, command, Reply::text).await
    }

    /// CLUSTER MIGRATION STATUS ALL (Redis ≥ 8.4), ended jobs included.
    pub async fn cluster_migration_status(&self) -> Result<Vec<AsmTask>, ClientError> {
        let command = Command::named(MIGRATION).word("STATUS").word("ALL");
        self.query(Deadline::Read, command, redis_jobs).await
    }

    /// CLUSTER MIGRATION CANCEL at the target (Redis ≥ 8.4; a cancel at the source only makes the
    /// target try again): how many jobs that ended.
    pub async fn cluster_migration_cancel(&self, id: &str) -> Result<u64, ClientError> {
        let command = Command::named(MIGRATION).word("CANCEL").word("ID").word(id);
        self.query(Deadline::Change, command, Reply::count).await
    }

    /// DBSIZE and CLUSTER COUNTKEYSINSLOT of each slot in one transaction, so that both are of one
    /// moment. 16,384 slots take the server about 5 ms.
    pub async fn dbsize_and_counts(&self, slots: &SlotSet) -> Result<(u64, u64), ClientError> {
        let count = |slot: Slot| Command::named("CLUSTER COUNTKEYSINSLOT").word(slot.number());
        let mut commands = vec![Command::named("MULTI"), Command::named("DBSIZE")];
        commands.extend(slots.iter().map(count));
        commands.push(Command::named("EXEC"));
        let replies = self.pipeline(Deadline::Read, commands).await;
        let read = |mut replies: Vec<Reply>| {
            let malformed = Fault::Malformed { command: "EXEC" };
            let replies = replies.pop().ok_or(malformed.clone())?;
            let counts = replies.replies("CLUSTER COUNTKEYSINSLOT")?.into_iter();
            let counts = counts.map(Reply::count).collect::<Result<Vec<u64>, _>>()?;
            match counts.split_first() {
                Some((size, counts)) => Ok((*size, counts.iter().sum())),
                None => Err(malformed),
            }
        };
        replies.and_then(read).map_err(|fault| self.at(fault))
    }
}

/// The reply of CLUSTER GETSLOTMIGRATIONS.
fn valkey_jobs(reply: Reply) -> Result<Vec<AsmTask>, Fault> {
    let malformed = Fault::Malformed {
        command: GETSLOTMIGRATIONS,
    };
    let job = |fields: BTreeMap<String, String>| {
        let end = |state: &str| match state {
            "success" => Some(JobEnd::Done),
            "failed" => Some(JobEnd::Failed),
            "cancelled" => Some(JobEnd::Cancelled),
            _ => None,
        };
        let words = Words {
            id: "name",
            slots: "slot_ranges",
            source: "source_node",
            target: "target_node",
            message: "message",
        };
        read_job(&fields, &words, end).ok_or(malformed.clone())
    };
    reply.records()?.into_iter().map(job).collect()
}

/// The reply of CLUSTER MIGRATION STATUS.
fn redis_jobs(reply: Reply) -> Result<Vec<AsmTask>, Fault> {
    let malformed = Fault::Malformed { command: MIGRATION };
    let job = |fields: BTreeMap<String, String>| {
        let end = |state: &str| match state {
            "completed" => Some(JobEnd::Done),
            "canceled" => Some(JobEnd::Cancelled),
            // It goes on.
            _ => None,
        };
        let words = Words {
            id: "id",
            slots: "slots",
            source: "source",
            target: "dest",
            message: "last_error",
        };
        read_job(&fields, &words, end).ok_or(malformed.clone())
    };
    reply.records()?.into_iter().map(job).collect()
}

/// What the fields of a job are called.
struct Words {
    id: &'static str,
    slots: &'static str,
    source: &'static str,
    target: &'static str,
    message: &'static str,
}

fn read_job(
    fields: &BTreeMap<String, String>,
    words: &Words,
    end: impl Fn(&str) -> Option<JobEnd>,
) -> Option<AsmTask> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let node = |name: &str| field(name).and_then(|id| id.parse().ok());
    let state = field("state")?;
    Some(AsmTask {
        id: clean_line(field(words.id)?, STATE_LIMIT),
        side: match field("operation")?.to_ascii_lowercase().as_str() {
            "import" => Side::Target,
            _ => Side::Source,
        },
        slots: slots_of(field(words.slots)?)?,
        source: node(words.source),
        target: node(words.target),
        end: end(state),
        state: clean_line(state, STATE_LIMIT),
        message: clean_message(field(words.message).unwrap_or_default()),
        retries: field("retries").and_then(|n| n.parse().ok()).unwrap_or(0),
    })
}

/// `0-4 6-9`, or a slot alone.
fn slots_of(text: &str) -> Option<SlotSet> {
    let slot = |text: &str| Slot::new(text.parse().ok()?);
    let mut slots = SlotSet::new();
    for part in text.split_ascii_whitespace() {
        let (start, end) = part.split_once('-').unwrap_or((part, part));
        slots.insert_range(SlotRange::new(slot(start)?, slot(end)?)?);
    }
    Some(slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::Value;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn flat(fields: &[(&str, Value)]) -> Value {
        let pairs = fields.iter();
        Value::Array(pairs.flat_map(|(n, v)| [bulk(n), v.clone()]).collect())
    }

    #[test]
    fn valkeys_jobs_are_read() {
        let id = "a".repeat(40);
        let job = |state: &str| {
            let fields = [
                ("name", bulk(&id)),
                ("operation", bulk("EXPORT")),
                ("slot_ranges", bulk("0-4 6-6")),
                ("target_node", bulk(&"b".repeat(40))),
                ("source_node", bulk(&"c".repeat(40))),
                ("create_time", Value::Int(1)),
                ("state", bulk(state)),
                ("message", bulk("bad\u{1b}[2J\r\n")),
            ];
            let reply = Reply::new(GETSLOTMIGRATIONS, Value::Array(vec![flat(&fields)]));
            valkey_jobs(reply).unwrap().remove(0)
        };
        let running = job("some-new-state");
        assert_eq!((running.end, running.side), (None, Side::Source));
        assert_eq!(running.slots.count(), 6);
        assert_eq!(running.message, "bad[2J");
        assert_eq!(running.target, "b".repeat(40).parse().ok());
        assert_eq!(job("success").end, Some(JobEnd::Done));
        assert_eq!(job("failed").end, Some(JobEnd::Failed));
        assert_eq!(job("cancelled").end, Some(JobEnd::Cancelled));
    }

    #[test]
    fn a_job_of_redis_that_failed_goes_on() {
        let job = |state: &str, slots: &str| {
            let fields = [
                ("id", bulk("7")),
                ("slots", bulk(slots)),
                ("source", bulk(&"b".repeat(40))),
                ("dest", bulk(&"c".repeat(40))),
                ("operation", bulk("import")),
                ("state", bulk(state)),
                ("last_error", bulk("-NOAUTH")),
                ("retries", Value::Int(3)),
            ];
            redis_jobs(Reply::new(MIGRATION, Value::Array(vec![flat(&fields)])))
        };
        let failed = job("failed", "0-9").unwrap().remove(0);
        assert_eq!((failed.end, failed.side), (None, Side::Target));
        assert_eq!((failed.retries, failed.message.as_str()), (3, "-NOAUTH"));
        assert_eq!(job("completed", "1").unwrap()[0].end, Some(JobEnd::Done));
        let malformed = Err(Fault::Malformed { command: MIGRATION });
        assert_eq!(job("completed", "9-1"), malformed);
        assert_eq!(job("completed", "0-16384"), malformed);
        let other = Reply::new(MIGRATION, Value::Array(vec![Value::Int(1)]));
        assert_eq!(redis_jobs(other), malformed);
    }
}
