//! The one file that knows the YAML libraries.
//!
//! A small, unambiguous part of YAML is taken. Refused, each with its place:
//!
//! 1. text that is not UTF-8, a byte order mark, control characters (a NUL would end the scanner's input early), the line
//!    and paragraph separators (YAML 1.1 ends a line at them, YAML 1.2 does not), tabs in indentation, more than 64 MiB, no
//!    document or more than one;
//! 2. anchors, aliases, merge keys and tags: a policy says what it means where it means it;
//! 3. keys that are not text, and a key that is there twice;
//! 4. more than 32 levels, more than 200,000 routes and more than 5,000,000 nodes: reading stops there.

use std::borrow::Cow;
use std::collections::HashSet;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use super::env::{Lookup, expand};
use super::node::{Content, Key, Map, Node, Style};
use crate::config::diagnostic::{Fault, Faults, Place};

/// Longest file in bytes.
pub(in crate::config) const MAX_BYTES: usize = 64 << 20;
const MAX_DEPTH: usize = 32;
pub(in crate::config) const MAX_NODES: usize = 5_000_000;
/// Most items of the list that is offered.
const MAX_ROUTES: usize = 200_000;
/// What cures a policy that is too large.
pub(in crate::config) const SMALLER: &str = "match many paths with one pattern, such as `/orders/{*rest}`, or split the policy among several gateways";
/// The section whose items are offered one by one.
const OFFERED: &str = "routes";

/// A scalar's type and value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Typed {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

/// What a plain scalar means, by serde_yaml's reading of YAML: `no`, `0777` and `10s` are text.
pub(super) fn resolve(text: &str) -> Typed {
    let may_be_typed = match text.as_bytes() {
        [] => return Typed::Null,
        [b'~' | b'n' | b'N' | b't' | b'T' | b'f' | b'F', ..] => text.len() <= 5,
        [b'.' | b'+' | b'-' | b'0'..=b'9', ..] => text.len() <= 64,
        _ => false,
    };
    if !may_be_typed {
        return Typed::Text;
    }
    match serde_yaml::from_str(text) {
        Ok(serde_yaml::Value::Null) => Typed::Null,
        Ok(serde_yaml::Value::Bool(value)) => Typed::Bool(value),
        Ok(serde_yaml::Value::Number(number)) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(value), _, _) => Typed::Unsigned(value),
            (None, Some(value), _) => Typed::Signed(value),
            (None, None, Some(value)) => Typed::Float(value),
            (None, None, None) => Typed::Text,
        },
        Ok(
            serde_yaml::Value::String(_)
            | serde_yaml::Value::Sequence(_)
            | serde_yaml::Value::Mapping(_)
            | serde_yaml::Value::Tagged(_),
        )
        | Err(_) => Typed::Text,
    }
}

/// Whether the last line of the file is the document end marker, so that nothing can be missing behind it.
pub(in crate::config) fn ends_with_marker(text: &str) -> bool {
    let last = text.trim_end_matches(['\n', '\r', ' ']).rsplit(['\n', '\r']).next();
    last == Some("...")
}

/// The text, if its encoding is one that is taken.
pub(in crate::config) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let start = |message: &str| {
        Err(Fault::new(Place::START, message).hint("save it as UTF-8 without byte order mark"))
    };
    if bytes.len() > MAX_BYTES {
        return Err(Fault::new(Place::START, "the file is longer than 64 MiB").hint(SMALLER));
    }
    match bytes {
        [0xEF, 0xBB, 0xBF, ..] => return start("the file begins with a byte order mark"),
        [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] | [0, _, ..] | [_, 0, ..] => return start("the file is UTF-16"),
        _ => {}
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(e) => {
            let valid = bytes.get(..e.valid_up_to()).unwrap_or_default();
            let place = place_at(std::str::from_utf8(valid).unwrap_or_default());
            return Err(Fault::new(place, "the file is not UTF-8 here"));
        }
    };
    let odd = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t')
            || matches!(c, '\u{FEFF}' | '\u{2028}' | '\u{2029}')
    };
    if let Some((at, c)) = text.char_indices().find(|(_, c)| odd(*c)) {
        let message = format!("control character U+{:04X}", u32::from(c));
        let fault = Fault::new(place_at(text.get(..at).unwrap_or_default()), message);
        return Err(fault.hint("remove it; in a value, write it as an escape in double quotes"));
    }
    match tab_in_indentation(text) {
        Some(place) => {
            Err(Fault::new(place, "a tab in the indentation").hint("YAML is indented with spaces only"))
        }
        None => Ok(text),
    }
}

