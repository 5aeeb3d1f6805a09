//! `ausn train`

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use clap::Args;
use serde_json::Value;

use super::device::DeviceArgs;
use super::{Failure, Global, Overrides, device, show_report, tell};
use crate::config::Config;
use crate::data::report::Report;
use crate::evaluate::{LayerTable, Summary};
use crate::tasks::{Task, TaskVisitor, with_task};
use crate::train::{Interrupt, Progress, RunFolder, TrainError, TrainOptions, prepare, train};

/// Train a model and quantize it.
#[derive(Args)]
pub(super) struct TrainArgs {
    /// The configuration, a TOML file.
    #[arg(required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// Continue the run of this folder, with the configuration that it was started with.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out", "set", "seed", "plan"])]
    resume: Option<PathBuf>,
    /// Folder of the run, new or empty [default: the next free runs/NAME-NNN].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Stop at once when the standard input ends: with the process that started this one.
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(args: TrainArgs, global: &Global) -> Result<(), Failure> {
    if args.stop_with_stdin {
        std::thread::spawn(|| {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            std::process::exit(130);
        });
    }
    let (config, target) = match (args.resume, args.config) {
        (Some(folder), _) => {
            let run = RunFolder::open(&folder)?;
            (Config::load(&run.file("config.toml"), &[])?, Target::Begun(run))
        }
        (None, path) => {
            let path = path.expect("clap requires CONFIG without --resume");
            let config = args.overrides.load(&path)?;
            (config, Target::New(NewRun { config: path, out: args.out }))
        }
    };
    start(target, config, &args.device, global)
}

/// Where a run leaves what it does.
pub(super) enum Target {
    /// In a folder of its own, made once all is checked, so that a typo leaves nothing behind.
    New(NewRun),
    /// In the folder where it began.
    Begun(RunFolder),
}

/// A run that has no folder yet.
pub(super) struct NewRun {
    /// The file of its configuration, whose name it gets.
    pub(super) config: PathBuf,
    /// The folder that was asked for.
    pub(super) out: Option<PathBuf>,
}

/// Runs a run, and prints what it found.
pub(super) fn start(
    target: Target,
    config: Config,
    device: &DeviceArgs,
    global: &Global,
) -> Result<(), Failure> {
    let devices = device.devices(&config.train)?;
    let progress = match global.quiet {
        true => Progress::Quiet,
        // A run that has to be left behind would leave the dashboard behind with it.
        false if devices.are_remote() => Progress::Lines,
        false => Progress::detect(),
    };
    let interrupt = Interrupt::default();
    handle_ctrl_c(&interrupt, progress);
    let options = TrainOptions { devices: devices.clone(), progress, interrupt };
    let locations = global.locations();

    let begun = Arc::new(OnceLock::new());
    let training = {
        let begun = begun.clone();
        move || -> Result<Summary, Failure> {
            let visitor = Train { target, config: &config, options: &options, begun: &begun };
            with_task(&config, &locations, visitor)?
        }
    };
    let trained = device::guard(&devices, training);
    let run: Option<&RunFolder> = begun.get();
    let summary = trained.map_err(|lost| match run {
        Some(run) => resume_hint(lost.into(), run),
        None => lost.into(),
    })??;

    let run = run.expect("a run that ended has begun");
    let mut json = serde_json::to_value(&summary).expect("a summary is JSON");
    json["run"] = Value::from(run.path().display().to_string());
    global.print(&json, || text(&summary, run.path()))
}

fn resume_hint(failure: Failure, run: &RunFolder) -> Failure {
    failure.hint(&format!("resume with: ausn train --resume {}", run.path().display()))
}

/// Makes the run folder once all is checked; then trains.
struct Train<'a> {
    target: Target,
    config: &'a Config,
    options: &'a TrainOptions,
    /// The run folder, as soon as there is one.
    begun: &'a OnceLock<RunFolder>,
}

impl TaskVisitor for Train<'_> {
    type Output = Result<Summary, Failure>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        let begun = match &self.target {
            Target::Begun(run) => Some(run),
            Target::New(_) => None,
        };
        let start = prepare(&task, self.config, begun, self.options.devices.first())?;
        let run = match self.target {
            Target::Begun(run) => run,
            Target::New(new) => new.create_folder(&self.config.text)?,
        };
        let run = self.begun.get_or_init(|| run);
        let (shows, known) = (self.options.progress != Progress::Quiet, task.report());
        if shows {
            tell(format_args!("run folder: {}", run.path().display()));
            show_report(&known, &Report::default());
        }
        let trained = train(&task, self.config, start, run, self.options);
        if shows {
            show_report(&task.report(), &known);
        }
        trained.map_err(|error| {
            // The other errors would come again.
            let resumable = matches!(
                error,
                TrainError::Interrupted { .. }
                    | TrainError::File { .. }
                    | TrainError::Training { .. }
            );
            let failure = Failure::from(error);
            if resumable { resume_hint(failure, run) } else { failure }
        })
    }
}

impl NewRun {
    fn create_folder(&self, config: &str) -> Result<RunFolder, Failure> {
        let run = match &self.out {
            Some(path) => RunFolder::create(path, config),
            None => {
                let stem = self.config.file_stem().unwrap_or_default();
                RunFolder::create_numbered(Path::new("runs"), &stem.to_string_lossy(), config)
            }
        };
        Ok(run?)
    }
}

fn handle_ctrl_c(interrupt: &Interrupt, progress: Progress) {
    let interrupt = interrupt.clone();
    let handler = move || {
        if interrupt.request() {
            std::process::exit(130);
        }
        if progress == Progress::Lines {
            tell("\nstopping after this step; press Ctrl-C again to stop at once");
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
    text.push_str(&format!("{} on {}, seed {}\n", metric.info.name, summary.task, summary.seed));
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
    if let Some(quantized) = metric.quantized.or(metric.calibrated) {
        let change = metric.info.unit.change(metric.float, quantized);
        let stage = if metric.quantized.is_some() { "quantized" } else { "calibrated" };
        let error = summary.error_of_change().map(|error| format!(" (standard error {error:.2})"));
        text.push_str(&format!("  {stage} against float: {change}{}\n", error.unwrap_or_default()));
    }
    let seconds = summary.seconds;
    text.push_str(&format!(
        "training took {:.0} s in float, {:.0} s quantized; {} parameters, {} quantized tensors\n",
        seconds.float, seconds.quantized, summary.parameters, summary.layers
    ));
    text.push_str(&format!("run folder: {}", run.display()));
    text
}
