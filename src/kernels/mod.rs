//! Fused operations: what Burn composes of several, as one with a hand-written gradient.
//!
//! On the `flex` backend with 32-bit floats each is one pass (or as few as there can be) over
//! memory on all cores; on every other backend it is Burn's own composition. Work is split, and
//! sums are taken, in an order that does not depend on the number of cores.

mod adamw;
#[cfg(feature = "flex")]
pub(crate) mod flex;
mod precision;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Bool, Device, Distribution, Int, Tensor, activation};

use crate::coding::Quantizer;

pub use adamw::AdamW;
pub use precision::{Precision, matmul};

/// Runs `$fused` where the tensor is one of 32-bit floats on the `flex` backend.
macro_rules! on_flex {
    ($x:expr, $fused:expr) => {
        #[cfg(feature = "flex")]
        if flex::available(&$x) {
            return $fused;
        }
    };
}
use on_flex;

/// GELU with the normal distribution function, `x Phi(x)`; any shape.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    on_flex!(
        x,
        flex::differentiable(vec![x.into_dispatch()], |inputs, _| flex::gelu::forward(inputs))
    );
    activation::gelu(x)
}

/// Layer normalization over the last dimension.
///
/// # Shapes
///
/// - x: `[..., width]`; gamma, beta: `[width]`
/// - output: `[..., width]`
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    on_flex!(x, {
        let inputs = vec![x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
        flex::differentiable(inputs, move |inputs, _| {
            flex::layer_norm::forward(inputs, epsilon as f32)
        })
    });
    burn::tensor::module::layer_norm(x, gamma, Some(beta), epsilon)
}

/// `x weight + bias`.
///
/// # Shapes
///
/// - x: `[rows, d_input]`; weight: `[d_input, d_output]`; bias: `[d_output]`
/// - output: `[rows, d_output]`
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    on_flex!(x, {
        let mut inputs = vec![x.into_dispatch(), weight.into_dispatch()];
        inputs.extend(bias.map(Tensor::into_dispatch));
        flex::differentiable(inputs, |inputs, _| flex::linear::forward(inputs))
    });
    let y = Precision::current()
        .product(x, weight, |x, weight| burn::tensor::module::linear(x, weight, None));
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// Two-dimensional convolution; `[vertical, horizontal]` stride, dilation and padding.
///
/// # Shapes
///
/// - x: `[batch, channels_in, height, width]`
/// - weight: `[channels_out, channels_in / groups, kernel_height, kernel_width]`
/// - bias: `[channels_out]`
/// - output: `[batch, channels_out, height_out, width_out]`
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    options: ConvOptions<2>,
) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if flex::available(&x) && flex::conv::serves(&options, weight.dims()) {
        let mut inputs = vec![x.into_dispatch(), weight.into_dispatch()];
        inputs.extend(bias.map(Tensor::into_dispatch));
        return flex::differentiable(inputs, move |inputs, _| {
            flex::conv::forward(inputs, &options)
        });
    }
    let channels = weight.dims()[0];
    let y = Precision::current()
        .product(x, weight, |x, weight| burn::tensor::module::conv2d(x, weight, None, options));
    match bias {
        Some(bias) => y + bias.reshape([1, channels, 1, 1]),
        None => y,
    }
}

/// What cuts the result of [`batch_norm_train`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// ReLU: from below at 0.
    Relu,
    /// ReLU6: from below at 0, from above at 6.
    Relu6,
}

impl Activation {
    /// Applies the activation alone.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Activation::None => x,
            Activation::Relu => activation::relu(x),
            Activation::Relu6 => x.clamp(0.0, 6.0),
        }
    }

    #[cfg(feature = "flex")]
    fn limits(self) -> (f32, f32) {
        match self {
            Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
        }
    }
}

