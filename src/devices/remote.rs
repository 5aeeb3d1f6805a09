//! Devices that another machine serves.

use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use burn::remote::RemoteHost;
use burn::tensor::Device;
use socket2::{SockRef, TcpKeepalive};

use super::name::Place;
use super::serve::token;
use super::{DeviceError, DeviceName};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that vanishes without a word (a crashed machine, a cut cable) is missed after
/// 10 s + 4 * 5 s, as Burn's own connections miss it.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(10))
    .with_interval(Duration::from_secs(5))
    .with_retries(4);

/// A connection to a server that carries nothing: it ends when the server does.
///
/// Burn's own connections cannot be asked, and a server that waits for one that is gone (for its
/// part of a gradient) keeps its client waiting without an error.
pub(super) struct Connection {
    pub(super) address: String,
    stream: TcpStream,
}

impl Connection {
    fn open(name: &DeviceName, address: &str) -> Result<Self, DeviceError> {
        let stream = connect_tcp(address.trim_start_matches("ws://"))
            .map_err(|error| unreachable(name, error.to_string()))?;
        let watched = SockRef::from(&stream)
            .set_tcp_keepalive(&KEEPALIVE)
            .and_then(|()| stream.set_nonblocking(true));
        watched.map_err(|error| unreachable(name, error.to_string()))?;
        Ok(Self { address: address.to_string(), stream })
    }

    /// Whether the server is gone.
    pub(super) fn is_lost(&self) -> bool {
        match self.stream.peek(&mut [0]) {
            Ok(received) => received == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }
}

fn connect_tcp(address: &str) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn unreachable(name: &DeviceName, reason: String) -> DeviceError {
    DeviceError::Unreachable { name: name.to_string(), reason }
}

/// A connection to the server of every remote device, one for each server.
pub(super) fn connections(names: &[DeviceName]) -> Result<Arc<[Connection]>, DeviceError> {
    let mut connections: Vec<Connection> = Vec::new();
    for name in names {
        if let Place::Remote { address, .. } = &name.place
            && connections.iter().all(|known| known.address != *address)
        {
            connections.push(Connection::open(name, address)?);
        }
    }
    Ok(connections.into())
}

/// The address with a user name of this run's own in front, `ws://RUN@host:port`, which means
/// nothing to who connects there.
///
/// Burn's servers keep the connections between each other by the addresses that clients give, and
/// keep those of servers that are gone. A run that resumes after a server was restarted needs new
/// ones.
fn of_this_run(address: &str) -> String {
    static RUN: LazyLock<u64> = LazyLock::new(rand::random::<u64>);
    address.replacen("ws://", &format!("ws://{:x}@", *RUN), 1)
}

/// Opens a session on a server's device.
pub(super) fn connect(
    name: &DeviceName,
    address: &str,
    index: usize,
) -> Result<Device, DeviceError> {
    let mut host = RemoteHost::websocket(&of_this_run(address));
    if let Some(token) = token() {
        host = host.with_credential(token);
    }
    // Burn waits for an answer without end, which not everything that listens on a port gives.
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(Device::remote_options(&host).device_index(index).init());
    });
    match answer.recv_timeout(PATIENCE) {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(unreachable(name, error.to_string())),
        Err(_) => {
            let reason = format!("what listens there gave no answer within {PATIENCE:?}");
            Err(unreachable(name, reason))
        }
    }
}
