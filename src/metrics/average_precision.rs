use std::collections::BTreeMap;

use super::MetricError;
use super::boxes::{BoundingBox, Detection, by_descending_score, check, iou};

const NAME: &str = "mean average precision";
/// Detections of a class that are looked at in an image.
const MOST_DETECTIONS: usize = 100;
/// Intersections over union from which on a detection is a hit: 0.5 to 0.95.
const THRESHOLDS: usize = 10;
/// Places on the recall axis at which precision is read: 0 to 1.
const RECALLS: usize = 101;

/// A box that is really there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrueBox {
    /// What is in it.
    pub class: usize,
    /// Where it is.
    pub bounds: BoundingBox,
}

/// Mean average precision of detected boxes, from 0 to 1: mAP@0.5 and mAP@0.5:0.95 as COCO defines them
/// (T.-Y. Lin et al., ECCV 2014), for all sizes of boxes and without boxes that are to be ignored.
///
/// In each image, and for each class by itself, the 100 detections of the highest scores take the true boxes one after the
/// other: each takes the one that it overlaps most of those that are left, provided that their intersection over union
/// reaches the threshold. Such a detection is a hit, any other one a false alarm. All detections of a class, by descending
/// score, then give a precision and a recall after each of them:
///
/// ```text
/// precision = hits so far / detections so far      recall = hits so far / true boxes
/// AP  = (1/101) sum over R = 0, 0.01, ..., 1 of the highest precision at a recall of R or more (0 if there is none)
/// mAP = mean of AP over the classes that have a true box, and over thresholds (0.5; or 0.5, 0.55, ..., 0.95)
/// ```
///
/// Of equal scores, the detection that was added first comes first. Of equally good true boxes, the last one is taken.
/// Detections of a class without any true box do not count at all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeanAveragePrecision {
    classes: BTreeMap<usize, Class>,
}

/// What was seen of a class.
#[derive(Clone, Debug, Default, PartialEq)]
struct Class {
    true_boxes: u64,
    /// Each detection's score, and the thresholds at which it is a hit.
    detections: Vec<(f32, [bool; THRESHOLDS])>,
}

impl MeanAveragePrecision {
    /// Starts without images.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an image: what was found, in any order, and what is there. Both may be empty.
    ///
    /// # Errors
    ///
    /// Boxes with their corners in the wrong order, and numbers that are not finite.
    pub fn add(
        &mut self,
        detections: &[Detection],
        true_boxes: &[TrueBox],
    ) -> Result<(), MetricError> {
        for detection in detections {
            detection.check(NAME)?;
        }
        let mut truths: BTreeMap<usize, Vec<BoundingBox>> = BTreeMap::new();
        for TrueBox { class, bounds } in true_boxes {
            check(bounds)?;
            truths.entry(*class).or_default().push(*bounds);
        }
        let mut found: BTreeMap<usize, Vec<&Detection>> = BTreeMap::new();
        for index in by_descending_score(detections) {
            let best = found.entry(detections[index].class).or_default();
            if best.len() < MOST_DETECTIONS {
                best.push(&detections[index]);
            }
        }
        for (class, found) in found {
            let truth = truths.get(&class).map_or(&[][..], Vec::as_slice);
            self.classes.entry(class).or_default().detections.extend(hits(&found, truth));
        }
        for (class, truth) in truths {
            self.classes.entry(class).or_default().true_boxes += truth.len() as u64;
        }
        Ok(())
    }

    /// Adds what another accumulator has seen.
    pub fn merge(&mut self, other: &Self) {
        for (number, seen) in &other.classes {
            let class = self.classes.entry(*number).or_default();
            class.true_boxes += seen.true_boxes;
            class.detections.extend(&seen.detections);
        }
    }

    /// mAP@0.5.
    ///
    /// # Errors
    ///
    /// If no image had a true box (pycocotools gives -1 then).
    pub fn at_50(&self) -> Result<f64, MetricError> {
        self.mean(|precisions| precisions[0])
    }

    /// mAP@0.5:0.95, the mean over ten thresholds.
    ///
    /// # Errors
    ///
    /// If no image had a true box (pycocotools gives -1 then).
    pub fn at_50_95(&self) -> Result<f64, MetricError> {
        self.mean(|precisions| precisions.iter().sum::<f64>() / THRESHOLDS as f64)
    }

    /// The average precision of each class that has a true box, at thresholds of 0.5, 0.55, ..., 0.95.
    pub fn per_class(&self) -> BTreeMap<usize, [f64; THRESHOLDS]> {
        let with_truth = self.classes.iter().filter(|(_, class)| class.true_boxes > 0);
        with_truth.map(|(&number, class)| (number, class.average_precisions())).collect()
    }

    fn mean(&self, of: impl Fn(&[f64; THRESHOLDS]) -> f64) -> Result<f64, MetricError> {
        let classes = self.per_class();
        if classes.is_empty() {
            return Err(MetricError::NoExamples { metric: NAME, examples: "true box" });
        }
        Ok(classes.values().map(of).sum::<f64>() / classes.len() as f64)
    }
}

impl Class {
    fn average_precisions(&self) -> [f64; THRESHOLDS] {
        let mut detections = self.detections.clone();
        detections.sort_by(|a, b| b.0.partial_cmp(&a.0).expect("finite numbers have an order"));
        std::array::from_fn(|threshold| {
            let hits = detections.iter().map(|(_, hits)| hits[threshold]);
            average_precision(hits, self.true_boxes)
        })
    }
}

