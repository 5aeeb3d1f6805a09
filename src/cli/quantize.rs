//! `ausn quantize`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::device::DeviceArgs;
use super::train::{NewRun, Target};
use super::{Failure, Global, Overrides, train};

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
    rounding: Option<RoundingName>,
    /// Folder of the run, new or empty [default: the next free runs/NAME-NNN].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    overrides: Overrides,
    #[command(flatten)]
    device: DeviceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoundingName {
    /// To the nearest level.
    Nearest,
    /// Up or down, learned layer by layer (AdaRound).
    Learned,
}

pub(super) fn run(mut args: QuantizeArgs, global: &Global) -> Result<(), Failure> {
    let mut set: Vec<String> =
        ["train.quantized.epochs=0", "train.float.epochs=0", "quant.choose-again=[]"]
            .map(str::to_string)
            .into();
    set.extend(args.from.map(|run| format!("train.float-checkpoint={}", run.display())));
    if args.bias_correction {
        set.push("quant.post-training.bias-correction=true".into());
    }
    set.extend(args.rounding.map(|rounding| {
        let rounding = match rounding {
            RoundingName::Nearest => "nearest",
            RoundingName::Learned => "learned",
        };
        format!("quant.post-training.rounding={rounding}")
    }));
    args.overrides.set.extend(set);
    let config = args.overrides.load(&args.config)?;
    if !config.starts_trained() {
        return Err(Failure::refused(
            "the configuration starts from a fresh model, and quantizing trains none; name the \
             folder of a run that trained it: --from RUN"
                .to_string(),
        ));
    }
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
