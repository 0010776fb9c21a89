//! [`Collector`]: takes traces over OTLP, well or badly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[repr(u8)]
pub enum Mood {
    /// Ends every connection.
    Refuses,
    /// Takes connections and says nothing.
    Hangs,
    /// Answers 500.
    Fails,
    /// Answers what is no HTTP.
    TalksNonsense,
    /// Answers 200.
    Works,
}

/// Takes OTLP over HTTP, in a mood that can be changed.
pub struct Collector {
    address: SocketAddr,
    mood: Arc<AtomicU8>,
    taken: Arc<AtomicUsize>,
}

impl Collector {
    /// Starts on loopback, in the current runtime; it refuses.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (mood, taken) = (Arc::new(AtomicU8::new(Mood::Refuses as u8)), Arc::new(AtomicUsize::new(0)));
        let (current, counter) = (mood.clone(), taken.clone());
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (mood, taken) = (current.load(Ordering::Relaxed), counter.clone());
                tokio::spawn(async move { serve(connection, mood, &taken).await });
            }
        });
        Ok(Self { address, mood, taken })
    }

    /// Changes what it does to connections from now on.
    pub fn set(&self, mood: Mood) {
        self.mood.store(mood as u8, Ordering::Relaxed);
    }

    /// Where it listens, as `OTEL_EXPORTER_OTLP_ENDPOINT` has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many exports it has taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

async fn serve(mut connection: TcpStream, mood: u8, taken: &AtomicUsize) -> Result<()> {
    if mood == Mood::Refuses as u8 {
        return Ok(());
    }
    if mood == Mood::Hangs as u8 {
        std::future::pending::<()>().await;
    }
    let mut request = Vec::new();
    let mut length = None;
    while length.is_none_or(|length| request.len() < length) {
        anyhow::ensure!(connection.read_buf(&mut request).await? > 0, "it ended early");
        let head = request.windows(4).position(|end| end == b"\r\n\r\n").map(|at| at + 4);
        let Some(head) = head else { continue };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let body = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        length = Some(head + body.unwrap_or_default());
    }
    let answer: &[u8] = match mood {
        mood if mood == Mood::Fails as u8 => b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        mood if mood == Mood::TalksNonsense as u8 => b"\x00\xffnonsense\r\n\r\n",
        _ => {
            taken.fetch_add(1, Ordering::Relaxed);
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        }
    };
    Ok(connection.write_all(answer).await?)
}
