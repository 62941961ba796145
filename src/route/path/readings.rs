//! How servers behind the gateway may read a doubtful path.
//!
//! A route that opts in to a doubtful spelling says that its upstream reads it as the gateway does. If that is wrong, the
//! request must still not be one for another route. So the table looks up each reading too, and refuses the path if one of
//! them leads elsewhere.

use super::{CanonicalPath, PathOptOuts, is_unreserved, octets};

/// The readings of a path beside its own, still escaped, not yet folded in case. None for a path without doubts.
///
/// Their number is bounded by the number of doubtful spellings: a few times two to the power of it.
pub(in crate::route) fn readings(path: &CanonicalPath<'_>) -> impl Iterator<Item = String> {
    // Once an escape is decoded a second time, anything may appear that is not refused then.
    let possible = if path.doubts.contains(PathOptOuts::DOUBLE_ENCODING) {
        PathOptOuts::FOUND_BY_DECODING | path.doubts
    } else if path.doubts.is_empty() {
        PathOptOuts::NONE
    } else {
        // Whoever splits or drops something may be left with an empty segment.
        path.doubts | PathOptOuts::EMPTY_SEGMENTS
    };
    // The bases hold what servers make of such octets.
    let possible = possible.without(PathOptOuts::NON_UTF8);
    let cuts = [false, true].into_iter().take(if path.cuts { 2 } else { 1 });
    let variants = move |base: String| {
        cuts.clone()
            .flat_map(move |cut| possible.subsets().map(move |lax| (lax, cut)))
            .map(move |(lax, cut)| read(&base, lax, cut))
    };
    let is_itself = |reading: &String| *reading == *path.as_str();
    bases(path).into_iter().flat_map(variants).filter(move |reading| !is_itself(reading))
}

/// What servers may make of the path before they decode anything twice.
fn bases(path: &CanonicalPath<'_>) -> Vec<String> {
    if path.doubts.is_empty() && !path.cuts {
        // Nearly all paths: servers agree on them, and a look-up must not allocate.
        return Vec::new();
    }
    let mut bases = vec![path.as_str().to_owned()];
    if path.doubts.contains(PathOptOuts::NON_UTF8) {
        bases.extend([
            octets::without_foreign(path.as_str()),
            octets::as_latin1(path.as_str(), true),
            octets::as_latin1(path.as_str(), false),
            octets::as_latin1_by_segment(path.as_str()),
        ]);
        bases.sort_unstable();
        bases.dedup();
    }
    if path.doubts.contains(PathOptOuts::DOUBLE_ENCODING) {
        // What is escaped once ends a segment or the path, and what is escaped twice is left in a segment's value.
        let split = path.as_str().replace("%2F", "/").replace("%5C", "/");
        if split != path.as_str() {
            bases.push(split);
        }
        if path.cuts {
            let cut = |base: &String| base.get(..cut_at(base)?).map(str::to_owned);
            let shorter: Vec<String> = bases.iter().filter_map(cut).collect();
            bases.extend(shorter);
        }
    }
    // Some servers drop parameters before they decode anything, so that what is escaped in one is never seen; others once
    // they have decoded the semicolons.
    if path.doubts.contains(PathOptOuts::SEMICOLON) {
        let spellings: [&[&str]; 2] = [&[";"], &[";", "%3B"]];
        let bare: Vec<String> = bases
            .iter()
            .flat_map(|base| spellings.map(|semicolons| without_parameters(base, semicolons)))
            .collect();
        bases.extend(bare);
    }
    bases
}

/// Where an escaped `?` or `#` ends the path for some servers.
fn cut_at(text: &str) -> Option<usize> {
    text.find("%3F").into_iter().chain(text.find("%23")).min()
}

/// The path as a server reads it that is lax in these ways; `cut` is for one that ends it at an escaped `?` or `#`.
fn read(text: &str, lax: PathOptOuts, cut: bool) -> String {
    let mut text =
        if lax.contains(PathOptOuts::DOUBLE_ENCODING) { decode_once_more(text) } else { text.to_owned() };
    if cut && let Some(end) = cut_at(&text) {
        text.truncate(end);
    }
    if lax.contains(PathOptOuts::ENCODED_SLASH) {
        text = text.replace("%2F", "/");
    }
    if lax.contains(PathOptOuts::ENCODED_BACKSLASH) {
        text = text.replace("%5C", "/");
    }
    if lax.contains(PathOptOuts::SEMICOLON) {
        text = without_parameters(&text, &[";", "%3B"]);
    }
    let segments: Vec<&str> = text.split('/').skip(1).map(|segment| without_end(segment, lax)).collect();
    let mut read: Vec<&str> = Vec::with_capacity(segments.len());
    let count = segments.len();
    for (i, segment) in segments.into_iter().enumerate() {
        let last = i + 1 == count;
        match segment {
            "" if !last && lax.contains(PathOptOuts::EMPTY_SEGMENTS) => {}
            "." | ".." => {
                if segment == ".." {
                    read.pop();
                }
                if last {
                    read.push("");
                }
            }
            _ => read.push(segment),
        }
    }
    format!("/{}", read.join("/"))
}

/// The segment without the dots and spaces at its end that a server drops. Dot segments stay what they are.
fn without_end(segment: &str, lax: PathOptOuts) -> &str {
    let mut name = segment;
    while !matches!(name, "." | "..") {
        let dot = name.strip_suffix('.').filter(|_| lax.contains(PathOptOuts::TRAILING_DOT));
        let shorter =
            dot.or_else(|| name.strip_suffix("%20").filter(|_| lax.contains(PathOptOuts::TRAILING_SPACE)));
        match shorter {
            Some(shorter) => name = shorter,
            None => break,
        }
    }
    name
}

/// The path without what follows a semicolon, in one of these spellings, in each segment.
fn without_parameters(text: &str, semicolons: &[&str]) -> String {
    let name = |segment: &'_ str| {
        let end = semicolons.iter().filter_map(|semicolon| segment.find(semicolon)).min();
        segment.get(..end.unwrap_or(segment.len())).unwrap_or_default().to_owned()
    };
    text.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// The canonical path that is left after one more decoding; what then is no escape stays an escaped percent sign.
pub(super) fn decode_once_more(text: &str) -> String {
    let once = text.replace("%25", "%");
    let mut read = String::with_capacity(once.len());
    let mut rest = once.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        read.push_str(before);
        let value = after
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value {
            Some(value) => {
                if is_unreserved(value) {
                    read.push(char::from(value));
                } else {
                    read.push_str(percent_encoding::percent_encode_byte(value));
                }
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                read.push_str("%25");
                rest = after;
            }
        }
    }
    read.push_str(rest);
    read
}
