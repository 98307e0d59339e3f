use super::*;
use proptest::prelude::*;

const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const C: &str = "cccccccccccccccccccccccccccccccccccccccc";

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn slots(ranges: &[(u16, u16)]) -> SlotSet {
    let slot = |number| Slot::new(number).unwrap();
    ranges
        .iter()
        .map(|(start, end)| SlotRange::new(slot(*start), slot(*end)).unwrap())
        .collect()
}

/// A plan of these moves: from, to, and the slots.
/// The source, the target and the ranges of slots.
type Move<'a> = (&'a str, &'a str, &'a [(u16, u16)]);

fn of(moves: &[Move<'_>]) -> MovePlan {
    let moves = moves
        .iter()
        .map(|(from, to, ranges)| ((id(from), id(to)), slots(ranges)));
    MovePlan::of_moves(moves.collect())
}

fn plan() -> MovePlan {
    of(&[(A, C, &[(0, 1364), (2000, 2000)]), (B, C, &[(5461, 6826)])])
}

/// A file with these moves.
fn file(moves: &str) -> String {
    format!(r#"{{"format":"redis-trib plan","version":1,"moves":[{moves}]}}"#)
}

fn refusal(text: &str) -> String {
    from_json(text).unwrap_err().to_string()
}

#[test]
fn a_file_looks_like_this() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        to_json(&plan(), None).unwrap(),
        format!(
            r#"{{"format":"redis-trib plan","version":1,"created_by":"redis-trib {version}","moves":[
{{"from":"{A}","to":"{C}","slots":[[0,1364],[2000,2000]]}},
{{"from":"{B}","to":"{C}","slots":[[5461,6826]]}}
]}}
"#
        )
    );
}

#[test]
fn figures_are_for_people_and_change_nothing() {
    let weights = SlotWeights {
        by: "cpu",
        of: vec![(Slot::new(0).unwrap(), 1200), (Slot::new(5461).unwrap(), 0)],
    };
    let text = to_json(&plan(), Some(&weights)).unwrap();
    assert!(
        text.ends_with("}\n],\"by\":\"cpu\",\"weights\":[[0,1200],[5461,0]]}\n"),
        "{text}"
    );
    assert_eq!(from_json(&text).unwrap(), plan());
}

#[test]
fn moves_of_a_pair_are_one_step() {
    let text = file(&format!(
        r#"{{"from":"{A}","to":"{B}","slots":[[7,9]],"note":"by hand"}},
           {{"from":"{A}","to":"{B}","slots":[[1,1],[3,4]]}}"#
    ));
    let expected = of(&[(A, B, &[(1, 1), (3, 4), (7, 9)])]);
    assert_eq!(from_json(&text).unwrap(), expected);
}

