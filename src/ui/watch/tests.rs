use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::draw::draw;
use super::rows;
use super::screen::{Flow, press};
use super::state::State;
use crate::cluster::node::Role;
use crate::cluster::slot::{Slot, SlotSet};
use crate::report::{
    WatchEvent, WatchEventKind, WatchMaster, WatchMove, WatchNode, WatchState, WatchTask, WatchView,
};
use crate::ui::samples::wide;
use crate::ui::style::Style;
use crate::ui::table::{self, Sheet};

fn node(prefix: &str, role: Role, ops: u64) -> WatchNode {
    WatchNode {
        node: wide(prefix, role),
        state: WatchState::Ok,
        why_silent: None,
        version: Some("redis 8.10.2".to_string()),
        epoch: 3,
        ops_per_second: Some(ops),
        bytes_in_per_second: Some(1_047_000),
        bytes_out_per_second: Some(1 << 30),
        cpu: Some(0.985),
        used_memory: Some(1_047_000_000),
        maxmemory: Some(8 << 30),
        clients: Some(9_999),
        keys: Some(12_345_678),
        lag_bytes: (role == Role::Replica).then_some(70 << 20),
        uptime_s: Some(86_400),
    }
}

fn slots(from: u16, to: u16) -> SlotSet {
    (from..=to).filter_map(Slot::new).collect()
}

fn view() -> WatchView {
    let master = |prefix: &str, replica: &str, ops, from, to| WatchMaster {
        node: node(prefix, Role::Master, ops),
        slots: slots(from, to),
        slot_count: slots(from, to).count(),
        replicas: vec![node(replica, Role::Replica, 1)],
    };
    let mut masters = vec![
        master("1977", "708f", 100, 0, 5460),
        master("69a0", "080d", 90_000, 5461, 10922),
        master("4744", "105f", 5_000, 10923, 16382),
    ];
    masters[2].replicas[0].state = WatchState::Unreachable;
    masters[2].replicas[0].why_silent = Some("refused\u{1b}[31m".to_string());
    let (from, to) = (masters[0].node.node.clone(), masters[1].node.node.clone());
    WatchView {
        at_ms: 43_471_000,
        since_ms: Some(2_000),
        ok: Some(true),
        slots_covered: 16383,
        node_count: 6,
        errors: Some(2),
        warnings: Some(1),
        findings: Vec::new(),
        masters,
        moves: vec![WatchMove {
            from: from.clone(),
            to: to.clone(),
            open: slots(5000, 5000),
            slots_moved: 12,
            keys_left: Some(1_200),
            keys_per_second: Some(300),
            left_ms: Some(4_000),
        }],
        tasks: vec![WatchTask {
            leader: from.clone(),
            slots: slots(0, 99),
            slot_count: 100,
            source: Some(from),
            target: Some(to.clone()),
            state: "snapshot".to_string(),
            message: String::new(),
        }],
        events: vec![WatchEvent {
            at_ms: 43_471_000,
            event: WatchEventKind::NodeLost,
            message: "255.255.255.255:65535 (105f) is lost: \u{1b}[2Jrefused".to_string(),
            nodes: vec![to],
            slots: SlotSet::new(),
        }],
    }
}

fn state() -> State {
    let mut state = State::new("10.0.0.3:6379", "2s".to_string(), true);
    state.take(view());
    state
}

/// The lines of the screen.
fn drawn(state: &State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let lines = buffer.content.chunks(usize::from(width.max(1)));
    lines
        .map(|line| line.iter().map(|cell| cell.symbol()).collect())
        .collect()
}

