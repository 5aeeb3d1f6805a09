//! Which observed input a weight meets, and how often.

use std::collections::BTreeMap;

use crate::quant::{Observation, Site, SiteKind};

/// Activations with what was observed of them, by path; in the same order each time.
pub(super) type Observed = BTreeMap<String, (Site, Observation)>;

/// The energy of the input that meets each element of a weight, in row-major order.
pub(super) fn input_energies(site: &Site, observed: &Observed) -> Option<Vec<f64>> {
    let SiteKind::Weight { shape, channel_axis, input_axis } = &site.kind else { return None };
    let (_, observation) = input_of(site, observed)?;
    let energies = match meets(shape, *channel_axis) {
        Meets::Rows => &observation.last_axis_energy,
        Meets::OutputPositions | Meets::Positions => &observation.second_axis_energy,
    };
    let (inputs, outputs) = (shape[*input_axis], shape[*channel_axis]);
    // A convolution may have groups, each with its own part of the inputs and of the outputs.
    let groups = energies.len() / inputs.max(1);
    if groups == 0 || !energies.len().is_multiple_of(inputs) || !outputs.is_multiple_of(groups) {
        return None;
    }
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let (input_stride, output_stride) = (stride(*input_axis), stride(*channel_axis));
    let energy = |i: usize| {
        let (input, output) = (i / input_stride % inputs, i / output_stride % outputs);
        energies[output / (outputs / groups) * inputs + input]
    };
    Some((0..shape.iter().product()).map(energy).collect())
}

/// The multiplications of a weight and an element of its input for each of `examples` on average, rounded: for every
/// row of a linear layer's input, every position of a convolution's output, and every position of a transposed
/// convolution's input, one for each element of the weight, padding included. None where no input is observed, as of
/// an embedding, which is looked up; also where its table serves as the weight of an output layer as well.
pub(super) fn multiply_accumulates(site: &Site, observed: &Observed, examples: u64) -> u64 {
    let SiteKind::Weight { shape, channel_axis, .. } = &site.kind else { return 0 };
    let Some((_, seen)) = input_of(site, observed) else { return 0 };
    let uses = match meets(shape, *channel_axis) {
        Meets::Rows => seen.rows,
        Meets::OutputPositions => seen.output_positions,
        Meets::Positions => seen.positions,
    };
    let elements = shape.iter().product::<usize>();
    (uses as f64 * elements as f64 / examples.max(1) as f64).round() as u64
}

/// What of its input a weight is multiplied with as a whole.
enum Meets {
    /// The vectors along its last axis.
    Rows,
    /// What the kernel of a convolution covers for each position of the output.
    OutputPositions,
    /// The channels at each position: a transposed convolution spreads them.
    Positions,
}

/// By the axis of a weight's outputs: a convolution's is the first, a transposed one's the second, and that of
/// whatever else multiplies rows the last.
fn meets(shape: &[usize], channel_axis: usize) -> Meets {
    match channel_axis {
        _ if channel_axis + 1 == shape.len() => Meets::Rows,
        0 => Meets::OutputPositions,
        _ => Meets::Positions,
    }
}

