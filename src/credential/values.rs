//! What stands in the holes of templates. With `placement.rs`, the only place where a secret becomes text.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{digest, hmac};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use time::format_description::well_known::{Rfc2822, Rfc3339};
use zeroize::Zeroizing;

use crate::{
    form,
    plan::{Expression, Function, JsonPath, JsonTemplate, Piece, Template},
    secret::{Secret, hex},
};

/// All but the unreserved characters (RFC 3986 §2.3).
const URI: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Base64 with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
/// How deep a JSON secret may be.
const DEPTH: usize = 16;

/// Why a template cannot be filled. Names places, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfilled {
    #[error("`{0}` is not known yet")]
    Unknown(Box<str>),
    #[error("a value has no member `{0}`, or is no JSON")]
    Member(Box<str>),
    #[error("a value is no {0}")]
    NoText(&'static str),
    #[error("the system has no random bytes")]
    Random,
}

/// Values by name, for one run.
pub(super) struct Values {
    known: HashMap<Box<str>, Arc<Secret>>,
    now: SystemTime,
}

impl Values {
    pub(super) fn new(now: SystemTime) -> Self {
        Self { known: HashMap::new(), now }
    }

    /// The same values at another time.
    pub(super) fn at(&self, now: SystemTime) -> Self {
        Self { known: self.known.clone(), now }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.now
    }

    pub(super) fn set(&mut self, name: &str, value: Arc<Secret>) {
        self.known.insert(name.into(), value);
    }

    #[expect(clippy::disallowed_methods, reason = "a copy goes into what is sent")]
    pub(super) fn set_copy(&mut self, name: &str, value: &Secret) {
        self.set(name, Arc::new(Secret::new(value.expose().to_vec())));
    }