/// The intersection over union that a hit needs. The numbers are those of numpy's `linspace(0.5, 0.95, 10)` to the last bit,
/// which decides about boxes that overlap by exactly so much.
fn threshold(index: usize) -> f64 {
    0.5 + index as f64 * ((0.95 - 0.5) / (THRESHOLDS - 1) as f64)
}

/// Which detections of an image, by descending score, are hits at which threshold.
fn hits(
    detections: &[&Detection],
    truth: &[BoundingBox],
) -> impl Iterator<Item = (f32, [bool; THRESHOLDS])> {
    let mut taken = vec![[false; THRESHOLDS]; truth.len()];
    detections.iter().map(move |detection| {
        let overlaps: Vec<f64> =
            truth.iter().map(|bounds| iou(&detection.bounds, bounds)).collect();
        let hits = std::array::from_fn(|index| {
            let free = (0..truth.len()).filter(|&place| !taken[place][index]);
            // Of several maxima, `max_by` gives the last.
            let best = free
                .filter(|&place| overlaps[place] >= threshold(index))
                .max_by(|&a, &b| overlaps[a].total_cmp(&overlaps[b]));
            if let Some(place) = best {
                taken[place][index] = true;
            }
            best.is_some()
        });
        (detection.score, hits)
    })
}

/// The mean of the highest precision at each of the recalls or beyond, for detections by descending score.
fn average_precision(hits: impl Iterator<Item = bool>, true_boxes: u64) -> f64 {
    let mut found = 0_u64;
    let mut curve: Vec<(f64, f64)> = (1_u64..)
        .zip(hits)
        .map(|(seen, hit)| {
            found += u64::from(hit);
            // pycocotools adds an epsilon to the denominator; here it would only cost the last digit.
            (found as f64 / true_boxes as f64, found as f64 / seen as f64)
        })
        .collect();
    for place in (1..curve.len()).rev() {
        curve[place - 1].1 = curve[place - 1].1.max(curve[place].1);
    }
    let precision_at = |recall: f64| {
        let place = curve.partition_point(|&(reached, _)| reached < recall);
        curve.get(place).map_or(0.0, |&(_, precision)| precision)
    };
    // The recalls are those of numpy's `linspace(0, 1, 101)` to the last bit.
    let step = 1.0 / (RECALLS - 1) as f64;
    (0..RECALLS).map(|index| precision_at(index as f64 * step)).sum::<f64>() / RECALLS as f64
}

#[cfg(test)]
mod tests {
    use super::super::{assert_close, fixture};
    use super::*;

    #[derive(serde::Deserialize)]
    struct Case {
        name: String,
        images: Vec<Image>,
        at_50: f64,
        at_50_95: f64,
        per_class: Vec<(usize, [f64; THRESHOLDS])>,
    }

    #[derive(serde::Deserialize)]
    struct Image {
        truth: Vec<(usize, BoundingBox)>,
        detections: Vec<(usize, f32, BoundingBox)>,
    }

    impl Image {
        fn add_to(&self, metric: &mut MeanAveragePrecision) {
            let detections: Vec<Detection> = self
                .detections
                .iter()
                .map(|&(class, score, bounds)| Detection { class, score, bounds })
                .collect();
            let truth: Vec<TrueBox> =
                self.truth.iter().map(|&(class, bounds)| TrueBox { class, bounds }).collect();
            metric.add(&detections, &truth).unwrap();
        }
    }

    #[test]
    fn agrees_with_pycocotools() {
        let cases: Vec<Case> = fixture(include_str!("../../tests/data/metrics/detection.json"));
        assert_eq!(cases.len(), 17);
        for case in cases {
            let mut metric = MeanAveragePrecision::new();
            case.images.iter().for_each(|image| image.add_to(&mut metric));
            if case.at_50 == -1.0 {
                assert!(metric.at_50().is_err() && metric.at_50_95().is_err(), "{}", case.name);
            } else {
                assert_close(metric.at_50().unwrap(), case.at_50);
                assert_close(metric.at_50_95().unwrap(), case.at_50_95);
            }
            let found: Vec<_> = metric.per_class().into_iter().collect();
            assert_eq!(found.len(), case.per_class.len(), "{}", case.name);
            for ((class, found), (expected_class, expected)) in
                found.into_iter().zip(case.per_class)
            {
                assert_eq!(class, expected_class, "{}", case.name);
                for (found, expected) in found.into_iter().zip(expected) {
                    assert_close(found, expected);
                }
            }
        }
    }

    #[test]
    fn thresholds_are_those_of_numpy() {
        let expected = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.8999999999999999, 0.95];
        assert_eq!(std::array::from_fn(threshold), expected);
    }

    #[test]
    fn a_refused_image_leaves_no_trace() {
        let square = [0.0, 0.0, 10.0, 10.0];
        let fine = Detection { class: 0, score: 0.5, bounds: square };
        let mut metric = MeanAveragePrecision::new();
        assert_eq!(
            metric.at_50().unwrap_err().to_string(),
            "mean average precision is not defined without examples: no true box was added"
        );
        let nan = Detection { score: f32::NAN, ..fine };
        assert_eq!(
            metric.add(&[fine, nan], &[]).unwrap_err().to_string(),
            "mean average precision: the score of box [0.0, 0.0, 10.0, 10.0] of class 0 is NaN: a finite number is \
             expected; has the training diverged?"
        );
        let inverted = TrueBox { class: 0, bounds: [0.0, 10.0, 10.0, 0.0] };
        assert_eq!(
            metric.add(&[fine], &[inverted]).unwrap_err(),
            MetricError::Box { found: inverted.bounds }
        );
        assert_eq!(metric, MeanAveragePrecision::new());
    }
}
