//! Tests of the access log by what a reader of it gets.

use std::io;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};

use proptest::prelude::*;
use serde_json::Value;

use super::*;

/// An entry with everything absent that can be.
fn bare<'a>() -> Entry<'a> {
    Entry { path: b"/", status: 200, ..Entry::new(0, "r1", &Method::GET) }
}

fn line(entry: &Entry<'_>) -> String {
    let mut line = Vec::new();
    entry.write_line(&mut line);
    let line = String::from_utf8(line).unwrap();
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one line, and whole: {line:?}");
    line
}

fn parsed(entry: &Entry<'_>) -> Value {
    serde_json::from_str(&line(entry)).unwrap()
}

#[test]
fn a_full_line_has_every_field_and_a_bare_one_leaves_them_out() {
    let full = Entry {
        unix_ms: 1_795_300_517_042,
        address: Some("2001:db8::7".parse().unwrap()),
        method: &Method::POST,
        host: Some(b"api.example.com"),
        path: b"/v1/acme/orders",
        protocol: Version::HTTP_2,
        tls: true,
        route: Some("orders-write"),
        status: 403,
        decision: Some(Disposition::Deny),
        reason: Some(Reason::ScopeMissing),
        cause: Some("needs orders:write"),
        owner: Some("orders-team@example.com"),
        issuer: Some("https://idp.example.com/"),
        client: Some("mobile-app"),
        subject: Some("alice"),
        tenant: Some("acme"),
        upstream: Some("orders"),
        duration: Duration::from_micros(1_007_050),
        decision_duration: Some(Duration::from_nanos(2_340)),
        upstream_duration: Some(Duration::from_millis(1)),
        removed_headers: Some("x_foo, x.bar"),
        request_bytes: 17,
        response_bytes: u64::MAX,
        ..bare()
    };
    assert_eq!(
        line(&full),
        concat!(
            r#"{"time":"2026-11-21T22:35:17.042Z","request_id":"r1","address":"2001:db8::7","method":"POST","#,
            r#""host":"api.example.com","path":"/v1/acme/orders","protocol":"HTTP/2","tls":true,"#,
            r#""route":"orders-write","status":403,"decision":"deny","reason":"scope_missing","#,
            r#""control":"authorization","cause":"needs orders:write","owner":"orders-team@example.com","#,
            r#""issuer":"https://idp.example.com/","client":"mobile-app","subject":"alice","tenant":"acme","#,
            r#""upstream":"orders","duration_ms":1007.050,"decision_us":2.340,"upstream_ms":1.000,"removed_headers":"x_foo, x.bar","#,
            r#""request_bytes":17,"response_bytes":18446744073709551615}"#,
            "\n"
        )
    );
    assert_eq!(
        line(&bare()),
        concat!(
            r#"{"time":"1970-01-01T00:00:00.000Z","request_id":"r1","method":"GET","path":"/","#,
            r#""protocol":"HTTP/1.1","tls":false,"status":200,"duration_ms":0.000,"request_bytes":0,"#,
            r#""response_bytes":0}"#,
            "\n"
        )
    );
}

#[test]
fn neither_query_nor_token_is_logged() {
    let jws = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl";
    for (path, expected, message) in [
        ("/a?access_token=secret".to_owned(), "/a".to_owned(), "query"),
        ("/a#secret".to_owned(), "/a".to_owned(), "fragment"),
        ("?secret".to_owned(), String::new(), "query alone"),
        (format!("/t/{jws}/x"), "/t/[redacted]/x".to_owned(), "a segment"),
        (format!("/{jws},{jws}"), "/[redacted],[redacted]".to_owned(), "two of them"),
        (format!("/eyJ.x/{jws}"), "/eyJ.x/[redacted]".to_owned(), "after something like it"),
        (format!("/{}{jws}", "x".repeat(1000)), "x".to_owned(), "across the cut"),
        ("/eyJson.html".to_owned(), "/eyJson.html".to_owned(), "a name that only begins so"),
    ] {
        let entry = Entry {
            path: path.as_bytes(),
            request_id: &path,
            cause: Some(&path),
            host: Some(path.as_bytes()),
            ..bare()
        };
        let parsed = parsed(&entry);
        for field in ["path", "request_id", "cause", "host"] {
            let value = parsed[field].as_str().unwrap();
            assert!(
                !value.contains("c2lnbmF0dXJl") && !value.contains("eyJzdWIi"),
                "{message}: {field} {value}"
            );
        }
        let logged = parsed["path"].as_str().unwrap();
        assert!(logged == expected || message == "across the cut", "{message}: {logged}");
    }
}

