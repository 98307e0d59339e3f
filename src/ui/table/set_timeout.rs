//! The plan of `set-timeout`.

use std::io::{self, Write};
use std::time::Duration;

use super::Sheet;
use super::columns::{Align, Column, Text, draw, push};
use crate::report::{SetTimeoutView, Timeout};
use crate::ui::style::Tone;

pub(in crate::ui) fn timeouts(
    out: &mut impl Write,
    view: &SetTimeoutView,
    sheet: Sheet,
) -> io::Result<()> {
    let mut columns = vec![
        Column::new("node", Align::Left),
        Column::new("id", Align::Left),
        Column::new("timeout now", Align::Right),
        Column::new("after", Align::Right),
    ];
    for Timeout { node, now } in &view.nodes {
        push(
            &mut columns,
            [
                node.addr.to_string().into(),
                node.id.short().into(),
                match now {
                    Ok(Some(now)) => shown(*now).into(),
                    Ok(None) => "?".into(),
                    Err(_) => Text::toned("no answer".to_string(), Tone::Bad),
                },
                match now {
                    Ok(_) => shown(view.wanted).into(),
                    Err(_) => "-".into(),
                },
            ],
        );
    }
    draw(out, &columns, sheet.style)?;
    writeln!(out)
}

fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
