//! `ausn evaluate`

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;

use super::device::DeviceArgs;
use super::{Failure, Global, Overrides};
use crate::config::Config;
use crate::evaluate::LayerTable;
use crate::tasks::{Task, TaskVisitor, with_task};
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

struct Evaluate<'a> {
    config: &'a Config,
    run: Option<&'a RunFolder>,
    device: &'a Device,
}

impl TaskVisitor for Evaluate<'_> {
    type Output = Result<Vec<Evaluation>, TrainError>;

    fn visit<T: Task>(self, task: T) -> Self::Output {
        match self.run {
            Some(run) => Ok(vec![evaluate_run(&task, self.config, run, self.device)?]),
            None => evaluate_config(&task, self.config, self.device),
        }
    }
}

pub(super) fn run(args: EvaluateArgs, global: &Global) -> Result<(), Failure> {
    let device = args.device.device()?;
    let is_run = args.target.is_dir() || !args.target.exists() && args.target.extension().is_none();
    let run = is_run.then(|| RunFolder::open(&args.target)).transpose()?;
    let path = run.as_ref().map_or(args.target.clone(), |run| run.file("config.toml"));
    let config = args.overrides.load(&path)?;
    let visitor = Evaluate { config: &config, run: run.as_ref(), device: &device };
    let found = with_task(&config, &global.locations(), visitor)??;
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
