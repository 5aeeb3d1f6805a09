//! Image classification: Fashion-MNIST, CIFAR-10, and folders with one folder of images a class.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    ClassMetric, Classification, ClassificationBatch, ClassificationTask, Source, TaskError,
};
use crate::config::{Config, ImagesConfig, Normalization, TaskName};
use crate::data::catalog::Locations;
use crate::data::cifar10::Cifar10;
use crate::data::fashion_mnist::FashionMnist;
use crate::data::image_folder::{ImageFolder, ImageLoader};
use crate::data::images::ImageSet;
use crate::data::report::Report;
use crate::data::{DataError, Split};
use crate::models::Classifier;

/// Images that statistics of the pixels are taken from, where they are decoded one by one.
const STATISTICS_SAMPLE: usize = 512;

/// Mean and deviation of ImageNet's red, green and blue, as torchvision normalizes by.
const IMAGENET_STATISTICS: [(f64, f64); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

/// Where the images of a split come from.
enum Images {
    Memory { set: Arc<ImageSet>, chosen: Vec<usize> },
    Files { loader: ImageLoader, chosen: Vec<usize> },
}

impl Images {
    fn chosen(&self) -> &[usize] {
        match self {
            Images::Memory { chosen, .. } | Images::Files { chosen, .. } => chosen,
        }
    }

    /// The images at the given places, and which those are: images that cannot be decoded are left
    /// out.
    fn load(&self, places: &[usize]) -> Result<(ImageSet, Vec<usize>), DataError> {
        match self {
            Images::Memory { set, chosen } => {
                let some = ImageSet {
                    channels: set.channels,
                    height: set.height,
                    width: set.width,
                    pixels: places.iter().flat_map(|&i| set.image(chosen[i])).copied().collect(),
                    labels: places.iter().map(|&i| set.labels[chosen[i]]).collect(),
                };
                Ok((some, places.to_vec()))
            }
            Images::Files { loader, chosen } => {
                let indices: Vec<usize> = places.iter().map(|&i| chosen[i]).collect();
                let (set, decoded) = loader.load(&indices)?;
                Ok((set, decoded.into_iter().map(|i| places[i]).collect()))
            }
        }
    }

    /// Keeps as many as the settings ask for, drawn by the seed.
    fn keep_some(&mut self, settings: &ImagesConfig, seed: u64) {
        let (Images::Memory { chosen, .. } | Images::Files { chosen, .. }) = self;
        if let Some(count) = settings.train_examples {
            chosen.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            chosen.truncate(count);
        }
    }

    /// Mean and deviation of each channel: over all images, or, where they are decoded one by one,
    /// over some from all over the classes.
    fn statistics(&self) -> Result<Vec<(f64, f64)>, DataError> {
        let all = self.chosen().len();
        let count = match self {
            Images::Memory { .. } => all,
            Images::Files { .. } => all.min(STATISTICS_SAMPLE),
        };
        // Spread evenly, since files are in the order of their classes.
        let sample: Vec<usize> = (0..count).map(|i| i * all / count).collect();
        Ok(self.load(&sample)?.0.channel_statistics())
    }
}

/// Random changes of training images (He et al. 2015, arXiv 1512.03385, section 4.2).
#[derive(Clone, Copy)]
struct Augmentation {
    seed: u64,
    /// Pixels by which an image moves at most, in each direction.
    shift: usize,
}

impl Augmentation {
    /// Shifts an image of planes of `height` by `width` and perhaps mirrors it; what enters is 0.
    fn apply(
        self,
        image: &[f32],
        [height, width]: [usize; 2],
        epoch: usize,
        index: usize,
    ) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream((epoch as u64) << 32 | index as u64);
        let span = 2 * self.shift;
        let (down, right) = (rng.random_range(0..=span), rng.random_range(0..=span));
        let mirrored = rng.random_bool(0.5);
        let mut out = vec![0.0; image.len()];
        for (plane, out) in
            image.chunks_exact(height * width).zip(out.chunks_exact_mut(height * width))
        {
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let Some(from) = (row + down).checked_sub(self.shift).filter(|&r| r < height)
                else {
                    continue;
                };
                for (column, out) in out.iter_mut().enumerate() {
                    let column = if mirrored { width - 1 - column } else { column };
                    let from_column = (column + right).checked_sub(self.shift);
                    if let Some(column) = from_column.filter(|&c| c < width) {
                        *out = plane[from * width + column];
                    }
                }
            }
        }
        out
    }
}

