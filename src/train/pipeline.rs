//! A whole run: float stage, calibration, quantization-aware stage, evaluation.

use std::collections::{BTreeMap, BTreeSet};

use burn::module::Module;
use burn::tensor::Device;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::fisher::fisher;
use super::log::finished_epochs;
use super::run_folder::read_record;
use super::stage::Stage;
use super::{Interrupt, Progress, RunFolder, TrainError};
use crate::config::{Config, StageConfig};
use crate::deploy;
use crate::devices::Devices;
use crate::evaluate::{
    CALIBRATED, Epochs, FLOAT, Histograms, LayerBits, LayerError, MetricSummary, QUANTIZED,
    Resamples, Seconds, SplitScore, SplitSummary, Summary, evaluate, evaluate_quantized, report,
    write_csv,
};
use crate::post_training::{self, Correction};
use crate::quant::{
    self, CalibratedPlan, QuantizedModel, WeighedSite, change_parameters, parameter_count,
    parameters,
};
use crate::search::{self, Evidence, Found, Objective, SearchConfig};
use crate::tasks::{Prefetch, Task, TaskError, batches_by_size};
use crate::version;

/// Files of a run folder.
const FLOAT_MODEL: &str = "float.bpk";
const QUANTIZED_MODEL: &str = "model.bpk";
const PLAN: &str = "plan.json";
const FIRST_PLAN: &str = "calibrated-plan.json";
const SEARCH: &str = "search.json";
const CORRECTED_MODEL: &str = "corrected.bpk";
const CORRECTIONS: &str = "post-training.json";

/// How a run runs.
#[derive(Clone, Default)]
pub struct TrainOptions {
    /// Where it computes. With remote devices, give the whole run to [`Devices::guard`].
    pub devices: Devices,
    /// What it shows.
    pub progress: Progress,
    /// How it is stopped.
    pub interrupt: Interrupt,
}

/// What a run starts from: a model, and which coding each of its tensors will get.
pub struct Start<N> {
    network: N,
    /// Whether the model is a float model trained before.
    trained: bool,
    plan: quant::Plan,
}

/// Checks everything that can be checked before a run begins, or goes on in the folder where it has begun.
///
/// # Errors
///
/// A published or earlier checkpoint that cannot be loaded, data without examples, layer patterns
/// that do not fit the model.
pub fn prepare<T: Task>(
    task: &T,
    config: &Config,
    begun: Option<&RunFolder>,
    device: &Device,
) -> Result<Start<T::Network>, TrainError> {
    check_data(task)?;
    set_precision(config, device)?;
    let mut network = initial_network(task, config, device)?;
    let plan = config.quant.plan(&quant::sites(&network))?;
    // What cannot be folded or searched is better known before it is trained.
    if !plan.entries.is_empty() {
        folded(task, config, network.clone())?;
    }
    if let Some(settings) = &config.quant.search {
        search::check(&plan, settings)?;
    }
    // A run that has begun has its own copy.
    let copied = begun.is_some_and(|run| run.has(FLOAT_MODEL));
    if let Some(folder) = config.train.float_checkpoint.as_ref().filter(|_| !copied) {
        let run = RunFolder::open(folder)?.finished(FLOAT, FLOAT_MODEL)?;
        let trained = Config::load(&run.file("config.toml"), &[])?;
        if let Some(difference) = config.differs_from(&trained) {
            let reason = format!(
                "its float model goes with other examples to train on and to measure, or another model: \
                 {difference}"
            );
            return Err(TrainError::RunFolder { path: folder.clone(), reason });
        }
        network = read_record(&run.file(FLOAT_MODEL), network)?;
    }
    Ok(Start { network, trained: config.train.float_checkpoint.is_some(), plan })
}

