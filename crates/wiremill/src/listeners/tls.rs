//! TLS of a listener: certificate, key and, if wished, the roots of client certificates.

use std::{path::Path, sync::Arc};

use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;

use super::ListenerName;
use crate::settings::TlsFiles;

/// One listener's TLS. It is read again on SIGHUP; connections that are open keep what they have.
pub struct Tls {
    acceptor: RwLock<TlsAcceptor>,
}

impl Tls {
    /// Reads the files. The error names the file and what is wrong with it.
    pub fn load(name: ListenerName, files: &TlsFiles) -> Result<Tls, String> {
        Ok(Tls { acceptor: RwLock::new(read(name, files)?) })
    }

    /// What the next handshakes go by from now on.
    pub fn take_over(&self, new: Tls) {
        *self.acceptor.write() = new.acceptor.into_inner();
    }

    /// For the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.read().clone()
    }
}

fn read(name: ListenerName, files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(&files.key, &e))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| wrong(path, &e))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|e| wrong(path, &e))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|e| wrong(&files.cert, &e))?;
    if matches!(name, ListenerName::Admin) {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
    }
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Every certificate of a PEM file; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|e| wrong(path, &e))?.collect();
    let found = found.map_err(|e| wrong(path, &e))?;
    if found.is_empty() {
        return Err(format!("{} holds no certificate", path.display()));
    }
    Ok(found)
}

fn wrong(path: &Path, e: &dyn std::fmt::Display) -> String {
    format!("{}: {e}", path.display())
}
