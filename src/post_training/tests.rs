use super::*;
use crate::coding::Format;
use crate::kernels::Activation;
use crate::nn::{ConvNorm, Quantized};
use crate::quant::{
    self, CalibrationError, CodingSpec, GranularitySpec, LearnedRange, Plan, QuantSpec, ScaleKind,
    Scales,
};
use burn::nn::conv::Conv2dConfig;
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Distribution, Int, Tensor};

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn spec(coding: CodingSpec, granularity: GranularitySpec) -> QuantSpec {
    QuantSpec { coding, granularity, ..QuantSpec::ausn(3) }
}

/// Features that lie near a plane, away from 0: what the moments know and the weights do not.
fn inputs(device: &Device) -> Tensor<2> {
    device.seed(11);
    let hidden = Tensor::<2>::random([400, 3], Distribution::Normal(0.5, 1.0), device);
    let mix = Tensor::<2>::random([3, 16], Distribution::Normal(0.0, 1.0), device);
    let noise = Tensor::random([400, 16], Distribution::Normal(0.3, 0.1), device);
    hidden.matmul(mix) + noise
}

fn plan<M: Module>(model: &M, weight: QuantSpec) -> CalibratedPlan {
    let plan = Plan::resolve(&sites(model), Some(weight), None, &[]).unwrap();
    quant::calibrate(model, &plan, |_| Ok::<(), CalibrationError>(())).unwrap()
}

fn corrected<M: Module>(
    model: M,
    plan: &CalibratedPlan,
    settings: &PostTrainingConfig,
    run: impl FnOnce(&M),
) -> (M, Vec<Correction>) {
    let run = |model: &M| {
        run(model);
        Ok::<(), CalibrationError>(())
    };
    correct(model, plan, settings, &Device::default(), run, |_, _, _| Ok(())).unwrap()
}

/// Mean squared error of the outputs, and the squared mean error, summed over channels.
fn output_errors(float: Tensor<2>, quantized: Tensor<2>) -> (f32, f32) {
    let error = quantized - float;
    let square = error.clone().powi_scalar(2).mean_dim(0).sum().into_scalar::<f32>();
    let mean = error.mean_dim(0).powi_scalar(2).sum().into_scalar::<f32>();
    (square, mean)
}

fn settings(bias_correction: bool, rounding: WeightRounding) -> PostTrainingConfig {
    PostTrainingConfig { bias_correction, rounding, ..PostTrainingConfig::default() }
}

#[test]
fn learned_rounding_loses_less_of_the_output_and_stays_on_levels_beside_the_weight() {
    let device = Device::default();
    let x = inputs(&device);
    let layer = Quantized::new(LinearConfig::new(16, 12).init(&device), &device);
    let float = layer.forward(x.clone());
    let codings =
        [QuantSpec::ausn(3).coding, CodingSpec::Int(3), CodingSpec::Affine(3), CodingSpec::Apot(3)];
    for coding in codings {
        let plan = plan(&layer, spec(coding, GranularitySpec::PerChannel));
        let nearest = quant::attach(layer.clone(), &plan).unwrap().model;
        let (before, _) = output_errors(float.clone(), nearest.forward(x.clone()));
        let (rounded, log) =
            corrected(layer.clone(), &plan, &settings(false, WeightRounding::Learned), |m| {
                m.forward(x.clone());
            });
        let stored = host(rounded.layer.weight.val());
        let quantized = quant::attach(rounded, &plan).unwrap().model;
        let (after, _) = output_errors(float.clone(), quantized.forward(x.clone()));
        assert!(after < 0.5 * before, "{coding:?}: {after} against {before}");
        // What the quantizer gives back is what was stored.
        let given = host(quantized.layer.weight.val());
        let close = |a: &f32, b: &f32| (a - b).abs() <= 1e-6 * b.abs();
        assert!(stored.iter().zip(&given).all(|(a, b)| close(a, b)), "{coding:?}");

        let [log] = &log[..] else { panic!("one weight") };
        assert!(log.output_error.unwrap() < log.output_error_nearest.unwrap());
        assert!(log.moved > 0 && log.bias.is_none());
        // Each weight moved by less than the distance of its two levels.
        let w = host(layer.layer.weight.val());
        let neighbours = WeightLevels::new(&plan.sites[0], &w);
        for (i, value) in given.iter().enumerate() {
            let (a, b) = (neighbours.nearest[i], neighbours.other[i]);
            assert!(close(value, &a) || close(value, &b), "{coding:?}: {value} of {a}, {b}");
            assert!((a - w[i]).abs() <= (b - w[i]).abs() + 1e-6);
        }
    }
}

