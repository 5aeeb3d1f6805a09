//! What a run left in its folder, as far as a report shows it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ReportError;
use crate::evaluate::{
    CALIBRATED, FLOAT, Histograms, LayerError, QUANTIZED, Resamples, SplitSummary, Summary,
    TensorHistogram, TensorKind,
};
use crate::files::json_reason;
use crate::quant::{CalibratedPlan, GranularitySpec, SiteKind};
use crate::tasks::error_of_difference;

/// Bytes of a parameter in float, and of a scale in the file of packed codes.
const WORD: f64 = 4.0;

/// A run, read from its folder. Of a run that is not finished, whatever is there.
#[derive(Clone, Debug)]
pub struct Run {
    /// The folder's name.
    pub name: String,
    /// The configuration, as text.
    pub(super) config: String,
    /// The values of the configuration by their keys, as `--set` names them; `[0]` is the first of a list.
    pub(super) settings: BTreeMap<String, String>,
    pub(super) summary: Option<Summary>,
    pub(super) log: Log,
    pub(super) tensors: Vec<Tensor>,
    pub(super) histograms: Vec<TensorHistogram>,
    /// The metric over the bootstrap's draws of the examples; none of a run of an older version.
    pub(super) resamples: Vec<Resamples>,
}

/// The metric of one split at each stage where it was measured.
pub(super) struct MetricRow {
    pub(super) split: String,
    pub(super) metric: String,
    pub(super) examples: usize,
    /// Of the float, the calibrated and the quantized model.
    pub(super) values: [Option<f64>; 3],
    /// Their standard errors over the examples.
    pub(super) errors: [Option<f64>; 3],
    /// That of the change from the first to the last of them, on the same examples.
    pub(super) error_of_change: Option<f64>,
}

impl Run {
    /// The metric of every split, then whatever else was measured there; none before the run is finished.
    pub(super) fn metrics(&self) -> Vec<MetricRow> {
        let Some(summary) = &self.summary else { return Vec::new() };
        let SplitSummary { float, calibrated, quantized } = &summary.splits;
        let mut rows = Vec::new();
        for score in float {
            let names = score.others.iter().map(|other| other.name.as_str());
            for metric in std::iter::once(self.metric()).chain(names) {
                let measured = [float, calibrated, quantized].map(|scores| {
                    let score = scores.iter().find(|other| other.split == score.split)?;
                    let other = score.others.iter().find(|other| other.name == metric);
                    match metric == self.metric() {
                        true => Some((score.value, score.standard_error)),
                        false => other.map(|other| (other.value, other.standard_error)),
                    }
                });
                let of_stage = |stage| Resamples::find(&self.resamples, stage, &score.split);
                let last = if measured[2].is_some() { QUANTIZED } else { CALIBRATED };
                let error_of_change = (metric == self.metric())
                    .then(|| {
                        error_of_difference(of_stage(FLOAT), of_stage(last), |from, to| to - from)
                    })
                    .flatten();
                rows.push(MetricRow {
                    error_of_change,
                    split: score.split.clone(),
                    metric: metric.to_string(),
                    examples: score.examples,
                    values: measured.map(|found| Some(found?.0)),
                    errors: measured.map(|found| found?.1),
                });
            }
        }
        rows
    }
}

/// `metrics.jsonl`.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) float: StageLog,
    pub(super) quantized: StageLog,
    /// The metric's name, where an epoch was validated.
    pub(super) metric: Option<String>,
}

/// The log of one stage. Points are (epoch, value); the loss of a step lies within its epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct StageLog {
    pub(super) steps: Vec<(f64, f64)>,
    pub(super) train_loss: Vec<(f64, f64)>,
    pub(super) valid_loss: Vec<(f64, f64)>,
    pub(super) metric: Vec<(f64, f64)>,
}

impl StageLog {
    /// The last epoch of which something is known.
    pub(super) fn epochs(&self) -> f64 {
        let points = [&self.train_loss, &self.valid_loss, &self.metric, &self.steps];
        points.into_iter().flatten().fold(0.0, |last, (epoch, _)| epoch.max(last))
    }
}

/// A quantized tensor: what the layer error log has of it, and its place in the plan.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Straight after calibration, and after fine-tuning: one of the two, or both.
    pub(super) measured: Vec<LayerError>,
    /// The weight's shape; none for an activation.
    pub(super) shape: Option<Vec<usize>>,
    /// What shares a scale.
    pub(super) granularity: Option<GranularitySpec>,
}

impl Tensor {
    /// That of the finished model, or straight after calibration where it is not finished.
    pub(super) fn last(&self) -> &LayerError {
        self.measured.last().expect("a tensor comes from a line of the log")
    }

    /// What fine-tuning started from; none where it has not ended.
    pub(super) fn before(&self) -> Option<&LayerError> {
        self.measured.iter().rev().nth(1)
    }

