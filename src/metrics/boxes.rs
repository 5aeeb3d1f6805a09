//! Boxes that detectors find: their overlap, and non-maximum suppression.

use super::MetricError;

/// The corners of a box, `[x1, y1, x2, y2]` with `x1 <= x2` and `y1 <= y2`, in any unit of length.
pub type BoundingBox = [f32; 4];

/// A box that a detector found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Detection {
    /// What is in it.
    pub class: usize,
    /// How sure the detector is; only the order matters.
    pub score: f32,
    /// Where it is.
    pub bounds: BoundingBox,
}

impl Detection {
    pub(super) fn check(&self, metric: &'static str) -> Result<(), MetricError> {
        MetricError::check_finite(metric, self.score, || {
            format!("the score of box {:?} of class {}", self.bounds, self.class)
        })?;
        check(&self.bounds)
    }
}

/// Refuses a box with numbers that are not finite or with its corners in the wrong order.
pub(super) fn check(bounds: &BoundingBox) -> Result<(), MetricError> {
    let [x1, y1, x2, y2] = *bounds;
    if bounds.iter().all(|number| number.is_finite()) && x1 <= x2 && y1 <= y2 {
        return Ok(());
    }
    Err(MetricError::Box { found: *bounds })
}

/// Intersection over union: the area that two boxes share, divided by the area that they cover together, from 0 to 1.
///
/// Boxes are continuous (a box from 0 to 10 is 10 wide, not 11), as in COCO. It is 0 if they share no area, also for two
/// boxes without any.
pub fn iou(a: &BoundingBox, b: &BoundingBox) -> f64 {
    let [a, b] = [a, b].map(|bounds| bounds.map(f64::from));
    let area = |[x1, y1, x2, y2]: [f64; 4]| (x2 - x1) * (y2 - y1);
    let width = a[2].min(b[2]) - a[0].max(b[0]);
    let height = a[3].min(b[3]) - a[1].max(b[1]);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    let shared = width * height;
    shared / (area(a) + area(b) - shared)
}

/// Non-maximum suppression: the places of the detections that remain, by descending score.
///
/// From the highest score down, a detection is dropped if its [`iou`] with a kept one of its own class is above
/// `iou_threshold`; other classes do not matter. Of equal scores, the detection that comes first is looked at first. It
/// is what torchvision calls `batched_nms`.
///
/// # Errors
///
/// A threshold that is not within 0 to 1, boxes with their corners in the wrong order, and numbers that are not finite.
pub fn nms(detections: &[Detection], iou_threshold: f64) -> Result<Vec<usize>, MetricError> {
    if !(0.0..=1.0).contains(&iou_threshold) {
        return Err(MetricError::IouThreshold { given: iou_threshold });
    }
    for detection in detections {
        detection.check("non-maximum suppression")?;
    }
    let mut kept: Vec<usize> = Vec::new();
    for candidate in by_descending_score(detections) {
        let Detection { class, bounds, .. } = &detections[candidate];
        let suppressed = kept
            .iter()
            .map(|&other| &detections[other])
            .any(|other| other.class == *class && iou(&other.bounds, bounds) > iou_threshold);
        if !suppressed {
            kept.push(candidate);
        }
    }
    Ok(kept)
}

