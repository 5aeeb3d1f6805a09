use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::code::power_of_two;
use super::format::{binade, smallest_exponent};
use super::measure::measure;
use super::{
    AffineQuantizer, Ausn, AusnFormat, CodingError, Family, QuantizationError, Quantizer, Reserved,
    Rounder, TableQuantizer, Underflow, apot,
};

/// A number format of any family: everything of a coding but its scale.
///
/// A format stands for its levels at scale 1, and a number `x` becomes `scale * Q(x / scale)`. Its largest level
/// `M` there is in `[1, 2)`, so that a scale of `2^r` is the AUSN coding of range exponent `r`; an affine format
/// has the integers as its levels at scale 1, and a zero point besides the scale.
///
/// In a file it is a table whose `coding` names the [`Family`], with the keys that the family has:
///
/// | `coding` | keys |
/// |---|---|
/// | `ausn` | `exponent-bits`, `superposition-bits`, `signed`, `underflow` |
/// | `int`, `power-of-two`, `apot` | `bits`, `signed` |
/// | `minifloat` | `exponent-bits`, `mantissa-bits`, `signed`, `reserved` |
/// | `affine` | `bits` |
/// | `mxfp4` and its like | none |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawFormat", into = "RawFormat")]
pub struct Format {
    family: Family,
    grid: Grid,
}

/// The levels of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Grid {
    /// Those of an AUSN format, without the highest `reserved` codes.
    Superposed { format: AusnFormat, reserved: Reserved },
    /// Sums of powers of two.
    Additive { bits: u32, signed: bool },
    /// Integers with a zero point.
    Affine { bits: u32 },
}

impl From<AusnFormat> for Format {
    fn from(format: AusnFormat) -> Self {
        Self { family: Family::Ausn, grid: Grid::Superposed { format, reserved: Reserved::None } }
    }
}

impl Format {
    /// Symmetric uniform: the AUSN grid of one exponent bit. Without a sign bit that bit is one of the number.
    ///
    /// # Errors
    ///
    /// Bits outside [`Family::bits`].
    pub fn int(bits: u32, signed: bool) -> Result<Self, CodingError> {
        check_bits(Family::Int, bits)?;
        let superposition_bits = bits - 1 - u32::from(signed);
        let format = AusnFormat::new(1, superposition_bits, signed, Underflow::Gradual)?;
        Ok(Self::from(format).named(Family::Int))
    }

    /// Zero and powers of two: the AUSN grid without superposition.
    ///
    /// # Errors
    ///
    /// Bits outside [`Family::bits`].
    pub fn power_of_two(bits: u32, signed: bool) -> Result<Self, CodingError> {
        check_bits(Family::PowerOfTwo, bits)?;
        let format = AusnFormat::new(bits - u32::from(signed), 0, signed, Underflow::Gradual)?;
        Ok(Self::from(format).named(Family::PowerOfTwo))
    }

    /// Additive powers of two. Its levels at scale 1 are exact sums of powers of two, of which the largest power
    /// is 2^0; the paper's own are those over `M`.
    ///
    /// # Errors
    ///
    /// Bits outside [`Family::bits`].
    pub fn apot(bits: u32, signed: bool) -> Result<Self, CodingError> {
        check_bits(Family::Apot, bits)?;
        Ok(Self { family: Family::Apot, grid: Grid::Additive { bits, signed } })
    }

    /// Uniform with a zero point.
    ///
    /// # Errors
    ///
    /// Bits outside [`Family::bits`].
    pub fn affine(bits: u32) -> Result<Self, CodingError> {
        check_bits(Family::Affine, bits)?;
        Ok(Self { family: Family::Affine, grid: Grid::Affine { bits } })
    }

