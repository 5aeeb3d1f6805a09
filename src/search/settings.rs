//! What a search may choose from, and what it may spend.

use serde::Deserialize;

use super::{CostModel, Objective};

/// `[quant.search]`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Bits that a quantized weight may have on average.
    pub average_bits: Option<f64>,
    /// Bytes that all quantized weights may take together, packed, with a byte for each range.
    pub bytes: Option<u64>,
    /// What is minimized.
    pub objective: Objective,
    /// The fewest bits of a weight.
    pub fewest_bits: u32,
    /// The most bits of a weight.
    pub most_bits: u32,
}

impl Default for SearchConfig {
    /// No budget yet; 2 to 8 bits.
    fn default() -> Self {
        let objective = Objective::default();
        Self { average_bits: None, bytes: None, objective, fewest_bits: 2, most_bits: 8 }
    }
}

impl SearchConfig {
    /// What is wrong with it: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// Two budgets or none, an impossible one, and bits that no coding has.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let Self { average_bits, bytes, fewest_bits, most_bits, .. } = *self;
        if !(2..=16).contains(&fewest_bits) {
            return Err(("fewest-bits", format!("is {fewest_bits}; must be 2 to 16")));
        }
        if !(fewest_bits..=16).contains(&most_bits) {
            let message = format!("is {most_bits}; must be fewest-bits ({fewest_bits}) to 16");
            return Err(("most-bits", message));
        }
        match (average_bits, bytes) {
            (None, None) => {
                let message = "is missing; give it, or bytes = (a number of bytes)".to_string();
                Err(("average-bits", message))
            }
            (Some(_), Some(_)) => {
                Err(("bytes", "stands beside average-bits; give one of the two".to_string()))
            }
            (Some(bits), None) if !(bits >= f64::from(fewest_bits) && bits.is_finite()) => {
                let message = format!("is {bits}; must be at least fewest-bits ({fewest_bits})");
                Err(("average-bits", message))
            }
            _ => Ok(()),
        }
    }

    /// How cost is counted, and the limit in that unit.
    pub(super) fn budget(&self) -> (CostModel, f64) {
        match (self.average_bits, self.bytes) {
            (Some(bits), _) => (CostModel::AverageBits, bits),
            (None, bytes) => (CostModel::Bytes, bytes.unwrap_or(u64::MAX) as f64),
        }
    }
}
