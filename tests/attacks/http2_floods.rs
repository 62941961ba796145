//! HTTP/2 clients that ask for little and cost much: resets, errors, control frames, crumbs of data, fields, windows that
//! never open (RFC 9113 §10.5). And honest clients that look like them.
//!
//! Each flood is judged by the end of its connection, by how much of it reached the upstream, and by other clients, which
//! are served meanwhile and after.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::http2::{canary, rig, unharmed};
use crate::support::http2::*;
use crate::support::tls::{Authority, Connect};
use crate::support::{Gateway, Policy, Reply, Rig, TestIssuer, Upstream, eventually, has_keys, ok, process};

/// Streams that a connection may have open, and resets that the gateway bears; see `server/connection.rs`.
const STREAMS: usize = 100;
const LOCAL_RESETS: usize = 256;

/// The stream of a client's n-th request.
fn stream(n: usize) -> u32 {
    u32::try_from(2 * n + 1).unwrap()
}

/// A POST whose body is yet to come.
fn open(rig: &Rig, n: usize) -> Vec<u8> {
    Block::default().set(":method", "POST").set(":path", "/orders/flood").token(&rig.token()).on(stream(n), 0)
}

fn get(rig: &Rig, n: usize) -> Vec<u8> {
    Block::default().set(":path", "/orders/flood").token(&rig.token()).on(stream(n), END_STREAM)
}

/// Requests for `/orders/flood` are never answered, others at once.
fn answers_nothing(rig: &Rig) {
    rig.upstream.answers(|request| match request.target.as_str() {
        "/orders/flood" => Reply::Early(Box::new(Reply::Never)),
        other => ok(other),
    });
}

/// Sends a flood while others are served; its connection ends, and tells why unless the end comes in the middle.
async fn ends(rig: &Rig, what: &str, flood: Vec<u8>) -> usize {
    rig.upstream.forget();
    let mut client = Http2::connect(rig.gateway.address()).await;
    let others = async {
        for n in 0..10 {
            canary(rig, &n.to_string()).await;
        }
    };
    let attack = async {
        client.send(flood).await;
        client.end().await
    };
    let (code, ()) = tokio::join!(attack, others);
    assert!(matches!(code, None | Some(ENHANCE_YOUR_CALM | PROTOCOL_ERROR)), "{what}: {code:?}");
    rig.upstream.requests().iter().filter(|request| request.target == "/orders/flood").count()
}

/// Connections that were closed for a flood.
async fn closed(rig: &Rig) -> f64 {
    rig.gateway.metric("scopegate_connections_closed_total", &["cause=\"frames\""]).await
}

