//! A load balancer: each connection goes to the next server.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A load balancer on a port of its own.
pub(crate) struct Balancer {
    port: u16,
    stop: Arc<AtomicBool>,
}

impl Balancer {
    /// Connections go to these addresses in turn.
    pub(crate) fn over(targets: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for (client, target) in listener.incoming().zip(targets.iter().cycle()) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else {
                    continue;
                };
                pump(&client, &server);
                pump(&server, &client);
            }
        });
        Self { port, stop }
    }

    pub(crate) fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Copies what `from` sends to `to`, on a thread of its own.
fn pump(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread up.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}
