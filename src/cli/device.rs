//! `ausn devices`, and the choice of a device.

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;
use clap::Args;
use serde::Serialize;

use super::{Failure, Global};

/// Where to compute.
#[derive(Args)]
pub(super) struct DeviceArgs {
    /// Device to compute on, such as `flex` or `cuda:1`; `ausn devices` lists them.
    #[arg(long, value_name = "NAME[:INDEX]")]
    device: Option<String>,
}

/// The backends that this build has, the fastest first, which is the default.
const BACKENDS: &[(&str, &str)] = &[
    #[cfg(feature = "cuda")]
    ("cuda", "NVIDIA GPU"),
    #[cfg(feature = "rocm")]
    ("rocm", "AMD GPU"),
    #[cfg(feature = "metal")]
    ("metal", "Apple GPU"),
    #[cfg(feature = "vulkan")]
    ("vulkan", "GPU through Vulkan"),
    #[cfg(feature = "wgpu")]
    ("wgpu", "GPU through WebGPU"),
    #[cfg(feature = "flex")]
    ("flex", "CPU, all cores"),
    #[cfg(feature = "ndarray")]
    ("ndarray", "CPU (ndarray; slow in training)"),
];

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
             cargo build --release --features cuda    (or wgpu, vulkan, metal, rocm, ndarray)"
        )
    })
}

impl DeviceArgs {
    /// The device that was asked for, or the default.
    pub(super) fn device(&self) -> Result<Device, Failure> {
        let Some(text) = &self.device else {
            let (name, _) = BACKENDS.first().ok_or_else(|| {
                Failure::refused("this build has no backend; build it with --features flex")
            })?;
            return Ok(open(name, None).expect("a listed backend opens"));
        };
        let (name, index) = match text.split_once(':') {
            None => (text.as_str(), None),
            Some((name, index)) => {
                let index = index.parse::<usize>().map_err(|_| {
                    Failure::refused(format!("--device {text}: `{index}` is no device number"))
                })?;
                (name, Some(index))
            }
        };
        if index.is_some_and(|i| i > 0) && ["flex", "ndarray"].contains(&name) {
            return Err(Failure::refused(format!("--device {text}: {name} has one device only")));
        }
        open(name, index).ok_or_else(|| {
            let names: Vec<&str> = BACKENDS.iter().map(|(name, _)| *name).collect();
            let known = ["flex", "ndarray", "wgpu", "vulkan", "metal", "cuda", "rocm"];
            Failure::refused(match known.contains(&name) {
                true => format!(
                    "--device {text}: this build has no backend `{name}`; rebuild with \
                     `--features {name}` (it has: {})",
                    names.join(", ")
                ),
                false => format!(
                    "--device {text}: no such backend; this build has: {}",
                    names.join(", ")
                ),
            })
        })
    }
}

#[allow(unused_variables)] // `index` is of use to GPU backends only.
fn open(name: &str, index: Option<usize>) -> Option<Device> {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    let kind = || index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
    match name {
        #[cfg(feature = "flex")]
        "flex" => Some(Device::flex()),
        // Burn is about to drop it; users ask for it as long as it is there.
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)]
        "ndarray" => Some(Device::ndarray()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(Device::wgpu(kind())),
        #[cfg(feature = "vulkan")]
        "vulkan" => Some(Device::vulkan(kind())),
        #[cfg(feature = "metal")]
        "metal" => Some(Device::metal(kind())),
        #[cfg(feature = "cuda")]
        "cuda" => Some(Device::cuda(index.unwrap_or(0))),
        #[cfg(feature = "rocm")]
        "rocm" => Some(Device::rocm(index.unwrap_or(0))),
        _ => None,
    }
}
