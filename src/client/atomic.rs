//! Atomic slot migration (ASM) tasks, in which two servers move slots themselves.
//!
//! Valkey ≥ 9.0 starts a task at the source (CLUSTER MIGRATESLOTS), Redis ≥ 8.4 at the target (CLUSTER MIGRATION
//! IMPORT). Both keep a log of their tasks, ended ones included, and may add states and fields: an unknown state
//! counts as running.

use std::collections::BTreeMap;
use std::time::Duration;

use super::error::{ClientError, Fault};
use super::reply::{Reply, clean_line, clean_message};
use super::{Command, Deadline, NodeClient};
use crate::cluster::node::NodeId;
use crate::cluster::observation::TaskProgress;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};

const MIGRATESLOTS: &str = "CLUSTER MIGRATESLOTS";
const GETSLOTMIGRATIONS: &str = "CLUSTER GETSLOTMIGRATIONS";
const CANCELSLOTMIGRATIONS: &str = "CLUSTER CANCELSLOTMIGRATIONS";
/// IMPORT, STATUS and CANCEL are words of one subcommand.
const MIGRATION: &str = "CLUSTER MIGRATION";

/// The most characters of a state that are kept.
const STATE_LIMIT: usize = 40;
/// The longest write pause that is believed: `cluster-slot-migration-write-pause-timeout` ends it long before.
const LONGEST_PAUSE_MS: u64 = 24 * 60 * 60 * 1000;

/// An ASM task, as one of its two servers reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsmTask {
    /// The task id: the same on both servers.
    pub id: String,
    /// The side of the server that reports the task.
    pub side: Side,
    /// The slots that move.
    pub slots: SlotSet,
    /// The source, if the server reports it.
    pub source: Option<NodeId>,
    /// The target, if the server reports it.
    pub target: Option<NodeId>,
    /// The server's word for the state; cleaned.
    pub state: String,
    /// How the task ended; `None` while it runs. (Redis restarts a failed task itself, about every second and without
    /// limit.)
    pub end: Option<TaskEnd>,
    /// The last error, in the server's words; cleaned, may be empty.
    pub message: String,
    /// How often the server restarted the task (Redis).
    pub retries: u64,
    /// For how long the source held writes back at the end. Redis ≥ 8.4 reports it on the source only, once the task
    /// is completed; everywhere else it is `None`.
    pub write_pause: Option<Duration>,
    /// How far a running task has come, if the server reports it (Redis ≥ 8.12).
    pub progress: Option<TaskProgress>,
}

/// The side of a server in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It gives the slots away.
    Source,
    /// It receives the slots.
    Target,
}

/// How a task ended, as a server reports it. On Valkey, `Failed` at the source does not mean that the target did not
/// take the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEnd {
    /// The target owns the slots.
    Done,
    /// It failed.
    Failed,
    /// It was cancelled.
    Cancelled,
}

/// The ASM commands that a server has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtomicCommands {
    /// CLUSTER MIGRATESLOTS (Valkey).
    pub migrateslots: bool,
    /// CLUSTER MIGRATION (Redis).
    pub migration: bool,
}

impl NodeClient {
    /// COMMAND INFO: returns which of the commands the server has (every version).
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

