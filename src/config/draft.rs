//! A configuration while it is changed.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml_edit::{ArrayOfTables, DocumentMut, Item, TableLike, Value};

use super::{Arch, Config, ConfigError, TaskName};
use crate::search::CostTable;

/// A configuration file whose values are being changed; comments and order stay.
#[derive(Clone, Debug)]
pub struct Draft {
    path: PathBuf,
    document: DocumentMut,
}

/// What `[quant]` gives codings to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantized {
    /// Weights.
    Weight,
    /// Activations.
    Activation,
}

impl Quantized {
    /// Its key in `[quant]` and in a layer's rule.
    pub fn key(self) -> &'static str {
        match self {
            Quantized::Weight => "weight",
            Quantized::Activation => "activation",
        }
    }
}

/// Keys of `weight = { ... }` that do not belong to its coding. Those of a group only make sense
/// together.
const NOT_OF_THE_CODING: [&[&str]; 4] = [
    &["range", "percentile", "ema-decay", "range-exponent"],
    &["granularity", "group-size"],
    &["scale", "learn-range"],
    &[ESTIMATOR],
];

const ESTIMATOR: &str = "estimator";

/// The name of no coding.
const FLOAT: &str = "float";

/// How the names of the OCP Microscaling codings begin. They bring range, blocks and scale.
const MICROSCALING: &str = "mxfp";