/// Batch normalization with the statistics of the batch, and an activation after it: the result,
/// and mean and biased variance of every channel.
///
/// # Shapes
///
/// - x: `[batch, channels, ...]`; gamma, beta: `[channels]`
/// - output: `[batch, channels, ...]`, `[channels]`, `[channels]`
pub fn batch_norm_train<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
    activation: Activation,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    on_flex!(x, {
        let device = x.device();
        let found = std::sync::Arc::new(std::sync::OnceLock::new());
        let statistics = found.clone();
        let inputs = vec![x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
        let y = flex::differentiable(inputs, move |inputs, _| {
            let (y, pullback, statistics) =
                flex::batch_norm::forward(inputs, epsilon as f32, activation.limits());
            let _ = found.set(statistics);
            (y, pullback)
        });
        let statistics = statistics.get().expect("the operation has run");
        let tensor = |values: &Vec<f32>| Tensor::from_data(values.as_slice(), &device);
        (y, tensor(&statistics.mean), tensor(&statistics.variance))
    });
    let result = burn::tensor::module::batch_norm_train(x, gamma, beta, epsilon);
    (activation.forward(result.output), result.mean, result.variance)
}

/// The columns of attention scores that a row gives no part to.
#[derive(Clone, Debug, Default)]
pub struct AttentionMask {
    /// Columns that no row of an example sees: true where there is no token, `[batch, width]`.
    pub padding: Option<Tensor<2, Bool>>,
    /// Whether a row sees no column after its own. Rows are the last of the columns: where there
    /// are as many of both, row i sees columns 0 to i; a single row sees all columns.
    pub causal: bool,
}

impl AttentionMask {
    /// Every row sees the tokens of its example.
    pub fn padding(padding: Tensor<2, Bool>) -> Self {
        Self { padding: Some(padding), causal: false }
    }

    /// Every row sees its own column and those before it.
    pub fn causal() -> Self {
        Self { padding: None, causal: true }
    }

    /// True where a row does not see a column, `[batch or 1, 1, length or 1, width]`.
    fn masked(&self, length: usize, width: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        let padding = self.padding.clone().map(|padding| padding.unsqueeze_dims(&[1, 2]));
        let offset = width as i64 - length as i64;
        let later = self.causal.then(|| {
            Tensor::<2, Bool>::tril_mask([length, width], offset, device).unsqueeze_dims(&[0, 1])
        });
        match (padding, later) {
            (Some(padding), Some(later)) => Some(padding.bool_or(later)),
            (padding, later) => padding.or(later),
        }
    }
}

/// Softmax over the last dimension of `scale * scores`, where masked columns get no part.
///
/// # Shapes
///
/// - scores: `[batch, heads, length, width]`; each row needs a column that is not masked
/// - output: `[batch, heads, length, width]`
pub fn masked_softmax(scores: Tensor<4>, scale: f64, mask: &AttentionMask) -> Tensor<4> {
    on_flex!(scores, {
        let padding = mask.padding.clone().map(flex::booleans);
        let mask = flex::softmax::Mask { padding, causal: mask.causal };
        flex::differentiable(vec![scores.into_dispatch()], move |inputs, _| {
            flex::softmax::forward(inputs, scale as f32, &mask)
        })
    });
    let shape = scores.dims();
    let scores = match mask.masked(shape[2], shape[3], &scores.device()) {
        Some(masked) => (scores * scale).mask_fill(masked.expand(shape), f32::NEG_INFINITY),
        None => scores * scale,
    };
    activation::softmax(scores, 3)
}

/// Which rows count in a cross-entropy, and how sure a prediction should be.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CrossEntropy {
    /// The target of rows that do not count, such as padding.
    pub ignored: Option<i64>,
    /// The part of a row's weight, from 0 to 1, that is spread evenly over all classes: label
    /// smoothing (Szegedy et al. 2015, arXiv 1512.00567, section 7).
    pub smoothing: f64,
}

/// Cross-entropy of the classes that logits predict, the mean over rows, `[1]`.
///
/// # Shapes
///
/// - logits: `[rows, classes]`
/// - targets: `[rows]`
///
/// # Panics
///
/// If a target is no class.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    cross_entropy_with(logits, targets, CrossEntropy::default())
}