/// Runs a whole run in its folder, or what is left of it.
///
/// # Errors
///
/// Every way in which checkpoints, calibration and training can fail. Whatever was finished before
/// stays in the folder.
pub fn train<T: Task>(
    task: &T,
    config: &Config,
    start: Start<T::Network>,
    run: &RunFolder,
    options: &TrainOptions,
) -> Result<Summary, TrainError> {
    let devices = &options.devices;
    let device = devices.first();
    let batch_size = config.train.evaluation_batch_size;
    let seed = config.train.seed;
    let stage = |name, config: StageConfig, seed| Stage {
        name,
        task,
        config,
        seed,
        evaluation_batch_size: batch_size,
        run,
        devices,
        progress: options.progress,
        interrupt: &options.interrupt,
    };
    let checkpoint = |stage| match options.interrupt.requested() {
        true => Err(TrainError::Interrupted { stage }),
        false => Ok(()),
    };
    let _running = run.lock()?;
    run.clean_up()?;
    let Start { mut network, trained, plan } = start;
    if run.has(FLOAT_MODEL) {
        network = read_record(&run.file(FLOAT_MODEL), network)?;
    } else {
        if !trained {
            let config = config.train.float_stage();
            let stage = stage(FLOAT, config, seed);
            stage.finished()?;
            network = stage.train(network, None, stage.config.epochs)?;
        }
        run.write_record(FLOAT_MODEL, network.clone())?;
    }
    let float = evaluate(task, &network, batch_size, device)?;
    show(options.progress, FLOAT, &float);
    checkpoint(FLOAT)?;

    let layers: Vec<String> = quant::sites(&network).into_iter().map(|site| site.layer).collect();
    let first_and_last = |errors: &[LayerError]| {
        let bits = |layer: Option<&String>, table| {
            LayerBits::of(layer.map_or("", String::as_str), table, errors)
        };
        (bits(layers.first(), None), bits(layers.last(), task.output_table()))
    };
    let (first_layer, last_layer) = first_and_last(&[]);
    let (float_epochs, float_seconds) = finished_epochs(run, FLOAT);
    let mut summary = Summary {
        task: task.name().to_string(),
        metric: MetricSummary {
            info: task.metric().into(),
            float: float[0].value,
            calibrated: None,
            quantized: None,
        },
        seed,
        seconds: Seconds { float: float_seconds, quantized: 0.0 },
        layers: plan.entries.len(),
        first_layer,
        last_layer,
        parameters: parameter_count(&network),
        train_examples: task.train_source().len(),
        epochs: Epochs { float: float_epochs, quantized: 0 },
        splits: SplitSummary { float, calibrated: Vec::new(), quantized: Vec::new() },
        version: version::VERSION.to_string(),
        commit: version::COMMIT.map(str::to_string),
        layer_errors: Vec::new(),
    };
    if !plan.entries.is_empty() {
        network = quantizable(task, config, network, &plan)?;
        // Batch normalization may be folded away.
        summary.parameters = parameter_count(&network);
        let first_plan = [FIRST_PLAN, PLAN].into_iter().find(|file| run.has(file));
        let mut calibrated_plan = match first_plan {
            Some(file) => run.read_json(file)?,
            None => {
                let (calibrated, found) = chosen(task, config, &network, plan.clone(), device)?;
                if let Some(found) = found {
                    run.write_json(SEARCH, &found)?;
                }
                run.write_json(PLAN, &calibrated)?;
                calibrated
            }
        };
        let corrections = if run.has(CORRECTIONS) {
            network = read_record(&run.file(CORRECTED_MODEL), network)?;
            run.read_json(CORRECTIONS)?
        } else {
            let watch = |number: usize, all: usize, layer: &str| {
                let line = format!("correcting {}/{all}: {layer}", number + 1);
                options.progress.stage_line(&line);
                checkpoint(CALIBRATED)
            };
            let plan = &calibrated_plan;
            let (corrected, log) = corrected(task, config, network, plan, device, watch)?;
            network = corrected;
            if config.quant.post_training.is_active() {
                run.write_record(CORRECTED_MODEL, network.clone())?;
                run.write_json(CORRECTIONS, &log)?;
            }
            log
        };
        let mut model = attach(network.clone(), &calibrated_plan, run)?;
        let (calibrated, mut errors) =
            evaluate_quantized(task, &model, CALIBRATED, batch_size, device)?;
        show(options.progress, CALIBRATED, &calibrated);
        checkpoint(CALIBRATED)?;
        against_float(&mut errors, &corrections);
        summary.layer_errors.extend(errors);

        // Another seed than the float stage's, so that the two do not see the same order.
        let stage = stage(QUANTIZED, config.train.quantized_stage(), !seed);
        let finished = stage.finished()?;
        if run.has(FIRST_PLAN) {
            calibrated_plan = run.read_json(PLAN)?;
            model = attach(network.clone(), &calibrated_plan, run)?;
        }
        for &epoch in config.quant.choose_again.iter().filter(|&&epoch| epoch >= finished) {
            // After an interruption at this very point, the same is chosen again: the float
            // weights of the checkpoint are the same with either coding.
            let trained = stage.train(model.model, Some(&model.quantizers), epoch)?;
            network = change_parameters(network, parameters(&trained, |_| true));
            let (plan, found) = chosen(task, config, &network, plan.clone(), device)?;
            if let Some(found) = found {
                run.write_json(SEARCH, &found)?;
            }
            let line = format!("{QUANTIZED}: codings and ranges chosen again after epoch {epoch}");
            options.progress.stage_line(&line);
            if !run.has(FIRST_PLAN) {
                run.write_json(FIRST_PLAN, &calibrated_plan)?;
            }
            run.write_json(PLAN, &plan)?;
            model = attach(network.clone(), &plan, run)?;
            stage.replace(epoch, model.model.clone())?;
            calibrated_plan = plan;
        }
        let epochs = stage.config.epochs;
        model.model = stage.train(model.model, Some(&model.quantizers), epochs)?;
        if config.train.quantized_stage().epochs > 0 {
            let (quantized, errors) =
                evaluate_quantized(task, &model, QUANTIZED, batch_size, device)?;
            show(options.progress, QUANTIZED, &quantized);
            summary.layer_errors.extend(errors);
            summary.metric.quantized = Some(quantized[0].value);
            summary.splits.quantized = quantized;
        }
        (summary.first_layer, summary.last_layer) = first_and_last(&summary.layer_errors);

        run.write_record(QUANTIZED_MODEL, model.model.clone())?;
        run.write_with(LayerError::FILE, |path| {
            write_csv(&summary.layer_errors, std::fs::File::create(path)?)
        })?;
        // Compact, since every number of a bin would have a line of its own.
        let histograms = serde_json::to_vec(&Histograms::latest(&model.quantizers));
        run.write("histograms.json", &histograms.expect("counts and levels are JSON"))?;
        run.write_with("model.safetensors", |path| deploy::save_weights(&model.model, path))?;
        run.write_with("codes.safetensors", |path| {
            let mut left_out: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (weight, reason) in deploy::save_codes(&model.model, &calibrated_plan, path)? {
                left_out.entry(reason).or_default().push(weight);
            }
            for (reason, weights) in left_out {
                let more = match weights.len() - 1 {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                let first = &weights[0];
                tracing::warn!("not in codes.safetensors: `{first}`{more}, whose {reason}");
            }
            Ok(())
        })?;
        summary.metric.calibrated = Some(calibrated[0].value);
        (summary.epochs.quantized, summary.seconds.quantized) = finished_epochs(run, QUANTIZED);
        summary.splits.calibrated = calibrated;
    }
    let SplitSummary { float, calibrated, quantized } = &summary.splits;
    let stages = [(FLOAT, float), (CALIBRATED, calibrated), (QUANTIZED, quantized)];
    let resamples: Vec<Resamples> =
        stages.into_iter().flat_map(|(stage, scores)| Resamples::of(stage, scores)).collect();
    run.write(Resamples::FILE, Resamples::lines(&resamples).as_bytes())?;
    run.write_json(Summary::FILE, &summary)?;
    let page = report::page(&report::Run::read(run.path())?);
    run.write("report.html", page.as_bytes())?;
    Ok(summary)
}

/// What [`evaluate_run`] and [`evaluate_config`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// The task.
    pub task: String,
    /// The metric's name.
    pub metric: String,
    /// Which model: `float`, `calibrated` or `quantized`.
    pub model: &'static str,
    /// The metric on every evaluation split.
    pub splits: Vec<SplitScore>,
    /// Errors of the quantized tensors on the first split; empty for a float model.
    pub layers: Vec<LayerError>,
}

