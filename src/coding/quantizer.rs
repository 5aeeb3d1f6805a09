use super::code::{exponent_bits, power_of_two};
use super::{Ausn, Underflow};

const SIGN: u32 = 1 << 31;
const INFINITY: u32 = f32::INFINITY.to_bits();

/// Adding it to a number below it rounds that number to the nearest integer, ties to even.
const ROUND_TO_INTEGER: f32 = (1 << (f32::MANTISSA_DIGITS - 1)) as f32;

/// A coding's rounding without its codes: equal to decoding what was encoded, for every number.
///
/// An `f32` is itself a main power of two with 23 superposed lower ones. Where a coding's levels are such
/// superpositions, its code is the top of the bits of the `f32`, counted from `2^k_min`, and rounding the code is
/// rounding an integer; a carry moves into the exponent by itself. What lies below that region is rounded to a
/// multiple of the unit (gradual) or is zero (zero-code).
///
/// The constants of the coding are fields and there is no branch on data or coding, so one loop over a slice
/// serves every format and compiles to vector instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantizer {
    /// Bits of the maximum level. Magnitudes compare as their bits do.
    pub(crate) max: u32,
    /// Bits of `2^k_min`, from which codes are counted.
    pub(crate) base: u32,
    /// Bits of the smallest magnitude that the region of superpositions may see.
    pub(crate) floor: u32,
    /// `23 - S`, the bits of an `f32` below its code.
    pub(crate) shift: u32,
    /// One less than half a step of the code.
    pub(crate) half_less_one: u32,
    /// The bits of the code.
    pub(crate) mask: u32,
    /// Bits of the smallest magnitude that is not in the underflow region.
    pub(crate) underflow_end: u32,
    /// `2^u`, the step of the underflow region; 0 if that region is all zero.
    pub(crate) unit: f32,
    /// `2^-u`, or 0.
    pub(crate) inverse_unit: f32,
    /// All ones if the coding is unsigned.
    pub(crate) drop_negative: u32,
}

impl Quantizer {
    pub(super) fn new(coding: &Ausn) -> Self {
        Self::up_to(coding, coding.format().codes() - 1)
    }

    /// The same for a coding whose codes above `top` stand for no number: magnitudes saturate at `top`'s.
    pub(super) fn up_to(coding: &Ausn, top: u32) -> Self {
        let format = coding.format();
        let shift = f32::MANTISSA_DIGITS - 1 - format.superposition_bits();
        let base = exponent_bits(coding.min_exponent());
        let (floor, underflow_end, unit, inverse_unit) = match format.underflow() {
            Underflow::Gradual => {
                let end = exponent_bits(coding.min_exponent() + 1);
                let unit = power_of_two(coding.unit_exponent());
                (base, end, unit, unit.recip())
            }
            Underflow::ZeroCode => {
                let smallest = coding.level(1);
                // The tie at half the smallest level goes to code 0, so the region ends just above it.
                let end = (smallest / 2.0).to_bits() + 1;
                (smallest.to_bits(), end, 0.0, 0.0)
            }
        };
        Self {
            max: coding.level(top).to_bits(),
            base,
            floor,
            shift,
            half_less_one: (1 << (shift - 1)) - 1,
            mask: u32::MAX << shift,
            underflow_end,
            unit,
            inverse_unit,
            drop_negative: if format.signed() { 0 } else { u32::MAX },
        }
    }

    /// The level nearest to `x`, as [`Ausn::decode`] of [`Ausn::encode`] gives it. NaN stays NaN, and a zero is
    /// always `+0`.
    #[inline(always)]
    pub fn quantize(&self, x: f32) -> f32 {
        let bits = x.to_bits();
        let magnitude = bits & !SIGN;
        // NaN is above the maximum too, so that the arithmetic below sees finite numbers only.
        let clamped = magnitude.min(self.max);

        let code_and_rest = clamped.max(self.floor) - self.base;
        let parity = (code_and_rest >> self.shift) & 1;
        let rounded = code_and_rest + self.half_less_one + parity;
        let superposed = (rounded & self.mask) + self.base;

        // Scaling by a power of two is exact, but for results so small that they round to 0 either way.
        let steps = f32::from_bits(clamped) * self.inverse_unit;
        let underflown = (steps + ROUND_TO_INTEGER - ROUND_TO_INTEGER) * self.unit;

        let level = if clamped < self.underflow_end { underflown.to_bits() } else { superposed };
        let dropped = (bits as i32 >> 31) as u32 & self.drop_negative;
        let level = level & !dropped;
        let signed = if level == 0 { 0 } else { level | (bits & SIGN) };
        f32::from_bits(if magnitude > INFINITY { bits } else { signed })
    }

