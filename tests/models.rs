//! Models against published outputs, and quantized models against float ones.

mod common;

use ausn::models::Classifier;
use ausn::models::bert::{Bert, BertConfig, TokenBatch};
use ausn::models::lstm_classifier::LstmClassifierConfig;
use ausn::models::lstm_language_model::LstmLanguageModelConfig;
use ausn::models::mobilenet::MobileNetV2Config;
use ausn::models::resnet::ResNetConfig;
use ausn::quant::{
    CalibratedPlan, CalibrationError, GranularitySpec, Plan, QuantSpec, QuantizedModel, attach,
    calibrate, parameter_count, sites,
};
use burn::module::Module;
use burn::tensor::{Bool, Device, Distribution, Int, Tensor, Tolerance};

/// Quantizes everything in a model, calibrated by `run`.
fn quantized<M: Module>(model: &M, bits: u32, run: impl Fn(&M)) -> QuantizedModel<M> {
    let weight = QuantSpec { granularity: GranularitySpec::PerChannel, ..QuantSpec::ausn(bits) };
    let activation = QuantSpec::ausn(8);
    let plan = Plan::resolve(&sites(model), Some(weight), Some(activation), &[]).unwrap();
    let plan = calibrate(model, &plan, |observed| {
        run(observed);
        Ok::<(), CalibrationError>(())
    });
    attach(model.clone(), &plan.unwrap()).unwrap()
}

fn tokens(ids: &[&[i64]], padding: &[&[bool]], device: &Device) -> TokenBatch {
    let length = ids[0].len();
    let flat = Tensor::<1, Int>::from_ints(ids.concat().as_slice(), device);
    let ended = padding.concat();
    TokenBatch {
        tokens: flat.reshape([ids.len(), length]),
        padding: Tensor::<1, Bool>::from_data(ended.as_slice(), device)
            .reshape([ids.len(), length]),
        types: None,
    }
}

/// Expected values: the table in the checkpoint's own documentation (computed in f32 with the
/// published PyTorch implementation).
#[test]
fn published_checkpoint_gives_published_outputs() {
    let Some(folder) = common::pretrained("all-MiniLM-L6-v2") else { return };
    let device = Device::default();
    let (bert, config) = Bert::from_published(&folder, &device).unwrap();
    assert_eq!((config.num_hidden_layers, config.vocab_size), (6, 30_522));

    let ids: &[i64] = &[101, 1037, 5621, 2307, 3185, 102];
    let output = bert.forward(tokens(&[ids], &[&[false; 6]], &device));
    let hidden: Vec<f32> = output.hidden.clone().into_data().try_to_vec().unwrap();
    let close = |found: &[f32], expected: &[f32]| {
        for (f, e) in found.iter().zip(expected) {
            assert!((f - e).abs() < 2e-5, "{found:?} instead of {expected:?}");
        }
    };
    close(&hidden[..6], &[-0.238681, -0.265224, 0.085141, -0.077426, -0.152511, 0.154938]);
    close(
        &hidden[5 * 384..][..6],
        &[-0.539485, 0.199055, -0.082102, 0.763945, -0.421901, -0.010651],
    );
    let sum: f64 = hidden.iter().map(|&v| f64::from(v)).sum();
    assert!((sum - 22.98884).abs() < 1e-3, "{sum}");
    let pooled: Vec<f32> = output.pooled.into_data().try_to_vec().unwrap();
    close(&pooled[..4], &[-0.049531, 0.029975, 0.018676, 0.089058]);

    let padded: &[i64] = &[101, 1037, 5621, 2307, 3185, 102, 0, 0];
    let mask = [false, false, false, false, false, false, true, true];
    let padded = bert.forward(tokens(&[padded], &[&mask], &device)).hidden.narrow(1, 0, 6);
    let change = (padded - output.hidden).abs().max().into_scalar::<f32>();
    assert!(change < 5e-6, "padding changes the result by {change}");
}

#[test]
fn empty_plan_changes_nothing() {
    let device = Device::default();
    device.seed(1);
    let images = Tensor::<4>::random([2, 1, 8, 8], Distribution::Default, &device);
    let float = ResNetConfig { depth: 8, width: 4 }.init(1, 10, &device);
    let quantized = attach(float.clone(), &CalibratedPlan::default()).unwrap();
    let expected = float.forward(images.clone()).into_data();
    quantized.model.forward(images).into_data().assert_eq(&expected, true);
}

