//! Which range a coding gets: from the values themselves, or from what was observed of them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Granularity, Observation};
use crate::coding::{AusnFormat, QuantizationError};

/// Binades below the no-clipping range that the `mse` search looks at.
const SEARCH_DEPTH: i32 = 12;

/// How the range exponent r is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeRule {
    /// The smallest r that clips nothing.
    Max,
    /// The r of least squared error.
    Mse,
    /// The smallest r that does not clip the given percentile of the magnitudes (0 to 100).
    Percentile(f64),
    /// The smallest r that does not clip an exponential moving average of each batch's largest
    /// magnitude, with the given decay (for activations).
    EmaMax(f64),
    /// This r, whatever the values.
    Fixed(i32),
}

/// Values whose range is to be chosen, sorted by the scale that they share.
#[derive(Debug)]
pub struct Grouped {
    values: Vec<f32>,
    /// `values[bounds[i]..bounds[i + 1]]` share scale `i`.
    bounds: Vec<usize>,
    /// What else was observed of an activation; nothing for a weight.
    observed: Observed,
}

/// What was observed of an activation besides the sample of its values.
#[derive(Debug, Default)]
struct Observed {
    /// Values beyond the sample, each of which counts once.
    outliers: Vec<f32>,
    /// How many values each sampled one stands for.
    sample_weight: f64,
    /// Largest magnitude of each batch.
    batch_max: Vec<f32>,
}

impl Grouped {
    /// Sorts a weight's values by their scale.
    pub fn weight(values: &[f32], shape: &[usize], granularity: Granularity) -> Self {
        let scale_of = granularity.indexer(shape);
        let mut bounds = vec![0; granularity.count(shape) + 1];
        (0..values.len()).for_each(|i| bounds[scale_of(i) + 1] += 1);
        for i in 1..bounds.len() {
            bounds[i] += bounds[i - 1];
        }
        let mut next = bounds.clone();
        let mut sorted = vec![0.0; values.len()];
        for (i, &value) in values.iter().enumerate() {
            let place = &mut next[scale_of(i)];
            sorted[*place] = value;
            *place += 1;
        }
        let observed = Observed { sample_weight: 1.0, ..Observed::default() };
        Self { values: sorted, bounds, observed }
    }

    /// An activation, as it was observed.
    pub fn activation(seen: Observation) -> Self {
        let Observation { samples, outliers, count, batch_max, .. } = seen;
        let sampled = count.saturating_sub(outliers.len() as u64) as f64;
        let sample_weight = sampled / samples.len().max(1) as f64;
        Self {
            bounds: vec![0, samples.len()],
            values: samples,
            observed: Observed { outliers, sample_weight, batch_max },
        }
    }

    fn groups(&self) -> impl IndexedParallelIterator<Item = &[f32]> {
        self.bounds.par_windows(2).map(|b| &self.values[b[0]..b[1]])
    }
}

/// The range exponent of every scale, and the error that it leaves, for one format.
pub fn choose_range(
    values: &Grouped,
    format: AusnFormat,
    rule: RangeRule,
) -> (Vec<i32>, QuantizationError) {
    let chosen: Vec<(i32, QuantizationError)> =
        values.groups().map(|group| choose_group(group, &values.observed, format, rule)).collect();
    let mut error = QuantizationError::default();
    chosen.iter().for_each(|(_, e)| error.merge(e));
    (chosen.into_iter().map(|(r, _)| r).collect(), error)
}

/// The format of least squared error among `candidates`, each with the ranges that `rule` gives it.
///
/// # Panics
///
/// If there is no candidate.
pub fn choose_coding(
    values: &Grouped,
    candidates: &[AusnFormat],
    rule: RangeRule,
) -> (AusnFormat, Vec<i32>, QuantizationError) {
    candidates
        .iter()
        .map(|&format| {
            let (ranges, error) = choose_range(values, format, rule);
            (format, ranges, error)
        })
        .min_by(|a, b| a.2.total().total_cmp(&b.2.total()))
        .expect("at least one candidate format")
}

fn choose_group(
    values: &[f32],
    observed: &Observed,
    format: AusnFormat,
    rule: RangeRule,
) -> (i32, QuantizationError) {
    let Observed { outliers, sample_weight, batch_max } = observed;
    let error_at = |r: i32| {
        let coding = format.with_range(r).expect("a range exponent inside the format's limits");
        let mut error = coding.error(values);
        error.clipping *= sample_weight;
        error.rounding *= sample_weight;
        error.energy *= sample_weight;
        error.merge(&coding.error(outliers));
        error
    };
    let largest = || {
        let seen = values.iter().chain(batch_max);
        f64::from(seen.fold(0f32, |max, v| max.max(v.abs())))
    };
    let r = match rule {
        RangeRule::Max => format.range_for_max(largest()),
        RangeRule::Percentile(percentile) => {
            format.range_for_max(f64::from(magnitude_percentile(values, observed, percentile)))
        }
        RangeRule::EmaMax(decay) => {
            let mut maxima = batch_max.iter().map(|&m| f64::from(m));
            let first = maxima.next().unwrap_or_else(largest);
            let average = maxima.fold(first, |average, m| decay * average + (1.0 - decay) * m);
            format.range_for_max(average)
        }
        RangeRule::Fixed(r) => r,
        RangeRule::Mse => {
            let top = format.range_for_max(largest());
            let bottom = (top - SEARCH_DEPTH).max(*format.range_exponents().start());
            return (bottom..=top)
                .rev()
                .map(|r| (r, error_at(r)))
                .min_by(|a, b| a.1.total().total_cmp(&b.1.total()))
                .expect("the range from bottom to top holds top");
        }
    };
    (r, error_at(r))
}

