//! `ausn train`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::device::DeviceArgs;
use super::{Failure, Global, Overrides};
use crate::config::Config;
use crate::evaluate::LayerTable;
use crate::tasks::{Task, TaskVisitor, with_task};
use crate::train::{
    Interrupt, Progress, RunFolder, Summary, TrainError, TrainOptions, prepare, train,
};

/// Train a model and quantize it.
#[derive(Args)]
pub(super) struct TrainArgs {
    /// The configuration, a TOML file.
    #[arg(required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// Continue the run of this folder, with the configuration that it was started with.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out", "set", "seed"])]
    resume: Option<PathBuf>,
    /// Folder of the run, new or empty [default: the next free runs/NAME-NNN].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: TrainArgs, global: &Global) -> Result<(), Failure> {
    let device = args.device.device()?;
    let (config, folder) = match (&args.resume, &args.config) {
        (Some(folder), _) => {
            let run = RunFolder::open(folder)?;
            (Config::load(&run.file("config.toml"), &[])?, Some(run))
        }
        (None, path) => {
            let path = path.as_deref().expect("clap requires CONFIG without --resume");
            (args.overrides.load(path)?, None)
        }
    };
    let locations = global.locations();
    let interrupt = Interrupt::default();
    let progress = if global.quiet { Progress::Quiet } else { Progress::detect() };
    handle_ctrl_c(&interrupt, progress);
    let options = TrainOptions { device, progress, interrupt };

    let visitor = Train { args: &args, config: &config, folder, options: &options };
    let (run, result) = with_task(&config, &locations, visitor)??;
    let summary = result.map_err(|error| {
        // The other errors would come again.
        let resumable = matches!(
            error,
            TrainError::Interrupted { .. } | TrainError::File { .. } | TrainError::Training { .. }
        );
        let failure = Failure::from(error);
        match resumable {
            true => {
                failure.hint(&format!("resume with: ausn train --resume {}", run.path().display()))
            }
            false => failure,
        }
    })?;

    let mut json = serde_json::to_value(&summary).expect("a summary is JSON");
    json["run"] = Value::from(run.path().display().to_string());
    global.print(&json, || text(&summary, run.path()))
}

/// Makes the run folder once all is checked, so that a typo leaves nothing behind; then trains.
struct Train<'a> {
    args: &'a TrainArgs,
    config: &'a Config,
    folder: Option<RunFolder>,
    options: &'a TrainOptions,
}

impl TaskVisitor for Train<'_> {
    type Output = Result<(RunFolder, Result<Summary, TrainError>), Failure>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        let start = prepare(&task, self.config, &self.options.device)?;
        let run = match self.folder {
            Some(run) => run,
            None => create_folder(self.args, &self.config.text)?,
        };
        if self.options.progress != Progress::Quiet {
            eprintln!("run folder: {}", run.path().display());
            for line in task.report().lines() {
                eprintln!("data: {line}");
            }
        }
        let result = train(&task, self.config, start, &run, self.options);
        Ok((run, result))
    }
}

fn create_folder(args: &TrainArgs, config: &str) -> Result<RunFolder, Failure> {
    let run = match &args.out {
        Some(path) => RunFolder::create(path, config),
        None => {
            let stem = args.config.as_deref().and_then(Path::file_stem).unwrap_or_default();
            RunFolder::create_numbered(Path::new("runs"), &stem.to_string_lossy(), config)
        }
    };
    Ok(run?)
}

fn handle_ctrl_c(interrupt: &Interrupt, progress: Progress) {
    let interrupt = interrupt.clone();
    let handler = move || {
        if interrupt.request() {
            std::process::exit(130);
        }
        if progress == Progress::Lines {
            eprintln!("\nstopping after this step; press Ctrl-C again to stop at once");
        }
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C will stop the run at once: {error}");
    }
}

fn text(summary: &Summary, run: &Path) -> String {
    let mut text = String::new();
    for stage in ["calibrated", "quantized"] {
        let errors: Vec<_> =
            summary.layer_errors.iter().filter(|e| e.stage == stage).cloned().collect();
        if !errors.is_empty() {
            text.push_str(&format!(
                "{stage}: clipping and rounding error of each quantized tensor\n"
            ));
            text.push_str(&format!("{}\n\n", LayerTable(&errors)));
        }
    }
    let metric = &summary.metric;
    text.push_str(&format!("{} on {}, seed {}\n", metric.name, summary.task, summary.seed));
    let splits = &summary.splits;
    for (name, scores) in [
        ("float", &splits.float),
        ("calibrated", &splits.calibrated),
        ("quantized", &splits.quantized),
    ] {
        for score in scores {
            text.push_str(&format!("  {name:<11} {score}\n"));
        }
    }
    if let Some(quantized) = metric.quantized {
        let change = metric.unit.change(metric.float, quantized);
        text.push_str(&format!("  quantized against float: {change}\n"));
    }
    let seconds = summary.seconds;
    text.push_str(&format!(
        "training took {:.0} s in float, {:.0} s quantized; {} parameters, {} quantized tensors\n",
        seconds.float, seconds.quantized, summary.parameters, summary.layers
    ));
    text.push_str(&format!("run folder: {}", run.display()));
    text
}
