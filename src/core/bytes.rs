//! Secret content in memory: it cannot be printed, and it is wiped when dropped.

use std::fmt;

use zeroize::Zeroizing;

/// The content of a source, byte for byte.
///
/// Invariant: no `Debug`, `Display` or `Serialize` shows a byte; [`SecretBytes::expose`] is the one
/// way in, used by rendering and by the digest only.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes over the buffer; it is wiped when the value is dropped.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The content. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No byte at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_never_printed() {
        let secret = SecretBytes::new(b"hunter2".to_vec());
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "<redacted> Some(\n    <redacted>,\n)");
    }
}
