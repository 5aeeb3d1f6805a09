//! What a search may choose from, and what it may spend.

use serde::Deserialize;

use super::{CostModel, CostTable, Objective, SearchError, activations};
use crate::quant::Plan;

/// `[quant.search]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SearchConfig {
    /// Bits that a quantized weight may have on average.
    pub average_bits: Option<f64>,
    /// Bytes that all quantized weights may take together, packed, with four for each range exponent.
    pub bytes: Option<u64>,
    /// What the multiply-accumulates of all quantized weights may cost together for one example, in the unit of
    /// `cost_table`: those of a training example as calibration runs it, at the width that the plan gives the input.
    /// Embeddings have none, and products of two activations are not counted.
    pub cost: Option<f64>,
    /// What one of them costs, with 32 bits for floats of whatever precision. A configuration may name a file; a run
    /// keeps the table in its own configuration.
    pub cost_table: Option<CostTable>,
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
        Self {
            average_bits: None,
            bytes: None,
            cost: None,
            cost_table: None,
            objective: Objective::default(),
            fewest_bits: 2,
            most_bits: 8,
        }
    }
}

impl SearchConfig {
    /// What is wrong with it: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// Several budgets or none, an impossible one, and bits that no coding has.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        let Self { fewest_bits, most_bits, .. } = *self;
        if !(2..=16).contains(&fewest_bits) {
            return Err(("fewest-bits", format!("is {fewest_bits}; must be 2 to 16")));
        }
        if !(fewest_bits..=16).contains(&most_bits) {
            let message = format!("is {most_bits}; must be fewest-bits ({fewest_bits}) to 16");
            return Err(("most-bits", message));
        }
        match (self.average_bits, self.bytes, self.cost) {
            (None, None, None) => {
                let message =
                    "is missing; give it, or bytes, or cost with the file of a cost-table";
                return Err(("average-bits", message.to_string()));
            }
            (Some(_), Some(_), _) => return Err(beside("bytes", "average-bits")),
            (Some(_), _, Some(_)) => return Err(beside("cost", "average-bits")),
            (_, Some(_), Some(_)) => return Err(beside("cost", "bytes")),
            (Some(bits), ..) if !(bits > 0.0 && bits.is_finite()) => {
                let message = format!("is {bits}; must be a number above 0");
                return Err(("average-bits", message));
            }
            (_, _, Some(cost)) if !(cost >= 0.0 && cost.is_finite()) => {
                return Err(("cost", format!("is {cost}; must be a number from 0 up")));
            }
            _ => {}
        }
        match &self.cost_table {
            None if self.cost.is_some() => {
                let message = "is missing beside cost; name a file that has the cost of a \
                               multiply-accumulate for each pair of widths";
                Err(("cost-table", message.to_string()))
            }
            Some(_) if self.cost.is_none() => {
                Err(("cost-table", "belongs to cost, which is missing".to_string()))
            }
            Some(table) => {
                table.validate().map_err(|problem| ("cost-table", format!("is refused: {problem}")))
            }
            None => Ok(()),
        }
    }

    /// Whether the search for a plan needs activations on calibration data.
    pub(crate) fn observes(&self, plan: &Plan) -> bool {
        self.chooses_activations() && plan.entries.iter().any(activations::is_open)
            || self.objective == Objective::OutputError
            || self.cost.is_some()
    }

    /// Whether E and S of activations follow the objective; if not, calibration chooses them by least squared error.
    pub(crate) fn chooses_activations(&self) -> bool {
        self.objective == Objective::Divergence
    }

    /// How cost is counted, and the limit.
    pub(super) fn budget(&self) -> Result<(CostModel, f64), SearchError> {
        self.validate().map_err(|(key, message)| SearchError::Settings { key, message })?;
        Ok(match (self.average_bits, self.bytes, self.cost, &self.cost_table) {
            (Some(bits), ..) => (CostModel::AverageBits, bits),
            (_, Some(bytes), ..) => (CostModel::Bytes, bytes as f64),
            (_, _, Some(cost), Some(table)) => {
                (CostModel::MultiplyAccumulates(table.clone()), cost)
            }
            _ => unreachable!("valid settings have a budget, and a table beside a cost"),
        })
    }
}

fn beside(key: &'static str, other: &str) -> (&'static str, String) {
    (key, format!("stands beside {other}; give one of the two"))
}
