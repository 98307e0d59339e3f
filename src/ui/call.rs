//! What nodes say to a command: in full to programs, fit for the eye on a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use super::create::NodeName;
use super::style::{Style, Tone, plain};
use super::{Format, Ui, json as objects};
use crate::cluster::node::Role;
use crate::exit_code::ExitCode;
use crate::resp::Resp;

/// What came of asking a node.
#[derive(Debug)]
pub struct Called<'a> {
    /// The node.
    pub node: &'a NodeName,
    /// What it does in the cluster.
    pub role: Role,
    /// What it said; why it said nothing, in words.
    pub reply: &'a Result<Resp, String>,
}

impl Ui {
    /// The command begins; `name` is without its arguments.
    pub fn calling(&self, name: &str) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Table(sheet) => heading(out, name, sheet.style),
            Format::Classic(style) => heading(out, name, style),
            Format::Prometheus | Format::Nagios => heading(out, name, Style::Plain),
            Format::Json => Ok(()),
        })
    }

    /// A node has answered, or has not.
    pub fn called(&self, called: &Called<'_>) -> io::Result<()> {
        self.result(|out| match self.format {
            Format::Table(sheet) => block(out, called, sheet.style),
            Format::Json => objects::called(out, called, called.reply.as_ref().ok().map(value)),
            // As redis-cli has it, bytes as they are; a terminal would act on some of them.
            Format::Classic(_) | Format::Prometheus | Format::Nagios
                if !io::stdout().is_terminal() =>
            {
                raw(out, called)
            }
            Format::Classic(_) | Format::Prometheus | Format::Nagios => {
                block(out, called, Style::Plain)
            }
        })
    }

    /// All nodes were asked.
    pub fn all_called(&self, failed: usize, total: usize) -> io::Result<()> {
        let code = match failed {
            0 => ExitCode::Done,
            _ => ExitCode::Unhealthy,
        };
        let message = format!(
            "{} of {total} nodes did what they were told",
            total - failed
        );
        match self.format {
            Format::Json => self.done(code, &message),
            _ if failed > 0 => {
                self.warn(&format!("{message}, {failed} did not"));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn heading(out: &mut impl Write, name: &str, style: Style) -> io::Result<()> {
    let heading = format!(">>> Calling {}", plain(name));
    writeln!(out, "{}", style.tone(Tone::Strong, &heading))
}

/// `127.0.0.1:7000: OK`.
fn raw(out: &mut impl Write, called: &Called<'_>) -> io::Result<()> {
    write!(out, "{}: ", called.node.addr)?;
    match called.reply {
        Ok(reply) => raw_reply(out, reply)?,
        Err(why) => write!(out, "(no reply) {}", plain(why))?,
    }
    writeln!(out)
}

/// As redis-cli writes into pipes: one line for each of several values, bytes untouched.
fn raw_reply(out: &mut impl Write, reply: &Resp) -> io::Result<()> {
    match reply {
        Resp::Nil => Ok(()),
        Resp::Int(number) => write!(out, "{number}"),
        Resp::Double(number) => write!(out, "{number}"),
        Resp::Bool(truth) => write!(out, "{truth}"),
        Resp::Status(text) | Resp::Error(text) => write!(out, "{text}"),
        Resp::Bytes(bytes) => out.write_all(bytes),
        Resp::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    writeln!(out)?;
                }
                raw_reply(out, item)?;
            }
            Ok(())
        }
        Resp::Map(pairs) => {
            for (i, (key, value)) in pairs.iter().enumerate() {
                if i > 0 {
                    writeln!(out)?;
                }
                raw_reply(out, key)?;
                writeln!(out)?;
                raw_reply(out, value)?;
            }
            Ok(())
        }
    }
}

/// The node, and what it says, on the same line where it is one line only.
fn block(out: &mut impl Write, called: &Called<'_>, style: Style) -> io::Result<()> {
    let node = format!("{} {}", called.node, called.role.word());
    let node = style.tone(Tone::Strong, &node);
    let (lines, is_bad) = match called.reply {
        Ok(reply) => (lines(reply), reply.error().is_some()),
        Err(why) => (vec![format!("(no reply) {}", plain(why))], true),
    };
    let toned = |line: &str| match is_bad {
        true => style.tone(Tone::Bad, line),
        false => line.to_string(),
    };
    match &lines[..] {
        [] => writeln!(out, "{node}:"),
        [line] => writeln!(out, "{node}: {}", toned(line)),
        lines => {
            writeln!(out, "{node}:")?;
            lines
                .iter()
                .try_for_each(|line| writeln!(out, "  {}", toned(line)))
        }
    }
}

/// As redis-cli shows replies to people.
fn lines(reply: &Resp) -> Vec<String> {
    match reply {
        Resp::Nil => vec!["(nil)".to_string()],
        Resp::Int(number) => vec![format!("(integer) {number}")],
        Resp::Double(number) => vec![format!("(double) {number}")],
        Resp::Bool(truth) => vec![format!("({truth})")],
        Resp::Status(text) => vec![plain(text)],
        Resp::Error(text) => vec![format!("(error) {}", plain(text))],
        Resp::Bytes(bytes) => text_lines(bytes),
        Resp::Array(items) if items.is_empty() => vec!["(empty array)".to_string()],
        Resp::Array(items) => {
            let width = items.len().to_string().len();
            let numbered = items.iter().enumerate().map(|(i, item)| {
                let head = format!("{:>width$}) ", i + 1);
                indented(&head, lines(item))
            });
            numbered.flatten().collect()
        }
        Resp::Map(pairs) if pairs.is_empty() => vec!["(empty map)".to_string()],
        Resp::Map(pairs) => {
            let shown = pairs.iter().map(|(key, value)| {
                let head = format!("{} => ", lines(key).join(" "));
                indented(&head, lines(value))
            });
            shown.flatten().collect()
        }
    }
}

