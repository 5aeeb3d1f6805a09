//! A folder to run the binary in, and configurations that train in about a second.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use predicates::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

/// What most of the configurations share: 4-bit weights, 8-bit activations, one epoch a stage.
macro_rules! config {
    ($task_and_model:literal) => {
        concat!(
            $task_and_model,
            r#"
[quant]
weight     = { coding = "ausn", bits = 4, range = "mse", granularity = "per-channel" }
activation = { coding = "ausn", bits = 8, range = "mse" }

[train]
seed = 7
batch-size = 32
epochs = 1
optimizer = { name = "adamw", learning-rate = 5e-3, weight-decay = 0.01 }
"#
        )
    };
}

/// A tiny LSTM on the digits.
pub const LSTM: &str = config!(
    r#"[task]
name = "digits"

[model]
arch = "lstm"

[model.lstm]
hidden-size = 8
"#
);

/// A tiny ResNet on the digits; it has batch normalization.
pub const RESNET: &str = config!(
    r#"[task]
name = "digits"

[model]
arch = "resnet"

[model.resnet]
depth = 8
width = 4
"#
);

/// A tiny BERT on ListOps; it has dropout.
pub const BERT: &str = config!(
    r#"[task]
name = "listops"

[task.listops]
max-length = 8
max-depth = 1
train-examples = 300
valid-examples = 100

[model]
arch = "bert"

[model.bert]
hidden-size = 16
intermediate-size = 32
num-hidden-layers = 1
num-attention-heads = 2
max-position-embeddings = 16
hidden-dropout-prob = 0.1
"#
);

/// A PNG file of one colour.
pub fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(width, height, image::Rgb(colour))
        .write_to(&mut file, image::ImageFormat::Png)
        .expect("memory can be written to");
    file.into_inner()
}

/// A folder of its own to run the binary in.
pub struct Workspace(TempDir);

impl Workspace {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a temporary folder"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    /// Keeps the first of some equal parts of a file.
    pub fn cut(&self, name: &str, parts: usize) {
        let whole = self.bytes(name);
        self.write(name, &whole[..whole.len() / parts]);
    }

    /// Every file below `folder` with its content; empty where there is no such folder.
    pub fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        fn collect(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                match entry.path().is_dir() {
                    true => collect(&entry.path(), &format!("{name}/"), found),
                    false => {
                        found.insert(name, fs::read(entry.path()).unwrap());
                    }
                }
            }
        }
        let mut found = BTreeMap::new();
        collect(&self.path(folder), "", &mut found);
        found
    }

    /// What is left of files that were on their way to the disk.
    pub fn temporary_files(&self, folder: &str) -> Vec<String> {
        let files = self.files(folder).into_keys();
        files.filter(|file| file.rsplit('/').next().unwrap().starts_with('.')).collect()
    }

    pub fn copy(&self, from: &str, to: &str) {
        for (name, content) in self.files(from) {
            self.write(&format!("{to}/{name}"), content);
        }
    }

    /// A command in this folder that neither the machine's settings nor a network reach.
    pub fn process(&self, program: impl AsRef<OsStr>) -> process::Command {
        let mut command = process::Command::new(program);
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("AUSN_")) {
            command.env_remove(name);
        }
        command
            .current_dir(self.0.path())
            .env("AUSN_OFFLINE", "1")
            .env("AUSN_CACHE_DIR", self.path("cache"));
        command
    }

    /// Runs the binary. Whatever is asked of it, it never panics.
    #[track_caller]
    pub fn ausn<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Assert {
        let mut command = self.process(BINARY);
        command.args(args);
        run(command)
    }

    /// Writes a configuration and trains it quietly into `out`.
    #[track_caller]
    pub fn train(&self, config: &str, out: &str, sets: &[&str]) -> Assert {
        self.write("config.toml", config);
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        self.ausn(["train", "config.toml", "--quiet", "--out", out].into_iter().chain(sets))
    }

    #[track_caller]
    pub fn resume(&self, run: &str) -> Assert {
        self.ausn(["train", "--quiet", "--resume", run])
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The complete lines of a run's `metrics.jsonl`; none before it exists.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The validation accuracy after each epoch of a stage.
    pub fn history(&self, run: &str, stage: &str) -> Vec<f64> {
        self.history_of(run, stage, "accuracy")
    }

    /// A validation metric after each epoch of a stage.
    pub fn history_of(&self, run: &str, stage: &str, metric: &str) -> Vec<f64> {
        let entries = self.metrics(run);
        let of_stage = entries.iter().filter(|e| e["stage"] == stage && e["split"] == "valid");
        of_stage.map(|entry| entry[metric].as_f64().expect("a number")).collect()
    }

    /// The tensors of a safetensors file of 32-bit floats.
    pub fn tensors(&self, name: &str) -> BTreeMap<String, Vec<f32>> {
        let bytes = self.bytes(name);
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let floats = |data: &[u8]| {
            data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        file.iter().map(|(name, tensor)| (name.to_string(), floats(tensor.data()))).collect()
    }

    /// What has to be the same in two runs that are the same: the metric at every stage, and the
    /// weights.
    pub fn result(&self, run: &str) -> (Value, Vec<u8>) {
        let metric = self.json(&format!("{run}/summary.json"))["metric"].clone();
        (metric, self.bytes(&format!("{run}/model.safetensors")))
    }
}

pub const BINARY: &str = env!("CARGO_BIN_EXE_ausn");

/// Runs a command that is, or ends up as, the binary.
#[track_caller]
pub fn run(command: process::Command) -> Assert {
    Command::from_std(command).assert().stderr(predicate::str::contains("panicked").not())
}

/// No run in the background takes as long.
const DEADLINE: Duration = Duration::from_secs(60);

/// Training in the background. Killed with the test that started it.
pub struct Training<'a> {
    workspace: &'a Workspace,
    run: &'a str,
    child: process::Child,
}

