//! Where keys and slots are: a block for each.

use std::io::{self, Write};
use std::time::Duration;

use crate::report::{KeyView, Node, OwnersView, SlotView, WhereView};
use crate::ui::style::{Style, Tone, bytes, counted, plain};

/// The keys, then the slots.
pub(in crate::ui) fn where_is(out: &mut Vec<u8>, view: &WhereView, style: Style) -> io::Result<()> {
    let mut is_first = true;
    let mut block = |out: &mut Vec<u8>, title: &str| {
        if !std::mem::take(&mut is_first) {
            writeln!(out)?;
        }
        writeln!(out, "{}", style.tone(Tone::Strong, &plain(title)))
    };
    for key in &view.keys {
        let title = match key.key.as_str() {
            "" => "(empty key)",
            name => name,
        };
        block(out, title)?;
        let slot = match &key.hash_tag {
            Some(tag) => format!("{} (hash tag {tag})", key.place.slot),
            None => key.place.slot.to_string(),
        };
        line(out, "slot", &slot)?;
        place(out, &key.place)?;
        line(out, "value", &value(key))?;
    }
    for slot in &view.slots {
        block(out, &format!("slot {}", slot.place.slot))?;
        place(out, &slot.place)?;
        line(out, "keys", &keys(slot))?;
    }
    Ok(())
}

fn line(out: &mut Vec<u8>, what: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {what:<9} {}", plain(text))
}

fn place(out: &mut Vec<u8>, place: &OwnersView) -> io::Result<()> {
    let names = |nodes: &[Node]| {
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    let owner = place.owner.as_ref().map(ToString::to_string);
    line(out, "master", &owner.unwrap_or_else(|| "none".to_string()))?;
    if !place.other_claims.is_empty() {
        line(
            out,
            "claimed",
            &format!("also by {}", names(&place.other_claims)),
        )?;
    }
    if !place.replicas.is_empty() {
        line(out, "replicas", &names(&place.replicas))?;
    }
    match &place.moving_to {
        Some(target) => line(out, "moving", &format!("to {target}")),
        None => Ok(()),
    }
}

fn value(key: &KeyView) -> String {
    match (key.exists, &key.type_name) {
        (Some(true), Some(type_name)) => {
            let mut text = type_name.clone();
            if let Some(memory) = key.memory_usage {
                text += &format!(", {}", bytes(memory));
            }
            text += &match key.ttl_ms {
                Some(ttl) => format!(", expires in {}", shown(Duration::from_millis(ttl))),
                None => ", does not expire".to_string(),
            };
            if let Some(node) = key.node.as_ref().filter(|_| key.node != key.place.owner) {
                text += &format!(", on {node} already");
            }
            text
        }
        (Some(_), _) => "does not exist".to_string(),
        (None, _) => unknown(key.why_unknown.as_deref()),
    }
}

fn keys(slot: &SlotView) -> String {
    match slot.keys {
        Some(count) => counted(count, "key"),
        None => unknown(slot.why_unknown.as_deref()),
    }
}

fn unknown(why: Option<&str>) -> String {
    format!("unknown: {}", why.unwrap_or("no answer"))
}

/// A time in whole seconds, unless it is shorter.
fn shown(time: Duration) -> String {
    let time = match time.as_secs() {
        0 => time,
        seconds => Duration::from_secs(seconds),
    };
    humantime::format_duration(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::Role;
    use crate::cluster::slot::Slot;
    use crate::ui::samples::wide;

    #[test]
    fn a_block_for_each_key_and_slot() {
        let (master, replica) = (wide("1977", Role::Master), wide("708f", Role::Replica));
        let place = |moving_to: Option<Node>| OwnersView {
            slot: Slot::new(8000).unwrap(),
            owner: Some(master.clone()),
            other_claims: Vec::new(),
            replicas: vec![replica.clone()],
            moving_to,
        };
        let key = KeyView {
            key: r"user:{42}\x00".to_string(),
            hash_tag: Some("42".to_string()),
            place: place(Some(wide("69a0", Role::Master))),
            exists: Some(true),
            node: Some(wide("69a0", Role::Master)),
            type_name: Some("hash\u{1b}[31m".to_string()),
            memory_usage: Some(2048),
            ttl_ms: Some(61_500),
            why_unknown: None,
        };
        let slot = SlotView {
            place: OwnersView {
                owner: None,
                replicas: Vec::new(),
                other_claims: vec![master.clone()],
                ..place(None)
            },
            keys: None,
            why_unknown: Some("no node owns slot 8000".to_string()),
        };
        let view = WhereView {
            database: 0,
            keys: vec![key],
            slots: vec![slot],
        };
        let mut out = Vec::new();
        where_is(&mut out, &view, Style::Plain).unwrap();
        let (addr, ids) = (
            "255.255.255.255:65535",
            [&master, &replica].map(|n| n.id.short()),
        );
        let target = wide("69a0", Role::Master).id.short();
        let expected = format!(
            "user:{{42}}\\x00\n  slot      8000 (hash tag 42)\n  master    {addr} ({})\n  replicas  {addr} ({})\n  \
             moving    to {addr} ({target})\n  value     hash[31m, 2.0 KiB, expires in 1m 1s, on {addr} ({target}) \
             already\n\nslot 8000\n  master    none\n  claimed   also by {addr} ({})\n  keys      unknown: no node owns \
             slot 8000\n",
            ids[0], ids[1], ids[0]
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
