//! The keys of the store. What is kept is sealed with data keys; those lie beside it, wrapped with a key-encryption
//! key that lies elsewhere. So a new key-encryption key rewrites a few short rows, and nothing else.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    hkdf,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{
    Engine as _, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use zeroize::Zeroizing;

use crate::secret::{Secret, hex};

/// Bytes of a key.
const LENGTH: usize = 32;
/// Version of the layout: version, data key (4 bytes, big endian), nonce (12), ciphertext with its tag.
const LAYOUT: u8 = 1;

/// With its `=`, or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ANY_STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const ANY_URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What is not a key-encryption key. Says nothing of what it is.
#[derive(Debug, thiserror::Error)]
#[error("it is not a key: 32 random bytes in base64 or hex, such as `openssl rand -base64 32` makes")]
pub struct BadKey;

/// A key-encryption key.
pub struct KeyEncryptionKey {
    id: String,
    key: RandomizedNonceKey,
}

impl KeyEncryptionKey {
    /// From its text: 32 bytes in base64 (of either alphabet) or hex.
    ///
    /// # Errors
    /// When it is anything else. A passphrase is none: its letters would be the weakest part of the store.
    #[expect(clippy::disallowed_methods, reason = "a key is derived from it")]
    pub fn parse(text: &Secret) -> Result<Self, BadKey> {
        let text = text.expose().trim_ascii();
        let decoded = match text.len() {
            64 => unhex(text),
            43 | 44 if text.iter().any(|byte| b"-_".contains(byte)) => ANY_URL_SAFE.decode(text).ok(),
            43 | 44 => ANY_STANDARD.decode(text).ok(),
            _ => None,
        };
        let bytes = Zeroizing::new(decoded.filter(|bytes| bytes.len() == LENGTH).ok_or(BadKey)?);
        let master = master(&bytes, b"egret store: key-encryption key");
        let mut id = [0; 8];
        expand(&master, &[b"id"], &mut id).ok_or(BadKey)?;
        let key = key(&master, &[b"wrap"]).ok_or(BadKey)?;
        Ok(Self { id: hex(&id), key })
    }

    /// Text of a new one.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn fresh() -> Result<Secret, BadKey> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        SystemRandom::new().fill(&mut *bytes).map_err(|_| BadKey)?;
        Ok(Secret::new(STANDARD.encode(*bytes).into_bytes()))
    }

    /// Its name: derived from it, and telling nothing of it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Wraps a data key.
    pub(super) fn wrap(&self, key: &DataKey) -> Option<Vec<u8>> {
        seal(&self.key, &wrapped(&self.id, key.id), &*key.bytes)
    }

    /// Unwraps a data key.
    pub(super) fn unwrap_key(&self, id: u32, sealed: &[u8]) -> Option<DataKey> {
        let bytes = open(&self.key, &wrapped(&self.id, id), sealed)?;
        let bytes: [u8; LENGTH] = bytes.as_slice().try_into().ok()?;
        Some(DataKey::new(id, Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyEncryptionKey").field(&self.id).finish()
    }
}

fn wrapped(kek: &str, id: u32) -> Vec<u8> {
    parts(&[b"data key", kek.as_bytes(), &id.to_be_bytes()])
}

/// A key that seals rows.
pub(super) struct DataKey {
    id: u32,
    /// To wrap it again under another key-encryption key.
    bytes: Zeroizing<[u8; LENGTH]>,
    master: hkdf::Prk,
}

impl DataKey {
    fn new(id: u32, bytes: Zeroizing<[u8; LENGTH]>) -> Self {
        let master = master(&*bytes, b"egret store: data key");
        Self { id, bytes, master }
    }

    pub(super) fn fresh(id: u32) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; LENGTH]);
        SystemRandom::new().fill(&mut *bytes).ok()?;
        Some(Self::new(id, bytes))
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }
}

