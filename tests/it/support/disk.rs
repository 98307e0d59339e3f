//! Disks that fail: what a full one does to a server, on any file system and as root.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::server::{Server, Spec};
use super::wait::until;

/// No RDB save succeeds any more: the file is a directory, and a full one at that.
pub(crate) fn break_saves(node: &Server) {
    let file = node.dir().join("dump.rdb");
    // A replica may have written it for its first sync.
    let _ = fs::remove_file(&file);
    fs::create_dir_all(file.join("in-the-way")).unwrap();
    node.cmd(&["CONFIG", "SET", "save", "3600 1"]);
    node.cmd(&["BGSAVE"]);
    until_saved(node, "err");
}

/// The next RDB save succeeds.
pub(crate) fn repair_saves(node: &Server) {
    fs::remove_dir_all(node.dir().join("dump.rdb")).unwrap();
    node.cmd(&["BGSAVE"]);
    until_saved(node, "ok");
}

fn until_saved(node: &Server, expected: &str) {
    let limit = Duration::from_secs(20);
    until("the save to end", limit, || {
        let is_running = node.field("rdb_bgsave_in_progress").as_deref() != Some("0");
        match node.field("rdb_last_bgsave_status") {
            Some(status) if !is_running && status == expected => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// A server with an append-only file whose disk can be full ([`fill_disk`]).
pub(crate) fn with_append_only_file(spec: Spec) -> Spec {
    // The signal of a write beyond the limit would end the server.
    let ignoring = ["sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh"];
    spec.arg("--appendonly", "yes")
        .through(&ignoring)
        // A log that can't be written is no concern here.
        .arg("--loglevel", "warning")
}

/// The append-only file takes no more, and the server knows it. `key` becomes a key of 100 KB.
pub(crate) fn fill_disk(node: &Server, key: &str) {
    // A server whose nodes.conf can't be written exits.
    limit_files(node, "65536");
    let value = "x".repeat(100_000);
    let limit = Duration::from_secs(20);
    until("a write to the file to fail", limit, || {
        // The server refuses it once it knows.
        let _ = node.try_cmd(&["SET", key, &value]);
        match node.field("aof_last_write_status").as_deref() {
            Some("err") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

/// There is room again.
pub(crate) fn free_disk(node: &Server) {
    limit_files(node, "unlimited");
    let limit = Duration::from_secs(20);
    until("writes to the file to succeed", limit, || {
        match node.field("aof_last_write_status").as_deref() {
            Some("ok") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn limit_files(node: &Server, bytes: &str) {
    let pid = node.pid().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &pid, &format!("--fsize={bytes}:unlimited")])
        .status();
    assert!(status.unwrap().success());
}
