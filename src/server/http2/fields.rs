//! How many fields the header blocks of an HTTP/2 connection hold, before anything is made of them (RFC 7541 §6).
//!
//! A field can be one byte on the wire and a hundred in memory, and h2 limits a block by its bytes only. So the
//! representations of a block are counted: integers and strings are passed over, nothing is decoded, no table is kept.
//! What is no HPACK is for h2 to refuse; whatever it is counted as, memory does not depend on it. A client may not push,
//! but h2 refuses its PUSH_PROMISE only after decoding it: its block is counted as any other.
//!
//! h2 drops pseudo-fields of trailers instead of refusing them (RFC 9113 §8.1). So each representation is judged by its name:
//! entries 1 to 14 of the static table are pseudo-fields, a literal name says so by its first octet, and for each entry of
//! the dynamic table one bit is kept. The newest entry always has index 62, so evictions need not be followed.

use super::frame::{CONTINUATION, Frame, HEADERS, PUSH_PROMISE};

/// Flags of HEADERS (RFC 9113 §6.2); PUSH_PROMISE has the first of them (§6.6).
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Length of what the second of them announces.
const PRIORITY_LENGTH: usize = 5;
/// Length of a promised stream's identifier.
const PROMISED_LENGTH: usize = 4;

/// The last pseudo-field of the static table (RFC 7541 appendix A); the first is 1.
const LAST_PSEUDO: usize = 14;
/// Index of the newest entry of the dynamic table (RFC 7541 §2.3.3).
const NEWEST: usize = 62;

/// The header block that is being received.
#[derive(Debug, Default)]
pub(super) struct Block {
    fields: usize,
    at: At,
    /// The representation that is being read.
    field: Field,
    /// Whether the block is the trailers of its stream, and whether they hold a pseudo-field.
    trailers: bool,
    pseudo: bool,
    /// For each entry of the dynamic table, the newest in the lowest bit, whether it is a pseudo-field. The table has 4096
    /// octets, an entry at least 32 (RFC 7541 §4.1), so there are at most 128.
    table: u128,
    /// The newest stream that was opened.
    newest: u32,
    /// Whether the frame's padding length is yet to come.
    padded: bool,
    /// Bytes of the frame in front of its fragment.
    lead: usize,
    /// Bytes of the frame's fragment that are yet to come, with what is in front of it.
    left: usize,
}

/// What of a representation matters once its name is known.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    /// Whether it is a field, not the size of the table.
    counts: bool,
    /// Whether it becomes an entry of the dynamic table.
    kept: bool,
    /// Whether its name is Huffman-coded, and whether the first octet of it is next.
    huffman: bool,
    name_begins: bool,
}

/// What the next byte of a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first of a representation.
    #[default]
    Field,
    /// Within the index of a representation; so many strings follow.
    Integer { strings: u8, index: usize, shift: u32 },
    /// The first of a string's length; so many strings follow, this one included.
    String { strings: u8 },
    /// Within a string's length.
    Length { strings: u8, length: usize, shift: u32 },
    /// Within a string.
    Text { strings: u8, left: usize },
}

impl Block {
    /// A frame begins: the first of a block, one that goes on with it, or another.
    pub(super) fn begin(&mut self, frame: Frame) {
        let is_first = matches!(frame.kind, HEADERS | PUSH_PROMISE);
        if is_first {
            (self.fields, self.at) = (0, At::Field);
            // Streams are opened in ascending order, so what is not newer was opened before (RFC 9113 §5.1.1).
            self.trailers = frame.kind == HEADERS && (1..=self.newest).contains(&frame.stream);
        }
        if frame.kind == HEADERS {
            self.newest = self.newest.max(frame.stream);
        }
        self.padded = is_first && frame.flags & PADDED != 0;
        self.lead = match frame.kind {
            HEADERS if frame.flags & PRIORITY != 0 => PRIORITY_LENGTH,
            PUSH_PROMISE => PROMISED_LENGTH,
            _ => 0,
        };
        self.left = if is_first || frame.kind == CONTINUATION { frame.length as usize } else { 0 };
    }

    /// Fields so far, pseudo-headers included.
    pub(super) const fn fields(&self) -> usize {
        self.fields
    }

