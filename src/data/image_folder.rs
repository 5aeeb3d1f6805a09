//! Images in one folder per class, the layout of ImageNet:
//!
//! ```text
//! root/train/CLASS/*.jpeg
//! root/val/CLASS/*.jpeg        (`valid` will do)
//! ```
//!
//! JPEG and PNG. The classes are the folders of `train`, in alphabetical order. Images are decoded when a batch asks for
//! them, so that data sets larger than memory can be used.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;

use super::DataError;
use super::images::ImageSet;
use super::picture::{Picture, allowed_corrupt};
use super::report::{Finding, Report};
use super::tree::{file_names, folder_names};

/// An image that was not decoded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its class.
    pub class: u32,
}

/// The images of both parts of a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFolder {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Images to train on.
    pub train: Vec<ImageFile>,
    /// Images to validate with.
    pub valid: Vec<ImageFile>,
    /// Files that were passed over.
    pub report: Report,
}

/// Images of one part, decoded in parallel when they are asked for.
///
/// An image that cannot be decoded is left out of its batch, reported once by a warning, and counted. Once more than one
/// in a hundred of the part (at least one) is corrupt, loading fails.
#[derive(Debug)]
pub struct ImageLoader {
    folder: PathBuf,
    files: Vec<ImageFile>,
    side: usize,
    /// Indices of corrupt images in the order in which they were met, each with its error.
    corrupt: Mutex<Vec<(usize, String)>>,
}

impl ImageFolder {
    /// Lists the images below a folder.
    ///
    /// # Errors
    ///
    /// If `train` or `val` is missing or has no image, if a class has no image to train on, and if `val` has a class that
    /// `train` lacks.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let train_folder = root.join("train");
        let valid_folder = ["val", "valid"].map(|name| root.join(name));
        let valid_folder =
            valid_folder.iter().find(|path| path.is_dir()).unwrap_or(&valid_folder[0]);
        let mut report = Report::default();
        let classes = folder_names(&train_folder)?;
        let mut train = Vec::new();
        for (class, name) in (0..).zip(&classes) {
            let folder = train_folder.join(name);
            let images = images(&folder, class, &mut report)?;
            if images.is_empty() {
                return Err(empty(&folder));
            }
            train.extend(images);
        }
        let mut valid = Vec::new();
        for name in folder_names(valid_folder)? {
            let folder = valid_folder.join(&name);
            let Ok(class) = classes.binary_search(&name) else {
                let known = match &classes[..] {
                    [first, .., last] if classes.len() > 10 => {
                        format!("{} classes, {first} to {last}", classes.len())
                    }
                    all => all.join(", "),
                };
                return Err(DataError::UnknownClass { path: folder, class: name, known });
            };
            valid.extend(images(&folder, class as u32, &mut report)?);
        }
        for (part, folder) in [(&train, &train_folder), (&valid, valid_folder)] {
            if part.is_empty() {
                return Err(empty(folder));
            }
        }
        Ok(Self { classes, train, valid, report })
    }
}

fn images(folder: &Path, class: u32, report: &mut Report) -> Result<Vec<ImageFile>, DataError> {
    let mut files = Vec::new();
    for name in file_names(folder)? {
        let path = folder.join(name);
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        if ["jpg", "jpeg", "png"].iter().any(|known| extension == *known) {
            files.push(ImageFile { path, class });
        } else {
            report.add(Finding::NoImage, || path.display().to_string());
        }
    }
    Ok(files)
}

fn empty(folder: &Path) -> DataError {
    DataError::Empty {
        path: folder.to_owned(),
        expected: "JPEG or PNG images in one folder per class are expected".to_owned(),
    }
}

impl ImageLoader {
    /// Prepares to load images as squares of `side` pixels, at least one, by [`Picture::center_square`]. `folder` is named in
    /// errors.
    pub fn new(folder: &Path, files: Vec<ImageFile>, side: usize) -> Self {
        Self { folder: folder.to_owned(), files, side, corrupt: Mutex::default() }
    }

    /// The number of images, corrupt ones included.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Decodes images. Corrupt ones are left out of the result, beside which stand the places of the others in `indices`.
    ///
    /// # Errors
    ///
    /// [`DataError::BatchCorrupt`] if none is left, [`DataError::TooManyCorrupt`], or [`DataError::Io`] if a file cannot be
    /// read.
    ///
    /// # Panics
    ///
    /// If there is no index, or no image of one.
    pub fn load(&self, indices: &[usize]) -> Result<(ImageSet, Vec<usize>), DataError> {
        let decoded: Vec<Result<Vec<u8>, DataError>> = indices
            .par_iter()
            .map(|&index| {
                let path = &self.files[index].path;
                let content = std::fs::read(path).map_err(|source| DataError::Io {
                    action: "read",
                    path: path.clone(),
                    source,
                })?;
                Ok(Picture::decode(&content, path)?.center_square(self.side).planes())
            })
            .collect();
        let mut set = ImageSet {
            channels: 3,
            height: self.side,
            width: self.side,
            pixels: Vec::with_capacity(indices.len() * 3 * self.side * self.side),
            labels: Vec::with_capacity(indices.len()),
        };
        let mut places = Vec::with_capacity(indices.len());
        for (place, (&index, image)) in indices.iter().zip(decoded).enumerate() {
            match image {
                Ok(pixels) => {
                    set.pixels.extend(pixels);
                    set.labels.push(self.files[index].class);
                    places.push(place);
                }
                Err(error @ DataError::Image { .. }) => self.note_corrupt(index, &error)?,
                Err(error) => return Err(error),
            }
        }
        if set.is_empty() {
            return Err(DataError::BatchCorrupt { path: self.files[indices[0]].path.clone() });
        }
        Ok((set, places))
    }

