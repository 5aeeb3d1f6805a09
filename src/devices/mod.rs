//! Devices by name: this machine's, and those that another machine serves.
//!
//! | name | device |
//! |---|---|
//! | `flex`, `cuda:1` | a backend of this build, and the number of its device |
//! | `remote:ws://host:3000`, `remote:ws://host:3000/1` | what `ausn serve` serves there, and its number in that list |

mod error;
mod guard;
mod name;
#[cfg(feature = "remote")]
mod remote;
#[cfg(feature = "remote")]
mod serve;
mod strategy;

use burn::tensor::Device;
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
use burn::tensor::DeviceKind;
use burn::tensor::distributed::{DistributedConfig, ReduceOperation};
use burn::train::{ExecutionStrategy, MultiDeviceOptim};

pub use error::DeviceError;
pub use name::DeviceName;
#[cfg(feature = "remote")]
pub use serve::{Server, TOKEN};
pub use strategy::{OptimizerPlacement, Strategy};

use name::Place;

/// The backends that this build has, with a description, the fastest first, which is the default.
pub const BACKENDS: &[(&str, &str)] = &[
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

/// The devices of a run, and how they share its work.
///
/// All of them train; whatever else there is to compute, the first one does.
#[derive(Clone)]
pub struct Devices {
    list: Vec<Device>,
    strategy: Strategy,
    placement: OptimizerPlacement,
    #[cfg(feature = "remote")]
    connections: std::sync::Arc<[remote::Connection]>,
}

impl Devices {
    /// Opens devices; a remote one is connected.
    ///
    /// # Errors
    ///
    /// A backend that this build lacks, and a server that does not answer.
    ///
    /// # Panics
    ///
    /// If there is no name.
    pub fn open(
        names: &[DeviceName],
        strategy: Strategy,
        placement: OptimizerPlacement,
    ) -> Result<Self, DeviceError> {
        assert!(!names.is_empty(), "a run needs a device");
        #[cfg(feature = "remote")]
        let connections = remote::connections(names)?;
        Ok(Self {
            list: names.iter().map(open).collect::<Result<_, _>>()?,
            strategy,
            placement,
            #[cfg(feature = "remote")]
            connections,
        })
    }

    /// One device.
    ///
    /// # Errors
    ///
    /// See [`open`](Self::open).
    pub fn one(name: DeviceName) -> Result<Self, DeviceError> {
        Self::open(&[name], Strategy::Single, OptimizerPlacement::default())
    }

    /// The first device.
    pub fn first(&self) -> &Device {
        &self.list[0]
    }

    /// How many they are.
    #[allow(clippy::len_without_is_empty)] // There is always one.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether another machine computes.
    pub fn are_remote(&self) -> bool {
        #[cfg(feature = "remote")]
        return !self.connections.is_empty();
        #[cfg(not(feature = "remote"))]
        false
    }

    /// The same for burn-train.
    pub(crate) fn execution(&self) -> ExecutionStrategy {
        let devices = self.list.clone();
        match self.strategy {
            Strategy::Single => ExecutionStrategy::single(self.first().clone()),
            Strategy::MultiDevice => ExecutionStrategy::multi(
                devices,
                match self.placement {
                    OptimizerPlacement::FirstDevice => MultiDeviceOptim::OptimMainDevice,
                    OptimizerPlacement::Sharded => MultiDeviceOptim::OptimSharded,
                },
            ),
            // The parts' gradients are weighted to add up: see `Share`.
            Strategy::Ddp => ExecutionStrategy::ddp(
                devices,
                DistributedConfig { all_reduce_op: ReduceOperation::Sum },
            ),
        }
    }
}

/// One device of this machine.
impl From<Device> for Devices {
    fn from(device: Device) -> Self {
        Self {
            list: vec![device],
            strategy: Strategy::Single,
            placement: OptimizerPlacement::default(),
            #[cfg(feature = "remote")]
            connections: std::sync::Arc::default(),
        }
    }
}

impl Default for Devices {
    fn default() -> Self {
        Device::default().into()
    }
}

/// Opens one device.
pub(crate) fn open(name: &DeviceName) -> Result<Device, DeviceError> {
    match &name.place {
        Place::Local { backend, index } => local(backend, *index).ok_or_else(|| {
            DeviceError::NotInThisBuild { name: name.to_string(), feature: backend.to_string() }
        }),
        #[cfg(feature = "remote")]
        Place::Remote { address, index } => remote::connect(name, address, *index),
        #[cfg(not(feature = "remote"))]
        Place::Remote { .. } => Err(DeviceError::NotInThisBuild {
            name: name.to_string(),
            feature: "remote".to_string(),
        }),
    }
}

#[allow(unused_variables)] // `index` is of use to GPU backends only.
fn local(backend: &str, index: Option<usize>) -> Option<Device> {
    #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "metal"))]
    let kind = || index.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
    match backend {
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
