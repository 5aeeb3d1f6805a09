//! What a run left in its folder, as far as a report shows it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ReportError;
use crate::evaluate::{CALIBRATED, FLOAT, Histograms, QUANTIZED, Resamples, TensorHistogram};
use crate::files::json_reason;
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

/// `summary.json`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) task: String,
    pub(super) metric: Named,
    pub(super) seed: u64,
    pub(super) seconds: Stages<f64>,
    pub(super) epochs: Stages<usize>,
    pub(super) parameters: u64,
    pub(super) train_examples: u64,
    pub(super) splits: Splits,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Stages<T> {
    pub(super) float: T,
    pub(super) quantized: T,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Splits {
    pub(super) float: Vec<Score>,
    pub(super) calibrated: Vec<Score>,
    pub(super) quantized: Vec<Score>,
}

/// What was measured on one split.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Score {
    pub(super) split: String,
    pub(super) value: f64,
    #[serde(default)]
    pub(super) standard_error: Option<f64>,
    pub(super) examples: u64,
    #[serde(default)]
    pub(super) others: Vec<Other>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Other {
    pub(super) name: String,
    pub(super) value: f64,
    #[serde(default)]
    pub(super) standard_error: Option<f64>,
}

/// The metric of one split at each stage where it was measured.
pub(super) struct MetricRow {
    pub(super) split: String,
    pub(super) metric: String,
    pub(super) examples: u64,
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
        let Splits { float, calibrated, quantized } = &summary.splits;
        let mut rows = Vec::new();
        for score in float {
            let names = score.others.iter().map(|other| other.name.as_str());
            for metric in std::iter::once(summary.metric.name.as_str()).chain(names) {
                let measured = [float, calibrated, quantized].map(|scores| {
                    let score = scores.iter().find(|other| other.split == score.split)?;
                    let other = score.others.iter().find(|other| other.name == metric);
                    match metric == summary.metric.name {
                        true => Some((score.value, score.standard_error)),
                        false => other.map(|other| (other.value, other.standard_error)),
                    }
                });
                let of_stage = |stage| Resamples::find(&self.resamples, stage, &score.split);
                let last = if measured[2].is_some() { QUANTIZED } else { CALIBRATED };
                let error_of_change = (metric == summary.metric.name)
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

/// A quantized tensor: its place in the plan, and its errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Tensor {
    pub(super) layer: String,
    pub(super) tensor: String,
    pub(super) weight: bool,
    /// The coding's name, where the file tells it.
    pub(super) coding: Option<String>,
    pub(super) bits: u32,
    pub(super) signed: bool,
    pub(super) exponent_bits: Option<u32>,
    pub(super) superposition_bits: Option<u32>,
    pub(super) underflow: Option<String>,
    pub(super) scales: u64,
    /// Smallest and largest range exponent.
    pub(super) range: Option<(f64, f64)>,
    /// Smallest and largest free scale.
    pub(super) scale: Option<(f64, f64)>,
    /// Numbers that the tensor has (a weight), or that passed in the evaluation (an activation).
    pub(super) values: u64,
    /// The weight's shape; none for an activation.
    pub(super) shape: Option<Vec<u64>>,
    /// What shares a scale.
    pub(super) granularity: Option<String>,
    pub(super) calibrated: Option<Errors>,
    pub(super) quantized: Option<Errors>,
}

/// What quantizing a tensor loses: sums of squares over all values measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Errors {
    pub(super) clipping: f64,
    pub(super) rounding: f64,
    pub(super) clipped_fraction: f64,
    /// None where nothing is lost.
    pub(super) sqnr_db: Option<f64>,
}

impl Errors {
    /// Clipping and rounding error over the sum of the squared values; (0, 0) where nothing is lost.
    pub(super) fn relative(&self) -> (f64, f64) {
        let total = self.clipping + self.rounding;
        let noise = self.sqnr_db.map_or(0.0, |db| 10f64.powf(-db / 10.0));
        if total > 0.0 {
            (noise * self.clipping / total, noise * self.rounding / total)
        } else {
            (0.0, 0.0)
        }
    }
}

impl Tensor {
    /// The layer's name; with the tensor's unless it is the layer's weight or input.
    pub(super) fn label(&self) -> String {
        label(&self.layer, &self.tensor, self.weight)
    }

    /// The coding with its bits, as in `ausn 4 bits E2 S1`.
    pub(super) fn kind(&self) -> String {
        let coding = self.coding.as_deref().unwrap_or("ausn");
        let split = self.exponent_bits.zip(self.superposition_bits);
        let split = split.map(|(e, s)| format!(" E{e} S{s}")).unwrap_or_default();
        format!("{coding} {} bits{split}", self.bits)
    }

    /// The errors of the finished model, or straight after calibration where it is not finished.
    pub(super) fn errors(&self) -> Option<Errors> {
        self.quantized.or(self.calibrated)
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
    pub(super) quantized_weights: u64,
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
        let mut run = Self {
            name: folder_name(path),
            settings: settings(&config, file("config.toml"))?,
            config,
            summary: json(file("summary.json"))?,
            log: log(file("metrics.jsonl"))?,
            tensors: layers(file("layers.csv"))?,
            histograms: json::<Histograms>(file("histograms.json"))?.unwrap_or_default().tensors,
            resamples: Resamples::read(path).map_err(|(line, reason)| ReportError::Damaged {
                path: file(Resamples::FILE),
                line,
                reason,
            })?,
        };
        if let Some(plan) = json::<Plan>(file("plan.json"))? {
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

    fn add_plan(&mut self, plan: &Plan) {
        let sites: HashMap<_, _> =
            plan.sites.iter().map(|site| ((&*site.site.layer, &*site.site.tensor), site)).collect();
        for tensor in &mut self.tensors {
            if let Some(site) = sites.get(&(&*tensor.layer, &*tensor.tensor)) {
                tensor.shape = site.site.kind.weight.as_ref().map(|weight| weight.shape.clone());
                tensor.granularity = match &site.granularity {
                    _ if !tensor.weight => Some("tensor".into()),
                    Value::String(name) => Some(name.trim_start_matches("per-").to_string()),
                    Value::Object(size) => {
                        size.get("per-group").map(|size| format!("group of {size}"))
                    }
                    _ => None,
                };
            }
        }
    }

    /// What the model costs to store; none before the run is finished.
    pub(super) fn cost(&self) -> Option<Cost> {
        let parameters = self.summary.as_ref()?.parameters;
        let weights = || self.tensors.iter().filter(|tensor| tensor.weight);
        let count = |tensor: &Tensor| match &tensor.shape {
            Some(shape) => shape.iter().product(),
            None => tensor.values,
        };
        let quantized_weights: u64 = weights().map(count).sum();
        let bits: f64 = weights().map(|w| count(w) as f64 * f64::from(w.bits)).sum();
        let scales: f64 = weights().map(|weight| weight.scales as f64).sum();
        let rest = parameters.saturating_sub(quantized_weights) as f64;
        Some(Cost {
            quantized_weights,
            bits_per_weight: (quantized_weights > 0).then(|| bits / quantized_weights as f64),
            float_bytes: WORD * parameters as f64,
            packed_bytes: (bits / 8.0).ceil() + WORD * (scales + rest),
        })
    }

    /// The name of the task's metric.
    pub(super) fn metric(&self) -> &str {
        let summary = self.summary.as_ref().map(|summary| &*summary.metric.name);
        summary.or(self.log.metric.as_deref()).unwrap_or("metric")
    }
}

/// The last part of a path that has a name: `runs/a` is `a`, and `.` the folder that one is in.
fn folder_name(path: &Path) -> String {
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// What a report takes from `plan.json`.
#[derive(Deserialize)]
struct Plan {
    sites: Vec<PlanSite>,
}

#[derive(Deserialize)]
struct PlanSite {
    site: Site,
    #[serde(default)]
    granularity: Value,
}

#[derive(Deserialize)]
struct Site {
    layer: String,
    tensor: String,
    kind: Kind,
}

#[derive(Deserialize)]
struct Kind {
    weight: Option<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    shape: Vec<u64>,
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

/// A row of a CSV file with a header, read by name.
struct Row<'a> {
    path: &'a Path,
    columns: &'a HashMap<String, usize>,
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    fn damaged(&self, reason: String) -> ReportError {
        let line = self.record.position().map(csv::Position::line);
        ReportError::Damaged { path: self.path.to_path_buf(), line, reason }
    }

    fn optional<T: FromStr>(&self, column: &str) -> Result<Option<T>, ReportError> {
        let text = self.columns.get(column).and_then(|&index| self.record.get(index));
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        let damaged = |_| self.damaged(format!("`{text}` under `{column}` is of another kind"));
        text.parse().map(Some).map_err(damaged)
    }

    fn required<T: FromStr>(&self, column: &str) -> Result<T, ReportError> {
        match self.optional(column)? {
            Some(value) => Ok(value),
            None if self.columns.contains_key(column) => {
                Err(self.damaged(format!("nothing stands under `{column}`")))
            }
            None => Err(self.damaged(format!("there is no column `{column}`"))),
        }
    }
}

fn layers(path: PathBuf) -> Result<Vec<Tensor>, ReportError> {
    let Some(text) = optional(&path)? else { return Ok(Vec::new()) };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let damaged = |error: csv::Error| ReportError::Damaged {
        path: path.clone(),
        line: error.position().map(csv::Position::line),
        reason: error.to_string(),
    };
    let columns: HashMap<String, usize> = {
        let header = reader.headers().map_err(damaged)?.iter();
        header.enumerate().map(|(index, name)| (name.to_string(), index)).collect()
    };
    let mut tensors: Vec<Tensor> = Vec::new();
    for record in reader.records() {
        let record = record.map_err(damaged)?;
        let row = Row { path: &path, columns: &columns, record: &record };
        let stage: String = row.required("stage")?;
        let errors = Some(Errors {
            clipping: row.required("clipping_error")?,
            rounding: row.required("rounding_error")?,
            clipped_fraction: row.optional("clipped_fraction")?.unwrap_or(0.0),
            sqnr_db: row.optional("sqnr_db")?,
        });
        let kind: String = row.required("kind")?;
        let ends = |low: &str, high: &str| -> Result<Option<(f64, f64)>, ReportError> {
            Ok(row.optional(low)?.zip(row.optional(high)?))
        };
        let mut tensor = Tensor {
            layer: row.required("layer")?,
            tensor: row.required("tensor")?,
            weight: kind == "weight",
            coding: row.optional("coding")?,
            bits: row.required("bits")?,
            signed: row.optional("signed")?.unwrap_or(true),
            exponent_bits: row.optional("exponent_bits")?,
            superposition_bits: row.optional("superposition_bits")?,
            underflow: row.optional("underflow")?,
            scales: row.optional("scales")?.unwrap_or(1),
            range: ends("range_min", "range_max")?,
            scale: ends("scale_min", "scale_max")?,
            values: row.optional("values")?.unwrap_or(0),
            ..Tensor::default()
        };
        let known = tensors
            .iter()
            .position(|known| (&known.layer, &known.tensor) == (&tensor.layer, &tensor.tensor));
        match known {
            Some(index) => {
                tensor.calibrated = tensors[index].calibrated;
                tensor.quantized = tensors[index].quantized;
                tensors[index] = tensor;
            }
            None => tensors.push(tensor),
        }
        let index = known.unwrap_or(tensors.len() - 1);
        match stage.as_str() {
            CALIBRATED => tensors[index].calibrated = errors,
            QUANTIZED => tensors[index].quantized = errors,
            _ => {}
        }
    }
    Ok(tensors)
}
