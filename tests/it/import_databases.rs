//! `import` of several databases: collisions of names, prefixes, and other databases of the cluster.

use redis::{Connection, Value};

use crate::support::cluster::three;
use crate::support::command::Trib;
use crate::support::dataset;
use crate::support::proxy::Proxy;
use crate::support::server::{Server, Spec, versions};
use crate::support::slots::slot_of;
use crate::support::wait::PATIENCE;

fn import(from: &str, node: &str) -> Trib {
    Trib::new().args(["import", "--from", from, node, "--yes"])
}

fn in_database(server: &Server, database: u32) -> Connection {
    let mut connection = server.connection().unwrap();
    redis::cmd("SELECT")
        .arg(database)
        .exec(&mut connection)
        .unwrap();
    connection
}

/// Writes keys of these names to a database.
fn fill(server: &Server, database: u32, names: impl IntoIterator<Item = String>) {
    let mut pipe = redis::pipe();
    for name in names {
        pipe.cmd("SET")
            .arg(name)
            .arg(format!("of {database}"))
            .ignore();
    }
    pipe.query::<()>(&mut in_database(server, database))
        .unwrap();
}

#[test]
fn sixteen_databases_become_one() {
    let source = Spec::new().plain().start();
    let target = three(&Spec::new().quick());
    for database in 0..16 {
        fill(
            &source,
            database,
            (0..40).map(|n| format!("{database}:key:{n}")),
        );
    }
    let (from, node) = (source.addr(), target[0].addr());
    import(&from, &node)
        .args(["--from-db", "all", "--verify"])
        .run()
        .status(0)
        .stdout_has("640 keys of databases 0, 1, 2,")
        .stdout_has("[OK] 640 keys copied")
        .stdout_has("[OK] 640 keys the same");
    assert_eq!(dataset::digest(&target).len(), 640);
    let verify = |args: &[&str]| {
        let verify = ["verify", "--from", &from, &node, "--from-db", "all"];
        Trib::new().args(verify).args(args).run()
    };
    verify(&[]).status(0);
    dataset::send(&target, &[b"DEL", b"15:key:39"]);
    verify(&[])
        .status(1)
        .stdout_has("\"15:key:39\" of database 15");
    verify(&["--both-ways"]).status(2);
    import(&from, &node)
        .args(["--from-db", "all", "--move"])
        .run()
        .status(0);
    let info = source.text(&["INFO", "keyspace"]);
    assert!(!info.contains("keys="), "{info}");
    assert_eq!(dataset::digest(&target).len(), 640);
}

