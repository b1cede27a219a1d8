//! The forms in which a program that was given a secret may write it.

use base64::{Engine as _, engine::general_purpose};

use crate::secret::hex;

/// A secret shorter than this is not looked for at all: it would be found by chance in every other answer.
const SHORTEST: usize = 4;

/// A secret shorter than this is looked for as it is, but not in other forms, for the same reason.
const SHORTEST_ENCODED: usize = 8;

/// All forms of `secret`, itself first. Some may be equal.
pub(super) fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let mut forms = vec![secret.to_vec()];
    if secret.len() < SHORTEST_ENCODED {
        return forms;
    }
    base64_forms(secret, &mut forms);
    percent_forms(secret, &mut forms);
    json_forms(secret, &mut forms);
    html_forms(secret, &mut forms);
    let lower = hex(secret);
    forms.push(lower.to_ascii_uppercase().into());
    forms.push(lower.into());
    forms
}

/// Base64 of the secret alone, and of the secret inside a longer text.
///
/// In a longer text it begins at one of three places within a group of three bytes. The characters at its edges
/// also depend on the neighbours; they are left out, and hold at most four bits of the secret each.
fn base64_forms(secret: &[u8], forms: &mut Vec<Vec<u8>>) {
    for alphabet in [&general_purpose::STANDARD, &general_purpose::URL_SAFE] {
        let whole = alphabet.encode(secret);
        forms.push(whole.trim_end_matches('=').into());
        forms.push(whole.into());
        for before in 0..3_usize {
            let mut text = vec![0; before];
            text.extend_from_slice(secret);
            let first = (before * 8).div_ceil(6);
            let last = text.len() * 8 / 6;
            forms.extend(alphabet.encode(&text).as_bytes().get(first..last).map(<[u8]>::to_vec));
        }
    }
}

/// Percent-encoding as different programs do it: each leaves other characters alone.
fn percent_forms(secret: &[u8], forms: &mut Vec<Vec<u8>>) {
    const KEPT: [&[u8]; 5] = [
        b"-_.~",                 // RFC 3986: Python, Go, Rust
        b"-_.!~*'()",            // `encodeURIComponent`
        b"-_.!~*'();/?:@&=+$,#", // `encodeURI`
        b"-_.~!$&'()*+,;=:@",    // a path segment
        b"",                     // everything but letters and digits
    ];
    for lower in [false, true] {
        for kept in KEPT {
            forms.push(percent(secret, lower, |b| b.is_ascii_alphanumeric() || kept.contains(&b), false));
        }
        // Forms (WHATWG URL): a space is `+`.
        forms.push(percent(secret, lower, |b| b.is_ascii_alphanumeric() || b"*-._".contains(&b), true));
        forms.push(percent(secret, lower, |_| false, false));
    }
}

fn percent(secret: &[u8], lower: bool, kept: impl Fn(u8) -> bool, plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(secret.len() * 3);
    for &byte in secret {
        if kept(byte) {
            out.push(byte);
        } else if plus && byte == b' ' {
            out.push(b'+');
        } else {
            out.push(b'%');
            out.extend_from_slice(digits(&[byte], lower).as_bytes());
        }
    }
    out
}

/// JSON strings (RFC 8259 §7) as different programs write them, and a JSON text inside a JSON string.
fn json_forms(secret: &[u8], forms: &mut Vec<Vec<u8>>) {
    const ESCAPED: [&[u8]; 6] = [
        b"",
        b"/",
        b"<>&",      // Go, Rails
        b"<>&'=",    // Gson
        b"<>&'\"+`", // .NET
        b"<>&'\"/",  // PHP with its `JSON_HEX_…` flags
    ];
    let minimal = json(secret, b"", false, false);
    forms.push(json(&minimal, b"", false, false));
    let php = json(secret, b"", true, false); // `\/`, PHP's default
    forms.push(json(&php, b"", false, false));
    forms.push(json(&php, b"", true, false));
    forms.push(php);
    for lower in [true, false] {
        for escaped in ESCAPED {
            forms.push(json(secret, escaped, false, lower));
        }
        forms.push(units(secret).into_iter().fold(Vec::new(), |mut out, unit| {
            escape_unit(&mut out, unit, lower);
            out
        }));
    }
}

