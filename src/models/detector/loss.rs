//! Which cell answers for which object, and the loss.

use std::collections::HashSet;

use burn::tensor::activation::relu;
use burn::tensor::{Int, Tensor, TensorData};

use super::boxes::{complete_iou, largest_iou, shape_iou};
use super::{BOX_VALUES, Detector};
use crate::metrics::TrueBox;

/// What the loss of boxes is multiplied with.
const BOX_WEIGHT: f64 = 2.0;

/// A predicted box that has so much in common with some object, but does not answer for it, is no
/// mistake (Redmon and Farhadi 2018, section 2.1).
const IGNORED_IOU: f64 = 0.5;

/// The parts of a detector's loss, each for one object on average, `[1]`.
#[derive(Clone, Debug)]
pub struct DetectorLoss {
    /// 1 - complete intersection over union of the boxes that answer for an object.
    pub boxes: Tensor<1>,
    /// Binary cross-entropy of objectness over all cells and anchors.
    pub objectness: Tensor<1>,
    /// Binary cross-entropy of the classes of the boxes that answer for an object.
    pub classes: Tensor<1>,
}

impl DetectorLoss {
    /// What is minimized.
    pub fn total(&self) -> Tensor<1> {
        self.boxes.clone() * BOX_WEIGHT + self.objectness.clone() + self.classes.clone()
    }
}

/// The objects of a batch, and the places that answer for them.
#[derive(Debug, Default, PartialEq)]
struct Assignment {
    /// Indices into `[batch, rows, columns, anchors]`, flat; no two are the same.
    places: Vec<usize>,
    /// The object of each place.
    objects: Vec<TrueBox>,
}

impl Detector {
    /// The loss of a batch.
    ///
    /// Each object is learned by the cell that its centre lies in, and there by the anchor whose
    /// shape is nearest; where two objects ask for the same, the later one takes the next anchor,
    /// and is left out when all are taken.
    ///
    /// # Shapes
    ///
    /// - output: what [`forward`](Self::forward) gave, `[batch, rows, columns, anchors, 5 + classes]`
    /// - objects: those of each image, `batch` lists
    ///
    /// # Panics
    ///
    /// If there are not as many lists as images, or an object is of no class of the model.
    pub fn loss(&self, output: Tensor<5>, objects: &[Vec<TrueBox>]) -> DetectorLoss {
        let [batch, rows, columns, anchors, outputs] = output.dims();
        assert_eq!(objects.len(), batch, "a list of objects for each image");
        let in_range = |object: &TrueBox| object.class < self.classes;
        assert!(objects.iter().flatten().all(in_range), "every object is of a class of the model");

        let device = output.device();
        let per_image = rows * columns * anchors;
        let count = batch * per_image;
        let assigned = self.assign(objects, [rows, columns]);
        let positives = assigned.places.len();
        let divisor = positives.max(1) as f64;

        let boxes = self.boxes(&output).reshape([batch, per_image, 4]);
        let flat = output.reshape([count, outputs]);
        let mut targets = vec![0f32; count];
        assigned.places.iter().for_each(|&place| targets[place] = 1.0);
        let targets = Tensor::<2>::from_data(TensorData::new(targets, [count, 1]), &device);
        let ignored = ignored(boxes.clone().detach(), objects).reshape([count, 1]);
        let counted = (ignored.neg() + 1.0).max_pair(targets.clone());
        let logits = flat.clone().narrow(1, BOX_VALUES - 1, 1);
        let objectness = (cross_entropy(logits, targets) * counted).sum() / divisor;
        if positives == 0 {
            let zero = Tensor::zeros([1], &device);
            return DetectorLoss { boxes: zero.clone(), objectness, classes: zero };
        }

        let places: Vec<i64> = assigned.places.iter().map(|&place| place as i64).collect();
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &device);
        let corners: Vec<f32> = assigned.objects.iter().flat_map(|object| object.bounds).collect();
        let corners = Tensor::from_data(TensorData::new(corners, [positives, 4]), &device);
        let predicted = boxes.reshape([count, 4]).select(0, places.clone());
        let boxes = (complete_iou(predicted, corners).neg() + 1.0).sum() / divisor;

        let mut classes = vec![0f32; positives * self.classes];
        for (index, object) in assigned.objects.iter().enumerate() {
            classes[index * self.classes + object.class] = 1.0;
        }
        let classes = TensorData::new(classes, [positives, self.classes]);
        let logits = flat.narrow(1, BOX_VALUES, self.classes).select(0, places);
        let classes = cross_entropy(logits, Tensor::from_data(classes, &device)).sum() / divisor;
        DetectorLoss { boxes, objectness, classes }
    }

    fn assign(&self, objects: &[Vec<TrueBox>], [rows, columns]: [usize; 2]) -> Assignment {
        let mut assigned = Assignment::default();
        let mut taken = HashSet::new();
        for (image, objects) in objects.iter().enumerate() {
            for object in objects {
                let [left, top, right, bottom] = object.bounds;
                let cell = |low: f32, high: f32, cells: usize| {
                    // A float that is negative or NaN becomes 0.
                    let cell = ((low + high) / 2.0 / self.stride as f32) as usize;
                    cell.min(cells - 1)
                };
                let (row, column) = (cell(top, bottom, rows), cell(left, right, columns));
                let size = [right - left, bottom - top];
                let mut order: Vec<usize> = (0..self.anchors.len()).collect();
                order.sort_by(|&a, &b| {
                    let iou = |anchor: usize| shape_iou(self.anchors[anchor], size);
                    iou(b).total_cmp(&iou(a))
                });
                let first = ((image * rows + row) * columns + column) * self.anchors.len();
                let free = order.into_iter().find(|&anchor| taken.insert(first + anchor));
                if let Some(anchor) = free {
                    assigned.places.push(first + anchor);
                    assigned.objects.push(*object);
                }
            }
        }
        assigned
    }
}

