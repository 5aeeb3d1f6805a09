//! The folder of a run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleRecord;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::TrainError;
use crate::files::{UNFINISHED, try_lock, write_atomically};

/// The file that a process holds locked while it runs the run.
const LOCK: &str = ".running";

/// The folder that holds everything a run reads and writes.
///
/// | file | content |
/// |---|---|
/// | `config.toml` | the configuration, with all overrides applied |
/// | `metrics.jsonl` | training loss of every step, loss and metric of every epoch |
/// | `checkpoints/` | model, optimizer and schedule after the latest epochs |
/// | `float.bpk` | the float model |
/// | `search.json` | what the last search for codings chose, with the error of every candidate |
/// | `plan.json` | the coding and the ranges of every quantized tensor, as they were last chosen |
/// | `calibrated-plan.json` | the same as calibration chose it, where it was chosen again later |
/// | `post-training.json` | what learned rounding and bias correction did to each weight, where they were asked for |
/// | `corrected.bpk` | the float model after that |
/// | `layers.csv` | clipping and rounding error of every quantized tensor, before and after fine-tuning |
/// | `layers-by-epoch.csv` | the same after every epoch of fine-tuning |
/// | `histograms.json` | how the values of every quantized tensor lie about its levels after fine-tuning |
/// | `model.bpk` | the quantized model: float weights and scales |
/// | `model.safetensors` | the quantized model: weights on the grid |
/// | `codes.safetensors` | the quantized weights as packed code words |
/// | `resamples.jsonl` | the metric of each stage and split over the bootstrap's draws of the examples |
/// | `summary.json` | metric, seconds, seed, bits of the first and the last layer, commit |
/// | `report.html` | all of it to look at |
///
/// Files are written under another name and renamed, so that a killed run leaves no half file.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// The lock of a run ([`RunFolder::lock`]); its file goes when the lock does.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    _file: fs::File,
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // A file that stays, as after a kill, holds nobody back: it is the lock that counts.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a process is running the run of a folder. Where the file system has no locks that is not known.
pub fn is_running(run: &Path) -> bool {
    fs::File::open(run.join(LOCK)).is_ok_and(|file| matches!(try_lock(&file), Ok(false)))
}

impl RunFolder {
    /// Makes a new folder and writes its configuration.
    ///
    /// # Errors
    ///
    /// If the folder exists and is not empty, or cannot be written.
    pub fn create(path: &Path, config: &str) -> Result<Self, TrainError> {
        let taken = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if taken || path.is_file() {
            return Err(TrainError::RunFolder {
                path: path.to_path_buf(),
                reason:
                    "is in the way: the run needs a new or an empty folder; choose another with \
                         --out, or continue a run with --resume"
                        .into(),
            });
        }
        let folder = Self { path: path.to_path_buf() };
        folder.create_dir(path)?;
        folder.write("config.toml", config.as_bytes())?;
        Ok(folder)
    }

