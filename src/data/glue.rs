//! Sentences and pairs of sentences from the tab-separated files of GLUE (A. Wang et al., ICLR 2019).
//!
//! | task | question | target |
//! |---|---|---|
//! | CoLA | is the sentence acceptable English? | 0 no, 1 yes |
//! | SST-2 | is the opinion on a film positive? | 0 no, 1 yes |
//! | MRPC | do the sentences say the same? | 0 no, 1 yes |
//! | RTE | does the second sentence follow from the first? | 0 entailment, 1 not entailment |
//! | STS-B | how similar are the sentences? | 0.0 to 5.0 |
//!
//! GLUE's files have no quoting: a double quote is an ordinary character. A task differs from another in its columns
//! only, so a new one is one more row of `Layout`. An empty sentence, an unknown label and a wrong number of columns are
//! errors that name file and line. Sentences may be of any length: [`Tokenizer`](super::tokenizer::Tokenizer) cuts what is
//! too long for a model, and counts it.
//!
//! Test labels were never published, so results are reported on `dev`; see [`hold_out`](super::hold_out) for a validation
//! split of SST-2 to tune on, and [`Split::stratified`](super::Split::stratified) for the others.

use std::path::Path;

use super::DataError;
use super::catalog::{Locations, load, manifest};
use super::download::Progress;
use super::lines::lines;

/// A task of GLUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GlueTask {
    /// Corpus of Linguistic Acceptability.
    Cola,
    /// Stanford Sentiment Treebank with two classes.
    Sst2,
    /// Microsoft Research Paraphrase Corpus.
    Mrpc,
    /// Recognizing Textual Entailment.
    Rte,
    /// Semantic Textual Similarity Benchmark.
    Stsb,
}

/// A sentence or a pair of sentences, and what is to be said of it.
#[derive(Clone, Debug, PartialEq)]
pub struct GlueExample {
    /// The sentence, or the first of a pair, without surrounding white space.
    pub text: String,
    /// The second of a pair.
    pub pair: Option<String>,
    /// The answer.
    pub target: Target,
}

/// What is to be said of an example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// Its class.
    Class(u32),
    /// Its score, 0 to 5.
    Score(f32),
}

/// A text and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence {
    /// Text without surrounding white space.
    pub text: String,
    /// The class.
    pub label: u32,
}

/// The labelled parts of a GLUE task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlueSplit {
    /// To train on.
    Train,
    /// To report on.
    Dev,
}

/// Columns of a task's files.
struct Layout {
    dataset: &'static str,
    folder: &'static str,
    columns: &'static [&'static str],
    /// Whether the first line names the columns.
    has_header: bool,
    text: usize,
    pair: Option<usize>,
    target: usize,
    /// The label of class `i` is `classes[i]`; a task without classes has scores.
    classes: &'static [&'static str],
}

/// Largest score.
const MAX_SCORE: f32 = 5.0;

impl GlueTask {
    /// How many classes there are; 0 if there are scores.
    pub fn classes(self) -> usize {
        self.layout().classes.len()
    }

    fn layout(self) -> &'static Layout {
        match self {
            Self::Cola => &Layout {
                dataset: "cola",
                folder: "glue/CoLA",
                columns: &["source", "label", "annotation", "sentence"],
                has_header: false,
                text: 3,
                pair: None,
                target: 1,
                classes: &["0", "1"],
            },
            Self::Sst2 => &Layout {
                dataset: "sst2",
                folder: "sst2",
                columns: &["sentence", "label"],
                has_header: true,
                text: 0,
                pair: None,
                target: 1,
                classes: &["0", "1"],
            },
            Self::Mrpc => &Layout {
                dataset: "mrpc",
                folder: "glue/MRPC",
                columns: &["Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"],
                has_header: true,
                text: 3,
                pair: Some(4),
                target: 0,
                classes: &["0", "1"],
            },
            Self::Rte => &Layout {
                dataset: "rte",
                folder: "glue/RTE",
                columns: &["index", "sentence1", "sentence2", "label"],
                has_header: true,
                text: 1,
                pair: Some(2),
                target: 3,
                classes: &["entailment", "not_entailment"],
            },
            Self::Stsb => &Layout {
                dataset: "stsb",
                folder: "glue/STS-B",
                columns: &[
                    "index",
                    "genre",
                    "filename",
                    "year",
                    "old_index",
                    "source1",
                    "source2",
                    "sentence1",
                    "sentence2",
                    "score",
                ],
                has_header: true,
                text: 7,
                pair: Some(8),
                target: 9,
                classes: &[],
            },
        }
    }
}

