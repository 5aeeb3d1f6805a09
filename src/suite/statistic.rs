//! Mean and deviation over seeds.

use serde::Serialize;

use crate::tasks::sample_deviation;

/// A figure over some seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Statistic {
    /// Its mean.
    pub mean: f64,
    /// Its standard deviation as estimated from the seeds; absent for a single one.
    pub deviation: Option<f64>,
    /// Seeds.
    pub seeds: usize,
}

impl Statistic {
    /// Of some values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let seeds = values.len();
        let mean = values.iter().sum::<f64>() / seeds as f64;
        (seeds > 0).then(|| Self { mean, deviation: sample_deviation(values), seeds })
    }
}

/// The standard error of a part `p` of `n` independent examples: `sqrt(p (1 - p) / n)`.
pub(super) fn binomial_error(p: f64, n: usize) -> f64 {
    (p * (1.0 - p) / n as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_deviation_are_those_of_the_sample() {
        assert_eq!(Statistic::of(&[]), None);
        let one = Statistic { mean: 3.0, deviation: None, seeds: 1 };
        assert_eq!(Statistic::of(&[3.0]), Some(one));
        // (2 - 4)^2 + 0 + (6 - 4)^2 = 8, over 2 is 4.
        let three = Statistic { mean: 4.0, deviation: Some(2.0), seeds: 3 };
        assert_eq!(Statistic::of(&[2.0, 4.0, 6.0]), Some(three));
        let same = Statistic { mean: 1.5, deviation: Some(0.0), seeds: 2 };
        assert_eq!(Statistic::of(&[1.5, 1.5]), Some(same));
    }

    #[test]
    fn the_standard_error_of_a_part_is_binomial() {
        assert_eq!(binomial_error(0.5, 100), 0.05);
        assert_eq!(binomial_error(1.0, 10), 0.0);
        assert!((binomial_error(0.9, 360) - 0.015_811_388).abs() < 1e-9);
    }
}
