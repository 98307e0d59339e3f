//! `check` on a thousand nodes, which answer on the wire only. Limits are loose: `make bench` measures.

use std::time::Duration;

use crate::support::command::Trib;
use crate::support::scripted::fake_cluster;

/// The most memory that a process has had, from its own file in /proc when it ends.
const PEAK: &str = r#"
"$@" > "$HOME/out" &
pid=$!
peak=0
while kill -0 $pid 2>/dev/null; do
    now=$(awk '/VmHWM/ { print $2 }' /proc/$pid/status 2>/dev/null)
    if [ -n "$now" ]; then peak=$now; fi
    sleep 0.01
done
wait $pid
echo "status $?, $(grep -c '^[MS]: ' "$HOME/out") nodes, $((peak / 1024)) MiB"
tail -n 4 "$HOME/out"
"#;

#[test]
fn a_thousand_nodes() {
    let cluster = fake_cluster(500, 500);
    let addr = cluster.nodes[0].addr();
    let trib = env!("CARGO_BIN_EXE_redis-trib");
    let finished = Trib::new()
        .program("sh")
        .args([
            "-c", PEAK, "sh", trib, "check", &addr, "--output", "classic",
        ])
        // The limit that a login has by default.
        .descriptors(1024)
        // A build without optimization takes half a minute beside other tests.
        .timeout(Duration::from_secs(180))
        .run()
        .status(0)
        .stdout_has("status 0, 1000 nodes, ")
        .stdout_has("[OK] All 16384 slots covered.");
    let peak = finished.stdout.split(" nodes, ").nth(1).unwrap();
    let peak: u64 = peak.split(' ').next().unwrap().parse().unwrap();
    assert!((1..300).contains(&peak), "{peak} MiB");

    // Fewer descriptors than nodes, and no way to get more: they are looked at in turn.
    Trib::new()
        .program("sh")
        .args([
            "-c",
            "ulimit -Hn 100; exec \"$@\"",
            "sh",
            trib,
            "check",
            &addr,
            "--connections",
            "30",
        ])
        .timeout(Duration::from_secs(180))
        .run()
        .status(0);
}
