//! How much beside requests a client may have an HTTP/2 connection do (RFC 9113 §10.5).
//!
//! h2 bounds what a frame may hold, header blocks, streams this side resets and small DATA frames. It counts no PING,
//! SETTINGS, PRIORITY, WINDOW_UPDATE and RST_STREAM frames, each of which is work without a request. So the frame headers of
//! both directions are followed here; payloads are passed over.
//!
//! 1. A connection begins with a credit of `control_frames`, and never has more. Each received frame takes 1, but HEADERS,
//!    and DATA that holds or ends something, take nothing, and a RST_STREAM takes [`RESET`]: it may cancel a request that
//!    already costs the upstream work (CVE-2023-44487). A CONTINUATION takes 1 too: a header block of usual size needs none,
//!    and one in crumbs is work without a request (CVE-2024-27316). The answer pays for the few that a large block needs.
//! 2. Credit comes back with time (half of it in a second), with each header section sent ([`ANSWER`]) and each DATA frame
//!    sent ([`PIECE`] and 1 for each KiB): window updates, pings that measure the bandwidth, and streams that are cancelled
//!    after their answer come along with answers, however many there are.
//! 3. A header block may hold twice as many fields as a request may have: a client that is only careless is told so in an
//!    answer, and memory does not fill with fields of one byte each (CVE-2026-49975, `fields`). Trailers count alike.
//! 4. Trailers with a pseudo-field make their request malformed (RFC 9113 §8.1), and h2 does not see them. The connection
//!    ends with GOAWAY (PROTOCOL_ERROR), and nothing of these trailers is let through, so that their request is never whole.
//! 5. The frame that finds no credit, or holds too many fields, is the last that is let through. The connection then ends
//!    with GOAWAY (ENHANCE_YOUR_CALM).
//!
//! For comparison: Envoy allows 100 PRIORITY frames a stream and 20 WINDOW_UPDATE frames for each DATA frame sent; sozu 100
//! resets and 100 pings a second; nginx 8 bytes of overhead for each byte of payload.
//!
//! No I/O. The clock is read only when credit has run out, so a burst can be twice the credit at most.

use std::time::Instant;

use super::fields::Block;
use super::frame::{DATA, END_STREAM, Follower, Frame, HEADERS, RST_STREAM};

/// In how many milliseconds all of the credit comes back.
const REFILL: u64 = 2000;
/// What a RST_STREAM frame takes.
const RESET: u64 = 5;
/// What a header section sent brings.
const ANSWER: u64 = 5;
/// What a DATA frame sent brings, beside 1 for each KiB.
const PIECE: u64 = 2;

/// Pseudo-headers of a request (RFC 9113 §8.3.1, RFC 8441 §4).
const PSEUDO_HEADERS: usize = 5;

/// Length of the connection preface (RFC 9113 §3.4).
const PREFACE: usize = 24;
/// GOAWAY with an error code (RFC 9113 §6.8). It names the highest stream there can be: requests that were read may
/// have been acted on.
const fn goaway(code: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, code]
}

/// Error codes (RFC 9113 §7).
const PROTOCOL_ERROR: u8 = 1;
const ENHANCE_YOUR_CALM: u8 = 11;

/// Why a connection ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// A frame found no credit, or a block held too many fields.
    Flood,
    /// Trailers held a pseudo-field.
    Malformed,
}

impl Breach {
    /// The last frame that the client gets.
    pub(in crate::server) const fn goaway(self) -> &'static [u8] {
        const FLOOD: [u8; 17] = goaway(ENHANCE_YOUR_CALM);
        const MALFORMED: [u8; 17] = goaway(PROTOCOL_ERROR);
        match self {
            Self::Flood => &FLOOD,
            Self::Malformed => &MALFORMED,
        }
    }
}

/// The credit that a frame takes when received.
const fn cost(frame: Frame) -> u64 {
    match frame.kind {
        HEADERS => 0,
        // What carries nothing and ends nothing is as good as a ping.
        DATA if frame.length > 0 || frame.flags & END_STREAM != 0 => 0,
        RST_STREAM => RESET,
        _ => 1,
    }
}

/// The credit that a frame brings when sent.
const fn worth(frame: Frame) -> u64 {
    match frame.kind {
        HEADERS => ANSWER,
        DATA => PIECE + frame.length as u64 / 1024,
        _ => 0,
    }
}

/// The frames of one connection and the credit that is left.
#[derive(Debug)]
pub struct Frames {
    received: Follower,
    sent: Follower,
    /// Whether the payload that is being sent is that of a RST_STREAM frame.
    resets: bool,
    block: Block,
    /// Most fields of a header block.
    most_fields: usize,
    credit: u64,
    /// The most credit, and what a connection starts with.
    most_credit: u64,
    /// Up to when time has brought credit.
    refilled: Instant,
    /// Why no more is let through.
    breach: Option<Breach>,
}

