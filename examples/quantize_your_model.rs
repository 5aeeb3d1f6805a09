//! Quantize the weights of a model that knows nothing of this crate.
//!
//! `cargo run --release --example quantize_your_model`: a small network of Burn's own layers learns
//! the optical digits in float, its weights are quantized to four bits, and it trains on.

use ausn::data::digits::{CLASSES, Digits, MAX_PIXEL};
use ausn::quant::{self, CalibrationError, Plan, QuantSpec};
use burn::module::Module;
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Your model: Burn's layers, nothing else.
#[derive(Module, Debug)]
struct Mlp {
    hidden: Linear,
    output: Linear,
}

impl Mlp {
    fn new(device: &Device) -> Self {
        Self {
            hidden: LinearConfig::new(64, 64).init(device),
            output: LinearConfig::new(64, CLASSES).init(device),
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.output.forward(relu(self.hidden.forward(x)))
    }
}

/// Images and their classes.
struct Examples {
    images: Tensor<2>,
    labels: Tensor<1, Int>,
}

impl Examples {
    fn new(digits: &Digits, rows: &[usize], device: &Device) -> Self {
        let pixel = |p: u8| f32::from(p) / f32::from(MAX_PIXEL);
        let pixels: Vec<f32> = rows.iter().flat_map(|&i| digits.images[i]).map(pixel).collect();
        let labels: Vec<i64> = rows.iter().map(|&i| digits.labels[i].into()).collect();
        Self {
            images: Tensor::from_data(TensorData::new(pixels, [rows.len(), 64]), device),
            labels: Tensor::from_data(labels.as_slice(), device),
        }
    }
}

fn train(mut model: Mlp, examples: &Examples, steps: usize, device: &Device) -> Mlp {
    let mut optimizer = ModuleOptimizer::from(AdamWConfig::new().build());
    let loss = CrossEntropyLossConfig::new().init(device);
    for _ in 0..steps {
        let logits = model.forward(examples.images.clone());
        let gradients = loss.forward(logits, examples.labels.clone()).backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(1e-2, model, gradients);
    }
    model
}

fn accuracy(model: &Mlp, examples: &Examples) -> f64 {
    let predicted = model.forward(examples.images.clone()).argmax(1).squeeze_dim::<1>(1);
    predicted.equal(examples.labels.clone()).float().mean().into_scalar::<f32>().into()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default().autodiff();
    device.seed(1);
    let digits = Digits::built_in()?;
    let split = digits.split(0.2, 1)?;
    let examples = |rows: &[usize]| Examples::new(&digits, rows, &device);
    let (learned, held_out) = (examples(&split.train), examples(&split.held_out));

    let model = train(Mlp::new(&device), &learned, 60, &device);
    println!("float               {:.4}", accuracy(&model, &held_out));

    // The three lines: which coding each layer gets, its range, and the quantized model, which is of
    // the same type. E and S of every layer are chosen by least squared error.
    let plan = Plan::resolve(&quant::sites(&model), Some(QuantSpec::ausn(4)), None, &[])?;
    let plan = quant::calibrate(&model, &plan, |_| Ok::<(), CalibrationError>(()))?;
    let model = quant::attach(model, &plan)?.model;
    println!("four-bit weights    {:.4}", accuracy(&model, &held_out));

    let model = train(model, &learned, 30, &device);
    println!("after fine-tuning   {:.4}", accuracy(&model, &held_out));
    for site in &plan.sites {
        println!("{} {}: {}", site.site.layer, site.site.tensor, site.format);
    }
    Ok(())
}
