//! Checkpoints that are whole or absent.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use burn::optim::lr_scheduler::LrSchedulerRecord;
use burn::store::ModuleRecord;
use burn::train::checkpoint::{
    Checkpoint, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::metric::store::EventStoreClient;

use super::TrainError;
use super::log::RunLog;

/// What a checkpoint of an epoch is made of.
pub(super) const PARTS: [&str; 3] = ["model", "optimizer", "schedule"];

/// Saves one part of each epoch's checkpoint.
pub(super) struct FileCheckpointer {
    folder: PathBuf,
    part: &'static str,
}

impl FileCheckpointer {
    pub(super) fn new(folder: &Path, part: &'static str) -> Self {
        Self { folder: folder.to_path_buf(), part }
    }

    fn path(&self, epoch: usize) -> PathBuf {
        part_path(&self.folder, self.part, epoch)
    }
}

fn part_path(folder: &Path, part: &str, epoch: usize) -> PathBuf {
    folder.join(format!("{part}-{epoch}.bpk"))
}

impl<R: Checkpoint> Checkpointer<R> for FileCheckpointer {
    fn save(&self, epoch: usize, record: R) -> Result<(), CheckpointerError> {
        // Burn writes records under another name and renames them.
        let path = self.path(epoch);
        record.save(path.clone()).map_err(|error| {
            CheckpointerError::Unknown(format!("cannot write {}: {error}", path.display()))
        })
    }

    fn delete(&self, epoch: usize) -> Result<(), CheckpointerError> {
        match fs::remove_file(self.path(epoch)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(CheckpointerError::IOError(error))
            }
            _ => Ok(()),
        }
    }

    fn restore(&self, epoch: usize) -> Result<R, CheckpointerError> {
        R::load(self.path(epoch))
    }
}

/// Saves every epoch; keeps the last two (the newest may still be on its way to the disk when a
/// run is killed) and the best one.
pub(super) struct KeepLastAndBest {
    pub(super) log: RunLog,
}

impl CheckpointingStrategy for KeepLastAndBest {
    fn checkpointing(
        &mut self,
        epoch: usize,
        store: &EventStoreClient,
    ) -> Vec<CheckpointingAction> {
        self.log.catch_up(epoch, store);
        let best = self.log.best_epoch();
        let old = (1..epoch.saturating_sub(1)).filter(|&e| Some(e) != best);
        let mut actions: Vec<_> = old.map(CheckpointingAction::Delete).collect();
        actions.insert(0, CheckpointingAction::Save);
        actions
    }
}

/// The last epoch whose checkpoint is complete; 0 for none.
pub(super) fn latest_epoch(folder: &Path) -> usize {
    let epochs_of = |part: &str| -> BTreeSet<usize> {
        let names = fs::read_dir(folder).into_iter().flatten().flatten();
        let epoch = |name: String| {
            name.strip_prefix(part)?.strip_prefix('-')?.strip_suffix(".bpk")?.parse().ok()
        };
        names.filter_map(|e| epoch(e.file_name().to_string_lossy().into_owned())).collect()
    };
    let [model, optimizer, schedule] = PARTS.map(epochs_of);
    model
        .into_iter()
        .rev()
        .find(|epoch| optimizer.contains(epoch) && schedule.contains(epoch))
        .unwrap_or(0)
}

/// Reads an epoch's checkpoint once, so that a damaged file is an error that names it.
pub(super) fn check(folder: &Path, epoch: usize) -> Result<(), TrainError> {
    fn load<R: Checkpoint>(folder: &Path, part: &str, epoch: usize) -> Result<(), TrainError> {
        let path = part_path(folder, part, epoch);
        match R::load(path.clone()) {
            Ok(_) => Ok(()),
            Err(error) => Err(TrainError::File {
                action: "read the checkpoint",
                path,
                reason: format!(
                    "{error}; delete the files of epoch {epoch} to resume from the epoch before"
                ),
            }),
        }
    }
    load::<ModuleRecord>(folder, PARTS[0], epoch)?;
    load::<OptimizerRecord>(folder, PARTS[1], epoch)?;
    load::<LrSchedulerRecord>(folder, PARTS[2], epoch)
}

/// The file of an epoch's model.
pub(super) fn model_path(folder: &Path, epoch: usize) -> PathBuf {
    part_path(folder, PARTS[0], epoch)
}
