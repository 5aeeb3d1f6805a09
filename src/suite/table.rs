//! The table of a suite, from what is kept of its cells.

use serde::Serialize;

use super::statistic::binomial_error;
use super::{Cell, Column, Group, Outcome, Record, RunScore, RunSummary, Statistic, Suite};
use super::{SuiteError, SuiteTask, TensorErrors};
use crate::config::{Config, Select};
use crate::tasks::Unit;
use crate::train::LayerBits;

/// The table of a suite: `table.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Table {
    /// The suite's name.
    pub suite: String,
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
    /// Examples of that split.
    pub examples: Option<usize>,
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
    /// cell does); none without such a cell.
    pub standing: Option<Standing>,
    /// How far quantized weights are from float ones straight after calibration.
    pub weight_errors: Option<TensorErrors>,
    /// The same of activations.
    pub activation_errors: Option<TensorErrors>,
    /// What the first layer is quantized to.
    pub first_layer: Option<LayerBits>,
    /// What the last layer is quantized to.
    pub last_layer: Option<LayerBits>,
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

/// Where a cell stands among those of as many bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// None is better.
    Best,
    /// The best is better by no more than the larger spread of the two: the deviation over seeds, or
    /// the standard error of a single one.
    Level,
    /// The best is better by more.
    Behind,
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
}

