//! `[train]`: the stages, their optimizers and schedules.

use std::path::PathBuf;

use serde::Deserialize;

use super::Problem;
use crate::devices::{DeviceName, OptimizerPlacement, Strategy};
use crate::kernels::Precision;

/// `[train]`: what both stages share, and what each has of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TrainConfig {
    /// Seed of everything random: weights, order of the data, dropout, splits, generated data.
    pub seed: u64,
    /// Examples in a batch of an evaluation.
    pub evaluation_batch_size: usize,
    /// Training batches that calibration observes.
    pub calibration_batches: usize,
    /// Precision of the operands of products, where the device has it.
    pub precision: Precision,
    /// The devices to train on; the fastest one of this build by default.
    pub devices: Option<Vec<DeviceName>>,
    /// How they share the work; by default `multi-device` where there are several.
    pub strategy: Option<Strategy>,
    /// Where `multi-device` runs the optimizer; on the first device by default.
    pub optimizer_placement: Option<OptimizerPlacement>,
    /// Start from the float model of this run folder instead of training one.
    pub float_checkpoint: Option<PathBuf>,
    /// Defaults of both stages: see [`StageConfig`].
    pub epochs: Option<usize>,
    /// See [`StageConfig::batch_size`].
    pub batch_size: Option<usize>,
    /// See [`StageConfig::optimizer`].
    pub optimizer: Option<Optimizer>,
    /// See [`StageConfig::range_learning_rate`].
    pub range_learning_rate: Option<f64>,
    /// See [`StageConfig::range_weight_decay`].
    pub range_weight_decay: Option<f64>,
    /// See [`StageConfig::schedule`].
    pub schedule: Option<Schedule>,
    /// See [`StageConfig::gradient_clip_norm`].
    pub gradient_clip_norm: Option<f64>,
    /// See [`StageConfig::early_stopping`].
    pub early_stopping: Option<EarlyStopping>,
    /// See [`StageConfig::select`].
    pub select: Option<Select>,
    /// The float stage.
    pub float: RawStage,
    /// The quantization-aware stage.
    pub quantized: RawStage,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 42,
            evaluation_batch_size: 256,
            calibration_batches: 16,
            precision: Precision::default(),
            devices: None,
            strategy: None,
            optimizer_placement: None,
            float_checkpoint: None,
            epochs: None,
            batch_size: None,
            optimizer: None,
            range_learning_rate: None,
            range_weight_decay: None,
            schedule: None,
            gradient_clip_norm: None,
            early_stopping: None,
            select: None,
            float: RawStage::default(),
            quantized: RawStage::default(),
        }
    }
}

/// `[train.float]`, `[train.quantized]`: what differs from `[train]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RawStage {
    epochs: Option<usize>,
    batch_size: Option<usize>,
    optimizer: Option<Optimizer>,
    range_learning_rate: Option<f64>,
    range_weight_decay: Option<f64>,
    schedule: Option<Schedule>,
    gradient_clip_norm: Option<f64>,
    early_stopping: Option<EarlyStopping>,
    select: Option<Select>,
}

/// One stage with everything filled in.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Passes over the training data; 0 leaves the stage out.
    pub epochs: usize,
    /// Examples in a batch.
    pub batch_size: usize,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// The largest learning rate of ranges that train; that of the weights where not given. A
    /// power-of-two range moves only when its logarithm has moved by a half, which takes a rate of
    /// its own: TQT's authors (arXiv 1903.08066) train thresholds at 0.01.
    pub range_learning_rate: Option<f64>,
    /// Weight decay of ranges that train: the penalty by which PACT (arXiv 1805.06085, section 3) keeps its
    /// clipping level from growing with whatever is clipped; there it is that of the weights.
    pub range_weight_decay: f64,
    /// How the learning rates change.
    pub schedule: Schedule,
    /// Largest norm of each parameter's gradient; longer ones are scaled down.
    pub gradient_clip_norm: Option<f64>,
    /// When to stop before the last epoch.
    pub early_stopping: Option<EarlyStopping>,
    /// Which epoch's model goes on.
    pub select: Select,
}

/// The optimizers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).
    Adamw,
    /// Stochastic gradient descent, with momentum.
    Sgd,
}

/// `optimizer = { ... }`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Optimizer {
    /// Which one.
    pub name: OptimizerName,
    /// The largest learning rate of the schedule.
    pub learning_rate: f64,
    /// Weight decay; biases and normalization parameters have none.
    #[serde(default)]
    pub weight_decay: f64,
    /// Momentum of `sgd`.
    pub momentum: Option<f64>,
}