impl Frames {
    /// A connection whose preface is the next that is received. `fields` are the most of one request, `control_frames` those
    /// that may come at once.
    #[must_use]
    pub fn new(fields: usize, control_frames: u32, now: Instant) -> Self {
        let most_credit = u64::from(control_frames);
        Self {
            received: Follower::after(PREFACE),
            sent: Follower::after(0),
            resets: false,
            block: Block::default(),
            // Beside them there are pseudo-headers.
            most_fields: fields.saturating_mul(2).saturating_add(PSEUDO_HEADERS),
            credit: most_credit,
            most_credit,
            refilled: now,
            breach: None,
        }
    }

    /// Follows received bytes. Gives how many of them are let through: all, or those up to the end of the last frame.
    pub fn received(&mut self, bytes: &[u8], clock: impl Fn() -> Instant) -> usize {
        let mut rest = bytes;
        loop {
            if self.breach == Some(Breach::Malformed) {
                return bytes.len() - rest.len();
            }
            let (payload, behind) = self.received.payload(rest);
            self.block.add(payload);
            if self.block.has_late_pseudo_field() {
                self.breach = Some(Breach::Malformed);
                continue;
            }
            if self.block.fields() > self.most_fields {
                self.breach = Some(Breach::Flood);
            }
            if self.breach.is_some() {
                return bytes.len() - behind.len();
            }
            let Some((frame, behind)) = self.received.header(behind) else {
                return bytes.len();
            };
            self.block.begin(frame);
            if !self.spend(cost(frame), &clock) {
                self.breach = Some(Breach::Flood);
            }
            rest = behind;
        }
    }

    /// Follows sent bytes. `reset` gets the error code of each stream that they reset, as far as its last byte tells.
    pub fn sent(&mut self, bytes: &[u8], mut reset: impl FnMut(u8)) {
        let mut rest = bytes;
        loop {
            let (payload, behind) = self.sent.payload(rest);
            if let Some(code) = payload.last()
                && self.resets
                && self.sent.is_past_payload()
            {
                reset(*code);
            }
            let Some((frame, behind)) = self.sent.header(behind) else { return };
            self.resets = frame.kind == RST_STREAM;
            self.credit = self.most_credit.min(self.credit + worth(frame));
            rest = behind;
        }
    }

    /// Whether all frames that were begun to be sent are sent whole.
    pub(in crate::server) const fn sent_whole(&self) -> bool {
        self.sent.is_between_frames()
    }

    /// Why no more is let through.
    #[must_use]
    pub const fn breach(&self) -> Option<Breach> {
        self.breach
    }

    /// Whether a frame found no credit, or a block held too many fields.
    #[must_use]
    pub const fn flooded(&self) -> bool {
        matches!(self.breach, Some(Breach::Flood))
    }