/// The magnitude that `percentile` percent of the values do not exceed (nearest rank); 0 for none.
fn magnitude_percentile(values: &[f32], observed: &Observed, percentile: f64) -> f32 {
    let weight = observed.sample_weight;
    let total = weight * values.len() as f64 + observed.outliers.len() as f64;
    let rank = (percentile / 100.0 * total).ceil();
    // Outliers lie beyond the sample of their batch: they are the last in order.
    let in_sample = (rank / weight).ceil() as usize;
    let (part, rank) = match in_sample <= values.len() || observed.outliers.is_empty() {
        true => (values, in_sample),
        false => (&*observed.outliers, (rank - weight * values.len() as f64).ceil() as usize),
    };
    let mut magnitudes: Vec<f32> = part.iter().map(|v| v.abs()).collect();
    if magnitudes.is_empty() {
        return 0.0;
    }
    let index = rank.clamp(1, magnitudes.len()) - 1;
    *magnitudes.select_nth_unstable_by(index, f32::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::Underflow;

    fn format(e: u32, s: u32) -> AusnFormat {
        AusnFormat::new(e, s, true, Underflow::Gradual).unwrap()
    }

    fn seen(values: &[f32], batch_max: &[f32]) -> Grouped {
        Grouped::activation(Observation {
            samples: values.to_vec(),
            batch_max: batch_max.to_vec(),
            count: values.len() as u64,
            ..Observation::default()
        })
    }

    fn ranges(values: &[f32], batch_max: &[f32], rule: RangeRule) -> i32 {
        let values = seen(values, batch_max);
        choose_range(&values, format(2, 1), rule).0[0]
    }

    #[test]
    fn each_rule_follows_its_definition() {
        // The largest level of E2 S1 is 1.5 * 2^r.
        assert_eq!(ranges(&[0.1, -1.5], &[], RangeRule::Max), 0);
        assert_eq!(ranges(&[0.1, -1.51], &[], RangeRule::Max), 1);
        assert_eq!(ranges(&[0.1], &[6.0], RangeRule::Max), 2);
        let mut values = vec![1.0f32; 99];
        values.push(100.0);
        assert_eq!(ranges(&values, &[], RangeRule::Percentile(99.0)), 0);
        assert_eq!(ranges(&values, &[], RangeRule::Percentile(100.0)), 7);
        // 0.5 * 8 + 0.5 * 2 = 5 fits 1.5 * 2^2.
        assert_eq!(ranges(&[1.0], &[8.0, 2.0], RangeRule::EmaMax(0.5)), 2);
        assert_eq!(ranges(&values, &[], RangeRule::Fixed(-3)), -3);
    }

    #[test]
    fn mse_clips_an_outlier_when_that_pays() {
        let mut values: Vec<f32> =
            (0..4096).map(|i| ((i * 37) % 200) as f32 / 100.0 - 1.0).collect();
        values.push(6.5);
        let grouped = seen(&values, &[]);
        let (r, error) = choose_range(&grouped, format(1, 2), RangeRule::Mse);
        assert!(r[0] < ranges(&values, &[], RangeRule::Max));
        let brute = format(1, 2)
            .range_exponents()
            .map(|r| format(1, 2).with_range(r).unwrap().error(&values).total())
            .fold(f64::INFINITY, f64::min);
        assert_eq!(error.total(), brute);
    }

    #[test]
    fn an_outlier_that_no_sample_meets_still_counts() {
        // One value in a million holds more energy than all others together.
        let mut batch: Vec<f32> = (0..1 << 20).map(|i| (i % 200) as f32 / 100.0 - 1.0).collect();
        batch[12_345] = 4000.0;
        let mut observation = Observation::default();
        observation.record(&batch);
        assert!(!observation.samples.contains(&4000.0));
        let sampled = Grouped::activation(observation);
        let whole = seen(&batch, &[]);
        let eight_bits = format(3, 4);
        let (range, _) = choose_range(&sampled, eight_bits, RangeRule::Mse);
        assert_eq!(range, choose_range(&whole, eight_bits, RangeRule::Mse).0);
    }

    #[test]
    fn coding_with_least_error_is_chosen() {
        let uniform: Vec<f32> = (0..999).map(|i| i as f32 / 499.5 - 1.0).collect();
        let candidates = AusnFormat::candidates(4, true, Underflow::Gradual);
        let grouped = seen(&uniform, &[]);
        let (chosen, _, error) = choose_coding(&grouped, &candidates, RangeRule::Mse);
        assert_eq!(chosen.exponent_bits(), 1, "evenly spread values want the uniform grid");
        for candidate in candidates {
            assert!(error.total() <= choose_range(&grouped, candidate, RangeRule::Mse).1.total());
        }
    }

    #[test]
    fn channels_get_their_own_ranges() {
        let values = [1.0, 100.0, -0.9, 50.0];
        let granularity = Granularity::Channel { axis: 1 };
        let grouped = Grouped::weight(&values, &[2, 2], granularity);
        assert_eq!(choose_range(&grouped, format(2, 1), RangeRule::Max).0, [0, 7]);
    }
}
