//! `application/x-www-form-urlencoded` (URL Standard §5): of bodies, and of queries that are written as one.

use std::collections::HashMap;

use percent_encoding::{percent_decode_str, percent_encode_byte};
use zeroize::Zeroizing;

/// A value as it stands in a form.
pub fn encode(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut text = Zeroizing::new(Vec::with_capacity(value.len() * 3));
    for byte in value {
        match byte {
            b' ' => text.push(b'+'),
            b'*' | b'-' | b'.' | b'_' => text.push(*byte),
            byte if byte.is_ascii_alphanumeric() => text.push(*byte),
            byte => text.extend_from_slice(percent_encode_byte(*byte).as_bytes()),
        }
    }
    text
}

/// Adds a parameter to a form.
pub fn append(form: &mut Zeroizing<Vec<u8>>, name: &str, value: &[u8]) {
    if !form.is_empty() {
        form.push(b'&');
    }
    form.extend_from_slice(&encode(name.as_bytes()));
    form.push(b'=');
    form.extend_from_slice(&encode(value));
}

/// The parameters of a form, in order; none in the place of one that is not UTF-8.
pub fn pairs(form: &str) -> impl Iterator<Item = Option<(String, String)>> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
    };
    form.split('&').filter(|part| !part.is_empty()).map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(name)?, decoded(value)?))
    })
}

/// The parameters of a form that means one thing: none where it says something twice, or something that is not UTF-8.
pub fn unique(form: &str) -> Option<HashMap<String, String>> {
    let mut found = HashMap::new();
    for pair in pairs(form) {
        let (name, value) = pair?;
        if found.insert(name, value).is_some() {
            return None;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut form = Zeroizing::new(Vec::new());
        for (name, value) in [("a b", "1+1=2&ü"), ("~*-._", "")] {
            append(&mut form, name, value.as_bytes());
        }
        let text = std::str::from_utf8(&form).unwrap();
        assert_eq!(text, "a+b=1%2B1%3D2%26%C3%BC&%7E*-._=");
        let read = unique(text).unwrap();
        assert_eq!((read["a b"].as_str(), read["~*-._"].as_str()), ("1+1=2&ü", ""));
    }

    #[test]
    fn a_form_that_means_two_things_means_nothing() {
        for form in ["a=1&a=2", "a=1&%61=1", "a=%ff", "%ff=1"] {
            assert_eq!(unique(form), None, "{form}");
        }
        assert_eq!(pairs("a=1&b=%ff&c").flatten().count(), 2);
    }
}