/// The same with settings: the mean over the rows that count, 0 where there is none.
///
/// # Shapes
///
/// - logits: `[rows, classes]`
/// - targets: `[rows]`
///
/// # Panics
///
/// If a target of a row that counts is no class.
pub fn cross_entropy_with(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    settings: CrossEntropy,
) -> Tensor<1> {
    on_flex!(logits, {
        let CrossEntropy { ignored, smoothing } = settings;
        let targets = flex::integers(targets).into_iter();
        let targets: Vec<Option<usize>> =
            targets.map(|target| (Some(target) != ignored).then_some(target as usize)).collect();
        flex::differentiable(vec![logits.into_dispatch()], move |inputs, tracked| {
            flex::cross_entropy::forward(inputs, &targets, smoothing as f32, tracked)
        })
    });
    cross_entropy_composed(logits, targets, settings)
}

fn cross_entropy_composed(
    logits: Tensor<2>,
    mut targets: Tensor<1, Int>,
    CrossEntropy { ignored, smoothing }: CrossEntropy,
) -> Tensor<1> {
    let rows = targets.dims()[0];
    let counted = ignored.map(|ignored| targets.clone().not_equal_elem(ignored));
    if let Some(counted) = &counted {
        // Any class serves a row that does not count.
        targets = targets * counted.clone().int();
    }
    let logits = activation::log_softmax(logits, 1);
    let mut loss = logits.clone().gather(1, targets.reshape([rows, 1])).squeeze_dim::<1>(1);
    if smoothing != 0.0 {
        loss = loss * (1.0 - smoothing) + logits.mean_dim(1).squeeze_dim(1) * smoothing;
    }
    match counted {
        None => loss.mean().neg(),
        Some(counted) => {
            let loss = loss.mask_fill(counted.clone().bool_not(), 0.0);
            (loss.sum() / counted.int().sum().float().clamp_min(1.0)).neg()
        }
    }
}

/// Rounds an LSTM's hidden states before they enter its recurrent product.
#[derive(Clone, Copy, Debug)]
pub struct HiddenQuantizer {
    /// The rounding, for range exponent 0.
    pub quantizer: Quantizer,
    /// What the levels are multiplied with.
    pub scale: f32,
    /// Whether gradients stop outside the representable range.
    pub clipped: bool,
}

/// Where an activation inside of an operation is quantized.
#[derive(Clone, Copy, Debug)]
pub enum Hidden {
    /// Nowhere.
    Float,
    /// Inside of the operation.
    Inside(HiddenQuantizer),
    /// Between operations only: the rounding is another, or its scale trains.
    Apart,
}

/// A whole LSTM layer (Hochreiter and Schmidhuber 1997), where the backend has it as one operation:
/// the hidden state at every step, and the cell after the last. `quantizer` reads from the device,
/// so it is asked only then; where the operation cannot do what it says, there is no result.
///
/// It starts from zero, or from a hidden state and a cell, which get no gradient; nor does one pass
/// through the cell that is returned.
///
/// # Shapes
///
/// - gates: from the inputs, with bias, `[batch, length, 4 * hidden]`: input, forget, cell, output;
///   the length is not 0
/// - weight: from the hidden state, `[hidden, 4 * hidden]`
/// - start: `[batch, hidden]` each
/// - output: `[batch, length, hidden]` and `[batch, hidden]`
pub fn lstm(
    gates: &Tensor<3>,
    weight: &Tensor<2>,
    start: Option<[&Tensor<2>; 2]>,
    quantizer: impl FnOnce() -> Hidden,
) -> Option<(Tensor<3>, Tensor<2>)> {
    on_flex!(gates, {
        let quantizer = match quantizer() {
            Hidden::Float => None,
            Hidden::Inside(quantizer) => Some(quantizer),
            Hidden::Apart => return None,
        };
        let [batch, _, width] = gates.dims();
        let constant = |x: &Tensor<2>| flex::primitive(x.clone().inner()).to_contiguous();
        let start = start.map(|start| start.map(constant));
        let found = std::sync::Arc::new(std::sync::OnceLock::new());
        let cell = found.clone();
        let inputs = vec![gates.clone().into_dispatch(), weight.clone().into_dispatch()];
        let states = flex::differentiable(inputs, move |inputs, _| {
            let (states, pullback, cell) = flex::lstm::forward(inputs, &start, quantizer);
            let _ = found.set(cell);
            (states, pullback)
        });
        let cell = cell.get().expect("the operation has run").as_slice();
        let cell = Tensor::<1>::from_data(cell, &gates.device()).reshape([batch, width / 4]);
        Some((states, cell))
    });
    let _ = (gates, weight, start, quantizer);
    None
}

