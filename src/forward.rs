//! Room 9. To exactly the granted authority, and the answer back.
//!
//! The outgoing target is written from the grant. Nothing is followed, nothing is sent twice, and what was
//! injected does not come back.

mod answer;
mod body;
mod exchange;
mod failure;
mod judge;
mod pool;
mod stream;
mod upstream;
mod wait;

pub use stream::OpenTunnel;
pub use upstream::{Upstream, UpstreamSettings};
