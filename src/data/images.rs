//! Images of one size with a class each, in memory.

/// Images of one size with a class each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSet {
    /// Colour planes of an image: 1 or 3 (red, green, blue).
    pub channels: usize,
    /// Rows of a plane.
    pub height: usize,
    /// Columns of a plane.
    pub width: usize,
    /// Values 0 to 255, as `[image, channel, row, column]`.
    pub pixels: Vec<u8>,
    /// The class of each image.
    pub labels: Vec<u32>,
}

impl ImageSet {
    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of an image, as `[channel, row, column]`.
    ///
    /// # Panics
    ///
    /// If there is no such image.
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.channels * self.height * self.width;
        &self.pixels[index * size..][..size]
    }

    /// Mean and standard deviation of each channel over all images, of values divided by 255.
    pub fn channel_statistics(&self) -> Vec<(f64, f64)> {
        let plane = self.height * self.width;
        let mut sums = vec![(0_u64, 0_u64); self.channels];
        for (index, values) in self.pixels.chunks_exact(plane.max(1)).enumerate() {
            let (sum, squares) = &mut sums[index % self.channels];
            for value in values {
                *sum += u64::from(*value);
                *squares += u64::from(*value).pow(2);
            }
        }
        let count = (self.len() * plane) as f64;
        let statistics = |(sum, squares): (u64, u64)| {
            let mean = sum as f64 / count;
            (mean / 255.0, (squares as f64 / count - mean * mean).sqrt() / 255.0)
        };
        sums.into_iter().map(statistics).collect()
    }

    /// Puts the images of another set behind these. Both must have images of one size.
    pub(super) fn extend(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        debug_assert_eq!(
            (self.channels, self.height, self.width),
            (other.channels, other.height, other.width)
        );
        self.pixels.extend(other.pixels);
        self.labels.extend(other.labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_taken_per_channel() {
        let set = ImageSet {
            channels: 2,
            height: 1,
            width: 2,
            pixels: vec![0, 255, 51, 51, 255, 0, 51, 51],
            labels: vec![0, 1],
        };
        assert_eq!(set.image(1), [255, 0, 51, 51]);
        let [(first, first_deviation), (second, second_deviation)] = set.channel_statistics()[..]
        else {
            panic!("two channels")
        };
        assert!((first - 0.5).abs() < 1e-12 && (first_deviation - 0.5).abs() < 1e-12);
        assert!((second - 0.2).abs() < 1e-12 && second_deviation.abs() < 1e-6);
    }
}
