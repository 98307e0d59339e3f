//! Times to live are those of the servers: wrong clocks of a server or of the machine that copies change nothing.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::support::cluster::{Nodes, three};
use crate::support::command::Trib;
use crate::support::dataset;
use crate::support::server::{Server, Spec, quick, versions};

/// A library that makes the clock of a program go wrong by `TRIB_TEST_SKEW` seconds.
const SKEW: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long skew(void) {
    const char *skew = getenv("TRIB_TEST_SKEW");
    return skew ? atol(skew) : 0;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (result == 0 && id == CLOCK_REALTIME) now->tv_sec += skew();
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (result == 0) now->tv_sec += skew();
    return result;
}
"#;

fn skewed_clock() -> (TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let (source, library) = (home.path().join("skew.c"), home.path().join("skew.so"));
    fs::write(&source, SKEW).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(built.unwrap().success());
    (home, library)
}

#[test]
fn a_wrong_clock_of_this_machine_does_not_matter_in_the_matrix() {
    let (_home, library) = skewed_clock();
    for version in versions() {
        let source = Spec::new().plain().version(version).start();
        for n in 0..50 {
            source.cmd(&["SET", &format!("key:{n}"), "value", "EX", "1000"]);
        }
        source.cmd(&["SAVE"]);
        let file = source.dir().join("dump.rdb").to_str().unwrap().to_string();
        for skew in ["7200", "-7200"] {
            for from in [source.addr(), file.clone()] {
                let nodes = three(&Spec::new().quick().version(version));
                let node = nodes[0].addr();
                let run = |line: &[&str]| {
                    Trib::new()
                        .args(line.iter().copied())
                        .args(["--from", &from, &node])
                        .env("LD_PRELOAD", library.to_str().unwrap())
                        .env("TRIB_TEST_SKEW", skew)
                        .run()
                        .status(0)
                };
                run(&["import", "--yes", "--verify"])
                    .stdout_has("[OK] 50 keys copied")
                    .stdout_has("50 keys the same");
                // They are there already, with the same time to live.
                run(&["import", "--yes"]).stdout_has("50 were there already, the same");
                run(&["verify"]).stdout_has("50 keys the same");
                let left = dataset::send(&nodes, &[b"TTL", b"key:1"]);
                let redis::Value::Int(left) = left else {
                    panic!("{left:?}");
                };
                assert!(
                    (900..=1000).contains(&left),
                    "{version} {skew} {from}: {left}"
                );
            }
        }
    }
}

/// The seconds that a key has left.
fn ttl(nodes: &Nodes, key: &str) -> i64 {
    match dataset::send(nodes, &[b"TTL", key.as_bytes()]) {
        redis::Value::Int(left) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_clock_of_a_source_or_of_the_cluster_does_not_matter_in_the_matrix() {
    let (_home, library) = skewed_clock();
    let preload = format!("LD_PRELOAD={}", library.display());
    let wrong = |spec: Spec, skew: &str| {
        let skew = format!("TRIB_TEST_SKEW={skew}");
        spec.through(&["env", &preload, &skew])
    };
    let users = [
        ("all", "~* +@all"),
        // It may not read the clock.
        ("timeless", "~* +@all -time"),
    ];
    for version in versions() {
        let plain = || {
            let spec = Spec::new().plain().version(version);
            users
                .iter()
                .fold(spec, |spec, (name, rules)| spec.user(name, "p", rules))
        };
        let quick = || Spec::new().quick().version(version);
        let fill = |source: &Server| {
            source.cmd(&["SET", "short", "value", "EX", "600"]);
            source.cmd(&["SET", "long", "value", "EX", "6000"]);
            source.cmd(&["SET", "forever", "value"]);
        };
        let checked = |source: &Server, nodes: &Nodes, user: &str, case: &str| {
            let (from, node) = (source.addr(), nodes[0].addr());
            let run = |line: &[&str]| {
                let login = ["--from-user", user, "--from-pass", "p"];
                let trib = Trib::new().args(line.iter().copied());
                trib.args(["--from", &from, &node]).args(login).run()
            };
            fill(source);
            run(&["import", "--yes", "--verify"])
                .status(0)
                .stdout_has("[OK] 3 keys copied")
                .stdout_has("3 keys the same");
            run(&["import", "--yes"])
                .status(0)
                .stdout_has("3 were there already, the same");
            run(&["import", "--yes", "--move", "--replace"])
                .status(0)
                .stdout_has("[OK] 3 keys moved");
            let left = ["short", "long", "forever"].map(|key| ttl(nodes, key));
            assert!((540..=600).contains(&left[0]), "{case}: {left:?}");
            assert!((5_940..=6_000).contains(&left[1]), "{case}: {left:?}");
            assert_eq!(left[2], -1, "{case}");
        };
        for skew in ["-3600", "3600"] {
            let source = wrong(plain(), skew).start();
            for (user, _) in users {
                let case = format!("{version}, source {skew}, {user}");
                checked(&source, &three(&quick()), user, &case);
            }
            let cluster = three(&wrong(quick(), skew));
            let case = format!("{version}, cluster {skew}");
            checked(&plain().start(), &cluster, "all", &case);
        }
    }
}

#[test]
fn a_wrong_clock_of_a_source_cluster_does_not_matter() {
    let (_home, library) = skewed_clock();
    let preload = format!("LD_PRELOAD={}", library.display());
    let source = three(&quick().through(&["env", &preload, "TRIB_TEST_SKEW=-3600"]));
    let nodes = three(&quick());
    for n in 0..30 {
        let key = format!("key:{n}");
        dataset::send(&source, &[b"SET", key.as_bytes(), b"value", b"EX", b"600"]);
    }
    let (from, node) = (source[0].addr(), nodes[0].addr());
    let line = ["import", "--from", &from, &node, "--yes", "--move"];
    Trib::new()
        .args(line)
        .run()
        .status(0)
        .stdout_has("[OK] 30 keys moved");
    let left = ttl(&nodes, "key:7");
    assert!((540..=600).contains(&left), "{left}");
}
