use std::ffi::{OsStr, OsString};

use proptest::prelude::*;

use super::{Command, CompatError, Consent, ExitCode, Mode, ParsedLine, read};

fn words(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

/// The native line, without the words that all lines of redis-cli start with.
#[track_caller]
fn native_line(line: &str, consent: Consent) -> String {
    match read(&words(line), consent) {
        Ok(ParsedLine::Command { words, .. }) => {
            let words: Vec<String> = words
                .into_iter()
                .map(|word| word.into_string().unwrap())
                .collect();
            words.join(" ").replacen(" --tls-verify chain", "", 1)
        }
        other => panic!("{line}: {other:?}"),
    }
}

#[track_caller]
fn assert_redis_cli(theirs: &str, expected: &str) {
    let line = format!("redis-trib {theirs}");
    assert_eq!(
        native_line(&line, Consent::Open),
        format!("redis-trib {expected}"),
        "{theirs}"
    );
}

#[track_caller]
fn assert_redis_trib_rb(theirs: &str, expected: &str) {
    let line = format!("/usr/bin/redis-trib.rb {theirs}");
    let expected = format!("/usr/bin/redis-trib.rb {expected}");
    assert_eq!(native_line(&line, Consent::Open), expected, "{theirs}");
}

#[track_caller]
fn wrong(line: &str) -> String {
    match read(&words(line), Consent::Open) {
        Err(wrong) => wrong.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_line_alone_selects_the_mode() {
    let mode = |line: &str| match read(&words(line), Consent::Open) {
        Ok(ParsedLine::Command { mode, .. }) => mode,
        other => panic!("{line}: {other:?}"),
    };
    for native in [
        "redis-trib",
        "redis-trib check h:1",
        "redis-trib create a b c --replicas 1",
        // Words for the servers are not options.
        "redis-trib call h:1 SET --cluster x",
        "redis-trib -a --cluster check h:1",
        "./redis-trib.sh check h:1",
    ] {
        assert_eq!(mode(native), Mode::Native, "{native}");
        assert_eq!(native_line(native, Consent::Open), native);
    }
    for redis_cli in [
        "redis-trib --cluster check h:1",
        "redis-trib -a secret --cluster check h:1",
        "redis-trib --cluster-replicas 1 --cluster create a:1 b:1 c:1",
        "redis-trib.rb --cluster check h:1",
        "redis-trib --cluster call h:1 ping",
    ] {
        assert_eq!(mode(redis_cli), Mode::RedisCli, "{redis_cli}");
    }
    for ruby in ["redis-trib.rb check h:1", "/opt/redis-trib.rb fix h:1"] {
        assert_eq!(mode(ruby), Mode::RedisTribRb, "{ruby}");
    }
}

#[test]
fn lines_of_redis_cli() {
    for (theirs, expected) in [
        (
            "--cluster create a:1 b:2 c:3 --cluster-replicas 1 --cluster-yes",
            "create --replicas 1 --yes a:1 b:2 c:3",
        ),
        (
            "--cluster-yes --cluster-replicas 1 --cluster create a:1 b:2 c:3",
            "create --yes --replicas 1 a:1 b:2 c:3",
        ),
        // redis-cli refuses this line.
        (
            "--cluster create --cluster-replicas 0 a:1 b:2 c:3",
            "create --replicas 0 a:1 b:2 c:3",
        ),
        ("--cluster check h:1", "check h:1"),
        ("--cluster CHECK h:1", "check h:1"),
        ("--cluster check h 7000", "check h 7000"),
        (
            "--cluster check h:1 --cluster-search-multiple-owners --cluster-yes",
            "check h:1",
        ),
        ("--cluster info h:1 --verbose", "info h:1"),
        (
            "--cluster fix h:1 --cluster-fix-with-unreachable-masters --cluster-timeout 500",
            "fix --timeout 500ms --yes h:1",
        ),
        (
            "--cluster reshard h:1 --cluster-from all --cluster-to 8f --cluster-slots 100 \
             --cluster-yes --cluster-timeout 60000 --cluster-pipeline 10 --cluster-replace",
            "reshard --from all --to 8f --slots 100 --yes --timeout 60000ms --pipeline 10 --replace --task-deadline 60000ms h:1",
        ),
        (
            "--cluster reshard h:1 --cluster-use-atomic-slot-migration",
            "reshard --strategy=atomic h:1",
        ),
        (
            "--cluster rebalance h:1 --cluster-weight 8f=2 9a=0 --cluster-use-empty-masters \
             --cluster-simulate --cluster-threshold 1.5",
            "rebalance --weight 8f=2 --weight 9a=0 --use-empty-masters --dry-run --threshold 1.5 \
             --yes h:1",
        ),
        (
            "--cluster rebalance --cluster-weight 8f=2 --cluster-use-empty-primaries h 7000",
            "rebalance --weight 8f=2 --use-empty-masters --yes h 7000",
        ),
        ("--cluster add-node n:1 h:1", "add-node --yes n:1 h:1"),
        (
            "--cluster add-node n:1 h:1 --cluster-slave --cluster-master-id 8f",
            "add-node --replica --master-id 8f --yes n:1 h:1",
        ),
        (
            "--cluster add-node n:1 h:1 --cluster-replica --cluster-primary-id 8f",
            "add-node --replica --master-id 8f --yes n:1 h:1",
        ),
        // Without --cluster-slave the master is ignored.
        (
            "--cluster add-node n:1 h:1 --cluster-master-id 8f",
            "add-node --yes n:1 h:1",
        ),
        (
            "--cluster add-node n:1 h:1 --replica --cluster-primary-id 8f",
            "add-node --master-id 8f --yes n:1 h:1 --replica",
        ),
        (
            "--cluster del-node h:1 8fab",
            "del-node --yes --leave-all-unprotected h:1 8fab",
        ),
        (
            "--cluster call h:1 config set maxmemory 1 --cluster-only-masters",
            "call --only-masters --allow-dangerous h:1 config set maxmemory 1",
        ),
        (
            "--cluster call h:1 incrby n -1 --cluster-only-replicas -a pw",
            "call --only-replicas --pass pw --allow-dangerous h:1 incrby n -1",
        ),
        (
            "--cluster call --cluster-only-primaries h:1 ping",
            "call --only-masters --allow-dangerous h:1 ping",
        ),
        (
            "--cluster set-timeout h:1 15000",
            "set-timeout --yes h:1 15000ms",
        ),
        (
            "--cluster import h:1 --cluster-from s:2",
            "import --from s:2 --yes --move --on-conflict=abort h:1",
        ),
        (
            "--cluster import h:1 --cluster-from s:2 --cluster-copy --cluster-replace \
             --cluster-from-user u --cluster-from-pass p --cluster-from-askpass",
            "import --from s:2 --replace --from-user u --from-pass p --from-askpass --yes h:1",
        ),
        ("--cluster backup h:1 /tmp/d", "backup h:1 /tmp/d"),
        // Options of other commands are ignored, as there.
        (
            "--cluster info h:1 --cluster-slots 5 --cluster-weight a=1",
            "info h:1",
        ),
        // Native options are passed on.
        (
            "--cluster reshard h:1 --finish-open --rate 5000 -o json",
            "reshard h:1 --finish-open --rate 5000 -o json",
        ),
    ] {
        assert_redis_cli(theirs, expected);
    }
}

#[test]
fn logins_and_addresses() {
    for (theirs, expected) in [
        (
            "-a pw --no-auth-warning --user u --cluster check h:1",
            "check --pass pw --user u h:1",
        ),
        (
            "--cluster check h:1 --askpass --pass pw",
            "check --askpass --pass pw h:1",
        ),
        ("-h 10.0.0.3 -p 7000 --cluster check", "check 10.0.0.3:7000"),
        ("--cluster check -h ::1 -p 7000", "check [::1]:7000"),
        ("--cluster check -p 7000", "check 127.0.0.1:7000"),
        ("--cluster check -h h", "check h:6379"),
        // The node that the command names counts.
        ("-h x -p 7000 --cluster check h:1", "check h:1"),
        ("-h x --cluster check h 7000", "check h 7000"),
        (
            "-h h -p 1 --cluster del-node 8fab",
            "del-node --yes --leave-all-unprotected h:1 8fab",
        ),
        (
            "-h h -p 1 --cluster call get k",
            "call --allow-dangerous h:1 get k",
        ),
        (
            "-h h -p 1 --cluster set-timeout 500",
            "set-timeout --yes h:1 500ms",
        ),
        ("-h x --cluster create a:1 b:2", "create a:1 b:2"),
        (
            "-u redis://u:p@h:7 --cluster check",
            "check --user u --pass p h:7",
        ),
        (
            "-u redis://:p@x:7 --cluster check h:1",
            "check --pass p h:1",
        ),
        (
            "-u rediss://x:7 --cacert ca --cluster check h:1",
            "check --tls --cacert ca h:1",
        ),
        (
            "-u valkeys://u:p@h:7/3 --cacert ca --cluster check",
            "check --tls --cacert ca --user u --pass p h:7",
        ),
        (
            "-t 0 --mptcp --cluster check h:1",
            "check --connect-timeout 5s h:1",
        ),
        (
            "-x --cluster call h:1 function load",
            "call --stdin --allow-dangerous h:1 function load",
        ),
        (
            "-X tag --cluster call h:1 set tag x",
            "call --stdin-for tag --allow-dangerous h:1 set tag x",
        ),
        ("-x --cluster check h:1", "check h:1"),
        (
            "--cluster check h:1 --tls --cacert a --cacertdir b --cert c --key d --sni e --insecure",
            "check --tls --cacert a --cacertdir b --cert c --key d --sni e --insecure h:1",
        ),
        // Without --tls redis-cli ignores the other TLS options.
        ("--cacert a --insecure --cluster check h:1", "check h:1"),
        ("-4 --cluster check h:1", "check --ipv4 h:1"),
        ("--cluster check h:1 -6", "check --ipv6 h:1"),
        (
            "-t 2.5 --cluster check h:1",
            "check --connect-timeout 2500ms h:1",
        ),
        ("-n 0 -c --raw -3 --cluster check h:1", "check h:1"),
        // The address format of CLUSTER NODES.
        ("--cluster check 10.0.0.3:6379@16379", "check 10.0.0.3:6379"),
        ("--cluster check ::1:7000", "check [::1]:7000"),
        (
            "--cluster create a:1@2 fe80::1:7000 c:3",
            "create a:1 [fe80::1]:7000 c:3",
        ),
        (
            "--cluster call h:1@2 set k a:1@2",
            "call --allow-dangerous h:1 set k a:1@2",
        ),
        ("--cluster check redis://u:p@h:7", "check redis://u:p@h:7"),
    ] {
        assert_redis_cli(theirs, expected);
    }
}

#[test]
fn host_names_are_not_verified() {
    let read = read(&words("redis-trib --cluster check h:1"), Consent::Open);
    let Ok(ParsedLine::Command { words, .. }) = read else {
        panic!("{read:?}");
    };
    assert_eq!(words[1..4], ["check", "--tls-verify", "chain"]);
}

#[test]
fn a_variable_may_give_consent() {
    let says = |value| Consent::of(Some(OsStr::new(value)));
    assert_eq!(says("1"), Consent::Given);
    for no in ["", "0", "yes", "true"] {
        assert_eq!(says(no), Consent::Open, "{no:?}");
    }
    assert_eq!(Consent::of(None), Consent::Open);
    let line = "redis-trib --cluster reshard h:1";
    assert_eq!(native_line(line, Consent::Open), "redis-trib reshard h:1");
    assert_eq!(
        native_line(line, Consent::Given),
        "redis-trib reshard --yes h:1"
    );
    // In that mode only.
    for line in ["redis-trib reshard h:1", "redis-trib.rb reshard h:1"] {
        assert_eq!(native_line(line, Consent::Given), line);
    }
}

#[test]
fn lines_of_redis_trib_rb() {
    for (theirs, expected) in [
        (
            "create --replicas 1 a:1 b:2 c:3",
            "create --replicas 1 a:1 b:2 c:3",
        ),
        ("check a:1", "check a:1"),
        ("fix --timeout 5000 a:1", "fix --timeout 5000ms --yes a:1"),
        (
            "reshard --from all --to 8f --slots 4096 --yes --timeout 60000 --pipeline 10 a:1",
            "reshard --from all --to 8f --slots 4096 --timeout 60000ms --pipeline 10 --yes a:1",
        ),
        // The last one counts.
        (
            "reshard --from a --from b,c --to 8f --to=9a --slots 5 --slots 1 --timeout 1 --timeout 2 a:1",
            "reshard --from b,c --to 9a --slots 1 --timeout 2ms a:1",
        ),
        (
            "rebalance --threshold 1 --threshold 3 --pipeline 5 --pipeline=6 a:1",
            "rebalance --threshold 3 --pipeline 6 --yes a:1",
        ),
        (
            "create --replicas 1 --replicas 0 a:1 b:2 c:3",
            "create --replicas 0 a:1 b:2 c:3",
        ),
        (
            "import --from s:1 --from t:2 a:1",
            "import --from t:2 --yes --move --on-conflict=abort a:1",
        ),
        (
            "rebalance --weight 8f=2 --weight 9a=3 --use-empty-masters --simulate --threshold 1 a:1",
            "rebalance --dry-run --threshold 1 --yes --weight 8f=2 --weight 9a=3 \
             --use-empty-masters a:1",
        ),
        ("rebalance --auto-weights a:1", "rebalance --yes a:1"),
        ("add-node n:1 a:1", "add-node --yes n:1 a:1"),
        (
            "add-node --slave --master-id 8f n:1 a:1",
            "add-node --replica --master-id 8f --yes n:1 a:1",
        ),
        (
            "add-node --master-id 9a --replica --master-id 8f n:1 a:1",
            "add-node --master-id 8f --yes --replica n:1 a:1",
        ),
        // Without --slave the master is ignored.
        ("add-node --master-id 8f n:1 a:1", "add-node --yes n:1 a:1"),
        (
            "del-node a:1 8fab",
            "del-node --yes --leave-all-unprotected --shutdown a:1 8fab",
        ),
        // Options before the arguments, as redis-trib.rb has them.
        (
            "del-node -a secret --user u a:1 8fab",
            "del-node --yes --leave-all-unprotected --shutdown -a secret --user u a:1 8fab",
        ),
        (
            "del-node --pass-file f a:1 8fab",
            "del-node --yes --leave-all-unprotected --shutdown --pass-file f a:1 8fab",
        ),
        ("set-timeout a:1 15000", "set-timeout --yes a:1 15000ms"),
        (
            "call a:1 set --timeout 5",
            "call --allow-dangerous a:1 set --timeout 5",
        ),
        (
            "import --from s:1 a:1",
            "import --from s:1 --yes --move --on-conflict=abort a:1",
        ),
        (
            "import --from s:1 --copy --replace a:1",
            "import --from s:1 --yes --replace a:1",
        ),
        ("check --verbose a:1", "check a:1"),
        // Options that redis-trib.rb does not know.
        ("failover a:1 8f", "failover a:1 8f"),
        ("--version", "--version"),
        ("check a:1 -a pw", "check a:1 -a pw"),
    ] {
        assert_redis_trib_rb(theirs, expected);
    }
}

#[test]
fn wrong_values_are_refused_by_their_option() {
    for (line, expected) in [
        (
            "--cluster reshard h:1 --cluster-pipeline 0",
            "--cluster-pipeline \"0\"",
        ),
        (
            "--cluster reshard h:1 --cluster-pipeline -3",
            "--cluster-pipeline \"-3\"",
        ),
        (
            "--cluster reshard h:1 --cluster-pipeline ten",
            "--cluster-pipeline \"ten\"",
        ),
        (
            "--cluster reshard h:1 --cluster-slots -5",
            "--cluster-slots \"-5\": must be a number of slots, 1 or more",
        ),
        (
            "--cluster reshard h:1 --cluster-timeout -1",
            "--cluster-timeout \"-1\": must be milliseconds",
        ),
        (
            "--cluster create a:1 --cluster-replicas -1",
            "--cluster-replicas \"-1\"",
        ),
        (
            "--cluster rebalance h:1 --cluster-threshold -1",
            "--cluster-threshold \"-1\"",
        ),
        (
            "--cluster rebalance h:1 --cluster-threshold nan",
            "--cluster-threshold \"nan\"",
        ),
        ("--cluster rebalance h:1 --cluster-weight", "NODE=WEIGHT"),
        ("--cluster rebalance h:1 --cluster-weight 8f", "NODE=WEIGHT"),
        (
            "--cluster rebalance h:1 --cluster-weight 8f=1 --cluster-weight 9a=2",
            "you cannot use --cluster-weight more than once",
        ),
        (
            "--cluster-weight a=1 --cluster check h:1 --cluster-weight b=2",
            "you cannot use --cluster-weight more than once",
        ),
        (
            "--cluster set-timeout h:1 -5",
            "set-timeout \"-5\": must be milliseconds",
        ),
        ("--cluster check h:1 -p 0", "-p \"0\": must be a port"),
        ("--cluster", "--cluster needs a value"),
        (
            "--cluster frobnicate h:1",
            "\"frobnicate\" is not a cluster command",
        ),
        ("--cluster check h:1 --cluster info h:1", "twice"),
        (
            "--cluster check h:1 --cluster-bogus",
            "--cluster-bogus is not an option",
        ),
        (
            "--cluster reshard h:1 --cluster-from",
            "--cluster-from needs a value",
        ),
    ]
    .map(|(line, expected)| (format!("redis-trib {line}"), expected))
    {
        let said = wrong(&line);
        assert!(said.contains(expected), "{line}: {said}");
    }
    for (line, expected) in [
        ("reshard --pipeline 0 a:1", "--pipeline \"0\""),
        ("reshard --timeout -1 a:1", "--timeout \"-1\""),
        ("create --replicas -1 a:1", "--replicas \"-1\""),
        ("reshard a:1 --slots", "--slots needs a value"),
    ] {
        let said = wrong(&format!("redis-trib.rb {line}"));
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
fn lists_of_commands() {
    for (line, has, wanted) in [
        // These tools end with 1 after their list.
        (
            "redis-trib --cluster help",
            "--cluster-slave",
            ExitCode::Unhealthy,
        ),
        (
            "redis-trib --cluster HELP",
            "--cluster-slave",
            ExitCode::Unhealthy,
        ),
        (
            "valkey-cli --cluster help",
            "--cluster-only-primaries",
            ExitCode::Unhealthy,
        ),
        (
            "redis-trib --cluster check h:1 --help",
            "--cluster-replicas",
            ExitCode::Done,
        ),
        (
            "redis-trib --cluster check -h",
            "--cluster-replicas",
            ExitCode::Done,
        ),
        ("redis-trib.rb", "--slave", ExitCode::Done),
        ("redis-trib.rb help", "--slave", ExitCode::Done),
    ] {
        let Ok(ParsedLine::Help { text, code }) = read(&words(line), Consent::Open) else {
            panic!("{line}");
        };
        assert!(text.contains(has), "{line}");
        assert_eq!(code, wanted, "{line}");
    }
}

#[test]
fn numbers_that_these_tools_accept() {
    for (theirs, expected) in [
        (
            "--cluster reshard h:1 --cluster-pipeline 20000",
            "reshard --tls-verify chain --pipeline 10000 h:1",
        ),
        (
            "--cluster reshard h:1 --cluster-timeout 0",
            "reshard --tls-verify chain --timeout 1000ms h:1",
        ),
        // Asked for, as if it were not given.
        (
            "--cluster reshard h:1 --cluster-slots 0",
            "reshard --tls-verify chain h:1",
        ),
        (
            "--cluster reshard h:1 --cluster-slots 20000",
            "reshard --tls-verify chain --slots 16384 h:1",
        ),
        (
            "--cluster rebalance h:1 --cluster-threshold 2%",
            "rebalance --tls-verify chain --threshold 2 --yes h:1",
        ),
        // The last one counts, and empty names do not.
        (
            "--cluster reshard h:1 --cluster-from a --cluster-from b,c,",
            "reshard --tls-verify chain --from b,c h:1",
        ),
    ] {
        let line = words(&format!("redis-trib {theirs}"));
        let Ok(ParsedLine::Command {
            words: native,
            mode,
        }) = read(&line, Consent::Open)
        else {
            panic!("{theirs}");
        };
        let native: Vec<String> = native[1..]
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert_eq!(native.join(" "), expected, "{theirs}");
        assert_eq!(mode, Mode::RedisCli);
    }
}

#[test]
fn valkey_cli_is_known_by_its_name() {
    let line = words("/usr/bin/valkey-cli --cluster create h:1 h:2 --cluster-yes");
    let Ok(ParsedLine::Command {
        words: native,
        mode,
    }) = read(&line, Consent::Open)
    else {
        panic!();
    };
    assert_eq!(mode, Mode::ValkeyCli);
    assert!(native.iter().any(|word| word == "--allow-few-masters"));
}

#[test]
fn valkey_cli_moves_key_by_key_unless_told_otherwise() {
    let strategies = |line: &str| -> Vec<String> {
        let native = native_line(line, Consent::Open);
        let words = native.split(' ').filter(|word| word.contains("strategy"));
        words.map(str::to_owned).collect()
    };
    for command in ["reshard", "rebalance"] {
        let line = format!("valkey-cli --cluster {command} h:1");
        assert_eq!(strategies(&line), ["--strategy=keys"]);
        let line = format!("{line} --cluster-use-atomic-slot-migration");
        assert_eq!(strategies(&line), ["--strategy=atomic"]);
        // redis-cli 8.10 uses ASM tasks by default.
        let line = format!("redis-trib --cluster {command} h:1");
        assert_eq!(strategies(&line), Vec::<String>::new());
    }
    assert_eq!(
        strategies("valkey-cli --cluster check h:1"),
        Vec::<String>::new()
    );
}

#[test]
fn the_timeout_of_redis_cli_bounds_tasks_too() {
    let deadline = |line: &str| native_line(line, Consent::Open).contains("--task-deadline 5000ms");
    assert!(deadline(
        "redis-trib --cluster reshard h:1 --cluster-timeout 5000"
    ));
    assert!(!deadline(
        "valkey-cli --cluster reshard h:1 --cluster-timeout 5000"
    ));
    assert!(!deadline(
        "redis-trib --cluster fix h:1 --cluster-timeout 5000"
    ));
}

#[test]
fn a_wrong_uri_does_not_show_its_password() {
    let said = wrong("redis-trib -u http://u:hush@h --cluster check h:1");
    assert!(said.starts_with("-u: ") && !said.contains("hush"), "{said}");
}

#[test]
fn passwords_may_hold_anything() {
    use std::os::unix::ffi::OsStringExt;
    let secret = OsString::from_vec(vec![b'p', 0xff, b'-']);
    let mut line = words("redis-trib --cluster check h:1 -a");
    line.push(secret.clone());
    let Ok(ParsedLine::Command { words, .. }) = read(&line, Consent::Open) else {
        panic!();
    };
    assert!(words.contains(&secret));
}

proptest! {
    /// No line panics, and words that are not options are kept.
    #[test]
    fn no_word_is_lost(
        command in 0..Command::ALL.len(),
        rest in proptest::collection::vec("[a-z0-9=.]{1,8}", 0..6),
        yes in proptest::bool::ANY,
    ) {
        let command = Command::ALL[command].word();
        let mut line = words(&format!("redis-trib --cluster {command} h:1"));
        line.extend(rest.iter().map(OsString::from));
        if yes {
            line.push("--cluster-yes".into());
        }
        match read(&line, Consent::Open) {
            Ok(ParsedLine::Command { words, mode }) => {
                prop_assert_eq!(mode, Mode::RedisCli);
                let tail = &words[words.len() - rest.len()..];
                let kept: Vec<OsString> = rest.iter().map(OsString::from).collect();
                // A time gets its unit.
                if command != "set-timeout" {
                    prop_assert_eq!(tail, &kept[..]);
                }
            }
            // 0 is not a time.
            Err(CompatError::Number { .. }) => prop_assert_eq!(command, "set-timeout"),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn nothing_panics(line in proptest::collection::vec(
        proptest::sample::select(vec![
            "--cluster", "check", "call", "help", "-h", "-p", "-u", "-a", "--cluster-weight",
            "a=1", "--cluster-from", "--tls", "", "-", "--", "h:1", "::1:1", "7", "-7", "@", "a@1",
        ]),
        0..10,
    )) {
        let line: Vec<OsString> = line.into_iter().map(OsString::from).collect();
        let _ = read(&line, Consent::Given);
    }

    /// Words of any bytes among known words: parsed or refused, with a message of one line.
    #[test]
    fn no_bytes_panic(
        head in proptest::sample::select(vec!["redis-trib", "redis-trib.rb", "/usr/bin/redis-trib.rb", ""]),
        line in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::collection::vec(proptest::num::u8::ANY, 0..12),
                proptest::sample::select(vec![
                    "--cluster", "create", "reshard", "import", "--cluster-yes", "--cluster-replicas", "--weight",
                    "--timeout", "--from", "--cluster-from-pass", "-h", "-p", "-u", "18446744073709551616",
                    "redis://a:b@h:1", "-1", "=", "--=",
                ]).prop_map(|word| word.as_bytes().to_vec()),
            ],
            0..8,
        ),
    ) {
        use std::os::unix::ffi::OsStringExt;
        let line: Vec<OsString> = std::iter::once(head.as_bytes().to_vec())
            .chain(line)
            .map(OsString::from_vec)
            .collect();
        if let Err(wrong) = read(&line, Consent::Open) {
            prop_assert!(!wrong.to_string().contains(char::is_control), "{wrong}");
        }
    }
}
