//! The command line: one file a command; prints, never computes.

mod analyze;
mod candidates;
mod coding;
mod datasets;
mod device;
mod evaluate;
mod failure;
mod plan;
mod quantize;
mod report;
mod search;
#[cfg(feature = "remote")]
mod serve;
mod table;
mod train;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::data::catalog::Locations;
use crate::data::report::Report;
use crate::files::write_atomically;
use failure::Failure;

/// Quantization-aware training with adaptively superimposed powers of two (AUSN).
///
/// Start with `ausn train configs/bert_ausn4.toml`: it needs no download and takes a few minutes.
#[derive(Parser)]
#[command(
    name = "ausn",
    version,
    after_help = "\
Exit codes: 0 done, 1 something failed, 2 something you wrote was refused, 130 stopped by Ctrl-C.
Environment: AUSN_DATA_DIR (data sets), AUSN_PRETRAINED_DIR (pretrained folders), AUSN_CACHE_DIR
(downloads), AUSN_OFFLINE=1 (never download), AUSN_REMOTE_TOKEN (what servers ask for and clients
give), AUSN_LOG (log filter, such as `debug`)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: Global,
}

/// Options of every command.
#[derive(Args)]
struct Global {
    /// Print the result as JSON on the standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Folder that holds the data sets [default: $AUSN_DATA_DIR, then the cache].
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Train: float stage, calibration, quantization-aware stage; leaves a run folder.
    Train(train::TrainArgs),
    /// Quantize a trained model without training; leaves a run folder.
    Quantize(quantize::QuantizeArgs),
    /// Evaluate a finished run, or the model that a configuration starts from.
    Evaluate(evaluate::EvaluateArgs),
    /// Write the report of a run, or compare several runs.
    Report(report::ReportArgs),
    /// Show which coding each layer of a configuration's model gets.
    Plan(plan::PlanArgs),
    /// Choose a coding for each weight of a model under a budget of bits, bytes, or the cost of its products.
    Search(search::SearchArgs),
    /// Run a suite of tasks, codings and seeds, and write its tables.
    Table(table::TableArgs),
    /// List, download and check data sets.
    #[command(subcommand)]
    Datasets(datasets::DatasetsCommand),
    /// List the devices that this build can compute on.
    Devices,
    /// Serve this machine's devices to `ausn train` on other machines.
    #[cfg(feature = "remote")]
    Serve(serve::ServeArgs),
    /// Show the levels of a coding, and how it encodes given numbers.
    Coding(coding::CodingArgs),
    /// Compare the codings of a bit width on a density: expected clipping and rounding error over the range.
    Analyze(analyze::AnalyzeArgs),
}

/// Which configuration, and what to change in it.
#[derive(Args)]
struct Overrides {
    /// Override a value of the configuration, such as `train.batch-size=64`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Override `train.seed`.
    #[arg(long, allow_negative_numbers = true, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// A file of layer rules to add, as `ausn search --out` writes it.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
}

impl Overrides {
    fn load(&self, path: &Path) -> Result<Config, Failure> {
        let mut set = self.set.clone();
        set.extend(self.seed.map(|seed| format!("train.seed={seed}")));
        set.extend(self.plan.as_ref().map(|plan| set_path("quant.plan", plan)));
        Ok(Config::load(path, &set)?)
    }
}

/// The override that gives a key a path. In quotes: a folder may be named `1` or `true`.
fn set_path(key: &str, path: &Path) -> String {
    format!("{key}={}", toml::Value::from(path.to_string_lossy().into_owned()))
}

/// What a command without a training of its own says of a fresh model, and how to give it a trained one.
const FROM_RUN: [&str; 2] = ["whose weights tell nothing", "--set train.float-checkpoint=RUN"];

/// Refuses a configuration whose model nothing has trained; says why that will not do, and the option
/// that names a run which trained it.
fn needs_trained(config: &Config, [why, option]: [&str; 2]) -> Result<(), Failure> {
    match config.starts_trained() {
        true => Ok(()),
        false => Err(Failure::refused(format!(
            "the configuration starts from a fresh model, {why}; name the folder of a run that \
             trained it: {option}"
        ))),
    }
}

/// Refuses to write a result where it would take the place of something else, and where it cannot be written,
/// before the work begins.
fn check_out(out: &Path, what: &str, is_such: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let refuse = |why: String| Err(Failure::refused(format!("--out {}: {why}", out.display())));
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return refuse(format!("there is no folder {}", folder.display()));
    }
    match std::fs::read(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(content) if std::str::from_utf8(&content).is_ok_and(&is_such) => Ok(()),
        Ok(_) => {
            refuse(format!("a file that is no {what} is in the way; name another, or remove it"))
        }
        Err(error) => refuse(error.to_string()),
    }
}

/// Writes a file, whole or not at all.
fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    write_atomically(path, |part| std::fs::write(part, content))
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// Tells the user how the work goes. Work goes on where nobody reads that any more.
fn tell(message: impl Display) {
    let _ = writeln!(io::stderr(), "{message}");
}

/// Shows what was left out of the data or changed, but for what was shown before.
fn show_report(report: &Report, shown: &Report) {
    let shown: Vec<String> = shown.lines().collect();
    for line in report.lines().filter(|line| !shown.contains(line)) {
        tell(format_args!("data: {line}"));
    }
}

impl Global {
    fn locations(&self) -> Locations {
        Locations::from_env(self.data_dir.clone())
    }

    /// Prints a result: as JSON, or as `text` writes it.
    fn print(&self, json: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = match self.json {
            true => serde_json::to_string_pretty(json).expect("results are plain data"),
            false => text(),
        };
        match writeln!(io::stdout(), "{}", text.trim_end()) {
            // The reader has seen enough (`| head`).
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => {
                other.map_err(|error| Failure::failed(format!("cannot write the result: {error}")))
            }
        }
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    // What Burn logs of an error that stops a run, the run's own error says better.
    let default =
        || EnvFilter::new("warn,burn_train=off,burn_remote=error,burn_communication=error");
    let filter = match std::env::var("AUSN_LOG") {
        Err(_) => default(),
        Ok(text) => match EnvFilter::try_new(&text) {
            Ok(filter) => filter,
            Err(error) => {
                let message =
                    format!("AUSN_LOG is `{text}`, no log filter such as `debug`: {error}");
                return Failure::refused(message).report();
            }
        },
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .log_internal_errors(false)
        .init();
    let Cli { command, global } = Cli::parse();
    let result = match command {
        Command::Train(args) => train::run(args, &global),
        Command::Quantize(args) => quantize::run(args, &global),
        Command::Evaluate(args) => evaluate::run(args, &global),
        Command::Report(args) => report::run(args, &global),
        Command::Plan(args) => plan::run(args, &global),
        Command::Search(args) => search::run(args, &global),
        Command::Table(args) => table::run(args, &global),
        Command::Datasets(command) => datasets::run(command, &global),
        Command::Devices => device::run(&global),
        #[cfg(feature = "remote")]
        Command::Serve(args) => serve::run(args),
        Command::Coding(args) => coding::run(args, &global),
        Command::Analyze(args) => analyze::run(args, &global),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
