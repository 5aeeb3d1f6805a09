//! One training step of each benchmarked model, float or quantized: forward pass, backward pass
//! and AdamW, on random data.

use ausn::coding::{AusnFormat, Underflow};
use ausn::kernels::{AdamW, cross_entropy};
use ausn::models::Classifier;
use ausn::models::bert::{BertConfig, TokenBatch};
use ausn::models::lstm_language_model::LstmLanguageModelConfig;
use ausn::models::mobilenet::MobileNetV2Config;
use ausn::models::resnet::ResNetConfig;
use ausn::models::resnet_imagenet::{Depth, ImageNetResNetConfig};
use ausn::quant::{
    CalibrationError, CodingSpec, Estimator, FakeQuantize, Granularity, Plan, QuantSpec, RangeRule,
    attach, calibrate, fake_quantize, sites,
};
use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Distribution, Tensor};

use crate::copy::{copy, finish};

/// The benchmarked models.
pub const MODELS: [&str; 4] = ["bert", "resnet20", "lstm", "mobilenetv2"];

/// Larger ones, for a GPU.
pub const LARGE_MODELS: [&str; 2] = ["bert_base", "resnet18"];

/// Float, or AUSN with 4-bit weights and 8-bit activations in all layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    Float,
    Quantized,
}

/// Runs one training step and gives its loss.
pub type Step = Box<dyn FnMut() -> f32>;

/// What of a model's size can be changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Examples in a batch.
    pub batch: Option<usize>,
    /// Encoder layers (`bert`), blocks in each stage (`resnet20`), recurrent layers (`lstm`).
    pub layers: Option<usize>,
}

/// The step of a model.
pub fn step(model: &str, variant: Variant, size: Size, device: &Device) -> Step {
    let Size { batch, layers } = size;
    device.seed(1);
    let integers =
        |shape, end: f64| Tensor::<2>::random(shape, Distribution::Uniform(0.0, end), device).int();
    match model {
        "bert" | "bert_base" => {
            let (length, width, depth) =
                if model == "bert" { (64, 256, 4) } else { (128, 768, 12) };
            let batch = batch.unwrap_or(32);
            let config = BertConfig {
                hidden_size: width,
                intermediate_size: 4 * width,
                num_hidden_layers: layers.unwrap_or(depth),
                num_attention_heads: width / 64,
                vocab_size: 30_522,
                ..BertConfig::default()
            };
            let tokens = integers([batch, length], 30_522.0);
            let padding = Tensor::zeros([batch, length], device);
            let input = TokenBatch { tokens, padding, types: None };
            classifier(config.init_classifier(2, device), variant, input, batch, 2)
        }
        "resnet18" => {
            let batch = batch.unwrap_or(64);
            let images = Tensor::random([batch, 3, 224, 224], Distribution::Default, device);
            let network = ImageNetResNetConfig { depth: Depth::D18, width: 64 };
            classifier(network.init(3, 1000, device), variant, images, batch, 1000)
        }
        "resnet20" => {
            let batch = batch.unwrap_or(128);
            let images = Tensor::random([batch, 3, 32, 32], Distribution::Default, device);
            let network =
                ResNetConfig { depth: 6 * layers.unwrap_or(3) + 2, ..ResNetConfig::default() };
            let network = network.init(3, 10, device);
            classifier(network, variant, images, batch, 10)
        }
        "mobilenetv2" => {
            let batch = batch.unwrap_or(32);
            let images = Tensor::random([batch, 3, 96, 96], Distribution::Default, device);
            let network = MobileNetV2Config::default().init(3, 1000, device);
            classifier(network, variant, images, batch, 1000)
        }
        "lstm" => {
            let (batch, length, words) = (batch.unwrap_or(20), 35, 10_000);
            let input = integers([batch, length], words as f64);
            let targets = integers([batch, length], words as f64).reshape([-1]);
            let layers = layers.unwrap_or(1);
            let config = LstmLanguageModelConfig { layers, ..LstmLanguageModelConfig::default() };
            let network = config.init(words, device);
            training_step(network, variant, move |model| {
                let logits = model.forward(input.clone()).reshape([-1, words as i64]);
                cross_entropy(logits, targets.clone())
            })
        }
        "fake_quantize_16m" => fake_quantize_16m(variant, device),
        _ => panic!(
            "no model `{model}`; there are {}",
            [&MODELS[..], &LARGE_MODELS].concat().join(", ")
        ),
    }
}

/// Fake quantization of 16M values, or in float a plain copy of as many.
fn fake_quantize_16m(variant: Variant, device: &Device) -> Step {
    const COUNT: usize = 1 << 24;
    let format = AusnFormat::new(2, 1, true, Underflow::Gradual).expect("E2 S1 exists");
    let (granularity, estimator) = (Granularity::Tensor, Estimator::Clipped);
    let operation = FakeQuantize::new(format, granularity, estimator);
    let x = Tensor::<1>::random([COUNT], Distribution::Normal(0.0, 1.0), device);
    let scale = Tensor::<1>::ones([1], device);
    let device = device.clone();
    Box::new(move || {
        match variant {
            Variant::Quantized => {
                finish(fake_quantize(x.clone(), scale.clone(), operation), &device);
            }
            Variant::Float => copy(&x),
        }
        0.0
    })
}

fn classifier<N: Classifier>(
    network: N,
    variant: Variant,
    input: N::Input,
    batch: usize,
    classes: usize,
) -> Step
where
    N::Input: Clone,
{
    let device = network.devices().remove(0);
    let targets = Tensor::<1>::random([batch], Distribution::Uniform(0.0, classes as f64), &device);
    let targets = targets.int();
    training_step(network, variant, move |model| {
        cross_entropy(model.forward(input.clone()), targets.clone())
    })
}

fn training_step<M: Module + 'static>(
    network: M,
    variant: Variant,
    loss: impl Fn(&M) -> Tensor<1> + 'static,
) -> Step {
    let network = match variant {
        Variant::Float => network,
        Variant::Quantized => quantized(network, &loss),
    };
    let mut network = Some(network.train());
    let mut optimizer = ModuleOptimizer::from(AdamW::new(0.01));
    Box::new(move || {
        let model = network.take().expect("every step puts the model back");
        let loss = loss(&model);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        network = Some(optimizer.step(1e-4, model, gradients));
        loss.into_scalar()
    })
}

/// W4A8, one range for each tensor, calibrated on the batch.
fn quantized<M: Module>(network: M, loss: &impl Fn(&M) -> Tensor<1>) -> M {
    let spec = |bits, e, s| QuantSpec {
        coding: CodingSpec::Ausn { bits, split: Some((e, s)), underflow: Underflow::Gradual },
        range: RangeRule::Max,
        ..QuantSpec::ausn(bits)
    };
    let (weight, activation) = (spec(4, 2, 1), spec(8, 3, 4));
    let plan = Plan::resolve(&sites(&network), Some(weight), Some(activation), &[]);
    let plan = plan.expect("a plan without patterns resolves");
    let plan = calibrate(&network, &plan, |observed| {
        loss(observed);
        Ok::<(), CalibrationError>(())
    });
    attach(network, &plan.expect("random weights are finite")).expect("a float model").model
}
