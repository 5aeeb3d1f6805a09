#![warn(missing_docs)]
//! Quantization-aware training on [Burn](burn) with AUSN: low-bit codes that are a power of two plus
//! a few gated lower powers of two, adapted layer by layer (arXiv 2007.03903).
//!
//! # Quantize your own model
//!
//! Any Burn module will do; its weights are found by path. Three steps: plan, calibrate, attach.
//!
//! ```
//! use ausn::quant::{self, CalibrationError, Plan, QuantSpec};
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Distribution, Tensor, activation::relu};
//!
//! #[derive(Module, Debug)]
//! struct Mlp {
//!     hidden: Linear,
//!     output: Linear,
//! }
//!
//! impl Mlp {
//!     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.output.forward(relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! let device = Device::default().autodiff();
//! let model = Mlp {
//!     hidden: LinearConfig::new(8, 32).init(&device),
//!     output: LinearConfig::new(32, 4).init(&device),
//! };
//!
//! // Four-bit weights everywhere; E, S and range are chosen for each layer by least squared error.
//! let plan = Plan::resolve(&quant::sites(&model), Some(QuantSpec::ausn(4)), None, &[])?;
//! let plan = quant::calibrate(&model, &plan, |_| Ok::<(), CalibrationError>(()))?;
//! let quantized = quant::attach(model, &plan)?;
//!
//! // The model is of the same type, and trains as before: gradients pass straight through.
//! let x = Tensor::<2>::random([16, 8], Distribution::Default, &device);
//! let loss = quantized.model.forward(x).powi_scalar(2).mean();
//! let gradients = loss.backward();
//! let stored = quantized.model.hidden.weight.base();
//! assert!(stored.grad(&gradients).is_some());
//!
//! // `val()` is the quantized weight: at most 15 different values.
//! let mut values: Vec<f32> =
//!     quantized.model.hidden.weight.val().into_data().try_to_vec().expect("32-bit floats");
//! values.sort_by(f32::total_cmp);
//! values.dedup();
//! assert!(values.len() <= 15);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Activations are quantized where a layer has an [`ActivationQuantizer`](quant::ActivationQuantizer)
//! at its input: wrap the layer in [`nn::Quantized`], and run a few batches in the closure given to
//! [`quant::calibrate`].
//!
//! # How it is laid out
//!
//! Data flows one way: [`config`] (a file, checked) → [`tasks`] (data, model, loss, metric) →
//! [`train`] (float stage, calibration, quantization-aware stage) → [`evaluate`] → [`deploy`].
//!
//! | module | what lives there |
//! |---|---|
//! | [`coding`] | number formats as pure arithmetic |
//! | [`quant`] | the same on tensors: fake quantization, ranges, the plan |
//! | [`kernels`] | operations that are fused where the backend allows it |
//! | [`nn`], [`models`] | layers with quantizers inside, and models made of them |
//! | [`data`], [`tasks`] | data sets, and what is learned from them |
//! | [`metrics`] | what tasks measure, as pure arithmetic |
//! | [`devices`] | devices by name, also of other machines |
//! | [`train`], [`evaluate`] | training runs, metrics, the layer error log and reports |
//! | [`search`] | a coding for each layer under a budget |
//! | [`post_training`] | learned rounding and bias correction, without training |
//! | [`suite`] | tasks x codings x seeds: runs of a whole table, and the table |
//! | [`deploy`] | packed codes |
//! | [`cli`] | the `ausn` command |

pub mod allocator;
pub mod cli;
pub mod coding;
pub mod config;
pub mod data;
pub mod deploy;
pub mod devices;
pub mod evaluate;
mod files;
pub mod kernels;
pub mod metrics;
pub mod models;
pub mod nn;
pub mod post_training;
pub mod quant;
pub mod search;
pub mod suite;
pub mod tasks;
pub mod train;
pub mod version;
