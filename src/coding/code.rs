use super::measure::measure;
use super::{AusnFormat, CodingError, QuantizationError, Quantizer, Underflow};

/// `2^exponent` for an exponent of the normal `f32` numbers.
pub(crate) fn power_of_two(exponent: i32) -> f32 {
    debug_assert!((f32::MIN_EXP - 1..f32::MAX_EXP).contains(&exponent));
    f32::from_bits(exponent_bits(exponent))
}

/// The bits of `2^exponent`, or those of infinity for exponent 128.
pub(super) fn exponent_bits(exponent: i32) -> u32 {
    ((exponent + f32::MAX_EXP - 1) as u32) << (f32::MANTISSA_DIGITS - 1)
}

/// A code word taken apart: the sign bit and the magnitude code `c = e * 2^S + s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeWord {
    /// The sign bit. It is false for zero and in an unsigned format.
    pub negative: bool,
    /// The magnitude code, exponent above superposition bits.
    pub code: u16,
}

impl CodeWord {
    /// The word as stored: the sign bit, if the format has one, above the `E + S` bits of the code.
    ///
    /// The word has to be one of `format`, as those from [`Ausn::encode`] are; debug builds check it.
    pub fn to_bits(self, format: AusnFormat) -> u16 {
        debug_assert!(self.check(format).is_ok(), "{self:?} is not in {format}");
        u16::from(self.negative) << format.magnitude_bits() | self.code
    }

    /// Takes a stored word apart, the inverse of [`to_bits`](Self::to_bits).
    ///
    /// # Errors
    ///
    /// Bits set above the [width](AusnFormat::bits) of the format.
    pub fn from_bits(bits: u16, format: AusnFormat) -> Result<Self, CodingError> {
        if u32::from(bits) >> format.bits() != 0 {
            return Err(CodingError::WordOutOfRange { format, word: bits });
        }
        let sign = 1 << format.magnitude_bits();
        Ok(Self {
            negative: u32::from(bits) & sign != 0,
            code: (u32::from(bits) & (sign - 1)) as u16,
        })
    }

    fn check(self, format: AusnFormat) -> Result<(), CodingError> {
        if u32::from(self.code) >= format.codes() {
            return Err(CodingError::CodeOutOfRange { format, code: self.code });
        }
        if self.negative && !format.signed() {
            return Err(CodingError::SignInUnsigned { format });
        }
        Ok(())
    }
}

/// A coding: a format and its range exponent. Made by [`AusnFormat::with_range`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ausn {
    format: AusnFormat,
    range_exponent: i32,
}

impl Ausn {
    pub(super) fn new(format: AusnFormat, range_exponent: i32) -> Result<Self, CodingError> {
        let allowed = format.range_exponents();
        if !allowed.contains(&range_exponent) {
            return Err(CodingError::RangeExponent {
                format: format.into(),
                given: range_exponent,
                lowest: *allowed.start(),
                highest: *allowed.end(),
            });
        }
        Ok(Self { format, range_exponent })
    }

    /// The format.
    pub fn format(&self) -> AusnFormat {
        self.format
    }

    /// `r`: the highest main power of two is `2^r`.
    pub fn range_exponent(&self) -> i32 {
        self.range_exponent
    }

    /// `k_min = r - (2^E - 1)`, the main exponent of the codes with `e = 0`.
    pub fn min_exponent(&self) -> i32 {
        self.range_exponent - self.format.exponent_span()
    }

    /// `u`: every level is an integer multiple of `2^u`.
    ///
    /// It is `k_min + 1 - S` with gradual underflow and `k_min - S` with a zero code.
    pub fn unit_exponent(&self) -> i32 {
        let lowest_power = self.min_exponent() - self.format.superposition_bits() as i32;
        match self.format.underflow() {
            Underflow::Gradual => lowest_power + 1,
            Underflow::ZeroCode => lowest_power,
        }
    }

    /// The largest level `M`, at which magnitudes saturate.
    pub fn max(&self) -> f32 {
        self.level(self.format.codes() - 1)
    }

