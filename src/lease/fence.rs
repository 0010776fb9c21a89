//! Connections that carry nothing of a term once it is over: the last look before bytes leave the process. Between
//! the one of the gate and this one a request is queued and encoded, and a process that is frozen there sends it when
//! it thaws. What remains is the instant between this look and the system call.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use futures::{FutureExt, future::BoxFuture};
use hyper_util::client::legacy::connect::{Connected, Connection};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{Leadership, Term};
use crate::error::NotLeader;

/// Puts the fence around a connection; none is made by who does not lead.
pub fn around(leadership: &Leadership) -> impl Fn(TcpStream) -> Result<Fenced, NotLeader> + Clone + use<> {
    let leadership = leadership.clone();
    move |stream| {
        let (term, waiting) = (leadership.check()?, leadership.clone());
        let over = async move { waiting.over(term).await }.boxed();
        Ok(Fenced { stream, leadership: leadership.clone(), term, over })
    }
}

/// A connection that ends with the term in which it was made.
pub struct Fenced {
    stream: TcpStream,
    leadership: Leadership,
    term: Term,
    over: BoxFuture<'static, ()>,
}

impl Fenced {
    fn pass(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.leadership.check_term(self.term).map_err(io::Error::other)?;
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncWrite for Fenced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.pass()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.pass()?.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.pass()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Fenced {
    /// Ends with the term, so that a connection that is idle then is not kept for the next one.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // A term that is over stays over: what has waited for that is not asked again.
        self.pass()?;
        if self.over.poll_unpin(cx).is_ready() {
            return Poll::Ready(Err(io::Error::other(NotLeader)));
        }
        Pin::new(&mut self.stream).poll_read(cx, bytes)
    }
}

impl Connection for Fenced {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::Instant,
    };

    use super::*;

    const SPAN: Duration = Duration::from_secs(60);

    fn lead(leadership: &Leadership) {
        leadership.set(Some(Instant::now() + SPAN));
    }

    #[tokio::test]
    async fn nothing_leaves_when_the_term_is_over_nor_in_the_next_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leadership = Leadership::default();
        let connect = async || TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(around(&leadership)(connect().await).is_err(), "it does not lead");
        drop(listener.accept().await.unwrap());

        lead(&leadership);
        let mut fenced = around(&leadership)(connect().await).unwrap();
        fenced.write_all(b"leading").await.unwrap();
        for leads_again in [false, true] {
            leadership.set(None);
            if leads_again {
                lead(&leadership);
            }
            assert!(fenced.write_all(b"not").await.is_err());
            assert!(fenced.write_vectored(&[IoSlice::new(b"not")]).await.is_err());
        }
        drop(fenced);
        let mut arrived = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut arrived).await.unwrap();
        assert_eq!(arrived, b"leading");
    }

    #[tokio::test]
    async fn a_connection_that_waits_ends_with_its_term() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let leadership = Leadership::default();
        lead(&leadership);
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut fenced = around(&leadership)(stream).unwrap();
        let mut byte = [0];
        {
            let mut reading = std::pin::pin!(fenced.read(&mut byte));
            assert!(futures::poll!(&mut reading).is_pending());
            leadership.set(None);
            assert!(reading.await.is_err());
        }
        assert!(fenced.read(&mut byte).await.is_err());
    }
}
