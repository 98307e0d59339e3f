//! Key by key, or in ASM tasks: which, and why.
//!
//! Pure: what the servers can do comes in as facts.

use crate::cluster::parse::{Product, Version};

use super::schedule::MoveMethod;

/// The way of moving slots that the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Atomic slot migration where both nodes support it, key by key elsewhere.
    Auto,
    /// Atomic slot migration (Valkey 9.0, Redis 8.4), or nothing.
    Atomic,
    /// Key by key.
    Keys,
}

/// How the slots of a pair move, and why so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodChoice {
    /// How.
    pub way: MoveMethod,
    /// Why, in words that complete "key by key, since" or "atomic, since".
    pub reason: String,
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// `127.0.0.1:7000 (1977c4d4)`.
    pub name: String,
    /// Its version.
    pub version: Option<Version>,
    /// Whose commands for it the node has.
    pub offers: Option<Product>,
    /// Why it can't, whatever its version says: rights, settings.
    pub hindrance: Option<String>,
    /// Threads for input and output, 1 for none beside the main one; where it tells.
    pub io_threads: Option<u64>,
}

/// What is known of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFacts<'a> {
    /// The source.
    pub source: &'a NodeFacts,
    /// The target.
    pub target: &'a NodeFacts,
    /// What stands in the way between the two: open slots, stray keys, a login.
    pub hindrance: Option<String>,
}

/// The last version of Valkey on which tasks fail while slots are written to, with io-threads
/// (valkey-io/valkey#4545).
const FAULTY_WITH_THREADS: [u16; 3] = [9, 1, 1];

/// The rules that the user needs on the target as whom the source of a task logs in (Valkey).
pub const ASM_RULES: &str = "+cluster|syncslots +select +@write ~*";

/// Chooses. `Err` says why it can't be as it should: `--strategy atomic` where a pair can't.
/// `throttled` is whether there is a --rate, which the servers don't know.
pub fn choose(
    wanted: Strategy,
    throttled: bool,
    facts: &PairFacts<'_>,
) -> Result<MethodChoice, String> {
    let keys = |reason: String| MethodChoice {
        way: MoveMethod::Keys,
        reason,
    };
    if wanted == Strategy::Keys {
        return Ok(keys("--strategy keys says so".to_string()));
    }
    match (possible(facts), wanted) {
        (Ok(_), Strategy::Auto) if throttled => Ok(keys(
            "--rate holds for that only; ASM tasks have no such limit".to_string(),
        )),
        (Ok(product), _) => Ok(MethodChoice {
            way: MoveMethod::Atomic(product),
            reason: match (facts.source.version, facts.target.version) {
                (Some(one), Some(other)) if one == other => format!("both ends can ({one})"),
                (Some(one), Some(other)) => format!("both ends can ({one} and {other})"),
                _ => "both ends can".to_string(),
            },
        }),
        (Err(why), Strategy::Atomic) => Err(why),
        (Err(why), _) => Ok(keys(why)),
    }
}

