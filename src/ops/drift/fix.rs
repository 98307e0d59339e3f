//! `drift --fix`: gives the other nodes what one node has, one node after the other, and reads it back.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::{Instant, sleep};

use super::{Setups, note, of_node, read};
use crate::client::{ClientError, NodeClient, RawSetup};
use crate::cluster::node::NodeId;
use crate::cluster::numbers::bytes;
use crate::cluster::parse::Info;
use crate::cluster::setup::{self, Item, Kind, Setup, Value};
use crate::connections::Target;
use crate::plan::drift::{DriftFix, FixRefusal, FixTarget, What, plan_fix};
use crate::report::{DriftFixView, DriftTargetView};
use crate::resolve::find_member;
use crate::session::Session;
use crate::state::name;
use crate::stop::Stop;

/// The longest value of a setting that is copied.
const VALUE_LIMIT: usize = 1024;

/// How long replicas may take to have the functions of their master.
const REPLICATED_WITHIN: Duration = Duration::from_secs(10);

/// The setting with the limit of memory.
const MAXMEMORY: &str = "maxmemory";

/// A planned fix, with the cluster that it was planned for.
pub(crate) struct Fix {
    setups: Setups,
    what: What,
    from: NodeId,
    plan: DriftFix,
}

/// Plans to give what `from` has to the others.
pub(crate) async fn plan(session: &Session, what: &What, from: &str) -> Result<Fix, Stop> {
    let setups = read(session).await?;
    let observation = &setups.cluster.diagnosis.observation;
    let from = find_member(observation, from).map_err(Stop::refused)?;
    let refused = |refusal: FixRefusal| {
        Stop::refused(anyhow!(
            "{}; nothing was changed",
            refusal.explain(|id| setups.cluster.name(id))
        ))
    };
    let plan = plan_fix(&setups.nodes, what, from).map_err(refused)?;
    let fix = Fix {
        what: what.clone(),
        from,
        plan,
        setups,
    };
    fix.refuse_too_small_a_limit()?;
    Ok(fix)
}

impl Fix {
    /// Whether all nodes have it already.
    pub(crate) fn is_empty(&self) -> bool {
        self.plan.targets.is_empty()
    }

    /// The number of nodes that change.
    pub(crate) fn len(&self) -> usize {
        self.plan.targets.len()
    }

    /// Whether both change the same nodes in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.from == other.from && self.plan == other.plan
    }

    /// The nodes on which no other operator may be at work.
    pub(crate) fn lock(&self) -> Vec<Target> {
        let nodes = self.setups.nodes.iter();
        nodes
            .filter_map(|node| self.setups.cluster.reach.get(&node.id).cloned())
            .collect()
    }

    /// What is shown.
    pub(crate) fn view(&self) -> DriftFixView {
        let named = |id: NodeId| name(&self.setups.cluster.diagnosis, id);
        let shown = |value: &Option<Value>| value.as_ref().and_then(|value| value.shown.clone());
        let mut warnings = self.plan.warnings(|id| self.setups.cluster.name(id));
        for (id, why) in &self.setups.silent {
            let node = self.setups.cluster.name(*id);
            warnings.push(format!(
                "{node} was not compared, and is not changed: {why}"
            ));
        }
        if let What::User(user) = &self.what
            && self.own_users().contains(user.as_str())
        {
            warnings.push(format!("{user:?} is the user that redis-trib logs in as"));
        }
        DriftFixView {
            fix: self.what.to_string(),
            from: named(self.from),
            value: match &self.what {
                What::Setting(key) => {
                    let item = setting(key);
                    let value = self.plan.values.get(&item);
                    value.and_then(|value| value.shown.clone())
                }
                What::Functions | What::User(_) => None,
            },
            nodes: self
                .plan
                .targets
                .iter()
                .map(|target| DriftTargetView {
                    node: named(target.id),
                    now: shown(&target.now),
                })
                .collect(),
            warnings,
        }
    }

    /// The users that this program logs in as.
    fn own_users(&self) -> BTreeSet<&str> {
        let reach = self.setups.cluster.reach.values();
        reach
            .map(|target| target.access.login.user.as_deref().unwrap_or("default"))
            .collect()
    }

    /// A limit below what a node uses would evict its keys, or refuse writes.
    fn refuse_too_small_a_limit(&self) -> Result<(), Stop> {
        let Some(limit) = self.limit()? else {
            return Ok(());
        };
        for target in &self.plan.targets {
            let node = self
                .setups
                .cluster
                .diagnosis
                .observation
                .nodes
                .get(&target.id);
            let info = node
                .and_then(|node| node.report())
                .map(|report| &report.info);
            let used = info.and_then(|info| info.used_memory);
            refuse_limit(limit, used, &self.setups.cluster.name(target.id))?;
        }
        Ok(())
    }

    /// The `maxmemory` that nodes get; `None` if something else is copied.
    fn limit(&self) -> Result<Option<u64>, Stop> {
        let What::Setting(key) = &self.what else {
            return Ok(None);
        };
        if key != MAXMEMORY {
            return Ok(None);
        }
        let value = self.plan.values.get(&setting(key));
        let limit = value.and_then(|value| value.shown.as_ref()?.parse().ok());
        limit.map(Some).ok_or_else(|| {
            let source = self.setups.cluster.name(self.from);
            Stop::refused(anyhow!(
                "{source} reports a {MAXMEMORY} that is no number of bytes; nothing was changed"
            ))
        })
    }
}

