//! The built binary as a process: started on free ports, watched, signalled, reconfigured and ended.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use super::client::Call;
use super::http1::Response;
use super::{eventually, process};

/// The token that the admin API asks for in tests.
pub const ADMIN_TOKEN: &str = "test-admin-token-0123456789abcdef";

/// A running gateway; killed when dropped.
pub struct Gateway {
    child: Child,
    dir: tempfile::TempDir,
    ready: Value,
    stdout: Lines,
    stderr: Lines,
    /// Fill the two above, until the process has ended.
    readers: Vec<JoinHandle<()>>,
}

/// Lines that a process has printed so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(source: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let sink = lines.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                sink.0.lock().unwrap().push(line);
            }
        });
        (lines, reader)
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Gateway {
    /// Starts with this routes.yaml, and waits until it listens.
    pub async fn start(config: &str) -> Self {
        Self::start_with(config, &[]).await
    }

    /// Starts with this routes.yaml and these files beside it.
    pub async fn start_with(config: &str, files: &[(&str, &str)]) -> Self {
        Self::start_with_environment(config, files, &[]).await
    }

    /// Starts with the `routes.yaml` of this folder.
    pub async fn start_in(dir: tempfile::TempDir) -> Self {
        std::fs::write(dir.path().join("admin.token"), ADMIN_TOKEN).unwrap();
        Self::start_command("run", dir).await
    }

    /// Starts with this routes.yaml and these environment variables.
    pub async fn start_in_environment(config: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_with_environment(config, &[], variables).await
    }

    /// Starts with this routes.yaml, these files beside it, and these environment variables.
    pub async fn start_with_environment(
        config: &str,
        files: &[(&str, &str)],
        variables: &[(&str, &str)],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).unwrap();
        }
        std::fs::write(dir.path().join("routes.yaml"), config).unwrap();
        std::fs::write(dir.path().join("admin.token"), ADMIN_TOKEN).unwrap();
        Self::start_process("run", dir, variables).await
    }

    /// Starts this subcommand with the `routes.yaml` of this folder.
    pub async fn start_command(subcommand: &str, dir: tempfile::TempDir) -> Self {
        Self::start_process(subcommand, dir, &[]).await
    }

    async fn start_process(subcommand: &str, dir: tempfile::TempDir, variables: &[(&str, &str)]) -> Self {
        let ready_file = dir.path().join("ready.json");
        // A soak runs the binary that is to be shipped.
        let built = env!("CARGO_BIN_EXE_scopegate").into();
        let mut child = Command::new(std::env::var_os("SCOPEGATE_BIN").unwrap_or(built))
            .arg(subcommand)
            .arg("--config")
            .arg(dir.path().join("routes.yaml"))
            .arg("--ready-file")
            .arg(&ready_file)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdout, out) = Lines::collect(child.stdout.take().unwrap());
        let (stderr, err) = Lines::collect(child.stderr.take().unwrap());
        let mut gateway = Self { child, dir, ready: Value::Null, stdout, stderr, readers: vec![out, err] };
        gateway.ready = gateway.wait_ready(&ready_file).await;
        gateway
    }

    async fn wait_ready(&mut self, file: &Path) -> Value {
        let stderr = self.stderr.clone();
        let child = &mut self.child;
        eventually("the gateway is ready", move || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the gateway ended with {status}: {:#?}", stderr.all());
            }
            let content = std::fs::read(file).unwrap_or_default();
            async move { serde_json::from_slice(&content).ok() }
        })
        .await
    }

    /// The address of the first plain listener, or else of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.ready["listeners"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|listener| listener["http"].as_str())
            .map_or_else(|| self.https(), |address| address.parse().unwrap())
    }

    /// The address of the first TLS listener.
    pub fn https(&self) -> SocketAddr {
        self.ready["listeners"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|listener| listener["https"].as_str())
            .unwrap_or_else(|| panic!("no such listener: {}", self.ready))
            .parse()
            .unwrap()
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.ready["admin"].as_str().unwrap().parse().unwrap()
    }

    /// The folder of routes.yaml.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where routes.yaml is.
    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("routes.yaml")
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Memory that the process holds, in bytes: what is its own, not the pages of its program, which come as they are first run.
    pub fn memory(&self) -> u64 {
        self.of_status("RssAnon:")
    }

    /// The most memory that the process ever held, its program included, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.of_status("VmHWM:")
    }

    fn of_status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// A request to the public listener.
    pub fn call(&self, method: &str, target: &str) -> Call {
        Call::new(self.address(), method, target)
    }

    /// A GET to the public listener.
    pub fn get(&self, target: &str) -> Call {
        self.call("GET", target)
    }

    // The configuration.

    /// Replaces routes.yaml by renaming a new file over it, as careful tools do.
    pub fn replace_config(&self, text: &str) {
        let new = self.dir.path().join(".routes.yaml.new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, self.config_path()).unwrap();
    }

    /// Writes into the same routes.yaml, as editors and shells do.
    pub fn write_config_in_place(&self, text: &str) {
        std::fs::write(self.config_path(), text).unwrap();
    }

    /// SHA-256 of routes.yaml as it is on disk.
    pub fn config_hash(&self) -> String {
        hash(&std::fs::read(self.config_path()).unwrap())
    }

    /// Waits until the gateway serves the routes.yaml that is on disk.
    pub async fn wait_loaded(&self) {
        let wanted = self.config_hash();
        eventually("the new routes.yaml is loaded", || async {
            (self.status().await["policy"]["text_hash"] == *wanted).then_some(())
        })
        .await;
    }

    /// Waits until the last reload is reported as failed, and gives the report.
    pub async fn wait_reload_error(&self) -> String {
        eventually("a failed reload is reported", || async {
            let status = self.status().await;
            let error = &status["reload"]["error"];
            (!error.is_null()).then(|| error.to_string())
        })
        .await
    }

    // The admin API.

    /// A request to the admin listener, without its token.
    pub fn admin(&self, method: &str, path: &str) -> Call {
        let address = self.admin_address();
        Call::new(address, method, path).host(&address.to_string())
    }

    /// `GET /api/v1/status`.
    pub async fn status(&self) -> Value {
        self.admin("GET", "/api/v1/status").send().await.json()
    }

    /// `POST /api/v1/reload` with the token.
    pub async fn reload(&self) -> Response {
        self.admin("POST", "/api/v1/reload").token(ADMIN_TOKEN).body("").send().await
    }

    /// `GET /metrics`.
    pub async fn metrics(&self) -> String {
        self.admin("GET", "/metrics").send().await.text()
    }

    /// The sum of all series of a metric whose labels hold all of these texts, such as `reason="scope_missing"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics().await;
        let values = metrics.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (of, with) = series.split_once('{').unwrap_or((series, ""));
            (of == name && labels.iter().all(|label| with.contains(label)))
                .then(|| value.parse::<f64>())?
                .ok()
        });
        values.sum()
    }

    // The process.

    /// The entries of the access log so far.
    pub fn log(&self) -> Vec<Value> {
        let lines = self.stdout.all();
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The lines of the access log since the last call, for runs that are too long to keep them all.
    pub fn take_log(&self) -> Vec<String> {
        self.stdout.take()
    }

    /// Everything that was printed so far, on both outputs.
    pub fn output(&self) -> String {
        [self.stdout.all(), self.stderr.all()].concat().join("\n")
    }

    /// Waits for an entry of the access log.
    pub async fn wait_for_log(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually("a log entry", || async { self.log().into_iter().find(&wanted) }).await
    }

    /// Sends a signal, such as `TERM` or `HUP`.
    pub fn signal(&self, name: &str) {
        process::kill(self.child.id(), name);
    }

    /// Waits for the end of the process, and for all that it printed; gives its exit code, `None` if a signal ended it.
    pub async fn wait_exit(&mut self) -> Option<i32> {
        let child = &mut self.child;
        let status = eventually("the gateway ends", move || {
            let status = child.try_wait().unwrap();
            async move { status }
        })
        .await;
        self.read_to_the_end();
        status.code()
    }

    /// Waits until all that the process printed is here. It must have ended.
    fn read_to_the_end(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// Whether the process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.read_to_the_end();
        if std::thread::panicking() {
            // What the gateway said is the first thing that whoever reads a failed test wants to know.
            println!("--- the gateway printed:\n{}\n---", self.output());
        }
        assert!(
            std::thread::panicking() || !self.output().contains("panicked at"),
            "the gateway panicked:\n{}",
            self.output()
        );
    }
}

/// SHA-256 in lower-case hex.
fn hash(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
