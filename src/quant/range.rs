//! Which range a coding gets: from the values themselves, or from what was observed of them.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::normalize::deviation;
use super::{Granularity, Observation, Ranges, ScaleKind, Scales};
use crate::coding::{Format, QuantizationError, binade, power_of_two};

/// Binades below the no-clipping range that the `mse` search looks at.
const SEARCH_DEPTH: i32 = 12;

/// Free scales that the `mse` search tries within a factor of 2 of the best power of two, on either side.
const FREE_STEPS: i32 = 32;

/// How the range is chosen. Below, r is the exponent of a scale `2^r`; a free scale follows the same
/// rule without rounding up to a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeRule {
    /// The smallest r that clips nothing. With a zero point, whose rounding moves all codes, an end may lie up to half a
    /// step beyond them.
    Max,
    /// The r of least squared error.
    Mse,
    /// The smallest r that does not clip the given percentile of the magnitudes (0 to 100). Where that is 0, since so many
    /// values are, it is `Max`.
    Percentile(f64),
    /// The smallest r that does not clip an exponential moving average of each batch's largest
    /// magnitude, with the given decay (for activations). Of a recurrent state, which passes once for
    /// each step, it is the average over the last steps of the last batch. Zeros alone do not count.
    EmaMax(f64),
    /// This r, whatever the values.
    Fixed(i32),
    /// The r of the binade that the largest magnitude is in, `floor(log2 max|x|)`: the block scale of
    /// the OCP Microscaling specification (there it is divided by the largest power of two of the
    /// element, which is 1 at scale 1 here). Clips what lies above the largest level in that binade.
    /// For formats with zero points it is `Max`.
    Binade,
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
    /// The smallest and the largest value, with 0 between them.
    ends: (f32, f32),
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
        let samples = seen.even_sample();
        let Observation { outliers, count, batch_max, ends, .. } = seen;
        let sampled = count.saturating_sub(outliers.len() as u64) as f64;
        let sample_weight = sampled / samples.len().max(1) as f64;
        Self {
            bounds: vec![0, samples.len()],
            values: samples,
            observed: Observed { outliers, sample_weight, batch_max, ends },
        }
    }

    /// The standard deviation of a weight's values.
    pub(super) fn deviation(&self) -> f32 {
        deviation(&self.values)
    }

    fn groups(&self) -> impl IndexedParallelIterator<Item = &[f32]> {
        self.bounds.par_windows(2).map(|b| &self.values[b[0]..b[1]])
    }
}

/// The scale of every group (and its zero point, where the format has one), and the error that they
/// leave, for one format.
///
/// # Panics
///
/// If a fixed range exponent is none of the format's.
pub fn choose_range(
    values: &Grouped,
    format: Format,
    rule: RangeRule,
    kind: ScaleKind,
) -> (Ranges, QuantizationError) {
    let chosen: Vec<(Range, QuantizationError)> = values
        .groups()
        .map(|group| Group { values: group, observed: &values.observed, format }.choose(rule, kind))
        .collect();
    let mut error = QuantizationError::default();
    chosen.iter().for_each(|(_, e)| error.merge(e));
    let zero_points = match format.has_zero_point() {
        true => chosen.iter().map(|(range, _)| range.zero_point).collect(),
        false => Vec::new(),
    };
    let scales = chosen.iter().map(|(range, _)| range.scale).collect();
    (Ranges { scales: Scales::new(kind, scales), zero_points }, error)
}

/// A format, the ranges that values got in it, and what they lose.
#[derive(Clone, Debug, PartialEq)]
pub struct WeighedCoding {
    /// The format.
    pub format: Format,
    /// Its ranges.
    pub ranges: Ranges,
    /// What they lose. Of an activation, a sample stands for all values.
    pub error: QuantizationError,
}

/// Every one of `candidates`, which may be of any family, with the ranges that `rule` gives it; and
/// the index of the one of least squared error.
///
/// # Panics
///
/// If there is no candidate, or a fixed range exponent is none of a candidate's.
pub fn weigh_codings(
    values: &Grouped,
    candidates: &[Format],
    rule: RangeRule,
    kind: ScaleKind,
) -> (Vec<WeighedCoding>, usize) {
    let weigh = |&format: &Format| {
        let (ranges, error) = choose_range(values, format, rule, kind);
        WeighedCoding { format, ranges, error }
    };
    let weighed: Vec<WeighedCoding> = candidates.iter().map(weigh).collect();
    let losses = weighed.iter().map(|coding| coding.error.total());
    let least = losses.enumerate().min_by(|a, b| a.1.total_cmp(&b.1));
    let (chosen, _) = least.expect("at least one candidate format");
    (weighed, chosen)
}

