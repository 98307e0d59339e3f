//! The views of every command, each in the format that was asked for. The formats that only `check` has give way to
//! `classic` elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::streams::Format;
use super::style::{Style, Tone, bytes, counted, ms, per_second, plain};
use super::summary::{self, Mark, Marked};
use super::table::Sheet;
use super::text::{
    TextFormat, call, config, data, drift, failover, fix, place, replace, roll, slots, throttle,
    verify, where_is,
};
use super::{CheckExtra, Detail, Mode, Status, Ui, classic, json, nagios, prometheus, table};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::{Addr, NodeId, Role};
use crate::cluster::slot::{SLOTS, SlotSet};
use crate::exit_code::ExitCode;
use crate::report::{
    AliveView, BackupView, BalanceView, Called, CheckView, ConfigView, DriftFixView, DriftView,
    FailoverReport, FailoverView, FixLine, FixView, HeatView, InfoView, JoinView, LargestStopView,
    LayoutView, LeaveView, Line, MovedView, MovesView, Node, OkToStopDocument, OkToStopView,
    PlaceView, RemedyOptions, ReplaceView, ReplyView, RestartedView, RollView, SetTimeoutView,
    StatisticsView, ThrottleView, TimeoutSet, TransferPlan, TransferReport, TransferView,
    VerifyView, WhereView,
};

/// What a check is printed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFor {
    /// `rebalance`, which lists no nodes.
    Rebalance,
    /// `fix`, which lists the masters with their keys, too.
    Fix,
    /// Another command.
    Change,
}

/// What `config` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigText {
    /// One line for each cluster.
    List,
    /// The settings.
    Show,
    /// The problems.
    Check,
}

/// The command whose JSON is the document of a diagnosis.
const CHECK: &str = "check";

impl Ui {
    /// The result of `check`, or the cluster that a command found.
    pub fn diagnosis(&self, diagnosis: &Diagnosis, extra: &CheckExtra) -> io::Result<()> {
        self.progress().abandon();
        let view = CheckView::of(diagnosis, &extra.zones, &extra.notes, &extra.options);
        let status = Status::of(&view, extra.strictness);
        self.told_nagios.get_or_init(|| status);
        let is_check = self.command.get() == Some(&CHECK);
        match self.format {
            Format::Table(sheet) => self.result(|out| match extra.detail {
                Detail::Nodes => table::check(out, &view, sheet),
                Detail::Shards => table::check_brief(out, &view, sheet),
            }),
            Format::Classic(style) => {
                let dialect = self.dialect();
                let nodes = match extra.detail {
                    Detail::Nodes => classic::Nodes::Listed,
                    Detail::Shards => classic::Nodes::LeftOut,
                };
                self.result(|out| classic::check_of(out, &view, nodes, style, dialect))
            }
            Format::Json if is_check => self.json(&view),
            Format::Json => self.json(&Line::Cluster(&view)),
            Format::Prometheus => self.result(|out| prometheus::check(out, &view)),
            Format::Nagios => self.result(|out| nagios::check(out, &view, status)),
        }
    }

    /// The check that redis-cli and redis-trib.rb print before they change something, and after `create`. Natively, and
    /// in JSON, nothing is printed.
    pub fn check_before(&self, diagnosis: &Diagnosis, before: CheckFor) -> io::Result<()> {
        let Format::Classic(style) = self.format else {
            return Ok(());
        };
        if !self.mode.is_old() {
            return Ok(());
        }
        self.progress().abandon();
        let view = CheckView::of(diagnosis, &BTreeMap::new(), &[], &RemedyOptions::default());
        self.progress().nodes(&view.nodes);
        let dialect = self.dialect();
        let nodes = match before {
            CheckFor::Rebalance => classic::Nodes::LeftOut,
            CheckFor::Fix | CheckFor::Change => classic::Nodes::Listed,
        };
        self.result(|out| {
            if before == CheckFor::Fix {
                classic::sums_of(out, &view, style, dialect)?;
            }
            classic::checked(out, &view, nodes, style, dialect)?;
            let is_open = view.nodes.iter().any(|node| !node.open.is_empty());
            let is_fine = view.views_agree && !is_open && view.slots_covered == usize::from(SLOTS);
            match before == CheckFor::Rebalance && !is_fine {
                true => writeln!(
                    out,
                    "*** Please fix your cluster problems before rebalancing"
                ),
                false => Ok(()),
            }
        })
    }

