//! Group A: HTTP/1 framing. Where one request ends and the next begins must be beyond doubt.
//!
//! What hyper makes safe by itself is proven here too. It takes a Content-Length beside Transfer-Encoding for nothing, reads
//! by Transfer-Encoding, and closes; it takes a lone LF for the end of a line, and what is sent on has CRLF.

use crate::harness::{Answer, Row, Stage, bytes, forwarded, refused};

const CL_TE: &str = "RFC 9112 §6.1, §6.3; CVE-2019-18277";
const SUITE: &str = "Http11Probe";

/// A request that must never be taken for one.
const SMUGGLED: &str = "GET /api/admin/smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// A POST for `/public/a` with these lines in its head.
fn post(lines: &str, body: &str) -> String {
    format!("POST /public/a HTTP/1.1\r\nHost: h\r\n{lines}\r\n{body}")
}

/// The same with one line of any bytes.
fn post_line(line: &[u8], more: &str, body: &str) -> Vec<u8> {
    bytes(&[
        b"POST /public/a HTTP/1.1\r\nHost: h\r\n",
        line,
        b"\r\n",
        more.as_bytes(),
        b"\r\n",
        body.as_bytes(),
    ])
}

#[tokio::test]
async fn a_message_has_one_length() {
    let mut stage = Stage::start().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    stage
        .run(vec![
            Row::new(
                "A01",
                "a length before a coding",
                CL_TE,
                post(&format!("Content-Length: 13\r\n{chunked}"), &format!("0\r\n\r\n{SMUGGLED}")),
            )
            .answers([forwarded("/public/a")])
            .closes()
            .body("")
            .without(&["content-length"]),
            Row::new(
                "A01",
                "a length of the whole before a coding",
                CL_TE,
                post(&format!("Content-Length: 52\r\n{chunked}"), &format!("0\r\n\r\n{SMUGGLED}")),
            )
            .answers([forwarded("/public/a")])
            .closes()
            .body(""),
            Row::new(
                "A02",
                "a coding before a length",
                CL_TE,
                post(&format!("{chunked}Content-Length: 4\r\n"), &format!("1\r\nX\r\n0\r\n\r\n{SMUGGLED}")),
            )
            .answers([forwarded("/public/a")])
            .closes()
            .body("X")
            .without(&["content-length"]),
            Row::new(
                "A02",
                "a coding before a length, cut short",
                CL_TE,
                post(&format!("{chunked}Content-Length: 4\r\n"), "5c\r\nX\r\n0\r\n\r\n"),
            )
            .then_ends()
            .cut(),
            Row::new(
                "A02",
                "a length on each side of a coding",
                CL_TE,
                post(&format!("Content-Length: 4\r\n{chunked}Content-Length: 4\r\n"), "0\r\n\r\n"),
            )
            .answers([forwarded("/public/a")])
            .closes()
            .body(""),
            Row::new(
                "A02",
                "kept alive by its own word",
                CL_TE,
                post(&format!("Connection: keep-alive\r\nContent-Length: 4\r\n{chunked}"), "0\r\n\r\n"),
            )
            .answers([forwarded("/public/a")])
            .closes()
            .body(""),
            Row::new(
                "A04",
                "the same length twice",
                "RFC 9112 §6.3",
                post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            )
            .forwarded("/public/a")
            .body("hello")
            .with("content-length", "5"),
            Row::new(
                "A04",
                "two lengths",
                "RFC 9112 §6.3",
                post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
            ),
            Row::new(
                "A04",
                "two lengths, one of zero",
                "RFC 9112 §6.3",
                post("Content-Length: 0\r\nContent-Length: 5\r\n", "hello"),
            ),
            Row::new(
                "A08",
                "a length with an underscore beside a real one",
                "CVE-2025-64484",
                post("Content_Length: 99\r\nContent-Length: 5\r\n", "hello"),
            )
            .forwarded("/public/a")
            .body("hello")
            .without(&["content_length"]),
        ])
        .await;
    for list in ["5, 5", "5, 10", "5, 5, 5", "5,5", ",5", "5,"] {
        stage
            .run([Row::new(
                "A05",
                format!("a list of lengths: {list}"),
                SUITE,
                post(&format!("Content-Length: {list}\r\n"), "hello"),
            )])
            .await;
    }
    let odd: [&[u8]; 26] = [
        b"+5",
        b"-1",
        b"-0",
        b"0x5",
        b"0o5",
        b"1_0",
        b"1 0",
        b"5e0",
        b"5.0",
        b"0, 5",
        b"",
        b"5\x0b",
        b"\xa05",
        b"5\x00",
        b"\x005",
        b"18446744073709551616",
        b"99999999999999999999",
        b"005",
        b"0200",
        b"00",
        b"\xef\xbc\x95",
        b"5;a",
        b"\"5\"",
        b"5\r5",
        b"five",
        b"'5",
    ];
    for value in odd {
        let line = bytes(&[b"Content-Length: ", value]);
        let row = Row::new(
            "A06",
            format!("a length of {:?}", String::from_utf8_lossy(value)),
            "RFC 9110 §8.6",
            post_line(&line, "", "hello"),
        );
        stage.run([row.refused("400")]).await;
    }
    for name in [
        &b"Content-Length "[..],
        b"Content-Length\t",
        b"Content-Length\x85",
        b"Content\tLength",
        b"Content-Length\x00",
        b" Content-Length",
        b"Content-Length\x0b",
    ] {
        let line = bytes(&[name, b": 34"]);
        let row = Row::new(
            "A08",
            format!("a length by the name of {:?}", String::from_utf8_lossy(name)),
            "RFC 9112 §5.1",
            post_line(&line, "Content-Length: 5\r\n", "hello"),
        );
        stage.run([row]).await;
    }
    stage.finish().await;
}

