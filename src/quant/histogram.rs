//! How values lie about the levels that they are rounded to.

use multiversion::multiversion;

/// Bins of a histogram.
const BINS: usize = 128;

/// How the float values of one tensor lie about the levels of its coding.
///
/// Values are divided by their scale first, so that tensors with many scales have one set of levels. The bins are
/// of equal width and reach an eighth of the levels' extent beyond them; what lies farther out is counted at the
/// ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    low: f32,
    high: f32,
    /// Bins in a unit.
    density: f32,
    /// What lies below the bins, each bin, and what lies above them.
    counts: Box<[u64; BINS + 2]>,
    scales: Option<(f32, f32)>,
}

impl Histogram {
    /// An empty histogram for levels from `lowest` to `highest`.
    pub fn about(lowest: f32, highest: f32) -> Self {
        let margin = (highest - lowest) / 8.0;
        let (low, high) = (lowest - margin, highest + margin);
        Self {
            low,
            high,
            density: BINS as f32 / (high - low),
            counts: Box::new([0; BINS + 2]),
            scales: None,
        }
    }

    /// Notes the scales that the values to come are divided by.
    pub fn note_scales(&mut self, scales: &[f32]) {
        for &scale in scales {
            let (min, max) = self.scales.unwrap_or((scale, scale));
            self.scales = Some((min.min(scale), max.max(scale)));
        }
    }

    /// Adds a value that was divided by its scale. NaN counts as below the bins.
    ///
    /// Which values come next cannot be foreseen, so there is no branch on them.
    #[inline]
    pub fn record(&mut self, x: f32) {
        self.counts[self.place(x)] += 1;
    }

    #[inline(always)]
    fn place(&self, x: f32) -> usize {
        (((x - self.low) * self.density + 1.0) as u32).min(BINS as u32 + 1) as usize
    }

    /// Adds values of one scale, by its inverse, and one zero point.
    pub fn record_run(&mut self, values: &[f32], inverse: f32, zero_point: f32) {
        count_run(self, values, inverse, zero_point);
    }

    /// One about the same levels that holds nothing.
    pub fn emptied(&self) -> Self {
        Self { counts: Box::new([0; BINS + 2]), scales: None, ..*self }
    }

    /// Adds what another histogram about the same levels holds.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.extent(), other.extent(), "histograms about different levels");
        self.counts.iter_mut().zip(other.counts.iter()).for_each(|(sum, count)| *sum += count);
        if let Some((min, max)) = other.scales {
            self.note_scales(&[min, max]);
        }
    }

    /// Where the first bin begins and the last one ends, in units of the scale.
    pub fn extent(&self) -> (f32, f32) {
        (self.low, self.high)
    }

    /// Values in each bin, from the lowest.
    pub fn counts(&self) -> &[u64] {
        &self.counts[1..=BINS]
    }

    /// Values below the first bin, and those above the last one.
    pub fn outside(&self) -> (u64, u64) {
        (self.counts[0], self.counts[BINS + 1])
    }

    /// The smallest and the largest scale; none before any value was seen.
    pub fn scales(&self) -> Option<(f32, f32)> {
        self.scales
    }
}

/// [`Histogram::record_run`], a function of its own to be compiled for several processors.
///
/// Neighbours are counted apart from each other, since equal ones, such as zeros after a ReLU, would wait for one
/// another.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl",
    "x86_64+avx2+fma",
    "aarch64+neon"
))]
fn count_run(histogram: &mut Histogram, values: &[f32], inverse: f32, zero_point: f32) {
    const LANES: usize = 16;
    const APART: usize = 4;
    let mut counts = [[0_u64; BINS + 2]; APART];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        let mut places = [0; LANES];
        for (place, x) in places.iter_mut().zip(chunk) {
            *place = histogram.place(x * inverse + zero_point);
        }
        for (lane, place) in places.into_iter().enumerate() {
            counts[lane % APART][place] += 1;
        }
    }
    for counts in counts {
        histogram.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
    }
    rest.iter().for_each(|x| histogram.record(x * inverse + zero_point));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_counted_once_where_it_lies() {
        // From -5 to 5 in bins of 10/128.
        let mut histogram = Histogram::about(-4.0, 4.0);
        assert_eq!(histogram.extent(), (-5.0, 5.0));
        let values = [-5.0, -5.001, -0.01, 0.0, 0.07, 0.08, 4.999, 5.0];
        let others = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
        values.into_iter().chain(others).for_each(|x| histogram.record(x));
        assert_eq!(histogram.outside(), (3, 2));
        let filled = histogram.counts().iter().enumerate().filter(|(_, count)| **count > 0);
        let filled: Vec<_> = filled.map(|(bin, count)| (bin, *count)).collect();
        assert_eq!(filled, [(0, 1), (63, 1), (64, 2), (65, 1), (127, 1)]);
    }

    #[test]
    fn a_run_counts_as_its_values_do() {
        let values: Vec<f32> = (-40..57).map(|i| i as f32 * 0.7).chain([f32::NAN]).collect();
        let (mut run, mut each) = (Histogram::about(-4.0, 4.0), Histogram::about(-4.0, 4.0));
        run.record_run(&values, 0.25, 1.0);
        values.iter().for_each(|x| each.record(x * 0.25 + 1.0));
        assert_eq!(run, each);
        assert_eq!(each.counts().iter().sum::<u64>() + each.outside().0 + each.outside().1, 98);
    }

    #[test]
    fn merging_parts_gives_the_whole() {
        let values = [-9.0, -3.0, -0.5, 0.0, 0.0, 1.5, 4.0, 7.0];
        let of = |values: &[f32], scales: &[f32]| {
            let mut histogram = Histogram::about(-4.0, 4.0);
            histogram.note_scales(scales);
            values.iter().for_each(|&x| histogram.record(x));
            histogram
        };
        let mut parts = of(&values[..3], &[2.0]);
        parts.merge(&of(&values[3..], &[0.5]));
        assert_eq!(parts, of(&values, &[0.5, 2.0]));
        parts.merge(&of(&[], &[]));
        assert_eq!(parts, of(&values, &[0.5, 2.0]));
    }

    #[test]
    fn scales_are_noted_over_all_batches() {
        let mut histogram = Histogram::about(0.0, 1.0);
        assert_eq!(histogram.scales(), None);
        histogram.note_scales(&[0.5, 2.0]);
        histogram.note_scales(&[1.0, 0.25]);
        assert_eq!(histogram.scales(), Some((0.25, 2.0)));
    }
}
