//! The AUSN number format: exact arithmetic on single numbers, without tensors.
//!
//! AUSN (arXiv [2007.03903](https://arxiv.org/abs/2007.03903)) approximates a uniform grid by superposing
//! powers of two: each level is one main power of two plus `S` lower ones, each switched on or off by one bit of
//! the code word. The code word *is* the exponent and the gate bits, so no codebook is needed to read it.
//! The paper's abstract fixes that idea; the exact definition below is this project's.
//!
//! # Definition
//!
//! A coding has a sign bit or none, `E` exponent bits, `S` superposition bits, an integer range exponent `r`
//! and an underflow rule. A magnitude code is `c = e * 2^S + s` with `0 <= e < 2^E` and `0 <= s < 2^S`, and the
//! lowest main exponent is `k_min = r - (2^E - 1)`:
//!
//! ```text
//! magnitude(c) = 2^(k_min + e) * (1 + s / 2^S)
//!              = 2^k + s[S-1] 2^(k-1) + s[S-2] 2^(k-2) + ... + s[0] 2^(k-S)      with k = k_min + e
//!
//! gradual underflow:    e = 0 gives 2^(k_min + 1) * s / 2^S      evenly spaced down to zero
//! zero-code underflow:  c = 0 gives 0                            every other code as above
//!
//! maximum M = 2^r * (2 - 2^-S) for E >= 1,    2^(r + 1) * (1 - 2^-S) for E = 0 (gradual only)
//! ```
//!
//! Magnitudes increase strictly with the code, and each is an integer multiple of `2^u`, with the unit exponent
//! `u = k_min + 1 - S` (gradual) or `k_min - S` (zero-code).
//!
//! Quantizing takes the nearest level; a tie goes to the even code, magnitudes above `M` saturate, an unsigned
//! coding sends negative numbers to 0, and zero has no sign. Rounding carries into the exponent, so every result is
//! a valid code at once.
//!
//! Limits: `E <= 5`, `S <= 10`, `E + S >= 1`, and `E = 0` only with gradual underflow. They keep a code word
//! within 16 bits. The range exponent keeps to `k_min - S >= -126` and `r <= 127`, so that every nonzero level is
//! a normal `f32`.
//!
//! # The family
//!
//! | `E` | `S` | underflow | grid |
//! |---|---|---|---|
//! | any | 0 | either | powers of two and zero |
//! | 0, 1 | any | gradual | uniform; `(0, S + 1)` and `(1, S)` are the same grid |
//! | 2 | 1 | gradual | FP4 E2M1: 0, 0.5, 1, 1.5, 2, 3, 4, 6 at `r = 2`, the MXFP4 element |
//! | 2 | 3 | gradual | FP6 E2M3, an MXFP6 element, at `r = 2` |
//! | 3 | 2 | gradual | FP6 E3M2, an MXFP6 element, at `r = 4` |
//! | 4 | 3 | gradual | FP8 E4M3 at `r = 8`, with 480 at the code that E4M3 gives to NaN (so that E4M3 ends at 448) |
//! | 2 | 1 | zero-code | 0, 0.1875, 0.25, 0.375, 0.5, 0.75, 1, 1.5 at `r = 0` |
//!
//! # Other codings
//!
//! A [`Format`] is one of this family or of the families that it is compared with, under one interface: [`Family`]
//! lists them. Symmetric uniform, power of two and the small floats are grids of AUSN (a float may lack some of
//! the highest codes) and share its rounding; additive powers of two round by a table; affine codings have a zero
//! point.
//!
//! # Example
//!
//! ```
//! use ausn::coding::{AusnFormat, CodeWord, Underflow};
//!
//! let format = AusnFormat::new(2, 1, true, Underflow::Gradual)?;
//! assert_eq!(format.to_string(), "ausn4 E2S1");
//!
//! let weights = [0.3, -2.4, 0.07, 1.1];
//! let coding = format.with_range(format.range_for_max(2.4))?;
//! assert_eq!(coding.levels(), [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0]);
//!
//! let quantizer = coding.quantizer();
//! assert_eq!(weights.map(|w| quantizer.quantize(w)), [0.25, -2.0, 0.0, 1.0]);
//! assert_eq!(coding.encode(-2.4)?, CodeWord { negative: true, code: 0b110 });
//! assert_eq!(coding.error(&weights).clipped, 0);
//! # Ok::<(), ausn::coding::CodingError>(())
//! ```
//!
//! What a coding is expected to lose on a density of numbers, without any data, is in [`theory`].

mod any;
mod apot;
mod code;
mod error;
mod family;
mod format;
mod measure;
mod packing;
mod quantizer;
mod rounding;
mod table;
pub mod theory;

pub use any::Format;
pub(crate) use any::RawFormat;
pub(crate) use code::power_of_two;
pub use code::{Ausn, CodeWord};
pub use error::CodingError;
pub use family::{Family, Reserved};
pub(crate) use format::binade;
pub use format::{AusnFormat, Underflow};
pub use measure::QuantizationError;
pub use packing::{pack, unpack};
pub use quantizer::Quantizer;
pub use rounding::{AffineQuantizer, Rounder, Rounding};
pub use table::{Table, TableQuantizer};
