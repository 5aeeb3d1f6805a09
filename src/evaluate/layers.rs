//! The layer error log: clipping against rounding error of every quantized tensor.

use std::fmt;
use std::io;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::coding::QuantizationError;
use crate::quant::CalibratedSite;

/// The quantization error of one tensor (of `coding`'s definition: sums of squares over all values
/// measured, a weight's once, an activation's over the evaluation data).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayerError {
    /// When it was measured: `calibrated` or `quantized`, with the epoch in a log of epochs.
    pub stage: String,
    /// The layer.
    pub layer: String,
    /// Which of its tensors.
    pub tensor: String,
    /// `weight` or `activation`.
    pub kind: &'static str,
    /// Bits of a code word.
    pub bits: u32,
    /// Whether one of them is a sign.
    pub signed: bool,
    /// Exponent bits E.
    pub exponent_bits: u32,
    /// Superposition bits S.
    pub superposition_bits: u32,
    /// The underflow rule.
    pub underflow: String,
    /// Scales of the tensor.
    pub scales: usize,
    /// Smallest range exponent r among them.
    pub range_min: i32,
    /// Largest range exponent r among them.
    pub range_max: i32,
    /// Values measured.
    pub values: u64,
    /// Sum of squared errors outside the representable range.
    pub clipping_error: f64,
    /// Sum of squared errors inside it.
    pub rounding_error: f64,
    /// Part of the values outside the range.
    pub clipped_fraction: f64,
    /// Clipping error over the sum of both.
    pub clipping_share: f64,
    /// Signal to quantization noise in dB; absent where there is no noise.
    pub sqnr_db: Option<f64>,
}

impl LayerError {
    /// The log entry of a calibrated tensor.
    pub fn new(stage: &str, site: &CalibratedSite, error: &QuantizationError) -> Self {
        let ranges = &site.range_exponents;
        let sqnr = error.sqnr_db();
        Self {
            stage: stage.to_string(),
            layer: site.site.layer.clone(),
            tensor: site.site.tensor.clone(),
            kind: if site.site.kind.is_weight() { "weight" } else { "activation" },
            bits: site.format.bits(),
            signed: site.format.signed(),
            exponent_bits: site.format.exponent_bits(),
            superposition_bits: site.format.superposition_bits(),
            underflow: site.format.underflow().to_string(),
            scales: ranges.len(),
            range_min: ranges.iter().copied().min().unwrap_or(0),
            range_max: ranges.iter().copied().max().unwrap_or(0),
            values: error.count,
            clipping_error: error.clipping,
            rounding_error: error.rounding,
            clipped_fraction: error.clipped_fraction(),
            clipping_share: error.clipping_share(),
            sqnr_db: sqnr.is_finite().then_some(sqnr),
        }
    }
}

/// Layer errors as a table for a terminal.
pub struct LayerTable<'a>(pub &'a [LayerError]);

impl fmt::Display for LayerTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table
            .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header([
                "layer", "tensor", "bits", "E", "S", "r", "clipping", "rounding", "clipped", "SQNR",
            ]);
        for error in self.0 {
            table.add_row([
                error.layer.clone(),
                error.tensor.clone(),
                format!("{}{}", error.bits, if error.signed { "" } else { "u" }),
                error.exponent_bits.to_string(),
                error.superposition_bits.to_string(),
                match error.range_min == error.range_max {
                    true => error.range_min.to_string(),
                    false => format!("{}..{}", error.range_min, error.range_max),
                },
                format!("{:.3e}", error.clipping_error),
                format!("{:.3e}", error.rounding_error),
                format!("{:.2} %", 100.0 * error.clipped_fraction),
                error.sqnr_db.map_or("exact".into(), |db| format!("{db:.1} dB")),
            ]);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

/// Writes layer errors as CSV with a header.
///
/// # Errors
///
/// If the writer fails.
pub fn write_csv<W: io::Write>(errors: &[LayerError], writer: W) -> io::Result<()> {
    let mut csv = csv::Writer::from_writer(writer);
    for error in errors {
        csv.serialize(error).map_err(io::Error::other)?;
    }
    csv.flush()
}
