//! What nodes reply to a command, for people and for pipes.

use std::fmt::Write as _;
use std::io::{self, Write};

use crate::report::Called;
use crate::resp::Resp;
use crate::ui::style::{Style, Tone, plain};

/// `127.0.0.1:7000: OK`.
pub(in crate::ui) fn raw(out: &mut impl Write, called: &Called<'_>) -> io::Result<()> {
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

/// The node and its reply, on the same line if that is one line.
pub(in crate::ui) fn block(
    out: &mut impl Write,
    called: &Called<'_>,
    style: Style,
) -> io::Result<()> {
    let node = format!("{} {}", called.node, called.node.role.word());
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

/// Text line by line; bytes that are not text with escapes: `\x00`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::node::{Addr, Role};
    use crate::report::Node;

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
        let node = Node {
            id: "0".repeat(40).parse().unwrap(),
            addr: Addr::new("127.0.0.1", 7000),
            role: Role::Master,
            zone: None,
        };
        let reply = Ok(Resp::Array(vec![Resp::Bytes(vec![0, 255]), Resp::Int(3)]));
        let mut out = Vec::new();
        let called = Called {
            node: &node,
            reply: &reply,
        };
        raw(&mut out, &called).unwrap();
        assert_eq!(out, b"127.0.0.1:7000: \x00\xff\n3\n");
    }
}