/// So many connections are counted and logged as closed for a flood.
async fn told(rig: &Rig, count: usize) {
    eventually("each flood is counted", || async { (closed(rig).await == count as f64).then_some(()) }).await;
    let of_flood = |entry: &serde_json::Value| {
        entry["reason"] == "request_invalid"
            && entry["cause"].as_str().is_some_and(|cause| cause.contains("HTTP/2 frames"))
    };
    eventually("each flood is logged", || async {
        (rig.gateway.log().into_iter().filter(of_flood).count() == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_requests_that_are_reset_at_once() {
    let rig = rig().await;
    answers_nothing(&rig);
    let flood = (0..10_000).flat_map(|n| [get(&rig, n), reset(stream(n), CANCEL)].concat()).collect();
    let forwarded = ends(&rig, "F01", flood).await;
    assert!(forwarded <= 2 * STREAMS, "F01: {forwarded} reached the upstream");
    told(&rig, 1).await;
    unharmed(&rig).await;
}

#[tokio::test]
async fn requests_that_are_reset_once_they_reached_the_upstream() {
    // Just enough for one round. Half of it comes back in a second, which a slow machine may take for a round.
    let rig = Rig::with(Policy::default().gateway("workers: 1\nlimits: { control_frames: 520 }")).await;
    answers_nothing(&rig);
    let mut client = Http2::connect(rig.gateway.address()).await;
    let mut rounds = 0;
    // What a page does that is left: all that it waits for is cancelled. Once is fine.
    while client.settled().await {
        let cancelled = rounds * STREAMS;
        let all = cancelled..cancelled + STREAMS;
        client.send(all.clone().flat_map(|n| get(&rig, n)).collect::<Vec<u8>>()).await;
        rig.upstream.wait("all are there", |upstream| upstream.requests().len() == all.end).await;
        client.send(all.flat_map(|n| reset(stream(n), CANCEL)).collect::<Vec<u8>>()).await;
        rig.upstream.wait("all are given up", |upstream| upstream.open_connections() == 0).await;
        rounds += 1;
        assert!(rounds < 100, "{} requests were cancelled", rounds * STREAMS);
    }
    assert!(rounds > 1, "one round is what an honest client does");
    assert!(matches!(client.end().await, None | Some(ENHANCE_YOUR_CALM)));
    told(&rig, 1).await;
    unharmed(&rig).await;
}

#[tokio::test]
async fn ten_thousand_streams_that_the_gateway_must_reset() {
    let rig = rig().await;
    answers_nothing(&rig);
    type Trigger = fn(u32) -> Vec<u8>;
    let half_closed: [(&str, Trigger); 6] = [
        ("F02 a window update of nothing", |id| window_update(id, 0)),
        ("F02 a window beyond all", |id| window_update(id, 0x7fff_ffff)),
        ("F02 a request on a half-closed stream", |id| Block::default().on(id, END_STREAM)),
        ("F02 data on a half-closed stream", |id| frame(DATA, 0, id, b"x")),
        ("F02 half a priority", |id| frame(PRIORITY, 0, id, &[0; 4])),
        ("F02 a priority on itself", |id| frame(PRIORITY, 0, id, &[&id.to_be_bytes()[..], &[9]].concat())),
    ];
    for (what, trigger) in half_closed {
        let flood = (0..10_000).flat_map(|n| [get(&rig, n), trigger(stream(n))].concat()).collect();
        let forwarded = ends(&rig, what, flood).await;
        assert!(forwarded <= STREAMS + LOCAL_RESETS, "{what}: {forwarded} reached the upstream");
    }
    let malformed = Block::default().with("connection", "close");
    let flood = (0..10_000).flat_map(|n| malformed.on(stream(n), END_STREAM)).collect();
    assert_eq!(ends(&rig, "malformed requests", flood).await, 0);
    let flood = (0..10_000).flat_map(|n| get(&rig, n)).collect();
    let forwarded = ends(&rig, "F18 streams beyond the limit", flood).await;
    assert!(forwarded <= STREAMS, "F18: {forwarded} reached the upstream");
    unharmed(&rig).await;
}

#[tokio::test]
async fn frames_that_are_no_requests() {
    let rig = rig().await;
    answers_nothing(&rig);
    let floods: [(&str, Vec<u8>); 10] = [
        ("F06 PING", frame(PING, 0, 0, &[7; 8])),
        ("F06 answers to no PING", frame(PING, ACK, 0, &[7; 8])),
        ("F06 SETTINGS", settings(&[(4, 65_535)])),
        ("F06 SETTINGS without a setting", settings(&[])),
        ("F06 settings of the table", settings(&[(1, 0), (1, 4096)])),
        ("F06 PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9])),
        ("F06 WINDOW_UPDATE of the connection", window_update(0, 1)),
        ("F06 WINDOW_UPDATE of a stream", window_update(1, 1)),
        ("F06 unknown frames", frame(0xee, 0, 0, b"x")),
        ("F05 DATA without data", frame(DATA, 0, 1, b"")),
    ];
    let count = floods.len();
    for (what, one) in floods {
        let forwarded = ends(&rig, what, [open(&rig, 0), one.repeat(20_000)].concat()).await;
        assert!(forwarded <= 1, "{what}");
    }
    told(&rig, count).await;
    unharmed(&rig).await;
}

#[tokio::test]
async fn a_flood_is_told_why_it_ends() {
    let rig = rig().await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    assert!(client.settled().await);
    client.send(frame(PING, 0, 0, &[7; 8]).repeat(5000)).await;
    assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM));
    unharmed(&rig).await;
}

#[tokio::test]
async fn how_many_frames_are_a_flood_is_configured() {
    let ping = frame(PING, 0, 0, &[7; 8]);
    // What is well below the default, on the stream of a request that was answered; and what is well above.
    let below = [("pings", ping.repeat(700)), ("resets", reset(1, CANCEL).repeat(140))];
    let above = [("pings", ping.repeat(5000)), ("resets", reset(1, CANCEL).repeat(1000))];
    let (low, high) = ("limits: { control_frames: 100 }", "limits: { control_frames: 100000 }");
    for (limit, floods, goes_on) in [("", &below, true), (low, &below, false), (high, &above, true)] {
        let rig = Rig::with(Policy::default().gateway(limit)).await;
        rig.upstream.answers(|request| ok(&request.target));
        for (what, flood) in floods {
            let mut client = Http2::connect(rig.gateway.address()).await;
            client.send(get(&rig, 0)).await;
            assert_eq!(client.outcome(stream(0)).await.verdict(), "200", "{what} {limit}");
            client.send(flood).await;
            if goes_on {
                client.send(get(&rig, 1)).await;
                assert_eq!(client.outcome(stream(1)).await.verdict(), "200", "{what} {limit}");
            } else {
                assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM), "{what} {limit}");
            }
        }
        if goes_on { assert_eq!(closed(&rig).await, 0.0) } else { told(&rig, floods.len()).await }
    }
}

#[tokio::test]
async fn a_flood_over_tls_is_told_too() {
    let authority = Authority::new("servers");
    let leaf = authority.server(&["api.example.com"]);
    let policy = Policy::default()
        .listen("- https: 127.0.0.1:0\n  certificates: [{ cert: server.crt, key: server.key }]");
    let (issuer, upstream) =
        (TestIssuer::start().await, Upstream::start(|request| ok(&request.target)).await);
    let files = [("server.crt", leaf.cert.as_str()), ("server.key", &leaf.key)];
    let gateway = Gateway::start_with(&policy.render(issuer.url(), &upstream.url()), &files).await;
    has_keys(&gateway).await;
    let connect = Connect { authority: &authority, name: "api.example.com", alpn: &["h2"], client: None };
    for flood in [frame(PING, 0, 0, &[7; 8]).repeat(5000), settings(&[]).repeat(5000)] {
        let mut client = Http2::over(connect.to(gateway.https()).await.unwrap());
        client.greet(&[]).await;
        client
            .send(Block::default().set(":scheme", "https").token(&issuer.token().mint()).on(1, END_STREAM))
            .await;
        assert_eq!(client.outcome(1).await.verdict(), "200");
        client.send(flood).await;
        assert_eq!(client.end().await, Some(ENHANCE_YOUR_CALM));
    }
}

#[tokio::test]
async fn crumbs_of_data_are_not_kept() {
    let rig = rig().await;
    answers_nothing(&rig);
    let before = rig.gateway.memory();
    for what in ["F05 one byte a frame", "F05 one byte a frame, and padding"] {
        let crumb = |n: usize| match what {
            "F05 one byte a frame" => frame(DATA, 0, stream(n), b"x"),
            _ => frame(DATA, PADDED, stream(n), &[2, b'x', 0, 0]),
        };
        let flood: Vec<u8> =
            (0..16).flat_map(|n| [open(&rig, n), crumb(n).repeat(16_000)].concat()).collect();
        let mut client = Http2::connect(rig.gateway.address()).await;
        client.send(&flood).await;
        // What is read at once may go on; what waits must not pile up. All of it is read, or the connection has ended.
        let _ = client.settled().await;
        canary(&rig, "meanwhile").await;
        let held = rig.gateway.memory().saturating_sub(before);
        assert!(held < 32 << 20, "{what}: {held} bytes for {} of data", 16 * 16_000);
    }
    unharmed(&rig).await;
}

#[tokio::test]
async fn header_blocks_without_end() {
    let rig = rig().await;
    let block = Block::default().token(&rig.token()).bytes();
    let start = frame(HEADERS, END_STREAM, 1, &block);
    let floods = [
        ("CONTINUATION without fields", frame(CONTINUATION, 0, 1, b"").repeat(10_000)),
        ("CONTINUATION with a field", frame(CONTINUATION, 0, 1, &field("x", "y")).repeat(10_000)),
        (
            "CONTINUATION with half a field",
            frame(CONTINUATION, 0, 1, &[&[0, 1, b'x', 0x7f, 0xff, 0x7f][..], &[b'y'; 16_000]].concat())
                .repeat(1000),
        ),
        ("F04 fields of the table without end", {
            let seed = frame(CONTINUATION, 0, 1, &kept_field("a", ""));
            [seed, frame(CONTINUATION, 0, 1, &indexed(62).repeat(16_000)).repeat(1000)].concat()
        }),
        ("F04 a long field of the table without end", {
            let seed = frame(CONTINUATION, 0, 1, &kept_field("a", "x".repeat(4000)));
            [seed, frame(CONTINUATION, 0, 1, &indexed(62).repeat(16_000)).repeat(1000)].concat()
        }),
    ];
    for (what, flood) in floods {
        assert_eq!(ends(&rig, what, [start.clone(), flood].concat()).await, 0, "{what}");
    }
    assert!(rig.upstream.requests().iter().all(|request| request.target.contains("canary")));
    unharmed(&rig).await;
}

/// Blocks of fields that take a byte each. A block that holds far too many ends its connection, as a request or as trailers.
#[tokio::test]
async fn an_http2_bomb_does_not_go_off() {
    let rig = rig().await;
    let block = Block::default().token(&rig.token()).bytes();
    let kinds =
        [("a field", "a", 62), ("cookie crumbs", "cookie", 62), ("a field that each table has", "", 21)];
    for (what, name, index) in kinds {
        let seed = if name.is_empty() { Vec::new() } else { kept_field(name, "") };
        let bomb = indexed(index).repeat(800);
        let head = [block.clone(), seed.clone(), bomb.clone()].concat();
        let forwarded = ends(&rig, what, headers(1, END_STREAM, &head)).await;
        assert_eq!(forwarded, 0, "{what}");
        let open = headers(1, 0, &[Block::default().set(":method", "POST").bytes(), seed].concat());
        let forwarded = ends(&rig, what, [open, headers(1, END_STREAM, &bomb)].concat()).await;
        assert_eq!(forwarded, 0, "{what} in trailers");
        // A client may not push, but h2 decodes what it promises before it says so.
        let promise = frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &head].concat());
        let forwarded = ends(&rig, what, promise).await;
        assert_eq!(forwarded, 0, "{what} in a promise");
    }
    told(&rig, 3 * kinds.len()).await;
    unharmed(&rig).await;
}