#[test]
fn a_token_search_takes_time_in_proportion_to_the_text() {
    // With a search from every `eyJ` to the end of the run this would be 10^12 steps.
    let path = "/".to_owned() + &"eyJ".repeat(1_000_000);
    assert_eq!(line(&Entry { path: path.as_bytes(), ..bare() }).matches("eyJ").count(), (MAX_TEXT - 1) / 3);
}

#[test]
fn what_acts_on_a_terminal_is_escaped() {
    let hostile = "/\u{1b}[2J\r\n{\"status\":200}\u{7f}\u{9b}1m\u{2028}\u{202e}\u{2066}\u{feff}\0é√";
    let written = line(&Entry { path: hostile.as_bytes(), ..bare() });
    let expected = r#""path":"/\u001b[2J\r\n{\"status\":200}\u007f\u009b1m\u2028\u202e\u2066\ufeff\u0000é√""#;
    assert!(written.contains(expected), "{written}");
    let parsed: Value = serde_json::from_str(&written).unwrap();
    assert_eq!(parsed["path"], hostile, "nothing is lost");
}

#[test]
fn long_and_broken_text_is_cut_and_replaced() {
    let long = "é".repeat(1000);
    for (path, expected, message) in [
        (b"/\xff\xfe.".to_vec(), "/\u{fffd}\u{fffd}.".to_owned(), "no UTF-8"),
        (vec![b'a'; MAX_TEXT], "a".repeat(MAX_TEXT), "just fits"),
        (vec![b'a'; MAX_TEXT + 1], "a".repeat(MAX_TEXT) + "…", "one too many"),
        (long.clone().into_bytes(), "é".repeat(MAX_TEXT / 2) + "…", "cut between characters"),
        (format!("/{long}").into_bytes(), format!("/{}…", "é".repeat(MAX_TEXT / 2 - 1)), "cut within one"),
    ] {
        assert_eq!(parsed(&Entry { path: &path, ..bare() })["path"], expected, "{message}");
    }
}

#[test]
fn a_time_outside_four_digits_is_the_nearest_within() {
    for (unix_ms, expected) in [
        (i64::MIN, "0000-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (i64::MAX, "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(parsed(&Entry { unix_ms, ..bare() })["time"], expected);
    }
}

proptest! {
    #[test]
    fn any_bytes_make_one_line_of_json(
        host in prop::collection::vec(any::<u8>(), 0..40),
        path in prop::collection::vec(any::<u8>(), 0..3000),
        text in ".*|[\\x00-\\x1f\"\\\\\u{80}-\u{9f}]*",
        nanos in any::<u64>(),
        v6 in any::<[u8; 16]>(),
        v4 in any::<[u8; 4]>(),
    ) {
        let text = text.as_str();
        for address in [IpAddr::from(v6), IpAddr::from(v4)] {
            let entry = Entry {
                request_id: text,
                address: Some(address),
                host: Some(&host),
                path: &path,
                route: Some(text),
                cause: Some(text),
                owner: Some(text),
                issuer: Some(text),
                client: Some(text),
                subject: Some(text),
                tenant: Some(text),
                upstream: Some(text),
                duration: Duration::from_nanos(nanos),
                request_bytes: nanos,
                ..bare()
            };
            let written = line(&entry);
            prop_assert!(!written.trim_end_matches('\n').contains(char::is_control));
            let parsed: Value = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(parsed["address"].as_str().unwrap().parse::<IpAddr>().unwrap(), address);
            prop_assert_eq!(parsed["request_bytes"].as_u64().unwrap(), nanos);
            if text.len() <= MAX_TEXT {
                prop_assert_eq!(parsed["subject"].as_str().unwrap(), text);
            }
            prop_assert!(!parsed["path"].as_str().unwrap().contains('?'));
        }
    }

    #[test]
    fn times_are_what_another_library_says(unix_ms in -62_167_219_200_000_i64..253_402_300_799_999) {
        let expected = jiff::Timestamp::from_millisecond(unix_ms).unwrap();
        prop_assert_eq!(&parsed(&Entry { unix_ms, ..bare() })["time"], &format!("{expected:.3}"));
    }
}

/// A sink that hands each write to the test and answers as it is told.
struct Told {
    writes: Sender<Vec<u8>>,
    answers: Receiver<io::Result<usize>>,
}

impl Write for Told {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The test may be over already.
        drop(self.writes.send(bytes.to_vec()));
        match self.answers.recv() {
            Ok(answer) => answer.map(|most| most.min(bytes.len())),
            Err(_) => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn told() -> (Told, Receiver<Vec<u8>>, Sender<io::Result<usize>>) {
    let (writes, written) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    (Told { writes, answers }, written, answer)
}

fn dropped(metrics: &Metrics) -> u64 {
    let text = metrics.render(|_| {}).unwrap();
    let sample = text.lines().find_map(|line| line.strip_prefix("scopegate_access_log_dropped_total "));
    sample.unwrap().parse().unwrap()
}

fn log(worker: &WorkerLog, id: &str) {
    worker.write(&Entry { request_id: id, ..bare() });
}

fn expected(id: &str) -> Vec<u8> {
    line(&Entry { request_id: id, ..bare() }).into_bytes()
}

#[test]
fn lines_of_all_workers_are_written_before_close_returns() {
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);
    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (memory, metrics) = (Memory::default(), Metrics::new());
    let access_log = AccessLog::start(memory.clone(), Arc::clone(&metrics)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let worker = access_log.worker();
            scope.spawn(move || {
                for number in 0..500 {
                    log(&worker, &format!("{thread}-{number:03}"));
                }
            });
        }
    });
    access_log.close();
    let written = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    let ids: Vec<String> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["request_id"].as_str().unwrap().to_owned())
        .collect();
    for thread in ["0-", "1-"] {
        let own: Vec<_> = ids.iter().filter(|id| id.starts_with(thread)).collect();
        assert_eq!(own.len(), 500);
        assert!(own.is_sorted(), "the order of one worker is kept");
    }
    assert_eq!(dropped(&metrics), 0);

    log(&access_log.worker(), "late");
    assert_eq!(dropped(&metrics), 1, "a line after the end is counted");
}

