//! Sentences and their translations: Multi30k task 1, captions of photographs in English and German (D. Elliott, S. Frank,
//! K. Sima'an and L. Specia, 2016).
//!
//! A part is two files, line n of one being the translation of line n of the other.

use std::path::PathBuf;

use super::DataError;
use super::catalog::{Locations, load, manifest};
use super::download::Progress;
use super::lines::lines;
use super::report::{Finding, Report};
use super::subwords::{Subwords, UNKNOWN};

/// A sentence and its translation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SentencePair {
    /// What is to be translated.
    pub source: String,
    /// Its translation.
    pub target: String,
}

/// Sentences and their translations in three parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParallelText {
    /// Pairs to train on.
    pub train: Vec<SentencePair>,
    /// Pairs to validate with.
    pub valid: Vec<SentencePair>,
    /// Pairs to report on.
    pub test: Vec<SentencePair>,
}

/// A pair of sentences as token numbers, without tokens for beginning and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// What is to be translated.
    pub source: Vec<u32>,
    /// Its translation.
    pub target: Vec<u32>,
}

impl ParallelText {
    /// Reads Multi30k, English to German: 29,000 pairs to train on, 1,014 to validate with, the 1,000 of Flickr 2016 to test
    /// with. The text is as people wrote it, not tokenized.
    pub fn multi30k(locations: &Locations) -> Result<Self, DataError> {
        let manifest = manifest("multi30k")?;
        let part = |name: &str| {
            let file = |language: &str| {
                load(manifest, &format!("multi30k/{name}.{language}"), locations, Progress::Bar)
            };
            parse(&file("en")?, &file("de")?)
        };
        Ok(Self { train: part("train")?, valid: part("val")?, test: part("test_2016_flickr")? })
    }
}

/// Numbers of the tokens of training pairs. A pair of which either sentence has more than `max_tokens` tokens is left out
/// and counted: a translation cut short would teach to stop early.
///
/// # Errors
///
/// [`DataError::Tokenizer`] if the library refuses a text.
pub fn encode_training(
    pairs: &[SentencePair],
    source: &Subwords,
    target: &Subwords,
    max_tokens: usize,
) -> Result<(Vec<TokenPair>, Report), DataError> {
    let mut report = Report::default();
    let sources = source.encode_batch(pairs.iter().map(|pair| pair.source.as_str()).collect())?;
    let targets = target.encode_batch(pairs.iter().map(|pair| pair.target.as_str()).collect())?;
    let mut kept = Vec::with_capacity(pairs.len());
    for (pair, (source, target)) in pairs.iter().zip(sources.into_iter().zip(targets)) {
        let longest = source.len().max(target.len());
        if longest > max_tokens {
            let start: String = pair.source.chars().take(40).collect();
            report.add(Finding::ExampleTooLong, || format!("{longest} tokens: `{start}...`"));
            continue;
        }
        kept.push(TokenPair { source, target });
    }
    Ok((kept, report))
}

/// Numbers of the tokens of evaluation pairs. A sentence of more than `max_tokens` tokens is cut there and counted; its
/// pair stays in the evaluation. Tokens for unknown characters are counted as well.
///
/// # Errors
///
/// [`DataError::Tokenizer`] if the library refuses a text.
pub fn encode_evaluation(
    pairs: &[SentencePair],
    source: &Subwords,
    target: &Subwords,
    max_tokens: usize,
) -> Result<(Vec<TokenPair>, Report), DataError> {
    let mut report = Report::default();
    let mut encode = |words: &Subwords, side: fn(&SentencePair) -> &str| {
        let texts: Vec<&str> = pairs.iter().map(side).collect();
        let mut encoded = words.encode_batch(texts.clone())?;
        for (text, tokens) in texts.into_iter().zip(&mut encoded) {
            let start: String = text.chars().take(40).collect();
            for _ in tokens.iter().filter(|token| **token == UNKNOWN) {
                report.add(Finding::WordUnknown, || format!("in `{start}...`"));
            }
            if tokens.len() > max_tokens {
                report.add(Finding::TextCut, || format!("{} tokens: `{start}...`", tokens.len()));
                tokens.truncate(max_tokens);
            }
        }
        Ok::<_, DataError>(encoded)
    };
    let sources = encode(source, |pair| &pair.source)?;
    let targets = encode(target, |pair| &pair.target)?;
    let pair = |(source, target)| TokenPair { source, target };
    Ok((sources.into_iter().zip(targets).map(pair).collect(), report))
}

