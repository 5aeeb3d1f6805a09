use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Ausn, CodingError};

/// What the codes with the lowest exponent stand for.
///
/// The paper's abstract leaves this open. `ZeroCode` follows the rule of the authors' later public code for
/// weights; `Gradual` follows their AFP (ICCV 2021) and the IEEE and OCP small floats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Underflow {
    /// Codes with `e = 0` are evenly spaced down to zero, as the subnormals of a float are.
    #[default]
    Gradual,
    /// Code 0 is zero and every other code is a superposition of powers of two. This leaves a gap around zero.
    ZeroCode,
}

impl fmt::Display for Underflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Underflow::Gradual => "gradual",
            Underflow::ZeroCode => "zero-code",
        })
    }
}

impl FromStr for Underflow {
    type Err = CodingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "gradual" => Ok(Underflow::Gradual),
            "zero-code" => Ok(Underflow::ZeroCode),
            _ => Err(CodingError::UnknownUnderflow { given: name.to_owned() }),
        }
    }
}

/// The shape of a coding: its bits and its underflow rule, but not yet its range.
///
/// In a file it is a table with the keys `exponent-bits`, `superposition-bits`, `signed` and, if it is not
/// gradual, `underflow`. A table outside the limits of the [family](crate::coding) is refused when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawFormat", into = "RawFormat")]
pub struct AusnFormat {
    exponent_bits: u32,
    superposition_bits: u32,
    signed: bool,
    underflow: Underflow,
}

/// An [`AusnFormat`] as written in a file, not yet checked.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawFormat {
    exponent_bits: u32,
    superposition_bits: u32,
    signed: bool,
    #[serde(default)]
    underflow: Underflow,
}

impl TryFrom<RawFormat> for AusnFormat {
    type Error = CodingError;

    fn try_from(raw: RawFormat) -> Result<Self, Self::Error> {
        Self::new(raw.exponent_bits, raw.superposition_bits, raw.signed, raw.underflow)
    }
}

impl From<AusnFormat> for RawFormat {
    fn from(format: AusnFormat) -> Self {
        Self {
            exponent_bits: format.exponent_bits,
            superposition_bits: format.superposition_bits,
            signed: format.signed,
            underflow: format.underflow,
        }
    }
}

impl AusnFormat {
    /// The most exponent bits a format may have.
    pub const MAX_EXPONENT_BITS: u32 = 5;

    /// The most superposition bits a format may have.
    pub const MAX_SUPERPOSITION_BITS: u32 = 10;

    /// A format with `E = exponent_bits` and `S = superposition_bits`.
    ///
    /// # Errors
    ///
    /// More than [`MAX_EXPONENT_BITS`](Self::MAX_EXPONENT_BITS) or
    /// [`MAX_SUPERPOSITION_BITS`](Self::MAX_SUPERPOSITION_BITS), no magnitude bit at all, or zero-code underflow
    /// without exponent bits.
    pub fn new(
        exponent_bits: u32,
        superposition_bits: u32,
        signed: bool,
        underflow: Underflow,
    ) -> Result<Self, CodingError> {
        if exponent_bits > Self::MAX_EXPONENT_BITS {
            return Err(CodingError::ExponentBits { given: exponent_bits });
        }
        if superposition_bits > Self::MAX_SUPERPOSITION_BITS {
            return Err(CodingError::SuperpositionBits { given: superposition_bits });
        }
        if exponent_bits + superposition_bits == 0 {
            return Err(CodingError::NoMagnitudeBits);
        }
        if exponent_bits == 0 && underflow == Underflow::ZeroCode {
            return Err(CodingError::ZeroCodeWithoutExponent { superposition_bits });
        }
        Ok(Self { exponent_bits, superposition_bits, signed, underflow })
    }

    /// `E`, the bits that choose the main power of two.
    pub const fn exponent_bits(&self) -> u32 {
        self.exponent_bits
    }

    /// `S`, the bits that gate the superposed lower powers of two.
    pub const fn superposition_bits(&self) -> u32 {
        self.superposition_bits
    }

    /// Whether code words have a sign bit.
    pub const fn signed(&self) -> bool {
        self.signed
    }

    /// The underflow rule.
    pub const fn underflow(&self) -> Underflow {
        self.underflow
    }

    /// The width of a code word in bits, with the sign bit if there is one.
    pub const fn bits(&self) -> u32 {
        self.magnitude_bits() + self.signed as u32
    }

    /// The number of magnitude codes, `2^(E + S)`.
    pub const fn codes(&self) -> u32 {
        1 << self.magnitude_bits()
    }

    pub(super) const fn magnitude_bits(&self) -> u32 {
        self.exponent_bits + self.superposition_bits
    }