fn setting(key: &str) -> Item {
    Item {
        kind: Kind::Setting,
        name: key.to_string(),
    }
}

fn refuse_limit(limit: u64, used: Option<u64>, node: &str) -> Result<(), Stop> {
    match used {
        _ if limit == 0 => Ok(()),
        Some(used) if used < limit => Ok(()),
        Some(used) => Err(Stop::refused(anyhow!(
            "{node} uses {}, which is not less than the maxmemory of {} that it would get: it would evict keys or \
             refuse writes",
            bytes(used),
            bytes(limit)
        ))),
        None => Err(Stop::refused(anyhow!(
            "{node} does not tell how much memory it uses, so its maxmemory is not changed"
        ))),
    }
}

/// What the source has, as it is sent to the others.
enum Given {
    Functions(Vec<u8>),
    Rules(Vec<Vec<u8>>),
    Value(String),
}

/// Changes one node after the other. The same command goes on after a stop.
pub(crate) async fn execute(session: &Session, fix: &Fix) -> Result<(), Stop> {
    let given = session
        .interrupt
        .stops(given(session, fix))
        .await
        .map_err(|signal| Stop::interrupted(anyhow!("interrupted ({signal})")))??;
    let all = fix.plan.targets.len();
    for (done, target) in fix.plan.targets.iter().enumerate() {
        let at = format!("{done} of {all} nodes are done; the same command goes on");
        if let Some(signal) = session.interrupt.heard() {
            return Err(Stop::interrupted(anyhow!("interrupted ({signal}): {at}")));
        }
        let named = fix.setups.cluster.name(target.id);
        let changed = change(session, fix, target, &given);
        let changed = tokio::select! {
            changed = changed => changed,
            () = session.second_signal("the node in hand") => {
                return Err(Stop::interrupted(anyhow!("interrupted twice: {at}")));
            }
        };
        changed.map_err(|stop| Stop::partial(anyhow!("{:#}; {at}", stop.error)))?;
        session
            .events
            .note(format!("{named} has the {} of the source", fix.what.noun()));
    }
    Ok(())
}

/// Reads the source again: it must still have what was planned.
async fn given(session: &Session, fix: &Fix) -> Result<Given, Stop> {
    let source = fix.setups.cluster.name(fix.from);
    let refused = |why: String| Stop::refused(anyhow!("{source}: {why}"));
    let Some(target) = fix.setups.cluster.reach.get(&fix.from) else {
        return Err(refused("it has no address".to_string()));
    };
    let client = session.connections.client(target).await?;
    let dump = match fix.what {
        What::Functions => client.function_dump().await?,
        What::User(_) | What::Setting(_) => Vec::new(),
    };
    let raw = client.setup().await?;
    let given = match &fix.what {
        What::Functions => Some(Given::Functions(dump)),
        What::User(user) => rules(&raw, user).map(Given::Rules),
        What::Setting(key) => value(&raw, key).map(Given::Value),
    };
    let mut now = Setup::default();
    note(&mut now, raw);
    let is_same = fix.plan.is_met_by(&now);
    match given.filter(|_| is_same) {
        Some(given) => Ok(given),
        None => Err(refused(format!(
            "its {} can't be copied, or has changed since the plan was made",
            fix.what.noun()
        ))),
    }
}

