//! Commands for `roll --each` that let the test restart the servers: it owns their processes.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;

use super::server::Server;

/// A folder through which a command asks for the restart of a node.
pub(crate) struct Hooks {
    dir: TempDir,
    /// The roles and ports that were asked for, in order.
    asked: Mutex<Vec<(String, u16)>>,
}

impl Hooks {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            asked: Mutex::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The shell command: it asks for the node of its environment, and waits for the answer.
    pub(crate) fn command(&self) -> String {
        let base = self.path("$REDIS_TRIB_PORT").display().to_string();
        format!(
            "echo $REDIS_TRIB_ROLE > \"{base}.new\" && mv \"{base}.new\" \"{base}.asked\"; \
             until [ -e \"{base}.done\" ]; do sleep 0.05; done; rm \"{base}.done\""
        )
    }

    /// What was asked for so far.
    pub(crate) fn asked(&self) -> Vec<(String, u16)> {
        self.asked.lock().unwrap().clone()
    }

    /// Calls `restart` for each node that the command asks for, while `work` runs.
    pub(crate) fn serve<T>(
        &self,
        servers: &[Server],
        restart: impl Fn(&Server) + Sync,
        work: impl FnOnce() -> T,
    ) -> T {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for server in servers {
                        let port = server.port();
                        let asked = self.path(&format!("{port}.asked"));
                        if let Ok(role) = fs::read_to_string(&asked) {
                            fs::remove_file(&asked).unwrap();
                            let role = role.trim().to_owned();
                            self.asked.lock().unwrap().push((role, port));
                            restart(server);
                            fs::write(self.path(&format!("{port}.done")), "").unwrap();
                        }
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            // Also if the work panics.
            let _over = Over(&is_over);
            work()
        })
    }
}
