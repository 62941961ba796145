//! The ready file: tells whoever started the gateway where it listens, once it takes requests.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

/// The addresses that were bound.
#[derive(Debug)]
pub(super) struct Addresses {
    /// The public listeners, and whether they speak TLS.
    pub(super) listeners: Vec<(SocketAddr, bool)>,
    /// The admin listener.
    pub(super) admin: Option<SocketAddr>,
}

/// Removes what an earlier process has left: whoever waits for the file must not find the addresses of a dead one.
pub(super) fn forget(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes the bound addresses, whole or not at all.
pub(super) fn write(path: &Path, addresses: &Addresses) -> io::Result<()> {
    let listeners: Vec<_> = addresses
        .listeners
        .iter()
        .map(|(address, tls)| serde_json::json!({ (if *tls { "https" } else { "http" }): address }))
        .collect();
    let text = serde_json::json!({ "listeners": listeners, "admin": addresses.admin }).to_string();
    let partial = path.with_extension("partial");
    let mut file = std::fs::File::create(&partial)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&partial, path)
}
