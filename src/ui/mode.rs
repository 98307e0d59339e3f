//! Which program ours stands in for.

/// How the program behaves; the command line alone decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Its own.
    #[default]
    Native,
    /// redis-cli's: `--cluster COMMAND`.
    RedisCli,
    /// redis-trib.rb's: called by that name.
    RedisTribRb,
}

impl Mode {
    /// One of the two that scripts know from before: prompts and progress on standard output,
    /// answers from a pipe, exit codes 0 and 1.
    pub fn is_old(self) -> bool {
        self != Self::Native
    }
}
