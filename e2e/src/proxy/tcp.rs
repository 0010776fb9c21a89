//! A TCP proxy that can be frozen: whoever is behind it neither answers nor ends.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// The proxy. Dropped: it takes no more connections.
#[derive(Debug)]
pub struct FreezableProxy {
    address: SocketAddr,
    frozen: watch::Sender<bool>,
    accepting: AbortHandle,
}

impl FreezableProxy {
    /// Starts one in front of an address, in the current runtime.
    pub async fn start(target: &str) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("cannot bind a port on loopback")?;
        Self::on(listener, target)
    }

    /// The same with a listener that somebody has made, for instance in another network.
    pub(crate) fn behind(listener: std::net::TcpListener, target: &str) -> Result<Self> {
        listener.set_nonblocking(true)?;
        Self::on(TcpListener::from_std(listener)?, target)
    }

    fn on(listener: TcpListener, target: &str) -> Result<Self> {
        let address = listener.local_addr()?;
        let frozen = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, target.to_owned(), frozen.subscribe())).abort_handle();
        Ok(Self { address, frozen, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// No byte passes from now on, in either direction. Connections stay open and can be made.
    pub fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    /// What was held passes, and so does what follows.
    pub fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

impl Drop for FreezableProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: String, frozen: watch::Receiver<bool>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(super::REST).await;
            continue;
        };
        let (target, mut thawed) = (target.clone(), frozen.clone());
        tokio::spawn(async move {
            thawed.wait_for(|frozen| !frozen).await.ok()?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = TcpStream::connect(target).await.ok()?.into_split();
            // Either end closes both.
            tokio::select! {
                _ = pass(from_client, to_server, thawed.clone()) => {}
                _ = pass(from_server, to_client, thawed) => {}
            }
            Some(())
        });
    }
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut thawed: watch::Receiver<bool>,
) -> Result<()> {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut bytes).await?;
        thawed.wait_for(|frozen| !frozen).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(bytes.get(..count).unwrap_or_default()).await?;
    }
}
