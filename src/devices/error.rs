//! What can be wrong with a device.

use thiserror::Error;

use super::BACKENDS;

/// Why a device cannot be used, or could not any longer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// A name of no backend.
    #[error("{name}: no such backend; this build has: {}", backends())]
    Unknown {
        /// The name.
        name: String,
    },
    /// A number that is none.
    #[error("{name}: `{found}` is no device number")]
    Number {
        /// The name.
        name: String,
        /// What stands for the number.
        found: String,
    },
    /// A second device of a backend that has one.
    #[error("{name}: {backend} has one device only")]
    OneOnly {
        /// The name.
        name: String,
        /// The backend.
        backend: &'static str,
    },
    /// An address that is none.
    #[error(
        "{name}: expected remote:ws://HOST:PORT, or remote:ws://HOST:PORT/NUMBER for another than \
         the server's first device"
    )]
    Address {
        /// The name.
        name: String,
    },
    /// A backend, or remote devices, left out of this build.
    #[error(
        "{name}: this build has no backend `{feature}`; rebuild with `--features {feature}` (it \
         has: {})",
        backends()
    )]
    NotInThisBuild {
        /// The name.
        name: String,
        /// The cargo feature.
        feature: String,
    },
    /// A server that cannot be reached, or that refused.
    #[error("cannot connect to {name}: {reason}")]
    Unreachable {
        /// The device.
        name: String,
        /// What the system or the server said.
        reason: String,
    },
    /// A server that is gone.
    #[error(
        "lost the connection to the server at {address}: it was stopped, or the network failed"
    )]
    Lost {
        /// The address.
        address: String,
    },
    /// A computation on remote devices that broke off while all servers were there.
    #[error("computing on {servers} failed: {reason}")]
    Broken {
        /// The addresses of all servers.
        servers: String,
        /// What Burn said.
        reason: String,
    },
    /// A server that could not start.
    #[error("cannot serve on {address}: {reason}")]
    Serve {
        /// Where it was to listen.
        address: String,
        /// What the system said.
        reason: String,
    },
}

impl DeviceError {
    /// Whether what the user wrote is the cause, rather than the state of machines.
    pub fn is_user_error(&self) -> bool {
        match self {
            DeviceError::Unknown { .. }
            | DeviceError::Number { .. }
            | DeviceError::OneOnly { .. }
            | DeviceError::Address { .. }
            | DeviceError::NotInThisBuild { .. } => true,
            DeviceError::Unreachable { .. }
            | DeviceError::Lost { .. }
            | DeviceError::Broken { .. }
            | DeviceError::Serve { .. } => false,
        }
    }
}

fn backends() -> String {
    let names: Vec<&str> = BACKENDS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}