fn rules(raw: &RawSetup, user: &str) -> Option<Vec<Vec<u8>>> {
    let mut users = raw.users.as_ref().ok()?.iter();
    let rules = users.find_map(|line| {
        let (name, rules) = setup::user_of(line)?;
        (name == user.as_bytes()).then_some(rules)
    });
    Some(setup::rules_of(rules?))
}

/// The value of a setting, if it can be one: a line of text.
fn value(raw: &RawSetup, key: &str) -> Option<String> {
    let mut settings = raw.settings.as_ref().ok()?.iter();
    let (_, value) = settings.find(|(name, _)| name.eq_ignore_ascii_case(key.as_bytes()))?;
    let value = String::from_utf8(value.clone()).ok()?;
    let is_line = value.len() <= VALUE_LIMIT && !value.contains(char::is_control);
    is_line.then_some(value)
}

async fn change(
    session: &Session,
    fix: &Fix,
    target: &FixTarget,
    given: &Given,
) -> Result<(), Stop> {
    let named = fix.setups.cluster.name(target.id);
    let Some(reach) = fix.setups.cluster.reach.get(&target.id) else {
        return Err(Stop::refused(anyhow!("{named} has no address")));
    };
    let client = session.connections.client(reach).await?;
    let kept = match given {
        Given::Functions(dump) => {
            client.function_restore(dump).await?;
            Ok(())
        }
        Given::Rules(rules) => {
            let What::User(user) = &fix.what else {
                return Ok(());
            };
            client.acl_setuser(user, rules).await?;
            keep_users(&client).await
        }
        Given::Value(value) => {
            let What::Setting(key) = &fix.what else {
                return Ok(());
            };
            if let Some(limit) = fix.limit()? {
                let used = Info::parse(&client.info().await?).used_memory;
                refuse_limit(limit, used, &named)?;
            }
            client.config_set(key, value).await?;
            client.config_rewrite().await
        }
    };
    read_back(session, fix, target.id).await?;
    if let Err(error) = kept {
        session.events.warn(format!(
            "{named} has it until it restarts, and has not written it down: {}",
            error.fault
        ));
    }
    Ok(())
}

/// Users are kept in the ACL file where there is one, and otherwise in the configuration file.
async fn keep_users(client: &NodeClient) -> Result<(), ClientError> {
    let file = client.config_get(&["aclfile"]).await?;
    match file.get("aclfile").is_some_and(|file| !file.is_empty()) {
        true => client.acl_save().await,
        false => client.config_rewrite().await,
    }
}

/// The node must have what the source has; for functions, its replicas too.
async fn read_back(session: &Session, fix: &Fix, id: NodeId) -> Result<(), Stop> {
    let shard = fix.setups.nodes.iter().filter(|node| match fix.what {
        What::Functions => node.shard == id || node.id == id,
        What::User(_) | What::Setting(_) => node.id == id,
    });
    let shard: Vec<_> = shard.collect();
    let until = Instant::now() + REPLICATED_WITHIN;
    for node in shard {
        let named = fix.setups.cluster.name(node.id);
        let Some(reach) = fix.setups.cluster.reach.get(&node.id) else {
            continue;
        };
        loop {
            let mut now = node.clone();
            now.setup = Setup::default();
            let now = of_node(&session.connections, now, reach).await;
            let now = now.map_err(|fault| Stop::refused(anyhow!("{named}: {fault}")))?;
            if fix.plan.is_met_by(&now.setup) {
                break;
            }
            if node.id == id || Instant::now() > until {
                return Err(Stop::refused(anyhow!(
                    "{named} was told the {} of the source, and reports another one",
                    fix.what.noun()
                )));
            }
            session
                .events
                .waiting(format!("{named} to have the functions of its master"));
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
