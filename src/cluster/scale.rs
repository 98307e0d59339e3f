//! The cost of a thousand views of a thousand lines. Run by hand, in release:
//!
//! ```text
//! cargo test --release --lib cluster::scale -- --ignored --nocapture --test-threads 1
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use super::health::{Background, Diagnosis};
use super::node::NodeId;
use super::observation::{Observation, ObservedNode, Report, Seen};
use super::parse::{ClusterInfo, EntryPool, Info};

const NODES: usize = 1000;

/// The view of node `me`: half of the nodes are masters; the order of the lines and the times differ
/// from view to view.
fn said_by(me: usize, slots: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(NODES * 160);
    for n in 0..NODES {
        // 7 and 1000 have no common divisor.
        let n = (n * 7 + me) % NODES;
        let (a, b) = (n / 250, n % 250);
        let myself = if n == me { "myself," } else { "" };
        let name = format!("redis-{n}.redis.default.svc.cluster.local");
        let master = n / 2 * 2;
        let role = if n.is_multiple_of(2) {
            format!("{myself}master -")
        } else {
            format!("{myself}slave {}", id(master))
        };
        let (pong, epoch) = (1_795_374_380_000 + (n * 31 + me) as u64, master + 1);
        let _ = write!(
            text,
            "{} 10.0.{a}.{b}:6379@16379,{name} {role} 0 {pong} {epoch} connected",
            id(n)
        );
        if n.is_multiple_of(2) {
            let _ = write!(text, " {}", slots(n / 2));
        }
        text.push('\n');
    }
    text
}

fn id(n: usize) -> String {
    format!(
        "{:040x}",
        (n as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    )
}

/// The range of the n-th of 500 masters.
fn range(n: usize) -> String {
    format!("{}-{}", n * 16384 / 500, (n + 1) * 16384 / 500 - 1)
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() / 1024
}

/// Measures a cluster in which `answers` tells which nodes answer, and `view` gives their views.
fn measure(what: &str, answers: impl Fn(usize) -> bool, view: impl Fn(usize) -> String) {
    let info = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/info/redis-8.6.six-master.txt"
    ));
    let info = info.unwrap();
    let mut pool = EntryPool::default();
    let mut nodes: BTreeMap<NodeId, ObservedNode> = BTreeMap::new();
    let (mut bytes, mut parsing, mut reading_info) = (0, Duration::ZERO, Duration::ZERO);
    for n in 0..NODES {
        let id: NodeId = id(n).parse().unwrap();
        let seen = if answers(n) {
            let text = view(n);
            bytes += text.len();
            let start = Instant::now();
            let view = pool.view(&text).unwrap();
            parsing += start.elapsed();
            let start = Instant::now();
            let info = Info::parse(&info);
            reading_info += start.elapsed();
            let cluster = ClusterInfo {
                ok: true,
                known_nodes: NODES,
                current_epoch: NODES as u64,
                ..ClusterInfo::default()
            };
            Seen::Report(Box::new(Report {
                view,
                cluster,
                info,
                refuses: None,
                saves: Some(true),
                open_keys: BTreeMap::new(),
                keys_of_shard: None,
                links: BTreeMap::new(),
                tasks: Vec::new(),
            }))
        } else {
            Seen::Silent("connection refused".to_string())
        };
        let node = ObservedNode {
            id,
            dial: None,
            peer: None,
            hostname: None,
            seen,
        };
        nodes.insert(id, node);
    }
    let observation = Observation {
        lead: id(0).parse().unwrap(),
        nodes,
        bystanders: Vec::new(),
        identities: Default::default(),
    };
    let start = Instant::now();
    let diagnosis = Diagnosis::of(observation, &Background::default());
    let judging = start.elapsed();
    let report = format!(
        "{what}: {} MB of views parsed in {parsing:.0?}, INFO in {reading_info:.0?}, judged in {judging:.0?} \
         ({} findings, {} opinions), peak so far {} MB\n",
        bytes / 1_000_000,
        diagnosis.findings.len(),
        diagnosis.topology.opinions.len(),
        peak_megabytes(),
    );
    std::io::stderr().write_all(report.as_bytes()).unwrap();
}

#[test]
#[ignore = "measures, in release"]
fn a_thousand_views_of_a_thousand_lines() {
    measure("all agree", |_| true, |me| said_by(me, range));
    measure("half silent", |n| n % 4 > 1, |me| said_by(me, range));
    let half_dead = |me| said_by(me, range).replace(" master - ", " master,fail - ");
    measure("half dead", |n| n % 2 == 1, half_dead);
    // Every node sees the owners of two other ranges exchanged.
    let apart = |me: usize| {
        said_by(me, |n| match n {
            n if n == me % 500 => range(me * 3 % 500),
            n if n == me * 3 % 500 => range(me % 500),
            n => range(n),
        })
    };
    measure("none agree", |_| true, apart);
}
