//! `redis-trib reshard NODE`: moves slots from masters to masters.

use std::cell::RefCell;

use anyhow::anyhow;

use crate::args::moves::MoveArgs;
use crate::args::values::{node_words, number, slot_ranges};
use crate::change::moves::{MovesProposal, OpenSlotsAre, approval, finish_open_if_wanted};
use crate::change::{Change, Global};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{NodeId, Role};
use crate::cluster::slot::{SLOTS, Slot, SlotSet};
use crate::cluster::topology::Member;
use crate::exit_code::ExitCode;
use crate::ops::move_slots;
use crate::plan::MovePlan;
use crate::plan::reshard::{self, Request, ReshardError, Sources, What};
use crate::report::counted;
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::ClusterState;
use crate::stop::{CommandResult, Stop};
use crate::ui::{CheckExtra, CheckFor, Mode, PromptError, Ui};

/// Arguments of `reshard`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib reshard 10.0.0.3:6379                  # asks for slots, target and sources\n  \
    redis-trib reshard 10.0.0.3 --slots 4096 --from all --to 8fabdaed --yes\n  \
    redis-trib reshard 10.0.0.3 --slot-ranges 0-100,200 --to 8fabdaed --dry-run")]
pub struct Args {
    /// A node of the cluster (`host port` as two words is accepted too).
    #[arg(required = true, num_args = 1..=2, value_name = "NODE")]
    node: Vec<String>,
    /// Number of slots to move.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = number("slots", 1..=SLOTS), conflicts_with_all = ["slot_ranges", "tag"])]
    slots: Option<u16>,
    /// Source masters; `all` stands for all other masters.
    #[arg(long, value_name = "MEMBER,…|all", value_delimiter = ',', conflicts_with_all = ["slot_ranges", "tag"])]
    from: Vec<String>,
    /// Target masters.
    #[arg(long, value_name = "MEMBER,…", value_delimiter = ',')]
    to: Vec<String>,
    /// Move these slots from their owners: 0-100,200.
    #[arg(long, value_name = "RANGES", value_parser = slot_ranges)]
    slot_ranges: Option<SlotSet>,
    /// Move the slot of this hash tag or key: {user1000}.
    #[arg(long, value_name = "TAG", conflicts_with = "slot_ranges", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    tag: Option<String>,
    /// First finish moves that were interrupted.
    #[arg(long)]
    finish_open: bool,
    #[command(flatten)]
    moving: MoveArgs,
}

/// Moves slots.
pub async fn run(global: &Global, ui: &Ui, args: Args) -> CommandResult {
    let seed = node_words(&args.node)?;
    let moving = &args.moving;
    if let Some(flag) = missing(&args).filter(|_| !ui.can_ask()) {
        return Err(unasked(PromptError::NoTerminal, flag));
    }
    let mut change = Change::open(global, ui, "reshard", &[seed], approval(moving)).await?;
    let session = change.session();
    change.check_before(CheckFor::Change).await?;
    let open = finish_open_if_wanted(&mut change, ui, moving, args.finish_open).await?;
    if open == OpenSlotsAre::Shown {
        return Ok(ExitCode::Done);
    }
    let asking = async {
        let state = observe(&session, moving).await?;
        let what = what(ui, &args, &state.diagnosis).await?;
        Ok((state, what))
    };
    let (state, what) = change.prepare(asking).await?;
    change.answered(answers(&args, &what));
    let observed = RefCell::new(Some(state));
    let plan = async || {
        let last = observed.take();
        let state = match last {
            Some(state) => state,
            None => observe(&session, moving).await?,
        };
        let request = Request {
            masters: state.owners(),
            what: what.clone(),
        };
        match planned(ui.mode(), request) {
            Ok(plan) => MovesProposal::new(&session, moving, state, plan).await,
            Err(error @ ReshardError::NothingToMove { .. }) => {
                Ok(MovesProposal::nothing(moving, state, error.to_string()))
            }
            Err(error) => Err(Stop::refused(named(&state.diagnosis, &error))),
        }
    };
    match change.approve(plan).await? {
        Some(moves) => moves.carry_out(change, ui).await,
        None => Ok(ExitCode::Done),
    }
}

/// The healthy cluster, once no ASM task runs.
async fn observe(session: &Session, moving: &MoveArgs) -> Result<ClusterState, Stop> {
    let state = crate::converge::settle::healthy(session).await?;
    move_slots::at_rest(session, state, moving.dry_run).await
}

/// The plan. In the old modes all slots of the sources move if there are fewer than requested: scripts empty a master
/// with a number that is large enough.
fn planned(mode: Mode, mut request: Request) -> Result<MovePlan, ReshardError> {
    let planned = reshard::reshard(&request);
    match (&mut request.what, &planned) {
        (What::Count { slots, .. }, Err(ReshardError::TooMany { owned, .. })) if mode.is_old() => {
            *slots = *owned;
            reshard::reshard(&request)
        }
        _ => planned,
    }
}