/// The one of least squared error among [`weigh_codings`].
///
/// # Panics
///
/// As [`weigh_codings`].
pub fn choose_coding(
    values: &Grouped,
    candidates: &[Format],
    rule: RangeRule,
    kind: ScaleKind,
) -> (Format, Ranges, QuantizationError) {
    let (mut weighed, chosen) = weigh_codings(values, candidates, rule, kind);
    let WeighedCoding { format, ranges, error } = weighed.swap_remove(chosen);
    (format, ranges, error)
}

/// The range of one group.
#[derive(Clone, Copy)]
struct Range {
    scale: f32,
    zero_point: i32,
}

/// Values that share a scale, and the format that they are to get.
#[derive(Clone, Copy)]
struct Group<'a> {
    values: &'a [f32],
    observed: &'a Observed,
    format: Format,
}

impl Group<'_> {
    fn choose(self, rule: RangeRule, kind: ScaleKind) -> (Range, QuantizationError) {
        let largest = match rule {
            RangeRule::Fixed(r) => {
                let (format, allowed) = (self.format, self.format.range_exponents());
                assert!(
                    allowed.contains(&r),
                    "range exponent {r} for {format}: not in {allowed:?}"
                );
                return self.with_error(self.at(power_of_two(r)));
            }
            RangeRule::Max | RangeRule::Mse | RangeRule::Binade => self.largest(),
            RangeRule::Percentile(percentile) => {
                match magnitude_percentile(self.values, self.observed, percentile) {
                    0.0 => self.largest(),
                    magnitude => f64::from(magnitude),
                }
            }
            RangeRule::EmaMax(decay) => self.average_max(decay),
        };
        let range = match self.format.has_zero_point() {
            true => self.affine(largest, kind),
            false => Range { scale: self.scale(largest, rule, kind), zero_point: 0 },
        };
        match rule {
            RangeRule::Mse => self.search(range, kind),
            _ => self.with_error(range),
        }
    }

    /// What a range loses on the values, those beyond the sample counted once.
    fn with_error(self, range: Range) -> (Range, QuantizationError) {
        let Observed { outliers, sample_weight, .. } = self.observed;
        let Range { scale, zero_point } = range;
        let mut error = self.format.error(self.values, scale, zero_point).times(*sample_weight);
        error.merge(&self.format.error(outliers, scale, zero_point));
        (range, error)
    }

    fn largest(self) -> f64 {
        let seen = self.values.iter().chain(&self.observed.batch_max);
        f64::from(seen.fold(0f32, |max, v| max.max(v.abs())))
    }

    fn average_max(self, decay: f64) -> f64 {
        // Nothing but zeros tells nothing of a range: a recurrent layer's first state, say.
        let seen = self.observed.batch_max.iter().filter(|&&m| m > 0.0);
        let mut maxima = seen.map(|&m| f64::from(m));
        let first = maxima.next().unwrap_or_else(|| self.largest());
        maxima.fold(first, |average, m| decay * average + (1.0 - decay) * m)
    }

    fn scale(self, largest: f64, rule: RangeRule, kind: ScaleKind) -> f32 {
        match (rule, kind) {
            (RangeRule::Binade, _) => {
                let allowed = self.format.range_exponents();
                let r = if largest > 0.0 { binade(largest).0 } else { 0 };
                power_of_two(r.clamp(*allowed.start(), *allowed.end()))
            }
            (_, ScaleKind::PowerOfTwo) => power_of_two(self.format.range_for_max(largest)),
            (_, ScaleKind::Free) => self.format.scale_for_max(largest),
        }
    }

    /// The smallest and the largest value, no farther from 0 than `limit`, with 0 between them.
    fn ends(self, limit: f64) -> (f64, f64) {
        let wider = |(low, high): (f32, f32), &v: &f32| (low.min(v), high.max(v));
        let (low, high) = self.values.iter().fold(self.observed.ends, wider);
        (f64::from(low).max(-limit), f64::from(high).min(limit))
    }

    /// Scale and zero point that clip nothing up to `limit`.
    fn affine(self, limit: f64, kind: ScaleKind) -> Range {
        let (low, high) = self.ends(limit);
        let scale = match kind {
            ScaleKind::PowerOfTwo => {
                // Rounding the zero point can push an end out by up to half a step.
                let r = self.format.range_for_max(high - low);
                let fits = |r: i32| {
                    let (scale, zero) = (2f64.powi(r), self.zero_point(2f64.powi(r), low, high));
                    let highest = f64::from(self.format.max()) - zero;
                    low >= (-zero - 0.5) * scale && high <= (highest + 0.5) * scale
                };
                power_of_two(if fits(r) { r } else { r + 1 })
            }
            ScaleKind::Free => self.format.scale_for_max(high - low),
        };
        Range { scale, zero_point: self.zero_point(f64::from(scale), low, high) as i32 }
    }

    /// The zero point of a scale for values from `low` to `high`. Where the codes do not reach over
    /// all of them, both ends lose the same part.
    fn zero_point(self, scale: f64, low: f64, high: f64) -> f64 {
        let codes = f64::from(self.format.max());
        let part = if high > low { (codes * scale / (high - low)).min(1.0) } else { 0.0 };
        (-low * part / scale).round_ties_even().clamp(0.0, codes)
    }

    /// The range of a scale.
    fn at(self, scale: f32) -> Range {
        let zero_point = match self.format.has_zero_point() {
            true => {
                let (low, high) = self.ends(f64::INFINITY);
                self.zero_point(f64::from(scale), low, high) as i32
            }
            false => 0,
        };
        Range { scale, zero_point }
    }

    /// The range of least squared error, from the one that clips nothing downwards.
    fn search(self, top: Range, kind: ScaleKind) -> (Range, QuantizationError) {
        let at = |scale: f32| self.with_error(self.at(scale));
        let smallest = *self.format.scales().start();
        let halvings = (1..=SEARCH_DEPTH).map(|n| top.scale * power_of_two(-n));
        let mut best =
            halvings.filter(|&s| s >= smallest).map(at).fold(self.with_error(top), better);
        if self.format.has_zero_point() {
            // With the best zero point a neighbouring scale may lose less.
            let near = [0.5, 1.0, 2.0].map(|factor| best.0.scale * factor);
            let near = near.into_iter().filter(|&s| s >= smallest && s <= top.scale);
            best = near.map(|scale| self.refine_zero_point(at(scale))).fold(best, better);
        }
        if kind == ScaleKind::Free {
            let middle = best.0.scale;
            let step = |n: i32| middle * (n as f32 / FREE_STEPS as f32).exp2();
            let scales = (-FREE_STEPS..=FREE_STEPS).map(step).filter(|&s| s >= smallest);
            best = scales.filter(|&s| s <= top.scale).map(at).fold(best, better);
        }
        match self.format.has_zero_point() {
            true => self.refine_zero_point(best),
            false => best,
        }
    }

    /// Moves the zero point as long as that helps: what both ends lose need not be the same.
    fn refine_zero_point(self, mut best: (Range, QuantizationError)) -> (Range, QuantizationError) {
        let codes = self.format.max() as i32;
        let mut step = (codes + 1) / 4;
        while step > 0 {
            let Range { scale, zero_point } = best.0;
            let moved = [zero_point - step, zero_point + step];
            let legal = moved.into_iter().filter(|z| (0..=codes).contains(z));
            let tried = legal.map(|zero_point| self.with_error(Range { scale, zero_point }));
            let found = tried.fold(best, better);
            match found.0.zero_point == zero_point {
                true => step /= 2,
                false => best = found,
            }
        }
        best
    }
}

