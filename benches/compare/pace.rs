//! A client that asks at a fixed rate, for the rows about latency: `pace ADDRESS REQUEST-FILE RATE SECONDS CONNECTIONS`.
//!
//! Each connection has a thread and a schedule of its own, with exponential pauses, so that requests come as from many
//! independent callers. A latency counts from when the request is sent; or, if the answer before it was late, from when
//! it should have been sent, so that a stall is not hidden. The last line is what a program reads. The standard library
//! is all it needs: `rustc -O pace.rs`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Pauses that look random and are the same in each run.
struct Pauses {
    state: u64,
    mean: f64,
}

impl Pauses {
    /// The next pause; exponential, so that the requests of all connections together are a Poisson process.
    fn next(&mut self) -> Duration {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let uniform = ((self.state >> 11) + 1) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-uniform.ln() * self.mean)
    }
}

/// Reads one answer with a Content-Length and says whether it is a 200.
fn read_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Outcome<()> {
    let mut filled = 0;
    let mut whole = None;
    while whole.is_none_or(|length| filled < length) {
        let count = stream.read(buffer.get_mut(filled..).ok_or("the answer is too long")?)?;
        if count == 0 {
            return Err("the connection was closed".into());
        }
        filled += count;
        if whole.is_none() {
            whole = length_of(&buffer[..filled])?;
        }
    }
    if buffer.starts_with(b"HTTP/1.1 200 ") { Ok(()) } else { Err("an answer was not 200".into()) }
}

/// The length of the whole answer, once its head is there.
fn length_of(bytes: &[u8]) -> Outcome<Option<usize>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])?;
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .ok_or("an answer without Content-Length")?;
    Ok(Some(end + 4 + length.1.trim().parse::<usize>()?))
}

/// One connection: asks by its schedule until the end, and gives the latencies in nanoseconds.
fn drive(address: &str, request: &[u8], mut pauses: Pauses, end: Instant) -> Outcome<Vec<u64>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = vec![0; 16 << 10];
    let mut latencies = Vec::new();
    let mut due = Instant::now() + pauses.next();
    while due < end {
        let now = Instant::now();
        let started = if due > now {
            thread::sleep(due - now);
            Instant::now()
        } else {
            due
        };
        stream.write_all(request)?;
        read_answer(&mut stream, &mut buffer)?;
        latencies.push(u64::try_from(started.elapsed().as_nanos())?);
        due += pauses.next();
    }
    Ok(latencies)
}

fn run() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, file, rate, seconds, connections] = arguments.as_slice() else {
        return Err("usage: pace ADDRESS REQUEST-FILE RATE SECONDS CONNECTIONS".into());
    };
    let request = fs::read(file)?;
    let (rate, connections): (f64, u64) = (rate.parse()?, connections.parse()?);
    let end = Instant::now() + Duration::from_secs_f64(seconds.parse()?);
    let mean = connections as f64 / rate;
    let results: Vec<Outcome<Vec<u64>>> = thread::scope(|scope| {
        let request = request.as_slice();
        let threads: Vec<_> = (0..connections)
            .map(|number| {
                let pauses = Pauses { state: 0x9e37_79b9_7f4a_7c15 ^ ((number + 1) << 20), mean };
                scope.spawn(move || drive(address, request, pauses, end))
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".into())))
            .collect()
    });
    let mut latencies = Vec::new();
    for result in results {
        latencies.extend(result?);
    }
    latencies.sort_unstable();
    let part = |share: f64| {
        let place = (latencies.len() as f64 * share) as usize;
        latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    println!("RESULT requests={} p50={} p99={} p999={}", latencies.len(), part(0.5), part(0.99), part(0.999));
    Ok(())
}

fn main() {
    if let Err(error) = run() {
        eprintln!("pace: {error}");
        process::exit(1);
    }
}
