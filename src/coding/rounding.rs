use super::{Quantizer, TableQuantizer};

/// Rounding to the levels of a coding of scale 1.
pub trait Rounding: Copy + Send + Sync {
    /// The level nearest to `x`. Infinities saturate, NaN stays NaN.
    fn quantize(&self, x: f32) -> f32;

    /// Whether `x` is within the representable range: outside of it, the loss is clipping error.
    fn in_range(&self, x: f32) -> bool;
}

impl Rounding for Quantizer {
    #[inline(always)]
    fn quantize(&self, x: f32) -> f32 {
        Quantizer::quantize(self, x)
    }

    #[inline(always)]
    fn in_range(&self, x: f32) -> bool {
        Quantizer::in_range(self, x)
    }
}

/// Rounding to integers between two bounds, of which one may be 0 (affine uniform codings of scale 1).
///
/// A tie goes to the even integer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AffineQuantizer {
    lowest: f32,
    highest: f32,
}

impl AffineQuantizer {
    /// Adding it to a number of at most 22 bits rounds that number to an integer, ties to even.
    const ROUND_TO_INTEGER: f32 = 1.5 * (1 << (f32::MANTISSA_DIGITS - 1)) as f32;

    /// For codes `0..=highest_code`, of which `zero_point` stands for 0.
    #[inline(always)]
    pub fn new(highest_code: f32, zero_point: f32) -> Self {
        Self { lowest: -zero_point, highest: highest_code - zero_point }
    }
}

impl Rounding for AffineQuantizer {
    #[inline(always)]
    fn quantize(&self, x: f32) -> f32 {
        let inside = x.max(self.lowest).min(self.highest);
        // The last addition gives 0 one sign.
        let rounded = inside + Self::ROUND_TO_INTEGER - Self::ROUND_TO_INTEGER + 0.0;
        if x.is_nan() { x } else { rounded }
    }

    #[inline(always)]
    fn in_range(&self, x: f32) -> bool {
        x >= self.lowest && x <= self.highest
    }
}

/// The rounding of a [`Format`](super::Format), by its kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounder {
    /// Superposed powers of two: AUSN, and what is a grid or a part of a grid of that family.
    Superposed(Quantizer),
    /// A table of levels.
    Table(TableQuantizer),
    /// Integers with a zero point.
    Affine(AffineQuantizer),
}

impl Rounding for Rounder {
    #[inline]
    fn quantize(&self, x: f32) -> f32 {
        match self {
            Rounder::Superposed(quantizer) => quantizer.quantize(x),
            Rounder::Table(quantizer) => quantizer.quantize(x),
            Rounder::Affine(quantizer) => quantizer.quantize(x),
        }
    }

    #[inline]
    fn in_range(&self, x: f32) -> bool {
        match self {
            Rounder::Superposed(quantizer) => quantizer.in_range(x),
            Rounder::Table(quantizer) => quantizer.in_range(x),
            Rounder::Affine(quantizer) => quantizer.in_range(x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_rounds_half_to_even_between_its_bounds() {
        let quantizer = AffineQuantizer::new(15.0, 3.0);
        for (x, expected) in [
            (0.5, 0.0),
            (1.5, 2.0),
            (-1.5, -2.0),
            (-2.5, -2.0),
            (2.49, 2.0),
            (11.7, 12.0),
            (99.0, 12.0),
            (-99.0, -3.0),
            (f32::INFINITY, 12.0),
            (f32::NEG_INFINITY, -3.0),
        ] {
            assert_eq!(quantizer.quantize(x), expected, "{x}");
        }
        assert_eq!(quantizer.quantize(-0.2).to_bits(), 0);
        assert!(quantizer.quantize(f32::NAN).is_nan());
        let inside = [-3.0, 0.0, 12.0].map(|x| quantizer.in_range(x));
        let outside = [-3.01, 12.01, f32::NAN].map(|x| quantizer.in_range(x));
        assert_eq!((inside, outside), ([true; 3], [false; 3]));
        // The widest code.
        let wide = AffineQuantizer::new(65_535.0, 0.0);
        assert_eq!((wide.quantize(65_534.5), wide.quantize(65_533.4)), (65_534.0, 65_533.0));
    }
}
