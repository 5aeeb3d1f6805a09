//! What a model's examples measure together, and how sure that is.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{Measure, Meter, Score};
use crate::metrics::MetricError;

/// How often the examples are drawn anew: standard errors come out within about 7 %, 1 / sqrt(2 n).
const RESAMPLES: usize = 100;

/// All measures over meters of one example each, with their standard errors.
///
/// Those are of the bootstrap (B. Efron 1979, "Bootstrap methods: another look at the jackknife"): the deviation of a
/// measure over sets of as many examples, drawn from them with replacement. The draw is the same every time. None for
/// fewer than two examples, and where a measure is not defined for a set that was drawn.
///
/// # Errors
///
/// A metric that is not defined for the examples.
pub(super) fn score<M: Meter>(empty: &M, seen: &[M]) -> Result<Score, MetricError> {
    let whole = merged(empty, seen.iter());
    let measures = whole.measures()?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut resample = || {
        let drawn = (0..seen.len()).map(|_| &seen[rng.random_range(0..seen.len())]);
        Some(merged(empty, drawn).measures().ok()?.into_iter().map(|(_, value)| value).collect())
    };
    let resampled: Option<Vec<Vec<f64>>> =
        if seen.len() < 2 { None } else { (0..RESAMPLES).map(|_| resample()).collect() };
    let standard_error = |index: usize| {
        let values: Vec<f64> = resampled.as_ref()?.iter().map(|values| values[index]).collect();
        sample_deviation(&values).filter(|deviation| deviation.is_finite())
    };
    let measures = measures.into_iter().enumerate();
    let measures: Vec<Measure> = measures
        .map(|(index, (name, value))| Measure {
            name: name.to_string(),
            value,
            standard_error: standard_error(index),
        })
        .collect();
    let resampled = match (&resampled, measures[0].standard_error) {
        (Some(resampled), Some(_)) => resampled.iter().map(|values| values[0]).collect(),
        _ => Vec::new(),
    };
    Ok(Score { measures, examples: whole.examples(), resampled })
}

/// The standard error over the examples of a difference between two models, from what either measures over the same
/// draws ([`Score::resampled`]); none where one has no draws.
pub(crate) fn error_of_difference(
    from: &[f64],
    to: &[f64],
    difference: impl Fn(f64, f64) -> f64,
) -> Option<f64> {
    let pairs = from.iter().zip(to);
    let differences: Vec<f64> = pairs.map(|(from, to)| difference(*from, *to)).collect();
    match from.len() == to.len() {
        true => sample_deviation(&differences).filter(|deviation| deviation.is_finite()),
        false => None,
    }
}

fn merged<'a, M: Meter>(empty: &M, seen: impl Iterator<Item = &'a M>) -> M {
    let mut all = empty.clone();
    seen.for_each(|meter| all.merge(meter));
    all
}

