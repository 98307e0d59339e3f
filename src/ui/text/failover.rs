//! The plan and the result of `failover`.

use std::io::{self, Write};

use crate::cluster::node::Takeover;
use crate::report::{FailoverReport, FailoverView};
use crate::ui::style::{bytes, counted, millis, ms};

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    view: &FailoverView,
    heading: impl Fn(&str) -> String,
) -> io::Result<()> {
    let text = format!("{} takes over from {}", view.replica, view.master);
    let slots = counted(view.slots.count() as u64, "slot");
    writeln!(out, "{}: {slots}", heading(&text))?;
    if view.chosen_of > 1 {
        let of = view.chosen_of;
        writeln!(out, "It has the most of the data, of {of} replicas.")?;
    }
    if let Some(behind) = view.behind.filter(|behind| *behind > 0) {
        writeln!(out, "It was {} behind when both were seen.", bytes(behind))?;
    }
    writeln!(
        out,
        "{}",
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
        }
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
