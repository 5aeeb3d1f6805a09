//! Vision models: shapes, published sizes, gradients, folding, quantization, and a detector that
//! learns.

mod common;

use ausn::metrics::TrueBox;
use ausn::models::Classifier;
use ausn::models::detector::{Detector, DetectorConfig};
use ausn::models::mobilenet::MobileNetV2Config;
use ausn::models::resnet::ResNetConfig;
use ausn::models::resnet_imagenet::{Depth, ImageNetResNetConfig};
use ausn::models::vgg::VggSmallConfig;
use ausn::models::vit::VitConfig;
use ausn::nn::{FoldBatchNorm, FoldError};
use ausn::quant::{
    CalibrationError, GranularitySpec, Plan, QuantSpec, QuantizedModel, attach, calibrate, sites,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Distribution, Gradients, Tensor, TensorData, Tolerance};

/// Weights, without the slots of activation quantizers and the running statistics of batch
/// normalization.
fn weights<M: FoldBatchNorm>(model: &mut M) -> usize {
    let slots = sites(model).iter().filter(|site| !site.kind.is_weight()).count();
    let normalized: usize =
        model.conv_norms().iter().map(|layer| layer.layer.weight.dims()[0]).sum();
    model.num_params() - slots - 2 * normalized
}

#[test]
fn models_have_the_published_numbers_of_parameters() {
    let device = Device::default();
    // Those of torchvision's models.
    for (depth, expected) in [(Depth::D18, 11_689_512), (Depth::D50, 25_557_032)] {
        let mut model = ImageNetResNetConfig { depth, ..ImageNetResNetConfig::default() }
            .init(3, 1000, &device);
        assert_eq!(weights(&mut model), expected, "{depth:?}");
    }
    // Six convolutions without biases, two numbers for each of their channels, a linear layer.
    let mut vgg = VggSmallConfig::default().init(3, 10, &device);
    let convs = 9 * 128 * (3 + 128 + 2 * 128 + 4 * 128 + 8 * 128 + 16 * 128);
    assert_eq!(weights(&mut vgg), convs + 2 * (128 + 256 + 512) * 2 + 8192 * 10 + 10);
    // Patches, class token, 65 positions, six layers, a normalization, a linear layer.
    let mut vit = VitConfig::default().init([3, 32, 32], 10, &device);
    let (w, inner) = (192, 384);
    let layer = 4 * (w * w + w) + 2 * (2 * w) + (w * inner + inner) + (inner * w + w);
    let expected = 48 * w + w + w + 65 * w + 6 * layer + 2 * w + w * 10 + 10;
    assert_eq!(weights(&mut vit), expected);
}

/// Every parameter that trains has a gradient that is finite and not all zero.
fn check_gradients<M: Module>(model: &M, gradients: &Gradients) {
    struct Checker<'a> {
        path: Vec<String>,
        gradients: &'a Gradients,
        checked: usize,
    }
    impl ModuleVisitor for Checker<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if !param.base().is_require_grad() {
                return;
            }
            let path = self.path.join(".");
            let Some(gradient) = param.base().grad(self.gradients) else {
                panic!("{path} has no gradient");
            };
            let largest = gradient.abs().max().into_scalar::<f32>();
            // Softmax does not see what all keys have in common.
            let invariant = path.ends_with("attention.key.bias");
            assert!(largest.is_finite() && (largest > 0.0 || invariant), "{path}: {largest}");
            self.checked += 1;
        }
    }
    let mut checker = Checker { path: Vec::new(), gradients, checked: 0 };
    model.visit(&mut checker);
    assert!(checker.checked > 3);
}

/// 4-bit weights, 8-bit activations, calibrated by `run`.
fn quantized<M: Module>(model: &M, run: impl Fn(&M)) -> QuantizedModel<M> {
    let weight = QuantSpec { granularity: GranularitySpec::PerChannel, ..QuantSpec::ausn(4) };
    let plan = Plan::resolve(&sites(model), Some(weight), Some(QuantSpec::ausn(8)), &[]).unwrap();
    let plan = calibrate(model, &plan, |observed| {
        run(observed);
        Ok::<(), CalibrationError>(())
    });
    attach(model.clone(), &plan.unwrap()).unwrap()
}