#[test]
fn resnet_20_has_the_published_number_of_parameters() {
    let device = Device::default();
    let model = ResNetConfig::default().init(3, 10, &device);
    // 0.27 million (He et al. 2015, table 6).
    assert_eq!(parameter_count(&model), 269_722);
    let slots = sites(&model).iter().filter(|site| !site.kind.is_weight()).count();
    assert_eq!(slots, 20);
    // Burn counts these as well, and the running mean and variance of 688 normalized channels.
    assert_eq!(model.num_params(), 269_722 + slots + 2 * 688);
    assert_eq!(model.forward(Tensor::zeros([2, 3, 32, 32], &device)).dims(), [2, 10]);
}

#[test]
fn mobilenetv2_has_the_published_number_of_parameters() {
    let device = Device::default();
    let model = MobileNetV2Config::default().init(3, 1000, &device);
    // 3.4 million multiplied out (Sandler et al. 2018, table 4).
    assert_eq!(parameter_count(&model), 3_504_872);
    let slots = sites(&model).iter().filter(|site| !site.kind.is_weight()).count();
    assert_eq!(slots, 53);
    assert_eq!(model.num_params(), 3_504_872 + slots + 2 * 17_056);
    assert_eq!(model.forward(Tensor::zeros([2, 3, 64, 64], &device)).dims(), [2, 1000]);
    // Widths are rounded to multiples of 8; the last layer is never narrowed.
    let narrow = MobileNetV2Config { width_multiplier: 0.5, ..MobileNetV2Config::default() };
    let narrow = narrow.init(3, 10, &device);
    assert_eq!(narrow.stem.layer.weight.dims(), [16, 3, 3, 3]);
    assert_eq!(narrow.head.layer.weight.dims(), [1280, 160, 1, 1]);
}

#[test]
fn language_model_predicts_every_word() {
    let device = Device::default();
    let config = LstmLanguageModelConfig { hidden_size: 6, layers: 2, dropout: 0.5 };
    let model = config.init(11, &device);
    let slots = sites(&model).iter().filter(|site| !site.kind.is_weight()).count();
    assert_eq!(slots, 5, "input and state of two layers, and the output layer's input");
    let (lstm, output) = (2 * 6 * 24 + 24, 6 * 11 + 11);
    assert_eq!(parameter_count(&model), 11 * 6 + 2 * lstm + output);
    assert_eq!(model.num_params(), parameter_count(&model) + slots);
    let words = Tensor::<2, Int>::zeros([3, 5], &device);
    assert_eq!(model.forward(words).dims(), [3, 5, 11]);
}

#[test]
fn every_model_quantizes_trains_and_keeps_its_shape() {
    let device = Device::default().autodiff();
    device.seed(2);
    let images = Tensor::<4>::random([4, 1, 8, 8], Distribution::Default, &device);
    let rows = Tensor::<3>::random([4, 8, 8], Distribution::Default, &device);
    let inner = device.clone().inner();

    let resnet = ResNetConfig { depth: 8, width: 4 }.init(1, 10, &device);
    let observed = images.clone().inner();
    let resnet = quantized(&resnet, 4, |m| {
        m.forward(observed.clone());
    });
    check_gradients(&resnet.model, resnet.model.forward(images), "stem.layer.weight");

    let mobilenet = MobileNetV2Config { width_multiplier: 0.25, dropout: 0.2 };
    let mobilenet = mobilenet.init(1, 10, &device);
    let large = Tensor::<4>::random([4, 1, 32, 32], Distribution::Default, &device);
    // Calibration sees the running statistics: they have to be those of the data by then.
    for _ in 0..40 {
        mobilenet.forward(large.clone());
    }
    let observed = large.clone().inner();
    let mobilenet = quantized(&mobilenet, 4, |m| {
        m.forward(observed.clone());
    });
    let logits = mobilenet.model.forward(large);
    check_gradients(&mobilenet.model, logits, "blocks.3.depthwise.layer.weight");

    let lstm = LstmClassifierConfig { hidden_size: 6 }.init(8, 10, &device);
    let observed = rows.clone().inner();
    let lstm = quantized(&lstm, 4, |m| {
        m.forward(observed.clone());
    });
    check_gradients(&lstm.model, lstm.model.forward(rows), "lstm.recurrent.layer.weight");

    let config = BertConfig {
        hidden_size: 8,
        num_attention_heads: 2,
        vocab_size: 9,
        ..BertConfig::default()
    };
    let bert = config.init_classifier(3, &device);
    let ids: &[&[i64]] = &[&[1, 2, 3, 4], &[1, 5, 0, 0]];
    let padding: &[&[bool]] = &[&[false; 4], &[false, false, true, true]];
    let bert = quantized(&bert, 4, |m| {
        m.forward(tokens(ids, padding, &inner));
    });
    let logits = bert.model.forward(tokens(ids, padding, &device));
    check_gradients(&bert.model, logits, "encoder.layers.1.attention.key.weight");
}

