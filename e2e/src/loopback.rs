//! What listens on loopback, or in a network of ours.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BOUND: Duration = Duration::from_secs(5);

/// Status code and body. HTTP/1.0: the body ends with the connection, never in chunks.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    bounded(address, path, exchange(address, path)).await
}

/// The same through a connection that is there, for instance in another network.
pub(crate) async fn get_through(stream: TcpStream, path: &str) -> Result<(u16, String)> {
    let address = stream.peer_addr()?;
    bounded(address, path, ask(stream, address, path)).await
}

async fn bounded(
    address: SocketAddr,
    path: &str,
    answer: impl Future<Output = Result<String>>,
) -> Result<(u16, String)> {
    let answer = tokio::time::timeout(BOUND, answer).await;
    let answer = answer.with_context(|| format!("http://{address}{path}: no answer within {BOUND:?}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without a status")?;
    Ok((status, body.to_owned()))
}

async fn exchange(address: SocketAddr, path: &str) -> Result<String> {
    ask(TcpStream::connect(address).await?, address, path).await
}

async fn ask(mut stream: TcpStream, address: SocketAddr, path: &str) -> Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Different ports that were free a moment ago.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    // All are held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind a port on loopback")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
