//! `ausn evaluate`

use std::path::PathBuf;

use clap::Args;

use super::device::DeviceArgs;
use super::{Failure, Global, Overrides, device, show_report};
use crate::config::Config;
use crate::data::report::Report;
use crate::devices::Devices;
use crate::evaluate::LayerTable;
use crate::tasks::{Task, TaskVisitor};
use crate::train::{Evaluation, RunFolder, TrainError, evaluate_config, evaluate_run};

/// Evaluate a model.
#[derive(Args)]
pub(super) struct EvaluateArgs {
    /// The folder of a finished run, or a configuration.
    #[arg(value_name = "RUN_OR_CONFIG")]
    target: PathBuf,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

struct Evaluate {
    config: Config,
    run: Option<RunFolder>,
    devices: Devices,
    quiet: bool,
}

impl TaskVisitor for Evaluate {
    type Output = Result<Vec<Evaluation>, TrainError>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        let device = self.devices.first();
        let found = match &self.run {
            Some(run) => vec![evaluate_run(&task, &self.config, run, device)?],
            None => evaluate_config(&task, &self.config, device)?,
        };
        if !self.quiet {
            show_report(&task.report(), &Report::default());
        }
        Ok(found)
    }
}

pub(super) fn run(args: EvaluateArgs, global: &Global) -> Result<(), Failure> {
    let devices = args.device.device()?;
    let is_run = args.target.is_dir() || !args.target.exists() && args.target.extension().is_none();
    let run = is_run.then(|| RunFolder::open(&args.target)).transpose()?;
    let config = match &run {
        Some(run) => of_run(run, &args.overrides)?,
        None => args.overrides.load(&args.target)?,
    };
    let evaluation =
        Evaluate { config: config.clone(), run, devices: devices.clone(), quiet: global.quiet };
    let found = device::visit(config, &devices, global, evaluation)?;
    global.print(&found, || found.iter().map(text).collect())
}

/// The configuration of a run, with overrides that leave its model, and what it was trained on, as they are.
fn of_run(run: &RunFolder, overrides: &Overrides) -> Result<Config, Failure> {
    const ALLOWED: [&str; 4] =
        ["task.", "model.pretrained", "train.evaluation-batch-size", "train.precision"];
    let refused = |what: &str| {
        Failure::refused(format!(
            "{what} does not change a run that is trained; evaluate takes --set of {}* and {}",
            ALLOWED[0],
            ALLOWED[1..].join(", ")
        ))
    };
    if overrides.seed.is_some() {
        return Err(refused("--seed"));
    }
    if overrides.plan.is_some() {
        return Err(refused("--plan"));
    }
    let allowed = |set: &&String| ALLOWED.iter().any(|key| set.trim_start().starts_with(key));
    if let Some(set) = overrides.set.iter().find(|set| !allowed(set)) {
        return Err(refused(&format!("--set {set}")));
    }
    let path = run.file("config.toml");
    let (trained, config) = (Config::load(&path, &[])?, overrides.load(&path)?);
    match config.differs_from(&trained) {
        Some(difference) => Err(Failure::refused(format!(
            "{}: examples that it was trained on would be among those that measure it: {difference}",
            run.path().display()
        ))),
        None => Ok(config),
    }
}

fn text(evaluation: &Evaluation) -> String {
    let mut text = String::new();
    if !evaluation.layers.is_empty() {
        text.push_str(&format!("{}\n\n", LayerTable(&evaluation.layers)));
    }
    text.push_str(&format!("{} on {}, {}\n", evaluation.metric, evaluation.task, evaluation.model));
    for score in &evaluation.splits {
        text.push_str(&format!("  {score}\n"));
    }
    text.push('\n');
    text
}