    /// Whether trailers hold a pseudo-field, which makes their request malformed.
    pub(super) const fn has_late_pseudo_field(&self) -> bool {
        self.pseudo
    }

    /// The next bytes of the frame.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        if self.left == 0 {
            return;
        }
        let mut bytes = bytes;
        if self.padded
            && let Some((padding, rest)) = bytes.split_first()
        {
            self.padded = false;
            self.left = self.left.saturating_sub(1 + usize::from(*padding));
            bytes = rest;
        }
        let taken = self.left.min(bytes.len());
        self.left -= taken;
        let lead = self.lead.min(taken);
        self.lead -= lead;
        let mut rest = bytes.get(lead..taken).unwrap_or_default();
        while let Some((byte, behind)) = rest.split_first() {
            rest = match self.at {
                At::Text { strings, left } => {
                    self.name_octet(*byte);
                    let passed = left.min(rest.len());
                    self.at = text(strings, left - passed);
                    rest.get(passed..).unwrap_or_default()
                }
                At::Field | At::Integer { .. } | At::String { .. } | At::Length { .. } => {
                    self.step(*byte);
                    behind
                }
            };
        }
    }

    fn step(&mut self, byte: u8) {
        self.at = match self.at {
            At::Field => self.field(byte),
            At::Integer { strings, index, shift } => {
                let index = index.saturating_add(shifted(byte, shift));
                if byte & 0x80 != 0 {
                    At::Integer { strings, index, shift: shift.saturating_add(7) }
                } else {
                    self.indexed(index, strings)
                }
            }
            At::String { strings } => {
                self.field.huffman = byte & 0x80 != 0;
                match usize::from(byte & 0x7f) {
                    0x7f => At::Length { strings, length: 0x7f, shift: 0 },
                    length => self.text(strings, length),
                }
            }
            At::Length { strings, length, shift } => {
                let length = length.saturating_add(shifted(byte, shift));
                if byte & 0x80 != 0 {
                    At::Length { strings, length, shift: shift.saturating_add(7) }
                } else {
                    self.text(strings, length)
                }
            }
            At::Text { .. } => self.at,
        };
    }

    /// The first byte of a representation.
    fn field(&mut self, byte: u8) -> At {
        let is_size = byte & 0xe0 == 0x20;
        self.fields += usize::from(!is_size);
        self.field = Field { counts: !is_size, kept: byte & 0xc0 == 0x40, ..Field::default() };
        let (index, most): (u8, usize) = match byte {
            0x80.. => (byte & 0x7f, 0x7f),
            0x40..0x80 => (byte & 0x3f, 0x3f),
            0x20..0x40 => (byte & 0x1f, 0x1f),
            0..0x20 => (byte & 0x0f, 0x0f),
        };
        // A literal has a value, and a name of its own if it names no index.
        let strings = match index {
            _ if byte & 0x80 != 0 || is_size => 0,
            0 => 2,
            _ => 1,
        };
        let index = usize::from(index);
        if index == most { At::Integer { strings, index, shift: 0 } } else { self.indexed(index, strings) }
    }

    /// The index of a representation is known.
    fn indexed(&mut self, index: usize, strings: u8) -> At {
        if strings < 2 {
            let is_pseudo = match index.checked_sub(NEWEST) {
                Some(age) => u32::try_from(age)
                    .ok()
                    .and_then(|age| self.table.checked_shr(age))
                    .is_some_and(|table| table & 1 == 1),
                None => (1..=LAST_PSEUDO).contains(&index),
            };
            self.named(is_pseudo);
        }
        followed_by(strings)
    }

    /// The length of a string is known. The first of two strings is a name.
    fn text(&mut self, strings: u8, length: usize) -> At {
        if strings == 2 {
            self.field.name_begins = length > 0;
            if length == 0 {
                self.named(false);
            }
        }
        text(strings, length)
    }

    /// An octet of a string: the first of a name says whether the name begins with a colon.
    fn name_octet(&mut self, octet: u8) {
        if std::mem::take(&mut self.field.name_begins) {
            // The code of a colon is 1011100 (RFC 7541 appendix B).
            self.named(if self.field.huffman { octet & 0xfe == 0xb8 } else { octet == b':' });
        }
    }

    /// It is known whether the field is a pseudo-field.
    fn named(&mut self, is_pseudo: bool) {
        if self.field.kept {
            self.table = self.table << 1 | u128::from(is_pseudo);
        }
        self.pseudo |= is_pseudo && self.trailers && self.field.counts;
    }
}