    /// A float of few bits with subnormals: the AUSN grid with gradual underflow, where not all codes need be
    /// numbers.
    ///
    /// # Errors
    ///
    /// Bits outside the limits of [`AusnFormat`], or no normal number left.
    pub fn minifloat(
        exponent_bits: u32,
        mantissa_bits: u32,
        signed: bool,
        reserved: Reserved,
    ) -> Result<Self, CodingError> {
        let format = AusnFormat::new(exponent_bits, mantissa_bits, signed, Underflow::Gradual)?;
        let normal = exponent_bits >= 1
            && format.codes() - reserved.codes(mantissa_bits) > 1 << mantissa_bits;
        if !normal {
            return Err(CodingError::NoNormalNumber { exponent_bits, mantissa_bits, reserved });
        }
        Ok(Self { family: Family::Minifloat, grid: Grid::Superposed { format, reserved } })
    }

    /// Every different grid of AUSN with so many bits, by ascending exponent bits.
    pub fn ausn_candidates(bits: u32, signed: bool, underflow: Underflow) -> Vec<Self> {
        AusnFormat::candidates(bits, signed, underflow).into_iter().map(Self::from).collect()
    }

    pub(super) fn named(self, family: Family) -> Self {
        Self { family, ..self }
    }

    /// The family.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The width of a code word, with the sign bit if there is one.
    pub const fn bits(&self) -> u32 {
        match self.grid {
            Grid::Superposed { format, .. } => format.bits(),
            Grid::Additive { bits, .. } | Grid::Affine { bits } => bits,
        }
    }

    /// Whether negative numbers have levels. Those of an affine format depend on its zero point; it counts as signed.
    pub const fn signed(&self) -> bool {
        match self.grid {
            Grid::Superposed { format, .. } => format.signed(),
            Grid::Additive { signed, .. } => signed,
            Grid::Affine { .. } => true,
        }
    }

    /// Exponent bits, and superposition or mantissa bits, of a family that has them.
    pub fn split(&self) -> Option<(u32, u32)> {
        match (self.family, self.grid) {
            (Family::Int | Family::PowerOfTwo, _) => None,
            (_, Grid::Superposed { format, .. }) => {
                Some((format.exponent_bits(), format.superposition_bits()))
            }
            _ => None,
        }
    }

    /// The underflow rule of an AUSN format.
    pub fn underflow(&self) -> Option<Underflow> {
        match (self.family, self.grid) {
            (Family::Ausn, Grid::Superposed { format, .. }) => Some(format.underflow()),
            _ => None,
        }
    }

    /// Whether a coding has a zero point besides its scale.
    pub const fn has_zero_point(&self) -> bool {
        matches!(self.grid, Grid::Affine { .. })
    }

    /// The AUSN coding with the levels, and for a float the code words, of this format at scale `2^r`; it may
    /// have levels above the format's largest one. `None` for a format that is none of that family.
    ///
    /// # Errors
    ///
    /// A range exponent outside [`range_exponents`](Self::range_exponents).
    pub fn with_range(&self, r: i32) -> Option<Result<Ausn, CodingError>> {
        match self.grid {
            Grid::Superposed { format, reserved } => {
                Some(format.with_range(r + above_one(format, reserved)))
            }
            Grid::Additive { .. } | Grid::Affine { .. } => None,
        }
    }

    /// The magnitudes of all codes at scale 1, from 0 up.
    pub fn levels(&self) -> Vec<f32> {
        match self.grid {
            Grid::Superposed { format, reserved } => {
                let mut levels = unit(format, reserved).levels();
                levels.truncate(top(format, reserved) as usize + 1);
                levels
            }
            Grid::Additive { bits, signed } => {
                apot::table(bits - u32::from(signed)).levels().to_vec()
            }
            Grid::Affine { bits } => (0..1_u32 << bits).map(|level| level as f32).collect(),
        }
    }

    /// All levels at scale 1, ascending: of both signs where there is a sign bit; of an affine format, its codes.
    pub fn signed_levels(&self) -> Vec<f32> {
        let magnitudes = self.levels();
        let signed = self.signed() && !self.has_zero_point();
        let negative = magnitudes[1..].iter().rev().filter(|_| signed).map(|level| -level);
        negative.chain(magnitudes.iter().copied()).collect()
    }

