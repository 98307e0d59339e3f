use super::*;
use secrecy::ExposeSecret;

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::of(Path::new("/etc/trib/config.toml"), text, 0o100_600)
}

#[track_caller]
fn error(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn all_settings_are_read() {
    let config = read(
        r#"
[clusters.prod]
nodes = ["10.0.0.3", "10.0.0.4:7000"]
user = "ann"
pass_file = "pass"
cacert = "/tls/ca.pem"
sni = "redis"
tls_verify = "chain"
address_map = ["10.0.0.3:6379=localhost:7001"]
zone = ["10.0.0.3:6379=east"]
zone_from = "hostname"
protected = true

[clusters.dev]
nodes = "localhost:7000"
"#,
    )
    .unwrap();
    let names: Vec<_> = config.clusters.keys().map(String::as_str).collect();
    assert_eq!(names, ["dev", "prod"]);
    let prod = &config.clusters["prod"];
    let nodes: Vec<String> = prod
        .nodes
        .iter()
        .map(|seed| seed.addr.to_string())
        .collect();
    assert_eq!(nodes, ["10.0.0.3:6379", "10.0.0.4:7000"]);
    assert_eq!(prod.user.as_deref(), Some("ann"));
    // Paths begin at the directory of the file.
    let files: Vec<_> = prod
        .files()
        .map(|(key, file)| (key, file.to_str().unwrap()))
        .collect();
    assert_eq!(
        files,
        [("pass_file", "/etc/trib/pass"), ("cacert", "/tls/ca.pem")]
    );
    assert!(prod.tls, "TLS files imply TLS");
    assert!(prod.protected);
    assert_eq!(prod.zone[0].1, "east");
    assert_eq!(prod.address_map.len(), 1);
    assert!(!config.clusters["dev"].tls && !config.clusters["dev"].protected);
}

#[test]
fn errors_have_a_place_and_the_nearest_key() {
    for (text, expected) in [
        (
            "[clusters.prod]\n  nods = [\"h\"]",
            "/etc/trib/config.toml, line 2, column 3: unknown key \"nods\": the nearest known key is \"nodes\"",
        ),
        (
            "[clusters.prod]\npass-file = \"h\"",
            "line 2, column 1: unknown key \"pass-file\": the nearest known key is \"pass_file\"",
        ),
        ("[clusters.prod]\nzebra = 1", "the keys are nodes, user,"),
        (
            "[cluster.prod]",
            "line 1, column 2: unknown key \"cluster\": the nearest known key is \"clusters\"",
        ),
        (
            "[clusters.\"a b\"]",
            "line 1, column 11: a cluster name has",
        ),
        ("[clusters.prod]", "needs nodes"),
        ("clusters = 1", "clusters is a table, not integer"),
        (
            "[clusters.p]\nnodes = 5",
            "line 2, column 9: nodes is a list of strings, not integer",
        ),
        (
            "[clusters.p]\nnodes = [\"h\", \"h:x\"]",
            "line 2, column 15: nodes: \"x\" is not a port",
        ),
        (
            "[clusters.p]\nnodes = [\"@q\"]",
            "not the name of a cluster",
        ),
        (
            "[clusters.p]\nprotected = \"yes\"",
            "protected is true or false, not string",
        ),
        (
            "[clusters.p]\ntls_verify = \"maybe\"",
            "tls_verify is one of full, chain, none",
        ),
        ("[clusters.p]\nzone = \"h\"", "is not ADDR=NAME"),
        (
            "[clusters.p]\npass = \"a\"\npass_file = \"b\"",
            "pass_file and pass both give a password",
        ),
        (
            "[clusters.p]\nnodes = \"h\"\ntls = false\ncacert = \"c\"",
            "tls = false and TLS settings",
        ),
        ("[clusters.p]\nnodes = [\"h\"\n", "line "),
        ("[clusters.p]\nuser = \"\"", "user is empty"),
    ] {
        let said = error(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
}

#[test]
fn no_error_and_no_display_has_a_secret() {
    for text in [
        "[clusters.p]\npass = hunter2",
        "[clusters.p]\npass = \"hunter2",
        "[clusters.p]\npass = [\"hunter2\"]",
        "[clusters.p]\nnodes = \"redis://u:hunter2@h:99999\"",
        "[clusters.p]\nnodes = [\"u:hunter2@h\"]",
        "[clusters.p]\npass_command = 'echo hunter2'\nnods = 1",
    ] {
        let said = error(text);
        assert!(!said.contains("hunter2"), "{said}");
    }
    let text = "[clusters.p]\nnodes = [\"redis://ann:hunter2@h\", \"h:2\"]\npass_command = \"echo hunter2\"\ntls=true";
    let config = read(text).unwrap();
    let debug = format!("{config:?}");
    assert!(!debug.contains("hunter2"), "{debug}");
    let shown = &config.clusters["p"].shown;
    assert_eq!(
        shown[..],
        [
            ("nodes", "[\"redis://ann:***@h\", \"h:2\"]".to_string()),
            ("pass_command", "\"***\"".to_string()),
            ("tls", "true".to_string()),
        ]
    );
}

#[test]
fn a_password_that_others_can_read_is_refused() {
    let path = Path::new("/c.toml");
    let login = "[clusters.p]\nnodes = \"redis://:pw@h\"";
    let pass = "[clusters.p]\nnodes = \"h\"\npass = \"pw\"";
    let command = "[clusters.p]\nnodes = \"h\"\npass_command = \"pass p\"";
    let file = "[clusters.p]\nnodes = \"h\"\npass_file = \"p\"";
    for (text, mode, refused) in [
        (login, 0o600, false),
        (login, 0o640, true),
        (pass, 0o604, true),
        (pass, 0o400, false),
        (command, 0o644, false),
        (command, 0o664, false),
        (command, 0o666, true),
        (file, 0o666, false),
    ] {
        let read = Config::of(path, text, mode);
        assert_eq!(read.is_err(), refused, "{text} {mode:o}");
        if let Err(error) = read {
            let said = error.to_string();
            assert!(said.contains("chmod 600 /c.toml"), "{said}");
        }
    }
}

#[test]
fn unknown_names_list_the_known_ones() {
    let config =
        read("[clusters.prod]\nnodes = \"h\"\npass = \"pw\"\n[clusters.dev]\nnodes = \"h\"")
            .unwrap();
    let said = config.unknown("prd").to_string();
    assert_eq!(
        said,
        "no cluster is named @prd: /etc/trib/config.toml has @dev, @prod"
    );
    let said = Config::default().unknown("prd").to_string();
    assert!(said.contains("add [clusters.prd]"), "{said}");
    let prod = config.take("prod").unwrap();
    match prod.password {
        Some(PasswordSource::Text(text)) => assert_eq!(text.expose_secret(), b"pw"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_nearest_word() {
    for (word, expected) in [
        ("chekc", Some("check")),
        ("CHECK", Some("check")),
        ("infos", Some("info")),
        ("xyzzy", None),
        ("", None),
    ] {
        assert_eq!(nearest(word, ["check", "info"]), expected, "{word}");
    }
}
