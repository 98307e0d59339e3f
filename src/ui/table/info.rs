//! `info`: the masters, and the sums.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};

use super::Sheet;
use super::check::heading;
use super::columns::{Align, Column, Text, draw, fit, push};
use super::nodes::{keys, memory};
use crate::cluster::node::Addr;
use crate::cluster::slot::SLOTS;
use crate::report::{InfoView, MasterView};
use crate::ui::style::{Tone, thousands};
use crate::ui::summary::Totals;

pub(in crate::ui) fn info(out: &mut impl Write, view: &InfoView, sheet: Sheet) -> io::Result<()> {
    let totals = Totals::of_info(view);
    let lead = view.lead_addr.as_ref();
    heading(out, totals, &view.versions, lead, sheet)?;
    let has_bar = view.masters.len() <= LETTERS.len();
    let mut columns = vec![
        Column::new(LETTER, Align::Left),
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("keys", Align::Right),
        Column::new("slots", Align::Right),
        Column::new("replicas", Align::Right),
        Column::new("memory", Align::Right),
        Column::new("state", Align::Left),
    ];
    for (n, master) in view.masters.iter().enumerate() {
        let addr = master.addr.as_ref().map(Addr::to_string);
        push(
            &mut columns,
            [
                letter(n).to_string().into(),
                Text::toned(addr.unwrap_or_default(), Tone::Strong),
                master.id.short().into(),
                keys(master.keys).into(),
                thousands(master.slot_count as u64).into(),
                master.replicas.to_string().into(),
                memory(master.used_memory, master.maxmemory).into(),
                Text::toned(
                    master.state.word().to_string(),
                    Tone::of_state(master.state),
                ),
            ],
        );
    }
    if !has_bar {
        columns.retain(|column| column.title != LETTER);
    }
    fit(&mut columns, sheet.width, &["memory", "id", "replicas"]);
    draw(out, &columns, sheet.style)?;
    writeln!(out)?;
    if has_bar {
        bar(out, &view.masters, sheet)?;
    }
    writeln!(
        out,
        "{:.2} keys per slot on average.",
        totals.keys_per_slot()
    )
}

/// The title of the column with the letters of the bar.
const LETTER: &str = "";
/// The masters in the bar of the slot space. With more of them there is no bar.
const LETTERS: [char; 52] = {
    let mut letters = ['a'; 52];
    let mut n = 0;
    while n < 26 {
        letters[n] = (b'A' + n as u8) as char;
        letters[n + 26] = (b'a' + n as u8) as char;
        n += 1;
    }
    letters
};
/// Slots without an owner.
const NO_OWNER: char = '.';

fn letter(nth: usize) -> char {
    LETTERS.get(nth).copied().unwrap_or(NO_OWNER)
}

/// The slot space: each character stands for a number of slots and is the letter of the master that owns most of them. A
/// slot without an owner is always seen.
fn bar(out: &mut impl Write, masters: &[MasterView], sheet: Sheet) -> io::Result<()> {
    let cells: u16 = if sheet.width >= 64 { 64 } else { 32 };
    let each = SLOTS / cells;
    let mut owners = vec![None; usize::from(SLOTS)];
    for (n, master) in masters.iter().enumerate() {
        for slot in master.slots.iter() {
            if let Some(owner) = owners.get_mut(usize::from(slot.number())) {
                *owner = Some(n);
            }
        }
    }
    let cell = |slots: &[Option<usize>]| {
        if slots.contains(&None) {
            return NO_OWNER;
        }
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for owner in slots.iter().flatten() {
            *counts.entry(*owner).or_default() += 1;
        }
        let most = counts
            .into_iter()
            .max_by_key(|(n, count)| (*count, Reverse(*n)));
        most.map_or(NO_OWNER, |(n, _)| letter(n))
    };
    let drawn: String = owners.chunks(usize::from(each)).map(cell).collect();
    let legend = match drawn.contains(NO_OWNER) {
        true => format!(" ({NO_OWNER} has slots without an owner)"),
        false => String::new(),
    };
    writeln!(out, "slots 0-{}, {each} in a character{legend}", SLOTS - 1)?;
    writeln!(out, "{drawn}\n")
}