/// Evaluates the model that a run left in its folder: the quantized one, or the float one where
/// nothing was quantized.
///
/// # Errors
///
/// If the folder lacks the model, or it does not fit the configuration.
pub fn evaluate_run<T: Task>(
    task: &T,
    config: &Config,
    run: &RunFolder,
    device: &Device,
) -> Result<Evaluation, TrainError> {
    check_data(task)?;
    set_precision(config, device)?;
    let network = initial_network(task, config, device)?;
    let run = run.clone().finished(FLOAT, FLOAT_MODEL)?;
    if config.quant.plan(&quant::sites(&network))?.entries.is_empty() {
        let network = read_record(&run.file(FLOAT_MODEL), network)?;
        let splits = evaluate(task, &network, config.train.evaluation_batch_size, device)?;
        return Ok(evaluation(task, FLOAT, splits, Vec::new()));
    }
    let run = run.finished(QUANTIZED, QUANTIZED_MODEL)?;
    let plan: CalibratedPlan = run.read_json(PLAN)?;
    let mut model = attach(folded(task, config, network)?, &plan, &run)?;
    model.model = read_record(&run.file(QUANTIZED_MODEL), model.model)?;
    let batch_size = config.train.evaluation_batch_size;
    let stage = if config.train.quantized_stage().epochs > 0 { QUANTIZED } else { CALIBRATED };
    let (splits, mut layers) = evaluate_quantized(task, &model, stage, batch_size, device)?;
    if stage == CALIBRATED && run.has(CORRECTIONS) {
        against_float(&mut layers, &run.read_json::<Vec<Correction>>(CORRECTIONS)?);
    }
    Ok(evaluation(task, stage, splits, layers))
}

