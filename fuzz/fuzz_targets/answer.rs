//! Any bytes as an upstream's answer, from its head to the end of its body.
//!
//! 1. It makes no difference how they are split.
//! 2. What is taken is in no doubt to a strict reader, and ends where it says, with the body that it finds: never beyond the
//!    end, where the next answer would begin, nor before it.
//! 3. A connection is used again only behind an answer whose end is told in its bytes.
#![no_main]

use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use libfuzzer_sys::fuzz_target;
use scopegate::forward::http1::Malformed;
use scopegate::forward::http1::framing::{Framing, Piece};
use scopegate::forward::http1::looked::Looked;
use scopegate::forward::http1::response::{self, Expected, Head};
use scopegate_fuzz::wire::{self, End};

fuzz_target!(|data: (bool, u16, &[u8])| {
    let (of_head, split, bytes) = data;
    let (first, second) = bytes.split_at(usize::from(split) % (bytes.len() + 1));
    let whole = read(&[bytes], of_head);
    let parts = read(&[first, second], of_head);
    let Ok(answer) = whole else {
        // What is malformed in a line that is not all there may be noticed only at its end.
        let taken = matches!(parts, Ok(Answer { ended: true, .. }));
        assert!(!taken, "refused as a whole, taken in parts");
        return;
    };
    assert_eq!(parts.as_ref(), Ok(&answer), "split at {}", first.len());
    check(&answer, wire::answer(bytes, of_head), bytes.len());

    if answer.ended {
        let end = bytes.len() - answer.rest.len();
        let (own, rest) = bytes.split_at(end);
        assert_eq!(rest, answer.rest, "what is behind the end stays where it is");
        let followed = read(&[own, b"HTTP/1.1 200 OK\r\n"], of_head);
        let followed = followed.expect("what follows an answer is none of its business");
        assert_eq!(followed.rest, b"HTTP/1.1 200 OK\r\n");
        assert_eq!(followed.data, answer.data);
        let short = own.split_last().map(|(_, short)| read(&[short], of_head));
        assert!(!matches!(short, Some(Ok(Answer { ended: true, .. }))), "not a byte more than needed");
    }
});

/// Whether a strict reader of all bytes finds what was read.
fn check(answer: &Answer, strict: Result<wire::Answer, &'static str>, length: usize) {
    let strict = match strict {
        Ok(strict) => strict,
        // What is there of a line or a section may be wrong before all of it is.
        Err(why) => return assert!(!answer.ended, "taken although in doubt: {why}"),
    };
    assert_eq!(answer.ended.then(|| length - answer.rest.len()), at(strict.end), "where it ends");
    assert_eq!(answer.begun.then(|| answer.status.as_u16()), strict.status);
    assert_eq!(answer.data, strict.body);
    if let Some(trailers) = &answer.trailers {
        assert!(strict.trailers.iter().all(|name| trailers.contains_key(name)), "a trailer field is lost");
    }
    assert_eq!(answer.trailers.as_ref().map_or(0, HeaderMap::len), strict.trailers.len(), "trailer fields");
    assert!(!(answer.reusable && strict.end == End::Closed), "used again without an end");
}

fn at(end: End) -> Option<usize> {
    match end {
        End::At(end) => Some(end),
        End::Closed | End::Later => None,
    }
}

/// What was read of an answer.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    /// Whether the head of the final answer is there.
    begun: bool,
    status: StatusCode,
    headers: HeaderMap,
    reusable: bool,
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether the end was found in the bytes, rather than by closing.
    ended: bool,
    /// What was not taken.
    rest: Vec<u8>,
}

/// Reads an answer that arrives in these parts.
fn read(parts: &[&[u8]], of_head: bool) -> Result<Answer, Malformed> {
    let mut arrived = BytesMut::new();
    let mut answer = Answer::default();
    let (mut framing, mut looked) = (None, Looked::default());
    for part in parts {
        arrived.extend_from_slice(part);
        if framing.is_none() {
            framing = head(&mut arrived, &mut looked, of_head)?.map(|head| {
                answer.begun = true;
                answer.status = head.status;
                answer.headers = head.headers;
                answer.reusable = head.reusable;
                head.framing
            });
        }
        if let Some(framing) = &mut framing {
            body(framing, &mut arrived, &mut answer)?;
        }
    }
    answer.rest = arrived.to_vec();
    Ok(answer)
}

/// The head of the final answer, once it is there. Interim ones go before it.
fn head(arrived: &mut BytesMut, looked: &mut Looked, of_head: bool) -> Result<Option<Head>, Malformed> {
    let expected = Expected { of_head, bytes: 64 * 1024, fields: 256 };
    loop {
        match response::parse(arrived, looked, expected)? {
            Some(head)
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS =>
            {
                assert!(head.framing.is_ended(), "an interim answer has no body");
            }
            head => return Ok(head),
        }
    }
}

/// Takes what is there of the body.
fn body(framing: &mut Framing, arrived: &mut BytesMut, answer: &mut Answer) -> Result<(), Malformed> {
    while !answer.ended {
        match framing.next(arrived)? {
            Piece::Data(data) => {
                assert!(!data.is_empty(), "a piece brings the reader forward");
                answer.data.extend_from_slice(&data);
            }
            Piece::Trailers(trailers) => (answer.trailers, answer.ended) = (Some(trailers), true),
            Piece::End => answer.ended = true,
            Piece::NeedMore => break,
        }
    }
    assert_eq!(answer.ended, framing.is_ended(), "both know the end");
    Ok(())
}
