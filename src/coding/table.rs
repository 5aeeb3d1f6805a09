use super::rounding::Rounding;

/// The most levels of a table.
const CAPACITY: usize = 64;

/// Magnitudes in ascending order, and where rounding goes from one to the next.
#[derive(Debug, PartialEq)]
pub struct Table {
    /// The magnitudes; 0 beyond `len`.
    levels: [f32; CAPACITY],
    /// Entry `i` is the smallest magnitude that rounds to level `i + 1`; infinity beyond `len`.
    thresholds: [f32; CAPACITY],
    len: usize,
}

impl Table {
    /// A table of 2 to 64 magnitudes, the first of them 0.
    pub(super) fn new(magnitudes: &[f32]) -> Self {
        let mut levels = [0.0; CAPACITY];
        let mut thresholds = [f32::INFINITY; CAPACITY];
        levels[..magnitudes.len()].copy_from_slice(magnitudes);
        for (i, pair) in magnitudes.windows(2).enumerate() {
            let middle = f64::from(pair[0]).midpoint(f64::from(pair[1]));
            // A tie goes to the level of even index: down from an even one, up from an odd one.
            let nearest = middle as f32;
            let tie_is_passed = i % 2 == 1;
            let exact = f64::from(nearest);
            let above = exact > middle || (exact == middle && tie_is_passed);
            thresholds[i] = if above { nearest } else { nearest.next_up() };
        }
        Self { levels, thresholds, len: magnitudes.len() }
    }

    /// The magnitudes, from 0 up.
    pub fn levels(&self) -> &[f32] {
        &self.levels[..self.len]
    }

    /// For each level but 0, the smallest magnitude that rounds to it.
    pub fn thresholds(&self) -> &[f32] {
        &self.thresholds[..self.len - 1]
    }
}

/// Rounding to the levels of a table.
///
/// Takes the nearest level; a tie goes to the level of even index (0 is level 0), magnitudes above the
/// largest level saturate, an unsigned table sends negative numbers to 0, zero has no sign, NaN stays NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TableQuantizer {
    table: &'static Table,
    max: f32,
    signed: bool,
}

impl TableQuantizer {
    pub(super) fn new(table: &'static Table, signed: bool) -> Self {
        Self { table, max: table.levels[table.len - 1], signed }
    }

    /// The levels.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// Whether negative numbers keep their sign; else they become 0.
    pub fn signed(&self) -> bool {
        self.signed
    }
}

impl Rounding for TableQuantizer {
    #[inline(always)]
    fn quantize(&self, x: f32) -> f32 {
        let magnitude = x.abs().min(self.max);
        let mut index = 0;
        // Six halvings of 64 thresholds, without a branch on the data.
        for step in [32, 16, 8, 4, 2, 1] {
            let passed = magnitude >= self.table.thresholds[index + step - 1];
            index += if passed { step } else { 0 };
        }
        let level = if x < 0.0 && !self.signed { 0.0 } else { self.table.levels[index] };
        let signed = if x < 0.0 && level > 0.0 { -level } else { level };
        if x.is_nan() { x } else { signed }
    }

    #[inline(always)]
    fn in_range(&self, x: f32) -> bool {
        x.abs() <= self.max && (self.signed || x >= 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::apot;
    use super::*;

    /// The nearest level by trying all of them, in f64; a tie goes to the even index.
    fn nearest(levels: &[f32], x: f32) -> f32 {
        let distance = |&(_, &level): &(usize, &f32)| (f64::from(level) - f64::from(x)).abs();
        let order = |a: &(usize, &f32), b: &(usize, &f32)| {
            distance(a).total_cmp(&distance(b)).then((a.0 % 2).cmp(&(b.0 % 2)))
        };
        *levels.iter().enumerate().min_by(order).unwrap().1
    }

    #[test]
    fn takes_the_nearest_level_and_the_even_one_of_two() {
        for bits in 1..=6 {
            let table = apot::table(bits);
            let levels = table.levels();
            let ties = levels.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
            let hard = levels.iter().copied().chain(ties);
            let hard = hard.flat_map(|x| [x.next_down(), x, x.next_up()]).filter(|&x| x >= 0.0);
            let even = (0..4000).map(|i| i as f32 / 2000.0);
            for x in hard.chain(even) {
                let signed = TableQuantizer::new(table, true);
                let unsigned = TableQuantizer::new(table, false);
                let expected = nearest(levels, x);
                assert_eq!(signed.quantize(x), expected, "{bits} bits: {x}");
                assert_eq!(signed.quantize(-x), -expected, "{bits} bits: {x}");
                assert_eq!(unsigned.quantize(x), expected);
                assert_eq!(unsigned.quantize(-x).to_bits(), 0);
                let inside = x <= *levels.last().unwrap();
                assert_eq!((signed.in_range(x), signed.in_range(-x)), (inside, inside));
                assert_eq!(unsigned.in_range(-x), x == 0.0);
            }
        }
    }

    #[test]
    fn infinities_saturate_nan_stays_and_zero_has_no_sign() {
        let quantizer = TableQuantizer::new(apot::table(3), true);
        assert_eq!(quantizer.quantize(f32::INFINITY), 1.25);
        assert_eq!(quantizer.quantize(f32::NEG_INFINITY), -1.25);
        assert!(quantizer.quantize(f32::NAN).is_nan() && !quantizer.in_range(f32::NAN));
        assert_eq!(quantizer.quantize(-0.0).to_bits(), 0);
        assert_eq!(quantizer.quantize(-0.01).to_bits(), 0);
    }
}
