//! Elementary functions that compilers turn into vector code: no branches, no tables, and the same
//! result on every processor (no fused multiply-add).

/// `e^x = scale * (1 + p)` with `scale` a power of two: (scale, p). NaN stays NaN.
///
/// `x` is cut to [-87, 88], where the result is a normal number. `p` is the Taylor polynomial of
/// degree 7 on [-ln 2 / 2, ln 2 / 2], whose relative error is below 6e-9.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    // ln 2 as a sum of two floats, so that n * ln 2 is subtracted without rounding error.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits.
    const ROUNDER: f32 = 12_582_912.0;
    let x = cut(x, -87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        p = p * r + factor;
    }
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    (scale, p * r)
}

/// `x` between two limits; NaN stays NaN.
#[inline(always)]
pub fn cut(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// e^x; the smallest normal number below -87, the value at 88 above.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let (scale, p) = exp_parts(x);
    scale * p + scale
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh x, with full relative accuracy at 0.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    // Beyond 10 the result is 1 within half a unit in the last place.
    let (scale, p) = exp_parts(cut(2.0 * x, -20.0, 20.0));
    let exp_minus_one = scale * p + (scale - 1.0);
    exp_minus_one / (exp_minus_one + 2.0)
}

/// The cumulative distribution and the density of the standard normal distribution at x.
///
/// The error function is formula 7.1.26 of Abramowitz and Stegun (1964), absolute error 1.5e-7.
#[inline(always)]
pub fn normal(x: f32) -> (f32, f32) {
    let gauss = exp(-0.5 * x * x);
    let t = 1.0 / (1.0 + (0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2) * x.abs());
    let mut polynomial = 1.061_405_4;
    for factor in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        polynomial = polynomial * t + factor;
    }
    let upper_tail = 0.5 * polynomial * t * gauss;
    let cumulative = if x < 0.0 { upper_tail } else { 1.0 - upper_tail };
    const FRAC_1_SQRT_2_PI: f32 = 0.398_942_3;
    (cumulative, gauss * FRAC_1_SQRT_2_PI)
}

/// A random number of 32 bits for each index: a counter-based generator with the mixing constants
/// of "lowbias32" (C. Wellons, hash-prospector, 2018).
#[inline(always)]
pub fn random(seed: u32, index: u32) -> u32 {
    let mut x = index.wrapping_mul(0x9e37_79b9) ^ seed;
    x ^= x >> 16;
    x = x.wrapping_mul(0x7feb_352d);
    x ^= x >> 15;
    x = x.wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error of `f` against `expected` over a range, as measured by `error`.
    fn largest(
        range: (f64, f64),
        f: impl Fn(f32) -> f32,
        expected: impl Fn(f64) -> f64,
        error: impl Fn(f64, f64) -> f64,
    ) -> f64 {
        let steps = 200_000;
        let x = |i: i32| (range.0 + (range.1 - range.0) * f64::from(i) / f64::from(steps)) as f32;
        let errors = (0..=steps).map(|i| error(f64::from(f(x(i))), expected(f64::from(x(i)))));
        errors.fold(0.0, f64::max)
    }

    fn relative(found: f64, expected: f64) -> f64 {
        ((found - expected) / expected.abs().max(1e-30)).abs()
    }

    fn absolute(found: f64, expected: f64) -> f64 {
        (found - expected).abs()
    }

    #[test]
    fn functions_have_the_accuracy_of_a_float() {
        assert!(largest((-87.0, 88.0), exp, f64::exp, relative) < 2e-7);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        assert!(largest((-30.0, 30.0), sigmoid, logistic, absolute) < 1.5e-7);
        assert!(largest((-12.0, 12.0), tanh, f64::tanh, relative) < 5e-7);
        assert!(largest((-0.01, 0.01), tanh, f64::tanh, relative) < 5e-7);
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        assert!(largest((-9.0, 9.0), |x| normal(x).1, density, absolute) < 1e-7);
    }

    #[test]
    fn the_normal_distribution_is_the_integral_of_its_density() {
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let (step, mut sum) = (1e-4, 0.5);
        for i in 0..60_000 {
            let x = f64::from(i) * step;
            let found = f64::from(normal(x as f32).0);
            assert!((found - sum).abs() < 3e-7, "at {x}: {found} instead of {sum}");
            assert!((f64::from(normal(-x as f32).0) - (1.0 - sum)).abs() < 3e-7, "at -{x}");
            sum += step * density(x + 0.5 * step);
        }
    }

    #[test]
    fn far_values_stay_finite_and_ordered() {
        assert_eq!(tanh(1e30), 1.0);
        assert_eq!(tanh(f32::NEG_INFINITY), -1.0);
        assert_eq!(sigmoid(-1e30), 1.0 / (1.0 + exp(88.0)));
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        assert_eq!(normal(-40.0).0, 0.0f32.max(normal(-40.0).0).min(1e-37));
        assert_eq!(normal(40.0).0, 1.0);
        for f in [exp, sigmoid, tanh, |x| normal(x).0] {
            assert!(f(f32::NAN).is_nan());
        }
    }

    #[test]
    fn random_bits_are_balanced_and_differ_with_the_seed() {
        let count = 1 << 16;
        for bit in 0..32 {
            let ones = (0..count).filter(|&i| random(7, i) >> bit & 1 == 1).count();
            assert!(ones.abs_diff(count as usize / 2) < 700, "bit {bit}: {ones} of {count}");
        }
        let equal = (0..count).filter(|&i| random(7, i) >> 31 == random(8, i) >> 31).count();
        assert!(equal.abs_diff(count as usize / 2) < 700, "{equal}");
    }
}
