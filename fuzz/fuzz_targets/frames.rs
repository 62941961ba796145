//! Any frames on a connection of HTTP/2: how much of what a client sends is let through. The first octet says how many
//! fields a request may have, the second how often the rest is repeated, the third how long the pieces are in which it
//! arrives. A frame whose stream has its reserved bit set is one that the gateway sends.
//!
//! 1. It makes no difference how the bytes arrive.
//! 2. What is let through ends with a frame, and nothing behind it is.
//! 3. Over no stretch of the conversation does a client get more done beside requests than the full credit and what was sent
//!    to it meanwhile allow, as somebody finds who has all frames before him; and only who tries that is held back.
//! 4. Any one frame that is no part of a request, repeated, is a flood that ends.
//! 5. It ends within a header block in which a foreign decoder finds too many fields, and within no other that it can read.
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use scopegate::server::Frames;
use scopegate_fuzz::http2::{
    Blocks, Brought, CONTINUATION, DATA, END_STREAM, Frame, HEADERS, PREFACE, PUSH_PROMISE, RST_STREAM,
};

/// Most bytes of a conversation, so that a run stays short. Credit runs out before.
const MOST: usize = 4 * 1024;
/// Most frames beside requests at once, as configured.
const CONTROL_FRAMES: u32 = 100;

/// The clock stands still, so that time brings no credit back.
static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|data: (u8, u8, u8, &[u8])| {
    let (fields, times, step, bytes) = data;
    let fields = usize::from(fields % 16);
    let bytes = bytes.repeat((usize::from(times) + 1).min(MOST / bytes.len().max(1)).max(1));
    let conversation = Conversation::read(&bytes);

    let whole = conversation.run(fields, usize::MAX);
    assert_eq!(conversation.run(fields, usize::from(step) + 1), whole, "in pieces of {}", step);
    assert_eq!(conversation.run(fields, 1), whole, "byte by byte");
    // Malformed trailers end a connection within their frame.
    let Some(passed) = whole else { return };

    let (frames, ended) = match passed.0 {
        Some(length) => (conversation.received_in(length), true),
        None => (conversation.frames.as_slice(), false),
    };
    judge(frames, ended, fields);
    conversation.frames.iter().take(8).for_each(|(_, frame)| check_flood(*frame, fields));
});

/// Frames of both directions, in their order.
struct Conversation<'a> {
    frames: Vec<(Direction, Frame<'a>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Received,
    Sent,
}

impl<'a> Conversation<'a> {
    fn read(mut bytes: &'a [u8]) -> Self {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let (frame, rest) = Frame::split(bytes);
            let sent = frame.header().is_some_and(|(_, _, stream)| stream & 0x80 != 0);
            frames.push((if sent { Direction::Sent } else { Direction::Received }, frame));
            bytes = rest;
        }
        Self { frames }
    }

    /// Runs it, what goes in one direction in pieces of so many bytes. Gives how many bytes are let through behind the
    /// preface, if not all are, and the codes of the resets that were sent. `None` if trailers are malformed.
    fn run(&self, fields: usize, step: usize) -> Option<(Option<usize>, Vec<u8>)> {
        let mut gateway = Frames::new(fields, CONTROL_FRAMES, *NOW);
        let (mut passed, mut codes) = (0, Vec::new());
        let mut receive = |gateway: &mut Frames, bytes: &[u8]| {
            for piece in bytes.chunks(step) {
                let was_flooded = gateway.flooded();
                let taken = gateway.received(piece, || *NOW);
                assert!(taken == piece.len() || gateway.breach().is_some(), "only a breach is held back");
                assert!(!was_flooded || gateway.breach().is_some(), "a flood does not end");
                passed += taken;
            }
        };
        receive(&mut gateway, &[b'P'; PREFACE]);
        for stretch in self.frames.chunk_by(|(one, _), (next, _)| one == next) {
            let bytes: Vec<u8> = stretch.iter().flat_map(|(_, frame)| frame.0).copied().collect();
            match stretch.first() {
                Some((Direction::Sent, _)) => {
                    bytes.chunks(step).for_each(|piece| gateway.sent(piece, |code| codes.push(code)))
                }
                _ => receive(&mut gateway, &bytes),
            }
        }
        let malformed = gateway.breach().is_some() && !gateway.flooded();
        (!malformed).then(|| (gateway.flooded().then(|| passed - PREFACE), codes))
    }

    /// The frames up to the one with which so many received bytes end.
    fn received_in(&self, length: usize) -> &[(Direction, Frame<'a>)] {
        let mut passed = 0;
        let last = self.frames.iter().position(|(direction, frame)| {
            passed += if *direction == Direction::Received { frame.0.len() } else { 0 };
            passed >= length
        });
        assert_eq!(passed, length, "what is let through ends with a frame");
        self.frames.get(..=last.expect("a flood has a frame")).unwrap_or_default()
    }
}