    pub(super) fn set_text(&mut self, name: &str, value: &str) {
        self.set(name, Arc::new(Secret::new(value.as_bytes().to_vec())));
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<Secret>> {
        self.known.get(name)
    }

    /// The text of a template with its holes filled.
    pub(super) fn fill(&self, template: &Template) -> Result<Zeroizing<Vec<u8>>, Unfilled> {
        let mut text = Zeroizing::new(Vec::with_capacity(256));
        for piece in template.pieces() {
            match piece {
                Piece::Text(plain) => text.extend_from_slice(plain.as_bytes()),
                Piece::Hole(expression) => text.extend_from_slice(&self.value(expression)?),
            }
        }
        Ok(text)
    }

    /// JSON with the holes of its strings filled.
    pub(super) fn fill_json(&self, template: &JsonTemplate) -> Result<Zeroizing<String>, Unfilled> {
        let mut text = Zeroizing::new(String::with_capacity(1024));
        self.write_json(template, &mut text)?;
        Ok(text)
    }

    fn write_json(&self, template: &JsonTemplate, into: &mut String) -> Result<(), Unfilled> {
        match template {
            JsonTemplate::Plain(text) => into.push_str(text),
            JsonTemplate::Text(template) => {
                let filled = self.fill(template)?;
                into.push_str(&quoted(std::str::from_utf8(&filled).map_err(|_| Unfilled::NoText("UTF-8"))?));
            }
            JsonTemplate::List(items) => {
                into.push('[');
                for (index, item) in items.iter().enumerate() {
                    into.push_str(if index > 0 { "," } else { "" });
                    self.write_json(item, into)?;
                }
                into.push(']');
            }
            JsonTemplate::Object(members) => {
                into.push('{');
                for (index, (name, member)) in members.iter().enumerate() {
                    into.push_str(if index > 0 { "," } else { "" });
                    into.push_str(&quoted(name));
                    into.push(':');
                    self.write_json(member, into)?;
                }
                into.push('}');
            }
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "the secret is worked into what is sent")]
    fn value(&self, expression: &Expression) -> Result<Zeroizing<Vec<u8>>, Unfilled> {
        Ok(match expression {
            Expression::Text(text) => Zeroizing::new(text.as_bytes().to_vec()),
            Expression::Name(name) => {
                let value = self.known.get(name).ok_or_else(|| Unfilled::Unknown(name.clone()))?;
                Zeroizing::new(value.expose().to_vec())
            }
            Expression::Joined(parts) => {
                let mut all = Zeroizing::new(Vec::with_capacity(256));
                for part in parts {
                    all.extend_from_slice(&self.value(part)?);
                }
                all
            }
            Expression::Call(function, arguments) => self.call(*function, arguments)?,
        })
    }

    fn call(&self, function: Function, arguments: &[Expression]) -> Result<Zeroizing<Vec<u8>>, Unfilled> {
        let one = || self.value(arguments.first().unwrap_or(&Expression::Text(Box::default())));
        let two = || self.value(arguments.get(1).unwrap_or(&Expression::Text(Box::default())));
        let hashed = |algorithm, bytes: &[u8]| digest::digest(algorithm, bytes).as_ref().to_vec();
        let keyed = |algorithm| -> Result<Vec<u8>, Unfilled> {
            let key = hmac::Key::new(algorithm, &one()?);
            Ok(hmac::sign(&key, &two()?).as_ref().to_vec())
        };
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.to_vec()).map(Zeroizing::new).map_err(|_| Unfilled::NoText("UTF-8"))
        };
        Ok(Zeroizing::new(match function {
            Function::Base64 => general_purpose::STANDARD.encode(&*one()?).into_bytes(),
            Function::Base64Url => general_purpose::URL_SAFE_NO_PAD.encode(&*one()?).into_bytes(),
            Function::Unbase64 => {
                let given = one()?;
                let standard = GeneralPurpose::new(&alphabet::STANDARD, LENIENT).decode(&*given);
                let url = || GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT).decode(&*given);
                standard.or_else(|_| url()).map_err(|_| Unfilled::NoText("base64"))?
            }
            Function::Hex => hex(&one()?).into_bytes(),
            Function::Unhex => unhex(&one()?).ok_or(Unfilled::NoText("hex"))?,
            Function::Sha1 => hashed(&digest::SHA1_FOR_LEGACY_USE_ONLY, &one()?),
            Function::Sha256 => hashed(&digest::SHA256, &one()?),
            Function::Sha512 => hashed(&digest::SHA512, &one()?),
            Function::HmacSha1 => keyed(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY)?,
            Function::HmacSha256 => keyed(hmac::HMAC_SHA256)?,
            Function::HmacSha512 => keyed(hmac::HMAC_SHA512)?,
            Function::Upper => text(&one()?)?.to_uppercase().into_bytes(),
            Function::Lower => text(&one()?)?.to_lowercase().into_bytes(),
            Function::Uri => percent_encode(&one()?, URI).to_string().into_bytes(),
            Function::Form => return Ok(form::encode(&one()?)),
            Function::Json => {
                let Some(Expression::Text(path)) = arguments.get(1) else {
                    return Err(Unfilled::Member(Box::default()));
                };
                member(&one()?, path).ok_or_else(|| Unfilled::Member(path.clone()))?
            }
            Function::SpkiSha256 => {
                let key = public_key(&one()?).ok_or(Unfilled::NoText("private key in PEM"))?;
                general_purpose::STANDARD.encode(digest::digest(&digest::SHA256, &key)).into_bytes()
            }
            Function::Thumbprint => {
                let der = first_certificate(&one()?).ok_or(Unfilled::NoText("certificate in PEM"))?;
                general_purpose::URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &der)).into_bytes()
            }
            Function::Now => match arguments.first() {
                Some(Expression::Text(form)) => moment(self.now, form).into_bytes(),
                _ => Vec::new(),
            },
            Function::Uuid => uuid(random()?).into_bytes(),
            Function::Nonce => hex(&random()?).into_bytes(),
        }))
    }
}

/// A JSON string.
fn quoted(text: &str) -> Zeroizing<String> {
    Zeroizing::new(serde_json::to_string(text).unwrap_or_default())
}

