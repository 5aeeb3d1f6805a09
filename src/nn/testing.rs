//! What the tests of layers and models share.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Distribution, Gradients, Int, Tensor, TensorData, Tolerance};

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

/// A module has so many places for activation quantizers; with fine codings everywhere it computes
/// nearly what it computes in float, with coarse ones something else; gradients reach all
/// parameters.
pub(crate) fn quantizes<M: Module>(
    module: &M,
    activations: usize,
    x: &Tensor<3>,
    forward: impl Fn(&M, Tensor<3>) -> Tensor<3>,
) {
    let sites = quant::sites(module);
    assert_eq!(sites.iter().filter(|site| !site.kind.is_weight()).count(), activations);
    let expected = forward(module, x.clone()).inner();
    let power = expected.clone().powi_scalar(2).sum().into_scalar::<f32>();
    for (bits, errors) in [(12, 0.0..0.02), (3, 0.05..1.0)] {
        let quantized = quantized(module, bits, |observed| {
            forward(observed, x.clone().inner());
        });
        let (y, gradients) = run(&quantized, x, &forward);
        let error = (y.inner() - expected.clone()).powi_scalar(2).sum().into_scalar::<f32>();
        let error = (error / power).sqrt();
        assert!(errors.contains(&error), "{bits} bits: relative error {error}");
        alive(gradients);
    }
}
