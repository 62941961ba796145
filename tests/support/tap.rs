//! A relay that keeps what it passes on: what two parties say to each other, byte by byte.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::soon;

/// What passed on one connection.
#[derive(Clone, Debug, Default)]
pub struct Passed {
    /// From the client to the server.
    pub forth: Vec<u8>,
    /// From the server to the client.
    pub back: Vec<u8>,
}

/// A relay on a free port; every connection ends when it is dropped.
pub struct Tap {
    address: SocketAddr,
    passed: Arc<Mutex<Vec<Passed>>>,
    open: Arc<watch::Sender<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Tap {
    /// Passes what comes on to `target`.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed: Arc<Mutex<Vec<Passed>>> = Arc::default();
        let open = Arc::new(watch::Sender::new(0));
        let (all, count) = (Arc::clone(&passed), Arc::clone(&open));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let number = {
                    let mut all = all.lock().unwrap();
                    all.push(Passed::default());
                    all.len() - 1
                };
                count.send_modify(|open| *open += 1);
                let (all, count) = (Arc::clone(&all), Arc::clone(&count));
                connections.spawn(async move {
                    relay(client, target, all, number).await;
                    count.send_modify(|open| *open -= 1);
                });
            }
        });
        Self { address, passed, open, task }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until no connection is open, and gives what has passed on all since the last call.
    pub async fn take(&self) -> Vec<Passed> {
        let mut open = self.open.subscribe();
        soon("all connections have ended", open.wait_for(|open| *open == 0)).await.unwrap();
        std::mem::take(&mut self.passed.lock().unwrap())
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, target: SocketAddr, all: Arc<Mutex<Vec<Passed>>>, number: usize) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let keep = |part: fn(&mut Passed) -> &mut Vec<u8>| {
        let all = Arc::clone(&all);
        move |bytes: &[u8]| {
            if let Some(passed) = all.lock().unwrap().get_mut(number) {
                part(passed).extend_from_slice(bytes);
            }
        }
    };
    tokio::join!(
        pass(client_read, server_write, keep(|passed| &mut passed.forth)),
        pass(server_read, client_write, keep(|passed| &mut passed.back)),
    );
}

/// Keeps what it reads and passes it on; an end is passed on too. Where nobody takes it any more, it is still read: the other
/// end shall not break off for it.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, keep: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        keep(&buffer[..count]);
        let _ = to.write_all(&buffer[..count]).await;
    }
    let _ = to.shutdown().await;
}
