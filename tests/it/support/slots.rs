//! Slots: keys that hash to them, their owners, and open ones.

use std::thread;
use std::time::Duration;

use redis_trib::cluster::slot::Slot;

use super::cluster::Nodes;
use super::server::Server;
use super::wait::{PATIENCE, until};

pub(crate) fn slot_of(key: &[u8]) -> usize {
    usize::from(Slot::of_key(key).number())
}

/// Names that hash to these slots, `each` for each: `{tag}:0`, `{tag}:1`…
pub(crate) fn names(slots: impl IntoIterator<Item = usize>, each: usize) -> Vec<String> {
    let tag = |slot| {
        (0..)
            .map(|n| format!("{{{n}}}"))
            .find(|tag| slot_of(tag.as_bytes()) == slot)
            .unwrap()
    };
    slots
        .into_iter()
        .map(tag)
        .flat_map(|tag| (0..each).map(move |n| format!("{tag}:{n}")))
        .collect()
}

/// Ranges of slots that a node says it owns.
pub(crate) fn owned(server: &Server) -> Vec<(usize, usize)> {
    let text = server.nodes_text();
    let myself = text.lines().find(|line| line.contains("myself")).unwrap();
    myself
        .split(' ')
        .skip(8)
        .filter(|field| !field.starts_with('['))
        .map(|range| {
            let (a, b) = range.split_once('-').unwrap_or((range, range));
            (a.parse().unwrap(), b.parse().unwrap())
        })
        .collect()
}

/// Until so many of the slots below 200 are on that node: the middle of a move.
#[track_caller]
pub(crate) fn until_moved(target: &Server, slots: usize) {
    until("some slots to move", Duration::from_secs(20), || {
        let ranges = owned(target);
        let low = ranges.iter().filter(|(_, b)| *b < 200);
        match low.map(|(a, b)| b - a + 1).sum::<usize>() {
            has if has >= slots => Ok(()),
            has => Err(has.to_string()),
        }
    });
}

pub(crate) fn setslot(node: &Server, slot: usize, words: &[&str]) {
    let slot = slot.to_string();
    let mut all = vec!["CLUSTER", "SETSLOT", &slot];
    all.extend(words);
    node.cmd(&all);
}

/// Makes a node forget the owner of that slot, while all others have one that it knows. A packet of the owner that has come
/// already, and was not read yet, gives the slot back: so it is told again until it stays so.
#[track_caller]
pub(crate) fn forget_owner(node: &Server, slot: usize) {
    let slot = slot.to_string();
    until("the slot to have no owner", PATIENCE, || {
        // Refused if it has none.
        let _ = node.try_cmd(&["CLUSTER", "DELSLOTS", &slot]);
        thread::sleep(Duration::from_millis(300));
        match node.field("cluster_slots_assigned").as_deref() {
            Some("16383") => Ok(()),
            _ => Err(node.nodes_text()),
        }
    });
}

/// Every node agrees, no slot is open, all slots have an owner.
#[track_caller]
pub(crate) fn assert_closed(nodes: &Nodes) {
    for server in nodes.iter() {
        until("no slot to be open", Duration::from_secs(10), || {
            let text = server.nodes_text();
            if text.contains("->-") || text.contains("-<-") {
                Err(text)
            } else {
                Ok(())
            }
        });
    }
    nodes.wait_usable();
    let total: usize = nodes
        .iter()
        .filter(|server| server.field("role").as_deref() == Some("master"))
        .flat_map(owned)
        .map(|(a, b)| b - a + 1)
        .sum();
    assert_eq!(total, 16384);
}
