//! Any frames on a connection of HTTP/2: how much of what a client sends is let through. The first octet says how many
//! fields a request may have, the second how often the rest is repeated, the third how long the pieces are in which it
//! arrives. A frame whose stream has its reserved bit set is one that the gateway sends.
//!
//! 1. It makes no difference how the bytes arrive.
//! 2. What is let through ends with a frame, and nothing behind it is.
//! 3. It ends at the first frame that finds no credit, as somebody counts who has all frames before him.
//! 4. It ends within a header block in which a foreign decoder finds too many fields, and within no other that it can read.
#![no_main]

use std::sync::LazyLock;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use scopegate::server::Frames;
use scopegate_fuzz::http2::{Blocks, Brought, DATA, END_STREAM, Frame, HEADERS, PREFACE, RST_STREAM};

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

    let passed = conversation.run(fields, usize::MAX);
    assert_eq!(conversation.run(fields, usize::from(step) + 1), passed, "in pieces of {}", step);
    assert_eq!(conversation.run(fields, 1), passed, "byte by byte");

    let (frames, ended) = match passed.0 {
        Some(length) => (conversation.received_in(length), true),
        None => (conversation.frames.as_slice(), false),
    };
    judge(frames, ended, fields);
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
    /// preface, if not all are, and the codes of the resets that were sent.
    fn run(&self, fields: usize, step: usize) -> (Option<usize>, Vec<u8>) {
        let mut gateway = Frames::new(fields, CONTROL_FRAMES, *NOW);
        let (mut passed, mut codes) = (0, Vec::new());
        let mut receive = |gateway: &mut Frames, bytes: &[u8]| {
            for piece in bytes.chunks(step) {
                let was_flooded = gateway.flooded();
                let taken = gateway.received(piece, || *NOW);
                assert!(taken == piece.len() || gateway.flooded(), "only a flood is held back");
                assert!(!was_flooded || gateway.flooded(), "a flood does not end");
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
        (gateway.flooded().then(|| passed - PREFACE), codes)
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
    let most_credit = u64::from(CONTROL_FRAMES);
    let mut credit = most_credit;
    let mut blocks = Blocks::default();
    // Whether the block that has begun may hold too many.
    let mut readable = true;
    for (position, (direction, frame)) in frames.iter().enumerate() {
        let is_end = ended && position + 1 == frames.len();
        let Some((kind, flags, _)) = frame.header() else { continue };
        let length = frame.says() as u64;
        if *direction == Direction::Sent {
            credit = most_credit.min(
                credit + if kind == HEADERS { 5 } else { u64::from(kind == DATA) * (2 + length / 1024) },
            );
            continue;
        }
        let cost = match kind {
            HEADERS => 0,
            DATA if length > 0 || flags & END_STREAM != 0 => 0,
            RST_STREAM => 5,
            _ => 1,
        };
        let broke = credit < cost;
        credit = credit.saturating_sub(cost);
        assert!(is_end || !broke, "frame {position} found no credit");
        if !readable {
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
