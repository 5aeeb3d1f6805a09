//! Beam search: the most probable sequences that a model predicts token by token.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::settings::{Refused, assert_valid, sizes};

/// A model that predicts the next token of several sequences, its rows, one for each sentence at
/// first.
pub trait Predictor {
    /// Appends a token to every row; the log-probabilities of all tokens that may follow, row by
    /// row.
    fn next(&mut self, tokens: &[u32]) -> Vec<f32>;

    /// Goes on with the given rows, in this order; a row can be dropped or taken several times.
    fn select(&mut self, rows: &[usize]);
}

/// Beam search. A width of 1 is greedy search: the most probable token at every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BeamSearch {
    /// Hypotheses of a sentence that grow side by side; at least 1.
    pub width: usize,
    /// The exponent a of the length penalty: a hypothesis of n tokens, its end among them, scores
    /// its log-probability over ((5 + n) / 6)^a (Wu et al. 2016, arXiv 1609.08144, equation 14).
    pub length_penalty: f64,
    /// Tokens after which a hypothesis that has not ended is cut.
    pub max_length: usize,
}

impl Default for BeamSearch {
    fn default() -> Self {
        Self { width: 5, length_penalty: 0.6, max_length: 100 }
    }
}

/// A sequence that a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without start and end.
    pub tokens: Vec<u32>,
    /// Its log-probability under the length penalty.
    pub score: f64,
    /// Whether it ended by itself rather than at the maximum length.
    pub ended: bool,
}

/// The tokens that frame every sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Before the first token.
    pub start: u32,
    /// After the last.
    pub end: u32,
}

/// A hypothesis that still grows.
#[derive(Clone)]
struct Growing {
    sentence: usize,
    tokens: Vec<u32>,
    log_probability: f64,
}

impl BeamSearch {
    /// What is wrong with the settings: the key, and what was found and is allowed.
    ///
    /// # Errors
    ///
    /// If the width or the longest length is 0, or the length penalty negative or not finite.
    pub fn validate(&self) -> Result<(), Refused> {
        sizes([("width", self.width), ("max-length", self.max_length)])?;
        let penalty = self.length_penalty;
        if !penalty.is_finite() || penalty < 0.0 {
            return Err(("length-penalty", format!("is {penalty}; must be finite and at least 0")));
        }
        Ok(())
    }

    /// The best hypothesis of each of `sentences` sentences; a predictor has a row for each.
    ///
    /// A hypothesis ends where the end is among the best continuations of its sentence, as many as
    /// the beam is wide. A sentence is done once as many have ended and none that grows scores more
    /// than the best of them. One that was cut is the result only where none has ended.
    ///
    /// # Panics
    ///
    /// If the settings do not pass [`validate`](Self::validate).
    pub fn search(
        &self,
        predictor: &mut impl Predictor,
        sentences: usize,
        frame: Frame,
    ) -> Vec<Hypothesis> {
        assert_valid(self.validate());
        let start = |sentence| Growing { sentence, tokens: Vec::new(), log_probability: 0.0 };
        let mut growing: Vec<Growing> = (0..sentences).map(start).collect();
        let mut ended: Vec<Vec<Hypothesis>> = vec![Vec::new(); sentences];
        let mut last = vec![frame.start; sentences];
        for step in 0..self.max_length {
            if growing.is_empty() {
                break;
            }
            let predicted = predictor.next(&last);
            let (rows, next) = self.extend(&growing, &predicted, frame.end, &mut ended);
            growing = next;
            if step + 1 < self.max_length && !growing.is_empty() {
                predictor.select(&rows);
                last = growing.iter().filter_map(|h| h.tokens.last().copied()).collect();
            }
        }
        let mut cut = vec![Vec::new(); sentences];
        for Growing { sentence, tokens, log_probability } in growing {
            let score = self.score(log_probability, tokens.len());
            cut[sentence].push(Hypothesis { tokens, score, ended: false });
        }
        let best = |hypotheses: Vec<Hypothesis>| {
            hypotheses.into_iter().reduce(|a, b| if b.score > a.score { b } else { a })
        };
        let nothing = || Hypothesis { tokens: Vec::new(), score: 0.0, ended: false };
        let pairs = ended.into_iter().zip(cut);
        pairs.map(|(ended, cut)| best(ended).or(best(cut)).unwrap_or_else(nothing)).collect()
    }