/// Returns the product whose ASM tasks can move the slots of the pair, or why none can.
fn possible(facts: &PairFacts<'_>) -> Result<Product, String> {
    let ends = [facts.source, facts.target];
    let without = |node: &NodeFacts| {
        let version = node.version.map(|version| format!(" ({version})"));
        let version = version.unwrap_or_default();
        format!("{} has no atomic slot migration{version}", node.name)
    };
    let (product, other) = match (facts.source.offers, facts.target.offers) {
        (Some(product), Some(other)) => (product, other),
        (None, None) if facts.source.version == facts.target.version => {
            // Without a name, so that many pairs have one reason.
            let version = facts.source.version;
            let version = version.map_or_else(|| "the servers".to_string(), |v| v.to_string());
            return Err(format!("{version} has no atomic slot migration"));
        }
        (None, _) => return Err(without(facts.source)),
        (_, None) => return Err(without(facts.target)),
    };
    if product != other {
        return Err(format!(
            "{} and {} are of different make",
            facts.source.name, facts.target.name
        ));
    }
    for node in ends {
        if let Some(hindrance) = &node.hindrance {
            return Err(hindrance.clone());
        }
        let threads = node.io_threads.is_some_and(|threads| threads > 1);
        if let Some(version) = node.version
            && product == Product::Valkey
            && threads
            && version.numbers <= FAULTY_WITH_THREADS
        {
            return Err(format!(
                "{} runs {version} with io-threads, on which tasks break while clients write \
                 (valkey#4545)",
                node.name
            ));
        }
    }
    match &facts.hindrance {
        Some(hindrance) => Err(hindrance.clone()),
        None => Ok(product),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(product: Product, numbers: [u16; 3]) -> NodeFacts {
        let version = Version { product, numbers };
        NodeFacts {
            name: "10.0.0.3:6379 (1977c4d4)".to_string(),
            version: Some(version),
            offers: version.can_migrate_atomically().then_some(product),
            hindrance: None,
            io_threads: Some(1),
        }
    }

    fn pair<'a>(source: &'a NodeFacts, target: &'a NodeFacts) -> PairFacts<'a> {
        PairFacts {
            source,
            target,
            hindrance: None,
        }
    }

    #[test]
    fn both_ends_must_be_able_and_of_one_make() {
        let (valkey, redis) = (
            node(Product::Valkey, [9, 1, 2]),
            node(Product::Redis, [8, 6, 2]),
        );
        let old = node(Product::Valkey, [8, 1, 8]);
        let way = |facts| choose(Strategy::Auto, false, &facts).unwrap().way;
        assert_eq!(
            way(pair(&valkey, &valkey)),
            MoveMethod::Atomic(Product::Valkey)
        );
        assert_eq!(
            way(pair(&redis, &redis)),
            MoveMethod::Atomic(Product::Redis)
        );
        for facts in [
            pair(&valkey, &redis),
            pair(&old, &valkey),
            pair(&valkey, &old),
        ] {
            assert_eq!(way(facts.clone()), MoveMethod::Keys);
            let why = choose(Strategy::Atomic, false, &facts).unwrap_err();
            assert!(why.contains("10.0.0.3:6379"), "{why}");
        }
    }

    #[test]
    fn a_rate_wants_keys_but_only_where_there_is_a_choice() {
        let redis = node(Product::Redis, [8, 6, 2]);
        let facts = pair(&redis, &redis);
        let choice = choose(Strategy::Auto, true, &facts).unwrap();
        assert_eq!(choice.way, MoveMethod::Keys);
        assert!(choice.reason.contains("--rate"), "{}", choice.reason);
        let choice = choose(Strategy::Keys, false, &facts).unwrap();
        assert_eq!(choice.way, MoveMethod::Keys);
    }

    #[test]
    fn known_faults_and_hindrances_go_by_key() {
        let older = node(Product::Valkey, [9, 1, 1]);
        let sound = node(Product::Valkey, [9, 1, 2]);
        let way = |facts| choose(Strategy::Auto, false, &facts).unwrap().way;
        assert_eq!(
            way(pair(&older, &sound)),
            MoveMethod::Atomic(Product::Valkey)
        );
        let threaded = NodeFacts {
            io_threads: Some(4),
            ..older.clone()
        };
        assert_eq!(way(pair(&threaded, &sound)), MoveMethod::Keys);
        assert_eq!(way(pair(&sound, &threaded)), MoveMethod::Keys);
        let mut facts = pair(&sound, &sound);
        facts.hindrance = Some("slot 3 is open".to_string());
        assert_eq!(
            choose(Strategy::Auto, false, &facts).unwrap().reason,
            "slot 3 is open"
        );
        assert_eq!(
            choose(Strategy::Atomic, false, &facts),
            Err("slot 3 is open".to_string())
        );
    }
}
