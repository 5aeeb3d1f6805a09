use std::collections::HashMap;

use super::MetricError;

const NAME: &str = "BLEU";
/// The longest n-grams that are compared.
const ORDER: usize = 4;

/// BLEU of translations, computed as sacreBLEU does by default.
///
/// With the clipped count `m_n` of n-grams that a translation shares with its references and their number `t_n`, both
/// summed over all translations (K. Papineni et al., ACL 2002):
///
/// ```text
/// BLEU = 100 BP exp((1/4) sum_{n=1..4} ln p_n)      p_n = m_n / t_n
/// BP   = 1 if c >= r, else exp(1 - r / c)           c tokens in the translations, r in the closest references
/// ```
///
/// An `m_n` of 0 is smoothed exponentially: the first order without a match gets `p_n = 1 / (2 t_n)`, the next one
/// `1 / (4 t_n)`, and so on. If no translation has as many as four tokens, or if no token matches, BLEU is 0.
///
/// Tokens are those of `mteval-v13a`, the tokenizer of the WMT evaluations: give whole sentences as people write them, not
/// tokenized ones. The signature of sacreBLEU (M. Post, WMT 2018) for it is
/// `case:mixed|eff:no|tok:13a|smooth:exp`, or `case:lc` for [`lowercase`](Self::lowercase).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bleu {
    lowercase: bool,
    translations: u64,
    matches: [u64; ORDER],
    totals: [u64; ORDER],
    hypothesis_tokens: u64,
    reference_tokens: u64,
}

/// BLEU and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct BleuScore {
    /// BLEU, from 0 to 100.
    pub score: f64,
    /// The smoothed precision of n-grams of 1 to 4 tokens, in percent.
    pub precisions: [f64; ORDER],
    /// `BP`, from 0 to 1.
    pub brevity_penalty: f64,
    /// `c`, the number of tokens in all translations.
    pub hypothesis_tokens: u64,
    /// `r`, the number of tokens in the closest references.
    pub reference_tokens: u64,
}

impl Bleu {
    /// Starts without translations. Upper and lower case differ.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts without translations, and turns all texts to lower case.
    pub fn lowercase() -> Self {
        Self { lowercase: true, ..Self::default() }
    }

    /// Adds a translation and its references, of which there may be more for one translation than for another. Texts may
    /// be empty.
    ///
    /// # Errors
    ///
    /// If there is no reference.
    pub fn add(
        &mut self,
        hypothesis: &str,
        references: &[impl AsRef<str>],
    ) -> Result<(), MetricError> {
        let references: Vec<Vec<String>> =
            references.iter().map(|reference| self.tokens(reference.as_ref())).collect();
        let tokens = self.tokens(hypothesis);
        // The closest length; of two that are equally close, the shorter one.
        let lengths = references.iter().map(Vec::len);
        let Some(closest) = lengths.min_by_key(|&length| (length.abs_diff(tokens.len()), length))
        else {
            return Err(MetricError::NoReference { hypothesis: hypothesis.to_owned() });
        };
        for order in 1..=ORDER {
            let mut allowed: HashMap<&[String], u64> = HashMap::new();
            for reference in &references {
                for (ngram, count) in ngrams(reference, order) {
                    let most = allowed.entry(ngram).or_default();
                    *most = count.max(*most);
                }
            }
            for (ngram, count) in ngrams(&tokens, order) {
                self.matches[order - 1] += count.min(allowed.get(ngram).copied().unwrap_or(0));
                self.totals[order - 1] += count;
            }
        }
        self.hypothesis_tokens += tokens.len() as u64;
        self.reference_tokens += closest as u64;
        self.translations += 1;
        Ok(())
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        for order in 0..ORDER {
            self.matches[order] += other.matches[order];
            self.totals[order] += other.totals[order];
        }
        self.hypothesis_tokens += other.hypothesis_tokens;
        self.reference_tokens += other.reference_tokens;
        self.translations += other.translations;
    }

    /// BLEU over all translations.
    ///
    /// # Errors
    ///
    /// If no translation was added.
    pub fn value(&self) -> Result<BleuScore, MetricError> {
        if self.translations == 0 {
            return Err(MetricError::NoExamples { metric: NAME, examples: "translation" });
        }
        let (c, r) = (self.hypothesis_tokens as f64, self.reference_tokens as f64);
        // For c = 0 this is exp(-inf) = 0.
        let brevity_penalty = if c < r { (1.0 - r / c).exp() } else { 1.0 };
        let precisions = self.precisions();
        let mean = precisions.iter().map(|precision| precision.ln()).sum::<f64>() / ORDER as f64;
        Ok(BleuScore {
            score: brevity_penalty * mean.exp(),
            precisions,
            brevity_penalty,
            hypothesis_tokens: self.hypothesis_tokens,
            reference_tokens: self.reference_tokens,
        })
    }

