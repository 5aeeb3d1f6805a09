use std::ops::RangeInclusive;

use serde::Serialize;

use super::{Density, ExpectedError, Grid, Side, TheoryError};

/// The largest magnitudes, as powers of two of the standard deviation, between which ranges are tried. Below, nearly
/// every number of a density clips; above, none does, and a wider range only rounds more coarsely.
const OCTAVES: RangeInclusive<i32> = -3..=6;

/// Scales tried in each octave. The error of a grid with few levels has more than one minimum over the scale, and
/// this finds the lowest.
const STEPS_PER_OCTAVE: i32 = 16;

/// Standard deviations that leave every range exponent legal for every format.
const SIGMAS: RangeInclusive<f64> = 1e-20..=1e20;

/// A coding at one scale.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RangePoint {
    /// What the levels of the grid are multiplied by.
    pub scale: f64,
    /// The largest magnitude `M` among the levels, in standard deviations.
    pub max_in_sigmas: f64,
    /// What the coding loses, in units of the variance.
    #[serde(flatten)]
    pub error: ExpectedError,
    /// Signal to quantization noise in dB.
    pub sqnr_db: f64,
}

/// A coding at a power-of-two range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PowerOfTwoPoint {
    /// The range exponent `r`: the scale is `2^r`.
    pub range_exponent: i32,
    /// The coding at that scale.
    #[serde(flatten)]
    pub point: RangePoint,
}

/// What a coding loses over its range.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sweep {
    /// The coding.
    pub grid: Grid,
    /// Power-of-two ranges, ascending.
    pub power_of_two: Vec<PowerOfTwoPoint>,
    /// The power-of-two range of least error.
    pub best_power_of_two: PowerOfTwoPoint,
    /// The SQNR in dB at the best power-of-two range, in the mean over standard deviations spread evenly over an
    /// octave: which of them fit a power of two well is chance.
    pub mean_power_of_two_db: f64,
    /// Any scale, evenly spaced in its logarithm and ascending.
    pub free: Vec<RangePoint>,
    /// The scale of least error.
    pub best_free: RangePoint,
}

impl Sweep {
    /// Tries ranges of `grid` for numbers of `density` and the standard deviation `sigma`: all power-of-two ranges
    /// that can be the best, and scales in between, the best of which is refined by golden section.
    ///
    /// # Errors
    ///
    /// A standard deviation outside 1e-20 to 1e20.
    pub fn new(grid: Grid, density: Density, side: Side, sigma: f64) -> Result<Self, TheoryError> {
        if !SIGMAS.contains(&sigma) {
            return Err(TheoryError::Sigma { given: sigma });
        }
        let at = |scale: f64| {
            let error = grid.expected_error(scale / sigma, density, side);
            let max_in_sigmas = grid.max() * scale / sigma;
            RangePoint { scale, max_in_sigmas, error, sqnr_db: error.sqnr_db() }
        };
        let scale_of = |octaves: f64| octaves + (sigma / grid.max()).log2();
        let (lowest, highest) = (*OCTAVES.start(), *OCTAVES.end());

        let exponents =
            scale_of(lowest.into()).ceil() as i32..=scale_of(highest.into()).floor() as i32;
        let power_of_two: Vec<PowerOfTwoPoint> = exponents
            .map(|r| PowerOfTwoPoint { range_exponent: r, point: at(f64::from(r).exp2()) })
            .collect();
        let &best_power_of_two = power_of_two
            .iter()
            .min_by(|a, b| a.point.error.total().total_cmp(&b.point.error.total()))
            .expect("nine octaves hold a power of two");

        let step = 1.0 / f64::from(STEPS_PER_OCTAVE);
        let steps = lowest * STEPS_PER_OCTAVE..=highest * STEPS_PER_OCTAVE;
        let free: Vec<RangePoint> =
            steps.map(|i| at(scale_of(f64::from(i) * step).exp2())).collect();
        // Scales an octave apart are the power-of-two ranges of one deviation.
        let octave = STEPS_PER_OCTAVE as usize;
        let of_deviation = |first: usize| {
            let decibels = free.iter().skip(first).step_by(octave).map(|point| point.sqnr_db);
            decibels.fold(f64::NEG_INFINITY, f64::max)
        };
        let mean_power_of_two_db = (0..octave).map(of_deviation).sum::<f64>() / octave as f64;

        let coarse = free
            .iter()
            .chain([&best_power_of_two.point])
            .min_by(|a, b| a.error.total().total_cmp(&b.error.total()))
            .expect("nine octaves hold a step");
        let middle = coarse.scale.log2();
        let loss = |exponent: f64| at(exponent.exp2()).error.total();
        let fine = at(golden_section(loss, middle - step, middle + step).exp2());
        let best_free = if fine.error.total() < coarse.error.total() { fine } else { *coarse };

        Ok(Self { grid, power_of_two, best_power_of_two, mean_power_of_two_db, free, best_free })
    }
}

