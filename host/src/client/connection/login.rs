//! What a connection shows of itself: the passcode and the certificates, as they are on disk now.
//!
//! Read by [`super::Connection`] at each connect. The passcode leaves it in CONNECT and nowhere else.

use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio_rustls::rustls::ClientConfig;

use crate::{
    client::{ClientError, ConnectOptions, FileError, files, tls},
    stomp::Frame,
};

/// What is read from files at each connect.
pub(super) struct Login {
    pub(super) passcode: Option<String>,
    pub(super) tls: Option<Arc<ClientConfig>>,
}

impl Login {
    /// Reads the files, away from the threads that serve sockets.
    pub(super) async fn read(options: &ConnectOptions) -> Result<Self, ClientError> {
        if options.tls.is_none() && options.passcode_file.is_none() {
            return Ok(Self { passcode: options.passcode.clone(), tls: None });
        }
        let options = options.clone();
        let read = spawn_blocking(move || -> Result<Self, FileError> {
            let passcode = options.passcode_file.as_deref().map(files::read_passcode).transpose()?;
            let tls = options.tls.as_ref().map(tls::Tls::config).transpose()?;
            Ok(Self { passcode: passcode.or(options.passcode), tls })
        });
        Ok(read.await.map_err(std::io::Error::other)??)
    }

    /// An ERROR without the passcode: some broker, or what stands before it, may repeat what it refuses.
    pub(super) fn hidden(&self, error: &Frame) -> Frame {
        let passcode = self.passcode.as_deref().filter(|passcode| !passcode.is_empty());
        let hide = |text: &str| passcode.map_or_else(|| text.to_owned(), |passcode| text.replace(passcode, "***"));
        let message = error.headers.get("message").map(hide);
        let body = hide(&String::from_utf8_lossy(&error.body));
        Frame::new(error.command, message.iter().map(|text| ("message", text.as_str())), body.into())
    }
}
