//! A network of its own for servers and programs, in which hosts can be cut off from all others: what goes to them
//! and comes from them is lost without a word, as behind a broken cable.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use super::command::Trib;

/// Ends with this value, or with the test process.
pub(crate) struct Network {
    /// Holds the namespaces for as long as its standard input is open.
    holder: Child,
}

const TABLE: &str =
    "add table ip cut; add chain ip cut lost { type filter hook input priority 0; }";

/// Where the servers of the bench have their bus (see `ports`).
const BUS_PORTS: &str = "21000-30999";

impl Network {
    #[track_caller]
    pub(crate) fn new() -> Self {
        let script = format!("ip link set lo up && nft '{TABLE}' && echo ready && exec cat");
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let read = holder.stdout.as_mut().unwrap().read_exact(&mut ready);
        let network = Self { holder };
        assert!(
            read.is_ok(),
            "this test needs a network namespace with a firewall (unshare --user --net, ip, nft), and can't have \
             one here: tests/servers.sh default installs what is missing; some containers forbid it"
        );
        network
    }

    /// What stands before a command line that is to run in it.
    pub(crate) fn enter(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        let words = ["nsenter", "--target", &target, "--user", "--net"];
        let words = words.into_iter().chain(["--preserve-credentials", "--"]);
        words.map(str::to_owned).collect()
    }

    /// The program under test, in it.
    pub(crate) fn trib(&self) -> Trib {
        let enter = self.enter();
        Trib::new()
            .program(&enter[0])
            .args(&enter[1..])
            .arg(env!("CARGO_BIN_EXE_redis-trib"))
    }

    /// Cuts a host off.
    #[track_caller]
    pub(crate) fn cut(&self, host: &str) {
        self.nft(&format!(
            "add rule ip cut lost ip saddr {host} drop; add rule ip cut lost ip daddr {host} drop"
        ));
    }

    /// Cuts all nodes off from each other. Clients and the bench still reach all of them.
    #[track_caller]
    pub(crate) fn cut_bus(&self) {
        self.nft(&format!(
            "add rule ip cut lost tcp dport {BUS_PORTS} drop; add rule ip cut lost tcp sport {BUS_PORTS} drop"
        ));
    }

    /// The same of one node only.
    #[track_caller]
    pub(crate) fn cut_bus_of(&self, host: &str) {
        let ends = ["saddr", "daddr"].map(|end| format!("ip {end} {host} tcp"));
        let ways = ["dport", "sport"].map(|way| format!("{way} {BUS_PORTS} drop"));
        for (end, way) in ends
            .iter()
            .flat_map(|end| ways.iter().map(move |way| (end, way)))
        {
            self.nft(&format!("add rule ip cut lost {end} {way}"));
        }
    }

    /// Cuts two nodes off from each other.
    #[track_caller]
    pub(crate) fn cut_bus_between(&self, one: &str, other: &str) {
        for (from, to) in [(one, other), (other, one)] {
            for way in ["dport", "sport"] {
                self.nft(&format!(
                    "add rule ip cut lost ip saddr {from} ip daddr {to} tcp {way} {BUS_PORTS} drop"
                ));
            }
        }
    }

    /// Ends all cuts: no host is cut off any more.
    #[track_caller]
    pub(crate) fn heal(&self) {
        self.nft("flush chain ip cut lost");
    }

    #[track_caller]
    fn nft(&self, rules: &str) {
        let enter = self.enter();
        let status = Command::new(&enter[0])
            .args(&enter[1..])
            .args(["nft", rules])
            .status()
            .unwrap();
        assert!(status.success(), "nft {rules}");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
