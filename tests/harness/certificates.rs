//! Certificates for one test: authorities, and what they issue.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};

/// Signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// A certificate for these names and addresses, valid for a long time.
pub fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("test {}", fastrand::u64(..)));
    params
}

fn authority() -> CertificateParams {
    let mut params = params(&[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    pub fn make() -> Self {
        Self(CertifiedIssuer::self_signed(authority(), key()).unwrap())
    }

    /// An authority below this one.
    pub fn below(&self) -> Self {
        Self(CertifiedIssuer::signed_by(authority(), key(), &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and addresses.
    pub fn issue(&self, names: &[&str]) -> Identity {
        self.sign(&params(names))
    }

    pub fn sign(&self, params: &CertificateParams) -> Identity {
        let key = key();
        Identity { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }
}

/// A certificate that vouches for itself.
pub fn self_signed(params: &CertificateParams) -> Identity {
    let key = key();
    Identity { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

/// Writes a file of a test.
pub fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let file = dir.join(name);
    std::fs::write(&file, text).unwrap();
    file
}
