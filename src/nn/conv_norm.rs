//! A convolution with the batch normalization after it, which folds into it.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::{Device, Tensor};
use thiserror::Error;

use super::{Layer, batch_norm, conv2d};
use crate::kernels::Activation;
use crate::quant::{self, ActivationQuantizer};

/// A convolution, with an activation quantizer at its input and batch normalization after it.
///
/// In a config its name is the path of this layer, as that of [`Quantized`](super::Quantized) is.
#[derive(Module, Debug)]
pub struct ConvNorm {
    /// The convolution. It has a bias once the normalization is folded into it.
    pub layer: Conv2d,
    /// Quantizes the convolution's input.
    pub input: ActivationQuantizer,
    /// The normalization, until it is folded.
    pub norm: Option<BatchNorm>,
}

impl ConvNorm {
    /// Adds batch normalization to a convolution whose input can have both signs.
    pub fn new(layer: Conv2d, device: &Device) -> Self {
        Self::with_input(layer, ActivationQuantizer::signed(device), device)
    }

    /// Adds batch normalization to a convolution whose input cannot be negative.
    pub fn non_negative(layer: Conv2d, device: &Device) -> Self {
        Self::with_input(layer, ActivationQuantizer::non_negative(device), device)
    }

    fn with_input(layer: Conv2d, input: ActivationQuantizer, device: &Device) -> Self {
        let norm = BatchNormConfig::new(layer.weight.lazy_shape()[0]).init(device);
        Self { layer, input, norm: Some(norm) }
    }

    /// Applies convolution, normalization and an activation.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, channels_in, height_in, width_in]`
    /// - output: `[batch, channels_out, height_out, width_out]`
    pub fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        self.input.note_windows(&x, |x| self.layer.windows(x));
        let y = conv2d(&self.layer, self.input.forward(x));
        self.input.note_output(&y);
        match &self.norm {
            Some(norm) => batch_norm(norm, y, activation),
            None => activation.forward(y),
        }
    }

    /// Folds the normalization with its running statistics into weight and bias
    /// (Jacob et al. 2017, arXiv 1712.05877, section 3.2).
    fn fold(&mut self) {
        let Some(norm) = self.norm.take() else { return };
        let device = self.layer.weight.lazy_device();
        let mean = norm.running_mean.value_sync().to_device(&device);
        let variance = norm.running_var.value_sync().to_device(&device);
        let factor = norm.gamma.val() / (variance + norm.epsilon).sqrt();

        let weight = self.layer.weight.val();
        let [channels, ..] = weight.dims();
        let shift = match &self.layer.bias {
            Some(bias) => bias.val() - mean,
            None => -mean,
        };
        let bias = shift * factor.clone() + norm.beta.val();
        let weight = weight * factor.reshape([channels, 1, 1, 1]);
        self.layer.weight = Param::from_tensor(weight.detach());
        self.layer.bias = Some(Param::from_tensor(bias.detach()));
    }
}

/// Why batch normalization could not be folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FoldError {
    /// The model is no float model.
    #[error("the model already carries quantizers; fold batch normalization before attaching them")]
    AlreadyQuantized,
    /// Nothing to fold.
    #[error("the model has no batch normalization to fold")]
    NoBatchNorm,
}

/// A model that may have batch normalization after convolutions.
///
/// Folding belongs between the float stage and calibration: the quantization-aware stage then
/// trains the very weights and biases that are deployed, with the statistics of the float stage
/// frozen in them (Krishnamoorthi 2018, arXiv 1806.08342, section 3.2.2).
pub trait FoldBatchNorm: Module {
    /// Every convolution that has batch normalization after it, first to last.
    fn conv_norms(&mut self) -> Vec<&mut ConvNorm> {
        Vec::new()
    }

