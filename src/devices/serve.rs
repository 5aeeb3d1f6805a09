//! Serving this machine's devices to others.

use std::net::{SocketAddr, TcpListener};

use burn::server::{RemoteServer, TokenAuthorizer, WebSocketTransport};
use burn::tensor::Device;

use super::{DeviceError, DeviceName, open};

/// The environment variable with the token that servers ask for and clients give.
pub const TOKEN: &str = "AUSN_REMOTE_TOKEN";

/// The token; none where the variable is unset or empty.
pub(super) fn token() -> Option<String> {
    std::env::var(TOKEN).ok().filter(|token| !token.is_empty())
}

/// A server of this machine's devices, bound to its address.
///
/// It speaks Burn's protocol over WebSocket, which is not encrypted: it is for a network that is
/// trusted. Where [`TOKEN`] is set, it serves those only that give the same token.
pub struct Server {
    devices: Vec<Device>,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds a server of devices of one backend; port 0 picks a free port.
    ///
    /// # Errors
    ///
    /// A device that cannot be opened, and an address that cannot be bound.
    pub fn bind(listen: SocketAddr, names: &[DeviceName]) -> Result<Self, DeviceError> {
        let devices = names.iter().map(open).collect::<Result<_, _>>()?;
        let bound =
            TcpListener::bind(listen).and_then(|listener| Ok((listener.local_addr()?, listener)));
        match bound {
            Ok((address, listener)) => Ok(Self { devices, listener, address }),
            Err(error) => {
                Err(DeviceError::Serve { address: listen.to_string(), reason: error.to_string() })
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the process is asked to stop.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn run(self) -> Result<(), DeviceError> {
        let mut server = RemoteServer::new(self.devices);
        if let Some(token) = token() {
            let authorizer = TokenAuthorizer::new(token).expect("a token that is not empty");
            server = server.with_authorizer(authorizer);
        }
        let served = server.serve(WebSocketTransport::from_listener(self.listener));
        served.map_err(|error| DeviceError::Serve {
            address: self.address.to_string(),
            reason: error.to_string(),
        })
    }
}
