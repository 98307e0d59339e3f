//! `info`: the masters, and the sums.

use std::io::{self, Write};

use super::Sheet;
use super::check::{heading, sum};
use super::columns::{Align, Column, Text, draw, fit, push};
use super::nodes::{keys, memory};
use crate::cluster::node::Addr;
use crate::report::InfoView;
use crate::ui::style::{Tone, thousands};
use crate::ui::summary::Totals;

pub(in crate::ui) fn info(out: &mut impl Write, view: &InfoView, sheet: Sheet) -> io::Result<()> {
    let totals = Totals::of_info(view);
    let heading = heading(totals, &view.versions, view.lead_addr.as_ref(), sheet.style);
    writeln!(out, "{heading}\n")?;
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("keys", Align::Right),
        Column::new("slots", Align::Right),
        Column::new("replicas", Align::Right),
        Column::new("memory", Align::Right),
        Column::new("state", Align::Left),
    ];
    for master in &view.masters {
        let addr = master.addr.as_ref().map(Addr::to_string);
        push(
            &mut columns,
            [
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
    fit(&mut columns, sheet.width, &["memory"]);
    draw(out, &columns, sheet.style)?;
    writeln!(out)?;
    sum(totals).write(out, sheet.style)?;
    writeln!(
        out,
        "{:.2} keys per slot on average.",
        totals.keys_per_slot()
    )
}
