use std::f64::consts::{FRAC_1_SQRT_2, PI, SQRT_2};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::TheoryError;

/// Terms of the power series below: the last is under 1e-16 of the first wherever a series is used.
const TERMS: i32 = 24;

/// `sqrt(3)`: the uniform density of unit variance ends there.
const SQRT_3: f64 = 1.732_050_807_568_877_2;

/// The shape of a density of zero mean and unit variance. All are symmetric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Density {
    /// `exp(-x^2 / 2) / sqrt(2 pi)`
    Normal,
    /// `exp(-sqrt(2) |x|) / sqrt(2)`
    Laplace,
    /// `1 / (2 sqrt(3))` for `|x| <= sqrt(3)`
    Uniform,
}

impl fmt::Display for Density {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Density::Normal => "normal",
            Density::Laplace => "laplace",
            Density::Uniform => "uniform",
        })
    }
}

impl FromStr for Density {
    type Err = TheoryError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|density| density.to_string() == name);
        known.ok_or_else(|| TheoryError::UnknownDensity { given: name.to_owned() })
    }
}

impl Density {
    /// Every density.
    pub const ALL: [Density; 3] = [Density::Normal, Density::Laplace, Density::Uniform];

    /// The probability that `|x|` is above `magnitude`, a number from 0 up.
    pub fn tail(self, magnitude: f64) -> f64 {
        match self {
            Density::Normal => libm::erfc(magnitude * FRAC_1_SQRT_2),
            Density::Laplace => (-SQRT_2 * magnitude).exp(),
            Density::Uniform => (1.0 - magnitude / SQRT_3).max(0.0),
        }
    }

    /// The integral of `(|x| - about)^2` over the magnitudes `from <= |x| <= to`, for `0 <= from`; `to` may be
    /// infinite. Nothing if `from >= to`.
    pub(super) fn squared_about(self, about: f64, from: f64, to: f64) -> f64 {
        if from >= to {
            return 0.0;
        }
        // With `about` at an edge or outside, the integrals below are sums of terms of one sign, or can be made so.
        if from < about && about < to {
            return self.squared_about(about, from, about) + self.squared_about(about, about, to);
        }
        match self {
            Density::Normal => normal(about, from, to),
            Density::Laplace => laplace(about, from, to),
            Density::Uniform => {
                let cube = |x: f64| (x.min(SQRT_3) - about).powi(3);
                (cube(to) - cube(from)) / (3.0 * SQRT_3)
            }
        }
    }
}

/// By the moments of orders 0 to 2 of `2 phi(x)`, or, where these would cancel (a narrow cell), by the power series
/// of the density about `about`: `phi(c + t) = phi(c) sum (-t)^n He_n(c) / n!` with Hermite polynomials.
fn normal(about: f64, from: f64, to: f64) -> f64 {
    let twice_phi = |x: f64| (2.0 / PI).sqrt() * (-0.5 * x * x).exp();
    let (low, high) = (from - about, to - about);
    if low.abs().max(high.abs()) * about.abs().max(1.0) < 0.5 {
        let (mut hermite, mut next) = (1.0, about);
        let (mut low_power, mut high_power) = (low.powi(3), high.powi(3));
        let (mut factorial, mut sum) = (1.0, 0.0);
        for n in 0..TERMS {
            let order = f64::from(n);
            sum += hermite / factorial * (high_power - low_power) / (order + 3.0);
            (hermite, next) = (next, about * next - (order + 1.0) * hermite);
            factorial *= order + 1.0;
            low_power *= -low;
            high_power *= -high;
        }
        return twice_phi(about) * sum;
    }
    let mass = match to < 0.5 {
        true => libm::erf(to * FRAC_1_SQRT_2) - libm::erf(from * FRAC_1_SQRT_2),
        false => libm::erfc(from * FRAC_1_SQRT_2) - libm::erfc(to * FRAC_1_SQRT_2),
    };
    let edge = |x: f64| if x.is_infinite() { 0.0 } else { (x - 2.0 * about) * twice_phi(x) };
    // Rounding may leave a far tail a hair below zero.
    ((1.0 + about * about) * mass + edge(from) - edge(to)).max(0.0)
}

/// With `x = from + t` above `about`, or `x = to - t` below it, the square is a sum of positive terms, and each
/// integral an incomplete gamma function.
fn laplace(about: f64, from: f64, to: f64) -> f64 {
    let width = SQRT_2 * (to - from);
    let (gap, integrals) = match about <= from {
        true => (from - about, falling(width)),
        false => (about - to, rising(width)),
    };
    let [constant, linear, square] = integrals;
    (-SQRT_2 * from).exp() * (square / 2.0 + gap * (SQRT_2 * linear + gap * constant))
}

/// The integrals of `e^-t`, `t e^-t` and `t^2 e^-t` from 0 to `z`.
fn falling(z: f64) -> [f64; 3] {
    if z.is_infinite() {
        return [1.0, 1.0, 2.0];
    }
    let decay = (-z).exp();
    let [linear, square] = match z < 1.0 {
        true => [2, 3].map(|s| {
            // z^s e^-z (1/s + z / (s (s + 1)) + z^2 / (s (s + 1) (s + 2)) + ...)
            let mut term = z.powi(s - 1) * decay;
            let mut sum = 0.0;
            for n in 0..TERMS {
                term *= z / f64::from(s + n);
                sum += term;
            }
            sum
        }),
        false => [1.0 - (1.0 + z) * decay, 2.0 - (2.0 + z * (2.0 + z)) * decay],
    };
    [-(-z).exp_m1(), linear, square]
}