/// Shape, gradients of the float and of the quantized model, and the distance of the two.
fn check_model<M: FoldBatchNorm, const D: usize>(
    name: &str,
    model: M,
    images: &Tensor<4>,
    shape: [usize; D],
    forward: impl Fn(&M, Tensor<4>) -> Tensor<D>,
) {
    // Calibration sees the running statistics: they have to be those of the data by then.
    for _ in 0..40 {
        forward(&model, images.clone());
    }
    let logits = forward(&model, images.clone());
    assert_eq!(logits.dims(), shape, "{name}");
    check_gradients(&model, &random_loss(logits).backward());

    let observed = images.clone().inner();
    let quantized = quantized(&model, |model| {
        forward(model, observed.clone());
    });
    let found = forward(&quantized.model.valid(), observed.clone());
    let expected = forward(&model.valid(), observed.clone());
    let power = expected.clone().powi_scalar(2).mean().into_scalar::<f32>();
    let error = (found - expected).powi_scalar(2).mean().into_scalar::<f32>();
    assert!(error > 0.0 && error < 0.5 * power, "{name}: {error} of {power}");
    let logits = forward(&quantized.model, images.clone());
    let largest = random_loss(logits).backward();
    let path = sites(&model).into_iter().find(|site| site.kind.is_weight()).unwrap().path;
    let gradient = common::gradient(&quantized.model, &path, &largest);
    assert!(gradient.iter().all(|g| g.is_finite()) && gradient.iter().any(|g| *g != 0.0));
}

/// A loss in which every output counts differently.
fn random_loss<const D: usize>(output: Tensor<D>) -> Tensor<1> {
    let noise = output.random_like(Distribution::Normal(0.0, 1.0));
    ((output.clone() - noise).powi_scalar(2)).mean()
}

fn images(size: usize, device: &Device) -> Tensor<4> {
    Tensor::random([4, 3, size, size], Distribution::Normal(0.0, 1.0), device)
}

fn training_device() -> Device {
    let device = Device::default().autodiff();
    device.seed(21);
    device
}

#[test]
fn resnet_18_trains_and_quantizes() {
    let device = training_device();
    let model = ImageNetResNetConfig { depth: Depth::D18, width: 4 }.init(3, 5, &device);
    check_model("resnet-18", model, &images(33, &device), [4, 5], |m, x| m.forward(x));
}

#[test]
fn resnet_50_trains_and_quantizes() {
    let device = training_device();
    let model = ImageNetResNetConfig { depth: Depth::D50, width: 4 }.init(3, 5, &device);
    check_model("resnet-50", model, &images(32, &device), [4, 5], |m, x| m.forward(x));
}

#[test]
fn vgg_small_trains_and_quantizes() {
    let device = training_device();
    let config = VggSmallConfig { width: 8 };
    check_model("vgg", config.init(3, 5, &device), &images(32, &device), [4, 5], |m, x| {
        m.forward(x)
    });
    // The digits have 8 x 8 pixels.
    let model = config.init(3, 5, &device);
    assert_eq!(model.forward(images(8, &device)).dims(), [4, 5]);
}

#[test]
fn vit_trains_and_quantizes() {
    let device = training_device();
    let config =
        VitConfig { hidden_size: 12, intermediate_size: 20, layers: 2, ..VitConfig::default() };
    let model = || config.init([3, 16, 16], 5, &device);
    check_model("vit", model(), &images(16, &device), [4, 5], |m, x| m.forward(x));
    assert_eq!(model().fold_batch_norm().unwrap_err(), FoldError::NoBatchNorm);
}