#[test]
fn what_is_no_plan_is_refused_with_the_place() {
    assert_eq!(
        refusal(&to_json(&plan(), None).unwrap()[..100]),
        "damaged: not JSON from line 2, column 18 on (EOF while parsing a string); save the plan again"
    );
    assert!(matches!(from_json(""), Err(PlanFileError::NotJson { .. })));
    for foreign in [
        "[]",
        "3",
        "{}",
        r#"{"format":"plan","version":1,"moves":[]}"#,
    ] {
        assert_eq!(from_json(foreign), Err(PlanFileError::Foreign), "{foreign}");
    }
    assert_eq!(
        refusal(r#"{"format":"redis-trib plan","version":2,"moves":"anything"}"#),
        "written in version 2 of the format; this redis-trib reads up to 1: use the redis-trib that \
         wrote it, or a newer one"
    );
    for version in ["0", "-1", "1.5", "\"1\"", "null"] {
        let text = format!(r#"{{"format":"redis-trib plan","version":{version},"moves":[]}}"#);
        assert!(refusal(&text).starts_with("damaged: version: not a whole number"));
    }
    assert_eq!(
        refusal(r#"{"format":"redis-trib plan","version":1}"#),
        "damaged: line 1, column 40: missing field `moves`; save the plan again"
    );
}

#[test]
fn moves_that_make_no_sense_are_refused_with_the_place() {
    let with = |from: &str, to: &str, slots: &str| {
        from_json(&file(&format!(
            r#"{{"from":"{from}","to":"{to}","slots":[{slots}]}}"#
        )))
    };
    let damaged = |place: &str, why: &str| {
        Err(PlanFileError::Damaged {
            place: place.to_owned(),
            why: why.to_owned(),
        })
    };
    assert_eq!(from_json(&file("")), Err(PlanFileError::Empty));
    assert_eq!(
        with(A, "bbb", "[0,1]"),
        damaged("moves[0].to", "not a node id (40 hex digits)")
    );
    assert_eq!(with(A, B, ""), damaged("moves[0].slots", "no slots"));
    assert_eq!(
        with(A, B, "[0,1],[5,3]"),
        damaged("moves[0].slots[1]", "5 to 3 runs backwards")
    );
    assert_eq!(
        with(A, B, "[0,16384]"),
        Err(PlanFileError::SlotOutOfRange {
            place: "moves[0].slots[0]".to_owned(),
            number: 16384,
        })
    );
    assert!(matches!(
        with(A, B, "[-1,5]"),
        Err(PlanFileError::Damaged { .. })
    ));
    assert_eq!(
        with(A, A, "[0,1]"),
        Err(PlanFileError::SameNode {
            place: "moves[0]".to_owned(),
            id: id(A),
        })
    );
    assert_eq!(
        with(A, B, "[0,9],[5,12]"),
        Err(PlanFileError::SlotTwice {
            slots: slots(&[(5, 9)]),
        })
    );
    let everything_often = vec!["[0,16383]"; 100_000].join(",");
    assert_eq!(
        with(A, B, &everything_often),
        Err(PlanFileError::SlotTwice {
            slots: SlotSet::full(),
        })
    );
}

#[test]
fn plans_that_a_file_cannot_hold_are_not_saved() {
    assert_eq!(to_json(&of(&[]), None), Err(UnsavableError::Empty));
    assert_eq!(
        to_json(&of(&[(A, B, &[(0, 5)]), (B, C, &[(3, 3)])]), None),
        Err(UnsavableError::SlotTwice {
            slots: slots(&[(3, 3)]),
        })
    );
}

#[test]
fn an_interrupted_plan_resumes_where_it_stopped() {
    let owner = |slot: Slot| match slot.number() {
        0..=99 | 2000 | 6000..=6826 => Some(id(C)),
        100..=1364 => Some(id(A)),
        _ => Some(id(B)),
    };
    let left = outstanding(&plan(), owner).unwrap();
    let expected = of(&[(A, C, &[(100, 1364)]), (B, C, &[(5461, 5999)])]);
    assert_eq!(left, expected);
    assert!(outstanding(&plan(), |_| Some(id(C))).unwrap().is_empty());
}

#[test]
fn slots_of_other_owners_are_named_with_all_ids() {
    let owner = |slot: Slot| match slot.number() {
        10..=19 => Some(id(B)),
        20 => None,
        5461..=6826 => Some(id(B)),
        _ => Some(id(A)),
    };
    assert_eq!(
        outstanding(&plan(), owner).unwrap_err().to_string(),
        format!(
            "the plan no longer matches this cluster: slots 20 move from {A} to {C}, but have no owner; \
             slots 10-19 move from {A} to {C}, but {B} owns them. Make a new plan"
        )
    );
}

#[test]
fn the_inverse_moves_everything_back() {
    let plan = of(&[(A, B, &[(0, 5)]), (B, C, &[(8, 9)])]);
    let back = of(&[(B, A, &[(0, 5)]), (C, B, &[(8, 9)])]);
    assert_eq!(inverse(&plan), back);
    assert_eq!(nodes(&plan), [id(A), id(B), id(C)].into());
}

/// Plans that move each slot at most once.
fn plans() -> impl Strategy<Value = MovePlan> {
    proptest::collection::btree_map(0..SLOTS, (0..3_usize, 1..3_usize), 1..200).prop_map(|slots| {
        let nodes = [A, B, C].map(id);
        let mut moves: BTreeMap<_, SlotSet> = BTreeMap::new();
        for (number, (from, by)) in slots {
            let pair = (nodes[from], nodes[(from + by) % 3]);
            moves
                .entry(pair)
                .or_default()
                .insert(Slot::new(number).unwrap());
        }
        MovePlan::of_moves(moves)
    })
}

proptest! {
    #[test]
    fn what_is_saved_is_read_back(plan in plans()) {
        prop_assert_eq!(from_json(&to_json(&plan, None).unwrap()).unwrap(), plan.clone());
        prop_assert_eq!(inverse(&inverse(&plan)), plan);
    }

    #[test]
    fn any_text_is_refused_without_a_panic(text in ".{0,200}") {
        prop_assert!(from_json(&text).is_err());
    }

    #[test]
    fn a_mangled_file_never_panics_and_what_is_read_holds(
        plan in plans(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = to_json(&plan, None).unwrap().into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte % 0x60 + 0x20;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        if let Ok(read) = from_json(&String::from_utf8_lossy(&bytes)) {
            prop_assert!(read.moves().all(|one| one.from != one.to && !one.slots.is_empty()));
            prop_assert!(to_json(&read, None).is_ok());
        }
    }

    #[test]
    fn done_and_left_are_the_whole(
        plan in plans(),
        done in proptest::collection::vec(any::<bool>(), 61),
    ) {
        let is_done = |slot: Slot| done[usize::from(slot.number()) % done.len()];
        let planned: BTreeMap<Slot, (NodeId, NodeId)> = plan
            .moves()
            .flat_map(|one| one.slots.iter().map(move |slot| (slot, (one.from, one.to))))
            .collect();
        let left = outstanding(&plan, |slot| {
            let (from, to) = planned[&slot];
            Some(if is_done(slot) { to } else { from })
        }).unwrap();
        let expected = planned.keys().filter(|slot| !is_done(**slot));
        let mut slots: Vec<Slot> = left.moves().flat_map(|one| one.slots.iter()).collect();
        slots.sort_unstable();
        prop_assert_eq!(slots, expected.copied().collect::<Vec<_>>());
        prop_assert!(left.moves().all(|one| one.slots.iter().all(|slot| planned[&slot] == (one.from, one.to))));
    }
}