    /// A line with which redis-cli and redis-trib.rb begin a command or one of its parts. Natively nothing is printed.
    pub fn old_heading(&self, text: &str) -> io::Result<()> {
        match (self.mode.is_old(), self.format) {
            (true, Format::Classic(style)) => {
                self.progress().abandon();
                self.result(|out| classic::heading(out, text, style))
            }
            _ => Ok(()),
        }
    }

    /// `check --local` found the process alive.
    pub fn alive(&self, addr: &Addr) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&AliveView::of(addr)),
            Format::Prometheus => self.result(|out| prometheus::alive(out, addr)),
            Format::Nagios => self.result(|out| nagios::alive(out, addr)),
            Format::Table(_) | Format::Classic(_) => self.marked(&summary::alive(addr)),
        }
    }

    /// The result of `info`.
    pub fn info(&self, diagnosis: &Diagnosis) -> io::Result<()> {
        self.progress().abandon();
        let view = InfoView::of(diagnosis);
        match self.format {
            Format::Table(sheet) => self.result(|out| table::info(out, &view, sheet)),
            Format::Json => self.json(&view),
            _ if self.mode.is_old() => {
                let view =
                    CheckView::of(diagnosis, &BTreeMap::new(), &[], &RemedyOptions::default());
                let (style, dialect) = (self.format.style(), self.dialect());
                self.result(|out| classic::sums_of(out, &view, style, dialect))
            }
            _ => self.result(|out| classic::info(out, &view, self.format.style())),
        }
    }

    /// The result of `ok-to-stop`.
    pub fn ok_to_stop(&self, view: &OkToStopView) -> io::Result<()> {
        if let Format::Json = self.format {
            return self.json(&OkToStopDocument::of(view));
        }
        let names: Vec<String> = view.stopping.iter().map(ToString::to_string).collect();
        let names = names.join(", ");
        if view.objections.is_empty() {
            return self.marked(&Marked::new(Mark::Ok, format!("{names}: ok to stop.")));
        }
        for objection in &view.objections {
            self.marked(&Marked::new(Mark::Err, &objection.message))?;
        }
        self.marked(&Marked::new(Mark::Err, format!("{names}: not ok to stop.")))
    }

    /// The result of `ok-to-stop --max`.
    pub fn largest_stop(&self, view: &LargestStopView) -> io::Result<()> {
        if let Format::Json = self.format {
            return self.json(view);
        }
        let list = |nodes: &[Node]| {
            let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            names.join(", ")
        };
        for reason in &view.reasons {
            self.marked(&Marked::new(Mark::Err, &reason.message))?;
        }
        for blocked in &view.blocked {
            let why: Vec<&str> = blocked.reasons.iter().map(|one| &*one.message).collect();
            let text = format!("not also {}: {}", list(&blocked.nodes), why.join("; "));
            self.result(|out| writeln!(out, "{}", plain(&text)))?;
        }
        let (mark, text) = match view.nodes.len() as u64 {
            0 => (Mark::Err, "No node can be stopped now.".to_string()),
            1 => (
                Mark::Ok,
                format!("1 node can be stopped: {}", list(&view.nodes)),
            ),
            count => (
                Mark::Ok,
                format!(
                    "{count} nodes can be stopped together: {}",
                    list(&view.nodes)
                ),
            ),
        };
        self.marked(&Marked::new(mark, text))
    }

    /// The result of `slots`.
    pub fn heat(&self, view: &HeatView) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(view),
            _ => self.heat_table(view),
        }
    }

    /// The result of `slots --enable-stats`, which is a line of a stream.
    pub fn heat_line(&self, view: &HeatView) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&Line::Slots(view)),
            _ => self.heat_table(view),
        }
    }

    fn heat_table(&self, view: &HeatView) -> io::Result<()> {
        self.progress().abandon();
        let sheet = self.sheet();
        self.result(|out| table::heat(out, view, sheet))
    }

    /// The sheet for tables that `classic` has too: the old programs have no lines of their own there.
    pub(super) fn sheet(&self) -> Sheet {
        match self.format {
            Format::Table(sheet) => sheet,
            _ => Sheet {
                width: 100,
                style: self.format.style(),
            },
        }
    }

    /// The plan of `slots --enable-stats`.
    pub fn statistics(&self, view: &StatisticsView) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&Line::Statistics(view)),
            _ => self.result(|out| slots::statistics(out, view)),
        }
    }

    /// The result of `drift`.
    pub fn drift(&self, view: &DriftView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(view),
            _ => self.result(|out| drift::drift(out, view, TextFormat::of(self.format))),
        }
    }

    /// The plan of `drift --fix`.
    pub fn drift_fix(&self, view: &DriftFixView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::DriftFix(view)),
            _ => self.text_of_plan(|out, format| drift::fix(out, view, format)),
        }
    }

    /// The result of `where`.
    pub fn where_is(&self, view: &WhereView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(view),
            _ => self.result(|out| where_is::where_is(out, view, self.format.style())),
        }
    }

    /// The result of `verify`.
    pub fn compared(&self, view: &VerifyView) -> io::Result<()> {
        match view.unequal() {
            0 => self.progress().finish(),
            _ => self.progress().abandon(),
        }
        if let Format::Json = self.format {
            return self.json(view);
        }
        self.result(|out| verify::found(out, view, TextFormat::of(self.format)))?;
        let mark = match view.unequal() {
            0 => Mark::Ok,
            _ => Mark::Err,
        };
        self.marked(&Marked::new(mark, verify::summary(view)))
    }

    /// The result of `import --verify`, which is the end of the command.
    pub fn compared_after(&self, view: &VerifyView, code: ExitCode) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&Line::Compared(view))?,
            _ => self.result(|out| verify::found(out, view, TextFormat::of(self.format)))?,
        }
        let mark = match view.unequal() {
            0 => "OK",
            _ => "ERR",
        };
        self.done(code, &format!("[{mark}] {}", verify::summary(view)))
    }

    /// The result of `throttle`.
    pub fn throttle(&self, view: &ThrottleView) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(view),
            _ => self.result(|out| throttle::throttle(out, view)),
        }
    }

    /// The result of `config`.
    pub fn config(&self, view: &ConfigView, text: ConfigText) -> io::Result<()> {
        match (self.format, text) {
            (Format::Json, _) => self.json(view),
            (_, ConfigText::List) => self.result(|out| config::list(out, view)),
            (_, ConfigText::Show) => self.result(|out| config::show(out, view)),
            (_, ConfigText::Check) => self.result(|out| config::check(out, view)),
        }
    }

    /// The plan of `create`.
    pub fn layout(&self, layout: &LayoutView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Table(sheet) => self.result(|out| table::layout(out, layout, sheet)),
            Format::Json => self.json(&Line::Plan(layout)),
            _ => {
                let (style, dialect) = (self.format.style(), self.dialect());
                self.result(|out| classic::layout(out, layout, style, dialect))
            }
        }
    }

    /// The plan of moves.
    pub fn moves(&self, view: &MovesView) -> io::Result<()> {
        self.progress().abandon();
        self.progress().plan(view);
        match self.format {
            Format::Table(sheet) => self.result(|out| table::moves(out, view, sheet)),
            Format::Json => self.json(&Line::moves(view)),
            _ => self.result(|out| classic::moves(out, view)),
        }
    }

    /// The moves of `rebalance`. In the old modes there is a line for each pair of nodes.
    pub fn balance_moves(&self, view: &MovesView) -> io::Result<()> {
        match self.format {
            Format::Classic(_) if self.mode.is_old() => {
                self.progress().abandon();
                self.progress().plan_pairs(view);
                self.result(|out| classic::balance_moves(out, view))
            }
            _ => self.moves(view),
        }
    }

    /// A plan of moves that is only a part of what a command does.
    pub fn moves_away(&self, view: &MovesView) -> io::Result<()> {
        let Format::Classic(_) = self.format else {
            return self.moves(view);
        };
        self.progress().plan(view);
        self.result(|out| classic::moves_by_pair(out, view))
    }

    /// The shares of the masters.
    pub fn balance(&self, view: &BalanceView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Table(sheet) => self.result(|out| table::balance(out, view, sheet)),
            Format::Json => self.json(&Line::Balance(view)),
            _ => self.result(|out| classic::balance(out, view)),
        }
    }

    /// The result of moves, which is the end of the command.
    pub fn moved(&self, view: &MovedView) -> io::Result<()> {
        self.progress().finish();
        let message = match self.format {
            Format::Table(sheet) => {
                self.result(|out| table::moved(out, view, sheet))?;
                format!("[OK] {} moved.", counted(view.slot_count as u64, "slot"))
            }
            Format::Json => {
                self.json(&Line::Moved(view))?;
                classic::moved(view)
            }
            _ => format!("[OK] {}", classic::moved(view)),
        };
        self.done(ExitCode::Done, &message)
    }

    /// The plan of `add-node`.
    pub fn joining(&self, view: &JoinView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Table(sheet) => self.result(|out| table::joining(out, view, sheet))?,
            Format::Json => return self.json(&Line::Joining(view)),
            _ => self.result(|out| classic::joining(out, view, self.dialect()))?,
        }
        let mut warnings = view.warnings.iter();
        warnings.try_for_each(|one| match self.mode.is_old() {
            true => self.result(|out| writeln!(out, "note: {}", plain(one))),
            false => self.marked(&Marked::new(Mark::Warning, one)),
        })
    }

    /// New nodes have joined: the line that scripts look for.
    pub fn added(&self, nodes: usize) -> io::Result<()> {
        self.progress().finish();
        if let Format::Json = self.format {
            return self.json(&Line::Added { node_count: nodes });
        }
        let text = match (self.format, nodes) {
            (Format::Table(_), many) => {
                format!("{} joined the cluster.", counted(many as u64, "node"))
            }
            (_, 1) => "New node added correctly.".to_string(),
            (_, many) => format!("{many} new nodes added correctly."),
        };
        self.marked(&Marked::new(Mark::Ok, text))
    }

    /// Nodes have left the cluster, in the words of valkey-cli 8.1 and later.
    pub fn old_removed(&self, nodes: &BTreeSet<NodeId>) -> io::Result<()> {
        if self.mode != Mode::ValkeyCli {
            return Ok(());
        }
        self.progress().finish();
        nodes.iter().try_for_each(|id| {
            let text = format!("Node {id} removed from the cluster.");
            self.marked(&Marked::new(Mark::Ok, text))
        })
    }

    /// The plan of `del-node`.
    pub fn leaving(&self, view: &LeaveView) -> io::Result<()> {
        match self.format {
            Format::Table(sheet) => self.result(|out| table::leaving(out, view, sheet)),
            Format::Json => self.json(&Line::Leaving(view)),
            _ => self.result(|out| classic::leaving(out, view, self.dialect())),
        }
    }

    /// The plan of `replace-node`.
    pub fn replace_plan(&self, view: &ReplaceView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Replacing(view)),
            _ => self.text_of_plan(|out, format| replace::plan(out, view, format)),
        }
    }

    /// The plan of `failover`.
    pub fn failover_plan(&self, view: &FailoverView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Failover(view)),
            _ => self.text_of_plan(|out, format| failover::plan(out, view, format)),
        }
    }

    /// The result of a failover.
    pub fn failed_over(&self, report: &FailoverReport) -> io::Result<()> {
        self.progress().finish();
        match self.format {
            Format::Json => self.json(&Line::FailedOver(report)),
            _ => self.marked(&Marked::new(Mark::Ok, failover::result(report))),
        }
    }

    /// The plan of `place`, also where nothing is to be done.
    pub fn place_plan(&self, view: &PlaceView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Place(view)),
            _ => self.text_of_plan(|out, format| place::plan(out, view, format)),
        }
    }

    /// The plan of `roll`.
    pub fn roll_plan(&self, view: &RollView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Roll(view)),
            _ => self.text_of_plan(|out, format| roll::plan(out, view, format)),
        }
    }

    /// Nodes are about to restart.
    pub(super) fn restarting(&self, nodes: &[(NodeId, Addr, Role)]) {
        if let Format::Json = self.format {
            return;
        }
        self.progress().finish();
        let names = nodes
            .iter()
            .map(|(id, addr, role)| format!("{} {addr} ({})", role.word(), id.short()));
        let names: Vec<String> = names.collect();
        self.aside(self.asides, "restarting", &names.join(", "));
    }

    /// The command that restarts a node has written a line.
    pub(super) fn hook_output(&self, addr: &Addr, line: &str) {
        if !matches!(self.format, Format::Json) {
            self.aside(self.asides, &format!("  {addr}:"), line);
        }
    }

    /// A node has restarted.
    pub(super) fn restarted(&self, view: &RestartedView) -> io::Result<()> {
        self.progress().finish();
        match self.format {
            Format::Json => self.json(&Line::Restarted(view.clone())),
            _ => self.marked(&Marked::new(Mark::Ok, roll::restarted(view))),
        }
    }

    /// The plan of `fix`.
    pub fn fix_plan(&self, view: &FixView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Remedies(view)),
            _ => self.result(|out| fix::plan(out, view, TextFormat::of(self.format))),
        }
    }

    /// Slots without an owner, of which a question follows.
    pub fn uncovered(&self, what: &str, slots: &SlotSet) -> io::Result<()> {
        match self.format {
            Format::Json => Ok(()),
            _ => self.result(|out| {
                writeln!(out, "The following uncovered slots {what}:")?;
                writeln!(out, "{}", self.dialect().slots(slots))
            }),
        }
    }

    /// A remedy was carried out.
    pub fn fixed(&self, line: &FixLine) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&Line::Fixed(line)),
            _ if self.mode.is_old() => {
                let owner = line.nodes.first().map(|id| self.progress().name(*id));
                self.result(|out| classic::fixed(out, line, &owner.unwrap_or_default()))
            }
            _ => self.marked(&Marked::new(Mark::Ok, line.sentence())),
        }
    }

    /// The plan of `set-timeout`.
    pub fn timeouts(&self, view: &SetTimeoutView) -> io::Result<()> {
        match self.format {
            Format::Table(sheet) => self.result(|out| table::timeouts(out, view, sheet)),
            Format::Json => self.json(&Line::Timeouts(view)),
            _ => self.result(classic::timeouts),
        }
    }

    /// The result of `set-timeout` on a node.
    pub fn timeout_set(&self, node: &Node, result: &TimeoutSet) -> io::Result<()> {
        if let Format::Json = self.format {
            return self.json(&Line::TimeoutSet { node, result });
        }
        match (result, self.format) {
            (TimeoutSet::Failed(_), _) => {}
            (_, Format::Table(_)) => {
                let text = format!("{} has the new node timeout.", node.addr);
                self.marked(&Marked::new(Mark::Ok, text))?;
            }
            _ => self.result(|out| writeln!(out, "*** New timeout set for {}", node.addr))?,
        }
        if let TimeoutSet::InForce(why) = result {
            self.warn(&format!("{node} has not written it down: {}", plain(why)));
        }
        Ok(())
    }

    /// The result of `set-timeout` on all nodes.
    pub fn timeouts_set(&self, set: usize, failed: usize) -> io::Result<()> {
        match self.format {
            Format::Json => Ok(()),
            Format::Table(_) => {
                let set = counted(set as u64, "node");
                self.marked(&match failed {
                    0 => Marked::new(Mark::Ok, format!("the node timeout is set on {set}.")),
                    _ => {
                        let failed = counted(failed as u64, "node");
                        let text =
                            format!("the node timeout is set on {set}, and not on {failed}.");
                        Marked::new(Mark::Err, text)
                    }
                })
            }
            _ => self
                .result(|out| writeln!(out, ">>> New node timeout set. {set} OK, {failed} ERR.")),
        }
    }

    /// A command is sent to the nodes; `name` is without its arguments.
    pub fn calling(&self, name: &str) -> io::Result<()> {
        match self.format {
            Format::Json => Ok(()),
            _ => {
                let text = format!("Calling {}", plain(name));
                self.result(|out| match self.format {
                    Format::Table(sheet) => {
                        writeln!(out, "{}", sheet.style.tone(Tone::Strong, &text))
                    }
                    _ => classic::heading(out, &text, self.format.style()),
                })
            }
        }
    }

    /// A node has replied, or has not.
    pub fn called(&self, called: &Called<'_>) -> io::Result<()> {
        match self.format {
            Format::Table(_) if self.raw_replies => self.result(|out| call::raw(out, called)),
            Format::Table(sheet) => self.result(|out| call::block(out, called, sheet.style)),
            Format::Json => {
                let mut view = ReplyView::of(called);
                view.failure = view.failure.as_deref().map(plain);
                let line = self.headed(Line::Reply(view));
                self.result(|out| json::write_as_is(out, &line))
            }
            // Bytes as they are, like redis-cli; a terminal would act on some of them.
            _ if !io::stdout().is_terminal() => self.result(|out| call::raw(out, called)),
            _ => self.result(|out| call::block(out, called, Style::Plain)),
        }
    }

    /// All nodes have replied, or have not.
    pub fn all_called(&self, failed: usize, total: usize) -> io::Result<()> {
        let code = match failed {
            0 => ExitCode::Done,
            _ => ExitCode::Unhealthy,
        };
        let message = format!(
            "the command succeeded on {} of {total} nodes",
            total - failed
        );
        match self.format {
            Format::Json => self.done(code, &message),
            _ if failed > 0 => {
                self.warn(&message);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The plan or the result of `backup`.
    pub fn backup(&self, view: &BackupView) -> io::Result<()> {
        self.progress().finish();
        match self.format {
            Format::Table(sheet) => self.result(|out| table::backup(out, view, sheet)),
            Format::Json => view.shards.iter().try_for_each(|shard| {
                self.json(&match shard.fetched {
                    None => Line::PlannedFile(shard),
                    Some(_) => Line::File(shard),
                })
            }),
            _ => self.result(|out| classic::backup(out, view)),
        }
    }

    /// A backup is complete.
    pub fn backed_up(&self, view: &BackupView, took: Duration) -> io::Result<()> {
        self.backup_ends(view, took, "verified as they arrived")
    }

    /// A backup is as it was written.
    pub fn verified(&self, view: &BackupView, took: Duration) -> io::Result<()> {
        self.backup_ends(view, took, "as they were written")
    }

    fn backup_ends(&self, view: &BackupView, took: Duration, how: &str) -> io::Result<()> {
        self.backup(view)?;
        if self.mode.is_redis_cli() && matches!(self.format, Format::Classic(_)) {
            let text = format!("Backup created into: {}", view.directory);
            self.marked(&Marked::new(Mark::Ok, text))?;
        }
        let (keys, size) = view.sums();
        // A backup that can't be restored as a whole is never reported as if it could.
        let (mark, more) = match view.unread() {
            None => ("OK", String::new()),
            Some((what, left)) => {
                let left = match left {
                    0 => "the keys from the first of them on are".to_string(),
                    1 => "1 key from the first of them on is".to_string(),
                    left => format!("{} from the first of them on are", counted(left, "key")),
                };
                let more = format!(
                    " {what} can only be restored by loading the file into a server or by a newer redis-trib: {left} \
                     in the files, and not counted here."
                );
                ("WARNING", more)
            }
        };
        let message = format!(
            "[{mark}] {} of {} in {} ({}), {how}; took {:.1} s ({}/s).{more}",
            counted(keys, "key"),
            counted(view.shards.len() as u64, "master"),
            view.directory,
            bytes(size),
            took.as_secs_f64(),
            bytes(per_second(size, ms(took))),
        );
        self.done(ExitCode::Done, &message)
    }

    /// The plan of `import` or `restore`.
    pub fn transfer_plan(&self, plan: &TransferPlan) -> io::Result<()> {
        self.progress().finish();
        match self.format {
            Format::Json => self.json(&Line::TransferPlan(plan)),
            _ => self.result(|out| data::plan(out, plan, TextFormat::of(self.format))),
        }
    }

    /// The result of `import` or `restore`, which is the end of the command.
    pub fn transferred(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.transfer_facts(view, took)?;
        self.done(view.exit_code(), &data::result(view, took))
    }

    /// The same if the command goes on.
    pub fn transfer_report(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.transfer_facts(view, took)?;
        match self.format {
            Format::Json => Ok(()),
            Format::Table(sheet) => {
                self.result(|out| summary::told(out, &data::result(view, took), sheet))
            }
            _ => self.result(|out| writeln!(out, "{}", plain(&data::result(view, took)))),
        }
    }

    fn transfer_facts(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.progress().finish();
        match self.format {
            Format::Json => self.json(&Line::Report(TransferReport { view, took })),
            Format::Table(sheet) => self.result(|out| {
                table::transferred(out, view, sheet)?;
                data::failures(out, view, TextFormat::Table(sheet))
            }),
            _ => self.result(|out| data::failures(out, view, TextFormat::of(self.format))),
        }
    }

    /// The result of `import` or `restore` until it stopped.
    pub fn transfer_stopped(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Report(TransferReport { view, took })),
            _ => self.result(|out| {
                let format = TextFormat::of(self.format);
                data::failures(out, view, format)?;
                format.sentence(out, "", &data::summary(view, took))
            }),
        }
    }

    /// Writes a line with its mark.
    fn marked(&self, line: &Marked) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Table(sheet) => line.write_in(out, sheet),
            _ => line.write(out, self.format.style()),
        })
    }

    /// Writes a plan in words. A question follows a table, so it ends with an empty line.
    fn text_of_plan(
        &self,
        write: impl FnOnce(&mut Vec<u8>, TextFormat) -> io::Result<()>,
    ) -> io::Result<()> {
        self.result(|out| {
            write(out, TextFormat::of(self.format))?;
            match self.format {
                Format::Table(_) => writeln!(out),
                _ => Ok(()),
            }
        })
    }
}