/// Where `f` is least between `low` and `high`, if it has one minimum there.
fn golden_section(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut a, mut b) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut at_a, mut at_b) = (f(a), f(b));
    // To the width where the error, flat at its minimum, no longer changes in f64.
    while high - low > 1e-8 {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - RATIO * (high - low);
            at_a = f(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + RATIO * (high - low);
            at_b = f(b);
        }
    }
    low.midpoint(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::theory::ausn_grids;
    use crate::coding::{AusnFormat, Underflow};

    fn sweep(e: u32, s: u32, density: Density, sigma: f64) -> Sweep {
        let format = AusnFormat::new(e, s, true, Underflow::Gradual).unwrap();
        Sweep::new(format.into(), density, Side::Both, sigma).unwrap()
    }

    #[test]
    fn free_scale_finds_the_optimum_of_equally_spaced_levels() {
        // The 15 levels of the 4-bit uniform grid cut a uniform density into 15 equal cells.
        let best = sweep(1, 2, Density::Uniform, 1.0).best_free;
        let step = 2.0 * 3.0_f64.sqrt() / 15.0;
        assert!((best.max_in_sigmas - 7.0 * step).abs() < 1e-6, "{best:?}");
        assert!((best.error.total() - step * step / 12.0).abs() < 1e-12, "{best:?}");
        // Max (1960), table II: three levels of a normal density at 1.224.
        let best = sweep(1, 0, Density::Normal, 1.0).best_free;
        assert!((best.max_in_sigmas - 1.224).abs() < 5e-4, "{best:?}");
        assert!((best.error.total() - 0.1902).abs() < 5e-5, "{best:?}");
    }

    #[test]
    fn no_range_inside_or_outside_the_sweep_is_better() {
        for density in Density::ALL {
            for bits in [2, 3, 4, 5, 6, 8] {
                for (side, signed) in [(Side::Both, true), (Side::Positive, false)] {
                    for grid in ausn_grids(bits, signed) {
                        let sweep = Sweep::new(grid.clone(), density, side, 1.0).unwrap();
                        let loss = |r: i32| {
                            grid.expected_error(f64::from(r).exp2(), density, side).total()
                        };
                        let best = sweep.best_power_of_two;
                        let least = best.point.error.total();
                        assert_eq!(loss(best.range_exponent), least);
                        for r in -20..=30 {
                            assert!(loss(r) >= least, "{} {density} r = {r}", grid.name());
                        }
                        assert!(sweep.best_free.error.total() <= least);
                        let free = sweep.free.iter().map(|point| point.error.total());
                        assert!(free.clone().all(|e| e >= sweep.best_free.error.total()));
                        assert_eq!(free.count(), 9 * 16 + 1);
                    }
                }
            }
        }
    }

    #[test]
    fn a_deviation_moves_the_range_and_nothing_else() {
        let unit = sweep(2, 1, Density::Laplace, 1.0);
        let wide = sweep(2, 1, Density::Laplace, 8.0).best_power_of_two;
        assert_eq!(wide.range_exponent, unit.best_power_of_two.range_exponent + 3);
        assert_eq!(wide.point.error, unit.best_power_of_two.point.error);
        assert_eq!(wide.point.max_in_sigmas, unit.best_power_of_two.point.max_in_sigmas);
        let odd = sweep(2, 1, Density::Laplace, 1.3);
        let (free, moved) = (unit.best_free, odd.best_free);
        assert!((moved.scale / free.scale - 1.3).abs() < 1e-6);
        assert!((moved.sqnr_db - free.sqnr_db).abs() < 1e-12);
        assert!(odd.best_power_of_two.point.sqnr_db < free.sqnr_db);
    }

    #[test]
    fn mean_over_deviations_is_that_of_sweeps_of_their_own() {
        for (e, s) in [(1, 2), (2, 1), (3, 0)] {
            let at = |i: i32| sweep(e, s, Density::Laplace, (f64::from(i) / 16.0).exp2());
            let best = |i| at(i).best_power_of_two.point.sqnr_db;
            let mean = (0..16).map(best).sum::<f64>() / 16.0;
            for i in [0, 5] {
                // The sixteen steps start elsewhere in the octave, but are as many and as far apart.
                let found = at(i).mean_power_of_two_db;
                assert!((found - mean).abs() < 0.02, "E{e}S{s}: {found} {mean}");
            }
            assert!(mean <= at(0).best_free.sqnr_db);
        }
    }

    #[test]
    fn deviations_that_are_no_scale_are_refused() {
        let format = AusnFormat::new(2, 1, true, Underflow::Gradual).unwrap();
        for sigma in [0.0, -1.0, 1e30, f64::INFINITY, f64::NAN] {
            let refused = Sweep::new(format.into(), Density::Normal, Side::Both, sigma);
            let message = refused.unwrap_err().to_string();
            assert!(message.contains("1e-20 to 1e20"), "{message}");
        }
        // The widest format is the one with the fewest range exponents.
        let allowed = AusnFormat::new(5, 10, true, Underflow::Gradual).unwrap().range_exponents();
        for sigma in [1e-20, 1e20] {
            for s in [0, 2] {
                for point in sweep(5, s, Density::Normal, sigma).power_of_two {
                    assert!(allowed.contains(&point.range_exponent), "{}", point.range_exponent);
                }
            }
        }
    }
}
