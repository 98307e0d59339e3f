//! Draws a frame on a screen of any size.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table};

use super::rows;
use super::state::State;
use crate::cluster::slot::{SLOTS, Slot};
use crate::report::{WatchMaster, WatchNode, WatchState, WatchView};
use crate::ui::style::{plain, thousands};

/// The letters of masters in the bar, in the order of their slots.
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

const COLORS: [Color; 6] = [
    Color::Cyan,
    Color::Green,
    Color::Magenta,
    Color::Blue,
    Color::Yellow,
    Color::LightRed,
];

/// The widest column of each figure: `ops/s`, `in/s`, `out/s`, `cpu`, `memory`, `clients`, `keys`, `lag`, `state`.
const WIDTHS: [u16; 9] = [5, 5, 5, 4, 9, 7, 5, 5, 11];
/// A letter or a branch, and an address.
const NODE: u16 = 23;

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let Some(view) = &state.shown else {
        frame.render_widget(Paragraph::new("asking the nodes…"), frame.area());
        return;
    };
    let area = frame.area();
    let motion = motion(view);
    let moves = u16::try_from(motion.len()).unwrap_or(u16::MAX);
    // Small screens keep the table and the last events.
    let moves = moves.min(area.height / 5);
    let nodes = u16::try_from(view.nodes().count()).unwrap_or(u16::MAX);
    let fixed = 5_u16.saturating_add(moves);
    let room = area.height.saturating_sub(fixed);
    let table = nodes
        .saturating_add(1)
        .min(room.saturating_sub(room.min(4)))
        .max(room.min(2));
    let [head, sums, bar, nodes, moving, log, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(table),
        Constraint::Length(moves),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(header(state, view), head);
    frame.render_widget(Paragraph::new(rows::sums(view)), sums);
    frame.render_widget(Paragraph::new(slot_bar(state, view, bar.width)), bar);
    draw_nodes(frame, state, view, nodes);
    frame.render_widget(Paragraph::new(motion), moving);
    draw_log(frame, state, log);
    let hint = "q quit  s sort  p pause  ↑↓ select  Enter details";
    frame.render_widget(
        Paragraph::new(hint).style(tone(state, Color::DarkGray)),
        keys,
    );
    if state.has_details {
        draw_details(frame, state, view);
    }
}

/// A colour, where colours are wanted.
fn tone(state: &State, color: Color) -> Style {
    match state.is_colored {
        true => Style::new().fg(color),
        false => Style::new(),
    }
}

fn header<'a>(state: &State, view: &WatchView) -> Paragraph<'a> {
    let is_fine = view.ok == Some(true) && view.errors == Some(0);
    let color = match (is_fine, view.warnings) {
        (false, _) => Color::Red,
        (true, Some(0)) => Color::Green,
        (true, _) => Color::Yellow,
    };
    let first = format!("{}, {}", rows::state(view), rows::findings(view));
    let mut second = format!(
        "{}  {} UTC  every {}  by {}",
        plain(&state.seed),
        rows::clock(view.at_ms),
        state.interval,
        state.sort.word()
    );
    if state.is_paused {
        second.insert_str(0, "PAUSED  ");
    }
    let strong = tone(state, color).add_modifier(Modifier::BOLD);
    Paragraph::new(vec![Line::styled(first, strong), Line::raw(second)])
}

/// The place of a master in the order of slots.
fn letter(view: &WatchView, master: &WatchMaster) -> (char, Color) {
    let place = view
        .masters
        .iter()
        .position(|one| one.node.node.id == master.node.node.id);
    let place = place.unwrap_or_default();
    let letter = LETTERS[place % LETTERS.len()];
    (char::from(letter), COLORS[place % COLORS.len()])
}

