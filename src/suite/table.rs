//! The table of a suite, from what is kept of its cells.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::cell::FLOAT_RUN;
use super::statistic::binomial_error;
use super::{Cell, Column, Group, Outcome, Record, RunSummary, Statistic, Suite};
use super::{SuiteError, SuiteTask, TensorErrors};
use crate::config::{Config, Select};
use crate::evaluate::{CALIBRATED, FLOAT, LayerBits, Metric, QUANTIZED, Resamples, SplitScore};
use crate::tasks::{Unit, error_of_difference, sample_deviation};

/// The table of a suite: `table.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The suite's name.
    pub suite: String,
    /// What its cells set.
    pub cells: Vec<Column>,
    /// One for each task.
    pub tasks: Vec<TaskTable>,
}

/// The rows of a task. What no run has told yet is absent.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TaskTable {
    /// The task's name.
    pub task: String,
    /// Its configuration.
    pub config: String,
    /// Overrides of that.
    pub set: Vec<String>,
    /// The metric.
    pub metric: Option<String>,
    /// How its values and their differences are told.
    pub unit: Option<Unit>,
    /// Whether a larger value is better.
    pub higher_is_better: Option<bool>,
    /// The split that it is measured on.
    pub split: Option<String>,
    /// Examples of that split: the fewest and the most over the runs, where data are made by the seed.
    pub examples: Option<RangeInclusive<usize>>,
    /// The float runs, then the suite's cells.
    pub rows: Vec<Row>,
}

/// One coding on one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The cell's name; `float` for the float runs.
    pub cell: String,
    /// Bits of weights, where the cell sets them.
    pub weight_bits: Option<u32>,
    /// Bits of activations, where the cell sets them.
    pub activation_bits: Option<u32>,
    /// The metric of the float model that it starts from.
    pub float: Option<Statistic>,
    /// Straight after calibration: post-training quantization.
    pub calibrated: Option<Statistic>,
    /// After quantization-aware fine-tuning.
    pub quantized: Option<Statistic>,
    /// What fine-tuned is above float, seed by seed, in the unit of differences; straight after
    /// calibration, where the cell does not fine-tune.
    pub difference: Option<Statistic>,
    /// Standard errors over the examples, where there is a single seed.
    pub standard_error: StandardError,
    /// Where it stands among the cells of as many bits on this task (after fine-tuning, where the
    /// cell does); none without such a cell that it shares two seeds with, and where the examples do not
    /// tell how far figures are sure.
    pub standing: Option<Standing>,
    /// What it is above the one of those that leads it most, seed by seed, in the unit of differences;
    /// none where none does.
    pub to_best: Option<Statistic>,
    /// How far quantized weights are from float ones straight after calibration.
    pub weight_errors: Option<TensorErrors>,
    /// The same of activations.
    pub activation_errors: Option<TensorErrors>,
    /// What the first layer is quantized to, in each run: a search may choose by the seed.
    pub first_layer: Vec<LayerBits>,
    /// What the last layer is quantized to, in each run.
    pub last_layer: Vec<LayerBits>,
    /// Which epoch's model is measured, and of how many: `last of 8`.
    pub epoch: String,
    /// Seconds of training: of the float stage in the row of the float runs, of fine-tuning in others.
    pub seconds: Option<Statistic>,
    /// Versions or commits that the runs were finished with.
    pub commits: Vec<String>,
    /// Seeds that the suite asks for.
    pub seeds: Vec<u64>,
    /// Seeds without a result yet.
    pub missing: Vec<u64>,
    /// Seeds that failed.
    pub failed: Vec<Failure>,
    /// Seeds whose run started from a float model of another figure than the float run that is kept: trained again
    /// since, or on another machine.
    pub other_float: Vec<u64>,
    /// The metric on all splits of each run.
    pub runs: Vec<RunOfRow>,
}

/// Where a cell stands among those of as many bits, over the seeds, two or more, that it shares with each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// None of them is better.
    Best,
    /// The one that leads it most does so by no more than the deviation of that difference over seeds or
    /// what the examples leave unsure, whichever is larger. The examples leave twice the standard error
    /// of the difference on the same examples unsure, where all runs have kept [`Resamples`], else the
    /// standard error of either figure.
    Level,
    /// That one leads by more.
    Behind,
    /// Its runs failed, where others can be compared.
    Failed,
}

/// Standard errors of a row's figures over the examples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StandardError {
    /// Of the float model.
    pub float: Option<f64>,
    /// Straight after calibration.
    pub calibrated: Option<f64>,
    /// After fine-tuning.
    pub quantized: Option<f64>,
    /// Of the difference to float, in the unit of differences: on the same examples.
    pub difference: Option<f64>,
}

/// A seed that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// Why.
    pub reason: String,
}