/// Connections with as many fields as do not end them, and a window that is shut: no answer can leave, so every request stays.
async fn bombs(rig: &Rig, connections: usize) -> Vec<Http2> {
    let (block, fields) = (Block::default().set(":method", "POST").bytes(), indexed(62).repeat(190));
    let mut clients = Vec::new();
    for in_trailers in [false, true].into_iter().cycle().take(connections) {
        let mut client = Http2::with_settings(rig.gateway.address(), &[(4, 0)]).await;
        let (head, trailers, status) =
            if in_trailers { (&[][..], &fields[..], 401) } else { (&fields[..], &[][..], 431) };
        for n in 0..STREAMS {
            let seed = if n == 0 { kept_field("a", "") } else { indexed(62) };
            client.send(headers(stream(n), 0, &[&block[..], &seed, head].concat())).await;
            assert_eq!(client.status(stream(n)).await, status);
        }
        client
            .send((0..STREAMS).flat_map(|n| headers(stream(n), END_STREAM, trailers)).collect::<Vec<u8>>())
            .await;
        assert!(client.settled().await);
        clients.push(client);
    }
    clients
}

#[tokio::test]
async fn what_an_http2_bomb_can_hold_is_little_and_given_back() {
    const CONNECTIONS: usize = 10;
    // Nothing is given up before all of it is there.
    let patient = "workers: 1\ntimeouts: { response_stall: 10m, body_idle: 10m, body_total: 10m }";
    let rig = Rig::with(Policy::default().gateway(patient)).await;
    rig.upstream.answers(|request| ok(&request.target));
    // Warm: what is taken once and kept is no part of the bomb.
    canary(&rig, "warm").await;
    let before = rig.gateway.memory();
    // An allocator keeps what it is given back: it must do for the next bombs. Three megabytes a connection are held; eight
    // rounds of which a third is not given back would be ten.
    for round in 1..=8 {
        let clients = bombs(&rig, CONNECTIONS).await;
        let under_way = rig.gateway.metric("scopegate_in_flight_requests", &[]).await;
        assert_eq!(under_way, 1000.0, "all of them are held");
        let held = rig.gateway.memory().saturating_sub(before);
        println!("{held} bytes held for {CONNECTIONS} connections in round {round}");
        assert!(
            held < CONNECTIONS as u64 * (8 << 20),
            "{held} bytes for {CONNECTIONS} connections in round {round}"
        );
        canary(&rig, "meanwhile").await;
        drop(clients);
        unharmed(&rig).await;
    }
    assert_eq!(rig.upstream.requests().iter().filter(|r| !r.target.contains("canary")).count(), 0);
}