impl<'a> Training<'a> {
    /// Trains on in a run folder that `Workspace::train` could have made.
    pub fn start(workspace: &'a Workspace, run: &'a str, sets: &[&str]) -> Self {
        let sets = sets.iter().flat_map(|set| ["--set", set]);
        let child = workspace
            .process(BINARY)
            .args(["train", "config.toml", "--quiet", "--out", run])
            .args(sets)
            .stderr(File::create(workspace.path("stderr")).unwrap())
            .spawn()
            .unwrap();
        Self { workspace, run, child }
    }

    /// Waits until some steps of an epoch are done.
    pub fn wait_for(&mut self, stage: &str, epoch: u64) {
        self.poll(|training| {
            let steps = training.workspace.metrics(training.run);
            let reached = |e: &&serde_json::Value| {
                e["stage"] == stage && e["epoch"] == epoch && e["step"].is_u64()
            };
            (steps.iter().filter(reached).count() >= 3).then_some(())
        });
    }

    #[cfg(unix)]
    pub fn signal(&self, signal: &str) {
        let status =
            process::Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success(), "the run ended before it could be stopped");
    }

    pub fn wait(mut self) -> (process::ExitStatus, String) {
        let status = self.poll(|training| training.child.try_wait().unwrap());
        let message = self.workspace.read("stderr");
        assert!(!message.contains("panicked"), "{message}");
        (status, message)
    }

    fn poll<T>(&mut self, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(Instant::now() < end, "{}", self.workspace.read("stderr"));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Training<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Short forms for what is asked of every output.
pub trait Said: Sized {
    /// The error stream holds all of these.
    #[track_caller]
    fn says<S: AsRef<str>>(self, parts: impl IntoIterator<Item = S>) -> Self;

    /// The output stream holds all of these.
    #[track_caller]
    fn prints<S: AsRef<str>>(self, parts: impl IntoIterator<Item = S>) -> Self;

    /// The output stream, which is one JSON value.
    #[track_caller]
    fn json(&self) -> Value;
}

impl Said for Assert {
    #[track_caller]
    fn says<S: AsRef<str>>(self, parts: impl IntoIterator<Item = S>) -> Self {
        let contains = |part: S| predicate::str::contains(part.as_ref());
        parts.into_iter().fold(self, |assert, part| assert.stderr(contains(part)))
    }

    #[track_caller]
    fn prints<S: AsRef<str>>(self, parts: impl IntoIterator<Item = S>) -> Self {
        let contains = |part: S| predicate::str::contains(part.as_ref());
        parts.into_iter().fold(self, |assert, part| assert.stdout(contains(part)))
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_slice(&self.get_output().stdout).expect("the output is pure JSON")
    }
}
