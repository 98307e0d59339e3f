//! As much of the protocol as the proxy and the scripted node need: where a message ends, and what a
//! command's words are. The `redis` crate's parser says neither.

/// The bytes are not RESP (a TLS handshake, an RDB file, HTTP).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotResp;

/// The length of the message that `bytes` begins with; `None` while part of it is still to come.
pub(crate) fn message_length(bytes: &[u8]) -> Result<Option<usize>, NotResp> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let line = match bytes.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => &bytes[..end],
        // No header is longer; simple strings and errors may be.
        None if bytes.len() > 64 && !b"+-".contains(&kind) => return Err(NotResp),
        None => {
            return if b"+-:$*%~>|=!_#,(".contains(&kind) {
                Ok(None)
            } else {
                Err(NotResp)
            };
        }
    };
    let after_line = line.len() + 2;
    let count = || -> Result<Option<usize>, NotResp> {
        let number = std::str::from_utf8(&line[1..])
            .ok()
            .and_then(|text| text.parse::<i64>().ok());
        // -1 is a null in RESP2.
        number
            .map(|number| usize::try_from(number).ok())
            .ok_or(NotResp)
    };
    let parts = match kind {
        b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => return Ok(Some(after_line)),
        b'$' | b'=' | b'!' => {
            let Some(length) = count()? else {
                return Ok(Some(after_line));
            };
            let whole = after_line + length + 2;
            return Ok((bytes.len() >= whole).then_some(whole));
        }
        b'*' | b'~' | b'>' => count()?.unwrap_or(0),
        b'%' => 2 * count()?.unwrap_or(0),
        // An attribute is followed by what it belongs to.
        b'|' => 2 * count()?.unwrap_or(0) + 1,
        _ => return Err(NotResp),
    };
    let mut end = after_line;
    for _ in 0..parts {
        match message_length(&bytes[end..])? {
            Some(length) => end += length,
            None => return Ok(None),
        }
    }
    Ok(Some(end))
}

/// A command's words, and its length in bytes.
type Command = (Vec<Vec<u8>>, usize);

/// The first command in `bytes`: an array of bulk strings, or an inline command as a health check might send it.
pub(crate) fn command(bytes: &[u8]) -> Result<Option<Command>, NotResp> {
    match bytes.first() {
        None => Ok(None),
        Some(b'*') => {
            let Some(length) = message_length(bytes)? else {
                return Ok(None);
            };
            let mut rest = &bytes[line_end(bytes)..length];
            let mut words = Vec::new();
            while !rest.is_empty() {
                let word = message_length(rest)?.ok_or(NotResp)?;
                let start = line_end(rest);
                words.push(rest[start..word.saturating_sub(2).max(start)].to_vec());
                rest = &rest[word..];
            }
            Ok(Some((words, length)))
        }
        Some(first) if first.is_ascii_alphabetic() => {
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                return Ok(None);
            };
            let words = bytes[..end]
                .split(u8::is_ascii_whitespace)
                .filter(|word| !word.is_empty());
            Ok(Some((words.map(<[u8]>::to_vec).collect(), end + 1)))
        }
        Some(_) => Err(NotResp),
    }
}

fn line_end(bytes: &[u8]) -> usize {
    bytes
        .windows(2)
        .position(|pair| pair == b"\r\n")
        .map_or(bytes.len(), |at| at + 2)
}

/// A command in one line, to be shown and compared.
pub(crate) fn as_text(words: &[Vec<u8>]) -> String {
    let words: Vec<_> = words
        .iter()
        .map(|word| String::from_utf8_lossy(word))
        .collect();
    words.join(" ")
}

/// Whether `words` begin with those of `prefix`, in any case: `CLUSTER NODES`, or the empty prefix for all.
pub(crate) fn begins_with(words: &[Vec<u8>], prefix: &str) -> bool {
    let mut words = words.iter();
    prefix.split_whitespace().all(|wanted| {
        words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(wanted.as_bytes()))
    })
}
