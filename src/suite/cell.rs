//! The cells of a suite, each with its whole configuration.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Column, Suite, SuiteError, SuiteTask};
use crate::config::{Config, ConfigError, Draft, Quantized};

/// How the float run is called beside the cells; none of them may have this name.
pub(super) const FLOAT_RUN: &str = "float";

/// One run of a suite: a task in float, or quantized to a column, with a seed.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The task's name.
    pub task: String,
    /// The column's name; none for the float run.
    pub column: Option<String>,
    /// The seed.
    pub seed: u64,
    /// The evaluation split that the suite shows, where it names one.
    pub split: Option<String>,
    /// The configuration.
    pub config: Config,
    /// Stands for the configuration without what it says of paths: a cell is done when a run of the
    /// same fingerprint is.
    pub fingerprint: String,
    /// The folder of its run.
    pub run: PathBuf,
    /// The folder of what is kept of it.
    pub kept: PathBuf,
}

/// A float run and the cells that start from its model.
#[derive(Clone, Debug)]
pub struct Group {
    /// The float run.
    pub float: Cell,
    /// What is quantized from it.
    pub cells: Vec<Cell>,
}

impl Group {
    /// The float run, then its cells.
    pub fn all(&self) -> impl Iterator<Item = &Cell> {
        std::iter::once(&self.float).chain(&self.cells)
    }
}

impl Cell {
    /// The column's name; `float` for the float run.
    pub fn name(&self) -> &str {
        self.column.as_deref().unwrap_or(FLOAT_RUN)
    }
}

/// The task, the column and the seed.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&label(&self.task, self.column.as_deref(), self.seed))
    }
}

/// The cells of a suite, a group for each task and seed, with their runs in `runs`.
///
/// # Errors
///
/// All cells whose configuration is refused, with the reason of each.
pub fn groups(suite: &Suite, runs: &Path) -> Result<Vec<Group>, SuiteError> {
    let mut refused = Vec::new();
    let mut groups = Vec::new();
    for task in &suite.tasks {
        for &seed in &task.seeds {
            let mut keep = |made: Result<Cell, Refused>| match made {
                Ok(cell) => Some(cell),
                Err(Refused { cell, reason }) => {
                    refused.push(format!("{cell}: {reason}"));
                    None
                }
            };
            let Some(float) = keep(float(suite, task, seed, runs)) else { continue };
            let cells: Vec<Cell> = suite
                .columns
                .iter()
                .filter_map(|column| keep(quantized(suite, task, column, &float, runs)))
                .collect();
            groups.push(Group { float, cells });
        }
    }
    match refused.is_empty() {
        true => Ok(groups),
        false => {
            let seeds: usize = suite.tasks.iter().map(|task| task.seeds.len()).sum();
            let cells = seeds * (1 + suite.columns.len());
            Err(SuiteError::Cells { path: suite.path.clone(), cells, refused })
        }
    }
}

/// A cell that cannot be.
struct Refused {
    cell: String,
    reason: String,
}

fn float(suite: &Suite, task: &SuiteTask, seed: u64, runs: &Path) -> Result<Cell, Refused> {
    let draft = || -> Result<Draft, ConfigError> {
        let mut draft = task_draft(task, seed)?;
        // Neither has an effect on the float model: changing them must not train it anew.
        for key in ["quant", "train.quantized", "train.calibration-batches"] {
            draft.remove(key);
        }
        Ok(draft)
    };
    let draft = draft().map_err(|error| Refused {
        cell: label(&task.name, None, seed),
        reason: error.to_string(),
    })?;
    let fingerprint = fingerprint(&draft.text(), "");
    cell(suite, task, None, seed, draft, fingerprint, runs)
}

fn quantized(
    suite: &Suite,
    task: &SuiteTask,
    column: &Column,
    float: &Cell,
    runs: &Path,
) -> Result<Cell, Refused> {
    let seed = float.seed;
    let refuse =
        |reason: String| Refused { cell: label(&task.name, Some(&column.name), seed), reason };
    let invalid = |error: ConfigError| refuse(error.to_string());
    let mut draft = task_draft(task, seed).map_err(invalid)?;
    // The task's plan says what is quantized by which granularity and range; the coding is the column's.
    draft.take_plan().map_err(invalid)?;
    for (what, coding) in
        [(Quantized::Weight, &column.weight), (Quantized::Activation, &column.activation)]
    {
        if let Some(coding) = coding
            && !draft.set_coding(what, coding)
        {
            return Err(refuse(format!(
                "{}: quantizes no {}, so there is nothing that could get another coding",
                task.config.display(),
                what.key()
            )));
        }
    }
    draft.set(&column.set).map_err(invalid)?;
    draft.remove("train.float-checkpoint");
    // What a file says counts, not its name.
    draft.take_plan().and_then(|()| draft.take_cost_table()).map_err(invalid)?;
    let fingerprint = fingerprint(&draft.text(), &float.fingerprint);
    let checkpoint = toml::Value::String(float.run.display().to_string());
    draft.set(&[format!("train.float-checkpoint={checkpoint}")]).map_err(invalid)?;
    cell(suite, task, Some(column), seed, draft, fingerprint, runs)
}

