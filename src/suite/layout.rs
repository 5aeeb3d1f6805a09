//! The table of a suite as it is read: headings, text and tables of text, for every form.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::Serialize;

use super::cell::FLOAT_RUN;
use super::{Row, Standing, Statistic, Table, TaskTable, TensorErrors};
use crate::evaluate::LayerBits;
use crate::tasks::{Unit, signed};

/// A document.
pub(super) struct Layout(pub(super) Vec<Block>);

/// A part of it.
pub(super) enum Block {
    Heading(String),
    Text(String),
    Table { head: Vec<String>, rows: Vec<Vec<Entry>> },
}

/// An entry of a table.
pub(super) struct Entry {
    pub(super) text: String,
    /// Whether it stands out.
    pub(super) strong: bool,
}

impl From<String> for Entry {
    fn from(text: String) -> Self {
        Self { text, strong: false }
    }
}

impl From<&str> for Entry {
    fn from(text: &str) -> Self {
        text.to_string().into()
    }
}

const LEGEND: &str = "QAT is the metric after quantization-aware fine-tuning, PTQ straight after \
    calibration, without training; of a coding that is not fine-tuned, PTQ is what counts. Every coding \
    starts from the same float model of its task and seed and trains by the recipe of the task, but for \
    what its row sets; differences to float and to the best are taken seed by seed. \u{b1} is the standard \
    deviation over seeds; a figure of a single seed is marked, with its standard error over the examples \
    (SE) where it is known: binomial of an accuracy, else by the bootstrap; of a difference, on the same \
    examples. In bold: no coding of as many bits is better. Each is compared with the one of as many bits that \
    leads it most, over the seeds that both have, two at least: of a single seed nothing is said, since its \
    deviation is not known. Level is what that one leads by no more than the larger of the deviation of the \
    difference over seeds and what the examples leave unsure: twice the SE of the difference where the runs \
    kept their bootstrap's draws (`resamples.jsonl`), else the SE of one figure; where that is not known, \
    nothing is said either. What started from another float model is marked, and not compared; what failed \
    counts as neither best nor level. SQNR: the mean over quantized weights / activations straight after calibration, in dB, \
    and the mean of clipping's part of their squared error; every tensor counts alike, whatever its size, so \
    that a searched plan shows what it gives to most tensors, not to most weights. First and last layer: bits \
    of weights / activations, - where they are not quantized; an output layer that multiplies with a table of \
    embeddings shows the bits of that. \
    Seconds are those of training, on a shared machine.";

impl Layout {
    /// All tasks beside each other; of a suite of one task, its details.
    pub(super) fn overview(table: &Table) -> Self {
        match &table.tasks[..] {
            [] | [_] => Self::of(table),
            _ => Self(across(table)),
        }
    }

    /// Lays a table out: an overview of all tasks, then the details of each.
    pub(super) fn of(table: &Table) -> Self {
        let mut blocks = across(table);
        for task in &table.tasks {
            blocks.push(Block::Heading(task.task.clone()));
            blocks.push(Block::Text(about(task)));
            blocks.extend(details(task));
            blocks.extend(standings(task).map(Block::Text));
            let missing = task.rows.iter().filter(|row| !is_known(row));
            blocks.extend(not_run(missing.map(|row| &row.cell)));
        }
        Self(blocks)
    }
}

/// What is said of all tasks together.
fn across(table: &Table) -> Vec<Block> {
    let legend = Block::Text(format!("Suite `{}`. {LEGEND}", table.suite));
    [legend].into_iter().chain(overview(table)).chain(recipes(table)).collect()
}