#[test]
fn a_blocked_reader_costs_lines_and_never_a_worker() {
    let (sink, written, _answers) = told();
    let metrics = Metrics::new();
    let access_log = AccessLog::start(sink, Arc::clone(&metrics)).unwrap();
    let worker = access_log.worker();
    log(&worker, "first");
    assert_eq!(written.recv().unwrap(), expected("first"));
    // The writer hangs in its write now. The buffer takes so many lines and no more.
    let length = expected("00000").len();
    let fits = writer::CAPACITY.div_ceil(length);
    for number in 0..fits + 100 {
        log(&worker, &format!("{number:05}"));
    }
    assert_eq!(dropped(&metrics), 100);
    let (result, returned) = mpsc::channel();
    std::thread::spawn(move || {
        access_log.close();
        result.send(()).unwrap();
    });
    let patience = Duration::from_secs(20);
    assert_eq!(returned.recv_timeout(patience), Ok(()), "close gives up on a reader that hangs");
}

#[test]
fn an_error_costs_the_lines_it_hits_and_no_others() {
    let (sink, written, answers) = told();
    let metrics = Metrics::new();
    let access_log = AccessLog::start(sink, Arc::clone(&metrics)).unwrap();
    let worker = access_log.worker();

    log(&worker, "one");
    assert_eq!(written.recv().unwrap(), expected("one"));
    log(&worker, "two");
    answers.send(Ok(5)).unwrap();
    assert_eq!(written.recv().unwrap(), expected("one")[5..], "the rest of a short write follows");
    answers.send(Err(io::ErrorKind::Interrupted.into())).unwrap();
    assert_eq!(written.recv().unwrap(), expected("one")[5..], "an interruption is no error");
    answers.send(Err(io::ErrorKind::StorageFull.into())).unwrap();

    assert_eq!(written.recv().unwrap(), b"\n", "the torn line is ended first");
    assert_eq!(dropped(&metrics), 1);
    answers.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();

    log(&worker, "three");
    assert_eq!(written.recv().unwrap(), b"\n", "and tried again");
    assert_eq!(dropped(&metrics), 2);
    answers.send(Ok(1)).unwrap();
    assert_eq!(written.recv().unwrap(), expected("three"));
    answers.send(Ok(usize::MAX)).unwrap();
    access_log.close();
    assert_eq!(dropped(&metrics), 2);
}

#[test]
fn a_log_that_is_off_asks_for_nothing() {
    let access_log = AccessLog::off();
    assert!(!access_log.enabled() && !access_log.worker().enabled());
    log(&access_log.worker(), "nowhere");
    access_log.close();
}
