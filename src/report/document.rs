//! What every document and every stream has: the format at its beginning, and the error of a command that failed.

use serde::Serialize;

use crate::exit_code::ExitCode;

/// The version of the format. Fields may be added to a version; none is renamed or removed.
const VERSION: u32 = 1;

/// What a document or a stream is: its first fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Head {
    /// `redis-trib/<command>`.
    format: String,
    /// The version of that format.
    version: u32,
}

impl Head {
    /// The head of what a command writes.
    pub fn of(command: &str) -> Self {
        Self {
            format: format!("redis-trib/{command}"),
            version: VERSION,
        }
    }
}

/// A document, or a line: the first line of a stream has a head.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Headed<T> {
    /// `format` and `version`; on the first line of a stream only.
    #[serde(flatten)]
    pub head: Option<Head>,
    /// The rest.
    #[serde(flatten)]
    pub body: T,
}

/// What a command that reads writes if it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ErrorDocument {
    /// What failed.
    error: Failure,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Failure {
    /// The exit code.
    code: u8,
    /// What happened, for people.
    message: String,
}

impl ErrorDocument {
    /// The error that a command ends with.
    pub fn of(code: ExitCode, message: String) -> Self {
        let code = code as u8;
        Self {
            error: Failure { code, message },
        }
    }
}