fn cell(
    suite: &Suite,
    task: &SuiteTask,
    column: Option<&Column>,
    seed: u64,
    draft: Draft,
    fingerprint: String,
    runs: &Path,
) -> Result<Cell, Refused> {
    let column_name = column.map(|column| column.name.clone());
    let config = draft.check().map_err(|error| Refused {
        cell: label(&task.name, column_name.as_deref(), seed),
        reason: error.to_string(),
    })?;
    let slug = column.map_or(FLOAT_RUN, |column| &column.slug);
    let folder = format!("{slug}-seed-{seed}");
    Ok(Cell {
        task: task.name.clone(),
        column: column_name,
        seed,
        split: task.split.clone(),
        config,
        run: runs.join(&suite.name).join(&task.slug).join(format!("{folder}-{fingerprint}")),
        kept: suite.out.join("cells").join(&task.slug).join(folder),
        fingerprint,
    })
}

/// How a cell is named in messages.
fn label(task: &str, column: Option<&str>, seed: u64) -> String {
    format!("{task}, {}, seed {seed}", column.unwrap_or(FLOAT_RUN))
}

/// The task's recipe with a seed.
fn task_draft(task: &SuiteTask, seed: u64) -> Result<Draft, ConfigError> {
    let mut draft = Draft::load(&task.config)?;
    draft.set(&task.set)?;
    draft.set(&[format!("train.seed={seed}")])?;
    Ok(draft)
}