    /// The largest level `M` at scale 1; of an affine format, the largest code.
    pub fn max(&self) -> f32 {
        match self.grid {
            Grid::Superposed { format, reserved } => {
                unit(format, reserved).level(top(format, reserved))
            }
            Grid::Additive { bits, signed } => {
                let levels = apot::table(bits - u32::from(signed)).levels();
                levels[levels.len() - 1]
            }
            Grid::Affine { bits } => ((1_u32 << bits) - 1) as f32,
        }
    }

    /// The step between the levels next to 0 at scale 1.
    pub fn step(&self) -> f32 {
        match self.grid {
            Grid::Superposed { format, reserved } => unit(format, reserved).level(1),
            Grid::Additive { bits, signed } => apot::table(bits - u32::from(signed)).levels()[1],
            Grid::Affine { .. } => 1.0,
        }
    }

    /// The exponents `r` of the scales `2^r` at which every level but 0 is a normal `f32`.
    pub fn range_exponents(&self) -> RangeInclusive<i32> {
        match self.grid {
            Grid::Superposed { format, reserved } => {
                let (allowed, above) = (format.range_exponents(), above_one(format, reserved));
                allowed.start() - above..=allowed.end() - above
            }
            // The smallest level of a table is 2^-8.
            Grid::Additive { .. } => f32::MIN_EXP - 1 + 8..=f32::MAX_EXP - 1,
            Grid::Affine { bits } => f32::MIN_EXP - 1..=f32::MAX_EXP - 1 - bits as i32,
        }
    }

    /// The smallest `r` such that a magnitude of `max_abs` does not clip at scale `2^r`, clamped to
    /// [`range_exponents`](Self::range_exponents); 0 for 0.
    pub fn range_for_max(&self, max_abs: f64) -> i32 {
        let (above, max) = binade(f64::from(self.max()));
        let allowed = self.range_exponents();
        let shifted = allowed.start() + above..=allowed.end() + above;
        match max_abs == 0.0 {
            true => 0,
            false => smallest_exponent(max, max_abs, shifted) - above,
        }
    }

    /// The smallest scale at which a magnitude of `max_abs` does not clip; 1 for 0.
    pub fn scale_for_max(&self, max_abs: f64) -> f32 {
        if max_abs == 0.0 {
            return 1.0;
        }
        let scales = self.scales();
        let max = self.max();
        let mut scale = (max_abs.abs() / f64::from(max)) as f32;
        scale = scale.clamp(*scales.start(), *scales.end());
        // Dividing by a rounded scale can exceed the maximum by a last bit.
        while max_abs as f32 * (1.0 / scale) > max && scale < *scales.end() {
            scale = scale.next_up();
        }
        scale
    }

    /// The scales at which every level but 0 is a normal `f32`, and so is what a number is multiplied with.
    pub fn scales(&self) -> RangeInclusive<f32> {
        let exponents = self.range_exponents();
        power_of_two(*exponents.start())..=power_of_two((*exponents.end()).min(f32::MAX_EXP - 2))
    }

    /// Rounding to the levels at scale 1. Only an affine format looks at the zero point, which is one of its codes.
    pub fn rounder(&self, zero_point: i32) -> Rounder {
        match self.grid {
            Grid::Superposed { format, reserved } => Rounder::Superposed(Quantizer::up_to(
                &unit(format, reserved),
                top(format, reserved),
            )),
            Grid::Additive { bits, signed } => {
                Rounder::Table(TableQuantizer::new(apot::table(bits - u32::from(signed)), signed))
            }
            Grid::Affine { .. } => {
                Rounder::Affine(AffineQuantizer::new(self.max(), zero_point as f32))
            }
        }
    }

