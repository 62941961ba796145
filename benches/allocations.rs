//! How often a request asks for memory, and for how much: `cargo bench --bench allocations`.
//!
//! 1. `decide`: the decision alone.
//! 2. `worker`: whole requests through real sockets. One worker of the gateway runs on the thread that counts; the client,
//!    with one connection that is kept alive, and the upstream run on threads of their own and are not counted.
//!
//! A buffer that grows counts as one more allocation, of its new size. Memory that aws-lc asks for in C is not seen. The
//! counts hardly depend on the machine, so each has a bound: a change that exceeds it must say what the memory is for, and
//! raise the bound.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may stop where a gateway may not")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use http::{HeaderMap, Uri};
use scopegate::decide::Verdict;
use scopegate::observe::access_log::AccessLog;
use scopegate::observe::metrics::Metrics;
use scopegate::pipeline::Gateway;
use scopegate::server::listener;
use scopegate::server::shutdown;
use scopegate::server::worker::{Crew, Worker};
use scopegate::state::admission::Admission;
use scopegate::state::live::Process;
use scopegate::state::token_cache::TokenCache;
use support::{SCOPES, Signer, headers, judge, live};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::oneshot;

/// Requests that are counted together.
const REQUESTS: u64 = 1_000;

/// Requests before that, for what is made once and kept.
const WARM_UP: u64 = 200;

/// The target of every request: one of 100 routes.
const TARGET: &str = "/v1/r50/acme/orders/4711?expand=lines";

/// Routes of the policy.
const ROUTES: usize = 100;

/// Most allocations of one decision with a token that is remembered, or with none: it only borrows.
const MOST_DECIDE: u64 = 0;

/// Most allocations of one decision with a new token: its header and claims are parsed, its facts are kept.
const MOST_DECIDE_NEW: u64 = 48;

/// Most allocations of one permitted request, its answer included.
const MOST_PERMITTED: u64 = 14;

/// Most allocations of one refused request: its answer is put together from text.
const MOST_REFUSED: u64 = 28;