/// Sets each element to zero with the given probability, and scales the others by
/// `1 / (1 - probability)`. What is drawn follows from the device's seed.
pub fn dropout<const D: usize>(x: Tensor<D>, probability: f64) -> Tensor<D> {
    on_flex!(x, {
        let device = x.device().inner();
        let seed = Tensor::<1>::random([2], Distribution::Uniform(0.0, 65_536.0), &device);
        let seed: Vec<f32> = seed.into_data().try_to_vec().expect("floats as they were drawn");
        let seed = (seed[0] as u32) << 16 | seed[1] as u32;
        let threshold = (probability * 2f64.powi(32)) as u32;
        flex::differentiable(vec![x.into_dispatch()], move |inputs, _| {
            flex::dropout::forward(inputs, seed, threshold)
        })
    });
    let kept = 1.0 - probability;
    let mask = x.random_like(Distribution::Bernoulli(kept));
    x * mask / kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::optim::{AdamWConfig, Optimizer};
    use burn::tensor::Tolerance;

    fn device() -> Device {
        let device = Device::default().autodiff();
        device.seed(11);
        device
    }

    fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
    }

    /// Values, and the gradient with respect to `x`, of both agree.
    fn agree<const D: usize, const E: usize>(
        x: &Tensor<D>,
        fused: impl Fn(Tensor<D>) -> Tensor<E>,
        composed: impl Fn(Tensor<D>) -> Tensor<E>,
    ) {
        let run = |f: &dyn Fn(Tensor<D>) -> Tensor<E>| {
            let x = x.clone().detach().require_grad();
            let y = f(x.clone());
            // Another weight for every output, so that no two gradients can be mixed up.
            let count = y.shape().num_elements();
            let weights = Tensor::<1, burn::tensor::Int>::arange(0..count as i64, &y.device());
            let weights = (weights.float() * 0.7 + 0.5).sin().reshape(y.dims());
            let gradients = (y.clone() * weights).sum().backward();
            (y.into_data(), x.grad(&gradients).expect("a gradient").into_data())
        };
        let ((y, dx), (expected_y, expected_dx)) = (run(&fused), run(&composed));
        let tolerance = Tolerance::rel_abs(1e-4, 1e-4);
        y.assert_approx_eq::<f32>(&expected_y, tolerance);
        dx.assert_approx_eq::<f32>(&expected_dx, tolerance);
    }

    #[test]
    fn gelu_equals_the_composition() {
        let x = random([3, 1000], &device()) * 4.0;
        agree(&x, gelu, activation::gelu);
    }

    #[test]
    fn layer_norm_equals_the_composition() {
        let device = device();
        for width in [1, 5, 16, 384] {
            let x = random([3, 7, width], &device) * 2.0 + 1.5;
            let (gamma, beta) = (random([width], &device), random([width], &device));
            let composed = |x: Tensor<3>, gamma: Tensor<1>, beta: Tensor<1>| {
                burn::tensor::module::layer_norm(x, gamma, Some(beta), 1e-3)
            };
            let (g, b) = (gamma.clone(), beta.clone());
            agree(
                &x,
                |x| layer_norm(x, g.clone(), b.clone(), 1e-3),
                |x| composed(x, g.clone(), b.clone()),
            );
            agree(
                &gamma,
                |g| layer_norm(x.clone(), g, b.clone(), 1e-3),
                |g| composed(x.clone(), g, b.clone()),
            );
            agree(
                &beta,
                |b| layer_norm(x.clone(), g.clone(), b, 1e-3),
                |b| composed(x.clone(), g.clone(), b),
            );
        }
    }

    #[test]
    fn masked_softmax_equals_the_composition() {
        let device = device();
        for (length, width) in [(5, 1), (5, 7), (5, 40), (7, 7), (1, 9), (20, 33)] {
            let scores = random([2, 3, length, width], &device) * 3.0;
            // The second half of the second example's columns is padding, but for the columns
            // that the first row sees where it sees no later ones.
            let own = width.saturating_sub(length);
            let padded = |i: usize| i >= width && i % width > own.max(width / 2);
            let padding: Vec<bool> = (0..2 * width).map(padded).collect();
            let padding =
                Tensor::<1, Bool>::from_data(padding.as_slice(), &device).reshape([2, width]);
            for causal in [false, true] {
                // Fewer columns than rows would leave rows with none.
                if causal && width < length {
                    continue;
                }
                let later = |i: usize| causal && i % width > i / width + width - length;
                let later: Vec<bool> = (0..length * width).map(later).collect();
                let later = Tensor::<1, Bool>::from_data(later.as_slice(), &device);
                let later = later.reshape([1, 1, length, width]).expand(scores.dims());
                for padding in [None, Some(padding.clone())] {
                    let mask = AttentionMask { padding: padding.clone(), causal };
                    agree(
                        &scores,
                        |x| masked_softmax(x, 0.3, &mask),
                        |x| {
                            let masked = match &padding {
                                Some(padding) => {
                                    let padding = padding.clone().reshape([2, 1, 1, width]);
                                    padding.expand(x.dims()).bool_or(later.clone())
                                }
                                None => later.clone(),
                            };
                            activation::softmax((x * 0.3).mask_fill(masked, f32::NEG_INFINITY), 3)
                        },
                    );
                    let masked = mask.masked(length, width, &device);
                    let masked = masked.map(|masked| masked.expand(scores.dims()));
                    let filled = match masked {
                        Some(masked) => scores.clone().mask_fill(masked, f32::NEG_INFINITY),
                        None => scores.clone(),
                    };
                    let composed = activation::softmax(filled, 3).into_data();
                    let found = masked_softmax(scores.clone(), 1.0, &mask).into_data();
                    found.assert_approx_eq::<f32>(&composed, Tolerance::rel_abs(1e-4, 1e-6));
                }
            }
        }
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats_with_the_seed() {
        let device = device();
        let x = Tensor::<2>::ones([100, 1000], &device).require_grad();
        let y = dropout(x.clone(), 0.3);
        let mean = y.clone().mean().into_scalar::<f32>();
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        // The gradient passes where the value passed, scaled alike.
        let gradient = x.grad(&y.clone().sum().backward()).expect("a gradient").into_data();
        gradient.assert_eq(&y.clone().into_data(), true);

        device.seed(11);
        dropout(x.clone(), 0.3).into_data().assert_eq(&y.clone().into_data(), true);
        let other = dropout(x, 0.3);
        let differing = (other - y).abs().greater_scalar(0.1).float().mean().into_scalar::<f32>();
        assert!((differing - 2.0 * 0.3 * 0.7).abs() < 0.01, "{differing}");
    }

    #[test]
    fn batch_norm_equals_the_composition() {
        let device = device();
        for activation in [Activation::None, Activation::Relu, Activation::Relu6] {
            for (batch, plane) in [(4, [5, 7]), (3, [1, 1]), (2, [16, 4])] {
                let x = random([batch, 3, plane[0], plane[1]], &device) * 5.0 + 2.0;
                let (gamma, beta) = (random([3], &device) * 3.0, random([3], &device));
                let fused = |x, gamma, beta| batch_norm_train(x, gamma, beta, 1e-4, activation);
                let composed = |x, gamma, beta| {
                    let result = burn::tensor::module::batch_norm_train(x, gamma, beta, 1e-4);
                    (activation.forward(result.output), result.mean, result.variance)
                };
                let (g, b) = (gamma.clone(), beta.clone());
                agree(
                    &x,
                    |x| fused(x, g.clone(), b.clone()).0,
                    |x| composed(x, g.clone(), b.clone()).0,
                );
                agree(
                    &gamma,
                    |g| fused(x.clone(), g, b.clone()).0,
                    |g| composed(x.clone(), g, b.clone()).0,
                );
                agree(
                    &beta,
                    |b| fused(x.clone(), g.clone(), b).0,
                    |b| composed(x.clone(), g.clone(), b).0,
                );
                let (_, mean, variance) = fused(x.clone(), g.clone(), b.clone());
                let (_, expected_mean, expected_variance) = composed(x, g, b);
                let tolerance = Tolerance::rel_abs(1e-4, 1e-5);
                let check = |a: Tensor<1>, b: Tensor<1>| {
                    a.into_data().assert_approx_eq::<f32>(&b.into_data(), tolerance);
                };
                check(mean, expected_mean);
                check(variance, expected_variance);
            }
        }
    }

    #[test]
    fn convolution_equals_burns() {
        let device = device();
        // batch, channels in and out, image, kernel, stride, padding, groups
        let cases = [
            (2, [3, 16], [8, 8], [3, 3], [1, 1], [(1, 1), (1, 1)], 1),
            (5, [16, 24], [9, 7], [3, 3], [2, 2], [(1, 1), (1, 1)], 1),
            (3, [4, 5], [6, 5], [1, 1], [1, 1], [(0, 0), (0, 0)], 1),
            (3, [4, 8], [7, 9], [1, 1], [2, 2], [(0, 0), (0, 0)], 1),
            (2, [6, 6], [8, 10], [3, 3], [1, 1], [(1, 1), (1, 1)], 6),
            (2, [6, 6], [9, 8], [3, 3], [2, 2], [(1, 1), (1, 1)], 6),
            (2, [6, 9], [8, 8], [5, 3], [1, 2], [(2, 1), (0, 2)], 3),
            (1, [2, 3], [20, 33], [7, 7], [3, 2], [(3, 3), (3, 3)], 1),
            (33, [1, 1], [3, 3], [3, 3], [1, 1], [(1, 1), (1, 1)], 1),
        ];
        for (batch, [from, to], [height, width], kernel, stride, padding, groups) in cases {
            let options = ConvOptions::new_with_padding(stride, padding, [1, 1], groups);
            let x = random([batch, from, height, width], &device);
            let weight = random([to, from / groups, kernel[0], kernel[1]], &device);
            let bias = random([to], &device);
            let burns = |x, weight, bias, options: ConvOptions<2>| {
                burn::tensor::module::conv2d(x, weight, bias, options)
            };
            let (w, b, o) = (&weight, &bias, &options);
            agree(
                &x,
                |x| conv2d(x, w.clone(), Some(b.clone()), o.clone()),
                |x| burns(x, w.clone(), Some(b.clone()), o.clone()),
            );
            agree(
                w,
                |w| conv2d(x.clone(), w, None, o.clone()),
                |w| burns(x.clone(), w, None, o.clone()),
            );
            agree(
                b,
                |b| conv2d(x.clone(), w.clone(), Some(b), o.clone()),
                |b| burns(x.clone(), w.clone(), Some(b), o.clone()),
            );
        }
    }

    #[test]
    fn linear_equals_burns() {
        let device = device();
        for (rows, from, to) in [(1, 1, 1), (5, 7, 3), (300, 64, 130)] {
            let (x, w, b) =
                (random([rows, from], &device), random([from, to], &device), random([to], &device));
            let (x, w, b) = (&x, &w, &b);
            let burns = burn::tensor::module::linear::<2>;
            agree(
                x,
                |x| linear(x, w.clone(), Some(b.clone())),
                |x| burns(x, w.clone(), Some(b.clone())),
            );
            agree(w, |w| linear(x.clone(), w, None), |w| burns(x.clone(), w, None));
            agree(
                b,
                |b| linear(x.clone(), w.clone(), Some(b)),
                |b| burns(x.clone(), w.clone(), Some(b)),
            );
        }
    }

    #[test]
    fn cross_entropy_equals_the_composition() {
        let device = device();
        let logits = random([9, 37], &device) * 5.0;
        let targets = Tensor::<1, Int>::arange(0..9, &device) * 4;
        let composed = |x: Tensor<2>| {
            activation::log_softmax(x, 1).gather(1, targets.clone().reshape([9, 1])).mean().neg()
        };
        agree(&logits, |x| cross_entropy(x, targets.clone()), composed);
        // Logits that nobody else holds, whose place the gradient takes.
        agree(&logits, |x| cross_entropy(x * 2.0, targets.clone()), |x| composed(x * 2.0));

        // The gradient of the loss itself.
        let x = logits.clone().require_grad();
        let gradient = |loss: Tensor<1>| x.grad(&loss.backward()).expect("a gradient").into_data();
        let found = gradient(cross_entropy(x.clone() * 2.0, targets.clone()));
        let expected = gradient(composed(x.clone() * 2.0));
        found.assert_approx_eq::<f32>(&expected, Tolerance::rel_abs(1e-4, 1e-6));
    }

    /// Against the definition: the cross-entropy with a distribution that is written down, over
    /// the rows that count.
    #[test]
    fn cross_entropy_ignores_and_smoothes() {
        let device = device();
        let (rows, classes) = (7, 37);
        let logits = random([rows, classes], &device) * 5.0;
        for ignored in [-100, 3] {
            let targets = [0, ignored, 36, 5, ignored, ignored, 17];
            for smoothing in [0.0, 0.1, 1.0] {
                let mut wanted = vec![0f64; rows * classes];
                let counted = targets.iter().enumerate().filter(|(_, target)| **target != ignored);
                for (row, target) in counted {
                    let wanted = &mut wanted[row * classes..][..classes];
                    wanted.fill(smoothing / classes as f64);
                    wanted[*target as usize] += 1.0 - smoothing;
                }
                let wanted: Vec<f32> = wanted.iter().map(|w| (w / 4.0) as f32).collect();
                let wanted = Tensor::<1>::from_data(wanted.as_slice(), &device);
                let wanted = wanted.reshape([rows, classes]);
                let settings = CrossEntropy { ignored: Some(ignored), smoothing };
                let targets = Tensor::<1, Int>::from_ints(targets, &device);
                let expected = |x| (activation::log_softmax(x, 1) * wanted.clone()).sum().neg();
                for operation in [cross_entropy_with, cross_entropy_composed] {
                    agree(&logits, |x| operation(x, targets.clone(), settings), expected);
                }
            }
        }
        let nothing = Tensor::<1, Int>::full([rows], 3, &device);
        let settings = CrossEntropy { ignored: Some(3), smoothing: 0.1 };
        let zero = |x: Tensor<2>| x.sum() * 0.0;
        agree(&logits, |x| cross_entropy_with(x, nothing.clone(), settings), zero);
    }

    #[test]
    fn adamw_equals_burns() {
        let device = Device::default();
        device.seed(12);
        let burns = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(0.1).build();
        let (mut x, mut burns_state) = (random([40, 500], &device), None);
        let (mut fused, mut state) = (x.clone(), None);
        for _ in 0..5 {
            let gradient = random([40, 500], &device);
            (x, burns_state) = burns.step(1e-2, x, gradient.clone(), burns_state);
            (fused, state) = AdamW::new(0.1).step(1e-2, fused, gradient, state);
        }
        let tolerance = Tolerance::rel_abs(1e-5, 1e-6);
        fused.into_data().assert_approx_eq::<f32>(&x.into_data(), tolerance);
        let (found, expected) = (state.unwrap().momentum, burns_state.unwrap().momentum);
        assert_eq!(found.time, expected.time);
        let expected = expected.moment_2.into_data();
        found.moment_2.into_data().assert_approx_eq::<f32>(&expected, tolerance);
    }

    #[test]
    fn not_a_number_stays_visible() {
        let device = device();
        let x = Tensor::<2>::from_floats([[f32::NAN, 1.0, 2.0]], &device);
        assert!(gelu(x.clone()).contains_nan().into_scalar::<bool>());
        let (ones, zeros) = (Tensor::ones([3], &device), Tensor::zeros([3], &device));
        let y = layer_norm(x.clone(), ones, zeros, 1e-5);
        assert!(y.contains_nan().into_scalar::<bool>());
        let y = masked_softmax(x.reshape([1, 1, 1, 3]), 1.0, &AttentionMask::default());
        assert!(y.contains_nan().into_scalar::<bool>());
    }
}
