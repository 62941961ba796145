//! The parser of others that judges what reached the upstream: h11, in a process that runs `oracle/strict.py`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::Recorded;

/// The running process; it ends with its input.
pub(super) struct Strict {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Strict {
    /// Starts it. `scripts/setup` installs h11.
    pub(super) fn start() -> Self {
        let oracle = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/oracle");
        let python = oracle.join(".venv/bin/python3");
        assert!(python.exists(), "{} is missing: run scripts/setup", python.display());
        let mut child = Command::new(python)
            .arg(oracle.join("strict.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    /// Gives it the new bytes of each connection, and compares what it read with what the upstream itself read. Says what
    /// is wrong.
    pub(super) async fn judge(&mut self, bytes: Vec<Vec<u8>>, recorded: &[&Recorded]) -> Vec<String> {
        let mut faults = Vec::new();
        for (number, data) in bytes.into_iter().enumerate().filter(|(_, data)| !data.is_empty()) {
            let answer = self.ask(&json!({ "connection": number, "data": STANDARD.encode(data) }));
            if let Some(fault) = answer["fault"].as_str() {
                faults.push(fault.to_owned());
            }
            let read: Vec<(Value, Value, Value)> = answer["requests"]
                .as_array()
                .unwrap()
                .iter()
                .map(|request| {
                    (request["method"].clone(), request["target"].clone(), request["body"].clone())
                })
                .collect();
            let own: Vec<(Value, Value, Value)> = recorded
                .iter()
                .filter(|request| request.connection == number)
                .map(|r| (json!(r.method), json!(r.target), json!(STANDARD.encode(&r.body))))
                .collect();
            if read != own {
                faults.push(format!("two parsers differ: {read:?} and {own:?}"));
            }
        }
        faults
    }

    fn ask(&mut self, message: &Value) -> Value {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{message}").unwrap();
        input.flush().unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
