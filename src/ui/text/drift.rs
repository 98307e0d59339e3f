//! What differs among the nodes.

use std::io::{self, Write};

use super::TextFormat;
use crate::cluster::health::Severity;
use crate::report::{DriftFixView, DriftView, UntoldView};
use crate::ui::style::{counted, plain};
use crate::ui::summary::{Mark, Marked};

pub(in crate::ui) fn drift(
    out: &mut impl Write,
    view: &DriftView,
    format: TextFormat,
) -> io::Result<()> {
    for one in &view.differences {
        let mark = match one.severity {
            Severity::Error => Mark::Err,
            Severity::Warning => Mark::Warning,
        };
        format.marked(out, &Marked::new(mark, one.sentence()))?;
    }
    for one in &view.unknown {
        format.marked(out, &Marked::new(Mark::Warning, untold(one)))?;
    }
    format.marked(out, &summary(view))
}

fn untold(one: &UntoldView) -> String {
    match one.kind {
        Some(kind) => format!(
            "{} does not tell its {}: {}",
            one.node,
            kind.plural(),
            one.error
        ),
        None => format!("{} was not compared: {}", one.node, one.error),
    }
}

fn summary(view: &DriftView) -> Marked {
    let nodes = counted(view.node_count as u64, "node");
    if view.differences.is_empty() {
        return match view.unknown.is_empty() {
            true => Marked::new(
                Mark::Ok,
                format!("{nodes} have the same settings, users, functions, modules and version."),
            ),
            false => Marked::new(
                Mark::Err,
                format!("What {nodes} told is the same, but not everything is known."),
            ),
        };
    }
    let counts = [
        (view.count(Severity::Error), "error"),
        (view.count(Severity::Warning), "warning"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts
        .map(|(count, what)| counted(count as u64, what))
        .collect();
    Marked::new(Mark::Err, format!("{nodes} differ: {}.", counts.join(", ")))
}

/// What is copied, and to which nodes.
pub(in crate::ui) fn fix(
    out: &mut impl Write,
    view: &DriftFixView,
    format: TextFormat,
) -> io::Result<()> {
    let value = match &view.value {
        Some(value) => format!(" ({value:?})"),
        None => String::new(),
    };
    let heading = format!("Copy {}{value} from {}", view.fix, view.from);
    writeln!(out, "{}", format.heading(&plain(&heading)))?;
    for target in &view.nodes {
        let now = match &target.now {
            Some(now) => format!(", now {now:?}"),
            None => String::new(),
        };
        format.sentence(out, "  ", &format!("to {}{now}", target.node))?;
    }
    for warning in &view.warnings {
        format.marked(out, &Marked::new(Mark::Warning, warning))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::Role;
    use crate::cluster::setup::Kind;
    use crate::report::{DifferenceView, ValueView};
    use crate::ui::samples::wide;
    use crate::ui::style::Style;
    use crate::ui::table::Sheet;

    fn value(value: Option<&str>, exists: bool, count: usize) -> ValueView {
        ValueView {
            exists,
            value: value.map(ToString::to_string),
            nodes: vec![wide("1977", Role::Master); count],
        }
    }

    fn sample() -> DriftView {
        let one = |severity, kind, name: &str, shards: usize, values| DifferenceView {
            severity,
            kind,
            name: name.to_string(),
            shards: vec![wide("1977", Role::Master); shards],
            values,
        };
        DriftView {
            same: false,
            node_count: 6,
            differences: vec![
                one(
                    Severity::Error,
                    Kind::Setting,
                    "save",
                    1,
                    vec![
                        value(Some(""), true, 5),
                        value(Some("60 1\u{1b}[31m"), true, 1),
                    ],
                ),
                one(
                    Severity::Error,
                    Kind::Library,
                    "lib",
                    2,
                    vec![
                        value(None, true, 1),
                        value(None, true, 1),
                        value(None, false, 1),
                    ],
                ),
                one(
                    Severity::Warning,
                    Kind::User,
                    "bob",
                    0,
                    vec![value(None, true, 1), value(None, false, 1)],
                ),
            ],
            unknown: vec![UntoldView {
                node: wide("708f", Role::Replica),
                kind: Some(Kind::User),
                error: "denied".to_string(),
            }],
        }
    }

    fn shown(view: &DriftView, format: TextFormat) -> String {
        let mut out = Vec::new();
        drift(&mut out, view, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_for_each_difference() {
        let text = shown(&sample(), TextFormat::Classic(Style::Plain));
        let id = wide("1977", Role::Master).id.short().to_string();
        let text = text.replace(&format!("255.255.255.255:65535 ({id})"), "A");
        let replica = wide("708f", Role::Replica).to_string();
        let text = text.replace(&replica, "R");
        assert_eq!(
            text,
            "[ERR] save differs inside the shard of A: \"\" on A, A, A and 2 more; 60 1[31m on A\n\
             [ERR] library \"lib\" differs inside 2 shards (of A, A): one on A; another on A; none on A\n\
             [WARNING] ACL user \"bob\" differs between shards: one on A; none on A\n\
             [WARNING] R does not tell its ACL users: denied\n\
             [ERR] 6 nodes differ: 2 errors, 1 warning.\n"
        );
    }

    #[test]
    fn the_lines_fit_on_80_columns() {
        let style = Style::Plain;
        let text = shown(&sample(), TextFormat::Table(Sheet { width: 80, style }));
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(80), "{text}");
    }

    #[test]
    fn equal_nodes_are_equal_in_words() {
        let mut view = DriftView {
            same: true,
            node_count: 6,
            differences: Vec::new(),
            unknown: Vec::new(),
        };
        let text = shown(&view, TextFormat::Classic(Style::Plain));
        assert_eq!(
            text,
            "[OK] 6 nodes have the same settings, users, functions, modules and version.\n"
        );
        view.unknown = sample().unknown;
        let text = shown(&view, TextFormat::Classic(Style::Plain));
        assert!(
            text.ends_with("[ERR] What 6 nodes told is the same, but not everything is known.\n"),
            "{text}"
        );
    }
}
