//! `ausn serve`

use std::io::Write;
use std::net::SocketAddr;

use clap::Args;

use super::{Failure, device};
use crate::devices::Server;

/// Serve this machine's devices to `ausn train` on others.
///
/// The traffic is not encrypted: serve on a network that you trust. Where AUSN_REMOTE_TOKEN is set,
/// clients must have it set to the same.
#[derive(Args)]
pub(super) struct ServeArgs {
    /// Address and port to listen on; 0.0.0.0 is every network of this machine, port 0 a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Device to serve, such as `cuda:1` [default: the fastest one]; may be repeated, for devices of
    /// one backend, which clients then name remote:ws://HOST:PORT/0, /1, ...
    #[arg(long, value_name = "NAME")]
    device: Vec<String>,
}

pub(super) fn run(args: ServeArgs) -> Result<(), Failure> {
    let mut names = Vec::new();
    for text in &args.device {
        names.push(device::named("--device", text)?);
    }
    if names.is_empty() {
        names.push(device::default()?);
    }
    for name in &names {
        if name.backend().is_none() {
            let message = format!("--device {name}: a remote device cannot be served again");
            return Err(Failure::refused(message));
        }
        if name.backend() != names[0].backend() {
            let message = format!(
                "--device {name}: a server's devices must be of one backend, as {} is",
                names[0]
            );
            return Err(Failure::refused(message));
        }
    }
    let server = Server::bind(args.listen, &names)?;
    // For whoever waits for the port; without an output stream it serves all the same.
    let named = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut out = std::io::stdout();
    let _ = writeln!(out, "serving {named} at ws://{}", server.address());
    let _ = out.flush();
    Ok(server.run()?)
}
