//! The layer error log: clipping against rounding error of every quantized tensor.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::{Deserialize, Serialize};

use crate::coding::{Family, QuantizationError};
use crate::quant::{CalibratedSite, Scales};

/// What a tensor is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TensorKind {
    /// A weight.
    Weight,
    /// An activation.
    Activation,
}

/// The quantization error of one tensor (of `coding`'s definition: sums of squares over all values
/// measured, a weight's once, an activation's over the evaluation data).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerError {
    /// When it was measured: `calibrated` or `quantized`, with the epoch in a log of epochs.
    pub stage: String,
    /// The layer.
    pub layer: String,
    /// Which of its tensors.
    pub tensor: String,
    /// `weight` or `activation`.
    pub kind: TensorKind,
    /// The family of its coding.
    pub coding: Family,
    /// Bits of a code word.
    pub bits: u32,
    /// Whether negative numbers have levels.
    pub signed: bool,
    /// Exponent bits E, of a coding that has them.
    pub exponent_bits: Option<u32>,
    /// Superposition bits S, or mantissa bits of a float.
    pub superposition_bits: Option<u32>,
    /// The underflow rule of AUSN.
    pub underflow: Option<String>,
    /// Scales of the tensor.
    pub scales: usize,
    /// Smallest range exponent r among them; absent where scales are free.
    pub range_min: Option<i32>,
    /// Largest range exponent r among them; absent where scales are free.
    pub range_max: Option<i32>,
    /// Smallest free scale; absent where scales are powers of two.
    pub scale_min: Option<f32>,
    /// Largest free scale; absent where scales are powers of two.
    pub scale_max: Option<f32>,
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
    // Said, so that a file without the column is refused.
    #[serde(deserialize_with = "Option::deserialize")]
    pub sqnr_db: Option<f64>,
}

impl LayerError {
    /// The name of the file in a run's folder.
    pub const FILE: &str = "layers.csv";

    /// Those in a run's folder, or in what a suite keeps of it; none where there is no such file: nothing is
    /// quantized, or not yet.
    ///
    /// # Errors
    ///
    /// The line, from 1, and the reason, where the file holds something else; no line, where it cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<Self>, (Option<u64>, String)> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = fs::read_to_string(path).map_err(|error| (None, error.to_string()))?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().cloned().map_err(|error| damaged(&error, None))?;
        let lines: Result<_, csv::Error> = reader.deserialize().collect();
        lines.map_err(|error| damaged(&error, Some(&header)))
    }

    /// The log entry of a calibrated tensor.
    pub fn new(stage: &str, site: &CalibratedSite, error: &QuantizationError) -> Self {
        let scales = &site.ranges.scales;
        let exponents = match scales {
            Scales::RangeExponents(exponents) => &exponents[..],
            Scales::Scales(_) => &[],
        };
        let free = match scales {
            Scales::RangeExponents(_) => &[],
            Scales::Scales(scales) => &scales[..],
        };
        let split = site.format.split();
        let mut entry = Self {
            stage: stage.to_string(),
            layer: site.site.layer.clone(),
            tensor: site.site.tensor.clone(),
            kind: match site.site.kind.is_weight() {
                true => TensorKind::Weight,
                false => TensorKind::Activation,
            },
            coding: site.format.family(),
            bits: site.format.bits(),
            signed: site.format.signed(),
            exponent_bits: split.map(|(e, _)| e),
            superposition_bits: split.map(|(_, s)| s),
            underflow: site.format.underflow().map(|rule| rule.to_string()),
            scales: scales.len(),
            range_min: exponents.iter().copied().min(),
            range_max: exponents.iter().copied().max(),
            scale_min: free.iter().copied().min_by(f32::total_cmp),
            scale_max: free.iter().copied().max_by(f32::total_cmp),
            values: 0,
            clipping_error: 0.0,
            rounding_error: 0.0,
            clipped_fraction: 0.0,
            clipping_share: 0.0,
            sqnr_db: None,
        };
        entry.measured(error);
        entry
    }

    /// The same tensor with another measurement.
    pub(crate) fn measured(&mut self, error: &QuantizationError) {
        let sqnr = error.sqnr_db();
        self.values = error.count;
        self.clipping_error = error.clipping;
        self.rounding_error = error.rounding;
        self.clipped_fraction = error.clipped_fraction();
        self.clipping_share = error.clipping_share();
        self.sqnr_db = sqnr.is_finite().then_some(sqnr);
    }

    /// Clipping and rounding error over the sum of the squared values; (0, 0) where nothing is lost.
    pub(super) fn relative(&self) -> (f64, f64) {
        let total = self.clipping_error + self.rounding_error;
        let noise = self.sqnr_db.map_or(0.0, |db| 10f64.powf(-db / 10.0));
        match total > 0.0 {
            true => (noise * self.clipping_error / total, noise * self.rounding_error / total),
            false => (0.0, 0.0),
        }
    }

    /// The signal to quantization noise ratio, as it is told.
    pub(super) fn sqnr(&self) -> String {
        self.sqnr_db.map_or("exact".into(), |db| format!("{db:.1} dB"))
    }

    /// The range exponents, or the free scales: one, or the smallest and the largest with a word between.
    pub(super) fn range(&self, between: &str) -> Option<String> {
        let ends = |low: String, high: String| match low == high {
            true => low,
            false => format!("{low}{between}{high}"),
        };
        match (self.range_min.zip(self.range_max), self.scale_min.zip(self.scale_max)) {
            (Some((low, high)), _) => Some(ends(low.to_string(), high.to_string())),
            (_, Some((low, high))) => Some(ends(format!("{low:.3e}"), format!("{high:.3e}"))),
            _ => None,
        }
    }
}

/// Where a log cannot be understood, and why.
fn damaged(error: &csv::Error, header: Option<&csv::StringRecord>) -> (Option<u64>, String) {
    let line = error.position().map(csv::Position::line);
    let csv::ErrorKind::Deserialize { err, .. } = error.kind() else {
        return (line, error.to_string());
    };
    let column = err.field().zip(header).and_then(|(field, names)| names.get(field as usize));
    let reason = match column {
        Some(column) => format!("under `{column}`: {}", err.kind()),
        None => err.kind().to_string(),
    };
    (line, reason)
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
                "layer",
                "tensor",
                "coding",
                "bits",
                "E",
                "S",
                "r or scale",
                "clipping",
                "rounding",
                "clipped",
                "SQNR",
            ]);
        let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
        for error in self.0 {
            table.add_row([
                error.layer.clone(),
                error.tensor.clone(),
                error.coding.to_string(),
                format!("{}{}", error.bits, if error.signed { "" } else { "u" }),
                number(error.exponent_bits),
                number(error.superposition_bits),
                error.range("..").unwrap_or_default(),
                format!("{:.3e}", error.clipping_error),
                format!("{:.3e}", error.rounding_error),
                format!("{:.2} %", 100.0 * error.clipped_fraction),
                error.sqnr(),
            ]);
        }
        for column in table.column_iter_mut().skip(3) {
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