/// A parameter of a URL.
pub(super) fn uri_encoded(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(percent_encode(bytes, URI).to_string())
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

fn member(json: &[u8], path: &str) -> Option<Vec<u8>> {
    let value = crate::json::value(json, DEPTH)?;
    match JsonPath::parse(path)?.find(&value)? {
        serde_json::Value::String(text) => Some(text.clone().into_bytes()),
        serde_json::Value::Number(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

/// The public key that belongs to a private one, as `SubjectPublicKeyInfo` (RFC 5280 §4.1).
fn public_key(pem: &[u8]) -> Option<Vec<u8>> {
    use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
    let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
    Some(crate::tls::signing_key(&key).ok()?.public_key()?.to_vec())
}

fn first_certificate(pem: &[u8]) -> Option<Vec<u8>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::from_pem_slice(pem).ok().map(|der| der.to_vec())
}

fn moment(now: SystemTime, form: &str) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let date = time::OffsetDateTime::from(UNIX_EPOCH + Duration::from_secs(since.as_secs()));
    match form {
        "unix_ms" => since.as_millis().to_string(),
        "rfc3339" => date.format(&Rfc3339).unwrap_or_default(),
        "rfc2822" => date.format(&Rfc2822).unwrap_or_default(),
        _ => since.as_secs().to_string(),
    }
}

fn random() -> Result<[u8; 16], Unfilled> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Unfilled::Random)?;
    Ok(bytes)
}

/// Version 4 (RFC 9562 §5.4).
fn uuid(random: [u8; 16]) -> String {
    let bits = u128::from_be_bytes(random);
    let bits = bits & !(0xF << 76) | 4 << 76;
    let bits = bits & !(0b11 << 62) | 0b10 << 62;
    let text = format!("{bits:032x}");
    let at = |range: std::ops::Range<usize>| text.get(range).unwrap_or_default();
    [at(0..8), at(8..12), at(12..16), at(16..20), at(20..32)].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(template: &str) -> Result<String, Unfilled> {
        let mut values = Values::new(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        values.set_text("key", "Jefe");
        values.set_text("data", "what do ya want for nothing?");
        values.set_text("odd", "s3cret+/=:% \u{e9}");
        values.set_text("file", r#"{"a": {"b": "c", "n": 7}}"#);
        let text = values.fill(&Template::parse(template).unwrap())?;
        Ok(String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn functions_do_what_their_standards_say() {
        #[rustfmt::skip]
        let cases = [
            // RFC 4231 §4.3 and RFC 2202 §3.
            ("{hex(hmac_sha256(key, data))}", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
            ("{hex(hmac_sha1(key, data))}", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            ("{hex(sha256('abc'))}", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ("{hex(sha1('abc'))}", "a9993e364706816aba3e25717850c26c9cd0d89d"),
            ("Basic {base64(form(odd) ':' 'x')}", "Basic czNjcmV0JTJCJTJGJTNEJTNBJTI1KyVDMyVBOTp4"),
            ("{uri(odd)}", "s3cret%2B%2F%3D%3A%25%20%C3%A9"),
            ("{base64url(unhex('fbff'))}", "-_8"),
            ("{unbase64('aGk')}{unbase64('aGk=')}", "hihi"),
            ("{upper('aé')}{lower('AÉ')}", "AÉaé"),
            ("{now('unix')} {now('unix_ms')}", "1700000000 1700000000123"),
            ("{now('rfc3339')}", "2023-11-14T22:13:20Z"),
            ("{now('rfc2822')}", "Tue, 14 Nov 2023 22:13:20 +0000"),
            ("{json(file, 'a.b')}{json(file, 'a.n')}", "c7"),
        ];
        for (template, expected) in cases {
            assert_eq!(filled(template).unwrap(), expected, "{template}");
        }
        let id = filled("{uuid()}").unwrap();
        assert!(id.len() == 36 && &id[14..15] == "4" && "89ab".contains(&id[19..20]), "{id}");
        assert_ne!(filled("{nonce()}"), filled("{nonce()}"));
    }

    #[test]
    fn what_cannot_be_filled_names_no_value() {
        for template in
            ["{nothing}", "{json(key, 'a')}", "{json(file, 'a.z')}", "{unhex(key)}", "{spki_sha256(key)}"]
        {
            let error = filled(template).unwrap_err().to_string();
            assert!(!error.contains("Jefe"), "{template}: {error}");
        }
    }

    #[test]
    fn json_keeps_its_shape_whatever_is_filled_in() {
        let mut values = Values::new(UNIX_EPOCH);
        values.set_text("evil", "\",\"admin\":\"true");
        let template = JsonTemplate::Object(Box::new([
            ("a\"b".into(), JsonTemplate::Text(Template::name("evil"))),
            ("c".into(), JsonTemplate::List(Box::new([JsonTemplate::Plain("7".into())]))),
        ]));
        let text = values.fill_json(&template).unwrap();
        assert_eq!(&*text, r#"{"a\"b":"\",\"admin\":\"true","c":[7]}"#);
    }
}
