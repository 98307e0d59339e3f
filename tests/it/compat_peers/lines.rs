//! The lines that scripts look for, with names instead of addresses and ids.

use super::state::Side;
use crate::support::command::Finished;

/// The beginnings of those lines, after their indentation.
const SCRIPTS_LOOK_FOR: &[&str] = &[
    ">>> Performing Cluster Check (using node ",
    "[OK]",
    "[WARNING]",
    "[ERR] Nodes don't agree about configuration!",
    "[ERR] Not all 16384 slots are covered by nodes.",
    ">>> Check for open slots...",
    ">>> Check slots coverage...",
    "M: ",
    "S: ",
    "slots:",
    "replicates ",
    "*** No rebalancing needed!",
    "*** Please fix your cluster problems before ",
    ">>> Rebalancing across ",
    "Ready to move ",
    "Source nodes:",
    "Destination node:",
    "Resharding plan:",
    "Moving slot ",
    "Do you want to proceed with the proposed reshard plan",
    "How many slots do you want to move",
    "What is the receiving node ID?",
    "Please enter all the source node IDs.",
    ">>> Performing hash slots allocation on ",
    "Master[",
    "Primary[",
    "Adding replica ",
    "Adding extra replicas...",
    "Automatically selected master ",
    "Can I set the above configuration?",
    ">>> Nodes configuration updated",
    ">>> Assign a different config epoch to each node",
    ">>> Sending CLUSTER MEET messages to join the cluster",
    "Waiting for the cluster to join",
    ">>> Adding node ",
    ">>> Send CLUSTER MEET to node ",
    ">>> Configure node as replica of ",
    ">>> Removing node ",
    ">>> Sending CLUSTER FORGET messages to the cluster...",
    ">>> Sending CLUSTER RESET SOFT to the deleted node.",
    ">>> Calling ",
    ">>> Reconfiguring node timeout in every cluster node...",
    ">>> New node timeout set.",
    ">>> Importing data from ",
    ">>> Fixing slots coverage...",
    "The following uncovered slots have ",
    "Fix these slots by ",
    ">>> Covering slot ",
    "Cluster Manager Commands:",
    "Cluster Manager Options:",
];

/// Parts of lines that begin with something else.
const INSIDE: &[&str] = &[
    " keys | ",
    " keys per slot on average.",
    " additional replica(s)",
];

/// Questions, which have no end of line.
const QUESTIONS: &[&str] = &[
    "(type 'yes' to accept): ",
    "(yes/no)? ",
    "(from 1 to 16384)? ",
    "receiving node ID? ",
];

/// The names of what differs between the clusters.
pub(super) struct Names(Vec<(String, String)>);

impl Names {
    pub(super) fn of(side: &Side) -> Self {
        let mut names = Vec::new();
        for (index, node) in side.nodes.iter().enumerate() {
            let id = side.id(index);
            names.push((node.addr(), format!("@{index}")));
            names.push((format!("localhost:{}", node.port()), format!("@{index}")));
            names.push((id.to_owned(), format!("#{index}")));
            names.push((id[..8].to_owned(), format!("#{index}")));
        }
        if let Some(source) = &side.source {
            names.push((source.addr(), "@source".to_owned()));
        }
        names.push((side.dir().to_owned(), "DIR".to_owned()));
        Self(names)
    }

    /// Those lines, in alphabetical order: the order of nodes is by chance.
    pub(super) fn lines(&self, finished: &Finished) -> Vec<String> {
        let mut text = console::strip_ansi_codes(&finished.stdout).into_owned();
        for question in QUESTIONS {
            text = text.replace(question, &format!("{question}\n"));
        }
        for (name, place) in &self.0 {
            text = text.replace(name, place);
        }
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| {
                let begins = line.trim_start();
                // The nodes of a plan of moves are described with their slots once more.
                !line.starts_with("       ")
                    && (SCRIPTS_LOOK_FOR.iter().any(|text| begins.starts_with(text))
                        || INSIDE.iter().any(|text| line.contains(text))
                        // A reply of `call`.
                        || begins.starts_with('@'))
            })
            .map(|line| match line.contains("Moving slot ") {
                // A dot for each key.
                true => line.trim_end_matches(['.', ' ']).to_owned(),
                false => line.trim_end().to_owned(),
            })
            // Dots follow while it waits.
            .map(
                |line| match line.starts_with("Waiting for the cluster to join") {
                    true => "Waiting for the cluster to join".to_owned(),
                    false => line,
                },
            )
            .collect();
        lines.sort();
        lines
    }
}