    /// CLUSTER MIGRATESLOTS at the source (Valkey ≥ 9.0), followed by its log of tasks, because the reply does not
    /// name the task. OK does not mean success: a target that is a replica fails later.
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
            valkey_tasks(log)
        };
        replies.and_then(read).map_err(|fault| self.at(fault))
    }

    /// Whether this user may start a task at this source (Valkey ≥ 9.0). Names a target that can't exist: the server
    /// always refuses, but with another error if the right is missing.
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

    /// CLUSTER GETSLOTMIGRATIONS (Valkey ≥ 9.0): tasks, the newest first. A node that became a replica or restarted
    /// has lost its log.
    pub async fn cluster_getslotmigrations(&self) -> Result<Vec<AsmTask>, ClientError> {
        let command = Command::named(GETSLOTMIGRATIONS);
        self.query(Deadline::Read, command, valkey_tasks).await
    }

    /// CLUSTER CANCELSLOTMIGRATIONS (Valkey ≥ 9.0): cancels all tasks of which this node is the source. No task is no
    /// error.
    pub async fn cluster_cancelslotmigrations(&self) -> Result<(), ClientError> {
        match self.change(Command::named(CANCELSLOTMIGRATIONS)).await {
            Err(ClientError {
                fault: Fault::Server { message, .. },
                ..
            }) if message.starts_with("No migrations ongoing") => Ok(()),
            answer => answer,
        }
    }

    /// CLUSTER MIGRATION IMPORT at the target (Redis ≥ 8.4): returns the task id. All slots must have the same owner.
    /// The target silently deletes keys of these slots that it already has.
    pub async fn cluster_migration_import(&self, slots: &SlotSet) -> Result<String, ClientError> {
        let mut command = Command::named(MIGRATION).word("IMPORT");
        for range in slots.ranges() {
            command = command
                .word(range.start().number())
                .word(range.end().number());
        }
        self.query(Deadline::Change, command, Reply::text).await
    }

    /// CLUSTER MIGRATION STATUS ALL (Redis ≥ 8.4): tasks, ended ones included.
    pub async fn cluster_migration_status(&self) -> Result<Vec<AsmTask>, ClientError> {
        let command = Command::named(MIGRATION).word("STATUS").word("ALL");
        self.query(Deadline::Read, command, redis_tasks).await
    }

    /// CLUSTER MIGRATION CANCEL at the target (Redis ≥ 8.4; a cancel at the source only makes the target retry):
    /// returns how many tasks were cancelled.
    pub async fn cluster_migration_cancel(&self, id: &str) -> Result<u64, ClientError> {
        let command = Command::named(MIGRATION).word("CANCEL").word("ID").word(id);
        self.query(Deadline::Change, command, Reply::count).await
    }

    /// DBSIZE and CLUSTER COUNTKEYSINSLOT of each slot in one transaction, so that both belong to the same moment.
    /// 16,384 slots take the server about 5 ms.
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
fn valkey_tasks(reply: Reply) -> Result<Vec<AsmTask>, Fault> {
    let malformed = Fault::Malformed {
        command: GETSLOTMIGRATIONS,
    };
    let task = |fields: BTreeMap<String, String>| {
        let end = |state: &str| match state {
            "success" => Some(TaskEnd::Done),
            "failed" => Some(TaskEnd::Failed),
            "cancelled" => Some(TaskEnd::Cancelled),
            _ => None,
        };
        let names = FieldNames {
            id: "name",
            slots: "slot_ranges",
            source: "source_node",
            target: "target_node",
            message: "message",
        };
        read_task(&fields, &names, end).ok_or(malformed.clone())
    };
    reply.records()?.into_iter().map(task).collect()
}

/// The reply of CLUSTER MIGRATION STATUS.
fn redis_tasks(reply: Reply) -> Result<Vec<AsmTask>, Fault> {
    let malformed = Fault::Malformed { command: MIGRATION };
    let task = |fields: BTreeMap<String, String>| {
        let end = |state: &str| match state {
            "completed" => Some(TaskEnd::Done),
            "canceled" => Some(TaskEnd::Cancelled),
            // Still running.
            _ => None,
        };
        let names = FieldNames {
            id: "id",
            slots: "slots",
            source: "source",
            target: "dest",
            message: "last_error",
        };
        read_task(&fields, &names, end).ok_or(malformed.clone())
    };
    reply.records()?.into_iter().map(task).collect()
}

/// The names of a task's fields.
struct FieldNames {
    id: &'static str,
    slots: &'static str,
    source: &'static str,
    target: &'static str,
    message: &'static str,
}

fn read_task(
    fields: &BTreeMap<String, String>,
    names: &FieldNames,
    end: impl Fn(&str) -> Option<TaskEnd>,
) -> Option<AsmTask> {
    let field = |name: &str| fields.get(name).map(String::as_str);
    let node = |name: &str| field(name).and_then(|id| id.parse().ok());
    let state = field("state")?;
    Some(AsmTask {
        id: clean_line(field(names.id)?, STATE_LIMIT),
        side: match field("operation")?.to_ascii_lowercase().as_str() {
            "import" => Side::Target,
            _ => Side::Source,
        },
        slots: slots_of(field(names.slots)?)?,
        source: node(names.source),
        target: node(names.target),
        end: end(state),
        state: clean_line(state, STATE_LIMIT),
        message: clean_message(field(names.message).unwrap_or_default()),
        retries: field("retries").and_then(|n| n.parse().ok()).unwrap_or(0),
        write_pause: field("write_pause_ms")
            .and_then(|pause| pause.parse().ok())
            .filter(|pause| (1..=LONGEST_PAUSE_MS).contains(pause))
            .map(Duration::from_millis),
        progress: progress_of(fields),
    })
}

