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
    let path = run.as_ref().map_or(args.target.clone(), |run| run.file("config.toml"));
    let config = args.overrides.load(&path)?;
    let evaluation =
        Evaluate { config: config.clone(), run, devices: devices.clone(), quiet: global.quiet };
    let found = device::visit(config, &devices, global, evaluation)?;
    global.print(&found, || found.iter().map(text).collect())
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
