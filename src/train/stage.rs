//! One stage of training, resumable.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::train::checkpoint::CheckpointerError;
use burn::train::metric::store::EventStoreClient;
use burn::train::{EarlyStoppingStrategy, Interrupter, Learner, SupervisedTraining, TrainingError};

use super::checkpoint::{self, FileCheckpointer, KeepLastAndBest, PARTS};
use super::log::RunLog;
use super::optimizer::{optimizer, schedule};
use super::run_folder::{read_record, write_record};
use super::{EpochLoader, Interrupt, PartLoader, Progress, RunFolder, TrainError};
use crate::config::{EarlyStopping, Select, StageConfig};
use crate::devices::Devices;
use crate::evaluate::{LayerError, take_errors, write_csv};
use crate::quant::Quantizers;
use crate::tasks::Task;

/// A stage and where it runs.
pub(super) struct Stage<'a, T> {
    pub(super) name: &'static str,
    pub(super) task: &'a T,
    pub(super) config: StageConfig,
    pub(super) seed: u64,
    pub(super) evaluation_batch_size: usize,
    pub(super) run: &'a RunFolder,
    pub(super) devices: &'a Devices,
    pub(super) progress: Progress,
    pub(super) interrupt: &'a Interrupt,
}

impl<T: Task> Stage<'_, T> {
    /// The epoch after which the stage goes on: 0 where it has not begun.
    pub(super) fn finished(&self) -> Result<usize, TrainError> {
        let epochs = self.config.epochs;
        if epochs == 0 {
            return Ok(0);
        }
        let folder = self.run.checkpoints(self.name)?;
        let finished = checkpoint::latest_epoch(&folder).min(epochs);
        if finished > 0 {
            checkpoint::check(&folder, finished)?;
            self.progress.line(&format!("{}: resuming after epoch {finished}/{epochs}", self.name));
        }
        Ok(finished)
    }

    /// Trains a model until an epoch is over, from its last checkpoint where there is one.
    ///
    /// With `quantizers`, the errors of all quantized tensors on the validation data are logged
    /// after every epoch.
    pub(super) fn train(
        &self,
        network: T::Network,
        quantizers: Option<&Quantizers>,
        until: usize,
    ) -> Result<T::Network, TrainError> {
        let epochs = self.config.epochs;
        if until == 0 {
            return Ok(network);
        }
        let folder = self.run.checkpoints(self.name)?;
        let finished = checkpoint::latest_epoch(&folder).min(until);
        let interrupter = Interrupter::new();
        let log = RunLog::open(
            self.run,
            self.name,
            finished,
            epochs,
            self.task.metric(),
            self.devices.len(),
            self.progress,
            interrupter.clone(),
        )?;
        let patience = Patience { log: log.clone(), rule: self.config.early_stopping };

        let learner = if finished == until || patience.exhausted(finished) {
            let learner = self.task.learner(network);
            read_record(&checkpoint::model_path(&folder, finished), learner)?
        } else {
            let network = network.train();
            let span = finished..until;
            self.run_epochs(network, quantizers, &folder, span, &log, patience, interrupter)?
        };
        let learner = match (self.config.select, log.best_epoch()) {
            (Select::Best, Some(best)) => {
                read_record(&checkpoint::model_path(&folder, best), learner)?
            }
            _ => learner,
        };
        Ok(self.task.network_of(learner))
    }

    /// Puts a model in the place of the one in an epoch's checkpoint.
    pub(super) fn replace(&self, epoch: usize, network: T::Network) -> Result<(), TrainError> {
        let folder = self.run.checkpoints(self.name)?;
        let path = checkpoint::model_path(&folder, epoch);
        write_record(&path, self.task.learner(network))
    }

    #[allow(clippy::too_many_arguments)]
    fn run_epochs(
        &self,
        network: T::Network,
        quantizers: Option<&Quantizers>,
        folder: &Path,
        Range { start: finished, end: until }: Range<usize>,
        log: &RunLog,
        patience: Patience,
        interrupter: Interrupter,
    ) -> Result<T::Learner, TrainError> {
        let source = self.task.train_source();
        let steps = source.len().div_ceil(self.config.batch_size);
        let device = self.devices.first();
        let train = EpochLoader::new(source, self.config.batch_size, device)
            .shuffled(self.seed)
            .after(finished);
        let train = PartLoader::new(train, self.devices.len());
        let validation = self.task.evaluation_splits().swap_remove(0).source;
        let mut valid = EpochLoader::new(validation, self.evaluation_batch_size, device);
        if let Some(quantizers) = quantizers {
            let (start, end) = (quantizers.clone(), quantizers.clone());
            let layers = LayerLog::open(self.run, self.name, finished)?;
            valid = valid
                .after(finished)
                .hooks(move |_| start.measure(), move |epoch| layers.append(epoch, &end));
        }
        self.interrupt.watch(&interrupter);
        let mut training = SupervisedTraining::<T::Learner>::new(
            self.run.path(),
            std::sync::Arc::new(train),
            std::sync::Arc::new(valid),
        )
        .with_training_strategy(self.devices.execution().into())
        .num_epochs(until)
        .label(self.name)
        .with_application_logger(None)
        .with_metric_logger(log.clone())
        .with_interrupter(interrupter.clone())
        .renderer(self.progress.renderer(interrupter, (finished > 0).then_some(finished)))
        .with_custom_checkpointers(
            FileCheckpointer::new(folder, PARTS[0]),
            FileCheckpointer::new(folder, PARTS[1]),
            FileCheckpointer::new(folder, PARTS[2]),
        )
        .with_checkpointing_strategy(KeepLastAndBest { log: log.clone() });
        if finished > 0 {
            training = training.checkpoint(finished);
        }
        if patience.rule.is_some() {
            training = training.early_stopping(patience);
        }
        let learner = Learner::new(
            self.task.learner(network),
            optimizer(&self.config),
            schedule(&self.config, steps),
        );
        let result = self.task.register(training).launch(learner);

        if let Some(fault) = log.take_fault() {
            return Err(fault);
        }
        if let Some(error) = result.error {
            let reason = match &*error {
                TrainingError::Checkpoint(CheckpointerError::Unknown(reason)) => reason.clone(),
                error => error.to_string(),
            };
            return Err(TrainError::Training { stage: self.name, reason });
        }
        if result.interrupted.is_some() {
            return Err(TrainError::Interrupted { stage: self.name });
        }
        Ok(result.model)
    }
}

