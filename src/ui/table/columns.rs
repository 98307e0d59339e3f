//! Columns of text, measured before they are drawn.

use std::io::{self, Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle,
};

use crate::ui::style::{Style, Tone};

#[derive(Debug, Clone, Copy)]
pub(super) enum Align {
    Left,
    Right,
}

#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    tone: Option<Tone>,
}

impl Text {
    fn width(&self) -> usize {
        self.text.chars().count()
    }

    pub(super) fn toned(text: String, tone: Tone) -> Self {
        let tone = Some(tone);
        Self { text, tone }
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { text, tone: None }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

pub(super) struct Column {
    pub(super) title: &'static str,
    align: Align,
    pub(super) cells: Vec<Text>,
}

impl Column {
    pub(super) fn new(title: &'static str, align: Align) -> Self {
        Self {
            title,
            align,
            cells: Vec::new(),
        }
    }

    fn width(&self) -> usize {
        let widest = self.cells.iter().map(Text::width).max();
        widest.unwrap_or_default().max(self.title.len())
    }
}

pub(super) fn push(columns: &mut [Column], cells: impl IntoIterator<Item = Text>) {
    for (column, cell) in columns.iter_mut().zip(cells) {
        column.cells.push(cell);
    }
}

/// Spaces between columns.
pub(super) const GAP: usize = 2;

pub(super) fn total_width(columns: &[Column]) -> usize {
    let gaps = columns.len().saturating_sub(1) * GAP;
    columns.iter().map(Column::width).sum::<usize>() + gaps
}

/// Removes columns in this order until the others fit.
pub(super) fn fit(columns: &mut Vec<Column>, width: usize, order: &[&str]) {
    for title in order {
        if total_width(columns) <= width {
            return;
        }
        columns.retain(|column| column.title != *title);
    }
}

/// The first of several tables that fits, or else the last.
pub(super) fn first_that_fits<const N: usize>(
    width: usize,
    tables: [Vec<Column>; N],
) -> Vec<Column> {
    let mut last = Vec::new();
    for table in tables {
        if total_width(&table) <= width {
            return table;
        }
        last = table;
    }
    last
}

pub(super) fn draw(out: &mut impl Write, columns: &[Column], style: Style) -> io::Result<()> {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')))
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(columns.iter().map(|column| Cell::new(column.title)));
    match style {
        Style::Plain => table.force_no_tty(),
        Style::Ansi => table.enforce_styling(),
    };
    table.style_text_only();
    let rows = columns.first().map_or(0, |column| column.cells.len());
    for row in 0..rows {
        let cells = columns.iter().filter_map(|column| column.cells.get(row));
        table.add_row(cells.map(|text| {
            let cell = Cell::new(&text.text);
            match text.tone {
                None => cell,
                Some(Tone::Good) => cell.fg(Color::DarkGreen),
                Some(Tone::Warning) => cell.fg(Color::DarkYellow),
                Some(Tone::Bad) => cell.fg(Color::DarkRed),
                Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
            }
        }));
    }
    for (i, column) in columns.iter().enumerate() {
        if let Some(drawn) = table.column_mut(i) {
            // comfy-table draws the other space of the gap, as a line that is not there.
            let padding = if i + 1 == columns.len() { 0 } else { GAP - 1 };
            drawn.set_padding((0, padding as u16));
            drawn.set_cell_alignment(match column.align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// The branch before a replica, below its master.
pub(super) fn branch(last: bool) -> &'static str {
    if last { "└" } else { "├" }
}

/// Returns the start of a text that does not fit.
pub(super) fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_string();
    }
    let mut cut: String = text.chars().take(room.saturating_sub(1)).collect();
    cut.push('…');
    cut
}
