//! Boxes: what a detector's numbers mean, and how much two boxes have in common.

use std::f64::consts::PI;

use burn::tensor::activation::sigmoid;
use burn::tensor::{Tensor, TensorData};

use super::Detector;

/// Sizes are at most e^4 times, and at least e^-4 times, those of the anchor.
const LARGEST_SIZE: f64 = 4.0;

/// Keeps quotients of areas and lengths finite; square pixels, or pixels.
const EPSILON: f64 = 1e-7;

impl Detector {
    /// The boxes that are predicted, in pixels: the centre lies sigmoid(tx), sigmoid(ty) of a
    /// cell's side into the cell, the size is exp(tw), exp(th) times the anchor's.
    ///
    /// # Shapes
    ///
    /// - output: what [`forward`](Self::forward) gave, `[batch, rows, columns, anchors, 5 + classes]`
    /// - result: `[batch, rows, columns, anchors, 4]`, left, top, right and bottom in pixels
    ///   from the image's upper left corner; they may lie outside of the image
    pub fn boxes(&self, output: &Tensor<5>) -> Tensor<5> {
        let [_, rows, columns, anchors, _] = output.dims();
        let device = output.device();
        let stride = self.stride as f32;
        let cells = (0..rows).flat_map(|y| (0..columns).map(move |x| [x, y]));
        let cells: Vec<f32> = cells.flatten().map(|cell| cell as f32 * stride).collect();
        let cells = TensorData::new(cells, [1, rows, columns, 1, 2]);
        let sizes = TensorData::new(self.anchors.concat(), [1, 1, 1, anchors, 2]);

        let place = sigmoid(output.clone().narrow(4, 0, 2)) * stride;
        let centre = place + Tensor::from_data(cells, &device);
        let factor = output.clone().narrow(4, 2, 2).clamp(-LARGEST_SIZE, LARGEST_SIZE).exp();
        let half = factor * Tensor::from_data(sizes, &device) * 0.5;
        Tensor::cat(vec![centre.clone() - half.clone(), centre + half], 4)
    }
}

/// Intersection over union of two boxes of the same centre.
pub(super) fn shape_iou(a: [f32; 2], b: [f32; 2]) -> f32 {
    let intersection = a[0].min(b[0]) * a[1].min(b[1]);
    intersection / (a[0] * a[1] + b[0] * b[1] - intersection)
}

/// Corners, one after the other.
struct Corners<const D: usize> {
    left: Tensor<D>,
    top: Tensor<D>,
    right: Tensor<D>,
    bottom: Tensor<D>,
}

impl<const D: usize> Corners<D> {
    /// Of boxes whose last dimension holds the corners; it keeps one element.
    fn new(boxes: Tensor<D>) -> Self {
        let [left, top, right, bottom] =
            std::array::from_fn(|index| boxes.clone().narrow(D - 1, index, 1));
        Self { left, top, right, bottom }
    }

    fn size(&self) -> (Tensor<D>, Tensor<D>) {
        (self.right.clone() - self.left.clone(), self.bottom.clone() - self.top.clone())
    }

    fn area(&self) -> Tensor<D> {
        let (width, height) = self.size();
        width * height
    }

    /// Intersection over union; shapes are broadcast.
    fn iou(&self, other: &Self) -> Tensor<D> {
        let overlap = |low: (&Tensor<D>, &Tensor<D>), high: (&Tensor<D>, &Tensor<D>)| {
            let low = low.0.clone().max_pair(low.1.clone());
            (high.0.clone().min_pair(high.1.clone()) - low).clamp_min(0.0)
        };
        let intersection = overlap((&self.left, &other.left), (&self.right, &other.right))
            * overlap((&self.top, &other.top), (&self.bottom, &other.bottom));
        let union = self.area() + other.area() - intersection.clone();
        intersection / (union + EPSILON)
    }
}

/// The largest intersection over union of each box of `boxes` with any box of `others`.
///
/// # Shapes
///
/// - boxes: `[batch, boxes, 4]`; others: `[batch, others, 4]`
/// - output: `[batch, boxes]`
pub(super) fn largest_iou(boxes: Tensor<3>, others: Tensor<3>) -> Tensor<2> {
    let [batch, count, _] = boxes.dims();
    let others_count = others.dims()[1];
    let boxes = boxes.reshape([batch, count, 1, 4]).expand([batch, count, others_count, 4]);
    let others =
        others.reshape([batch, 1, others_count, 4]).expand([batch, count, others_count, 4]);
    let iou = Corners::<4>::new(boxes).iou(&Corners::new(others));
    iou.squeeze_dim::<3>(3).max_dim(2).squeeze_dim::<2>(2)
}

