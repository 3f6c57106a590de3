//! The socket to a broker, plain or inside TLS.
//!
//! Made by [`super::Connection`] at each connect; options of TCP are always those of the socket beneath.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::ClientConfig};

use super::tcp_table;

/// How long one address may take to answer, so that a dead one does not hide those behind it.
const ONE_ADDRESS: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Opens the TCP connection, with our options.
    pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let stream = timeout(ONE_ADDRESS, TcpStream::connect(address)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        set_socket_options(&stream)?;
        Ok(stream)
    }

    /// Puts TLS over it: the peer must prove that it is `host`.
    pub(super) async fn secure(stream: TcpStream, host: &str, config: Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(config).connect(name, stream).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The TLS version and cipher, for logs.
    pub(super) fn security(&self) -> Option<String> {
        let Self::Tls(stream) = self else { return None };
        let (_, session) = stream.get_ref();
        Some(format!("{:?} {:?}", session.protocol_version()?, session.negotiated_cipher_suite()?.suite()))
    }

    /// Asks the kernel to acknowledge at once; it forgets, so this is repeated after each read. Without
    /// it ActiveMQ's small segments wait for delayed ACKs: at a window of 1, 23 messages a second instead
    /// of 2,500.
    pub(super) fn quick_ack(&self) {
        quick_ack(self.tcp());
    }

    /// Sets how long written data may stay without an answer of the peer's kernel.
    pub(super) fn set_user_timeout(&self, limit: Duration) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        SockRef::from(self.tcp()).set_tcp_user_timeout(Some(limit))?;
        Ok(())
    }

    /// How many times in a row the peer's kernel has not answered ours; none where the system does not tell.
    pub(super) fn unanswered(&self) -> Option<u64> {
        tcp_table::unanswered(self.tcp().local_addr().ok()?, self.tcp().peer_addr().ok()?)
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

/// However a connection ends: inside TLS the peer is told by close_notify, as far as the socket takes it.
impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

fn set_socket_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10)).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))?;
    quick_ack(stream);
    Ok(())
}

fn quick_ack(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    if let Err(error) = SockRef::from(stream).set_tcp_quickack(true) {
        tracing::trace!(%error, "TCP_QUICKACK is not to be had");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_set_to_notice_a_dead_peer() {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(30));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(10));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        #[cfg(target_os = "linux")]
        {
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
            // Senders wait longer: a broker that holds them back looks the same.
            let stream = Stream::Plain(stream);
            stream.set_user_timeout(Duration::from_secs(1_800)).unwrap();
            let timeout = SockRef::from(stream.tcp()).tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_secs(1_800)));
        }
    }
}