/// The scores of one run on the split that is shown.
struct Scores {
    float: RunScore,
    calibrated: Option<RunScore>,
    quantized: Option<RunScore>,
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
        Ok(Self { suite: suite.name.clone(), tasks: tasks.collect::<Result<_, _>>()? })
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
        let known = rows.iter().flat_map(|row| &row.runs).map(|run| &run.summary).next().cloned();
        let score = match &known {
            Some(summary) => Some(scores(task, summary)?.float),
            None => None,
        };
        if let Some(summary) = &known {
            rank(&mut rows, summary.metric.higher_is_better);
        }
        Ok(Self {
            task: task.name.clone(),
            config: task.config.display().to_string(),
            set: task.set.clone(),
            metric: known.as_ref().map(|summary| summary.metric.name.clone()),
            unit: known.as_ref().map(|summary| summary.metric.unit),
            higher_is_better: known.as_ref().map(|summary| summary.metric.higher_is_better),
            examples: score.as_ref().map(|score| score.examples),
            split: score.map(|score| score.split),
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
                    runs.push(RunOfRow { seed: cell.seed, summary: *summary });
                    let [weights, activations] = TensorErrors::load(cell)?;
                    of_weights.extend(weights);
                    of_activations.extend(activations);
                }
            }
        }
        let found =
            runs.iter().map(|run| scores(task, &run.summary)).collect::<Result<Vec<_>, _>>()?;
        let values = |of: fn(&Scores) -> Option<&RunScore>| -> Vec<f64> {
            found.iter().filter_map(of).map(|score| score.value).collect()
        };
        let accuracy = runs.first().is_some_and(|run| run.summary.metric.name == "accuracy");
        let single = |of: fn(&Scores) -> Option<&RunScore>| {
            let [scores] = &found[..] else { return None };
            let score = of(scores)?;
            match accuracy {
                true => Some(binomial_error(score.value, score.examples)),
                false => score.standard_error,
            }
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
        let summary = runs.first().map(|run| &run.summary);
        let [weight_bits, activation_bits] = match column {
            Some(_) => config.quant.widths(),
            None => [None; 2],
        };
        Ok(Self {
            cell: column.map_or("float", |column| &column.name).to_string(),
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
            },
            standing: None,
            weight_errors: TensorErrors::mean(of_weights.into_iter()),
            activation_errors: TensorErrors::mean(of_activations.into_iter()),
            first_layer: summary.map(|summary| summary.first_layer.clone()),
            last_layer: summary.map(|summary| summary.last_layer.clone()),
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

    /// How far that is sure: the deviation over seeds, or the standard error of a single one.
    fn spread(&self) -> Option<f64> {
        self.result()?.deviation.or(self.error_of_result())
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
    let of = |scores: &[RunScore]| match &task.split {
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

/// Says of each row with rivals of as many bits where it stands among them.
fn rank(rows: &mut [Row], higher_is_better: bool) {
    let rivals: Vec<_> = rows
        .iter()
        .map(|row| {
            let bits = (row.weight_bits?, row.activation_bits?);
            let mean = row.result()?.mean;
            Some((bits, if higher_is_better { mean } else { -mean }, row.spread().unwrap_or(0.0)))
        })
        .collect();
    for (row, own) in rows.iter_mut().zip(&rivals) {
        let Some((bits, figure, spread)) = own else { continue };
        let group = rivals.iter().flatten().filter(|(other, ..)| other == bits);
        let best = group.clone().map(|&(_, figure, _)| figure).fold(f64::NEG_INFINITY, f64::max);
        let spread_of_best = group
            .clone()
            .filter(|&&(_, figure, _)| figure == best)
            .fold(0.0, |most: f64, &(_, _, spread)| most.max(spread));
        row.standing = match best - figure {
            _ if group.count() < 2 => None,
            0.0 => Some(Standing::Best),
            lead if lead <= spread.max(spread_of_best) => Some(Standing::Level),
            _ => Some(Standing::Behind),
        };
    }
}

fn epoch(config: &Config, quantized: bool) -> String {
    let stage = match quantized {
        true => config.train.quantized_stage(),
        false => config.train.float_stage(),
    };
    match (stage.epochs, stage.select) {
        (0, _) => "none".into(),
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
    use crate::suite::cell::tests::group;
    use crate::suite::{RunMetric, RunSeconds, RunSplits};

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
            let score = |split: &str, value| RunScore {
                split: split.into(),
                value,
                standard_error: Some(0.03),
                examples: 100,
                others: Vec::new(),
            };
            vec![score("valid", value), score("test", value - 0.1)]
        };
        let layer = LayerBits { layer: "l".into(), weight: Some(4), activation: None };
        RunSummary {
            metric: RunMetric { name: metric.into(), unit: Unit::Fraction, higher_is_better: true },
            seconds: RunSeconds { float: 0.0, quantized: 7.0 },
            first_layer: layer.clone(),
            last_layer: layer,
            splits: RunSplits {
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
        let mut groups: Vec<Group> =
            seeds.iter().map(|seed| group("t", *seed, &["a", "b"])).collect();
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
        let standings = [float, a, b].map(|row| row.standing);
        assert_eq!(standings, [None, Some(Standing::Best), Some(Standing::Level)]);
        assert_eq!(float.missing, [1, 2, 3]);
    }

    #[test]
    fn what_started_from_another_float_model_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1, 2]);
        for (group, float) in groups.iter().zip([0.9, 0.7 + 1e-9]) {
            keep(&group.float, done(summary("accuracy", float, 0.5, 0.5)));
            keep(&group.cells[0], done(summary("accuracy", 0.7, 0.5, 0.8)));
        }
        let table = gather(&task(None, &[1, 2]), &groups).unwrap();
        let other: Vec<&[u64]> = table.rows.iter().map(|row| &row.other_float[..]).collect();
        assert_eq!(other, [&[][..], &[1], &[]]);
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
        assert_eq!((table.split.as_deref(), table.examples), (Some("test"), Some(100)));
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

    #[test]
    fn a_row_is_best_level_or_behind_among_those_of_as_many_bits() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1]);
        for cell in &groups[0].cells {
            keep(cell, done(summary("accuracy", 0.9, 0.5, 0.8)));
        }
        let mut rows = gather(&task(None, &[1]), &groups).unwrap().rows;
        let standings = |rows: &[Row]| [0, 1, 2].map(|index: usize| rows[index].standing);
        let (best, level) = (Some(Standing::Best), Some(Standing::Level));
        assert_eq!(standings(&rows), [None, best, best], "a tie is shared");
        // Standard errors: 0.04 of 0.8, 0.046 of 0.7 as it was set.
        for (higher_is_better, value, expected) in [
            (true, 0.77, [best, level]),
            (true, 0.7, [best, Some(Standing::Behind)]),
            (false, 0.77, [level, best]),
            (false, 0.7, [Some(Standing::Behind), best]),
        ] {
            rows[2].quantized = Statistic::of(&[value]);
            rank(&mut rows, higher_is_better);
            assert_eq!(standings(&rows)[1..], expected, "{value}");
        }
        rows[2].weight_bits = Some(3);
        rank(&mut rows, true);
        assert_eq!(standings(&rows), [None; 3], "none has a rival");
    }

    #[test]
    fn a_row_has_the_mean_errors_of_its_calibrated_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let groups = groups(folder.path(), &[1, 2]);
        for (group, sqnr) in groups.iter().zip([10.0, 20.0]) {
            keep(&group.cells[0], done(summary("accuracy", 0.9, 0.5, 0.8)));
            let log = format!(
                "stage,layer,kind,clipping_share,sqnr_db\ncalibrated,a,weight,0.25,{sqnr}\n\
                 calibrated,b,weight,0.75,{sqnr}\ncalibrated,c,weight,0.0,inf\n\
                 quantized,a,weight,0.9,99.0\n"
            );
            std::fs::write(group.cells[0].kept.join("layers.csv"), log).unwrap();
        }
        let rows = gather(&task(None, &[1, 2]), &groups).unwrap().rows;
        let expected = TensorErrors { sqnr_db: 15.0, clipping_share: 0.5 };
        assert_eq!((rows[1].weight_errors, rows[1].activation_errors), (Some(expected), None));
    }
}
