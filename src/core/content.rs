//! Whether content fits the type of a Secret, before it is written: the API server checks little of it, and
//! a certificate that does not match its key would only be noticed at the ingress.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use rustls::{
    Error, InconsistentKeys,
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use x509_cert::{Certificate, der::Decode};

use super::{
    bytes::SecretBytes,
    name::{SecretKey, SecretType},
};

/// Content that does not fit the type; says what is expected, never what is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The type needs a key that the request does not map.
    #[error("type {kind} needs the key {key}: add a mapping with `to: {key}`")]
    KeyAbsent {
        /// The type.
        kind: &'static str,
        /// The key.
        key: &'static str,
    },
    /// The type needs one of two keys.
    #[error("type kubernetes.io/basic-auth needs the key username or password: add a mapping for one of them")]
    NoCredential,
    /// The content of a key is not what the type is about.
    #[error("{key} must be {expected}: check the source it comes from")]
    NotThat {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// The private key is not that of the certificate.
    #[error("tls.key is not the private key of the certificate in tls.crt: check that both sources belong together")]
    KeyMismatch,
}

type Data = BTreeMap<SecretKey, SecretBytes>;

/// Checks the content against the type. Types without rules of their own fit always. Answers when the content ends to
/// be valid, as far as that can be read from it: for the type of certificates.
pub fn check(secret_type: &SecretType, data: &Data) -> Result<Option<Timestamp>, Misfit> {
    match secret_type.as_str() {
        "kubernetes.io/tls" => return tls(data),
        "kubernetes.io/dockerconfigjson" => json(data, "kubernetes.io/dockerconfigjson", ".dockerconfigjson")?,
        "kubernetes.io/dockercfg" => json(data, "kubernetes.io/dockercfg", ".dockercfg")?,
        "kubernetes.io/ssh-auth" => need(data, "kubernetes.io/ssh-auth", "ssh-privatekey").map(drop)?,
        "kubernetes.io/basic-auth" if data.contains_key("username") || data.contains_key("password") => {}
        "kubernetes.io/basic-auth" => return Err(Misfit::NoCredential),
        _ => {}
    }
    Ok(None)
}

/// Whether a Secret of that type can be made of these keys, whatever their content.
pub fn check_keys(secret_type: &SecretType, keys: &BTreeSet<SecretKey>) -> Result<(), Misfit> {
    let (kind, needed): (_, &[&'static str]) = match secret_type.as_str() {
        "kubernetes.io/tls" => ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
        "kubernetes.io/dockerconfigjson" => ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
        "kubernetes.io/dockercfg" => ("kubernetes.io/dockercfg", &[".dockercfg"]),
        "kubernetes.io/ssh-auth" => ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
        "kubernetes.io/basic-auth" if !keys.contains("username") && !keys.contains("password") => {
            return Err(Misfit::NoCredential);
        }
        _ => return Ok(()),
    };
    match needed.iter().find(|key| !keys.contains(**key)) {
        Some(key) => Err(Misfit::KeyAbsent { kind, key }),
        None => Ok(()),
    }
}

fn need<'d>(data: &'d Data, kind: &'static str, key: &'static str) -> Result<&'d [u8], Misfit> {
    data.get(key).map(SecretBytes::expose).ok_or(Misfit::KeyAbsent { kind, key })
}

fn json(data: &Data, kind: &'static str, key: &'static str) -> Result<(), Misfit> {
    let content = need(data, kind, key)?;
    match serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(content) {
        Ok(_) => Ok(()),
        // The parser's own message may quote the content.
        Err(_) => Err(Misfit::NotThat { key, expected: "a JSON object" }),
    }
}

fn tls(data: &Data) -> Result<Option<Timestamp>, Misfit> {
    let certificate = need(data, "kubernetes.io/tls", "tls.crt")?;
    let key = need(data, "kubernetes.io/tls", "tls.key")?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).map_while(Result::ok).collect();
    let Some(leaf) = chain.first() else {
        return Err(Misfit::NotThat { key: "tls.crt", expected: "a certificate in PEM" });
    };
    let not_after = not_after(leaf);
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| Misfit::NotThat { key: "tls.key", expected: "an unencrypted private key in PEM" })?;
    // A key of a kind that cannot be compared here, or a certificate of an old version, is not refused for it.
    let Ok(key) = any_supported_type(&key) else { return Ok(not_after) };
    match CertifiedKey::new(chain, key).keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(Misfit::KeyMismatch),
        _ => Ok(not_after),
    }
}