/// Plans know node ids only; messages name addresses too.
fn named(diagnosis: &Diagnosis, error: &ReshardError) -> anyhow::Error {
    let text = error.to_string();
    anyhow!(match error.node() {
        Some(id) => text.replace(&id.to_string(), &diagnosis.observation.name(id)),
        None => text,
    })
}

/// The first flag that is left out, and asked for on a terminal.
fn missing(args: &Args) -> Option<&'static str> {
    let by_name = args.slot_ranges.is_some() || args.tag.is_some();
    if !by_name && args.slots.is_none() {
        Some("--slots")
    } else if args.to.is_empty() {
        Some("--to")
    } else if !by_name && args.from.is_empty() {
        Some("--from")
    } else {
        None
    }
}

/// The options for what was asked for.
fn answers(args: &Args, what: &What) -> Vec<String> {
    let ids = |ids: &[NodeId]| {
        let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
        ids.join(",")
    };
    let mut options = Vec::new();
    let mut add = |flag: &str, value: String| options.extend([flag.to_string(), value]);
    let to = match what {
        What::Count { slots, from, to } => {
            if args.slots.is_none() {
                add("--slots", slots.to_string());
            }
            if args.from.is_empty() {
                let from = match from {
                    Sources::All => "all".to_string(),
                    Sources::Nodes(from) => ids(from),
                };
                add("--from", from);
            }
            to
        }
        What::Slots { to, .. } => to,
    };
    if args.to.is_empty() {
        add("--to", ids(to));
    }
    options
}

/// What to move: from the flags, and from prompts for what they leave out.
async fn what(ui: &Ui, args: &Args, diagnosis: &Diagnosis) -> Result<What, Stop> {
    let named = match (&args.slot_ranges, &args.tag) {
        (Some(slots), _) => Some(slots.clone()),
        (None, Some(tag)) => Some([Slot::of_key(tag.as_bytes())].into_iter().collect()),
        (None, None) => None,
    };
    if missing(args).is_some() && ui.can_ask() && !ui.mode().is_old() {
        // The masters to choose from.
        ui.diagnosis(diagnosis, &CheckExtra::default())?;
    }
    let find = |name: &str| master(diagnosis, name).map_err(Stop::refused);
    let slots = match (&named, args.slots) {
        (Some(_), _) => 0,
        (None, Some(slots)) => usize::from(slots),
        (None, None) => ask_slots(ui).await?,
    };
    let to: Vec<NodeId> = if args.to.is_empty() {
        vec![ask_node(ui, diagnosis, "What is the receiving node ID? ", "--to").await?]
    } else {
        args.to
            .iter()
            .map(|name| find(name))
            .collect::<Result<_, _>>()?
    };
    if let Some(slots) = named {
        return Ok(What::Slots { slots, to });
    }
    let from = if args.from.is_empty() {
        ask_sources(ui, diagnosis, &to).await?
    } else if args.from.iter().any(|name| name == "all") {
        Sources::All
    } else {
        let sources = args.from.iter().map(|name| find(name));
        let sources: Vec<NodeId> = sources.collect::<Result<_, _>>()?;
        Sources::Nodes(match ui.mode().is_old() {
            true => useful(diagnosis, sources, &to),
            false => sources,
        })
    };
    Ok(What::Count { slots, from, to })
}

/// The sources without the targets and without masters that own no slots, unless nothing else is left: redis-cli and
/// redis-trib.rb take no slots from these, and go on.
fn useful(diagnosis: &Diagnosis, sources: Vec<NodeId>, to: &[NodeId]) -> Vec<NodeId> {
    let members = &diagnosis.topology.members;
    let owns = |id: &NodeId| {
        members
            .get(id)
            .is_some_and(|member| !member.slots.is_empty())
    };
    let useful = sources.iter().copied();
    let useful: Vec<NodeId> = useful.filter(|id| owns(id) && !to.contains(id)).collect();
    match useful.is_empty() {
        true => sources,
        false => useful,
    }
}

/// The master of that name. Replicas are refused: only masters own slots.
fn master(diagnosis: &Diagnosis, name: &str) -> anyhow::Result<NodeId> {
    let id = find_member(&diagnosis.observation, name)?;
    let member = diagnosis.topology.members.get(&id);
    match member.filter(|member| member.role == Role::Replica) {
        None => Ok(id),
        Some(replica) => {
            let of = match replica.master {
                Some(master) => {
                    format!(" of {}: name that one", diagnosis.observation.name(master))
                }
                None => ": name a master".to_string(),
            };
            Err(anyhow!(
                "{} is a replica{of} (only masters own slots)",
                diagnosis.observation.name(id)
            ))
        }
    }
}