#[test]
fn impossible_settings_are_named() {
    for patch_size in [0, 3] {
        let vit = VitConfig { patch_size, ..VitConfig::default() };
        assert_eq!(vit.patches([9, 8]).unwrap_err().0, "patch-size");
        assert_eq!(vit.patches([8, 9]).unwrap_err().0, "patch-size");
    }
    assert_eq!(VitConfig::default().patches([8, 12]), Ok(6));
    let vit = VitConfig { heads: 5, ..VitConfig::default() };
    assert_eq!(vit.validate().unwrap_err().0, "heads");
    let detector = DetectorConfig { stride: 12, ..DetectorConfig::default() };
    assert_eq!(detector.validate().unwrap_err().0, "stride");
    let detector = DetectorConfig { anchors: vec![[8.0, 0.0]], ..DetectorConfig::default() };
    assert_eq!(detector.validate().unwrap_err().0, "anchors");
    let error = serde_json::from_str::<ImageNetResNetConfig>(r#"{"depth": 20}"#).unwrap_err();
    assert!(error.to_string().contains("must be 18, 34, 50, 101 or 152"), "{error}");
}

/// No batch normalization is left, and what the model computes outside of training is the same.
fn check_folding<M: FoldBatchNorm, const D: usize>(
    name: &str,
    model: M,
    images: &Tensor<4>,
    forward: impl Fn(&M, Tensor<4>) -> Tensor<D>,
) {
    struct Finder(bool);
    impl ModuleVisitor for Finder {
        fn enter_module(&mut self, _name: &str, container_type: &str) {
            self.0 |= container_type == "Struct:BatchNorm";
        }
    }
    let has_batch_norm = |model: &M| {
        let mut finder = Finder(false);
        model.visit(&mut finder);
        finder.0
    };
    // Statistics of its own for every layer.
    for _ in 0..3 {
        forward(&model, images.clone());
    }
    assert!(has_batch_norm(&model), "{name}");
    let folded = model.clone().fold_batch_norm().unwrap();
    assert!(!has_batch_norm(&folded), "{name}");

    let images = images.clone().inner();
    let expected = forward(&model.valid(), images.clone()).into_data();
    let found = forward(&folded.valid(), images.clone()).into_data();
    let largest = expected.iter::<f32>().fold(1f32, |max, v| max.max(v.abs()));
    found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5 * largest));

    let quantized = quantized(&folded, |model| {
        forward(model, images.clone());
    });
    // In training as out of it.
    let outside = forward(&quantized.model.valid(), images.clone()).into_data();
    let training = Tensor::from_inner(images);
    let inside = forward(&quantized.model, training).into_data();
    inside.assert_approx_eq::<f32>(&outside, Tolerance::absolute(1e-5 * largest));
}

#[test]
fn every_batch_norm_folds_into_its_convolution() {
    let device = training_device();
    let x = images(32, &device);
    let resnet = ResNetConfig { depth: 8, width: 4 }.init(3, 5, &device);
    check_folding("resnet-8", resnet, &x, |m, x| m.forward(x));
    let resnet = ImageNetResNetConfig { depth: Depth::D50, width: 4 }.init(3, 5, &device);
    check_folding("resnet-50", resnet, &x, |m, x| m.forward(x));
    let vgg = VggSmallConfig { width: 4 }.init(3, 5, &device);
    check_folding("vgg", vgg, &x, |m, x| m.forward(x));
    // Without dropout, so that training and evaluation compute the same.
    let mobilenet = MobileNetV2Config { width_multiplier: 0.25, dropout: 0.0 };
    check_folding("mobilenet", mobilenet.init(3, 5, &device), &x, |m, x| m.forward(x));
    check_folding("detector", detector().init(3, 2, &device), &x, |m, x| m.forward(x));
}

fn detector() -> DetectorConfig {
    let anchors = vec![[12.0, 12.0], [24.0, 16.0]];
    DetectorConfig { stride: 8, width: 8, depth: 1, anchors }
}

#[test]
fn detector_trains_and_quantizes() {
    let device = training_device();
    let model = detector().init(3, 2, &device);
    // 41 pixels are six cells of 8.
    check_model("detector", model, &images(41, &device), [4, 6, 6, 2, 7], |m, x| m.forward(x));
}