    /// What quantizing `values` with a scale (and a zero point) loses, summed in `f64`.
    pub fn error(&self, values: &[f32], scale: f32, zero_point: i32) -> QuantizationError {
        match self.rounder(zero_point) {
            Rounder::Superposed(rounding) => measure(rounding, scale, values),
            Rounder::Table(rounding) => measure(rounding, scale, values),
            Rounder::Affine(rounding) => measure(rounding, scale, values),
        }
    }
}

/// By how many binades the highest main power of two of all codes is above that of the numbers.
fn above_one(format: AusnFormat, reserved: Reserved) -> i32 {
    let mantissa_bits = format.superposition_bits();
    (reserved.codes(mantissa_bits) >> mantissa_bits) as i32
}

/// The coding of scale 1: the highest main power of two that is a number is 2^0.
fn unit(format: AusnFormat, reserved: Reserved) -> Ausn {
    let r = above_one(format, reserved);
    format.with_range(r).expect("0 and 1 are legal range exponents of every format")
}

/// The highest code that is a number.
fn top(format: AusnFormat, reserved: Reserved) -> u32 {
    format.codes() - 1 - reserved.codes(format.superposition_bits())
}

fn check_bits(family: Family, given: u32) -> Result<(), CodingError> {
    match family.bits().contains(&given) {
        true => Ok(()),
        false => Err(CodingError::Bits { family, given }),
    }
}

/// `ausn4 E2S1`, `int4`, `pot4`, `apot4`, `e4m3 nan`, `mxfp4`, `affine8`; with `u` after the bits where there is no
/// sign bit.
impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsigned = if self.signed() { "" } else { "u" };
        let numbered = |name: &str| format!("{name}{}{unsigned}", self.bits());
        f.pad(&match (self.family, self.grid) {
            (Family::Ausn, Grid::Superposed { format, .. }) => format.to_string(),
            (Family::Minifloat, Grid::Superposed { format, reserved }) => {
                let (e, m) = (format.exponent_bits(), format.superposition_bits());
                let tail = match reserved {
                    Reserved::None => String::new(),
                    _ => format!(" {reserved}"),
                };
                format!("e{e}m{m}{unsigned}{tail}")
            }
            (Family::PowerOfTwo, _) => numbered("pot"),
            (family, _) if family.is_microscaling() => family.to_string(),
            (family, _) => numbered(family.name()),
        })
    }
}

/// A [`Format`] as written in a file or on a command line, not yet checked.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct RawFormat {
    pub(crate) coding: Family,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exponent_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) superposition_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mantissa_bits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) underflow: Option<Underflow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reserved: Option<Reserved>,
}

impl TryFrom<RawFormat> for Format {
    type Error = CodingError;

    fn try_from(raw: RawFormat) -> Result<Self, Self::Error> {
        let family = raw.coding;
        let missing = |key| CodingError::MissingKey { family, key };
        let bits = || raw.bits.ok_or_else(|| missing("bits"));
        let exponent_bits = || raw.exponent_bits.ok_or_else(|| missing("exponent-bits"));
        let signed = || raw.signed.ok_or_else(|| missing("signed"));
        let format = match family {
            Family::Ausn => {
                let superposition_bits =
                    raw.superposition_bits.ok_or_else(|| missing("superposition-bits"))?;
                let underflow = raw.underflow.unwrap_or_default();
                AusnFormat::new(exponent_bits()?, superposition_bits, signed()?, underflow)?.into()
            }
            Family::Int => Self::int(bits()?, signed()?)?,
            Family::PowerOfTwo => Self::power_of_two(bits()?, signed()?)?,
            Family::Apot => Self::apot(bits()?, signed()?)?,
            Family::Affine => Self::affine(bits()?)?,
            Family::Minifloat => {
                let mantissa_bits = raw.mantissa_bits.ok_or_else(|| missing("mantissa-bits"))?;
                let reserved = raw.reserved.unwrap_or_default();
                Self::minifloat(exponent_bits()?, mantissa_bits, signed()?, reserved)?
            }
            Family::Mxfp4
            | Family::Mxfp6E2m3
            | Family::Mxfp6E3m2
            | Family::Mxfp8E4m3
            | Family::Mxfp8E5m2 => family.element().expect("a Microscaling format"),
        };
        // What the family has no use for would be ignored.
        let needed = RawFormat::from(format);
        let given = RawFormat {
            underflow: raw.underflow.or(needed.underflow),
            reserved: raw.reserved.or(needed.reserved),
            ..raw
        };
        match given == needed {
            true => Ok(format),
            false => Err(CodingError::SurplusKey { family }),
        }
    }
}

