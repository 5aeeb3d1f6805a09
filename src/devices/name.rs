//! Names of devices, as typed.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::{BACKENDS, DeviceError};

/// Every backend that a build can have.
const KNOWN: [&str; 7] = ["flex", "ndarray", "wgpu", "vulkan", "metal", "cuda", "rocm"];

/// Backends of one device: the CPU.
const CPU: [&str; 2] = ["flex", "ndarray"];

/// The name of a device: well formed, whether or not the device is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DeviceName {
    text: String,
    pub(super) place: Place,
}

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this machine.
    Local { backend: &'static str, index: Option<usize> },
    /// Behind the server at an address, `ws://host:port`.
    Remote { address: String, index: usize },
}

impl DeviceName {
    /// The default of this build: its fastest backend; none where it has no backend.
    pub fn default_of_build() -> Option<Self> {
        let (backend, _) = BACKENDS.first()?;
        Some(Self { text: backend.to_string(), place: Place::Local { backend, index: None } })
    }

    /// The backend of a device in this machine.
    pub fn backend(&self) -> Option<&'static str> {
        match self.place {
            Place::Local { backend, .. } => Some(backend),
            Place::Remote { .. } => None,
        }
    }

    /// Whether two names are of one device.
    pub fn same_device(&self, other: &Self) -> bool {
        match (&self.place, &other.place) {
            (Place::Local { backend: a, index: i }, Place::Local { backend: b, index: j }) => {
                a == b && i.unwrap_or(0) == j.unwrap_or(0)
            }
            (a, b) => a == b,
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, DeviceError> {
        let place = match text.split_once(':') {
            Some(("remote", address)) => remote(text, address)?,
            Some((backend, index)) => {
                let backend = known(text, backend)?;
                let index = index.parse().map_err(|_| DeviceError::Number {
                    name: text.to_string(),
                    found: index.to_string(),
                })?;
                if index > 0 && CPU.contains(&backend) {
                    let (name, backend) = (text.to_string(), backend);
                    return Err(DeviceError::OneOnly { name, backend });
                }
                Place::Local { backend, index: Some(index) }
            }
            None => Place::Local { backend: known(text, text)?, index: None },
        };
        Ok(Self { text: text.to_string(), place })
    }
}

impl TryFrom<String> for DeviceName {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Self, DeviceError> {
        text.parse()
    }
}

fn known(name: &str, backend: &str) -> Result<&'static str, DeviceError> {
    let found = KNOWN.into_iter().find(|known| *known == backend);
    found.ok_or_else(|| DeviceError::Unknown { name: name.to_string() })
}

/// `ws://host:port`, `ws://host:port/index`.
fn remote(name: &str, address: &str) -> Result<Place, DeviceError> {
    let malformed = || DeviceError::Address { name: name.to_string() };
    let rest = address.strip_prefix("ws://").ok_or_else(malformed)?;
    let (server, index) = match rest.split_once('/') {
        None | Some((_, "")) => (rest.trim_end_matches('/'), 0),
        Some((server, index)) => (server, index.parse().map_err(|_| malformed())?),
    };
    let (host, port) = server.rsplit_once(':').ok_or_else(malformed)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(malformed());
    }
    Ok(Place::Remote { address: format!("ws://{}:{port}", host.to_ascii_lowercase()), index })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DeviceName {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn remote(text: &str) -> (String, usize) {
        match name(text).place {
            Place::Remote { address, index } => (address, index),
            place => panic!("{text} is {place:?}"),
        }
    }

    #[test]
    fn names_say_where_a_device_is() {
        assert_eq!(name("cuda:1").place, Place::Local { backend: "cuda", index: Some(1) });
        assert_eq!(name("flex").backend(), Some("flex"));
        assert_eq!(remote("remote:ws://Node1:3000"), ("ws://node1:3000".into(), 0));
        assert_eq!(remote("remote:ws://10.0.0.7:3000/2"), ("ws://10.0.0.7:3000".into(), 2));
        assert_eq!(remote("remote:ws://[::1]:3000/"), ("ws://[::1]:3000".into(), 0));
    }

    #[test]
    fn two_names_of_one_device_are_found_out() {
        assert!(name("cuda").same_device(&name("cuda:0")));
        assert!(!name("cuda:1").same_device(&name("cuda:0")));
        assert!(!name("cuda").same_device(&name("wgpu")));
        assert!(name("remote:ws://node:3000").same_device(&name("remote:ws://NODE:3000/0")));
        assert!(!name("remote:ws://node:3000").same_device(&name("remote:ws://node:3000/1")));
        assert!(!name("remote:ws://node:3000").same_device(&name("remote:ws://node:3001")));
    }

    #[test]
    fn malformed_names_are_refused() {
        for (text, expected) in [
            ("abacus", "abacus: no such backend"),
            ("remote", "remote: no such backend"),
            ("flex:1", "flex has one device only"),
            ("cuda:first", "`first` is no device number"),
            ("remote:node:3000", "expected remote:ws://HOST:PORT"),
            ("remote:ws://node", "expected remote:ws://HOST:PORT"),
            ("remote:ws://:3000", "expected remote:ws://HOST:PORT"),
            ("remote:ws://node:70000", "expected remote:ws://HOST:PORT"),
            ("remote:ws://node:3000/x", "expected remote:ws://HOST:PORT"),
            ("remote:wss://node:3000", "expected remote:ws://HOST:PORT"),
        ] {
            let error = text.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
