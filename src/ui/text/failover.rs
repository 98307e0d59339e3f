//! The plan and the result of `failover`.

use std::io::{self, Write};

use super::TextFormat;
use crate::cluster::node::Takeover;
use crate::report::{FailoverReport, FailoverView};
use crate::ui::style::{bytes, counted, millis, ms};
use crate::ui::summary::{Mark, Marked};

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    view: &FailoverView,
    format: TextFormat,
) -> io::Result<()> {
    let slots = counted(view.slots.count() as u64, "slot");
    let (replica, master) = (&view.replica, &view.master);
    let text = format!("{replica} takes over from {master}: {slots}");
    writeln!(out, "{}", format.heading(&text))?;
    if view.chosen_of > 1 {
        let of = view.chosen_of;
        writeln!(out, "It has the most of the data, of {of} replicas.")?;
    }
    if let Some(behind) = view.behind.filter(|behind| *behind > 0) {
        writeln!(out, "It was {} behind when both were seen.", bytes(behind))?;
    }
    writeln!(out, "Copies of the data that answer:")?;
    for copy in &view.copies {
        format.sentence(out, "  ", &copy.to_string())?;
    }
    for warning in &view.warnings {
        format.marked(out, &Marked::new(Mark::Warning, warning))?;
    }
    format.sentence(
        out,
        "",
        match view.how {
            Takeover::Planned => {
                "The master holds writes back until the replica has all of them: none is lost."
            }
            Takeover::Force => {
                "Forced: the master is not asked. Writes that it has not sent to the replica ARE LOST."
            }
            Takeover::Takeover => {
                "Takeover: neither the master nor a majority of the masters is asked. Writes that the master has \
                 not sent to the replica ARE LOST; so may be writes that another side of a split network has \
                 accepted."
            }
        },
    )
}

/// What has happened, in one sentence.
pub(in crate::ui) fn result(report: &FailoverReport) -> String {
    let slots = counted(report.slots.count() as u64, "slot");
    let held = millis(ms(report.held));
    let time = match report.how {
        Takeover::Planned => format!("writes were held for {held} at most"),
        Takeover::Force | Takeover::Takeover => format!("it took {held}"),
    };
    let (replica, master) = (&report.replica, &report.master);
    format!("{replica} took over {slots} from {master}; {time}.")
}
