//! `CLUSTER NODES`, `CLUSTER INFO` and `INFO`, from text to data.
//!
//! Reads the output of Redis 3.2 to 8.6 and Valkey 8 to 9.1: with and without a bus port, hostnames,
//! auxiliary fields, IPv6, nodes without an address. Unknown flags and fields are ignored; a malformed
//! line is an error, never a guess.
//!
//! A thousand nodes have a thousand views of a thousand lines, nearly all of them equal: each line is
//! parsed once and shared ([`EntryPool`]), without the two times that differ in each view.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::node::{Addr, NodeId, Role};
use super::slot::{Slot, SlotRange, SlotSet};
use super::text::clean;

mod info;
mod rdb_version;
#[cfg(test)]
mod tests;

pub use info::{
    ClusterInfo, DiskFailures, Info, MasterLink, OnlineReplica, Product, RaftInfo, RaftRole,
    Version,
};

/// The largest cluster that is read. Redis recommends at most 1,000 nodes; a longer text is an error.
pub const MAX_NODES: usize = 10_000;

/// The longest line of CLUSTER NODES that is read, in bytes. A master of every second slot has 8,192
/// slots of at most 6 bytes each; open slots take 50 bytes each.
const MAX_LINE: usize = 1 << 20;

/// One line of CLUSTER NODES.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The node.
    pub id: NodeId,
    /// The address at which the other nodes reach it; `None` for `:0` and for a node that does not know
    /// its own address yet.
    pub addr: Option<Addr>,
    /// Its port, which a node knows even if it does not know its address.
    pub port: u16,
    /// The port of the cluster bus; `None` before Redis 4.
    pub bus_port: Option<u16>,
    /// Its announced host name (Redis ≥ 7, Valkey).
    pub hostname: Option<Arc<str>>,
    /// Its role; `None` during the handshake (`noflags`, `handshake`).
    pub role: Option<Role>,
    /// Its state in this line.
    pub state: EntryState,
    /// Its master.
    pub master: Option<NodeId>,
    /// Its config epoch; a replica shows that of its master.
    pub epoch: u64,
    /// Whether the node that wrote the line has its bus link up (`connected`).
    pub linked: bool,
    /// Whether it is flagged `learner`: a node of the Raft bus without a vote (Valkey ≥ 10).
    pub learner: bool,
    /// The slots it owns.
    pub slots: Vec<SlotRange>,
    /// Its open slots, in the line that a node writes of itself.
    pub open: Vec<OpenSlot>,
    /// A hash of `id` and `slots`, to compare views quickly.
    pub claim: u64,
}

/// `127.0.0.1:7000 (1977c4d4)`, as the writer of the line reaches it.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.addr {
            Some(addr) => write!(f, "{addr} ({})", self.id.short()),
            None => f.write_str(&self.id.short()),
        }
    }
}

/// The state of a node in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// No flag.
    Fine,
    /// `fail?`: no answer to one node within the node timeout.
    Failing,
    /// `fail`: a majority of masters agreed.
    Failed,
    /// `handshake`: met, but not a member yet.
    Handshake,
    /// `noaddr`: known by id only. A node that is also `fail` counts as failed.
    NoAddress,
}

/// An open slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpenSlot {
    /// The slot.
    pub slot: Slot,
    /// Migrating or importing.
    pub direction: Direction,
    /// The node at the other end.
    pub peer: NodeId,
}

/// The state of an open slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// `[slot->-id]`: its owner is the source.
    Migrating,
    /// `[slot-<-id]`: the node is the target.
    Importing,
}

impl Direction {
    /// The word in output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Migrating => "migrating",
            Self::Importing => "importing",
        }
    }
}

/// The CLUSTER NODES of one node.
#[derive(Debug, Clone)]
pub struct View {
    /// By id.
    entries: Vec<Arc<Entry>>,
    /// The index of the writer's own line.
    myself: usize,
    slots_signature: u64,
    /// When a ping was sent that is not answered yet, in ms of the writer's clock, by node.
    pings_sent: Vec<(NodeId, u64)>,
}

impl View {
    /// The line of the node whose view this is.
    pub fn myself(&self) -> &Arc<Entry> {
        &self.entries[self.myself]
    }

    /// All lines, by id.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Arc<Entry>> {
        self.entries.iter()
    }

    /// The line about that node.
    pub fn entry(&self, id: NodeId) -> Option<&Arc<Entry>> {
        let found = self.entries.binary_search_by_key(&id, |entry| entry.id);
        found.ok().map(|i| &self.entries[i])
    }

    /// When the writer sent the ping to that node that is not answered yet, in ms of its clock.
    pub fn ping_sent(&self, id: NodeId) -> Option<u64> {
        let ping = self.pings_sent.iter().find(|(to, _)| *to == id);
        ping.map(|(_, sent)| *sent)
    }

    /// A hash that is equal for views with the same owner for every slot.
    pub fn slots_signature(&self) -> u64 {
        self.slots_signature
    }
}

