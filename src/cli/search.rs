//! `ausn search`

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::device::DeviceArgs;
use super::{FROM_RUN, Failure, Global, Overrides, check_out, device, needs_trained, write};
use crate::config::Config;
use crate::devices::Devices;
use crate::quant::{
    CodingSpec, Estimator, GranularitySpec, LearnedRange, QuantSpec, RangeRule, ScaleKind,
};
use crate::search::{CostTable, Found, LayerCandidate, MeasuredLoss, Objective, SearchConfig};
use crate::tasks::{Task, TaskVisitor};
use crate::train::{TrainError, search_config};

/// Choose a coding for each weight under a budget.
#[derive(Args)]
pub(super) struct SearchArgs {
    /// The configuration, a TOML file. Its model should be trained: name a run with
    /// `--set train.float-checkpoint=RUN`, or a pretrained model.
    config: PathBuf,
    /// Bits that a quantized weight may have on average.
    #[arg(long, value_name = "BITS", group = "budget", allow_negative_numbers = true)]
    average_bits: Option<f64>,
    /// Bytes that all quantized weights may take together, packed, with four for each range exponent.
    #[arg(long, value_name = "BYTES", group = "budget")]
    bytes: Option<u64>,
    /// What the multiply-accumulates of all quantized weights may cost together for one example, in the
    /// unit of the cost table.
    #[arg(long, value_name = "LIMIT", group = "budget", allow_negative_numbers = true)]
    cost: Option<f64>,
    /// The cost of a multiply-accumulate for each pair of widths, a TOML file: `unit = "pJ"`, and
    /// [[multiply-accumulate]] with weight-bits, activation-bits (32 for floats) and cost.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["average_bits", "bytes"])]
    cost_table: Option<PathBuf>,
    /// What is minimized.
    #[arg(long, value_enum)]
    objective: Option<Objective>,
    /// The fewest bits of a weight.
    #[arg(long, value_name = "BITS")]
    fewest_bits: Option<u32>,
    /// The most bits of a weight.
    #[arg(long, value_name = "BITS")]
    most_bits: Option<u32>,
    /// Write the plan to this file, for `ausn train CONFIG --plan FILE`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show the error of every candidate of every layer.
    #[arg(long)]
    candidates: bool,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

impl SearchArgs {
    /// What `[quant.search]` says, overridden by the command line.
    fn settings(&self, config: &Config) -> Result<SearchConfig, Failure> {
        let mut settings = config.quant.search.clone().unwrap_or_default();
        if let Some(file) = &self.cost_table {
            settings.cost_table = Some(CostTable::load(file)?);
        }
        if self.average_bits.is_some() || self.bytes.is_some() || self.cost.is_some() {
            (settings.average_bits, settings.bytes) = (self.average_bits, self.bytes);
            settings.cost = self.cost;
            settings.cost_table = settings.cost_table.filter(|_| self.cost.is_some());
        }
        settings.objective = self.objective.unwrap_or(settings.objective);
        settings.fewest_bits = self.fewest_bits.unwrap_or(settings.fewest_bits);
        settings.most_bits = self.most_bits.unwrap_or(settings.most_bits);
        settings
            .validate()
            .map_err(|(key, message)| Failure::refused(format!("--{key} {message}")))?;
        Ok(settings)
    }
}

struct Search {
    config: Config,
    devices: Devices,
}

impl TaskVisitor for Search {
    type Output = Result<Found, TrainError>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        search_config(&task, &self.config, self.devices.first())
    }
}

pub(super) fn run(args: SearchArgs, global: &Global) -> Result<(), Failure> {
    let devices = args.device.device()?;
    let mut config = args.overrides.load(&args.config)?;
    if let Some(out) = &args.out {
        check_out(out, "plan of `ausn search`", |text| text.starts_with(FIRST_WORDS))?;
    }
    config.quant.search = Some(args.settings(&config)?);
    needs_trained(&config, FROM_RUN)?;
    let search = Search { config: config.clone(), devices: devices.clone() };
    let found = device::visit(config, &devices, global, search)?;
    let written =
        args.out.as_ref().map_or(Ok(()), |out| write(out, plan(&found, &args.config).as_bytes()));
    // What was found is shown in any case.
    global.print(&found, || text(&found, &args, written.is_ok()))?;
    written
}

/// How a plan begins.
const FIRST_WORDS: &str = "# Chosen by `ausn search";

/// The chosen codings as rules of a configuration.
fn plan(found: &Found, config: &Path) -> String {
    let mut text = format!(
        "{FIRST_WORDS} {}` for {}: {:.4} bits a weight.\n",
        config.display(),
        name(found.objective),
        found.average_bits(),
    );
    for (layer, candidate) in found.chosen() {
        let tensor = (layer.layer.as_str(), layer.tensor.as_str());
        rule(&mut text, tensor, "weight", &layer.spec, candidate);
    }
    for activation in &found.activations {
        let tensor = (activation.layer.as_str(), activation.tensor.as_str());
        rule(&mut text, tensor, "activation", &activation.spec, activation.chosen());
    }
    text
}