/// Reads a part of a task, downloading it first if it is in no folder.
pub fn read_glue(
    task: GlueTask,
    split: GlueSplit,
    locations: &Locations,
) -> Result<Vec<GlueExample>, DataError> {
    let layout = task.layout();
    let part = match split {
        GlueSplit::Train => "train",
        GlueSplit::Dev => "dev",
    };
    let file = format!("{}/{part}.tsv", layout.folder);
    let (path, content) = load(manifest(layout.dataset)?, &file, locations, Progress::Bar)?;
    layout.parse(&content, &path)
}

/// Reads a part of SST-2, downloading it first if it is in no folder.
pub fn read_sst2(split: GlueSplit, locations: &Locations) -> Result<Vec<Sentence>, DataError> {
    let examples = read_glue(GlueTask::Sst2, split, locations)?.into_iter();
    let sentence = |example: GlueExample| match example.target {
        Target::Class(label) => Sentence { text: example.text, label },
        Target::Score(_) => unreachable!("SST-2 has classes"),
    };
    Ok(examples.map(sentence).collect())
}

impl Layout {
    fn parse(&self, content: &[u8], path: &Path) -> Result<Vec<GlueExample>, DataError> {
        let expected = || format!("the columns `{}`", self.columns.join("`, `"));
        let mut examples = Vec::new();
        for line in lines(content, path) {
            let (line, row) = line?;
            let malformed =
                |reason: String| DataError::Malformed { path: path.to_owned(), line, reason };
            let columns: Vec<&str> = row.split('\t').collect();
            if line == 1 && self.has_header {
                if columns != self.columns {
                    return Err(malformed(format!(
                        "the header is missing: found `{row}`, expected {}",
                        expected()
                    )));
                }
                continue;
            }
            if columns.len() != self.columns.len() {
                return Err(malformed(format!(
                    "found {} columns, expected {}: {}",
                    columns.len(),
                    self.columns.len(),
                    expected()
                )));
            }
            let sentence = |column: usize| match columns[column].trim() {
                "" => Err(malformed("the sentence is empty".to_owned())),
                text => Ok(text.to_owned()),
            };
            examples.push(GlueExample {
                text: sentence(self.text)?,
                pair: self.pair.map(sentence).transpose()?,
                target: self.target(columns[self.target]).map_err(malformed)?,
            });
        }
        if examples.is_empty() {
            return Err(DataError::Empty {
                path: path.to_owned(),
                expected: format!(
                    "{}one example per line with {} are expected",
                    if self.has_header { "a header and " } else { "" },
                    expected()
                ),
            });
        }
        Ok(examples)
    }

