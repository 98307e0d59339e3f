//! `redis-trib create NODE…`: a cluster of empty nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::session::{Intent, Session};
use super::zones::ZoneArgs;
use super::{CommandResult, Stop};
use crate::agreement::{Goal, Watch};
use crate::cli::{GlobalArgs, duration};
use crate::client::{ClientError, Fault, LoginOutcome};
use crate::cluster::health::{Background, Diagnosis};
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::observation::{ObservedNode, Report, Seen};
use crate::cluster::parse::EntryPool;
use crate::connections::Target;
use crate::discover::{self, Looked};
use crate::execute::{Execution, Parties, Party};
use crate::exit_code::ExitCode;
use crate::plan::create::{self, Candidate, FewMasters, Layout, Request, Shared};
use crate::plan::{Plan, Progress};
use crate::seed::{Seed, parse_addr};
use crate::ui::{Answer, LayoutView, NodeName, PlannedShard, PromptError, Ui};

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    redis-trib create --replicas 1 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.7 10.0.0.8 10.0.0.9\n  \
    redis-trib create --yes --if-needed --replicas 1 --expect-nodes 6 tasks.master tasks.slave")]
pub struct Args {
    /// The nodes. With names that stand for several nodes, those of the first names become masters
    /// where their number fits.
    #[arg(required = true, value_name = "NODE")]
    nodes: Vec<Seed>,
    /// Replicas for each master.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..1000))]
    replicas: u16,
    /// This node becomes a master (repeatable).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pin_master: Vec<Addr>,
    /// This node becomes a replica (repeatable).
    #[arg(long, value_name = "ADDR", value_parser = parse_addr)]
    pin_replica: Vec<Addr>,
    /// Make a cluster of one or two masters, which can't fail over by itself.
    #[arg(long)]
    allow_few_masters: bool,
    #[command(flatten)]
    zones: ZoneArgs,
    /// Succeed, and change nothing, where the nodes form one healthy cluster already.
    #[arg(long)]
    if_needed: bool,
    /// Don't ask.
    #[arg(short, long)]
    yes: bool,
    /// Show what would be done, and stop.
    #[arg(long)]
    dry_run: bool,
    /// Return when all nodes agree about slots and roles, before they serve and replicas have a copy.
    #[arg(long)]
    no_wait: bool,
    /// How long the nodes may take to join, agree and serve.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    join_timeout: Duration,
}

/// The oldest server that is served.
const OLDEST: [u16; 3] = [3, 2, 0];

/// Makes a cluster of empty nodes.
pub async fn run(global: &GlobalArgs, ui: &Ui, args: Args) -> CommandResult {
    let session = Session::open(global, ui, &args.nodes, Intent::Change("create")).await?;
    let recruits = recruit(global, &session).await?;
    if args.if_needed
        && recruits.iter().any(|recruit| !recruit.is_bare())
        && let Some(code) = existing(ui, &session, &recruits).await?
    {
        return Ok(code);
    }
    let layout = lay_out(&session, &args, &recruits).await?;
    let plan = layout.plan();
    let progress = plan.progress(|id| {
        recruits
            .iter()
            .find(|r| r.id() == id)
            .map(|r| &r.report.view)
    });
    let misfits = misfits(&recruits, &plan, &progress);
    if !misfits.is_empty() {
        return Err(refusal(misfits));
    }
    let parties = Arc::new(parties(&session, &recruits).await?);
    ui.layout(&view(&layout, &recruits))?;
    if args.dry_run {
        return Ok(ExitCode::Done);
    }
    if progress.done > 0 {
        ui.hint(&format!(
            "{} of {} steps are done already, by a create that was cut off: the rest follows",
            progress.done,
            progress.done + progress.rest.len()
        ));
    }
    consent(ui, &args, &recruits).await?;
    session
        .refuse_others(parties.values().map(|party| &party.target))
        .await?;

    let (events, mut told) = mpsc::unbounded_channel();
    let goal = Arc::new(goal(&layout));
    let carry_out = carry_out(&session, &args, &progress.rest, &parties, &goal, events);
    let show = async {
        while let Some(event) = told.recv().await {
            ui.event(&event);
        }
    };
    let started = Instant::now();
    let (outcome, ()) = tokio::select! {
        outcome = async { tokio::join!(carry_out, show) } => outcome,
        _ = tokio::signal::ctrl_c() => {
            (Err(Stop::interrupted(anyhow!("interrupted"))), ())
        }
    };
    outcome.map_err(|stop| with_way_out(stop, &recruits))?;

    let observation = discover::observe(&session.connections, &session.targets()).await?;
    let diagnosis = Diagnosis::of(observation, &Background::default());
    ui.created(&diagnosis, started.elapsed())?;
    Ok(ExitCode::Done)
}