/// The figures of all tasks beside each other, of what has been run; of one task, the details say it all.
fn overview(table: &Table) -> Vec<Block> {
    let [first, _, ..] = &table.tasks[..] else { return Vec::new() };
    let (tasks, missing): (Vec<_>, Vec<_>) =
        table.tasks.iter().partition(|task| task.rows.iter().any(is_known));
    let mut head = vec!["coding".to_string()];
    head.extend(tasks.iter().map(|task| {
        format!("{}, {}{}", task.task, task.metric.as_deref().unwrap_or("failed"), direction(task))
    }));
    head.extend(["best".into(), "best or level".into()]);
    let row = |index: usize| {
        let mut entries = vec![Entry::from(first.rows[index].cell.as_str())];
        entries.extend(tasks.iter().map(|task| {
            let row = &task.rows[index];
            Entry { text: result(task, row), strong: is_best(row) }
        }));
        let standings = tasks.iter().filter_map(|task| task.rows[index].standing);
        let tasks = standings.clone().count();
        let count = |counts: fn(Standing) -> bool| match tasks {
            0 => Entry::from(""),
            tasks => {
                format!("{} of {tasks}", standings.clone().filter(|s| counts(*s)).count()).into()
            }
        };
        entries.push(count(|standing| standing == Standing::Best));
        entries.push(count(|standing| matches!(standing, Standing::Best | Standing::Level)));
        entries
    };
    let is_shown = |&index: &usize| tasks.iter().any(|task| is_known(&task.rows[index]));
    let rows: Vec<_> = (0..first.rows.len()).filter(is_shown).map(row).collect();
    let figures = (!rows.is_empty()).then_some(Block::Table { head, rows });
    figures.into_iter().chain(not_run(missing.iter().map(|task| &task.task))).collect()
}

/// What rows set besides their codings, of those that have been run.
fn recipes(table: &Table) -> Option<Block> {
    let is_shown = |index: usize| table.tasks.iter().any(|task| is_known(&task.rows[index + 1]));
    let shown = table.cells.iter().enumerate().filter(|(index, _)| is_shown(*index));
    let recipes: Vec<String> = shown
        .filter(|(_, cell)| !cell.set.is_empty())
        .map(|(_, cell)| {
            let set: Vec<String> = cell.set.iter().map(|set| code(set)).collect();
            format!("{} {}", code(&cell.name), set.join(", "))
        })
        .collect();
    let text = format!("Rows that set more than their codings: {}.", recipes.join("; "));
    (!recipes.is_empty()).then_some(Block::Text(text))
}

/// Whether anything came of a row.
fn is_known(row: &Row) -> bool {
    !row.runs.is_empty() || !row.failed.is_empty()
}

/// A name in a text: it may hold commas.
fn code(name: &str) -> String {
    format!("`{name}`")
}

/// Says what has not been run.
fn not_run<'a>(names: impl Iterator<Item = &'a String>) -> Option<Block> {
    let names: Vec<String> = names.map(|name| code(name)).collect();
    (!names.is_empty()).then(|| Block::Text(format!("Not run: {}.", names.join(", "))))
}

/// What was trained and measured.
fn about(task: &TaskTable) -> String {
    let mut text = format!("`{}`", task.config);
    for set in &task.set {
        text.push_str(&format!(", `{set}`"));
    }
    if let (Some(metric), Some(unit), Some(split), Some(examples)) =
        (&task.metric, task.unit, &task.split, &task.examples)
    {
        let shown = if unit == Unit::Fraction { " in %" } else { "" };
        let examples = range(examples.clone());
        text.push_str(&format!(
            ": {metric}{shown} on `{split}` ({examples} examples){}",
            match task.higher_is_better {
                Some(false) => ", lower is better",
                _ => "",
            }
        ));
    }
    text.push('.');
    text
}

fn direction(task: &TaskTable) -> &'static str {
    match task.higher_is_better {
        Some(true) => " \u{2191}",
        Some(false) => " \u{2193}",
        None => "",
    }
}

