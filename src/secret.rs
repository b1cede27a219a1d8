//! Secrets: held, never shown.

use std::fmt;

use zeroize::Zeroizing;

/// A secret value. Its memory is cleared when it is dropped.
///
/// Purposefully not `Clone`, `Display`, `Serialize`, `Default` or `PartialEq`: whoever needs the bytes calls
/// [`Secret::expose`], and `clippy.toml` lists that call, so every use carries its reason.
/// Once a secret stands in a header value or in a TLS buffer it is beyond reach of the clearing.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a secret over.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds a control character, such as a line break, which would end a header (CWE-113).
    pub fn has_control(&self) -> bool {
        self.0.iter().any(u8::is_ascii_control)
    }

    /// Its SHA-256: names it without holding it.
    pub fn sha256(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.0).as_ref());
        digest
    }

    /// Its SHA-256 in hex, as [`sha256_hex`] makes it.
    pub fn name(&self) -> String {
        hex(&self.sha256())
    }

    /// Whether `other` holds the same bytes, compared in constant time.
    pub fn matches(&self, other: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, other).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A secret shorter than this shows none of its characters.
const SHORTEST_SHOWN: usize = 16;

/// What may be shown of a secret: `…` and the last four characters of a long one.
pub fn masked(secret: &[u8]) -> Option<String> {
    let end = secret.get(secret.len().checked_sub(4)?..)?;
    let shown = secret.len() >= SHORTEST_SHOWN && end.iter().all(u8::is_ascii_graphic);
    shown.then(|| format!("…{}", String::from_utf8_lossy(end)))
}

/// SHA-256 of `bytes` in hex, for records that must name a value without holding it.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref())
}

/// `bytes` in lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print() {
        let secret = Secret::new(b"sk-live-abcdef".to_vec());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret(..) Some(Secret(..))");
        assert!(secret.matches(b"sk-live-abcdef") && !secret.matches(b"sk-live-abcdeg"));
    }
}