    /// The magnitude of a code.
    ///
    /// # Panics
    ///
    /// If `code` is not below [`AusnFormat::codes`].
    pub fn level(&self, code: u32) -> f32 {
        assert!(code < self.format.codes(), "magnitude code {code} is not in {}", self.format);
        let superposition_bits = self.format.superposition_bits();
        let evenly_spaced = match self.format.underflow() {
            Underflow::Gradual => code >> superposition_bits == 0,
            Underflow::ZeroCode => code == 0,
        };
        if evenly_spaced {
            return code as f32 * power_of_two(self.unit_exponent());
        }
        // An f32 is a main power of two with 23 superposed ones, so the code is the top of its bits.
        let shift = f32::MANTISSA_DIGITS - 1 - superposition_bits;
        f32::from_bits(exponent_bits(self.min_exponent()) + (code << shift))
    }

    /// The magnitudes of all codes, from 0 up.
    pub fn levels(&self) -> Vec<f32> {
        (0..self.format.codes()).map(|code| self.level(code)).collect()
    }

    /// The code word of the level nearest to `x`, by a search of the levels.
    ///
    /// A tie goes to the even code and magnitudes above [`max`](Self::max) saturate, infinities too. Zero has no
    /// sign, whichever number is rounded to it. An unsigned coding sends negative numbers to zero.
    ///
    /// # Errors
    ///
    /// NaN has no code.
    pub fn encode(&self, x: f32) -> Result<CodeWord, CodingError> {
        if x.is_nan() {
            return Err(CodingError::NotANumber { format: self.format.into() });
        }
        let code = if x < 0.0 && !self.format.signed() { 0 } else { self.nearest_code(x.abs()) };
        Ok(CodeWord { negative: x < 0.0 && code != 0, code })
    }

    fn nearest_code(&self, magnitude: f32) -> u16 {
        let (mut low, mut high) = (0, self.format.codes() - 1);
        while low < high {
            // Neighbouring levels have few bits between them, so their midpoint is exact in f64.
            let code = low.midpoint(high);
            let midpoint = f64::from(self.level(code)).midpoint(f64::from(self.level(code + 1)));
            let magnitude = f64::from(magnitude);
            let up = magnitude > midpoint || (magnitude == midpoint && code % 2 == 1);
            if up {
                low = code + 1;
            } else {
                high = code;
            }
        }
        low as u16
    }

    /// The number that a code word stands for. A negative zero word, which `encode` never makes, gives `+0`.
    ///
    /// # Errors
    ///
    /// A code that the format does not have, or a sign in an unsigned coding.
    pub fn decode(&self, word: CodeWord) -> Result<f32, CodingError> {
        word.check(self.format)?;
        let magnitude = self.level(u32::from(word.code));
        Ok(if word.negative && word.code != 0 { -magnitude } else { magnitude })
    }

    /// The fast form of decoding what was encoded.
    pub fn quantizer(&self) -> Quantizer {
        Quantizer::new(self)
    }

