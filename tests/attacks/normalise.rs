//! How servers normalise a path before they look up what it names: pure, and lax in the ways that real servers are.
//!
//! A path that was forwarded must not be, in any of these readings, one for a route that asks for more than the route on
//! which it was let through. The readings are written independently of the gateway's own and share no code with it.

/// A server's way to read a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What it is called in a failure.
    pub(crate) name: &'static str,
    steps: &'static [Step],
}

/// One thing a server does to a path, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Ends the path at `#`, as whoever parses a URI reference does.
    CutFragment,
    /// Decodes escapes once: all octets.
    Decode,
    /// Decodes escapes of unreserved octets only (RFC 3986 §6.2.2.2).
    DecodeUnreserved,
    /// Decodes `%u002e` as some servers on Windows do.
    DecodeUnicode,
    /// Decodes the overlong UTF-8 of dot and slashes, as decoders do that do not check.
    DecodeOverlong,
    /// Drops octets that are not UTF-8.
    DropForeign,
    /// Takes a backslash for a slash.
    Backslash,
    /// Drops what follows `;` in each segment.
    DropParameters,
    /// Ends the path at an octet of zero, as C does.
    CutAtZero,
    /// Drops dots and spaces at the end of each segment, as file systems of Windows do; not of dot segments.
    DropEnds,
    /// Takes several slashes for one.
    MergeSlashes,
    /// Removes dot segments (RFC 3986 §5.2.4).
    RemoveDots,
    /// Takes upper case for lower case.
    FoldCase,
}

use Step::*;

/// The readings. Each is what some server does, or several in a row.
pub(crate) const READINGS: &[Reading] = &[
    Reading { name: "as it is", steps: &[] },
    Reading { name: "RFC 3986", steps: &[DecodeUnreserved, RemoveDots] },
    Reading { name: "cut at the fragment", steps: &[CutFragment, DecodeUnreserved, RemoveDots] },
    Reading { name: "slashes merged", steps: &[DecodeUnreserved, MergeSlashes, RemoveDots] },
    Reading { name: "dots before slashes", steps: &[DecodeUnreserved, RemoveDots, MergeSlashes] },
    Reading { name: "decoded, then dots", steps: &[Decode, RemoveDots] },
    Reading { name: "dots, then decoded", steps: &[RemoveDots, Decode] },
    Reading { name: "nginx", steps: &[CutFragment, Decode, CutAtZero, MergeSlashes, RemoveDots] },
    Reading { name: "backslashes", steps: &[Decode, Backslash, RemoveDots] },
    Reading {
        name: "backslashes undecoded",
        steps: &[DecodeUnreserved, Backslash, MergeSlashes, RemoveDots],
    },
    Reading { name: "Tomcat", steps: &[DropParameters, Decode, Backslash, MergeSlashes, RemoveDots] },
    Reading { name: "parameters after decoding", steps: &[Decode, DropParameters, MergeSlashes, RemoveDots] },
    Reading { name: "decoded twice", steps: &[Decode, Decode, Backslash, MergeSlashes, RemoveDots] },
    Reading {
        name: "decoded three times",
        steps: &[Decode, Decode, Decode, Backslash, MergeSlashes, RemoveDots],
    },
    Reading {
        name: "decoded after dots",
        steps: &[DecodeUnreserved, RemoveDots, Decode, MergeSlashes, RemoveDots],
    },
    Reading { name: "overlong", steps: &[DecodeOverlong, Decode, Backslash, MergeSlashes, RemoveDots] },
    Reading {
        name: "IIS",
        steps: &[DecodeUnicode, Decode, Backslash, DropEnds, MergeSlashes, RemoveDots, FoldCase],
    },
    Reading {
        name: "foreign octets dropped",
        steps: &[
            Decode,
            DropForeign,
            DropParameters,
            Backslash,
            DropEnds,
            MergeSlashes,
            RemoveDots,
            FoldCase,
        ],
    },
    Reading { name: "folded", steps: &[DecodeUnreserved, RemoveDots, FoldCase] },
    Reading {
        name: "everything",
        steps: &[
            CutFragment,
            DecodeUnicode,
            DecodeOverlong,
            Decode,
            Decode,
            CutAtZero,
            DropParameters,
            Backslash,
            DropEnds,
            MergeSlashes,
            RemoveDots,
            FoldCase,
        ],
    },
];

impl Reading {
    /// The path of this target, without query, as such a server reads it.
    pub(crate) fn path(&self, target: &[u8]) -> Vec<u8> {
        let end = target.iter().position(|b| *b == b'?').unwrap_or(target.len());
        self.steps.iter().fold(target[..end].to_vec(), |path, step| step.apply(&path))
    }
}