/// Evaluates the model that a configuration starts from, in float and calibrated, without training.
///
/// # Errors
///
/// Those of reading the checkpoint, resolving the plan and calibrating.
pub fn evaluate_config<T: Task>(
    task: &T,
    config: &Config,
    device: &Device,
) -> Result<Vec<Evaluation>, TrainError> {
    let Start { network, plan, .. } = prepare(task, config, None, device)?;
    let batch_size = config.train.evaluation_batch_size;
    let splits = evaluate(task, &network, batch_size, device)?;
    let mut found = vec![evaluation(task, FLOAT, splits, Vec::new())];
    if !plan.entries.is_empty() {
        let network = quantizable(task, config, network, &plan)?;
        let (plan, _) = chosen(task, config, &network, plan, device)?;
        let (network, corrections) =
            corrected(task, config, network, &plan, device, |_, _, _| Ok(()))?;
        let model = quant::attach(network, &plan)?;
        let (splits, mut layers) =
            evaluate_quantized(task, &model, CALIBRATED, batch_size, device)?;
        against_float(&mut layers, &corrections);
        found.push(evaluation(task, CALIBRATED, splits, layers));
    }
    Ok(found)
}

fn evaluation<T: Task>(
    task: &T,
    model: &'static str,
    splits: Vec<SplitScore>,
    layers: Vec<LayerError>,
) -> Evaluation {
    let (task, metric) = (task.name().to_string(), task.metric().name.to_string());
    Evaluation { task, metric, model, splits, layers }
}

/// The model that a run starts from: the same for the same seed.
///
/// # Errors
///
/// If the task's published checkpoint cannot be loaded.
pub fn initial_network<T: Task>(
    task: &T,
    config: &Config,
    device: &Device,
) -> Result<T::Network, TaskError> {
    device.seed(config.train.seed);
    let network = task.network(device)?;
    // Burn draws a parameter when it is first used. Using all of them now, in order, keeps what
    // runs later from changing the draw; clones share what was drawn.
    let _ = network.valid();
    Ok(network)
}

/// The float model as it is quantized: folded, and with the weights that the plan normalizes centered.
fn quantizable<T: Task>(
    task: &T,
    config: &Config,
    network: T::Network,
    plan: &quant::Plan,
) -> Result<T::Network, TrainError> {
    Ok(quant::center_weights(folded(task, config, network)?, plan))
}

/// The float model, with batch normalization folded into its convolutions where that is asked for.
fn folded<T: Task>(
    task: &T,
    config: &Config,
    network: T::Network,
) -> Result<T::Network, TrainError> {
    match config.quant.fold_batch_norm {
        true => Ok(task.fold_batch_norm(network)?),
        false => Ok(network),
    }
}

