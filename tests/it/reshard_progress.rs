//! How far a move has come, and what is left of it.

use serde_json::Value;

use crate::support::cluster::walkthrough;
use crate::support::keys::fill;
use crate::support::server::quick;
use crate::support::slots::{assert_closed, names};
use crate::support::subcommands::reshard;

#[test]
fn each_second_tells_what_is_left_of_each_pair_and_in_total() {
    let nodes = walkthrough(&quick());
    let slots = || (0..40).chain(6000..6040);
    fill(&nodes[..3], &names(slots(), 25));
    let go = |more: &[&str]| {
        reshard(&nodes[0])
            .args(["--slot-ranges", "0-39,6000-6039", "--yes"])
            .args(["--strategy", "keys", "--max-open-slots", "2"])
            .args(more)
    };
    let (there, back) = (nodes[3].id(), nodes[2].id());
    let ended = go(&["--to", &there, "--rate", "400", "-o", "json"])
        .run()
        .status(0);
    let events: Vec<Value> = ended.json_lines();
    let progress: Vec<&Value> = events
        .iter()
        .filter(|event| event["event"] == "lane-progress")
        .collect();
    // 2,000 keys take 5 s or longer.
    assert!(progress.len() >= 3, "{progress:#?}");
    let number = |event: &Value, name: &str| event["total"][name].as_u64().unwrap();
    for event in &progress {
        let pairs = event["pairs"].as_array().unwrap();
        assert!((1..=2).contains(&pairs.len()), "{event}");
        let whole = number(event, "keys_moved") + number(event, "keys_left");
        assert!((1_900..=2_100).contains(&whole), "{event}");
        assert_eq!(
            number(event, "slots_moved") + number(event, "slots_left"),
            80
        );
        assert!(number(event, "bytes_moved") + number(event, "bytes_left") > 100_000);
        for pair in pairs {
            assert!(
                pair["from"].is_string() && pair["to"] == there.as_str(),
                "{pair}"
            );
        }
    }
    let left: Vec<u64> = progress
        .iter()
        .map(|event| number(event, "keys_left"))
        .collect();
    assert!(left.is_sorted_by(|one, next| one >= next), "{left:?}");
    // A second in which the machine was busy with other things has fewer keys, and then the rest takes longer.
    let speed = |event: &Value| number(event, "keys_per_second");
    let is_on_time = |event: &Value| {
        let left = event["total"]["time_left_ms"].as_u64();
        speed(event) >= 200 && left.is_some_and(|left| (1_000..10_000).contains(&left))
    };
    let mut each = progress.iter();
    assert!(each.all(|event| speed(event) < 800), "{progress:#?}");
    let mut each = progress.iter();
    assert!(each.any(|event| is_on_time(event)), "{progress:#?}");

    // Where nobody sits at a terminal, in lines, the first after 10 s.
    let ended = go(&["--to", &back, "--rate", "150", "-o", "table"])
        .run()
        .status(0);
    for word in ["of 80 slots", "keys/s", " to go, ", " s left"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    assert_closed(&nodes);
}
