//! TLS in front of a broker that has none: it ends the TLS of each client and passes the bytes on.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig, SupportedProtocolVersion,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier},
        version::{TLS12, TLS13},
    },
    server::TlsStream,
};

use super::certificates::{Authority, Identity};

static BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// What a front asks of its clients.
pub struct Terms<'a> {
    /// What it shows.
    pub server: &'a Identity,
    /// Whose clients are let in; all, also those without a certificate, where none is given.
    pub clients: Option<&'a Authority>,
    pub versions: &'static [&'static SupportedProtocolVersion],
}

impl<'a> Terms<'a> {
    pub fn new(server: &'a Identity) -> Self {
        Self { server, clients: None, versions: BOTH }
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ClientCertVerifier> = match self.clients {
            None => Arc::new(NoClientAuth),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap()
            }
        };
        let chain = CertificateDer::pem_slice_iter(self.server.cert.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(self.versions).unwrap();
        builder.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap()
    }
}

/// How one client came and went.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Its certificate, as DER.
    pub certificate: Option<Vec<u8>>,
    /// Whether it said that it closes, or just closed; none while it is there.
    pub goodbye: Option<bool>,
}

/// A running front.
pub struct TlsFront {
    pub address: SocketAddr,
    visits: Arc<Mutex<Vec<Visit>>>,
    cut: watch::Sender<u32>,
    _runtime: Runtime,
}

impl TlsFront {
    pub fn start(behind: SocketAddr, terms: &Terms<'_>) -> Self {
        let runtime = stompbox::commands::runtime().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let (visits, acceptor) = (Arc::<Mutex<Vec<Visit>>>::default(), TlsAcceptor::from(Arc::new(terms.config())));
        let (cut, is_cut) = watch::channel(0);
        let seen = visits.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, behind, acceptor.clone(), seen.clone(), is_cut.clone()));
            }
        });
        Self { address, visits, cut, _runtime: runtime }
    }

    /// Who was let in so far.
    pub fn visits(&self) -> Vec<Visit> {
        self.visits.lock().unwrap().clone()
    }

    /// Closes all connections.
    pub fn cut(&self) {
        self.cut.send_modify(|count| *count += 1);
    }
}

async fn serve(
    stream: TcpStream,
    behind: SocketAddr,
    acceptor: TlsAcceptor,
    visits: Arc<Mutex<Vec<Visit>>>,
    mut cut: watch::Receiver<u32>,
) -> io::Result<()> {
    cut.mark_unchanged();
    let stream = acceptor.accept(stream).await?;
    let certificate = stream.get_ref().1.peer_certificates().map(|chain| chain[0].to_vec());
    let number = {
        let mut visits = visits.lock().unwrap();
        visits.push(Visit { certificate, goodbye: None });
        visits.len() - 1
    };
    tokio::select! {
        clean = pass(stream, behind) => visits.lock().unwrap()[number].goodbye = Some(clean),
        _ = cut.changed() => {}
    }
    Ok(())
}

/// Passes bytes both ways; true when the client ended TLS in good order.
async fn pass(stream: TlsStream<TcpStream>, behind: SocketAddr) -> bool {
    let mut broker = TcpStream::connect(behind).await.unwrap();
    let (mut from_client, mut to_client) = split(stream);
    let (mut from_broker, mut to_broker) = broker.split();
    let up = async {
        let clean = copy(&mut from_client, &mut to_broker).await.is_ok();
        let _ = to_broker.shutdown().await;
        clean
    };
    let down = async {
        let _ = copy(&mut from_broker, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down).0
}
