//! Requests to an assistant, each with an intent and a slot tag for every word: SNIPS (A. Coucke et al., 2018) and ATIS
//! (C. Hemphill et al., 1990).
//!
//! A part is three files, line n of each for the same utterance: `seq.in` has its words, `seq.out` one tag for each word
//! (`O`, or `B-slot` and `I-slot` for the first and the further words of a slot), `label` its intent. Several intents joined
//! by `#` count as an intent of their own.
//!
//! Words, tags and intents are numbered in the order of their first occurrence in the training part; the words follow
//! `<pad>` and `<unk>`, the tags begin with `O`. A word that training lacks is `<unk>`, and counted. Tags and intents that
//! training lacks get numbers behind all others, from [`IntentData::known_tags`] and [`IntentData::known_intents`] on: a
//! model does not have them, so that those examples stay in the evaluation and count as wrong.
//!
//! [`IntentData::without_long`] leaves out training utterances that are too long; evaluation utterances are never cut.

use std::path::{Path, PathBuf};

use super::DataError;
use super::catalog::{Locations, load, manifest};
use super::download::Progress;
use super::lines::lines;
use super::report::{Finding, Report};
use super::vocabulary::Vocabulary;

/// Number of the word that fills an utterance up.
pub const PAD: u32 = 0;
/// Number of the word for words that training lacks.
pub const UNKNOWN: u32 = 1;
/// Number of the tag of words outside of all slots.
pub const OUTSIDE: u32 = 0;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utterance {
    /// Its words.
    pub words: Vec<String>,
    /// The tag of each word, a place in [`IntentData::tags`].
    pub tags: Vec<u32>,
    /// What is asked for, a place in [`IntentData::intents`].
    pub intent: u32,
}

/// Requests in three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntentData {
    /// The words of the training part, after `<pad>` and `<unk>`.
    pub vocabulary: Vocabulary,
    /// Names of the intents.
    pub intents: Vec<String>,
    /// How many intents occur in training: the classes of a model.
    pub known_intents: usize,
    /// Names of the tags.
    pub tags: Vec<String>,
    /// How many tags occur in training: the classes of a model.
    pub known_tags: usize,
    /// Requests to train on.
    pub train: Vec<Utterance>,
    /// Requests to validate with.
    pub valid: Vec<Utterance>,
    /// Requests to report on.
    pub test: Vec<Utterance>,
    /// What training lacks, and what was left out.
    pub report: Report,
}

/// A request as it stands in the files, with its line.
pub(super) struct RawUtterance {
    pub(super) line: u64,
    pub(super) words: Vec<String>,
    pub(super) tags: Vec<String>,
    pub(super) intent: String,
}

/// The requests of a part, and what to call the part.
pub(super) type RawPart = (PathBuf, Vec<RawUtterance>);

impl IntentData {
    /// Reads SNIPS: seven intents.
    pub fn snips(locations: &Locations) -> Result<Self, DataError> {
        Self::read("snips", locations)
    }

    /// Reads ATIS: requests for air travel.
    pub fn atis(locations: &Locations) -> Result<Self, DataError> {
        Self::read("atis", locations)
    }

    fn read(dataset: &str, locations: &Locations) -> Result<Self, DataError> {
        let manifest = manifest(dataset)?;
        let part = |name: &str| {
            let file = |kind: &str| {
                load(manifest, &format!("{dataset}/{name}/{kind}"), locations, Progress::Bar)
            };
            let (words, tags, intents) = (file("seq.in")?, file("seq.out")?, file("label")?);
            let utterances = parse(&words, &tags, &intents)?;
            Ok::<_, DataError>((words.0, utterances))
        };
        Ok(Self::number(part("train")?, part("valid")?, part("test")?))
    }

    /// Numbers words, tags and intents.
    pub(super) fn number(train: RawPart, valid: RawPart, test: RawPart) -> Self {
        let mut vocabulary = Vocabulary::new(&["<pad>", "<unk>"]);
        let (mut tags, mut intents) = (Vocabulary::new(&["O"]), Vocabulary::default());
        for utterance in &train.1 {
            for word in &utterance.words {
                vocabulary.add(word);
            }
            for tag in &utterance.tags {
                tags.add(tag);
            }
            intents.add(&utterance.intent);
        }
        let (known_tags, known_intents) = (tags.len(), intents.len());
        let mut report = Report::default();
        let mut numbered = |(path, part): RawPart| -> Vec<Utterance> {
            let mut number = |utterance: RawUtterance| {
                let place = |name: &str| {
                    format!("`{name}` in line {} of {}", utterance.line, path.display())
                };
                let mut tag = |name: &String| {
                    let number = tags.add(name);
                    if number as usize >= known_tags {
                        report.add(Finding::TagUnknown, || place(name));
                    }
                    number
                };
                let tags = utterance.tags.iter().map(&mut tag).collect();
                let intent = intents.add(&utterance.intent);
                if intent as usize >= known_intents {
                    report.add(Finding::IntentUnknown, || place(&utterance.intent));
                }
                Utterance { words: utterance.words, tags, intent }
            };
            part.into_iter().map(&mut number).collect()
        };
        let (train, valid, test) = (numbered(train), numbered(valid), numbered(test));
        Self {
            vocabulary,
            intents: intents.words().to_vec(),
            known_intents,
            tags: tags.words().to_vec(),
            known_tags,
            train,
            valid,
            test,
            report,
        }
    }

