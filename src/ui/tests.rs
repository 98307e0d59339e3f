//! The output of every view, as snapshots and as rules.

use std::collections::BTreeMap;
use std::time::Duration;

use super::summary::Marked;
use super::table::Sheet;
use super::text::{TextFormat, call, data, failover, fix, place, replace, roll, verify};
use super::*;
use crate::cluster::health::Remedy;
use crate::cluster::health::{Diagnosis, Stability};
use crate::cluster::node::Addr;
use crate::cluster::node::Role;
use crate::cluster::observation::Seen;
use crate::cluster::text::is_unsafe;
use crate::event::{
    Amount, AmountProgress, MoveProgress, MoveState, MoveStats, Pair, Phase, Progress, Unit,
};
use crate::report::{
    Called, CheckView, How, InfoView, MovedView, Node, OkToStopDocument, RemedyOptions, ReplyView,
    TimeoutSet, TransferReport, WritePause,
};
use crate::resp::Resp;
use crate::ui::samples::*;
use crate::ui::streams::{Colors, Stream};

fn text(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut out = Vec::new();
    render(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn json_of(value: &impl Serialize) -> String {
    let shown = text(|out| json::write(out, value));
    assert_eq!(shown.lines().count(), 1);
    shown
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

/// The lines of `classic` in the native mode.
const NATIVE: Dialect = Dialect::of(Mode::Native);

#[test]
fn check_looks_like_this() {
    for (name, diagnosis) in clusters() {
        let zones = BTreeMap::from([(id("1977"), "eu-1a".to_string())]);
        let view = CheckView::of(&diagnosis, &zones, &[], &RemedyOptions::default());
        let shown = text(|out| table::check_brief(out, &view, sheet(80)));
        assert_snapshot(format!("brief_{name}"), shown);
        for width in [80, 100] {
            let shown = text(|out| table::check(out, &view, sheet(width)));
            assert_snapshot(format!("table_{width}_{name}"), shown);
        }
        let shown = text(|out| classic::check(out, &view, Style::Plain, NATIVE));
        assert_snapshot(format!("classic_{name}"), shown);
        assert_snapshot(format!("json_{name}"), pretty(&json_of(&view)));
        let shown = text(|out| prometheus::check(out, &view));
        assert_snapshot(format!("prometheus_{name}"), shown);
        let shown = text(|out| nagios::check(out, &view, Status::of(&view, Strictness::Lenient)));
        assert_eq!(shown.lines().count(), 1);
        assert_snapshot(format!("nagios_{name}"), shown);
    }
}

#[test]
fn info_looks_like_this() {
    let view = InfoView::of(&failed_master());
    let shown = text(|out| table::info(out, &view, sheet(80)));
    assert_snapshot("info_table".to_string(), shown);
    let shown = text(|out| classic::info(out, &view, Style::Plain));
    assert_snapshot("info_classic".to_string(), shown);
    assert_snapshot("info_json".to_string(), pretty(&json_of(&view)));
}

#[test]
fn a_plan_looks_like_this() {
    let plan = planned();
    let shown = text(|out| table::layout(out, &plan, sheet(80)));
    assert_snapshot("plan_table".to_string(), shown);
    let shown = text(|out| classic::layout(out, &plan, Style::Plain, NATIVE));
    assert_snapshot("plan_classic".to_string(), shown);
    assert_snapshot(
        "plan_json".to_string(),
        pretty(&json_of(&Line::Plan(&plan))),
    );
}

fn stats() -> MoveStats {
    MoveStats {
        keys: 100_000,
        bytes: 12 << 20,
        longest_call: Duration::from_micros(18_700),
        longest_open: Duration::from_millis(1_340),
        open_time: Duration::from_secs(819),
        closed: 1_638,
        longest_task: Duration::ZERO,
        longest_write_pause: Duration::ZERO,
    }
}

fn write_pauses() -> Vec<WritePause> {
    let view = samples::moves();
    let pauses = view.moves.iter().take(2).zip([12.0, 3.0]);
    let pauses = pauses.map(|(one, longest_write_pause_ms)| WritePause {
        from: one.from.clone(),
        to: one.to.clone(),
        longest_write_pause_ms,
    });
    pauses.collect()
}

#[test]
fn moves_look_like_this() {
    let view = samples::moves();
    for width in [80, 120] {
        let shown = text(|out| table::moves(out, &view, sheet(width)));
        assert_snapshot(format!("moves_table_{width}"), shown);
    }
    let shown = text(|out| classic::moves(out, &view));
    assert_snapshot("moves_classic".to_string(), shown);
    let shown = text(|out| classic::moves_by_pair(out, &view));
    assert_snapshot("moves_classic_by_pair".to_string(), shown);
    let shown = json_of(&Line::moves(&view));
    assert_snapshot("moves_json".to_string(), pretty(&shown));
    let balance = samples::balance();
    let shown = text(|out| table::balance(out, &balance, sheet(80)));
    assert_snapshot("balance_table".to_string(), shown);
    let shown = json_of(&Line::Balance(&balance));
    assert_snapshot("balance_json".to_string(), pretty(&shown));
    let took = Duration::from_millis(2_500);
    let by_key = MovedView::of(1638, &stats(), took, Vec::new());
    let shown = text(|out| table::moved(out, &by_key, sheet(100)));
    assert_snapshot("moved_table".to_string(), shown);
    assert_eq!(
        classic::moved(&by_key),
        "1,638 slots and 100,000 keys moved in 2.5 s (40,000 keys/s, 4.8 MiB/s); longest \
         call 18.7 ms, longest time a slot was open 1.3 s (mean 500.0 ms)."
    );
    let stats = MoveStats {
        longest_call: Duration::ZERO,
        longest_open: Duration::ZERO,
        longest_task: Duration::from_millis(180),
        longest_write_pause: Duration::from_millis(12),
        ..stats()
    };
    let atomic = MovedView::of(1638, &stats, took, write_pauses());
    let shown = text(|out| table::moved(out, &atomic, sheet(100)));
    assert_snapshot("moved_table_atomic".to_string(), shown);
    assert_snapshot(
        "moved_json_atomic".to_string(),
        pretty(&json_of(&Line::Moved(&atomic))),
    );
    let view = samples::moves();
    let pair = |n: usize| format!("{} to {}", view.moves[n].from.addr, view.moves[n].to.addr);
    let pauses = format!(
        "longest write pause 12.0 ms ({} 12.0 ms, {} 3.0 ms).",
        pair(0),
        pair(1)
    );
    let shown = classic::moved(&atomic);
    assert!(shown.ends_with(&pauses), "{shown}");
}

/// The views of the other commands in table, classic and JSON.
#[test]
fn other_views_look_like_this() {
    let eighty = TextFormat::Table(sheet(80));
    let classic = TextFormat::Classic(Style::Plain);
    let (join, leave) = (joining(), leaving());
    let (failing, replaced, fixed) = (samples::failover(), replace_plan(), fixing());
    let (set, transfer) = (timeouts(), transferred());
    let (rolling, placing) = (roll_plan(), place_plan());
    let took = Duration::from_millis(2_500);
    let views = [
        (
            "join_table",
            text(|out| table::joining(out, &join, sheet(120))),
        ),
        (
            "join_classic",
            text(|out| classic::joining(out, &join, NATIVE)),
        ),
        (
            "leave_table",
            text(|out| table::leaving(out, &leave, sheet(120))),
        ),
        (
            "leave_classic",
            text(|out| classic::leaving(out, &leave, NATIVE)),
        ),
        (
            "failover_table",
            text(|out| failover::plan(out, &failing, eighty)),
        ),
        ("failover_result", failover::result(&failed_over())),
        (
            "replace_classic",
            text(|out| replace::plan(out, &replaced, classic)),
        ),
        (
            "roll_classic",
            text(|out| roll::plan(out, &rolling, classic)),
        ),
        ("roll_table", text(|out| roll::plan(out, &rolling, eighty))),
        ("roll_restarted", roll::restarted(&restarted())),
        (
            "place_classic",
            text(|out| place::plan(out, &placing, classic)),
        ),
        (
            "place_table",
            text(|out| place::plan(out, &placing, eighty)),
        ),
        ("fix_text", text(|out| fix::plan(out, &fixed, eighty))),
        (
            "timeouts_table",
            text(|out| table::timeouts(out, &set, sheet(80))),
        ),
        ("timeouts_classic", text(classic::timeouts)),
        (
            "backup_planned_table",
            text(|out| table::backup(out, &backup(false), sheet(120))),
        ),
        (
            "backup_planned_classic",
            text(|out| classic::backup(out, &backup(false))),
        ),
        (
            "backup_done_table",
            text(|out| table::backup(out, &backup(true), sheet(120))),
        ),
        (
            "backup_done_classic",
            text(|out| classic::backup(out, &backup(true))),
        ),
        (
            "transfer_plan_text",
            text(|out| data::plan(out, &transfer_plan(), classic)),
        ),
        (
            "transfer_failures_text",
            text(|out| data::failures(out, &transfer, eighty)),
        ),
        ("transfer_summary", data::summary(&transfer, took)),
        (
            "verify_classic",
            text(|out| verify::found(out, &compared(), classic)),
        ),
        ("verify_summary", verify::summary(&compared())),
        (
            "transfer_table",
            text(|out| table::transferred(out, &transfer, sheet(80))),
        ),
    ];
    for (name, shown) in views {
        assert_snapshot(name.to_string(), shown);
    }
    let reply = Ok(Resp::Bytes(b"a\"b".to_vec()));
    let node = wide("1977", Role::Master);
    let called = Called {
        node: &node,
        reply: &reply,
    };
    let (planned, done) = (backup(false), backup(true));
    let lines = [
        json_of(&Line::Joining(&join)),
        json_of(&Line::Leaving(&leave)),
        json_of(&Line::Failover(&failing)),
        json_of(&Line::FailedOver(&failed_over())),
        json_of(&Line::Replacing(&replaced)),
        json_of(&Line::Roll(&rolling)),
        json_of(&Line::Restarted(restarted())),
        json_of(&Line::Place(&placing)),
        json_of(&Line::Remedies(&fixed)),
        json_of(&Line::Fixed(&fixed.remedies[0])),
        json_of(&Line::Timeouts(&set)),
        json_of(&Line::TimeoutSet {
            node: &node,
            result: &TimeoutSet::InForce("CONFIG REWRITE failed".to_string()),
        }),
        json_of(&Line::Reply(ReplyView::of(&called))),
        json_of(&Line::PlannedFile(&planned.shards[0])),
        json_of(&Line::File(&done.shards[0])),
        json_of(&Line::TransferPlan(&transfer_plan())),
        json_of(&Line::Report(TransferReport {
            view: &transfer,
            took,
        })),
        json_of(&OkToStopDocument::of(&not_ok_to_stop())),
    ];
    assert_snapshot("lines".to_string(), lines.concat());
}

/// Moves that have come some way.
fn far() -> Progress {
    Progress {
        slots: 1_200,
        slots_total: 5_461,
        keys: 30_000,
        keys_total: 100_000,
        bytes: 3 << 20,
        bytes_total: 10 << 20,
        keys_per_second: 26_000,
        bytes_per_second: 2 << 20,
        left: Some(Duration::from_secs(3)),
    }
}

#[test]
fn events_are_one_object_a_line() {
    let ui = Ui::new(UiOptions::default());
    ui.command("create");
    let (node, master) = (id("708f"), id("1977"));
    let slots = [planned().masters[0].slots].into_iter().collect();
    let phase = Phase::Join;
    let resume = ["redis-trib", "fix", "10.0.0.3:6379"].map(str::to_string);
    let events = [
        Event::Phase(phase),
        Event::Waiting {
            phase,
            ready: 4,
            total: 6,
        },
        Event::SlotsAdded {
            node: master,
            slots,
        },
        Event::Replicates {
            replica: node,
            master,
        },
        Event::MoveProgress(Box::new(MoveProgress {
            state: MoveState::Moving,
            pairs: vec![(
                Pair {
                    from: master,
                    to: node,
                },
                far(),
            )],
            total: Progress {
                left: None,
                ..far()
            },
        })),
        Event::Amount(Box::new(AmountProgress {
            phase: Phase::Copy,
            unit: Unit::Keys,
            sum: Amount {
                done: 1_200,
                total: Some(5_000),
                per_second: 400,
                left: Some(Duration::from_millis(9_500)),
            },
            parts: vec![
                (
                    "a.rdb".into(),
                    Amount {
                        done: 1_200,
                        total: None,
                        per_second: 400,
                        left: None,
                    },
                ),
                ("b.rdb".into(), Amount::default()),
            ],
        })),
    ];
    let mut shown = String::new();
    for event in &events {
        shown += &json_of(&ui.headed(Line::of(event).unwrap()));
    }
    shown += &json_of(&ui.headed(Line::Done {
        exit_code: ExitCode::Partial as u8,
        message: "two lines:\n  and \"quotes\"".to_string(),
        resume: &resume,
        resume_next: &[],
        waited_for: &[],
        waited_ms: None,
    }));
    assert_snapshot("events".to_string(), shown);
}

#[test]
fn a_document_begins_with_its_format() {
    let ui = Ui::new(UiOptions::default());
    ui.command("info");
    let error = ErrorDocument::of(ExitCode::Unreachable, "a: \"b\"".to_string());
    assert_eq!(
        json_of(&ui.headed(&error)),
        "{\"format\":\"redis-trib/info\",\"version\":1,\"error\":{\"code\":4,\"message\":\"a: \\\"b\\\"\"}}\n"
    );
}

#[test]
fn a_check_in_the_words_of_the_old_programs() {
    let of = |mode: Mode| {
        let dialect = Dialect::of(mode);
        text(|out| classic::check(out, &checked(&healthy()), Style::Plain, dialect))
    };
    let (redis_cli, valkey_cli) = (of(Mode::RedisCli), of(Mode::ValkeyCli));
    let ruby = of(Mode::RedisTribRb);
    assert!(redis_cli.contains("   slots:[0-"), "{redis_cli}");
    assert!(redis_cli.contains(" slaves."), "{redis_cli}");
    assert!(redis_cli.contains(" masters."), "{redis_cli}");
    assert!(valkey_cli.contains("   slots:[0-"), "{valkey_cli}");
    assert!(valkey_cli.contains(" replicas."), "{valkey_cli}");
    assert!(valkey_cli.contains(" primaries."), "{valkey_cli}");
    assert!(ruby.contains("   slots:0-"), "{ruby}");
    for shown in [redis_cli, valkey_cli, ruby] {
        assert_eq!(shown.matches("[OK]").count(), 3, "{shown}");
        assert!(!shown.contains("[WARNING]"), "{shown}");
    }
    // These programs leave out what has failed.
    let view = checked(&failed_master());
    let dialect = Dialect::of(Mode::RedisCli);
    let shown = text(|out| classic::check(out, &view, Style::Plain, dialect));
    assert!(!shown.contains(",fail"), "{shown}");
    assert!(shown.contains("[ERR]"), "{shown}");
}

/// One widely used operator counts the `[OK]` lines.
#[test]
fn a_healthy_check_says_ok_three_times() {
    let shown = text(|out| classic::check(out, &checked(&healthy()), Style::Plain, NATIVE));
    assert_eq!(shown.matches("[OK]").count(), 3, "{shown}");
    assert!(!shown.contains("[ERR]"), "{shown}");
}

#[test]
fn every_finding_is_in_every_text() {
    for (name, diagnosis) in clusters() {
        let view = checked(&diagnosis);
        let classic = text(|out| classic::check(out, &view, Style::Plain, NATIVE));
        let table = text(|out| table::check(out, &view, sheet(usize::MAX)));
        for finding in &view.findings {
            for shown in [&classic, &table] {
                let count = shown.matches(&finding.message).count();
                assert_eq!(count, 1, "{name}: {shown}");
            }
        }
    }
}

#[test]
fn tables_fit() {
    for width in [80, 60] {
        assert_snapshot(format!("widest_{width}"), widest(width));
    }
}

/// Every table, with the widest addresses that are not names.
fn widest(width: usize) -> String {
    let moved = MovedView::of(
        16_384,
        &MoveStats {
            keys: 123_456_789,
            longest_task: Duration::from_millis(999),
            longest_write_pause: Duration::from_millis(999),
            ..stats()
        },
        Duration::from_secs(99_999),
        write_pauses(),
    );
    let mut info = InfoView::of(&healthy());
    let wide_addr = wide("1977", Role::Master).addr;
    for master in &mut info.masters {
        master.addr = Some(wide_addr.clone());
        master.keys = Some(9_999_999);
    }
    let mut layout = planned();
    layout.warnings.clear();
    for shard in &mut layout.masters {
        shard.master.addr = wide_addr.clone();
        shard.master.zone = Some("a-zone-with-a-long-name".to_string());
        for replica in &mut shard.replicas {
            replica.addr = wide_addr.clone();
        }
    }
    let mut checks: Vec<(&str, CheckView)> = clusters()
        .into_iter()
        .map(|(name, diagnosis)| (name, checked(&diagnosis)))
        .collect();
    checks.push(("wide", wide_check()));
    let mut checks: Vec<(&str, String)> = checks
        .into_iter()
        .map(|(name, view)| (name, text(|out| table::check(out, &view, sheet(width)))))
        .collect();
    let tables = [
        (
            "brief",
            text(|out| table::check_brief(out, &wide_check(), sheet(width))),
        ),
        ("info", text(|out| table::info(out, &info, sheet(width)))),
        (
            "create",
            text(|out| table::layout(out, &layout, sheet(width))),
        ),
        (
            "moves",
            text(|out| table::moves(out, &samples::moves(), sheet(width))),
        ),
        (
            "wide moves",
            text(|out| table::moves(out, &wide_moves(), sheet(width))),
        ),
        (
            "balance",
            text(|out| table::balance(out, &wide_balance(), sheet(width))),
        ),
        ("moved", text(|out| table::moved(out, &moved, sheet(width)))),
        (
            "join",
            text(|out| table::joining(out, &wide_joining(), sheet(width))),
        ),
        (
            "leave",
            text(|out| table::leaving(out, &wide_leaving(), sheet(width))),
        ),
        (
            "timeouts",
            text(|out| table::timeouts(out, &timeouts(), sheet(width))),
        ),
        (
            "backup",
            text(|out| table::backup(out, &wide_backup(false), sheet(width))),
        ),
        (
            "backed up",
            text(|out| table::backup(out, &wide_backup(true), sheet(width))),
        ),
        (
            "transfer",
            text(|out| table::transferred(out, &transferred(), sheet(width))),
        ),
    ];
    checks.extend(tables);
    for (name, shown) in &checks {
        // A command is never broken: it is there to be copied.
        for line in shown.lines().filter(|line| !line.starts_with("  → ")) {
            assert!(line.chars().count() <= width, "{name} at {width}: {shown}");
        }
    }
    checks
        .iter()
        .map(|(name, shown)| format!("=== {name}\n{shown}"))
        .collect()
}

#[test]
fn a_thousand_nodes_are_a_thousand_lines() {
    let view = checked(&large(1000));
    let began = std::time::Instant::now();
    let shown = text(|out| table::check(out, &view, sheet(100)));
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
    let evil = "x\u{1b}]0;owned\u{7}\r\n\u{9b}2J\u{202e}\u{2028}\u{2029}\u{feff}\u{2066}y";
    let mut sample = Sample::new(HEALTHY);
    sample.node(id("69a0")).seen = Seen::Silent(evil.to_string());
    sample.node(id("1977")).hostname = Some(evil.into());
    let mut diagnosis = sample.judged(Stability::Unknown);
    diagnosis.findings[0].remedy = Some(Remedy::ForceFailover {
        seed: Addr::new(evil, 6379),
        master: id("1977"),
    });
    let zones = BTreeMap::from([(id("1977"), evil.to_string())]);
    let view = CheckView::of(
        &diagnosis,
        &zones,
        &[evil.to_string()],
        &RemedyOptions::default(),
    );
    let info = InfoView::of(&diagnosis);
    let mut plan = planned();
    plan.warnings.push(evil.to_string());
    plan.masters[0].master.zone = Some(evil.to_string());
    let mut moves = samples::moves();
    moves.moves[0].how = How::Keys(evil.to_string());
    let mut fixed = fixing();
    fixed.refused[0].text = evil.to_string();
    let mut transfer = transferred();
    transfer.failed[0].examples[0].why = evil.to_string();
    let reply = Ok(Resp::Error(evil.to_string()));
    let node = Node {
        zone: Some(evil.to_string()),
        ..wide("1977", Role::Master)
    };
    let called = Called {
        node: &node,
        reply: &reply,
    };
    let style = Style::Plain;
    let status = Status::of(&view, Strictness::Lenient);
    let marked = Marked::new(summary::Mark::Warning, evil);
    for shown in [
        text(|out| table::check(out, &view, sheet(200))),
        text(|out| table::info(out, &info, sheet(200))),
        text(|out| table::layout(out, &plan, sheet(200))),
        text(|out| table::moves(out, &moves, sheet(200))),
        text(|out| classic::check(out, &view, style, NATIVE)),
        text(|out| classic::info(out, &info, style)),
        text(|out| classic::layout(out, &plan, style, NATIVE)),
        text(|out| classic::moves(out, &moves)),
        text(|out| fix::plan(out, &fixed, TextFormat::Table(sheet(200)))),
        text(|out| data::failures(out, &transfer, TextFormat::Table(sheet(200)))),
        text(|out| call::block(out, &called, style)),
        text(|out| marked.write(out, style)),
        json_of(&view),
        json_of(&info),
        json_of(&Line::Plan(&plan)),
        json_of(&Line::Remedies(&fixed)),
        json_of(&Line::Done {
            exit_code: 0,
            message: evil.to_string(),
            resume: &[],
            resume_next: &[],
            waited_for: &[],
            waited_ms: None,
        }),
        text(|out| prometheus::check(out, &view)),
        text(|out| nagios::check(out, &view, status)),
        text(|out| nagios::error(out, ExitCode::Usage, evil)),
    ] {
        let bad = |c: &char| is_unsafe(*c) && *c != '\n';
        assert_eq!(shown.chars().find(bad), None, "{shown:?}");
        assert!(!shown.contains("\\u001b"), "{shown}");
    }
}

#[test]
fn colour_repeats_what_words_say() {
    let view = checked(&failed_master());
    let style = Style::Ansi;
    let width = 100;
    for (coloured, plain) in [
        (
            text(|out| table::check(out, &view, Sheet { width, style })),
            text(|out| table::check(out, &view, sheet(width))),
        ),
        (
            text(|out| classic::check(out, &view, style, NATIVE)),
            text(|out| classic::check(out, &view, Style::Plain, NATIVE)),
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
fn the_streams_decide_about_colours_and_progress() {
    let at = |stdout, stderr, colors| Surroundings {
        stdout,
        stderr,
        colors,
        width: 80,
        stderr_width: None,
    };
    let options = |output, color| UiOptions {
        output,
        color,
        ..UiOptions::default()
    };
    let auto = options(OutputFormat::Auto, ColorChoice::Auto);
    let (terminal, pipe) = (Stream::Terminal, Stream::Pipe);
    let (wanted, unwanted) = (Colors::Wanted, Colors::Unwanted);
    let described = |surroundings: Surroundings, options: UiOptions| {
        let format = surroundings.format(options);
        let look = surroundings.look(format, options.verbosity);
        match format {
            Format::Table(sheet) => format!("table {:?} {look:?}", sheet.style),
            Format::Classic(style) => format!("classic {style:?} {look:?}"),
            other => format!("{other:?} {look:?}"),
        }
    };
    let always = options(OutputFormat::Auto, ColorChoice::Always);
    let never = options(OutputFormat::Auto, ColorChoice::Never);
    let table = options(OutputFormat::Table, ColorChoice::Auto);
    let json = options(OutputFormat::Json, ColorChoice::Always);
    let quiet = UiOptions {
        verbosity: Verbosity::Quiet,
        ..auto
    };
    let logged = UiOptions {
        verbosity: Verbosity::Logged,
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
        (at(pipe, terminal, wanted), auto, "table Plain Spinner"),
        (at(pipe, pipe, unwanted), always, "table Ansi Lines"),
        (at(terminal, terminal, wanted), never, "table Plain Spinner"),
        (at(pipe, pipe, wanted), table, "table Plain Lines"),
        (at(pipe, terminal, wanted), json, "Json Spinner"),
        (at(terminal, terminal, wanted), json, "Json Silent"),
        (at(terminal, terminal, wanted), quiet, "table Ansi Silent"),
        (at(terminal, terminal, wanted), logged, "table Ansi Lines"),
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
