//! Fashion-MNIST: grey images of clothes, 28x28 (H. Xiao, K. Rasul and R. Vollgraf, 2017, arXiv 1708.07747). 60,000 to
//! train on and 10,000 to test with, as many of each of the ten classes.

use std::path::Path;

use super::DataError;
use super::catalog::{Locations, load, manifest};
use super::download::Progress;
use super::idx::Idx;
use super::images::ImageSet;

/// Names of the classes.
pub const CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Both parts of Fashion-MNIST. For a validation part, see [`Split::stratified`](super::Split::stratified).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FashionMnist {
    /// Images to train on.
    pub train: ImageSet,
    /// Images to report on.
    pub test: ImageSet,
}

impl FashionMnist {
    /// Reads the four files, downloading those that are in no folder.
    pub fn read(locations: &Locations) -> Result<Self, DataError> {
        let file = |name: &str| {
            load(
                manifest("fashion-mnist")?,
                &format!("fashion-mnist/{name}"),
                locations,
                Progress::Bar,
            )
        };
        let part = |name: &str| {
            let (images_path, images) = file(&format!("{name}-images-idx3-ubyte"))?;
            let (labels_path, labels) = file(&format!("{name}-labels-idx1-ubyte"))?;
            parse((&images, &images_path), (&labels, &labels_path))
        };
        Ok(Self { train: part("train")?, test: part("t10k")? })
    }
}

/// Reads images and labels in the IDX format.
fn parse(images: (&[u8], &Path), labels: (&[u8], &Path)) -> Result<ImageSet, DataError> {
    let Idx { shape: [count, height, width], values } = Idx::parse(images.0, images.1)?;
    let Idx { shape: [label_count], values: labels_read } = Idx::parse(labels.0, labels.1)?;
    let wrong = |reason: String| DataError::Format { path: labels.1.to_owned(), reason };
    if label_count != count {
        let images = images.1.display();
        return Err(wrong(format!("{label_count} labels, but {images} has {count} images")));
    }
    if values.is_empty() {
        return Err(DataError::Empty {
            path: images.1.to_owned(),
            expected: "images are expected".to_owned(),
        });
    }
    if let Some(bad) = labels_read.iter().position(|label| usize::from(*label) >= CLASSES.len()) {
        let label = labels_read[bad];
        return Err(wrong(format!("label {bad} (from 0) is {label}, expected 0 to 9")));
    }
    let labels = labels_read.iter().copied().map(u32::from).collect();
    Ok(ImageSet { channels: 1, height, width, pixels: values.to_vec(), labels })
}

#[cfg(test)]
mod tests {
    use super::super::test_locations;
    use super::*;

    const IMAGES: [u8; 20] = [0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2, 10, 20, 30, 40];

    fn read(labels: &[u8]) -> Result<ImageSet, String> {
        let count = labels.len() as u8;
        let labels = [&[0, 0, 8, 1, 0, 0, 0, count], labels].concat();
        parse((&IMAGES, Path::new("images")), (&labels, Path::new("labels")))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn images_and_labels_belong_together() {
        let set = read(&[9, 0]).unwrap();
        assert_eq!((set.channels, set.height, set.width), (1, 1, 2));
        assert_eq!((set.image(1), &set.labels[..]), (&[30, 40][..], &[9, 0][..]));
        for (labels, expected) in [
            (&[9, 10][..], "labels: label 1 (from 0) is 10, expected 0 to 9"),
            (&[9], "labels: 1 labels, but images has 2 images"),
        ] {
            assert_eq!(read(labels).unwrap_err(), expected);
        }
    }

    #[test]
    fn the_published_files_have_the_published_statistics() {
        let Some(locations) = test_locations() else { return };
        let data = FashionMnist::read(&locations).unwrap();
        for (part, count) in [(&data.train, 6_000), (&data.test, 1_000)] {
            assert_eq!((part.channels, part.height, part.width), (1, 28, 28));
            let of_class = |class| part.labels.iter().filter(|label| **label == class).count();
            assert!((0..10).all(|class| of_class(class) == count));
        }
        let (mean, deviation) = data.train.channel_statistics()[0];
        assert_eq!(format!("{mean:.4} {deviation:.4}"), "0.2860 0.3530");
        assert_eq!(data.train.labels[..5], [9, 0, 0, 3, 0]);
    }
}
