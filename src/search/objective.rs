//! What a search minimizes: the error of a coded weight, measured in one of five ways.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::input::{Observed, input_energies};
use crate::coding::{Format, Rounding};
use crate::quant::{Granularity, Ranges, Site};

/// Values for each bin of the histograms that the divergence compares: with fewer, what it measures is mostly which bins
/// happen to be empty.
const VALUES_PER_BIN: usize = 32;
/// The fewest and the most of those bins, over the largest magnitude on either side.
const BINS: (usize, usize) = (16, 1 << 10);
/// The least width of what is spread, in bins.
const NARROWEST: f64 = 1e-6;

/// What the error of a coded weight is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Squared error of the weight over its energy: noise to signal.
    #[default]
    SquaredError,
    /// Divergence of the distributions of the weights, and of the activations, before and after.
    ///
    /// Jensen-Shannon, in nats, 0 to ln 2. The authors' later AFP (ICCV 2021) compares distributions too.
    /// The other objectives choose for weights alone.
    Divergence,
    /// Squared error of the layer's output over its energy, on calibration data.
    ///
    /// As if inputs were uncorrelated: `sum E[x_j^2] (w_ij - q_ij)^2 / sum E[x_j^2] w_ij^2`.
    OutputError,
    /// Estimated rise of the task's loss, up to a factor that all weights share.
    ///
    /// See [`fisher`](crate::train::fisher): `1/2 sum F_i (w_i - q_i)^2` with the diagonal of the empirical Fisher
    /// information F (Kirkpatrick et al. 2017, arXiv 1612.00796).
    Fisher,
    /// Rise of the task's loss on calibration data with this weight alone coded, measured.
    ///
    /// So ZeroQ (Cai et al. 2020, arXiv 2001.00281) measures a layer's sensitivity, by the divergence of the model's
    /// output. It sees what an error does further on, and takes a pass over the calibration data for each candidate.
    /// May be negative. Afterwards E and S at equal bits are tried again beside the other weights, as they are coded
    /// then (see [`Found::refine`](super::Found::refine)).
    Loss,
}

/// How much the squared error of each element of a weight counts.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Importance {
    /// All alike.
    Equal(f64),
    /// Each by its own, in row-major order.
    Each(Vec<f32>),
}

impl Importance {
    /// Of a weight's noise to its signal.
    pub(super) fn of_weight(values: &[f32]) -> Self {
        let energy: f64 = values.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
        Self::Equal(if energy > 0.0 { energy.recip() } else { 0.0 })
    }

    /// Of the output's noise to its signal, from what was observed of the inputs. Without a fitting
    /// observation (an embedding has no input to observe) all inputs count alike.
    pub(super) fn of_output(site: &Site, values: &[f32], observed: &Observed) -> Self {
        let Some(energies) = input_energies(site, observed) else { return Self::of_weight(values) };
        let weighted = values.iter().zip(&energies);
        let output: f64 = weighted.map(|(&w, &e)| f64::from(w) * f64::from(w) * e).sum();
        let norm = if output > 0.0 { output.recip() } else { 0.0 };
        Self::Each(energies.iter().map(|e| (e * norm) as f32).collect())
    }

    /// Of the loss, from the diagonal of the Fisher information.
    pub(super) fn of_loss(fisher: &[f32]) -> Self {
        Self::Each(fisher.iter().map(|f| f / 2.0).collect())
    }
}

/// A weight before and after it was coded.
pub(super) struct Coded<'a> {
    pub(super) values: &'a [f32],
    pub(super) shape: &'a [usize],
    pub(super) granularity: Granularity,
    pub(super) format: Format,
    pub(super) ranges: &'a Ranges,
}

