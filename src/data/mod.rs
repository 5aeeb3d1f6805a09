//! Data sets: where they are found, how they are read, and how they are split.
//!
//! Everything here is plain Rust values: bytes, token numbers, labels. Tasks turn them into tensors.
//!
//! | module | what it holds |
//! |---|---|
//! | [`catalog`] | the manifest of every data set; finding, verifying and loading its files |
//! | [`download`] | fetching the files that are not built in |
//! | [`digits`] | 8x8 handwritten digits, built into the program |
//! | [`listops`] | nested list operations, generated from a seed |
//! | [`glue`] | sentence classification from GLUE's tab-separated files (SST-2) |
//! | [`hold_out`] | a validation split of sentences that shares no phrase with the training rows |
//! | [`tokenizer`] | text to token numbers, from a checkpoint's `tokenizer.json` |
//!
//! Every failure is a [`DataError`], which says what was found, where, and what to do about it. A file that was
//! downloaded and then changed is refused; a file that the user supplied is read even if it differs from the published
//! one, with a warning, so that a shortened copy can be used for a trial.
//!
//! ```
//! use ausn::data::digits::Digits;
//!
//! let digits = Digits::built_in()?;
//! let split = digits.split(0.2, 42)?;
//! assert_eq!(digits.labels.len(), 1797);
//! assert_eq!(split.train.len() + split.held_out.len(), 1797);
//! # Ok::<(), ausn::data::DataError>(())
//! ```

pub mod catalog;
pub mod digits;
pub mod download;
mod error;
pub mod glue;
mod gzip;
pub mod hold_out;
pub mod listops;
pub mod tokenizer;

pub use error::DataError;

/// A data set divided in two, as row indices in ascending order. The two halves never share an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows kept away from training, for validation.
    pub held_out: Vec<usize>,
}