/// A node that shall be in the cluster.
struct Recruit {
    target: Target,
    /// Which of the seeds it came from.
    seed_set: usize,
    report: Report,
    login: LoginOutcome,
    /// Whether it could log in to a master that wants a password, as far as it tells.
    can_follow: bool,
}

impl Recruit {
    fn id(&self) -> NodeId {
        self.report.view.myself().id
    }

    /// Knows nobody, owns nothing, holds nothing.
    fn is_bare(&self) -> bool {
        self.report.view.entries().len() == 1
            && self.report.view.myself().slots.is_empty()
            && self.report.info.total_keys() == 0
    }

    /// `127.0.0.1:7000 (1977c4d4)`.
    fn name(&self) -> String {
        format!("{} ({})", self.target.addr, self.id().short())
    }
}

/// Reads all nodes side by side. While names fill up, nodes may still be starting.
async fn recruit(global: &GlobalArgs, session: &Session) -> Result<Vec<Recruit>, Stop> {
    let targets = session.targets();
    let patience = global
        .expect_nodes
        .map(|_| Instant::now() + global.resolve_timeout);
    let looks = loop {
        let looks = discover::look_at_all(&session.connections, &targets).await;
        let starting = looks.iter().any(|(_, look)| {
            let fault = look.as_ref().err().map(|error| &error.fault);
            matches!(
                fault,
                Some(Fault::Refused | Fault::ConnectTimeout(_) | Fault::Loading)
            )
        });
        if !starting || patience.is_none_or(|patience| Instant::now() >= patience) {
            break looks;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let sets = session.seeds.iter().enumerate();
    let seed_sets = sets.flat_map(|(i, set)| set.targets.iter().map(move |_| i));
    let mut pool = EntryPool::default();
    let mut recruits = Vec::new();
    let mut faults: Vec<ClientError> = Vec::new();
    let mut unreadable = Vec::new();
    for (seed_set, (target, look)) in seed_sets.zip(looks) {
        match look {
            Ok(Looked { raw, login }) => match discover::read(&mut pool, &raw) {
                Ok(report) => recruits.push(Recruit {
                    can_follow: login != LoginOutcome::Accepted
                        || has_masterauth(session, &target).await,
                    target,
                    seed_set,
                    report,
                    login,
                }),
                Err(error) => unreadable.push(format!("{}: {error}", target.addr)),
            },
            Err(error) => faults.push(error),
        }
    }
    if recruits.is_empty() && unreadable.is_empty() {
        return Err(discover::DiscoverError::NobodyAnswers(faults).into());
    }
    let problems: Vec<String> = faults
        .iter()
        .map(ToString::to_string)
        .chain(unreadable)
        .collect();
    if problems.is_empty() {
        Ok(recruits)
    } else {
        Err(refusal(problems))
    }
}

/// Whether a node that wants a password has one for its own master. Where CONFIG is denied we can't
/// tell, and find out when it follows.
async fn has_masterauth(session: &Session, target: &Target) -> bool {
    const MASTERAUTH: &str = "masterauth";
    let config = match session.connections.errand(target).await {
        Ok(client) => client.config_get(&[MASTERAUTH]).await,
        Err(error) => Err(error),
    };
    config.is_ok_and(|config| config.get(MASTERAUTH).is_none_or(|value| !value.is_empty()))
}

/// Everything that speaks against it, at once.
fn refusal(problems: Vec<String>) -> Stop {
    match problems.as_slice() {
        [only] => Stop::refused(anyhow!("{only}")),
        many => Stop::refused(anyhow!(
            "{} things stand against it:\n  {}",
            many.len(),
            many.join("\n  ")
        )),
    }
}

/// `--if-needed` where some node is not bare: one healthy cluster of all that were named is fine;
/// `None` sends it on to the planner, which knows its own half-done work.
async fn existing(
    ui: &Ui,
    session: &Session,
    recruits: &[Recruit],
) -> Result<Option<ExitCode>, Stop> {
    let observation = discover::observe(&session.connections, &session.targets()).await?;
    let named: BTreeSet<NodeId> = recruits.iter().map(Recruit::id).collect();
    let known = &recruits
        .iter()
        .map(|r| &r.report.view)
        .max_by_key(|view| view.entries().len());
    let foreign = known.is_some_and(|view| view.entries().any(|e| !named.contains(&e.id)));
    let diagnosis = Diagnosis::of(observation, &Background::default());
    if diagnosis.is_healthy() {
        ui.already(&diagnosis)?;
        return Ok(Some(ExitCode::Done));
    }
    // A cluster that serves all slots, or has others in it, is no half-done work of ours.
    if foreign || diagnosis.slots_covered() == usize::from(crate::cluster::slot::SLOTS) {
        let findings = diagnosis
            .findings
            .iter()
            .map(|finding| format!("{}: {}", finding.code, finding.message))
            .collect();
        return Err(refusal(findings));
    }
    Ok(None)
}

async fn lay_out(session: &Session, args: &Args, recruits: &[Recruit]) -> Result<Layout, Stop> {
    let observed: Vec<(ObservedNode, Target)> = recruits
        .iter()
        .map(|recruit| {
            let node = ObservedNode {
                id: recruit.id(),
                dial: Some(recruit.target.addr.clone()),
                peer: recruit.report.view.myself().addr.clone(),
                hostname: recruit.report.view.myself().hostname.clone(),
                seen: Seen::Report(Box::new(recruit.report.clone())),
            };
            (node, recruit.target.clone())
        })
        .collect();
    let nodes: Vec<_> = observed
        .iter()
        .map(|(node, target)| (node, target.clone()))
        .collect();
    let zones = args.zones.zones(&session.connections, &nodes).await;
    for addr in args.pin_master.iter().chain(&args.pin_replica) {
        if !recruits.iter().any(|recruit| recruit.target.addr == *addr) {
            return Err(Stop::usage(anyhow!(
                "{addr} is pinned, but is not among the nodes"
            )));
        }
    }
    let request = Request {
        nodes: observed
            .iter()
            .zip(recruits)
            .map(|((node, target), recruit)| {
                Ok(Candidate {
                    id: node.id,
                    addr: target.addr.clone(),
                    host: node.host().unwrap_or_default().to_string(),
                    zone: zones.get(&node.id).cloned(),
                    pin: pin(args, &target.addr)?,
                    seed_set: recruit.seed_set,
                })
            })
            .collect::<Result<_, Stop>>()?,
        replicas: usize::from(args.replicas),
        few_masters: if args.allow_few_masters {
            FewMasters::Allow
        } else {
            FewMasters::Refuse
        },
    };
    create::create(&request).map_err(Stop::refused)
}

fn pin(args: &Args, addr: &Addr) -> Result<Option<Role>, Stop> {
    match (
        args.pin_master.contains(addr),
        args.pin_replica.contains(addr),
    ) {
        (true, true) => Err(Stop::usage(anyhow!(
            "{addr} is pinned as master and as replica"
        ))),
        (true, false) => Ok(Some(Role::Master)),
        (false, true) => Ok(Some(Role::Replica)),
        (false, false) => Ok(None),
    }
}

/// What keeps nodes from being made into this cluster; what an earlier, interrupted run of the same
/// plan left behind is fine.
fn misfits(recruits: &[Recruit], plan: &Plan, progress: &Progress) -> Vec<String> {
    let planned: HashMap<NodeId, &Recruit> = recruits.iter().map(|r| (r.id(), r)).collect();
    let some_locked = recruits.iter().any(|r| r.login == LoginOutcome::Accepted);
    let replicates = !plan.split_at_replicas().1.is_empty();
    let mut misfits = Vec::new();
    for recruit in recruits {
        let mut add = |what: String| misfits.push(format!("{} {what}", recruit.name()));
        let view = &recruit.report.view;
        let info = &recruit.report.info;
        if let Some(version) = info.version.filter(|version| version.numbers < OLDEST) {
            add(format!("runs {version}: 3.2 is the oldest that is served"));
        }
        if some_locked && recruit.login == LoginOutcome::NoPasswordNeeded {
            add(
                "needs no password, while others do: give it the same requirepass and masterauth"
                    .into(),
            );
        }
        if replicates && !recruit.can_follow {
            add("wants a password, but has no masterauth: as a replica it could not log in to its master (CONFIG SET masterauth)".into());
        }
        let keys = info.total_keys();
        if keys > 0 {
            let plural = if keys == 1 { "" } else { "s" };
            add(format!(
                "is not empty: it holds {keys} key{plural} (FLUSHALL empties it)"
            ));
        }
        let strangers: Vec<String> = view
            .entries()
            .filter(|entry| !planned.contains_key(&entry.id))
            .map(|entry| match &entry.addr {
                Some(addr) => format!("{addr} ({})", entry.id.short()),
                None => entry.id.short(),
            })
            .collect();
        if !strangers.is_empty() {
            let shown = strangers
                .iter()
                .take(4)
                .cloned()
                .collect::<Vec<_>>()
                .join(", ");
            let more = strangers.len().saturating_sub(4);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            add(format!(
                "belongs to a cluster already: it knows {shown}{more} (CLUSTER RESET on it leaves that cluster)"
            ));
        } else if let Some(what) = progress.contradictions.get(&recruit.id()) {
            add(format!("{what} (CLUSTER RESET on it makes it forget that)"));
        }
    }
    misfits
}

/// Where the nodes reach each other.
async fn parties(session: &Session, recruits: &[Recruit]) -> Result<Parties, Stop> {
    let mut parties = BTreeMap::new();
    for recruit in recruits {
        let myself = recruit.report.view.myself();
        let peer = match &myself.addr {
            Some(announced) => announced.clone(),
            None => session.connections.peer_of(&recruit.target.addr),
        };
        let ip = ip_of(&peer).await.map_err(|error| {
            Stop::refused(error.context(format!(
                "{}: the other nodes need its IP address",
                recruit.name()
            )))
        })?;
        let usual = peer.port().checked_add(10_000);
        parties.insert(
            recruit.id(),
            Party {
                target: recruit.target.clone(),
                ip,
                port: peer.port(),
                bus_port: myself.bus_port.filter(|bus| Some(*bus) != usual),
            },
        );
    }
    Ok(parties)
}

async fn ip_of(addr: &Addr) -> anyhow::Result<IpAddr> {
    if let Some(ip) = addr.ip() {
        return Ok(ip);
    }
    let ips: Vec<IpAddr> = tokio::net::lookup_host((addr.host(), addr.port()))
        .await?
        .map(|socket| socket.ip())
        .collect();
    let v4 = ips.iter().find(|ip| ip.is_ipv4());
    let ip = v4.or(ips.first()).copied();
    ip.ok_or_else(|| anyhow!("{} does not resolve", addr.host()))
}

fn view(layout: &Layout, recruits: &[Recruit]) -> LayoutView {
    let name = |id: NodeId| NodeName {
        id,
        addr: recruits
            .iter()
            .find(|recruit| recruit.id() == id)
            .map_or_else(|| Addr::new("", 0), |recruit| recruit.target.addr.clone()),
        zone: None,
    };
    LayoutView {
        masters: layout
            .shards
            .iter()
            .map(|shard| PlannedShard {
                master: name(shard.master),
                slots: shard.slots,
                replicas: shard.replicas.iter().map(|id| name(*id)).collect(),
            })
            .collect(),
        warnings: layout
            .conflicts
            .iter()
            .map(|conflict| {
                let nodes: Vec<String> = conflict
                    .nodes
                    .iter()
                    .map(|id| name(*id).to_string())
                    .collect();
                let place = match &conflict.shared {
                    Shared::Host(host) => format!("host {host}"),
                    Shared::Zone(zone) => format!("zone {zone}"),
                };
                format!("share {place}: {}", nodes.join(", "))
            })
            .collect(),
    }
}

fn goal(layout: &Layout) -> Goal {
    Goal {
        slots: layout
            .shards
            .iter()
            .map(|shard| (shard.master, vec![shard.slots]))
            .collect(),
        masters: layout
            .shards
            .iter()
            .flat_map(|shard| {
                shard
                    .replicas
                    .iter()
                    .map(|replica| (*replica, shard.master))
            })
            .collect(),
    }
}

async fn consent(ui: &Ui, args: &Args, recruits: &[Recruit]) -> Result<(), Stop> {
    if args.yes {
        return Ok(());
    }
    let about = format!("A new cluster of {} nodes.", recruits.len());
    match ui
        .confirm("Can I set the above configuration?", &about)
        .await
    {
        Ok(Answer::Accepted) => Ok(()),
        Ok(Answer::Declined) => Err(Stop::not_confirmed(anyhow!(
            "declined: nothing was changed"
        ))),
        Err(PromptError::NoTerminal) => Err(Stop::not_confirmed(anyhow!(
            "there is no terminal to ask on: --yes says yes; nothing was changed"
        ))),
        Err(PromptError::Interrupted) => Err(Stop::interrupted(anyhow!(
            "interrupted: nothing was changed"
        ))),
        Err(error) => Err(Stop::not_confirmed(anyhow!("{error}: nothing was changed"))),
    }
}

async fn carry_out(
    session: &Session,
    args: &Args,
    plan: &Plan,
    parties: &Arc<Parties>,
    goal: &Arc<Goal>,
    events: mpsc::UnboundedSender<crate::event::Event>,
) -> Result<(), Stop> {
    let watch = Watch {
        connections: Arc::clone(&session.connections),
        parties: Arc::clone(parties),
        events: events.clone(),
        deadline: Instant::now() + args.join_timeout,
        within: args.join_timeout,
    };
    let execution = Execution {
        connections: Arc::clone(&session.connections),
        parties: Arc::clone(parties),
        events,
    };
    let (joining, following) = plan.split_at_replicas();
    execution.run(&joining).await.map_err(Stop::partial)?;
    watch.join().await.map_err(Stop::partial)?;
    execution.run(&following).await.map_err(Stop::partial)?;
    watch.agree(goal).await.map_err(Stop::partial)?;
    if !args.no_wait {
        watch.usable(goal).await.map_err(Stop::partial)?;
    }
    Ok(())
}

/// What to do with a cluster that is half made.
fn with_way_out(stop: Stop, recruits: &[Recruit]) -> Stop {
    let undo: Vec<String> = recruits
        .iter()
        .map(|recruit| {
            let addr = &recruit.target.addr;
            format!(
                "  redis-cli -h {} -p {} CLUSTER RESET",
                addr.host(),
                addr.port()
            )
        })
        .collect();
    Stop {
        code: stop.code,
        error: anyhow!(
            "{:#}\nThe cluster is half made. The same command again finishes it; to undo it:\n{}",
            stop.error,
            undo.join("\n")
        ),
    }
}
