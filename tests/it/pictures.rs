//! The pictures in docs/pictures show what the program prints now.

use std::path::Path;
use std::time::Duration;

use crate::support::command::Trib;
use crate::support::ports::{Reserved, reserve};

const PICTURES: [&str; 3] = ["check.svg", "create.svg", "reshard.svg"];

/// The script draws them again, from new servers. Ids, addresses, sizes and times differ, and nothing else.
#[test]
fn the_pictures_in_docs_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let drawn = tempfile::tempdir().unwrap();
    let ports: Vec<Reserved> = (0..7).map(|_| reserve()).collect();
    let ports: Vec<String> = ports.iter().map(|one| one.port.to_string()).collect();
    Trib::new()
        .program(root.join("fixtures/picture.sh"))
        .arg(drawn.path().display().to_string())
        .env("TRIB", env!("CARGO_BIN_EXE_redis-trib"))
        .env("PORTS", ports.join(" "))
        .timeout(Duration::from_secs(180))
        .run()
        .status(0);
    for name in PICTURES {
        let ended = Trib::new()
            .program("python3")
            .arg(root.join("fixtures/picture.py").display().to_string())
            .arg("same")
            .arg(root.join("docs/pictures").join(name).display().to_string())
            .arg(drawn.path().join(name).display().to_string())
            .run();
        let code = format!("{:?}", ended.status);
        assert_eq!(
            code, "Status(0)",
            "{name} is old: make pictures\n{}",
            ended.stderr
        );
    }
}
