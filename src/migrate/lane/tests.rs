//! A lane that panics, between nodes that answer from a script.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::client::{Connector, Login, Transport};
use crate::cluster::node::Addr;
use crate::connections::{DialOptions, Target};
use crate::migrate::{AfterFailure, Lag, OnConflict};

const SOURCE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const TARGET: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

/// A node that answers each command with its CLUSTER NODES text.
async fn node(nodes: String) -> Addr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = format!("${}\r\n{nodes}\r\n", nodes.len());
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    Addr::new("127.0.0.1", port)
}

/// An address at which nothing listens.
async fn nowhere() -> Addr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    Addr::new("127.0.0.1", listener.local_addr().unwrap().port())
}

fn end(id: &str, addr: Addr) -> End {
    End {
        id: id.parse().unwrap(),
        target: Target {
            addr: addr.clone(),
            node: None,
            access: Arc::new(DialOptions {
                login: Login::default(),
                transport: Transport::Plain,
            }),
        },
        peer: addr,
        other_peers: Vec::new(),
        peers_of_sources: BTreeMap::new(),
        login: Login::default(),
    }
}

fn lane(source: Addr, target: Addr) -> Lane {
    let connector = Connector {
        connect_timeout: Duration::from_secs(2),
        command_timeout: Duration::from_secs(2),
        name: None,
        journal: None,
        sent: Default::default(),
    };
    let options = MoveOptions {
        timeout: Duration::from_secs(1),
        pipeline: None,
        max_stall: Duration::from_millis(20),
        max_open_slots: 4,
        per_target: 1,
        settings: Default::default(),
        control_file: None,
        on_conflict: OnConflict::Abort,
        conflict_flag: "",
        big_key: 1 << 20,
        on_big_key: OnBigKey::Refuse,
        node_timeout: Duration::from_secs(1),
        max_replica_lag: Lag::Bytes(1 << 20),
        after_failure: AfterFailure::Stop,
        stop_deadline: Duration::from_secs(1),
        task_deadline: None,
        by_key_if_denied: false,
    };
    let (events, _) = mpsc::unbounded_channel();
    let regulator = Regulator::new(
        Default::default(),
        &BTreeMap::new(),
        events.clone(),
        CancellationToken::new(),
    );
    Lane::new(
        end(SOURCE, source),
        end(TARGET, target),
        Arc::new(Connections::new(connector, Vec::new(), 4)),
        Arc::new(options),
        Arc::new(regulator),
        events,
        StopSignal::default(),
    )
}

fn slot(number: usize) -> Slot {
    Slot::all().nth(number).unwrap()
}

fn slots(numbers: std::ops::RangeInclusive<usize>) -> SlotSet {
    numbers.map(slot).collect()
}

/// A lane that panics with slots 2 to 5 in hand.
async fn panics(mut lane: Lane) -> Report {
    let done = catch_panic(async {
        lane.moved.insert(slot(0));
        for number in 2..=5 {
            let begun = (SlotProgress::Migrating, Instant::now());
            lane.begun.insert(slot(number), begun);
        }
        tokio::task::yield_now().await;
        panic!("slot {} has no batch", 3);
    });
    let message = done.await.unwrap_err();
    lane.report(slots(0..=9), Some(LaneError::Panicked(message)))
        .await
}

#[tokio::test]
async fn both_ends_are_asked_for_the_open_slots_of_a_lane_that_panicked() {
    let line = |id: &str, flags: &str, slots: String| {
        format!("{id} 127.0.0.1:7000@17000 {flags} - 0 0 1 connected {slots}\n")
    };
    // Slot 2 has moved, 3 is known to the target only, 4 to both, and 5 was never open.
    let source = line(SOURCE, "myself,master", format!("0-1 3-9 [4->-{TARGET}]"))
        + &line(TARGET, "master", "2".to_string());
    let target = line(
        TARGET,
        "myself,master",
        format!("2 [3-<-{SOURCE}] [4-<-{SOURCE}]"),
    ) + &line(SOURCE, "master", "0-1 3-9".to_string());
    let report = panics(lane(node(source).await, node(target).await)).await;
    let why = report.failure.unwrap();
    assert!(why.contains("slot 3 has no batch"), "{why}");
    let open = [
        (slot(3), SlotProgress::Importing),
        (slot(4), SlotProgress::Migrating),
    ];
    assert_eq!(report.open, BTreeMap::from(open));
    assert_eq!(report.moved, [0, 2].into_iter().map(slot).collect());
    assert_eq!(
        report.left,
        [1].into_iter().chain(5..=9).map(slot).collect()
    );
    assert!(report.touched);
}

#[tokio::test]
async fn slots_of_a_lane_that_panicked_are_unknown_where_an_end_does_not_answer() {
    let report = panics(lane(nowhere().await, nowhere().await)).await;
    let unknown = (2..=5).map(|number| (slot(number), SlotProgress::Unknown));
    assert_eq!(report.open, unknown.collect());
    assert_eq!(report.moved, slots(0..=0));
}