/// What an upstream answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nServer: upstream\r\nDate: Tue, 04 Aug 2026 09:12:44 GMT\r\n\
    Content-Type: application/json\r\nContent-Length: 28\r\n\r\n{\"order\":4711,\"lines\":[1,2]}";

fn main() {
    let signer = Signer::new();
    println!("{:<34} {:>12} {:>12} {:>8}", "", "allocations", "bytes", "at most");
    decisions(&signer);
    worker(&signer, &AccessLog::off(), "");
    let log = AccessLog::start(std::io::sink(), Metrics::new()).unwrap();
    worker(&signer, &log, ", access log");
    log.close();
}

/// Prints what one of so many requests took, and stops if it took more than `most` allocations.
fn report(name: &str, counted: AllocationInfo, most: u64) {
    let each = |total: u64| total as f64 / REQUESTS as f64;
    println!("{name:<34} {:>12.2} {:>12.0} {most:>8}", each(counted.count_total), each(counted.bytes_total));
    assert!(
        counted.count_total <= most * REQUESTS,
        "{name}: more than {most} allocations a request; if they are needed, raise the bound and say what for"
    );
}

/// Decisions, on this thread.
fn decisions(signer: &Signer) {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let live = live(folder.path(), signer, ROUTES, nowhere, &Metrics::new());
    let uri = Uri::from_static(TARGET);
    let count = |name: &str, requests: &[HeaderMap], tokens: &TokenCache, permitted: bool, most: u64| {
        let counted = measure(|| {
            for index in 0..REQUESTS {
                let headers = requests.get(index as usize % requests.len()).unwrap();
                let record = judge(&live, tokens, headers, &uri);
                assert_eq!(matches!(record.verdict, Verdict::Permit(..)), permitted, "{:?}", record.verdict);
            }
        });
        report(name, counted, most);
    };
    let tokens = TokenCache::new(64 << 20);
    let known = [headers(Some(&signer.token("RS256", SCOPES, 0)))];
    judge(&live, &tokens, known.first().unwrap(), &uri);
    count("decide: remembered token", &known, &tokens, true, MOST_DECIDE);
    for algorithm in ["RS256", "ES256"] {
        let new: Vec<_> =
            (0..REQUESTS).map(|id| headers(Some(&signer.token(algorithm, SCOPES, id + 1)))).collect();
        count(&format!("decide: new token, {algorithm}"), &new, &tokens, true, MOST_DECIDE_NEW);
    }
    count("decide: missing token", &[headers(None)], &tokens, false, MOST_DECIDE);
}

/// Whole requests.
fn worker(signer: &Signer, log: &AccessLog, with: &str) {
    let folder = tempfile::tempdir().unwrap();
    let metrics = Metrics::new();
    let live = live(folder.path(), signer, ROUTES, upstream(), &metrics);
    let process = Arc::new(Process::new(live, metrics, Admission::new(8, 1)));
    let bound = listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1).unwrap();
    let (_announcer, listening) = shutdown::channel();
    let (crew, mut inboxes) = Crew::new(1);
    let worker = Worker {
        number: 0,
        crew,
        inbox: inboxes.pop().unwrap(),
        listeners: bound.sockets,
        max_connections: 8,
        shutdown: listening,
    };
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let gateway = Rc::new(Gateway::new(process, log.worker()).unwrap());
    let mut running = pin!(worker.run(gateway));

    let mut client = Client::connect(bound.address);
    let mut count = |name: &str, requests: &[String], status: &str, most: u64| {
        while_asked(&runtime, running.as_mut(), &mut client, (requests, WARM_UP), status);
        let counted = while_asked(&runtime, running.as_mut(), &mut client, (requests, REQUESTS), status);
        report(&format!("{name}{with}"), counted, most);
        // What is kept for each request would fill the memory one day.
        let kept = counted.count_current.unsigned_abs();
        assert!(kept < REQUESTS / 10, "{name}: {kept} allocations more are held than before");
    };
    let known = [request(Some(&signer.token("RS256", SCOPES, 0)))];
    count("worker: 200, remembered token", &known, "200", MOST_PERMITTED);
    let narrow = [request(Some(&signer.token("RS256", "openid", 0)))];
    count("worker: 403, scope missing", &narrow, "403", MOST_REFUSED);
    count("worker: 401, token missing", &[request(None)], "401", MOST_REFUSED);
}

/// Lets the worker run while the client sends these requests in turn, so many in all; counts what the worker allocates.
fn while_asked(
    runtime: &LocalRuntime,
    mut running: Pin<&mut impl Future>,
    client: &mut Client,
    (requests, times): (&[String], u64),
    status: &str,
) -> AllocationInfo {
    let (done, mut asked) = oneshot::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            for request in requests.iter().cycle().take(times as usize) {
                client.ask(request, status);
            }
            // Not sent if the client stopped; the scope then stops with it.
            let _ = done.send(());
        });
        measure(|| {
            runtime.block_on(async {
                tokio::select! {
                    _ = &mut running => unreachable!("nobody told the worker to end"),
                    _ = &mut asked => {}
                }
            });
        })
    })
}

/// The bytes of a request.
fn request(token: Option<&str>) -> String {
    let mut request = format!("GET {TARGET} HTTP/1.1\r\n");
    for (name, value) in &headers(token) {
        request.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    request + "\r\n"
}

/// A client with one connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        // A gateway that does not answer must not be waited for.
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(socket))
    }

    /// Sends a request and reads its answer to the end.
    fn ask(&mut self, request: &str, status: &str) {
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let head = head(&mut self.0).expect("the gateway answers");
        assert_eq!(head.split(' ').nth(1), Some(status), "{head}");
        let fields = head.to_ascii_lowercase();
        let length = fields.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
    }
}

/// Reads a head to its empty line; `None` if the connection was closed before it began.
fn head(from: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).unwrap() == 0 {
            assert!(head.is_empty(), "half a head: {head}");
            return None;
        }
    }
    Some(head)
}

/// An upstream that gives every request the same answer; it ends with the process.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = BufReader::new(socket.unwrap());
            thread::spawn(move || {
                while head(&mut socket).is_some() {
                    socket.get_mut().write_all(ANSWER).unwrap();
                }
            });
        }
    });
    address
}