    /// Leaves out training utterances of more than `max_words` words, and counts them.
    #[must_use]
    pub fn without_long(mut self, max_words: usize) -> Self {
        let report = &mut self.report;
        self.train.retain(|utterance| {
            let fits = utterance.words.len() <= max_words;
            if !fits {
                report.add(Finding::ExampleTooLong, || {
                    format!("{} words: `{} ...`", utterance.words.len(), utterance.words[0])
                });
            }
            fits
        });
        self
    }

    /// The words of utterances by their numbers in the vocabulary. Words that it lacks are counted.
    pub fn word_numbers(&self, utterances: &[Utterance]) -> (Vec<Vec<u32>>, Report) {
        let mut report = Report::default();
        let mut numbers = Vec::with_capacity(utterances.len());
        for Utterance { words, .. } in utterances {
            let mut number = |word: &String| {
                self.vocabulary.number(word).unwrap_or_else(|| {
                    let place = || format!("`{word}` in `{}`", words.join(" "));
                    report.add(Finding::WordUnknown, place);
                    UNKNOWN
                })
            };
            numbers.push(words.iter().map(&mut number).collect());
        }
        (numbers, report)
    }
}

/// Reads the three files of a part, each with the path to name in errors.
fn parse(
    words: &(PathBuf, Vec<u8>),
    tags: &(PathBuf, Vec<u8>),
    intents: &(PathBuf, Vec<u8>),
) -> Result<Vec<RawUtterance>, DataError> {
    let read = |(path, content): &'_ (PathBuf, Vec<u8>)| -> Result<Vec<(u64, String)>, DataError> {
        lines(content, path).map(|line| line.map(|(line, text)| (line, text.to_owned()))).collect()
    };
    let fail = |path: &Path, line: u64, reason: String| DataError::Malformed {
        path: path.to_owned(),
        line,
        reason,
    };
    let (word_lines, tag_lines, intent_lines) = (read(words)?, read(tags)?, read(intents)?);
    for (path, count) in [(&tags.0, tag_lines.len()), (&intents.0, intent_lines.len())] {
        let expected = word_lines.len();
        if count != expected {
            return Err(fail(
                path,
                count.min(expected) as u64 + 1,
                format!(
                    "the file has {count} lines, but {} has {expected}: line n of each must be of the same utterance",
                    words.0.display()
                ),
            ));
        }
    }
    if word_lines.is_empty() {
        return Err(DataError::Empty {
            path: words.0.clone(),
            expected: "one utterance per line is expected".to_owned(),
        });
    }
    let mut utterances = Vec::with_capacity(word_lines.len());
    for (((line, text), (_, tag_text)), (_, intent)) in
        word_lines.into_iter().zip(tag_lines).zip(intent_lines)
    {
        let split =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let (utterance, labels) = (split(&text), split(&tag_text));
        if utterance.is_empty() {
            return Err(fail(&words.0, line, "the utterance is empty".to_owned()));
        }
        if labels.len() != utterance.len() {
            return Err(fail(
                &tags.0,
                line,
                format!(
                    "{} tags, but line {line} of {} has {} words",
                    labels.len(),
                    words.0.display(),
                    utterance.len()
                ),
            ));
        }
        let is_tag = |tag: &str| {
            let slot = tag.strip_prefix("B-").or_else(|| tag.strip_prefix("I-"));
            tag == "O" || slot.is_some_and(|slot| !slot.is_empty())
        };
        if let Some(bad) = labels.iter().find(|tag| !is_tag(tag)) {
            let reason = format!("the tag is `{bad}`, expected `O`, `B-` or `I-` and a slot");
            return Err(fail(&tags.0, line, reason));
        }
        let intent = intent.trim().to_owned();
        if intent.is_empty() {
            return Err(fail(&intents.0, line, "the intent is empty".to_owned()));
        }
        utterances.push(RawUtterance { line, words: utterance, tags: labels, intent });
    }
    Ok(utterances)
}

#[cfg(test)]
mod tests {
    use super::super::test_locations;
    use super::*;

    fn part(words: &str, tags: &str, intents: &str) -> Result<RawPart, DataError> {
        let file = |name: &str, text: &str| (PathBuf::from(name), text.as_bytes().to_vec());
        let words = file("seq.in", words);
        Ok((words.0.clone(), parse(&words, &file("seq.out", tags), &file("label", intents))?))
    }

