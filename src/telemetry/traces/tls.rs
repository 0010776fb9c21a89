//! TLS to the collector: rustls with ring, as to the API server.

use std::{path::Path, sync::Arc};

use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A certificate with those that lead to its authority, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The certificates in a file.
pub(super) fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = |path| CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    match read(regular(path)?) {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err("cannot be read: must name a file with certificates in PEM".into()),
    }
}

/// The key in a file.
pub(super) fn key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    let key = PrivateKeyDer::from_pem_file(regular(path)?);
    key.map_err(|_| "cannot be read: must name a file with a private key in PEM".into())
}

/// What is not a regular file is not opened: a FIFO would hang the start.
fn regular(path: &str) -> Result<&Path, String> {
    let path = Path::new(path);
    match path.is_file() {
        true => Ok(path),
        false => Err("cannot be read: must name a regular file, in PEM".into()),
    }
}

/// Trusts the authorities, or those of the system.
pub(super) fn config(
    authorities: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let builder = match authorities {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority).map_err(|error| error.to_string())?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_native_roots().map_err(|error| format!("no authorities of the system: {error}"))?,
    };
    let config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(certificate, key),
        None => Ok(builder.with_no_client_auth()),
    };
    config.map(Arc::new).map_err(|error| error.to_string())
}