/// The integrals of `e^t`, `t e^t` and `t^2 e^t` from 0 to `z`, times `e^-z`.
fn rising(z: f64) -> [f64; 3] {
    let decay = (-z).exp();
    let [linear, square] = match z < 1.0 {
        true => [2, 3].map(|s| {
            // z^s (1 / s + z / (1! (s + 1)) + z^2 / (2! (s + 2)) + ...)
            let mut power = z.powi(s) * decay;
            let mut sum = 0.0;
            for n in 0..TERMS {
                sum += power / f64::from(n + s);
                power *= z / f64::from(n + 1);
            }
            sum
        }),
        false => [z - 1.0 + decay, 2.0 + z * (z - 2.0) - 2.0 * decay],
    };
    [-(-z).exp_m1(), linear, square]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for density in Density::ALL {
            assert_eq!(density.to_string().parse(), Ok(density));
            assert_eq!(serde_json::to_string(&density).unwrap(), format!("\"{density}\""));
        }
        let message = "cauchy".parse::<Density>().unwrap_err().to_string();
        assert!(message.contains("\"cauchy\""), "{message}");
    }

    #[test]
    fn moments_are_those_of_unit_variance() {
        // E (|x| - c)^2 = 1 - 2 c E|x| + c^2
        let means = [(2.0 / PI).sqrt(), FRAC_1_SQRT_2, SQRT_3 / 2.0];
        for (density, mean) in Density::ALL.into_iter().zip(means) {
            for about in [0.0, 0.3, 1.0, 2.5, -1.5] {
                let expected = 1.0 - 2.0 * about * mean + about * about;
                let found = density.squared_about(about, 0.0, f64::INFINITY);
                assert!((found - expected).abs() < 1e-14, "{density} {about}: {found} {expected}");
            }
            assert_eq!(density.tail(0.0), 1.0);
            assert_eq!(density.tail(f64::INFINITY), 0.0);
        }
        // Known quantiles: 95 % within 1.959964 deviations; half of the numbers within ln 2 / sqrt 2.
        assert!((Density::Normal.tail(1.959_963_984_540_054) - 0.05).abs() < 1e-15);
        assert!((Density::Laplace.tail(2.0_f64.ln() / SQRT_2) - 0.5).abs() < 1e-15);
        assert_eq!(Density::Uniform.tail(SQRT_3 / 4.0), 0.75);
    }

    /// Pieces add up, also where one piece is summed as a series and another is not.
    #[test]
    fn an_integral_is_the_sum_of_its_parts() {
        for density in Density::ALL {
            for about in [0.0, 0.7, 1.0, 4.0, -0.2] {
                for (from, to) in [(0.0, 1.5), (0.1, 0.4), (0.9, 8.0), (3.0, f64::INFINITY)] {
                    let whole = density.squared_about(about, from, to);
                    let end = f64::min(to, 12.0);
                    let cuts =
                        [0.0, 0.03, 0.2, 0.21, 0.5, 0.9, 1.0].map(|t| from + t * (end - from));
                    let parts = cuts.windows(2).map(|c| density.squared_about(about, c[0], c[1]));
                    let sum = parts.sum::<f64>() + density.squared_about(about, end, to);
                    let error = (whole - sum).abs();
                    assert!(
                        error <= 1e-13 * whole + 1e-16,
                        "{density} {about} {from} {to}: {error}"
                    );
                }
            }
        }
    }

    /// In a narrow cell the density is nearly constant: w^3 / 3 times it, to first order in w.
    #[test]
    fn narrow_cells_keep_their_digits() {
        for (density, value) in [
            (Density::Normal, (2.0 / PI).sqrt() * (-8.0_f64).exp()),
            (Density::Laplace, SQRT_2 * (-4.0 * SQRT_2).exp()),
        ] {
            let w: f64 = 1e-7;
            for (from, to) in [(4.0, 4.0 + w), (4.0 - w, 4.0)] {
                let found = density.squared_about(4.0, from, to) / (w.powi(3) / 3.0 * value);
                assert!((found - 1.0).abs() < 1e-6, "{density}: {found}");
            }
        }
    }

    /// Far tails against the asymptotic 2 phi(c) 2 / c^3 (1 - 6 / c^2 + 45 / c^4 - ...), and exactly for Laplace.
    #[test]
    fn far_tails_keep_their_digits() {
        for c in [12.0_f64, 20.0, 30.0] {
            let tail = Density::Normal.squared_about(c, c, f64::INFINITY);
            let phi = (2.0 / PI).sqrt() * (-0.5 * c * c).exp();
            let series = 1.0 - 6.0 / c.powi(2) + 45.0 / c.powi(4) - 420.0 / c.powi(6);
            let expected = phi * 2.0 / c.powi(3) * series;
            assert!((tail / expected - 1.0).abs() < 2e-3, "{c}: {tail} {expected}");
            let tail = Density::Laplace.squared_about(c, c, f64::INFINITY);
            assert!((tail / (-SQRT_2 * c).exp() - 1.0).abs() < 1e-15);
        }
        assert_eq!(Density::Uniform.squared_about(2.0, 2.0, f64::INFINITY), 0.0);
    }
}
