use super::CodingError;

/// Packs words of `bits` bits without gaps.
///
/// The bytes are one stream of bits, lowest bit of the lowest byte first, in which word `i` takes the bits
/// `i * bits` to `i * bits + bits - 1`, its own lowest bit first:
///
/// ```text
/// 3 bits:  byte 0 = w2[1:0] w1[2:0] w0[2:0]    byte 1 = w5[0] w4[2:0] w3[2:0] w2[2]    ...
/// 4 bits:  byte 0 = w1[3:0] w0[3:0]            byte 1 = w3[3:0] w2[3:0]                ...
/// ```
///
/// The last byte is filled up with 0.
///
/// # Errors
///
/// A width outside `2..=8`, or a word that does not fit in it.
pub fn pack(words: &[u16], bits: u32) -> Result<Vec<u8>, CodingError> {
    check_bits(bits)?;
    let mut bytes = Vec::with_capacity(packed_length(words.len(), bits));
    let mut pending: u32 = 0;
    let mut pending_bits = 0;
    for (index, &word) in words.iter().enumerate() {
        if word >> bits != 0 {
            return Err(CodingError::WordTooWide { index, word, bits });
        }
        pending |= u32::from(word) << pending_bits;
        pending_bits += bits;
        if pending_bits >= u8::BITS {
            bytes.push(pending as u8);
            pending >>= u8::BITS;
            pending_bits -= u8::BITS;
        }
    }
    if pending_bits > 0 {
        bytes.push(pending as u8);
    }
    Ok(bytes)
}

/// Unpacks `count` words of `bits` bits, the inverse of [`pack`].
///
/// # Errors
///
/// A width outside `2..=8`, a number of bytes other than those words take, or a bit set in the padding.
pub fn unpack(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<u16>, CodingError> {
    check_bits(bits)?;
    let expected = packed_length(count, bits);
    if bytes.len() != expected {
        return Err(CodingError::PackedLength { count, bits, expected, given: bytes.len() });
    }
    let mask = (1 << bits) - 1;
    let mut words = Vec::with_capacity(count);
    let mut rest = bytes.iter();
    let mut pending: u32 = 0;
    let mut pending_bits = 0;
    for _ in 0..count {
        if pending_bits < bits {
            let byte = rest.next().copied().unwrap_or_default();
            pending |= u32::from(byte) << pending_bits;
            pending_bits += u8::BITS;
        }
        words.push((pending & mask) as u16);
        pending >>= bits;
        pending_bits -= bits;
    }
    if pending != 0 {
        let byte = bytes.last().copied().unwrap_or_default();
        return Err(CodingError::PackedPadding { byte, count });
    }
    Ok(words)
}

fn check_bits(bits: u32) -> Result<(), CodingError> {
    if (2..=8).contains(&bits) { Ok(()) } else { Err(CodingError::PackedBits { given: bits }) }
}

/// The bytes that `count` words take; the product is spread out so that no count overflows it.
fn packed_length(count: usize, bits: u32) -> usize {
    let bits = bits as usize;
    count / 8 * bits + (count % 8 * bits).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_lowest_bit_first() {
        assert_eq!(pack(&[0x1, 0x2, 0xf], 4).unwrap(), [0x21, 0x0f]);
        assert_eq!(
            pack(&[0b001, 0b010, 0b111, 0b100, 0b011, 0b101], 3).unwrap(),
            [0b1101_0001, 0b1011_1001, 0b0000_0010]
        );
        assert_eq!(pack(&[0xab, 0xcd], 8).unwrap(), [0xab, 0xcd]);
        assert!(pack(&[], 5).unwrap().is_empty());
    }

    #[test]
    fn every_width_and_length_round_trips() {
        for bits in 2..=8 {
            for count in 0..40_usize {
                let words: Vec<u16> =
                    (0..count).map(|i| (i * 0x9e37 + 0x55) as u16 & ((1 << bits) - 1)).collect();
                let bytes = pack(&words, bits).unwrap();
                assert_eq!(bytes.len(), (count * bits as usize).div_ceil(8));
                assert_eq!(unpack(&bytes, bits, count).unwrap(), words);
            }
        }
    }

    #[test]
    fn a_huge_count_is_a_wrong_length() {
        let error = unpack(&[0], 7, usize::MAX).unwrap_err();
        assert!(matches!(error, CodingError::PackedLength { given: 1, .. }));
    }

    #[test]
    fn every_padding_bit_is_checked() {
        for bit in 6..8 {
            let error = unpack(&[1 << bit], 3, 2).unwrap_err();
            assert_eq!(error, CodingError::PackedPadding { byte: 1 << bit, count: 2 });
        }
    }
}