    /// Every different grid whose code words have `bits` bits, by ascending exponent bits.
    ///
    /// `E = 0` is left out because `E = 1` with one superposition bit less has the same levels at the same range
    /// exponent. No grid fits a width of no magnitude bit, or one above the limits: the list is then empty.
    pub fn candidates(bits: u32, signed: bool, underflow: Underflow) -> Vec<AusnFormat> {
        let Some(magnitude_bits) = bits.checked_sub(u32::from(signed)) else {
            return Vec::new();
        };
        (1..=Self::MAX_EXPONENT_BITS.min(magnitude_bits))
            .filter_map(|e| Self::new(e, magnitude_bits - e, signed, underflow).ok())
            .collect()
    }

    /// The range exponents that keep every nonzero level a normal `f32`: `k_min - S >= -126` and `r <= 127`.
    pub fn range_exponents(&self) -> RangeInclusive<i32> {
        let lowest = self.exponent_span() + self.superposition_bits as i32 + f32::MIN_EXP - 1;
        lowest..=f32::MAX_EXP - 1
    }

    /// `2^E - 1`, the distance from the lowest main exponent to the highest.
    pub(super) const fn exponent_span(&self) -> i32 {
        (1 << self.exponent_bits) - 1
    }

    /// The smallest range exponent with which a magnitude of `max_abs` does not clip (the `max` rule).
    ///
    /// For `E >= 1` this is `ceil(log2(max_abs / (2 - 2^-S)))`, the rule of the authors' public code for weights,
    /// but decided on the bits of `max_abs`, so that no rounding of the logarithm moves it by one. The result is
    /// clamped to [`range_exponents`](Self::range_exponents). It is 0 for 0, and the highest range exponent for
    /// an infinity or NaN. The sign of `max_abs` does not count.
    pub fn range_for_max(&self, max_abs: f64) -> i32 {
        smallest_exponent(self.max_at_range_zero(), max_abs, self.range_exponents())
    }

    /// The maximum `M` for `r = 0`, a number in `[1, 2)`.
    fn max_at_range_zero(&self) -> f64 {
        let steps = if self.exponent_bits == 0 {
            self.superposition_bits - 1
        } else {
            self.superposition_bits
        };
        2.0 - 1.0 / f64::from(1_u32 << steps)
    }

    /// This format with the range exponent `r`: the highest main power of two is `2^r`.
    ///
    /// # Errors
    ///
    /// A range exponent outside [`range_exponents`](Self::range_exponents).
    pub fn with_range(self, range_exponent: i32) -> Result<Ausn, CodingError> {
        Ausn::new(self, range_exponent)
    }

    /// The coding of range exponent 0, to which a scale of 2^r maps that of range exponent r.
    pub fn unit(self) -> Ausn {
        self.with_range(0).expect("0 is a legal range exponent of every format")
    }
}

/// The smallest `r` with `max * 2^r >= max_abs`, for a maximum in `[1, 2)`, clamped to `allowed`.
///
/// It is 0 for 0, and the highest allowed one for an infinity or NaN. The sign of `max_abs` does not count.
pub(super) fn smallest_exponent(max: f64, max_abs: f64, allowed: RangeInclusive<i32>) -> i32 {
    let max_abs = max_abs.abs();
    if max_abs == 0.0 {
        return 0;
    }
    if !max_abs.is_finite() {
        return *allowed.end();
    }
    let (exponent, significand) = binade(max_abs);
    let clips = significand > max;
    (exponent + i32::from(clips)).clamp(*allowed.start(), *allowed.end())
}

/// `floor(log2 x)` and what remains of a positive finite `x`, a number in `[1, 2)`.
///
/// Below the normal `f64` numbers the exponent is too high, but still far under that of any `f32`.
pub(crate) fn binade(x: f64) -> (i32, f64) {
    const FRACTION_BITS: u32 = f64::MANTISSA_DIGITS - 1;
    const BIAS: i32 = f64::MAX_EXP - 1;
    let bits = x.to_bits();
    let exponent = (bits >> FRACTION_BITS) as i32 - BIAS;
    let fraction = bits & ((1 << FRACTION_BITS) - 1);
    (exponent, f64::from_bits(fraction | 1.0_f64.to_bits()))
}