/// Whether it is right that these frames were let through, and that the last was the end if it was.
fn judge(frames: &[(Direction, Frame<'_>)], ended: bool, fields: usize) {
    let most = 2 * fields + 5;
    let breaks = excesses(frames);
    let mut blocks = Blocks::default();
    // Whether the block that has begun may hold too many.
    let mut readable = true;
    for (position, ((direction, frame), broke)) in frames.iter().zip(breaks).enumerate() {
        let is_end = ended && position + 1 == frames.len();
        assert!(is_end || !broke, "frame {position} is too much");
        if *direction == Direction::Sent || frame.header().is_none() || !readable {
            continue;
        }
        match blocks.add(*frame) {
            Brought::Fields(found) if found > most => assert!(is_end, "{found} fields were let through"),
            Brought::Fields(found) => assert!(!is_end || broke, "{found} fields are not too many"),
            // A field that is not all there counts too.
            Brought::Nothing if is_end && !broke => {
                assert!(blocks.so_far().is_none_or(|fields| fields >= most), "frame {position} is no flood");
            }
            Brought::Nothing => {}
            Brought::Error(found) => {
                assert!(is_end || found <= most, "{found} fields were let through");
                readable = false;
            }
        }
    }
}

/// Of each frame, whether some stretch that ends with it holds more than it may.
fn excesses(frames: &[(Direction, Frame<'_>)]) -> Vec<bool> {
    // What each adds to a stretch: the work that it makes, or less what it allows for.
    let weights: Vec<i64> = frames
        .iter()
        .map(|(direction, frame)| match (direction, frame.header()) {
            (_, None) => 0,
            (Direction::Received, Some(_)) => work(*frame),
            (Direction::Sent, Some((HEADERS, ..))) => -5,
            (Direction::Sent, Some((DATA, ..))) => -(2 + frame.says() as i64 / 1024),
            (Direction::Sent, Some(_)) => 0,
        })
        .collect();
    let is_excess = |end: usize| {
        let mut stretch = 0;
        let from = weights[..=end].iter().rev().map(|weight| {
            stretch += weight;
            stretch
        });
        weights[end] > 0 && from.max() > Some(i64::from(CONTROL_FRAMES))
    };
    (0..frames.len()).map(is_excess).collect()
}

/// How much a received frame makes a server do beside a request.
fn work(frame: Frame<'_>) -> i64 {
    match frame.header() {
        None => 0,
        Some((HEADERS, ..)) => 0,
        // Data is what a body is made of; a frame without any at least ends one.
        Some((DATA, flags, _)) => i64::from(frame.says() == 0 && flags & END_STREAM == 0),
        // It may waste the work that a request makes elsewhere.
        Some((RST_STREAM, ..)) => 5,
        Some(_) => 1,
    }
}

/// Repeats one frame, and nothing is answered.
fn check_flood(frame: Frame<'_>, fields: usize) {
    let Some((kind, ..)) =
        frame.header().filter(|_| work(frame) > 0 && frame.payload().len() == frame.says())
    else {
        return;
    };
    let mut gateway = Frames::new(fields, CONTROL_FRAMES, *NOW);
    assert_eq!(gateway.received(&[b'P'; PREFACE], || *NOW), PREFACE);
    let passed = (0..=2 * CONTROL_FRAMES).take_while(|_| {
        let before = gateway.flooded();
        !before && gateway.received(frame.0, || *NOW) == frame.0.len()
    });
    let passed = passed.count();
    assert!(gateway.flooded(), "{passed} frames of type {kind} do not end");
    let fair = CONTROL_FRAMES as usize / if kind == RST_STREAM { 5 } else { 1 };
    // What is taken for a part of a header block may hold too many fields, and end sooner.
    assert!(passed <= fair + 1, "{passed} frames of type {kind}");
    assert!(
        passed >= fair || matches!(kind, PUSH_PROMISE | CONTINUATION),
        "only {passed} frames of type {kind}"
    );
}
