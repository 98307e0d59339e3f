//! Ports for servers, such that the bus port (port + 10000) is free as well.
//!
//! Tests run in many processes side by side, of several checkouts. A server's port is reserved by holding
//! the UDP port of the same number, which no server uses: the reservation is visible to all processes on
//! the machine and ends with the process, however that ends.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

/// Ports and their bus ports (21000 to 30999) do not overlap, and both stay below the range that Linux
/// takes the ports of outgoing connections from (32768 and up).
const FIRST: u16 = 11_000;
const COUNT: u16 = 10_000;
pub(crate) const BUS_OFFSET: u16 = 10_000;

pub(crate) struct Reserved {
    pub(crate) port: u16,
    _held: UdpSocket,
}

pub(crate) fn reserve() -> Reserved {
    // Where the search begins differs from call to call, so that parallel tests seldom meet.
    let start = (RandomState::new().build_hasher().finish() % u64::from(COUNT)) as u16;
    (0..COUNT)
        .map(|step| FIRST + (start + step) % COUNT)
        .find_map(|port| {
            let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
            (is_free(port) && is_free(port + BUS_OFFSET)).then_some(Reserved { port, _held: held })
        })
        .expect("no free pair of ports between 11000 and 30999")
}

/// The same port as another server's, on another host of 127.0.0.0/8.
pub(crate) fn share(port: u16, host: Ipv4Addr) -> Reserved {
    let held = UdpSocket::bind((host, port)).expect("a port that is free on the other host too");
    Reserved { port, _held: held }
}

fn is_free(port: u16) -> bool {
    // Both families: where IPv6 is off, only the first can be asked.
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        && match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
        }
}
