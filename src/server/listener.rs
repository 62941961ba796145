//! Listening sockets, one for each worker and address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel keeps until they are accepted; it takes the smaller of this and `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// An address that all workers listen at.
#[derive(Debug)]
pub struct Bound {
    /// The address, with the port the system chose if 0 was asked for.
    pub address: SocketAddr,
    /// One socket for each worker.
    pub sockets: Vec<TcpListener>,
}

/// Binds an address once for each worker.
///
/// `SO_REUSEPORT` lets a second process of the same user bind in silence and take half of the connections. So the address
/// is first bound without it, which fails if anybody listens there.
///
/// # Errors
///
/// What the system says, such as `AddrInUse`.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    if address.port() != 0 {
        drop(open(address, false)?);
    }
    let first = open(address, true)?;
    let address = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(open(address, true)?);
    }
    Ok(Bound { address, sockets })
}

fn open(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