/// Images of a split, each channel with mean 0 and deviation 1 over the training images.
struct ImageSource {
    images: Images,
    /// Mean and deviation of each channel.
    statistics: Arc<[(f64, f64)]>,
    augmentation: Option<Augmentation>,
}

impl ImageSource {
    fn make(
        &self,
        places: &[usize],
        augment: impl Fn(Vec<f32>, [usize; 2], usize) -> Vec<f32>,
        device: &Device,
    ) -> Result<ClassificationBatch<Tensor<4>>, DataError> {
        let (set, places) = self.images.load(places)?;
        let (plane, sides) = (set.height * set.width, [set.height, set.width]);
        let mut pixels = Vec::with_capacity(set.pixels.len());
        for (index, place) in places.into_iter().enumerate() {
            let planes = set.image(index).chunks_exact(plane).zip(self.statistics.iter());
            let image = planes.flat_map(|(plane, &(mean, deviation))| {
                let (offset, scale) = (mean as f32, (1.0 / deviation.max(1e-6)) as f32);
                plane.iter().map(move |&p| (f32::from(p) / 255.0 - offset) * scale)
            });
            pixels.extend(augment(image.collect(), sides, place));
        }
        let shape = [set.len(), set.channels, set.height, set.width];
        let labels: Vec<i64> = set.labels.iter().map(|&label| i64::from(label)).collect();
        Ok(ClassificationBatch {
            input: Tensor::from_data(TensorData::new(pixels, shape), device),
            targets: Tensor::from_data(TensorData::from(labels.as_slice()), device),
        })
    }
}

impl Source<ClassificationBatch<Tensor<4>>> for ImageSource {
    fn len(&self) -> usize {
        self.images.chosen().len()
    }

    fn batch(
        &self,
        indices: &[usize],
        device: &Device,
    ) -> Result<ClassificationBatch<Tensor<4>>, DataError> {
        self.make(indices, |image, _, _| image, device)
    }

    fn training_batch(
        &self,
        indices: &[usize],
        epoch: usize,
        device: &Device,
    ) -> Result<ClassificationBatch<Tensor<4>>, DataError> {
        let augment = |image: Vec<f32>, sides, index| match self.augmentation {
            Some(augmentation) => augmentation.apply(&image, sides, epoch, index),
            None => image,
        };
        let mut batch = self.make(indices, augment, device);
        // A step cannot be left out, for the sake of other devices: the next image stands in.
        for step in 1..self.len() {
            let Err(DataError::BatchCorrupt { .. }) = batch else { break };
            batch = self.make(&[(indices[0] + step) % self.len()], augment, device);
        }
        batch
    }

    fn report(&self) -> Report {
        match &self.images {
            Images::Memory { .. } => Report::default(),
            Images::Files { loader, .. } => loader.report(),
        }
    }
}

