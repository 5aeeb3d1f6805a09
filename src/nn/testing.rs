//! What the tests of layers and models share.

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::attention::{MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::{Initializer, Linear};
use burn::tensor::{Device, Distribution, Gradients, Int, Tensor, TensorData, Tolerance};
use burn::tensor::{activation, module};

use super::{EncoderLayerConfig, LayerNorm, Quantized, SelfAttention};
use crate::quant::{self, CalibrationError, GranularitySpec, Plan, QuantSpec};

/// A device for training, with a fixed seed.
pub(crate) fn device() -> Device {
    let device = Device::default().autodiff();
    device.seed(17);
    device
}

pub(crate) fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

/// Small encoder and decoder layers without dropout.
pub(crate) fn transformer_config(norm_first: bool) -> EncoderLayerConfig {
    EncoderLayerConfig {
        hidden_size: 6,
        intermediate_size: 10,
        heads: 2,
        hidden_dropout: 0.0,
        attention_dropout: 0.0,
        layer_norm_epsilon: 1e-5,
        initializer: Initializer::XavierUniform { gain: 1.0 },
        norm_first,
    }
}

/// Burn's attention with the same parameters.
pub(crate) fn burns_attention(layer: &SelfAttention) -> MultiHeadAttention {
    let [width, _] = layer.query.weight.dims();
    let made = MultiHeadAttentionConfig::new(width, layer.heads).with_dropout(0.0);
    MultiHeadAttention {
        query: layer.query.clone(),
        key: layer.key.clone(),
        value: layer.value.clone(),
        output: layer.output.layer.clone(),
        ..made.init(&layer.query.weight.device())
    }
}

/// Burn's normalization with the same parameters.
pub(crate) fn burns_norm(layer: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    module::layer_norm(x, layer.gamma.val(), Some(layer.beta.val()), layer.epsilon)
}

/// Burn's linear layers with the same parameters, and GELU between them.
pub(crate) fn burns_feed_forward(
    intermediate: &Quantized<Linear>,
    output: &Quantized<Linear>,
    x: Tensor<3>,
) -> Tensor<3> {
    output.layer.forward(activation::gelu(intermediate.layer.forward(x)))
}

/// Result, gradient of the input, and gradient of every parameter that trains, with its path.
fn run<M: Module>(
    module: &M,
    x: &Tensor<3>,
    forward: impl Fn(&M, Tensor<3>) -> Tensor<3>,
) -> (Tensor<3>, Vec<(String, TensorData)>) {
    let x = x.clone().detach().require_grad();
    let y = forward(module, x.clone());
    // Another weight for every output, so that no two gradients can be mixed up.
    let weights = Tensor::<1, Int>::arange(0..y.shape().num_elements() as i64, &y.device());
    let weights = (weights.float() * 0.7).sin().reshape(y.dims());
    let gradients = (y.clone() * weights).sum().backward();
    let input = x.grad(&gradients).expect("a gradient of the input").into_data();
    let mut all = vec![("input".to_string(), input)];
    all.extend(parameter_gradients(module, gradients));
    (y, all)
}

/// The gradient of every parameter that trains, with its path.
fn parameter_gradients<M: Module>(module: &M, gradients: Gradients) -> Vec<(String, TensorData)> {
    let mut finder = Finder { path: Vec::new(), gradients, found: Vec::new() };
    module.visit(&mut finder);
    finder.found
}

struct Finder {
    path: Vec<String>,
    gradients: Gradients,
    found: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Finder {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let base = param.base();
        if base.is_require_grad() {
            let path = self.path.join(".");
            let gradient = base.grad(&self.gradients);
            let gradient = gradient.unwrap_or_else(|| panic!("{path} has no gradient"));
            self.found.push((path, gradient.into_data()));
        }
    }
}

/// Values, and the gradients of the input and of every parameter, of both agree.
pub(crate) fn agree<M: Module>(
    module: &M,
    x: &Tensor<3>,
    found: impl Fn(&M, Tensor<3>) -> Tensor<3>,
    expected: impl Fn(&M, Tensor<3>) -> Tensor<3>,
) {
    let ((y, found), (expected_y, expected)) = (run(module, x, found), run(module, x, expected));
    let tolerance = Tolerance::rel_abs(1e-4, 1e-4);
    y.into_data().assert_approx_eq::<f32>(&expected_y.into_data(), tolerance);
    assert!(expected.len() > 1, "a module with parameters");
    for ((path, found), (_, expected)) in found.iter().zip(&expected) {
        eprintln!("gradient of {path}");
        found.assert_approx_eq::<f32>(expected, tolerance);
    }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

fn distance(found: &TensorData, expected: &TensorData) -> f64 {
    norm(found.iter::<f64>().zip(expected.iter::<f64>()).map(|(found, expected)| found - expected))
}

/// Root of the mean squared difference, as part of that of the expected values.
pub(crate) fn relative_error(found: &TensorData, expected: &TensorData) -> f64 {
    distance(found, expected) / norm(expected.iter::<f64>())
}

/// Every gradient is the expected one up to a part of its size. One that all but vanishes, as that
/// of a key's bias does, counts as a thousandth of the largest.
fn near(found: &[(String, TensorData)], expected: &[(String, TensorData)], part: f64) {
    let sizes = expected.iter().map(|(_, gradient)| norm(gradient.iter::<f64>()));
    let largest = sizes.clone().fold(0.0, f64::max);
    assert_eq!(found.len(), expected.len(), "gradients");
    for (((path, found), (_, expected)), size) in found.iter().zip(expected).zip(sizes) {
        let error = distance(found, expected) / size.max(1e-3 * largest);
        assert!(error < part, "gradient of {path}: relative error {error}");
    }
}

/// Every gradient is finite, and not zero everywhere.
fn alive(gradients: Vec<(String, TensorData)>) {
    for (path, gradient) in gradients {
        let largest = gradient.iter::<f32>().fold(0f32, |max, g| max.max(g.abs()));
        assert!(largest > 0.0 && largest.is_finite(), "largest gradient of {path}: {largest}");
    }
}

/// A loss reaches every parameter that trains.
pub(crate) fn trains<M: Module>(module: &M, loss: Tensor<1>) {
    alive(parameter_gradients(module, loss.backward()));
}

/// All weights and activations quantized, calibrated by `run` outside of training.
pub(crate) fn quantized<M: Module>(module: &M, bits: u32, run: impl FnOnce(&M)) -> M {
    let spec = QuantSpec::ausn(bits);
    let weight = QuantSpec { granularity: GranularitySpec::PerChannel, ..spec };
    let plan = Plan::resolve(&quant::sites(module), Some(weight), Some(spec), &[]);
    let plan = quant::calibrate(module, &plan.expect("no patterns"), |observed| {
        run(observed);
        Ok::<(), CalibrationError>(())
    });
    let plan = plan.expect("every site is reached by finite values");
    quant::attach(module.clone(), &plan).expect("a float model").model
}

/// A module has so many weights and places for activation quantizers. With fine codings everywhere
/// its values and gradients are nearly those in float; with coarse ones its values are others, and
/// gradients still reach all parameters.
pub(crate) fn quantizes<M: Module>(
    module: &M,
    counts: [usize; 2],
    x: &Tensor<3>,
    forward: impl Fn(&M, Tensor<3>) -> Tensor<3>,
) {
    let sites = quant::sites(module);
    let weights = sites.iter().filter(|site| site.kind.is_weight()).count();
    assert_eq!([weights, sites.len() - weights], counts, "weights and activations");
    let (expected, expected_gradients) = run(module, x, &forward);
    let expected = expected.into_data();
    let of_bits = |bits| {
        let quantized = quantized(module, bits, |observed| {
            forward(observed, x.clone().inner());
        });
        let (y, gradients) = run(&quantized, x, &forward);
        (relative_error(&y.into_data(), &expected), gradients)
    };
    let (error, gradients) = of_bits(12);
    assert!(error < 0.005, "12 bits: relative error {error}");
    near(&gradients, &expected_gradients, 0.05);
    let (error, gradients) = of_bits(3);
    assert!((0.05..1.0).contains(&error), "3 bits: relative error {error}");
    alive(gradients);
}
