//! Axes: from values to places, and where ticks stand.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// From values to places along an axis, linear or logarithmic.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    log: bool,
    /// The ends, as places.
    pub(super) start: f64,
    pub(super) end: f64,
    /// Where ticks stand, as places.
    pub(super) ticks: Vec<f64>,
    /// Digits behind the point of a tick's label.
    digits: usize,
}

impl Axis {
    /// A linear axis from `start` to `end` with ticks at about `count` round values.
    pub(super) fn linear(start: f64, end: f64, count: usize) -> Self {
        let step = round_step((end - start) / count as f64);
        let digits = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((start / step - 1e-9).ceil(), (end / step + 1e-9).floor());
        let ticks = (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * step);
        Self { log: false, start, end, ticks: ticks.collect(), digits }
    }

    /// A linear axis that holds all values, with some room at the ends.
    pub(super) fn around(values: impl IntoIterator<Item = f64>, count: usize) -> Self {
        let (min, max) = ends(values).unwrap_or((0.0, 1.0));
        let room = match max > min {
            true => 0.06 * (max - min),
            false => (0.05 * max.abs()).max(1e-3),
        };
        Self::linear(min - room, max + room, count)
    }

    /// An axis for counted things, from 0, with ticks at whole numbers.
    pub(super) fn counted(end: f64, count: usize) -> Self {
        let mut axis = Self::linear(0.0, end.max(1.0), count);
        axis.ticks.retain(|tick| tick.fract() == 0.0);
        axis.digits = 0;
        axis
    }

    /// An axis of rows, from the top: row `i` of `count` is at `i + 0.5`.
    pub(super) fn rows(count: usize) -> Self {
        let ticks = (0..count).map(|i| i as f64 + 0.5).collect();
        Self { log: false, start: count as f64, end: 0.0, ticks, digits: 0 }
    }

    /// A logarithmic axis that holds all positive values, from decade to decade.
    pub(super) fn decades(values: impl IntoIterator<Item = f64>) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (min, max) = ends(positive).unwrap_or((0.1, 1.0));
        let start = (min.log10() + 1e-9).floor();
        let end = (max.log10() - 1e-9).ceil().max(start + 1.0);
        let step = ((end - start) / 8.0).ceil() as usize;
        let ticks = (0..=(end - start) as usize).step_by(step).map(|i| start + i as f64).collect();
        Self { log: true, start, end, ticks, digits: 0 }
    }

    /// Logarithmic where positive values span more than `decades`, else linear.
    pub(super) fn fitting(values: &[f64], decades: f64, count: usize) -> Self {
        match ends(values.iter().copied()) {
            Some((min, max)) if min > 0.0 && max / min > 10f64.powf(decades) => {
                let mut axis = Self::decades(values.iter().copied());
                // Whole decades may leave much of the plot empty.
                axis.start = axis.start.max(min.log10() - 0.1);
                axis.end = axis.end.min(max.log10() + 0.1);
                if axis.end - axis.start < 3.0 {
                    let marks =
                        (axis.start.floor() as i32..=axis.end.ceil() as i32).flat_map(|decade| {
                            [1.0, 2.0, 5.0].map(|m| f64::from(decade) + f64::log10(m))
                        });
                    axis.ticks = marks.collect();
                }
                let (start, end) = (axis.start, axis.end);
                axis.ticks.retain(|tick| (start..=end).contains(tick));
                axis
            }
            _ => Self::around(values.iter().copied(), count),
        }
    }

    /// The place of a value. What a logarithmic axis cannot show stands at its start.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.log {
            true if value > 0.0 => value.log10().max(self.start),
            true => self.start,
            false => value,
        }
    }

    /// Whether it is logarithmic.
    pub(super) fn is_log(&self) -> bool {
        self.log
    }

    /// The label of a tick.
    pub(super) fn label(&self, place: f64) -> String {
        if self.log {
            let decade = (place + 1e-9).floor();
            let mantissa = 10f64.powf(place - decade).round();
            let plain = (-3.0..=4.0).contains(&self.start) && self.end <= 5.0;
            return match plain {
                true => format!("{}", (mantissa * 10f64.powf(decade) * 1e3).round() / 1e3),
                false => format!("{mantissa}e{decade}").replace('-', "−"),
            };
        }
        // Not the minus sign of -0.
        let place = if place.abs() < 1e-12 { 0.0 } else { place };
        format!("{place:.*}", self.digits).replace('-', "−")
    }
}

/// For plotters an axis is one of places, with ticks where they are here.
impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (start, end): (i32, i32)) -> i32 {
        let share = (place - self.start) / (self.end - self.start);
        start + (share * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.start..self.end
    }
}

fn ends(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |ends, value| match ends {
        None => Some((value, value)),
        Some((min, max)) => Some((value.min(min), value.max(max))),
    })
}

/// The next of 1, 2, 5, 10, ... times a power of ten.
fn round_step(step: f64) -> f64 {
    let decade = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * decade >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * decade
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(labels(&Axis::linear(0.0, 1.0, 5)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Axis::linear(-0.3, 0.3, 4)), ["−0.2", "0.0", "0.2"]);
        assert_eq!(labels(&Axis::linear(0.9712, 0.9738, 4)), ["0.972", "0.973"]);
        assert_eq!(labels(&Axis::linear(0.0, 270.0, 5)), ["0", "100", "200"]);
        assert_eq!(labels(&Axis::counted(2.0, 10)), ["0", "1", "2"]);
        assert_eq!(
            labels(&Axis::counted(50.0, 10)),
            ["0", "5", "10", "15", "20", "25", "30", "35", "40", "45", "50"]
        );
    }

    #[test]
    fn decades_hold_all_positive_values() {
        let axis = Axis::decades([0.0, 3e-6, 0.02]);
        assert_eq!((axis.start, axis.end), (-6.0, -1.0));
        assert_eq!(labels(&axis), ["1e−6", "1e−5", "1e−4", "1e−3", "1e−2", "1e−1"]);
        assert_eq!((axis.place(0.0), axis.place(1e-9), axis.place(1e-3)), (-6.0, -6.0, -3.0));
        let none = Axis::decades([0.0]);
        assert!(none.end > none.start);
    }

    #[test]
    fn an_axis_is_logarithmic_where_values_span_decades() {
        assert!(!Axis::fitting(&[1.0, 9.0], 1.0, 5).is_log());
        assert!(!Axis::fitting(&[0.0, 9.0], 1.0, 5).is_log());
        let axis = Axis::fitting(&[0.02, 2.3], 1.0, 5);
        assert!(axis.is_log());
        assert_eq!(labels(&axis), ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]);
        let small = Axis::fitting(&[0.0004, 0.05], 1.0, 5);
        assert_eq!(labels(&small)[..4], ["5e−4", "1e−3", "2e−3", "5e−3"]);
        let flat = Axis::fitting(&[0.5], 1.0, 5);
        assert!(flat.start < 0.5 && flat.end > 0.5 && !flat.ticks.is_empty());
    }
}