#[tokio::test]
async fn a_coding_is_chunked_or_nothing() {
    let mut stage = Stage::start().await;
    for value in [
        &b"identity"[..],
        b"gzip",
        b"chunked, chunked",
        b",chunked",
        b"chunked,",
        b"chunked;ext=v",
        b"xchunked",
        b"\"chunked\"",
        b"chunkedchunked",
        b"chunked\x0b",
        b"\x0bchunked",
        b"chunked\x00",
        b"gzip, chunked",
        b"chunked, gzip",
        b"chunked, identity",
        b"identity, chunked",
        b"chunk",
        b"",
        b"chunked foo",
        b"chunked\xa0",
        b"\xef\xbb\xbfchunked",
        b"'chunked'",
        b"chunked\r",
        b"ch\xc5\xabnked",
    ] {
        for more in ["", "Content-Length: 5\r\n"] {
            let line = bytes(&[b"Transfer-Encoding: ", value]);
            let id = if value == b"identity" { "A10" } else { "A12" };
            let what = format!("the coding {:?} with {more:?}", String::from_utf8_lossy(value));
            stage
                .run([Row::new(id, what, "RFC 9112 §6.1, §7", post_line(&line, more, "0\r\n\r\n"))
                    .refused("400")])
                .await;
        }
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    stage
        .run(vec![
            Row::new("A12", "the coding twice", "RFC 9112 §6.1", post(twice, "0\r\n\r\n"))
                .refused("400 request_invalid"),
            Row::new(
                "A12",
                "a second coding",
                SUITE,
                post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
            ),
            Row::new(
                "A12",
                "a coding in other letters",
                "RFC 9110 §10.1.4",
                post("Transfer-Encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            )
            .forwarded("/public/a")
            .body("hello"),
            Row::new(
                "A12",
                "spaces around the coding",
                "RFC 9110 §5.5",
                post("Transfer-Encoding: \t chunked \t\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            )
            .forwarded("/public/a")
            .body("hello"),
            Row::new(
                "A13",
                "a coding in HTTP/1.0",
                "CVE-2026-2835",
                "POST /public/a HTTP/1.0\r\nHost: h\r\n\
            Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            Row::new(
                "A13",
                "a coding and a length in HTTP/1.0",
                "CVE-2026-2835",
                "POST /public/a HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\n\
            Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
            Row::new(
                "A13",
                "an odd coding in HTTP/1.0",
                "CVE-2026-2835",
                "POST /public/a HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: x\r\n\
            Connection: keep-alive\r\n\r\n0\r\n\r\n",
            ),
            Row::new(
                "A14",
                "HTTP/1.0 without a length",
                "CVE-2026-2835",
                "POST /public/a HTTP/1.0\r\nHost: h\r\n\r\n",
            )
            .followed_by(SMUGGLED)
            .answers([forwarded("/public/a")])
            .closes()
            .body(""),
            Row::new(
                "A14",
                "HTTP/1.0 with a length, kept alive",
                "RFC 9112 §9.3",
                "POST /public/a HTTP/1.0\r\nHost: h\r\n\
            Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
            )
            .forwarded("/public/a")
            .body("hello"),
        ])
        .await;
    stage.finish().await;
}

/// What an obfuscated field beside a Content-Length may lead to: a refusal, the field obeyed and the connection closed, or the
/// field taken for another one and not sent on. Never to a second request.
fn nothing_is_smuggled(answers: &[Answer]) -> Result<(), String> {
    let fine = |answer: &Answer| match answer {
        Answer::Upstream(target) => target == "/public/a" || target == "/public/next",
        Answer::Own(verdict) => verdict.starts_with("400") || verdict.starts_with("431"),
    };
    let outer = answers.iter().filter(|answer| **answer == forwarded("/public/a")).count();
    if answers.iter().all(fine) && outer <= 1 { Ok(()) } else { Err(format!("{answers:?}")) }
}

/// A POST with these lines beside a Content-Length of all that `early` and a request make together. If the lines are obeyed,
/// the body is `early` alone. No field that is called `name` but for odd characters may be sent on.
fn obfuscated(id: &'static str, name: &'static str, lines: &[u8], length_first: bool, early: &str) -> Row {
    let body = format!("{early}{SMUGGLED}");
    let length = format!("Content-Length: {}\r\n", body.len());
    let (before, after) = if length_first { (length.as_str(), "") } else { ("", length.as_str()) };
    let line = [before.as_bytes(), lines].concat();
    let what = format!("{:?}", String::from_utf8_lossy(&line));
    // After an empty line all else is the body, and it need not be a good one.
    let empty_line = lines.starts_with(b"\n") || lines.ends_with(b"\n");
    let row = Row::new(id, what, "smuggler's mutations; RFC 9112 §5, §6", post_line(&line, after, &body));
    let row = if empty_line { row.aborts() } else { row };
    row.judged(nothing_is_smuggled).few_ways().upstream(move |request| {
        let plain = |text: &str| -> String {
            text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect()
        };
        let alike =
            |other: &&str| plain(other).eq_ignore_ascii_case(name) && !other.eq_ignore_ascii_case(name);
        if let Some(other) = request.fields.names().find(alike) {
            return Some(format!("{other} was sent on"));
        }
        let chunked = request.fields.has("transfer-encoding");
        let fine = if chunked { request.body.is_empty() } else { request.body == body.as_bytes() };
        (!fine && !empty_line).then(|| "another body than either reading has".to_owned())
    })
}

/// Each octet at each of these places, which a `_` marks; of letters and digits one stands for all.
fn with_each_octet(places: &'static [&'static str]) -> impl Iterator<Item = Vec<u8>> {
    let octets = (0..=255_u8).filter(|b| !b.is_ascii_alphanumeric() || b"aZ0".contains(b));
    octets.flat_map(|octet| {
        places.iter().map(move |place| {
            let (before, after) = place.split_once('_').unwrap();
            bytes(&[before.as_bytes(), &[octet], after.as_bytes()])
        })
    })
}

#[tokio::test]
async fn an_obfuscated_coding_smuggles_nothing() {
    let mut stage = Stage::start().await;
    let lines = with_each_octet(&[
        "_Transfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-_Encoding: chunked",
        "Transfer-Encoding_: chunked",
        "Transfer-Encoding:_chunked",
        "Transfer-Encoding: _chunked",
        "Transfer-Encoding: chun_ked",
        "Transfer-Encoding: chunked_",
        "X: y_Transfer-Encoding: chunked",
    ]);
    stage
        .sweep(
            lines
                .enumerate()
                .map(|(n, line)| obfuscated("A09", "transfer-encoding", &line, n % 2 == 0, "0\r\n\r\n")),
        )
        .await;
    stage.finish().await;
}

#[tokio::test]
async fn an_obfuscated_length_smuggles_nothing() {
    let mut stage = Stage::start().await;
    let lines = with_each_octet(&[
        "_Content-Length: 5",
        "Content_Length: 5",
        "Content-_Length: 5",
        "Content-Length_: 5",
        "Content-Length:_5",
        "Content-Length: _5",
        "Content-Length: 5_",
        "X: y_Content-Length: 5",
    ]);
    stage
        .sweep(
            lines
                .enumerate()
                .map(|(n, line)| obfuscated("A08", "content-length", &line, n % 2 == 0, "hello")),
        )
        .await;
    stage.finish().await;
}

#[tokio::test]
async fn two_obfuscated_codings_smuggle_nothing() {
    let mut stage = Stage::start().await;
    let lines = [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: x",
        "Transfer-Encoding: identity",
        "Transfer-encoding: cow",
        "Transfer-Encoding:chunked",
        "Transfer-Encoding : chunked",
        "Transfer_Encoding: chunked",
        "Transfer Encoding: chunked",
        "TrAnSfEr-EnCoDiNg: cHuNkEd",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding:\tchunked",
        "Transfer-Encoding:\n chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: \"chunked\"",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer-\r\nEncoding: chunked",
        "Content-Encoding: chunked",
        "Transfer-Encoding: chunked\r\n\tx",
        "Transfer%2DEncoding: chunked",
        "Trans\u{17f}fer-Encoding: chunked",
        "Transfer-Encodin\u{212a}: chunked",
        "Foo\r\n\r\nTransfer-Encoding: chunked",
    ];
    let pairs = lines.iter().flat_map(|first| lines.iter().map(move |second| format!("{first}\r\n{second}")));
    let all: Vec<String> = lines.iter().map(|line| (*line).to_owned()).chain(pairs).collect();
    stage
        .sweep(all.iter().flat_map(|lines| {
            [true, false]
                .map(|first| obfuscated("A09", "transfer-encoding", lines.as_bytes(), first, "0\r\n\r\n"))
        }))
        .await;
    stage.finish().await;
}

#[tokio::test]
async fn chunks_end_where_they_say() {
    let mut stage = Stage::start().await;
    let chunked = |body: &[u8]| {
        post_line(b"Transfer-Encoding: chunked", "", "")
            .into_iter()
            .chain(body.iter().copied())
            .collect::<Vec<u8>>()
    };
    for (id, what, body) in [
        ("A15", "leading zeros", &b"0000005\r\nhello\r\n0\r\n\r\n"[..]),
        ("A15", "hex digits in both cases", b"5\r\nhello\r\n00\r\n\r\n"),
        ("A15", "a space after the size", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("A16", "an extension", b"5;a=b\r\nhello\r\n0\r\n\r\n"),
        ("A16", "an empty extension", b"5;\r\nhello\r\n0;\r\n\r\n"),
        ("A16", "a broken extension", b"5;bad[=x\r\nhello\r\n0\r\n\r\n"),
        ("A16", "a zero octet in an extension", b"5;\x00ext\r\nhello\r\n0\r\n\r\n"),
        ("A16", "a quoted extension", b"5;a=\"b;c\"\r\nhello\r\n0;x=y\r\n\r\n"),
    ] {
        // What follows the size is dropped, and the chunk written anew.
        stage
            .run([Row::new(id, what, "RFC 9112 §7.1", chunked(body)).forwarded("/public/a").body("hello")])
            .await;
    }
    let long = |size: usize| bytes(&[b"5;a=", &vec![b'x'; size], b"\r\nhello\r\n0\r\n\r\n"]);
    for (id, what, source, body) in [
        ("A15", "a size in another notation", "RFC 9112 §7.1", &b"0x5\r\nhello\r\n0\r\n\r\n"[..]),
        ("A15", "a plus sign", "RFC 9112 §7.1", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("A15", "a minus sign", "RFC 9112 §7.1", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("A15", "a space before the size", "RFC 9112 §7.1", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("A15", "no size", "RFC 9112 §7.1", b"\r\nhello\r\n0\r\n\r\n"),
        ("A15", "an extension without a size", "RFC 9112 §7.1", b";a=b\r\nhello\r\n0\r\n\r\n"),
        ("A15", "an underscore", "RFC 9112 §7.1", b"1_0\r\nhello\r\n0\r\n\r\n"),
        ("A15", "a size beyond 64 bits", "CVE-2013-2028", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("A15", "a size of many digits", "CVE-2013-2028", b"fffffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("A15", "a size and a word", "RFC 9112 §7.1", b"5 x\r\nhello\r\n0\r\n\r\n"),
        ("A16", "CR in an extension", "CVE-2025-55315", b"5;a=b\r\rXXXX\r\nhello\r\n0\r\n\r\n"),
        ("A16", "LF after an extension", "TERM.EXT; CVE-2025-55315", b"5;\nhello\r\n0\r\n\r\n"),
        ("A16", "CR before an extension", "netty CVE-2026-33870", b"5\r\r;ABCD\r\nhello\r\n0\r\n\r\n"),
        ("A17", "LF after the size", "RFC 9112 §2.2", b"5\nhello\n0\r\n\r\n"),
        ("A17", "LF after the data", "RFC 9112 §7.1", b"5\r\nhello\n0\r\n\r\n"),
        ("A17", "no end of the data", "RFC 9112 §7.1", b"5\r\nhello0\r\n\r\n"),
        ("A17", "other octets after the data", "RFC 9112 §7.1", b"5\r\nhello!!\r\n0\r\n\r\n"),
        ("A17", "CR CR after the data", "RFC 9112 §7.1", b"5\r\nhello\r\r0\r\n\r\n"),
        ("A17", "no end of the last chunk", "RFC 9112 §7.1", b"0\r\nXX\r\n\r\n"),
        ("A17", "CR without LF after the last chunk", "RFC 9112 §7.1", b"0\r\n\rX"),
    ] {
        stage.run([Row::new(id, what, source, chunked(body)).cut()]).await;
    }
    for (what, body) in
        [("an extension of 64 KiB", long(64 * 1024)), ("an extension of 20 KiB", long(20 * 1024))]
    {
        stage.run([Row::new("A16", what, "CVE-2023-39326", chunked(&body)).cut().few_ways()]).await;
    }
    stage
        .run([Row::new(
            "A23",
            "the end of the connection within a chunk",
            "RFC 9112 §8",
            chunked(b"5\r\nhel"),
        )
        .then_ends()
        .cut()])
        .await;
    stage
        .run([Row::new(
            "A23",
            "the end of the connection before the last chunk",
            "RFC 9112 §8",
            chunked(b"5\r\nhello\r\n"),
        )
        .then_ends()
        .cut()])
        .await;
    stage
        .run([Row::new(
            "A25",
            "the end of the connection within a body",
            "RFC 9112 §8",
            post("Content-Length: 10\r\n", "hello"),
        )
        .then_ends()
        .cut()])
        .await;
    for trailer in [
        "Content-Length: 5",
        "Transfer-Encoding: gzip",
        "Host: evil",
        "Authorization: Bearer $ADMIN",
        "X-User: root",
        "Content-Type: text/html",
        "X-Forwarded-For: 127.0.0.1",
        "Cookie: a=b",
        "Connection: close",
        "X-Any: x",
    ] {
        let announced = trailer.split(':').next().unwrap();
        for head in [String::new(), format!("Trailer: {announced}\r\n")] {
            let raw = post(
                &format!("{head}Transfer-Encoding: chunked\r\n"),
                &format!("5\r\nhello\r\n0\r\n{trailer}\r\n\r\n"),
            );
            let what = format!("{trailer} behind the body, with {head:?}");
            let allowed = announced == "X-Any" && !head.is_empty();
            let row = Row::new("A18", what, "RFC 9110 §6.5.1; Http11Probe SMUG-TRAILER", raw)
                .forwarded("/public/a")
                .body("hello");
            stage
                .run([row.without(&["x-user", "authorization", "cookie", "content-length"]).upstream(
                    move |request| {
                        (request.trailers.0.is_empty() == allowed)
                            .then(|| format!("trailers: {:?}", request.trailers))
                    },
                )])
                .await;
        }
    }
    let many: String = (0..200).map(|n| format!("X-{n}: y\r\n")).collect();
    let large = format!("X: {}\r\n", "y".repeat(64 * 1024));
    for (what, trailers) in [
        ("too many trailers", many),
        ("a trailer too long", large),
        ("a broken trailer", "X y\r\n".to_owned()),
        ("a folded trailer", "X: y\r\n z\r\n".to_owned()),
    ] {
        let raw = post("Transfer-Encoding: chunked\r\n", &format!("5\r\nhello\r\n0\r\n{trailers}\r\n"));
        stage.run([Row::new("A19", what, "RFC 9112 §7.1.2", raw).cut().few_ways()]).await;
    }
    stage.finish().await;
}

#[tokio::test]
async fn a_head_has_one_shape() {
    let mut stage = Stage::start().await;
    let line = |line: &[u8]| bytes(&[b"GET /public/a HTTP/1.1\r\nHost: h\r\n", line, b"\r\n\r\n"]);
    stage
        .run(vec![
            // hyper takes a lone LF for the end of a line; what is sent on has CRLF (oracle 1).
            Row::new("A20", "LF for CRLF", "RFC 9112 §2.2", "GET /public/a HTTP/1.1\nHost: h\n\n")
                .forwarded("/public/a"),
            Row::new(
                "A20",
                "LF in one line",
                "RFC 9112 §2.2",
                "GET /public/a HTTP/1.1\r\nX: y\nHost: h\r\n\r\n",
            )
            .forwarded("/public/a")
            .with("x", "y"),
            Row::new(
                "A20",
                "LF and a body",
                "RFC 9112 §2.2",
                "POST /public/a HTTP/1.1\nHost: h\nContent-Length: 5\n\nhello",
            )
            .forwarded("/public/a")
            .body("hello"),
            Row::new(
                "A20",
                "LF before a coding",
                "RFC 9112 §2.2",
                format!(
                    "POST /public/a HTTP/1.1\r\nHost: h\r\nContent-Length: 52\r\n\
            X: y\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
                ),
            )
            .answers([forwarded("/public/a")])
            .closes()
            .body(""),
            Row::new("A21", "CR within a value", "RFC 9112 §2.2", line(b"X: v\ralue")),
            Row::new("A21", "CR at the end of a value", "RFC 9112 §2.2", line(b"X: v\r")),
            Row::new(
                "A21",
                "CR within the end of the head",
                "http-garden",
                format!("GET /public/a HTTP/1.1\r\nHost: h\r\n\rX: y\r\n\r\n{SMUGGLED}"),
            ),
            Row::new("A21", "CR in a name", "RFC 9112 §5.1", line(b"X\rY: v")),
            Row::new("A22", "a folded value", "RFC 9112 §5.2", line(b"X: a\r\n b")),
            Row::new("A22", "a folded value after a tab", "RFC 9112 §5.2", line(b"X: a\r\n\tb")),
            Row::new(
                "A22",
                "a folded coding",
                "RFC 9112 §5.2",
                post("Transfer-Encoding:\r\n chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
            ),
            Row::new(
                "A22",
                "a broken name",
                "RFC 9112 §5.1",
                post("Transfer-\r\nEncoding: chunked\r\n", "0\r\n\r\n"),
            ),
            Row::new(
                "A22",
                "a space before the first field",
                "RFC 9112 §2.2",
                "GET /public/a HTTP/1.1\r\n Host: h\r\n\r\n",
            ),
            Row::new("A22", "a field without a name", "RFC 9112 §5", line(b": v")),
            Row::new("A22", "a field without a colon", "RFC 9112 §5", line(b"X")),
            Row::new(
                "A33",
                "empty lines before the request",
                "RFC 9112 §2.2",
                "\r\n\r\nGET /public/a HTTP/1.1\r\nHost: h\r\n\r\n",
            )
            .forwarded("/public/a"),
            Row::new(
                "A33",
                "two spaces before the target",
                "RFC 9112 §3",
                "GET  /public/a HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            Row::new(
                "A33",
                "two spaces after the target",
                "RFC 9112 §3",
                "GET /public/a  HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            Row::new(
                "A33",
                "a space after the version",
                "RFC 9112 §3",
                "GET /public/a HTTP/1.1 \r\nHost: h\r\n\r\n",
            ),
            Row::new(
                "A33",
                "a tab for a space",
                "RFC 9112 §3",
                "GET\t/public/a\tHTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            Row::new(
                "A33",
                "a space before the method",
                "RFC 9112 §3",
                " GET /public/a HTTP/1.1\r\nHost: h\r\n\r\n",
            ),
            Row::new(
                "A34",
                "the word of HTTP/2 in HTTP/1",
                "RFC 9113 §3.4",
                "PRI * HTTP/2.0\r\nHost: h\r\n\r\n",
            ),
            Row::new(
                "A34",
                "another request in the preface",
                "RFC 9113 §3.4",
                "PRI /public/a HTTP/2.0\r\n\r\nSM\r\n\r\n",
            ),
        ])
        .await;
    let controls = (0..=31).chain([127]).filter(|byte| !b"\t\n\r".contains(byte));
    stage
        .sweep(controls.map(|byte| {
            let what = format!("octet {byte} in a value");
            Row::new("A21", what, "RFC 9110 §5.5", line(&bytes(&[b"X: a", &[byte], b"b"]))).few_ways()
        }))
        .await;
    let no_token =
        (0..=255_u8).filter(|b| !b.is_ascii_alphanumeric() && !b"!#$%&'*+-.^_`|~:\r\n".contains(b));
    stage
        .sweep(no_token.map(|byte| {
            let what = format!("octet {byte} in a name");
            Row::new("A21", what, "RFC 9110 §5.1", line(&bytes(&[b"Xa", &[byte], b"b: v"]))).few_ways()
        }))
        .await;
    for version in [
        "HTTP/1.2",
        "HTTP/9.9",
        "HTTP/01.01",
        "HTTP/1",
        "http/1.1",
        "HTTP/ 1.1",
        "HTTP/2.0",
        "HTTP/1.10",
        "HTTP/0.9",
        "HTTPS/1.1",
        "HTTP/1.1x",
        "",
    ] {
        stage
            .run([Row::new(
                "A32",
                format!("version {version:?}"),
                "RFC 9112 §2.3",
                format!("GET /public/a {version}\r\nHost: h\r\n\r\n"),
            )])
            .await;
    }
    stage.run([Row::new("A32", "HTTP/0.9", "RFC 1945 §4.1", "GET /public/a\r\n")]).await;
    stage.finish().await;
}

#[tokio::test]
async fn requests_on_one_connection_are_decided_one_by_one() {
    let mut stage = Stage::start().await;
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    stage
        .run(vec![
            Row::new(
                "A24",
                "a GET with a body",
                "RFC 9110 §9.3.1",
                "GET /public/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
            )
            .forwarded("/public/a")
            .body("hello")
            .with("content-length", "5"),
            Row::new(
                "A24",
                "a HEAD with a body",
                "RFC 9110 §9.3.2",
                "HEAD /public/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n\
            hello",
            )
            .forwarded("/public/a")
            .body("hello")
            .with("content-length", "5"),
            Row::new(
                "A24",
                "a DELETE with a body in chunks",
                "RFC 9110 §9.3.5",
                "DELETE /public/a HTTP/1.1\r\nHost: h\r\n\
            Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            )
            .forwarded("/public/a")
            .body("hello"),
            Row::new(
                "A24",
                "an OPTIONS with a body",
                "RFC 9110 §9.3.7",
                "OPTIONS /public/a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n\
            hello",
            )
            .forwarded("/public/a")
            .body("hello"),
            Row::new(
                "A24",
                "a GET with a length of zero",
                "RFC 9110 §8.6",
                "GET /public/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
            )
            .forwarded("/public/a")
            .body(""),
            Row::new("A24", "octets after a request without a body", "RUSTSEC-2020-0008", get("/public/a"))
                .followed_by("hello world\r\n\r\n")
                .answers([forwarded("/public/a"), refused("400 -")])
                .closes(),
            Row::new(
                "A26",
                "a public and a protected request",
                "RFC 9112 §9.3.2",
                [get("/public/a"), get("/api/admin/b")].concat(),
            )
            .answers([forwarded("/public/a"), refused("401 credential_missing")])
            .stays(),
            Row::new(
                "A26",
                "a refusal between two answers",
                "RFC 9112 §9.3.2",
                [get("/public/a"), get("/api/b"), get("/none"), get("/public/c")].concat(),
            )
            .answers([
                forwarded("/public/a"),
                refused("401 credential_missing"),
                refused("404 route_unknown"),
                forwarded("/public/c"),
            ])
            .stays(),
            Row::new(
                "A26",
                "a body that looks like a request",
                "RFC 9112 §6",
                format!(
                    "POST /public/a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n\
            {SMUGGLED}",
                    SMUGGLED.len()
                ),
            )
            .forwarded("/public/a"),
            Row::new(
                "A26",
                "a token is of one request only",
                "RFC 6750 §2.1",
                format!(
                    "GET /api/a HTTP/1.1\r\nHost: h\r\n\
            Authorization: Bearer $READ\r\n\r\n{}",
                    get("/api/b")
                ),
            )
            .answers([forwarded("/api/a"), refused("401 credential_missing")])
            .stays()
            .with("x-user", "alice"),
            Row::new(
                "A26",
                "what follows the last request",
                "RFC 9112 §9.6",
                "GET /public/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            )
            .followed_by(get("/public/b"))
            .answers([forwarded("/public/a")])
            .closes(),
        ])
        .await;
    // A body that nobody read is never taken for a request, whatever the refusal was.
    for (target, verdict) in [
        ("/api/a", "401 credential_missing"),
        ("/none", "404 route_unknown"),
        ("/public/a;b", "400 path_ambiguous"),
        ("/public/..", "400 path_ambiguous"),
    ] {
        let length = SMUGGLED.len();
        let fixed =
            format!("POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}");
        let chunked = format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\n\
            Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{SMUGGLED}\r\n\
            0\r\n\r\n"
        );
        let expecting = format!(
            "POST {target} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\
            Content-Length: {length}\r\n\r\n{SMUGGLED}"
        );
        for (id, raw) in [("A27", fixed), ("A27", chunked), ("A29", expecting)] {
            let row = Row::new(id, format!("an unread body behind {verdict}"), "RFC 9112 §9.3", raw);
            stage.run([row.answers([refused(verdict)]).stays_or_closes().never("smuggled")]).await;
        }
    }
    stage.finish().await;
}

#[tokio::test]
async fn an_expectation_is_answered_here() {
    let mut stage = Stage::start().await;
    let expecting = |value: &str| post(&format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello");
    for value in ["100-continue", "100-Continue"] {
        let row = Row::new(
            "A28",
            format!("Expect: {value}, and the body at once"),
            "RFC 9110 §10.1.1",
            expecting(value),
        );
        stage.run([row.forwarded("/public/a").body("hello").without(&["expect"])]).await;
    }
    for value in [
        "x 100-continue",
        "100-continue, 100-continue",
        "200-ok",
        "100-continue;x",
        "",
        "100",
        "100-continue\r\nExpect: 100-continue",
        "y 100-continue\r\nExpect: 100-continue",
    ] {
        let row =
            Row::new("A28", format!("Expect: {value:?}"), "RFC 9110 §10.1.1; Kettle 0.CL", expecting(value));
        stage.run([row.answers([refused("417 expectation_failed")]).closes().never("100 Continue")]).await;
    }
    stage
        .run(vec![
            Row::new(
                "A29",
                "an expectation without a token",
                "RFC 9110 §10.1.1",
                "POST /api/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
            )
            .answers([refused("401 credential_missing")])
            .stays_or_closes()
            .never("100 Continue"),
            Row::new(
                "A28",
                "an expectation of nothing",
                "RFC 9110 §10.1.1",
                "GET /public/a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n",
            )
            .forwarded("/public/a")
            .without(&["expect"]),
            Row::new(
                "A28",
                "an expectation of chunks",
                "RFC 9110 §10.1.1",
                post("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            )
            .forwarded("/public/a")
            .body("hello"),
        ])
        .await;
    stage.finish().await;
}