    /// The hypotheses that go on, one token longer, with the rows that they come from; those that
    /// end join `ended`.
    fn extend(
        &self,
        growing: &[Growing],
        predicted: &[f32],
        end: u32,
        ended: &mut [Vec<Hypothesis>],
    ) -> (Vec<usize>, Vec<Growing>) {
        let words = predicted.len() / growing.len();
        let (mut rows, mut next) = (Vec::new(), Vec::<Growing>::new());
        let mut first = 0;
        for group in growing.chunk_by(|a, b| a.sentence == b.sentence) {
            // One of a row's candidates may be the end.
            let mut candidates: Vec<(usize, u32, f64)> = Vec::new();
            for (row, hypothesis) in (first..).zip(group) {
                let predicted = &predicted[row * words..][..words];
                candidates.extend(best(predicted, self.width + 1).into_iter().map(|token| {
                    let total = hypothesis.log_probability + f64::from(predicted[token]);
                    (row, token as u32, total)
                }));
            }
            first += group.len();
            candidates.sort_by(|a, b| descending(a.2, b.2));

            let sentence = group[0].sentence;
            let mut going_on = 0;
            for (rank, &(row, token, log_probability)) in candidates.iter().enumerate() {
                let tokens = &growing[row].tokens;
                if token == end {
                    if rank < self.width {
                        let score = self.score(log_probability, tokens.len() + 1);
                        let tokens = tokens.clone();
                        ended[sentence].push(Hypothesis { tokens, score, ended: true });
                    }
                } else if going_on < self.width {
                    let tokens = tokens.iter().copied().chain([token]).collect();
                    next.push(Growing { sentence, tokens, log_probability });
                    rows.push(row);
                    going_on += 1;
                }
            }
            let others = next.len() - going_on;
            if ended[sentence].len() >= self.width {
                // The best stands first; all of them have the same length.
                let growing =
                    next.get(others).map(|h| self.score(h.log_probability, h.tokens.len()));
                let better = |score| ended[sentence].iter().all(|h| h.score < score);
                if !growing.is_some_and(better) {
                    next.truncate(others);
                    rows.truncate(others);
                }
            }
        }
        (rows, next)
    }

    fn score(&self, log_probability: f64, length: usize) -> f64 {
        log_probability / ((5.0 + length as f64) / 6.0).powf(self.length_penalty)
    }
}

fn descending(a: f64, b: f64) -> Ordering {
    b.total_cmp(&a)
}