fn set_precision(config: &Config, device: &Device) -> Result<(), TrainError> {
    let precision = config.train.precision;
    if !precision.supported(device) {
        let device = Box::new(device.clone());
        return Err(TrainError::Precision { precision: precision.name(), device });
    }
    precision.set();
    Ok(())
}

fn check_data<T: Task>(task: &T) -> Result<(), TrainError> {
    if task.train_source().is_empty() {
        return Err(TrainError::NoData { split: "training", purpose: "train on" });
    }
    if task.evaluation_splits().iter().any(|split| split.source.is_empty()) {
        return Err(TrainError::NoData { split: "validation", purpose: "measure" });
    }
    Ok(())
}

/// The codings that a weight could get and what each loses, from the model that a configuration starts from; and the
/// choice, where the configuration has a budget.
///
/// # Errors
///
/// Those of reading the checkpoint, resolving the plan and searching; `[quant.search]` without a budget.
pub fn search_config<T: Task>(
    task: &T,
    config: &Config,
    device: &Device,
) -> Result<Found, TrainError> {
    let Start { network, plan, .. } = prepare(task, config, None, device)?;
    let network = quantizable(task, config, network, &plan)?;
    let settings = config.quant.search.clone().unwrap_or_default();
    found(task, config, &settings, &network, &plan, device)
}

/// Every coding that each tensor of a configuration's plan could get at the plan's bits, and what it loses, from the
/// model that the configuration starts from. A search of the configuration comes first: what it chose is not open.
///
/// # Errors
///
/// Those of reading the checkpoint, resolving the plan, searching and calibrating.
pub fn weigh_config<T: Task>(
    task: &T,
    config: &Config,
    device: &Device,
) -> Result<Vec<WeighedSite>, TrainError> {
    let Start { network, plan, .. } = prepare(task, config, None, device)?;
    if plan.entries.is_empty() {
        return Ok(Vec::new());
    }
    let network = quantizable(task, config, network, &plan)?;
    let (plan, _) = searched(task, config, &network, plan, device)?;
    quant::weigh(&network, &plan, |observed| run_calibration(task, config, observed, device))
}

/// The plan with the codings that a search chooses, where the configuration asks for one.
fn searched<T: Task>(
    task: &T,
    config: &Config,
    network: &T::Network,
    plan: quant::Plan,
    device: &Device,
) -> Result<(quant::Plan, Option<Found>), TrainError> {
    let Some(settings) = &config.quant.search else { return Ok((plan, None)) };
    let found = found(task, config, settings, network, &plan, device)?;
    Ok((found.apply(plan), Some(found)))
}

fn found<T: Task>(
    task: &T,
    config: &Config,
    settings: &SearchConfig,
    network: &T::Network,
    plan: &quant::Plan,
    device: &Device,
) -> Result<Found, TrainError> {
    let mut evidence = Evidence::default();
    if settings.observes(plan) {
        // Activations are observed whether they are to be quantized or not.
        let sites = quant::sites(network);
        let run = |observed: &T::Network| run_calibration(task, config, observed, device);
        let seen = quant::observe_activations(network, sites.iter(), run)?;
        let named = sites.into_iter().filter_map(|site| {
            let observation = seen.get(&site.path)?.clone();
            Some((site.path.clone(), (site, observation)))
        });
        evidence.observed = named.collect();
        evidence.examples = calibration_examples(task, config).concat().len() as u64;
    }
    if settings.objective == Objective::Fisher {
        let size = config.train.quantized_stage().batch_size;
        let batches = calibration_batches(task, config, device);
        // What dropout drops must not depend on what ran before, which a resumed run has not.
        device.seed(config.train.seed);
        evidence.fisher = fisher(task, network, batches, size).map_err(TaskError::from)?;
    }
    let mut layers = search::layers(network, plan, settings, &evidence)?;
    if settings.objective == Objective::Loss {
        let batches = calibration_batches(task, config, device).collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(TaskError::from)?;
        let loss = |model: &T::Network| mean_loss(task, model, &batches);
        let float = search::measure_loss(network, &mut layers, loss)?;
        let mut found = search::search(layers, Vec::new(), settings)?;
        found.refine(network, float, loss)?;
        return Ok(found);
    }
    let activations = match settings.chooses_activations() {
        true => search::activations(plan, &evidence)?,
        false => Vec::new(),
    };
    Ok(search::search(layers, activations, settings)?)
}

