use super::MetricError;

const NAME: &str = "perplexity";

/// Perplexity of a language model: the exponential of the mean negative log-likelihood of a token.
///
/// ```text
/// exp(-(1/N) sum ln p(token | tokens before it))
/// ```
///
/// A model that gives all of `V` tokens the same probability has a perplexity of `V`; the best is 1. Batches may hold any
/// number of tokens, and each token counts the same. Beyond the largest 64-bit float it is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Perplexity {
    nll: f64,
    tokens: u64,
}

impl Perplexity {
    /// Starts without tokens.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the negative log-likelihood of some tokens (natural logarithm, summed and not averaged) and how many there
    /// are, padding not counted.
    ///
    /// # Errors
    ///
    /// NaN and minus infinity, and a sum that belongs to no token. Infinity is allowed: it is what a token of probability
    /// 0 costs.
    pub fn add(&mut self, nll: f64, tokens: u64) -> Result<(), MetricError> {
        if nll.is_nan() || nll == f64::NEG_INFINITY {
            let what = "the negative log-likelihood".to_owned();
            return Err(MetricError::NotFinite { metric: NAME, what, value: nll });
        }
        if tokens == 0 && nll != 0.0 {
            return Err(MetricError::NoTokens { nll });
        }
        self.nll += nll;
        self.tokens += tokens;
        Ok(())
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        self.nll += other.nll;
        self.tokens += other.tokens;
    }

    /// The perplexity.
    ///
    /// # Errors
    ///
    /// If no token was added.
    pub fn value(&self) -> Result<f64, MetricError> {
        if self.tokens == 0 {
            return Err(MetricError::NoExamples { metric: NAME, examples: "token" });
        }
        Ok((self.nll / self.tokens as f64).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_close;
    use super::*;

    #[test]
    fn is_the_inverse_of_the_geometric_mean_probability() {
        let mut perplexity = Perplexity::new();
        // Batches of two tokens and of one: 0.5, 0.25 and 0.125.
        perplexity.add(-(0.5_f64 * 0.25).ln(), 2).unwrap();
        perplexity.add(0.0, 0).unwrap();
        perplexity.add(-(0.125_f64.ln()), 1).unwrap();
        assert_close(perplexity.value().unwrap(), 4.0);

        let mut uniform = Perplexity::new();
        for tokens in [35, 700, 1] {
            uniform.add(tokens as f64 * 10_000_f64.ln(), tokens).unwrap();
        }
        assert!((uniform.value().unwrap() - 10_000.0).abs() < 1e-7);
    }

    #[test]
    fn refuses_what_is_no_likelihood() {
        let mut perplexity = Perplexity::new();
        assert_eq!(
            perplexity.add(f64::NAN, 3).unwrap_err().to_string(),
            "perplexity: the negative log-likelihood is NaN: a finite number is expected; has the training diverged?"
        );
        assert!(perplexity.add(f64::NEG_INFINITY, 3).is_err());
        assert_eq!(
            perplexity.add(1.5, 0).unwrap_err().to_string(),
            "perplexity: a negative log-likelihood of 1.5 over 0 tokens: count the tokens that it was summed over"
        );
        assert_eq!(
            perplexity.value().unwrap_err().to_string(),
            "perplexity is not defined without examples: no token was added"
        );
    }

    #[test]
    fn an_impossible_token_costs_everything() {
        let mut perplexity = Perplexity::new();
        perplexity.add(f64::INFINITY, 1).unwrap();
        perplexity.add(1.0, 1).unwrap();
        assert_eq!(perplexity.value(), Ok(f64::INFINITY));
    }
}
