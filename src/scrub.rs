//! What must not come back: the injected secret, in every form that an upstream may echo it.

/// The forms of the secrets of one request.
#[derive(Debug)]
pub struct Needles {}