/// What was observed of the input of a weight.
pub(super) fn input_of<'a>(site: &Site, observed: &'a Observed) -> Option<&'a (Site, Observation)> {
    let input = site.input(observed.values().map(|(activation, _)| activation))?;
    observed.get(&input.path)
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub fn site(layer: &str, tensor: &str, kind: SiteKind) -> Site {
        let path = format!("{layer}.{tensor}");
        Site { path, layer: layer.into(), tensor: tensor.into(), kind }
    }

    pub fn weight(shape: &[usize], channel_axis: usize, input_axis: usize) -> SiteKind {
        SiteKind::Weight { shape: shape.to_vec(), channel_axis, input_axis }
    }

    pub fn observed(
        layer: &str,
        tensor: &str,
        values: &[f32],
        shape: &[usize],
    ) -> (Site, Observation) {
        let mut observation = Observation::default();
        observation.record(values, shape);
        (site(layer, tensor, SiteKind::Activation { non_negative: false }), observation)
    }

    pub fn evidence(seen: Vec<(Site, Observation)>) -> Observed {
        seen.into_iter().map(|(site, seen)| (site.path.clone(), (site, seen))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{evidence, observed, site, weight};
    use super::*;
    use std::collections::HashMap;

    use crate::kernels::{Activation, AttentionMask};
    use crate::nn::{ConvNorm, CrossAttention, LstmConfig, Quantized, SelfAttentionConfig};
    use crate::quant::{self, CalibrationError};
    use burn::module::Module;
    use burn::nn::conv::{Conv1dConfig, Conv2dConfig, ConvTranspose2dConfig};
    use burn::nn::{Initializer, LinearConfig, PaddingConfig1d, PaddingConfig2d};
    use burn::tensor::{Device, Tensor};

    fn zeros<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        Tensor::zeros(shape, &Device::default())
    }

    /// The multiply-accumulates of every weight for each of `examples` that `run` runs, by the weight's path.
    fn counts<M: Module>(model: &M, examples: u64, run: impl Fn(&M)) -> HashMap<String, u64> {
        let sites = quant::sites(model);
        let seen = quant::observe_activations(model, sites.iter(), |model| {
            run(model);
            Ok::<(), CalibrationError>(())
        });
        let mut seen = seen.unwrap();
        let activations = sites.iter().filter_map(|site| Some((site, seen.remove(&site.path)?)));
        let observed: Observed =
            activations.map(|(site, seen)| (site.path.clone(), (site.clone(), seen))).collect();
        let weights = sites.iter().filter(|site| site.kind.is_weight());
        weights
            .map(|site| (site.path.clone(), multiply_accumulates(site, &observed, examples)))
            .collect()
    }

    #[test]
    fn a_linear_layer_multiplies_every_row_with_every_weight() {
        let device = Device::default();
        let layer = Quantized::new(LinearConfig::new(6, 5).init(&device), &device);
        // Two batches of three sequences of seven rows: 7 * 6 * 5 an example.
        let found = counts(&layer, 6, |layer| {
            layer.forward(zeros([3, 7, 6]));
            layer.forward(zeros([3, 7, 6]));
        });
        assert_eq!(found["layer.weight"], 210);
    }

    #[test]
    fn a_convolution_multiplies_every_weight_at_every_position_of_its_output() {
        let device = Device::default();
        // 9 x 7, two more at each side, kernel 3 x 2, stride 2 x 3: 6 x 4 positions, 8 * 4 * 3 * 2 weights.
        let config = Conv2dConfig::new([4, 8], [3, 2]).with_stride([2, 3]);
        let config = config.with_padding(PaddingConfig2d::Explicit(2, 2, 2, 2));
        let layer = Quantized::new(config.init(&device), &device);
        let found = counts(&layer, 3, |layer| drop(layer.forward(zeros([3, 4, 9, 7]))));
        assert_eq!(found["layer.weight"], 6 * 4 * 8 * 4 * 3 * 2);

        let layer = ConvNorm::new(config.init(&device), &device);
        let run = |layer: &ConvNorm| drop(layer.forward(zeros([3, 4, 9, 7]), Activation::Relu));
        assert_eq!(counts(&layer, 3, run)["layer.weight"], 6 * 4 * 8 * 4 * 3 * 2);

        // In two groups each output meets half of the inputs: 10 positions of 6 * 2 * 3 products.
        let config = Conv1dConfig::new(4, 6, 3).with_groups(2);
        let config = config.with_padding(PaddingConfig1d::Same);
        let layer = Quantized::new(config.init(&device), &device);
        let found = counts(&layer, 2, |layer| drop(layer.forward(zeros([2, 4, 10]))));
        assert_eq!(found["layer.weight"], 10 * 6 * 2 * 3);

        // Every element of the input is spread by every kernel: 5 * 4 positions of 3 * 2 * 3 * 3.
        let config = ConvTranspose2dConfig::new([3, 2], [3, 3]).with_stride([2, 2]);
        let layer = Quantized::new(config.init(&device), &device);
        let found = counts(&layer, 2, |layer| drop(layer.forward(zeros([2, 3, 5, 4]))));
        assert_eq!(found["layer.weight"], 5 * 4 * 3 * 2 * 3 * 3);
    }

    #[test]
    fn a_weight_of_several_outputs_axes_multiplies_rows_like_a_linear_layer() {
        // Tokens lie on the second axis, where a convolution has its channels.
        let weight = site("a", "weight", weight(&[4, 2, 2], 2, 0));
        let x: Vec<f32> = (0..2 * 8 * 4).map(|i| (i % 4) as f32).collect();
        let seen = evidence(vec![observed("a", "input", &x, &[2, 8, 4])]);
        assert_eq!(multiply_accumulates(&weight, &seen, 2), 8 * 16);
        let energies = input_energies(&weight, &seen).unwrap();
        let of_input = |input: usize| 16.0 * (input * input) as f64;
        assert_eq!(energies, (0..16).map(|i| of_input(i / 4)).collect::<Vec<_>>());
    }

    #[test]
    fn an_lstm_multiplies_at_every_step() {
        let lstm = LstmConfig { d_input: 4, d_hidden: 6, dropout: 0.0 }.init(&Device::default());
        let found = counts(&lstm, 3, |lstm| drop(lstm.forward(zeros([3, 5, 4]))));
        assert_eq!(found["input.layer.weight"], 5 * 4 * 24);
        assert_eq!(found["recurrent.layer.weight"], 5 * 6 * 24);
    }

    #[test]
    fn keys_and_values_are_made_of_the_memory_where_there_is_one() {
        #[derive(Module, Debug)]
        struct Model {
            cross: CrossAttention,
        }
        let device = Device::default();
        let initializer = Initializer::XavierUniform { gain: 1.0 };
        let config = SelfAttentionConfig { hidden_size: 6, heads: 2, dropout: 0.0, initializer };
        let model = Model { cross: config.init_cross(&device) };
        // Four positions attend to seven.
        let found = counts(&model, 2, |Model { cross }| {
            let seen = Tensor::<2>::zeros([2, 7], &device).greater_elem(0.5);
            let memory = cross.keys_values(zeros([2, 7, 6]));
            cross.forward(zeros([2, 4, 6]), memory, &AttentionMask::padding(seen));
        });
        let of = |name: &str| found[&format!("cross.attention.{name}")];
        assert_eq!(["query.weight", "output.layer.weight"].map(of), [4 * 36; 2]);
        assert_eq!(["key.weight", "value.weight"].map(of), [7 * 36; 2]);
    }

    #[test]
    fn what_meets_no_input_multiplies_nothing_and_means_are_rounded() {
        let table = site("words", "weight", weight(&[9, 3], 0, 1));
        let input = observed("other", "input", &[0.0; 6], &[2, 3]);
        assert_eq!(multiply_accumulates(&table, &evidence(vec![input]), 1), 0);
        let linear = site("other", "weight", weight(&[3, 5], 1, 0));
        let input = observed("other", "input", &[0.0; 6], &[2, 3]);
        // 2 * 15 products of four examples.
        assert_eq!(multiply_accumulates(&linear, &evidence(vec![input]), 4), 8);
    }

    #[test]
    fn a_convolution_in_groups_meets_the_channels_of_its_group() {
        // Four channels in two groups, four outputs, kernels of one: `[output, input of group, 1]`.
        let conv = site("c", "weight", weight(&[4, 2, 1], 0, 1));
        let input = observed("c", "input", &[1.0, 2.0, 3.0, 4.0], &[1, 4, 1]);
        let energies = input_energies(&conv, &evidence(vec![input])).unwrap();
        assert_eq!(energies, [1.0, 4.0, 1.0, 4.0, 9.0, 16.0, 9.0, 16.0]);
    }
}