/// Reads the two files of a part, each with the path to name in errors.
fn parse(
    source: &(PathBuf, Vec<u8>),
    target: &(PathBuf, Vec<u8>),
) -> Result<Vec<SentencePair>, DataError> {
    let read = |(path, content): &(PathBuf, Vec<u8>)| {
        let mut sentences = Vec::new();
        for line in lines(content, path) {
            let (line, text) = line?;
            let text = text.trim();
            if text.is_empty() {
                return Err(DataError::Malformed {
                    path: path.clone(),
                    line,
                    reason: "the sentence is empty".to_owned(),
                });
            }
            sentences.push(text.to_owned());
        }
        Ok(sentences)
    };
    let (sources, targets) = (read(source)?, read(target)?);
    if sources.len() != targets.len() {
        return Err(DataError::Malformed {
            path: target.0.clone(),
            line: sources.len().min(targets.len()) as u64 + 1,
            reason: format!(
                "the file has {} lines, but {} has {}: line n of one must translate line n of the other",
                targets.len(),
                source.0.display(),
                sources.len()
            ),
        });
    }
    if sources.is_empty() {
        return Err(DataError::Empty {
            path: source.0.clone(),
            expected: "one sentence per line is expected".to_owned(),
        });
    }
    let pair = |(source, target)| SentencePair { source, target };
    Ok(sources.into_iter().zip(targets).map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::super::test_locations;
    use super::*;

    fn read(source: &[u8], target: &[u8]) -> Result<Vec<SentencePair>, DataError> {
        parse(&("t.en".into(), source.to_vec()), &("t.de".into(), target.to_vec()))
    }

    fn pair(source: &str, target: &str) -> SentencePair {
        SentencePair { source: source.to_owned(), target: target.to_owned() }
    }

    #[test]
    fn lines_are_paired() {
        let pairs = read(b"A dog.\nTwo \"men\".\n", "Ein Hund.\nZwei M\u{e4}nner.".as_bytes());
        assert_eq!(
            pairs.unwrap(),
            [pair("A dog.", "Ein Hund."), pair("Two \"men\".", "Zwei M\u{e4}nner.")]
        );
        for (source, target, expected) in [
            (&b"a\nb\n"[..], &b"c\n"[..], "t.de, line 2: the file has 1 lines, but t.en has 2"),
            (b"a\n \n", b"b\nc\n", "t.en, line 2: the sentence is empty"),
            (b"a\n", b"\xff\n", "t.de, line 1: not UTF-8"),
            (b"", b"", "t.en: the file is empty"),
        ] {
            let error = read(source, target).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn long_pairs_are_left_out_of_training_and_cut_in_evaluation() {
        let pairs = [pair("a a", "b b b b"), pair("a a a", "b"), pair("a", "b")];
        let texts = || pairs.iter().flat_map(|pair| [pair.source.as_str(), pair.target.as_str()]);
        let words = Subwords::train(texts(), 20).unwrap();
        let (kept, report) = encode_training(&pairs, &words, &words, 3).unwrap();
        assert_eq!(kept.iter().map(|pair| pair.source.len()).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(report.count(Finding::ExampleTooLong), 1);
        assert!(report.to_string().contains("4 tokens: `a a...`"), "{report}");
        let (cut, report) = encode_evaluation(&pairs, &words, &words, 2).unwrap();
        let lengths = cut.iter().map(|pair| (pair.source.len(), pair.target.len()));
        assert_eq!(lengths.collect::<Vec<_>>(), [(2, 2), (2, 1), (1, 1)]);
        assert_eq!(report.count(Finding::TextCut), 2);
        let (_, report) = encode_evaluation(&[pair("a q", "b")], &words, &words, 9).unwrap();
        assert_eq!(report.count(Finding::WordUnknown), 1);
    }

    #[test]
    fn multi30k_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let data = ParallelText::multi30k(&locations).unwrap();
        let counts = [&data.train, &data.valid, &data.test].map(|part| {
            let words = |text: &str| text.split_whitespace().count();
            let source: usize = part.iter().map(|pair| words(&pair.source)).sum();
            let target: usize = part.iter().map(|pair| words(&pair.target)).sum();
            (part.len(), source, target)
        });
        assert_eq!(counts[0], (29_000, 345_020, 322_383));
        assert_eq!(counts[1], (1_014, 12_167, 11_568));
        assert_eq!(counts[2], (1_000, 11_877, 10_905));
        assert_eq!(data.test[0].source, "A man in an orange hat starring at something.");
    }
}
