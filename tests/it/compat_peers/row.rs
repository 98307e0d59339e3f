//! One command line, and in what the two programs may differ.

use super::state::Side;

/// Whose lines may be there without an equal on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowed {
    Theirs,
    Ours,
}

pub(super) type Preparation = Box<dyn Fn(&Side) + Sync>;

/// A command line with names for what differs between the clusters: `{a0}` is the address of the first node, `{p0}` its
/// port, `{i0}` its id, `{s0}` the first eight characters of that; `{source}` is the address of the server that is in no
/// cluster, and `{dir}` an empty folder.
pub(super) struct Row {
    pub(super) line: String,
    pub(super) stdin: Option<&'static str>,
    pub(super) env: Vec<(&'static str, &'static str)>,
    /// What is done to both clusters first.
    pub(super) before: Option<Preparation>,
    /// The exit codes, theirs and ours, if they differ; or ours alone if the other program is not run.
    pub(super) exit: Option<(i32, i32)>,
    pub(super) other_state: Option<&'static str>,
    pub(super) peer_stays_out: Option<&'static str>,
    allowed: Vec<(Allowed, &'static str)>,
}

/// Both programs do the same.
pub(super) fn same(line: impl Into<String>) -> Row {
    Row {
        line: line.into(),
        stdin: None,
        env: Vec::new(),
        before: None,
        exit: None,
        other_state: None,
        peer_stays_out: None,
        allowed: Vec::new(),
    }
}

impl Row {
    /// What comes in on a pipe, which ends then.
    pub(super) fn stdin(mut self, text: &'static str) -> Self {
        self.stdin = Some(text);
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: &'static str) -> Self {
        self.env.push((name, value));
        self
    }

    pub(super) fn before(mut self, prepare: impl Fn(&Side) + Sync + 'static) -> Self {
        self.before = Some(Box::new(prepare));
        self
    }

    /// The exit codes differ.
    pub(super) fn exit(mut self, theirs: i32, ours: i32, _why: &str) -> Self {
        self.exit = Some((theirs, ours));
        self
    }

    /// The clusters end in different states.
    pub(super) fn other_state(mut self, why: &'static str) -> Self {
        self.other_state = Some(why);
        self
    }

    /// The other program is not run; its cluster stays as it is, and so must ours.
    pub(super) fn ours_alone(mut self, ours: i32, why: &'static str) -> Self {
        self.exit = Some((ours, ours));
        self.peer_stays_out = Some(why);
        self
    }

    /// Their lines that have this text have no equal here.
    pub(super) fn only_theirs(mut self, text: &'static str, _why: &str) -> Self {
        self.allowed.push((Allowed::Theirs, text));
        self
    }

    /// Our lines that have this text have no equal there.
    pub(super) fn only_ours(mut self, text: &'static str, _why: &str) -> Self {
        self.allowed.push((Allowed::Ours, text));
        self
    }

    pub(super) fn allows(&self, side: Allowed, line: &str) -> bool {
        let mut allowed = self.allowed.iter();
        allowed.any(|(whose, text)| *whose == side && line.contains(text))
    }
}
