//! The views of every command, each in the format that was asked for. The formats that only `check` has give way to
//! `classic` elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use super::streams::Format;
use super::style::{Style, Tone, bytes, counted, ms, per_second, plain};
use super::summary::{self, Mark, Marked};
use super::text::{call, data, failover, fix, replace};
use super::{CheckExtra, Status, Ui, classic, json, nagios, prometheus, table};
use crate::cluster::health::Diagnosis;
use crate::cluster::node::Addr;
use crate::event::MoveStats;
use crate::exit_code::ExitCode;
use crate::report::{
    AliveView, BackupView, BalanceView, Called, CheckView, FailoverReport, FailoverView, FixLine,
    FixView, InfoView, JoinView, LayoutView, LeaveView, Line, MovedView, MovesView, Node,
    OkToStopDocument, OkToStopView, ReplaceView, ReplyView, SetTimeoutView, TimeoutSet,
    TransferPlan, TransferReport, TransferView,
};

/// The command whose JSON is the document of a diagnosis.
const CHECK: &str = "check";

impl Ui {
    /// The result of `check`, or the cluster that a command found.
    pub fn diagnosis(&self, diagnosis: &Diagnosis, extra: &CheckExtra) -> io::Result<()> {
        self.progress().abandon();
        let view = CheckView::of(diagnosis, &extra.zones, &extra.notes);
        let status = Status::of(&view, extra.strictness);
        self.told_nagios.get_or_init(|| status);
        let is_check = self.command.get() == Some(&CHECK);
        match self.format {
            Format::Table(sheet) => self.result(|out| table::check(out, &view, sheet)),
            Format::Classic(style) => self.result(|out| classic::check(out, &view, style)),
            Format::Json if is_check => self.json(&view),
            Format::Json => self.json(&Line::Cluster(&view)),
            Format::Prometheus => self.result(|out| prometheus::check(out, &view)),
            Format::Nagios => self.result(|out| nagios::check(out, &view, status)),
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

    /// The plan of `create`.
    pub fn layout(&self, layout: &LayoutView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Table(sheet) => self.result(|out| table::layout(out, layout, sheet)),
            Format::Json => self.json(&Line::Plan(layout)),
            _ => self.result(|out| classic::layout(out, layout, self.format.style())),
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
    pub fn moved(&self, slots: usize, stats: &MoveStats, took: Duration) -> io::Result<()> {
        self.progress().finish();
        let view = MovedView::of(slots, stats, took);
        let message = match self.format {
            Format::Table(sheet) => {
                self.result(|out| table::moved(out, &view, sheet))?;
                format!("[OK] {} moved.", counted(slots as u64, "slot"))
            }
            Format::Json => {
                self.json(&Line::Moved(&view))?;
                classic::moved(&view)
            }
            _ => format!("[OK] {}", classic::moved(&view)),
        };
        self.done(ExitCode::Done, &message)
    }

    /// The plan of `add-node`.
    pub fn joining(&self, view: &JoinView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Table(sheet) => self.result(|out| table::joining(out, view, sheet))?,
            Format::Json => return self.json(&Line::Joining(view)),
            _ => self.result(|out| classic::joining(out, view))?,
        }
        let mut warnings = view.warnings.iter();
        warnings.try_for_each(|one| self.marked(&Marked::new(Mark::Warning, one)))
    }

    /// New nodes have joined: the line that scripts look for.
    pub fn added(&self, nodes: usize) -> io::Result<()> {
        self.progress().finish();
        if let Format::Json = self.format {
            return self.json(&Line::Added { node_count: nodes });
        }
        let text = match nodes {
            1 => "New node added correctly.".to_string(),
            many => format!("{many} new nodes added correctly."),
        };
        self.marked(&Marked::new(Mark::Ok, text))
    }

    /// The plan of `del-node`.
    pub fn leaving(&self, view: &LeaveView) -> io::Result<()> {
        match self.format {
            Format::Table(sheet) => self.result(|out| table::leaving(out, view, sheet)),
            Format::Json => self.json(&Line::Leaving(view)),
            _ => self.result(|out| classic::leaving(out, view)),
        }
    }

    /// The plan of `replace-node`.
    pub fn replace_plan(&self, view: &ReplaceView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Replacing(view)),
            _ => self.headed_text(|out, heading| replace::plan(out, view, heading)),
        }
    }

