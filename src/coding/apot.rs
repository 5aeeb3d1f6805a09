use super::table::Table;

/// The terms of additive powers of two for `bits` magnitude bits: a level is a sum of one number of
/// each list, which is 0 or one of the powers of two with the exponents that stand there.
///
/// For an even number of bits this is equation 3 of the paper with `k = 2` bits for each of
/// `n = bits / 2` terms: term `i` is 0 or `2^-(i + j n)` with `j` in `0..3`. The paper does not define
/// odd numbers; here, as in its authors' public code, the single bit that is left over gates one
/// power of two between those of the others.
fn terms(bits: u32) -> &'static [&'static [i32]] {
    match bits {
        1 => &[&[0]],
        2 => &[&[0, -1, -2]],
        3 => &[&[0, -1, -3], &[-2]],
        4 => &[&[0, -2, -4], &[-1, -3, -5]],
        5 => &[&[0, -2, -5], &[-1, -3, -6], &[-4]],
        6 => &[&[0, -3, -6], &[-1, -4, -7], &[-2, -5, -8]],
        _ => unreachable!("a format's bits were checked when it was made"),
    }
}

/// The magnitudes of APoT (arXiv [1909.13144](https://arxiv.org/abs/1909.13144)) with `bits` magnitude
/// bits, from 0 up: exact sums of powers of two, of which the largest power is 2^0.
fn levels(bits: u32) -> Vec<f32> {
    let mut sums = vec![0.0];
    for term in terms(bits) {
        let addends: Vec<f32> = term.iter().map(|&k| 2f32.powi(k)).collect();
        let with = |sum: f32| addends.iter().map(move |addend| sum + addend);
        sums = sums.iter().flat_map(|&sum| with(sum).chain([sum]).collect::<Vec<_>>()).collect();
    }
    sums.sort_by(f32::total_cmp);
    sums
}

/// The rounding of APoT with `bits` magnitude bits, 1 to 6.
pub(super) fn table(bits: u32) -> &'static Table {
    use std::sync::LazyLock;
    static TABLES: LazyLock<[Table; 6]> =
        LazyLock::new(|| std::array::from_fn(|i| Table::new(&levels(i as u32 + 1))));
    &TABLES[bits as usize - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_sets_of_the_paper() {
        assert_eq!(levels(1), [0.0, 1.0]);
        // One term is power-of-two quantization.
        assert_eq!(levels(2), [0.0, 0.25, 0.5, 1.0]);
        // b = 4, k = 2 (figure 1 of the paper): {0, 1, 1/4, 1/16} + {0, 1/2, 1/8, 1/32}.
        let mut expected: Vec<f32> = [0.0, 1.0, 0.25, 0.0625]
            .iter()
            .flat_map(|a| [0.0, 0.5, 0.125, 0.03125].map(|b| a + b))
            .collect();
        expected.sort_by(f32::total_cmp);
        assert_eq!(levels(4), expected);
        // 5/8 of the authors' code, with the largest power of two at 2^0.
        assert_eq!(levels(3), [0.0, 0.125, 0.25, 0.375, 0.5, 0.75, 1.0, 1.25]);
    }

    #[test]
    fn every_code_is_another_level() {
        for bits in 1..=6 {
            let levels = levels(bits);
            assert_eq!(levels.len(), 1 << bits);
            assert!(levels.is_sorted_by(|a, b| a < b), "{bits} bits");
            assert!((1.0..2.0).contains(levels.last().unwrap()));
        }
    }
}