/// The splits of a data set.
struct Splits {
    name: &'static str,
    train: Images,
    evaluation: Vec<(&'static str, Images)>,
    classes: usize,
    /// Channels, height and width of an image.
    shape: [usize; 3],
    report: Report,
}

/// A data set of images for a classifier; `build` makes it for the channels, the height and the
/// width of an image, and for so many classes.
pub(super) fn task<N: Classifier<Input = Tensor<4>>>(
    config: &Config,
    locations: &Locations,
    build: impl Fn([usize; 3], usize, &Device) -> Result<N, TaskError> + Send + Sync + 'static,
) -> Result<ClassificationTask<N>, TaskError> {
    let settings = &config.task.images;
    let seed = config.train.seed;
    let splits = match config.task.name {
        TaskName::FashionMnist => {
            let FashionMnist { train, test } = FashionMnist::read(locations)?;
            in_memory("fashion-mnist", train, test, settings, seed, Report::default())?
        }
        TaskName::Cifar10 => {
            let Cifar10 { train, test, report } = Cifar10::read(locations)?;
            in_memory("cifar-10", train, test, settings, seed, report)?
        }
        _ => in_folders(settings)?,
    };
    let Splits { name, mut train, evaluation, classes, shape, report } = splits;
    let [channels, ..] = shape;
    let statistics: Arc<[_]> = match settings.normalization {
        Normalization::Data => train.statistics()?.into(),
        Normalization::Imagenet if channels == 3 => IMAGENET_STATISTICS.into(),
        Normalization::Imagenet => {
            return Err(TaskError::Config {
                key: "task.images.normalization",
                message: format!(
                    "is \"imagenet\", for images of 3 channels; those of {name} have {channels}"
                ),
            });
        }
    };
    // Only now: how many images there are to train on changes nothing of what a trained model is given.
    train.keep_some(settings, seed);
    let source = |images, augmentation| {
        Arc::new(ImageSource { images, statistics: statistics.clone(), augmentation })
    };
    let augmentation = settings.augment.then_some(Augmentation { seed, shift: settings.shift });
    Ok(ClassificationTask {
        name,
        objective: Classification::new(ClassMetric::Accuracy),
        build: Box::new(move |device| build(shape, classes, device)),
        train: source(train, augmentation),
        evaluation: evaluation
            .into_iter()
            .map(|(name, images)| (name, source(images, None) as _))
            .collect(),
        report,
    })
}

/// Training watches a part of the training images; the test images are measured at the end.
fn in_memory(
    name: &'static str,
    train: ImageSet,
    test: ImageSet,
    settings: &ImagesConfig,
    seed: u64,
    report: Report,
) -> Result<Splits, TaskError> {
    let classes = train.labels.iter().max().map_or(0, |&class| class as usize + 1);
    let split = Split::stratified(&train.labels, settings.valid_fraction, seed)?;
    let (set, shape) = (Arc::new(train), [test.channels, test.height, test.width]);
    let all = (0..test.len()).collect();
    Ok(Splits {
        name,
        train: Images::Memory { set: set.clone(), chosen: split.train },
        evaluation: vec![
            ("valid", Images::Memory { set, chosen: split.held_out }),
            ("test", Images::Memory { set: Arc::new(test), chosen: all }),
        ],
        classes,
        shape,
        report,
    })
}

fn in_folders(settings: &ImagesConfig) -> Result<Splits, TaskError> {
    let folder = settings.folder.as_deref().expect("checked when the configuration was read");
    if !folder.is_dir() {
        return Err(TaskError::Config {
            key: "task.images.folder",
            message: format!(
                "is {}, which is no folder; it needs one with train/CLASS/*.jpg and val/CLASS/*.jpg",
                folder.display()
            ),
        });
    }
    let ImageFolder { classes, train, valid, report } = ImageFolder::open(folder)?;
    let all = |files: &Vec<_>| (0..files.len()).collect();
    let (chosen, every) = (all(&train), all(&valid));
    let loader = |files| ImageLoader::new(folder, files, settings.side);
    Ok(Splits {
        name: "image-folder",
        train: Images::Files { loader: loader(train), chosen },
        evaluation: vec![("valid", Images::Files { loader: loader(valid), chosen: every })],
        classes: classes.len(),
        shape: [3, settings.side, settings.side],
        report,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use image::{ImageFormat, Rgb, RgbImage};

    use super::*;
    use crate::data::image_folder::ImageFile;
    use crate::data::report::Finding;

    fn source(augmentation: Option<Augmentation>) -> ImageSource {
        let set = ImageSet {
            channels: 1,
            height: 2,
            width: 3,
            pixels: vec![0, 51, 102, 153, 204, 255, 255, 204, 153, 102, 51, 0],
            labels: vec![1, 0],
        };
        let images = Images::Memory { set: Arc::new(set), chosen: vec![1, 0] };
        ImageSource { images, statistics: [(0.5, 0.5)].into(), augmentation }
    }

    fn pixels(batch: ClassificationBatch<Tensor<4>>) -> Vec<f32> {
        batch.input.into_data().try_to_vec().expect("32-bit floats")
    }

    /// Image files in a folder, of side 8, each of a class of its own.
    fn files(folder: &Path, contents: &[&[u8]]) -> Images {
        let file = |(class, content): (u32, &&[u8])| {
            let path = folder.join(format!("{class}.png"));
            std::fs::write(&path, content).unwrap();
            ImageFile { path, class }
        };
        let files = (0..).zip(contents).map(file).collect();
        let chosen = (0..contents.len()).collect();
        Images::Files { loader: ImageLoader::new(folder, files, 8), chosen }
    }

    fn png(pixel: impl Fn(u32, u32) -> u8) -> Vec<u8> {
        let mut content = Cursor::new(Vec::new());
        RgbImage::from_fn(8, 8, |x, y| Rgb([pixel(x, y); 3]))
            .write_to(&mut content, ImageFormat::Png)
            .unwrap();
        content.into_inner()
    }

    #[test]
    fn statistics_of_files_are_of_all_classes() {
        let folder = tempfile::tempdir().unwrap();
        let (black, white) = (png(|_, _| 0), png(|_, _| 255));
        let contents = [[&black[..]; STATISTICS_SAMPLE], [&white[..]; STATISTICS_SAMPLE]].concat();
        let statistics = files(folder.path(), &contents).statistics().unwrap();
        for (mean, deviation) in statistics {
            assert!(
                (mean - 0.5).abs() < 1e-9 && (deviation - 0.5).abs() < 1e-9,
                "{mean} {deviation}"
            );
        }
    }

    #[test]
    fn what_is_corrupt_changes_nothing_of_other_images() {
        let folder = tempfile::tempdir().unwrap();
        let image = png(|x, y| (x * 31 + y * y * 3) as u8);
        let source = ImageSource {
            images: files(folder.path(), &[&image, b"corrupt", &image, &image]),
            statistics: [(0.5, 0.5); 3].into(),
            augmentation: Some(Augmentation { seed: 3, shift: 4 }),
        };
        let device = Device::default();
        let draw = |indices: &[usize]| source.training_batch(indices, 1, &device).unwrap();
        assert_eq!(pixels(draw(&[0, 1, 2, 3])), pixels(draw(&[0, 2, 3])));
        // Where nothing else is left, training goes on with the next one.
        assert_eq!(draw(&[1]).targets.into_scalar::<i64>(), 2);
        let error = source.batch(&[1], &device).unwrap_err();
        assert!(matches!(error, DataError::BatchCorrupt { .. }), "{error}");
        assert_eq!(source.report().count(Finding::ImageCorrupt), 1);
    }

    #[test]
    fn images_are_normalized_and_keep_their_labels() {
        let batch = source(None).batch(&[1], &Device::default()).unwrap();
        assert_eq!(batch.input.dims(), [1, 1, 2, 3]);
        assert_eq!(batch.targets.clone().into_scalar::<i64>(), 1);
        let expected = [-1.0, -0.6, -0.2, 0.2, 0.6, 1.0];
        for (found, expected) in pixels(batch).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
        }
    }

    #[test]
    fn augmentation_moves_and_mirrors_and_repeats_with_seed_and_epoch() {
        let source = source(Some(Augmentation { seed: 3, shift: 1 }));
        let draw =
            |epoch| pixels(source.training_batch(&[0, 1], epoch, &Device::default()).unwrap());
        assert_eq!(draw(1), draw(1));
        let different: std::collections::HashSet<String> =
            (1..60).map(|epoch| format!("{:?}", draw(epoch))).collect();
        // 9 places, mirrored or not, of two images.
        assert!(different.len() > 40, "{}", different.len());
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let allowed = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let augmentation = source.augmentation.unwrap();
        let moved: Vec<_> = (0..200).map(|i| augmentation.apply(&image, [2, 3], 1, i)).collect();
        assert!(moved.iter().flatten().all(|p| allowed.contains(p)));
        assert!(moved.contains(&image.to_vec()));
        assert!(moved.contains(&vec![3.0, 2.0, 1.0, 6.0, 5.0, 4.0]));
        assert!(moved.contains(&vec![0.0, 0.0, 0.0, 0.0, 1.0, 2.0]));
    }

    #[test]
    fn evaluation_sees_images_as_they_are() {
        let source = source(Some(Augmentation { seed: 3, shift: 1 }));
        let plain = super::tests::source(None);
        let device = Device::default();
        let of = |source: &ImageSource| pixels(source.batch(&[0, 1], &device).unwrap());
        assert_eq!(of(&source), of(&plain));
    }
}
