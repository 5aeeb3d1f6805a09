//! A vocabulary of parts of words, learned from text by byte-pair encoding (R. Sennrich, B. Haddow and A. Birch, ACL 2016).
//!
//! Frequent words become one token, rare ones several, so that a few thousand tokens suffice for any text. A space belongs to
//! the word that follows it, and punctuation marks are tokens of their own. [`Subwords::decode`] gives the text back except
//! for characters that the training text lacks, which are `<unk>`, and for runs of white space, which become one space.
//!
//! The same text gives the same vocabulary. Learning 8,000 tokens from both sides of Multi30k takes a few seconds.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::punctuation::Punctuation;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, SplitDelimiterBehavior, TokenizerImpl,
};

use super::DataError;

/// Number of the token that fills a sentence up.
pub const PAD: u32 = 0;
/// Number of the token for characters that the training text lacks.
pub const UNKNOWN: u32 = 1;
/// Number of the token that begins a translation.
pub const BEGIN: u32 = 2;
/// Number of the token that ends a sentence.
pub const END: u32 = 3;

/// The tokens that stand for no text, in the order of their numbers.
const SPECIAL: [&str; 4] = ["<pad>", "<unk>", "<s>", "</s>"];

/// The library's tokenizer, of the parts that are used here.
type Inner = TokenizerImpl<BPE, NormalizerWrapper, Sequence, PostProcessorWrapper, Metaspace>;

/// A learned vocabulary.
#[derive(Clone, Debug)]
pub struct Subwords {
    inner: Inner,
}

impl Subwords {
    /// Learns a vocabulary of at most `size` tokens, the four special ones included, from texts.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSetting`] if `size` leaves no room for the characters of the texts.
    pub fn train<'a>(
        texts: impl Iterator<Item = &'a str> + Send,
        size: usize,
    ) -> Result<Self, DataError> {
        let metaspace = Metaspace::new('\u{2581}', PrependScheme::Always, true);
        let punctuation = Punctuation::new(SplitDelimiterBehavior::Isolated);
        let parts = vec![metaspace.clone().into(), punctuation.into()];
        let model = BPE::builder().unk_token(SPECIAL[UNKNOWN as usize].to_owned()).build();
        let mut inner = Inner::new(model.map_err(fail)?);
        inner.with_pre_tokenizer(Some(Sequence::new(parts))).with_decoder(Some(metaspace));
        let special = SPECIAL.map(|token| AddedToken::from(token, true)).to_vec();
        let mut trainer = BpeTrainer::builder()
            .vocab_size(size)
            .special_tokens(special)
            .show_progress(false)
            .build();
        inner.train(&mut trainer, texts.map(single_spaces)).map_err(fail)?;
        // Someone may well write `<s>` in a text.
        inner.set_encode_special_tokens(true);
        let subwords = Self { inner };
        let found = subwords.len();
        if found > size {
            return Err(DataError::InvalidSetting {
                key: "vocabulary-size".to_owned(),
                found: size.to_string(),
                allowed: format!(
                    "the special tokens and the characters of the text alone are {found} tokens"
                ),
            });
        }
        Ok(subwords)
    }

    /// Numbers of the tokens of a text, without special ones.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.inner.encode_fast(single_spaces(text), false);
        Ok(encoding.map_err(fail)?.get_ids().to_vec())
    }

    /// Numbers of the tokens of many texts, in parallel.
    pub fn encode_batch(&self, texts: Vec<&str>) -> Result<Vec<Vec<u32>>, DataError> {
        let texts = texts.into_iter().map(single_spaces).collect();
        let encodings = self.inner.encode_batch_fast(texts, false).map_err(fail)?;
        Ok(encodings.iter().map(|encoding| encoding.get_ids().to_vec()).collect())
    }

    /// The text of tokens. Special ones are left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, DataError> {
        self.inner.decode(tokens, true).map_err(fail)
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Whether there is no token.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn single_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn fail(error: tokenizers::Error) -> DataError {
    DataError::Tokenizer {
        path: "(learned from the training text)".into(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_locations;
    use super::super::translation::{ParallelText, SentencePair};
    use super::*;

    const TEXTS: [&str; 3] = ["the dog, the cat", "the  dogs (two)!", "a catty\u{a0}dog."];

    fn sample(size: usize) -> Result<Subwords, DataError> {
        Subwords::train(TEXTS.into_iter(), size)
    }

    #[test]
    fn text_comes_back() {
        let subwords = sample(34).unwrap();
        assert_eq!(subwords.len(), 34);
        for text in TEXTS.into_iter().chain(["(a)cat, the!", "dog", "", "gt.,do"]) {
            let tokens = subwords.encode(text).unwrap();
            assert!(tokens.iter().all(|token| (4..34).contains(token)), "{tokens:?}");
            assert_eq!(subwords.decode(&tokens).unwrap(), single_spaces(text));
        }
        // A frequent word with its space is one token; punctuation is apart.
        assert_eq!(subwords.encode("the the").unwrap().len(), 2);
        let dog = subwords.encode("dog").unwrap();
        assert_eq!(subwords.encode("dog,").unwrap()[..dog.len()], dog);
        let batch = subwords.encode_batch(vec!["the dog", "cat"]).unwrap();
        assert_eq!(batch, ["the dog", "cat"].map(|text| subwords.encode(text).unwrap()));
    }

    #[test]
    fn unknown_characters_and_special_tokens_are_told_apart() {
        let subwords = sample(40).unwrap();
        assert!(subwords.encode("the q").unwrap().contains(&UNKNOWN));
        let tokens = subwords.encode("<s> dog </s>").unwrap();
        assert!(!tokens.contains(&BEGIN) && !tokens.contains(&END), "{tokens:?}");
        let dog = subwords.encode("dog").unwrap();
        let framed = [&[BEGIN], &dog[..], &[END, PAD, PAD]].concat();
        assert_eq!(subwords.decode(&framed).unwrap(), "dog");
    }

    #[test]
    fn a_vocabulary_smaller_than_the_alphabet_is_refused() {
        let error = sample(10).unwrap_err();
        assert!(
            error.is_user_error() && error.to_string().contains("vocabulary-size = 10"),
            "{error}"
        );
    }

    #[test]
    fn learning_from_multi30k_is_fast_reproducible_and_lossless() {
        let Some(locations) = test_locations() else { return };
        let data = ParallelText::multi30k(&locations).unwrap();
        let train = || {
            let both = |pair: &'_ SentencePair| [pair.source.clone(), pair.target.clone()];
            let texts: Vec<String> = data.train.iter().flat_map(both).collect();
            let start = std::time::Instant::now();
            let subwords = Subwords::train(texts.iter().map(String::as_str), 8_000).unwrap();
            println!("8,000 tokens in {:.2} s", start.elapsed().as_secs_f64());
            subwords
        };
        let (subwords, again) = (train(), train());
        assert_eq!(subwords.len(), 8_000);
        let mut tokens = 0;
        for pair in &data.test {
            for text in [&pair.source, &pair.target] {
                let encoded = subwords.encode(text).unwrap();
                assert_eq!(encoded, again.encode(text).unwrap());
                if !encoded.contains(&UNKNOWN) {
                    assert_eq!(subwords.decode(&encoded).unwrap(), single_spaces(text));
                }
                tokens += encoded.len();
            }
        }
        println!("{tokens} tokens for the {} words of the test part", 11_877 + 10_905);
        assert!(tokens < 2 * (11_877 + 10_905));
    }
}