/// The slot space, a letter and a colour for each owner. `.` has no owner, `!` an owner that is not up, `*` is moving.
fn slot_bar<'a>(state: &State, view: &WatchView, width: u16) -> Line<'a> {
    let width = usize::from(width.max(1));
    let mut cells: Vec<(char, Color)> = vec![('.', Color::Red); width];
    let at = |slot: Slot| usize::from(slot.number()) * width / usize::from(SLOTS);
    let mut unowned = vec![true; usize::from(SLOTS)];
    for master in &view.masters {
        let (letter, color) = letter(view, master);
        let is_up = !matches!(
            master.node.state,
            WatchState::Fail | WatchState::Unreachable
        );
        for slot in master.slots.iter() {
            unowned[usize::from(slot.number())] = false;
            cells[at(slot)] = match is_up {
                true => (letter, color),
                false => ('!', Color::Red),
            };
        }
    }
    // One slot without an owner shows, however narrow the bar is.
    for slot in Slot::all().filter(|slot| unowned[usize::from(slot.number())]) {
        cells[at(slot)] = ('.', Color::Red);
    }
    for slot in view.moves.iter().flat_map(|one| one.open.iter()) {
        cells[at(slot)].0 = '*';
    }
    let span = |(letter, color): (char, Color)| {
        let style = match state.is_colored {
            true => Style::new().fg(Color::Black).bg(color),
            false => Style::new(),
        };
        Span::styled(letter.to_string(), style)
    };
    cells.into_iter().map(span).collect()
}