/// The head before the first line, and as much room before the others.
fn indented(head: &str, lines: Vec<String>) -> Vec<String> {
    let room = " ".repeat(head.chars().count());
    lines
        .into_iter()
        .enumerate()
        .map(|(i, line)| {
            if i == 0 {
                head.to_string() + &line
            } else {
                room.clone() + &line
            }
        })
        .collect()
}

/// Text as it is, line by line; what is none with its bytes written out: `\x00`.
fn text_lines(bytes: &[u8]) -> Vec<String> {
    // Control characters mean binary data; the other unsafe characters occur in text, and `plain` removes them.
    let is_text = |text: &&str| {
        text.chars()
            .all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t'))
    };
    match std::str::from_utf8(bytes).ok().filter(is_text) {
        Some("") => vec!["(empty)".to_string()],
        Some(text) => text
            .lines()
            .map(|line| plain(&line.replace('\t', " ")))
            .collect(),
        None => {
            let mut line = String::with_capacity(bytes.len());
            for byte in bytes {
                // Writing to a string does not fail.
                let _ = match byte {
                    b'\\' => write!(line, "\\\\"),
                    0x20..=0x7e => write!(line, "{}", char::from(*byte)),
                    _ => write!(line, "\\x{byte:02x}"),
                };
            }
            vec![line]
        }
    }
}

/// Numbers, strings, lists and null as JSON has them; bytes that are no UTF-8 as `{"hex":"00ff"}`, an
/// error as `{"error":"ERR …"}`, pairs whose keys are no text as a list of pairs.
fn value(reply: &Resp) -> Value {
    match reply {
        Resp::Nil => Value::Null,
        Resp::Int(number) => json!(number),
        // JSON has neither infinity nor NaN.
        Resp::Double(number) if !number.is_finite() => json!(number.to_string()),
        Resp::Double(number) => json!(number),
        Resp::Bool(truth) => json!(truth),
        Resp::Status(text) => json!(text),
        Resp::Error(text) => json!({ "error": text }),
        Resp::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => {
                let hex = bytes.iter().map(|byte| format!("{byte:02x}"));
                json!({ "hex": hex.collect::<String>() })
            }
        },
        Resp::Array(items) => items.iter().map(value).collect(),
        Resp::Map(pairs) => {
            let text = |key: &Resp| match value(key) {
                Value::String(text) => Some(text),
                _ => None,
            };
            let named: Option<serde_json::Map<String, Value>> = pairs
                .iter()
                .map(|(key, item)| Some((text(key)?, value(item))))
                .collect();
            match named {
                Some(object) => Value::Object(object),
                None => pairs
                    .iter()
                    .map(|(key, item)| json!([value(key), value(item)]))
                    .collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::Addr;

    fn sample() -> Resp {
        Resp::Array(vec![
            Resp::Int(-1),
            Resp::Nil,
            Resp::Bytes(b"two\nlines \x1b[31m".to_vec()),
            Resp::Bytes(vec![0, 255, b'a']),
            Resp::Array(vec![Resp::Status("OK".into()), Resp::Array(Vec::new())]),
            Resp::Error("ERR no".into()),
        ])
    }

    #[test]
    fn types_stay_in_json() {
        let expected = json!([
            -1,
            null,
            "two\nlines \u{1b}[31m",
            { "hex": "00ff61" },
            ["OK", []],
            { "error": "ERR no" }
        ]);
        assert_eq!(value(&sample()), expected);
        let map = Resp::Map(vec![(Resp::Bytes(b"a".to_vec()), Resp::Double(0.5))]);
        assert_eq!(value(&map), json!({ "a": 0.5 }));
        let map = Resp::Map(vec![(Resp::Int(1), Resp::Bool(true))]);
        assert_eq!(value(&map), json!([[1, true]]));
    }

    #[test]
    fn people_see_nothing_that_steers() {
        let shown = lines(&sample()).join("\n");
        let expected = "1) (integer) -1\n2) (nil)\n3) two\\x0alines \\x1b[31m\n4) \\x00\\xffa\n\
                        5) 1) OK\n   2) (empty array)\n6) (error) ERR no";
        assert_eq!(shown, expected);
        assert_eq!(
            lines(&Resp::Bytes(b"# Server\r\na:1\r\n".to_vec())).len(),
            2
        );
    }

    #[test]
    fn pipes_get_bytes_as_they_are() {
        let node = NodeName {
            id: "0".repeat(40).parse().unwrap(),
            addr: Addr::new("127.0.0.1", 7000),
            zone: None,
        };
        let reply = Ok(Resp::Array(vec![Resp::Bytes(vec![0, 255]), Resp::Int(3)]));
        let mut out = Vec::new();
        let called = Called {
            node: &node,
            role: Role::Master,
            reply: &reply,
        };
        raw(&mut out, &called).unwrap();
        assert_eq!(out, b"127.0.0.1:7000: \x00\xff\n3\n");
    }
}