    fn note_corrupt(&self, index: usize, error: &DataError) -> Result<(), DataError> {
        let mut corrupt = self.corrupt.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if corrupt.iter().any(|(known, _)| *known == index) {
            return Ok(());
        }
        tracing::warn!("{error}: the image is left out");
        corrupt.push((index, error.to_string()));
        let allowed = allowed_corrupt(self.files.len());
        if corrupt.len() <= allowed {
            return Ok(());
        }
        Err(DataError::TooManyCorrupt {
            path: self.folder.clone(),
            corrupt: corrupt.len(),
            total: self.files.len(),
            allowed,
            first: corrupt[0].1.clone(),
        })
    }

    /// The corrupt images met so far.
    pub fn report(&self) -> Report {
        let corrupt = self.corrupt.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut report = Report::default();
        for (index, _) in &*corrupt {
            let place = || self.files[*index].path.display().to_string();
            report.add(Finding::ImageCorrupt, place);
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;

    use super::super::picture::encode;
    use super::*;

    fn put(root: &Path, name: &str, content: &[u8]) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn image(red: u8) -> Vec<u8> {
        encode(16, 12, ImageFormat::Png, |_, _| [red, 0, 0])
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, red) in [
            ("train/n02/b.PNG", 2),
            ("train/n02/a.jpeg", 1),
            ("train/n01/c.png", 3),
            ("val/n02/d.jpg", 4),
        ] {
            put(root.path(), name, &image(red));
        }
        root
    }

    #[test]
    fn classes_are_folders_in_order() {
        let root = tree();
        put(root.path(), "train/n01/notes.txt", b"");
        put(root.path(), "train/.DS_Store", b"");
        let folder = ImageFolder::open(root.path()).unwrap();
        assert_eq!(folder.classes, ["n01", "n02"]);
        let names = |files: &[ImageFile]| -> Vec<_> {
            let name =
                |file: &ImageFile| file.path.file_name().unwrap().to_str().unwrap().to_owned();
            files.iter().map(|file| (name(file), file.class)).collect()
        };
        let expected = [("c.png", 0), ("a.jpeg", 1), ("b.PNG", 1)];
        assert_eq!(names(&folder.train), expected.map(|(name, class)| (name.to_owned(), class)));
        assert_eq!(names(&folder.valid), [("d.jpg".to_owned(), 1)]);
        assert_eq!(folder.report.count(Finding::NoImage), 1);

        let loader = ImageLoader::new(root.path(), folder.train, 7);
        let (set, places) = loader.load(&[2, 0]).unwrap();
        assert_eq!(places, [0, 1]);
        assert_eq!((set.len(), set.channels, set.height, set.width), (2, 3, 7, 7));
        assert_eq!((set.image(0)[0], set.image(1)[0]), (2, 3));
        assert_eq!(set.labels, [1, 0]);
    }

    #[test]
    fn unknown_and_empty_classes_are_refused_by_name() {
        let root = tree();
        let message = || ImageFolder::open(root.path()).unwrap_err().to_string();
        put(root.path(), "val/n03/e.png", &image(5));
        let text = message();
        assert!(text.contains("val/n03: `n03` is no class") && text.contains("n01, n02"), "{text}");
        fs::remove_dir_all(root.path().join("val/n03")).unwrap();
        fs::create_dir(root.path().join("train/n00")).unwrap();
        assert!(message().contains("train/n00: the file is empty"), "{}", message());
        fs::remove_dir_all(root.path().join("train")).unwrap();
        assert!(message().contains("cannot list") && message().contains("train"));
    }

    #[test]
    fn corrupt_images_are_left_out_until_there_are_too_many() {
        let root = tree();
        let whole = encode(16, 12, ImageFormat::Jpeg, |_, _| [9, 0, 0]);
        put(root.path(), "train/n02/a.jpeg", &whole[..whole.len() / 2]);
        let folder = ImageFolder::open(root.path()).unwrap();
        let loader = ImageLoader::new(root.path(), folder.train.clone(), 7);
        for _ in 0..2 {
            let (set, places) = loader.load(&[0, 1, 2]).unwrap();
            assert_eq!((&set.labels[..], &places[..]), (&[0, 1][..], &[0, 2][..]));
            assert_eq!(loader.report().count(Finding::ImageCorrupt), 1);
        }
        assert!(loader.report().to_string().contains("a.jpeg"));
        let error = loader.load(&[1]).unwrap_err();
        assert!(error.to_string().contains("a.jpeg: neither this image nor another"), "{error}");

        put(root.path(), "train/n02/b.PNG", b"nothing");
        let loader = ImageLoader::new(root.path(), folder.train, 7);
        let error = loader.load(&[0, 1, 2]).unwrap_err();
        assert!(error.to_string().contains("2 of 3 images cannot be decoded"), "{error}");
        fs::remove_file(root.path().join("train/n01/c.png")).unwrap();
        assert!(matches!(loader.load(&[0]).unwrap_err(), DataError::Io { .. }));
    }
}
