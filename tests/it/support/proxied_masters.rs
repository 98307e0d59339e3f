//! Two masters behind proxies, and three slots that move between them.

use super::cluster::Nodes;
use super::command::Trib;
use super::counting_writers::Writers;
use super::keys::{Contents, assert_same, contents, fill, fill_all_types};
use super::proxy::Proxy;
use super::server::Spec;
use super::slots::{assert_closed, names, owned};

const SLOTS: &str = "10-12";

/// Two masters behind proxies; three slots with keys go to and fro.
pub(crate) struct Two {
    pub(crate) nodes: Nodes,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) before: Contents,
    /// `keys` or `atomic`.
    strategy: &'static str,
}

impl Two {
    pub(crate) fn new(spec: &Spec, strategy: &'static str) -> Self {
        let (nodes, proxies) = Nodes::behind_proxies(2, spec);
        nodes.form(2);
        fill(&nodes, &names(10..13, 5));
        fill_all_types(&nodes, &names([10], 1)[0]);
        let before = contents(&nodes);
        Self {
            nodes,
            proxies,
            before,
            strategy,
        }
    }

    /// The one that has the slots, and the other one.
    pub(crate) fn ends(&self) -> (usize, usize) {
        let has = |index: usize| {
            owned(&self.nodes[index])
                .iter()
                .any(|(a, b)| (*a..=*b).contains(&10))
        };
        if has(0) { (0, 1) } else { (1, 0) }
    }

    pub(crate) fn reshard(&self, to: usize) -> Trib {
        Trib::new()
            .args(["reshard", &self.proxies[to].addr(), "--yes"])
            .args([
                "--strategy",
                self.strategy,
                "--slot-ranges",
                SLOTS,
                "--to",
                &self.nodes[to].id(),
                "--pipeline",
                "4",
                "--max-open-slots",
                "2",
                "--command-timeout",
                "3s",
            ])
    }

    /// Finishes the open slots with the same command and `--finish-open`.
    #[track_caller]
    pub(crate) fn finish(&self, to: usize) {
        self.reshard(to).arg("--finish-open").run().status(0);
        assert_closed(&self.nodes);
        self.keeps_all();
        assert_eq!(self.ends().0, to);
    }

    /// All keys from before are there unchanged. Clients that write meanwhile use other keys.
    #[track_caller]
    pub(crate) fn keeps_all(&self) {
        let mut after = contents(&self.nodes);
        after.retain(|key, _| self.before.contains_key(key));
        assert_same(&self.before, &after);
    }

    /// Clients that write to the slots that move.
    pub(crate) fn writers(&self) -> Writers {
        let keys = names(10..13, 2);
        let keys = keys.iter().map(|key| format!("{key}:w")).collect();
        Writers::start(&self.nodes.addrs(), vec![keys])
    }
}
