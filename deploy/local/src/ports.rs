//! Ports to listen on.

use std::{
    collections::HashSet,
    io,
    net::{Ipv4Addr, TcpListener},
    sync::LazyLock,
};

use parking_lot::Mutex;

/// Below what systems hand out to outgoing connections. A port from there could be taken by a
/// client while the server it was chosen for is being restarted.
const RANGE: std::ops::Range<u16> = 16_384..32_768;

/// Given out by this process. The server may not be listening yet, so trying is not enough.
static GIVEN: LazyLock<Mutex<HashSet<u16>>> = LazyLock::new(Mutex::default);

/// No port could be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Somebody listens there.
    #[error("port {0} is in use; stop what listens there or choose others with --port")]
    InUse(u16),
    /// The operating system refused.
    #[error("cannot listen on port {port}")]
    Refused {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The edges would need ports above 65535.
    #[error("{edges} edges do not fit above port {first}")]
    OutOfRange {
        /// The first port.
        first: u16,
        /// How many are needed.
        edges: u16,
    },
    /// Every attempt met a port in use.
    #[error("found no free port between {} and {}", RANGE.start, RANGE.end)]
    NoneFree,
}

/// A port on the loopback interface that is free and that this process has not given out before.
pub fn free() -> Result<u16, PortError> {
    for _ in 0..256 {
        let random = u16::from_le_bytes(shared::random::bytes());
        let port = RANGE.start + random % (RANGE.end - RANGE.start);
        if try_listen(port).is_ok() && GIVEN.lock().insert(port) {
            return Ok(port);
        }
    }
    Err(PortError::NoneFree)
}

/// The consecutive ports from `first`, if all of them are free.
pub fn consecutive(first: u16, edges: u16) -> Result<Vec<u16>, PortError> {
    let end = first.checked_add(edges.saturating_sub(1));
    let end = end.ok_or(PortError::OutOfRange { first, edges })?;
    let ports: Vec<u16> = (first..=end).take(edges.into()).collect();
    for &port in &ports {
        try_listen(port).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => PortError::InUse(port),
            _ => PortError::Refused { port, source },
        })?;
    }
    Ok(ports)
}

fn try_listen(port: u16) -> io::Result<()> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<_> = (0..50).map(|_| free().expect("a free port")).collect();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), ports.len());
    }

    #[test]
    fn a_port_in_use_is_named() {
        let port = free().expect("a free port");
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it is free");
        assert!(matches!(consecutive(port, 1), Err(PortError::InUse(used)) if used == port));
    }

    #[test]
    fn edges_end_at_the_last_port() {
        assert!(matches!(consecutive(65_534, 3), Err(PortError::OutOfRange { .. })));
    }
}
