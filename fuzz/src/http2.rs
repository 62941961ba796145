//! A plain reader of HTTP/2 (RFC 9113) that has all bytes before it, with a foreign decoder of HPACK (RFC 7541).

use loona_hpack::Decoder;
use loona_hpack::decoder::{DecoderError, IntegerDecodingError, StringDecodingError};

/// Length of the connection preface.
pub const PREFACE: usize = 24;
/// Length of a frame header.
pub const HEADER: usize = 9;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const PUSH_PROMISE: u8 = 5;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The bytes of one frame. Only the last that were read may be less than its header says.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a>(pub &'a [u8]);

impl<'a> Frame<'a> {
    /// Takes the frame at the front.
    pub fn split(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let length = bytes.first_chunk().map_or(0, |[a, b, c]| u32::from_be_bytes([0, *a, *b, *c]));
        let (own, rest) = bytes.split_at_checked(HEADER + length as usize).unwrap_or((bytes, &[]));
        (Self(own), rest)
    }

    /// Its type, flags and the first octet of its stream, once the header is there.
    pub fn header(self) -> Option<(u8, u8, u8)> {
        self.0.first_chunk::<HEADER>().map(|[_, _, _, kind, flags, stream, ..]| (*kind, *flags, *stream))
    }

    /// Its payload, as far as it is there.
    pub fn payload(self) -> &'a [u8] {
        self.0.get(HEADER..).unwrap_or_default()
    }

    /// The length that its header says.
    pub fn says(self) -> usize {
        let [a, b, c] = self.0.first_chunk().copied().unwrap_or_default();
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    /// The part of a header block that it holds. `None` if it holds none, or not all of it is there.
    fn fragment(self) -> Option<&'a [u8]> {
        let (kind, flags, _) = self.header()?;
        let payload = self.payload();
        if payload.len() < self.says() {
            return None;
        }
        let lead = match kind {
            CONTINUATION => return Some(payload),
            HEADERS if flags & PRIORITY != 0 => 5,
            HEADERS => 0,
            PUSH_PROMISE => 4,
            _ => return None,
        };
        if flags & PADDED == 0 {
            return payload.get(lead..);
        }
        let (padding, rest) = payload.split_first()?;
        rest.get(lead..rest.len().checked_sub(usize::from(*padding))?)
    }
}

/// The header blocks of one direction.
#[derive(Default)]
pub struct Blocks {
    table: Decoder<'static>,
    /// The block that has begun.
    begun: Option<Vec<u8>>,
}

/// What a frame brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Brought {
    /// No header block, or less than a whole one.
    Nothing,
    /// The end of a header block with so many fields.
    Fields(usize),
    /// What ends a connection: frames out of order, or a block that is no HPACK, with so many fields before that is known.
    Error(usize),
}

impl Blocks {
    /// Takes the next frame.
    pub fn add(&mut self, frame: Frame<'_>) -> Brought {
        let Some((kind, flags, _)) = frame.header() else { return Brought::Nothing };
        let mut block = match (kind, self.begun.take()) {
            (CONTINUATION, Some(begun)) => begun,
            (HEADERS | PUSH_PROMISE, None) => Vec::new(),
            (CONTINUATION, None) | (_, Some(_)) => return Brought::Error(0),
            (_, None) => return Brought::Nothing,
        };
        let Some(fragment) = frame.fragment() else { return Brought::Error(0) };
        block.extend_from_slice(fragment);
        if flags & END_HEADERS == 0 {
            self.begun = Some(block);
            return Brought::Nothing;
        }
        match self.decode(&block) {
            (fields, Ok(())) => Brought::Fields(fields),
            (fields, Err(_)) => Brought::Error(fields),
        }
    }

    /// The fields that are all there of a block that is not; `None` if it is no HPACK. Nothing may be added then.
    pub fn so_far(&mut self) -> Option<usize> {
        let block = self.begun.take().unwrap_or_default();
        match self.decode(&block) {
            (fields, Ok(())) => Some(fields),
            (fields, Err(error)) => is_cut(error).then_some(fields),
        }
    }

    fn decode(&mut self, block: &[u8]) -> (usize, Result<(), DecoderError>) {
        let mut fields = 0;
        self.table.set_max_allowed_table_size(4096);
        let decoded = self.table.decode_with_cb(block, |_, _| fields += 1);
        (fields, decoded)
    }
}

/// Whether more bytes may mend it.
fn is_cut(error: DecoderError) -> bool {
    matches!(
        error,
        DecoderError::SizeUpdateAtEnd
            | DecoderError::IntegerDecodingError(IntegerDecodingError::NotEnoughOctets)
            | DecoderError::StringDecodingError(StringDecodingError::NotEnoughOctets)
    )
}