impl From<Format> for RawFormat {
    fn from(format: Format) -> Self {
        let raw = Self { coding: format.family, ..Self::default() };
        match (format.family, format.grid) {
            (Family::Ausn, Grid::Superposed { format, .. }) => Self {
                exponent_bits: Some(format.exponent_bits()),
                superposition_bits: Some(format.superposition_bits()),
                signed: Some(format.signed()),
                underflow: Some(format.underflow()),
                ..raw
            },
            (Family::Minifloat, Grid::Superposed { format, reserved }) => Self {
                exponent_bits: Some(format.exponent_bits()),
                mantissa_bits: Some(format.superposition_bits()),
                signed: Some(format.signed()),
                reserved: Some(reserved),
                ..raw
            },
            (Family::Int | Family::PowerOfTwo | Family::Apot, _) => {
                Self { bits: Some(format.bits()), signed: Some(format.signed()), ..raw }
            }
            (Family::Affine, _) => Self { bits: Some(format.bits()), ..raw },
            _ => raw,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rounding;
    use super::*;

    fn formats() -> Vec<Format> {
        let mut all: Vec<Format> =
            Family::ALL.iter().filter_map(|family| family.element()).collect();
        for signed in [true, false] {
            all.extend((2..=11).map(|bits| Format::int(bits, signed).unwrap()));
            all.extend((2..=5).map(|bits| Format::power_of_two(bits, signed).unwrap()));
            all.extend((2..=6).map(|bits| Format::apot(bits, signed).unwrap()));
            for reserved in [Reserved::None, Reserved::Nan, Reserved::Ieee] {
                all.extend(
                    [(2, 1), (3, 0), (3, 2), (4, 3), (5, 10)]
                        .map(|(e, m)| Format::minifloat(e, m, signed, reserved).unwrap()),
                );
            }
            all.extend(Format::ausn_candidates(6, signed, Underflow::ZeroCode));
        }
        all.extend((2..=16).map(|bits| Format::affine(bits).unwrap()));
        all
    }

    #[test]
    fn microscaling_elements_are_those_of_the_standard() {
        let levels = |family: Family, emax: i32| {
            let levels = family.element().unwrap().levels();
            levels.into_iter().map(|level| level * 2f32.powi(emax)).collect::<Vec<_>>()
        };
        assert_eq!(levels(Family::Mxfp4, 2), [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        for (family, emax, count, smallest, largest) in [
            (Family::Mxfp6E2m3, 2, 32, 0.125, 7.5),
            (Family::Mxfp6E3m2, 4, 32, 0.0625, 28.0),
            (Family::Mxfp8E4m3, 8, 127, 2f32.powi(-9), 448.0),
            (Family::Mxfp8E5m2, 15, 124, 2f32.powi(-16), 57_344.0),
        ] {
            let levels = levels(family, emax);
            assert_eq!((levels.len(), levels[1]), (count, smallest), "{family}");
            assert_eq!(levels.last(), Some(&largest), "{family}");
        }
    }

    #[test]
    fn names_of_other_families_are_grids_of_ausn() {
        let int = Format::int(4, true).unwrap();
        assert_eq!(
            int.levels().iter().map(|l| l * 4.0).collect::<Vec<_>>(),
            [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
        );
        assert_eq!(Format::int(4, false).unwrap().levels().len(), 16);
        let power = Format::power_of_two(3, true).unwrap();
        assert_eq!(power.levels(), [0.0, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn every_format_rounds_to_its_levels_and_fits_its_maximum() {
        for format in formats() {
            let levels = format.levels();
            assert!(levels.is_sorted_by(|a, b| a < b), "{format}");
            assert_eq!(levels.last(), Some(&format.max()), "{format}");
            assert_eq!(levels[1], format.step(), "{format}");
            let rounder = format.rounder(0);
            for &level in &levels {
                assert_eq!(rounder.quantize(level), level, "{format}");
                assert!(rounder.in_range(level), "{format}");
            }
            assert_eq!(rounder.quantize(f32::INFINITY), format.max(), "{format}");
            for max_abs in [1e-3, 0.3, 1.0, 1.5, 1.75, 77.7, 448.0] {
                let r = format.range_for_max(max_abs);
                let fits = |r: i32| f64::from(format.max()) * 2f64.powi(r) >= max_abs;
                assert!(fits(r) && !fits(r - 1), "{format}: {max_abs} at 2^{r}");
                let scale = format.scale_for_max(max_abs);
                assert!(rounder.in_range(max_abs as f32 * (1.0 / scale)), "{format}: {max_abs}");
                assert!(f64::from(scale) <= max_abs / f64::from(format.max()) * 1.000_001);
            }
            assert_eq!((format.range_for_max(0.0), format.scale_for_max(0.0)), (0, 1.0));
            if let Some(coding) = format.with_range(3) {
                let coding = coding.unwrap();
                let found: Vec<f32> = coding.levels().iter().map(|level| level / 8.0).collect();
                assert_eq!(found[..levels.len()], levels, "{format}");
            }
        }
    }

    #[test]
    fn display_is_short() {
        let names = [
            (AusnFormat::new(2, 1, true, Underflow::Gradual).unwrap().into(), "ausn4 E2S1"),
            (Format::int(8, false).unwrap(), "int8u"),
            (Format::power_of_two(4, true).unwrap(), "pot4"),
            (Format::apot(4, true).unwrap(), "apot4"),
            (Format::affine(8).unwrap(), "affine8"),
            (Format::minifloat(2, 1, true, Reserved::None).unwrap(), "e2m1"),
            (Format::minifloat(4, 3, true, Reserved::Nan).unwrap(), "e4m3 nan"),
            (Family::Mxfp6E3m2.element().unwrap(), "mxfp6-e3m2"),
        ];
        for (format, name) in names {
            assert_eq!(format.to_string(), name);
        }
    }

    #[test]
    fn files_round_trip_and_surplus_or_missing_keys_are_refused() {
        for format in formats() {
            let text = serde_json::to_string(&format).unwrap();
            assert_eq!(serde_json::from_str::<Format>(&text).unwrap(), format, "{text}");
        }
        let int = serde_json::to_string(&Format::int(4, true).unwrap()).unwrap();
        assert_eq!(int, r#"{"coding":"int","bits":4,"signed":true}"#);
        let refused = |text: &str| serde_json::from_str::<Format>(text).unwrap_err().to_string();
        assert!(refused(r#"{"coding":"int","bits":4}"#).contains("`signed` is missing"));
        let surplus = refused(r#"{"coding":"mxfp4","bits":4}"#);
        assert!(surplus.contains("does not belong to mxfp4"), "{surplus}");
        let bits = refused(r#"{"coding":"apot","bits":7,"signed":true}"#);
        assert!(bits.contains("apot has 2 to 6 bits, not 7"), "{bits}");
        let float = r#"{"coding":"minifloat","exponent-bits":1,"mantissa-bits":2,"signed":true,"reserved":"ieee"}"#;
        assert!(refused(float).contains("no normal number"));
    }
}
