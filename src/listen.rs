//! Room 1. Bytes become one message with one canonical target.

mod ambient;
mod leaves;
mod patient;
mod prefixed;
mod presented;
mod received;
mod server;
mod tunnel;

pub use ambient::{Ambient, Mint, TokenFile, TokenSource};
pub use leaves::{Leaves, NoLeaf};
pub use presented::{Presented, UnverifiedToken};
pub use received::{Arrival, Received};
pub use server::{Form, Lifecycle, Listener, ListenerSettings, Rooms};
pub use tunnel::{Copying, Opened, Opener, Place, Tunnelled};