/// The loss of quantized logits reaches a stored float weight deep in the model.
fn check_gradients<M: Module>(model: &M, logits: Tensor<2>, path: &str) {
    let grads = logits.powi_scalar(2).mean().backward();
    let gradient = common::gradient(model, path, &grads);
    let largest = gradient.iter().fold(0f32, |max, g| max.max(g.abs()));
    assert!(largest > 0.0 && largest.is_finite(), "{path}: largest gradient {largest}");
}

#[test]
fn eight_bits_stay_close_to_float_and_three_do_not() {
    let device = Device::default();
    device.seed(4);
    let rows = Tensor::<3>::random([16, 8, 8], Distribution::Default, &device);
    let float = LstmClassifierConfig { hidden_size: 16 }.init(8, 10, &device);
    let expected = float.forward(rows.clone());
    let error = |bits: u32| {
        let model = quantized(&float, bits, |m| {
            m.forward(rows.clone());
        });
        let difference = model.model.forward(rows.clone()) - expected.clone();
        difference.powi_scalar(2).mean().into_scalar::<f32>()
    };
    let power = expected.clone().powi_scalar(2).mean().into_scalar::<f32>();
    let (eight, four, three) = (error(8), error(4), error(3));
    assert!(eight < 1e-3 * power, "{eight} of {power}");
    assert!(eight < four && four < three, "{eight} {four} {three}");
}

#[test]
fn lstm_computes_the_textbook_recurrence() {
    let device = Device::default();
    device.seed(6);
    let lstm = ausn::nn::LstmConfig { d_input: 3, d_hidden: 2, dropout: 0.0 }.init(&device);
    let x = Tensor::<3>::random([1, 4, 3], Distribution::Normal(0.0, 1.0), &device);
    let found: Vec<f32> = lstm.forward(x.clone()).into_data().try_to_vec().unwrap();

    let values = |t: Tensor<2>| t.into_data().try_to_vec::<f32>().unwrap();
    let w = values(lstm.input.layer.weight.val());
    let b: Vec<f32> =
        lstm.input.layer.bias.clone().unwrap().val().into_data().try_to_vec().unwrap();
    let u = values(lstm.recurrent.layer.weight.val());
    let x: Vec<f32> = x.into_data().try_to_vec().unwrap();
    let sigmoid = |v: f32| 1.0 / (1.0 + (-v).exp());
    let (mut h, mut c) = ([0f32; 2], [0f32; 2]);
    for t in 0..4 {
        let gate = |g: usize, h: &[f32; 2]| {
            let from_input: f32 = (0..3).map(|i| x[t * 3 + i] * w[i * 8 + g]).sum();
            let from_state: f32 = (0..2).map(|i| h[i] * u[i * 8 + g]).sum();
            from_input + from_state + b[g]
        };
        let before = h;
        for k in 0..2 {
            let (i, f) = (sigmoid(gate(k, &before)), sigmoid(gate(2 + k, &before)));
            let (g, o) = (gate(4 + k, &before).tanh(), sigmoid(gate(6 + k, &before)));
            c[k] = f * c[k] + i * g;
            h[k] = o * c[k].tanh();
        }
        for k in 0..2 {
            assert!((found[t * 2 + k] - h[k]).abs() < 1e-5, "step {t}: {found:?} {h:?}");
        }
    }
}

#[test]
fn materialized_weights_lie_on_the_grid() {
    let device = Device::default();
    device.seed(5);
    let float = ResNetConfig { depth: 8, width: 4 }.init(1, 10, &device);
    let images = Tensor::<4>::random([2, 1, 8, 8], Distribution::Default, &device);
    let model = quantized(&float, 4, |m| {
        m.forward(images.clone());
    });
    let stem = model.model.stem.layer.weight.clone();
    let on_grid = stem.val();
    stem.base().into_data().assert_eq(&float.stem.layer.weight.val().into_data(), true);
    assert!((on_grid.clone() - stem.base()).abs().max().into_scalar::<f32>() > 0.0);
    let again = model.model.materialize().stem.layer.weight.val();
    again.into_data().assert_approx_eq::<f32>(&on_grid.into_data(), Tolerance::absolute(0.0));
}
