//! What a coding costs a layer.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// The width that stands for floats.
pub(super) const FLOAT_BITS: u32 = 32;

/// Bytes of a range exponent.
const SCALE_BYTES: u64 = 4;

/// What of a layer its cost depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerSize {
    /// Weights.
    pub weights: u64,
    /// Range exponents that the weights have: one for the tensor, or one for each channel or group.
    pub scales: u64,
    /// Multiplications of a weight and an activation for one example.
    pub multiply_accumulates: u64,
}

/// How the cost of a layer is counted. All are sums over layers.
#[derive(Clone, Debug, PartialEq)]
pub enum CostModel {
    /// The bits of the weights; limited in bits per weight.
    AverageBits,
    /// The bytes of the packed weights, and four for each range exponent, as `codes.safetensors` holds those that it can
    /// (see [`save_codes`](crate::deploy::save_codes)); zero points are not counted. Limited in bytes.
    Bytes,
    /// The cost of the multiply-accumulates for one example; limited in the unit of the table.
    MultiplyAccumulates(CostTable),
}

impl CostModel {
    /// What a layer costs with codes of so many bits; 32 stands for floats, of whatever precision.
    ///
    /// # Errors
    ///
    /// A pair of widths that is not in the cost table, unless nothing is multiplied.
    pub fn cost(
        &self,
        size: &LayerSize,
        weight_bits: u32,
        activation_bits: u32,
    ) -> Result<f64, CostError> {
        let bits = size.weights * u64::from(weight_bits);
        Ok(match self {
            CostModel::AverageBits => bits as f64,
            CostModel::Bytes => (bits.div_ceil(8) + SCALE_BYTES * size.scales) as f64,
            CostModel::MultiplyAccumulates(_) if size.multiply_accumulates == 0 => 0.0,
            CostModel::MultiplyAccumulates(table) => {
                size.multiply_accumulates as f64 * table.cost(weight_bits, activation_bits)?
            }
        })
    }

    /// The unit of [`cost`](Self::cost), for messages.
    pub fn unit(&self) -> &str {
        match self {
            CostModel::AverageBits => "bits",
            CostModel::Bytes => "bytes",
            CostModel::MultiplyAccumulates(table) => table.unit(),
        }
    }

    /// The unit that a limit is given in.
    pub fn limit_unit(&self) -> &str {
        match self {
            CostModel::AverageBits => "bits a weight",
            CostModel::Bytes | CostModel::MultiplyAccumulates(_) => self.unit(),
        }
    }

    /// The budget for a whole model, in the unit of [`cost`](Self::cost), that a limit allows.
    pub fn budget(&self, limit: f64, sizes: &[LayerSize]) -> f64 {
        match self {
            CostModel::AverageBits => {
                limit * sizes.iter().map(|size| size.weights).sum::<u64>() as f64
            }
            CostModel::Bytes | CostModel::MultiplyAccumulates(_) => limit,
        }
    }
}

/// What one multiply-accumulate costs, by the widths of its two codes.
///
/// As a TOML file:
///
/// ```
/// # let text = r#"
/// unit = "pJ"
///
/// [[multiply-accumulate]]
/// weight-bits = 4
/// activation-bits = 8
/// cost = 0.11
/// # "#;
/// # let table = ausn::search::CostTable::parse(text, "costs.toml".as_ref()).unwrap();
/// # assert_eq!(table.cost(4, 8).unwrap(), 0.11);
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(
    rename_all = "kebab-case",
    deny_unknown_fields,
    expecting = "expected the name of a file, or a table with unit and multiply-accumulate"
)]
pub struct CostTable {
    unit: String,
    multiply_accumulate: Vec<Entry>,
    /// What messages call it.
    #[serde(skip, default = "unnamed")]
    name: String,
}

/// A table that stands in a configuration.
fn unnamed() -> String {
    "the cost table".to_string()
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Entry {
    weight_bits: u32,
    activation_bits: u32,
    cost: f64,
}

/// Why a cost is not known.
#[derive(Debug, Error)]
pub enum CostError {
    /// A file that cannot be read.
    #[error("cannot read the cost table {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Text that is no cost table.
    #[error("{path}: {message}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, key, and what is wrong.
        message: String,
    },
    /// An entry that cannot be.
    #[error("{path}: {problem}", path = path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which entry, and what is wrong with it.
        problem: String,
    },
    /// Widths that the table does not have.
    #[error(
        "{table} has no entry for {weight_bits}-bit weights and {activation_bits}-bit activations{}; \
         add one (it has weight by activation bits: {known})",
        if *activation_bits == FLOAT_BITS { " (which stand for floats)" } else { "" }
    )]
    Missing {
        /// The file, or the table of a configuration.
        table: String,
        /// The width of the weights.
        weight_bits: u32,
        /// The width of the activations.
        activation_bits: u32,
        /// The pairs that it has.
        known: String,
    },
}

