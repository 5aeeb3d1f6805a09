//! A layer with an activation quantizer at its input.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};

use super::{conv2d, dropout, linear};
use crate::quant::ActivationQuantizer;

/// A layer with an activation quantizer at its input.
///
/// Without a plan it computes what the layer inside computes. In a config its name is the path of
/// this wrapper: the `layer` inside does not show.
#[derive(Module, Debug)]
pub struct Quantized<L: Module> {
    /// The layer.
    pub layer: L,
    /// Quantizes the layer's input.
    pub input: ActivationQuantizer,
    /// Dropout of the quantized input.
    pub dropout: Dropout,
}

impl<L: Module> Quantized<L> {
    /// Wraps a layer whose input can have both signs.
    pub fn new(layer: L, device: &Device) -> Self {
        Self::with_input(layer, ActivationQuantizer::signed(device))
    }

    /// Wraps a layer whose input cannot be negative, such as the output of a ReLU.
    pub fn non_negative(layer: L, device: &Device) -> Self {
        Self::with_input(layer, ActivationQuantizer::non_negative(device))
    }

    fn with_input(layer: L, input: ActivationQuantizer) -> Self {
        Self { layer, input, dropout: DropoutConfig::new(0.0).init() }
    }

    /// Drops elements of the input at this probability, in training.
    ///
    /// They are dropped after they are quantized: what is left is scaled up by
    /// `1 / (1 - probability)`, and would not fit the range that was chosen for the activations of
    /// the deployed model, which drops nothing.
    pub fn with_dropout(mut self, probability: f64) -> Self {
        self.dropout = DropoutConfig::new(probability).init();
        self
    }
}

impl<L: Module> Quantized<L> {
    /// Applies the layer.
    ///
    /// # Shapes
    ///
    /// Those of the layer inside: `[..., d_input]` for a linear layer,
    /// `[batch, channels_in, ...]` for a convolution of as many dimensions as follow.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D>
    where
        L: Layer<D>,
    {
        self.input.note_windows(&x, |x| self.layer.windows(x));
        let y = self.layer.apply(dropout(&self.dropout, self.input.forward(x)));
        self.input.note_output(&y);
        y
    }
}

/// A layer with one input: what [`Quantized`] can run.
///
/// Implement it for a layer of your own to have its input quantized.
pub trait Layer<const D: usize>: Module {
    /// Applies the layer to an input of rank `D`.
    fn apply(&self, x: Tensor<D>) -> Tensor<D>;

    /// What a convolution's kernel meets wherever its strides, padding and dilation put it, for
    /// [`post_training`](crate::post_training): `[batch, channels * kernel, ...]` of an input
    /// `[batch, channels, ...]`, each channel's positions of the kernel beside each other. None of
    /// layers whose weights multiply rows; a convolution without it is left uncorrected.
    fn windows(&self, x: Tensor<D>) -> Option<Tensor<D>> {
        let _ = x;
        None
    }
}

/// A convolution in as many groups as channels, whose kernels each let one of their positions through.
macro_rules! windows {
    ($layer:expr, $x:expr) => {{
        let mut shape = $layer.weight.lazy_shape().dims();
        let (channels, taps) = ($x.dims()[1], shape[2..].iter().product::<usize>());
        shape[..2].copy_from_slice(&[channels * taps, 1]);
        let through = Tensor::<2>::eye(taps, &$x.device()).repeat_dim(0, channels);
        let mut layer = $layer.clone();
        layer.weight = Param::from_tensor(through.reshape(shape));
        layer.bias = None;
        layer.groups = channels;
        Some(layer.forward($x))
    }};
}

impl<const D: usize> Layer<D> for Linear {
    fn apply(&self, x: Tensor<D>) -> Tensor<D> {
        linear(self, x)
    }
}

impl Layer<4> for Conv2d {
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        conv2d(self, x)
    }

    fn windows(&self, x: Tensor<4>) -> Option<Tensor<4>> {
        windows!(self, x)
    }
}

/// Layers that run as Burn runs them, in 32 bits.
macro_rules! layers {
    ($($layer:ty, $rank:literal $(, $windows:ident)?;)*) => {
        $(impl Layer<$rank> for $layer {
            fn apply(&self, x: Tensor<$rank>) -> Tensor<$rank> {
                self.forward(x)
            }

            $(fn windows(&self, x: Tensor<$rank>) -> Option<Tensor<$rank>> {
                $windows!(self, x)
            })?
        })*
    };
}