/// `ausn`, the bits, `u` if unsigned, `E` and `S`, and `zero-code` if it is: `ausn4u E3S1 zero-code`.
impl fmt::Display for AusnFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = format!(
            "ausn{}{} E{}S{}",
            self.bits(),
            if self.signed { "" } else { "u" },
            self.exponent_bits,
            self.superposition_bits
        );
        if self.underflow == Underflow::ZeroCode {
            name.push_str(" zero-code");
        }
        f.pad(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(e: u32, s: u32, signed: bool, underflow: Underflow) -> AusnFormat {
        AusnFormat::new(e, s, signed, underflow).unwrap()
    }

    #[test]
    fn underflow_names_round_trip() {
        for rule in [Underflow::Gradual, Underflow::ZeroCode] {
            assert_eq!(rule.to_string().parse(), Ok(rule));
            assert_eq!(serde_json::to_string(&rule).unwrap(), format!("\"{rule}\""));
        }
        assert_eq!(Underflow::default(), Underflow::Gradual);
    }

    #[test]
    fn display_names_the_coding() {
        let name = |e, s, signed, underflow| format(e, s, signed, underflow).to_string();
        assert_eq!(name(2, 1, true, Underflow::Gradual), "ausn4 E2S1");
        assert_eq!(name(3, 1, false, Underflow::ZeroCode), "ausn4u E3S1 zero-code");
        assert_eq!(name(5, 10, true, Underflow::Gradual), "ausn16 E5S10");
        let padded = format!("{:<12}|", format(2, 1, true, Underflow::Gradual));
        assert_eq!(padded, "ausn4 E2S1  |");
    }

    #[test]
    fn serde_uses_kebab_case_and_checks_the_limits() {
        let text =
            r#"{"exponent-bits":2,"superposition-bits":1,"signed":true,"underflow":"zero-code"}"#;
        let parsed: AusnFormat = serde_json::from_str(text).unwrap();
        assert_eq!(parsed, format(2, 1, true, Underflow::ZeroCode));
        assert_eq!(serde_json::to_string(&parsed).unwrap(), text);

        let short = r#"{"exponent-bits":2,"superposition-bits":1,"signed":false}"#;
        let parsed: AusnFormat = serde_json::from_str(short).unwrap();
        assert_eq!(parsed, format(2, 1, false, Underflow::Gradual));

        let refused =
            |text: &str| serde_json::from_str::<AusnFormat>(text).unwrap_err().to_string();
        let too_wide = r#"{"exponent-bits":6,"superposition-bits":1,"signed":true}"#;
        assert!(refused(too_wide).contains("6 exponent bits are too many"));
        let misspelt =
            r#"{"exponent-bits":2,"superposition-bits":1,"signed":true,"underflows":"gradual"}"#;
        assert!(refused(misspelt).contains("unknown field `underflows`"));
    }

    #[test]
    fn candidates_are_every_distinct_grid() {
        let shapes = |bits, signed, underflow| -> Vec<(u32, u32)> {
            AusnFormat::candidates(bits, signed, underflow)
                .iter()
                .map(|f| (f.exponent_bits(), f.superposition_bits()))
                .collect()
        };
        for underflow in [Underflow::Gradual, Underflow::ZeroCode] {
            assert_eq!(shapes(4, true, underflow), [(1, 2), (2, 1), (3, 0)]);
            assert_eq!(shapes(4, false, underflow), [(1, 3), (2, 2), (3, 1), (4, 0)]);
            assert_eq!(shapes(1, false, underflow), [(1, 0)]);
            assert_eq!(shapes(2, true, underflow), [(1, 0)]);
            assert_eq!(shapes(14, true, underflow), [(3, 10), (4, 9), (5, 8)]);
            assert_eq!(shapes(16, true, underflow), [(5, 10)]);
            for (bits, signed) in
                [(0, true), (0, false), (1, true), (16, false), (17, true), (u32::MAX, true)]
            {
                assert_eq!(shapes(bits, signed, underflow), []);
            }
        }
        for bits in 2..=9 {
            let grids: Vec<_> = AusnFormat::candidates(bits, true, Underflow::Gradual)
                .iter()
                .map(|f| f.with_range(0).unwrap().levels())
                .collect();
            for (i, grid) in grids.iter().enumerate() {
                assert!(!grids[..i].contains(grid));
            }
        }
    }

    #[test]
    fn range_for_max_is_the_smallest_range_that_holds_it() {
        for (e, s) in [(0, 1), (0, 4), (0, 10), (1, 0), (1, 3), (2, 1), (3, 0), (4, 3), (5, 10)] {
            let format = format(e, s, true, Underflow::Gradual);
            for r in format.range_exponents() {
                let max = f64::from(format.with_range(r).unwrap().max());
                assert_eq!(format.range_for_max(max), r, "{format} at its maximum");
                assert_eq!(format.range_for_max(-max), r, "{format}, negative");
                assert_eq!(format.range_for_max(max.next_down()), r, "{format} just below");
                let next = (r + 1).min(127);
                assert_eq!(format.range_for_max(max.next_up()), next, "{format} just above");
            }
        }
    }

    #[test]
    fn range_for_max_clamps() {
        let format = format(2, 1, true, Underflow::Gradual);
        assert_eq!(format.range_exponents(), -122..=127);
        assert_eq!(format.range_for_max(0.0), 0);
        assert_eq!(format.range_for_max(-0.0), 0);
        for tiny in [f64::MIN_POSITIVE, f64::from_bits(1), f64::from(f32::from_bits(1))] {
            assert_eq!(format.range_for_max(tiny), -122);
        }
        for huge in [f64::MAX, f64::INFINITY, f64::NAN, f64::from(f32::MAX)] {
            assert_eq!(format.range_for_max(huge), 127);
        }
    }
}