/// One run of a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunOfRow {
    /// The seed.
    pub seed: u64,
    /// What it found.
    pub summary: RunSummary,
    /// The metric over the bootstrap's draws of the examples, where the run has kept it.
    #[serde(skip)]
    pub resamples: Vec<Resamples>,
}

impl RunOfRow {
    /// What the run ends with, on the split that is shown: fine-tuned, or calibrated where it does
    /// not fine-tune; over the bootstrap's draws. Empty where that was not kept.
    fn resampled(&self, split: &str) -> &[f64] {
        let stage = if self.summary.splits.quantized.is_empty() { CALIBRATED } else { QUANTIZED };
        Resamples::find(&self.resamples, stage, split)
    }
}

/// The scores of one run on the split that is shown.
struct Scores {
    float: SplitScore,
    calibrated: Option<SplitScore>,
    quantized: Option<SplitScore>,
}

impl Table {
    /// Makes the table of a suite from what is kept of its cells.
    ///
    /// # Errors
    ///
    /// A record that cannot be read, and a split that a task does not have.
    pub fn gather(suite: &Suite, groups: &[Group]) -> Result<Self, SuiteError> {
        let tasks = suite.tasks.iter().map(|task| {
            let of_task: Vec<&Group> =
                groups.iter().filter(|group| group.float.task == task.name).collect();
            TaskTable::gather(task, &suite.columns, &of_task)
        });
        let tasks = tasks.collect::<Result<_, _>>()?;
        Ok(Self { suite: suite.name.clone(), cells: suite.columns.clone(), tasks })
    }
}

impl TaskTable {
    fn gather(task: &SuiteTask, columns: &[Column], groups: &[&Group]) -> Result<Self, SuiteError> {
        let float: Vec<&Cell> = groups.iter().map(|group| &group.float).collect();
        let mut rows = vec![Row::gather(task, None, &float)?];
        for (index, column) in columns.iter().enumerate() {
            let cells: Vec<&Cell> = groups.iter().map(|group| &group.cells[index]).collect();
            rows.push(Row::gather(task, Some(column), &cells)?);
        }
        find_other_floats(task, &mut rows)?;
        let summaries = || rows.iter().flat_map(|row| &row.runs).map(|run| &run.summary);
        let known = summaries().next().cloned();
        let floats = summaries()
            .map(|summary| scores(task, summary).map(|scores| scores.float))
            .collect::<Result<Vec<_>, _>>()?;
        let examples = || floats.iter().map(|score| score.examples);
        let examples = examples().min().zip(examples().max()).map(|(min, max)| min..=max);
        if let Some(summary) = &known {
            rank(task, &mut rows, &summary.metric)?;
        }
        Ok(Self {
            task: task.name.clone(),
            config: task.config.display().to_string(),
            set: task.set.clone(),
            metric: known.as_ref().map(|summary| summary.metric.name.clone()),
            unit: known.as_ref().map(|summary| summary.metric.unit),
            higher_is_better: known.as_ref().map(|summary| summary.metric.higher_is_better),
            examples,
            split: floats.into_iter().next().map(|score| score.split),
            rows,
        })
    }
}

