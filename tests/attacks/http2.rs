//! HTTP/2 requests and frames that are wrong, or only look so (RFC 9113 §8, RFC 7541).
//!
//! Each row is judged by what its sender gets, by what a strict upstream receives, by the next request on the same
//! connection where that goes on, and by another client, which must get its own answer. Each row is sent whole and byte by
//! byte.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::support::http2::*;
use crate::support::{Framing, Policy, Recorded, Reply, Rig, eventually, ok};

/// What of a request arrives at the upstream.
#[derive(Clone, Copy)]
enum Arrives {
    /// Not a byte.
    Nothing,
    /// A request that breaks off, or nothing.
    Cut,
    /// A request without a body, or nothing.
    Bare,
    /// One whole request that passes this check.
    Whole(fn(&Recorded)),
}
use Arrives::{Bare, Cut, Nothing, Whole};

/// One case: its name, what is sent on stream 1, the verdicts that are right (see [`Outcome::verdict`]), what arrives.
struct Row(&'static str, Vec<u8>, &'static [&'static str], Arrives);

const MALFORMED: &[&str] = &["reset 1"];
const INVALID: &[&str] = &["400 request_invalid"];
const REFUSED: &[&str] = &["reset 1", "400 request_invalid"];
const GONE: &[&str] = &["goaway 1"];
const SIZE: &[&str] = &["goaway 6", "goaway 1"];
const HPACK: &[&str] = &["goaway 9", "goaway 1"];

/// A rig whose upstream answers with the target it was asked for. One worker: all clients share its connections to it.
pub(crate) async fn rig() -> Rig {
    let rig = Rig::with(Policy::default().gateway("workers: 1")).await;
    rig.upstream.answers(|request| ok(&request.target));
    rig
}

/// A client of its own gets its own answer.
pub(crate) async fn canary(rig: &Rig, nonce: &str) {
    let path = format!("/orders/canary-{nonce}");
    let answer = rig.get(&path).send().await;
    assert_eq!((answer.status, answer.text()), (200, path));
}

/// No fault, nothing under way, and a client gets its answer.
pub(crate) async fn unharmed(rig: &Rig) {
    canary(rig, "last").await;
    assert_eq!(rig.gateway.metric("scopegate_panics_total", &[]).await, 0.0);
    eventually("nothing is under way", || async {
        (rig.gateway.metric("scopegate_in_flight_requests", &[]).await == 0.0).then_some(())
    })
    .await;
}

async fn judge(rig: &Rig, number: usize, row: &Row, step: usize) {
    let Row(id, bytes, verdicts, arrives) = row;
    rig.upstream.forget();
    let mut client = Http2::connect(rig.gateway.address()).await;
    for piece in bytes.chunks(step) {
        client.send(piece).await;
    }
    let outcome = client.outcome(1).await;
    assert!(verdicts.contains(&outcome.verdict().as_str()), "{id}: {outcome:?}");
    canary(rig, &number.to_string()).await;
    if matches!(outcome, Outcome::Answer(..) | Outcome::Reset(_)) {
        let path = format!("/orders/next-{number}");
        let next = Block::default().set(":path", &path).token(&rig.token());
        client.send(next.on(101, END_STREAM)).await;
        assert_eq!(client.outcome(101).await, Outcome::Answer(200, path.into_bytes()), "{id}");
    }
    drop(client);
    let ours = |request: &Recorded| !request.target.contains("canary-") && !request.target.contains("next-");
    let arrived: Vec<_> = rig.upstream.requests().into_iter().filter(ours).collect();
    match arrives {
        Nothing => assert!(arrived.is_empty(), "{id}: {arrived:#?}"),
        Cut => assert!(
            arrived.len() <= 1 && arrived.iter().all(|request| !request.complete),
            "{id}: {arrived:#?}"
        ),
        Bare => {
            assert!(
                arrived.len() <= 1 && arrived.iter().all(|request| request.body.is_empty()),
                "{id}: {arrived:#?}"
            );
        }
        Whole(check) => {
            assert!(arrived.len() == 1 && arrived[0].complete, "{id}: {arrived:#?}");
            check(&arrived[0]);
        }
    }
}

async fn judge_all(rows: impl Fn(&str) -> Vec<Row>) {
    let rig = rig().await;
    let rows = rows(&rig.token());
    for (number, row) in rows.iter().enumerate() {
        judge(&rig, number, row, usize::MAX).await;
        judge(&rig, number, row, 1).await;
    }
    unharmed(&rig).await;
}

fn data(stream: u32, flags: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, stream, bytes.as_ref())
}

fn get(token: &str) -> Block {
    Block::default().token(token)
}

fn post(token: &str) -> Block {
    get(token).set(":method", "POST")
}

/// A POST with this Content-Length, and this DATA that ends it.
fn sized(token: &str, length: &str, body: &str) -> Vec<u8> {
    [post(token).with("content-length", length).on(1, 0), data(1, END_STREAM, body)].concat()
}

#[tokio::test]
async fn content_length_is_what_data_adds_up_to() {
    judge_all(|token| {
        let mut rows = vec![
            Row("F09 too little DATA", sized(token, "5", "abc"), MALFORMED, Cut),
            Row("F09 too much DATA", sized(token, "3", "abcde"), MALFORMED, Cut),
            Row(
                "F09 DATA though 0: the request may be served before it comes",
                sized(token, "0", "GET /orders/2 HTTP/1.1\r\n\r\n"),
                &["200", "reset 1", "400 request_invalid"],
                Bare,
            ),
            Row(
                "F09 no DATA at all",
                post(token).with("content-length", "5").on(1, END_STREAM),
                MALFORMED,
                Nothing,
            ),
            Row(
                "F09 too little DATA before trailers",
                [
                    post(token).with("content-length", "5").on(1, 0),
                    data(1, 0, "abc"),
                    headers(1, END_STREAM, &field("x-sum", "1")),
                ]
                .concat(),
                MALFORMED,
                Cut,
            ),
            Row(
                "F09 two lengths that differ",
                [
                    post(token).with("content-length", "3").with("content-length", "5").on(1, 0),
                    data(1, END_STREAM, "abc"),
                ]
                .concat(),
                REFUSED,
                Nothing,
            ),
            Row(
                "F09 the same length twice",
                [
                    post(token).with("content-length", "3").with("content-length", "3").on(1, 0),
                    data(1, END_STREAM, "abc"),
                ]
                .concat(),
                REFUSED,
                Nothing,
            ),
        ];
        for length in [
            "+5",
            "05",
            "-5",
            "5, 5",
            "5,5",
            "0x5",
            "5.0",
            "",
            " 5",
            "5 ",
            "1_0",
            "5e0",
            "18446744073709551621",
            "five",
        ] {
            let bytes = sized(token, length, "abcde");
            rows.push(Row("F09 a length that is no plain decimal", bytes, REFUSED, Nothing));
        }
        rows
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_never_arrives_whole() {
    let rig = rig().await;
    // No connection is kept, so that an open one is one in use.
    rig.upstream.answers(|request| Reply::with(200, "Connection: close\r\n", &request.target));
    for (number, body) in ["", "abc"].into_iter().enumerate() {
        rig.upstream.forget();
        let mut client = Http2::connect(rig.gateway.address()).await;
        let cut = post(&rig.token()).set(":path", "/orders/cut").with("content-length", "5").on(1, 0);
        client.send([cut, data(1, 0, body)].concat()).await;
        rig.upstream.wait("the head is there", |upstream| upstream.requests().len() == 1).await;
        client.send(reset(1, CANCEL)).await;
        rig.upstream.wait("it is given up", |upstream| upstream.open_connections() == 0).await;
        assert!(!rig.upstream.request().complete);
        client.send(get(&rig.token()).on(3, END_STREAM)).await;
        assert_eq!(client.outcome(3).await.verdict(), "200");
        canary(&rig, &number.to_string()).await;
    }
    unharmed(&rig).await;
}

/// The end of a body comes in an empty frame of its own, and the upstream answers before it has the body: were the request
/// taken for sent without the end, the next one on the upstream's connection would be read as its rest.
#[tokio::test]
async fn an_empty_frame_is_the_end_or_nothing() {
    let rig = rig().await;
    for (number, (length, last)) in [(Some("100"), 0), (None, 0), (None, END_STREAM)].into_iter().enumerate()
    {
        rig.upstream.forget();
        let sign = Arc::new(Notify::new());
        let waits = Arc::clone(&sign);
        rig.upstream.answers(move |request| match request.target.as_str() {
            "/orders/early" => Reply::Early(Box::new(Reply::When(Arc::clone(&waits), Box::new(ok("early"))))),
            other => ok(other),
        });
        let early = post(&rig.token()).set(":path", "/orders/early");
        let early = length.into_iter().fold(early, |block, length| block.with("content-length", length));
        let mut client = Http2::connect(rig.gateway.address()).await;
        client.send([early.on(1, 0), data(1, 0, "GET /orders/2 HTTP/1.1\r\n")].concat()).await;
        rig.upstream.wait("it arrives", |upstream| upstream.requests().len() == 1).await;
        client.send(data(1, last, "")).await;
        assert!(client.settled().await);
        sign.notify_one();
        assert_eq!(client.status(1).await, 200);
        canary(&rig, &number.to_string()).await;
        if last == END_STREAM {
            rig.upstream.wait("the end arrives", |upstream| upstream.requests()[0].complete).await;
        }
        assert_eq!(rig.upstream.requests()[0].complete, last == END_STREAM);
    }
    unharmed(&rig).await;
}

/// The same without an early answer: what is all there arrives as a whole.
#[tokio::test]
async fn an_empty_frame_that_comes_late_ends_its_body() {
    let rig = rig().await;
    for length in [Some("5"), None] {
        rig.upstream.forget();
        let late = post(&rig.token());
        let late = length.into_iter().fold(late, |block, length| block.with("content-length", length));
        let mut client = Http2::connect(rig.gateway.address()).await;
        client.send([late.on(1, 0), data(1, 0, "order")].concat()).await;
        rig.upstream
            .wait("it arrives", |upstream| upstream.requests().iter().any(|r| r.body == b"order"))
            .await;
        client.send([data(1, 0, ""), data(1, END_STREAM, "")].concat()).await;
        assert_eq!(client.outcome(1).await.verdict(), "200");
        assert!(rig.upstream.request().complete);
    }
    unharmed(&rig).await;
}

#[tokio::test]
async fn fields_about_a_connection_are_refused() {
    judge_all(|token| {
        let with = |name: &str, value: &str| get(token).with(name, value).on(1, END_STREAM);
        let chunked = [
            post(token).with("transfer-encoding", "chunked").on(1, 0),
            data(1, END_STREAM, "0\r\n\r\nGET /orders/2 HTTP/1.1\r\n\r\n"),
        ];
        vec![
            Row("F10 H2.TE", chunked.concat(), MALFORMED, Nothing),
            Row("F10 transfer-encoding", with("transfer-encoding", "identity"), MALFORMED, Nothing),
            Row("F10 connection", with("connection", "close"), MALFORMED, Nothing),
            Row("F10 connection that names a field", with("connection", "x-user"), MALFORMED, Nothing),
            Row("F10 keep-alive", with("keep-alive", "timeout=5"), MALFORMED, Nothing),
            Row("F10 proxy-connection", with("proxy-connection", "keep-alive"), MALFORMED, Nothing),
            Row("F10 upgrade", with("upgrade", "websocket"), MALFORMED, Nothing),
            Row("F10 http2-settings", with("http2-settings", "AAMAAABkAAQ"), INVALID, Nothing),
            Row("F10 te", with("te", "gzip"), MALFORMED, Nothing),
            Row("F10 te with more than trailers", with("te", "trailers, deflate"), MALFORMED, Nothing),
            Row(
                "F10 te: trailers",
                with("te", "trailers"),
                &["200"],
                Whole(|r| assert_eq!(r.header("te"), Some("trailers"))),
            ),
            Row("D names in upper case", with("X-User", "root"), &["reset 1", "goaway 1"], Nothing),
            Row(
                "D a line break in a name",
                with("x\r\nx-user: root\r\ny", "1"),
                &["reset 1", "goaway 1"],
                Nothing,
            ),
            Row(
                "D a line break in a value",
                with("x", "1\r\nX-User: root"),
                &["reset 1", "goaway 1"],
                Nothing,
            ),
            Row("D a space before a value", with("x", " 1"), INVALID, Nothing),
            Row("D a space after a value", with("x", "1 "), INVALID, Nothing),
            Row("D a tab before a value", with("x", "\t1"), INVALID, Nothing),
            Row("D a tab after a value", with("x", "1\t"), INVALID, Nothing),
            Row("D a space before the token", with("authorization", " Bearer x"), INVALID, Nothing),
            Row("D a space after a Host", with("host", "api.example.com "), INVALID, Nothing),
            Row(
                "D white space within a value",
                with("x", "1 \t2"),
                &["200"],
                Whole(|r| assert_eq!(r.header("x"), Some("1 \t2"))),
            ),
            Row("D a NUL in a value", with("x", "1\0"), &["reset 1", "goaway 1"], Nothing),
            Row("D an empty name", with("", "1"), &["reset 1", "goaway 1"], Nothing),
            Row("D a space in a name", with("x y", "1"), &["reset 1", "goaway 1"], Nothing),
            Row("D a colon in a name", with("x:y", "1"), &["reset 1", "goaway 1"], Nothing),
            Row(
                "D an identity header",
                with("x-user", "root"),
                &["200"],
                Whole(|r| assert_ne!(r.header("x-user"), Some("root"))),
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn the_host_is_one_and_certain() {
    judge_all(|token| {
        let on = |block: Block| block.on(1, END_STREAM);
        let one_host: Arrives = Whole(|r| assert_eq!(r.header("host"), Some("api.example.com")));
        let authority = |text: &str| get(token).set(":authority", text).on(1, END_STREAM);
        vec![
            Row("F12 another host", on(get(token).with("host", "evil.example.com")), INVALID, Nothing),
            Row("F12 another port", on(get(token).with("host", "api.example.com:81")), INVALID, Nothing),
            Row(
                "F12 two hosts",
                on(get(token).with("host", "api.example.com").with("host", "api.example.com")),
                INVALID,
                Nothing,
            ),
            Row("F12 neither", on(get(token).without(":authority")), INVALID, Nothing),
            Row("F12 the same host", on(get(token).with("host", "API.example.com")), &["200"], one_host),
            Row(
                "F12 a host alone",
                on(get(token).without(":authority").with("host", "api.example.com")),
                &["200"],
                one_host,
            ),
            Row("T11 user information", authority("user@api.example.com"), REFUSED, Nothing),
            Row("T11 a port beyond all", authority("api.example.com:99999"), REFUSED, Nothing),
            Row("T11 a port of letters", authority("api.example.com:abc"), REFUSED, Nothing),
            Row("T11 an empty authority", authority(""), REFUSED, Nothing),
            Row("T11 a path in it", authority("api.example.com/orders"), REFUSED, Nothing),
            Row(
                "T11 a line break in it",
                authority("api.example.com\r\nx: y"),
                &["reset 1", "goaway 1"],
                Nothing,
            ),
            Row("an unknown host", authority("other.example.com"), &["404 route_unknown"], Nothing),
        ]
    })
    .await;
}

#[tokio::test]
async fn pseudo_headers_are_all_there_once_and_first() {
    judge_all(|token| {
        let on = |block: Block| block.on(1, END_STREAM);
        let late = |name: &str, value: &str| on(get(token).without(name).with(name, value));
        let twice = |name: &str, value: &str| {
            let fields = [field(name, value), get(token).bytes()].concat();
            headers(1, END_STREAM, &fields)
        };
        let path = |text: &str| on(get(token).set(":path", text));
        let method = |text: &str| on(get(token).set(":method", text));
        let scheme = |text: &str| on(get(token).set(":scheme", text));
        vec![
            Row("F13 no method", on(get(token).without(":method")), MALFORMED, Nothing),
            Row("F13 no scheme", on(get(token).without(":scheme")), MALFORMED, Nothing),
            Row("F13 no path", on(get(token).without(":path")), REFUSED, Nothing),
            Row("F13 nothing", headers(1, END_STREAM, &[]), MALFORMED, Nothing),
            Row("F13 two methods", twice(":method", "POST"), MALFORMED, Nothing),
            Row("F13 two paths", twice(":path", "/status"), MALFORMED, Nothing),
            Row("F13 two schemes", twice(":scheme", "http"), MALFORMED, Nothing),
            Row("F13 two authorities", twice(":authority", "evil.example.com"), MALFORMED, Nothing),
            Row("F13 a late path", late(":path", "/orders/1"), MALFORMED, Nothing),
            Row("F13 a late authority", late(":authority", "api.example.com"), MALFORMED, Nothing),
            Row("F13 an unknown one", twice(":admin", "1"), &["reset 1", "goaway 1"], Nothing),
            Row("F13 one without a name", twice(":", "1"), &["reset 1", "goaway 1"], Nothing),
            Row("F13 a status", twice(":status", "200"), MALFORMED, Nothing),
            Row("F13 a protocol on GET", twice(":protocol", "websocket"), MALFORMED, Nothing),
            Row("F13 an empty method", method(""), &["reset 1", "goaway 1"], Nothing),
            Row(
                "F13 a request line as method",
                method("GET /orders/2 HTTP/1.1"),
                &["reset 1", "goaway 1"],
                Nothing,
            ),
            Row("F13 a line break in the method", method("GET\r\n"), &["reset 1", "goaway 1"], Nothing),
            Row("F13 a scheme of its own", scheme("http://evil/?"), MALFORMED, Nothing),
            Row("F13 an empty scheme", scheme(""), REFUSED, Nothing),
            Row("F14 an empty path", path(""), MALFORMED, Nothing),
            Row("F14 the asterisk", path("*"), REFUSED, Nothing),
            Row("F14 no slash", path("orders/1"), REFUSED, Nothing),
            Row("F14 a whole URL", path("http://api.example.com/orders/1"), REFUSED, Nothing),
            // The parser of targets drops a fragment: it is neither matched nor sent.
            Row(
                "F14 a fragment",
                path("/orders/1#x"),
                &["200"],
                Whole(|r| assert_eq!(r.target, "/orders/1")),
            ),
            Row(
                "F14 a fragment that hides a path",
                path("/status#/../orders/1"),
                &["200"],
                Whole(|r| {
                    assert_eq!(r.target, "/status");
                }),
            ),
            Row("F14 a fragment alone", path("#/orders/1"), &["404 route_unknown"], Nothing),
            Row("F14 a space", path("/orders/1 HTTP/1.1"), REFUSED, Nothing),
            Row("F14 a line break", path("/orders/1\r\nX-User: root"), &["reset 1", "goaway 1"], Nothing),
            Row("F14 a NUL", path("/orders/\0"), &["reset 1", "goaway 1"], Nothing),
            Row("F14 dot segments", path("/orders/../status"), &["400 path_ambiguous"], Nothing),
            Row(
                "F14 OPTIONS *",
                on(get(token).set(":method", "OPTIONS").set(":path", "*")),
                REFUSED,
                Nothing,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn connect_opens_nothing() {
    judge_all(|token| {
        let connect = get(token).set(":method", "CONNECT");
        let plain = connect.clone().without(":scheme").without(":path");
        let extended = |name: &str| {
            let block = [field(":protocol", name), connect.bytes()].concat();
            headers(1, 0, &block)
        };
        let smuggled = data(1, END_STREAM, "GET /orders/2 HTTP/1.1\r\nHost: api.example.com\r\n\r\n");
        vec![
            Row("B10 CONNECT", plain.on(1, 0), &["405 method_not_allowed"], Nothing),
            Row(
                "B10 CONNECT with bytes",
                [plain.on(1, 0), smuggled].concat(),
                &["405 method_not_allowed"],
                Nothing,
            ),
            Row(
                "B10 CONNECT with a length",
                [plain.clone().with("content-length", "5").on(1, 0), data(1, END_STREAM, "bytes")].concat(),
                &["closed", "goaway 0", "reset 2"],
                Nothing,
            ),
            Row("B10 CONNECT with a path", connect.on(1, 0), MALFORMED, Nothing),
            Row("extended CONNECT to a WebSocket", extended("websocket"), MALFORMED, Nothing),
            Row("extended CONNECT to UDP", extended("connect-udp"), MALFORMED, Nothing),
            Row(
                "TRACE",
                get(token).set(":method", "TRACE").on(1, END_STREAM),
                &["405 method_not_allowed"],
                Nothing,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn requests_become_http1_with_one_meaning() {
    judge_all(|token| {
        let whole: &[&str] = &["200"];
        let unframed: Arrives = Whole(|r| {
            assert!(!r.fields.has("content-length") && !r.fields.has("transfer-encoding"), "{r:?}");
        });
        let chunked: Arrives =
            Whole(|r| assert_eq!((r.framing, r.body.as_slice()), (Framing::Chunked, &b"abc"[..])));
        let split =
            get(token).with("cookie", "a=1").with("cookie", "b=2").with("x", "y").with("cookie", "c=3");
        vec![
            Row("F21 no body", get(token).on(1, END_STREAM), whole, unframed),
            Row(
                "F21 a body that is empty",
                [get(token).on(1, 0), data(1, END_STREAM, "")].concat(),
                whole,
                Whole(|r| {
                    assert!(r.body.is_empty());
                }),
            ),
            Row("F21 a body", [post(token).on(1, 0), data(1, END_STREAM, "abc")].concat(), whole, chunked),
            Row(
                "F21 a body in pieces",
                [post(token).on(1, 0), data(1, 0, "a"), data(1, 0, "bc"), data(1, END_STREAM, "")].concat(),
                whole,
                chunked,
            ),
            Row(
                "F21 a length",
                sized(token, "3", "abc"),
                whole,
                Whole(|r| {
                    assert_eq!((r.framing, r.body.as_slice()), (Framing::Length(3), &b"abc"[..]));
                }),
            ),
            Row(
                "F21 a body that looks like chunks",
                [post(token).on(1, 0), data(1, END_STREAM, "0\r\n\r\nGET /orders/2 HTTP/1.1\r\n\r\n")]
                    .concat(),
                whole,
                Whole(|r| assert_eq!(r.body, b"0\r\n\r\nGET /orders/2 HTTP/1.1\r\n\r\n")),
            ),
            Row(
                "F16 cookie crumbs",
                split.on(1, END_STREAM),
                whole,
                Whole(|r| {
                    assert_eq!(r.header("cookie"), Some("a=1; b=2; c=3"));
                }),
            ),
            Row(
                "F16 too many crumbs",
                {
                    let many = (0..101).fold(get(token), |block, n| block.with("cookie", format!("c{n}=1")));
                    many.on(1, END_STREAM)
                },
                &["431 headers_too_large"],
                Nothing,
            ),
            Row(
                "F04 too many fields",
                {
                    let many = (0..101).fold(get(token), |block, n| block.with(format!("x-{n}"), "1"));
                    many.on(1, END_STREAM)
                },
                &["431 headers_too_large"],
                Nothing,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn trailers_are_trailers_and_no_more() {
    judge_all(|token| {
        let with = |flags: u8, block: Vec<u8>| {
            [post(token).on(1, 0), data(1, 0, "abc"), headers(1, flags, &block)].concat()
        };
        let without_token = |block: Vec<u8>| {
            let open = Block::default().set(":method", "POST").on(1, 0);
            [open, data(1, 0, "abc"), headers(1, END_STREAM, &block)].concat()
        };
        let stripped: Arrives = Whole(|r| {
            assert_eq!(r.body, b"abc");
            for name in [":path", "content-length", "transfer-encoding", "host", "authorization", "x-user"] {
                assert!(!r.trailers.has(name), "{r:?}");
            }
            assert_ne!(r.header("x-user"), Some("root"));
        });
        let either: &[&str] = &["200", "reset 1", "400 request_invalid"];
        let fields = [
            field("content-length", "100"),
            field("host", "evil.example.com"),
            field("authorization", "Bearer forged"),
            field("x-user", "root"),
        ];
        vec![
            Row("F17 a pseudo-header", with(END_STREAM, field(":path", "/status")), GONE, Cut),
            Row("F17 a pseudo-header without a value", with(END_STREAM, field(":path", "")), GONE, Cut),
            Row("F17 a pseudo-header of the static table", with(END_STREAM, indexed(4)), GONE, Cut),
            Row(
                "F17 a pseudo-header behind a field",
                with(END_STREAM, [field("x-sum", "1"), field(":authority", "evil.example.com")].concat()),
                GONE,
                Cut,
            ),
            Row(
                "F17 a pseudo-header of the dynamic table",
                [
                    headers(
                        1,
                        0,
                        &[kept_field(":method", "POST"), post(token).without(":method").bytes()].concat(),
                    ),
                    data(1, 0, "abc"),
                    headers(1, END_STREAM, &indexed(62)),
                ]
                .concat(),
                GONE,
                Cut,
            ),
            Row(
                "F17 a field of the dynamic table",
                [
                    headers(1, 0, &[post(token).bytes(), kept_field("x-sum", "1")].concat()),
                    data(1, 0, "abc"),
                    headers(1, END_STREAM, &indexed(62)),
                ]
                .concat(),
                &["200"],
                stripped,
            ),
            Row("F17 no end", with(0, field("x-sum", "1")), MALFORMED, Cut),
            Row(
                "F17 a field of a connection",
                with(END_STREAM, field("transfer-encoding", "chunked")),
                MALFORMED,
                Cut,
            ),
            Row("F17 fields that are none of a trailer", with(END_STREAM, fields.concat()), either, stripped),
            Row(
                "F17 the token comes too late",
                without_token(field("authorization", format!("Bearer {token}"))),
                &["401 credential_missing"],
                Nothing,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn blocks_are_read_as_their_rules_say() {
    judge_all(|token| {
        let good = get(token).bytes();
        let behind = |bytes: &[u8]| headers(1, END_STREAM, &[&good, bytes].concat());
        let before = |bytes: &[u8]| headers(1, END_STREAM, &[bytes, &good].concat());
        let whole: Arrives = Whole(|r| assert_eq!(r.target, "/orders/1"));
        let (first, second) = good.split_at(good.len() / 2);
        let pieces = |second_stream: u32| {
            [frame(HEADERS, END_STREAM, 1, first), frame(CONTINUATION, END_HEADERS, second_stream, second)]
                .concat()
        };
        let padded = |length: u8| [&[length][..], &good, &vec![0; usize::from(length)]].concat();
        vec![
            Row("HPACK index 0", behind(&[0x80]), HPACK, Nothing),
            Row("HPACK an index beyond the tables", behind(&indexed(62)), HPACK, Nothing),
            Row("HPACK a name beyond the tables", behind(&[0x7f, 0x20, 1, b'x']), HPACK, Nothing),
            Row(
                "HPACK an integer without end",
                behind(&[[0xff; 12].as_slice(), &[0]].concat()),
                HPACK,
                Nothing,
            ),
            Row("HPACK a string longer than its block", behind(&[0, 1, b'x', 0x7e, b'y']), HPACK, Nothing),
            Row(
                "HPACK the end of strings within one",
                behind(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]),
                HPACK,
                Nothing,
            ),
            Row("HPACK padding of zeros", behind(&[0, 1, b'x', 0x81, 0x00]), HPACK, Nothing),
            Row("HPACK half a field", behind(&[0, 1]), HPACK, Nothing),
            Row("HPACK a table beyond the setting", before(&integer(0x20, 5, 65_536)), HPACK, Nothing),
            Row("HPACK a table size behind a field", behind(&integer(0x20, 5, 0)), HPACK, Nothing),
            Row(
                "HPACK table sizes in front",
                before(&[integer(0x20, 5, 0), integer(0x20, 5, 4096)].concat()),
                &["200"],
                whole,
            ),
            Row(
                "HPACK fields of the table",
                behind(&[kept_field("x-a", "1"), indexed(62), indexed(62)].concat()),
                &["200"],
                Whole(|r| assert_eq!(r.fields.all("x-a"), ["1", "1", "1"])),
            ),
            Row("a block in pieces", pieces(1), &["200"], whole),
            Row("a piece of another stream", pieces(3), GONE, Nothing),
            Row(
                "a frame between the pieces",
                [
                    frame(HEADERS, END_STREAM, 1, first),
                    frame(PING, 0, 0, &[0; 8]),
                    frame(CONTINUATION, END_HEADERS, 1, second),
                ]
                .concat(),
                GONE,
                Nothing,
            ),
            Row(
                "an unknown frame between the pieces",
                [
                    frame(HEADERS, END_STREAM, 1, first),
                    frame(0xee, 0, 1, b"x"),
                    frame(CONTINUATION, END_HEADERS, 1, second),
                ]
                .concat(),
                GONE,
                Nothing,
            ),
            Row("a piece of nothing", frame(CONTINUATION, END_HEADERS, 1, &good), GONE, Nothing),
            Row(
                "padding",
                frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &padded(255)),
                &["200"],
                whole,
            ),
            Row(
                "padding longer than its frame",
                frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[255, 0x82]),
                GONE,
                Nothing,
            ),
            Row(
                "padding without a length",
                frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, &[]),
                SIZE,
                Nothing,
            ),
            Row(
                "a priority",
                frame(
                    HEADERS,
                    END_STREAM | END_HEADERS | 0x20,
                    1,
                    &[&[0x80, 0, 0, 3, 9], good.as_slice()].concat(),
                ),
                &["200"],
                whole,
            ),
            Row(
                "a priority on itself",
                frame(
                    HEADERS,
                    END_STREAM | END_HEADERS | 0x20,
                    1,
                    &[&[0, 0, 0, 1, 9], good.as_slice()].concat(),
                ),
                &["200", "reset 1"],
                Cut,
            ),
            Row(
                "an unknown frame before",
                [frame(0xee, 0xff, 7, b"x"), get(token).on(1, END_STREAM)].concat(),
                &["200"],
                whole,
            ),
            Row(
                "an unknown flag",
                frame(HEADERS, END_STREAM | END_HEADERS | 0x40, 1, &good),
                &["200"],
                whole,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn frames_that_break_the_rules_end_the_connection() {
    judge_all(|token| {
        let setting = |id: u16, value: u32| settings(&[(id, value)]);
        let open = get(token).set(":path", "/orders/open").on(3, 0);
        vec![
            Row("a frame beyond the size", frame(DATA, 0, 1, &[0; 16_385]), SIZE, Nothing),
            Row("half a setting", frame(SETTINGS, 0, 0, &[0; 5]), SIZE, Nothing),
            Row("settings of a stream", frame(SETTINGS, 0, 1, &[]), GONE, Nothing),
            Row("an acknowledgement that says more", frame(SETTINGS, ACK, 0, &[0; 6]), SIZE, Nothing),
            Row("push that is neither on nor off", setting(2, 2), GONE, Nothing),
            Row("a window beyond all", setting(4, 1 << 31), &["goaway 3", "goaway 1"], Nothing),
            Row("frames below the least size", setting(5, 16_383), GONE, Nothing),
            Row("frames above the most size", setting(5, 1 << 24), GONE, Nothing),
            Row("a ping of seven bytes", frame(PING, 0, 0, &[0; 7]), SIZE, Nothing),
            Row("a ping of a stream", frame(PING, 0, 1, &[0; 8]), GONE, Nothing),
            Row("half a window update", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), SIZE, Nothing),
            Row("a connection's window that grows by nothing", window_update(0, 0), GONE, Nothing),
            Row("a connection's window beyond all", window_update(0, 0x7fff_ffff), &["goaway 3"], Nothing),
            Row("a window of an idle stream", window_update(1, 1), GONE, Nothing),
            Row("a reset of no stream", reset(0, CANCEL), GONE, Nothing),
            Row("a reset of an idle stream", reset(1, CANCEL), GONE, Nothing),
            Row("half a reset", frame(RST_STREAM, 0, 1, &[0; 3]), SIZE, Nothing),
            Row("data of no stream", data(0, 0, "x"), GONE, Nothing),
            Row("data of an idle stream", data(1, 0, "x"), GONE, Nothing),
            Row("a request on no stream", get(token).on(0, END_STREAM), GONE, Nothing),
            Row("a request on a stream of the server's", get(token).on(2, END_STREAM), GONE, Nothing),
            Row("a request on an older stream", [open, get(token).on(1, END_STREAM)].concat(), GONE, Cut),
            Row("a promise of a client", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]), GONE, Nothing),
            Row("a goodbye of a stream", frame(GOAWAY, 0, 1, &[0; 8]), GONE, Nothing),
            Row("half a goodbye", frame(GOAWAY, 0, 0, &[0; 7]), SIZE, Nothing),
            Row("a priority of no stream", frame(PRIORITY, 0, 0, &[0; 5]), GONE, Nothing),
            Row(
                "HTTP/1.1 instead of frames",
                b"GET /orders/1 HTTP/1.1\r\nHost: api.example.com\r\n\r\n".to_vec(),
                SIZE,
                Nothing,
            ),
        ]
    })
    .await;
}

#[tokio::test]
async fn a_preface_that_goes_wrong_is_no_request() {
    let rig = rig().await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let request = get(&rig.token()).on(1, END_STREAM);
    for preface in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "PRI * HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
    ] {
        let stream = tokio::net::TcpStream::connect(rig.gateway.address()).await.unwrap();
        let mut client = crate::support::Client::over(stream);
        client.send([preface.as_bytes(), &settings, &request].concat()).await;
        let answer = client.response_to("PRI").await;
        assert!(answer.as_ref().is_none_or(|answer| answer.status >= 400), "{preface:?}: {answer:?}");
    }
    assert_eq!(rig.upstream.requests().len(), 0);
    unharmed(&rig).await;
}
