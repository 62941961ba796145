//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): a load balancer says in front of a connection
//! whose it is.
//!
//! 1. Exactly the header is taken from the socket. What follows is left for TLS or HTTP.
//! 2. The header is bounded: 107 bytes in version 1, as the specification has it; [`LONGEST_V2`] in version 2. Its time is
//!    part of the header timeout.
//! 3. TCP over IPv4 or IPv6 has a client. `LOCAL`, `UNKNOWN` and an unspecified family have none. Everything else, and
//!    whatever is no header, is an error: nothing is guessed.
//! 4. The extensions of version 2 (TLVs) are skipped. Nothing in them is believed.

use std::io;
use std::net::SocketAddr;

use ppp::v1::{self, Addresses as TextAddresses};
use ppp::v2::{self, Addresses, Command, Protocol};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The shortest header there is: `PROXY UNKNOWN` and its line end.
const SHORTEST: usize = 15;
/// The longest header of version 1, its line end included.
const LONGEST_V1: usize = 107;
/// The fixed part of version 2.
const FIXED_V2: usize = 16;
/// The longest header of version 2 that is taken. Addresses take 52 bytes; a load balancer's extensions, the name and the
/// certificate of a client among them, take some hundred.
pub(super) const LONGEST_V2: usize = 4096;

/// Reads one header. `None`: the proxy does not say for whom it connects.
///
/// # Errors
///
/// `UnexpectedEof` for a connection that ends before it, `InvalidData` for what is no header, and what the socket says.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut fixed = [0; FIXED_V2];
    let (first, last) = fixed.split_at_mut(SHORTEST);
    socket.read_exact(first).await?;
    if first.starts_with(v2::PROTOCOL_PREFIX) {
        socket.read_exact(last).await?;
        read_v2(socket, fixed).await
    } else if first.starts_with(b"PROXY ") {
        read_v1(socket, first.to_vec()).await
    } else {
        Err(invalid("no PROXY header"))
    }
}

/// The rest of a line. Bytes are looked at before they are taken, so that none behind the line is.
async fn read_v1(socket: &mut TcpStream, mut header: Vec<u8>) -> io::Result<Option<SocketAddr>> {
    while header.last() != Some(&b'\n') {
        let mut room = [0; LONGEST_V1];
        let room = room.get_mut(header.len()..).unwrap_or_default();
        if room.is_empty() {
            return Err(invalid("a PROXY header longer than 107 bytes"));
        }
        let seen = socket.peek(room).await?;
        let line_end = memchr::memchr(b'\n', room.get(..seen).unwrap_or_default());
        let part = room.get_mut(..line_end.map_or(seen, |at| at + 1)).unwrap_or_default();
        if part.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        socket.read_exact(part).await?;
        header.extend_from_slice(part);
    }
    parse_v1(&header)
}

async fn read_v2(socket: &mut TcpStream, fixed: [u8; FIXED_V2]) -> io::Result<Option<SocketAddr>> {
    let [.., high, low] = fixed;
    let length = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_V2 {
        return Err(invalid("a PROXY header longer than 4096 bytes"));
    }
    let mut header = vec![0; length];
    let (start, rest) = header.split_at_mut(FIXED_V2);
    start.copy_from_slice(&fixed);
    socket.read_exact(rest).await?;
    parse_v2(&header)
}

fn parse_v1(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    match v1::Header::try_from(header).map_err(invalid)?.addresses {
        TextAddresses::Tcp4(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
        TextAddresses::Tcp6(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
        TextAddresses::Unknown => Ok(None),
    }
}

fn parse_v2(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    let header = v2::Header::try_from(header).map_err(invalid)?;
    match (header.command, header.protocol, header.addresses) {
        // What a proxy says on its own behalf, such as a health check; its addresses are to be ignored.
        (Command::Local, _, _) => Ok(None),
        (Command::Proxy, Protocol::Unspecified, Addresses::Unspecified) => Ok(None),
        (Command::Proxy, Protocol::Stream, Addresses::IPv4(ip)) => {
            Ok(Some((ip.source_address, ip.source_port).into()))
        }
        (Command::Proxy, Protocol::Stream, Addresses::IPv6(ip)) => {
            Ok(Some((ip.source_address, ip.source_port).into()))
        }
        (Command::Proxy, _, _) => Err(invalid("a PROXY header for something else than TCP")),
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 2 with this command, family and protocol, and this much behind it.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, rest].concat()
    }

    /// What it is, its bytes, and the client it names.
    type Row<'a> = (&'a str, Vec<u8>, Result<Option<&'a str>, ()>);

    #[test]
    fn only_tcp_has_a_client_and_what_is_doubtful_is_refused() {
        let ip4 = [192, 0, 2, 7, 10, 0, 0, 1, 0x1f, 0x90, 0x01, 0xbb];
        let mut ip6 = [0; 36];
        ip6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        ip6[15] = 7;
        ip6[33] = 80;
        let rows: [Row<'_>; 19] = [
            ("TCP4", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n".into(), Ok(Some("192.0.2.7:8080"))),
            ("TCP6", b"PROXY TCP6 2001:db8::7 ::1 80 443\r\n".into(), Ok(Some("[2001:db8::7]:80"))),
            ("UNKNOWN", b"PROXY UNKNOWN\r\n".into(), Ok(None)),
            ("UNKNOWN with text", b"PROXY UNKNOWN a b c\r\n".into(), Ok(None)),
            ("a bare line feed", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\n".into(), Err(())),
            ("another family", b"PROXY TCP5 192.0.2.7 10.0.0.1 8080 443\r\n".into(), Err(())),
            ("mixed families", b"PROXY TCP4 2001:db8::7 ::1 80 443\r\n".into(), Err(())),
            ("no port", b"PROXY TCP4 192.0.2.7 10.0.0.1\r\n".into(), Err(())),
            ("too large a port", b"PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n".into(), Err(())),
            ("more words", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443 x\r\n".into(), Err(())),
            ("v2 IPv4", v2(0x21, 0x11, &ip4), Ok(Some("192.0.2.7:8080"))),
            ("v2 IPv6", v2(0x21, 0x21, &ip6), Ok(Some("[2001:db8::7]:80"))),
            (
                "v2 with extensions",
                v2(0x21, 0x11, &[&ip4[..], &[4, 0, 1, 0]].concat()),
                Ok(Some("192.0.2.7:8080")),
            ),
            ("v2 LOCAL", v2(0x20, 0x11, &ip4), Ok(None)),
            ("v2 unspecified", v2(0x21, 0x00, &[]), Ok(None)),
            ("v2 UDP", v2(0x21, 0x12, &ip4), Err(())),
            ("v2 unix", v2(0x21, 0x31, &[0; 216]), Err(())),
            ("v2 too short for its family", v2(0x21, 0x21, &ip4), Err(())),
            ("version 3", v2(0x31, 0x11, &ip4), Err(())),
        ];
        for (what, bytes, wanted) in rows {
            let parsed = if bytes.starts_with(b"PROXY") { parse_v1(&bytes) } else { parse_v2(&bytes) };
            let wanted = wanted.map(|address| address.map(|address| address.parse::<SocketAddr>().unwrap()));
            assert_eq!(parsed.map_err(drop), wanted, "{what}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(rest in prop::collection::vec(any::<u8>(), 0..300), command: u8, family: u8) {
            let _ = parse_v1(&[b"PROXY ", &rest[..]].concat());
            let _ = parse_v1(&rest);
            let _ = parse_v2(&v2(command, family, &rest));
            let _ = parse_v2(&rest);
        }
    }
}