/// Adds the rule for one tensor, unless its coding was not open. It says everything of the tensor: what
/// it leaves out would be that of `[quant]` again, whatever rules stood between.
fn rule(
    text: &mut String,
    (layer, tensor): (&str, &str),
    key: &str,
    spec: &QuantSpec,
    candidate: &LayerCandidate,
) {
    let CodingSpec::Ausn { split: None, underflow, .. } = spec.coding else { return };
    let Some((e, s)) = candidate.format.split() else { return };
    let (pattern, tensor) = (toml::Value::from(globset::escape(layer)), toml::Value::from(tensor));
    let mut coding = format!(
        "coding = \"ausn\", exponent-bits = {e}, superposition-bits = {s}, underflow = \"{underflow}\""
    );
    let learned = spec.learned.map_or("none", LearnedRange::name);
    let _ = write!(
        coding,
        ", {}, learn-range = \"{learned}\", {}, estimator = \"{}\"",
        scale(spec.scale),
        range(spec.range),
        estimator(spec.estimator),
    );
    if key == "weight" {
        let (granularity, normalize) = (granularity(spec.granularity), spec.normalize);
        let _ = write!(coding, ", {granularity}, normalize = {normalize}");
    }
    let _ =
        write!(text, "\n[[layer]]\nmatch = {pattern}\ntensor = {tensor}\n{key} = {{ {coding} }}\n");
}

fn scale(kind: ScaleKind) -> &'static str {
    match kind {
        ScaleKind::PowerOfTwo => "scale = \"power-of-two\"",
        ScaleKind::Free => "scale = \"free\"",
    }
}

fn estimator(estimator: Estimator) -> &'static str {
    match estimator {
        Estimator::Clipped => "clipped",
        Estimator::Identity => "identity",
    }
}

fn range(rule: RangeRule) -> String {
    match rule {
        RangeRule::Max | RangeRule::Binade => "range = \"max\"".into(),
        RangeRule::Mse => "range = \"mse\"".into(),
        RangeRule::Percentile(p) => format!("range = \"percentile\", percentile = {p:?}"),
        RangeRule::EmaMax(decay) => format!("range = \"ema-max\", ema-decay = {decay:?}"),
        RangeRule::Fixed(r) => format!("range = \"fixed\", range-exponent = {r}"),
    }
}

fn granularity(granularity: GranularitySpec) -> String {
    match granularity {
        GranularitySpec::PerTensor => "granularity = \"per-tensor\"".into(),
        GranularitySpec::PerChannel => "granularity = \"per-channel\"".into(),
        GranularitySpec::PerGroup(size) => {
            format!("granularity = \"per-group\", group-size = {size}")
        }
    }
}

pub(super) fn name(objective: Objective) -> &'static str {
    match objective {
        Objective::SquaredError => "least squared error of the weights",
        Objective::Divergence => "least divergence of the weights' distributions",
        Objective::OutputError => "least squared error of the layers' outputs",
        Objective::Fisher => "least estimated rise of the loss",
        Objective::Loss => "least rise of the loss, each weight coded alone",
    }
}

fn text(found: &Found, args: &SearchArgs, written: bool) -> String {
    let counted = found.layers.iter().filter_map(|layer| layer.multiply_accumulates);
    let macs = counted.reduce(|a, b| a + b);
    let size = if macs.is_some() { "MACs" } else { "weights" };
    let mut table = Table::new();
    table
        .load_style(presets::ASCII_BORDERS_ONLY_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["layer", "tensor", size, "coding", "bits", "SQNR", "error", ""]);
    let mut add =
        |name: [&String; 2], size: String, candidates: &[LayerCandidate], chosen: usize| {
            for (index, candidate) in candidates.iter().enumerate() {
                if !args.candidates && index != chosen {
                    continue;
                }
                table.add_row([
                    name[0].clone(),
                    name[1].clone(),
                    size.clone(),
                    candidate.coding.clone(),
                    candidate.bits.to_string(),
                    candidate.sqnr_db.map_or("exact".into(), |db| format!("{db:.1} dB")),
                    format!("{:.3e}", candidate.error),
                    if args.candidates && index == chosen { "chosen" } else { "" }.to_string(),
                ]);
            }
        };
    for (layer, &chosen) in found.layers.iter().zip(&found.choice.candidates) {
        let size = layer.multiply_accumulates.unwrap_or(layer.weights).to_string();
        add([&layer.layer, &layer.tensor], size, &layer.candidates, chosen);
    }
    for found in &found.activations {
        add([&found.layer, &found.tensor], String::new(), &found.candidates, found.chosen);
    }
    for column in [2, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!(
        "{table}\n{}: {:.4e} in all; {:.3} bits a weight on average",
        name(found.objective),
        found.choice.error,
        found.average_bits()
    );
    if let Some(macs) = macs {
        let (cost, unit) = (found.choice.cost, &found.cost_unit);
        let _ = write!(text, "; {macs} MACs for one example cost {cost:.5e} {unit}");
    }
    if let Some(MeasuredLoss { float, chosen, refined }) = found.loss {
        let _ = write!(
            text,
            "\nloss on calibration data: {float:.4e} in float, {chosen:.4e} where errors add up least, \
             {refined:.4e} after other E and S were tried beside them"
        );
    }
    if !found.activations.is_empty() {
        let count = found.activations.len();
        let _ = write!(
            text,
            "\nE and S of {count} activations, outside of the budget, each of least divergence"
        );
    }
    let gap = found.choice.error - found.choice.lower_bound;
    let _ = match found.choice.is_optimal() {
        true => write!(text, "\nno choice within the budget has less"),
        false => write!(text, "\nno choice within the budget has less by more than {gap:.1e}"),
    };
    if let Some(out) = args.out.as_ref().filter(|_| written) {
        let _ = write!(text, "\nplan: {}", out.display());
    }
    text
}
