//! How many fields the header blocks of an HTTP/2 connection hold, before anything is made of them (RFC 7541 §6).
//!
//! A field can be one byte on the wire and a hundred in memory, and h2 limits a block by its bytes only. So the
//! representations of a block are counted: integers and strings are passed over, nothing is decoded, no table is kept.
//! What is no HPACK is for h2 to refuse; whatever it is counted as, memory does not depend on it. A client may not push,
//! but h2 refuses its PUSH_PROMISE only after decoding it: its block is counted as any other.

use super::frames::{CONTINUATION, Frame, HEADERS, PUSH_PROMISE};

/// Flags of HEADERS (RFC 9113 §6.2); PUSH_PROMISE has the first of them (§6.6).
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Length of what the second of them announces.
const PRIORITY_LENGTH: usize = 5;
/// Length of a promised stream's identifier.
const PROMISED_LENGTH: usize = 4;

/// The header block that is being received.
#[derive(Debug, Default)]
pub(super) struct Block {
    fields: usize,
    at: At,
    /// Whether the frame's padding length is yet to come.
    padded: bool,
    /// Bytes of the frame in front of its fragment.
    lead: usize,
    /// Bytes of the frame's fragment that are yet to come, with what is in front of it.
    left: usize,
}

/// What the next byte of a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// The first of a representation.
    #[default]
    Field,
    /// Within an integer that says nothing here; so many strings follow.
    Integer { strings: u8 },
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
            At::Integer { strings } if byte & 0x80 != 0 => At::Integer { strings },
            At::Integer { strings } => followed_by(strings),
            At::String { strings } => match usize::from(byte & 0x7f) {
                0x7f => At::Length { strings, length: 0x7f, shift: 0 },
                length => text(strings, length),
            },
            At::Length { strings, length, shift } => {
                let more = usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                let length = length.saturating_add(more);
                if byte & 0x80 != 0 {
                    At::Length { strings, length, shift: shift.saturating_add(7) }
                } else {
                    text(strings, length)
                }
            }
            At::Text { .. } => self.at,
        };
    }

    /// The first byte of a representation.
    fn field(&mut self, byte: u8) -> At {
        let is_size = byte & 0xe0 == 0x20;
        self.fields += usize::from(!is_size);
        let (index, most) = match byte {
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
        if index == most { At::Integer { strings } } else { followed_by(strings) }
    }
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
                block.begin(Frame { length: u32::try_from(payload.len()).unwrap(), kind, flags });
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
            block.begin(Frame { length: u32::try_from(bytes.len()).unwrap(), kind: HEADERS, flags });
            block.add(&bytes);
            prop_assert!(block.fields() <= bytes.len());
        }
    }

    #[test]
    fn other_frames_hold_no_fields() {
        let mut block = Block::default();
        block.begin(Frame { length: 3, kind: HEADERS, flags: 0 });
        block.add(&[0x82, 0x86, 0x84]);
        block.begin(Frame { length: 100, kind: 0, flags: 0xff });
        block.add(&[0x82; 100]);
        assert_eq!(block.fields(), 3);
    }
}