impl Draft {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, and text that is not TOML.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_path_buf(), source })?;
        Self::parse(&text, path)
    }

    /// The same for a text; `path` names its origin in errors.
    ///
    /// # Errors
    ///
    /// Text that is not TOML.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let document = text.parse().map_err(|error| ConfigError::toml(path, text, &error))?;
        Ok(Self { path: path.to_path_buf(), document })
    }

    /// The text as it is now.
    pub fn text(&self) -> String {
        self.document.to_string()
    }

    /// Checks it.
    ///
    /// # Errors
    ///
    /// Every value that is not allowed.
    pub fn check(&self) -> Result<Config, ConfigError> {
        Config::parse(&self.text(), &self.path, &[])
    }

    /// Applies overrides of the form `key=value`. With `coding=float`, the keys beside it go: they belong to the
    /// coding that was there; with another task or model family, the tables of the one that was there.
    ///
    /// # Errors
    ///
    /// An override of another form, and a key that leads nowhere.
    pub fn set(&mut self, overrides: &[String]) -> Result<(), ConfigError> {
        for set in overrides {
            let fail = |message: &str| ConfigError::Override {
                text: set.clone(),
                message: message.into(),
            };
            let (key, value) = set
                .split_once('=')
                .ok_or_else(|| fail("expected key=value, such as train.batch-size=64"))?;
            // What is not a TOML value is taken as a string, so that quotes need no shell escapes.
            let value: Value = value.trim().parse().unwrap_or_else(|_| Value::from(value.trim()));
            let key = key.trim();
            if let Some(table) = key.strip_suffix(".coding")
                && value.as_str() == Some(FLOAT)
                && let Some(beside) = self.get_mut(table).and_then(Item::as_table_like_mut)
            {
                beside.clear();
            }
            let mut item: &mut Item = self.document.as_item_mut();
            for part in key.split('.') {
                if part.is_empty() {
                    return Err(fail("the key has an empty part"));
                }
                item = match part.parse::<usize>() {
                    Ok(index) => {
                        item.get_mut(index).ok_or_else(|| fail("there is no such list entry"))?
                    }
                    Err(_) => {
                        if !(item.is_none() || item.is_table_like()) {
                            return Err(fail("the key goes through a value that is not a table"));
                        }
                        &mut item[part]
                    }
                };
            }
            *item = match (&*item, value) {
                // A table that has a header, or is one of a list, can only be followed by another.
                (Item::Table(_), Value::InlineTable(table)) => Item::Table(table.into_table()),
                (Item::Table(_), _) => return Err(fail("the key is one of a table")),
                (_, value) => Item::Value(value),
            };
            match key {
                "task.name" => {
                    self.keep_tables("task", key, |name: TaskName, table| {
                        name.tables().contains(&table)
                    });
                }
                "model.arch" => {
                    self.keep_tables("model", key, |arch: Arch, table| arch.name() == table);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the tables of a part of the configuration that do not belong to what is named there now. What is no name
    /// is refused later.
    fn keep_tables<N: DeserializeOwned + Copy>(
        &mut self,
        part: &str,
        key: &str,
        is_own: impl Fn(N, &str) -> bool,
    ) {
        let name = self.get_mut(key).and_then(|item| item.as_str()).map(str::to_string);
        let Some(name) = name.and_then(|name| toml::Value::from(name).try_into().ok()) else {
            return;
        };
        if let Some(table) = self.get_mut(part).and_then(Item::as_table_like_mut) {
            let is_other = |(key, item): &(&str, &Item)| item.is_table_like() && !is_own(name, key);
            let others = table.iter().filter(is_other).map(|(key, _)| key.to_string());
            for other in others.collect::<Vec<_>>() {
                table.remove(&other);
            }
        }
    }

    /// Puts the layer rules of the file that `quant.plan` names behind those of `quant.layer`, so that the configuration
    /// stands by itself. A plan is what a search found: it takes the place of `quant.search`. Without the key, nothing
    /// changes.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or that is no plan.
    pub fn take_plan(&mut self) -> Result<(), ConfigError> {
        let plan = self.document.get("quant").and_then(|quant| quant.get("plan"));
        let Some(file) = plan.and_then(Item::as_str).map(PathBuf::from) else { return Ok(()) };
        let fail = |message: String| ConfigError::Plan { path: file.clone(), message };
        let plan = match Self::load(&file) {
            Err(ConfigError::Read { source, .. }) => return Err(fail(source.to_string())),
            other => other?,
        };
        let rules = match plan.document.get("layer") {
            Some(Item::ArrayOfTables(rules)) => rules.clone(),
            _ => {
                return Err(fail("it has no [[layer]], as `ausn search --out` writes them".into()));
            }
        };
        if let Some((key, _)) = plan.document.iter().find(|(key, _)| *key != "layer") {
            return Err(fail(format!("unknown key `{key}`; a plan is made of [[layer]] alone")));
        }
        self.remove("quant.plan");
        self.remove("quant.search");
        let quant = &mut self.document["quant"];
        // Within braces there is no place for tables with a header.
        *quant = std::mem::take(quant).into_table().map_or_else(|item| item, Item::Table);
        let layers = &mut quant["layer"];
        if layers.is_none() {
            *layers = Item::ArrayOfTables(ArrayOfTables::new());
        }
        for mut rule in rules {
            // Its place in the file that it comes from means nothing here.
            rule.set_position(None);
            match layers {
                Item::ArrayOfTables(tables) => tables.push(rule),
                Item::Value(Value::Array(array)) => array.push(rule.into_inline_table()),
                _ => return Err(fail("`quant.layer` beside it is no list of rules".into())),
            }
        }
        Ok(())
    }

    /// Puts the table of the file that `quant.search.cost-table` names in the place of the name, so that the
    /// configuration stands by itself; tells whether a file was named.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or that is no cost table.
    pub fn take_cost_table(&mut self) -> Result<bool, ConfigError> {
        let Some(item) = self.get_mut("quant.search.cost-table") else { return Ok(false) };
        let Some(file) = item.as_str().map(PathBuf::from) else { return Ok(false) };
        CostTable::load(&file)?;
        let table = Self::load(&file)?.document.into_table().into_inline_table();
        *item = Item::Value(Value::InlineTable(table));
        Ok(true)
    }

    /// Removes what stands under a dotted key, if anything does.
    pub fn remove(&mut self, key: &str) {
        let (tables, last) = key.rsplit_once('.').unwrap_or(("", key));
        if let Some(table) = self.get_mut(tables).and_then(Item::as_table_like_mut) {
            table.remove(last);
        }
    }

    /// What stands under a dotted key, where a number is the place in a list.
    fn get_mut(&mut self, key: &str) -> Option<&mut Item> {
        key.split('.').filter(|part| !part.is_empty()).try_fold(
            self.document.as_item_mut(),
            |item, part| match part.parse::<usize>() {
                Ok(index) => item.get_mut(index),
                // Not through the item, which would put an empty table where there is none.
                Err(_) => item.as_table_like_mut()?.get_mut(part),
            },
        )
    }

    /// Gives another coding to everything that `[quant]` and its layer rules quantize, and tells
    /// whether there was anything.
    ///
    /// Range rule, granularity and estimator of each rule stay unless the new coding brings its own,
    /// and what a rule leaves in float stays in float.
    pub fn set_coding(&mut self, what: Quantized, coding: &toml::Table) -> bool {
        let key = what.key();
        let Some(quant) = self.document.get_mut("quant") else { return false };
        let default = quant.get(key).and_then(coding_name);
        let mut changed = false;
        if let Some(own) = quant.get_mut(key)
            && default.as_deref() != Some(FLOAT)
            && let Some(table) = own.as_table_like_mut()
        {
            recode(table, coding);
            changed = true;
        }
        let Some(layers) = quant.get_mut("layer") else { return changed };
        for index in 0.. {
            let Some(rule) = layers.get_mut(index) else { break };
            let Some(own) = rule.get_mut(key) else { continue };
            let name = coding_name(own).or_else(|| default.clone());
            if name.as_deref() != Some(FLOAT)
                && let Some(table) = own.as_table_like_mut()
            {
                recode(table, coding);
                changed = true;
            }
        }
        changed
    }
}

/// The name of the coding in `weight = { coding = "..." }`.
fn coding_name(item: &Item) -> Option<String> {
    item.as_table_like()?.get("coding")?.as_str().map(str::to_string)
}

fn recode(table: &mut dyn TableLike, coding: &toml::Table) {
    let name = coding.get("coding").and_then(toml::Value::as_str).unwrap_or_default();
    let stays = |key: &str| {
        if name == FLOAT || name.starts_with(MICROSCALING) && key != ESTIMATOR {
            return false;
        }
        let group = NOT_OF_THE_CODING.iter().find(|group| group.contains(&key));
        group.is_some_and(|group| !group.iter().any(|key| coding.contains_key(*key)))
    };
    let keys: Vec<String> = table.iter().map(|(key, _)| key.to_string()).collect();
    for key in keys.iter().filter(|key| !stays(key)) {
        table.remove(key);
    }
    for (key, value) in coding {
        let value: Value = value.to_string().parse().expect("a TOML value is written as TOML");
        table.insert(key, Item::Value(value));
    }
    table.fmt();
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
[task]
name = "digits"

[model]
arch = "resnet"

[quant]
fold-batch-norm = true
weight     = { coding = "ausn", bits = 4, underflow = "gradual", range = "percentile", percentile = 99.0, granularity = "per-channel" }
activation = { coding = "ausn", bits = 8, range = "ema-max", ema-decay = 0.5 }

[[quant.layer]] # the first one
match = "stem"
weight = { coding = "float" }

[[quant.layer]]
match = "classifier"
weight = { bits = 8, granularity = "per-tensor" }
activation = { coding = "float" }
"#;

    fn coding(text: &str) -> toml::Table {
        toml::from_str(text).unwrap()
    }

    fn draft(text: &str) -> Draft {
        Draft::parse(text, Path::new("a.toml")).unwrap()
    }

    fn quant(draft: &Draft) -> toml::Table {
        let document: toml::Table = toml::from_str(&draft.text()).unwrap();
        document["quant"].as_table().unwrap().clone()
    }

    #[test]
    fn a_coding_replaces_codings_and_leaves_everything_else() {
        let mut draft = draft(TEXT);
        let ausn = coding("coding = \"ausn\"\nexponent-bits = 2\nsuperposition-bits = 2");
        assert!(draft.set_coding(Quantized::Weight, &ausn));
        let expected = r#"
fold-batch-norm = true
weight     = { range = "percentile", percentile = 99.0, granularity = "per-channel", coding = "ausn", exponent-bits = 2, superposition-bits = 2 }
activation = { coding = "ausn", bits = 8, range = "ema-max", ema-decay = 0.5 }
[[layer]]
match = "stem"
weight = { coding = "float" }
[[layer]]
match = "classifier"
weight = { granularity = "per-tensor", coding = "ausn", exponent-bits = 2, superposition-bits = 2 }
activation = { coding = "float" }
"#;
        assert_eq!(quant(&draft), coding(expected));
        assert!(draft.text().contains("# the first one"), "comments stay");
        draft.check().unwrap();
    }

    #[test]
    fn no_coding_leaves_no_keys_of_one() {
        let mut draft = draft(TEXT);
        let float = coding("coding = \"float\"");
        assert!(draft.set_coding(Quantized::Activation, &float));
        assert_eq!(quant(&draft)["activation"], toml::Value::Table(float));
        draft.check().unwrap();
    }

    #[test]
    fn a_coding_may_bring_its_own_range_and_granularity() {
        let mut draft = draft(TEXT);
        let group = coding(
            "coding = \"ausn\"\nbits = 5\nrange = \"max\"\ngranularity = \"per-group\"\ngroup-size = 32",
        );
        assert!(draft.set_coding(Quantized::Weight, &group));
        let quant = quant(&draft);
        assert_eq!(quant["weight"], toml::Value::Table(group.clone()));
        assert_eq!(quant["layer"][1]["weight"], toml::Value::Table(group));
        draft.check().unwrap();
    }

    #[test]
    fn a_microscaling_coding_leaves_no_range_and_no_granularity() {
        let text = "[quant.weight]\ncoding = \"ausn\"\nbits = 4\nrange = \"mse\"\nscale = \"free\"\n\
                    granularity = \"per-channel\"\nestimator = \"identity\"\n";
        let mut draft = draft(text);
        assert!(draft.set_coding(Quantized::Weight, &coding("coding = \"mxfp4\"")));
        let expected = coding("weight = { estimator = \"identity\", coding = \"mxfp4\" }");
        assert_eq!(quant(&draft), expected);
        let mut other = self::draft(text);
        assert!(
            other.set_coding(Quantized::Weight, &coding("coding = \"int\"\nlearn-range = \"lsq\""))
        );
        let weight = quant(&other)["weight"].clone();
        assert_eq!(weight.get("scale"), None, "the scale belongs to the range that is learned");
        assert_eq!(weight["granularity"].as_str(), Some("per-channel"));
    }

    #[test]
    fn tables_of_every_form_are_changed() {
        let forms = [
            "quant.weight = { coding = \"ausn\", bits = 4 }",
            "[quant.weight]\ncoding = \"ausn\"\nbits = 4",
            "[quant]\nlayer = [{ match = \"*\", weight = { coding = \"ausn\", bits = 4 } }]",
        ];
        for form in forms {
            let mut draft = draft(form);
            assert!(draft.set_coding(Quantized::Weight, &coding("coding = \"ausn\"\nbits = 6")));
            assert!(draft.text().contains("bits = 6"), "{}", draft.text());
            assert!(!draft.text().contains("bits = 4"), "{}", draft.text());
        }
    }

    #[test]
    fn float_stays_float_and_where_all_is_float_nothing_changes() {
        let text = "[quant]\nweight = { coding = \"float\" }\n[[quant.layer]]\nmatch = \"a\"\nweight = { range = \"max\" }\n";
        let mut draft = draft(text);
        let five = coding("coding = \"ausn\"\nbits = 5");
        assert!(!draft.set_coding(Quantized::Weight, &five));
        assert!(!draft.set_coding(Quantized::Activation, &five));
        assert_eq!(draft.text(), text);
    }

    #[test]
    fn the_rules_of_a_plan_come_last() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path().join("plan.toml");
        let rule = "[[layer]]\nmatch = \"stages.0.*\"\nweight = { coding = \"ausn\", bits = 6 }\n";
        let with = |text: &str, rules: &str| {
            std::fs::write(&plan, rules).unwrap();
            let mut draft = draft(text);
            draft.set(&[format!("quant.plan={}", plan.display())])?;
            draft.take_plan()?;
            Ok::<_, ConfigError>(draft)
        };
        let inline = "[quant]\nlayer = [{ match = \"*\", weight = { coding = \"float\" } }]";
        let braces = "quant = { fold-batch-norm = true }";
        for (text, before) in [(TEXT, 2), ("[quant]", 0), (inline, 1), ("", 0), (braces, 0)] {
            let layers = quant(&with(text, rule).unwrap())["layer"].as_array().unwrap().clone();
            assert_eq!(layers.len(), before + 1);
            let last = layers[before].as_table().unwrap();
            assert_eq!(last["match"].as_str(), Some("stages.0.*"));
            assert_eq!(last["weight"]["bits"].as_integer(), Some(6));
        }
        for (rules, says) in [("", "no [[layer]]"), ("a = 1\n[[layer]]\nmatch = \"*\"", "`a`")] {
            let error = with(TEXT, rules).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("plan.toml"), "{error}");
        }
        let searching = "[quant.search]\naverage-bits = 4\n";
        let planned = with(searching, rule).unwrap().text();
        assert!(!planned.contains("search") && planned.contains("bits = 6"), "{planned}");
        let mut absent = draft(TEXT);
        absent.set(&["quant.plan=absent.toml".into()]).unwrap();
        let error = absent.take_plan().unwrap_err().to_string();
        assert!(error.starts_with("the plan absent.toml cannot be used: No such file"), "{error}");
        let mut without = draft(TEXT);
        without.take_plan().unwrap();
        assert_eq!(without.text(), TEXT);
    }

    #[test]
    fn a_table_is_replaced_by_a_table() {
        let mut draft = draft(TEXT);
        draft.set(&["quant.layer.1={ match = \"*\" }".into()]).unwrap();
        assert_eq!(quant(&draft)["layer"][1], toml::Value::Table(coding("match = \"*\"")));
        draft.set(&["quant={ fold-batch-norm = false }".into()]).unwrap();
        assert_eq!(quant(&draft), coding("fold-batch-norm = false"));
        for (key, text) in [("quant.layer.0", TEXT), ("quant", TEXT), ("quant", "[quant]")] {
            let error = self::draft(text).set(&[format!("{key}=5")]).unwrap_err().to_string();
            assert!(error.contains("the key is one of a table"), "{error}");
        }
    }

    #[test]
    fn float_takes_the_keys_of_the_coding_with_it() {
        let mut draft = draft(TEXT);
        let float = ["quant.weight.coding=float", "quant.layer.1.weight.coding=float"];
        draft.set(&float.map(str::to_string)).unwrap();
        let float = toml::Value::Table(coding("coding = \"float\""));
        assert_eq!(quant(&draft)["weight"], float);
        assert_eq!(quant(&draft)["layer"][1]["weight"], float);
        assert_eq!(quant(&draft)["activation"]["bits"].as_integer(), Some(8));
        draft.check().unwrap();
        draft.set(&["quant.weight.bits=4".into()]).unwrap();
        draft.check().unwrap_err();
    }

    #[test]
    fn a_cost_table_takes_the_place_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("costs.toml");
        let table = "unit = \"pJ\" # picojoules\n[[multiply-accumulate]]\nweight-bits = 4\n\
                     activation-bits = 8\ncost = 0.25\n";
        std::fs::write(&file, table).unwrap();
        let named = toml::Value::from(file.to_str().unwrap());
        for text in [
            format!("[quant.search]\ncost = 9\ncost-table = {named} # ours\n[train]\nseed = 1"),
            format!("[quant]\nsearch = {{ cost-table = {named}, cost = 9 }}\n[train]\nseed = 1"),
            format!("quant.search.cost-table = {named}\nquant.search.cost = 9\ntrain.seed = 1"),
        ] {
            let mut draft = draft(&text);
            assert!(draft.take_cost_table().unwrap());
            let found: toml::Table = toml::from_str(&draft.text()).unwrap();
            let search = &found["quant"]["search"];
            assert_eq!(search["cost-table"], toml::Value::Table(coding(table)), "{}", draft.text());
            assert_eq!(search["cost"].as_integer(), Some(9));
            assert_eq!(found["train"]["seed"].as_integer(), Some(1));
            let text = draft.text();
            assert!(!draft.take_cost_table().unwrap(), "no file is named any more");
            assert_eq!(draft.text(), text);
        }
        std::fs::write(&file, table.replace("0.25", "-1")).unwrap();
        let text = format!("quant.search.cost-table = {named}");
        let error = draft(&text).take_cost_table().unwrap_err().to_string();
        assert!(error.contains("costs.toml: the entry for 4-bit weights"), "{error}");
        assert!(!draft(TEXT).take_cost_table().unwrap());
    }

    #[test]
    fn keys_are_removed_where_they_are() {
        let mut draft = draft(TEXT);
        for key in ["quant", "model.arch", "train.quantized", "task.name.of"] {
            draft.remove(key);
        }
        let left: toml::Table = toml::from_str(&draft.text()).unwrap();
        assert_eq!(left, coding("[task]\nname = \"digits\"\n[model]"));
    }
}