/// The range that loses less; the first one of two that lose the same.
fn better(
    a: (Range, QuantizationError),
    b: (Range, QuantizationError),
) -> (Range, QuantizationError) {
    if b.1.total() < a.1.total() { b } else { a }
}

/// The magnitude that `percentile` percent of the values do not exceed (nearest rank); 0 for none.
fn magnitude_percentile(values: &[f32], observed: &Observed, percentile: f64) -> f32 {
    let sampled = values.iter().map(|v| (v.abs(), observed.sample_weight));
    // One batch's outliers may be smaller than another's sample.
    let mut magnitudes: Vec<(f32, f64)> =
        sampled.chain(observed.outliers.iter().map(|v| (v.abs(), 1.0))).collect();
    magnitudes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = magnitudes.iter().map(|(_, weight)| weight).sum();
    // A product such as 0.999 * 1000 may come out a hair above the whole number that it is.
    let rank = percentile * total / 100.0 * (1.0 - 1e-12);
    let mut below = 0.0;
    let reaches = |(_, weight): &&(f32, f64)| {
        below += weight;
        below >= rank
    };
    magnitudes.iter().find(reaches).or(magnitudes.last()).map_or(0.0, |(magnitude, _)| *magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::{AusnFormat, Family, Underflow};
    use crate::quant::Sample;

    fn format(e: u32, s: u32) -> Format {
        AusnFormat::new(e, s, true, Underflow::Gradual).unwrap().into()
    }

    /// The ranges of least squared error, and other powers of two.
    fn powers_of_two(
        values: &Grouped,
        format: Format,
        rule: RangeRule,
    ) -> (Vec<i32>, QuantizationError) {
        let (ranges, error) = choose_range(values, format, rule, ScaleKind::PowerOfTwo);
        (ranges.range_exponents().unwrap().to_vec(), error)
    }

    /// Numbers that are about normally distributed, shifted.
    fn normal(shift: f32) -> Grouped {
        let mut state = 7u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let values: Vec<f32> =
            (0..4000).map(|_| shift + (0..12).map(|_| uniform()).sum::<f32>()).collect();
        Grouped::weight(&values, &[values.len()], Granularity::Tensor)
    }

    fn seen(values: &[f32], batch_max: &[f32]) -> Grouped {
        Grouped::activation(Observation {
            samples: vec![Sample { values: values.to_vec(), step: 1 }],
            batch_max: batch_max.to_vec(),
            count: values.len() as u64,
            ends: values.iter().fold((0.0, 0.0), |(low, high), v| (low.min(*v), high.max(*v))),
            ..Observation::default()
        })
    }

    fn ranges(values: &[f32], batch_max: &[f32], rule: RangeRule) -> i32 {
        let values = seen(values, batch_max);
        powers_of_two(&values, format(2, 1), rule).0[0]
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
        values.fill(0.0);
        values.push(0.02);
        assert_eq!(ranges(&values, &[], RangeRule::Percentile(90.0)), -6, "zeros tell nothing");
        // 0.5 * 8 + 0.5 * 2 = 5 fits 1.5 * 2^2.
        assert_eq!(ranges(&[1.0], &[8.0, 2.0], RangeRule::EmaMax(0.5)), 2);
        // The state that a recurrent layer begins with is no batch.
        assert_eq!(ranges(&[1.0], &[0.0, 8.0, 0.0, 2.0], RangeRule::EmaMax(0.5)), 2);
        assert_eq!(ranges(&values, &[], RangeRule::Fixed(-3)), -3);
    }

    #[test]
    fn percentiles_weigh_samples_and_the_outliers_of_all_batches() {
        let of = |values: &Grouped, percentile: f64| {
            magnitude_percentile(&values.values, &values.observed, percentile)
        };
        // The outliers of the first batch are smaller than most of the second.
        let batch = |size: f32| -> Vec<f32> {
            (0..400_000).map(|i| size * (i as u64 * 48_271 % 400_009) as f32 / 400_009.0).collect()
        };
        let batches = [batch(1.0), batch(8.0)];
        let mut seen = Observation::default();
        batches.iter().for_each(|batch| seen.record(batch, &[batch.len()]));
        assert!(seen.outliers.iter().any(|v| *v < 1.0), "{:?}", seen.outliers);
        let sampled = Grouped::activation(seen);
        let all = Grouped::weight(&batches.concat(), &[800_000], Granularity::Tensor);
        for percentile in [50.0, 99.0, 99.9, 99.99, 99.9999, 100.0] {
            let (found, expected) = (of(&sampled, percentile), of(&all, percentile));
            assert!((found / expected - 1.0).abs() < 0.03, "{percentile}: {found}, {expected}");
        }
        // 99.9 % of a thousand are 999, also where the product is a hair more.
        let thousand: Vec<f32> = (1..=1000).map(|i| i as f32).collect();
        let thousand = Grouped::weight(&thousand, &[1000], Granularity::Tensor);
        assert_eq!([99.9, 0.0, 100.0].map(|p| of(&thousand, p)), [999.0, 1.0, 1000.0]);
        assert_eq!(of(&Grouped::weight(&[], &[0], Granularity::Tensor), 99.9), 0.0);
    }

    #[test]
    fn batches_count_by_their_size() {
        // Few large values in a small batch, many small ones in a large one.
        let batch = |count: usize, size: f32| -> Vec<f32> {
            (0..count).map(|i| size * (i * 48_271 % count) as f32 / count as f32).collect()
        };
        let batches = [batch(5_003, 1.0), batch(400_009, 0.01), batch(20_011, 0.3)];
        let mut seen = Observation::default();
        batches.iter().for_each(|batch| seen.record(batch, &[batch.len()]));
        let sampled = Grouped::activation(seen);
        let all = batches.concat();
        let whole = Grouped::weight(&all, &[all.len()], Granularity::Tensor);
        for e in 1..=4 {
            let of = |values: &Grouped| powers_of_two(values, format(e, 4 - e), RangeRule::Mse);
            let ((range, found), (expected_range, expected)) = (of(&sampled), of(&whole));
            assert_eq!(range, expected_range, "E{e}");
            let count = found.count as f64 / expected.count as f64;
            assert!((count - 1.0).abs() < 1e-3, "E{e}: {count}");
            assert!(
                (found.sqnr_db() - expected.sqnr_db()).abs() < 0.5,
                "E{e}: {found:?}, {expected:?}"
            );
        }
    }

    #[test]
    fn a_sample_sees_every_column_of_a_wide_layer() {
        // One of 384 features is much larger than the others, and the rows of a batch divide evenly.
        let width = 384;
        let row = |feature: usize| if feature == 96 { 20.0 } else { 1.0 };
        let batch: Vec<f32> = (0..2048 * width).map(|i| row(i % width)).collect();
        let mut seen = Observation::default();
        for _ in 0..4 {
            seen.record(&batch, &[32, 64, width]);
        }
        let samples = seen.even_sample();
        let large = samples.iter().filter(|v| **v == 20.0).count();
        let expected = samples.len() as f64 / width as f64;
        assert!((large as f64 / expected - 1.0).abs() < 0.1, "{large} for {expected}");
    }

    #[test]
    fn mse_clips_an_outlier_when_that_pays() {
        let mut values: Vec<f32> =
            (0..4096).map(|i| ((i * 37) % 200) as f32 / 100.0 - 1.0).collect();
        values.push(6.5);
        let grouped = seen(&values, &[]);
        let (r, error) = powers_of_two(&grouped, format(1, 2), RangeRule::Mse);
        assert!(r[0] < ranges(&values, &[], RangeRule::Max));
        let brute = format(1, 2)
            .range_exponents()
            .map(|r| format(1, 2).with_range(r).unwrap().unwrap().error(&values).total())
            .fold(f64::INFINITY, f64::min);
        assert_eq!(error.total(), brute);
    }

    #[test]
    fn an_outlier_that_no_sample_meets_still_counts() {
        // One value in a million holds more energy than all others together.
        let mut batch: Vec<f32> = (0..1 << 20).map(|i| (i % 200) as f32 / 100.0 - 1.0).collect();
        batch[12_345] = 4000.0;
        let mut observation = Observation::default();
        observation.record(&batch, &[batch.len()]);
        assert!(!observation.even_sample().contains(&4000.0));
        let sampled = Grouped::activation(observation);
        let whole = seen(&batch, &[]);
        let eight_bits = format(3, 4);
        let (range, _) = powers_of_two(&sampled, eight_bits, RangeRule::Mse);
        assert_eq!(range, powers_of_two(&whole, eight_bits, RangeRule::Mse).0);
    }

    #[test]
    fn coding_with_least_error_is_chosen() {
        let uniform: Vec<f32> = (0..999).map(|i| i as f32 / 499.5 - 1.0).collect();
        let mut candidates = Format::ausn_candidates(4, true, Underflow::Gradual);
        candidates.push(Format::power_of_two(4, true).unwrap());
        let grouped = seen(&uniform, &[]);
        let kind = ScaleKind::PowerOfTwo;
        let (weighed, chosen) = weigh_codings(&grouped, &candidates, RangeRule::Mse, kind);
        let best = &weighed[chosen];
        assert_eq!(best.format.split(), Some((1, 2)), "evenly spread values want the uniform grid");
        for (coding, candidate) in weighed.iter().zip(candidates) {
            let (ranges, error) = powers_of_two(&grouped, candidate, RangeRule::Mse);
            assert_eq!((coding.format, coding.error), (candidate, error));
            assert_eq!(coding.ranges.range_exponents().unwrap(), ranges);
            assert!(best.error.total() <= error.total());
        }
    }

    #[test]
    fn channels_get_their_own_ranges() {
        let values = [1.0, 100.0, -0.9, 50.0];
        let granularity = Granularity::Channel { axis: 1 };
        let grouped = Grouped::weight(&values, &[2, 2], granularity);
        assert_eq!(powers_of_two(&grouped, format(2, 1), RangeRule::Max).0, [0, 7]);
    }

    #[test]
    fn microscaling_blocks_take_the_binade_of_their_maximum() {
        // OCP MX 1.0, 6.3: the shared exponent is floor(log2 max|x|) less that of the element.
        let values = [5.0, 7.9, 0.1, 0.0, 0.0, 0.0, 0.03, -0.25, 0.25];
        let granularity = Granularity::Group { axis: 0, size: 3 };
        let grouped = Grouped::weight(&values, &[9], granularity);
        let element = Family::Mxfp4.element().unwrap();
        assert_eq!(powers_of_two(&grouped, element, RangeRule::Binade).0, [2, 0, -2]);
    }

    #[test]
    fn free_scales_fit_exactly_or_lose_less_than_powers_of_two() {
        let values = normal(0.0);
        let bits = Format::ausn_candidates(4, true, Underflow::Gradual).into_iter();
        let others = [Format::apot(4, true), Format::int(4, true), Format::affine(4)];
        for format in bits.chain(others.map(Result::unwrap)) {
            let (ranges, clips_nothing) =
                choose_range(&values, format, RangeRule::Max, ScaleKind::Free);
            let largest = values.values.iter().fold(0f32, |max, v| max.max(v.abs()));
            let top = ranges.scales.factors()[0] * format.max();
            if !format.has_zero_point() {
                assert_eq!(clips_nothing.clipped, 0, "{format}");
                assert!((top - largest).abs() < 1e-5, "{format}: {top} for {largest}");
            }
            let of = |kind| choose_range(&values, format, RangeRule::Mse, kind).1.sqnr_db();
            let (free, power) = (of(ScaleKind::Free), of(ScaleKind::PowerOfTwo));
            assert!(free > power && free < power + 3.0, "{format}: {free} dB, {power} dB");
        }
    }

    #[test]
    fn zero_points_follow_the_values() {
        let values = Grouped::weight(&[-1.0, 0.5, 3.0], &[3], Granularity::Tensor);
        let affine = Format::affine(4).unwrap();
        // One value in a million that no sample meets: the largest magnitude is on the other side.
        let mut rare = vec![2.0; 1 << 20];
        (rare[0], rare[77]) = (10.0, -5.0);
        let mut seen = Observation::default();
        seen.record(&rare, &[rare.len()]);
        let seen = Grouped::activation(seen);
        let (found, _) = choose_range(&seen, affine, RangeRule::Max, ScaleKind::Free);
        assert_eq!((found.scales.factors(), &found.zero_points[..]), (vec![1.0], &[5][..]));

        let (ranges, _) = choose_range(&values, affine, RangeRule::Max, ScaleKind::Free);
        assert_eq!(ranges.zero_points, [4]);
        assert!((ranges.scales.factors()[0] - 4.0 / 15.0).abs() < 1e-6);
        let (ranges, error) = choose_range(&values, affine, RangeRule::Max, ScaleKind::PowerOfTwo);
        assert_eq!(
            ranges,
            Ranges { scales: Scales::RangeExponents(vec![-1]), zero_points: vec![2] }
        );
        assert_eq!(error.total(), 0.0);

        // Values on one side of zero waste no code on the other.
        let shifted = normal(4.0);
        for kind in [ScaleKind::Free, ScaleKind::PowerOfTwo] {
            let (ranges, affine) = choose_range(&shifted, affine, RangeRule::Mse, kind);
            assert_eq!(ranges.zero_points, [0]);
            let (_, int) =
                choose_range(&shifted, Format::int(4, true).unwrap(), RangeRule::Mse, kind);
            assert!(affine.sqnr_db() > int.sqnr_db() + 4.0);
        }
        // No zero point and no scale of the search loses less.
        let values = normal(0.5);
        let (ranges, error) = choose_range(&values, affine, RangeRule::Mse, ScaleKind::PowerOfTwo);
        for (r, zero_point) in (-6..3).flat_map(|r| (0..16).map(move |z| (r, z))) {
            let other = affine.error(&values.values, 2f32.powi(r), zero_point);
            assert!(error.total() <= other.total(), "{ranges:?} against 2^{r}, {zero_point}");
        }
    }
}
