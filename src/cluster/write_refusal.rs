//! Why a server refuses writes, by its answer.

use std::fmt;

/// A server that answers, and refuses writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WriteRefusal {
    /// `MISCONF`: its last RDB save failed, and `stop-writes-on-bgsave-error` is `yes`.
    SaveFailed,
    /// `MISCONF`: it can't write its append-only file.
    AppendFailed,
    /// `OOM`: it is above its maxmemory and may evict nothing.
    OutOfMemory,
    /// `NOREPLICAS`: it has fewer good replicas than `min-replicas-to-write`.
    TooFewReplicas,
    /// `READONLY`: it is a replica.
    ReadOnly,
}

impl WriteRefusal {
    /// Returns what an error of a server means for writes; `None` for all other errors.
    pub fn of(code: &str, message: &str) -> Option<Self> {
        match code {
            // Redis 3.2 to 8.6, Valkey 8.0 to 9.1: `MISCONF Errors writing to the AOF file: No space left on device`.
            "MISCONF" if message.contains("AOF") => Some(Self::AppendFailed),
            "MISCONF" => Some(Self::SaveFailed),
            "OOM" => Some(Self::OutOfMemory),
            "NOREPLICAS" => Some(Self::TooFewReplicas),
            "READONLY" => Some(Self::ReadOnly),
            _ => None,
        }
    }

    /// Whether MIGRATE works on such a server: it is a write, but needs no memory.
    pub fn lets_keys_leave(self) -> bool {
        self == Self::OutOfMemory
    }

    /// What helps.
    pub fn way_out(self) -> &'static str {
        match self {
            Self::SaveFailed => {
                "free its disk or repair its directory (its log says which), then run BGSAVE on it, or fail over to a \
                 replica of it"
            }
            Self::AppendFailed => {
                "free its disk or repair its directory (its log says which): it tries again every second; or fail over \
                 to a replica of it"
            }
            Self::OutOfMemory => "raise its maxmemory, or let it evict keys (maxmemory-policy)",
            Self::TooFewReplicas => {
                "start its replicas, or lower min-replicas-to-write (before Redis 5: min-slaves-to-write)"
            }
            Self::ReadOnly => "name its master",
        }
    }
}

/// Completes `10.0.0.3:6379 refuses writes: …`.
impl fmt::Display for WriteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SaveFailed => {
                "its last RDB save failed, and stop-writes-on-bgsave-error is yes (MISCONF)"
            }
            Self::AppendFailed => "it can't write its append-only file (MISCONF)",
            Self::OutOfMemory => "it uses more than its maxmemory and may not evict keys (OOM)",
            Self::TooFewReplicas => {
                "it has fewer replicas in sync than min-replicas-to-write (NOREPLICAS)"
            }
            Self::ReadOnly => "it is a replica (READONLY)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The errors of Redis 7.0, 8.6 and Valkey 9.1.
    #[test]
    fn every_refusal_of_a_write_is_recognized() {
        let save = "Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
                    Commands that may modify the data set are disabled, because this instance is configured to report \
                    errors during writes if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check \
                    the Redis logs for details about the RDB error.";
        let append = "Errors writing to the AOF file: No space left on device";
        for (code, message, refusal) in [
            ("MISCONF", save, Some(WriteRefusal::SaveFailed)),
            ("MISCONF", append, Some(WriteRefusal::AppendFailed)),
            (
                "OOM",
                "command not allowed when used memory > 'maxmemory'.",
                Some(WriteRefusal::OutOfMemory),
            ),
            (
                "NOREPLICAS",
                "Not enough good replicas to write.",
                Some(WriteRefusal::TooFewReplicas),
            ),
            (
                "READONLY",
                "You can't write against a read only replica.",
                Some(WriteRefusal::ReadOnly),
            ),
            ("ERR", "DUMP payload version or checksum are wrong", None),
            ("MOVED", "5 10.0.0.2:6379", None),
        ] {
            assert_eq!(WriteRefusal::of(code, message), refusal, "{code} {message}");
        }
    }
}