    pub(super) fn is_weight(&self) -> bool {
        self.last().kind == TensorKind::Weight
    }

    /// The layer's name; with the tensor's unless it is the layer's weight or input.
    pub(super) fn label(&self) -> String {
        label(&self.last().layer, &self.last().tensor, self.is_weight())
    }

    /// The coding with its bits, as in `ausn 4 bits E2 S1`.
    pub(super) fn kind(&self) -> String {
        let LayerError { coding, bits, exponent_bits, superposition_bits, .. } = self.last();
        let split = exponent_bits.zip(*superposition_bits);
        let split = split.map(|(e, s)| format!(" E{e} S{s}")).unwrap_or_default();
        format!("{coding} {bits} bits{split}")
    }
}

pub(super) fn label(layer: &str, tensor: &str, weight: bool) -> String {
    match tensor == if weight { "weight" } else { "input" } {
        true => layer.to_string(),
        false => format!("{layer} {tensor}"),
    }
}

/// What the model costs to store.
pub(super) struct Cost {
    pub(super) quantized_weights: usize,
    pub(super) bits_per_weight: Option<f64>,
    pub(super) float_bytes: f64,
    pub(super) packed_bytes: f64,
}

impl Run {
    /// Reads the folder of a run, finished or not.
    ///
    /// # Errors
    ///
    /// A folder that is no run's, and files that cannot be read or are damaged.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let no_run = |reason| ReportError::NoRun { path: path.to_path_buf(), reason };
        if !path.is_dir() {
            return Err(no_run(match path.exists() {
                true => "is a file, not the folder of a run",
                false => "there is no such run folder",
            }));
        }
        let text = |name: &str| optional(&path.join(name));
        let Some(config) = text("config.toml")? else {
            return Err(no_run("is no run folder: it holds no config.toml"));
        };
        let file = |name: &str| path.join(name);
        let damaged = |name| {
            let path = file(name);
            move |(line, reason)| match line {
                Some(line) => ReportError::Damaged { path, line: Some(line), reason },
                None => ReportError::Read { path, reason },
            }
        };
        let mut run = Self {
            name: folder_name(path),
            settings: settings(&config, file("config.toml"))?,
            config,
            summary: json(file(Summary::FILE))?,
            log: log(file("metrics.jsonl"))?,
            tensors: tensors(LayerError::read(path).map_err(damaged(LayerError::FILE))?),
            histograms: json::<Histograms>(file("histograms.json"))?.unwrap_or_default().tensors,
            resamples: Resamples::read(path).map_err(damaged(Resamples::FILE))?,
        };
        if let Some(plan) = json::<CalibratedPlan>(file("plan.json"))? {
            run.add_plan(&plan);
        }
        Ok(run)
    }

    /// Reads several runs. Those whose folders have the same name are called by their paths.
    ///
    /// # Errors
    ///
    /// Those of [`read`](Self::read), for the first run that has one.
    pub fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, ReportError> {
        let mut runs = paths.iter().map(|path| Self::read(path)).collect::<Result<Vec<_>, _>>()?;
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        for (run, path) in runs.iter_mut().zip(paths) {
            if names.iter().filter(|name| **name == run.name).count() > 1 {
                run.name = path.display().to_string();
            }
        }
        Ok(runs)
    }

    fn add_plan(&mut self, plan: &CalibratedPlan) {
        let sites: HashMap<_, _> =
            plan.sites.iter().map(|site| ((&*site.site.layer, &*site.site.tensor), site)).collect();
        for tensor in &mut self.tensors {
            let last = tensor.last();
            let site = sites.get(&(&*last.layer, &*last.tensor)).copied();
            let Some(site) = site else { continue };
            tensor.granularity = Some(site.granularity);
            if let SiteKind::Weight { shape, .. } = &site.site.kind {
                tensor.shape = Some(shape.clone());
            }
        }
    }

    /// What the model costs to store; none before the run is finished.
    pub(super) fn cost(&self) -> Option<Cost> {
        let parameters = self.summary.as_ref()?.parameters;
        let (mut quantized_weights, mut bits, mut scales) = (0, 0, 0);
        for tensor in self.tensors.iter().filter(|tensor| tensor.is_weight()) {
            let count = match &tensor.shape {
                Some(shape) => shape.iter().product(),
                None => tensor.last().values as usize,
            };
            quantized_weights += count;
            bits += count * tensor.last().bits as usize;
            scales += tensor.last().scales;
        }
        let rest = parameters.saturating_sub(quantized_weights);
        Some(Cost {
            quantized_weights,
            bits_per_weight: (quantized_weights > 0)
                .then(|| bits as f64 / quantized_weights as f64),
            float_bytes: WORD * parameters as f64,
            packed_bytes: bits.div_ceil(8) as f64 + WORD * (scales + rest) as f64,
        })
    }

    /// The name of the task's metric.
    pub(super) fn metric(&self) -> &str {
        let summary = self.summary.as_ref().map(|summary| &*summary.metric.info.name);
        summary.or(self.log.metric.as_deref()).unwrap_or("metric")
    }
}

