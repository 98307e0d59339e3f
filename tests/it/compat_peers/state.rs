//! One of the two clusters: its servers, what is done to it, and its state as both sides must have it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use redis::Value;
use tempfile::TempDir;

use super::row::Row;
use crate::support::cluster::Nodes;
use crate::support::command::{Finished, Trib};
use crate::support::server::Server;
use crate::support::wait::{PATIENCE, until};

/// How long the nodes of one cluster may take to agree. A cluster that can't agree is used as it is.
const AGREES_WITHIN: Duration = Duration::from_secs(10);
/// redis-cli asks every node about each slot when it looks for several owners.
const RUNS_FOR: Duration = Duration::from_secs(180);
/// Settings that commands change.
const SETTINGS: [&str; 4] = [
    "maxmemory",
    "cluster-node-timeout",
    "cluster-allow-replica-migration",
    "slowlog-log-slower-than",
];

/// A cluster, nodes that are in none, and perhaps a server to import from.
pub(super) struct Side {
    pub(super) nodes: Nodes,
    pub(super) source: Option<Server>,
    ids: Vec<String>,
    dir: TempDir,
}

impl Side {
    pub(super) fn new(nodes: Nodes) -> Self {
        let ids = nodes.iter().map(Server::id).collect();
        let dir = tempfile::tempdir().unwrap();
        Self {
            nodes,
            source: None,
            ids,
            dir,
        }
    }

    pub(super) fn with_source(self, source: Server) -> Self {
        Self {
            source: Some(source),
            ..self
        }
    }

    /// The id that a node had at the beginning; no command of redis-cli changes it.
    pub(super) fn id(&self, index: usize) -> &str {
        &self.ids[index]
    }

    pub(super) fn dir(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub(super) fn prepare(&self, row: &Row) {
        if let Some(before) = &row.before {
            before(self);
        }
        self.settle();
    }

    pub(super) fn run(&self, program: Trib, row: &Row) -> Finished {
        self.prepare(row);
        let words = row.line.split_whitespace().map(|word| self.word(word));
        let mut program = program.args(words);
        if let Some(text) = row.stdin {
            program = program.stdin(&self.word(text));
        }
        for (name, value) in &row.env {
            program = program.env(name, value);
        }
        let finished = program.timeout(RUNS_FOR).run();
        self.settle();
        finished
    }

    /// A word with the names of this cluster.
    fn word(&self, word: &str) -> String {
        let mut word = word.replace("{dir}", self.dir()).replace("{empty}", "");
        if !word.contains('{') {
            return word;
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let id = self.id(index);
            word = word
                .replace(&format!("{{a{index}}}"), &node.addr())
                .replace(&format!("{{p{index}}}"), &node.port().to_string())
                .replace(&format!("{{i{index}}}"), id)
                .replace(&format!("{{s{index}}}"), &id[..8]);
        }
        match &self.source {
            Some(source) => word.replace("{source}", &source.addr()),
            None => word,
        }
    }

    /// Until all nodes that are in a cluster agree about slots and roles, and serve if they can.
    pub(super) fn settle(&self) {
        let deadline = Instant::now() + AGREES_WITHIN;
        while !self.agrees() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Until a node knows another one.
    pub(super) fn until_known(&self, node: usize, other: usize) {
        until("a node to be known", PATIENCE, || {
            let text = self.nodes[node].nodes_text();
            match text
                .lines()
                .any(|line| line.starts_with(self.id(other)) && !line.contains("handshake"))
            {
                true => Ok(()),
                false => Err(text),
            }
        });
    }

    /// Until all others flag a node as failed.
    pub(super) fn until_failed(&self, failed: usize) {
        for node in self.nodes.iter().filter_map(nodes_text_of) {
            until("a dead node to be flagged", PATIENCE, || {
                let text = nodes_text(node).unwrap_or_default();
                let line = text.lines().find(|line| line.starts_with(self.id(failed)));
                match line.is_some_and(|line| line.contains(",fail ") || line.contains("fail,")) {
                    true => Ok(()),
                    false => Err(text.clone()),
                }
            });
        }
    }

    fn agrees(&self) -> bool {
        let mut views = Vec::new();
        for text in self.nodes.iter().filter_map(nodes_text) {
            if text.contains("handshake") {
                return false;
            }
            let view = view(&text);
            if view.len() > 1 {
                views.push(view);
            }
        }
        let agree = views.windows(2).all(|pair| pair[0] == pair[1]);
        let (covered, failed) = match views.first() {
            Some(view) => (
                view.values().map(|node| node.1).sum::<usize>() == 16_384,
                view.values().any(|node| node.3),
            ),
            None => return true,
        };
        agree && (!covered || failed || self.serves())
    }

    fn serves(&self) -> bool {
        let mut members = self
            .nodes
            .iter()
            .filter(|node| nodes_text(node).is_some_and(|text| text.lines().count() > 1));
        members.all(|node| {
            node.field("cluster_state").as_deref() == Some("ok")
                && node
                    .field("master_link_status")
                    .is_none_or(|link| link == "up")
        })
    }

    /// The state of each node, and of what the commands wrote.
    pub(super) fn state(&self) -> Vec<String> {
        let nodes = self.nodes.iter().enumerate();
        let mut states: Vec<String> = nodes
            .map(|(index, node)| format!("@{index} {}", self.node_state(node)))
            .collect();
        if let Some(source) = &self.source {
            states.push(format!("source {}", source.text(&["DBSIZE"])));
        }
        states.push(format!("files {:?}", self.files()));
        states
    }

    fn node_state(&self, node: &Server) -> String {
        let Some(text) = nodes_text(node) else {
            return "down".to_owned();
        };
        let mut known = Vec::new();
        let mut myself = String::new();
        for line in text.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let Some((id, flags)) = fields.first().zip(fields.get(2)) else {
                continue;
            };
            let failed = flags.split(',').any(|flag| flag == "fail");
            known.push(format!(
                "{}{}",
                self.place(id),
                if failed { "!" } else { "" }
            ));
            if flags.contains("myself") {
                let role = if flags.contains("slave") {
                    "replica of"
                } else {
                    "master"
                };
                let master = fields.get(3).map_or_else(String::new, |id| self.place(id));
                let slots: Vec<String> = fields[8.min(fields.len())..]
                    .iter()
                    .map(|slots| self.place_in(slots))
                    .collect();
                myself = format!("{role} {master} slots {}", slots.join(" "));
            }
        }
        known.sort();
        let settings: Vec<String> = SETTINGS.iter().map(|name| setting(node, name)).collect();
        let functions = match node.try_cmd(&["FUNCTION", "LIST"]) {
            Ok(Value::Array(libraries)) => libraries.len(),
            _ => 0,
        };
        format!(
            "{myself} knows {} keys {} functions {functions} settings {}",
            known.join(","),
            node.text(&["DBSIZE"]),
            settings.join(",")
        )
    }

    fn place(&self, id: &str) -> String {
        let place = self.ids.iter().position(|one| one == id);
        place.map_or_else(|| "-".to_owned(), |place| place.to_string())
    }

    /// `[7->-ID]` with the place of the id.
    fn place_in(&self, slots: &str) -> String {
        let ids = self.ids.iter().enumerate();
        ids.fold(slots.to_owned(), |slots, (place, id)| {
            slots.replace(id, &place.to_string())
        })
    }

    fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            // Ours, so that `restore` can read what redis-cli's users keep.
            if name == "manifest.json" {
                continue;
            }
            let nodes = self.nodes.iter().enumerate();
            files.push(nodes.fold(name, |name, (place, node)| {
                name.replace(&node.port().to_string(), &format!("port{place}"))
                    .replace(self.id(place), &format!("id{place}"))
            }));
        }
        files.sort();
        files
    }
}