/// The best of all choices, by trying each.
#[test]
fn learned_rounding_comes_near_the_best_choice() {
    let device = Device::default();
    let x = inputs(&device).slice([0..400, 0..8]);
    let layer = Quantized::new(LinearConfig::new(8, 5).init(&device), &device);
    let w = host(layer.layer.weight.val());
    let plan = plan(&layer, spec(CodingSpec::Int(3), GranularitySpec::PerTensor));
    let neighbours = WeightLevels::new(&plan.sites[0], &w);
    let second = host(x.clone().transpose().matmul(x.clone()) / 400.0);
    let loss = |o: usize, choice: u32| -> f64 {
        let value = |i: usize| {
            let at = i * 5 + o;
            let taken = choice >> i & 1 == 1;
            let q = if taken { neighbours.other[at] } else { neighbours.nearest[at] };
            f64::from(q) - f64::from(w[at])
        };
        let errors: Vec<f64> = (0..8).map(value).collect();
        let pair = |ij: usize| errors[ij / 8] * errors[ij % 8] * f64::from(second[ij]);
        (0..64).map(pair).sum()
    };
    let best: f64 =
        (0..5).map(|o| (0..256).map(|choice| loss(o, choice)).fold(f64::INFINITY, f64::min)).sum();
    let nearest: f64 = (0..5).map(|o| loss(o, 0)).sum();
    let (_, log) = corrected(layer, &plan, &settings(false, WeightRounding::Learned), |m| {
        m.forward(x.clone());
    });
    let gained = log[0].output_error.unwrap() / log[0].output_error_nearest.unwrap();
    let best = best / nearest;
    assert!(gained >= best - 1e-4, "{gained} of nearest, best {best}");
    assert!(1.0 - gained > 0.75 * (1.0 - best), "{gained} of nearest, best {best}");
}

#[test]
fn corrected_biases_leave_no_mean_error() {
    let device = Device::default();
    let x = inputs(&device);
    let layer = Quantized::new(LinearConfig::new(16, 12).init(&device), &device);
    let float = layer.forward(x.clone());
    let plan = plan(&layer, QuantSpec::ausn(3));
    let nearest = quant::attach(layer.clone(), &plan).unwrap().model;
    let (_, before) = output_errors(float.clone(), nearest.forward(x.clone()));
    assert!(before > 1e-3);
    for rounding in [WeightRounding::Nearest, WeightRounding::Learned] {
        let (model, log) = corrected(layer.clone(), &plan, &settings(true, rounding), |m| {
            m.forward(x.clone());
        });
        assert_eq!(log[0].bias.as_deref(), Some("layer.bias"));
        let model = quant::attach(model, &plan).unwrap().model;
        let (_, after) = output_errors(float.clone(), model.forward(x.clone()));
        assert!(after < 1e-6 * before, "{after} against {before}");
    }
}

/// Where batch normalization follows, its running mean takes the shift.
#[test]
fn convolutions_are_corrected_for_what_their_kernels_meet() {
    let device = Device::default();
    device.seed(2);
    // Unlike towards the borders, so that strides and padding matter.
    let slope = Tensor::<1, Int>::arange(0..9, &device).float().reshape([1, 1, 1, 9]) * 0.4;
    let x = Tensor::<4>::random([8, 6, 9, 9], Distribution::Uniform(0.0, 2.0), &device) + slope;
    let config = || Conv2dConfig::new([6, 12], [3, 3]).with_bias(false);
    let padded = |padding| config().with_padding(padding);
    for conv in [
        padded(PaddingConfig2d::Same),
        padded(PaddingConfig2d::Same).with_groups(3),
        padded(PaddingConfig2d::Same).with_groups(6),
        padded(PaddingConfig2d::Explicit(1, 1, 1, 1)).with_stride([2, 2]),
        padded(PaddingConfig2d::Explicit(0, 2, 1, 0)).with_stride([1, 2]).with_groups(2),
        padded(PaddingConfig2d::Valid).with_stride([3, 3]),
        padded(PaddingConfig2d::Same).with_dilation([2, 1]),
    ] {
        let conv = conv.init(&device);
        // Clones would share their running statistics.
        let layer = || ConvNorm::non_negative(conv.clone(), &device);
        let outputs = |m: &ConvNorm| {
            m.forward(x.clone(), Activation::None).swap_dims(0, 1).flatten::<2>(1, 3).transpose()
        };
        let float = outputs(&layer());
        let plan = plan(&layer(), spec(QuantSpec::ausn(3).coding, GranularitySpec::PerChannel));
        let nearest = quant::attach(layer(), &plan).unwrap().model;
        let (square, mean) = output_errors(float.clone(), outputs(&nearest));
        let learned = |bias_correction| {
            let settings = settings(bias_correction, WeightRounding::Learned);
            let (model, mut log) = corrected(layer(), &plan, &settings, |m| drop(outputs(m)));
            let model = quant::attach(model, &plan).unwrap().model;
            (output_errors(float.clone(), outputs(&model)), log.remove(0))
        };
        let ((square_after, mean_after), log) = learned(true);
        assert_eq!(log.bias.as_deref(), Some("norm.running_mean"));
        assert!(mean_after < 1e-6 * mean, "{conv:?}: {mean_after} against {mean}");
        assert!(square_after < 0.7 * square, "{conv:?}: {square_after} against {square}");

        let ((square_after, _), log) = learned(false);
        let (energy, _) = output_errors(float.zeros_like(), float.clone());
        for (logged, found) in
            [(log.output_error_nearest, square), (log.output_error, square_after)]
        {
            // Batch normalization with its first statistics divides by 1.00001 and its root.
            let found = f64::from(found / energy);
            let logged = logged.unwrap();
            assert!((logged - found).abs() < 1e-3 * found, "{conv:?}: {logged}, not {found}");
        }
    }
}