    /// Makes the first free one of `NAME-001`, `NAME-002`, ... under `parent`.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn create_numbered(parent: &Path, name: &str, config: &str) -> Result<Self, TrainError> {
        fs::create_dir_all(parent).map_err(|error| not_created(parent, error))?;
        for number in 1.. {
            let path = parent.join(format!("{name}-{number:03}"));
            // Making the folder is what takes its number, of two runs that start at once too.
            match fs::create_dir(&path) {
                Ok(()) => return Self::create(&path, config),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(not_created(&path, error)),
            }
        }
        unreachable!("some number is free")
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    ///
    /// If it is no such folder.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let config = path.join("config.toml");
        if !config.is_file() {
            let reason = match path.exists() {
                true => "is no run folder: it holds no config.toml",
                false => "there is no such run folder",
            };
            return Err(TrainError::RunFolder { path: path.to_path_buf(), reason: reason.into() });
        }
        Ok(Self { path: path.to_path_buf() })
    }

    /// The same of a run that has finished `stage`, as `file` in its folder shows.
    ///
    /// # Errors
    ///
    /// If it is no such folder, or the file is not there.
    pub fn finished(self, stage: &str, file: &str) -> Result<Self, TrainError> {
        if self.has(file) {
            return Ok(self);
        }
        let reason = format!(
            "the run has not finished its {stage} stage: {file} is missing; continue it with: ausn \
             train --resume {}",
            self.path.display()
        );
        Err(TrainError::RunFolder { path: self.path, reason })
    }

    /// Keeps other processes from running the same run, until what is returned is dropped or the process ends.
    ///
    /// # Errors
    ///
    /// If another process has it, or the system refuses.
    pub fn lock(&self) -> Result<RunLock, TrainError> {
        let path = self.file(LOCK);
        let failed = |error: io::Error| TrainError::File {
            action: "lock",
            path: path.clone(),
            reason: error.to_string(),
        };
        let file = fs::File::create(&path).map_err(failed)?;
        match try_lock(&file).map_err(failed)? {
            true => Ok(RunLock { path, _file: file }),
            false => Err(TrainError::RunFolder {
                path: self.path.clone(),
                reason: "another process is running this run; wait until it has ended".into(),
            }),
        }
    }

    /// Removes the files that a killed run was writing.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn clean_up(&self) -> Result<(), TrainError> {
        let folders =
            [self.path.clone(), self.file("checkpoints/float"), self.file("checkpoints/quantized")];
        for entry in folders.iter().flat_map(fs::read_dir).flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') && (name.ends_with(UNFINISHED) || name.ends_with(".tmp")) {
                let path = entry.path();
                fs::remove_file(&path).map_err(|error| TrainError::File {
                    action: "remove",
                    path,
                    reason: error.to_string(),
                })?;
            }
        }
        Ok(())
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it holds a file.
    pub fn has(&self, name: &str) -> bool {
        self.file(name).is_file()
    }

    /// The folder of a stage's checkpoints, made where it is missing.
    pub(super) fn checkpoints(&self, stage: &str) -> Result<PathBuf, TrainError> {
        let path = self.path.join("checkpoints").join(stage);
        self.create_dir(&path)?;
        Ok(path)
    }

    /// Writes a file, whole or not at all.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<(), TrainError> {
        self.write_with(name, |path| fs::write(path, content))
    }

    /// The same for content that is written by `write` to the path that it is given.
    ///
    /// # Errors
    ///
    /// If `write` fails.
    pub fn write_with(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), TrainError> {
        let path = self.file(name);
        write_atomically(&path, write).map_err(|error| TrainError::File {
            action: "write",
            path,
            reason: error.to_string(),
        })
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), TrainError> {
        let mut text = serde_json::to_string_pretty(value).expect("a value of plain data is JSON");
        text.push('\n');
        self.write(name, text.as_bytes())
    }

    /// Reads a value from JSON.
    ///
    /// # Errors
    ///
    /// If the file is missing or damaged.
    pub fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<T, TrainError> {
        let path = self.file(name);
        let text = fs::read_to_string(&path).map_err(|error| error.to_string());
        text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string()))
            .map_err(|reason| TrainError::File { action: "read", path, reason })
    }

    /// Writes a module's parameters.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub(super) fn write_record<M: Module>(&self, name: &str, module: M) -> Result<(), TrainError> {
        write_record(&self.file(name), module)
    }

    fn create_dir(&self, path: &Path) -> Result<(), TrainError> {
        fs::create_dir_all(path).map_err(|error| not_created(path, error))
    }
}

/// Why a folder is not there.
fn not_created(path: &Path, error: io::Error) -> TrainError {
    TrainError::File {
        action: "create the folder",
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}

/// Writes a module's parameters.
///
/// # Errors
///
/// If the system refuses.
pub(super) fn write_record<M: Module>(path: &Path, module: M) -> Result<(), TrainError> {
    // Burn writes records under another name and renames them.
    module.into_record().save(path).map_err(|error| TrainError::File {
        action: "write",
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

/// Loads a module's parameters.
///
/// # Errors
///
/// If the file is missing, damaged, or of another module.
pub(super) fn read_record<M: Module>(path: &Path, module: M) -> Result<M, TrainError> {
    let failed = |reason| TrainError::File { action: "read", path: path.to_path_buf(), reason };
    let record = ModuleRecord::load(path).map_err(|error| {
        failed(format!("{error}; if the file is damaged, delete it, and its run trains it again"))
    })?;
    module.try_load_record(record).map_err(|error| {
        // It lists every tensor.
        let mut names = error.to_string();
        if let Some((end, _)) = names.char_indices().nth(300) {
            names.truncate(end);
            names.push_str(" ...");
        }
        failed(format!("it holds another model than that of the configuration: {names}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_run_by_one_process_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::create(&folder.path().join("run"), "").unwrap();
        let running = run.lock().unwrap();
        let refused = run.lock().unwrap_err();
        assert!(refused.is_user_error());
        assert!(refused.to_string().contains("another process is running this run"), "{refused}");
        drop(running);
        run.lock().unwrap();
    }
}
