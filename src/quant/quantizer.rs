//! Fake quantization attached to a parameter.

use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{Device, Tensor};

use super::{Estimator, FakeQuantize, Probe, fake_quantize};
use crate::kernels::HiddenQuantizer;

/// Fake quantization with its scales, attached to a parameter.
///
/// On a weight it is a [`Reparameterization`]: `weight.val()` gives the quantized weight, the
/// stored float weight keeps training. On the slot of an
/// [`ActivationQuantizer`](super::ActivationQuantizer) it quantizes what passes the slot.
#[derive(Module, Debug)]
pub struct FakeQuantizer {
    /// Scales, flat: one for each entry of the granularity's grid. Powers of two.
    pub scale: Param<Tensor<1>>,
    #[module(skip)]
    operation: FakeQuantize,
    #[module(skip)]
    probe: Probe,
}

impl FakeQuantizer {
    /// A quantizer with scales 2^r for the given range exponents.
    ///
    /// The scales are saved with the model; they do not train.
    pub fn new(
        range_exponents: &[i32],
        operation: FakeQuantize,
        probe: Probe,
        device: &Device,
    ) -> Self {
        let scales: Vec<f32> = range_exponents.iter().map(|&r| 2f32.powi(r)).collect();
        Self {
            scale: Param::from_data(scales.as_slice(), device).set_require_grad(false),
            operation,
            probe,
        }
    }

    /// What the quantizer does, apart from the scales.
    pub fn operation(&self) -> FakeQuantize {
        self.operation
    }

    /// The same with one scale, for an operation that rounds inside.
    pub(super) fn hidden_quantizer(&self) -> HiddenQuantizer {
        HiddenQuantizer {
            quantizer: self.operation.format.unit().quantizer(),
            scale: self.scale.val().into_scalar(),
            clipped: self.operation.estimator == Estimator::Clipped,
        }
    }

    /// Quantizes an activation of any shape.
    pub(super) fn activation<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let scale = self.scale.val();
        self.probe.activation(&x, Some((&scale, self.operation)));
        fake_quantize(x, scale, self.operation)
    }
}

impl Reparameterization for FakeQuantizer {
    const NAME: &'static str = "quantizer";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let scale = self.scale.val();
        self.probe.weight(&base, &scale, self.operation);
        fake_quantize(base, scale, self.operation)
    }
}

/// Stands where a quantizer will be, and observes what it will have to represent.
#[derive(Module, Debug)]
pub(super) struct Observer {
    #[module(skip)]
    pub(super) probe: Probe,
}

impl Reparameterization for Observer {
    const NAME: &'static str = "observer";

    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        base
    }
}