/// The indices of the largest values, largest first; of equal ones the first.
fn best(values: &[f32], count: usize) -> Vec<usize> {
    let larger = |&a: &usize, &b: &usize| {
        descending(f64::from(values[a]), f64::from(values[b])).then(a.cmp(&b))
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    if count < order.len() {
        order.select_nth_unstable_by(count, larger);
        order.truncate(count);
    }
    order.sort_by(larger);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const FRAME: Frame = Frame { start: 0, end: 1 };
    const WORDS: usize = 5;

    /// Every next token depends on the two before it, in another way for every sentence.
    struct Chain {
        logs: Vec<f32>,
        rows: Vec<(usize, Vec<u32>)>,
    }

    impl Chain {
        fn new(seed: u64, sentences: usize) -> Self {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let logs = (0..sentences * WORDS * WORDS).flat_map(|_| distribution(&mut rng));
            let logs = logs.collect();
            Self { logs, rows: (0..sentences).map(|s| (s, Vec::new())).collect() }
        }

        fn following(&self, sentence: usize, tokens: &[u32]) -> &[f32] {
            let before = |back: usize| match tokens.len().checked_sub(back) {
                Some(i) => tokens[i] as usize,
                None => 0,
            };
            let place = (sentence * WORDS + before(2)) * WORDS + before(1);
            &self.logs[place * WORDS..][..WORDS]
        }

        /// The best of all sequences of up to `length` tokens and an end, by trying each.
        fn best(&self, search: &BeamSearch, sentence: usize) -> Hypothesis {
            let mut all = vec![(vec![FRAME.start], 0.0)];
            let mut best: Option<Hypothesis> = None;
            for length in 1..=search.max_length {
                let mut longer = Vec::new();
                for (tokens, total) in &all {
                    let following = self.following(sentence, tokens);
                    for (token, log) in (0..).zip(following) {
                        let total = total + f64::from(*log);
                        if token == FRAME.end {
                            let score = search.score(total, length);
                            if best.as_ref().is_none_or(|best| score > best.score) {
                                let tokens = tokens[1..].to_vec();
                                best = Some(Hypothesis { tokens, score, ended: true });
                            }
                        } else {
                            let tokens = tokens.iter().copied().chain([token]).collect();
                            longer.push((tokens, total));
                        }
                    }
                }
                all = longer;
            }
            best.expect("a sequence that ends")
        }
    }

    fn distribution(rng: &mut impl Rng) -> Vec<f32> {
        let weights: Vec<f32> =
            (0..WORDS).map(|_| rng.random_range(0.01f32..1.0).powi(3)).collect();
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|w| (w / sum).ln()).collect()
    }

    impl Predictor for Chain {
        fn next(&mut self, tokens: &[u32]) -> Vec<f32> {
            assert_eq!(tokens.len(), self.rows.len());
            self.rows.iter_mut().zip(tokens).for_each(|((_, row), &token)| row.push(token));
            let rows = self.rows.iter();
            rows.flat_map(|(sentence, row)| self.following(*sentence, row).to_vec()).collect()
        }

        fn select(&mut self, rows: &[usize]) {
            self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
        }
    }

    fn search(width: usize, length_penalty: f64, max_length: usize) -> BeamSearch {
        BeamSearch { width, length_penalty, max_length }
    }

    #[test]
    fn width_1_takes_the_most_probable_token_at_every_step() {
        for seed in 0..20 {
            let chain = Chain::new(seed, 3);
            let expected: Vec<(Vec<u32>, bool)> = (0..3)
                .map(|sentence| {
                    let mut tokens = vec![FRAME.start];
                    let ended = (0..6).any(|_| {
                        let following = chain.following(sentence, &tokens);
                        let token = best(following, 1)[0] as u32;
                        tokens.push(token);
                        token == FRAME.end
                    });
                    (tokens[1..tokens.len() - usize::from(ended)].to_vec(), ended)
                })
                .collect();
            let found = search(1, 0.6, 6).search(&mut Chain::new(seed, 3), 3, FRAME);
            let found: Vec<_> = found.into_iter().map(|h| (h.tokens, h.ended)).collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_beam_as_wide_as_all_sequences_finds_the_best_of_all() {
        for length_penalty in [0.0, 0.6, 2.0] {
            for seed in 0..5 {
                let search = search(WORDS.pow(4), length_penalty, 4);
                let found = search.search(&mut Chain::new(seed, 2), 2, FRAME);
                let chain = Chain::new(seed, 2);
                let expected = [chain.best(&search, 0), chain.best(&search, 1)];
                for (found, expected) in found.iter().zip(&expected) {
                    assert_eq!(found.tokens, expected.tokens);
                    assert!((found.score - expected.score).abs() < 1e-9);
                }
            }
        }
    }

    /// Ends that come early are no reason to give up what is more probable.
    #[test]
    fn poor_ends_do_not_stop_a_sentence() {
        struct Sure(usize);
        impl Predictor for Sure {
            fn next(&mut self, tokens: &[u32]) -> Vec<f32> {
                self.0 += 1;
                let following = match self.0 {
                    4 => [-9.0, -0.1, -9.0],
                    _ => [-9.0, -5.0, -0.1],
                };
                tokens.iter().flat_map(|_| following).collect()
            }

            fn select(&mut self, _rows: &[usize]) {}
        }
        let mut sure = Sure(0);
        let found = &search(2, 0.0, 10).search(&mut sure, 1, FRAME)[0];
        assert_eq!((found.tokens.as_slice(), found.ended, sure.0), ([2, 2, 2].as_slice(), true, 4));
        assert!((found.score + 0.4).abs() < 1e-6, "{}", found.score);
    }

    #[test]
    fn a_sentence_is_searched_as_if_it_were_alone() {
        let together = search(3, 0.6, 8).search(&mut Chain::new(7, 4), 4, FRAME);
        for (sentence, expected) in together.iter().enumerate() {
            let mut alone = Chain::new(7, 4);
            alone.select(&[sentence]);
            assert_eq!(&search(3, 0.6, 8).search(&mut alone, 1, FRAME)[0], expected);
        }
    }

    #[test]
    fn what_never_ends_is_cut() {
        struct Endless(usize);
        impl Predictor for Endless {
            fn next(&mut self, tokens: &[u32]) -> Vec<f32> {
                self.0 += 1;
                tokens.iter().flat_map(|_| [-5.0, f32::NEG_INFINITY, -1.0, -2.0]).collect()
            }

            fn select(&mut self, _rows: &[usize]) {}
        }
        for width in [1, 2] {
            let mut endless = Endless(0);
            let found = search(width, 0.0, 3).search(&mut endless, 1, FRAME);
            let expected = Hypothesis { tokens: vec![2, 2, 2], score: -3.0, ended: false };
            assert_eq!((found, endless.0), (vec![expected], 3));
        }
        assert!(search(2, 0.0, 3).search(&mut Endless(0), 0, FRAME).is_empty());
    }
}