impl Coded<'_> {
    /// The importance-weighted squared error.
    pub(super) fn weighted_error(&self, importance: &Importance) -> f64 {
        let mut sum = 0.0;
        self.for_each(|i, x, q| {
            let error = f64::from(x) - f64::from(q);
            sum += match importance {
                Importance::Equal(_) => error * error,
                Importance::Each(each) => f64::from(each[i]) * error * error,
            };
        });
        match importance {
            Importance::Equal(factor) => sum * factor,
            Importance::Each(_) => sum,
        }
    }

    /// The Jensen-Shannon divergence of the values and of what their codes tell of them: a code
    /// stands for all numbers that round to it, evenly.
    pub(super) fn divergence(&self) -> f64 {
        let largest = self.values.iter().fold(0f32, |max, v| max.max(v.abs()));
        if largest == 0.0 {
            return 0.0;
        }
        let half = (self.values.len() / (2 * VALUES_PER_BIN)).clamp(BINS.0, BINS.1);
        let bins = 2 * half;
        let position = |x: f64| (x / f64::from(largest) + 1.0) * half as f64;
        let mut before = vec![0.0; bins];
        // Steps of the density of what the codes tell, to be summed up.
        let mut steps = vec![0.0; bins + 2];
        let cells = Cells::new(self.format);
        let scales = self.ranges.scales.factors();
        let scale_of = self.granularity.indexer(self.shape);
        self.for_each(|i, x, q| {
            let bin = (position(f64::from(x)) as usize).min(bins - 1);
            before[bin] += 1.0;
            let scale = f64::from(scales[scale_of(i)]);
            let (low, high) = cells.around(f64::from(q) / scale);
            let [from, to] = [low, high].map(|end| position(end * scale).clamp(0.0, bins as f64));
            let from = from.min(bins as f64 - NARROWEST);
            add_evenly(&mut steps, from, to.max(from + NARROWEST));
        });
        let mut density = 0.0;
        let after: Vec<f64> = steps[..bins]
            .iter()
            .map(|step| {
                density += step;
                f64::max(density, 0.0)
            })
            .collect();
        jensen_shannon(&before, &after)
    }

    /// What the codes stand for, in row-major order.
    pub(super) fn quantized(&self) -> Vec<f32> {
        let mut quantized = vec![0.0; self.values.len()];
        self.for_each(|i, _, q| quantized[i] = q);
        quantized
    }

    fn for_each(&self, mut visit: impl FnMut(usize, f32, f32)) {
        let scales = self.ranges.scales.factors();
        let rounders: Vec<_> = match &self.ranges.zero_points[..] {
            [] => vec![self.format.rounder(0)],
            zero_points => zero_points.iter().map(|&z| self.format.rounder(z)).collect(),
        };
        let scale_of = self.granularity.indexer(self.shape);
        for (i, &x) in self.values.iter().enumerate() {
            let group = scale_of(i);
            let (scale, rounder) = (scales[group], rounders[group.min(rounders.len() - 1)]);
            visit(i, x, rounder.quantize(x * (1.0 / scale)) * scale);
        }
    }
}

/// The numbers that round to each level of a coding at scale 1.
enum Cells {
    /// Between levels, in ascending order.
    Levels(Vec<f64>),
    /// One step wide around every integer.
    Steps,
}

impl Cells {
    fn new(format: Format) -> Self {
        if format.has_zero_point() {
            return Self::Steps;
        }
        Self::Levels(format.signed_levels().into_iter().map(f64::from).collect())
    }

    /// From the midpoint below a level to the one above; the outermost cells end at their levels.
    fn around(&self, level: f64) -> (f64, f64) {
        let Self::Levels(levels) = self else { return (level - 0.5, level + 0.5) };
        // A free scale does not come out of the product with a level exactly.
        let at = levels.partition_point(|&l| l < level - 1e-6 * level.abs());
        let at = at.min(levels.len() - 1);
        let low = if at == 0 { levels[0] } else { levels[at - 1].midpoint(levels[at]) };
        let high = match levels.get(at + 1) {
            Some(above) => levels[at].midpoint(*above),
            None => levels[at],
        };
        (low, high)
    }
}

/// Adds 1, spread evenly from one position to another, to a density that is kept as its steps.
fn add_evenly(steps: &mut [f64], from: f64, to: f64) {
    let height = (to - from).recip();
    // A bin that is covered in part gets its part.
    for (edge, sign) in [(from, 1.0), (to, -1.0)] {
        let bin = edge as usize;
        let part = edge - bin as f64;
        steps[bin] += sign * height * (1.0 - part);
        steps[bin + 1] += sign * height * part;
    }
}

