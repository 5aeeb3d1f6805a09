//! `ausn plan`

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::device::DeviceArgs;
use super::{Failure, Global, Overrides, candidates, device, search};
use crate::config::Config;
use crate::quant::{
    CodingSpec, GranularitySpec, LearnedRange, PlanEntry, RangeRule, ScaleKind, Site, SiteKind,
    sites,
};
use crate::search::{SearchConfig, check as check_search};
use crate::tasks::{Task, TaskVisitor};
use crate::train::{TrainError, initial_network};

/// The name of no coding.
const FLOAT: &str = "float";

/// Show the plan of a configuration.
#[derive(Args)]
pub(super) struct PlanArgs {
    /// The configuration, a TOML file.
    config: PathBuf,
    /// Show what every coding that the plan leaves open loses, and which one calibration chooses. The model should
    /// be trained: name a run with `--set train.float-checkpoint=RUN`, or a pretrained model.
    #[arg(long)]
    candidates: bool,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

/// A tensor and what it becomes.
#[derive(Serialize)]
struct Row {
    layer: String,
    tensor: String,
    shape: Option<Vec<usize>>,
    coding: &'static str,
    bits: Option<u32>,
    exponent_bits: Option<u32>,
    superposition_bits: Option<u32>,
    underflow: Option<String>,
    granularity: Option<String>,
    range: Option<String>,
    scale: Option<&'static str>,
    learn_range: Option<&'static str>,
    normalized: bool,
}

struct Plan {
    config: Config,
    device: Device,
}

impl TaskVisitor for Plan {
    type Output = Result<Vec<Row>, TrainError>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        let network = initial_network(&task, &self.config, &self.device)?;
        let sites = sites(&network);
        let plan = self.config.quant.plan(&sites)?;
        if self.config.quant.fold_batch_norm && !plan.entries.is_empty() {
            // What training would refuse.
            task.fold_batch_norm(network)?;
        }
        let search = self.config.quant.search.as_ref();
        if let Some(settings) = search {
            check_search(&plan, settings)?;
        }
        let entry = |site: &Site| plan.entries.iter().find(|entry| entry.site == *site);
        Ok(sites.iter().map(|site| row(site, entry(site), search)).collect())
    }
}

pub(super) fn run(args: PlanArgs, global: &Global) -> Result<(), Failure> {
    let devices = args.device.device()?;
    let config = args.overrides.load(&args.config)?;
    if args.candidates {
        return candidates::run(config, &devices, global);
    }
    let search = config.quant.search.clone();
    let plan = Plan { config: config.clone(), device: devices.first().clone() };
    let rows = device::visit(config, &devices, global, plan)?;
    global.print(&rows, || table(&rows, search.as_ref()))
}

fn row(site: &Site, entry: Option<&PlanEntry>, search: Option<&SearchConfig>) -> Row {
    let (shape, non_negative) = match &site.kind {
        SiteKind::Weight { shape, .. } => (Some(shape.clone()), false),
        SiteKind::Activation { non_negative } => (None, *non_negative),
    };
    let spec = entry.map(|entry| entry.spec);
    let coding = spec.map(|spec| spec.coding);
    let format = match coding {
        // E and S are chosen from data.
        None | Some(CodingSpec::Ausn { split: None, .. }) => None,
        Some(coding) => coding.candidates(!non_negative).ok().map(|formats| formats[0]),
    };
    let split = format.and_then(|format| format.split());
    let searched = search.is_some() && site.kind.is_weight() && format.is_none();
    Row {
        layer: site.layer.clone(),
        tensor: site.tensor.clone(),
        shape,
        coding: coding.map_or(FLOAT, |coding| coding.family().name()),
        bits: coding.and_then(|coding| coding.bits(!non_negative).ok()).filter(|_| !searched),
        exponent_bits: split.map(|(e, _)| e),
        superposition_bits: split.map(|(_, s)| s),
        underflow: match coding {
            Some(CodingSpec::Ausn { underflow, .. }) => Some(underflow.to_string()),
            _ => None,
        },
        granularity: spec.map(|spec| match (spec.granularity, &site.kind) {
            (GranularitySpec::PerChannel, SiteKind::Weight { .. }) => "channel".into(),
            (GranularitySpec::PerGroup(size), SiteKind::Weight { .. }) => {
                format!("group of {size}")
            }
            _ => "tensor".into(),
        }),
        range: spec.map(|spec| match spec.range {
            RangeRule::Max => "max".into(),
            RangeRule::Mse => "mse".into(),
            RangeRule::Percentile(p) => format!("percentile {p}"),
            RangeRule::EmaMax(decay) => format!("ema-max {decay}"),
            RangeRule::Fixed(r) => format!("fixed {r}"),
            RangeRule::Binade => "binade of the maximum".into(),
        }),
        scale: spec.map(|spec| match spec.scale {
            ScaleKind::PowerOfTwo => "power-of-two",
            ScaleKind::Free => "free",
        }),
        learn_range: spec.and_then(|spec| spec.learned).map(LearnedRange::name),
        normalized: spec.is_some_and(|spec| spec.normalize),
    }
}

fn table(rows: &[Row], search: Option<&SearchConfig>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header([
            "layer",
            "tensor",
            "shape",
            "coding",
            "bits",
            "E",
            "S",
            "scale per",
            "range",
            "scale",
        ]);
    for row in rows {
        let number = |n: Option<u32>| match (row.coding, n) {
            (_, Some(n)) => n.to_string(),
            ("ausn", None) => "*".into(),
            (_, None) => String::new(),
        };
        let scale = match (row.scale, row.learn_range) {
            (Some(scale), Some(rule)) => format!("{scale}, {rule}"),
            (scale, _) => scale.unwrap_or_default().to_string(),
        };
        let mut range = row.range.clone().unwrap_or_default();
        if row.normalized {
            range += ", normalized";
        }
        let shape = row.shape.as_deref().unwrap_or_default();
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        table.add_row([
            row.layer.clone(),
            row.tensor.clone(),
            shape.join(" x "),
            row.coding.to_string(),
            number(row.bits),
            number(row.exponent_bits),
            number(row.superposition_bits),
            row.granularity.clone().unwrap_or_default(),
            range,
            scale,
        ]);
    }
    let quantized = rows.iter().filter(|row| row.coding != FLOAT).count();
    let by_search = search.map_or(String::new(), |settings| {
        let whose = match settings.chooses_activations() {
            true => "",
            false => "of weights ",
        };
        format!(
            "{whose}by the search ([quant.search]: {}), else ",
            search::name(settings.objective)
        )
    });
    let chosen = match quantized {
        0 => String::new(),
        _ => format!("; * is chosen from data in calibration, {by_search}by least squared error"),
    };
    format!("{table}\n{quantized} of {} tensors are quantized{chosen}", rows.len())
}