/// Complete intersection over union of boxes that belong together (Zheng et al. 2019,
/// arXiv 1911.08287, equations 8 to 11): less for centres apart and for other proportions.
///
/// # Shapes
///
/// - boxes, others: `[boxes, 4]`
/// - output: `[boxes, 1]`, above -2 and at most 1
pub(super) fn complete_iou(boxes: Tensor<2>, others: Tensor<2>) -> Tensor<2> {
    let (a, b) = (Corners::new(boxes), Corners::new(others));
    let iou = a.iou(&b);
    let square = |x: Tensor<2>| x.clone() * x;

    // Twice the centre is the sum of the corners.
    let centre_x = (a.left.clone() + a.right.clone() - b.left.clone() - b.right.clone()) * 0.5;
    let centre_y = (a.top.clone() + a.bottom.clone() - b.top.clone() - b.bottom.clone()) * 0.5;
    let hull_width =
        a.right.clone().max_pair(b.right.clone()) - a.left.clone().min_pair(b.left.clone());
    let hull_height =
        a.bottom.clone().max_pair(b.bottom.clone()) - a.top.clone().min_pair(b.top.clone());
    let distance = (square(centre_x) + square(centre_y))
        / (square(hull_width) + square(hull_height) + EPSILON);

    let angle = |corners: &Corners<2>| {
        let (width, height) = corners.size();
        (width / (height + EPSILON)).atan()
    };
    let proportion = square(angle(&b) - angle(&a)) * (4.0 / (PI * PI));
    let weight = proportion.clone() / (iou.clone().neg() + 1.0 + proportion.clone() + EPSILON);
    iou - distance - weight.detach() * proportion
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Tolerance};

    fn boxes(corners: &[[f32; 4]]) -> Tensor<2> {
        let data = TensorData::new(corners.concat(), [corners.len(), 4]);
        Tensor::from_data(data, &Device::default())
    }

    #[test]
    fn complete_iou_follows_the_formula() {
        let a = [[0.0, 0.0, 4.0, 2.0], [1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0]];
        let b = [[2.0, 0.0, 6.0, 2.0], [1.0, 1.0, 3.0, 3.0], [3.0, 4.0, 5.0, 8.0]];
        let found = complete_iou(boxes(&a), boxes(&b)).into_data();
        // The first pair shares 4 of 12 square pixels, has centres 2 apart in a hull of 6 x 2, and
        // the same proportions. The third shares nothing: centres (0.5, 0.5) and (4, 6) in a hull
        // of 5 x 8, proportions 1 and 1/2.
        let v = 4.0 / (PI * PI) * (1f64.atan() - 0.5f64.atan()).powi(2);
        let third = -(3.5f64.powi(2) + 5.5f64.powi(2)) / 89.0 - v * v / (1.0 + v);
        let expected = [1.0 / 3.0 - 4.0 / 40.0, 1.0, third].map(|v| v as f32);
        let expected = TensorData::new(expected.to_vec(), [3, 1]);
        found.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
    }

    #[test]
    fn boxes_without_area_stay_finite() {
        let point = [[2.0, 2.0, 2.0, 2.0]];
        let found = complete_iou(boxes(&point), boxes(&point)).into_scalar::<f32>();
        assert!(found.abs() < 1e-5, "{found}");
    }

    #[test]
    fn largest_iou_is_that_of_the_nearest_box() {
        let a = boxes(&[[0.0, 0.0, 2.0, 2.0], [8.0, 8.0, 9.0, 9.0]]).unsqueeze_dim::<3>(0);
        let b = [[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]];
        let found = largest_iou(a, boxes(&b).unsqueeze_dim::<3>(0)).into_data();
        found.assert_approx_eq::<f32>(&TensorData::from([[1f32, 0.0]]), Tolerance::absolute(1e-5));
    }

    #[test]
    fn shape_iou_compares_sizes_only() {
        assert_eq!(shape_iou([2.0, 4.0], [2.0, 4.0]), 1.0);
        assert_eq!(shape_iou([2.0, 2.0], [4.0, 1.0]), 2.0 / 6.0);
    }
}
