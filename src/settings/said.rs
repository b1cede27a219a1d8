//! Scalars as the operator wrote them.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, de};

/// Any scalar, as text: what it means is decided where it is used, with the key at hand. Null is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said(pub(super) String);

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl de::Visitor<'_> for Scalar {
            type Value = Said;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Said, E> {
                Ok(Said(text.to_owned()))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Said, E> {
                Ok(Said(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Said, E> {
                Ok(Said(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Said, E> {
                Ok(Said(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Said, E> {
                Ok(Said(value.to_string()))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Said, E> {
                Ok(Said(String::new()))
            }

            fn visit_none<E: de::Error>(self) -> Result<Said, E> {
                Ok(Said(String::new()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

/// A span of time in whole milliseconds to days: `500ms`, `10s`, `15m`, `1h`, `7d`.
///
/// # Errors
/// A sentence that says how it is written.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let written = || "a time is a number with a unit: `500ms`, `10s`, `15m`, `1h`, `7d`".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| written())?;
    let (factor, base) = match unit {
        "ms" => (1, Duration::from_millis(1)),
        "s" => (1, Duration::from_secs(1)),
        "m" | "min" => (60, Duration::from_secs(1)),
        "h" => (3600, Duration::from_secs(1)),
        "d" => (86_400, Duration::from_secs(1)),
        _ => return Err(written()),
    };
    let count = number.checked_mul(factor).and_then(|n| u32::try_from(n).ok()).ok_or_else(written)?;
    Ok(base * count)
}

/// A span of time for people.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
            if millis >= length && millis.is_multiple_of(length) {
                return write!(f, "{}{unit}", millis / length);
            }
        }
        write!(f, "{millis}ms")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("15m", 900_000), ("1h", 3_600_000), ("7d", 604_800_000)]
        {
            let span = parse_span(text).unwrap();
            assert_eq!(span.as_millis(), millis);
            assert_eq!(Span(span).to_string(), text);
        }
        for bad in ["", "10", "s", "1w", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