/// The node, if it answers.
fn nodes_text_of(node: &Server) -> Option<&Server> {
    nodes_text(node).map(|_| node)
}

fn nodes_text(node: &Server) -> Option<String> {
    match node.try_cmd(&["CLUSTER", "NODES"]).ok()? {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

/// By id: role and master, the number of slots, their ranges, and whether it has failed.
fn view(text: &str) -> BTreeMap<String, (String, usize, String, bool)> {
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let flags = fields.get(2)?;
            let role = if flags.contains("slave") {
                "slave"
            } else {
                "master"
            };
            let failed = flags.split(',').any(|flag| flag == "fail");
            let slots: Vec<&str> = fields
                .iter()
                .skip(8)
                .filter(|slots| !slots.starts_with('['))
                .copied()
                .collect();
            let count = slots
                .iter()
                .map(|range| {
                    let (a, b) = range.split_once('-').unwrap_or((range, range));
                    b.parse::<usize>().unwrap_or(0) + 1 - a.parse::<usize>().unwrap_or(0)
                })
                .sum();
            let master = fields.get(3)?.to_string();
            Some((
                fields.first()?.to_string(),
                (format!("{role} {master}"), count, slots.join(" "), failed),
            ))
        })
        .collect()
}

fn setting(node: &Server, name: &str) -> String {
    match node.try_cmd(&["CONFIG", "GET", name]) {
        Ok(Value::Array(pair)) => match pair.get(1) {
            Some(Value::BulkString(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => "none".to_owned(),
        },
        Ok(Value::Map(pairs)) => match pairs.first() {
            Some((_, Value::BulkString(bytes))) => String::from_utf8_lossy(bytes).into_owned(),
            _ => "none".to_owned(),
        },
        _ => "none".to_owned(),
    }
}
