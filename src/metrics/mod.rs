//! What tasks measure, as pure arithmetic on single numbers, without tensors.
//!
//! Each metric is an accumulator: `add` takes an example (or what a batch sums up to), `value` gives the figure over
//! everything added so far, and so the figure of a whole data set, never a mean of batches; `merge` adds what another
//! accumulator has seen. Sums are in 64-bit floats.
//!
//! | metric | figure | computed as by |
//! |---|---|---|
//! | [`Accuracy`] | top-1 and top-5 accuracy | scikit-learn |
//! | [`F1`] | precision, recall and F1 of the positive class | scikit-learn |
//! | [`Matthews`] | Matthews correlation of two classes | scikit-learn |
//! | [`Pearson`], [`Spearman`] | correlation of numbers and of their ranks | scipy |
//! | [`Perplexity`] | perplexity of a language model | its definition |
//! | [`SlotF1`] | F1 of tagged entities | seqeval, like conlleval |
//! | [`Bleu`] | BLEU of translations | sacreBLEU |
//! | [`MeanAveragePrecision`] | mAP@0.5 and mAP@0.5:0.95 of detected boxes | pycocotools |
//!
//! [`boxes`] has what detectors need beside the figure: intersection over union, and non-maximum suppression.
//!
//! An input that has no meaning is a [`MetricError`], and so is a figure that is not defined. Where the reference
//! gives a sensible value all the same (an F1 of 0 without any positive), so do the metrics here, and say so.
//!
//! ```
//! use ausn::metrics::{Accuracy, SlotF1};
//!
//! let mut accuracy = Accuracy::top1();
//! accuracy.add(&[0.1, 2.0, -1.0], 1)?;
//! accuracy.add(&[0.1, 2.0, -1.0], 0)?;
//! assert_eq!(accuracy.value()?, 0.5);
//!
//! let mut slots = SlotF1::new();
//! let predicted = ["O", "B-city", "I-city", "O"];
//! let truth = ["O", "B-city", "I-city", "B-day"];
//! slots.add(&predicted, &truth)?;
//! assert_eq!((slots.precision()?, slots.recall()?), (1.0, 0.5));
//! # Ok::<(), ausn::metrics::MetricError>(())
//! ```

mod accuracy;
mod average_precision;
mod bleu;
pub mod boxes;
mod error;
mod f1;
mod matthews;
mod pearson;
mod perplexity;
mod slot_f1;
mod spearman;

pub use accuracy::Accuracy;
pub use average_precision::{MeanAveragePrecision, TrueBox};
pub use bleu::{Bleu, BleuScore};
pub use error::MetricError;
pub use f1::F1;
pub use matthews::Matthews;
pub use pearson::Pearson;
pub use perplexity::Perplexity;
pub use slot_f1::SlotF1;
pub use spearman::Spearman;

/// Reads the cases of a fixture in `tests/data/metrics`, made by the `make.py` beside it.
#[cfg(test)]
fn fixture<T: serde::de::DeserializeOwned>(text: &str) -> Vec<T> {
    #[derive(serde::Deserialize)]
    struct Fixture<T> {
        cases: Vec<T>,
    }
    serde_json::from_str::<Fixture<T>>(text).expect("the fixture matches its struct").cases
}

/// Fails unless `found` is `expected` up to rounding in 64 bits.
#[cfg(test)]
#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
        "{found} instead of {expected}"
    );
}
