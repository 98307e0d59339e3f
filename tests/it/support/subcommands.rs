//! Command lines that many tests start from: one function for each subcommand, and one for the redis-cli
//! that its output is compared with.

use std::process::Command;
use std::sync::OnceLock;

use super::command::Trib;
use super::server::Server;

pub(crate) fn check(addr: &str) -> Trib {
    Trib::new().args(["check", addr])
}

/// `check --output json`. A node that only waits for a processor answers within the timeout. A test in which a node hangs
/// adds a shorter one.
pub(crate) fn check_json(addr: &str) -> Trib {
    check(addr).args(["--output", "json", "--command-timeout", "10s"])
}

/// `create --yes` of these nodes.
pub(crate) fn create<S: AsRef<str>>(addrs: impl IntoIterator<Item = S>) -> Trib {
    Trib::new().args(["create", "--yes"]).args(addrs)
}

pub(crate) fn fix(node: &Server) -> Trib {
    Trib::new().args(["fix", &node.addr()])
}

/// `reshard` of that cluster.
pub(crate) fn reshard(node: &Server) -> Trib {
    Trib::new().args(["reshard", &node.addr()])
}

pub(crate) fn redis_cli() -> Trib {
    Trib::new().program("redis-cli")
}

/// Whether there is one to compare with.
pub(crate) fn has_redis_cli() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| Command::new("redis-cli").arg("--version").output().is_ok())
}
