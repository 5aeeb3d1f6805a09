//! Data sets: where they are found, how they are read, and how they are split.
//!
//! Everything here is plain Rust values: bytes, token numbers, labels. Tasks turn them into tensors.
//!
//! | module | what it holds |
//! |---|---|
//! | [`catalog`] | the manifest of every data set; finding, verifying and loading its files |
//! | [`download`] | fetching the files that are not built in |
//! | [`tree`] | folders of files, unpacked or in a tar archive |
//! | [`report`] | what a reader left out, cut or could not name, counted |
//!
//! | images | |
//! |---|---|
//! | [`digits`] | 8x8 handwritten digits, built into the program |
//! | [`fashion_mnist`], [`cifar10`] | small images of ten classes |
//! | [`image_folder`] | images in one folder per class, as ImageNet has them, decoded when they are needed |
//! | [`voc`] | boxes around objects in the layout of PASCAL VOC; blood cells (BCCD) |
//! | [`digit_scenes`] | several digits on a canvas with boxes, generated from a seed |
//! | [`images`], [`scenes`], [`picture`] | what these have in common: image sets, boxes, decoding |
//!
//! | sound | |
//! |---|---|
//! | [`audio`] | WAV files and log-mel spectrograms |
//! | [`fsdd`] | spoken digits |
//! | [`tone_digits`] | pairs of tones in noise, generated from a seed |
//!
//! | text | |
//! |---|---|
//! | [`glue`] | sentences and pairs of sentences: CoLA, SST-2, MRPC, RTE, STS-B |
//! | [`hold_out`] | a validation split of sentences that shares no phrase with the training rows |
//! | [`corpus`] | running text to model word by word: WikiText-2, Penn Treebank |
//! | [`word_chain`] | the same from a Markov chain, generated from a seed |
//! | [`intents`] | requests with intents and slots: SNIPS, ATIS |
//! | [`requests`] | the same from templates, generated from a seed |
//! | [`translation`] | sentences with their translations: Multi30k |
//! | [`scan`] | commands with their actions (SCAN), generated from their grammar |
//! | [`listops`] | nested list operations, generated from a seed |
//! | [`tokenizer`] | text to token numbers, from a checkpoint's `tokenizer.json` |
//! | [`subwords`], [`vocabulary`] | the same with tokens learned from the training text, with whole words |
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

pub mod audio;
pub mod catalog;
pub mod cifar10;
pub mod corpus;
pub mod digit_scenes;
pub mod digits;
pub mod download;
mod error;
pub mod fashion_mnist;
pub mod fsdd;
pub mod glue;
mod gzip;
pub mod hold_out;
mod idx;
pub mod image_folder;
pub mod images;
pub mod intents;
mod lines;
pub mod listops;
pub mod picture;
pub mod report;
pub mod requests;
pub mod scan;
pub mod scenes;
pub mod subwords;
pub mod tokenizer;
pub mod tone_digits;
pub mod translation;
pub mod tree;
pub mod voc;
pub mod vocabulary;
pub mod word_chain;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

pub use error::DataError;

/// A data set divided in two, as row indices in ascending order. The two halves never share an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// Rows to train on.
    pub train: Vec<usize>,
    /// Rows kept away from training, for validation.
    pub held_out: Vec<usize>,
}

impl Split {
    /// Draws a validation part that has the same class proportions as the whole: of every class, `valid_fraction` of its
    /// rows, rounded. The same seed gives the same split.
    ///
    /// # Errors
    ///
    /// [`DataError::InvalidSetting`] unless the fraction lies between 0 and 1.
    pub fn stratified(labels: &[u32], valid_fraction: f64, seed: u64) -> Result<Self, DataError> {
        if !(valid_fraction > 0.0 && valid_fraction < 1.0) {
            return Err(DataError::InvalidSetting {
                key: "valid-fraction".to_owned(),
                found: valid_fraction.to_string(),
                allowed: "it must lie between 0 and 1, both excluded".to_owned(),
            });
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let classes = labels.iter().max().map_or(0, |largest| largest + 1);
        let mut members = vec![Vec::new(); classes as usize];
        for (index, label) in labels.iter().enumerate() {
            members[*label as usize].push(index);
        }
        let (mut train, mut held_out) = (Vec::new(), Vec::new());
        for mut members in members {
            members.shuffle(&mut rng);
            let valid = (members.len() as f64 * valid_fraction).round() as usize;
            held_out.extend(members.drain(..valid));
            train.extend(members);
        }
        train.sort_unstable();
        held_out.sort_unstable();
        Ok(Self { train, held_out })
    }
}

/// The folders of the environment for tests of published files; `None`, and a note on standard error, without
/// `AUSN_DATA_DIR`.
#[cfg(test)]
pub(crate) fn test_locations() -> Option<catalog::Locations> {
    let locations = catalog::Locations::from_env(None);
    if locations.data_dir.is_none() {
        eprintln!("skipped: AUSN_DATA_DIR is not set");
        return None;
    }
    Some(catalog::Locations { offline: true, ..locations })
}