#[test]
fn boxes_follow_from_the_numbers_of_their_cell() {
    let device = Device::default();
    let detector = detector().init(3, 2, &device);
    let mut numbers = vec![0f32; 2 * 3 * 2 * 7];
    numbers.chunks_mut(7).for_each(|place| place[4] = -20.0);
    // Row 1, column 2, second anchor: a quarter into the cell, half as wide, twice as high.
    let place = &mut numbers[(5 * 2 + 1) * 7..][..7];
    let quarter = (0.25f32 / 0.75).ln();
    place.copy_from_slice(&[quarter, quarter, 0.5f32.ln(), 2f32.ln(), 3.0, 0.0, 5.0]);
    let output = Tensor::from_data(TensorData::new(numbers, [1, 2, 3, 2, 7]), &device);
    let found = detector.detections(output, 0.6);
    assert_eq!((found.len(), found[0].len()), (1, 1));
    let (centre, size) = ([18.0, 10.0], [12.0, 32.0]);
    let [x0, y0, x1, y1] = found[0][0].bounds;
    for (found, expected) in [
        (x0, centre[0] - size[0] / 2.0),
        (y0, centre[1] - size[1] / 2.0),
        (x1, centre[0] + size[0] / 2.0),
        (y1, centre[1] + size[1] / 2.0),
    ] {
        assert!((found - expected).abs() < 1e-4, "{found} instead of {expected}");
    }
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    assert_eq!(found[0][0].class, 1);
    assert!((found[0][0].score - sigmoid(3.0) * sigmoid(5.0)).abs() < 1e-5);
}

/// Four images of a bright or a striped rectangle on noise.
fn scenes(device: &Device) -> (Tensor<4>, Vec<Vec<TrueBox>>) {
    let rectangles =
        [[5usize, 7, 17, 19, 0], [20, 30, 44, 46, 1], [40, 8, 52, 20, 0], [2, 40, 26, 56, 1]];
    let noise = Tensor::<4>::random([4, 1, 64, 64], Distribution::Uniform(0.0, 0.2), device);
    let mut pixels: Vec<f32> = noise.into_data().try_to_vec().unwrap();
    let mut objects = Vec::new();
    for (image, [x0, y0, x1, y1, class]) in rectangles.into_iter().enumerate() {
        for y in y0..y1 {
            for x in x0..x1 {
                pixels[(image * 64 + y) * 64 + x] = if class == 1 && x % 4 < 2 { 0.3 } else { 1.0 };
            }
        }
        let bounds = [x0, y0, x1, y1].map(|v| v as f32);
        objects.push(vec![TrueBox { class, bounds }]);
    }
    (Tensor::from_data(TensorData::new(pixels, [4, 1, 64, 64]), device), objects)
}

fn train(mut model: Detector, steps: usize, rate: f64) -> (Detector, Vec<f32>) {
    let device = model.head.layer.weight.device();
    let (images, objects) = scenes(&device);
    let mut optimizer = AdamWConfig::new().init();
    let mut losses = Vec::new();
    for _ in 0..steps {
        let loss = model.loss(model.forward(images.clone()), &objects).total();
        losses.push(loss.clone().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(rate, model, gradients);
    }
    (model, losses)
}

/// The best detection of each image is its object.
fn check_detections(model: &Detector) {
    let (images, objects) = scenes(&Device::default());
    let found = model.detections(model.forward(images), 0.3);
    for (image, (found, objects)) in found.iter().zip(&objects).enumerate() {
        let best = found.iter().max_by(|a, b| a.score.total_cmp(&b.score));
        let best = best.unwrap_or_else(|| panic!("nothing found in image {image}"));
        assert_eq!(best.class, objects[0].class, "image {image}");
        for (found, expected) in best.bounds.iter().zip(objects[0].bounds) {
            assert!((found - expected).abs() < 3.0, "{best:?} instead of {:?}", objects[0]);
        }
    }
}

#[test]
fn detector_learns_four_images_in_float_and_folded_and_quantized() {
    let device = training_device();
    let (model, losses) = train(detector().init(1, 2, &device), 150, 5e-3);
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last < 0.1 * first, "{first} to {last}");
    check_detections(&model.valid());

    let folded = model.fold_batch_norm().unwrap();
    let images = scenes(&device.inner()).0;
    let quantized = quantized(&folded, |model| {
        model.forward(images.clone());
    });
    let (model, losses) = train(quantized.model, 40, 1e-3);
    let last = losses[losses.len() - 1];
    assert!(last < 0.2 * first, "{first} to {last} with quantizers");
    check_detections(&model.valid());
}
