//! egret's own listeners, which are never a destination.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, RwLock},
};

/// The addresses egret listens on. Filled as the listeners open.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<RwLock<Vec<SocketAddr>>>);

impl OwnAddresses {
    /// Adds a listener.
    pub fn add(&self, address: SocketAddr) {
        if let Ok(mut own) = self.0.write() {
            own.push(address);
        }
    }

    /// Whether dialling `address` would come back to egret.
    pub(super) fn contains(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        let Ok(own) = self.0.read() else { return true };
        own.iter()
            .any(|listener| listener.port() == address.port() && reaches(listener.ip().to_canonical(), ip))
    }
}

fn reaches(listener: IpAddr, dialled: IpAddr) -> bool {
    listener == dialled
        || (listener.is_unspecified() && is_local(dialled))
        || (listener.is_loopback() && dialled.is_loopback())
}

/// Whether the address belongs to this machine: a socket can be bound to it.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_found_on_each() {
        let own = OwnAddresses::default();
        own.add("0.0.0.0:8080".parse().unwrap());
        own.add("127.0.0.1:9901".parse().unwrap());
        for (address, is_own) in [
            ("127.0.0.1:8080", true),
            ("127.0.0.2:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("127.0.0.1:8081", false),
            ("127.0.0.1:9901", true),
            ("192.0.2.1:8080", false),
        ] {
            assert_eq!(own.contains(address.parse().unwrap()), is_own, "{address}");
        }
    }
}
