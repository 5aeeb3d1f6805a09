use serde::Serialize;

use super::{Density, ExpectedError, Side, TheoryError};
use crate::coding::{AusnFormat, Family, Format, Underflow};

/// A coding as theory sees it: a name, and the levels that it has before they are scaled to a range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Grid {
    name: String,
    format: Option<AusnFormat>,
    #[serde(skip)]
    levels: Vec<f64>,
}

impl Grid {
    /// Any levels, in increasing order, by a name for messages and tables.
    ///
    /// # Errors
    ///
    /// Levels that are not finite or do not increase, and none that differs from 0.
    pub fn new(name: impl Into<String>, levels: Vec<f64>) -> Result<Self, TheoryError> {
        let coding = name.into();
        let before = |index: usize| index.checked_sub(1).map(|before| levels[before]);
        let breaks = |&index: &usize| {
            !levels[index].is_finite()
                || before(index).is_some_and(|before| before >= levels[index])
        };
        if let Some(index) = (0..levels.len()).find(breaks) {
            let (level, before) = (levels[index], before(index));
            return Err(TheoryError::NotIncreasing { coding, index, level, before });
        }
        if levels.iter().all(|&level| level == 0.0) {
            return Err(TheoryError::NoLevels { coding });
        }
        Ok(Self { name: coding, format: None, levels })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The AUSN format, if it is one.
    pub fn format(&self) -> Option<AusnFormat> {
        self.format
    }

    /// The levels; those of an AUSN format at range exponent 0.
    pub fn levels(&self) -> &[f64] {
        &self.levels
    }

    /// The largest magnitude among the levels.
    pub fn max(&self) -> f64 {
        let last = self.levels.len() - 1;
        self.levels[0].abs().max(self.levels[last].abs())
    }

    /// The expected error of coding numbers of `density` by the nearest of `scale` times these levels, for a
    /// positive `scale`.
    pub fn expected_error(&self, scale: f64, density: Density, side: Side) -> ExpectedError {
        debug_assert!(scale > 0.0, "a scale of {scale} is not positive");
        let last = self.levels.len() - 1;
        let mut error = ExpectedError::default();
        let mut low = f64::NEG_INFINITY;
        for (i, &level) in self.levels.iter().enumerate() {
            let high = match self.levels.get(i + 1) {
                Some(&next) => scale * level.midpoint(next),
                None => f64::INFINITY,
            };
            let level = scale * level;
            let below = squared(density, side, level, low, level);
            let above = squared(density, side, level, level, high);
            *(if i == 0 { &mut error.clipping } else { &mut error.rounding }) += below;
            *(if i == last { &mut error.clipping } else { &mut error.rounding }) += above;
            low = high;
        }
        let inside = beyond(density, side, scale * self.levels[0]);
        let above = beyond(density, side, scale * self.levels[last]);
        error.clipped = 1.0 - inside + above;
        error
    }
}

/// A format of the family, at range exponent 0.
impl From<AusnFormat> for Grid {
    fn from(format: AusnFormat) -> Self {
        let levels = levels(format.into());
        let kind = match (format.exponent_bits(), format.superposition_bits(), format.underflow()) {
            (_, 0, _) => " (power of two)",
            (0 | 1, _, Underflow::Gradual) => " (uniform)",
            _ => "",
        };
        Self { name: format!("{format}{kind}"), format: Some(format), levels }
    }
}

/// The levels of a coding, of both signs where it has a sign bit.
fn levels(format: Format) -> Vec<f64> {
    format.signed_levels().into_iter().map(f64::from).collect()
}

/// Every coding of `bits` bits without a zero point: those of [`ausn_grids`], additive powers of two where there are such
/// (2 to 6 bits), and of 8 bits the two floats of the OCP specification.
pub fn grids(bits: u32, signed: bool) -> Vec<Grid> {
    let floats = [Family::Mxfp8E4m3, Family::Mxfp8E5m2].into_iter().filter_map(Family::element);
    let floats = floats.filter(|_| bits == 8 && signed);
    let others = Format::apot(bits, signed).ok().into_iter().chain(floats);
    let other =
        |format: Format| Grid { name: format.to_string(), format: None, levels: levels(format) };
    ausn_grids(bits, signed).into_iter().chain(others.map(other)).collect()
}

/// Every different grid of the AUSN family whose code words have `bits` bits. The uniform grid and the powers of two
/// are among them. There is none for a width outside the limits.
pub fn ausn_grids(bits: u32, signed: bool) -> Vec<Grid> {
    let rules = [Underflow::Gradual, Underflow::ZeroCode];
    rules
        .into_iter()
        .flat_map(|underflow| AusnFormat::candidates(bits, signed, underflow))
        // Without superposition bits both rules have the same levels.
        .filter(|f| f.underflow() == Underflow::Gradual || f.superposition_bits() > 0)
        .map(Grid::from)
        .collect()
}

/// The integral of `(x - about)^2` times the density over `from <= x <= to`.
fn squared(density: Density, side: Side, about: f64, from: f64, to: f64) -> f64 {
    let positive = density.squared_about(about, from.max(0.0), to);
    match side {
        Side::Positive => positive,
        Side::Both => (positive + density.squared_about(-about, (-to).max(0.0), -from)) / 2.0,
    }
}

/// The probability of a number from `x` up.
fn beyond(density: Density, side: Side, x: f64) -> f64 {
    match side {
        Side::Both if x < 0.0 => 1.0 - density.tail(-x) / 2.0,
        Side::Both => density.tail(x) / 2.0,
        Side::Positive => density.tail(x.max(0.0)),
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::{PI, SQRT_2, TAU};

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn format(e: u32, s: u32, signed: bool, underflow: Underflow) -> AusnFormat {
        AusnFormat::new(e, s, signed, underflow).unwrap()
    }

    fn formats(signed: bool) -> [AusnFormat; 5] {
        [
            format(1, 2, signed, Underflow::Gradual),
            format(2, 1, signed, Underflow::Gradual),
            format(2, 1, signed, Underflow::ZeroCode),
            format(3, 0, signed, Underflow::Gradual),
            format(3, 4, signed, Underflow::Gradual),
        ]
    }

    fn value(density: Density, x: f64) -> f64 {
        match density {
            Density::Normal => (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
            Density::Laplace => (-SQRT_2 * x.abs()).exp() / SQRT_2,
            Density::Uniform if x.abs() <= 3.0_f64.sqrt() => 1.0 / 12.0_f64.sqrt(),
            Density::Uniform => 0.0,
        }
    }

    /// Simpson's rule on pieces within which neither the density nor the nearest level breaks.
    fn quadrature(levels: &[f64], density: Density, side: Side) -> ExpectedError {
        let mut breaks: Vec<f64> = (-160..=160).map(|quarter| f64::from(quarter) / 4.0).collect();
        breaks.extend(levels);
        breaks.extend(levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0));
        breaks.extend([-3.0_f64.sqrt(), 3.0_f64.sqrt()]);
        breaks.sort_by(f64::total_cmp);
        breaks.dedup();
        let mut sum = ExpectedError::default();
        for piece in breaks.windows(2) {
            let (from, to) = (piece[0], piece[1]);
            let middle = (from + to) / 2.0;
            let weight = match side {
                Side::Both => 1.0,
                Side::Positive if middle > 0.0 => 2.0,
                Side::Positive => continue,
            };
            let nearest = |x: f64| -> f64 {
                let distances = levels.iter().map(|level| (level - x).abs());
                distances.fold(f64::INFINITY, f64::min)
            };
            let level = levels.iter().find(|l| (*l - middle).abs() == nearest(middle)).unwrap();
            const PARTS: usize = 100;
            let step = (to - from) / PARTS as f64;
            let (mut squares, mut mass) = (0.0, 0.0);
            for i in 0..=PARTS {
                // Just inside, for the density that jumps at its edges.
                let x = (from + i as f64 * step).clamp(from.next_up(), to.next_down());
                let simpson = match i {
                    0 | PARTS => 1.0,
                    _ if i % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                mass += simpson * step / 3.0 * weight * value(density, x);
                squares += simpson * step / 3.0 * weight * value(density, x) * (x - level).powi(2);
            }
            if levels[0] < middle && middle < levels[levels.len() - 1] {
                sum.rounding += squares;
            } else {
                (sum.clipping, sum.clipped) = (sum.clipping + squares, sum.clipped + mass);
            }
        }
        sum
    }

    fn assert_close(found: ExpectedError, expected: ExpectedError, tolerance: f64, what: &str) {
        for (name, found, expected) in [
            ("clipping", found.clipping, expected.clipping),
            ("rounding", found.rounding, expected.rounding),
            ("clipped", found.clipped, expected.clipped),
        ] {
            let error = (found - expected).abs();
            assert!(error <= tolerance, "{what}: {name} {found} but {expected}, {error:e} off");
        }
    }

    #[test]
    fn closed_forms_equal_numeric_quadrature() {
        for density in Density::ALL {
            for (side, signed) in [(Side::Both, true), (Side::Positive, false), (Side::Both, false)]
            {
                for format in formats(signed) {
                    let grid = Grid::from(format);
                    for scale in [0.1, 0.7, 1.0, 2.0, 9.0] {
                        let levels: Vec<f64> = grid.levels().iter().map(|l| l * scale).collect();
                        let found = grid.expected_error(scale, density, side);
                        let expected = quadrature(&levels, density, side);
                        assert_close(found, expected, 1e-11, &format!("{} {density}", grid.name()));
                    }
                }
            }
            // No symmetry, no zero, one level on its own.
            for levels in [vec![-2.0, -0.4, 0.9, 1.0, 3.5], vec![0.5, 0.75], vec![-1.0]] {
                let grid = Grid::new("skew", levels.clone()).unwrap();
                for side in [Side::Both, Side::Positive] {
                    let found = grid.expected_error(1.0, density, side);
                    let expected = quadrature(&levels, density, side);
                    assert_close(found, expected, 1e-11, &format!("{levels:?} {density} {side:?}"));
                }
            }
        }
    }

    fn sample(density: Density, random: &mut ChaCha8Rng) -> f64 {
        // From above 0 to 1, so that its logarithm is finite.
        let uniform = 1.0 - random.random::<f64>();
        let other: f64 = random.random();
        match density {
            Density::Normal => (-2.0 * uniform.ln()).sqrt() * (TAU * other).cos(),
            Density::Laplace => (uniform.ln() / SQRT_2).copysign(other - 0.5),
            Density::Uniform => 3.0_f64.sqrt() * (2.0 * other - 1.0),
        }
    }

    /// A million numbers through the coding itself, for which theory is to speak: within five standard errors.
    #[test]
    fn closed_forms_equal_monte_carlo() {
        const SAMPLES: usize = 1_000_000;
        let mut random = ChaCha8Rng::seed_from_u64(5);
        for density in Density::ALL {
            let samples: Vec<f32> =
                (0..SAMPLES).map(|_| sample(density, &mut random) as f32).collect();
            for (side, signed) in [(Side::Both, true), (Side::Positive, false)] {
                let formats = formats(signed);
                for (format, r) in formats.into_iter().flat_map(|f| [-1, 1].map(|r| (f, r))) {
                    let quantizer = format.with_range(r).unwrap().quantizer();
                    // Sums and sums of squares of clipping, rounding and the clipped.
                    let mut sums = [[0.0; 2]; 3];
                    for &x in &samples {
                        let x = if side == Side::Positive { x.abs() } else { x };
                        let error = f64::from(x) - f64::from(quantizer.quantize(x));
                        let terms = match quantizer.in_range(x) {
                            true => [0.0, error * error, 0.0],
                            false => [error * error, 0.0, 1.0],
                        };
                        for (sums, term) in sums.iter_mut().zip(terms) {
                            sums[0] += term;
                            sums[1] += term * term;
                        }
                    }
                    let found =
                        Grid::from(format).expected_error(f64::from(r).exp2(), density, side);
                    let expected = [found.clipping, found.rounding, found.clipped];
                    for ([sum, squares], expected) in sums.into_iter().zip(expected) {
                        let count = SAMPLES as f64;
                        let mean = sum / count;
                        let error = ((squares / count - mean * mean) / count).sqrt();
                        assert!(
                            (mean - expected).abs() <= 5.0 * error + 1e-9,
                            "{format} {density} r = {r}: {mean} +- {error} but {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn known_quantizers_of_a_normal_density() {
        // Max, "Quantizing for minimum distortion" (1960). Table II, equal steps, and table I, the best levels.
        let mid_rise = |step: f64, count: i32| {
            (0..count).map(|i| step * (f64::from(i) - f64::from(count - 1) / 2.0)).collect()
        };
        for (levels, error) in [
            (mid_rise(0.9957, 4), 0.1188),
            (mid_rise(0.5860, 8), 0.03744),
            (mid_rise(0.3352, 16), 0.01154),
            (vec![-0.7979, 0.7979], 0.3634),
            (vec![-1.510, -0.4528, 0.4528, 1.510], 0.1175),
            (vec![-2.152, -1.344, -0.7560, -0.2451, 0.2451, 0.7560, 1.344, 2.152], 0.03454),
        ] {
            let grid = Grid::new("Max", levels).unwrap();
            let found = grid.expected_error(1.0, Density::Normal, Side::Both).total();
            assert!((found / error - 1.0).abs() < 1e-3, "{grid:?}: {found} but {error}");
        }
    }

    #[test]
    fn a_uniform_grid_loses_a_twelfth_of_its_squared_step() {
        // Exactly on a uniform density of whole cells. On a normal one the deviation is exp(-2 pi^2 / step^2),
        // below all digits here, so that this also tells how many of them the finest grids keep.
        for (bits, tolerance) in [(4, 1e-14), (8, 1e-13), (11, 1e-12)] {
            let format = format(1, bits - 2, true, Underflow::Gradual);
            let grid = Grid::from(format);
            let cells = grid.levels().len() as f64;
            let step = 2.0 * 3.0_f64.sqrt() / cells;
            let scale = step * (cells - 1.0) / 2.0 / grid.max();
            let total = grid.expected_error(scale, Density::Uniform, Side::Both).total();
            assert!((total / (step * step / 12.0) - 1.0).abs() < tolerance, "{bits}: {total}");
            if bits > 4 {
                let step = 9.0 / ((cells - 1.0) / 2.0);
                let scale = 9.0 / grid.max();
                let total = grid.expected_error(scale, Density::Normal, Side::Both).total();
                let error = (total / (step * step / 12.0) - 1.0).abs();
                assert!(error < 1e-11, "{bits}: {total} {error:e}");
            }
        }
    }

    #[test]
    fn magnitudes_lose_what_signed_numbers_lose() {
        for (signed, unsigned) in formats(true).into_iter().zip(formats(false)) {
            for density in Density::ALL {
                for scale in [0.5, 1.0, 3.0] {
                    let both = Grid::from(signed).expected_error(scale, density, Side::Both);
                    let half = Grid::from(unsigned).expected_error(scale, density, Side::Positive);
                    assert_close(both, half, 1e-15, &signed.to_string());
                }
            }
        }
    }

    #[test]
    fn an_unsigned_coding_clips_negative_numbers() {
        let grid = Grid::from(format(2, 1, false, Underflow::Gradual));
        let error = grid.expected_error(64.0, Density::Normal, Side::Both);
        assert!((error.clipping - 0.5).abs() < 1e-15 && (error.clipped - 0.5).abs() < 1e-15);
    }

    #[test]
    fn grids_of_the_family_by_name() {
        let names = |bits, signed| -> Vec<String> {
            ausn_grids(bits, signed).iter().map(|grid| grid.name().to_string()).collect()
        };
        assert_eq!(
            names(4, true),
            [
                "ausn4 E1S2 (uniform)",
                "ausn4 E2S1",
                "ausn4 E3S0 (power of two)",
                "ausn4 E1S2 zero-code",
                "ausn4 E2S1 zero-code"
            ]
        );
        assert_eq!(
            names(2, false),
            ["ausn2u E1S1 (uniform)", "ausn2u E2S0 (power of two)", "ausn2u E1S1 zero-code"]
        );
        assert!(ausn_grids(1, true).is_empty() && ausn_grids(17, true).is_empty());
        let grid = Grid::from(format(2, 1, true, Underflow::Gradual));
        assert_eq!(grid.levels().len(), 15);
        assert_eq!((grid.levels()[0], grid.levels()[7], grid.max()), (-1.5, 0.0, 1.5));
    }

    #[test]
    fn levels_out_of_order_are_refused() {
        let message = |levels: &[f64]| Grid::new("mine", levels.to_vec()).unwrap_err().to_string();
        assert_eq!(
            message(&[0.0, 1.0, 1.0]),
            "the levels of mine have to be finite and increasing, but level 2 is 1 and the one before it 1"
        );
        assert_eq!(
            message(&[f64::NAN, 1.0]),
            "the levels of mine have to be finite and increasing, but level 0 is NaN"
        );
        for levels in [&[][..], &[0.0]] {
            assert_eq!(message(levels), "mine has no level but 0: at least one other is needed");
        }
    }
}
