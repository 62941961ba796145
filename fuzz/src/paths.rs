//! How servers behind the gateway may read a path (oracle of the `path` target).
//!
//! Each step is something that some server does and another does not: decode once, twice, not the slash, drop octets that are
//! not UTF-8 or read them as ISO 8859-1; end the path at
//! an octet that ends it elsewhere; take a backslash for a slash; drop parameters, empty segments, dots and spaces at the
//! end of a name; ignore letter case. Dot segments are resolved at the end. All combinations in this order are readings.

use std::collections::BTreeSet;

type Step = fn(&str) -> Option<String>;

/// Every reading of a path, its own included.
pub fn readings(path: &str) -> BTreeSet<String> {
    let steps: [&[Step]; 8] = [
        &[drop_parameters],
        // Twice at most: once as it should be, and once more.
        &[decode_all_but_slashes, decode],
        &[decode, decode_dropping, decode_latin1],
        &[cut],
        &[backslashes],
        &[drop_parameters],
        &[merge_slashes],
        &[drop_ends],
    ];
    let mut readings = BTreeSet::from([path.to_owned()]);
    for step in steps {
        let more: Vec<String> =
            readings.iter().flat_map(|path| step.iter().filter_map(|read| read(path))).collect();
        readings.extend(more);
    }
    readings.iter().map(|path| resolve_dots(path)).collect()
}

fn changed(before: &str, after: String) -> Option<String> {
    (after != before).then_some(after)
}

fn decode(path: &str) -> Option<String> {
    changed(path, String::from_utf8_lossy(&decode_where(path, |_| true)).into_owned())
}

fn decode_all_but_slashes(path: &str) -> Option<String> {
    changed(path, String::from_utf8_lossy(&decode_where(path, |byte| byte != b'/')).into_owned())
}

fn decode_dropping(path: &str) -> Option<String> {
    changed(path, decode_where(path, |_| true).utf8_chunks().map(|chunk| chunk.valid()).collect())
}

fn decode_latin1(path: &str) -> Option<String> {
    changed(path, decode_where(path, |_| true).into_iter().map(char::from).collect())
}

fn decode_where(path: &str, wanted: fn(u8) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped.filter(|byte| wanted(*byte)) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn cut(path: &str) -> Option<String> {
    path.split_once(['?', '#', '\0']).map(|(before, _)| before.to_owned())
}

fn backslashes(path: &str) -> Option<String> {
    changed(path, path.replace('\\', "/"))
}

fn of_each_segment(path: &str, change: fn(&str) -> &str) -> Option<String> {
    let segments: Vec<&str> = path.split('/').map(change).collect();
    changed(path, segments.join("/"))
}

fn drop_parameters(path: &str) -> Option<String> {
    of_each_segment(path, |segment| segment.split(';').next().unwrap_or_default())
}

fn drop_ends(path: &str) -> Option<String> {
    of_each_segment(path, |segment| match segment {
        "." | ".." => segment,
        _ => segment.trim_end_matches(['.', ' ']),
    })
}

fn merge_slashes(path: &str) -> Option<String> {
    let mut merged = path.to_owned();
    while merged.contains("//") {
        merged = merged.replace("//", "/");
    }
    changed(path, merged)
}

/// RFC 3986 §5.2.4.
fn resolve_dots(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let mut kept: Vec<&str> = Vec::new();
    for (position, segment) in segments.iter().enumerate() {
        let last = position + 1 == segments.len();
        match *segment {
            ".." => drop(kept.pop()),
            "." => {}
            other => {
                kept.push(other);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

/// Makes sure that the oracle sees attacks; called once before a target begins.
///
/// # Panics
///
/// If one is not seen.
pub fn see_attacks() {
    for (path, reading) in [
        ("/public/../api", "/api"),
        ("/public/%2e%2e/api", "/api"),
        ("/public/..%2fapi", "/api"),
        ("/public/%252e%252e%252fapi", "/api"),
        ("/public/..;x/api", "/api"),
        ("/public/..%5Capi", "/api"),
        ("/public//../api", "/public/api"),
        ("/public//../api", "/api"),
        ("/api/admin.%20/x", "/api/admin/x"),
        ("/api/admin%2500", "/api/admin"),
        ("/api/a%2Fb%25", "/api/a%2Fb%25"),
        ("/api/adm%FFin/x", "/api/admin/x"),
        ("/caf%E9", "/caf\u{e9}"),
    ] {
        assert!(readings(path).contains(reading), "{path}: {:?}", readings(path));
    }
}