    /// What quantizing `values` loses, summed in `f64`. A NaN among them makes the sums NaN.
    pub fn error(&self, values: &[f32]) -> QuantizationError {
        measure(self.quantizer(), 1.0, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(e: u32, s: u32, r: i32, signed: bool, underflow: Underflow) -> Ausn {
        AusnFormat::new(e, s, signed, underflow).unwrap().with_range(r).unwrap()
    }

    #[test]
    fn levels_of_the_two_underflow_rules() {
        let gradual = coding(2, 1, 0, true, Underflow::Gradual);
        assert_eq!(gradual.levels(), [0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5]);
        assert_eq!((gradual.min_exponent(), gradual.unit_exponent()), (-3, -3));
        let zero_code = coding(2, 1, 0, true, Underflow::ZeroCode);
        assert_eq!(zero_code.levels(), [0.0, 0.1875, 0.25, 0.375, 0.5, 0.75, 1.0, 1.5]);
        assert_eq!((zero_code.min_exponent(), zero_code.unit_exponent()), (-3, -4));
    }

    #[test]
    fn levels_at_the_ends_of_the_range_are_normal_and_finite() {
        for underflow in [Underflow::Gradual, Underflow::ZeroCode] {
            for e in 0..=AusnFormat::MAX_EXPONENT_BITS {
                for s in 0..=AusnFormat::MAX_SUPERPOSITION_BITS {
                    let Ok(format) = AusnFormat::new(e, s, true, underflow) else {
                        continue;
                    };
                    for r in [*format.range_exponents().start(), *format.range_exponents().end()] {
                        let levels = format.with_range(r).unwrap().levels();
                        assert_eq!(levels[0], 0.0);
                        assert!(levels.is_sorted_by(|a, b| a < b), "{format} r = {r}");
                        assert!(levels[1..].iter().all(|l| l.is_normal()), "{format} r = {r}");
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "magnitude code 8 is not in ausn4 E2S1")]
    fn level_refuses_a_code_beyond_the_format() {
        coding(2, 1, 0, true, Underflow::Gradual).level(8);
    }

    #[test]
    fn ties_go_to_the_even_code() {
        let coding = coding(2, 1, 2, true, Underflow::Gradual);
        for (tie, level) in
            [(0.25, 0.0), (0.75, 1.0), (1.25, 1.0), (2.5, 2.0), (3.5, 4.0), (5.0, 4.0)]
        {
            let word = coding.encode(tie).unwrap();
            assert_eq!(coding.decode(word).unwrap(), level);
        }
    }

    #[test]
    fn zero_has_no_sign() {
        let zero = CodeWord { negative: false, code: 0 };
        let signed = coding(2, 1, 2, true, Underflow::Gradual);
        for x in [0.0, -0.0, -0.25, -f32::from_bits(1)] {
            assert_eq!(signed.encode(x).unwrap(), zero);
        }
        let negative_zero = CodeWord { negative: true, code: 0 };
        assert_eq!(signed.decode(negative_zero).unwrap().to_bits(), 0);
        let unsigned = coding(2, 1, 2, false, Underflow::Gradual);
        for x in [-0.0, -1.0, f32::NEG_INFINITY] {
            assert_eq!(unsigned.encode(x).unwrap(), zero);
        }
    }

    #[test]
    fn words_put_the_sign_above_the_code() {
        let format = AusnFormat::new(2, 1, true, Underflow::Gradual).unwrap();
        for bits in 0..16 {
            let word = CodeWord::from_bits(bits, format).unwrap();
            assert_eq!(word.negative, bits >= 8);
            assert_eq!(word.to_bits(format), bits);
        }
        let widest = AusnFormat::new(5, 10, true, Underflow::Gradual).unwrap();
        let word = CodeWord::from_bits(u16::MAX, widest).unwrap();
        assert_eq!((word.negative, word.code), (true, 0x7fff));
        assert_eq!(word.to_bits(widest), u16::MAX);
    }

    #[test]
    fn error_splits_clipping_from_rounding() {
        let signed = coding(2, 1, 2, true, Underflow::Gradual).error(&[7.0, -8.0, 0.75, -3.5, 1.0]);
        assert_eq!((signed.count, signed.clipped), (5, 2));
        assert_eq!((signed.clipping, signed.rounding), (5.0, 0.3125));
        assert_eq!(signed.energy, 49.0 + 64.0 + 0.5625 + 12.25 + 1.0);
        let unsigned = coding(2, 1, 2, false, Underflow::Gradual).error(&[-2.0, -0.0, 1.0]);
        assert_eq!((unsigned.clipped, unsigned.clipping, unsigned.rounding), (1, 4.0, 0.0));
        let broken = coding(2, 1, 2, true, Underflow::Gradual).error(&[1.0, f32::NAN]);
        assert!(broken.total().is_nan() && broken.energy.is_nan());
    }
}
