//! Frame headers of HTTP/2 (RFC 9113 §4.1), found in a stream of bytes that comes in pieces. Payloads are passed over.

/// Length of a frame header (RFC 9113 §4.1).
pub(super) const HEADER: usize = 9;

/// Frame types (RFC 9113 §6).
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const CONTINUATION: u8 = 9;
/// The flag of DATA and HEADERS that ends a stream.
pub(super) const END_STREAM: u8 = 1;

/// A frame header, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Bytes of its payload.
    pub(super) length: u32,
    /// Its type.
    pub(super) kind: u8,
    /// Its flags.
    pub(super) flags: u8,
    /// Its stream.
    pub(super) stream: u32,
}

impl Frame {
    pub(super) const fn parse(header: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, s, t, u, v] = header;
        // The highest bit is reserved (RFC 9113 §4.1).
        let stream = u32::from_be_bytes([s & 0x7f, t, u, v]);
        Self { length: u32::from_be_bytes([0, a, b, c]), kind, flags, stream }
    }
}

/// Where one direction is.
#[derive(Debug)]
pub(super) struct Follower {
    header: [u8; HEADER],
    /// How many bytes of the header are there.
    filled: usize,
    /// How many bytes come before the next header.
    skip: usize,
}

impl Follower {
    /// One that passes over so many bytes before the first frame header.
    pub(super) const fn after(skip: usize) -> Self {
        Self { header: [0; HEADER], filled: 0, skip }
    }

    /// Moves past a frame header, or to the end of the bytes. Gives the frame and what comes behind its header.
    pub(super) fn header<'b>(&mut self, bytes: &'b [u8]) -> Option<(Frame, &'b [u8])> {
        let (header, rest) = match bytes.split_first_chunk::<HEADER>() {
            Some((header, rest)) if self.filled == 0 => (*header, rest),
            Some(_) | None => {
                let missing = self.header.iter_mut().skip(self.filled);
                let taken = missing.zip(bytes).map(|(place, byte)| *place = *byte).count();
                self.filled += taken;
                if self.filled < HEADER {
                    return None;
                }
                (self.header, bytes.get(taken..).unwrap_or_default())
            }
        };
        self.filled = 0;
        let frame = Frame::parse(header);
        self.skip = frame.length as usize;
        Some((frame, rest))
    }

    /// Moves past what is left of a payload. Gives what there is of it, and the bytes behind.
    pub(super) fn payload<'b>(&mut self, bytes: &'b [u8]) -> (&'b [u8], &'b [u8]) {
        let (payload, rest) = bytes.split_at_checked(self.skip).unwrap_or((bytes, &[]));
        self.skip -= payload.len();
        (payload, rest)
    }

    /// Whether the payload of the last frame was read to its end.
    pub(super) const fn is_past_payload(&self) -> bool {
        self.skip == 0
    }

    /// Whether every frame that began was read to its end.
    pub(super) const fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }
}