/// The first 8 hexadecimal digits of a hash of the values of a TOML text, whatever their order and
/// the comments between them, and of what they start from.
fn fingerprint(text: &str, start: &str) -> String {
    let mut canonical = start.to_string();
    match toml::from_str::<toml::Table>(text) {
        Ok(table) => write_canonical(&toml::Value::Table(table), &mut canonical),
        // It will be refused when it is checked.
        Err(_) => canonical.push_str(text),
    }
    let digest = Sha256::digest(canonical.as_bytes());
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a value with the keys of its tables in order.
fn write_canonical(value: &toml::Value, out: &mut String) {
    match value {
        toml::Value::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(&format!("{key:?}="));
                write_canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        toml::Value::Array(values) => {
            out.push('[');
            for value in values {
                write_canonical(value, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A group of cells whose configurations do not matter.
    pub(in crate::suite) fn group(task: &str, seed: u64, columns: &[&str]) -> Group {
        let text = "[task]\nname = \"digits\"\n[model]\narch = \"lstm\"\n[quant]\n\
                    weight = { coding = \"ausn\", bits = 4 }\n\
                    activation = { coding = \"ausn\", bits = 8 }\n";
        let config = Config::parse(text, Path::new("test"), &[]).unwrap();
        let cell = |column: Option<&str>| Cell {
            task: task.to_string(),
            column: column.map(str::to_string),
            seed,
            split: None,
            config: config.clone(),
            fingerprint: "0".into(),
            run: PathBuf::new(),
            kept: PathBuf::new(),
        };
        Group {
            float: cell(None),
            cells: columns.iter().map(|column| cell(Some(column))).collect(),
        }
    }

    const SUITE: &str = r#"
name = "s"
seeds = [1, 2]
[[task]]
config = "configs/digits_lstm_ausn4.toml"
[[cell]]
name = "a"
weight = { coding = "ausn", exponent-bits = 2, superposition-bits = 1 }
[[cell]]
name = "b"
weight = { coding = "ausn", bits = 5 }
"#;

    fn cells(suite: &str, runs: &str) -> Vec<Group> {
        let suite = Suite::parse(suite, Path::new("s.toml")).unwrap();
        groups(&suite, Path::new(runs)).unwrap()
    }

    #[test]
    fn a_task_and_a_seed_make_a_group_that_starts_from_one_float_run() {
        let groups = cells(SUITE, "runs");
        assert_eq!(groups.len(), 2);
        for (group, seed) in groups.iter().zip([1, 2]) {
            assert!(group.all().all(|cell| cell.config.train.seed == seed));
            assert_eq!(group.float.config.train.float_checkpoint, None);
            assert_eq!(group.float.config.train.float_stage().epochs, 40);
            for cell in &group.cells {
                assert_eq!(cell.config.train.float_checkpoint.as_ref(), Some(&group.float.run));
                assert_eq!(cell.config.train.quantized_stage().epochs, 10);
            }
            assert!(!group.float.config.text.contains("quant"), "{}", group.float.config.text);
        }
        assert_eq!(groups[1].cells[0].to_string(), "digits_lstm_ausn4, a, seed 2");
        assert_eq!(
            groups[1].cells[0].kept,
            Path::new("experiments/results/s/cells/digits-lstm-ausn4/a-seed-2")
        );
    }

    #[test]
    fn a_fingerprint_changes_with_what_a_run_computes_and_with_nothing_else() {
        let of = |suite: &str, runs: &str| -> Vec<String> {
            cells(suite, runs)[0].all().map(|cell| cell.fingerprint.clone()).collect()
        };
        let before = of(SUITE, "runs");
        assert_eq!(before, of(SUITE, "elsewhere"), "where runs lie");
        let with = |set: &str| {
            SUITE.replace("[[cell]]\nname = \"a\"", &format!("set = {set}\n[[cell]]\nname = \"a\""))
        };

        let quantized = of(&with("{ \"train.quantized.epochs\" = 3 }"), "runs");
        assert_eq!(before[0], quantized[0], "the float run stays");
        assert!(before[1..].iter().all(|old| !quantized.contains(old)), "its cells do not");

        let float = of(&with("{ \"train.float.epochs\" = 3 }"), "runs");
        assert!(before.iter().all(|old| !float.contains(old)), "all start from another float run");

        let coding = of(&SUITE.replace("bits = 5", "bits = 6"), "runs");
        assert_eq!(before[..2], coding[..2]);
        assert_ne!(before[2], coding[2]);
    }

    #[test]
    fn what_a_named_file_says_counts() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("p.toml");
        let with = SUITE.replace(
            "name = \"a\"\n",
            &format!("name = \"a\"\nset = {{ \"quant.plan\" = '{}' }}\n", plan.display()),
        );
        let of = |bits: u32| {
            let rule = format!("[[layer]]\nmatch = \"classifier\"\nweight = {{ bits = {bits} }}\n");
            std::fs::write(&plan, rule).unwrap();
            cells(&with, "runs")[0].cells[0].fingerprint.clone()
        };
        let before = of(8);
        assert_eq!(before, of(8));
        assert_ne!(before, of(3));
    }

    #[test]
    fn a_column_has_its_coding_also_where_the_task_has_a_plan() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("p.toml");
        let rule = "[[layer]]\nmatch = \"classifier\"\nweight = { coding = \"ausn\", \
                    exponent-bits = 1, superposition-bits = 4, granularity = \"per-tensor\" }\n";
        std::fs::write(&plan, rule).unwrap();
        let set =
            format!("set = {{ \"quant.plan\" = '{}' }}\n[[cell]]\nname = \"a\"", plan.display());
        let groups = cells(&SUITE.replacen("[[cell]]\nname = \"a\"", &set, 1), "runs");
        let [first, second] = [0, 1].map(|i| groups[0].cells[i].config.text.clone());
        assert!(
            first.contains("classifier") && !first.contains("superposition-bits = 4"),
            "{first}"
        );
        assert!(second.contains("granularity = \"per-tensor\", bits = 5"), "{second}");
    }

    #[test]
    fn values_count_and_not_how_they_are_written() {
        let one = fingerprint("[a]\nb = 1\nc = [{ d = 2, e = \"x\" }]\n", "");
        assert_eq!(one, fingerprint("# c\na = { c = [{ e = 'x', d = 2 }], b = 1 }", ""));
        assert_ne!(one, fingerprint("[a]\nb = 2\nc = [{ d = 2, e = \"x\" }]\n", ""));
        assert_ne!(one, fingerprint("[a]\nb = 1\nc = [{ d = 2, e = \"x\" }]\n", "0"));
    }

    #[test]
    fn every_refused_cell_is_named() {
        let text = SUITE
            .replace("bits = 5", "bits = 50")
            .replace("superposition-bits = 1", "superposition-bits = 30");
        let suite = Suite::parse(&text, Path::new("s.toml")).unwrap();
        let error = groups(&suite, Path::new("runs")).unwrap_err().to_string();
        for expected in [
            "s.toml: 4 of 6 cells are refused",
            "digits_lstm_ausn4, a, seed 1: configs/digits_lstm_ausn4.toml, line",
            "digits_lstm_ausn4, b, seed 2",
            "quant.weight.bits is 50; must be 2 to 16",
        ] {
            assert!(error.contains(expected), "{expected} is not in: {error}");
        }
    }

    #[test]
    fn a_coding_for_what_is_float_is_refused() {
        let text = SUITE.replace(
            "digits_lstm_ausn4.toml\"",
            "digits_lstm_ausn4.toml\"\nset = { \"quant.weight\" = { coding = \"float\" } }",
        );
        let suite = Suite::parse(&text, Path::new("s.toml")).unwrap();
        let error = groups(&suite, Path::new("runs")).unwrap_err().to_string();
        assert!(error.contains("digits_lstm_ausn4.toml: quantizes no weight"), "{error}");
    }
}
