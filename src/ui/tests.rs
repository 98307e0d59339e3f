//! What is shown, looked at.

use super::*;
use crate::cluster::health::Stability;
use crate::cluster::observation::Seen;
use crate::event::{MoveStats, Phase};
use crate::ui::samples::*;
use std::time::Duration;

fn text(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn sheet(width: usize) -> Sheet {
    let style = Style::Plain;
    Sheet { width, style }
}

fn clusters() -> [(&'static str, Diagnosis); 5] {
    [
        ("healthy", healthy()),
        ("failed_master", failed_master()),
        ("open_slots", open_slots()),
        ("disagreement", disagreement()),
        ("named", named()),
    ]
}

fn pretty(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    serde_json::to_string_pretty(&value).unwrap()
}

fn assert_snapshot(name: String, text: String) {
    insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false }, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn check_looks_like_this() {
    for (name, diagnosis) in clusters() {
        for width in [80, 100] {
            let shown = text(|out| table::check(out, &diagnosis, &[], sheet(width)));
            assert_snapshot(format!("table_{width}_{name}"), shown);
        }
        let shown = text(|out| classic::check(out, &diagnosis, &[], Style::Plain));
        assert_snapshot(format!("classic_{name}"), shown);
        let zones = BTreeMap::from([(id("1977"), "eu-1a".to_string())]);
        let shown = text(|out| json::check(out, &diagnosis, &zones, &[]));
        assert_eq!(shown.lines().count(), 1);
        assert_snapshot(format!("json_{name}"), pretty(&shown));
        let shown = text(|out| prometheus::check(out, &diagnosis));
        assert_snapshot(format!("prometheus_{name}"), shown);
        let shown =
            text(|out| nagios::check(out, &diagnosis, Status::of(&diagnosis, Strictness::Lenient)));
        assert_eq!(shown.lines().count(), 1);
        assert_snapshot(format!("nagios_{name}"), shown);
    }
}

#[test]
fn info_looks_like_this() {
    let diagnosis = failed_master();
    let shown = text(|out| table::info(out, &diagnosis, sheet(80)));
    assert_snapshot("info_table".to_string(), shown);
    let shown = text(|out| classic::info(out, &diagnosis, Style::Plain));
    assert_snapshot("info_classic".to_string(), shown);
    let shown = text(|out| json::info(out, &diagnosis));
    assert_snapshot("info_json".to_string(), pretty(&shown));
}

#[test]
fn a_plan_looks_like_this() {
    let plan = planned();
    let shown = text(|out| table::layout(out, &plan, sheet(80)));
    assert_snapshot("plan_table".to_string(), shown);
    let shown = text(|out| classic::layout(out, &plan, Style::Plain));
    assert_snapshot("plan_classic".to_string(), shown);
    let shown = text(|out| json::layout(out, &plan));
    assert_eq!(shown.lines().count(), 1);
    assert_snapshot("plan_json".to_string(), pretty(&shown));
}

#[test]
fn moves_look_like_this() {
    let view = samples::moves();
    for width in [80, 120] {
        let shown = text(|out| move_slots::table(out, &view, sheet(width)));
        assert!(shown.lines().all(|line| line.chars().count() <= width));
        assert_snapshot(format!("moves_table_{width}"), shown);
    }
    let shown = text(|out| move_slots::classic(out, &view));
    assert_snapshot("moves_classic".to_string(), shown);
    let shown = text(|out| json::moves(out, &view));
    assert_snapshot("moves_json".to_string(), pretty(&shown));
    let balance = samples::balance();
    let shown = text(|out| move_slots::balance_table(out, &balance, sheet(80)));
    assert_snapshot("balance_table".to_string(), shown);
    let shown = text(|out| json::balance(out, &balance));
    assert_snapshot("balance_json".to_string(), pretty(&shown));
    let tally = MoveStats {
        keys: 100_000,
        bytes: 12 << 20,
        longest_call: Duration::from_micros(18_700),
        longest_open: Duration::from_millis(1_340),
        open_time: Duration::from_secs(819),
        closed: 1_638,
        longest_job: Duration::ZERO,
    };
    let took = Duration::from_millis(2_500);
    let shown = text(|out| move_slots::summary_table(out, 1638, &tally, took, Style::Plain));
    assert_snapshot("moved_table".to_string(), shown);
    assert_eq!(
        move_slots::summary(1638, &tally, took),
        "[OK] 1,638 slots and 100,000 keys moved in 2.5 s (40,000 keys/s, 4.8 MiB/s); longest \
         call 18.7 ms, longest time a slot was open 1.3 s (mean 500.0 ms)."
    );
    let tally = MoveStats {
        longest_call: Duration::ZERO,
        longest_open: Duration::ZERO,
        longest_job: Duration::from_millis(180),
        ..tally
    };
    let shown = text(|out| move_slots::summary_table(out, 1638, &tally, took, Style::Plain));
    assert_snapshot("moved_table_atomic".to_string(), shown);
    assert_eq!(
        text(|out| json::moved(out, 1638, &tally, took)),
        "{\"event\":\"moved\",\"slots\":1638,\"keys\":100000,\"bytes\":12582912,\"took_ms\":2500.0,\
         \"longest_call_ms\":null,\"longest_open_ms\":null,\"mean_open_ms\":null,\
         \"longest_job_ms\":180.0}\n"
    );
}

#[test]
fn events_are_one_object_a_line() {
    let (node, master) = (id("708f"), id("1977"));
    let slots = planned().masters[0].slots;
    let shown = text(|out| {
        let phase = Phase::Join;
        json::event(out, &Event::Phase(phase))?;
        json::event(
            out,
            &Event::Waiting {
                phase,
                ready: 4,
                total: 6,
            },
        )?;
        json::event(
            out,
            &Event::SlotsAdded {
                node: master,
                slots: [slots].into_iter().collect(),
            },
        )?;
        json::event(
            out,
            &Event::Replicates {
                replica: node,
                master,
            },
        )?;
        json::done(out, ExitCode::Done, "The cluster is ready.", &[])
    });
    assert_snapshot("events".to_string(), shown);
}

/// One widely used operator counts the `[OK]` lines.
#[test]
fn a_healthy_check_says_ok_three_times() {
    for shown in [
        text(|out| classic::check(out, &healthy(), &[], Style::Plain)),
        text(|out| table::check(out, &healthy(), &[], sheet(80))),
    ] {
        assert_eq!(shown.matches("[OK]").count(), 3, "{shown}");
        assert!(!shown.contains("[ERR]"), "{shown}");
    }
}

#[test]
fn every_finding_is_said_in_every_text() {
    for (name, diagnosis) in clusters() {
        let classic = text(|out| classic::check(out, &diagnosis, &[], Style::Plain));
        let table = text(|out| table::check(out, &diagnosis, &[], sheet(usize::MAX)));
        for finding in &diagnosis.findings {
            assert_eq!(
                classic.matches(&finding.message).count(),
                1,
                "{name}: {classic}"
            );
            assert_eq!(
                table.matches(&finding.message).count(),
                1,
                "{name}: {table}"
            );
        }
    }
}

#[test]
fn tables_fit_eighty_columns() {
    for (name, diagnosis) in clusters() {
        let shown = text(|out| table::check(out, &diagnosis, &[], sheet(80)));
        for line in shown.lines().filter(|line| !line.starts_with("  → ")) {
            // The summary and the lines that scripts look for are never broken.
            let fixed = line.starts_with('[') || line.contains("seen from");
            let is_table = !fixed || line.starts_with("[2001");
            assert!(!is_table || line.chars().count() <= 80, "{name}: {line}");
        }
    }
}

#[test]
fn a_thousand_nodes_are_a_thousand_lines() {
    let diagnosis = large(1000);
    let began = std::time::Instant::now();
    let shown = text(|out| table::check(out, &diagnosis, &[], sheet(100)));
    assert_eq!(
        shown
            .lines()
            .filter(|line| line.contains("  master  "))
            .count(),
        1000
    );
    assert!(
        shown
            .lines()
            .any(|line| line.contains("16,17,18,19") || line.contains(" +"))
    );
    // Unoptimized and beside other tests; the point is that it is not minutes.
    assert!(began.elapsed().as_secs() < 10, "{:?}", began.elapsed());
}

/// A server may say anything; a terminal obeys none of it.
#[test]
fn control_characters_never_get_out() {
    let evil = "x\u{1b}]0;owned\u{7}\r\n\u{9b}2J\u{202e}y";
    let mut sample = Sample::new(HEALTHY);
    sample.node(id("69a0")).seen = Seen::Silent(evil.to_string());
    sample.node(id("1977")).hostname = Some(evil.into());
    let mut diagnosis = sample.judged(Stability::Unknown);
    diagnosis.findings[0].remedy = Some(evil.to_string());
    let zones = BTreeMap::from([(id("1977"), evil.to_string())]);
    let notes = [evil.to_string()];
    let mut plan = planned();
    plan.warnings.push(evil.to_string());
    plan.masters[0].master.zone = Some(evil.to_string());
    let style = Style::Plain;
    for shown in [
        text(|out| table::check(out, &diagnosis, &notes, sheet(200))),
        text(|out| table::info(out, &diagnosis, sheet(200))),
        text(|out| table::layout(out, &plan, sheet(200))),
        text(|out| classic::check(out, &diagnosis, &notes, style)),
        text(|out| classic::info(out, &diagnosis, style)),
        text(|out| classic::layout(out, &plan, style)),
        text(|out| json::check(out, &diagnosis, &zones, &notes)),
        text(|out| json::info(out, &diagnosis)),
        text(|out| json::layout(out, &plan)),
        text(|out| json::done(out, ExitCode::Done, evil, &[])),
        text(|out| prometheus::check(out, &diagnosis)),
        text(|out| nagios::check(out, &diagnosis, Status::of(&diagnosis, Strictness::Lenient))),
        text(|out| nagios::error(out, ExitCode::Usage, evil)),
    ] {
        let bad = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{202e}';
        assert_eq!(shown.chars().find(bad), None, "{shown:?}");
        assert!(!shown.contains("\\u001b"), "{shown}");
    }
}

#[test]
fn colour_repeats_what_words_say() {
    let diagnosis = failed_master();
    let style = Style::Ansi;
    let width = 100;
    for (coloured, plain) in [
        (
            text(|out| table::check(out, &diagnosis, &[], Sheet { width, style })),
            text(|out| table::check(out, &diagnosis, &[], sheet(width))),
        ),
        (
            text(|out| classic::check(out, &diagnosis, &[], style)),
            text(|out| classic::check(out, &diagnosis, &[], Style::Plain)),
        ),
    ] {
        assert!(coloured.contains('\u{1b}'));
        assert!(!plain.contains('\u{1b}'));
        let mut bare = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            bare.push_str(before);
            rest = after.split_once('m').unwrap().1;
        }
        assert_eq!(bare + rest, plain);
    }
}

#[test]
fn the_streams_decide_what_auto_means() {
    let at = |stdout, stderr, colors| Surroundings {
        stdout,
        stderr,
        colors,
        width: 80,
    };
    let options = |output, color| UiOptions {
        output,
        color,
        ..UiOptions::default()
    };
    let auto = options(OutputArg::Auto, ColorArg::Auto);
    let (terminal, pipe) = (Stream::Terminal, Stream::Pipe);
    let (wanted, unwanted) = (Colors::Wanted, Colors::Unwanted);
    let described = |surroundings: Surroundings, options: UiOptions| {
        let format = surroundings.format(options);
        let look = surroundings.look(format, options.quiet);
        match format {
            Format::Table(sheet) => format!("table {:?} {look:?}", sheet.style),
            Format::Classic(style) => format!("classic {style:?} {look:?}"),
            other => format!("{other:?} {look:?}"),
        }
    };
    let always = options(OutputArg::Auto, ColorArg::Always);
    let never = options(OutputArg::Auto, ColorArg::Never);
    let table = options(OutputArg::Table, ColorArg::Auto);
    let json = options(OutputArg::Json, ColorArg::Always);
    let quiet = UiOptions {
        quiet: Verbosity::Quiet,
        ..auto
    };
    let old = UiOptions {
        mode: Mode::RedisCli,
        ..auto
    };
    for (surroundings, options, expected) in [
        (at(terminal, terminal, wanted), auto, "table Ansi Spinner"),
        (
            at(terminal, terminal, unwanted),
            auto,
            "table Plain Spinner",
        ),
        (at(terminal, pipe, wanted), auto, "table Ansi Lines"),
        (at(pipe, terminal, wanted), auto, "classic Plain Dots"),
        (at(pipe, pipe, unwanted), always, "classic Ansi Dots"),
        (at(terminal, terminal, wanted), never, "table Plain Spinner"),
        (at(pipe, pipe, wanted), table, "table Plain Lines"),
        (at(pipe, terminal, wanted), json, "Json Spinner"),
        (at(terminal, terminal, wanted), json, "Json Silent"),
        (at(terminal, terminal, wanted), quiet, "table Ansi Silent"),
        // redis-cli's lines, wherever they go.
        (at(terminal, terminal, wanted), old, "classic Ansi Dots"),
        (at(pipe, pipe, wanted), old, "classic Plain Dots"),
    ] {
        assert_eq!(
            described(surroundings, options),
            expected,
            "{surroundings:?}"
        );
    }
}
