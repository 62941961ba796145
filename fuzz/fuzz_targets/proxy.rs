//! Any bytes as a PROXY header and what follows it. The first two octets say where the bytes are split in two.
//!
//! 1. It makes no difference how the bytes arrive.
//! 2. Exactly the header is taken, whatever follows, and no header ends a byte earlier.
//! 3. Never more is taken than the longest header of its version has.
//! 4. The client is the one that a plain reading of the specification finds, which knows TCP over IPv4 and IPv6 only; so
//!    neither is one invented nor one overlooked.
#![no_main]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use scopegate::server::Introduction;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fuzz_target!(|data: (u16, &[u8])| {
    let (split, bytes) = data;
    let (first, second) = bytes.split_at(usize::from(split) % (bytes.len() + 1));
    let whole = read([bytes]);
    assert_eq!(read([first, second]), whole, "split at {}", first.len());
    assert_eq!(read(bytes.chunks(1)), whole, "byte by byte");

    assert!(whole != Read::Part || bytes.len() < most(bytes), "more is waited for than a header has");
    let Read::Header { length, client } = whole else {
        assert_eq!(plain(bytes), None, "a header is refused, or waited for");
        return;
    };
    assert!(length <= most(bytes), "{length} bytes taken");
    let header = &bytes[..length];
    assert_eq!(read([header, b"GET / HTTP/1.1\r\n"]), whole, "what follows is none of its business");
    let short = header.split_last().map(|(_, short)| read([short]));
    assert_eq!(short, Some(Read::Part), "not a byte more than needed");
    match (client, plain(header)) {
        (Ok(client), Some(wanted)) => assert_eq!((length, client), wanted),
        // More than addresses behind UNKNOWN may be refused.
        (Err(()), Some(wanted)) => assert_eq!((wanted, header.get(6)), ((length, None), Some(&b'U'))),
        (Ok(client), None) => panic!("{client:?} is invented"),
        (Err(()), None) => {}
    }
});

/// What became of bytes.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// A header of this length, and whether it names a client.
    Header { length: usize, client: Result<Option<SocketAddr>, ()> },
    /// So far it may be a header.
    Part,
    /// It is none.
    Nothing,
}

/// Reads a header that arrives in these parts.
fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Read {
    let mut header = Introduction::default();
    let mut length = 0;
    for part in parts {
        let Ok(taken) = header.take(part) else { return Read::Nothing };
        assert!(taken == part.len() || header.is_complete(), "only what is behind it is left");
        length += taken;
    }
    match header.is_complete() {
        true => Read::Header { length, client: header.client().map_err(drop) },
        false => Read::Part,
    }
}

/// The most bytes that a header that begins so can have; 0 if that is too long.
fn most(bytes: &[u8]) -> usize {
    match bytes.strip_prefix(SIGNATURE) {
        Some([_, _, high, low, ..]) => {
            let length = 16 + (usize::from(*high) << 8 | usize::from(*low));
            if length <= 4096 { length } else { 0 }
        }
        Some(_) => 16,
        None => 107,
    }
}

/// The header at the front of the bytes: its length and its client, if it has one.
fn plain(bytes: &[u8]) -> Option<(usize, Option<SocketAddr>)> {
    let header = bytes.get(..most(bytes).min(bytes.len()))?;
    match header.strip_prefix(SIGNATURE) {
        Some([command, family, _, _, rest @ ..]) if header.len() == most(bytes) => {
            Some((header.len(), plain_v2(*command, *family, rest)?))
        }
        Some(_) => None,
        None => {
            let line = header.split_inclusive(|byte| *byte == b'\n').next()?;
            let text = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
            Some((line.len(), plain_v1(text)?))
        }
    }
}

fn plain_v1(line: &str) -> Option<Option<SocketAddr>> {
    let number = |word: &str| {
        let number: u16 = word.parse().ok()?;
        (number.to_string() == word).then_some(number)
    };
    match line.split(' ').collect::<Vec<_>>().as_slice() {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family @ ("TCP4" | "TCP6"), source, destination, port, to] => {
            let address = |word: &str| match *family {
                "TCP4" => word.parse().map(Ipv4Addr::into).ok(),
                _ => word.parse().map(Ipv6Addr::into).ok(),
            };
            let (_, _) = (address(destination)?, number(to)?);
            Some(Some(SocketAddr::new(address(source)?, number(port)?)))
        }
        _ => None,
    }
}

fn plain_v2(command: u8, family: u8, rest: &[u8]) -> Option<Option<SocketAddr>> {
    // Families are IPv4, IPv6 and Unix; protocols are TCP and UDP.
    let needed = match (family >> 4, family & 0xf) {
        (0, 0..=2) => 0,
        (1, 0..=2) => 12,
        (2, 0..=2) => 36,
        (3, 0..=2) => 216,
        _ => return None,
    };
    rest.get(..needed)?;
    match (command, family, rest) {
        (0x20, ..) | (0x21, 0, _) => Some(None),
        (0x21, 0x11, [a, b, c, d, _, _, _, _, high, low, ..]) => {
            Some(Some((Ipv4Addr::new(*a, *b, *c, *d), u16::from_be_bytes([*high, *low])).into()))
        }
        (0x21, 0x21, _) => {
            let source: [u8; 16] = rest.get(..16)?.try_into().ok()?;
            let port: [u8; 2] = rest.get(32..34)?.try_into().ok()?;
            Some(Some((source, u16::from_be_bytes(port)).into()))
        }
        _ => None,
    }
}