/// The progress among the fields of a task.
///
/// Redis 8.12 adds such fields, and their names are in no release that could be tried. So a field counts by the words
/// of its name: `keys` or `bytes`, with `total` for the whole, or `percent` or `progress`. Values that contradict each
/// other are left out.
fn progress_of(fields: &BTreeMap<String, String>) -> Option<TaskProgress> {
    let mut progress = TaskProgress::default();
    for (name, value) in fields {
        let name = name.to_ascii_lowercase();
        let has = |word: &str| name.split(['_', '-']).any(|part| part == word);
        let Ok(number) = value.trim_end_matches('%').parse::<u64>() else {
            continue;
        };
        let place = match (has("keys"), has("bytes"), has("total")) {
            (true, false, false) => &mut progress.keys,
            (true, false, true) => &mut progress.keys_total,
            (false, true, false) => &mut progress.bytes,
            (false, true, true) => &mut progress.bytes_total,
            _ if (has("percent") || has("progress")) && number <= 100 => &mut progress.percent,
            _ => continue,
        };
        *place = Some(place.map_or(number, |earlier| earlier.max(number)));
    }
    if progress.keys_total < progress.keys {
        progress.keys_total = None;
    }
    if progress.bytes_total < progress.bytes {
        progress.bytes_total = None;
    }
    (progress != TaskProgress::default()).then_some(progress)
}

/// `0-4 6-9`, or a single slot.
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
    fn tasks_of_valkey_are_read() {
        let id = "a".repeat(40);
        let task = |state: &str| {
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
            valkey_tasks(reply).unwrap().remove(0)
        };
        let running = task("some-new-state");
        assert_eq!((running.end, running.side), (None, Side::Source));
        assert_eq!(running.slots.count(), 6);
        assert_eq!(running.message, "bad[2J");
        assert_eq!(running.target, "b".repeat(40).parse().ok());
        assert_eq!(task("success").end, Some(TaskEnd::Done));
        assert_eq!(task("failed").end, Some(TaskEnd::Failed));
        assert_eq!(task("cancelled").end, Some(TaskEnd::Cancelled));
    }

    #[test]
    fn a_failed_task_of_redis_keeps_running() {
        let task = |state: &str, slots: &str| {
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
            redis_tasks(Reply::new(MIGRATION, Value::Array(vec![flat(&fields)])))
        };
        let failed = task("failed", "0-9").unwrap().remove(0);
        assert_eq!((failed.end, failed.side), (None, Side::Target));
        assert_eq!((failed.retries, failed.message.as_str()), (3, "-NOAUTH"));
        assert_eq!(task("completed", "1").unwrap()[0].end, Some(TaskEnd::Done));
        let malformed = Err(Fault::Malformed { command: MIGRATION });
        assert_eq!(task("completed", "9-1"), malformed);
        assert_eq!(task("completed", "0-16384"), malformed);
        let other = Reply::new(MIGRATION, Value::Array(vec![Value::Int(1)]));
        assert_eq!(redis_tasks(other), malformed);
    }

    fn redis_task(more: &[(&str, Value)]) -> AsmTask {
        let fields = [
            ("id", bulk("7")),
            ("slots", bulk("0-9")),
            ("operation", bulk("migrate")),
            ("state", bulk("completed")),
        ];
        let fields = [&fields[..], more].concat();
        let reply = Reply::new(MIGRATION, Value::Array(vec![flat(&fields)]));
        redis_tasks(reply).unwrap().remove(0)
    }

    #[test]
    fn a_write_pause_is_read_where_the_server_tells_one() {
        let pause = |value| redis_task(&[("write_pause_ms", value)]).write_pause;
        assert_eq!(pause(Value::Int(12)), Some(Duration::from_millis(12)));
        // The target writes 0, and so does a source before the end.
        assert_eq!(pause(Value::Int(0)), None);
        assert_eq!(pause(Value::Int(-1)), None);
        assert_eq!(pause(Value::Int(i64::MAX)), None);
        assert_eq!(pause(bulk("soon")), None);
        assert_eq!(redis_task(&[]).write_pause, None);
    }

    #[test]
    fn progress_is_read_by_the_words_of_its_fields() {
        assert_eq!(
            redis_task(&[("write_pause_ms", Value::Int(1))]).progress,
            None
        );
        let progress = redis_task(&[
            ("keys_transferred", Value::Int(40)),
            ("keys_total", Value::Int(100)),
            ("bytes_transferred", Value::Int(4_000)),
            ("bytes_total", bulk("?")),
            ("progress", bulk("40%")),
        ]);
        let expected = TaskProgress {
            keys: Some(40),
            keys_total: Some(100),
            bytes: Some(4_000),
            bytes_total: None,
            percent: Some(40),
        };
        assert_eq!(progress.progress, Some(expected));
        // A total below what has moved is none.
        let odd = redis_task(&[
            ("total_keys", Value::Int(3)),
            ("imported_keys", Value::Int(4)),
            ("percent", Value::Int(300)),
        ]);
        let odd = odd.progress.unwrap();
        assert_eq!(
            (odd.keys, odd.keys_total, odd.percent),
            (Some(4), None, None)
        );
    }
}