/// Malformed text from a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A line that is not one of CLUSTER NODES.
    #[error("CLUSTER NODES line {line} can't be read: {why}: {text:?}")]
    Line {
        /// The number of the line, from 1 on.
        line: usize,
        /// The problem.
        why: &'static str,
        /// The start of the line, cleaned.
        text: String,
    },
    /// No line is marked `myself`, or more than one.
    #[error("CLUSTER NODES has {0} lines marked `myself`, not one")]
    Myself(usize),
    /// The same node twice.
    #[error("CLUSTER NODES names {} twice", .0.short())]
    Twice(NodeId),
    /// More lines than any cluster has.
    #[error("CLUSTER NODES has more than {MAX_NODES} lines")]
    TooMany,
    /// CLUSTER INFO has the fields of the Raft bus, and CLUSTER NODES is not that of a Raft node.
    #[error(
        "CLUSTER INFO is that of the Raft bus (cluster-protocol raft), and CLUSTER NODES is not: {0}; which bus the node \
         uses can't be told, so its answers are not used"
    )]
    NotRaft(String),
}

/// Checks that the CLUSTER NODES of a node on the Raft bus is that of such a node. Gossip suspects nodes (`fail?`), which
/// the Raft log does not know, and has no learners; `cluster_size` counts masters with slots there, and voters here.
pub fn check_raft(view: &View, raft: &RaftInfo) -> Result<(), ParseError> {
    let suspected = |entry: &&Arc<Entry>| entry.state == EntryState::Failing;
    if let Some(entry) = view.entries().find(suspected) {
        let why = format!("{entry} is flagged fail?, which only gossip does");
        return Err(ParseError::NotRaft(why));
    }
    if let Some(leader) = raft.leader.filter(|leader| view.entry(*leader).is_none()) {
        let why = format!("it has no line for the leader {}", leader.short());
        return Err(ParseError::NotRaft(why));
    }
    // A node that was met is no member before the log says so.
    let members = || {
        let entries = view.entries();
        entries.filter(|entry| entry.state != EntryState::Handshake)
    };
    let voters = members().filter(|entry| !entry.learner).count();
    if voters != raft.voters {
        let why = format!(
            "{voters} of its {} nodes are no learners, and cluster_size tells of {} voters",
            members().count(),
            raft.voters
        );
        return Err(ParseError::NotRaft(why));
    }
    Ok(())
}

/// Parsed lines, by their text.
#[derive(Default)]
pub struct EntryPool {
    entries: HashMap<Box<str>, Arc<Entry>>,
}

impl EntryPool {
    /// Parses the CLUSTER NODES of one node. Equal lines of several views are shared.
    pub fn view(&mut self, text: &str) -> Result<View, ParseError> {
        let mut entries = Vec::new();
        let mut myself = Vec::new();
        let mut pings_sent = Vec::new();
        let mut key = String::new();
        for (i, line) in text.lines().enumerate() {
            if line.is_empty() {
                continue;
            }
            if entries.len() == MAX_NODES {
                return Err(ParseError::TooMany);
            }
            let fail = |why| ParseError::Line {
                line: i + 1,
                why,
                text: clean(line, 120),
            };
            if line.len() > MAX_LINE {
                return Err(fail("too long"));
            }
            let raw = RawLine::split(line).ok_or_else(|| fail("too few fields"))?;
            raw.normalized(&mut key);
            let entry = match self.entries.get(key.as_str()) {
                Some(entry) => Arc::clone(entry),
                None => {
                    let entry = Arc::new(raw.entry().map_err(fail)?);
                    self.entries.insert(key.as_str().into(), Arc::clone(&entry));
                    entry
                }
            };
            if raw.is_myself {
                myself.push(entry.id);
            }
            if let Some(sent) = number(raw.ping_sent).filter(|sent| *sent > 0) {
                pings_sent.push((entry.id, sent));
            }
            entries.push(entry);
        }
        entries.sort_unstable_by_key(|entry| entry.id);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(ParseError::Twice(pair[0].id));
        }
        let [myself] = myself[..] else {
            return Err(ParseError::Myself(myself.len()));
        };
        let myself = entries.partition_point(|entry| entry.id < myself);
        let slots_signature = entries
            .iter()
            .filter(|entry| !entry.slots.is_empty())
            .fold(0, |sum, entry| sum ^ entry.claim);
        Ok(View {
            entries,
            myself,
            slots_signature,
            pings_sent,
        })
    }
}

impl fmt::Debug for EntryPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EntryPool({} lines)", self.entries.len())
    }
}

/// The unparsed fields of a line.
struct RawLine<'a> {
    id: &'a str,
    addr: &'a str,
    flags: &'a str,
    master: &'a str,
    ping_sent: &'a str,
    epoch: &'a str,
    link: &'a str,
    slots: &'a str,
    is_myself: bool,
}

