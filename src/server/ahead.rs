//! Bytes that were read before the protocol of a connection was known.

use tokio::io::ReadBuf;

/// The first bytes of an HTTP/2 connection (RFC 9113 §3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// At most one preface of bytes that were read before the protocol was known.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    pub(super) bytes: [u8; PREFACE.len()],
    start: usize,
    pub(super) end: usize,
}

impl Ahead {
    pub(super) fn pending(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Moves as many bytes as there is room for, and says how many.
    pub(super) fn take(&mut self, buf: &mut ReadBuf<'_>) -> usize {
        let pending = self.pending();
        let count = pending.len().min(buf.remaining());
        buf.put_slice(pending.get(..count).unwrap_or_default());
        self.start += count;
        count
    }
}
