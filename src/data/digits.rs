//! Handwritten digits, 8x8 pixels: the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
//! UCI Machine Learning Repository, 1998, CC BY 4.0). 1,797 images, built into the program.

use std::path::Path;

use super::catalog::{Locations, load, manifest};
use super::download::Progress;
use super::{DataError, Split, gzip};
use csv::{ReaderBuilder, StringRecord};

/// Pixels of an image.
pub const PIXELS: usize = 64;
/// Largest grey level; the smallest is 0.
pub const MAX_PIXEL: u8 = 16;
/// Number of classes.
pub const CLASSES: usize = 10;

/// Images of handwritten digits with their labels.
#[derive(Clone, Debug)]
pub struct Digits {
    /// Grey levels 0 to 16, row-major.
    pub images: Vec<[u8; PIXELS]>,
    /// The digit on each image.
    pub labels: Vec<u8>,
}

impl Digits {
    /// The images that are part of the program.
    pub fn built_in() -> Result<Self, DataError> {
        let nowhere = Locations { data_dir: None, cache_dir: "".into(), offline: true };
        let (path, content) =
            load(manifest("optdigits")?, "optdigits/digits.csv", &nowhere, Progress::Silent)?;
        Self::from_bytes(&content, &path)
    }

    /// Reads comma-separated values, plain or gzipped: no header, 64 pixels and the label in each row. `path` is named in
    /// errors.
    pub fn from_bytes(content: &[u8], path: &Path) -> Result<Self, DataError> {
        let content = gzip::unpack(content.to_vec())
            .map_err(|source| DataError::Gzip { path: path.to_owned(), source })?;
        // Rows of unequal length are let through here, because the error below says more.
        let mut reader =
            ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content.as_slice());
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let malformed = |line: u64, reason: String| DataError::Malformed {
                path: path.to_owned(),
                line,
                reason,
            };
            let record = record.map_err(|error| {
                let line = error.position().map_or(0, csv::Position::line);
                malformed(line, error.to_string())
            })?;
            let line = record.position().map_or(0, csv::Position::line);
            let (image, label) = row(&record).map_err(|reason| malformed(line, reason))?;
            images.push(image);
            labels.push(label);
        }
        if images.is_empty() {
            return Err(DataError::Empty {
                path: path.to_owned(),
                expected: "rows of 64 pixels and a label are expected".to_owned(),
            });
        }
        Ok(Self { images, labels })
    }

    /// Draws a validation part that has the same class proportions as the whole: of every class, `valid_fraction` of its
    /// images, rounded. The same seed gives the same split.
    pub fn split(&self, valid_fraction: f64, seed: u64) -> Result<Split, DataError> {
        let labels: Vec<u32> = self.labels.iter().copied().map(u32::from).collect();
        Split::stratified(&labels, valid_fraction, seed)
    }
}

fn row(record: &StringRecord) -> Result<([u8; PIXELS], u8), String> {
    if record.len() != PIXELS + 1 {
        return Err(format!("{} columns, expected {PIXELS} pixels and a label", record.len()));
    }
    let value = |column: usize, name: &str, largest: u8| {
        let text = record[column].trim();
        text.parse().ok().filter(|value| *value <= largest).ok_or_else(|| {
            format!("{name} in column {} is `{text}`, expected 0 to {largest}", column + 1)
        })
    };
    let mut image = [0; PIXELS];
    for (column, pixel) in image.iter_mut().enumerate() {
        *pixel = value(column, "the pixel", MAX_PIXEL)?;
    }
    Ok((image, value(PIXELS, "the label", CLASSES as u8 - 1)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(pixel: &str, label: &str) -> String {
        format!("{}{label}\n", format!("{pixel},").repeat(PIXELS))
    }

    fn read(text: &str) -> Result<Digits, DataError> {
        Digits::from_bytes(text.as_bytes(), Path::new("d.csv"))
    }

    fn class_counts(digits: &Digits, indices: impl IntoIterator<Item = usize>) -> [usize; CLASSES] {
        let mut counts = [0; CLASSES];
        for index in indices {
            counts[digits.labels[index] as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_built_in_images_are_complete() {
        let digits = Digits::built_in().unwrap();
        assert_eq!(
            class_counts(&digits, 0..digits.images.len()),
            [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        );
        assert_eq!(digits.images[0][..8], [0, 0, 5, 13, 9, 1, 0, 0]);
        assert_eq!(digits.labels[..4], [0, 1, 2, 3]);
        assert_eq!(digits.images.iter().flatten().max(), Some(&MAX_PIXEL));
    }

    #[test]
    fn reads_plain_and_gzipped_text() {
        let text = line("16", "9");
        let packed = gzip::pack(text.as_bytes());
        for content in [text.as_bytes(), &packed] {
            let digits = Digits::from_bytes(content, Path::new("d.csv")).unwrap();
            assert_eq!((digits.images, digits.labels), (vec![[16; PIXELS]], vec![9]));
        }
    }

    #[test]
    fn errors_name_file_line_and_value() {
        let good = line("0", "0");
        for (bad, expected) in [
            (line("17", "0"), "d.csv, line 2: the pixel in column 1 is `17`"),
            (line("0", "10"), "d.csv, line 2: the label in column 65 is `10`"),
            (line("0", "-1"), "the label in column 65 is `-1`"),
            (line("x", "0"), "the pixel in column 1 is `x`"),
            ("1,2,3\n".to_owned(), "d.csv, line 2: 3 columns"),
        ] {
            let error = read(&format!("{good}{bad}")).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.is_user_error());
        }
        assert!(matches!(read("").unwrap_err(), DataError::Empty { .. }));
        let packed = gzip::pack(good.as_bytes());
        let error = Digits::from_bytes(&packed[..20], Path::new("d.csv")).unwrap_err();
        assert!(matches!(error, DataError::Gzip { .. }), "{error}");
    }

    #[test]
    fn the_split_keeps_class_proportions_and_is_reproducible() {
        let digits = Digits::built_in().unwrap();
        let split = digits.split(0.2, 7).unwrap();
        assert_eq!(split, digits.split(0.2, 7).unwrap());
        assert_ne!(split, digits.split(0.2, 8).unwrap());

        let mut all = [split.train.clone(), split.held_out.clone()].concat();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..digits.labels.len()));
        assert_eq!(class_counts(&digits, split.held_out), [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]);
    }

    #[test]
    fn an_impossible_fraction_is_refused() {
        let digits = read(&line("0", "0")).unwrap();
        for fraction in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(digits.split(fraction, 0).unwrap_err().is_user_error());
        }
    }
}
