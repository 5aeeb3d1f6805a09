//! What every coding that a plan leaves open loses: `ausn plan --candidates`.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use super::{FROM_RUN, Failure, Global, device, needs_trained};
use crate::config::Config;
use crate::devices::Devices;
use crate::quant::{Scales, WeighedCoding, WeighedSite};
use crate::tasks::{Task, TaskVisitor};
use crate::train::{TrainError, weigh_config};

/// A tensor, and the codings that it could get.
#[derive(Serialize)]
struct Tensor {
    layer: String,
    tensor: String,
    candidates: Vec<Candidate>,
}

#[derive(Serialize)]
struct Candidate {
    coding: String,
    bits: u32,
    exponent_bits: Option<u32>,
    superposition_bits: Option<u32>,
    /// The smallest and the largest scale.
    scales: [f32; 2],
    #[serde(skip)]
    scale: String,
    /// The part of the squared error that is due to clipping.
    clipping_share: f64,
    /// Absent where there is no error.
    sqnr_db: Option<f64>,
    chosen: bool,
}

struct Weigh {
    config: Config,
    devices: Devices,
}

impl TaskVisitor for Weigh {
    type Output = Result<Vec<WeighedSite>, TrainError>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        weigh_config(&task, &self.config, self.devices.first())
    }
}

pub(super) fn run(config: Config, devices: &Devices, global: &Global) -> Result<(), Failure> {
    needs_trained(&config, FROM_RUN)?;
    let weigh = Weigh { config: config.clone(), devices: devices.clone() };
    let weighed = device::visit(config, devices, global, weigh)?;
    let tensors: Vec<Tensor> = weighed.into_iter().map(Tensor::from).collect();
    global.print(&tensors, || text(&tensors))
}

impl From<WeighedSite> for Tensor {
    fn from(weighed: WeighedSite) -> Self {
        let codings = weighed.codings.iter().enumerate();
        Self {
            candidates: codings.map(|(i, c)| Candidate::new(c, i == weighed.chosen)).collect(),
            layer: weighed.site.layer,
            tensor: weighed.site.tensor,
        }
    }
}

impl Candidate {
    fn new(coding: &WeighedCoding, chosen: bool) -> Self {
        let WeighedCoding { format, ranges, error } = coding;
        let split = format.split();
        let factors = ranges.scales.factors();
        let scales = [
            factors.iter().copied().fold(f32::INFINITY, f32::min),
            factors.iter().copied().fold(0.0, f32::max),
        ];
        let name = |scale: f32| match ranges.scales {
            Scales::RangeExponents(_) => format!("2^{}", scale.log2()),
            Scales::Scales(_) => format!("{scale:.3e}"),
        };
        Self {
            coding: format.to_string(),
            bits: format.bits(),
            exponent_bits: split.map(|(e, _)| e),
            superposition_bits: split.map(|(_, s)| s),
            scales,
            scale: match scales {
                [low, high] if low == high => name(low),
                [low, high] => format!("{} to {}", name(low), name(high)),
            },
            clipping_share: error.clipping_share(),
            sqnr_db: Some(error.sqnr_db()).filter(|db| db.is_finite()),
            chosen,
        }
    }
}

fn text(tensors: &[Tensor]) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["layer", "tensor", "coding", "bits", "scale", "clipping", "SQNR", ""]);
    for tensor in tensors {
        for candidate in &tensor.candidates {
            table.add_row([
                tensor.layer.clone(),
                tensor.tensor.clone(),
                candidate.coding.clone(),
                candidate.bits.to_string(),
                candidate.scale.clone(),
                format!("{:.1} %", 100.0 * candidate.clipping_share),
                candidate.sqnr_db.map_or("exact".into(), |db| format!("{db:.1} dB")),
                if candidate.chosen { "chosen" } else { "" }.to_string(),
            ]);
        }
    }
    for column in [3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!(
        "{table}\n{} tensors; clipping is the part of the squared error that lies outside the range; activations \
         as seen on calibration data",
        tensors.len()
    )
}