    #[test]
    fn numbers_come_from_training_and_others_follow() {
        let train =
            part("play it \ngo to oslo\n", "O B-song \nO O B-city\n", "play\ngo\n").unwrap();
        let valid = part("go new\n", "O B-city\n", "go\n").unwrap();
        let test = part("play new york\n", "O B-town I-town\n", "go#play\n").unwrap();
        let data = IntentData::number(train, valid, test);
        assert_eq!(data.vocabulary.words(), ["<pad>", "<unk>", "play", "it", "go", "to", "oslo"]);
        assert_eq!(data.tags, ["O", "B-song", "B-city", "B-town", "I-town"]);
        assert_eq!(data.intents, ["play", "go", "go#play"]);
        assert_eq!((data.known_tags, data.known_intents), (3, 2));
        assert_eq!((&data.valid[0].tags[..], data.valid[0].intent), (&[0, 2][..], 1));
        assert_eq!((&data.test[0].tags[..], data.test[0].intent), (&[0, 3, 4][..], 2));
        let (numbers, report) = data.word_numbers(&data.test);
        assert_eq!(numbers, [[2, UNKNOWN, UNKNOWN]]);
        assert_eq!(report.count(Finding::WordUnknown), 2);
        assert!(report.to_string().contains("(first: `new` in `play new york`)"), "{report}");
        assert!(data.word_numbers(&data.train).1.is_empty());
        assert_eq!(data.report.count(Finding::TagUnknown), 2);
        assert_eq!(data.report.count(Finding::IntentUnknown), 1);
        assert!(data.report.to_string().contains("(first: `B-town` in line 1 of seq.in)"));

        let data = data.without_long(2);
        assert_eq!((data.train.len(), data.test.len()), (1, 1));
        assert_eq!(data.report.count(Finding::ExampleTooLong), 1);
    }

    #[test]
    fn errors_name_file_and_line() {
        for (words, tags, intents, expected) in [
            ("a\nb\n", "O\n", "x\ny\n", "seq.out, line 2: the file has 1 lines, but seq.in has 2"),
            ("a\n", "O\n", "x\ny\n", "label, line 2: the file has 2 lines, but seq.in has 1"),
            (
                "a\nb c\n",
                "O\nO\n",
                "x\ny\n",
                "seq.out, line 2: 1 tags, but line 2 of seq.in has 2 words",
            ),
            ("a\n", "B\n", "x\n", "seq.out, line 1: the tag is `B`"),
            ("a\n", "B-\n", "x\n", "seq.out, line 1: the tag is `B-`"),
            ("a\n \n", "O\n\n", "x\ny\n", "seq.in, line 2: the utterance is empty"),
            ("a\n", "O\n", " \n", "label, line 1: the intent is empty"),
            ("", "", "", "seq.in: the file is empty"),
        ] {
            let error = part(words, tags, intents).err().expect(expected).to_string();
            assert!(error.contains(expected), "{expected} is not in: {error}");
        }
    }

    #[test]
    fn snips_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let data = IntentData::snips(&locations).unwrap();
        let parts = [&data.train, &data.valid, &data.test];
        assert_eq!(parts.map(Vec::len), [13_084, 700, 700]);
        let words = parts.map(|part| part.iter().map(|u| u.words.len()).sum::<usize>());
        assert_eq!(words, [117_700, 6_384, 6_354]);
        assert_eq!(data.vocabulary.len(), 2 + 11_418);
        assert_eq!((data.known_intents, data.known_tags), (7, 72));
        assert_eq!((data.intents.len(), data.tags.len()), (7, 72));
        assert_eq!(parts.iter().flat_map(|p| p.iter()).map(|u| u.words.len()).max(), Some(35));
        let mut counts: Vec<_> = (0..7)
            .map(|intent| data.train.iter().filter(|u| u.intent == intent).count())
            .zip(&data.intents)
            .map(|(count, name)| (count, name.as_str()))
            .collect();
        counts.sort_unstable();
        assert_eq!(counts[0], (1_818, "AddToPlaylist"));
        assert_eq!(counts[6], (1_914, "PlayMusic"));
        assert!(data.report.is_empty(), "{}", data.report);
        let unknown = parts.map(|part| data.word_numbers(part).1.count(Finding::WordUnknown));
        assert_eq!(unknown, [0, 355, 378]);
    }

    #[test]
    fn atis_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let data = IntentData::atis(&locations).unwrap();
        let parts = [&data.train, &data.valid, &data.test];
        assert_eq!(parts.map(Vec::len), [4_478, 500, 893]);
        let words = parts.map(|part| part.iter().map(|u| u.words.len()).sum::<usize>());
        assert_eq!(words, [50_497, 5_703, 9_164]);
        assert_eq!(data.vocabulary.len(), 2 + 867);
        assert_eq!((data.known_intents, data.known_tags), (21, 120));
        assert_eq!(data.report.count(Finding::IntentUnknown), 2);
        assert!(data.intents[21..].contains(&"atis_day_name".to_owned()));
        let unknown = |part: &[Utterance]| {
            let tags =
                part.iter().flat_map(|u| &u.tags).filter(|t| **t as usize >= data.known_tags);
            tags.collect::<std::collections::HashSet<_>>().len()
        };
        assert_eq!((unknown(&data.valid), unknown(&data.test)), (1, 6));
        let flight = data.intents.iter().position(|name| name == "atis_flight").unwrap() as u32;
        assert_eq!(data.train.iter().filter(|u| u.intent == flight).count(), 3_309);
    }
}
