//! Text to model word by word: WikiText-2 (S. Merity et al., ICLR 2017) and the Penn Treebank (M. Marcus et al., 1993, as
//! prepared by T. Mikolov et al., Interspeech 2010), or any text in their form.
//!
//! Words are separated by white space; every line, empty ones included, ends in the word `<eos>`. The vocabulary holds the
//! words of the training text, numbered in the order of their first occurrence, as in PyTorch's word language model. A word
//! of the other texts that it lacks becomes `<unk>`, and is counted, if training has that word; else it is an error.
//! Lines have no greatest length: a text is one sequence, which tasks cut into windows.

use std::path::{Path, PathBuf};

use super::DataError;
use super::catalog::{Locations, load, manifest};
use super::download::Progress;
use super::lines::lines;
use super::report::{Finding, Report};
use super::vocabulary::Vocabulary;

/// The word at the end of every line.
pub const END: &str = "<eos>";
/// The word for words that the vocabulary lacks.
pub const UNKNOWN: &str = "<unk>";

/// Text as word numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    /// The words.
    pub vocabulary: Vocabulary,
    /// Text to train on.
    pub train: Vec<u32>,
    /// Text to validate with.
    pub valid: Vec<u32>,
    /// Text to report on.
    pub test: Vec<u32>,
    /// Words that were taken as unknown.
    pub report: Report,
}

impl Corpus {
    /// Reads WikiText-2. Rare words are already `<unk>`.
    pub fn wikitext2(locations: &Locations) -> Result<Self, DataError> {
        Self::read("wikitext-2", |part| format!("wikitext-2/{part}.txt"), locations)
    }

    /// Reads the Penn Treebank, lower case, numbers as `N`, rare words as `<unk>`.
    pub fn penn_treebank(locations: &Locations) -> Result<Self, DataError> {
        Self::read("ptb", |part| format!("ptb/ptb.{part}.txt"), locations)
    }

    fn read(
        dataset: &str,
        file: impl Fn(&str) -> String,
        locations: &Locations,
    ) -> Result<Self, DataError> {
        let manifest = manifest(dataset)?;
        let load = |part| load(manifest, &file(part), locations, Progress::Bar);
        Self::from_texts([load("train")?, load("valid")?, load("test")?])
    }

    /// Numbers the words of the training, validation and test text. The paths are named in errors.
    pub fn from_texts(texts: [(PathBuf, Vec<u8>); 3]) -> Result<Self, DataError> {
        let [train, valid, test] = texts;
        let mut vocabulary = Vocabulary::default();
        let train = numbers(&train, |word, _| Ok(vocabulary.add(word)))?;
        let mut report = Report::default();
        let unknown = vocabulary.number(UNKNOWN);
        let mut known = |text: &(PathBuf, Vec<u8>)| {
            numbers(text, |word, line| match (vocabulary.number(word), unknown) {
                (Some(number), _) => Ok(number),
                (None, Some(unknown)) => {
                    let place = || format!("`{word}` in {}, line {line}", text.0.display());
                    report.add(Finding::WordUnknown, place);
                    Ok(unknown)
                }
                (None, None) => Err(format!(
                    "the word `{word}` does not occur in the training text, which has no `{UNKNOWN}` to take it as: \
                     add it to the training text, or replace rare words by `{UNKNOWN}` in every text"
                )),
            })
        };
        let (valid, test) = (known(&valid)?, known(&test)?);
        Ok(Self { vocabulary, train, valid, test, report })
    }
}

fn numbers(
    (path, content): &(PathBuf, Vec<u8>),
    mut number: impl FnMut(&str, u64) -> Result<u32, String>,
) -> Result<Vec<u32>, DataError> {
    let mut numbers = Vec::new();
    for line in lines(content, path) {
        let (line, text) = line?;
        for word in text.split_whitespace().chain([END]) {
            let malformed = |reason| malformed(path, line, reason);
            numbers.push(number(word, line).map_err(malformed)?);
        }
    }
    if numbers.is_empty() {
        return Err(DataError::Empty {
            path: path.clone(),
            expected: "text is expected".to_owned(),
        });
    }
    Ok(numbers)
}

fn malformed(path: &Path, line: u64, reason: String) -> DataError {
    DataError::Malformed { path: path.to_owned(), line, reason }
}

#[cfg(test)]
mod tests {
    use super::super::test_locations;
    use super::*;

    fn read(train: &[u8], valid: &[u8], test: &[u8]) -> Result<Corpus, DataError> {
        Corpus::from_texts([
            ("train.txt".into(), train.to_vec()),
            ("valid.txt".into(), valid.to_vec()),
            ("test.txt".into(), test.to_vec()),
        ])
    }

    #[test]
    fn every_line_ends_in_a_word_of_its_own() {
        let corpus = read(b" b a \n \n <unk> a \n", b"a\n", b"b z y\n\n").unwrap();
        assert_eq!(corpus.vocabulary.words(), ["b", "a", "<eos>", "<unk>"]);
        assert_eq!(corpus.train, [0, 1, 2, 2, 3, 1, 2]);
        assert_eq!((&corpus.valid[..], &corpus.test[..]), (&[1, 2][..], &[0, 3, 3, 2, 2][..]));
        assert_eq!(corpus.report.count(Finding::WordUnknown), 2);
        assert!(corpus.report.to_string().contains("first: `z` in test.txt, line 1"));
    }

    #[test]
    fn errors_name_file_line_and_word() {
        for (train, valid, expected) in [
            (&b"a\n"[..], &b"a\na b\n"[..], "valid.txt, line 2: the word `b` does not occur"),
            (b"a\n", b"", "valid.txt: the file is empty"),
            (b"", b"a\n", "train.txt: the file is empty"),
            (b"a\n\xffb\n", b"a\n", "train.txt, line 2: not UTF-8"),
        ] {
            let error = read(train, valid, b"a\n").unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn wikitext2_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let corpus = Corpus::wikitext2(&locations).unwrap();
        let lengths = [&corpus.train, &corpus.valid, &corpus.test].map(Vec::len);
        assert_eq!(lengths, [2_088_628, 217_646, 245_569]);
        assert_eq!(corpus.vocabulary.len(), 33_278);
        assert_eq!(corpus.vocabulary.words()[..4], ["<eos>", "=", "Valkyria", "Chronicles"]);
        let ends = |text: &[u32]| text.iter().filter(|number| **number == 0).count();
        assert_eq!((ends(&corpus.train), ends(&corpus.valid)), (36_718, 3_760));
        assert!(corpus.report.is_empty());
    }

    #[test]
    fn the_penn_treebank_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let corpus = Corpus::penn_treebank(&locations).unwrap();
        let lengths = [&corpus.train, &corpus.valid, &corpus.test].map(Vec::len);
        assert_eq!(lengths, [929_589, 73_760, 82_430]);
        assert_eq!(corpus.vocabulary.len(), 10_000);
        assert!(corpus.report.is_empty());
    }
}
