//! Nodes that are reached and answer with an error: why they report nothing.

use std::fmt;

/// The error of a node that was reached. It is no fault of the network: mapping its address does not help.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// What kind of error it is.
    pub kind: RefusalKind,
    /// The error with its remedy, in the client's words.
    pub said: String,
}

/// The kinds of errors, by what helps against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// `BUSY`: it executes a script, a function or a command of a module.
    Busy(BusyWith),
    /// It has reached `maxclients`.
    ClientLimit,
    /// `NOAUTH` or `WRONGPASS`.
    Login,
    /// `NOPERM`.
    Permission,
    /// `DENIED`: protected mode.
    ProtectedMode,
    /// `MASTERDOWN`: a replica without a link to its master, with `replica-serve-stale-data no`.
    MasterDown,
    /// `MISCONF`: it can't write to its disk, and refuses writes.
    Misconf,
    /// Any other error.
    Other,
}

/// What a busy node executes: each ends in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BusyWith {
    /// A script (EVAL).
    Script,
    /// A function (FCALL, Redis ≥ 7.0).
    Function,
    /// A command of a module, which can't be ended (Redis ≥ 7.0).
    Module,
}

impl BusyWith {
    /// What the text of a BUSY error means. Redis before 7.0 knows scripts only; modules write texts of their own.
    pub fn of_message(message: &str) -> Self {
        if message.contains("FUNCTION KILL") {
            Self::Function
        } else if message.contains("SCRIPT KILL") {
            Self::Script
        } else {
            Self::Module
        }
    }

    /// The command that ends it; `None` if there is none.
    pub fn kill_command(self) -> Option<&'static str> {
        match self {
            Self::Script => Some("SCRIPT KILL"),
            Self::Function => Some("FUNCTION KILL"),
            Self::Module => None,
        }
    }
}

/// The rest of a sentence that begins with a node: `is busy running a script: …`.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RefusalKind::Busy(_) => f.write_str(&self.said),
            _ => write!(f, "answers with an error: {}", self.said),
        }
    }
}

/// What a busy node says of itself, and what ends it.
impl fmt::Display for BusyWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, kill) = match self {
            Self::Script => ("a script", "SCRIPT KILL"),
            Self::Function => ("a function", "FUNCTION KILL"),
            Self::Module => {
                return f.write_str(
                    "is busy running a command of a module (BUSY), which can't be killed: wait until it is done, or \
                     stop the server",
                );
            }
        };
        write!(
            f,
            "is busy running {what} (BUSY): {kill} ends it, unless it has written already: then it can't be killed \
             (UNKILLABLE), and only SHUTDOWN NOSAVE stops it, with the server"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_nodes_say_what_they_run() {
        // Redis 6.2 to 8.6 and Valkey 8.0 to 9.1.
        for (message, with) in [
            (
                "Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
                BusyWith::Script,
            ),
            (
                "Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
                BusyWith::Function,
            ),
            ("Redis is busy running a module command.", BusyWith::Module),
            ("a module is at work", BusyWith::Module),
        ] {
            assert_eq!(BusyWith::of_message(message), with, "{message}");
        }
        assert!(BusyWith::Script.to_string().contains("SCRIPT KILL ends it"));
        assert_eq!(BusyWith::Module.kill_command(), None);
    }
}
