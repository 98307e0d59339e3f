//! A client that writes to the cluster. In its own container it writes one key after the other, for as long as
//! its input is open, and then reads all acknowledged keys. The rest starts it from outside and reads its report.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::engine::{SWARM_WITHIN, docker, show};
use crate::support::command::Running;
use crate::support::wait::until;

/// Between two writes: enough of them to hit every moment, and few enough to read them all again.
const PACE: Duration = Duration::from_millis(5);
/// How long one key may take at the end, to be written or read.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program in the container: `write RUN REPLICAS SEED…`. A write counts when so many replicas have it.
pub(crate) fn run(words: &[String]) {
    let (run, replicas) = (&words[0], words[1].parse::<u64>().unwrap());
    let password = std::env::var("auth").ok();
    let mut client = Client::new(words[2..].to_vec(), password);
    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    thread::spawn(move || {
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        end.store(true, Ordering::Relaxed);
    });

    let mut written = 0;
    let mut slowest = Duration::ZERO;
    while !ended.load(Ordering::Relaxed) {
        let key = format!("{run}:{written}");
        let began = Instant::now();
        let mut attempt = 0;
        loop {
            let answer = client.ask(&key, attempt, |connection| {
                redis::cmd("SET")
                    .arg(&key)
                    .arg(&key)
                    .query::<()>(connection)?;
                match replicas {
                    0 => Ok(0),
                    _ => redis::cmd("WAIT")
                        .arg(replicas)
                        .arg(500)
                        .query::<u64>(connection),
                }
            });
            match answer {
                Ok(have) if have >= replicas => break,
                // The last write counts too, or its failure would go unnoticed.
                _ if ended.load(Ordering::Relaxed) && began.elapsed() > PATIENCE => {
                    println!("failed: {key} could not be written: {answer:?}");
                    return;
                }
                _ => thread::sleep(Duration::from_millis(10)),
            }
            attempt += 1;
        }
        slowest = slowest.max(began.elapsed());
        written += 1;
        if written % 25 == 0 {
            println!("{written}");
        }
        thread::sleep(PACE);
    }

    let mut lost = Vec::new();
    for number in 0..written {
        let key = format!("{run}:{number}");
        let began = Instant::now();
        let mut attempt = 0;
        let value = loop {
            let answer = client.ask(&key, attempt, |connection| {
                redis::cmd("GET")
                    .arg(&key)
                    .query::<Option<String>>(connection)
            });
            match answer {
                Ok(value) => break value,
                Err(error) if began.elapsed() > PATIENCE => {
                    println!("failed: {key} could not be read: {error}");
                    return;
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
            attempt += 1;
        };
        if value.as_deref() != Some(&key) {
            lost.push(key);
        }
    }
    println!(
        "done: {written} written, {} lost, the slowest took {:.2} s {lost:?}",
        lost.len(),
        slowest.as_secs_f64()
    );
}

/// A client at work in a container where this program is mounted as /client.
pub(crate) struct Writer(Running);

impl Writer {
    pub(crate) fn start(container: &str, run: &str, replicas: u64) -> Self {
        let replicas = replicas.to_string();
        let words = [
            "exec",
            "-i",
            container,
            "/client",
            "write",
            run,
            &replicas,
            "tasks.master:6379",
            "tasks.slave:6379",
        ];
        let writer = Self(docker(words).stdin_open().timeout(SWARM_WITHIN).spawn());
        writer.goes_on();
        writer
    }

    fn count(&self) -> usize {
        let said = self.0.stdout_so_far();
        said.lines()
            .rev()
            .find_map(|line| line.parse().ok())
            .unwrap_or(0)
    }

    /// Until some more writes are acknowledged.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        let before = self.count();
        until("writes to be acknowledged", SWARM_WITHIN, || {
            match self.count() {
                now if now >= before + 50 => Ok(()),
                now => Err(format!(
                    "{now} of {before} + 50; {}",
                    self.0.stdout_so_far()
                )),
            }
        });
    }

    /// Ends it: nothing that was acknowledged may be gone.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        show("end of the client's input: it reads all that it wrote");
        self.0.close_stdin();
        let ended = self.0.wait().status(0);
        let report = ended.stdout.lines().last().unwrap_or_default().to_owned();
        println!("the client: {report}");
        assert!(
            report.starts_with("done:") && report.contains(" 0 lost,"),
            "{report}"
        );
    }
}