/// The last part of a path that has a name: `runs/a` is `a`, and `.` the folder that one is in.
fn folder_name(path: &Path) -> String {
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// A file's text; none where there is no such file.
fn optional(path: &Path) -> Result<Option<String>, ReportError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(ReportError::Read { path: path.to_path_buf(), reason: error.to_string() })
        }
    }
}

fn json<T: DeserializeOwned>(path: PathBuf) -> Result<Option<T>, ReportError> {
    let Some(text) = optional(&path)? else { return Ok(None) };
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| ReportError::Damaged {
        path,
        line: (error.line() > 0).then_some(error.line() as u64),
        reason: error.to_string(),
    })
}

/// The settings of a configuration, by their keys.
fn settings(config: &str, path: PathBuf) -> Result<BTreeMap<String, String>, ReportError> {
    let table: toml::Table = toml::from_str(config).map_err(|error| ReportError::Damaged {
        path,
        line: error.span().map(|span| config[..span.start].matches('\n').count() as u64 + 1),
        reason: error.message().to_string(),
    })?;
    let mut settings = BTreeMap::new();
    collect(String::new(), &toml::Value::Table(table), &mut settings);
    Ok(settings)
}

fn collect(key: String, value: &toml::Value, settings: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let dot = if key.is_empty() { "" } else { "." };
                collect(format!("{key}{dot}{name}"), value, settings);
            }
        }
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
            for (index, item) in items.iter().enumerate() {
                collect(format!("{key}[{index}]"), item, settings);
            }
        }
        toml::Value::String(text) => {
            settings.insert(key, text.clone());
        }
        value => {
            settings.insert(key, value.to_string());
        }
    }
}

fn log(path: PathBuf) -> Result<Log, ReportError> {
    let mut log = Log::default();
    let text = optional(&path)?.unwrap_or_default();
    let mut steps = [Vec::new(), Vec::new()];
    for (index, line) in text.lines().enumerate() {
        let entry: Value = match serde_json::from_str(line) {
            Ok(entry) => entry,
            // A run that was killed, or that writes right now, leaves its last line cut.
            Err(_) if !text.ends_with('\n') && index + 1 == text.lines().count() => break,
            Err(error) => {
                let line = Some(index as u64 + 1);
                return Err(ReportError::Damaged { path, line, reason: json_reason(&error) });
            }
        };
        let (stage, steps) = match entry["stage"].as_str() {
            Some(FLOAT) => (&mut log.float, &mut steps[0]),
            Some(QUANTIZED) => (&mut log.quantized, &mut steps[1]),
            _ => continue,
        };
        let Some(epoch) = entry["epoch"].as_f64() else { continue };
        let loss = entry["loss"].as_f64().filter(|loss| loss.is_finite());
        match entry["split"].as_str() {
            None => steps.extend(loss.map(|loss| (epoch, loss))),
            Some("train") => stage.train_loss.extend(loss.map(|loss| (epoch, loss))),
            Some(_) => {
                stage.valid_loss.extend(loss.map(|loss| (epoch, loss)));
                let known = ["stage", "epoch", "split", "loss", "seconds"];
                let entry = entry.as_object().into_iter().flatten();
                for (name, value) in entry.filter(|(name, _)| !known.contains(&name.as_str())) {
                    let value = value.as_f64().filter(|value| value.is_finite());
                    stage.metric.extend(value.map(|value| (epoch, value)));
                    log.metric = Some(name.clone());
                }
            }
        }
    }
    log.float.steps = spread(&steps[0]);
    log.quantized.steps = spread(&steps[1]);
    Ok(log)
}

/// Puts the steps of each epoch at equal distances within it: those of epoch 1 lie above 0, and the
/// last one at 1.
fn spread(steps: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let epochs = steps.chunk_by(|a, b| a.0 == b.0);
    let place = |epoch: &[(f64, f64)]| -> Vec<(f64, f64)> {
        let count = epoch.len() as f64;
        let place = |(i, &(epoch, loss)): (usize, &(f64, f64))| {
            (epoch - 1.0 + (i + 1) as f64 / count, loss)
        };
        epoch.iter().enumerate().map(place).collect()
    };
    epochs.flat_map(place).collect()
}

/// The tensors of a layer error log, in its order.
fn tensors(log: Vec<LayerError>) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = Vec::new();
    for line in log {
        let is = |known: &&mut Tensor| {
            (&known.last().layer, &known.last().tensor) == (&line.layer, &line.tensor)
        };
        match tensors.iter_mut().find(is) {
            Some(known) => known.measured.push(line),
            None => {
                tensors.push(Tensor { measured: vec![line], shape: None, granularity: None });
            }
        }
    }
    tensors
}
