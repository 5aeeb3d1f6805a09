//! The Free Spoken Digit Dataset (Z. Jackson and contributors): recordings of the digits 0 to 9, 300 of each, by six speakers.
//!
//! Files are called `recordings/{digit}_{speaker}_{index}.wav`; by the README of the origin, index 0 to 4 is for testing and
//! 5 to 49 for training. The recordings are handed over as the bytes of WAV files, not decoded.

use std::path::PathBuf;

use super::DataError;
use super::catalog::{Locations, manifest};
use super::download::Progress;
use super::tree::Tree;

/// Number of classes: the digits.
pub const CLASSES: usize = 10;
/// Recordings of a digit by a speaker that are for testing: those with a smaller index.
const TEST_INDICES: u32 = 5;

/// A recorded digit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// Where it was found, to be named in errors.
    pub path: PathBuf,
    /// The content of the WAV file.
    pub wav: Vec<u8>,
    /// The digit.
    pub label: u32,
    /// Who speaks.
    pub speaker: String,
    /// Its place among the recordings of this digit by this speaker.
    pub index: u32,
}

/// Both parts of the data set. For a validation part, hold out some indices of `train`, or a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fsdd {
    /// Recordings to train on.
    pub train: Vec<Recording>,
    /// Recordings to report on.
    pub test: Vec<Recording>,
}

impl Fsdd {
    /// Reads the recordings, packed or unpacked, in the order of their names.
    pub fn read(locations: &Locations) -> Result<Self, DataError> {
        let archive = "fsdd/recordings.tar";
        Self::from_tree(&Tree::open(manifest("fsdd")?, archive, locations, Progress::Bar)?)
    }

    /// Reads the folder `recordings` of a tree.
    ///
    /// # Errors
    ///
    /// If a WAV file is not named as expected, and if either part has none.
    pub fn from_tree(tree: &Tree) -> Result<Self, DataError> {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for file in tree.list("recordings")? {
            let Some(name) = file.strip_suffix(".wav") else { continue };
            let path = tree.path_of(&file);
            let Some((label, speaker, index)) = parse_name(name) else {
                return Err(DataError::Format {
                    path,
                    reason: "the file is not named DIGIT_SPEAKER_INDEX.wav, as `7_theo_12.wav`"
                        .to_owned(),
                });
            };
            let wav = tree.read(&file)?.into_owned();
            let part = if index < TEST_INDICES { &mut test } else { &mut train };
            part.push(Recording { path, wav, label, speaker: speaker.to_owned(), index });
        }
        if train.is_empty() || test.is_empty() {
            return Err(DataError::Empty {
                path: tree.path_of("recordings"),
                expected: "recordings with an index below 5, to test with, and others, to train on, are expected"
                    .to_owned(),
            });
        }
        Ok(Self { train, test })
    }
}

/// Digit, speaker and index of `recordings/{digit}_{speaker}_{index}`.
fn parse_name(name: &str) -> Option<(u32, &str, u32)> {
    let name = name.rsplit('/').next()?;
    let (digit, rest) = name.split_once('_')?;
    let (speaker, index) = rest.rsplit_once('_')?;
    let label = digit.parse().ok().filter(|digit| (*digit as usize) < CLASSES)?;
    (!speaker.is_empty()).then_some((label, speaker, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::super::{test_locations, tree};
    use super::*;

    fn read(names: &[&str]) -> Result<Fsdd, DataError> {
        let files: Vec<_> = names.iter().map(|name| (*name, name.as_bytes())).collect();
        Fsdd::from_tree(&Tree::from_tar(&tree::pack(&files), Path::new("r.tar"))?)
    }

    #[test]
    fn the_index_decides_the_part() {
        let names =
            ["7_theo_4", "0_theo_5", "9_a_b_49"].map(|name| format!("recordings/{name}.wav"));
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.push("recordings/README.md");
        let data = read(&names).unwrap();
        let recording = &data.test[0];
        assert_eq!((recording.label, recording.speaker.as_str(), recording.index), (7, "theo", 4));
        assert_eq!(recording.wav, b"recordings/7_theo_4.wav");
        let train: Vec<_> =
            data.train.iter().map(|r| (r.label, r.speaker.as_str(), r.index)).collect();
        assert_eq!(train, [(0, "theo", 5), (9, "a_b", 49)]);
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["10_theo_4", "x_theo_4", "7_theo", "7__4", "7_theo_x", "theo"] {
            let file = format!("recordings/{name}.wav");
            let error = read(&[&file]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("r.tar/{file}: ")), "{error}");
        }
        let error = read(&["recordings/7_theo_4.wav"]).unwrap_err();
        assert!(matches!(error, DataError::Empty { .. }), "{error}");
    }

    #[test]
    fn the_published_archive_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let data = Fsdd::read(&locations).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (2_700, 300));
        let (mut labels, mut speakers) = ([0; 10], BTreeMap::new());
        for recording in data.train.iter().chain(&data.test) {
            labels[recording.label as usize] += 1;
            *speakers.entry(recording.speaker.as_str()).or_insert(0) += 1;
            assert!(recording.wav.starts_with(b"RIFF") && recording.wav[36..40] == *b"data");
        }
        assert_eq!(labels, [300; 10]);
        let expected = ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"];
        assert!(speakers.into_iter().eq(expected.map(|speaker| (speaker, 500))));
    }
}