    /// The plan of `failover`.
    pub fn failover_plan(&self, view: &FailoverView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Failover(view)),
            _ => self.headed_text(|out, heading| failover::plan(out, view, heading)),
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

    /// The plan of `fix`.
    pub fn fix_plan(&self, view: &FixView) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Remedies(view)),
            _ => self.result(|out| fix::plan(out, view, self.format.style())),
        }
    }

    /// A remedy was carried out.
    pub fn fixed(&self, line: &FixLine) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(&Line::Fixed(line)),
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
        match result {
            TimeoutSet::Persisted | TimeoutSet::InForce(_) => {
                self.result(|out| writeln!(out, "*** New timeout set for {}", node.addr))?;
            }
            TimeoutSet::Failed(_) => {}
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
            _ => self
                .result(|out| writeln!(out, ">>> New node timeout set. {set} OK, {failed} ERR.")),
        }
    }

    /// A command is sent to the nodes; `name` is without its arguments.
    pub fn calling(&self, name: &str) -> io::Result<()> {
        match self.format {
            Format::Json => Ok(()),
            _ => self.result(|out| call::heading(out, name, self.format.style())),
        }
    }

    /// A node has replied, or has not.
    pub fn called(&self, called: &Called<'_>) -> io::Result<()> {
        match self.format {
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
        self.backup_ends(view, took, "read back and verified")
    }

    /// A backup is as it was written.
    pub fn verified(&self, view: &BackupView, took: Duration) -> io::Result<()> {
        self.backup_ends(view, took, "as they were written")
    }

    fn backup_ends(&self, view: &BackupView, took: Duration, how: &str) -> io::Result<()> {
        self.backup(view)?;
        let (keys, size) = view.sums();
        let message = format!(
            "[OK] {} of {} in {} ({}), {how}; took {:.1} s ({}/s).",
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
            _ => self.result(|out| data::plan(out, plan)),
        }
    }

    /// The result of `import` or `restore`, which is the end of the command.
    pub fn transferred(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.progress().finish();
        match self.format {
            Format::Json => self.json(&Line::Report(TransferReport { view, took }))?,
            Format::Table(sheet) => {
                self.result(|out| {
                    table::transferred(out, view, sheet)?;
                    data::failures(out, view)
                })?;
            }
            _ => self.result(|out| data::failures(out, view))?,
        }
        let summary = data::summary(view, took);
        match view.failures() {
            0 => self.done(ExitCode::Done, &format!("[OK] {summary}")),
            count => self.done(
                ExitCode::Unhealthy,
                &format!("[ERR] {} failed. {summary}", counted(count, "key")),
            ),
        }
    }

    /// The result of `import` or `restore` until it stopped.
    pub fn transfer_stopped(&self, view: &TransferView, took: Duration) -> io::Result<()> {
        self.progress().abandon();
        match self.format {
            Format::Json => self.json(&Line::Report(TransferReport { view, took })),
            _ => self.result(|out| {
                data::failures(out, view)?;
                writeln!(out, "{}", data::summary(view, took))
            }),
        }
    }

    /// Writes a line with its mark.
    fn marked(&self, line: &Marked) -> io::Result<()> {
        self.result(|out| line.write(out, self.format.style()))
    }

    /// Writes a text with a heading: bold in `table`, after `>>>` in `classic`. A question follows a table, so it
    /// ends with an empty line.
    fn headed_text(
        &self,
        write: impl FnOnce(&mut Vec<u8>, &dyn Fn(&str) -> String) -> io::Result<()>,
    ) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Table(sheet) => {
                write(out, &|text| sheet.style.tone(Tone::Strong, text))?;
                writeln!(out)
            }
            _ => write(out, &|text| format!(">>> {text}")),
        })
    }
}
