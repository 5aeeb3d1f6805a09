//! `ausn quantize`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::device::DeviceArgs;
use super::train::{NewRun, Target};
use super::{Failure, Global, Overrides, needs_trained, set_path, train};
use crate::post_training::WeightRounding;

/// Quantize a trained model without training.
///
/// It starts from the float model of a run (--from), or from the published model that the
/// configuration names. Codings and ranges come from the configuration and from calibration data.
#[derive(Args)]
pub(super) struct QuantizeArgs {
    /// The configuration, a TOML file.
    config: PathBuf,
    /// A run whose float model is quantized: `train.float-checkpoint`.
    #[arg(long, value_name = "RUN")]
    from: Option<PathBuf>,
    /// Let biases make up for the mean error of each output channel.
    #[arg(long)]
    bias_correction: bool,
    /// How weights are rounded [default: what the configuration says, else nearest].
    #[arg(long, value_enum, value_name = "HOW")]
    rounding: Option<WeightRounding>,
    /// Folder of the run, new or empty [default: the next free runs/NAME-NNN].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn run(mut args: QuantizeArgs, global: &Global) -> Result<(), Failure> {
    const TRAINS: [&str; 3] = ["train.epochs", "train.float.epochs", "train.quantized.epochs"];
    // Within braces as well: train.quantized = { epochs = 2 }.
    let trains = |set: &&String| {
        let (key, value) = set.split_once('=').unwrap_or_default();
        let key = key.trim();
        TRAINS.contains(&key)
            || value.contains("epochs")
                && TRAINS.iter().any(|name| name.starts_with(&format!("{key}.")))
    };
    if let Some(set) = args.overrides.set.iter().find(trains) {
        let message =
            format!("--set {set} has no effect: quantizing trains none; use `ausn train`");
        return Err(Failure::refused(message));
    }
    let mut set: Vec<String> =
        ["train.quantized.epochs=0", "train.float.epochs=0", "quant.choose-again=[]"]
            .map(str::to_string)
            .into();
    set.extend(args.from.map(|run| set_path("train.float-checkpoint", &run)));
    if args.bias_correction {
        set.push("quant.post-training.bias-correction=true".into());
    }
    let rounding = args.rounding.and_then(|rounding| rounding.to_possible_value());
    set.extend(rounding.map(|value| format!("quant.post-training.rounding={}", value.get_name())));
    args.overrides.set.extend(set);
    let config = args.overrides.load(&args.config)?;
    needs_trained(&config, ["and quantizing trains none", "--from RUN"])?;
    if !config.quant.quantizes() {
        return Err(Failure::refused(
            "the configuration quantizes nothing; give [quant] a weight or an activation with a \
             coding"
                .to_string(),
        ));
    }
    let target = Target::New(NewRun { config: args.config, out: args.out });
    train::start(target, config, &args.device, global)
}
