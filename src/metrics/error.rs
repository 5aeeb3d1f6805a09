use super::boxes::BoundingBox;

/// What can be wrong with an example, or with what all examples together are to tell.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// No example was added.
    #[error("{metric} is not defined without examples: no {examples} was added")]
    NoExamples {
        /// The metric.
        metric: &'static str,
        /// What the metric counts, in the singular.
        examples: &'static str,
    },

    /// Correlation with something that does not vary.
    #[error(
        "{metric} is not defined: all {count} {side} are equal, and at least two different ones are needed"
    )]
    Constant {
        /// The metric.
        metric: &'static str,
        /// `predictions` or `true values`.
        side: &'static str,
        /// How many there are.
        count: usize,
    },

    /// NaN or an infinite number where the metric has no use for it.
    #[error("{metric}: {what} is {value}: a finite number is expected; has the training diverged?")]
    NotFinite {
        /// The metric.
        metric: &'static str,
        /// Which number.
        what: String,
        /// Its value.
        value: f64,
    },

    /// A true class for which there is no score.
    #[error(
        "{metric}: the true class is {class}, but there are scores for {classes} classes only (counted from 0)"
    )]
    UnknownClass {
        /// The metric.
        metric: &'static str,
        /// The true class.
        class: usize,
        /// How many scores there are.
        classes: usize,
    },

    /// A negative log-likelihood of nothing.
    #[error(
        "perplexity: a negative log-likelihood of {nll} over 0 tokens: count the tokens that it was summed over"
    )]
    NoTokens {
        /// The sum that was to be added.
        nll: f64,
    },

    /// A sentence with another number of predicted tags than true ones.
    #[error(
        "slot F1: {predicted} predicted tags for a sentence with {truth} true ones: each token needs one of both"
    )]
    TagCount {
        /// How many tags were predicted.
        predicted: usize,
        /// How many there should be.
        truth: usize,
    },

    /// A tag that is not in the IOB2 scheme.
    #[error(
        "slot F1: `{tag}`, tag {position} of the {side} tags, is not in the IOB2 scheme: \
         `O`, `B-type` or `I-type` is expected"
    )]
    Tag {
        /// The tag.
        tag: String,
        /// Its place in the sentence, counted from 1.
        position: usize,
        /// `predicted` or `true`.
        side: &'static str,
    },

    /// A translation without anything to compare it with.
    #[error(
        "BLEU: there is no reference for the translation `{hypothesis}`: at least one is needed"
    )]
    NoReference {
        /// The translation.
        hypothesis: String,
    },

    /// A box that ends before it begins.
    #[error("box {found:?}: expected [x1, y1, x2, y2] with finite numbers, x1 <= x2 and y1 <= y2")]
    Box {
        /// The box.
        found: BoundingBox,
    },

    /// A threshold that no intersection over union can be compared with.
    #[error("a threshold of {given} for the intersection over union is not possible: 0 to 1 is")]
    IouThreshold {
        /// The refused threshold.
        given: f64,
    },
}

impl MetricError {
    /// Refuses NaN and infinite numbers; `what` says which number it is.
    pub(super) fn check_finite(
        metric: &'static str,
        value: f32,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        if value.is_finite() {
            return Ok(());
        }
        Err(Self::NotFinite { metric, what: what(), value: value.into() })
    }
}