/// Where a sealed value lies. It opens nowhere else: not in another tenant's row, not under another name, not as an
/// older or newer version of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) table: &'static str,
    pub(super) tenant: &'p str,
    /// The rest of the row's key.
    pub(super) row: &'p [&'p str],
    pub(super) generation: i64,
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// It is sealed with a data key that is not known here: it is newer than what was read, or gone.
    UnknownKey,
    /// It was changed, cut, or lies in another place than it was sealed for.
    Damaged,
}

/// The data keys that are known, the newest of which seals.
pub(super) struct Keyring(BTreeMap<u32, DataKey>);

impl Keyring {
    pub(super) fn new(keys: impl IntoIterator<Item = DataKey>) -> Self {
        Self(keys.into_iter().map(|key| (key.id, key)).collect())
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &DataKey> {
        self.0.values()
    }

    /// Seals a value for its place; none when the system has no random bytes, or there is no key.
    pub(super) fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Option<Vec<u8>> {
        let (id, data_key) = self.0.last_key_value()?;
        let sealed = seal(&data_key.of_tenant(place.tenant)?, &place.bound_to(*id), plain)?;
        Some([&[LAYOUT][..], &id.to_be_bytes(), &sealed].concat())
    }

    /// Opens what was sealed for this place.
    pub(super) fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Closed> {
        let (head, rest) = sealed.split_first_chunk::<5>().ok_or(Closed::Damaged)?;
        let [LAYOUT, id @ ..] = *head else { return Err(Closed::Damaged) };
        let id = u32::from_be_bytes(id);
        let data_key = self.0.get(&id).ok_or(Closed::UnknownKey)?;
        let key = data_key.of_tenant(place.tenant).ok_or(Closed::Damaged)?;
        open(&key, &place.bound_to(id), rest).ok_or(Closed::Damaged)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl DataKey {
    /// Each tenant's rows have a key of their own.
    fn of_tenant(&self, tenant: &str) -> Option<RandomizedNonceKey> {
        key(&self.master, &[b"tenant", tenant.as_bytes()])
    }
}

impl Place<'_> {
    fn bound_to(&self, key: u32) -> Vec<u8> {
        let (key, generation) = (key.to_be_bytes(), self.generation.to_be_bytes());
        let mut all: Vec<&[u8]> = vec![self.table.as_bytes(), &key, &generation, self.tenant.as_bytes()];
        all.extend(self.row.iter().map(|part| part.as_bytes()));
        parts(&all)
    }
}

/// Parts that cannot be told to be others: each with its length before it.
fn parts(parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = vec![LAYOUT];
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_be_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

fn master(bytes: &[u8], salt: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(bytes)
}

struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(master: &hkdf::Prk, info: &[&[u8]], derived: &mut [u8]) -> Option<()> {
    master.expand(info, Bytes(derived.len())).ok()?.fill(derived).ok()
}

fn key(master: &hkdf::Prk, info: &[&[u8]]) -> Option<RandomizedNonceKey> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    expand(master, info, &mut *bytes)?;
    RandomizedNonceKey::new(&AES_256_GCM_SIV, &*bytes).ok()
}

fn seal(key: &RandomizedNonceKey, bound_to: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
    let mut sealed = Zeroizing::new(Vec::with_capacity(plain.len() + AES_256_GCM_SIV.tag_len()));
    sealed.extend_from_slice(plain);
    let nonce = key.seal_in_place_append_tag(Aad::from(bound_to), &mut *sealed).ok()?;
    Some([&nonce.as_ref()[..], &sealed].concat())
}

fn open(key: &RandomizedNonceKey, bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut plain = Zeroizing::new(text.to_vec());
    let length = key.open_in_place(nonce, Aad::from(bound_to), &mut plain).ok()?.len();
    plain.truncate(length);
    Some(plain)
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    // As large as it gets: what is moved to a larger place leaves a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.chunks(2) {
        let [high, low] = *pair else { return None };
        bytes.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    Some(std::mem::take(&mut *bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place<'p>(tenant: &'p str, row: &'p [&'p str], generation: i64) -> Place<'p> {
        Place { table: "secrets", tenant, row, generation }
    }

    fn kek(text: &str) -> Result<KeyEncryptionKey, BadKey> {
        KeyEncryptionKey::parse(&Secret::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone() {
        let ring = Keyring::new([DataKey::fresh(1).unwrap()]);
        let row: &[&str] = &["ab", "c"];
        let sealed = ring.seal(&place("acme", row, 3), b"sk-live").unwrap();
        assert_eq!(ring.open(&place("acme", row, 3), &sealed).unwrap().as_slice(), b"sk-live");
        for other in [
            place("zeta", row, 3),
            place("acme", &["a", "bc"], 3),
            place("acme", &["ab"], 3),
            place("acme", row, 2),
            Place { table: "connections", ..place("acme", row, 3) },
        ] {
            assert_eq!(ring.open(&other, &sealed), Err(Closed::Damaged), "{other:?}");
        }
        for index in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            assert!(ring.open(&place("acme", row, 3), &changed).is_err(), "byte {index}");
        }
        for length in 0..sealed.len() {
            assert!(ring.open(&place("acme", row, 3), &sealed[..length]).is_err(), "{length} bytes");
        }
        let other = Keyring::new([DataKey::fresh(1).unwrap()]);
        assert_eq!(other.open(&place("acme", row, 3), &sealed), Err(Closed::Damaged));
        let newer = Keyring::new([DataKey::fresh(2).unwrap()]);
        assert_eq!(newer.open(&place("acme", row, 3), &sealed), Err(Closed::UnknownKey));
    }

    #[test]
    fn the_newest_data_key_seals_and_the_older_ones_open() {
        let first = DataKey::fresh(1).unwrap();
        let old = Keyring::new([DataKey::new(1, first.bytes.clone())]);
        let both = Keyring::new([first, DataKey::fresh(2).unwrap()]);
        let at = place("acme", &["a"], 1);
        let sealed = old.seal(&at, b"x").unwrap();
        assert_eq!(both.open(&at, &sealed).unwrap().as_slice(), b"x");
        assert_eq!(old.open(&at, &both.seal(&at, b"x").unwrap()), Err(Closed::UnknownKey));
    }

    #[test]
    fn a_data_key_is_wrapped_by_one_key_under_one_number() {
        let text = KeyEncryptionKey::fresh().unwrap();
        let (one, other) = (KeyEncryptionKey::parse(&text).unwrap(), kek(&"ab".repeat(32)).unwrap());
        assert_ne!(one.id(), other.id());
        let key = DataKey::fresh(7).unwrap();
        let wrapped = one.wrap(&key).unwrap();
        assert_eq!(*one.unwrap_key(7, &wrapped).unwrap().bytes, *key.bytes);
        assert!(one.unwrap_key(8, &wrapped).is_none());
        assert!(other.unwrap_key(7, &wrapped).is_none());
    }

    #[test]
    fn a_key_is_32_bytes_in_base64_or_hex() {
        let bytes = [0xfb; 32];
        for good in [
            STANDARD.encode(bytes),
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes),
            hex(&bytes),
            format!("{}\n", hex(&bytes)),
        ] {
            assert_eq!(kek(&good).unwrap().id(), kek(&hex(&bytes)).unwrap().id(), "{good}");
        }
        for bad in
            ["", "correct horse battery staple", &"a".repeat(44), &"g".repeat(64), &STANDARD.encode([1; 31])]
        {
            assert!(kek(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_key_prints() {
        let text = KeyEncryptionKey::fresh().unwrap();
        let key = KeyEncryptionKey::parse(&text).unwrap();
        assert_eq!(format!("{key:?}"), format!("KeyEncryptionKey({:?})", key.id()));
        assert_eq!(format!("{:?}", Keyring::new([DataKey::fresh(3).unwrap()])), "{3}");
    }
}