impl Row {
    fn gather(
        task: &SuiteTask,
        column: Option<&Column>,
        cells: &[&Cell],
    ) -> Result<Self, SuiteError> {
        let (mut missing, mut failed, mut runs) = (Vec::new(), Vec::new(), Vec::new());
        let (mut of_weights, mut of_activations) = (Vec::new(), Vec::new());
        for cell in cells {
            match Record::load(cell)?.map(|record| record.outcome) {
                None => missing.push(cell.seed),
                Some(Outcome::Failed { reason }) => {
                    failed.push(Failure { seed: cell.seed, reason })
                }
                Some(Outcome::Done { summary }) => {
                    let resamples = Record::resamples(cell)?;
                    runs.push(RunOfRow { seed: cell.seed, summary: *summary, resamples });
                    let [weights, activations] = TensorErrors::load(cell)?;
                    of_weights.extend(weights);
                    of_activations.extend(activations);
                }
            }
        }
        let found =
            runs.iter().map(|run| scores(task, &run.summary)).collect::<Result<Vec<_>, _>>()?;
        let values = |of: fn(&Scores) -> Option<&SplitScore>| -> Vec<f64> {
            found.iter().filter_map(of).map(|score| score.value).collect()
        };
        let single = |of: fn(&Scores) -> Option<&SplitScore>| match (&found[..], &runs[..]) {
            ([scores], [run]) => standard_error(&run.summary.metric, of(scores)?),
            _ => None,
        };
        let error_of_difference = match (&found[..], &runs[..]) {
            ([scores], [run]) => {
                let split = &scores.float.split;
                let float = Resamples::find(&run.resamples, FLOAT, split);
                let unit = run.summary.metric.unit;
                let difference = |from, to| unit.difference(from, to);
                error_of_difference(float, run.resampled(split), difference)
            }
            _ => None,
        };
        let differences: Vec<f64> = found
            .iter()
            .zip(&runs)
            .filter_map(|(scores, run)| {
                let quantized = scores.quantized.as_ref().or(scores.calibrated.as_ref())?.value;
                Some(run.summary.metric.unit.difference(scores.float.value, quantized))
            })
            .collect();
        let mut commits: Vec<String> = runs.iter().map(|run| built_from(&run.summary)).collect();
        commits.sort();
        commits.dedup();
        let seconds: Vec<f64> = runs
            .iter()
            .map(|run| match column {
                None => run.summary.seconds.float,
                Some(_) => run.summary.seconds.quantized,
            })
            .collect();
        let config = &cells[0].config;
        let [weight_bits, activation_bits] = match column {
            Some(_) => config.quant.widths(),
            None => [None; 2],
        };
        Ok(Self {
            cell: column.map_or(FLOAT_RUN, |column| &column.name).to_string(),
            weight_bits,
            activation_bits,
            float: Statistic::of(&values(|scores| Some(&scores.float))),
            calibrated: Statistic::of(&values(|scores| scores.calibrated.as_ref())),
            quantized: Statistic::of(&values(|scores| scores.quantized.as_ref())),
            difference: Statistic::of(&differences),
            standard_error: StandardError {
                float: single(|scores| Some(&scores.float)),
                calibrated: single(|scores| scores.calibrated.as_ref()),
                quantized: single(|scores| scores.quantized.as_ref()),
                difference: error_of_difference,
            },
            standing: None,
            to_best: None,
            weight_errors: TensorErrors::mean(of_weights.into_iter()),
            activation_errors: TensorErrors::mean(of_activations.into_iter()),
            first_layer: runs.iter().map(|run| run.summary.first_layer.clone()).collect(),
            last_layer: runs.iter().map(|run| run.summary.last_layer.clone()).collect(),
            epoch: epoch(config, column.is_some()),
            seconds: Statistic::of(&seconds),
            commits,
            seeds: cells.iter().map(|cell| cell.seed).collect(),
            missing,
            failed,
            other_float: Vec::new(),
            runs,
        })
    }

    /// What the cell ends with: fine-tuned, or calibrated where it does not fine-tune.
    pub(super) fn result(&self) -> Option<Statistic> {
        self.quantized.or(self.calibrated)
    }

    /// The scores that it is ranked by: of the runs that start from the float run that is kept.
    fn results(&self, task: &SuiteTask) -> Result<Vec<Ranked>, SuiteError> {
        let mut ranked = Vec::new();
        for run in self.runs.iter().filter(|run| !self.other_float.contains(&run.seed)) {
            let scores = scores(task, &run.summary)?;
            let score = scores.quantized.or(scores.calibrated);
            ranked.extend(score.map(|score| Ranked {
                seed: run.seed,
                value: score.value,
                error: standard_error(&run.summary.metric, &score),
                resampled: run.resampled(&score.split).to_vec(),
            }));
        }
        Ok(ranked)
    }

    /// The standard error of what the cell ends with; of the float model, where that is all.
    pub(super) fn error_of_result(&self) -> Option<f64> {
        let error = self.standard_error;
        match (self.quantized, self.calibrated) {
            (Some(_), _) => error.quantized,
            (None, Some(_)) => error.calibrated,
            (None, None) => error.float,
        }
    }
}

/// The scores of a run on the split that the suite shows.
fn scores(task: &SuiteTask, summary: &RunSummary) -> Result<Scores, SuiteError> {
    let of = |scores: &[SplitScore]| match &task.split {
        None => scores.first().cloned(),
        Some(split) => scores.iter().find(|score| score.split == *split).cloned(),
    };
    let float = of(&summary.splits.float).ok_or_else(|| SuiteError::Split {
        task: task.name.clone(),
        split: task.split.clone().unwrap_or_default(),
        found: summary.splits.float.iter().map(|score| score.split.clone()).collect(),
    })?;
    let (calibrated, quantized) = (of(&summary.splits.calibrated), of(&summary.splits.quantized));
    Ok(Scores { float, calibrated, quantized })
}

/// Says of each row which of its runs started from another float model than the one whose figure the first row has.
fn find_other_floats(task: &SuiteTask, rows: &mut [Row]) -> Result<(), SuiteError> {
    let Some((float, cells)) = rows.split_first_mut() else { return Ok(()) };
    for row in cells {
        for run in &row.runs {
            let Some(of_seed) = float.runs.iter().find(|float| float.seed == run.seed) else {
                continue;
            };
            let [kept, own] = [of_seed, run].map(|run| scores(task, &run.summary));
            let (kept, own) = (kept?.float.value, own?.float.value);
            // Machines differ in the last digits of one and the same model.
            if (kept - own).abs() > 1e-6 * kept.abs() {
                row.other_float.push(run.seed);
            }
        }
    }
    Ok(())
}

