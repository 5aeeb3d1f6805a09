use super::{AusnFormat, Family, Format, Reserved};

/// What can be wrong with a format, a number, a code word or a packed buffer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// More exponent bits than the format family allows.
    #[error(
        "{given} exponent bits are too many: at most {} are allowed",
        AusnFormat::MAX_EXPONENT_BITS
    )]
    ExponentBits {
        /// The refused number of exponent bits.
        given: u32,
    },

    /// More superposition bits than the format family allows.
    #[error(
        "{given} superposition bits are too many: at most {} are allowed",
        AusnFormat::MAX_SUPERPOSITION_BITS
    )]
    SuperpositionBits {
        /// The refused number of superposition bits.
        given: u32,
    },

    /// Neither exponent nor superposition bits, which leaves zero as the only level.
    #[error(
        "a format with 0 exponent bits and 0 superposition bits has no level but 0: at least 1 bit is needed"
    )]
    NoMagnitudeBits,

    /// Zero-code underflow in a format without exponent bits.
    #[error(
        "zero-code underflow with 0 exponent bits and {superposition_bits} superposition bits is not defined: \
         use at least 1 exponent bit or gradual underflow"
    )]
    ZeroCodeWithoutExponent {
        /// The superposition bits of the refused format.
        superposition_bits: u32,
    },

    /// A family with an unknown name.
    #[error("unknown coding \"{given}\": expected one of {known}")]
    UnknownFamily {
        /// The name as given.
        given: String,
        /// The names that there are.
        known: String,
    },

    /// Reserved codes with an unknown name.
    #[error("unknown reserved codes \"{given}\": expected \"none\", \"nan\" or \"ieee\"")]
    UnknownReserved {
        /// The name as given.
        given: String,
    },

    /// A width that a family does not have.
    #[error("{family} has {} to {} bits, not {given}", .family.bits().start(), .family.bits().end())]
    Bits {
        /// The family.
        family: Family,
        /// The refused bits.
        given: u32,
    },

    /// A width that no exponent and superposition bits of AUSN add up to.
    #[error(
        "no exponent and superposition bits of ausn make {bits} bits {} a sign: {}",
        if *signed { "with" } else { "without" },
        if *signed { "2 to 16 are possible" } else { "1 to 15 are possible where nothing is negative" }
    )]
    NoSplit {
        /// The refused bits.
        bits: u32,
        /// Whether one of them is the sign.
        signed: bool,
    },

    /// A family of which no element is named by the family alone.
    #[error(
        "{family} is none of the OCP Microscaling formats: mxfp4, mxfp6-e2m3, mxfp6-e3m2, mxfp8-e4m3, mxfp8-e5m2"
    )]
    NotMicroscaling {
        /// The family.
        family: Family,
    },

    /// A float whose codes are all subnormal or reserved.
    #[error(
        "a float of {exponent_bits} exponent and {mantissa_bits} mantissa bits with reserved codes `{reserved}` \
         has no normal number: use more exponent bits"
    )]
    NoNormalNumber {
        /// The refused exponent bits.
        exponent_bits: u32,
        /// The mantissa bits.
        mantissa_bits: u32,
        /// The reserved codes.
        reserved: Reserved,
    },

    /// A format in a file without a key that its family needs.
    #[error("`{key}` is missing in a format of the coding {family}")]
    MissingKey {
        /// The family.
        family: Family,
        /// The key.
        key: &'static str,
    },

    /// A format in a file with a key that its family does not have.
    #[error("a format has a key that does not belong to {family}")]
    SurplusKey {
        /// The family.
        family: Family,
    },

    /// An underflow rule with an unknown name.
    #[error("unknown underflow rule \"{given}\": expected \"gradual\" or \"zero-code\"")]
    UnknownUnderflow {
        /// The name as given.
        given: String,
    },

    /// A range exponent that puts some level outside the normal `f32` numbers.
    #[error("range exponent {given} is not allowed for {format}: {lowest} to {highest} are")]
    RangeExponent {
        /// The format that was to get the range.
        format: Format,
        /// The refused range exponent.
        given: i32,
        /// The lowest range exponent of the format.
        lowest: i32,
        /// The highest range exponent of the format.
        highest: i32,
    },

    /// NaN, which no code word stands for.
    #[error("NaN has no code in {format}: only numbers and infinities can be encoded")]
    NotANumber {
        /// The format that was to encode it.
        format: Format,
    },

    /// A magnitude code that the format does not have.
    #[error("magnitude code {code} is not in {format}: its codes are 0 to {}", .format.codes() - 1)]
    CodeOutOfRange {
        /// The format that was to decode it.
        format: AusnFormat,
        /// The refused code.
        code: u16,
    },

    /// A negative code word in an unsigned format.
    #[error("a negative code word is not in {format}: the format is unsigned")]
    SignInUnsigned {
        /// The format that was to decode it.
        format: AusnFormat,
    },

    /// Code word bits above the width of the format.
    #[error("code word {word:#x} is not in {format}: only its low {} bits may be set", .format.bits())]
    WordOutOfRange {
        /// The format that was to read the word.
        format: AusnFormat,
        /// The refused bits.
        word: u16,
    },

    /// A word width that cannot be packed.
    #[error("words of {given} bits cannot be packed: 2 to 8 bits are allowed")]
    PackedBits {
        /// The refused width.
        given: u32,
    },

    /// A word that is wider than the packed width.
    #[error("word {word:#x} at index {index} does not fit: only its low {bits} bits may be set")]
    WordTooWide {
        /// The position of the word.
        index: usize,
        /// The refused word.
        word: u16,
        /// The packed width.
        bits: u32,
    },

    /// A packed buffer with too few or too many bytes.
    #[error("{count} words of {bits} bits take {expected} bytes, not {given}")]
    PackedLength {
        /// The number of words asked for.
        count: usize,
        /// The packed width.
        bits: u32,
        /// The number of bytes that those words take.
        expected: usize,
        /// The number of bytes given.
        given: usize,
    },

    /// Set bits after the last packed word.
    #[error("the last byte {byte:#04x} has bits set after word {count}: the padding has to be 0")]
    PackedPadding {
        /// The last byte.
        byte: u8,
        /// The number of words in the buffer.
        count: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::super::{AusnFormat, CodeWord, CodingError, Underflow, pack, unpack};

    fn format(signed: bool) -> AusnFormat {
        AusnFormat::new(2, 1, signed, Underflow::Gradual).unwrap()
    }

    fn message<T: std::fmt::Debug>(result: Result<T, CodingError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn formats_outside_the_family() {
        assert_eq!(
            message(AusnFormat::new(6, 1, true, Underflow::Gradual)),
            "6 exponent bits are too many: at most 5 are allowed"
        );
        assert_eq!(
            message(AusnFormat::new(1, 11, true, Underflow::Gradual)),
            "11 superposition bits are too many: at most 10 are allowed"
        );
        assert_eq!(
            message(AusnFormat::new(0, 0, true, Underflow::ZeroCode)),
            "a format with 0 exponent bits and 0 superposition bits has no level but 0: at least 1 bit is needed"
        );
        assert_eq!(
            message(AusnFormat::new(0, 3, true, Underflow::ZeroCode)),
            "zero-code underflow with 0 exponent bits and 3 superposition bits is not defined: \
             use at least 1 exponent bit or gradual underflow"
        );
        assert_eq!(
            message("flush".parse::<Underflow>()),
            "unknown underflow rule \"flush\": expected \"gradual\" or \"zero-code\""
        );
    }

    #[test]
    fn ranges_outside_the_format() {
        assert_eq!(
            message(format(true).with_range(-123)),
            "range exponent -123 is not allowed for ausn4 E2S1: -122 to 127 are"
        );
        assert_eq!(
            message(format(true).with_range(128)),
            "range exponent 128 is not allowed for ausn4 E2S1: -122 to 127 are"
        );
    }

    #[test]
    fn numbers_and_codes_outside_the_coding() {
        let coding = format(false).with_range(0).unwrap();
        assert_eq!(
            message(coding.encode(f32::NAN)),
            "NaN has no code in ausn3u E2S1: only numbers and infinities can be encoded"
        );
        let beyond = CodeWord { negative: false, code: 8 };
        assert_eq!(
            message(coding.decode(beyond)),
            "magnitude code 8 is not in ausn3u E2S1: its codes are 0 to 7"
        );
        let signed = CodeWord { negative: true, code: 1 };
        assert_eq!(
            message(coding.decode(signed)),
            "a negative code word is not in ausn3u E2S1: the format is unsigned"
        );
        assert_eq!(
            message(CodeWord::from_bits(0b1000, format(false))),
            "code word 0x8 is not in ausn3u E2S1: only its low 3 bits may be set"
        );
    }

    #[test]
    fn buffers_that_cannot_be_packed() {
        for bits in [0, 1, 9] {
            let expected =
                format!("words of {bits} bits cannot be packed: 2 to 8 bits are allowed");
            assert_eq!(message(pack(&[], bits)), expected);
            assert_eq!(message(unpack(&[], bits, 0)), expected);
        }
        assert_eq!(
            message(pack(&[7, 8], 3)),
            "word 0x8 at index 1 does not fit: only its low 3 bits may be set"
        );
        assert_eq!(message(unpack(&[0, 0, 0], 3, 3)), "3 words of 3 bits take 2 bytes, not 3");
        assert_eq!(
            message(unpack(&[0, 0b10], 3, 3)),
            "the last byte 0x02 has bits set after word 3: the padding has to be 0"
        );
    }
}
