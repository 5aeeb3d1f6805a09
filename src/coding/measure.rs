use multiversion::multiversion;
use serde::{Deserialize, Serialize};

use super::Rounding;

/// What quantizing some numbers loses, by the two metrics of the paper: clipping error and rounding error.
///
/// All sums are in the square of the unit of the numbers. Sums of parts are [merged](Self::merge) into those of
/// the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuantizationError {
    /// How many numbers were quantized.
    pub count: u64,
    /// How many of them were outside the representable range.
    pub clipped: u64,
    /// `C`: the sum of squared errors of the numbers outside the range.
    pub clipping: f64,
    /// `R`: the sum of squared errors of the numbers within the range.
    pub rounding: f64,
    /// The sum of the squared numbers.
    pub energy: f64,
}

impl QuantizationError {
    /// Adds a number `x`, its quantized value `q`, and whether `x` was within the representable range.
    #[inline]
    pub fn record(&mut self, x: f32, q: f32, in_range: bool) {
        let x = f64::from(x);
        let error = x - f64::from(q);
        let squared = error * error;
        self.count += 1;
        self.energy += x * x;
        if in_range {
            self.rounding += squared;
        } else {
            self.clipped += 1;
            self.clipping += squared;
        }
    }

    /// As if each number stood for `weight` of them; counts are rounded.
    pub fn times(&self, weight: f64) -> Self {
        let count = |count: u64| (count as f64 * weight).round() as u64;
        Self {
            count: count(self.count),
            clipped: count(self.clipped),
            clipping: self.clipping * weight,
            rounding: self.rounding * weight,
            energy: self.energy * weight,
        }
    }

    /// Adds the numbers of another record.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.clipped += other.clipped;
        self.clipping += other.clipping;
        self.rounding += other.rounding;
        self.energy += other.energy;
    }

    /// `C + R`, the whole squared error.
    pub fn total(&self) -> f64 {
        self.clipping + self.rounding
    }

    /// The squared error per number; 0 if there are no numbers.
    pub fn mean_squared(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.total() / self.count as f64
    }

    /// The ratio of signal to quantization noise, `10 log10(sum x^2 / (C + R))`, in dB.
    ///
    /// Without any error it is `+inf`. That holds for no numbers and for all zeros too: nothing was lost, and a
    /// search for the best coding can compare such a result with others.
    pub fn sqnr_db(&self) -> f64 {
        if self.total() == 0.0 {
            return f64::INFINITY;
        }
        10.0 * (self.energy / self.total()).log10()
    }

    /// The part of the numbers that was outside the range, from 0 to 1; 0 if there are no numbers.
    pub fn clipped_fraction(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.clipped as f64 / self.count as f64
    }

    /// `C / (C + R)`, the part of the squared error that is due to clipping, from 0 to 1; 0 without any error.
    pub fn clipping_share(&self) -> f64 {
        if self.total() == 0.0 {
            return 0.0;
        }
        self.clipping / self.total()
    }
}

/// What `rounder` loses on `values` at a scale: a value `x` becomes `scale * Q(x / scale)`.
///
/// A search for a coding calls this many times, and one running sum waits for each addition. Eight sums side
/// by side become vector instructions.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
pub(super) fn measure<R: Rounding>(rounder: R, scale: f32, values: &[f32]) -> QuantizationError {
    const LANES: usize = 8;
    let mut clipped = [0_u64; LANES];
    let mut clipping = [0.0_f64; LANES];
    let mut rounding = [0.0_f64; LANES];
    let mut energy = [0.0_f64; LANES];
    let inverse = 1.0 / scale;
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = f64::from(chunk[lane]);
            let unit = chunk[lane] * inverse;
            let error = x - f64::from(rounder.quantize(unit) * scale);
            let squared = error * error;
            let in_range = rounder.in_range(unit);
            clipped[lane] += u64::from(!in_range);
            clipping[lane] += if in_range { 0.0 } else { squared };
            rounding[lane] += if in_range { squared } else { 0.0 };
            energy[lane] += x * x;
        }
    }
    let mut sum = QuantizationError {
        count: (values.len() - rest.len()) as u64,
        clipped: clipped.iter().sum(),
        clipping: clipping.iter().sum(),
        rounding: rounding.iter().sum(),
        energy: energy.iter().sum(),
    };
    for &x in rest {
        let unit = x * inverse;
        sum.record(x, rounder.quantize(unit) * scale, rounder.in_range(unit));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> QuantizationError {
        let mut error = QuantizationError::default();
        error.record(10.0, 7.0, false);
        error.record(-2.0, -1.0, true);
        error.record(4.0, 4.0, true);
        error
    }

    #[test]
    fn figures_of_a_sample() {
        let error = sample();
        assert_eq!((error.count, error.clipped), (3, 1));
        assert_eq!((error.clipping, error.rounding, error.energy), (9.0, 1.0, 120.0));
        assert_eq!(error.total(), 10.0);
        assert_eq!(error.mean_squared(), 10.0 / 3.0);
        assert_eq!(error.clipped_fraction(), 1.0 / 3.0);
        assert_eq!(error.clipping_share(), 0.9);
        assert!((error.sqnr_db() - 10.0 * 12.0_f64.log10()).abs() < 1e-12);
    }

    #[test]
    fn figures_without_numbers_or_without_error() {
        let mut exact = QuantizationError::default();
        for x in [None, Some(0.0), Some(2.0)] {
            if let Some(x) = x {
                exact.record(x, x, true);
            }
            assert_eq!(exact.sqnr_db(), f64::INFINITY);
            assert_eq!(
                (exact.mean_squared(), exact.clipped_fraction(), exact.clipping_share()),
                (0.0, 0.0, 0.0)
            );
        }
    }

    #[test]
    fn merging_parts_gives_the_whole() {
        let mut whole = sample();
        whole.merge(&sample());
        let mut expected = sample();
        expected.record(10.0, 7.0, false);
        expected.record(-2.0, -1.0, true);
        expected.record(4.0, 4.0, true);
        assert_eq!(whole, expected);
        whole.merge(&QuantizationError::default());
        assert_eq!(whole, expected);
    }

    #[test]
    fn squares_of_the_extremes_stay_within_f64() {
        let mut error = QuantizationError::default();
        error.record(f32::MAX, 0.0, false);
        error.record(f32::from_bits(1), 0.0, true);
        assert!(error.clipping.is_finite() && error.rounding > 0.0);
    }

    #[test]
    fn serde_round_trip() {
        let text = serde_json::to_string(&sample()).unwrap();
        assert_eq!(text, r#"{"count":3,"clipped":1,"clipping":9.0,"rounding":1.0,"energy":120.0}"#);
        assert_eq!(serde_json::from_str::<QuantizationError>(&text).unwrap(), sample());
    }
}
