//! `nodes.json` of redis-cli's backup: the members of the cluster, for scripts that read it.

use std::fmt::Write as _;

use crate::backup::{Directory, StoreError};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Role;
use crate::cluster::parse::Direction;
use crate::cluster::slot::SlotSet;
use crate::cluster::topology::Member;
use crate::state::name;

const NAME: &str = "nodes.json";

/// The name of the file with the data of a master, as redis-cli gives it.
pub(super) fn rdb_name(diagnosis: &Diagnosis, master: &Member) -> String {
    let addr = name(diagnosis, master.id).addr;
    // A host is an address or a name that a node announced: it must not lead to another directory.
    let host = addr.host().replace('/', "_");
    format!("redis-node-{host}-{}-{}.rdb", addr.port(), master.id)
}

/// Writes the file, from the state that named the files.
pub(super) fn write(diagnosis: &Diagnosis, directory: &Directory) -> Result<(), StoreError> {
    let mut file = directory.file(NAME)?;
    file.write(document(diagnosis).as_bytes())?;
    file.sync()?;
    file.publish().map(drop)
}

/// All members that answer, in redis-cli's layout.
fn document(diagnosis: &Diagnosis) -> String {
    let answers = |member: &&Member| !member.peer_status.silent;
    let members = diagnosis.topology.reading_order().into_iter();
    let members: Vec<String> = members
        .filter(answers)
        .map(|member| entry(diagnosis, member))
        .collect();
    format!("[\n{}\n]", members.join(",\n"))
}

fn entry(diagnosis: &Diagnosis, member: &Member) -> String {
    let addr = name(diagnosis, member.id).addr;
    let (role, replicates) = match (member.role, member.master) {
        (Role::Replica, Some(master)) => ("slave", format!("\"{master}\"")),
        (Role::Replica, None) => ("slave", "null".to_string()),
        (Role::Master, _) => ("master", "null".to_string()),
    };
    let host = serde_json::Value::from(addr.host()).to_string();
    let mut text = format!(
        "  {{\n    \"name\": \"{}\",\n    \"host\": {host},\n    \"port\": {},\n    \"replicate\": {replicates},\n    \
         \"slots\": [{}],\n    \"slots_count\": {},\n    \"flags\": \"{role}\",\n    \"current_epoch\": {}",
        member.id,
        addr.port(),
        ranges(&member.slots),
        member.slots.count(),
        member.epoch,
    );
    for (direction, key) in [
        (Direction::Migrating, "migrating"),
        (Direction::Importing, "importing"),
    ] {
        let open = member
            .open
            .iter()
            .filter(|open| open.direction == direction);
        let open: Vec<String> = open
            .map(|open| format!("\"{}\": \"{}\"", open.slot, open.peer))
            .collect();
        if !open.is_empty() {
            // Writing to a string does not fail.
            let _ = write!(text, ",\n    \"{key}\": {{{}}}", open.join(","));
        }
    }
    text + "\n  }"
}

/// `[0,5460],[7000]`.
fn ranges(slots: &SlotSet) -> String {
    let text = slots.to_string();
    let ranges = text.split(',').filter(|range| !range.is_empty());
    let ranges: Vec<String> = ranges
        .map(|range| format!("[{}]", range.replace('-', ",")))
        .collect();
    ranges.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::slot::{Slot, SlotRange};

    #[test]
    fn ranges_are_lists_of_their_ends() {
        let slot = |number| Slot::new(number).unwrap();
        let slots =
            [(0, 5460), (7000, 7000)].map(|(a, b)| SlotRange::new(slot(a), slot(b)).unwrap());
        assert_eq!(ranges(&slots.into_iter().collect()), "[0,5460],[7000]");
        assert_eq!(ranges(&SlotSet::new()), "");
    }
}
