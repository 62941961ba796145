//! Real programs: run to their end, or kept in the background on free ports.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Call, PATIENCE, eventually};

/// What a program that ended has left.
#[derive(Debug)]
pub struct Output {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

/// Runs a program to its end, or kills it where that does not come. It must be installed: `scripts/setup` sees to that.
pub async fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Output {
    run_with_input(program, args, Vec::new()).await
}

/// Runs a program to its end with this input.
pub async fn run_with_input<S: AsRef<OsStr>>(
    program: &str,
    args: impl IntoIterator<Item = S>,
    input: Vec<u8>,
) -> Output {
    let mut child = command(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} must be installed (scripts/setup): {error}"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let pid = child.id();
    let work = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let Ok(output) = tokio::time::timeout(PATIENCE, work).await else {
        kill(pid, "KILL");
        panic!("{program} did not end within {PATIENCE:?}");
    };
    let output = output.unwrap();
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    // Debian puts servers where an ordinary user's PATH does not lead.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).env_remove("http_proxy").env_remove("https_proxy");
    command
}

/// curl, silent, without the user's own settings, with a time limit.
pub async fn curl<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    let own = ["-q", "--silent", "--show-error", "--max-time", "25", "--noproxy", "*"].map(OsStr::new);
    let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
    run("curl", own.into_iter().map(OsStr::to_owned).chain(args)).await
}

/// The built binary, run to its end.
pub async fn scopegate<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    run(env!("CARGO_BIN_EXE_scopegate"), args).await
}

/// nghttp, the HTTP/2 client of nghttp2.
pub async fn nghttp<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    run("nghttp", args).await
}

/// h2load, the load generator of nghttp2.
pub async fn h2load<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Output {
    run("h2load", args).await
}

/// `promtool check metrics` on this text.
pub async fn promtool_check_metrics(metrics: &str) -> Output {
    run_with_input("promtool", ["check", "metrics"], metrics.into()).await
}

/// Sends a signal, such as `TERM`, to a process.
pub fn kill(pid: u32, signal: &str) {
    let status = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
    assert!(status.unwrap().success(), "kill -{signal} {pid}");
}

/// An address whose port is free, for programs that cannot choose one themselves. Between this and their own start nobody
/// else gets it: it is below the ports that systems give to whoever does not care, and each process of tests begins elsewhere.
pub fn free_address() -> SocketAddr {
    const LOWEST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let next = || std::process::id().wrapping_mul(16).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
    let mut addresses = (0..COUNT).map(|_| {
        let port = u16::try_from(LOWEST + next() % COUNT).unwrap();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    });
    addresses.find(|address| TcpListener::bind(address).is_ok()).expect("a free port")
}

/// A program in the background; killed when dropped.
pub struct Background {
    child: Child,
    address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Background {
    /// Starts a program that is to listen at this address, and waits until it does.
    pub async fn start<S: AsRef<OsStr>>(
        program: &str,
        args: impl IntoIterator<Item = S>,
        address: SocketAddr,
        dir: tempfile::TempDir,
    ) -> Self {
        let log = std::fs::File::create(dir.path().join("output.log")).unwrap();
        let mut child = command(program)
            .args(args)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{program} must be installed (scripts/setup): {error}"));
        eventually(&format!("{program} listens"), || {
            if let Some(status) = child.try_wait().unwrap() {
                let output = std::fs::read_to_string(dir.path().join("output.log"));
                panic!("{program} ended with {status}: {}", output.unwrap_or_default());
            }
            async { tokio::net::TcpStream::connect(address).await.ok() }
        })
        .await;
        Self { child, address, dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// nginx with this inside its `server` block; its document root is `Background::dir()/html`.
pub async fn nginx(server: &str) -> Background {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    std::fs::create_dir(dir.path().join("html")).unwrap();
    // One process of one user, everything in its own folder.
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;
        events {{ }}
        http {{
          access_log access.log;
          client_body_temp_path tmp-body; proxy_temp_path tmp-proxy; fastcgi_temp_path tmp-fastcgi;
          uwsgi_temp_path tmp-uwsgi; scgi_temp_path tmp-scgi;
          server {{ listen {address}; root html; {server} }}
        }}"
    );
    std::fs::write(dir.path().join("nginx.conf"), config).unwrap();
    let prefix = dir.path().to_owned();
    let args = [OsStr::new("-p"), prefix.as_os_str(), OsStr::new("-c"), OsStr::new("nginx.conf")];
    Background::start("nginx", args, address, dir).await
}

/// tinyproxy, a forward proxy that opens tunnels to this port alone and asks for `user` and `password`. Its log is
/// `Background::dir()/output.log`.
pub async fn tinyproxy(port: u16) -> Background {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = format!(
        "Port {}\nListen 127.0.0.1\nTimeout 20\nLogLevel Connect\nMaxClients 20\nConnectPort {port}\n\
        BasicAuth user password\n",
        address.port()
    );
    std::fs::write(dir.path().join("tinyproxy.conf"), config).unwrap();
    Background::start("tinyproxy", ["-d", "-c", "tinyproxy.conf"], address, dir).await
}

/// Python's own file server, which speaks HTTP/1.0; its document root is `Background::dir()`.
pub async fn python_http_server() -> Background {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let port = address.port().to_string();
    let args = ["-m", "http.server", "--bind", "127.0.0.1", port.as_str()];
    Background::start("python3", args, address, dir).await
}

/// Prometheus, scraping this address once a second. It is ready when this returns; samples come with the first scrape.
pub async fn prometheus(target: SocketAddr) -> Background {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address();
    let config = format!(
        "global: {{ scrape_interval: 1s }}
scrape_configs:
  - job_name: scopegate
    static_configs: [{{ targets: ['{target}'] }}]
"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    let args = [
        "--config.file=prometheus.yml".to_owned(),
        "--storage.tsdb.path=data".to_owned(),
        format!("--web.listen-address={address}"),
    ];
    let prometheus = Background::start("prometheus", args, address, dir).await;
    eventually("prometheus is ready", || async {
        (Call::new(address, "GET", "/-/ready").send().await.status == 200).then_some(())
    })
    .await;
    prometheus
}

/// Waits until a query to this Prometheus gives a sample, and gives its value.
pub async fn query(prometheus: &Background, query: &str) -> String {
    let query: String =
        percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC).collect();
    let call = Call::new(prometheus.address(), "GET", &format!("/api/v1/query?query={query}"));
    eventually("a sample", || async {
        let answer = call.send().await.json();
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    })
    .await
}