/// Seven bits of an integer (RFC 7541 §5.1).
fn shifted(byte: u8, shift: u32) -> usize {
    let bits = usize::from(byte & 0x7f);
    if bits == 0 { 0 } else { bits.checked_shl(shift).unwrap_or(usize::MAX) }
}

/// Within a string of which so much is left, or behind it.
const fn text(strings: u8, left: usize) -> At {
    if left == 0 { followed_by(strings.saturating_sub(1)) } else { At::Text { strings, left } }
}

/// Before so many strings, or before the next field.
const fn followed_by(strings: u8) -> At {
    if strings == 0 { At::Field } else { At::String { strings } }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An integer with a prefix (RFC 7541 §5.1).
    fn integer(first: u8, prefix: u32, value: usize) -> Vec<u8> {
        let most = (1 << prefix) - 1;
        if value < most {
            return vec![first | u8::try_from(value).unwrap()];
        }
        let (mut bytes, mut rest) = (vec![first | u8::try_from(most).unwrap()], value - most);
        while rest >= 128 {
            bytes.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        bytes.push(u8::try_from(rest).unwrap());
        bytes
    }

    fn string(huffman: bool, length: usize) -> Vec<u8> {
        // Any bytes may be in a string, such as those that would begin fields.
        [integer(if huffman { 0x80 } else { 0 }, 7, length), vec![0x82; length]].concat()
    }

    /// Representations, and whether each is a field.
    fn representation() -> impl Strategy<Value = (Vec<u8>, usize)> {
        let literal = prop_oneof![Just((0x40, 6)), Just((0, 4)), Just((0x10, 4))];
        prop_oneof![
            (1..400_usize).prop_map(|index| (integer(0x80, 7, index), 1)),
            (0..5000_usize).prop_map(|size| (integer(0x20, 5, size), 0)),
            (literal, 0..300_usize, any::<bool>(), 0..300_usize, 0..300_usize).prop_map(
                |((first, prefix), index, huffman, name, value)| {
                    let name = if index == 0 { string(huffman, name) } else { Vec::new() };
                    ([integer(first, prefix, index), name, string(huffman, value)].concat(), 1)
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn fields_are_counted_at_every_split(
            all in prop::collection::vec(representation(), 0..30),
            cuts in prop::collection::vec(1..50_usize, 1..40),
            padding in prop::option::of(0..40_u8),
            (kind, flags, lead) in prop_oneof![
                Just((HEADERS, 0, 0)),
                Just((HEADERS, PRIORITY, PRIORITY_LENGTH)),
                Just((PUSH_PROMISE, 0, PROMISED_LENGTH)),
            ],
            split in 0..100_usize,
        ) {
            let bytes: Vec<u8> = all.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
            let (first, second) = bytes.split_at(split.min(bytes.len()));
            let lead = vec![0xff; lead];
            let padded = padding.map_or(Vec::new(), |length| vec![length]);
            let tail = vec![0; usize::from(padding.unwrap_or(0))];
            let payload = [&padded[..], &lead, first, &tail].concat();
            let flags = flags | if padding.is_some() { PADDED } else { 0 };
            let mut block = Block::default();
            for (kind, flags, payload) in [(kind, flags, payload.as_slice()), (CONTINUATION, flags, second)] {
                let length = u32::try_from(payload.len()).unwrap();
                block.begin(Frame { length, kind, flags, stream: 1 });
                let mut rest = payload;
                for cut in cuts.iter().cycle() {
                    let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                    block.add(piece);
                    rest = behind;
                    if rest.is_empty() {
                        break;
                    }
                }
            }
            prop_assert_eq!(block.fields(), all.iter().map(|(_, fields)| fields).sum::<usize>());
            prop_assert_eq!(block.at, At::Field);
        }

        #[test]
        fn no_bytes_confuse_it(bytes in prop::collection::vec(any::<u8>(), 0..3000), flags in any::<u8>()) {
            let mut block = Block::default();
            block.begin(Frame { length: u32::try_from(bytes.len()).unwrap(), kind: HEADERS, flags, stream: 1 });
            block.add(&bytes);
            prop_assert!(block.fields() <= bytes.len());
        }
    }

    #[test]
    fn other_frames_hold_no_fields() {
        let mut block = Block::default();
        block.begin(Frame { length: 3, kind: HEADERS, flags: 0, stream: 1 });
        block.add(&[0x82, 0x86, 0x84]);
        block.begin(Frame { length: 100, kind: 0, flags: 0xff, stream: 1 });
        block.add(&[0x82; 100]);
        assert_eq!(block.fields(), 3);
    }

    /// A literal; `first` says whether a table keeps it.
    fn literal(first: u8, name: &[u8], huffman: bool) -> Vec<u8> {
        let length = integer(if huffman { 0x80 } else { 0 }, 7, name.len());
        [&[first][..], &length, name, &string(false, 3)].concat()
    }

    #[test]
    fn pseudo_fields_are_found_in_trailers_alone() {
        let fields = |bytes: &[&[u8]]| bytes.concat();
        let path = literal(0, b":path", false);
        // `:path` in Huffman code, and `x-sum`.
        let coded = literal(0x10, &[0xb9, 0x58, 0xd3, 0x3f], true);
        let coded_sum = literal(0, &[0xf2, 0xb2, 0x0b, 0x6a, 0x7f], true);
        let kept = |name: &[u8]| literal(0x40, name, false);
        let dynamic = |age: usize| integer(0x80, 7, NEWEST + age);
        let nothing: Vec<u8> = Vec::new();
        let plain = kept(b"x").repeat(127);
        for (head, trailers, expected, why) in [
            (nothing.clone(), path.clone(), true, "a literal name"),
            (nothing.clone(), coded, true, "a literal name in Huffman code"),
            (nothing.clone(), coded_sum, false, "another name in Huffman code"),
            (nothing.clone(), literal(0x40, b":", false), true, "a colon alone"),
            (nothing.clone(), literal(0, b"x:", false), false, "a colon later"),
            (nothing.clone(), literal(0, b"", false), false, "an empty name"),
            (nothing.clone(), vec![0x84], true, "`:path: /` of the static table"),
            (nothing.clone(), vec![0x8e], true, "the last of `:status`"),
            (nothing.clone(), vec![0x8f], false, "`accept-charset`"),
            (
                nothing.clone(),
                fields(&[&integer(0x40, 6, 1), &string(true, 4)]),
                true,
                "a name of the static table",
            ),
            (nothing.clone(), fields(&[&integer(0, 4, 32), &string(true, 4)]), false, "`cookie`"),
            (nothing.clone(), integer(0x20, 5, 4), false, "the size of the table is no field"),
            (kept(b":path"), dynamic(0), true, "of the dynamic table"),
            (kept(b":path"), fields(&[&integer(0x10, 4, NEWEST), &string(false, 1)]), true, "a name of it"),
            (fields(&[&kept(b":path"), &kept(b"x")]), dynamic(0), false, "the entry in front of it"),
            (fields(&[&kept(b":path"), &kept(b"x")]), dynamic(1), true, "the entry behind"),
            (fields(&[&kept(b":path"), &plain]), dynamic(127), true, "the oldest entry"),
            (fields(&[&kept(b":path"), &plain]), dynamic(126), false, "the next to it"),
            (fields(&[&kept(b":path"), &plain]), dynamic(128), false, "no entry: for h2 to refuse"),
            (path.clone(), literal(0, b"x", false), false, "a pseudo-field of the head"),
        ] {
            let mut block = Block::default();
            for (bytes, expected) in [(&head, false), (&trailers, expected)] {
                block.begin(Frame {
                    length: u32::try_from(bytes.len()).unwrap(),
                    kind: HEADERS,
                    flags: 0,
                    stream: 1,
                });
                bytes.iter().for_each(|byte| block.add(&[*byte]));
                assert_eq!(block.has_late_pseudo_field(), expected, "{why}");
            }
            let mut next = Block::default();
            for (stream, bytes) in [(1, &head), (3, &trailers)] {
                next.begin(Frame {
                    length: u32::try_from(bytes.len()).unwrap(),
                    kind: HEADERS,
                    flags: 0,
                    stream,
                });
                next.add(bytes);
            }
            assert!(!next.has_late_pseudo_field(), "a head of its own: {why}");
        }
    }
}
