//! The suite file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SuiteError;
use super::cell::FLOAT_RUN;
use super::error::closest;

/// A suite file, checked.
#[derive(Clone, Debug)]
pub struct Suite {
    /// The file.
    pub path: PathBuf,
    /// Its name, also that of the folder of its runs.
    pub name: String,
    /// Folder of the tables and of the small files that they are made from.
    pub out: PathBuf,
    /// What is trained: the tables.
    pub tasks: Vec<SuiteTask>,
    /// What it is quantized to: the rows of each table.
    pub columns: Vec<Column>,
}

/// `[[task]]`: a configuration that every cell starts from.
#[derive(Clone, Debug)]
pub struct SuiteTask {
    /// Its name in tables.
    pub name: String,
    /// Its name in paths.
    pub slug: String,
    /// The configuration.
    pub config: PathBuf,
    /// Overrides for all its cells, `key=value`.
    pub set: Vec<String>,
    /// One float run each.
    pub seeds: Vec<u64>,
    /// The evaluation split whose metric is shown; the first one by default.
    pub split: Option<String>,
}

/// `[[cell]]`: a coding of weights and activations, for every task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its name in tables.
    pub name: String,
    /// Its name in paths.
    #[serde(skip)]
    pub slug: String,
    /// The coding of weights; as the task's configuration says where there is none.
    pub weight: Option<toml::Table>,
    /// The coding of activations; as the task's configuration says where there is none.
    pub activation: Option<toml::Table>,
    /// Overrides of quantization and its training, `key=value`.
    pub set: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawSuite {
    name: String,
    seeds: Vec<u64>,
    out: Option<PathBuf>,
    task: Vec<RawTask>,
    cell: Vec<RawCell>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawTask {
    name: Option<String>,
    config: PathBuf,
    #[serde(default)]
    set: toml::Table,
    seeds: Option<Vec<u64>>,
    split: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawCell {
    name: String,
    weight: Option<toml::Table>,
    activation: Option<toml::Table>,
    #[serde(default)]
    set: toml::Table,
}

/// What is wrong with a value: its dotted key, and why.
type Problem = (String, String);

impl Suite {
    /// Reads a suite file and checks what can be checked without the configurations.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, text that is not TOML, unknown keys, and every value that is not
    /// allowed.
    pub fn load(path: &Path) -> Result<Self, SuiteError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SuiteError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// The same for a text; `path` names its origin.
    ///
    /// # Errors
    ///
    /// See [`load`](Self::load).
    pub fn parse(text: &str, path: &Path) -> Result<Self, SuiteError> {
        let raw: RawSuite =
            toml::from_str(text).map_err(|error| SuiteError::syntax(path, text, &error))?;
        raw.check(path).map_err(|(key, message)| SuiteError::value(path, text, key, message))
    }
}

impl RawSuite {
    fn check(self, path: &Path) -> Result<Suite, Problem> {
        let slug_of_suite = slug(&self.name);
        if slug_of_suite != self.name || self.name.is_empty() {
            let message = format!(
                "is \"{}\"; must be of lower-case letters, digits and `-`, as it names folders",
                self.name
            );
            return Err(("name".into(), message));
        }
        check_seeds(&self.seeds, "seeds")?;
        for (key, count) in [("task", self.task.len()), ("cell", self.cell.len())] {
            if count == 0 {
                return Err((key.into(), "is empty; a suite needs one at least".into()));
            }
        }
        let mut slugs = HashMap::new();
        let mut tasks = Vec::new();
        for (index, task) in self.task.into_iter().enumerate() {
            let task = task.check(index, &self.seeds)?;
            unique(&mut slugs, &task.slug, &task.name, format!("task.{index}.name"))?;
            tasks.push(task);
        }
        let mut slugs = HashMap::from([(FLOAT_RUN.to_string(), "the float run".to_string())]);
        let mut columns = Vec::new();
        for (index, cell) in self.cell.into_iter().enumerate() {
            let column = cell.check(index)?;
            unique(&mut slugs, &column.slug, &column.name, format!("cell.{index}.name"))?;
            columns.push(column);
        }
        let out = match self.out {
            Some(out) => out,
            None => Path::new("experiments/results").join(&self.name),
        };
        Ok(Suite { path: path.to_path_buf(), name: self.name, out, tasks, columns })
    }
}

impl RawTask {
    fn check(self, index: usize, seeds: &[u64]) -> Result<SuiteTask, Problem> {
        let key = |name: &str| format!("task.{index}.{name}");
        if !self.config.is_file() {
            return Err((key("config"), absent(&self.config)));
        }
        if let Some(own) = &self.seeds {
            check_seeds(own, &key("seeds"))?;
        }
        let stem = self.config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = self.name.unwrap_or(stem);
        let slug = slug_of(&name, &key("name"))?;
        Ok(SuiteTask {
            name,
            slug,
            config: self.config,
            set: overrides(&self.set, &key("set"), |name| {
                (name == "train.seed").then_some("the suite sets; write `seeds` instead")
            })?,
            seeds: self.seeds.unwrap_or_else(|| seeds.to_vec()),
            split: self.split,
        })
    }
}

impl RawCell {
    fn check(self, index: usize) -> Result<Column, Problem> {
        let key = |name: &str| format!("cell.{index}.{name}");
        let slug = slug_of(&self.name, &key("name"))?;
        for (name, table) in [("weight", &self.weight), ("activation", &self.activation)] {
            if table.as_ref().is_some_and(|table| !table.contains_key("coding")) {
                let message = "has no `coding`, such as { coding = \"ausn\", bits = 4 }";
                return Err((key(name), message.into()));
            }
        }
        let float = |table: &Option<toml::Table>| {
            table.as_ref().is_some_and(|table| table["coding"].as_str() == Some("float"))
        };
        if float(&self.weight) && float(&self.activation) {
            let message = "leaves everything in float, which is the first row of every table";
            return Err((format!("cell.{index}"), message.into()));
        }
        let set = overrides(&self.set, &key("set"), |name| {
            let own = ["quant.", "train.quantized."].iter().any(|table| name.starts_with(table));
            (!own).then_some(
                "would change the float run, which all cells of a task share; a cell sets keys of \
                 `quant` and `train.quantized`, a task sets the others",
            )
        })?;
        Ok(Column { name: self.name, slug, weight: self.weight, activation: self.activation, set })
    }
}

/// `{ "train.epochs" = 2 }` as `train.epochs=2`.
fn overrides(
    set: &toml::Table,
    key: &str,
    refuse: impl Fn(&str) -> Option<&'static str>,
) -> Result<Vec<String>, Problem> {
    let one = |(name, value): (&String, &toml::Value)| {
        if !name.contains('.') {
            let message = format!(
                "names the whole table `{name}`; write dotted keys in quotes, such as \
                 \"train.quantized.epochs\" = 2"
            );
            return Err((key.to_string(), message));
        }
        match refuse(name) {
            Some(reason) => Err((key.to_string(), format!("has `{name}`, which {reason}"))),
            None => Ok(format!("{name}={value}")),
        }
    };
    set.iter().map(one).collect()
}

fn check_seeds(seeds: &[u64], key: &str) -> Result<(), Problem> {
    if seeds.is_empty() {
        return Err((key.into(), "is empty; give one seed at least, such as [1]".into()));
    }
    match seeds.iter().enumerate().find(|(i, seed)| seeds[..*i].contains(seed)) {
        Some((_, seed)) => Err((key.into(), format!("has the seed {seed} twice"))),
        None => Ok(()),
    }
}

/// Says that a file is not there, and which one beside it may be meant.
fn absent(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let hint = closest(&name, names.iter().map(String::as_str))
        .map(|closest| format!("; did you mean `{}`?", path.with_file_name(closest).display()));
    format!(
        "is \"{}\", and there is no such file (paths are relative to the working folder){}",
        path.display(),
        hint.unwrap_or_default()
    )
}

/// Refuses names whose folders would be the same.
fn unique(
    slugs: &mut HashMap<String, String>,
    slug: &str,
    name: &str,
    key: String,
) -> Result<(), Problem> {
    match slugs.insert(slug.to_string(), format!("`{name}`")) {
        None => Ok(()),
        Some(other) => Err((
            key,
            format!(
                "is \"{name}\", whose folder `{slug}` is that of {other}; give it another name"
            ),
        )),
    }
}

fn slug_of(name: &str, key: &str) -> Result<String, Problem> {
    match slug(name) {
        slug if slug.is_empty() => {
            Err((key.into(), format!("is \"{name}\"; must have a letter or a digit")))
        }
        slug => Ok(slug),
    }
}

/// A name with everything but ASCII letters and digits replaced by single `-`, in lower case.
pub(super) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: &str = r#"
name = "s"
seeds = [1, 2]
[[task]]
config = "configs/digits_lstm_ausn4.toml"
set = { "train.float.epochs" = 1, "train.optimizer" = { name = "sgd", learning-rate = 0.5 } }
[[task]]
name = "digits (ResNet-20)"
config = "configs/digits_resnet_ausn4.toml"
seeds = [7]
[[cell]]
name = "AUSN 4/8"
weight = { coding = "ausn", bits = 4 }
"#;

    fn parse(text: &str) -> Result<Suite, SuiteError> {
        Suite::parse(text, Path::new("s.toml"))
    }

    #[test]
    fn what_is_left_out_is_filled_in() {
        let suite = parse(SUITE).unwrap();
        assert_eq!(suite.out, Path::new("experiments/results/s"));
        let [lstm, resnet] = &suite.tasks[..] else { panic!("two tasks") };
        assert_eq!((&*lstm.name, &*lstm.slug), ("digits_lstm_ausn4", "digits-lstm-ausn4"));
        assert_eq!((&*resnet.slug, &resnet.seeds[..]), ("digits-resnet-20", &[7][..]));
        assert_eq!(lstm.seeds, [1, 2]);
        assert_eq!(
            lstm.set,
            ["train.float.epochs=1", "train.optimizer={ learning-rate = 0.5, name = \"sgd\" }"]
        );
        assert_eq!(suite.columns[0].slug, "ausn-4-8");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (old, new, expected) in [
            ("seeds = [1, 2]", "seed = [1, 2]", "did you mean `seeds`?"),
            ("name = \"s\"", "name = \"My Suite\"", "line 2: name is \"My Suite\"; must be of"),
            ("seeds = [1, 2]", "seeds = []", "line 3: seeds is empty"),
            ("seeds = [1, 2]", "seeds = [1, 1]", "line 3: seeds has the seed 1 twice"),
            ("seeds = [7]", "seeds = []", "line 10: task.1.seeds is empty"),
            (
                "configs/digits_lstm_ausn4.toml",
                "configs/digit_lstm_ausn4.toml",
                "line 5: task.0.config is \"configs/digit_lstm_ausn4.toml\", and there is no such",
            ),
            (
                "configs/digits_lstm_ausn4.toml",
                "configs/digit_lstm_ausn4.toml",
                "did you mean `configs/digits_lstm_ausn4.toml`?",
            ),
            ("\"train.float.epochs\"", "train.float.epochs", "the whole table `train`"),
            ("coding = \"ausn\", ", "", "line 13: cell.0.weight has no `coding`"),
            (
                "{ coding = \"ausn\", bits = 4 }",
                "{ coding = \"float\" }\nactivation = { coding = \"float\" }",
                "line 11: cell.0 leaves everything in float",
            ),
            ("\"AUSN 4/8\"", "\"Float\"", "whose folder `float` is that of the float run"),
            ("\"AUSN 4/8\"", "\"/\"", "must have a letter or a digit"),
            (
                "name = \"digits (ResNet-20)\"",
                "name = \"digits_lstm_AUSN4\"",
                "whose folder `digits-lstm-ausn4` is that of `digits_lstm_ausn4`",
            ),
            (
                "weight = {",
                "set = { \"train.float.epochs\" = 3 }\nweight = {",
                "has `train.float.epochs`, which would change the float run",
            ),
        ] {
            let error = parse(&SUITE.replace(old, new)).expect_err(expected).to_string();
            assert!(error.contains("s.toml") && error.contains(expected), "{error}");
        }
    }
}