    fn target(&self, label: &str) -> Result<Target, String> {
        if self.classes.is_empty() {
            let score = label.parse().ok().filter(|score| (0.0..=MAX_SCORE).contains(score));
            let score = score.ok_or_else(|| {
                format!("the score is `{label}`, expected a number from 0 to {MAX_SCORE}")
            })?;
            return Ok(Target::Score(score));
        }
        let class = self.classes.iter().position(|known| *known == label).ok_or_else(|| {
            format!("the label is `{label}`, expected `{}`", self.classes.join("` or `"))
        })?;
        Ok(Target::Class(class as u32))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{gzip, test_locations};
    use super::*;

    fn parse_as(task: GlueTask, text: &[u8]) -> Result<Vec<GlueExample>, DataError> {
        task.layout().parse(text, Path::new("t.tsv"))
    }

    fn parse(text: &[u8]) -> Result<Vec<GlueExample>, DataError> {
        parse_as(GlueTask::Sst2, text)
    }

    fn example(text: &str, pair: Option<&str>, target: Target) -> GlueExample {
        GlueExample { text: text.to_owned(), pair: pair.map(str::to_owned), target }
    }

    #[test]
    fn reads_every_accepted_form() {
        let expected = [
            example("a \"fine\" film", None, Target::Class(1)),
            example("\"dull", None, Target::Class(0)),
        ];
        for text in [
            &b"sentence\tlabel\na \"fine\" film \t1\n\"dull \t0\n"[..],
            b"sentence\tlabel\na \"fine\" film \t1\n\"dull \t0",
            b"sentence\tlabel\r\na \"fine\" film \t1\r\n\"dull\t0\r\n",
            b"\xef\xbb\xbfsentence\tlabel\na \"fine\" film\t1\n\"dull\t0\n",
        ] {
            assert_eq!(parse(text).unwrap(), expected);
        }
    }

    #[test]
    fn every_task_has_its_columns() {
        let (yes, no) = (Target::Class(1), Target::Class(0));
        for (task, text, expected) in [
            (
                GlueTask::Cola,
                "gj04\t1\t\tIt \"is\".\nbc\t0\t*\tIs it.",
                [example("It \"is\".", None, yes), example("Is it.", None, no)],
            ),
            (
                GlueTask::Mrpc,
                "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\t\"A\tB\"\"\n0\t7\t8\tC \tD\n",
                [example("\"A", Some("B\"\""), yes), example("C", Some("D"), no)],
            ),
            (
                GlueTask::Rte,
                "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n1\tC\tD\tentailment\n",
                [example("A", Some("B"), yes), example("C", Some("D"), no)],
            ),
            (
                GlueTask::Stsb,
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n\
                 0\tg\tf\t2012\t1\ts\tt\tA\tB\t5.000\n1\tg\tf\t2012\t1\ts\tt\tC\tD\t0.25\n",
                [
                    example("A", Some("B"), Target::Score(5.0)),
                    example("C", Some("D"), Target::Score(0.25)),
                ],
            ),
        ] {
            assert_eq!(parse_as(task, text.as_bytes()).unwrap(), expected);
        }
        let classes = [GlueTask::Cola, GlueTask::Rte, GlueTask::Stsb].map(GlueTask::classes);
        assert_eq!(classes, [2, 2, 0]);
    }

    #[test]
    fn errors_of_pairs_and_scores_name_file_and_line() {
        let rte = |row: &str| {
            let text = format!("index\tsentence1\tsentence2\tlabel\n{row}\n");
            parse_as(GlueTask::Rte, text.as_bytes()).unwrap_err().to_string()
        };
        let stsb = |score: &str| {
            let header = GlueTask::Stsb.layout().columns.join("\t");
            let text = format!("{header}\n0\tg\tf\ty\to\ts\tt\tA\tB\t{score}\n");
            parse_as(GlueTask::Stsb, text.as_bytes()).unwrap_err().to_string()
        };
        let cola = parse_as(GlueTask::Cola, b"gj04\t2\t\tIt is.\n").unwrap_err().to_string();
        for (error, part) in [
            (rte("0\tA\t \tentailment"), "t.tsv, line 2: the sentence is empty"),
            (rte("0\tA\tB\tneutral"), "expected `entailment` or `not_entailment`"),
            (rte("0\tA\tB"), "t.tsv, line 2: found 3 columns, expected 4"),
            (stsb("5.01"), "t.tsv, line 2: the score is `5.01`, expected a number from 0 to 5"),
            (stsb("NaN"), "the score is `NaN`"),
            (stsb("high"), "the score is `high`"),
            (cola, "t.tsv, line 1: the label is `2`"),
        ] {
            assert!(error.contains(part), "{part:?} is not in: {error}");
        }
    }

    #[test]
    fn errors_name_file_and_line() {
        for (text, part) in [
            (&b"fine\t1\n"[..], "t.tsv, line 1: the header is missing: found `fine\t1`"),
            (b"\nfine\t1\n", "t.tsv, line 1: the header is missing: found ``"),
            (b"sentence\tlabel\nfine\n", "t.tsv, line 2: found 1 columns, expected 2"),
            (b"sentence\tlabel\nfine\t1\t1\n", "t.tsv, line 2: found 3 columns"),
            (b"sentence\tlabel\nfine\t1\n\npoor\t0\n", "t.tsv, line 3: found 1 columns"),
            (b"sentence\tlabel\nfine\t2\n", "t.tsv, line 2: the label is `2`, expected `0` or `1`"),
            (b"sentence\tlabel\nfine\t\n", "the label is ``"),
            (b"sentence\tlabel\n \t1\n", "t.tsv, line 2: the sentence is empty"),
            (b"sentence\tlabel\nf\xffne\t1\n", "t.tsv, line 2: not UTF-8"),
            (b"", "t.tsv: the file is empty"),
            (b"sentence\tlabel\n", "t.tsv: the file is empty"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
            assert!(!error.is_user_error());
        }
    }

    #[test]
    fn reads_plain_and_gzipped_files_from_the_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let locations = Locations {
            data_dir: Some(folder.path().to_owned()),
            cache_dir: folder.path().join("cache"),
            offline: true,
        };
        let text = b"sentence\tlabel\nfine \t1\n";
        fs::create_dir(folder.path().join("sst2")).unwrap();
        fs::write(folder.path().join("sst2/train.tsv.gz"), gzip::pack(text)).unwrap();
        // Named as plain, gzipped in fact.
        fs::write(folder.path().join("sst2/dev.tsv"), gzip::pack(text)).unwrap();
        for split in [GlueSplit::Train, GlueSplit::Dev] {
            let expected = Sentence { text: "fine".to_owned(), label: 1 };
            assert_eq!(read_sst2(split, &locations).unwrap(), [expected]);
        }

        let packed = gzip::pack(text);
        fs::write(folder.path().join("sst2/dev.tsv"), &packed[..packed.len() - 6]).unwrap();
        let error = read_sst2(GlueSplit::Dev, &locations).unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");
    }

    #[test]
    fn the_published_files_have_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        for (task, train, dev) in [
            (GlueTask::Cola, [2_528, 6_023], [322, 721]),
            (GlueTask::Sst2, [29_780, 37_569], [428, 444]),
            (GlueTask::Mrpc, [1_194, 2_474], [129, 279]),
            (GlueTask::Rte, [1_249, 1_241], [146, 131]),
        ] {
            for (split, counts) in [(GlueSplit::Train, train), (GlueSplit::Dev, dev)] {
                let examples = read_glue(task, split, &locations).unwrap();
                let of_class =
                    |class| examples.iter().filter(|e| e.target == Target::Class(class)).count();
                assert_eq!([of_class(0), of_class(1)], counts, "{task:?} {split:?}");
                let single = matches!(task, GlueTask::Cola | GlueTask::Sst2);
                assert!(examples.iter().all(|e| e.pair.is_none() == single));
            }
        }
        for (split, count, mean) in
            [(GlueSplit::Train, 5_749, "2.701"), (GlueSplit::Dev, 1_500, "2.364")]
        {
            let examples = read_glue(GlueTask::Stsb, split, &locations).unwrap();
            let score = |example: &GlueExample| match example.target {
                Target::Score(score) => f64::from(score),
                Target::Class(_) => panic!("STS-B has scores"),
            };
            let sum: f64 = examples.iter().map(score).sum();
            assert_eq!(
                (examples.len(), format!("{:.3}", sum / count as f64)),
                (count, mean.to_owned())
            );
        }
        let dev = read_glue(GlueTask::Mrpc, GlueSplit::Dev, &locations).unwrap();
        assert!(dev[0].text.starts_with("He said the foodservice pie business"));
    }
}
