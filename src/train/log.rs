//! The metrics log of a run.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use burn::train::Interrupter;
use burn::train::logger::MetricLogger;
use burn::train::metric::store::{Aggregate, EpochSummary, EventStoreClient, MetricsUpdate, Split};
use burn::train::metric::{MetricDefinition, MetricId, NumericEntry};
use serde_json::{Map, Value, json};

use super::{Progress, RunFolder, TrainError};
use crate::tasks::MetricInfo;

const FILE: &str = "metrics.jsonl";
const LOSS: &str = "Loss";

/// The metrics log of a run: `metrics.jsonl`, and what is needed of it while a stage runs.
///
/// One line for each training step (`stage`, `epoch`, `step`, `loss`) and one for each epoch and
/// split (`stage`, `epoch`, `split`, `loss`, on the validation split the metric, `seconds`).
#[derive(Clone)]
pub(super) struct RunLog(Arc<Mutex<Inner>>);

struct Inner {
    file: File,
    path: PathBuf,
    stage: &'static str,
    metric: MetricInfo,
    epochs: usize,
    progress: Progress,
    interrupter: Interrupter,
    names: HashMap<MetricId, String>,
    /// What burn-train asks back.
    entries: HashMap<(String, usize, &'static str), Vec<NumericEntry>>,
    /// Metric of the validation split after each epoch.
    history: Vec<(usize, f64)>,
    step: usize,
    /// Losses of the current step's parts, of which there are as many as devices.
    parts: Vec<f64>,
    devices: usize,
    epoch_start: Instant,
    fault: Option<TrainError>,
}

impl RunLog {
    /// Opens the log for a stage of which `finished` epochs are done; lines of later epochs, from
    /// a run that was killed, are dropped.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn open(
        run: &RunFolder,
        stage: &'static str,
        finished: usize,
        epochs: usize,
        metric: MetricInfo,
        devices: usize,
        progress: Progress,
        interrupter: Interrupter,
    ) -> Result<Self, TrainError> {
        let path = run.file(FILE);
        let fail = |action: &'static str| {
            let path = path.clone();
            move |error: std::io::Error| TrainError::File {
                action,
                path,
                reason: error.to_string(),
            }
        };
        let text = match path.exists() {
            true => std::fs::read_to_string(&path).map_err(fail("read"))?,
            false => String::new(),
        };
        let mut kept = String::new();
        let mut history = Vec::new();
        for line in text.lines() {
            // A line that was cut by a kill is the last one, and of an epoch that is repeated.
            let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
            let own = entry["stage"] == stage;
            let epoch = entry["epoch"].as_u64().unwrap_or(0) as usize;
            if own && epoch > finished {
                continue;
            }
            if let (true, "valid", Some(value)) =
                (own, entry["split"].as_str().unwrap_or(""), entry[metric.name].as_f64())
            {
                history.push((epoch, value));
            }
            kept.push_str(line);
            kept.push('\n');
        }
        if kept != text {
            run.write(FILE, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&path);
        Ok(Self(Arc::new(Mutex::new(Inner {
            file: file.map_err(fail("write"))?,
            path: path.clone(),
            stage,
            metric,
            epochs,
            progress,
            interrupter,
            names: HashMap::new(),
            entries: HashMap::new(),
            history,
            step: 0,
            parts: Vec::new(),
            devices,
            epoch_start: Instant::now(),
            fault: None,
        }))))
    }

    /// Waits until the log has everything of an epoch: burn-train feeds it from another thread,
    /// which answers questions in the order in which it is given events.
    pub(super) fn catch_up(&self, epoch: usize, store: &EventStoreClient) {
        let _ = store.find_metric(LOSS, epoch, Aggregate::Mean, &Split::Valid);
    }

    /// The epoch with the best validation metric, the first of equals.
    pub(super) fn best_epoch(&self) -> Option<usize> {
        let inner = self.inner();
        let better = |a: f64, b: f64| if inner.metric.higher_is_better { a > b } else { a < b };
        let mut best: Option<(usize, f64)> = None;
        for &(epoch, value) in &inner.history {
            if best.is_none_or(|(_, b)| better(value, b)) {
                best = Some((epoch, value));
            }
        }
        best.map(|(epoch, _)| epoch)
    }