/// The standard error over the examples: binomial of an accuracy, else what the run has estimated.
fn standard_error(metric: &Metric, score: &SplitScore) -> Option<f64> {
    match metric.name.as_str() {
        "accuracy" => Some(binomial_error(score.value, score.examples)),
        _ => score.standard_error,
    }
}

/// What a run is ranked by.
struct Ranked {
    seed: u64,
    value: f64,
    error: Option<f64>,
    resampled: Vec<f64>,
}

/// What differs by less, in parts of the best, is the same: figures of several seeds are sums in floating point.
const SAME: f64 = 1e-9;

/// Says of each row with rivals of as many bits where it stands among them.
fn rank(task: &SuiteTask, rows: &mut [Row], metric: &Metric) -> Result<(), SuiteError> {
    let results = rows.iter().map(|row| row.results(task)).collect::<Result<Vec<_>, _>>()?;
    let widths = |row: &Row| [row.weight_bits, row.activation_bits];
    let mut groups: Vec<([Option<u32>; 2], Vec<usize>)> = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        if widths(row) == [None; 2] || results[index].is_empty() && row.failed.is_empty() {
            continue;
        }
        match groups.iter_mut().find(|(other, _)| *other == widths(row)) {
            Some((_, group)) => group.push(index),
            None => groups.push((widths(row), vec![index])),
        }
    }
    for (_, group) in groups.iter().filter(|(_, group)| group.len() > 1) {
        for &index in group {
            let rivals = group.iter().filter(|&&rival| rival != index);
            let compared =
                rivals.filter_map(|&rival| compare(&results[index], &results[rival], metric));
            let Some(first) = compared.max_by(|a, b| a.lead.total_cmp(&b.lead)) else { continue };
            rows[index].standing = match first.spread {
                _ if first.lead <= 0.0 => Some(Standing::Best),
                Some(spread) if first.lead <= spread => Some(Standing::Level),
                Some(_) => Some(Standing::Behind),
                None => None,
            };
            rows[index].to_best = (first.lead > 0.0).then_some(first.change);
        }
        // The best of those that nothing can be said of is none.
        if group.iter().filter(|&&index| rows[index].standing.is_some()).count() < 2 {
            group.iter().for_each(|&index| rows[index].standing = None);
            continue;
        }
        for &index in group.iter().filter(|&&index| results[index].is_empty()) {
            rows[index].standing = Some(Standing::Failed);
        }
    }
    Ok(())
}

/// A row beside a rival, over the seeds that both have.
struct Comparison {
    /// By how much the rival is better, in the metric's own unit.
    lead: f64,
    /// How far that is sure: the larger of its deviation over seeds and what the examples leave
    /// unsure; none where the latter is not known.
    spread: Option<f64>,
    /// What the row is above the rival, in the unit of differences.
    change: Statistic,
}

/// None of fewer than two seeds: how far a figure moves with the seed is not known then.
fn compare(own: &[Ranked], rival: &[Ranked], metric: &Metric) -> Option<Comparison> {
    let of_rival = |run: &Ranked| rival.iter().find(|other| other.seed == run.seed);
    let pairs: Vec<(&Ranked, &Ranked)> =
        own.iter().filter_map(|run| Some((run, of_rival(run)?))).collect();
    let sign = if metric.higher_is_better { 1.0 } else { -1.0 };
    let leads: Vec<f64> =
        pairs.iter().map(|(own, rival)| sign * (rival.value - own.value)).collect();
    let changes: Vec<f64> =
        pairs.iter().map(|(own, rival)| metric.unit.difference(rival.value, own.value)).collect();
    let lead = Statistic::of(&leads)?;
    let deviation = lead.deviation?;
    let error = |of: fn(&(&Ranked, &Ranked)) -> Option<f64>| {
        let errors: Vec<f64> = pairs.iter().filter_map(of).collect();
        Statistic::of(&errors).map(|statistic| statistic.mean)
    };
    let errors = [error(|(own, _)| own.error), error(|(_, rival)| rival.error)];
    let of_figures = errors.into_iter().flatten().reduce(f64::max);
    let of_examples = error_on_same_examples(&pairs).map(|error| 2.0 * error).or(of_figures);
    let spread = of_examples.map(|error| error.max(deviation));
    let values = Statistic::of(&pairs.iter().map(|(_, rival)| rival.value).collect::<Vec<_>>())?;
    let is_same = lead.mean.abs() <= SAME * values.mean.abs();
    let lead = if is_same { 0.0 } else { lead.mean };
    Some(Comparison { lead, spread, change: Statistic::of(&changes)? })
}