/// The end of a certificate's validity. One that cannot be read is not refused for it.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Timestamp::from_second(i64::try_from(end.as_secs()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_all(kind: &str, entries: &[(&str, &str)]) -> Result<(), Misfit> {
        expiry(kind, entries).map(drop)
    }

    fn expiry(kind: &str, entries: &[(&str, &str)]) -> Result<Option<Timestamp>, Misfit> {
        let bytes = |text: &str| SecretBytes::new(text.as_bytes().to_vec());
        let data = entries.iter().map(|(key, text)| (SecretKey::parse(key).unwrap(), bytes(text))).collect();
        check(&SecretType::parse(kind).unwrap(), &data)
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".into()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_needs_its_own_key() {
        let ((certificate, key), (_, other)) = (pair(), pair());
        let tls = |entries: &[(&str, &str)]| check_all("kubernetes.io/tls", entries);
        assert_eq!(tls(&[("tls.crt", &certificate), ("tls.key", &key)]), Ok(()));
        assert_eq!(tls(&[("tls.crt", &certificate), ("tls.key", &other)]), Err(Misfit::KeyMismatch));
        assert!(matches!(tls(&[("tls.crt", &certificate)]), Err(Misfit::KeyAbsent { key: "tls.key", .. })));
        assert!(matches!(tls(&[("tls.key", &key)]), Err(Misfit::KeyAbsent { key: "tls.crt", .. })));
        let garbage = [("tls.crt", "hello"), ("tls.key", key.as_str())];
        assert!(matches!(tls(&garbage), Err(Misfit::NotThat { key: "tls.crt", .. })));
        let garbage = [("tls.crt", certificate.as_str()), ("tls.key", "hello")];
        assert!(matches!(tls(&garbage), Err(Misfit::NotThat { key: "tls.key", .. })));
    }

    #[test]
    fn a_chain_and_a_key_beside_its_certificate_are_fine() {
        let ((certificate, key), (issuer, _)) = (pair(), pair());
        let bundle = format!("{key}{certificate}{issuer}");
        assert_eq!(check_all("kubernetes.io/tls", &[("tls.crt", &bundle), ("tls.key", &bundle)]), Ok(()));
    }

    #[test]
    fn the_end_of_validity_is_that_of_the_first_certificate() {
        let expiring = |year| {
            let mut params = rcgen::CertificateParams::new(vec!["a.example".into()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 2, 3);
            let key = rcgen::KeyPair::generate().unwrap();
            (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
        };
        // From 2050 on the time is encoded in another way.
        for (year, expected) in [(2031, "2031-02-03T00:00:00Z"), (2061, "2061-02-03T00:00:00Z")] {
            let ((certificate, key), (issuer, _)) = (expiring(year), expiring(2027));
            let chain = format!("{certificate}{issuer}");
            let found = expiry("kubernetes.io/tls", &[("tls.crt", &chain), ("tls.key", &key)]).unwrap();
            assert_eq!(found, Some(expected.parse().unwrap()));
            assert_eq!(expiry("Opaque", &[("tls.crt", &chain)]), Ok(None));
        }
    }

    #[test]
    fn the_other_types_need_their_keys() {
        for (kind, good, bad) in [
            (
                "kubernetes.io/dockerconfigjson",
                &[(".dockerconfigjson", "{\"auths\":{}}")],
                &[(".dockerconfigjson", "Shh")],
            ),
            ("kubernetes.io/dockercfg", &[(".dockercfg", "{}")], &[("config", "{}")]),
            ("kubernetes.io/ssh-auth", &[("ssh-privatekey", "k")], &[("key", "k")]),
            ("kubernetes.io/basic-auth", &[("password", "p")], &[("token", "p")]),
        ] {
            assert_eq!(check_all(kind, good), Ok(()), "{kind}");
            let error = check_all(kind, bad).unwrap_err().to_string();
            assert!(!error.contains("Shh"), "{error}");
        }
        assert_eq!(check_all("Opaque", &[]), Ok(()));
    }
}