/// The same, and nobody closes: the streams are given up in time, and the connection goes on.
#[tokio::test]
async fn what_a_shut_window_holds_is_given_up_in_time() {
    let rig = Rig::with(Policy::default().gateway("timeouts: { response_stall: 500ms }")).await;
    let mut client = Http2::with_settings(rig.gateway.address(), &[(4, 0)]).await;
    client.send((0..STREAMS).flat_map(|n| get(&rig, n)).collect::<Vec<u8>>()).await;
    for n in 0..STREAMS {
        assert!(matches!(client.outcome(stream(n)).await, Outcome::Reset(_)), "stream {n}");
    }
    rig.upstream.answers(|request| ok(&request.target));
    unharmed(&rig).await;
    client.send([settings(&[(4, 65_535)]), get(&rig, STREAMS)].concat()).await;
    assert_eq!(client.outcome(stream(STREAMS)).await.verdict(), "200");
}

#[tokio::test]
async fn a_list_beyond_its_size_is_one_refusal() {
    let rig = rig().await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    let large = Block::default().token(&rig.token()).with("x-large", "x".repeat(12_000));
    let parts = |n: usize, times: usize| {
        let block =
            (0..times).fold(large.clone(), |block, _| block.with("x-large", "x".repeat(12_000))).bytes();
        let mut chunks = block.chunks(16_000).peekable();
        let mut bytes = frame(HEADERS, END_STREAM, stream(n), chunks.next().unwrap());
        while let Some(chunk) = chunks.next() {
            let flags = if chunks.peek().is_none() { END_HEADERS } else { 0 };
            bytes.extend(frame(CONTINUATION, flags, stream(n), chunk));
        }
        bytes
    };
    client.send(parts(0, 3)).await;
    let outcome = client.outcome(1).await.verdict();
    assert!(["431", "reset 7"].contains(&outcome.as_str()), "{outcome}");
    client.send(get(&rig, 1)).await;
    assert_eq!(client.outcome(stream(1)).await.verdict(), "200", "the tables of both sides still agree");
    client.send(parts(2, 12)).await;
    assert!(matches!(client.end().await, Some(ENHANCE_YOUR_CALM) | None));
    assert_eq!(rig.upstream.requests().len(), 1);
    unharmed(&rig).await;
}