fn key(code: KeyCode) -> Event {
    Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn everything_has_its_place_on_every_usual_screen() {
    for (width, height) in [(60, 15), (80, 24), (200, 60)] {
        let lines = drawn(&state(), width, height);
        let text = lines.join("\n");
        for part in [
            "state ok, 16,383 of 16,384 slots, 6 nodes, 2 errors",
            "10.0.0.3:6379",
            "12:04:31 UTC",
            "every 2s",
            "masters: 95.1K ops/s",
            "A 255.255.255.255:65535",
            "└ 255.255.255.255:65535",
            "998M/8.0G",
            "255.255.255.255:65535 → 255.255.255.255:65535: slot 5000",
            "is lost: [2Jrefused",
            "q quit",
        ] {
            assert!(text.contains(part), "{part} at {width}:\n{text}");
        }
        // The bar: three owners, one slot without an owner, and one that is open.
        let bar = &lines[3];
        assert!(bar.starts_with("AAAA") && bar.ends_with('.'), "{bar}");
        assert!(
            bar.contains("BBB") && bar.contains('*') && bar.contains("CCC"),
            "{bar}"
        );
        assert_eq!(text.contains("clients"), width >= 200, "{text}");
        for part in ["98%", "unreachable"] {
            assert_eq!(text.contains(part), width >= 80, "{part}: {text}");
        }
        assert_eq!(text.contains("12.3M"), width >= 80, "{text}");
        assert!(!text.contains('\u{1b}'));
    }
    let wide = drawn(&state(), 200, 60).join("\n");
    assert!(
        wide.contains("12 moved, 1.2K keys left, 300 keys/s, 4 s left"),
        "{wide}"
    );
    assert!(wide.contains("100 slots, snapshot"), "{wide}");
}

#[test]
fn screens_of_any_size_are_drawn() {
    let mut state = state();
    for has_details in [false, true] {
        for (width, height) in [(1, 1), (2, 3), (10, 5), (300, 2), (3, 100)] {
            drawn(&state, width, height);
        }
        if !has_details {
            press(&mut state, &key(KeyCode::Enter));
        }
    }
    let empty = State::new("h:1", "2s".to_string(), false);
    assert!(drawn(&empty, 20, 2)[0].contains("asking the nodes"));
}

#[test]
fn keys_sort_pause_select_and_quit() {
    let mut state = state();
    let first = |state: &State| state.masters()[0].node.node.id.short();
    assert!(first(&state).starts_with("1977"));
    assert_eq!(press(&mut state, &key(KeyCode::Char('s'))), Flow::Continue);
    assert!(first(&state).starts_with("69a0"));
    // The letters stay those of the order of slots.
    assert!(drawn(&state, 80, 24).join("\n").contains("B 255"));

    press(&mut state, &key(KeyCode::Char('p')));
    let mut later = view();
    later.at_ms += 5_000;
    state.take(later);
    let text = drawn(&state, 80, 24).join("\n");
    assert!(
        text.contains("PAUSED") && text.contains("12:04:31 UTC"),
        "{text}"
    );
    assert_eq!(state.log.len(), 2);
    press(&mut state, &key(KeyCode::Char('p')));
    let text = drawn(&state, 80, 24).join("\n");
    assert!(
        !text.contains("PAUSED") && text.contains("12:04:36 UTC"),
        "{text}"
    );

    for code in [KeyCode::Down, KeyCode::Down, KeyCode::Up, KeyCode::Enter] {
        press(&mut state, &key(code));
    }
    let text = drawn(&state, 80, 24).join("\n");
    assert!(text.contains("id         69a0"), "{text}");
    assert!(text.contains("server     redis 8.10.2"), "{text}");
    assert_eq!(press(&mut state, &key(KeyCode::Esc)), Flow::Continue);
    assert_eq!(press(&mut state, &key(KeyCode::Esc)), Flow::Quit);
    assert_eq!(press(&mut state, &key(KeyCode::Char('q'))), Flow::Quit);
    let control = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(press(&mut state, &control), Flow::Interrupt);
    assert_eq!(press(&mut state, &Event::Resize(1, 1)), Flow::Continue);
}

#[test]
fn one_frame_is_a_table_of_80_columns() {
    let mut out = Vec::new();
    let style = Style::Plain;
    let mut view = view();
    view.moves.clear();
    view.tasks.clear();
    table::frame(&mut out, &view, Sheet { width: 80, style }).unwrap();
    let text = String::from_utf8(out).unwrap();
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{text}");
    assert!(
        text.starts_with("state ok, 16,383 of 16,384 slots"),
        "{text}"
    );
    assert!(
        text.contains("90.0K") && text.contains("12:04:31 255"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn figures_are_short() {
    for (number, text) in [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0K"),
        (999_999, "1.0M"),
        (u64::MAX, "18447P"),
    ] {
        assert_eq!(rows::count(number), text);
    }
    assert_eq!(rows::short(1 << 30), "1.0G");
    assert_eq!(rows::clock(86_399_999), "23:59:59");
}
