//! The plan and the result of `import` and `restore`.

use std::io::{self, Write};
use std::time::Duration;

use super::TextFormat;
use crate::report::{TransferPlan, TransferView};
use crate::ui::style::{bytes, counted, ms, per_second, plain, thousands};
use crate::ui::summary::{Mark, Marked};

pub(in crate::ui) fn plan(
    out: &mut impl Write,
    plan: &TransferPlan,
    format: TextFormat,
) -> io::Result<()> {
    let keys = match plan.keys {
        Some(keys) => counted(keys, "key"),
        None => "The keys (their number is not known)".to_string(),
    };
    let heading = format!(
        "{keys} of {} into the cluster of {} ({}, {})",
        plain(&plan.from),
        plan.to,
        counted(plan.masters as u64, "master"),
        counted(plan.present, "key"),
    );
    writeln!(out, "{}", format.heading(&heading))?;
    let mut notes = plan.notes.iter();
    notes.try_for_each(|note| format.sentence(out, "    ", note))
}

/// The result in one line, with its mark.
pub(in crate::ui) fn result(view: &TransferView, took: Duration) -> String {
    let summary = summary(view, took);
    match (view.failures(), view.evicted) {
        (0, 0) => format!("[OK] {summary}"),
        (0, count) => format!(
            "[ERR] Masters evicted {} meanwhile. {summary}",
            counted(count, "key")
        ),
        (count, _) => format!("[ERR] {} failed. {summary}", counted(count, "key")),
    }
}

/// The result in one line.
pub(in crate::ui) fn summary(view: &TransferView, took: Duration) -> String {
    let mut more = Vec::new();
    let was = |count| if count == 1 { "was" } else { "were" };
    let they = |count| if count == 1 { "it was" } else { "they were" };
    for (count, what) in [
        (
            view.same,
            format!("{} there already, the same", was(view.same)),
        ),
        (
            view.expired,
            format!("expired before {} written", they(view.expired)),
        ),
        (
            view.gone,
            format!("{} deleted at the source meanwhile", was(view.gone)),
        ),
        (
            view.strays,
            match view.strays {
                1 => "was a left-over of a moved slot and passed over".to_string(),
                _ => "were left-overs of moved slots and passed over".to_string(),
            },
        ),
    ] {
        if count > 0 {
            more.push(format!("{} {what}", thousands(count)));
        }
    }
    if view.functions > 0 {
        let libraries = counted(view.functions, "function library");
        more.push(format!("{libraries} on every master"));
    }
    let more = match more.is_empty() {
        true => String::new(),
        false => format!("; {}", more.join(", ")),
    };
    format!(
        "{} {} ({}) in {:.1} s ({} keys/s, {}/s){more}.",
        counted(view.written, "key"),
        view.done,
        bytes(view.bytes),
        took.as_secs_f64(),
        thousands(per_second(view.written, ms(took))),
        bytes(per_second(view.bytes, ms(took))),
    )
}

/// The keys that failed, by reason.
pub(in crate::ui) fn failures(
    out: &mut impl Write,
    view: &TransferView,
    format: TextFormat,
) -> io::Result<()> {
    for failed in &view.failed {
        let text = format!(
            "{} failed ({}):",
            counted(failed.count, "key"),
            failed.reason
        );
        format.marked(out, &Marked::new(Mark::Warning, text))?;
        for one in &failed.examples {
            let text = format!("\"{}\": {}", plain(&one.key), one.why);
            format.sentence(out, "    ", &text)?;
        }
        let named = failed.examples.len() as u64;
        if failed.count > named {
            writeln!(out, "    and {} more", thousands(failed.count - named))?;
        }
    }
    Ok(())
}
