//! The guarded connector: the only place that opens sockets upstream.
//!
//! A name is resolved once, every address is checked, and exactly a checked address is dialled: there is no
//! moment between the check and the use for DNS to change its mind.

mod address;
mod dial;
mod own;
mod via;

pub use address::{Class, classify};
pub use dial::{Connector, ConnectorSettings, DialError, Dialled, Secured};
pub use own::OwnAddresses;
pub use via::CorporateProxy;
