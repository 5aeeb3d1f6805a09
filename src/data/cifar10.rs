//! CIFAR-10: colour images of ten classes, 32x32 (A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
//! 2009), in the binary version. Five batches of 10,000 images to train on, and one to test with.

use std::path::Path;

use super::DataError;
use super::catalog::{Locations, load, locate, manifest};
use super::download::Progress;
use super::images::ImageSet;
use super::report::{Finding, Report};

/// Names of the classes.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Pixels along each side.
const SIDE: usize = 32;
/// A label and three planes.
const RECORD: usize = 1 + 3 * SIDE * SIDE;

/// Both parts of CIFAR-10. For a validation part, see [`Split::stratified`](super::Split::stratified).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cifar10 {
    /// Images to train on: those of the batches that are there.
    pub train: ImageSet,
    /// Images to report on.
    pub test: ImageSet,
    /// Training batches that are not there.
    pub report: Report,
}

impl Cifar10 {
    /// Reads the training batches that are there, at least one, and the test batch. Batches that are missing beside others
    /// are done without, with a warning: results are then not comparable with published ones. If no training batch is
    /// there, all are downloaded.
    pub fn read(locations: &Locations) -> Result<Self, DataError> {
        let manifest = manifest("cifar-10")?;
        let read = |file: &str| {
            let (path, content) = load(manifest, file, locations, Progress::Bar)?;
            parse(&content, &path)
        };
        let files: Vec<String> =
            (1..=5).map(|number| format!("cifar-10/data_batch_{number}.bin")).collect();
        let (mut there, missing): (Vec<_>, Vec<_>) =
            files.iter().partition(|file| locate(manifest, file, locations).is_ok());
        let mut report = Report::default();
        if there.is_empty() {
            there = files.iter().collect();
        } else if !missing.is_empty() {
            let names = missing.iter().map(|file| file.as_str()).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "CIFAR-10: {} of 5 training batches are used; {names} are not there. \
                 `ausn datasets fetch cifar-10` gets them",
                there.len()
            );
            for file in missing {
                report.add(Finding::FileMissing, || file.clone());
            }
        }
        let mut train = ImageSet::default();
        for file in there {
            train.extend(read(file)?);
        }
        Ok(Self { train, test: read("cifar-10/test_batch.bin")?, report })
    }
}

/// Reads a batch: records of a label and the red, the green and the blue plane. `path` is named in errors.
fn parse(content: &[u8], path: &Path) -> Result<ImageSet, DataError> {
    if content.is_empty() {
        return Err(DataError::Empty {
            path: path.to_owned(),
            expected: format!("records of {RECORD} bytes are expected"),
        });
    }
    let wrong = |reason: String| DataError::Format { path: path.to_owned(), reason };
    if !content.len().is_multiple_of(RECORD) {
        return Err(wrong(format!(
            "{} bytes are no whole number of records of {RECORD} bytes: the file is cut short, or not of the binary version",
            content.len()
        )));
    }
    let count = content.len() / RECORD;
    let mut labels = Vec::with_capacity(count);
    let mut pixels = Vec::with_capacity(count * (RECORD - 1));
    for (number, record) in content.chunks_exact(RECORD).enumerate() {
        if usize::from(record[0]) >= CLASSES.len() {
            let label = record[0];
            return Err(wrong(format!(
                "record {number} (from 0) has label {label}, expected 0 to 9"
            )));
        }
        labels.push(u32::from(record[0]));
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(ImageSet { channels: 3, height: SIDE, width: SIDE, pixels, labels })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::test_locations;
    use super::*;

    /// A record whose planes have one value each.
    fn record(label: u8, planes: [u8; 3]) -> Vec<u8> {
        let pixels = planes.iter().flat_map(|value| [*value; SIDE * SIDE]);
        [label].into_iter().chain(pixels).collect()
    }

    #[test]
    fn records_are_read_and_checked() {
        let content = [record(3, [1, 2, 3]), record(9, [4, 5, 6])].concat();
        let set = parse(&content, Path::new("b.bin")).unwrap();
        assert_eq!(set.labels, [3, 9]);
        assert_eq!((set.image(1)[0], set.image(1)[1024], set.image(1)[3071]), (4, 5, 6));
        let bad = [record(3, [1, 2, 3]), record(10, [0; 3])].concat();
        for (content, expected) in [
            (&content[..6145], "b.bin: 6145 bytes are no whole number of records"),
            (&bad, "b.bin: record 1 (from 0) has label 10, expected 0 to 9"),
            (&[], "b.bin: the file is empty"),
        ] {
            let error = parse(content, Path::new("b.bin")).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_batches_that_are_there_are_used() {
        let folder = tempfile::tempdir().unwrap();
        let locations = Locations {
            data_dir: Some(folder.path().to_owned()),
            cache_dir: folder.path().join("cache"),
            offline: true,
        };
        let write = |name: &str, label: u8| {
            fs::create_dir_all(folder.path().join("cifar-10")).unwrap();
            fs::write(folder.path().join("cifar-10").join(name), record(label, [0; 3])).unwrap();
        };
        write("test_batch.bin", 0);
        let error = Cifar10::read(&locations).unwrap_err();
        assert!(error.to_string().contains("cifar-10/data_batch_1.bin"), "{error}");
        write("data_batch_4.bin", 4);
        write("data_batch_2.bin", 2);
        let data = Cifar10::read(&locations).unwrap();
        assert_eq!((&data.train.labels[..], &data.test.labels[..]), (&[2, 4][..], &[0][..]));
        assert_eq!(data.report.count(Finding::FileMissing), 3);
        assert!(data.report.to_string().contains("(first: cifar-10/data_batch_1.bin)"));
    }

    #[test]
    fn the_published_files_have_the_published_statistics() {
        let Some(locations) = test_locations() else { return };
        let data = Cifar10::read(&locations).unwrap();
        let counts = |labels: &[u32]| {
            let mut counts = [0; 10];
            labels.iter().for_each(|label| counts[*label as usize] += 1);
            counts
        };
        assert_eq!(counts(&data.test.labels), [1_000; 10]);
        assert_eq!(data.train.labels[..10], [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]);
        assert_eq!(
            counts(&data.train.labels[..10_000]),
            [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
        );
        if data.report.count(Finding::FileMissing) == 3 {
            assert_eq!(
                counts(&data.train.labels[10_000..]),
                [984, 1007, 1010, 995, 1010, 988, 1008, 1026, 987, 985]
            );
            let rounded: Vec<_> = data.train.channel_statistics();
            let rounded: Vec<_> = rounded
                .iter()
                .map(|(mean, deviation)| format!("{mean:.4} {deviation:.4}"))
                .collect();
            assert_eq!(rounded, ["0.4928 0.2474", "0.4830 0.2441", "0.4470 0.2621"]);
        }
        let means: Vec<_> =
            data.test.channel_statistics().iter().map(|(mean, _)| format!("{mean:.4}")).collect();
        assert_eq!(means, ["0.4942", "0.4851", "0.4504"]);
    }
}
