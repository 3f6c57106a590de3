//! TLS: which brokers are trusted, who we are, and what went wrong in words that tell what to do.
//!
//! Built from files at each connect, so that renewed certificates need no restart; `check` looks at the
//! same files. TLS 1.2 and later; the broker's certificate is always verified, for the host as it
//! stands in `host_port_list`.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, Error, InconsistentKeys, RootCertStore,
    crypto::{CryptoProvider, ring},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::files::{FileError, read};

/// Files for TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Further certificate authorities to trust, besides those of the platform.
    pub ca_file: Option<PathBuf>,
    /// Our certificate, with the chain behind it.
    pub cert_file: Option<PathBuf>,
    /// Our private key; when absent, it is in `cert_file`, as in a Grid proxy.
    pub key_file: Option<PathBuf>,
}

impl Tls {
    /// Everything that is wrong with the files; opens no socket.
    #[must_use]
    pub fn problems(&self) -> Vec<FileError> {
        let provider = ring::default_provider();
        [self.roots().err(), self.identity(&provider).err()].into_iter().flatten().collect()
    }

    /// Reads the files. Blocks for as long as the disk takes.
    pub(super) fn config(&self) -> Result<Arc<ClientConfig>, FileError> {
        let provider = ring::default_provider();
        let roots = self.roots()?;
        let identity = self.identity(&provider)?;
        let versions = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
        #[expect(clippy::expect_used, reason = "ring implements TLS 1.2 and 1.3")]
        let config = versions.expect("ring knows the default versions").with_root_certificates(roots);
        Ok(Arc::new(match identity {
            Some(key) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => config.with_no_client_auth(),
        }))
    }

    /// The platform's authorities and those of `ca_file`.
    fn roots(&self) -> Result<RootCertStore, FileError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(file) = &self.ca_file {
            for certificate in certificates("ca_file", file, &read("ca_file", file)?)? {
                roots.add(certificate).map_err(|error| {
                    FileError::new("ca_file", file, format!("a certificate in it cannot be used: {error}"))
                })?;
            }
        }
        Ok(roots)
    }

    /// Our certificate and key, where a certificate is configured.
    fn identity(&self, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, FileError> {
        let Some(cert_file) = &self.cert_file else { return Ok(None) };
        let bytes = read("cert_file", cert_file)?;
        let chain = certificates("cert_file", cert_file, &bytes)?;
        let (key, file) = self.key_file.as_ref().map_or(("cert_file", cert_file), |file| ("key_file", file));
        let bytes = if self.key_file.is_some() { read(key, file)? } else { bytes };
        let signing = provider
            .key_provider
            .load_private_key(private_key(key, file, &bytes)?)
            .map_err(|error| FileError::new(key, file, format!("its private key cannot be used: {error}")))?;
        let certified = CertifiedKey::new(chain, signing);
        // Only a clear no counts: Grid proxies have an extension that the check does not know.
        if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = certified.keys_match() {
            let message =
                format!("its private key does not belong to the first certificate of {}", cert_file.display());
            return Err(FileError::new(key, file, message));
        }
        Ok(Some(certified))
    }
}

fn certificates(key: &'static str, file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(FileError::new(key, file, without("certificate", "CERTIFICATE", bytes))),
        Ok(found) => Ok(found),
        Err(error) => Err(FileError::new(key, file, format!("it is damaged: {error}"))),
    }
}

fn private_key(key: &'static str, file: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, FileError> {
    let refuse = |message| Err(FileError::new(key, file, message));
    if bytes.windows(9).any(|word| word == b"ENCRYPTED") {
        return refuse(
            "its private key has a pass phrase: write one without, by openssl pkey -in FILE -out NEW".to_owned(),
        );
    }
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(found) => Ok(found),
        Err(pem::Error::NoItemsFound) if key == "cert_file" => {
            refuse("it holds no private key: name the file that does in key_file".to_owned())
        }
        Err(pem::Error::NoItemsFound) => refuse(without("private key", "PRIVATE KEY", bytes)),
        // The error's text may hold a line of the file.
        Err(_) => refuse("its private key is damaged".to_owned()),
    }
}

fn without(what: &str, label: &str, bytes: &[u8]) -> String {
    if bytes.windows(11).any(|word| word == b"-----BEGIN ") {
        return format!("it holds no {what}");
    }
    format!(
        "it is not in PEM format: a {what} begins with -----BEGIN {label}----- there; openssl converts other formats"
    )
}

/// Says what to do about an error of TLS; none when the error is of another kind.
pub(super) fn explain(error: &io::Error, host: &str, tls: &Tls) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(match error {
        Error::InvalidCertificate(why) => explain_certificate(why, host),
        Error::AlertReceived(AlertDescription::ProtocolVersion) | Error::PeerIncompatible(_) => {
            "it does not offer TLS 1.2 or 1.3 in a way that this host accepts: renew its settings".to_owned()
        }
        Error::AlertReceived(alert) => explain_alert(*alert, tls),
        Error::InvalidMessage(_) => {
            "it does not speak TLS on this port: name its TLS port, or set use_ssl to false".to_owned()
        }
        other => format!("TLS fails: {other}"),
    })
}

/// What is said where [`explain`] knows nothing: the handshake just ended.
pub(super) fn unexplained(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            "it closes the connection during the TLS handshake: is this its TLS port?".to_owned()
        }
        _ => format!("the handshake fails: {error}"),
    }
}

fn explain_alert(alert: AlertDescription, tls: &Tls) -> String {
    let cert = tls.cert_file.as_ref().map(|file| file.display());
    match (alert, cert) {
        (AlertDescription::HandshakeFailure, None) => {
            "it refuses the TLS handshake: it may want a client certificate (cert_file, key_file) or offer \
             nothing that this host accepts"
                .to_owned()
        }
        (AlertDescription::CertificateRequired | AlertDescription::BadCertificate, None) => {
            "it wants a client certificate: name one in cert_file and key_file".to_owned()
        }
        (alert, Some(cert)) => {
            format!(
                "it ends TLS with {alert:?}: does it trust the authority of our certificate {cert}, and is that still valid?"
            )
        }
        (alert, None) => format!("it ends TLS with {alert:?}"),
    }
}

fn explain_certificate(why: &CertificateError, host: &str) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "its certificate is not from an authority that is trusted here: name the authority's certificate in ca_file"
                .to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired, or the clock of this machine is wrong: the broker needs a new one".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet, or the clock of this machine is wrong".to_owned()
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            format!(
                "its certificate is not for {host} but for {}: write the name it is for in host_port_list",
                if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") }
            )
        }
        CertificateError::NotValidForName => {
            format!("its certificate is not for {host}: write the name it is for in host_port_list")
        }
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is one of an authority (CA:TRUE), not of a server: give the broker one with CA:FALSE"
                .to_owned()
        }
        other => format!("its certificate is not valid: {other}"),
    }
}