    fn precisions(&self) -> [f64; ORDER] {
        let mut precisions = [0.0; ORDER];
        if self.matches == [0; ORDER] {
            return precisions;
        }
        let mut smoothing = 1.0;
        for ((precision, &matches), &total) in
            precisions.iter_mut().zip(&self.matches).zip(&self.totals)
        {
            if total == 0 {
                break;
            }
            let matches = if matches == 0 {
                smoothing /= 2.0;
                smoothing
            } else {
                matches as f64
            };
            *precision = 100.0 * matches / total as f64;
        }
        precisions
    }

    fn tokens(&self, text: &str) -> Vec<String> {
        if self.lowercase { tokenize_13a(&text.to_lowercase()) } else { tokenize_13a(text) }
    }
}

/// How often each run of `order` tokens occurs.
fn ngrams(tokens: &[String], order: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    for ngram in tokens.windows(order) {
        *counts.entry(ngram).or_default() += 1;
    }
    counts
}

/// Splits a text into tokens as the script `mteval-v13a` does, in sacreBLEU's form of it.
///
/// Punctuation becomes a token of its own, except apostrophes, dashes that follow no digit, and periods and commas between
/// digits. Each rule works on the whole text that the one before it left.
fn tokenize_13a(text: &str) -> Vec<String> {
    let digit = |c: char| c.is_ascii_digit();
    let stop = |c: char| matches!(c, '.' | ',');

    let mut text = text.trim_end_matches(is_space).replace("<skipped>", "");
    text = text.replace("-\n", "").replace('\n', " ");
    for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        text = text.replace(entity, character);
    }
    let mut spaced = String::from(" ");
    for c in text.chars() {
        if c.is_ascii_punctuation() && !matches!(c, '\'' | ',' | '-' | '.') {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    spaced.push(' ');
    let text = space_pairs(&spaced, |a, b| !digit(a) && stop(b), ["", " ", " "]);
    let text = space_pairs(&text, |a, b| stop(a) && !digit(b), [" ", " ", ""]);
    let text = space_pairs(&text, |a, b| digit(a) && b == '-', ["", " ", " "]);
    text.split(is_space).filter(|token| !token.is_empty()).map(str::to_owned).collect()
}

/// Puts the given strings before, between and after each pair of neighbours that `wanted` accepts. Pairs do not overlap: the
/// search goes on after the second character of one.
fn space_pairs(
    text: &str,
    wanted: impl Fn(char, char) -> bool,
    [before, between, after]: [&str; 3],
) -> String {
    let mut spaced = String::with_capacity(2 * text.len());
    let mut rest = text.chars().peekable();
    while let Some(a) = rest.next() {
        match rest.next_if(|&b| wanted(a, b)) {
            Some(b) => {
                spaced.push_str(before);
                spaced.push(a);
                spaced.push_str(between);
                spaced.push(b);
                spaced.push_str(after);
            }
            None => spaced.push(a),
        }
    }
    spaced
}

/// What Python's `str.split` takes for white space: that of Unicode and four ASCII separators.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        hypotheses: Vec<String>,
        references: Vec<Vec<String>>,
        lowercase: bool,
        score: f64,
        precisions: [f64; ORDER],
        brevity_penalty: f64,
        hypothesis_tokens: u64,
        reference_tokens: u64,
    }

    #[derive(serde::Deserialize)]
    struct Tokens {
        text: String,
        tokens: Vec<String>,
    }

    #[test]
    fn tokens_are_those_of_sacrebleu() {
        let cases: Vec<Tokens> = fixture(include_str!("../../tests/data/metrics/tokens_13a.json"));
        assert!(cases.len() > 90, "{} texts", cases.len());
        for Tokens { text, tokens } in cases {
            assert_eq!(tokenize_13a(&text), tokens, "{text:?}");
        }
    }

    #[test]
    fn agrees_with_sacrebleu() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/bleu.json"));
        assert_eq!(cases.len(), 48);
        for case in cases {
            let mut bleu = if case.lowercase { Bleu::lowercase() } else { Bleu::new() };
            for (hypothesis, references) in case.hypotheses.iter().zip(&case.references) {
                bleu.add(hypothesis, references).unwrap();
            }
            let found = bleu.value().unwrap();
            assert_eq!(
                (found.hypothesis_tokens, found.reference_tokens),
                (case.hypothesis_tokens, case.reference_tokens),
                "{:?}",
                case.hypotheses
            );
            assert_close(found.brevity_penalty, case.brevity_penalty);
            for (found, expected) in found.precisions.into_iter().zip(case.precisions) {
                assert_close(found, expected);
            }
            assert_close(found.score, case.score);
        }
    }

    #[test]
    fn needs_something_to_compare() {
        let mut bleu = Bleu::new();
        assert_eq!(
            bleu.value().unwrap_err().to_string(),
            "BLEU is not defined without examples: no translation was added"
        );
        assert_eq!(
            bleu.add("Ein Hund.", &[] as &[&str]).unwrap_err().to_string(),
            "BLEU: there is no reference for the translation `Ein Hund.`: at least one is needed"
        );
        assert_eq!(bleu, Bleu::new(), "a refused translation is not counted");
        bleu.add("", &[""]).unwrap();
        assert_eq!(bleu.value().unwrap().score, 0.0);
    }
}
