//! Text of a Markov chain, generated from a seed, to model word by word without any file.
//!
//! Each of 40 words, and the end of a line, is followed by one of three words with the probabilities 0.6, 0.3 and 0.1. What
//! follows is drawn by the seed. Whatever the words, a model that knows the chain has the perplexity [`BEST_PERPLEXITY`],
//! so that it can be told how much of what there is to learn a model has learned.

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::DataError;
use super::corpus::Corpus;

/// The perplexity of a model that knows the chain: exp(-0.6 ln 0.6 - 0.3 ln 0.3 - 0.1 ln 0.1). On a text of finite length
/// the measured one differs a little.
pub const BEST_PERPLEXITY: f64 = 2.454_555_6;

/// States of the chain: the words, and the end of a line as the last.
const STATES: usize = 41;
const LINE_END: usize = STATES - 1;
/// Probabilities of the three followers.
const PROBABILITIES: [f64; 3] = [0.6, 0.3, 0.1];

/// How much text is generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WordChainConfig {
    /// Words to train on, ends of lines included. Default 20,000.
    pub train_words: usize,
    /// Words to validate with, and again as many to test with. Default 4,000.
    pub valid_words: usize,
}

impl Default for WordChainConfig {
    fn default() -> Self {
        Self { train_words: 20_000, valid_words: 4_000 }
    }
}

impl WordChainConfig {
    /// Refuses texts in which not all words occur.
    pub fn validate(&self) -> Result<(), DataError> {
        let least =
            [("train-words", self.train_words, 5_000), ("valid-words", self.valid_words, 1)];
        for (key, found, least) in least {
            if found < least {
                return Err(DataError::InvalidSetting {
                    key: key.to_owned(),
                    found: found.to_string(),
                    allowed: format!("at least {least} are needed"),
                });
            }
        }
        Ok(())
    }

    /// Generates text. The same settings and seed give the same one.
    pub fn generate(&self, seed: u64) -> Result<Corpus, DataError> {
        self.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let followers = followers(&mut rng);
        let mut text = |name: &str, words: usize| {
            let mut text = String::new();
            let mut state = LINE_END;
            // A text ends at the end of a line, so it may be some words longer than asked for.
            for count in 0.. {
                if count >= words && state == LINE_END {
                    break;
                }
                let drawn: f64 = rng.random();
                let choice = match drawn {
                    _ if drawn < PROBABILITIES[0] => 0,
                    _ if drawn < PROBABILITIES[0] + PROBABILITIES[1] => 1,
                    _ => 2,
                };
                state = followers[state][choice];
                match state {
                    LINE_END => text.push('\n'),
                    word => text.push_str(&format!("{} ", name_of(word))),
                }
            }
            (format!("{name} (generated)").into(), text.into_bytes())
        };
        let valid = text("valid", self.valid_words);
        let test = text("test", self.valid_words);
        Corpus::from_texts([text("train", self.train_words), valid, test])
    }
}

/// Three different followers of each state, never the state itself. The likeliest is the next state on a circle through all
/// of them, so that no word is rare.
fn followers(rng: &mut ChaCha8Rng) -> Vec<[usize; 3]> {
    let mut circle: Vec<usize> = (0..STATES).collect();
    circle.shuffle(rng);
    let mut followers = vec![[0; 3]; STATES];
    for (place, state) in circle.iter().enumerate() {
        let next = circle[(place + 1) % STATES];
        let mut others: Vec<usize> = (0..STATES).filter(|s| s != state && *s != next).collect();
        let (drawn, _) = others.partial_shuffle(rng, 2);
        followers[*state] = [next, drawn[0], drawn[1]];
    }
    followers
}

/// A word of two syllables.
fn name_of(word: usize) -> String {
    const FIRST: [&str; 8] = ["ba", "de", "fi", "go", "ku", "la", "me", "ni"];
    const SECOND: [&str; 5] = ["ro", "su", "ta", "ve", "zi"];
    format!("{}{}", FIRST[word / SECOND.len()], SECOND[word % SECOND.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn the_best_perplexity_is_that_of_the_probabilities() {
        let entropy: f64 = PROBABILITIES.iter().map(|p| -p * p.ln()).sum();
        assert!((entropy.exp() - BEST_PERPLEXITY).abs() < 1e-6, "{}", entropy.exp());
    }

    /// Perplexity of the test text under the pair counts of the training text: no better than the chain allows, and close.
    #[test]
    fn counting_pairs_comes_close_to_the_best_perplexity() {
        let corpus = WordChainConfig::default().generate(1).unwrap();
        assert_eq!(corpus.vocabulary.len(), STATES);
        assert!(corpus.report.is_empty());
        let mut counts: HashMap<u32, HashMap<u32, f64>> = HashMap::new();
        for pair in corpus.train.windows(2) {
            *counts.entry(pair[0]).or_default().entry(pair[1]).or_default() += 1.0;
        }
        assert!(counts.values().all(|followers| followers.len() == 3));
        let loss = corpus.test.windows(2).map(|pair| {
            let followers = &counts[&pair[0]];
            -(followers[&pair[1]] / followers.values().sum::<f64>()).ln()
        });
        let perplexity = (loss.sum::<f64>() / (corpus.test.len() - 1) as f64).exp();
        assert!((perplexity / BEST_PERPLEXITY - 1.0).abs() < 0.04, "{perplexity}");
    }

    #[test]
    fn text_follows_the_seed() {
        let config = WordChainConfig { train_words: 6_000, valid_words: 100 };
        let corpus = config.generate(5).unwrap();
        assert_eq!(corpus, config.generate(5).unwrap());
        assert_ne!(corpus.train, config.generate(6).unwrap().train);
        assert!((6_000..7_000).contains(&corpus.train.len()));
        let end = corpus.vocabulary.number("<eos>");
        assert!(corpus.train.last().copied() == end && corpus.valid.last().copied() == end);
        let names: HashSet<String> = (0..LINE_END).map(name_of).collect();
        assert_eq!(names.len(), LINE_END);
    }

    #[test]
    fn too_little_text_is_refused() {
        let error = WordChainConfig { train_words: 10, valid_words: 5 }.generate(0).unwrap_err();
        assert!(error.is_user_error() && error.to_string().contains("train-words = 10"));
    }
}
