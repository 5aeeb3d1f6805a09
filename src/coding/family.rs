use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::{CodingError, Format};

/// The families of codings, by the names that configurations and tables use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Adaptively superposed powers of two (arXiv 2007.03903): `E` exponent and `S` superposition bits.
    #[default]
    Ausn,
    /// Symmetric uniform: integers `-n..=n` with `n = 2^(bits - 1) - 1`; without a sign bit `0..2^bits`.
    Int,
    /// Zero and signed powers of two. Every code word is another value, which INQ (arXiv 1702.03044) and
    /// its like lack: their code has a word for zero apart from sign and exponent.
    PowerOfTwo,
    /// Additive powers of two (APoT, arXiv 1909.13144).
    Apot,
    /// Small floats with subnormals, by exponent and mantissa bits and by the codes that are no numbers.
    Minifloat,
    /// OCP MXFP4: E2M1 in blocks of 32.
    Mxfp4,
    /// OCP MXFP6, E2M3 in blocks of 32.
    #[serde(rename = "mxfp6-e2m3")]
    Mxfp6E2m3,
    /// OCP MXFP6, E3M2 in blocks of 32.
    #[serde(rename = "mxfp6-e3m2")]
    Mxfp6E3m2,
    /// OCP MXFP8, E4M3 (maximum 448) in blocks of 32.
    #[serde(rename = "mxfp8-e4m3")]
    Mxfp8E4m3,
    /// OCP MXFP8, E5M2 (maximum 57344) in blocks of 32.
    #[serde(rename = "mxfp8-e5m2")]
    Mxfp8E5m2,
    /// Uniform with a zero point: `y = s (clamp(round(x / s) + z, 0, 2^bits - 1) - z)`.
    Affine,
}

impl Family {
    /// All families, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Ausn,
        Self::Int,
        Self::PowerOfTwo,
        Self::Apot,
        Self::Affine,
        Self::Minifloat,
        Self::Mxfp4,
        Self::Mxfp6E2m3,
        Self::Mxfp6E3m2,
        Self::Mxfp8E4m3,
        Self::Mxfp8E5m2,
    ];

    /// Elements of a block of the OCP Microscaling formats.
    pub const BLOCK: usize = 32;

    /// The name in configurations and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ausn => "ausn",
            Self::Int => "int",
            Self::PowerOfTwo => "power-of-two",
            Self::Apot => "apot",
            Self::Minifloat => "minifloat",
            Self::Mxfp4 => "mxfp4",
            Self::Mxfp6E2m3 => "mxfp6-e2m3",
            Self::Mxfp6E3m2 => "mxfp6-e3m2",
            Self::Mxfp8E4m3 => "mxfp8-e4m3",
            Self::Mxfp8E5m2 => "mxfp8-e5m2",
            Self::Affine => "affine",
        }
    }

    /// The bits that a code word of the family may have, with the sign bit.
    ///
    /// They keep every level exact in `f32`, and leave a grid without the sign bit. APoT is defined for 2 to 6.
    pub const fn bits(self) -> RangeInclusive<u32> {
        match self {
            Self::Ausn | Self::Affine => 2..=16,
            Self::Int => 2..=11,
            Self::PowerOfTwo => 2..=5,
            Self::Apot => 2..=6,
            Self::Minifloat => 3..=16,
            Self::Mxfp4 => 4..=4,
            Self::Mxfp6E2m3 | Self::Mxfp6E3m2 => 6..=6,
            Self::Mxfp8E4m3 | Self::Mxfp8E5m2 => 8..=8,
        }
    }

    /// The element of an OCP Microscaling format: [`None`] for the families that have parameters.
    pub fn element(self) -> Option<Format> {
        let (e, m, reserved) = match self {
            Self::Mxfp4 => (2, 1, Reserved::None),
            Self::Mxfp6E2m3 => (2, 3, Reserved::None),
            Self::Mxfp6E3m2 => (3, 2, Reserved::None),
            Self::Mxfp8E4m3 => (4, 3, Reserved::Nan),
            Self::Mxfp8E5m2 => (5, 2, Reserved::Ieee),
            _ => return None,
        };
        let element = Format::minifloat(e, m, true, reserved).expect("an element of the standard");
        Some(element.named(self))
    }

    /// Whether it is one of the OCP Microscaling formats, which fix granularity and range too.
    pub fn is_microscaling(self) -> bool {
        self.element().is_some()
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Family {
    type Err = CodingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|family| family.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(|family| format!("\"{family}\"")).join(", ");
            CodingError::UnknownFamily { given: name.to_owned(), known }
        })
    }
}

/// The highest codes of a minifloat, which may stand for no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reserved {
    /// Every code is a number, as in the OCP elements of 4 and 6 bits.
    #[default]
    None,
    /// The highest code is NaN, as in OCP E4M3.
    Nan,
    /// The codes of the highest exponent are infinity and NaN, as in OCP E5M2 and the IEEE 754 floats.
    Ieee,
}

impl Reserved {
    /// How many codes of a float of `mantissa_bits` it takes.
    pub(super) const fn codes(self, mantissa_bits: u32) -> u32 {
        match self {
            Self::None => 0,
            Self::Nan => 1,
            Self::Ieee => 1 << mantissa_bits,
        }
    }
}

impl std::str::FromStr for Reserved {
    type Err = CodingError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "none" => Ok(Self::None),
            "nan" => Ok(Self::Nan),
            "ieee" => Ok(Self::Ieee),
            _ => Err(CodingError::UnknownReserved { given: name.to_owned() }),
        }
    }
}

impl fmt::Display for Reserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Nan => "nan",
            Self::Ieee => "ieee",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for family in Family::ALL {
            assert_eq!(family.name().parse(), Ok(family));
            assert_eq!(serde_json::to_string(&family).unwrap(), format!("\"{family}\""));
        }
        for reserved in [Reserved::None, Reserved::Nan, Reserved::Ieee] {
            assert_eq!(reserved.to_string().parse(), Ok(reserved));
            assert_eq!(serde_json::to_string(&reserved).unwrap(), format!("\"{reserved}\""));
        }
        let error = "int4".parse::<Family>().unwrap_err().to_string();
        assert!(error.contains("unknown coding \"int4\"") && error.contains("\"int\""), "{error}");
    }
}