    /// What ended training, if the log saw it.
    pub(super) fn take_fault(&self) -> Option<TrainError> {
        self.inner().fault.take()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many epochs of a stage are finished, and the seconds that they took.
pub(super) fn finished_epochs(run: &RunFolder, stage: &str) -> (usize, f64) {
    let text = std::fs::read_to_string(run.file(FILE)).unwrap_or_default();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_stage = entries.filter(|e| e["stage"] == stage && e["split"] == "valid");
    let seconds = of_stage.filter_map(|entry| entry["seconds"].as_f64());
    seconds.fold((0, 0.0), |(count, sum), seconds| (count + 1, sum + seconds))
}

impl Inner {
    fn write(&mut self, entry: Value) {
        if let Err(error) = writeln!(self.file, "{entry}") {
            self.stop(TrainError::File {
                action: "write",
                path: self.path.clone(),
                reason: error.to_string(),
            });
        }
    }

    fn stop(&mut self, fault: TrainError) {
        self.interrupter.stop(Some("see the fault in the log"));
        self.fault.get_or_insert(fault);
    }

    /// Logs a training step: the loss of the joined batch is the mean over its parts (see `Share`).
    fn step(&mut self, epoch: usize) {
        let loss = self.parts.iter().sum::<f64>() / self.devices as f64;
        self.parts.clear();
        self.step += 1;
        self.write(json!({
            "stage": self.stage, "epoch": epoch, "step": self.step, "loss": loss,
        }));
        if !loss.is_finite() {
            self.stop(TrainError::NonFiniteLoss { stage: self.stage, epoch, loss });
        }
    }

    /// The value of an epoch as burn-train computed it at the epoch's end.
    fn final_value(&self, name: &str, epoch: usize, split: &'static str) -> Option<f64> {
        match self.entries.get(&(name.to_string(), epoch, split))?.last()? {
            NumericEntry::Final(value) => Some(*value),
            _ => None,
        }
    }
}

impl MetricLogger for RunLog {
    fn log(&mut self, update: MetricsUpdate, epoch: usize, split: &Split) {
        let inner = &mut *self.inner();
        let split: &'static str = split.clone().into();
        for numeric in update.entries_numeric {
            let Some(name) = inner.names.get(&numeric.entry.metric_id).cloned() else { continue };
            let Some(entry) = numeric.numeric_entry else { continue };
            let is_step = !matches!(entry, NumericEntry::Final(_));
            if name == LOSS && split == "train" && is_step {
                inner.parts.push(entry.current());
                if inner.parts.len() == inner.devices {
                    inner.step(epoch);
                }
            }
            inner.entries.entry((name, epoch, split)).or_default().push(entry);
        }
    }

    fn read_numeric(
        &mut self,
        name: &str,
        epoch: usize,
        split: &Split,
    ) -> Result<Vec<NumericEntry>, String> {
        let key = (name.to_string(), epoch, split.clone().into());
        Ok(self.inner().entries.get(&key).cloned().unwrap_or_default())
    }

    fn log_metric_definition(&mut self, definition: MetricDefinition) {
        self.inner().names.insert(definition.metric_id, definition.name.to_string());
    }

    fn log_epoch_summary(&mut self, summary: EpochSummary) {
        let inner = &mut *self.inner();
        let epoch = summary.epoch_number;
        let split: &'static str = summary.split.into();
        let loss = inner.final_value(LOSS, epoch, split);
        let value = inner.final_value(inner.metric.name, epoch, split);
        let seconds = inner.epoch_start.elapsed().as_secs_f64();

        let mut entry = Map::new();
        entry.insert("stage".into(), inner.stage.into());
        entry.insert("epoch".into(), epoch.into());
        entry.insert("split".into(), split.into());
        entry.insert("loss".into(), json!(loss));
        if split == "valid" {
            entry.insert(inner.metric.name.into(), json!(value));
        }
        entry.insert("seconds".into(), json!(seconds));
        inner.write(Value::Object(entry));

        if split == "valid" {
            // An epoch whose metric is not defined is no candidate for the best one.
            let defined = value.filter(|value| value.is_finite());
            inner.history.extend(defined.map(|value| (epoch, value)));
            let train = inner.final_value(LOSS, epoch, "train");
            let show = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.4}"));
            inner.progress.stage_line(&format!(
                "{} epoch {epoch}/{}  train loss {}  valid loss {}  valid {} {}  {seconds:.1} s",
                inner.stage,
                inner.epochs,
                show(train),
                show(loss),
                inner.metric.name,
                show(value),
            ));
            (inner.step, inner.epoch_start) = (0, Instant::now());
        }
    }
}