/// The learning-rate schedules there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleName {
    /// The same all the time.
    Constant,
    /// Down to 0 in a straight line.
    Linear,
    /// Down to 0 along half a cosine.
    Cosine,
    /// Times `factor` after every `every` epochs, counted from the end of the warm-up.
    Step,
}

/// `schedule = { ... }`
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Schedule {
    /// Which one.
    pub name: ScheduleName,
    /// Part of all steps (0 to 1) in which the rate first rises from 0 in a straight line.
    #[serde(default)]
    pub warmup: f64,
    /// Epochs between two steps of `step`.
    pub every: Option<usize>,
    /// What the rate is multiplied with at each step of `step`.
    pub factor: Option<f64>,
}

/// `early-stopping = { patience = n }`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EarlyStopping {
    /// Stop after this many epochs without a better validation metric.
    pub patience: usize,
}

/// Which epoch's model goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// The last one.
    #[default]
    Last,
    /// The one with the best validation metric. Its figure is then chosen on the data that it is
    /// measured on.
    Best,
}

impl TrainConfig {
    /// The float stage with everything filled in.
    pub fn float_stage(&self) -> StageConfig {
        self.stage(&self.float)
    }

    /// The quantization-aware stage with everything filled in.
    pub fn quantized_stage(&self) -> StageConfig {
        self.stage(&self.quantized)
    }

    /// How the devices share the work.
    pub fn strategy(&self) -> Strategy {
        let several = self.devices.as_ref().is_some_and(|devices| devices.len() > 1);
        let default = if several { Strategy::MultiDevice } else { Strategy::Single };
        self.strategy.unwrap_or(default)
    }

    fn stage(&self, own: &RawStage) -> StageConfig {
        StageConfig {
            epochs: own.epochs.or(self.epochs).unwrap_or(1),
            batch_size: own.batch_size.or(self.batch_size).unwrap_or(32),
            optimizer: own.optimizer.or(self.optimizer).unwrap_or(Optimizer {
                name: OptimizerName::Adamw,
                learning_rate: 1e-3,
                weight_decay: 0.01,
                momentum: None,
            }),
            range_learning_rate: own.range_learning_rate.or(self.range_learning_rate),
            range_weight_decay: own.range_weight_decay.or(self.range_weight_decay).unwrap_or(0.0),
            schedule: own.schedule.or(self.schedule).unwrap_or(Schedule {
                name: ScheduleName::Linear,
                warmup: 0.0,
                every: None,
                factor: None,
            }),
            gradient_clip_norm: own.gradient_clip_norm.or(self.gradient_clip_norm),
            early_stopping: own.early_stopping.or(self.early_stopping),
            select: own.select.or(self.select).unwrap_or_default(),
        }
    }

    pub(super) fn validate(&self) -> Result<(), Problem> {
        for (key, value) in [
            ("train.evaluation-batch-size", self.evaluation_batch_size),
            ("train.calibration-batches", self.calibration_batches),
        ] {
            if value == 0 {
                return Err(Problem::new(key, "is 0; must be at least 1"));
            }
        }
        for (table, own, stage) in [
            ("train.float", &self.float, self.float_stage()),
            ("train.quantized", &self.quantized, self.quantized_stage()),
        ] {
            stage.validate(table, own)?;
        }
        self.validate_devices()
    }

    fn validate_devices(&self) -> Result<(), Problem> {
        let fail = |key: &str, message: String| Err(Problem::new(format!("train.{key}"), message));
        let Some(devices) = &self.devices else {
            return match (self.strategy, self.optimizer_placement) {
                (Some(Strategy::MultiDevice | Strategy::Ddp), _) => fail(
                    "strategy",
                    "needs devices = [...] beside it, with two devices or more".into(),
                ),
                (_, Some(_)) => fail("optimizer-placement", PLACEMENT.into()),
                _ => Ok(()),
            };
        };
        for (i, device) in devices.iter().enumerate() {
            if devices[..i].iter().any(|earlier| earlier.same_device(device)) {
                return fail(&format!("devices.{i}"), format!("names {device} for a second time"));
            }
            if device.backend() != devices[0].backend() {
                let message = format!(
                    "is {device} beside {}; all devices must be of one backend of this machine, or \
                     all remote",
                    devices[0]
                );
                return fail(&format!("devices.{i}"), message);
            }
        }
        let strategy = self.strategy();
        match (strategy, devices.len()) {
            (_, 0) => {
                return fail("devices", "names no device; leave it out for the default".into());
            }
            (Strategy::Single, 2..) => {
                let message = format!(
                    "is \"single\" with {} devices; use \"multi-device\" or \"ddp\"",
                    devices.len()
                );
                return fail("strategy", message);
            }
            (Strategy::MultiDevice | Strategy::Ddp, 1) => {
                return fail("strategy", "needs two devices or more; there is one".into());
            }
            _ => {}
        }
        if strategy == Strategy::Ddp && devices[0].backend() != Some("cuda") {
            return fail("strategy", format!("is \"ddp\" on {}; {DDP}", devices[0]));
        }
        if strategy != Strategy::MultiDevice && self.optimizer_placement.is_some() {
            return fail("optimizer-placement", PLACEMENT.into());
        }
        for (table, own, stage) in [
            ("train.float", &self.float, self.float_stage()),
            ("train.quantized", &self.quantized, self.quantized_stage()),
        ] {
            if stage.batch_size < devices.len() {
                let table = if own.batch_size.is_some() { table } else { "train" };
                return Err(Problem::new(
                    format!("{table}.batch-size"),
                    format!(
                        "is {}; {} devices share a batch, each needs an example at least",
                        stage.batch_size,
                        devices.len()
                    ),
                ));
            }
        }
        Ok(())
    }
}

