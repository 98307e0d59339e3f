//! The schemas in `docs/schema` are those of the views.

use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use super::*;

/// A document has its head always, a line only if it is the first.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Document<T> {
    #[schemars(flatten)]
    head: Head,
    #[schemars(flatten)]
    body: T,
}

/// Schemas are of what is written, so a field that is always there is required.
fn schema<T: JsonSchema>(title: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_string(), title.into());
    schema
}

#[test]
fn the_schemas_in_docs_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let schemas = [
        ("check", schema::<Document<CheckView>>("check")),
        (
            "check-local",
            schema::<Document<AliveView>>("check --local"),
        ),
        ("info", schema::<Document<InfoView>>("info")),
        (
            "ok-to-stop",
            schema::<Document<OkToStopDocument<'_>>>("ok-to-stop"),
        ),
        (
            "ok-to-stop-max",
            schema::<Document<LargestStopView>>("ok-to-stop --max"),
        ),
        ("drift", schema::<Document<DriftView>>("drift")),
        ("slots", schema::<Document<HeatView>>("slots")),
        ("verify", schema::<Document<VerifyView>>("verify")),
        ("where", schema::<Document<WhereView>>("where")),
        ("watch", schema::<Headed<WatchView>>("a frame of watch")),
        ("throttle", schema::<Document<ThrottleView>>("throttle")),
        ("config", schema::<Document<ConfigView>>("config")),
        (
            "error",
            schema::<Document<ErrorDocument>>("a command that reads, and failed"),
        ),
        (
            "line",
            schema::<Headed<Line<'_>>>("a line of a command that changes a cluster"),
        ),
    ];
    for (name, schema) in schemas {
        let path = folder.join(format!("{name}.json"));
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let current = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            current == text,
            "{} is not current: UPDATE_SCHEMAS=1 cargo test --lib schema",
            path.display()
        );
    }
}