    fn spend(&mut self, cost: u64, clock: impl Fn() -> Instant) -> bool {
        if self.credit < cost {
            self.refill(clock());
        }
        match self.credit.checked_sub(cost) {
            Some(left) => {
                self.credit = left;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = u64::try_from(now.saturating_duration_since(self.refilled).as_millis());
        let earned = elapsed.unwrap_or(u64::MAX).saturating_mul(self.most_credit) / REFILL;
        // What is too short to bring anything counts for the next time.
        if earned > 0 {
            self.credit = self.most_credit.min(self.credit.saturating_add(earned));
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::frame::{CONTINUATION, HEADER, PUSH_PROMISE};
    use super::*;

    const PING: u8 = 6;
    const SETTINGS: u8 = 4;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [a, b, c] = u32::try_from(length).unwrap().to_be_bytes()[1..] else { unreachable!() };
        [&[a, b, c, kind, flags, 0, 0, 0, 1][..], &vec![0xff; length]].concat()
    }

    fn opened() -> (Frames, Instant) {
        opened_with(1000)
    }

    fn opened_with(control_frames: u32) -> (Frames, Instant) {
        let now = Instant::now();
        let mut frames = Frames::new(100, control_frames, now);
        assert_eq!(frames.received(&[b'P'; PREFACE], || now), PREFACE);
        (frames, now)
    }

    /// How many of these frames are let through, one after another, at one moment.
    fn admitted(frames: &mut Frames, one: &[u8], now: Instant) -> usize {
        (0..100_000).take_while(|_| frames.received(one, || now) == one.len() && !frames.flooded()).count()
    }

    #[test]
    fn what_is_no_request_is_let_through_up_to_the_burst() {
        for (kind, length) in [(2, 5), (SETTINGS, 0), (PING, 8), (7, 8), (8, 4), (9, 1), (16, 4), (0xee, 0)] {
            let (mut frames, now) = opened();
            assert_eq!(admitted(&mut frames, &frame(kind, 0, length), now), 1000, "type {kind}");
            assert_eq!(frames.received(&frame(HEADERS, 0, 1), || now), 0, "nothing behind the last frame");
        }
        let (mut frames, now) = opened();
        assert_eq!(admitted(&mut frames, &frame(RST_STREAM, 0, 4), now), 200);
        let (mut frames, now) = opened();
        assert_eq!(admitted(&mut frames, &frame(DATA, 0, 0), now), 1000, "DATA without data");
    }

    #[test]
    fn the_burst_and_what_comes_back_follow_the_limit() {
        for limit in [100, 1000, 100_000_u32] {
            let all = usize::try_from(limit).unwrap();
            let ping = frame(PING, 0, 8);
            let (mut frames, now) = opened_with(limit);
            frames.received(&ping.repeat(all), || now);
            assert!(!frames.flooded());
            let later = now + Duration::from_secs(1);
            frames.received(&ping.repeat(all / 2), || later);
            assert!(!frames.flooded(), "half of it came back");
            frames.received(&ping, || later);
            assert!(frames.flooded(), "and no more than that");
            let (mut frames, now) = opened_with(limit);
            frames.received(&frame(RST_STREAM, 0, 4).repeat(all / 5), || now);
            assert!(!frames.flooded());
            frames.received(&frame(RST_STREAM, 0, 4), || now);
            assert!(frames.flooded(), "a reset counts as five");
        }
    }

    #[test]
    fn requests_and_bodies_take_nothing() {
        for one in [frame(HEADERS, 4, 9), frame(DATA, 0, 1), frame(DATA, END_STREAM, 0)] {
            let (mut frames, now) = opened();
            assert_eq!(admitted(&mut frames, &one, now), 100_000);
        }
    }

    #[test]
    fn fields_are_bounded_in_each_block() {
        let block = |fields: usize| [&frame(HEADERS, 4, fields)[..HEADER], &vec![0x90; fields]].concat();
        let (mut frames, now) = opened();
        assert_eq!(admitted(&mut frames, &block(205), now), 100_000);
        assert_eq!(frames.received(&[block(206), block(1)].concat(), || now), block(206).len());
        assert!(frames.flooded());
        let (mut frames, now) = opened();
        let promise = [&frame(PUSH_PROMISE, 4, 210)[..HEADER], &[0; 4], &[0x90; 206]].concat();
        assert_eq!(frames.received(&promise, || now), promise.len());
        assert!(frames.flooded(), "what a client may not send is decoded before it is refused");
        let (mut frames, now) = opened();
        let mut pieces = frame(HEADERS, 0, 0);
        pieces.extend([&frame(CONTINUATION, 0, 50)[..HEADER], &[0x90; 50]].concat().repeat(5));
        assert_eq!(frames.received(&pieces, || now), pieces.len());
        assert!(frames.flooded(), "pieces of a block add up");
    }

    #[test]
    fn time_brings_credit_back() {
        let (mut frames, now) = opened();
        let ping = frame(PING, 0, 8);
        for second in 1..100 {
            for _ in 0..500 {
                assert_eq!(frames.received(&ping, || now + Duration::from_secs(second)), ping.len());
            }
        }
        let later = now + Duration::from_secs(1_000_000);
        assert!(admitted(&mut frames, &ping, later) <= 2000, "an idle hour saves nothing up");
    }

    #[test]
    fn answers_bring_credit_back() {
        let (mut frames, now) = opened();
        let (reset, update) = (frame(RST_STREAM, 0, 4), frame(8, 0, 4));
        for _ in 0..10_000 {
            frames.sent(&frame(HEADERS, 4, 20), |_| {});
            frames.sent(&frame(DATA, END_STREAM, 16 * 1024), |_| {});
            assert_eq!(frames.received(&reset, || now), reset.len());
            for _ in 0..18 {
                assert_eq!(frames.received(&update, || now), update.len());
            }
        }
        for _ in 0..10_000 {
            frames.sent(&frame(PING, 1, 8), |_| {});
        }
        assert!(admitted(&mut frames, &reset, now) <= 200, "what answers a ping is no answer to a request");
    }

    #[test]
    fn resets_are_told_with_their_codes_wherever_the_bytes_are_split() {
        let coded = |code: u8| [&frame(RST_STREAM, 0, 4)[..HEADER], &[0, 0, 0, code]].concat();
        let bytes = [coded(7), frame(DATA, 0, 20), coded(8), coded(1), frame(PING, 0, 8), coded(0)].concat();
        for size in 1..=bytes.len() {
            let (mut frames, mut codes) = (opened().0, Vec::new());
            bytes.chunks(size).for_each(|piece| frames.sent(piece, |code| codes.push(code)));
            assert_eq!(codes, [7, 8, 1, 0], "{size} bytes at a time");
        }
    }

    #[test]
    fn the_last_frame_is_let_through_whole() {
        let (mut frames, now) = opened();
        let ping = frame(PING, 0, 8);
        let flood = ping.repeat(1500);
        assert_eq!(frames.received(&flood, || now), ping.len() * 1001);
        let (mut frames, now) = opened();
        let cut = ping.len() * 1000 + 12;
        assert_eq!(frames.received(&flood[..cut], || now), cut);
        assert_eq!(frames.received(&flood[cut..], || now), ping.len() - 12);
        assert_eq!(frames.received(&flood, || now), 0);
    }

    #[test]
    fn malformed_trailers_are_never_let_through_whole() {
        let block = |field: &[u8]| [&frame(HEADERS, 5, field.len())[..HEADER], field].concat();
        let bytes =
            [block(&[0x82, 0x84]), frame(DATA, 0, 3), block(&[0x90, 0x84, 0x90]), frame(PING, 0, 8)].concat();
        let whole = block(&[0x82, 0x84]).len() + frame(DATA, 0, 3).len() + HEADER;
        for size in 1..=bytes.len() {
            let (mut frames, now) = opened();
            let passed: usize = bytes.chunks(size).map(|piece| frames.received(piece, || now)).sum();
            assert!((whole..whole + 3).contains(&passed), "{passed} octets, {size} at a time");
            assert_eq!(frames.breach(), Some(Breach::Malformed), "{size} at a time");
        }
    }

    #[test]
    fn the_goodbye_is_a_frame() {
        for (breach, code) in [(Breach::Flood, 11), (Breach::Malformed, 1)] {
            let goaway = breach.goaway();
            let frame = Frame::parse(*goaway.first_chunk().unwrap());
            assert_eq!(frame, Frame { length: 8, kind: 7, flags: 0, stream: 0 });
            assert_eq!((goaway.len(), goaway.last()), (HEADER + 8, Some(&code)));
        }
    }

    /// What a reader sees that has all bytes before it.
    fn naive(bytes: &[u8]) -> Vec<Frame> {
        let (mut at, mut found) = (0, Vec::new());
        while let Some(header) = bytes.get(at..at + HEADER) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            found.push(Frame {
                length: u32::try_from(length).unwrap(),
                kind: header[3],
                flags: header[4],
                stream: 1,
            });
            at += HEADER + length;
        }
        found
    }

    proptest! {
        #[test]
        fn every_split_of_the_bytes_shows_the_same_frames(
            frames in prop::collection::vec((0..12_u8, any::<u8>(), 0..40_usize), 0..40),
            cuts in prop::collection::vec(1..30_usize, 1..60),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|&(kind, flags, length)| frame(kind, flags, length)).collect();
            let (mut follower, mut found, mut rest) = (Follower::after(0), Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (mut piece, behind) = rest.split_at((*cut).min(rest.len()));
                loop {
                    let (_, after) = follower.payload(piece);
                    let Some((frame, after)) = follower.header(after) else { break };
                    found.push(frame);
                    piece = after;
                }
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(&found, &naive(&bytes));
            prop_assert_eq!(found.len(), frames.len());
        }

        #[test]
        fn every_split_of_the_bytes_is_let_through_alike(
            frames in prop::collection::vec((0..10_u8, 0..20_usize, 1..300_usize), 1..20),
            cuts in prop::collection::vec(1..200_usize, 1..50),
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|&(kind, length, times)| frame(kind, 0, length).repeat(times)).collect();
            let (mut whole, now) = opened();
            let at_once = whole.received(&bytes, || now);
            let (mut split, now) = opened();
            let (mut passed, mut rest) = (0, bytes.as_slice());
            for cut in cuts.iter().cycle() {
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                passed += split.received(piece, || now);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(passed, at_once);
            prop_assert_eq!(split.flooded(), whole.flooded());
        }

        #[test]
        fn no_bytes_confuse_it(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let (mut frames, now) = opened();
            frames.sent(&bytes, |_| {});
            prop_assert!(frames.received(&bytes, || now) <= bytes.len());
        }
    }
}