const PLACEMENT: &str = "belongs to the strategy \"multi-device\"; leave it out";

/// cubecl-runtime 0.11.3 has `all_reduce` for CUDA alone; burn-remote 0.22.1 refuses it between
/// servers.
const DDP: &str = "Burn reduces gradients between the CUDA devices of one machine only; use \
                   \"multi-device\"";

impl StageConfig {
    /// `own` tells which keys stand in the stage's own table and which in `[train]`.
    fn validate(&self, table: &str, own: &RawStage) -> Result<(), Problem> {
        let fail = |is_own: bool, key: &str, message: String| {
            let table = if is_own { table } else { "train" };
            Err(Problem::new(format!("{table}.{key}"), message))
        };
        if self.batch_size == 0 {
            return fail(own.batch_size.is_some(), "batch-size", "is 0; must be at least 1".into());
        }
        let Optimizer { name, learning_rate, weight_decay, momentum } = self.optimizer;
        let is_own = own.optimizer.is_some();
        let range_rate = self.range_learning_rate;
        for (is_own, key, rate) in [
            (is_own, "optimizer.learning-rate", Some(learning_rate)),
            (own.range_learning_rate.is_some(), "range-learning-rate", range_rate),
        ] {
            if let Some(rate) = rate.filter(|&rate| !(rate > 0.0 && rate <= 1.0)) {
                let message = format!("is {rate}; must be above 0 and at most 1");
                return fail(is_own, key, message);
            }
        }
        let range_decay = self.range_weight_decay;
        for (is_own, key, decay) in [
            (is_own, "optimizer.weight-decay", weight_decay),
            (own.range_weight_decay.is_some(), "range-weight-decay", range_decay),
        ] {
            if !(0.0..1.0).contains(&decay) {
                let message = format!("is {decay}; must be at least 0 and below 1");
                return fail(is_own, key, message);
            }
        }
        match (name, momentum) {
            (OptimizerName::Adamw, Some(_)) => {
                let message = "belongs to `sgd`; adamw has its own, leave it out".into();
                return fail(is_own, "optimizer.momentum", message);
            }
            (_, Some(m)) if !(0.0..1.0).contains(&m) => {
                let message = format!("is {m}; must be at least 0 and below 1");
                return fail(is_own, "optimizer.momentum", message);
            }
            _ => {}
        }
        let Schedule { name, warmup, every, factor } = self.schedule;
        let is_own = own.schedule.is_some();
        if !(0.0..1.0).contains(&warmup) {
            let message = format!("is {warmup}; must be at least 0 and below 1");
            return fail(is_own, "schedule.warmup", message);
        }
        match (name, every, factor) {
            (ScheduleName::Step, Some(1..), Some(f)) if f > 0.0 && f < 1.0 => {}
            (ScheduleName::Step, ..) => {
                let message =
                    "`step` needs every = (epochs, at least 1) and factor = (between 0 and 1)";
                return fail(is_own, "schedule", message.into());
            }
            (_, None, None) => {}
            _ => {
                let message = "`every` and `factor` belong to the schedule `step`".into();
                return fail(is_own, "schedule", message);
            }
        }
        if let Some(norm) = self.gradient_clip_norm
            && !(norm > 0.0 && norm.is_finite())
        {
            let message = format!("is {norm}; must be above 0");
            return fail(own.gradient_clip_norm.is_some(), "gradient-clip-norm", message);
        }
        if self.early_stopping == Some(EarlyStopping { patience: 0 }) {
            let message = "is 0; must be at least 1".into();
            return fail(own.early_stopping.is_some(), "early-stopping.patience", message);
        }
        Ok(())
    }
}
