//! Host names and hosts: a hosts file that only the program under test sees, and servers on several
//! addresses of 127.0.0.0/8.

use std::path::Path;

use tempfile::TempDir;

use super::command::Trib;
use super::server::{Server, Spec};

/// A hosts file that only the programs see that are started with it.
pub(crate) struct Hosts(TempDir);

impl Hosts {
    #[track_caller]
    pub(crate) fn new(lines: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let hosts = Self(dir);
        hosts.write(lines);
        let works = std::process::Command::new("unshare")
            .args(Self::NAMESPACE)
            .args(["mount", "--bind"])
            .args([&hosts.file(), Path::new("/etc/hosts")])
            .status()
            .is_ok_and(|status| status.success());
        assert!(
            works,
            "this test needs a mount namespace (unshare --user --mount), and may not have one here"
        );
        hosts
    }

    const NAMESPACE: [&str; 3] = ["--user", "--map-root-user", "--mount"];

    fn file(&self) -> std::path::PathBuf {
        self.0.path().join("hosts")
    }

    /// In place: the file is mounted, not its name.
    pub(crate) fn write(&self, lines: &[(&str, &str)]) {
        let text: String = lines
            .iter()
            .map(|(ip, name)| format!("{ip} {name}\n"))
            .collect();
        std::fs::write(self.file(), text).unwrap();
    }

    /// `redis-trib` with these names.
    pub(crate) fn trib(&self) -> Trib {
        let mount = format!(
            "mount --bind {} /etc/hosts && exec \"$0\" \"$@\"",
            self.file().display()
        );
        Trib::new().program("unshare").args(Self::NAMESPACE).args([
            "sh",
            "-c",
            &mount,
            env!("CARGO_BIN_EXE_redis-trib"),
        ])
    }
}

/// Servers on one port of several hosts.
pub(crate) fn services(hosts: &[&str]) -> Vec<Server> {
    // They would call each other from 127.0.0.1, and take that for where the caller is.
    let spec = |host: &str| {
        let spec = Spec::new().quick().bind(host);
        spec.arg("--cluster-announce-ip", host)
    };
    let mut servers = vec![spec(hosts[0]).start()];
    for host in &hosts[1..] {
        servers.push(spec(host).start_beside(&servers[0]));
    }
    servers
}

/// Runs `redis-trib` where these names have these addresses: in a mount namespace with its own /etc/hosts.
pub(crate) fn where_names_are(names: &[(&str, &str)], args: &[&str]) -> Trib {
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for (name, ip) in names {
        hosts.push_str(&format!("{ip} {name}\n"));
    }
    let script = "cat > \"$HOME/hosts\" && mount --bind \"$HOME/hosts\" /etc/hosts && exec \"$@\" < /dev/null";
    Trib::new()
        .program("unshare")
        .args([
            "-rm",
            "sh",
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_redis-trib"),
        ])
        .args(args)
        .stdin(&hosts)
}

/// A host for each node: nothing to warn of.
pub(crate) fn apart(index: usize) -> Spec {
    on_host(&format!("127.0.0.{}", index + 1))
}

/// A node that looks as if it stood on that host, one of 127.0.0.0/8. It has to announce its address:
/// from connections that it opens the others would take it for 127.0.0.1.
pub(crate) fn on_host(ip: &str) -> Spec {
    Spec::new()
        .quick()
        .bind(ip)
        .arg("--cluster-announce-ip", ip)
}
