//! What a coding is expected to lose on a density: the paper's two metrics without data.
//!
//! The paper derives expected errors in its Appendix A. What follows is this project's own derivation, for any
//! list of levels.
//!
//! # Definition
//!
//! Levels `l_0 < l_1 < ... < l_n` cut the line into cells: the cell of a level ends half way to its neighbours, and
//! those of the first and the last level have no other end. A number becomes the level of its cell. With a
//! density `p` of the numbers `x`, per number:
//!
//! ```text
//! clipping error C = sum over the outer cells of the integral of (x - l)^2 p(x) over x < l_0 and x > l_n
//! rounding error R = sum over the cells       of the integral of (x - l)^2 p(x) over the rest of the cell
//! SQNR = 10 log10( E x^2 / (C + R) ) dB
//! ```
//!
//! Every integral is in closed form ([`Density`]): by `erfc`, by incomplete gamma functions, or by a cube. Where a
//! difference of these would cancel, a power series takes its place, so that fine grids and far tails keep their
//! digits.
//!
//! A density has zero mean and unit variance, and errors are per number and in units of that variance. A standard
//! deviation `sigma` is a matter of scale: levels `l` on numbers of deviation `sigma` lose `sigma^2` times what
//! levels `l / sigma` lose here.
//!
//! # Unsigned codings
//!
//! They serve numbers that are never negative. [`Side::Positive`] is the density of `|x|`, whose `E x^2` is 1 too.
//! It stands for the output of a ReLU as well: there one half of the numbers is 0 and is coded without error, which
//! halves signal and errors alike, so SQNR and the best range are the same.

mod density;
mod grid;
mod sweep;

use serde::Serialize;
use thiserror::Error;

pub use density::Density;
pub use grid::{Grid, ausn_grids, grids};
pub use sweep::{PowerOfTwoPoint, RangePoint, Sweep};

/// Which numbers a coding meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Those of the density.
    Both,
    /// Their magnitudes, as after a rectifier.
    Positive,
}

/// Why a question about a density was refused.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TheoryError {
    /// A name that is no density.
    #[error("unknown density {given:?}: expected \"normal\", \"laplace\" or \"uniform\"")]
    UnknownDensity {
        /// The name.
        given: String,
    },
    /// Levels of which none differs from 0.
    #[error("{coding} has no level but 0: at least one other is needed")]
    NoLevels {
        /// Whose levels.
        coding: String,
    },
    /// Levels that do not increase, or are not finite.
    #[error(
        "the levels of {coding} have to be finite and increasing, but level {index} is {level}{}",
        before.map(|before| format!(" and the one before it {before}")).unwrap_or_default()
    )]
    NotIncreasing {
        /// Whose levels.
        coding: String,
        /// Where the order breaks, counted from 0.
        index: usize,
        /// The level there.
        level: f64,
        /// The level before it.
        before: Option<f64>,
    },
    /// A standard deviation that is no scale.
    #[error("a standard deviation of {given} is not possible: 1e-20 to 1e20 are")]
    Sigma {
        /// The standard deviation.
        given: f64,
    },
}

/// What a coding is expected to lose per number, in units of `E x^2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ExpectedError {
    /// `C`, the expected squared error of the numbers outside the levels, zero for those inside.
    pub clipping: f64,
    /// `R`, the expected squared error of the numbers within the levels, zero for those outside.
    pub rounding: f64,
    /// The probability of a number outside the levels.
    pub clipped: f64,
}

impl ExpectedError {
    /// `C + R`, the whole squared error.
    pub fn total(&self) -> f64 {
        self.clipping + self.rounding
    }

    /// The ratio of signal to quantization noise in dB.
    pub fn sqnr_db(&self) -> f64 {
        -10.0 * self.total().log10()
    }

    /// `C / (C + R)`, the part of the squared error that is due to clipping, from 0 to 1.
    pub fn clipping_share(&self) -> f64 {
        self.clipping / self.total()
    }
}
