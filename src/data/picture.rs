//! JPEG and PNG images: decoding, resizing, cropping.

use std::io::Cursor;
use std::path::Path;

use image::imageops::FilterType;
use image::{ImageFormat, ImageReader, RgbImage, imageops};

use super::DataError;

/// A decoded image in red, green and blue. Grey and transparent images are converted; the orientation that a camera noted
/// is not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    image: RgbImage,
}

impl Picture {
    /// Decodes a JPEG or PNG. `path` is named in errors.
    ///
    /// # Errors
    ///
    /// [`DataError::Image`] for what is neither, and for images that are damaged or cut short.
    pub fn decode(content: &[u8], path: &Path) -> Result<Self, DataError> {
        let fail = |reason: String| DataError::Image { path: path.to_owned(), reason };
        let reader = ImageReader::new(Cursor::new(content))
            .with_guessed_format()
            .map_err(|error| fail(error.to_string()))?;
        // The decoder fills up what is missing of a JPEG with grey.
        if reader.format() == Some(ImageFormat::Jpeg) && !jpeg_is_complete(content) {
            return Err(fail("the JPEG data are cut short".to_owned()));
        }
        let image = reader.decode().map_err(|error| fail(error.to_string()))?;
        Ok(Self { image: image.into_rgb8() })
    }

    /// Pixels along the horizontal side.
    pub fn width(&self) -> usize {
        self.image.width() as usize
    }

    /// Pixels along the vertical side.
    pub fn height(&self) -> usize {
        self.image.height() as usize
    }

    /// Stretches to a size, in pixels, with a triangle filter that widens when an image becomes smaller (what is called
    /// bilinear with antialiasing elsewhere).
    #[must_use]
    pub fn resized(&self, width: usize, height: usize) -> Self {
        if (width, height) == (self.width(), self.height()) {
            return self.clone();
        }
        let image =
            imageops::resize(&self.image, width as u32, height as u32, FilterType::Triangle);
        Self { image }
    }

    /// The middle square of `side` pixels, after the shorter side was resized to 8/7 of it: 256 for 224, the usual
    /// preparation of ImageNet for evaluation.
    #[must_use]
    pub fn center_square(&self, side: usize) -> Self {
        let shorter = side * 8 / 7;
        let scale = shorter as f64 / self.width().min(self.height()) as f64;
        let scaled = |length: usize| ((length as f64 * scale).round() as usize).max(shorter);
        let resized = self.resized(scaled(self.width()), scaled(self.height()));
        let (left, top) = ((resized.width() - side) / 2, (resized.height() - side) / 2);
        let crop =
            imageops::crop_imm(&resized.image, left as u32, top as u32, side as u32, side as u32);
        Self { image: crop.to_image() }
    }

    /// Values 0 to 255 as `[channel, row, column]`, channels red, green, blue.
    pub fn planes(&self) -> Vec<u8> {
        let pixels = self.image.as_raw();
        (0..3).flat_map(|channel| pixels.iter().skip(channel).step_by(3).copied()).collect()
    }
}

/// How many images of a data set may be corrupt: one in a hundred, and at least one. More are an error, because the rest
/// is then hardly the data set that was meant.
pub(super) fn allowed_corrupt(images: usize) -> usize {
    (images / 100).max(1)
}

/// Whether the end-of-image marker follows the last scan. The marker of a preview image in the header does not count.
fn jpeg_is_complete(content: &[u8]) -> bool {
    let last = |marker: [u8; 2]| content.windows(2).rposition(|pair| pair == marker);
    last([0xff, 0xd9]) > last([0xff, 0xda])
}

/// Encodes an image, for tests.
#[cfg(test)]
pub(super) fn encode(
    width: u32,
    height: u32,
    format: ImageFormat,
    pixel: impl Fn(u32, u32) -> [u8; 3],
) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb(pixel(x, y)));
    let mut content = Cursor::new(Vec::new());
    image.write_to(&mut content, format).expect("writing to memory succeeds");
    content.into_inner()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(x: u32, _y: u32) -> [u8; 3] {
        if x < 20 { [200, 10, 10] } else { [10, 10, 200] }
    }

    fn decode(content: &[u8]) -> Result<Picture, String> {
        Picture::decode(content, Path::new("p.jpg")).map_err(|error| error.to_string())
    }

    #[test]
    fn jpeg_and_png_are_decoded() {
        for (format, tolerance) in [(ImageFormat::Png, 0), (ImageFormat::Jpeg, 12)] {
            let picture = decode(&encode(40, 24, format, halves)).unwrap();
            assert_eq!((picture.width(), picture.height()), (40, 24));
            let planes = picture.planes();
            assert_eq!(planes.len(), 3 * 40 * 24);
            let (red, blue) = (&planes[..960], &planes[1920..]);
            assert!(red[0].abs_diff(200) <= tolerance && red[39].abs_diff(10) <= tolerance);
            assert!(blue[0].abs_diff(10) <= tolerance && blue[39].abs_diff(200) <= tolerance);
        }
        let mut grey = Cursor::new(Vec::new());
        image::GrayImage::from_pixel(3, 2, image::Luma([77]))
            .write_to(&mut grey, ImageFormat::Png)
            .unwrap();
        assert_eq!(decode(&grey.into_inner()).unwrap().planes(), [77; 18]);
    }

    #[test]
    fn damaged_images_are_refused() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let noise = |x: u32, y: u32| [(x * 37 + y * 11) as u8, (x * y) as u8, (x ^ y) as u8];
            let whole = encode(64, 64, format, noise);
            for cut in [3, 20, whole.len() / 2, whole.len() - 30, whole.len() - 1] {
                // The last bytes of a PNG carry no pixels.
                if format == ImageFormat::Png && cut > whole.len() - 12 {
                    continue;
                }
                let error = decode(&whole[..cut]).unwrap_err();
                assert!(error.starts_with("p.jpg: the image cannot be decoded"), "{error}");
            }
        }
        assert!(decode(b"GIF89a not wanted").is_err());
        assert!(decode(b"").is_err());
        // A preview's end marker does not make the image complete.
        assert!(!jpeg_is_complete(&[0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 1, 2, 3]));
    }

    #[test]
    fn the_middle_square_is_taken_from_the_middle() {
        let thirds = |x: u32, _| [(x / 100) as u8 * 100, 0, 0];
        let picture = decode(&encode(300, 100, ImageFormat::Png, thirds)).unwrap();
        let square = picture.center_square(70);
        assert_eq!((square.width(), square.height()), (70, 70));
        assert!(square.planes()[..4900].iter().all(|red| *red == 100));
        // As small as a pixel: nothing divides by zero or reaches over the edge.
        for (width, height) in [(1, 1), (1, 9), (500, 3)] {
            let picture = decode(&encode(width, height, ImageFormat::Png, halves)).unwrap();
            assert_eq!(picture.center_square(7).planes().len(), 3 * 49);
        }
    }
}