layers! {
    Conv1d, 3, windows;
    Conv3d, 5, windows;
    ConvTranspose1d, 3;
    ConvTranspose2d, 4;
    ConvTranspose3d, 5;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{quantizes, random, relative_error};
    use crate::quant::{self, CalibrationError, GranularitySpec, ModelError, Plan, QuantSpec};
    use burn::module::ModuleDisplay;
    use burn::nn::conv::{
        Conv1dConfig, Conv2dConfig, Conv3dConfig, ConvTranspose1dConfig, ConvTranspose2dConfig,
        ConvTranspose3dConfig,
    };
    use burn::nn::{
        Embedding, EmbeddingConfig, LinearConfig, PaddingConfig1d, PaddingConfig2d, PaddingConfig3d,
    };
    use burn::tensor::{Distribution, Tolerance};

    fn device() -> Device {
        let device = Device::default().autodiff();
        device.seed(3);
        device
    }

    /// Values, shape and gradients of the wrapped layer: those of Burn's layer while there is no
    /// plan, near them with 12 bits, and further off with 3. `channels` is how many ranges a weight
    /// has with one for each output channel.
    fn check<L, const D: usize>(
        layer: L,
        channels: usize,
        input: [usize; D],
        output: [usize; D],
        float: impl Fn(&L, Tensor<D>) -> Tensor<D>,
        weight: impl Fn(&L) -> &Param<Tensor<D>>,
    ) where
        L: Layer<D> + ModuleDisplay,
    {
        let device = device();
        let x = Tensor::<D>::random(input, Distribution::Normal(0.0, 1.0), &device);
        let run = |forward: &dyn Fn(Tensor<D>) -> Tensor<D>, weight: &Param<Tensor<D>>| {
            let x = x.clone().require_grad();
            let y = forward(x.clone());
            assert_eq!(y.dims(), output);
            let gradients = y.clone().powi_scalar(2).sum().backward();
            let dx = x.grad(&gradients).expect("of the input").into_data();
            let dw = weight.base().grad(&gradients).expect("of the weight").into_data();
            [y.into_data(), dx, dw]
        };
        let expected = run(&|x| float(&layer, x), weight(&layer));

        let wrapped = Quantized::new(layer, &device);
        for (found, expected) in
            run(&|x| wrapped.forward(x), weight(&wrapped.layer)).iter().zip(&expected)
        {
            found.assert_approx_eq::<f32>(expected, Tolerance::rel_abs(1e-5, 1e-5));
        }

        let quantized = |bits: u32| {
            let spec = QuantSpec::ausn(bits);
            let per_channel = QuantSpec { granularity: GranularitySpec::PerChannel, ..spec };
            let sites = quant::sites(&wrapped);
            let plan = Plan::resolve(&sites, Some(per_channel), Some(spec), &[]).unwrap();
            assert_eq!(plan.entries.len(), 2, "the weight and the input");
            let plan = quant::calibrate(&wrapped, &plan, |observed| {
                observed.forward(x.clone().inner());
                Ok::<(), CalibrationError>(())
            });
            let plan = plan.unwrap();
            assert_eq!(plan.sites[0].ranges.scales.len(), channels);
            quant::attach(wrapped.clone(), &plan).unwrap().model
        };
        let fine = quantized(12);
        let results = run(&|x| fine.forward(x), weight(&fine.layer));
        for (found, expected) in results.iter().zip(&expected) {
            let error = relative_error(found, expected);
            assert!(error < 0.01, "error {error} with 12 bits");
        }
        let coarse = quantized(3);
        let [y, ..] = run(&|x| coarse.forward(x), weight(&coarse.layer));
        let error = relative_error(&y, &expected[0]);
        assert!((0.05..0.8).contains(&error), "error {error} with 3 bits");
    }

    #[test]
    fn only_the_float_model_of_a_plan_is_calibrated() {
        let device = device();
        let float = |outputs: usize| {
            let weight = Param::from_tensor(Tensor::<2>::ones([1, outputs], &device));
            Quantized::new(Linear { weight, bias: None }, &device)
        };
        let calibrate = |model: &Quantized<Linear>, of: &Quantized<Linear>| {
            let plan =
                Plan::resolve(&quant::sites(of), Some(QuantSpec::ausn(4)), None, &[]).unwrap();
            quant::calibrate(model, &plan, |_| Ok::<(), CalibrationError>(()))
        };
        let plan = calibrate(&float(1), &float(1)).unwrap();
        let quantized = quant::attach(float(1), &plan).unwrap().model;
        let again = calibrate(&quantized, &float(1));
        assert!(
            matches!(again, Err(CalibrationError::Model(ModelError::AlreadyQuantized))),
            "{again:?}"
        );
        let foreign = calibrate(&float(1), &float(2));
        assert!(
            matches!(foreign, Err(CalibrationError::Model(ModelError::UnknownSite { .. }))),
            "{foreign:?}"
        );
    }

    #[test]
    fn drops_what_is_quantized_already() {
        let device = device();
        let one = Tensor::<2>::ones([1, 1], &device);
        let layer = Linear { weight: Param::from_tensor(one), bias: None };
        let wrapped = Quantized::new(layer, &device).with_dropout(0.5);
        let x = Tensor::<1>::from_floats([-1.75, 0.2, 1.0, 1.75], &device).repeat_dim(0, 50);
        let x = x.reshape([200, 1]);
        let activations = QuantSpec::ausn(4);
        let plan = Plan::resolve(&quant::sites(&wrapped), None, Some(activations), &[]).unwrap();
        let plan = quant::calibrate(&wrapped, &plan, |observed| {
            observed.forward(x.clone().inner());
            Ok::<(), CalibrationError>(())
        });
        let model = quant::attach(wrapped, &plan.unwrap()).unwrap().model;
        let deployed = model.valid().forward(x.clone().inner()).into_data();
        let trained = model.forward(x).into_data();
        let mut dropped = 0;
        for (found, deployed) in trained.iter::<f32>().zip(deployed.iter::<f32>()) {
            match found == 0.0 && deployed != 0.0 {
                true => dropped += 1,
                false => assert_eq!(found, 2.0 * deployed),
            }
        }
        assert!((60..140).contains(&dropped), "{dropped} of 200");
    }

    /// Burn's layer as it is, without an input that could be quantized: every token's vector has a
    /// range of its own.
    #[test]
    fn embedding_looks_up_vectors_that_are_quantized() {
        let device = device();
        let layer = EmbeddingConfig::new(5, 6).init(&device);
        let tokens = [[3i64, 0, 4], [1, 3, 3]];
        let look_up =
            |layer: &Embedding, device: &Device| layer.forward(Tensor::from_ints(tokens, device));
        // The product with another input, whose gradient is the embedding's value.
        quantizes(&layer, [1, 0], &random([2, 3, 6], &device), |layer, x| {
            look_up(layer, &x.device()) * x
        });

        let spec = QuantSpec { granularity: GranularitySpec::PerChannel, ..QuantSpec::ausn(4) };
        let plan = Plan::resolve(&quant::sites(&layer), Some(spec), None, &[]).unwrap();
        let plan = quant::calibrate(&layer, &plan, |_| Ok::<(), CalibrationError>(())).unwrap();
        let stored: Vec<f32> = layer.weight.val().into_data().try_to_vec().unwrap();
        let model = quant::attach(layer, &plan).unwrap().model;
        let found = look_up(&model, &device);
        assert_eq!(found.dims(), [2, 3, 6]);
        let ranges = plan.sites[0].ranges.range_exponents().expect("powers of two");
        let expected = tokens.as_flattened().iter().flat_map(|&token| {
            let token = token as usize;
            let coding = plan.sites[0].format.with_range(ranges[token]).expect("AUSN").unwrap();
            let vector = stored[6 * token..][..6].iter();
            vector.map(move |&value| coding.decode(coding.encode(value).unwrap()).unwrap())
        });
        assert_eq!(found.into_data().try_to_vec::<f32>().unwrap(), expected.collect::<Vec<_>>());
    }

    #[test]
    fn linear_is_burns_and_quantizes() {
        let layer = LinearConfig::new(6, 5).init(&device());
        check(layer, 5, [7, 6], [7, 5], |l, x| l.forward(x), |l| &l.weight);
    }

    #[test]
    fn conv1d_is_burns_and_quantizes() {
        let config = Conv1dConfig::new(4, 6, 3).with_stride(2).with_groups(2);
        let layer = config.with_padding(PaddingConfig1d::Explicit(1, 1)).init(&device());
        check(layer, 6, [2, 4, 9], [2, 6, 5], |l, x| l.forward(x), |l| &l.weight);
    }

    #[test]
    fn conv2d_is_burns_and_quantizes() {
        let config = Conv2dConfig::new([4, 6], [3, 2]).with_stride([2, 1]);
        let layer = config.with_padding(PaddingConfig2d::Same).init(&device());
        check(layer, 6, [2, 4, 6, 5], [2, 6, 3, 5], |l, x| l.forward(x), |l| &l.weight);
    }

    #[test]
    fn conv3d_is_burns_and_quantizes() {
        let config = Conv3dConfig::new([2, 6], [3, 2, 2]).with_stride([1, 2, 1]);
        let layer = config.with_padding(PaddingConfig3d::Explicit(1, 0, 0)).init(&device());
        check(layer, 6, [2, 2, 4, 6, 5], [2, 6, 4, 3, 4], |l, x| l.forward(x), |l| &l.weight);
    }

    #[test]
    fn conv_transpose1d_is_burns_and_quantizes() {
        let config = ConvTranspose1dConfig::new([4, 6], 3).with_stride(2).with_padding(1);
        let layer = config.with_padding_out(1).init(&device());
        check(layer, 6, [2, 4, 5], [2, 6, 10], |l, x| l.forward(x), |l| &l.weight);
    }

    #[test]
    fn conv_transpose2d_is_burns_and_quantizes() {
        let config = ConvTranspose2dConfig::new([4, 6], [3, 2]).with_stride([2, 1]);
        // In two groups: three channels of each share their ranges with three of the other.
        let layer = config.with_groups(2).init(&device());
        check(layer, 3, [2, 4, 3, 5], [2, 6, 7, 6], |l, x| l.forward(x), |l| &l.weight);
    }

    #[test]
    fn conv_transpose3d_is_burns_and_quantizes() {
        let layer = ConvTranspose3dConfig::new([3, 2], [2, 2, 3]).init(&device());
        check(layer, 2, [2, 3, 2, 3, 2], [2, 2, 3, 4, 4], |l, x| l.forward(x), |l| &l.weight);
    }
}