/// The standard deviation as estimated from a sample, its squares divided by their number less one; none of
/// fewer than two values.
pub(crate) fn sample_deviation(values: &[f64]) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::resnet::ResNet;
    use crate::tasks::{
        ClassMetric, Classification, CorrelationMeter, LanguageModelling, Objective, Prediction,
        TextLoss,
    };

    fn seen<M: Meter>(empty: &M, examples: impl IntoIterator<Item = M::Example>) -> Vec<M> {
        let one = |example| {
            let mut meter = empty.clone();
            meter.add(&example).unwrap();
            meter
        };
        examples.into_iter().map(one).collect()
    }

    fn classes(metric: ClassMetric, right: usize, wrong: usize) -> Score {
        let empty = Classification::<ResNet>::new(metric).meter();
        let example = |i: usize| {
            let target = i % 2;
            let predicted = if i < right { target } else { 1 - target };
            let logits = vec![1.0 - predicted as f32, predicted as f32];
            Prediction { logits, target }
        };
        score(&empty, &seen(&empty, (0..right + wrong).map(example))).unwrap()
    }

    #[track_caller]
    fn within(found: Option<f64>, expected: f64, part: f64) {
        let found = found.expect("there is a standard error");
        assert!((found / expected - 1.0).abs() < part, "{found} instead of {expected}");
    }

    #[test]
    fn an_accuracy_has_the_binomial_standard_error() {
        let score = classes(ClassMetric::Accuracy, 450, 50);
        assert_eq!((score.measures[0].value, score.examples), (0.9, 500));
        // Three times what a hundred draws leave uncertain.
        within(score.measures[0].standard_error, (0.9_f64 * 0.1 / 500.0).sqrt(), 0.22);
        let sure = classes(ClassMetric::Accuracy, 20, 0);
        assert_eq!(sure.measures[0].standard_error, Some(0.0));
    }

    #[test]
    fn a_difference_on_the_same_examples_is_surer_than_that_of_others() {
        let empty = Classification::<ResNet>::new(ClassMetric::Accuracy).meter();
        // Of 400 examples the second model has 20 wrong besides the 80 that both have wrong.
        let resampled = |right: usize| -> Vec<f64> {
            let example = |i: usize| Prediction {
                logits: vec![0.0, if i < right { 1.0 } else { -1.0 }],
                target: 1,
            };
            score(&empty, &seen(&empty, (0..400).map(example))).unwrap().resampled
        };
        let (one, other) = (resampled(320), resampled(300));
        assert_eq!(one.len(), RESAMPLES);
        let paired = error_of_difference(&one, &other, |from, to| to - from);
        // Single examples differ by 1 in 20 of 400 cases, else by 0.
        within(paired, (0.05_f64 * 0.95 / 400.0).sqrt(), 0.25);
        assert_eq!(error_of_difference(&one, &one, |from, to| to - from), Some(0.0));
        assert_eq!(error_of_difference(&one, &[], |from, to| to - from), None);
    }

    #[test]
    fn every_measure_has_its_own() {
        let score = classes(ClassMetric::F1, 450, 50);
        let [f1, accuracy] = &score.measures[..] else { panic!("two measures") };
        assert_eq!((&*f1.name, &*accuracy.name), ("F1", "accuracy"));
        // With the error of precision and recall each sqrt(p (1 - p) / 250).
        within(f1.standard_error, (0.9_f64 * 0.1 / 500.0).sqrt(), 0.25);
        assert_ne!(f1.standard_error, accuracy.standard_error);
    }

    #[test]
    fn the_error_of_a_correlation_shrinks_with_the_root_of_the_examples() {
        let empty = CorrelationMeter::default();
        // Truth and noise of about the same spread: a correlation of about 0.7.
        let pair = |i: usize| {
            let noise = (i as f32 * 12.989_8).sin() * 43_758.547;
            let truth = (i % 100) as f32 / 100.0;
            (truth + noise - noise.floor() - 0.5, truth)
        };
        let score = |n: usize| score(&empty, &seen(&empty, (0..n).map(pair))).unwrap().measures;
        let (few, many) = (score(200), score(1800));
        // Fisher's (1 - r^2) / sqrt(n - 1) for Pearson's correlation of normal numbers.
        let r = many[1].value;
        within(many[1].standard_error, (1.0 - r * r) / 1800_f64.sqrt(), 0.4);
        within(few[0].standard_error, 3.0 * many[0].standard_error.unwrap(), 0.4);
    }

    #[test]
    fn what_is_not_defined_has_none() {
        let empty = LanguageModelling.meter();
        let loss = |nll| TextLoss { nll, words: 10 };
        let one = score(&empty, &seen(&empty, [loss(20.0)])).unwrap();
        assert_eq!(one.measures[0].standard_error, None, "of one example");
        assert!(one.resampled.is_empty());
        let two = score(&empty, &seen(&empty, [loss(20.0), loss(22.0)])).unwrap();
        assert!(two.measures[0].standard_error.is_some_and(|error| error > 0.0));
        // Where both of equal truth are drawn alone, there is no correlation.
        let empty = CorrelationMeter::default();
        let three = score(&empty, &seen(&empty, [(1.0, 2.0), (2.0, 2.0), (3.0, 5.0)])).unwrap();
        assert!((three.measures[0].value - 0.75f64.sqrt()).abs() < 1e-12);
        assert_eq!(three.measures[0].standard_error, None);
        let none = score(&empty, &[]);
        assert!(none.is_err(), "{none:?}");
    }
}
