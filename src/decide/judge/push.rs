//! A push over HTTP is judged when it is announced.
//!
//! Before git pushes it asks `GET <repository>/info/refs?service=git-receive-pack`, and only there it shows a
//! person what a refusal says (`remote: …`). By its path alone that request is a reader's.

use percent_encoding::percent_decode_str;

use crate::target::{Path, Target, key_of};

const ANNOUNCED_AT: &str = "/info/refs";
const PUSH: &str = "git-receive-pack";

/// The path of the push that a request announces, when it announces one.
pub(in crate::decide) fn announced(target: &Target) -> Option<Path> {
    let repository = target.path.as_str().strip_suffix(ANNOUNCED_AT)?;
    // Servers differ in which of several values they take: any of them announces.
    let announces = |part: &str| {
        let value = part.split_once('=').map_or("", |(_, value)| value);
        key_of(part) == "service" && percent_decode_str(value).eq(PUSH.bytes())
    };
    target
        .query
        .as_ref()?
        .parts()
        .any(announces)
        .then(|| Path::parse(&format!("{repository}/{PUSH}")).ok())?
}