#[test]
fn names_that_collide_are_found_before_anything_is_written() {
    let source = Spec::new().plain().start();
    let target = three(&Spec::new().quick());
    fill(&source, 0, (0..300).map(|n| format!("key:{n}")));
    fill(&source, 3, (150..450).map(|n| format!("key:{n}")));
    fill(&source, 7, ["{user}:1".to_string(), "lone".to_string()]);
    let (from, node) = (source.addr(), target[0].addr());
    for option in ["--dry-run", "--replace"] {
        let run = import(&from, &node)
            .args(["--from-db", "all", option])
            .run()
            .status(3);
        run.stderr_has("150 names of several databases would be one")
            .stderr_has("(databases 0 and 3)")
            .stderr_has("and 50 more");
    }
    assert_eq!(dataset::digest(&target).len(), 0);
    // Those that match the pattern do not.
    import(&from, &node)
        .args(["--from-db", "all", "--pattern", "key:1[0-4]?", "--dry-run"])
        .run()
        .status(0);
    let prefixed = [
        "--from-db",
        "all",
        "--key-prefix",
        "3=three:",
        "--key-prefix",
        "7=seven:",
    ];
    import(&from, &node)
        .args(prefixed)
        .arg("--verify")
        .run()
        .status(0)
        .stdout_has("Names of keys of database 3 get the prefix three:.")
        .stdout_has("[OK] 602 keys copied")
        .stdout_has("[OK] 602 keys the same");
    let get = |key: &str| dataset::send(&target, &[b"GET", key.as_bytes()]);
    let of = |database: u32| Value::BulkString(format!("of {database}").into_bytes());
    assert_eq!(get("key:200"), of(0));
    assert_eq!(get("three:key:200"), of(3));
    assert_eq!(get("seven:{user}:1"), of(7));
    assert_eq!(slot_of(b"seven:{user}:1"), slot_of(b"{user}:1"));
    // A prefix may collide, too.
    fill(&source, 0, ["seven:lone".to_string()]);
    import(&from, &node)
        .args(["--from-db", "all", "--key-prefix", "3=three:,7=seven:"])
        .run()
        .status(3)
        .stderr_has("\"seven:lone\" (databases 0 and 7)");
    for bad in [
        &["--key-prefix", "1={a}"][..],
        &["--key-prefix", "1="],
        &["--key-prefix", "3=a,b"],
        &["--key-prefix", "5=a:"],
        &["--db-map", "1=1,1=2"],
        &["--db-map", "1=1", "--from-db", "1"],
        &["--from-db", "some"],
    ] {
        import(&from, &node)
            .args(bad.iter().copied())
            .run()
            .status(2);
    }
    let with_database = format!("redis://{from}/3");
    import(&with_database, &node)
        .args(["--db-map", "1=1"])
        .run()
        .status(2)
        .stderr_has("--from names database 3, which is not in --db-map");
}

#[test]
fn a_name_that_collides_meanwhile_is_not_overwritten() {
    let source = Spec::new().plain().start();
    let target = three(&Spec::new().quick());
    fill(&source, 0, ["a".to_string(), "b".to_string()]);
    fill(&source, 1, ["c".to_string()]);
    let proxy = Proxy::to(&source.addr());
    proxy.stall_at("DUMP", 1);
    let running = import(&proxy.addr(), &target[0].addr())
        .args(["--from-db", "all", "--replace", "-o", "json"])
        .spawn();
    assert!(proxy.wait_stalled(PATIENCE));
    fill(&source, 1, ["a".to_string()]);
    proxy.resume();
    let lines = running.wait().status(1).json_lines();
    let report = lines.iter().find(|line| line["event"] == "report").unwrap();
    assert_eq!(report["failed"][0]["reason"], "collides");
    assert_eq!(report["failed"][0]["examples"][0]["key"], "a");
    assert_eq!(report["written"], 3);
    let value = dataset::send(&target, &[b"GET", b"a"]);
    assert_eq!(value, Value::BulkString(b"of 0".to_vec()));
}

#[test]
fn databases_keep_their_numbers_in_the_matrix() {
    let source = Spec::new().plain().start();
    for database in 0..3 {
        fill(&source, database, (0..50).map(|n| format!("key:{n}")));
    }
    let mapped = ["--db-map", "1=1,2=3", "--verify"];
    let target = three(&Spec::new().quick());
    import(&source.addr(), &target[0].addr())
        .args(mapped)
        .run()
        .status(3)
        .stderr_has("the cluster has no database 1");
    if !versions().contains(&"valkey-9.1") {
        return;
    }
    let spec = Spec::new().quick().version("valkey-9.1");
    let target = three(&spec.arg("--cluster-databases", 4));
    import(&source.addr(), &target[0].addr())
        .args(mapped)
        .run()
        .status(0)
        .stdout_has("Keys go to databases of the cluster: 1 to 1, 2 to 3.")
        .stdout_has("[OK] 100 keys the same");
    let keys = |database: u32| -> u64 {
        let sizes = target.iter().map(|node| {
            let mut connection = in_database(node, database);
            redis::cmd("DBSIZE").query::<u64>(&mut connection).unwrap()
        });
        sizes.sum()
    };
    assert_eq!([0, 1, 2, 3].map(keys), [0, 50, 0, 50]);
}
