//! The tokens of a connection, and how they are written before they are sealed.

use zeroize::Zeroizing;

use crate::secret::Secret;

const ACCESS_TOKEN: &str = "access_token";
const REFRESH_TOKEN: &str = "refresh_token";

/// What is kept sealed.
#[derive(Debug)]
pub struct Tokens {
    /// The token that requests carry.
    pub access_token: Secret,
    /// What it is renewed with.
    pub refresh_token: Option<Secret>,
    /// What else the provider said, by name.
    pub kept: Vec<(Box<str>, Secret)>,
}

impl Tokens {
    /// Names and values, each with its length in front: nothing to escape, and no copies that are not cleared.
    #[expect(clippy::disallowed_methods, reason = "they are sealed")]
    pub(super) fn close(&self) -> Zeroizing<Vec<u8>> {
        let access = (ACCESS_TOKEN, &self.access_token);
        let refresh = self.refresh_token.iter().map(|token| (REFRESH_TOKEN, token));
        let kept = self.kept.iter().map(|(name, value)| (&**name, value));
        let all: Vec<(&str, &[u8])> = [access]
            .into_iter()
            .chain(refresh)
            .chain(kept)
            .map(|(name, value)| (name, value.expose()))
            .collect();
        let length = all.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
        // As large as it gets: what grows leaves copies behind.
        let mut plain = Zeroizing::new(Vec::with_capacity(length));
        for (name, value) in all {
            for part in [name.as_bytes(), value] {
                plain.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
                plain.extend_from_slice(part);
            }
        }
        plain
    }

    /// What [`Tokens::close`] made.
    pub(super) fn open(plain: &[u8]) -> Option<Self> {
        let (mut access_token, mut refresh_token, mut kept) = (None, None, Vec::new());
        let mut rest = plain;
        while !rest.is_empty() {
            let (name, after) = part(rest)?;
            let (value, after) = part(after)?;
            rest = after;
            let (name, value) = (std::str::from_utf8(name).ok()?, Secret::new(value.to_vec()));
            match name {
                ACCESS_TOKEN => access_token = Some(value),
                REFRESH_TOKEN => refresh_token = Some(value),
                name => kept.push((name.into(), value)),
            }
        }
        Some(Self { access_token: access_token?, refresh_token, kept })
    }
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_being_closed_and_opened() {
        let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
        let tokens = Tokens {
            access_token: secret("a\0\u{e9}"),
            refresh_token: Some(secret("")),
            kept: vec![("instance_url".into(), secret("https://x.example"))],
        };
        let again = Tokens::open(&tokens.close()).unwrap();
        assert!(
            again.access_token.matches("a\0\u{e9}".as_bytes()) && again.refresh_token.unwrap().is_empty()
        );
        assert_eq!((again.kept.len(), &*again.kept[0].0), (1, "instance_url"));
        let whole = tokens.close();
        for cut in 1..whole.len() {
            let part = Tokens::open(&whole[..cut]);
            assert!(part.is_none() || part.unwrap().kept.is_empty(), "{cut}");
        }
    }
}