impl CostTable {
    /// Reads a cost table.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no cost table, and costs that are no costs.
    pub fn load(path: &Path) -> Result<Self, CostError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| CostError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// Reads a cost table from the text of a file, whose name is for messages.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, CostError> {
        let path = path.to_path_buf();
        let mut table: Self = toml::from_str(text).map_err(|error| CostError::Syntax {
            path: path.clone(),
            message: error.to_string().trim_end().to_string(),
        })?;
        table.name = path.display().to_string();
        match table.validate() {
            Ok(()) => Ok(table),
            Err(problem) => Err(CostError::Entry { path, problem }),
        }
    }

    /// What is wrong with an entry.
    pub(super) fn validate(&self) -> Result<(), String> {
        for (i, entry) in self.multiply_accumulate.iter().enumerate() {
            let same = |other: &Entry| other.widths() == entry.widths();
            let problem = if !entry.cost.is_finite() || entry.cost < 0.0 {
                format!("costs {}: a number from 0 up is needed", entry.cost)
            } else if self.multiply_accumulate[..i].iter().any(same) {
                "is there twice: remove one".to_string()
            } else {
                continue;
            };
            let (weight, activation) = entry.widths();
            return Err(format!(
                "the entry for {weight}-bit weights and {activation}-bit activations {problem}"
            ));
        }
        Ok(())
    }

    /// The unit of the costs, such as `pJ`, for messages.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The cost of multiplying codes of these widths and adding the product up.
    ///
    /// # Errors
    ///
    /// Widths that the table does not have.
    pub fn cost(&self, weight_bits: u32, activation_bits: u32) -> Result<f64, CostError> {
        let entries = &self.multiply_accumulate;
        let entry = entries.iter().find(|entry| entry.widths() == (weight_bits, activation_bits));
        entry.map(|entry| entry.cost).ok_or_else(|| {
            let pair = |e: &Entry| format!("{} x {}", e.weight_bits, e.activation_bits);
            let known = entries.iter().map(pair).collect::<Vec<_>>().join(", ");
            CostError::Missing { table: self.name.clone(), weight_bits, activation_bits, known }
        })
    }
}

impl Entry {
    fn widths(&self) -> (u32, u32) {
        (self.weight_bits, self.activation_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"
unit = "pJ"
[[multiply-accumulate]]
weight-bits = 4
activation-bits = 8
cost = 0.25
[[multiply-accumulate]]
weight-bits = 32
activation-bits = 32
cost = 4
"#;

    fn parse(text: &str) -> Result<CostTable, CostError> {
        CostTable::parse(text, "costs.toml".as_ref())
    }

    #[test]
    fn costs_of_the_three_models() {
        let size = LayerSize { weights: 1001, scales: 10, multiply_accumulates: 8000 };
        let other = LayerSize { weights: 3, scales: 1, multiply_accumulates: 6 };
        let cost = |model: &CostModel| model.cost(&size, 4, 8).unwrap();
        assert_eq!(cost(&CostModel::AverageBits), 4004.0);
        assert_eq!(CostModel::AverageBits.budget(4.5, &[size, other]), 4.5 * 1004.0);
        // 4004 bits are 500 bytes and a half; ten scales are 40 bytes.
        assert_eq!(cost(&CostModel::Bytes), 541.0);
        assert_eq!(CostModel::Bytes.budget(4096.0, &[size, other]), 4096.0);
        let table = CostModel::MultiplyAccumulates(parse(TABLE).unwrap());
        assert_eq!(cost(&table), 2000.0);
        assert_eq!(table.cost(&other, 32, 32).unwrap(), 24.0);
        assert_eq!(table.budget(1e6, &[size, other]), 1e6);
        // What is only looked up needs no entry.
        let embedding = LayerSize { weights: 9, ..LayerSize::default() };
        assert_eq!(table.cost(&embedding, 7, 32).unwrap(), 0.0);
    }

    #[test]
    fn tables_that_are_none_are_refused() {
        let message = |text: &str| parse(text).unwrap_err().to_string();
        let with = |from: &str, to: &str| message(&TABLE.replacen(from, to, 1));
        assert!(with("cost = 4", "cost = ").contains("line 10"));
        assert!(with("cost = 4", "costs = 4").contains("unknown field `costs`"));
        assert!(with("unit = \"pJ\"", "").contains("missing field `unit`"));
        assert_eq!(
            with("cost = 0.25", "cost = -1"),
            "costs.toml: the entry for 4-bit weights and 8-bit activations costs -1: \
             a number from 0 up is needed"
        );
        let twice = TABLE.replace("= 32", "= 8").replacen("weight-bits = 8", "weight-bits = 4", 1);
        assert_eq!(
            message(&twice),
            "costs.toml: the entry for 4-bit weights and 8-bit activations is there twice: remove one"
        );
        let missing = CostTable::load("no/such/file.toml".as_ref()).unwrap_err().to_string();
        assert!(missing.starts_with("cannot read the cost table no/such/file.toml"), "{missing}");
    }

    #[test]
    fn widths_that_the_table_does_not_have_are_named() {
        let table = parse(TABLE).unwrap();
        assert_eq!(table.unit(), "pJ");
        assert_eq!(
            table.cost(3, 8).unwrap_err().to_string(),
            "costs.toml has no entry for 3-bit weights and 8-bit activations; \
             add one (it has weight by activation bits: 4 x 8, 32 x 32)"
        );
        let float = table.cost(4, 32).unwrap_err().to_string();
        assert!(float.contains("32-bit activations (which stand for floats); add"), "{float}");
    }
}
