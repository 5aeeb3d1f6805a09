//! Text to token numbers, by the `tokenizer.json` that comes with a published checkpoint.

use std::path::{Path, PathBuf};

use tokenizers::{EncodeInput, InputSequence, PostProcessor, TruncationParams};

use super::DataError;
use super::report::{Finding, Report};

/// A text or a pair of texts as token numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The tokens, special ones included.
    pub tokens: Vec<u32>,
    /// Which text each token belongs to: 0 or 1.
    pub types: Vec<u32>,
}

/// A sentence that was cut into words before, as token numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedWords {
    /// Its tokens.
    pub encoded: Encoded,
    /// The place of every word's first token; none where no token of the word is left.
    pub places: Vec<Option<u32>>,
}

/// A tokenizer that adds a checkpoint's special tokens and cuts long texts, but never pads.
///
/// Files often ask for padding to a fixed length, which makes every short text cost as much as the longest possible one.
/// Padding to the longest text of a batch is left to whoever makes the batch, with [`pad_id`](Self::pad_id).
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    path: PathBuf,
    pad_id: u32,
    vocabulary_size: usize,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. A text becomes at most `max_length` tokens, special ones included: the text is cut, the
    /// special tokens stay. The padding and the truncation that the file itself asks for are ignored.
    pub fn from_file(path: &Path, max_length: usize) -> Result<Self, DataError> {
        let content = std::fs::read(path).map_err(|source| DataError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let fail = |reason: String| DataError::Tokenizer { path: path.to_owned(), reason };
        let mut inner = tokenizers::Tokenizer::from_bytes(content)
            .map_err(|error| fail(format!("not a tokenizer.json of Hugging Face: {error}")))?;

        let special =
            inner.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        if max_length <= special {
            return Err(DataError::InvalidSetting {
                key: "max-length".to_owned(),
                found: max_length.to_string(),
                allowed: format!(
                    "{} adds {special} special tokens to every text, so it must be at least {}",
                    path.display(),
                    special + 1
                ),
            });
        }
        let pad_id = match inner.get_padding() {
            Some(padding) => Some(padding.pad_id),
            None => ["[PAD]", "<pad>"].iter().find_map(|token| inner.token_to_id(token)),
        };
        let pad_id = pad_id.ok_or_else(|| {
            fail("it has no padding section and no token `[PAD]` or `<pad>`".to_owned())
        })?;
        // Numbers may have gaps, so the number of tokens can be too small for an embedding table.
        let vocabulary_size = inner
            .get_vocab(true)
            .into_values()
            .chain([pad_id])
            .max()
            .map_or(0, |largest| largest as usize + 1);

        let truncation = TruncationParams { max_length, ..TruncationParams::default() };
        inner.with_truncation(Some(truncation)).map_err(|error| fail(error.to_string()))?;
        inner.with_padding(None);
        Ok(Self { inner, path: path.to_owned(), pad_id, vocabulary_size })
    }

    /// Token numbers of a text, special tokens included.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.inner.encode_fast(text, true);
        Ok(encoding.map_err(|error| self.fail(error))?.get_ids().to_vec())
    }

    /// Token numbers of many texts, in parallel. They are not padded.
    pub fn encode_batch(&self, texts: &[impl AsRef<str>]) -> Result<Vec<Vec<u32>>, DataError> {
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let encodings = self.inner.encode_batch_fast(texts, true);
        Ok(encodings
            .map_err(|error| self.fail(error))?
            .iter()
            .map(|encoding| encoding.get_ids().to_vec())
            .collect())
    }

    /// Token numbers of many texts or pairs of texts, in parallel, not padded. Of a pair that is too long, the longer text
    /// is cut first. The report counts what was cut.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSetting`] if the special tokens of a pair leave no room for the texts.
    pub fn encode_pairs(
        &self,
        texts: &[(&str, Option<&str>)],
    ) -> Result<(Vec<Encoded>, Report), DataError> {
        let special =
            self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(true));
        let max_length = self.inner.get_truncation().map_or(usize::MAX, |cut| cut.max_length);
        if max_length < special + 2 && texts.iter().any(|(_, pair)| pair.is_some()) {
            return Err(DataError::InvalidSetting {
                key: "max-length".to_owned(),
                found: max_length.to_string(),
                allowed: format!(
                    "{} adds {special} special tokens to every pair of texts, so it must be at least {}",
                    self.path.display(),
                    special + 2
                ),
            });
        }
        let inputs = texts.iter().map(|(text, pair)| match pair {
            Some(pair) => EncodeInput::Dual((*text).into(), (*pair).into()),
            None => EncodeInput::Single((*text).into()),
        });
        let encodings = self.inner.encode_batch_fast(inputs.collect(), true);
        let mut report = Report::default();
        let mut encoded = Vec::with_capacity(texts.len());
        for (encoding, (text, _)) in encodings.map_err(|error| self.fail(error))?.iter().zip(texts)
        {
            if !encoding.get_overflowing().is_empty() {
                let start: String = text.chars().take(40).collect();
                report.add(Finding::TextCut, || format!("`{start}...`"));
            }
            encoded.push(Encoded {
                tokens: encoding.get_ids().to_vec(),
                types: encoding.get_type_ids().to_vec(),
            });
        }
        Ok((encoded, report))
    }

    /// Token numbers of sentences that are cut into words already, in parallel, not padded. A word of which no token is left
    /// was cut off, which the report counts, or is nothing but characters that the tokenizer drops.
    pub fn encode_words(
        &self,
        sentences: &[&[String]],
    ) -> Result<(Vec<EncodedWords>, Report), DataError> {
        let inputs: Vec<EncodeInput> = sentences
            .iter()
            .map(|words| EncodeInput::Single(InputSequence::from(words.to_vec())))
            .collect();
        // The fast way does not keep words apart.
        let encodings = self.inner.encode_batch(inputs, true);
        let mut report = Report::default();
        let mut encoded = Vec::with_capacity(sentences.len());
        for (encoding, words) in encodings.map_err(|error| self.fail(error))?.iter().zip(sentences)
        {
            if !encoding.get_overflowing().is_empty() {
                report.add(Finding::TextCut, || {
                    format!("`{} ...`", words[..words.len().min(8)].join(" "))
                });
            }
            let mut places = vec![None; words.len()];
            for (place, word) in encoding.get_word_ids().iter().enumerate().rev() {
                if let Some(word) = word {
                    places[*word as usize] = Some(place as u32);
                }
            }
            let tokens = encoding.get_ids().to_vec();
            let types = encoding.get_type_ids().to_vec();
            encoded.push(EncodedWords { encoded: Encoded { tokens, types }, places });
        }
        Ok((encoded, report))
    }

    /// Number of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Rows that an embedding table needs: one more than the largest token number.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary_size
    }

    fn fail(&self, error: tokenizers::Error) -> DataError {
        DataError::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A tokenizer of a few words, shaped as BERT's: lower case, `[CLS]` and `[SEP]` around, fixed padding to 16.
    fn sample() -> Value {
        let special = |id: u32, content: &str| {
            json!({"id": id, "content": content, "special": true, "single_word": false,
                   "lstrip": false, "rstrip": false, "normalized": false})
        };
        json!({
            "version": "1.0",
            "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
            "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
                        "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
            "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "Whitespace"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                           {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                         {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                         {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                                   "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}
            },
            "decoder": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                      "max_input_chars_per_word": 100,
                      "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "good": 4, "film": 5, "##s": 9}}
        })
    }

    fn open(file: &Value, max_length: usize) -> Result<Tokenizer, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).unwrap();
        Tokenizer::from_file(&path, max_length)
    }

    #[test]
    fn encodes_without_padding() {
        let tokenizer = open(&sample(), 10).unwrap();
        assert_eq!(tokenizer.encode("Good films").unwrap(), [2, 4, 5, 9, 3]);
        assert_eq!(tokenizer.encode("").unwrap(), [2, 3]);
        assert_eq!(tokenizer.encode("good zebra").unwrap(), [2, 4, 1, 3]);
        let batch = tokenizer.encode_batch(&["good", "good film"]).unwrap();
        assert_eq!(batch, [vec![2, 4, 3], vec![2, 4, 5, 3]]);
        assert_eq!((tokenizer.pad_id(), tokenizer.vocabulary_size()), (0, 10));
    }

    #[test]
    fn truncation_follows_the_caller_and_keeps_special_tokens() {
        let long = "good ".repeat(40);
        for max_length in [3, 10, 20] {
            let tokens = open(&sample(), max_length).unwrap().encode(&long).unwrap();
            assert_eq!(tokens.len(), max_length);
            assert_eq!((tokens[0], tokens[max_length - 1]), (2, 3));
        }
        let error = open(&sample(), 2).unwrap_err();
        assert!(error.is_user_error() && error.to_string().contains("at least 3"), "{error}");
    }

    #[test]
    fn pairs_are_joined_and_what_is_cut_is_counted() {
        let tokenizer = open(&sample(), 8).unwrap();
        let texts = [
            ("good", Some("film film")),
            ("good good good good", Some("film film")),
            ("good", None),
            ("film film film film film film film", None),
        ];
        let (encoded, report) = tokenizer.encode_pairs(&texts).unwrap();
        assert_eq!(encoded[0].tokens, [2, 4, 3, 5, 5, 3]);
        assert_eq!(encoded[0].types, [0, 0, 0, 1, 1, 1]);
        assert_eq!(encoded[1].tokens, [2, 4, 4, 4, 3, 5, 5, 3]);
        assert_eq!((&encoded[2].tokens[..], &encoded[2].types[..]), (&[2, 4, 3][..], &[0; 3][..]));
        assert_eq!(encoded[3].tokens, [2, 5, 5, 5, 5, 5, 5, 3]);
        assert_eq!(report.count(Finding::TextCut), 2);
        assert!(report.to_string().contains("first: `good good good good...`"), "{report}");

        let short = open(&sample(), 4).unwrap();
        let error = short.encode_pairs(&texts).unwrap_err();
        assert!(error.is_user_error() && error.to_string().contains("at least 5"), "{error}");
        assert_eq!(short.encode_pairs(&texts[2..]).unwrap().1.count(Finding::TextCut), 1);
    }

    #[test]
    fn words_are_found_again_by_their_first_token() {
        let sentence = |words: &[&str]| words.iter().map(|w| w.to_string()).collect::<Vec<_>>();
        let (films, unknown) = (sentence(&["Good", "films", "good"]), sentence(&["zebra", "film"]));
        let sentences = [films.as_slice(), unknown.as_slice()];
        let (found, report) = open(&sample(), 10).unwrap().encode_words(&sentences).unwrap();
        assert_eq!(found[0].encoded.tokens, [2, 4, 5, 9, 4, 3]);
        assert_eq!(found[1].encoded.tokens, [2, 1, 5, 3]);
        assert_eq!(found[0].places, [Some(1), Some(2), Some(4)]);
        assert_eq!(found[1].places, [Some(1), Some(2)]);
        assert!(report.is_empty());

        let (found, report) = open(&sample(), 5).unwrap().encode_words(&sentences).unwrap();
        assert_eq!(found[0].encoded.tokens, [2, 4, 5, 9, 3]);
        assert_eq!(found[0].places, [Some(1), Some(2), None]);
        assert_eq!(found[1].places, [Some(1), Some(2)]);
        assert_eq!(report.count(Finding::TextCut), 1);
    }

    #[test]
    fn the_padding_token_is_found_without_a_padding_section() {
        let mut file = sample();
        file["padding"] = Value::Null;
        assert_eq!(open(&file, 10).unwrap().pad_id(), 0);

        file["added_tokens"].as_array_mut().unwrap().remove(0);
        file["model"]["vocab"].as_object_mut().unwrap().remove("[PAD]");
        let error = open(&file, 10).unwrap_err();
        assert!(error.to_string().contains("[PAD]"), "{error}");
    }

    #[test]
    fn a_missing_file_and_a_wrong_one_are_told_apart() {
        let error = Tokenizer::from_file(Path::new("/nonexistent/tokenizer.json"), 8).unwrap_err();
        assert!(matches!(error, DataError::Io { action: "read", .. }), "{error}");
        let error = open(&json!({"vocab": []}), 8).unwrap_err();
        assert!(error.to_string().contains("not a tokenizer.json"), "{error}");
    }

    #[test]
    fn agrees_with_the_published_tokenizer() {
        let folder = std::env::var_os("AUSN_PRETRAINED_DIR").map(PathBuf::from).or_else(|| {
            let data = PathBuf::from(std::env::var_os("AUSN_DATA_DIR")?);
            Some(data.parent()?.join("pretrained"))
        });
        let path = folder.map(|folder| folder.join("all-MiniLM-L6-v2/tokenizer.json"));
        let Some(path) = path.filter(|path| path.is_file()) else {
            eprintln!(
                "skipped: no pretrained/all-MiniLM-L6-v2 by AUSN_PRETRAINED_DIR or beside AUSN_DATA_DIR"
            );
            return;
        };
        let tokenizer = Tokenizer::from_file(&path, 64).unwrap();
        assert_eq!(
            tokenizer.encode("a truly great movie").unwrap(),
            [101, 1037, 5621, 2307, 3185, 102]
        );
        assert_eq!((tokenizer.pad_id(), tokenizer.vocabulary_size()), (0, 30_522));
    }
}
