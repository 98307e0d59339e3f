//! The load of masters and slots.

use std::io::{self, Write};

use super::Sheet;
use super::columns::{Align, Column, Text, draw, fit, push};
use crate::cluster::slot_stats::Metric;
use crate::report::{HeatView, Node, SlotHeat};
use crate::ui::style::{Tone, bytes, millis, per_second, plain, thousands};

pub(in crate::ui) fn heat(out: &mut impl Write, view: &HeatView, sheet: Sheet) -> io::Result<()> {
    let title = match view.sampled_ms {
        Some(ms) => format!(
            "Load by {}, measured for {}",
            view.by.word(),
            millis(ms as f64)
        ),
        None => format!("Load by {}", view.by.word()),
    };
    writeln!(out, "{}\n", sheet.style.tone(Tone::Strong, &title))?;
    masters(out, view, sheet)?;
    writeln!(out)?;
    if view.slots.is_empty() {
        return writeln!(out, "No slot has any load.");
    }
    slots(out, view, sheet)
}

fn masters(out: &mut impl Write, view: &HeatView, sheet: Sheet) -> io::Result<()> {
    let mut columns = vec![
        Column::new("master", Align::Left),
        Column::new("id", Align::Left),
        Column::new("slots", Align::Right),
        Column::new("load", Align::Right),
        Column::new("of all", Align::Right),
    ];
    for master in &view.masters {
        push(
            &mut columns,
            [
                addr(&master.node).into(),
                master.node.id.short().into(),
                thousands(master.slot_count as u64).into(),
                amount(view, clamped(master.load)).into(),
                percent(master.cluster_share).into(),
            ],
        );
    }
    for failed in &view.failures {
        let why = Text::toned(format!("not measured: {}", plain(&failed.error)), Tone::Bad);
        let cells = [addr(&failed.node).into(), failed.node.id.short().into()];
        let blank = [Text::from("-"), Text::from("-")];
        push(&mut columns, cells.into_iter().chain(blank).chain([why]));
    }
    draw(out, &columns, sheet.style)
}

fn slots(out: &mut impl Write, view: &HeatView, sheet: Sheet) -> io::Result<()> {
    let mut columns = vec![
        Column::new("slot", Align::Right),
        Column::new("master", Align::Left),
        Column::new("of master", Align::Right),
        Column::new("of all", Align::Right),
        Column::new("cpu", Align::Right),
        Column::new("in", Align::Right),
        Column::new("out", Align::Right),
        Column::new("memory", Align::Right),
        Column::new("keys", Align::Right),
    ];
    let rate = |count: Option<u64>, shown: fn(u64) -> String| match (count, view.sampled_ms) {
        (Some(count), Some(ms)) => shown(per_second(count, ms as f64)),
        _ => "-".to_string(),
    };
    for hot in &view.slots {
        push(
            &mut columns,
            [
                hot.slot.to_string().into(),
                addr(&hot.node).into(),
                percent(hot.share).into(),
                percent(hot.cluster_share).into(),
                rate(hot.cpu_usec, cpu).into(),
                rate(hot.network_bytes_in, traffic).into(),
                rate(hot.network_bytes_out, traffic).into(),
                hot.memory_bytes
                    .map_or_else(|| "-".to_string(), bytes)
                    .into(),
                hot.keys.map_or_else(|| "-".to_string(), thousands).into(),
            ],
        );
    }
    // Columns without any figure say nothing.
    type IsKnown = fn(&SlotHeat) -> bool;
    let figures: [(&str, IsKnown); 4] = [
        ("cpu", |hot| hot.cpu_usec.is_some()),
        ("in", |hot| hot.network_bytes_in.is_some()),
        ("out", |hot| hot.network_bytes_out.is_some()),
        ("memory", |hot| hot.memory_bytes.is_some()),
    ];
    for (title, is_known) in figures {
        if !view.slots.iter().any(is_known) {
            columns.retain(|column| column.title != title);
        }
    }
    fit(&mut columns, sheet.width, &["memory", "keys", "out", "in"]);
    draw(out, &columns, sheet.style)
}

fn addr(node: &Node) -> String {
    plain(&node.addr.to_string())
}

fn clamped(load: u128) -> u64 {
    u64::try_from(load).unwrap_or(u64::MAX)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The load of a master; a rate if it was counted.
fn amount(view: &HeatView, load: u64) -> String {
    let rate = |load: u64| {
        view.sampled_ms
            .map_or(load, |ms| per_second(load, ms as f64))
    };
    match view.by {
        Metric::Cpu => cpu(rate(load)),
        Metric::Network => traffic(rate(load)),
        Metric::Keys => thousands(load),
        Metric::Memory => bytes(load),
    }
}

/// Microseconds of a core in a second.
fn cpu(microseconds: u64) -> String {
    format!("{:.1} ms/s", microseconds as f64 / 1_000.0)
}

fn traffic(count: u64) -> String {
    format!("{}/s", bytes(count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::Role;
    use crate::cluster::slot::Slot;
    use crate::report::{MasterHeat, Unmeasured};
    use crate::ui::samples::wide;
    use crate::ui::style::Style;

    fn sample(by: Metric) -> HeatView {
        let node = wide("1977", Role::Master);
        HeatView {
            by,
            sampled_ms: by.is_counter().then_some(10_000),
            masters: vec![MasterHeat {
                node: node.clone(),
                slot_count: 16384,
                load: 5_000_000,
                cluster_share: 1.0,
            }],
            slots: vec![SlotHeat {
                slot: Slot::new(16383).unwrap(),
                node: node.clone(),
                load: 4_000_000,
                share: 0.8,
                cluster_share: 0.8,
                keys: Some(9_999_999),
                cpu_usec: by.is_counter().then_some(4_000_000),
                network_bytes_in: by.is_counter().then_some(1 << 40),
                network_bytes_out: by.is_counter().then_some(1 << 40),
                memory_bytes: (by == Metric::Memory).then_some(1 << 40),
            }],
            failures: vec![Unmeasured {
                node,
                error: "off\u{1b}[31m".to_string(),
            }],
        }
    }

    fn shown(view: &HeatView, width: usize) -> String {
        let mut out = Vec::new();
        let style = Style::Plain;
        heat(&mut out, view, Sheet { width, style }).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rates_of_counters_and_numbers_of_the_rest() {
        let cpu = shown(&sample(Metric::Cpu), 200);
        assert!(
            cpu.starts_with("Load by cpu, measured for 10.0 s\n"),
            "{cpu}"
        );
        for part in [
            "500.0 ms/s",
            "400.0 ms/s",
            "80.0 %",
            "100.0 %",
            "GiB/s",
            "9,999,999",
            "not measured: off[31m",
        ] {
            assert!(cpu.contains(part), "{part}: {cpu}");
        }
        assert!(!cpu.contains("memory"), "{cpu}");
        let memory = shown(&sample(Metric::Memory), 200);
        assert!(
            memory.contains("memory") && !memory.contains("cpu"),
            "{memory}"
        );
        let mut idle = sample(Metric::Network);
        idle.slots.clear();
        assert!(shown(&idle, 80).ends_with("No slot has any load.\n"));
    }

    #[test]
    fn the_slots_fit_on_80_columns() {
        for by in [Metric::Cpu, Metric::Network, Metric::Keys, Metric::Memory] {
            let mut view = sample(by);
            view.failures.clear();
            let text = shown(&view, 80);
            let widest = text.lines().map(|line| line.chars().count()).max();
            assert!(widest <= Some(80), "{text}");
        }
    }
}
