//! How the values of the cluster model are written in JSON.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::cluster::health::{Code, Severity};
use crate::cluster::node::{Addr, NodeId, Role, Takeover};
use crate::cluster::parse::Direction;
use crate::cluster::slot::{Slot, SlotRange, SlotSet};
use crate::event::{Phase, Unit};

/// A range of slots, both ends included: `[0, 5460]`.
pub(super) type Range = [u16; 2];

fn range(range: SlotRange) -> Range {
    [range.start().number(), range.end().number()]
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Addr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Slot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.number())
    }
}

/// `[[0, 5460], [6000, 6000]]`.
impl Serialize for SlotSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges().into_iter().map(range))
    }
}

/// A list of one range, as all slots are written.
pub(super) fn one_range<S: Serializer>(
    slots: &SlotRange,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq([range(*slots)])
}

/// A time in whole milliseconds.
pub(super) fn millis<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(*time))
}

pub(super) fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Enums that are one word.
macro_rules! words {
    ($($type:ty: $word:expr, [$($all:literal),* $(,)?];)*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let word: fn(&$type) -> &'static str = $word;
                serializer.serialize_str(word(self))
            }
        }

        #[cfg(test)]
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let words: &[&str] = &[$($all),*];
                match words {
                    [] => schemars::json_schema!({ "type": "string" }),
                    words => schemars::json_schema!({ "type": "string", "enum": words }),
                }
            }
        }
    )*};
}

pub(super) use words;

words! {
    Role: |role| role.word(), ["master", "replica"];
    Severity: |severity| severity.word(), ["error", "warning"];
    Direction: |direction| direction.word(), ["migrating", "importing"];
    // docs/findings.md lists them.
    Code: |code| code.word(), [];
    Phase: |phase| phase.word(), [];
    Unit: |unit| match unit { Unit::Keys => "keys", Unit::Bytes => "bytes" }, ["keys", "bytes"];
    Takeover: |how| match how {
        Takeover::Planned => "planned",
        Takeover::Force => "force",
        Takeover::Takeover => "takeover",
    }, ["planned", "force", "takeover"];
}

#[cfg(test)]
mod schemas {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::*;

    macro_rules! schemas {
        ($($type:ty: $schema:tt;)*) => {$(
            impl JsonSchema for $type {
                fn schema_name() -> Cow<'static, str> {
                    stringify!($type).into()
                }

                fn json_schema(_: &mut SchemaGenerator) -> Schema {
                    json_schema!($schema)
                }
            }
        )*};
    }

    schemas! {
        NodeId: { "type": "string", "pattern": "^[0-9a-f]{40}$" };
        Addr: { "type": "string", "description": "host:port; IPv6 addresses are in brackets" };
        Slot: { "type": "integer", "minimum": 0, "maximum": 16383 };
        SlotSet: {
            "type": "array",
            "description": "ranges of slots, both ends included",
            "items": {
                "type": "array",
                "items": { "type": "integer", "minimum": 0, "maximum": 16383 },
                "minItems": 2,
                "maxItems": 2
            }
        };
    }
}