/// The same for a source of slots for these targets.
fn source(diagnosis: &Diagnosis, name: &str, to: &[NodeId]) -> anyhow::Result<NodeId> {
    let id = master(diagnosis, name)?;
    let owns = diagnosis.topology.members.get(&id);
    if to.contains(&id) {
        Err(anyhow!(
            "{} is the target of the move",
            diagnosis.observation.name(id)
        ))
    } else if owns.is_none_or(|member| member.slots.is_empty()) {
        Err(anyhow!("{} owns no slots", diagnosis.observation.name(id)))
    } else {
        Ok(id)
    }
}

async fn ask_slots(ui: &Ui) -> Result<usize, Stop> {
    let question = format!("How many slots do you want to move (from 1 to {SLOTS})? ");
    loop {
        let answer = ui
            .question(&question)
            .await
            .map_err(|e| unasked(e, "--slots"))?;
        match answer.parse::<usize>() {
            Ok(slots) if (1..=usize::from(SLOTS)).contains(&slots) => return Ok(slots),
            _ => ui.warn(&format!("{answer:?} is not a number from 1 to {SLOTS}")),
        }
    }
}

/// Whether an answer asks for a list to choose from. Only a person at a terminal gets one.
fn wants_list(ui: &Ui, answer: &str) -> bool {
    ui.is_with_person() && matches!(answer, "" | "?")
}

/// Says once that a question can be answered from a list.
fn tell_of_list(ui: &Ui) {
    if ui.is_with_person() {
        ui.hint("press Enter to choose from a list");
    }
}

/// Masters, and their lines in a list.
fn listed(diagnosis: &Diagnosis, pick: impl Fn(&Member) -> bool) -> (Vec<NodeId>, Vec<String>) {
    let members = diagnosis.topology.reading_order().into_iter();
    members
        .filter(|member| member.role == Role::Master && pick(member))
        .map(|master| {
            let name = diagnosis.observation.name(master.id);
            let slots = counted(master.slots.count() as u64, "slot");
            (master.id, format!("{name}  {slots}"))
        })
        .unzip()
}

async fn ask_node(
    ui: &Ui,
    diagnosis: &Diagnosis,
    question: &str,
    flag: &str,
) -> Result<NodeId, Stop> {
    tell_of_list(ui);
    loop {
        let answer = ui.question(question).await.map_err(|e| unasked(e, flag))?;
        if wants_list(ui, &answer) {
            let (ids, lines) = listed(diagnosis, |_| true);
            let chosen = ui.one_of("Target", &lines).await;
            match chosen.map_err(|e| unasked(e, flag))? {
                Some(place) => return Ok(ids[place]),
                None => continue,
            }
        }
        match master(diagnosis, &answer) {
            Ok(id) => return Ok(id),
            Err(error) => ui.warn(&error.to_string()),
        }
    }
}

/// Asks in the words of redis-trib.rb.
async fn ask_sources(ui: &Ui, diagnosis: &Diagnosis, to: &[NodeId]) -> Result<Sources, Stop> {
    let mut question = "Please enter all the source node IDs.\n  \
        Type 'all' to use all the nodes as source nodes for the hash slots.\n  \
        Type 'done' once you entered all the source nodes IDs.\n"
        .to_string();
    let mut sources = Vec::new();
    loop {
        question += &format!("Source node #{}: ", sources.len() + 1);
        let answer = ui
            .question(&question)
            .await
            .map_err(|e| unasked(e, "--from"))?;
        question.clear();
        if sources.is_empty() && wants_list(ui, &answer) {
            let (ids, lines) = listed(diagnosis, |master| {
                !master.slots.is_empty() && !to.contains(&master.id)
            });
            let chosen = ui.some_of("Sources", &lines).await;
            match chosen.map_err(|e| unasked(e, "--from"))? {
                Some(places) => {
                    let chosen = places.into_iter().map(|place| ids[place]);
                    return Ok(Sources::Nodes(chosen.collect()));
                }
                None => continue,
            }
        }
        match answer.as_str() {
            "all" => return Ok(Sources::All),
            "done" if sources.is_empty() => ui.warn("name at least one source, or 'all'"),
            "done" => return Ok(Sources::Nodes(sources)),
            name => match source(diagnosis, name, to) {
                Ok(id) if sources.contains(&id) => ui.warn("that source is named already"),
                Ok(id) => sources.push(id),
                Err(error) => ui.warn(&error.to_string()),
            },
        }
    }
}

/// A value is missing and can't be asked for.
fn unasked(error: PromptError, flag: &str) -> Stop {
    match error {
        PromptError::Interrupted => Stop::interrupted(anyhow!("interrupted (SIGINT)")),
        PromptError::NoTerminal => {
            Stop::usage(anyhow!("{flag} is missing and stdin is not a terminal"))
        }
        error => Stop::usage(anyhow!("{error}: pass {flag}")),
    }
}