/// The float model as calibration leaves it: with what `[quant.post-training]` asks for.
fn corrected<T: Task>(
    task: &T,
    config: &Config,
    network: T::Network,
    plan: &CalibratedPlan,
    device: &Device,
    watch: impl FnMut(usize, usize, &str) -> Result<(), TrainError>,
) -> Result<(T::Network, Vec<Correction>), TrainError> {
    let settings = &config.quant.post_training;
    if !settings.is_active() {
        return Ok((network, Vec::new()));
    }
    let run = |observed: &T::Network| run_calibration(task, config, observed, device);
    post_training::correct(network, plan, settings, device, run, watch)
}

/// Gives weights that were rounded without training their errors to the float weights: those that
/// are stored are on their levels already.
fn against_float(errors: &mut [LayerError], corrections: &[Correction]) {
    for Correction { layer, tensor, error, .. } in corrections {
        let of = |e: &&mut LayerError| e.layer == *layer && e.tensor == *tensor;
        if let Some(found) = errors.iter_mut().find(of) {
            found.measured(error);
        }
    }
}

/// The codings and the ranges of a float model: by a search where the configuration asks for one, and
/// by calibration.
fn chosen<T: Task>(
    task: &T,
    config: &Config,
    network: &T::Network,
    plan: quant::Plan,
    device: &Device,
) -> Result<(CalibratedPlan, Option<Found>), TrainError> {
    let (plan, found) = searched(task, config, network, plan, device)?;
    Ok((calibrate(task, config, network, &plan, device)?, found))
}

fn calibrate<T: Task>(
    task: &T,
    config: &Config,
    network: &T::Network,
    plan: &quant::Plan,
    device: &Device,
) -> Result<CalibratedPlan, TrainError> {
    quant::calibrate(network, plan, |observed| run_calibration(task, config, observed, device))
}

fn run_calibration<T: Task>(
    task: &T,
    config: &Config,
    network: &T::Network,
    device: &Device,
) -> Result<(), TrainError> {
    for batch in calibration_batches(task, config, device) {
        task.loss(network, batch.map_err(TaskError::from)?);
    }
    Ok(())
}

/// The mean loss of training batches, of which each counts alike.
fn mean_loss<T: Task>(task: &T, network: &T::Network, batches: &[T::Batch]) -> f64 {
    let losses = batches.iter().map(|batch| task.loss(network, batch.clone()).into_scalar::<f64>());
    losses.sum::<f64>() / batches.len().max(1) as f64
}

fn calibration_batches<T: Task>(task: &T, config: &Config, device: &Device) -> Prefetch<T::Batch> {
    Prefetch::new(task.train_source(), calibration_examples(task, config), device)
}

/// The examples of each calibration batch, from all over the sizes, not only the shortest ones. Where there are several
/// sizes, in an order that has nothing to do with them: an average over batches weighs the last ones most.
fn calibration_examples<T: Task>(task: &T, config: &Config) -> Vec<Vec<usize>> {
    let source = task.train_source();
    let batch_size = config.train.quantized_stage().batch_size;
    let all = batches_by_size(source.as_ref(), 0..source.len(), batch_size);
    let step = all.len().div_ceil(config.train.calibration_batches).max(1);
    let mut chosen: Vec<Vec<usize>> = all.into_iter().step_by(step).collect();
    let sizes: BTreeSet<usize> = chosen.iter().flatten().map(|&i| source.size(i)).collect();
    if sizes.len() > 1 {
        chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(config.train.seed));
    }
    chosen
}

/// Attaches the plan that a run's folder holds.
fn attach<M: Module>(
    network: M,
    plan: &CalibratedPlan,
    run: &RunFolder,
) -> Result<QuantizedModel<M>, TrainError> {
    quant::attach(network, plan).map_err(|error| TrainError::File {
        action: "use",
        path: run.file(PLAN),
        reason: error.to_string(),
    })
}

fn show(progress: Progress, stage: &str, scores: &[SplitScore]) {
    for score in scores {
        progress.line(&format!(
            "{stage}: {} {:.4} ({} examples)",
            score.split, score.value, score.examples
        ));
    }
}
