//! The ranges of a quantized tensor: its scales, as exponents of 2 or as free numbers, and zero points.

use serde::{Deserialize, Serialize};

use crate::coding::{Format, power_of_two};

/// Which numbers scales may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleKind {
    /// 2^r with an integer r: hardware shifts instead of multiplying.
    #[default]
    PowerOfTwo,
    /// Any positive number.
    Free,
}

/// The scale of every group of elements that share one, in row-major order of the granularity's grid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scales {
    /// Range exponents r of scales 2^r.
    RangeExponents(Vec<i32>),
    /// The scales themselves.
    Scales(Vec<f32>),
}

impl Scales {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::RangeExponents(exponents) => exponents.len(),
            Self::Scales(scales) => scales.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scales as numbers.
    pub fn factors(&self) -> Vec<f32> {
        match self {
            Self::RangeExponents(exponents) => exponents.iter().map(|&r| power_of_two(r)).collect(),
            Self::Scales(scales) => scales.clone(),
        }
    }

    /// Scales of a kind. Those that are to be powers of two have to be.
    pub fn new(kind: ScaleKind, factors: Vec<f32>) -> Self {
        let exponent = |scale: &f32| {
            let exponent =
                (scale.to_bits() >> (f32::MANTISSA_DIGITS - 1)) as i32 - (f32::MAX_EXP - 1);
            debug_assert_eq!(power_of_two(exponent), *scale);
            exponent
        };
        match kind {
            ScaleKind::PowerOfTwo => Self::RangeExponents(factors.iter().map(exponent).collect()),
            ScaleKind::Free => Self::Scales(factors),
        }
    }

    /// Their kind.
    pub fn kind(&self) -> ScaleKind {
        match self {
            Self::RangeExponents(_) => ScaleKind::PowerOfTwo,
            Self::Scales(_) => ScaleKind::Free,
        }
    }
}

/// The scales of a tensor, and the zero points that an affine format has besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ranges {
    /// The scales.
    #[serde(flatten)]
    pub scales: Scales,
    /// The code that stands for 0, one for each scale; empty for formats without zero points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zero_points: Vec<i32>,
}

impl Ranges {
    /// The range exponents, where scales are powers of two and there are no zero points.
    pub fn range_exponents(&self) -> Option<&[i32]> {
        match (&self.scales, &self.zero_points[..]) {
            (Scales::RangeExponents(exponents), []) => Some(exponents),
            _ => None,
        }
    }

    /// The first number among them that a format cannot have, in words.
    pub(super) fn beyond(&self, format: Format) -> Option<String> {
        let scale = match &self.scales {
            Scales::RangeExponents(exponents) => {
                let outside = exponents.iter().find(|r| !format.range_exponents().contains(r));
                outside.map(|r| format!("the range exponent {r}"))
            }
            Scales::Scales(scales) => {
                // Numbers are multiplied with the inverse.
                let outside =
                    scales.iter().find(|&&s| !(s > 0.0 && s.is_normal() && (1.0 / s).is_normal()));
                outside.map(|s| format!("the scale {s}"))
            }
        };
        let codes = 0..=format.max() as i32;
        let zero_point = || {
            let outside = self.zero_points.iter().find(|&&zero_point| !codes.contains(&zero_point));
            outside.map(|zero_point| format!("the zero point {zero_point}"))
        };
        scale.or_else(zero_point)
    }

    /// The zero point of a scale, by its index; 0 for formats without.
    pub fn zero_point(&self, index: usize) -> i32 {
        self.zero_points.get(index).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_what_they_hold() {
        let ranges = |scales, zero_points| Ranges { scales, zero_points };
        for (ranges, text) in [
            (ranges(Scales::RangeExponents(vec![-3, 0]), vec![]), r#"{"range-exponents":[-3,0]}"#),
            (ranges(Scales::Scales(vec![0.3]), vec![7]), r#"{"scales":[0.3],"zero-points":[7]}"#),
        ] {
            assert_eq!(serde_json::to_string(&ranges).unwrap(), text);
            assert_eq!(serde_json::from_str::<Ranges>(text).unwrap(), ranges);
        }
        assert!(serde_json::from_str::<Ranges>(r#"{"zero-points":[7]}"#).is_err());
    }

    #[test]
    fn numbers_that_a_format_cannot_have_are_found() {
        let ranges = |scales, zero_points| Ranges { scales, zero_points };
        let exponents = |r| ranges(Scales::RangeExponents(vec![0, r]), vec![]);
        let affine = |zero_point| ranges(Scales::Scales(vec![0.3]), vec![zero_point]);
        let [int, codes] = [Format::int(4, true), Format::affine(4)].map(Result::unwrap);
        for (ranges, format, expected) in [
            (exponents(-3), int, None),
            (exponents(200), int, Some("the range exponent 200")),
            (ranges(Scales::Scales(vec![1.0, 0.0]), vec![]), int, Some("the scale 0")),
            (ranges(Scales::Scales(vec![f32::NAN]), vec![]), int, Some("the scale NaN")),
            (affine(15), codes, None),
            (affine(16), codes, Some("the zero point 16")),
            (affine(-1), codes, Some("the zero point -1")),
        ] {
            assert_eq!(ranges.beyond(format).as_deref(), expected, "{ranges:?}");
        }
    }

    #[test]
    fn powers_of_two_and_their_exponents_are_the_same() {
        let exponents = Scales::RangeExponents(vec![-126, -3, 0, 5, 127]);
        assert_eq!(Scales::new(ScaleKind::PowerOfTwo, exponents.factors()), exponents);
        let free = Scales::new(ScaleKind::Free, vec![0.7, 8.0]);
        assert_eq!((free.factors(), free.kind()), (vec![0.7, 8.0], ScaleKind::Free));
    }
}