/// 1 where a box has much in common with some object of its image, 0 elsewhere.
///
/// # Shapes
///
/// - boxes: `[batch, boxes, 4]`
/// - output: `[batch, boxes]`
fn ignored(boxes: Tensor<3>, objects: &[Vec<TrueBox>]) -> Tensor<2> {
    // Boxes without area fill the lists up to the longest.
    let most = objects.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let mut corners = vec![[0f32; 4]; objects.len() * most];
    for (image, objects) in objects.iter().enumerate() {
        for (index, object) in objects.iter().enumerate() {
            corners[image * most + index] = object.bounds;
        }
    }
    let corners = TensorData::new(corners.concat(), [objects.len(), most, 4]);
    let corners = Tensor::from_data(corners, &boxes.device());
    largest_iou(boxes, corners).greater_scalar(IGNORED_IOU).float()
}

/// Binary cross-entropy of logits, for each element.
fn cross_entropy(logits: Tensor<2>, targets: Tensor<2>) -> Tensor<2> {
    let tail = logits.clone().abs().neg().exp().log1p();
    relu(logits.clone()) - logits * targets + tail
}

#[cfg(test)]
mod tests {
    use super::super::DetectorConfig;
    use super::*;
    use burn::tensor::{Device, Tolerance};

    fn object(bounds: [f32; 4], class: usize) -> TrueBox {
        TrueBox { class, bounds }
    }

    fn detector() -> Detector {
        let anchors = vec![[8.0, 8.0], [16.0, 8.0]];
        let config = DetectorConfig { stride: 8, width: 2, depth: 0, anchors };
        config.init(1, 2, &Device::default())
    }

    #[test]
    fn objects_go_to_the_cell_of_their_centre_and_the_nearest_anchor() {
        let wide = object([9.0, 1.0, 25.0, 8.0], 0); // centre (17, 4.5)
        let square = object([0.0, 16.0, 7.0, 24.0], 1); // centre (3.5, 20)
        let outside = object([60.0, 60.0, 70.0, 70.0], 1);
        let images = [vec![wide, square], vec![], vec![wide, wide, wide, outside]];
        let found = detector().assign(&images, [3, 4]);
        let place = |image: usize, row: usize, column: usize, anchor: usize| {
            ((image * 3 + row) * 4 + column) * 2 + anchor
        };
        let expected = [
            (place(0, 0, 2, 1), wide),
            (place(0, 2, 0, 0), square),
            // The second of the same shape takes the other anchor, the third finds none.
            (place(2, 0, 2, 1), wide),
            (place(2, 0, 2, 0), wide),
            (place(2, 2, 3, 0), outside),
        ];
        let (places, objects) = expected.into_iter().unzip();
        assert_eq!(found, Assignment { places, objects });
    }

    #[test]
    fn loss_is_the_one_computed_by_hand() {
        let device = Device::default();
        let detector = detector();
        // One image of one cell, two anchors. The first anchor's box is exactly the object's.
        let numbers = [0.0, 0.0, 0.0, 0.0, 1.5, -1.0, 2.0, 0.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0];
        let output = Tensor::<1>::from_floats(numbers, &device).reshape([1, 1, 1, 2, 7]);
        let loss = detector.loss(output.clone(), &[vec![object([0.0, 0.0, 8.0, 8.0], 1)]]);
        let softplus = |x: f64| x.exp().ln_1p();
        // The second anchor's box, twice as wide, has 64 of 128 pixels in common: not ignored.
        let expected = [0.0, softplus(-1.5) + softplus(-2.0), softplus(-1.0) + softplus(-2.0)];
        let found = [&loss.boxes, &loss.objectness, &loss.classes];
        for (found, expected) in found.iter().zip(expected) {
            let found = f64::from((*found).clone().into_scalar::<f32>());
            assert!((found - expected).abs() < 1e-5, "{found} instead of {expected}");
        }
        let total = f64::from(loss.total().into_scalar::<f32>());
        assert!((total - expected.iter().sum::<f64>()).abs() < 1e-5);

        // Of a wider object that the second anchor answers for, the first has more than half.
        let loss = detector.loss(output.clone(), &[vec![object([-1.0, 0.0, 12.0, 8.0], 1)]]);
        let found = f64::from(loss.objectness.into_scalar::<f32>());
        assert!((found - softplus(2.0)).abs() < 1e-5, "{found}");

        // Without objects every cell has to stay silent.
        let loss = detector.loss(output, &[vec![]]);
        let found = f64::from(loss.total().into_scalar::<f32>());
        assert!((found - softplus(1.5) - softplus(-2.0)).abs() < 1e-5, "{found}");
    }

    #[test]
    fn cross_entropy_of_large_logits_is_finite() {
        let device = Device::default();
        let logits = Tensor::<2>::from_floats([[100.0, -100.0, 0.0]], &device);
        let targets = Tensor::<2>::from_floats([[0.0, 0.0, 1.0]], &device);
        let expected = TensorData::from([[100f32, 0.0, std::f32::consts::LN_2]]);
        let found = cross_entropy(logits, targets).into_data();
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }
}