/// `escaped` characters become `\u00xx`; of the others, those that need it get a backslash.
fn json(secret: &[u8], escaped: &[u8], slash: bool, lower: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(secret.len() * 2);
    for unit in units(secret) {
        match u8::try_from(unit).ok().filter(u8::is_ascii) {
            Some(byte) if escaped.contains(&byte) => escape_unit(&mut out, unit, lower),
            Some(byte @ (b'"' | b'\\')) => out.extend([b'\\', byte]),
            Some(b'/') if slash => out.extend(b"\\/"),
            Some(byte) => out.push(byte),
            None => escape_unit(&mut out, unit, lower), // as Python and PHP do
        }
    }
    out
}

fn escape_unit(out: &mut Vec<u8>, unit: u16, lower: bool) {
    out.extend(b"\\u");
    out.extend_from_slice(digits(&unit.to_be_bytes(), lower).as_bytes());
}

/// The UTF-16 units of the secret; read as Latin-1 where it is not UTF-8.
fn units(secret: &[u8]) -> Vec<u16> {
    std::str::from_utf8(secret).map_or_else(
        |_| secret.iter().copied().map(u16::from).collect(),
        |text| text.encode_utf16().collect(),
    )
}

/// Character references (HTML §13.1.4) as different programs write them.
fn html_forms(secret: &[u8], forms: &mut Vec<Vec<u8>>) {
    type Names = [(u8, &'static str)];
    const WRITERS: [&Names; 5] = [
        &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;")],
        &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&#x27;")],
        &[(b'&', "&amp;"), (b'<', "&lt;"), (b'>', "&gt;"), (b'"', "&quot;"), (b'\'', "&apos;")],
        &[
            (b'&', "&amp;"),
            (b'<', "&lt;"),
            (b'>', "&gt;"),
            (b'"', "&#34;"),
            (b'\'', "&#39;"),
            (b'+', "&#43;"),
        ],
        &[
            (b'&', "&amp;"),
            (b'<', "&lt;"),
            (b'>', "&gt;"),
            (b'"', "&quot;"),
            (b'\'', "&#x27;"),
            (b'/', "&#x2F;"),
            (b'`', "&#x60;"),
            (b'=', "&#x3D;"),
        ],
    ];
    for names in WRITERS {
        forms.push(html(secret, |byte| {
            names.iter().find(|(b, _)| *b == byte).map(|(_, name)| (*name).to_owned())
        }));
    }
    // PHP and older Python: a quotation mark by name, an apostrophe by number.
    forms.push(html(secret, |byte| match byte {
        b'&' => Some("&amp;".to_owned()),
        b'<' => Some("&lt;".to_owned()),
        b'>' => Some("&gt;".to_owned()),
        b'"' => Some("&quot;".to_owned()),
        b'\'' => Some("&#039;".to_owned()),
        _ => None,
    }));
    forms.push(html(secret, |byte| match byte {
        b'&' => Some("&amp;".to_owned()),
        b'"' => Some("&quot;".to_owned()),
        b'\'' => Some("&#39;".to_owned()),
        b'<' => Some("&lt;".to_owned()),
        b'>' => Some("&gt;".to_owned()),
        _ => None,
    }));
    forms.push(html(secret, |byte| Some(format!("&#{byte};"))));
    forms.push(html(secret, |byte| Some(format!("&#x{byte:x};"))));
    forms.push(html(secret, |byte| Some(format!("&#x{byte:X};"))));
}

fn html(secret: &[u8], name: impl Fn(u8) -> Option<String>) -> Vec<u8> {
    secret.iter().fold(Vec::with_capacity(secret.len()), |mut out, &byte| {
        match name(byte) {
            Some(name) => out.extend_from_slice(name.as_bytes()),
            None => out.push(byte),
        }
        out
    })
}

fn digits(bytes: &[u8], lower: bool) -> String {
    let digits = hex(bytes);
    if lower { digits } else { digits.to_ascii_uppercase() }
}
