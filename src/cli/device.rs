//! `ausn devices`, and the choice of a device.

use clap::Args;
use serde::Serialize;

use super::{Failure, Global};
use crate::config::{Config, TrainConfig};
use crate::devices::{BACKENDS, DeviceError, DeviceName, Devices};
use crate::tasks::{TaskVisitor, with_task};
use crate::train::TrainError;

/// Where to compute.
#[derive(Args)]
pub(super) struct DeviceArgs {
    /// Device to compute on, such as `flex`, `cuda:1` or `remote:ws://host:3000`; `ausn devices`
    /// lists those of this machine.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
}

#[derive(Serialize)]
struct Listed {
    name: &'static str,
    description: &'static str,
    default: bool,
}

pub(super) fn run(global: &Global) -> Result<(), Failure> {
    let list: Vec<Listed> = BACKENDS
        .iter()
        .enumerate()
        .map(|(i, &(name, description))| Listed { name, description, default: i == 0 })
        .collect();
    global.print(&list, || {
        let line = |d: &Listed| {
            format!(
                "{:<8} {}{}\n",
                d.name,
                d.description,
                if d.default { "  (default)" } else { "" }
            )
        };
        let lines: String = list.iter().map(line).collect();
        format!(
            "{lines}\nOther backends are switched on when the program is built:\n  \
             cargo build --release --features cuda    (or wgpu, vulkan, metal, rocm, ndarray)\n\
             `--features remote` adds devices of other machines, which run `ausn serve`."
        )
    })
}

impl DeviceArgs {
    /// The device that was asked for, or the default.
    pub(super) fn device(&self) -> Result<Devices, Failure> {
        let name = match &self.device {
            Some(text) => named("--device", text)?,
            None => default()?,
        };
        self.open(Devices::one(name))
    }

    /// The device that was asked for, or those of the configuration, or the default.
    pub(super) fn devices(&self, config: &TrainConfig) -> Result<Devices, Failure> {
        match (&self.device, &config.devices) {
            (None, Some(names)) => {
                let placement = config.optimizer_placement.unwrap_or_default();
                Ok(Devices::open(names, config.strategy(), placement)?)
            }
            _ => self.device(),
        }
    }

    fn open(&self, opened: Result<Devices, DeviceError>) -> Result<Devices, Failure> {
        opened.map_err(|error| match (error.is_user_error(), &self.device) {
            (true, Some(_)) => Failure::refused(format!("--device {error}")),
            _ => error.into(),
        })
    }
}

/// The device that the user named in an option.
pub(super) fn named(option: &str, text: &str) -> Result<DeviceName, Failure> {
    text.parse().map_err(|error| Failure::refused(format!("{option} {error}")))
}

/// The default device of this build.
pub(super) fn default() -> Result<DeviceName, Failure> {
    DeviceName::default_of_build()
        .ok_or_else(|| Failure::refused("this build has no backend; build it with --features flex"))
}

/// Hands the task of a configuration to a visitor, which computes on devices.
pub(super) fn visit<V, R>(
    config: Config,
    devices: &Devices,
    global: &Global,
    visitor: V,
) -> Result<R, Failure>
where
    V: TaskVisitor<Output = Result<R, TrainError>> + Send + 'static,
    R: Send + 'static,
{
    let locations = global.locations();
    guard(devices, move || Ok(with_task(&config, &locations, visitor)??))?
}

/// Runs what computes on devices. The panics that a lost server causes in Burn's threads stay off
/// the error stream: the error says what happened.
pub(super) fn guard<R: Send + 'static>(
    devices: &Devices,
    work: impl FnOnce() -> Result<R, Failure> + Send + 'static,
) -> Result<Result<R, Failure>, DeviceError> {
    if !devices.are_remote() {
        return devices.guard(work);
    }
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|panic| tracing::debug!("{panic}")));
    let outcome = devices.guard(work);
    // After an error, threads may be left behind that still panic.
    if matches!(outcome, Ok(Ok(_))) {
        std::panic::set_hook(hook);
    }
    outcome
}
