//! A client of HTTP/2 that shows how a stream ended.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use tokio::net::TcpStream;

use super::support::soon;

/// A connection that is driven by a task of its own.
pub(super) async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    let (client, connection) =
        h2::client::handshake(TcpStream::connect(address).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

/// Sends the head of a request; `ends` if it has no body.
pub(super) fn send(
    client: &mut SendRequest<Bytes>,
    method: &str,
    path: &str,
    ends: bool,
) -> (ResponseFuture, SendStream<Bytes>) {
    let uri = format!("http://api.example.com{path}");
    let request = http::Request::builder().method(method).uri(uri).body(()).unwrap();
    client.send_request(request, ends).unwrap()
}

/// A GET on a connection of its own: the status and the body to come.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<(u16, RecvStream), h2::Error> {
    let mut client = connect(address).await;
    let (response, _) = send(&mut client, "GET", path, true);
    let response = soon("an answer over HTTP/2", response).await?;
    Ok((response.status().as_u16(), response.into_body()))
}