/// Places from the highest score to the lowest; equal scores keep their order. Scores have to be finite.
pub(super) fn by_descending_score(detections: &[Detection]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..detections.len()).collect();
    order.sort_by(|&a, &b| {
        let order = detections[b].score.partial_cmp(&detections[a].score);
        order.expect("finite numbers have an order")
    });
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(class: usize, score: f32, bounds: BoundingBox) -> Detection {
        Detection { class, score, bounds }
    }

    #[test]
    fn overlaps() {
        let square = [0.0, 0.0, 10.0, 10.0];
        for (other, expected) in [
            (square, 1.0),
            ([0.0, 0.0, 5.0, 10.0], 0.5),
            ([5.0, 0.0, 15.0, 10.0], 1.0 / 3.0),
            ([5.0, 5.0, 15.0, 15.0], 25.0 / 175.0),
            ([2.0, 2.0, 4.0, 4.0], 0.04),
            ([10.0, 0.0, 20.0, 10.0], 0.0),
            ([0.0, 30.0, 10.0, 40.0], 0.0),
            ([5.0, 5.0, 5.0, 5.0], 0.0),
        ] {
            assert_eq!(iou(&square, &other), expected, "{other:?}");
            assert_eq!(iou(&other, &square), expected, "{other:?}");
        }
        assert_eq!(iou(&[5.0; 4], &[5.0; 4]), 0.0);
    }

    #[test]
    fn keeps_the_best_of_a_heap() {
        // Four boxes in a row, each 10 wide and shifted by 2: neighbours overlap by 8/12, next but one by 6/14.
        let row: Vec<Detection> = [(0.7, 0.0), (0.9, 2.0), (0.8, 4.0), (0.6, 6.0)]
            .map(|(score, x)| detection(0, score, [x, 0.0, x + 10.0, 10.0]))
            .to_vec();
        assert_eq!(nms(&row, 0.5).unwrap(), [1, 3], "0.6 overlaps with the dropped 0.8 only");
        assert_eq!(nms(&row, 0.4).unwrap(), [1], "6/14 is above 0.4");
        assert_eq!(nms(&row, 0.7).unwrap(), [1, 2, 0, 3]);
        assert_eq!(nms(&[], 0.5).unwrap(), [] as [usize; 0]);
    }

    #[test]
    fn classes_do_not_suppress_each_other() {
        let square = [0.0, 0.0, 10.0, 10.0];
        let found = [
            detection(3, 0.25, square),
            detection(1, 0.5, square),
            detection(3, 0.75, square),
            detection(1, 0.5, square),
        ];
        assert_eq!(nms(&found, 0.5).unwrap(), [2, 1]);
    }

    #[test]
    fn only_more_than_the_threshold_suppresses() {
        let half =
            [detection(0, 0.9, [0.0, 0.0, 10.0, 10.0]), detection(0, 0.8, [0.0, 0.0, 5.0, 10.0])];
        assert_eq!(nms(&half, 0.5).unwrap(), [0, 1]);
        assert_eq!(nms(&half, 0.499).unwrap(), [0]);
        let same = [detection(0, 0.9, [0.0, 0.0, 1.0, 1.0]); 2];
        assert_eq!(nms(&same, 1.0).unwrap(), [0, 1]);
        let apart = [detection(0, 0.9, [0.0; 4]), detection(0, 0.8, [1.0; 4])];
        assert_eq!(nms(&apart, 0.0).unwrap(), [0, 1]);
    }

    #[test]
    fn refuses_what_cannot_be_compared() {
        let message =
            |found: Detection, threshold| nms(&[found], threshold).unwrap_err().to_string();
        let square = [0.0, 0.0, 10.0, 10.0];
        assert_eq!(
            message(detection(2, f32::NAN, square), 0.5),
            "non-maximum suppression: the score of box [0.0, 0.0, 10.0, 10.0] of class 2 is NaN: a finite number is \
             expected; has the training diverged?"
        );
        let inverted = "box [5.0, 0.0, 1.0, 10.0]: expected [x1, y1, x2, y2] with finite numbers, x1 <= x2 and y1 <= y2";
        assert_eq!(message(detection(0, 1.0, [5.0, 0.0, 1.0, 10.0]), 0.5), inverted);
        assert!(nms(&[detection(0, 1.0, [0.0, 0.0, f32::INFINITY, 1.0])], 0.5).is_err());
        for threshold in [-0.1, 1.1, f64::NAN] {
            assert_eq!(
                message(detection(0, 1.0, square), threshold),
                format!(
                    "a threshold of {threshold} for the intersection over union is not possible: 0 to 1 is"
                )
            );
        }
    }
}