fn draw_nodes(frame: &mut Frame<'_>, state: &State, view: &WatchView, area: Rect) {
    let titles = shown_titles(area.width);
    let mut lines: Vec<(Row<'_>, bool)> = Vec::new();
    for master in state.masters() {
        let (letter, color) = letter(view, &master);
        let name = format!("{letter} {}", rows::addr(&master.node));
        lines.push(row(state, &titles, &master.node, name, Some(color)));
        for replica in &master.replicas {
            let name = format!("└ {}", rows::addr(replica));
            lines.push(row(state, &titles, replica, name, None));
        }
    }
    // The selected row stays on the screen.
    let room = usize::from(area.height.saturating_sub(1)).max(1);
    let selected = lines.iter().position(|(_, is_selected)| *is_selected);
    let first = selected.map_or(0, |place| (place + 1).saturating_sub(room));
    let rows = lines.into_iter().skip(first).map(|(row, _)| row);
    let widths = titles.iter().map(|(_, width)| Constraint::Length(*width));
    let heading = titles.iter().enumerate().map(|(i, (place, _))| {
        let title = Line::raw(rows::TITLES[*place]);
        title.alignment(side(i, *place))
    });
    let table = Table::new(rows, widths)
        .header(Row::new(heading).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(1);
    frame.render_widget(table, area);
}

fn side(column: usize, place: usize) -> Alignment {
    // The node and its state are words.
    match column == 0 || place + 1 == rows::TITLES.len() {
        true => Alignment::Left,
        false => Alignment::Right,
    }
}

/// The columns that fit, by their place in [`rows::TITLES`], with their widths.
fn shown_titles(width: u16) -> Vec<(usize, u16)> {
    let widths = std::iter::once(NODE).chain(WIDTHS);
    let mut titles: Vec<(usize, u16)> = widths.enumerate().collect();
    for least in rows::LEAST {
        let total: u16 = titles.iter().map(|(_, width)| width + 1).sum();
        if total <= width + 1 {
            break;
        }
        titles.retain(|(place, _)| rows::TITLES[*place] != least);
    }
    titles
}

fn row<'a>(
    state: &State,
    titles: &[(usize, u16)],
    node: &WatchNode,
    name: String,
    color: Option<Color>,
) -> (Row<'a>, bool) {
    let figures = rows::cells(node);
    let cells = titles.iter().enumerate().map(|(i, (place, _))| {
        let text = match *place {
            0 => name.clone(),
            place => figures[place - 1].clone(),
        };
        let style = match (*place, color) {
            (0, Some(color)) => tone(state, color),
            (place, _) if place + 1 == rows::TITLES.len() => tone(state, color_of(node.state)),
            _ => Style::new(),
        };
        Line::styled(text, style).alignment(side(i, *place))
    });
    let is_selected = state.selected == Some(node.node.id);
    let style = match is_selected {
        true => Style::new().add_modifier(Modifier::REVERSED),
        false => Style::new(),
    };
    (
        Row::new(cells.collect::<Vec<_>>()).style(style),
        is_selected,
    )
}

fn color_of(state: WatchState) -> Color {
    match state {
        WatchState::Ok => Color::Green,
        WatchState::Loading | WatchState::Syncing => Color::Yellow,
        WatchState::Unreachable | WatchState::Fail | WatchState::LinkDown => Color::Red,
    }
}

/// Slots in motion and tasks, a line each.
fn motion<'a>(view: &WatchView) -> Vec<Line<'a>> {
    let moves = view.moves.iter().map(|one| Line::raw(rows::motion(one)));
    let tasks = view.tasks.iter().map(|one| Line::raw(rows::task(one)));
    moves.chain(tasks).collect()
}

fn draw_log(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let lines = state.log.iter().take(usize::from(area.height));
    let lines = lines.map(|event| {
        let time = Span::styled(rows::clock(event.at_ms), tone(state, Color::DarkGray));
        let style = match event.event.is_bad() {
            true => tone(state, Color::Red),
            false => Style::new(),
        };
        let text = Span::styled(format!(" {}", plain(&event.message)), style);
        Line::from(vec![time, text])
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

fn draw_details(frame: &mut Frame<'_>, state: &State, view: &WatchView) {
    let selected = |node: &&WatchNode| Some(node.node.id) == state.selected;
    let Some(node) = view.nodes().find(selected) else {
        return;
    };
    let lines = details(view, node);
    let screen = frame.area();
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let area = Rect {
        x: screen.width / 20,
        width: screen.width - screen.width / 10,
        height: height.min(screen.height),
        y: screen.height.saturating_sub(height) / 2,
    };
    let title = format!(" {} ", plain(&node.node.to_string()));
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    frame.render_widget(Clear, area);
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(title)),
        area,
    );
}

fn details(view: &WatchView, node: &WatchNode) -> Vec<String> {
    let known = |number: Option<u64>| number.map_or_else(|| "-".to_string(), thousands);
    let [ops, bytes_in, bytes_out, cpu, memory, ..] = rows::cells(node);
    let master = view
        .masters
        .iter()
        .find(|master| master.node.node.id == node.node.id);
    let slots = master.map(|master| {
        let count = thousands(master.slot_count as u64);
        format!("slots      {count}: {}", master.slots.summary())
    });
    let mut lines = vec![
        format!("id         {}", node.node.id),
        format!(
            "state      {}, {}",
            node.node.role.word(),
            node.state.word()
        ),
        format!(
            "server     {}",
            node.version
                .as_deref()
                .map_or_else(|| "-".to_string(), plain)
        ),
        format!("uptime     {} s", known(node.uptime_s)),
        format!("epoch      {}", node.epoch),
    ];
    lines.extend(slots);
    lines.extend([
        format!("ops/s      {ops}"),
        format!("traffic    in {bytes_in}/s, out {bytes_out}/s"),
        format!("cpu        {cpu} of a core, main thread"),
        format!("memory     {memory}"),
        format!("clients    {}", known(node.clients)),
        format!("keys       {}", known(node.keys)),
        format!("lag        {} bytes", known(node.lag_bytes)),
    ]);
    if let Some(why) = &node.why_silent {
        lines.push(format!("error      {}", plain(why)));
    }
    let id = node.node.id.short();
    let about = view.findings.iter();
    let about = about.filter(|finding| finding.message.contains(&id));
    lines.extend(
        about.map(|finding| format!("{}: {}", finding.severity.word(), plain(&finding.message))),
    );
    lines
}