impl Step {
    fn apply(self, path: &[u8]) -> Vec<u8> {
        match self {
            CutFragment => until(path, b'#').to_vec(),
            CutAtZero => until(path, 0).to_vec(),
            Decode => decode(path, |_| true),
            DecodeUnreserved => {
                decode(path, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
            }
            DecodeUnicode => replace(&replace(path, b"%u002e", b"."), b"%u002f", b"/"),
            DecodeOverlong => {
                replace(&replace(&replace(path, b"%c0%ae", b"."), b"%c0%af", b"/"), b"%c1%9c", b"\\")
            }
            DropForeign => path.utf8_chunks().flat_map(|chunk| chunk.valid().bytes()).collect(),
            Backslash => path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect(),
            DropParameters => each_segment(path, |segment| until(segment, b';')),
            DropEnds => each_segment(path, |segment| {
                let kept =
                    segment.iter().rposition(|b| !matches!(b, b'.' | b' ' | b'\t')).map_or(0, |at| at + 1);
                if kept == 0 && segment.starts_with(b".") { segment } else { &segment[..kept] }
            }),
            MergeSlashes => {
                let mut merged = Vec::with_capacity(path.len());
                for byte in path {
                    if !(*byte == b'/' && merged.last() == Some(&b'/')) {
                        merged.push(*byte);
                    }
                }
                merged
            }
            RemoveDots => remove_dots(path),
            FoldCase => path.to_ascii_lowercase(),
        }
    }
}

fn until(bytes: &[u8], end: u8) -> &[u8] {
    bytes.split(|b| *b == end).next().unwrap_or_default()
}

fn each_segment<'p>(path: &'p [u8], change: impl Fn(&'p [u8]) -> &'p [u8]) -> Vec<u8> {
    path.split(|b| *b == b'/').map(change).collect::<Vec<_>>().join(&b'/')
}

/// Decodes the escapes whose octet is wanted, once, from left to right; leaves broken ones.
fn decode(path: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        let octet = match rest {
            [b'%', high, low, ..] => {
                let digit = |b: &u8| char::from(*b).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| u8::try_from(high * 16 + low).unwrap())
            }
            _ => None,
        };
        match octet.filter(|octet| wanted(*octet)) {
            Some(octet) => {
                decoded.push(octet);
                rest = &rest[3..];
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

/// Replaces a text in any letter case.
fn replace(path: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        if rest.len() >= from.len() && rest[..from.len()].eq_ignore_ascii_case(from) {
            replaced.extend_from_slice(to);
            rest = &rest[from.len()..];
        } else {
            replaced.push(*first);
            rest = tail;
        }
    }
    replaced
}

fn remove_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.strip_prefix(b"/").unwrap_or(path).split(|b| *b == b'/').collect();
    for (i, segment) in segments.iter().enumerate() {
        match *segment {
            b"." => {}
            b".." => drop(kept.pop()),
            other => {
                kept.push(other);
                continue;
            }
        }
        if i + 1 == segments.len() {
            kept.push(b"");
        }
    }
    [b"/", kept.join(&b'/').as_slice()].concat()
}

#[test]
fn each_reading_finds_what_it_is_for() {
    let read = |name: &str, path: &str| {
        let reading = READINGS.iter().find(|reading| reading.name == name).unwrap();
        String::from_utf8_lossy(&reading.path(path.as_bytes())).into_owned()
    };
    for (name, path, read_as) in [
        ("as it is", "/a/../b?c", "/a/../b"),
        ("RFC 3986", "/public/%2e%2E/api/%41dmin", "/api/Admin"),
        ("RFC 3986", "/a/./b/../c/..", "/a/"),
        ("RFC 3986", "/../../a", "/a"),
        ("RFC 3986", "/public%2f..%2fapi", "/public%2f..%2fapi"),
        ("cut at the fragment", "/public#/../api", "/public"),
        ("slashes merged", "//api///admin", "/api/admin"),
        ("slashes merged", "/a//../b", "/b"),
        ("dots before slashes", "/a//../b", "/a/b"),
        ("decoded, then dots", "/public%2f..%2fapi/x", "/api/x"),
        ("dots, then decoded", "/public/%2e%2e/api", "/public/../api"),
        ("nginx", "/api/admin%00.png", "/api/admin"),
        ("backslashes", "/public\\..%5capi", "/api"),
        ("Tomcat", "/public/..;a=b/api;x/admin", "/api/admin"),
        ("parameters after decoding", "/api%3bx/admin", "/api/admin"),
        ("decoded twice", "/public/%252e%252e%252fapi", "/api"),
        ("decoded three times", "/public/%25252e%25252e/api", "/api"),
        ("decoded after dots", "/public/x%2f..%2f../api", "/api"),
        ("overlong", "/public/%c0%AE%c0%ae/api", "/api"),
        ("IIS", "/API./Admin%20/%u002e%u002e/x", "/api/x"),
        ("folded", "/API/Admin", "/api/admin"),
        ("everything", "/public/..%252f;x/API#y", "/api"),
    ] {
        assert_eq!(read(name, path), read_as, "{name}: {path}");
    }
}
