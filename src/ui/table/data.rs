//! The result of `import` and `restore`.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, Text, draw};
use crate::report::TransferView;
use crate::ui::style::thousands;

pub(in crate::ui) fn transferred(
    out: &mut impl Write,
    view: &TransferView,
    sheet: Sheet,
) -> io::Result<()> {
    let columns = [
        (view.done, view.written),
        ("the same", view.same),
        ("expired", view.expired),
        ("gone", view.gone),
        ("failed", view.failures()),
    ]
    .map(|(title, count)| {
        let mut column = Column::new(title, Align::Right);
        column.cells.push(Text::from(thousands(count)));
        column
    });
    draw(out, &columns, sheet.style)?;
    writeln!(out)
}
