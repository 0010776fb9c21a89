//! Names that have been checked once and are cheap to clone.

use std::{borrow::Borrow, fmt, sync::Arc};

macro_rules! name {
    ($( $(#[doc = $doc:literal])+ $type:ident; )+) => { $(
        $(#[doc = $doc])+
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+ };
}

name! {
    /// Name of a namespace. Taken from the API server, or checked as a DNS label.
    NamespaceName;
    /// Name of a `DistributionPolicy`.
    PolicyName;
    /// Name of a Secret: a DNS subdomain.
    SecretName;
    /// Key of a Secret's data.
    SecretKey;
    /// Type of a Secret.
    SecretType;
    /// Name of a source: 1..4 segments of `[A-Za-z0-9][A-Za-z0-9._-]*` joined by `/`. By
    /// construction it cannot name anything outside the mount, nor the `..data` machinery in it.
    SourceName;
    /// UID of an object in the API server.
    Uid;
}

/// A name that is not one. The text says what is expected; it does not repeat the value, which may
/// hold control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(&'static str);

impl NamespaceName {
    /// Checks a DNS label of at most 63 characters.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 63 && is_dns_label(text) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName("must be a namespace name: at most 63 lower-case letters, digits and '-'"))
    }
}

impl PolicyName {
    /// Takes the name of an object that the API server has admitted.
    pub fn admitted(text: &str) -> Self {
        Self(text.into())
    }
}

impl Uid {
    /// Takes the UID that the API server gave.
    pub fn admitted(text: &str) -> Self {
        Self(text.into())
    }
}

impl SecretName {
    /// Checks a DNS subdomain of at most 253 characters.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        if text.len() <= 253 && text.split('.').all(is_dns_label) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName("must be a Secret name: at most 253 lower-case letters, digits, '-' and '.'"))
    }
}

impl SecretKey {
    /// Checks a key of a Secret's data: `[-._A-Za-z0-9]{1,253}`, not `.` and not starting with `..`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if (1..=253).contains(&text.len()) && text.bytes().all(legal) && text != "." && !text.starts_with("..") {
            return Ok(Self(text.into()));
        }
        Err(InvalidName("must be a Secret key: 1 to 253 of A-Z a-z 0-9 - . _, not '.' and not starting with '..'"))
    }
}

impl SecretType {
    /// Checks the characters of a type; whether it may be written is the decision's business.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'/');
        let ends = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if text.len() <= 253 && text.bytes().all(legal) && ends(text.bytes().next()) && ends(text.bytes().last()) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName("must be a Secret type such as Opaque or kubernetes.io/tls"))
    }
}

impl SourceName {
    /// Checks 1..4 segments of `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 255 characters in all.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let segment = |s: &str| {
            let mut bytes = s.bytes();
            bytes.next().is_some_and(|c| c.is_ascii_alphanumeric())
                && bytes.all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-'))
        };
        if text.len() <= 255 && text.split('/').count() <= 4 && text.split('/').all(segment) {
            return Ok(Self(text.into()));
        }
        Err(InvalidName(
            "must be a source name: 1 to 4 segments joined by '/', each starting with a letter or digit, then letters, digits, '.', '_' or '-'",
        ))
    }
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let legal = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == b'-';
    !bytes.is_empty() && bytes.iter().all(legal) && bytes[0] != b'-' && bytes[bytes.len() - 1] != b'-'
}

/// Namespace and name of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Namespace of the request.
    pub namespace: NamespaceName,
    /// Name of the request.
    pub name: SecretName,
}

impl fmt::Display for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Namespace and name of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Namespace of the Secret.
    pub namespace: NamespaceName,
    /// Name of the Secret.
    pub name: SecretName,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_name_cannot_leave_the_mount_nor_name_its_machinery() {
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/",
            "a/./b",
            "..data",
            "..data/pw",
            "x/..2026/pw",
            ".hidden",
            "a\0b",
            "a\nb",
            "ключ",
            "a/b/c/d/e",
            "a b",
            "*",
            "~",
        ] {
            assert!(SourceName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(SourceName::parse(&"a".repeat(256)).is_err());
        for good in ["WildcardCertificate", "a", "kv/prod/db.password", "name/0", "a/b/c/d", "A_b-c.d"] {
            assert!(SourceName::parse(good).is_ok(), "{good:?} was refused");
        }
    }

    #[test]
    fn a_secret_key_is_what_the_kubelet_can_mount() {
        for bad in ["", ".", "..", "..data", "a/b", "ä", "a b", "a\0"] {
            assert!(SecretKey::parse(bad).is_err(), "{bad:?} was accepted");
        }
        for good in ["tls.crt", ".dockerconfigjson", "_", "A-b_c.d"] {
            assert!(SecretKey::parse(good).is_ok(), "{good:?} was refused");
        }
        assert!(SecretKey::parse(&"k".repeat(253)).is_ok());
        assert!(SecretKey::parse(&"k".repeat(254)).is_err());
    }

    #[test]
    fn names_of_objects_follow_the_api_server() {
        assert!(SecretName::parse("dev-cr8tor.xlscsde.nhs.uk-tls").is_ok());
        assert!(SecretName::parse(&"n".repeat(253)).is_ok());
        for bad in ["Bad_Name", "", "-a", "a-", "a..b", "ñ", &"n".repeat(254)] {
            assert!(SecretName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(NamespaceName::parse("test-application-1").is_ok());
        assert!(NamespaceName::parse("a.b").is_err());
        assert!(SecretType::parse("kubernetes.io/tls").is_ok());
        assert!(SecretType::parse("we ird\0type").is_err());
    }
}
