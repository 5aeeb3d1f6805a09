//! `resamples.jsonl`: the metric of every stage and split over the bootstrap's draws of the examples, by which two
//! models are compared on the same examples.

use std::path::Path;

use serde::{Deserialize, Serialize, Serializer};

use super::SplitScore;
use crate::files::json_reason;

/// A line of `resamples.jsonl`. Numbers have seven digits there: the draws leave fewer sure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resamples {
    /// Which model: `float`, `calibrated` or `quantized`.
    pub stage: String,
    /// The split.
    pub split: String,
    /// The task's metric over each draw: [`Score::resampled`](crate::tasks::Score::resampled).
    #[serde(serialize_with = "in_seven_digits")]
    pub values: Vec<f64>,
}

impl Resamples {
    /// The name of the file in a run's folder.
    pub const FILE: &str = "resamples.jsonl";

    /// Those of a stage, of the splits that have any.
    pub fn of<'a>(stage: &'a str, scores: &'a [SplitScore]) -> impl Iterator<Item = Self> + 'a {
        scores.iter().filter(|score| !score.resampled.is_empty()).map(|score| Self {
            stage: stage.to_string(),
            split: score.split.clone(),
            values: score.resampled.clone(),
        })
    }

    /// Those in a run's folder, or in what a suite keeps of it; none where there is no such file.
    ///
    /// # Errors
    ///
    /// The line, from 1, and the reason, where the file holds something else; no line, where it cannot be read.
    pub fn read(folder: &Path) -> Result<Vec<Self>, (Option<u64>, String)> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(path).map_err(|error| (None, error.to_string()))?;
        let line = |(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| (Some(index as u64 + 1), json_reason(&error)))
        };
        text.lines().enumerate().map(line).collect()
    }

    /// The content of the file.
    pub fn lines<'a>(resamples: impl IntoIterator<Item = &'a Self>) -> String {
        let line = |one| serde_json::to_string(one).expect("names and numbers are JSON") + "\n";
        resamples.into_iter().map(line).collect()
    }

    /// The values of a stage and split; empty where there are none.
    pub fn find<'a>(resamples: &'a [Self], stage: &str, split: &str) -> &'a [f64] {
        let found = resamples.iter().find(|one| one.stage == stage && one.split == split);
        found.map_or(&[], |one| &one.values)
    }
}

fn in_seven_digits<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
    let rounded = |value: &f64| -> f64 { format!("{value:.6e}").parse().expect("a number") };
    serializer.collect_seq(values.iter().map(rounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_found_again_and_damage_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Resamples::read(folder.path()), Ok(Vec::new()));
        let score = |split: &str, resampled: &[f64]| SplitScore {
            split: split.into(),
            value: 0.5,
            standard_error: None,
            examples: 2,
            others: Vec::new(),
            resampled: resampled.to_vec(),
        };
        let scores = [score("valid", &[0.25, 1e60 / 3.0]), score("test", &[])];
        let resamples: Vec<Resamples> = Resamples::of("float", &scores).collect();
        let path = folder.path().join(Resamples::FILE);
        let lines = Resamples::lines(&resamples);
        std::fs::write(&path, &lines).unwrap();
        let read = Resamples::read(folder.path()).unwrap();
        assert_eq!(Resamples::find(&read, "float", "valid"), [0.25, 3.333333e59]);
        for (stage, split) in [("float", "test"), ("quantized", "valid")] {
            assert!(Resamples::find(&read, stage, split).is_empty());
        }
        std::fs::write(&path, lines + "{\"stage\":\n").unwrap();
        assert_eq!(Resamples::read(folder.path()).unwrap_err().0, Some(2));
    }
}