/// The standard error, over the examples that all of them share, of the mean difference of pairs; none where a run
/// has not kept what that takes.
fn error_on_same_examples(pairs: &[(&Ranked, &Ranked)]) -> Option<f64> {
    let draws = pairs.first()?.0.resampled.len();
    let runs = || pairs.iter().flat_map(|(own, rival)| [own, rival]);
    if runs().any(|run| run.resampled.len() != draws) {
        return None;
    }
    let mean = |draw: usize| {
        let differences =
            pairs.iter().map(|(own, rival)| rival.resampled[draw] - own.resampled[draw]);
        differences.sum::<f64>() / pairs.len() as f64
    };
    sample_deviation(&(0..draws).map(mean).collect::<Vec<_>>())
}

fn epoch(config: &Config, quantized: bool) -> String {
    let stage = match quantized {
        true => config.train.quantized_stage(),
        false => config.train.float_stage(),
    };
    match (stage.epochs, stage.select) {
        (0, _) => "none".into(),
        (epochs, Select::Last) if stage.early_stopping.is_some() => {
            format!("last, at most {epochs}")
        }
        (epochs, Select::Last) => format!("last of {epochs}"),
        (epochs, Select::Best) => format!("best of {epochs}"),
    }
}

/// The commit, or the version where no commit is known.
fn built_from(summary: &RunSummary) -> String {
    match &summary.commit {
        Some(commit) => commit.clone(),
        None => format!("version {}", summary.version),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::evaluate::{Seconds, SplitSummary};
    use crate::suite::cell::tests::group;

    fn task(split: Option<&str>, seeds: &[u64]) -> SuiteTask {
        SuiteTask {
            name: "t".into(),
            slug: "t".into(),
            config: PathBuf::from("t.toml"),
            set: Vec::new(),
            seeds: seeds.to_vec(),
            split: split.map(str::to_string),
        }
    }

    fn column(name: &str, coding: &str) -> Column {
        let table = |text: &str| Some(toml::from_str(text).unwrap());
        Column {
            name: name.into(),
            slug: name.into(),
            weight: table(coding),
            activation: table("bits = 8"),
            set: Vec::new(),
        }
    }

    fn summary(metric: &str, float: f64, calibrated: f64, quantized: f64) -> RunSummary {
        // What stands first is the validation split; the test split is 0.1 below it.
        let scores = |value: f64| {
            let score = |split: &str, value| SplitScore {
                split: split.into(),
                value,
                standard_error: Some(0.03),
                examples: 100,
                others: Vec::new(),
                resampled: Vec::new(),
            };
            vec![score("valid", value), score("test", value - 0.1)]
        };
        let layer = LayerBits { layer: "l".into(), weight: Some(4), activation: None };
        RunSummary {
            metric: Metric { name: metric.into(), unit: Unit::Fraction, higher_is_better: true },
            seconds: Seconds { float: 0.0, quantized: 7.0 },
            first_layer: layer.clone(),
            last_layer: layer,
            splits: SplitSummary {
                float: scores(float),
                calibrated: scores(calibrated),
                quantized: scores(quantized),
            },
            version: "1".into(),
            commit: None,
        }
    }

    /// Groups of cells `a` and `b` with what is kept of them in a folder.
    fn groups(folder: &Path, seeds: &[u64]) -> Vec<Group> {
        groups_of(folder, seeds, &["a", "b"])
    }

    fn groups_of(folder: &Path, seeds: &[u64], names: &[&str]) -> Vec<Group> {
        let mut groups: Vec<Group> = seeds.iter().map(|seed| group("t", *seed, names)).collect();
        for group in &mut groups {
            for cell in std::iter::once(&mut group.float).chain(&mut group.cells) {
                cell.kept = folder.join(cell.to_string());
            }
        }
        groups
    }

    fn keep(cell: &Cell, outcome: Outcome) {
        let record = Record {
            task: "t".into(),
            cell: "c".into(),
            seed: cell.seed,
            fingerprint: cell.fingerprint.clone(),
            outcome,
        };
        std::fs::create_dir_all(&cell.kept).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        std::fs::write(cell.kept.join("result.json"), text).unwrap();
    }

    fn done(summary: RunSummary) -> Outcome {
        Outcome::Done { summary: Box::new(summary) }
    }

    fn gather(task: &SuiteTask, groups: &[Group]) -> Result<TaskTable, SuiteError> {
        let columns =
            [column("a", "bits = 4"), column("b", "exponent-bits = 2\nsuperposition-bits = 1")];
        TaskTable::gather(task, &columns, &groups.iter().collect::<Vec<_>>())
    }

    #[track_caller]
    fn near(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|f| (f - expected).abs() < 1e-12), "{found:?}, not {expected}");
    }

    #[test]
    fn a_row_has_mean_deviation_and_difference_over_its_seeds() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1, 2, 3]);
        for (group, (float, quantized)) in groups.iter().zip([(0.9, 0.8), (0.7, 0.7), (0.8, 0.9)]) {
            keep(&group.cells[0], done(summary("accuracy", float, 0.5, quantized)));
        }
        keep(&groups[0].cells[1], done(summary("accuracy", 0.9, 0.5, 0.75)));
        keep(&groups[1].cells[1], Outcome::Failed { reason: "no".into() });
        let table = gather(&task(None, &[1, 2, 3]), &groups).unwrap();
        let [float, a, b] = &table.rows[..] else { panic!("three rows") };

        let quantized = a.quantized.unwrap();
        assert_eq!(quantized.seeds, 3);
        near(Some(quantized.mean), 0.8);
        near(quantized.deviation, 0.1);
        near(a.calibrated.unwrap().deviation, 0.0);
        // In points: -10, 0 and 10.
        near(Some(a.difference.unwrap().mean), 0.0);
        near(a.difference.unwrap().deviation, 10.0);
        assert_eq!(a.standard_error, StandardError::default(), "there are several seeds");
        near(a.seconds.map(|seconds| seconds.mean), 7.0);
        assert_eq!((a.weight_bits, a.activation_bits), (Some(4), Some(8)));

        // Of a single seed, the standard error stands for the deviation.
        near(b.standard_error.quantized, (0.75_f64 * 0.25 / 100.0).sqrt());
        near(b.standard_error.float, (0.9_f64 * 0.1 / 100.0).sqrt());
        assert_eq!(b.quantized.unwrap().deviation, None);
        assert_eq!(b.failed, [Failure { seed: 2, reason: "no".into() }]);
        assert_eq!(b.missing, [3]);
        assert_eq!(b.weight_bits, Some(4), "a sign, two and one");
        // They have one seed in common, which does not tell how far it moves them.
        assert_eq!([float, a, b].map(|row| row.standing), [None; 3]);
        assert_eq!(float.missing, [1, 2, 3]);
    }

    #[test]
    fn what_fails_where_others_can_be_compared_stands_as_failed() {
        let folder = tempfile::tempdir().unwrap();
        let seeds = [1, 2];
        let groups = groups_of(folder.path(), &seeds, &["a", "b", "c"]);
        for group in &groups {
            keep(&group.cells[0], done(summary("accuracy", 0.9, 0.5, 0.8)));
            keep(&group.cells[2], Outcome::Failed { reason: "no".into() });
        }
        let columns = ["a", "b", "c"].map(|name| column(name, "bits = 4"));
        let standings = |groups: &[Group]| {
            let groups: Vec<&Group> = groups.iter().collect();
            let table = TaskTable::gather(&task(None, &seeds), &columns, &groups).unwrap();
            [1, 2, 3].map(|row| table.rows[row].standing)
        };
        assert_eq!(standings(&groups), [None; 3], "one has results");
        for group in &groups {
            keep(&group.cells[1], done(summary("accuracy", 0.9, 0.5, 0.5)));
        }
        let expected = [Standing::Best, Standing::Behind, Standing::Failed].map(Some);
        assert_eq!(standings(&groups), expected);
    }

    #[test]
    fn what_started_from_another_float_model_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1, 2]);
        for (group, float) in groups.iter().zip([0.9, 0.7 + 1e-9]) {
            keep(&group.float, done(summary("accuracy", float, 0.5, 0.5)));
            keep(&group.cells[0], done(summary("accuracy", 0.7, 0.5, 0.8)));
        }
        let table = || gather(&task(None, &[1, 2]), &groups).unwrap();
        let rows = table().rows;
        let other: Vec<&[u64]> = rows.iter().map(|row| &row.other_float[..]).collect();
        assert_eq!(other, [&[][..], &[1], &[]]);

        // Nor is it compared with what started from the float model that is kept.
        for (group, float) in groups.iter().zip([0.9, 0.7]) {
            keep(&group.cells[1], done(summary("accuracy", float, 0.5, 0.5)));
        }
        let standings = || table().rows[1..].iter().map(|row| row.standing).collect::<Vec<_>>();
        assert_eq!(standings(), [None, None]);
        keep(&groups[0].cells[0], done(summary("accuracy", 0.9, 0.5, 0.8)));
        assert_eq!(standings(), [Some(Standing::Best), Some(Standing::Behind)]);
    }

    #[test]
    fn a_suite_says_which_split_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1]);
        keep(&groups[0].cells[0], done(summary("slot F1", 0.9, 0.5, 0.8)));
        let table = gather(&task(Some("test"), &[1]), &groups).unwrap();
        near(table.rows[1].quantized.map(|s| s.mean), 0.7);
        near(table.rows[1].difference.map(|s| s.mean), -10.0);
        near(table.rows[1].standard_error.quantized, 0.03);
        assert_eq!((table.split.as_deref(), table.examples), (Some("test"), Some(100..=100)));
        let error = gather(&task(Some("dev"), &[1]), &groups).unwrap_err().to_string();
        assert!(error.contains("`dev`; its splits are valid, test"), "{error}");
    }

    #[test]
    fn what_is_kept_of_another_configuration_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let mut groups = groups(folder.path(), &[1]);
        keep(&groups[0].cells[0], done(summary("accuracy", 0.9, 0.5, 0.8)));
        groups[0].cells[0].fingerprint = "1".into();
        let table = gather(&task(None, &[1]), &groups).unwrap();
        assert_eq!((table.rows[1].quantized, &table.rows[1].missing[..]), (None, &[1][..]));
    }

    /// Draws of examples that move all figures by 0.1; those of `b` are off by 0.01 besides, which
    /// makes differences to it unsure by 0.0115.
    fn keep_resamples(cell: &Cell, value: f64) {
        let own = if cell.column.as_deref() == Some("b") { 0.01 } else { 0.0 };
        let draws = [(0.1, own), (-0.1, own), (0.1, -own), (-0.1, -own)];
        let resamples = Resamples {
            stage: QUANTIZED.into(),
            split: "valid".into(),
            values: draws.map(|(examples, own)| value + examples + own).to_vec(),
        };
        let lines = Resamples::lines([&resamples]);
        std::fs::write(cell.kept.join(Resamples::FILE), lines).unwrap();
    }

    /// The standings of `a` and `b` after results of theirs, one for each seed, and what `b` is to the
    /// best.
    fn standings(
        metric: (&str, bool),
        a: &[Option<f64>],
        b: &[Option<f64>],
    ) -> ([Option<Standing>; 2], Option<Statistic>) {
        let folder = tempfile::tempdir().unwrap();
        let seeds: Vec<u64> = (1..=a.len() as u64).collect();
        let groups = groups(folder.path(), &seeds);
        for (index, group) in groups.iter().enumerate() {
            for (cell, value) in group.cells.iter().zip([a[index], b[index]]) {
                let Some(value) = value else { continue };
                let mut summary = summary(metric.0, 0.9, 0.5, value);
                summary.metric.higher_is_better = metric.1;
                if metric.0 == "unsure" {
                    summary.splits.quantized[0].standard_error = None;
                }
                keep(cell, done(summary));
                if metric.0 == "paired" {
                    keep_resamples(cell, value);
                }
            }
        }
        let rows = gather(&task(None, &seeds), &groups).unwrap().rows;
        assert_eq!(rows[0].standing, None, "the float runs");
        ([rows[1].standing, rows[2].standing], rows[2].to_best)
    }

    #[test]
    fn a_row_is_best_level_or_behind_among_those_of_as_many_bits() {
        use Standing::{Behind, Best, Level};
        let two = |metric, a, b| standings(metric, &[Some(a); 2], &[Some(b); 2]).0;
        let one = |metric, a, b| two(metric, a, b).map(Option::unwrap);
        let single = standings(("accuracy", true), &[Some(0.8)], &[Some(0.2)]);
        assert_eq!(single, ([None; 2], None), "a single seed tells no spread");
        let accuracy = ("accuracy", true);
        assert_eq!(one(accuracy, 0.8, 0.8), [Best, Best], "a tie is shared");
        // The standard error is 0.04 of 0.8, and 0.046 of 0.7.
        assert_eq!(one(accuracy, 0.8, 0.77), [Best, Level]);
        assert_eq!(one(accuracy, 0.8, 0.7), [Best, Behind]);
        assert_eq!(one(("accuracy", false), 0.8, 0.77), [Level, Best]);
        assert_eq!(one(("accuracy", false), 0.8, 0.7), [Behind, Best]);
        assert_eq!(
            two(("unsure", true), 0.8, 0.7),
            [None; 2],
            "nothing tells how far the examples make it sure"
        );
        // On the same examples, 0.02 and 0.03 beside twice a standard error of 0.0115; the figures' own is 0.03.
        assert_eq!(one(("paired", true), 0.8, 0.78), [Best, Level]);
        assert_eq!(one(("paired", true), 0.8, 0.77), [Best, Behind]);
        assert_eq!(one(("paired", true), 0.77, 0.8), [Behind, Best]);
    }

    #[test]
    fn what_is_the_same_but_for_rounding_is_best_together() {
        let of = |right: [u32; 3]| right.map(|right| Some(f64::from(right) / 300.0));
        let (one, other) = (of([295, 295, 298]), of([297, 296, 295]));
        for (a, b) in [(&one, &other), (&other, &one)] {
            assert_eq!(standings(("accuracy", true), a, b).0, [Some(Standing::Best); 2]);
        }
    }

    #[test]
    fn rows_that_share_fewer_than_two_seeds_are_not_compared() {
        let (a, b) = ([Some(0.8), None, Some(0.7)], [None, Some(0.9), Some(0.6)]);
        assert_eq!(standings(("accuracy", true), &a, &b).0, [None; 2]);
    }

    #[test]
    fn a_row_is_compared_with_the_one_that_leads_it_most() {
        // Seeds of `a`, of which others lack the last.
        let folder = tempfile::tempdir().unwrap();
        let seeds = [1, 2, 3];
        let groups = groups_of(folder.path(), &seeds, &["a", "b", "c"]);
        for (index, group) in groups.iter().enumerate() {
            for (cell, value) in group.cells.iter().zip([0.5, 0.8, 0.9]) {
                if index < 2 || value == 0.5 {
                    keep(cell, done(summary("accuracy", 0.9, 0.5, value)));
                }
            }
        }
        let columns = ["a", "b", "c"].map(|name| column(name, "bits = 4"));
        let groups: Vec<&Group> = groups.iter().collect();
        let table = TaskTable::gather(&task(None, &seeds), &columns, &groups).unwrap();
        let [_, a, b, c] = &table.rows[..] else { panic!("four rows") };
        let expected = [Standing::Behind, Standing::Behind, Standing::Best].map(Some);
        assert_eq!([a, b, c].map(|row| row.standing), expected, "all seeds alone are no merit");
        near(a.to_best.map(|change| change.mean), -40.0);
        assert_eq!(c.to_best, None);
    }

    #[test]
    fn rows_are_compared_over_the_seeds_that_both_have() {
        use Standing::{Behind, Best, Level};
        let (found, to_best) = standings(
            ("paired", true),
            &[Some(0.9), Some(0.6), Some(0.75)],
            &[Some(0.87), Some(0.57), Some(0.71)],
        );
        assert_eq!(found, [Some(Best), Some(Behind)], "a seed moves both alike");
        near(to_best.map(|change| change.mean), -10.0 / 3.0);
        let unlike = [Some(0.83), Some(0.58), Some(0.75)];
        let (found, _) = standings(("paired", true), &[Some(0.9), Some(0.6), Some(0.75)], &unlike);
        assert_eq!(found, [Some(Best), Some(Level)], "0.03 with a deviation of 0.036");
        // The standard error of the figures stands for that of the difference where draws were not kept: 0.03.
        let near_it = [Some(0.88), Some(0.58), Some(0.73)];
        let (found, _) =
            standings(("slot F1", true), &[Some(0.9), Some(0.6), Some(0.75)], &near_it);
        assert_eq!(found, [Some(Best), Some(Level)]);

        // The seeds that it lacks count neither for a row nor against it.
        let lucky = [Some(0.95), Some(0.65), None];
        let (found, to_best) =
            standings(("slot F1", true), &[Some(0.9), Some(0.6), Some(0.75)], &lucky);
        assert_eq!((found, to_best), ([Some(Behind), Some(Best)], None));
    }

    #[test]
    fn rows_of_other_widths_are_no_rivals_and_weights_alone_may_be_quantized() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1, 2]);
        for cell in groups.iter().flat_map(|group| &group.cells) {
            keep(cell, done(summary("accuracy", 0.9, 0.5, 0.8)));
        }
        let task = task(None, &[1, 2]);
        let mut rows = gather(&task, &groups).unwrap().rows;
        let metric = rows[1].runs[0].summary.metric.clone();
        for (widths, expected) in [
            ([Some(3), Some(8)], None),
            ([Some(4), None], None),
            ([Some(4), Some(8)], Some(Standing::Best)),
        ] {
            [rows[2].weight_bits, rows[2].activation_bits] = widths;
            rows.iter_mut().for_each(|row| row.standing = None);
            rank(&task, &mut rows, &metric).unwrap();
            assert_eq!([rows[1].standing, rows[2].standing], [expected; 2], "{widths:?}");
        }
        for row in &mut rows[1..] {
            row.activation_bits = None;
        }
        rank(&task, &mut rows, &metric).unwrap();
        assert_eq!(rows[1].standing, Some(Standing::Best));
    }

    #[test]
    fn a_row_has_the_mean_errors_of_its_calibrated_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1, 2]);
        for (group, sqnr) in groups.iter().zip([10.0, 20.0]) {
            keep(&group.cells[0], done(summary("accuracy", 0.9, 0.5, 0.8)));
            let line = |stage: &str, layer: &str, share: f64, sqnr: f64| {
                format!("{stage},{layer},weight,weight,int,4,true,1,9,1,1,0.0,{share},{sqnr}\n")
            };
            let log = [
                "stage,layer,tensor,kind,coding,bits,signed,scales,values,clipping_error,\
                 rounding_error,clipped_fraction,clipping_share,sqnr_db\n",
                &line("calibrated", "a", 0.25, sqnr),
                &line("calibrated", "b", 0.75, sqnr),
                &line("calibrated", "c", 0.0, f64::INFINITY),
                &line("quantized", "a", 0.9, 99.0),
            ]
            .concat();
            std::fs::write(group.cells[0].kept.join("layers.csv"), log).unwrap();
        }
        let rows = gather(&task(None, &[1, 2]), &groups).unwrap().rows;
        let expected = TensorErrors { sqnr_db: 15.0, clipping_share: 0.5 };
        assert_eq!((rows[1].weight_errors, rows[1].activation_errors), (Some(expected), None));
    }
}