impl<'a> RawLine<'a> {
    fn split(line: &'a str) -> Option<Self> {
        let mut fields = line.splitn(9, ' ');
        let id = fields.next()?;
        let addr = fields.next()?;
        let flags = fields.next()?;
        let master = fields.next()?;
        let ping_sent = fields.next()?;
        let _pong_received = fields.next()?;
        let epoch = fields.next()?;
        let link = fields.next()?;
        Some(Self {
            id,
            addr,
            flags,
            master,
            ping_sent,
            epoch,
            link,
            slots: fields.next().unwrap_or_default(),
            is_myself: flags.split(',').any(|flag| flag == "myself"),
        })
    }

    /// The line without the two times, which always differ from view to view.
    fn normalized(&self, key: &mut String) {
        key.clear();
        for field in [
            self.id,
            self.addr,
            self.flags,
            self.master,
            self.epoch,
            self.link,
            self.slots,
        ] {
            key.push_str(field);
            key.push(' ');
        }
    }

    fn entry(&self) -> Result<Entry, &'static str> {
        let id: NodeId = self.id.parse().map_err(|_| "not a node id")?;
        let (addr, port, bus_port, hostname) = parse_addr(self.addr)?;
        let mut role = None;
        let mut state = EntryState::Fine;
        let mut learner = false;
        for flag in self.flags.split(',') {
            match flag {
                "master" => role = Some(Role::Master),
                "slave" | "replica" => role = Some(Role::Replica),
                "learner" => learner = true,
                "fail" => state = EntryState::Failed,
                "fail?" if state == EntryState::Fine => state = EntryState::Failing,
                "handshake" => state = EntryState::Handshake,
                "noaddr" if matches!(state, EntryState::Fine | EntryState::Failing) => {
                    state = EntryState::NoAddress;
                }
                // myself, nofailover, noflags, and what later versions add.
                _ => {}
            }
        }
        let master = match self.master {
            "-" => None,
            id => Some(id.parse().map_err(|_| "not a master's id")?),
        };
        let epoch = number(self.epoch).ok_or("not a config epoch")?;
        let mut set = SlotSet::new();
        let mut open = Vec::new();
        for token in self.slots.split_ascii_whitespace() {
            match parse_slots(token).ok_or("not a slot")? {
                SlotToken::Owned(range) => set.insert_range(range),
                SlotToken::Open(slot) => open.push(slot),
            }
        }
        let slots = set.ranges();
        Ok(Entry {
            id,
            addr,
            port,
            bus_port,
            hostname,
            role,
            state,
            master,
            epoch,
            linked: self.link == "connected",
            learner,
            claim: claim(id, &slots),
            slots,
            open,
        })
    }
}

fn claim(id: NodeId, slots: &[SlotRange]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    (id, slots).hash(&mut hasher);
    hasher.finish()
}

type AddrParts = (Option<Addr>, u16, Option<u16>, Option<Arc<str>>);

/// `ip:port[@bus[,hostname[,name=value…]]]`; the ip may be empty or IPv6 without brackets.
fn parse_addr(field: &str) -> Result<AddrParts, &'static str> {
    let mut parts = field.split(',');
    let address = parts.next().unwrap_or_default();
    let hostname = parts
        .next()
        .filter(|name| !name.is_empty() && !name.contains('='))
        .map(|name| clean(name, 255).into());
    let (address, bus_port) = match address.split_once('@') {
        Some((address, bus)) => (address, Some(number(bus).ok_or("not a bus port")?)),
        None => (address, None),
    };
    let (host, port) = address.rsplit_once(':').ok_or("no port")?;
    let port = number(port).ok_or("not a port")?;
    let host = clean(host.trim_matches(['[', ']']), 255);
    let addr = (port != 0 && !host.is_empty()).then(|| Addr::new(&host, port));
    Ok((addr, port, bus_port.filter(|port| *port != 0), hostname))
}

/// Digits and nothing else: Rust would also take a leading `+`.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

enum SlotToken {
    Owned(SlotRange),
    Open(OpenSlot),
}

/// `5`, `0-5460`, `[93-<-id]` or `[77->-id]`.
fn parse_slots(token: &str) -> Option<SlotToken> {
    if let Some(inner) = token.strip_prefix('[') {
        let inner = inner.strip_suffix(']')?;
        let (slot, direction, id) = match inner.split_once("->-") {
            Some((slot, id)) => (slot, Direction::Migrating, id),
            None => {
                let (slot, id) = inner.split_once("-<-")?;
                (slot, Direction::Importing, id)
            }
        };
        return Some(SlotToken::Open(OpenSlot {
            slot: Slot::new(number(slot)?)?,
            direction,
            peer: id.parse().ok()?,
        }));
    }
    let (start, end) = token.split_once('-').unwrap_or((token, token));
    let start = Slot::new(number(start)?)?;
    let end = Slot::new(number(end)?)?;
    SlotRange::new(start, end).map(SlotToken::Owned)
}