    /// Whether `x` is within the representable range: `|x| <= M`, and not negative if the coding is unsigned.
    ///
    /// Outside it, the loss is clipping error and the clipped straight-through estimator passes no gradient.
    /// `-0` is in range, NaN is not.
    #[inline(always)]
    pub fn in_range(&self, x: f32) -> bool {
        let bits = x.to_bits();
        let magnitude = bits & !SIGN;
        let dropped = (bits as i32 >> 31) as u32 & self.drop_negative & magnitude;
        (magnitude <= self.max) & (dropped == 0)
    }

    /// The largest level `M`.
    pub fn max(&self) -> f32 {
        f32::from_bits(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ausn, AusnFormat};
    use super::*;

    /// Every format of the family with both ends and some inner points of its range.
    fn codings() -> impl Iterator<Item = Ausn> {
        let shapes = (0..=AusnFormat::MAX_EXPONENT_BITS)
            .flat_map(|e| (0..=AusnFormat::MAX_SUPERPOSITION_BITS).map(move |s| (e, s)));
        shapes.flat_map(|(e, s)| {
            let rules = [Underflow::Gradual, Underflow::ZeroCode];
            let formats = rules.into_iter().flat_map(move |rule| {
                [true, false]
                    .into_iter()
                    .filter_map(move |signed| AusnFormat::new(e, s, signed, rule).ok())
            });
            formats.flat_map(|format| {
                let (lowest, highest) =
                    (*format.range_exponents().start(), *format.range_exponents().end());
                [lowest, lowest + 1, 0, highest - 1, highest]
                    .into_iter()
                    .map(move |r| format.with_range(r).unwrap())
            })
        })
    }

    fn check(coding: &Ausn, quantizer: &Quantizer, x: f32) {
        let exact = coding.decode(coding.encode(x).unwrap()).unwrap();
        let fast = quantizer.quantize(x);
        assert_eq!(
            fast.to_bits(),
            exact.to_bits(),
            "{coding:?}: {x:e} gives {fast:e}, not {exact:e}"
        );
        let clipped =
            f64::from(x).abs() > f64::from(coding.max()) || (x < 0.0 && !coding.format().signed());
        assert_eq!(quantizer.in_range(x), !clipped, "{coding:?}: {x:e}");
    }

    #[test]
    fn equals_the_code_around_every_level_and_tie() {
        for coding in codings() {
            let quantizer = coding.quantizer();
            let levels = coding.levels();
            // All levels of the small formats; of the large ones the ends and a stride that meets both parities.
            let stride = (levels.len() / 256).max(1) | 1;
            let near_the_ends = (0..levels.len()).filter(|i| *i < 40 || i + 40 > levels.len());
            for i in near_the_ends.chain((0..levels.len()).step_by(stride)) {
                let above = levels.get(i + 1).copied().unwrap_or(f32::MAX);
                let tie = f64::from(levels[i]).midpoint(f64::from(above)) as f32;
                for x in [levels[i], tie] {
                    for x in [x.next_down(), x, x.next_up()] {
                        check(&coding, &quantizer, x);
                        check(&coding, &quantizer, -x);
                    }
                }
            }
        }
    }

    #[test]
    fn equals_the_code_across_all_magnitudes() {
        for coding in codings() {
            let quantizer = coding.quantizer();
            for bits in (0..=INFINITY).step_by(10_000_019).chain([1, INFINITY - 1, INFINITY]) {
                check(&coding, &quantizer, f32::from_bits(bits));
                check(&coding, &quantizer, f32::from_bits(bits | SIGN));
            }
        }
    }

    #[test]
    fn nan_stays_nan_and_is_out_of_range() {
        for coding in codings() {
            let quantizer = coding.quantizer();
            for bits in [INFINITY + 1, f32::NAN.to_bits(), u32::MAX, SIGN | (INFINITY + 1)] {
                let nan = f32::from_bits(bits);
                assert_eq!(quantizer.quantize(nan).to_bits(), bits);
                assert!(!quantizer.in_range(nan));
            }
        }
    }

    #[test]
    fn max_is_the_top_level() {
        for coding in codings() {
            assert_eq!(coding.quantizer().max(), coding.max());
            assert_eq!(coding.quantizer().quantize(f32::INFINITY), coding.max());
        }
    }
}