/// Is offered each item of the root's list `routes` as soon as it is read, with the sections before it, and gives back
/// those that shall stay in the tree. A policy has few sections and may have very many routes.
pub(in crate::config) type Taker<'r, 't> =
    &'r mut dyn FnMut(&Map<'t>, Node<'t>, &mut Faults) -> Option<Node<'t>>;

/// Reads the one document. Faults are gathered; `None` where reading could not go on.
pub(in crate::config) fn read<'t>(
    text: &'t str,
    env: Lookup<'_>,
    faults: &mut Faults,
    taker: Taker<'_, 't>,
) -> Option<Node<'t>> {
    let mut reader = Reader { parser: Parser::new_from_str(text), env, faults, taker, nodes: 0 };
    match reader.document() {
        Ok(node) => Some(node),
        Err(fault) => {
            faults.error(fault);
            None
        }
    }
}

struct Reader<'t, 'e> {
    parser: Parser<'t, StrInput<'t>>,
    env: Lookup<'e>,
    faults: &'e mut Faults,
    taker: Taker<'e, 't>,
    nodes: usize,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Place), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place(&span.start))),
            Some(Err(e)) => Err(Fault::new(place(e.marker()), format!("not valid YAML: {}", e.info()))),
            None => Ok((Event::StreamEnd, Place::START)),
        }
    }

    fn document(&mut self) -> Result<Node<'t>, Fault> {
        let empty = || {
            Fault::new(Place::START, "the file holds no policy")
                .hint("a policy has at least `version`, `gateway` and `routes`")
        };
        loop {
            match self.next()?.0 {
                Event::StreamStart | Event::Nothing => {}
                Event::DocumentStart(_) => break,
                _ => return Err(empty()),
            }
        }
        let (event, place) = self.next()?;
        let root = self.node(event, place, 0, None)?;
        loop {
            let (event, place) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::DocumentEnd | Event::Nothing => {}
                _ => {
                    return Err(
                        Fault::new(place, "a second document").hint("one file is one policy: remove `---`")
                    );
                }
            }
        }
        match &root.content {
            Content::Scalar(text, Style::Plain) if resolve(text) == Typed::Null => Err(empty()),
            Content::Scalar(..) | Content::Sequence(_) | Content::Map(_) => Ok(root),
        }
    }

    /// One node. With `sections` it is the list whose items are offered.
    fn node(
        &mut self,
        event: Event<'t>,
        place: Place,
        depth: usize,
        sections: Option<&Map<'t>>,
    ) -> Result<Node<'t>, Fault> {
        self.nodes += 1;
        if depth > MAX_DEPTH {
            return Err(Fault::new(place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        if self.nodes > MAX_NODES {
            let message = format!("the policy is too large: more than {MAX_NODES} keys and values");
            return Err(Fault::new(place, message).hint(SMALLER));
        }
        let content = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse(place, anchor, tag.is_some());
                let (text, style) = self.scalar(text, style, place);
                Content::Scalar(text, style)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse(place, anchor, tag.is_some());
                Content::Sequence(self.sequence(depth, sections)?)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse(place, anchor, tag.is_some());
                Content::Map(self.map(depth)?)
            }
            Event::Alias(_) => {
                self.faults.error(
                    Fault::new(place, "an alias (`*name`) is refused")
                        .hint("write the value out where it is meant"),
                );
                Content::Scalar(Cow::Borrowed(""), Style::Quoted)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(Fault::new(place, "not valid YAML: a value is missing")),
        };
        Ok(Node { place, content })
    }

    fn sequence(&mut self, depth: usize, sections: Option<&Map<'t>>) -> Result<Vec<Node<'t>>, Fault> {
        let mut items = Vec::new();
        for number in 1_usize.. {
            let (event, place) = self.next()?;
            if event == Event::SequenceEnd {
                break;
            }
            if sections.is_some() && number > MAX_ROUTES {
                let message = format!("the policy is too large: more than {MAX_ROUTES} {OFFERED}");
                return Err(Fault::new(place, message).key(OFFERED).hint(SMALLER));
            }
            let item = self.node(event, place, depth + 1, None)?;
            items.extend(match sections {
                Some(sections) => (self.taker)(sections, item, self.faults),
                None => Some(item),
            });
        }
        Ok(items)
    }

    fn map(&mut self, depth: usize) -> Result<Map<'t>, Fault> {
        let mut map = Map::default();
        // Small mappings are searched, large ones are hashed: neither a route nor 100,000 upstreams shall be slow.
        let mut seen: HashSet<String> = HashSet::new();
        loop {
            let (event, place) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(map);
            }
            let is_plain = matches!(&event, Event::Scalar(_, ScalarStyle::Plain, ..));
            let key = self.node(event, place, depth + 1, None)?;
            let (event, value_place) = self.next()?;
            let is_offered = depth == 0 && key.is_text(OFFERED) && map.get(OFFERED).is_none();
            let mut value = self.node(event, value_place, depth + 1, is_offered.then_some(&map))?;
            if matches!(&value.content, Content::Scalar(text, Style::Plain) if text.is_empty()) {
                // Nothing has no place of its own.
                value.place = place;
            }
            let Content::Scalar(text, _) = key.content else {
                self.faults.error(Fault::new(place, "a key must be text"));
                continue;
            };
            if is_plain && text == "<<" {
                self.faults.error(
                    Fault::new(place, "a merge key (`<<`) is refused")
                        .key("<<")
                        .hint("write the keys out where they are meant"),
                );
                continue;
            }
            let known = if map.0.len() < 16 {
                map.0.iter().any(|(other, _)| other.text == text)
            } else {
                if seen.is_empty() {
                    seen.extend(map.0.iter().map(|(other, _)| other.text.to_string()));
                }
                !seen.insert(text.to_string())
            };
            if known {
                let first = map.0.iter().find(|(other, _)| other.text == text);
                let line = first.map_or(0, |(other, _)| other.place.line);
                let fault = Fault::new(place, format!("duplicate key `{text}`, first on line {line}"));
                self.faults.error(fault.key(text));
                continue;
            }
            map.0.push((Key { place, text }, value));
        }
    }

    fn scalar(&mut self, text: Cow<'t, str>, style: ScalarStyle, place: Place) -> (Cow<'t, str>, Style) {
        let written = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
        let faults = &mut *self.faults;
        let mut padded = |name: &str| {
            let message = format!("the value of `{name}` begins or ends with white space or a line end");
            faults.warn(Fault::new(place, message).key(name).hint("it counts as part of the value"));
        };
        match expand(&text, self.env, &mut padded) {
            Ok(None) => (text, written),
            Ok(Some(expanded)) if written == Style::Plain => (expanded, Style::Expanded),
            Ok(Some(expanded)) => (expanded, Style::Quoted),
            Err(message) => {
                self.faults.error(Fault::new(place, message));
                (text, Style::Quoted)
            }
        }
    }

    fn refuse(&mut self, place: Place, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.faults.error(
                Fault::new(place, "an anchor (`&name`) is refused")
                    .hint("write the value out where it is meant"),
            );
        }
        if tagged {
            self.faults.error(Fault::new(place, "a tag (`!name`) is refused"));
        }
    }
}

fn place(marker: &Marker) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: number(marker.line()).max(1), column: number(marker.col()).saturating_add(1) }
}

/// The place behind this text.
fn place_at(before: &str) -> Place {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let line = before.bytes().filter(|b| *b == b'\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    Place { line: number(line + 1), column: number(column + 1) }
}

fn tab_in_indentation(text: &str) -> Option<Place> {
    memchr::memchr(b'\t', text.as_bytes())?;
    let mut before = 0;
    for line in text.split_inclusive('\n') {
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        let blank = line.trim().is_empty();
        if let Some(tab) = line.get(..indentation).and_then(|i| i.find('\t'))
            && !blank
        {
            return Some(place_at(text.get(..before + tab).unwrap_or_default()));
        }
        before += line.len();
    }
    None
}