fn details(task: &TaskTable) -> Option<Block> {
    let differences = task.unit.map_or("", Unit::of_differences);
    let head = [
        "coding",
        "W / A bits",
        "PTQ",
        "QAT",
        &format!("to float, {differences}"),
        "SQNR, clipping",
        "first layer",
        "last layer",
        "epoch",
        "seconds",
        "seeds",
        "commit",
    ];
    let rows = task.rows.iter().filter(|row| is_known(row)).map(|row| {
        let unit = task.unit.unwrap_or(Unit::Points);
        let calibrated =
            row.calibrated.map(|s| figure(unit, s, row.standard_error.calibrated, row.seeds.len()));
        let tuned = row.quantized.is_some() || row.calibrated.is_none();
        vec![
            row.cell.as_str().into(),
            widths(row).into(),
            Entry { text: calibrated.unwrap_or_default(), strong: is_best(row) && !tuned },
            match tuned {
                true => Entry { text: result(task, row), strong: is_best(row) },
                false => "".into(),
            },
            row.difference
                .map(|s| difference(s, row.standard_error.difference))
                .unwrap_or_default()
                .into(),
            errors(row).into(),
            precision(&row.first_layer).into(),
            precision(&row.last_layer).into(),
            row.epoch.as_str().into(),
            row.seconds.map(|seconds| format!("{:.0}", seconds.mean)).unwrap_or_default().into(),
            seeds(row).into(),
            row.commits.join(", ").into(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    (!rows.is_empty()).then(|| Block::Table { head: head.map(str::to_string).to_vec(), rows })
}

fn is_best(row: &Row) -> bool {
    row.standing == Some(Standing::Best)
}

/// `18.4 (3 %) / 37.5 (0 %)`: of weights and activations.
fn errors(row: &Row) -> String {
    let show = |errors: Option<TensorErrors>| match errors {
        Some(e) => format!("{:.1} ({:.0} %)", e.sqnr_db, 100.0 * e.clipping_share),
        None => "-".into(),
    };
    match (row.weight_errors, row.activation_errors) {
        (None, None) => String::new(),
        (weights, activations) => format!("{} / {}", show(weights), show(activations)),
    }
}

/// For each width that several codings have, in words: which is best, which are level with it, and
/// which are behind by how much.
fn standings(task: &TaskTable) -> impl Iterator<Item = String> {
    let unit = task.unit.unwrap_or(Unit::Points);
    let mut groups: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in task.rows.iter().filter(|row| row.standing.is_some()) {
        let widths = widths(row);
        match groups.iter_mut().find(|(other, _)| *other == widths) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((widths, vec![row])),
        }
    }
    groups.into_iter().map(move |(widths, rows)| {
        let of = |standing| rows.iter().filter(move |row| row.standing == Some(standing));
        let behind = |row: &Row| {
            let change = row.to_best.map(|change| {
                format!(" ({} {})", with_deviation(change, signed), unit.of_differences())
            });
            format!("{}{}", code(&row.cell), change.unwrap_or_default())
        };
        let parts = [
            ("best", Standing::Best),
            ("level", Standing::Level),
            ("behind", Standing::Behind),
            ("failed", Standing::Failed),
        ];
        let parts = parts.map(|(what, standing)| {
            let names: Vec<String> = of(standing).map(|row| behind(row)).collect();
            (!names.is_empty()).then(|| format!("{what}: {}", names.join(", ")))
        });
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("At {widths} bits, {}.", parts.join("; "))
    })
}

/// The figure that a row ends with: fine-tuned, calibrated or float; or why there is none.
fn result(task: &TaskTable, row: &Row) -> String {
    let float = row.float.filter(|_| row.cell == FLOAT_RUN);
    match (row.result().or(float), task.unit) {
        (Some(statistic), Some(unit)) => {
            let figure = figure(unit, statistic, row.error_of_result(), row.seeds.len());
            match of_other_float(row) {
                None => figure,
                Some(seeds) => format!("{figure} ({seeds})"),
            }
        }
        _ if !row.failed.is_empty() => "failed".into(),
        _ => "not run".into(),
    }
}

/// A figure with its spread, and of how many seeds it is, where those are not all that were asked for.
fn figure(unit: Unit, statistic: Statistic, error: Option<f64>, asked: usize) -> String {
    let show = |value: f64| format!("{:.*}", decimals(unit, statistic.mean), unit.shown(value));
    let seeds = match (statistic.seeds, asked) {
        (1, 1) => "1 seed".into(),
        (done, asked) if done == asked => String::new(),
        (done, asked) => format!("{done} of {asked} seeds"),
    };
    let error = match statistic.deviation {
        None => error.map(|error| format!("SE {}", show(error))),
        Some(_) => None,
    };
    let notes: Vec<String> =
        [seeds, error.unwrap_or_default()].into_iter().filter(|note| !note.is_empty()).collect();
    match &notes[..] {
        [] => with_deviation(statistic, show),
        notes => format!("{} ({})", with_deviation(statistic, show), notes.join(", ")),
    }
}

/// A difference with its spread: over seeds, or over the examples.
fn difference(statistic: Statistic, error: Option<f64>) -> String {
    let text = with_deviation(statistic, signed);
    match error {
        Some(error) => format!("{text} (SE {error:.2})"),
        None => text,
    }
}

/// `7`, or `7 to 9`.
fn range<T: PartialEq + Display>(range: RangeInclusive<T>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{} to {}", range.start(), range.end()),
    }
}

/// Decimals of a figure: a small perplexity tells more with three.
fn decimals(unit: Unit, mean: f64) -> usize {
    if unit == Unit::Ratio && mean < 10.0 { 3 } else { 2 }
}

fn with_deviation(statistic: Statistic, show: impl Fn(f64) -> String) -> String {
    let mean = show(statistic.mean);
    match statistic.deviation {
        // A deviation has no sign.
        Some(deviation) => {
            format!("{mean} \u{b1} {}", show(deviation).trim_start_matches('+'))
        }
        None => mean,
    }
}

fn widths(row: &Row) -> String {
    match (row.weight_bits, row.activation_bits) {
        (None, None) => String::new(),
        (weight, activation) => pair(weight, activation),
    }
}

/// The bits of a layer in all runs.
fn precision(runs: &[LayerBits]) -> String {
    let bits = |of: fn(&LayerBits) -> Option<u32>| {
        let known = || runs.iter().filter_map(of);
        known().min().zip(known().max()).map(|(min, max)| range(min..=max))
    };
    match (bits(|layer| layer.weight), bits(|layer| layer.activation)) {
        (None, None) if runs.is_empty() => String::new(),
        (None, None) => "float".into(),
        (weight, activation) => pair(weight, activation),
    }
}

fn pair<T: ToString>(weight: Option<T>, activation: Option<T>) -> String {
    let show = |bits: Option<T>| bits.map_or("-".into(), |bits| bits.to_string());
    format!("{} / {}", show(weight), show(activation))
}

/// How many seeds the figures are of, and what became of the others.
fn seeds(row: &Row) -> String {
    let (asked, done) = (row.seeds.len(), row.runs.len());
    let mut text = match asked == done {
        true => done.to_string(),
        false => format!("{done} of {asked}"),
    };
    for failure in &row.failed {
        text.push_str(&format!("; seed {} failed: {}", failure.seed, failure.reason));
    }
    if !row.missing.is_empty() {
        text.push_str(&format!("; not run: seed {}", list(&row.missing)));
    }
    text.extend(of_other_float(row).map(|seeds| format!("; {seeds}")));
    text
}

/// What started from another float model than that of its task and seed.
fn of_other_float(row: &Row) -> Option<String> {
    let seeds = &row.other_float;
    (!seeds.is_empty()).then(|| format!("from another float model: seed {}", list(seeds)))
}

fn list(seeds: &[u64]) -> String {
    seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// A row of `table.csv`.
#[derive(Serialize)]
pub(super) struct Figures<'a> {
    task: &'a str,
    config: &'a str,
    task_set: String,
    metric: Option<&'a str>,
    split: Option<&'a str>,
    examples: Option<String>,
    cell: &'a str,
    weight_bits: Option<u32>,
    activation_bits: Option<u32>,
    seeds: usize,
    missing_seeds: String,
    other_float_seeds: String,
    float: Option<f64>,
    float_deviation: Option<f64>,
    calibrated: Option<f64>,
    calibrated_deviation: Option<f64>,
    quantized: Option<f64>,
    quantized_deviation: Option<f64>,
    standard_error: Option<f64>,
    standing: Option<Standing>,
    to_best: Option<f64>,
    to_best_deviation: Option<f64>,
    weight_sqnr_db: Option<f64>,
    weight_clipping_share: Option<f64>,
    activation_sqnr_db: Option<f64>,
    activation_clipping_share: Option<f64>,
    difference: Option<f64>,
    difference_deviation: Option<f64>,
    difference_standard_error: Option<f64>,
    unit_of_differences: Option<&'static str>,
    first_layer: String,
    last_layer: String,
    epoch: &'a str,
    seconds: Option<f64>,
    commit: String,
    failed: String,
}

/// The figures of a row as plain columns.
pub(super) fn figures<'a>(task: &'a TaskTable, row: &'a Row) -> Figures<'a> {
    let mean = |statistic: Option<Statistic>| statistic.map(|s| s.mean);
    let deviation = |statistic: Option<Statistic>| statistic.and_then(|s| s.deviation);
    let failed = row.failed.iter().map(|f| format!("seed {}: {}", f.seed, f.reason));
    let numbers = |seeds: &[u64]| seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
    Figures {
        task: &task.task,
        config: &task.config,
        task_set: task.set.join(" "),
        metric: task.metric.as_deref(),
        split: task.split.as_deref(),
        examples: task.examples.clone().map(range),
        cell: &row.cell,
        weight_bits: row.weight_bits,
        activation_bits: row.activation_bits,
        seeds: row.runs.len(),
        missing_seeds: numbers(&row.missing),
        other_float_seeds: numbers(&row.other_float),
        float: mean(row.float),
        float_deviation: deviation(row.float),
        calibrated: mean(row.calibrated),
        calibrated_deviation: deviation(row.calibrated),
        quantized: mean(row.quantized),
        quantized_deviation: deviation(row.quantized),
        standard_error: row.error_of_result(),
        standing: row.standing,
        to_best: mean(row.to_best),
        to_best_deviation: deviation(row.to_best),
        weight_sqnr_db: row.weight_errors.map(|errors| errors.sqnr_db),
        weight_clipping_share: row.weight_errors.map(|errors| errors.clipping_share),
        activation_sqnr_db: row.activation_errors.map(|errors| errors.sqnr_db),
        activation_clipping_share: row.activation_errors.map(|errors| errors.clipping_share),
        difference: mean(row.difference),
        difference_deviation: deviation(row.difference),
        difference_standard_error: row.standard_error.difference,
        unit_of_differences: task.unit.map(Unit::of_differences),
        first_layer: precision(&row.first_layer),
        last_layer: precision(&row.last_layer),
        epoch: &row.epoch,
        seconds: mean(row.seconds),
        commit: row.commits.join(" "),
        failed: failed.collect::<Vec<_>>().join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_show_their_spread_or_that_there_is_none() {
        let one = Statistic { mean: 0.972_22, deviation: None, seeds: 1 };
        let three = Statistic { mean: 0.972_22, deviation: Some(0.001_5), seeds: 3 };
        assert_eq!(figure(Unit::Fraction, three, None, 3), "97.22 \u{b1} 0.15");
        assert_eq!(figure(Unit::Fraction, three, None, 5), "97.22 \u{b1} 0.15 (3 of 5 seeds)");
        assert_eq!(figure(Unit::Fraction, one, Some(0.008_66), 1), "97.22 (1 seed, SE 0.87)");
        assert_eq!(figure(Unit::Fraction, one, Some(0.008_66), 3), "97.22 (1 of 3 seeds, SE 0.87)");
        assert_eq!(figure(Unit::Fraction, one, None, 1), "97.22 (1 seed)");
        let perplexity = |mean| Statistic { mean, deviation: Some(0.004_4), seeds: 2 };
        assert_eq!(figure(Unit::Ratio, perplexity(2.545_6), None, 2), "2.546 \u{b1} 0.004");
        assert_eq!(figure(Unit::Ratio, perplexity(118.251), None, 2), "118.25 \u{b1} 0.00");
        assert_eq!(with_deviation(perplexity(-1.0), signed), "-1.00 \u{b1} 0.00");
        assert_eq!(with_deviation(perplexity(-0.001), signed), "+0.00 \u{b1} 0.00");
    }

    #[test]
    fn layers_show_what_is_not_quantized() {
        let layer = |weight, activation| LayerBits { layer: "l".into(), weight, activation };
        assert_eq!(precision(&[]), "");
        assert_eq!(precision(&[layer(None, None)]), "float");
        assert_eq!(precision(&[layer(Some(4), None)]), "4 / -");
        let seeds = [layer(Some(7), Some(8)), layer(Some(6), Some(8)), layer(Some(6), Some(8))];
        assert_eq!(precision(&seeds), "6 to 7 / 8");
    }
}