#[tokio::test]
async fn what_http2_refuses_by_itself_is_counted() {
    let rig = rig().await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    for n in 0..3 {
        client.send(Block::default().with("connection", "close").on(stream(n), END_STREAM)).await;
        assert_eq!(client.outcome(stream(n)).await, Outcome::Reset(PROTOCOL_ERROR));
    }
    eventually("each is counted", || async {
        let labels = ["code=\"protocol_error\""];
        (rig.gateway.metric("scopegate_reset_streams_total", &labels).await == 3.0).then_some(())
    })
    .await;
    assert_eq!(rig.gateway.metric("scopegate_reset_streams_total", &[]).await, 3.0);
    unharmed(&rig).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_the_others_end_well() {
    let rig = rig().await;
    let sign = Arc::new(Notify::new());
    let waits = Arc::clone(&sign);
    rig.upstream.answers(move |request| match request.target.as_str() {
        "/orders/flood" => Reply::When(Arc::clone(&waits), Box::new(ok("late"))),
        other => ok(other),
    });
    let mut client = Http2::connect(rig.gateway.address()).await;
    client.send((0..=STREAMS).flat_map(|n| get(&rig, n)).collect::<Vec<u8>>()).await;
    assert_eq!(client.outcome(stream(STREAMS)).await, Outcome::Reset(REFUSED_STREAM));
    rig.upstream.wait("the others are there", |upstream| upstream.requests().len() == STREAMS).await;
    // The client leaves: what it has asked for still comes.
    client.send(frame(GOAWAY, 0, 0, &[0; 8])).await;
    for _ in 0..STREAMS {
        sign.notify_one();
    }
    for n in 0..STREAMS {
        assert_eq!(client.outcome(stream(n)).await.verdict(), "200", "stream {n}");
    }
    client.end().await;
    unharmed(&rig).await;
}

#[tokio::test]
async fn honest_clients_are_left_alone() {
    let rig = rig().await;
    let mut client = Http2::connect(rig.gateway.address()).await;
    // A ping and two window updates for each answer, and one in four is cancelled after it came.
    for n in 0..2000 {
        client.send(get(&rig, n)).await;
        assert_eq!(client.outcome(stream(n)).await.verdict(), "200");
        client.send([frame(PING, 0, 0, &[7; 8]), window_update(0, 13), window_update(0, 13)].concat()).await;
        if n % 4 == 0 {
            client.send(reset(stream(n), CANCEL)).await;
        }
    }
    assert!(client.settled().await);
    assert_eq!(closed(&rig).await, 0.0);
    unharmed(&rig).await;
}

/// The numbers that h2load prints behind `requests:`, by name.
fn counted(output: &str, name: &str) -> usize {
    let line =
        output.lines().find(|line| line.starts_with("requests:")).unwrap_or_else(|| panic!("{output}"));
    let count =
        line.split(", ").find_map(|part| part.strip_suffix(name)).unwrap_or_else(|| panic!("{output}"));
    count.trim().rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn h2load_with_abusive_settings() {
    let rig = Rig::with(Policy::default()).await;
    let url = format!("http://{}/status", rig.gateway.address());
    let token = format!("authorization: Bearer {}", rig.token());
    let runs: [(&str, &[&str]); 6] = [
        ("many streams", &["-n", "4000", "-c", "4", "-m", "1000"]),
        ("windows of a byte", &["-n", "500", "-c", "10", "-m", "100", "-w", "1", "-W", "1"]),
        (
            "no tables",
            &[
                "-n",
                "2000",
                "-c",
                "10",
                "-m",
                "100",
                "--header-table-size=0",
                "--encoder-header-table-size=0",
            ],
        ),
        ("many connections", &["-n", "2000", "-c", "100", "-m", "4"]),
        ("tiny frames", &["-n", "2000", "-c", "4", "-m", "100", "-d", "Cargo.toml"]),
        ("fields beyond the limit", &["-n", "200", "-c", "4", "-m", "100", "-H", "x-large: LARGE"]),
    ];
    for (what, args) in runs {
        let large = "x".repeat(33_000);
        let args = args.iter().map(|arg| arg.replace("LARGE", &large));
        let own = ["-H:authority: api.example.com", "-H", token.as_str(), url.as_str()].map(str::to_owned);
        let (output, ()) = tokio::join!(process::h2load(args.chain(own)), async {
            for _ in 0..10 {
                assert_eq!(rig.get("/orders/1").send().await.status, 200, "{what}");
            }
        });
        let succeeded = counted(&output.stdout, " succeeded");
        let wanted = if what == "fields beyond the limit" { 0 } else { counted(&output.stdout, " total") };
        assert_eq!(succeeded, wanted, "{what}: {}", output.stdout);
    }
    assert_eq!(closed(&rig).await, 0.0, "none of these is a flood");
    rig.upstream.answers(|request| ok(&request.target));
    unharmed(&rig).await;
}
