//! All hosts of a provider under their real names: an egress proxy that opens each tunnel to one TLS server.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::tls::Authority;
use crate::support::{Recorded, Reply, Upstream};

/// A running provider; ends when it is dropped.
pub(crate) struct World {
    authority: String,
    proxy: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    /// Serves these documents: host and path, content type, body. With a token, only to those that bring it.
    pub(crate) async fn start(documents: Vec<(String, String, String)>, token: Option<&str>) -> Self {
        let credential = token.map(|token| format!("Bearer {token}"));
        let authority = Arc::new(Authority::new("provider"));
        let pem = authority.pem();
        let server =
            Upstream::start(move |request| match request.header("authorization") == credential.as_deref() {
                true => serve(request, &documents),
                false => Reply::with(401, "", "Unauthorized"),
            })
            .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut tunnels = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                tunnels.spawn(tunnel(client, Arc::clone(&authority), server.address()));
            }
        });
        Self { authority: pem, proxy, task }
    }

    /// The authority that vouches for every host, in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Where the proxy listens.
    pub(crate) const fn proxy(&self) -> SocketAddr {
        self.proxy
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one CONNECT, and plays the host it asks for.
async fn tunnel(mut client: TcpStream, authority: Arc<Authority>, server: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let asked = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap();
    let host = asked.rsplit_once(':').unwrap().0;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let mut outer = authority.server(&[host]).acceptor().accept(client).await?;
    let mut inner = TcpStream::connect(server).await?;
    tokio::io::copy_bidirectional(&mut outer, &mut inner).await.map(drop)
}

fn serve(request: &Recorded, documents: &[(String, String, String)]) -> Reply {
    let place = format!("{}{}", request.header("host").unwrap_or_default(), request.target);
    match documents.iter().find(|(known, _, _)| *known == place) {
        Some((_, kind, body)) => Reply::with(200, &format!("Content-Type: {kind}\r\n"), body),
        None => Reply::with(404, "", ""),
    }
}