/// Stops after some epochs without a better validation metric; all it knows stands in the log, so
/// that a resumed run stops where an uninterrupted one does.
#[derive(Clone)]
struct Patience {
    log: RunLog,
    rule: Option<EarlyStopping>,
}

impl Patience {
    fn exhausted(&self, epoch: usize) -> bool {
        match (self.rule, self.log.best_epoch()) {
            (Some(rule), Some(best)) => epoch >= best + rule.patience,
            _ => false,
        }
    }
}

impl EarlyStoppingStrategy for Patience {
    fn should_stop(&mut self, epoch: usize, store: &EventStoreClient) -> bool {
        self.log.catch_up(epoch, store);
        self.exhausted(epoch)
    }
}

/// `layers-by-epoch.csv`.
struct LayerLog {
    path: std::path::PathBuf,
    stage: &'static str,
}

impl LayerLog {
    const FILE: &'static str = "layers-by-epoch.csv";

    /// Drops what an interrupted run logged of epochs after `finished`.
    fn open(run: &RunFolder, stage: &'static str, finished: usize) -> Result<Self, TrainError> {
        let path = run.file(Self::FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let epoch = |line: &str| line.split(',').next()?.rsplit(' ').next()?.parse::<usize>().ok();
        let keep = |line: &&str| epoch(line).is_none_or(|epoch| epoch <= finished);
        let kept: String = text.lines().filter(keep).flat_map(|line| [line, "\n"]).collect();
        run.write(Self::FILE, if finished == 0 { b"" } else { kept.as_bytes() })?;
        Ok(Self { path, stage })
    }

    /// A log that cannot be written does not stop training: the same figures stand in `layers.csv`
    /// at its end.
    fn append(&self, epoch: usize, quantizers: &Quantizers) {
        let errors = take_errors(quantizers, &format!("{} epoch {epoch}", self.stage));
        if let Err(error) = self.write(&errors) {
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }

    fn write(&self, errors: &[LayerError]) -> io::Result<()> {
        let mut text = Vec::new();
        write_csv(errors, &mut text)?;
        let is_empty = fs::metadata(&self.path).map_or(0, |m| m.len()) == 0;
        let header =
            if is_empty { 0 } else { text.iter().position(|&b| b == b'\n').unwrap_or(0) + 1 };
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&self.path)?;
        io::Write::write_all(&mut file, &text[header..])
    }
}
