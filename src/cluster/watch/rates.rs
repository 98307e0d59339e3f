//! Rates, from the counters in two INFO of a node.

use std::sync::Arc;

use crate::cluster::text::clean;

/// The counters of a node at one moment, and its number of clients.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// When it was taken, in ms of our own clock.
    pub at_ms: u64,
    /// The run id of the process: counters begin anew with it.
    pub run_id: Option<Arc<str>>,
    /// Commands.
    pub commands: Option<u64>,
    /// Bytes received.
    pub bytes_in: Option<u64>,
    /// Bytes sent.
    pub bytes_out: Option<u64>,
    /// CPU time of the main thread in µs; of all threads before Redis 6.2.
    pub cpu_us: Option<u64>,
    /// Connected clients.
    pub clients: Option<u64>,
}

/// What happened in a second between two samples. `None`: unknown, or the counters began anew in between.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Commands.
    pub ops: Option<u64>,
    /// Bytes received.
    pub bytes_in: Option<u64>,
    /// Bytes sent.
    pub bytes_out: Option<u64>,
    /// The part of one core that the main thread takes.
    pub cpu: Option<f64>,
}

impl Sample {
    /// Reads the counters in INFO.
    pub fn parse(info: &str, at_ms: u64) -> Self {
        let mut sample = Self {
            at_ms,
            ..Self::default()
        };
        let (mut main, mut all) = ([None; 2], [None; 2]);
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            let number = || value.trim().parse::<u64>().ok();
            match name {
                "run_id" => sample.run_id = Some(clean(value, 64).into()),
                "total_commands_processed" => sample.commands = number(),
                "total_net_input_bytes" => sample.bytes_in = number(),
                "total_net_output_bytes" => sample.bytes_out = number(),
                "connected_clients" => sample.clients = number(),
                "used_cpu_sys_main_thread" => main[0] = microseconds(value),
                "used_cpu_user_main_thread" => main[1] = microseconds(value),
                "used_cpu_sys" => all[0] = microseconds(value),
                "used_cpu_user" => all[1] = microseconds(value),
                _ => {}
            }
        }
        let sum = |[sys, user]: [Option<u64>; 2]| Some(sys?.saturating_add(user?));
        sample.cpu_us = sum(main).or_else(|| sum(all));
        sample
    }

    /// The rates since an earlier sample.
    pub fn since(&self, before: &Self) -> Rates {
        let elapsed = self.at_ms.saturating_sub(before.at_ms);
        if elapsed == 0 || self.run_id != before.run_id {
            return Rates::default();
        }
        let grown = |now: Option<u64>, was: Option<u64>| now?.checked_sub(was?);
        let rate = |now, was| {
            let grown = u128::from(grown(now, was)?);
            u64::try_from(grown * 1000 / u128::from(elapsed)).ok()
        };
        let cpu = grown(self.cpu_us, before.cpu_us);
        Rates {
            ops: rate(self.commands, before.commands),
            bytes_in: rate(self.bytes_in, before.bytes_in),
            bytes_out: rate(self.bytes_out, before.bytes_out),
            cpu: cpu.map(|cpu| cpu as f64 / 1000.0 / elapsed as f64),
        }
    }
}

/// `12.345678` seconds.
fn microseconds(text: &str) -> Option<u64> {
    /// More than any process has run.
    const MOST: f64 = 1e12;
    let seconds: f64 = text.trim().parse().ok()?;
    (0.0..MOST)
        .contains(&seconds)
        .then_some((seconds * 1e6) as u64)
}