    /// The float model with each normalization folded into the convolution before it. It computes
    /// what this one computes outside of training.
    ///
    /// # Errors
    ///
    /// If the model is quantized already, or there is nothing to fold.
    fn fold_batch_norm(mut self) -> Result<Self, FoldError> {
        if quant::has_quantizers(&self) {
            return Err(FoldError::AlreadyQuantized);
        }
        let layers = self.conv_norms();
        if layers.iter().all(|layer| layer.norm.is_none()) {
            return Err(FoldError::NoBatchNorm);
        }
        layers.into_iter().for_each(ConvNorm::fold);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{CalibratedPlan, CalibrationError, Plan, QuantSpec};
    use burn::module::RunningState;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::{Distribution, Tolerance};

    impl FoldBatchNorm for ConvNorm {
        fn conv_norms(&mut self) -> Vec<&mut ConvNorm> {
            vec![self]
        }
    }

    /// A layer whose every parameter and statistic has a value of its own, and an input.
    fn layer(bias: bool, device: &Device) -> (ConvNorm, Tensor<4>) {
        device.seed(8);
        let config = Conv2dConfig::new([4, 6], [3, 3]).with_groups(2).with_bias(bias);
        let mut layer = ConvNorm::new(config.init(device), device);
        let norm = layer.norm.as_mut().unwrap();
        let random = |low, high| Tensor::random([6], Distribution::Uniform(low, high), device);
        norm.gamma = Param::from_tensor(random(-2.0, 2.0));
        norm.beta = Param::from_tensor(random(-1.0, 1.0));
        norm.running_mean = RunningState::new(random(-1.0, 1.0));
        norm.running_var = RunningState::new(random(0.1, 3.0));
        (layer, Tensor::random([2, 4, 6, 5], Distribution::Normal(0.0, 1.0), device))
    }

    #[test]
    fn folded_layer_computes_what_the_layer_computed() {
        let device = Device::default();
        for bias in [false, true] {
            let (layer, x) = layer(bias, &device);
            let expected = layer.forward(x.clone(), Activation::Relu);
            let folded = layer.fold_batch_norm().unwrap();
            assert!(folded.norm.is_none() && folded.layer.bias.is_some());
            let found = folded.forward(x, Activation::Relu);
            found
                .into_data()
                .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::rel_abs(1e-5, 1e-5));
        }
    }

    #[test]
    fn folded_layer_trains_what_is_deployed() {
        let device = Device::default().autodiff();
        let (layer, x) = layer(false, &device);
        let folded = layer.fold_batch_norm().unwrap();
        let plan = Plan::resolve(
            &quant::sites(&folded),
            Some(QuantSpec::ausn(4)),
            Some(QuantSpec::ausn(8)),
            &[],
        );
        let plan = quant::calibrate(&folded, &plan.unwrap(), |observed| {
            observed.forward(x.clone().inner(), Activation::None);
            Ok::<(), CalibrationError>(())
        });
        let quantized = quant::attach(folded, &plan.unwrap()).unwrap().model;

        // In training as out of it: no statistics of the batch come in.
        let trained = quantized.forward(x.clone(), Activation::None);
        let deployed = quantized.valid().forward(x.inner(), Activation::None);
        let exact = Tolerance::absolute(0.0);
        trained.to_data().assert_approx_eq::<f32>(&deployed.into_data(), exact);

        let gradients = trained.powi_scalar(2).sum().backward();
        let bias = quantized.layer.bias.as_ref().unwrap();
        for gradient in [
            quantized.layer.weight.base().grad(&gradients).unwrap().abs().max(),
            bias.val().grad(&gradients).unwrap().abs().max(),
        ] {
            assert!(gradient.into_scalar::<f32>() > 0.0);
        }
    }

    #[test]
    fn folding_twice_or_too_late_is_an_error() {
        let device = Device::default();
        let (layer, x) = layer(false, &device);
        let plan = Plan::resolve(&quant::sites(&layer), Some(QuantSpec::ausn(4)), None, &[]);
        let plan = quant::calibrate(&layer, &plan.unwrap(), |observed| {
            observed.forward(x, Activation::None);
            Ok::<(), CalibrationError>(())
        });
        let plan: CalibratedPlan = plan.unwrap();
        let quantized = quant::attach(layer.clone(), &plan).unwrap().model;
        assert_eq!(quantized.fold_batch_norm().unwrap_err(), FoldError::AlreadyQuantized);
        let folded = layer.fold_batch_norm().unwrap();
        assert_eq!(folded.fold_batch_norm().unwrap_err(), FoldError::NoBatchNorm);
    }
}
