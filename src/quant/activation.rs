//! The place in a layer where an activation is quantized.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

use super::quantizer::{FakeQuantizer, Observer};
use crate::kernels::Hidden;

/// A place in a layer where an activation is quantized: the identity until a plan attaches a
/// [`FakeQuantizer`].
///
/// The variant says which values can arrive, so that a coding spends no sign bit where none is
/// needed. Each holds a slot: a parameter without a value of its own, never trained, to which Burn
/// can attach a reparameterization by path. That way activations are found, quantized, saved and
/// loaded by the same traversal as weights.
#[derive(Module, Debug)]
pub enum ActivationQuantizer {
    /// Values of both signs.
    Signed(Param<Tensor<1>>),
    /// Values that cannot be negative (after a ReLU or a softmax): quantized without a sign bit.
    NonNegative(Param<Tensor<1>>),
}

impl ActivationQuantizer {
    /// A place for values of both signs.
    pub fn signed(device: &Device) -> Self {
        Self::Signed(slot(device))
    }

    /// A place for values that cannot be negative.
    pub fn non_negative(device: &Device) -> Self {
        Self::NonNegative(slot(device))
    }

    /// The coding that is attached, for an operation that rounds inside.
    pub(crate) fn hidden_quantizer(&self) -> Hidden {
        let (Self::Signed(slot) | Self::NonNegative(slot)) = self;
        match slot.reparameterization::<FakeQuantizer>().map(FakeQuantizer::hidden_quantizer) {
            None => Hidden::Float,
            Some(Some(quantizer)) => Hidden::Inside(quantizer),
            Some(None) => Hidden::Apart,
        }
    }

    /// Quantizes `x`, or returns it unchanged while no coding is attached. Any shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let (Self::Signed(slot) | Self::NonNegative(slot)) = self;
        if let Some(quantizer) = slot.reparameterization::<FakeQuantizer>() {
            return quantizer.activation(x);
        }
        if let Some(observer) = slot.reparameterization::<Observer>() {
            observer.probe.activation(&x, None);
        }
        x
    }

    /// Shows an observer the input of a layer, of which `windows` makes what each position of the layer's kernel
    /// meets (see [`Layer::windows`](crate::nn::Layer::windows)).
    pub(crate) fn note_windows<const D: usize>(
        &self,
        x: &Tensor<D>,
        windows: impl FnOnce(Tensor<D>) -> Option<Tensor<D>>,
    ) {
        let (Self::Signed(slot) | Self::NonNegative(slot)) = self;
        if let Some(observer) = slot.reparameterization::<Observer>() {
            observer.probe.windows(x, windows);
        }
    }

    /// Shows an observer what the layer made of its input, `[batch, channels, ...]` of a convolution: over how many
    /// positions a kernel moves follows from that alone.
    pub(crate) fn note_output<const D: usize>(&self, y: &Tensor<D>) {
        let (Self::Signed(slot) | Self::NonNegative(slot)) = self;
        if let Some(observer) = slot.reparameterization::<Observer>() {
            observer.probe.output(y);
        }
    }
}

fn slot(device: &Device) -> Param<Tensor<1>> {
    Param::from_data([0f32], device).set_require_grad(false)
}
