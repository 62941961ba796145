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
/// Bytes that are looked at together: most headers at once.
const GLANCE: usize = 256;

/// Reads one header. `None`: the proxy does not say for whom it connects. Bytes are looked at before they are taken, so
/// that none behind the header is.
///
/// # Errors
///
/// `UnexpectedEof` for a connection that ends before it, `InvalidData` for what is no header, and what the socket says.
pub(super) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = Introduction::default();
    while !header.is_complete() {
        let mut room = [0; GLANCE];
        let seen = socket.peek(&mut room).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let taken = header.take(room.get(..seen).unwrap_or_default())?;
        socket.read_exact(room.get_mut(..taken).unwrap_or_default()).await?;
    }
    header.client()
}

/// A header of the PROXY protocol that arrives. No I/O.
#[derive(Debug, Default)]
pub struct Introduction {
    bytes: Vec<u8>,
}

impl Introduction {
    /// Takes what belongs to the header from the front of the next bytes. Gives how many these are: all, or those up to
    /// the end of the header.
    ///
    /// # Errors
    ///
    /// `InvalidData` for what begins no header, and for a header that is too long.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        loop {
            let missing = self.missing(rest)?;
            if missing == 0 || rest.is_empty() {
                return Ok(bytes.len() - rest.len());
            }
            let (own, behind) = rest.split_at_checked(missing).unwrap_or((rest, &[]));
            self.bytes.extend_from_slice(own);
            rest = behind;
        }
    }

    /// Whether all of it has arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        matches!(self.missing(&[]), Ok(0))
    }

    /// The client that a complete header names.
    ///
    /// # Errors
    ///
    /// `InvalidData` for what is no header, and for a client that is none of TCP.
    pub fn client(&self) -> io::Result<Option<SocketAddr>> {
        if self.is_v2() { parse_v2(&self.bytes) } else { parse_v1(&self.bytes) }
    }

    fn is_v2(&self) -> bool {
        self.bytes.starts_with(v2::PROTOCOL_PREFIX)
    }

    /// How many bytes belong to the header beside those that are there, as far as is known; 0 if none.
    fn missing(&self, next: &[u8]) -> io::Result<usize> {
        let length = self.bytes.len();
        if length < SHORTEST {
            return Ok(SHORTEST - length);
        }
        if self.is_v2() {
            let whole = match self.bytes.first_chunk::<FIXED_V2>() {
                Some([.., high, low]) => FIXED_V2 + usize::from(u16::from_be_bytes([*high, *low])),
                None => FIXED_V2,
            };
            return match whole {
                ..=LONGEST_V2 => Ok(whole - length),
                _ => Err(invalid("a PROXY header longer than 4096 bytes")),
            };
        }
        if !self.bytes.starts_with(b"PROXY ") {
            return Err(invalid("no PROXY header"));
        }
        if self.bytes.ends_with(b"\n") {
            return Ok(0);
        }
        let line_end = memchr::memchr(b'\n', next).map_or(next.len(), |at| at + 1);
        match LONGEST_V1 - length {
            0 => Err(invalid("a PROXY header longer than 107 bytes")),
            room => Ok(room.min(line_end.max(1))),
        }
    }
}

fn parse_v1(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    // The parser takes a space for the carriage return, and a port with a sign.
    if !header.ends_with(b"\r\n") {
        return Err(invalid("a PROXY header without its line end"));
    }
    match v1::Header::try_from(header).map_err(invalid)?.addresses {
        TextAddresses::Unknown => Ok(None),
        _ if header.contains(&b'+') => Err(invalid("a PROXY header with a sign in a port")),
        TextAddresses::Tcp4(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
        TextAddresses::Tcp6(ip) => Ok(Some((ip.source_address, ip.source_port).into())),
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
        let rows: [Row<'_>; 23] = [
            ("TCP4", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\r\n".into(), Ok(Some("192.0.2.7:8080"))),
            ("TCP6", b"PROXY TCP6 2001:db8::7 ::1 80 443\r\n".into(), Ok(Some("[2001:db8::7]:80"))),
            ("UNKNOWN", b"PROXY UNKNOWN\r\n".into(), Ok(None)),
            ("UNKNOWN with text", b"PROXY UNKNOWN a b c\r\n".into(), Ok(None)),
            ("a bare line feed", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443\n".into(), Err(())),
            ("a space before it", b"PROXY TCP4 192.0.2.7 10.0.0.1 8080 443 \n".into(), Err(())),
            ("a sign in a port", b"PROXY TCP4 192.0.2.7 10.0.0.1 +8080 443\r\n".into(), Err(())),
            ("a sign in the other port", b"PROXY TCP6 2001:db8::7 ::1 80 +443\r\n".into(), Err(())),
            ("a sign in text", b"PROXY UNKNOWN a+b\r\n".into(), Ok(None)),
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
            let mut header = Introduction::default();
            let followed = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(header.take(&followed).unwrap(), bytes.len(), "{what}: exactly the header");
            let wanted = wanted.map(|address| address.map(|address| address.parse::<SocketAddr>().unwrap()));
            assert_eq!(header.client().map_err(drop), wanted, "{what}");
        }
    }

    #[test]
    fn what_cannot_become_a_header_is_refused_at_once() {
        let long = v2(0x21, 0x11, &[0; LONGEST_V2 - FIXED_V2 + 1]);
        for (bytes, refused) in [
            (&b"GET / HTTP/1.1\r"[..], true),
            (b"GET / HTTP/1.1", false),
            (&[b"PROXY ", &[b'a'; LONGEST_V1 - 6][..]].concat(), true),
            (&[b"PROXY ", &[b'a'; LONGEST_V1 - 7][..]].concat(), false),
            (&long[..FIXED_V2], true),
            (&long[..FIXED_V2 - 1], false),
        ] {
            let mut header = Introduction::default();
            assert_eq!(header.take(bytes).is_err(), refused, "{bytes:?}");
            assert!(!header.is_complete());
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