/// The Jensen-Shannon divergence of two histograms, in nats.
fn jensen_shannon(a: &[f64], b: &[f64]) -> f64 {
    let (total_a, total_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
    let part = |p: f64, q: f64| if p > 0.0 { p * (2.0 * p / (p + q)).ln() } else { 0.0 };
    let pairs = a.iter().zip(b).map(|(a, b)| (a / total_a, b / total_b));
    pairs.map(|(p, q)| (part(p, q) + part(q, p)) / 2.0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::Underflow;
    use crate::quant::{Grouped, RangeRule, ScaleKind, choose_range};
    use crate::search::input::testing::{evidence, observed, site, weight};

    fn coded<R>(values: &[f32], format: Format, run: impl FnOnce(Coded) -> R) -> R {
        let shape = [values.len()];
        let grouped = Grouped::weight(values, &shape, Granularity::Tensor);
        let (ranges, _) = choose_range(&grouped, format, RangeRule::Max, ScaleKind::PowerOfTwo);
        let granularity = Granularity::Tensor;
        run(Coded { values, shape: &shape, granularity, format, ranges: &ranges })
    }

    /// A bell of values, the same every time.
    fn bell() -> Vec<f32> {
        let part = |i: usize, n: usize| ((i * n) % 1009) as f32 / 1009.0 - 0.5;
        (0..20_000).map(|i| part(i, 17) + part(i, 313) + part(i / 3, 71)).collect()
    }

    #[test]
    fn errors_count_by_their_importance() {
        let format = Format::int(3, true).unwrap();
        // The levels are -3 to 3 at the scale of the largest value.
        coded(&[3.0, 0.25, -1.5, 0.0], format, |coded| {
            assert_eq!(coded.weighted_error(&Importance::Equal(2.0)), 2.0 * (0.0625 + 0.25));
            let each = Importance::Each(vec![9.0, 4.0, 1.0, 9.0]);
            assert_eq!(coded.weighted_error(&each), 4.0 * 0.0625 + 0.25);
        });
        assert_eq!(Importance::of_weight(&[3.0, 1.0]), Importance::Equal(0.1));
        assert_eq!(Importance::of_weight(&[0.0]), Importance::Equal(0.0));
    }

    #[test]
    fn a_weight_counts_by_the_input_that_it_meets() {
        // Two inputs, three outputs; the second input is twice the first, the first weight 0.
        let linear = site("a.b", "weight", weight(&[2, 3], 1, 0));
        let input = observed("a.b", "input", &[1.0, 2.0, -1.0, 2.0], &[2, 2]);
        let values = [0.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        let found = Importance::of_output(&linear, &values, &evidence(vec![input]));
        // Energies 2 and 8: the output's is 2 * 2 + 3 * 8.
        let (first, second) = (2.0 / 28.0, 8.0 / 28.0);
        assert_eq!(found, Importance::Each(vec![first, first, first, second, second, second]));

        // A projection of an attention meets the attention's input, not its probabilities.
        let query = site("a.b.query", "weight", weight(&[2, 3], 1, 0));
        let others = observed("a.b", "probabilities", &[5.0, 0.0], &[1, 2]);
        let input = observed("a.b", "input", &[1.0, 2.0, -1.0, 2.0], &[2, 2]);
        assert_eq!(Importance::of_output(&query, &values, &evidence(vec![others, input])), found);
        // What else lies beside an input may meet anything.
        let beside = site("a.b.first", "weight", weight(&[2, 3], 1, 0));
        let input = observed("a.b", "input", &[1.0, 2.0, -1.0, 2.0], &[2, 2]);
        let unknown = Importance::of_output(&beside, &values, &evidence(vec![input]));
        assert_eq!(unknown, Importance::of_weight(&values));
        // Where nothing fits, all inputs count alike.
        let alone = Importance::of_output(&query, &values, &Observed::new());
        assert_eq!(alone, Importance::of_weight(&values));
    }

    #[test]
    fn divergence_falls_with_bits_and_stays_in_its_bounds() {
        let values = bell();
        let of = |values: &[f32], format| coded(values, format, |coded| coded.divergence());
        let mut last = std::f64::consts::LN_2;
        for bits in [2, 4, 6, 8] {
            let found = of(&values, Format::int(bits, true).unwrap());
            assert!(found > 0.0 && found < last, "{bits} bits: {found} after {last}");
            last = found;
        }
        // Nothing but the shape counts.
        let format = Format::ausn_candidates(4, true, Underflow::Gradual)[1];
        let scaled: Vec<f32> = values.iter().map(|v| v * 8.0).collect();
        assert!((of(&values, format) - of(&scaled, format)).abs() < 1e-12);
        assert_eq!(of(&[0.0; 9], format), 0.0);
    }

    /// `n` normal numbers, the same every time.
    fn normal(n: usize) -> Vec<f32> {
        use rand::{RngExt, SeedableRng};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let uniform = |rng: &mut rand_chacha::ChaCha8Rng| rng.random_range(1e-9f64..1.0);
        let mut one = || {
            let (radius, angle) = (-2.0 * uniform(&mut rng).ln(), uniform(&mut rng));
            (radius.sqrt() * (std::f64::consts::TAU * angle).cos()) as f32
        };
        (0..n).map(|_| one()).collect()
    }

    #[test]
    fn divergence_is_of_the_coding_and_not_of_how_many_values_there_are() {
        let of = |n: usize, bits: u32| {
            let format = Format::int(bits, true).unwrap();
            coded(&normal(n), format, |coded| coded.divergence())
        };
        // What more bits gain is what a search goes by.
        let gain = |n: usize| of(n, 4) - of(n, 8);
        let (few, many) = (gain(640), gain(100_000));
        assert!(few > 0.0 && few < 4.0 * many, "{few} of 640 values, {many} of 100000");
        assert!(of(640, 4) < 0.03, "{}", of(640, 4));
    }

    #[test]
    fn cells_narrower_than_a_bin_are_not_moved() {
        // Heavy tails: most values lie in cells that are a small part of a bin, on both sides of zero alike.
        let values: Vec<f32> = normal(60_000).iter().map(|v| v * v.abs().exp()).collect();
        let mirrored: Vec<f32> = values.iter().map(|v| -v).collect();
        for format in Format::ausn_candidates(8, true, Underflow::Gradual) {
            let of = |values: &[f32]| coded(values, format, |coded| coded.divergence());
            let (one, other) = (of(&values), of(&mirrored));
            assert!((one - other).abs() < 0.05 * one, "{format}: {one} and {other} mirrored");
        }
    }

    #[test]
    fn jensen_shannon_is_symmetric_zero_for_the_same_and_ln_2_for_others() {
        let (a, b) = ([1.0, 3.0, 0.0], [2.0, 2.0, 4.0]);
        assert!((jensen_shannon(&a, &b) - jensen_shannon(&b, &a)).abs() < 1e-15);
        assert_eq!(jensen_shannon(&a, &[2.0, 6.0, 0.0]), 0.0);
        let apart = jensen_shannon(&[1.0, 0.0], &[0.0, 5.0]);
        assert!((apart - std::f64::consts::LN_2).abs() < 1e-15);
        // Half a bit of two fair coins against one that always falls the same way, by hand.
        let expected = 0.5 * (4f64 / 3.0).ln() + 0.25 * (2f64 / 3.0).ln() + 0.25 * 2f64.ln();
        assert!((jensen_shannon(&[1.0, 0.0], &[1.0, 1.0]) - expected).abs() < 1e-15);
    }

    #[test]
    fn a_density_adds_up_bin_by_bin() {
        let mut steps = vec![0.0; 6];
        add_evenly(&mut steps, 0.5, 3.0);
        let mut density = 0.0;
        let bins: Vec<f64> = steps
            .iter()
            .map(|step| {
                density += step;
                density
            })
            .collect();
        let expected = [0.2, 0.4, 0.4, 0.0, 0.0, 0.0];
        for (found, expected) in bins.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{bins:?}");
        }
    }
}