#[test]
fn a_weight_that_is_no_number_is_refused() {
    let device = Device::default();
    let layer = Quantized::new(LinearConfig::new(16, 12).init(&device), &device);
    let plan = plan(&layer, QuantSpec::ausn(3));
    let mut weights = parameters(&layer, |path| path.ends_with("weight"));
    weights.values_mut().for_each(|values| values[7] = f32::NAN);
    let broken = change_parameters(layer, weights);
    let settings = settings(true, WeightRounding::Nearest);
    let run = |model: &Quantized<Linear>| {
        model.forward(inputs(&device));
        Ok(())
    };
    let found = correct(broken, &plan, &settings, &device, run, |_, _, _| Ok(()));
    assert!(matches!(found, Err(CalibrationError::NonFinite { count: 1, .. })));
}

#[test]
fn a_weight_without_a_known_input_stays_as_it_is() {
    let device = Device::default();
    let layer: Linear = LinearConfig::new(4, 3).init(&device);
    let before = host(layer.weight.val());
    let plan = plan(&layer, QuantSpec::ausn(3));
    let (layer, log) = corrected(layer, &plan, &settings(true, WeightRounding::Learned), |_| {
        panic!("nothing to observe")
    });
    assert_eq!(host(layer.weight.val()), before);
    assert_eq!((log[0].moved, log[0].output_error, log[0].bias.as_ref()), (0, None, None));
}

#[test]
fn weights_on_their_largest_level_are_within_the_range_of_any_free_scale() {
    let device = Device::default();
    let layer: Linear = LinearConfig::new(1, 2).init(&device);
    let tqt = LearnedRange::Tqt { scale: ScaleKind::Free };
    for learned in [None, Some(LearnedRange::Lsq), Some(tqt)] {
        for coding in [CodingSpec::Int(4), CodingSpec::Apot(4)] {
            let spec = QuantSpec {
                scale: ScaleKind::Free,
                learned,
                ..spec(coding, GranularitySpec::PerTensor)
            };
            let mut site = plan(&layer, spec).sites.remove(0);
            for i in 0..200 {
                site.ranges.scales = Scales::Scales(vec![0.01 * 1.0173f32.powi(i)]);
                let w = [9.0, -9.0].map(|x| x * site.ranges.scales.factors()[0]);
                let stored = WeightLevels::new(&site, &w).nearest;
                let data = [(site.site.path.clone(), stored.clone())];
                let layer = change_parameters(layer.clone(), data.into());
                let attached =
                    quant::attach(layer, &CalibratedPlan { sites: vec![site.clone()] }).unwrap();
                attached.quantizers.measure();
                let _ = attached.model.weight.val();
                let (_, error) = attached.quantizers.take_errors().remove(0);
                assert_eq!((error.count, error.clipped), (2, 0), "{learned:?} {coding:?} {i}");
            }
        }
    }
}

#[test]
fn weights_out_of_range_and_on_a_level_have_no_choice() {
    let device = Device::default();
    let layer: Linear = LinearConfig::new(2, 2).init(&device);
    let mut site =
        plan(&layer, spec(CodingSpec::Int(3), GranularitySpec::PerTensor)).sites.remove(0);
    site.format = Format::int(3, true).unwrap();
    let scale = site.ranges.scales.factors()[0];
    let max = site.format.max();
    let step = site.format.step();
    let w = [2.0 * max * scale, step * scale, 1.4 * step * scale, -0.2 * step * scale];
    let rounding = WeightLevels::new(&site, &w);
    assert_eq!(rounding.nearest[0], rounding.other[0]);
    assert_eq!(rounding.nearest[1], rounding.other[1]);
    assert!((rounding.other[2] - 2.0 * step * scale).abs() < 1e-6);
    assert!((rounding.other[3] + step * scale).abs() < 1e-6);
    assert_eq!(rounding.in_range, [false, true, true, true]);
    assert_eq!(site.format.rounder(0).quantize(0.0), 0.0);
}
