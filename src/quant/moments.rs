//! The moments of an input, as the products of a weight meet it.

use burn::tensor::Tensor;

use super::SiteKind;

/// Elements of the rows or windows of one batch at most; examples past it are left out.
const WINDOW_ELEMENTS: usize = 1 << 24;

/// A weight as the matrices that inputs are multiplied with: `[groups, inputs, outputs]`.
///
/// A linear layer's is itself. A convolution's inputs are the channels of its group times the
/// positions of its kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WeightMatrix {
    pub(crate) inputs: usize,
    /// Outputs of one group.
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
    /// Of a convolution; empty for a linear layer.
    kernel: Vec<usize>,
}

impl WeightMatrix {
    /// Of a weight whose input has `channels` (features or channels). None where there is no such
    /// matrix: a transposed convolution, whose outputs differ in what they sum over, and shapes
    /// that do not fit.
    pub(crate) fn new(kind: &SiteKind, channels: usize) -> Option<Self> {
        let SiteKind::Weight { shape, channel_axis, input_axis } = kind else { return None };
        match (&shape[..], channel_axis, input_axis) {
            (&[inputs, outputs], 1, 0) if inputs == channels => {
                Some(Self { inputs, outputs, groups: 1, kernel: Vec::new() })
            }
            ([outputs, of_group, kernel @ ..], 0, 1) if !kernel.is_empty() && kernel.len() <= 3 => {
                let groups = channels / of_group.max(&1);
                let fits = channels == groups * of_group && groups > 0 && outputs % groups == 0;
                fits.then(|| Self {
                    inputs: of_group * kernel.iter().product::<usize>(),
                    outputs: outputs / groups,
                    groups,
                    kernel: kernel.to_vec(),
                })
            }
            _ => None,
        }
    }

    /// Positions of a convolution's kernel.
    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// From a weight's row-major elements to those of its matrices.
    pub(crate) fn gather(&self, weight: &[f32]) -> Vec<f32> {
        (0..weight.len()).map(|i| weight[self.source(i)]).collect()
    }

    /// Where an element of the matrices lies in the weight.
    pub(crate) fn source(&self, index: usize) -> usize {
        if self.kernel.is_empty() {
            return index;
        }
        let (row, output) = (index / self.outputs, index % self.outputs);
        let (group, input) = (row / self.inputs, row % self.inputs);
        (group * self.outputs + output) * self.inputs + input
    }

    /// The output channel of an element of the matrices.
    pub(crate) fn channel(&self, index: usize) -> usize {
        index / (self.inputs * self.outputs) * self.outputs + index % self.outputs
    }
}

/// Sums over rows or windows of an input: of the inputs that meet a weight, and of their products where they are asked for.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    kind: SiteKind,
    products: bool,
    sums: Option<Sums>,
}

#[derive(Clone, Debug)]
struct Sums {
    matrix: WeightMatrix,
    /// Rows or windows.
    seen: f64,
    /// `[groups, inputs]`
    first: Vec<f64>,
    /// `[groups, inputs, inputs]`; empty without products.
    second: Vec<f64>,
}

impl Moments {
    /// Nothing yet, for the input of a weight; `products` take memory and time by the square of its inputs.
    pub(crate) fn new(weight: &SiteKind, products: bool) -> Self {
        Self { kind: weight.clone(), products, sums: None }
    }

    /// Whether the weight meets windows of its input, as a convolution's does, rather than rows.
    fn of_windows(&self) -> bool {
        matches!(&self.kind, SiteKind::Weight { shape, .. } if shape.len() > 2)
    }

    /// Adds one batch of rows, `[..., features]`; that of a convolution is left to its windows, and one
    /// that does not fit the weight is left out.
    pub(super) fn record_rows<const D: usize>(&mut self, x: &Tensor<D>) {
        let features = x.dims()[D - 1];
        if self.of_windows() || x.shape().num_elements() == 0 {
            return;
        }
        if let Some(matrix) = WeightMatrix::new(&self.kind, features) {
            let rows = x.shape().num_elements() / features;
            let kept = rows.min((WINDOW_ELEMENTS / features).max(1));
            let rows = x.clone().reshape([1, rows, features]).narrow(1, 0, kept);
            self.add(matrix, rows.swap_dims(1, 2));
        }
    }

    /// Adds one batch, `[batch, channels, ...]`, of which `windows` makes what lies under each position
    /// of the kernel: `[batch, channels * kernel, ...]`. One that does not fit the weight is left out.
    pub(super) fn record_windows<const D: usize>(
        &mut self,
        x: &Tensor<D>,
        windows: impl FnOnce(Tensor<D>) -> Option<Tensor<D>>,
    ) {
        let (examples, channels) = (x.dims()[0], x.dims()[1]);
        if !self.of_windows() || x.shape().num_elements() == 0 {
            return;
        }
        let Some(matrix) = WeightMatrix::new(&self.kind, channels) else { return };
        let of_example = x.shape().num_elements() / examples * matrix.taps();
        let kept = examples.min((WINDOW_ELEMENTS / of_example).max(1));
        if let Some(windows) = windows(x.clone().narrow(0, 0, kept)) {
            let (groups, inputs) = (matrix.groups, matrix.inputs);
            let windows: Tensor<2> = windows.swap_dims(0, 1).flatten::<2>(1, D - 1);
            let [_, positions] = windows.dims();
            self.add(matrix, windows.reshape([groups, inputs, positions]));
        }
    }

    /// Adds inputs as the matrices meet them, `[groups, inputs, rows or windows]`.
    fn add(&mut self, matrix: WeightMatrix, met: Tensor<3>) {
        let [groups, inputs, seen] = met.dims();
        let sums = self.sums.get_or_insert_with(|| Sums {
            first: vec![0.0; groups * inputs],
            second: vec![0.0; if self.products { groups * inputs * inputs } else { 0 }],
            seen: 0.0,
            matrix,
        });
        let add = |sums: &mut [f64], batch: Tensor<3>| {
            let batch: Vec<f32> =
                batch.into_data().convert::<f32>().try_to_vec().expect("converted to f32");
            sums.iter_mut().zip(batch).for_each(|(sum, value)| *sum += f64::from(value));
        };
        if self.products {
            add(&mut sums.second, met.clone().matmul(met.clone().swap_dims(1, 2)));
        }
        add(&mut sums.first, met.sum_dim(2));
        sums.seen += seen as f64;
    }

    /// The matrices of a weight that meets this input; none where nothing was seen that fits it.
    pub(crate) fn matrix(&self, weight: &SiteKind) -> Option<WeightMatrix> {
        let seen = &self.sums.as_ref()?.matrix;
        let channels = match &seen.kernel[..] {
            [] => seen.inputs,
            _ => seen.groups * seen.inputs / seen.taps(),
        };
        WeightMatrix::new(weight, channels).filter(|own| {
            own.kernel == seen.kernel && own.groups == seen.groups && own.inputs == seen.inputs
        })
    }

    /// The mean of each input: `[groups, inputs]`.
    pub(crate) fn mean(&self) -> Vec<f64> {
        let Some(sums) = &self.sums else { return Vec::new() };
        sums.first.iter().map(|sum| sum / sums.seen).collect()
    }

    /// The mean of each product of two inputs: `[groups, inputs, inputs]`; empty without products.
    pub(crate) fn second(&self) -> Vec<f64> {
        let Some(sums) = &self.sums else { return Vec::new() };
        sums.second.iter().map(|sum| sum / sums.seen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn weight(shape: &[usize], channel_axis: usize) -> SiteKind {
        SiteKind::Weight { shape: shape.to_vec(), channel_axis, input_axis: 1 - channel_axis }
    }

    #[test]
    fn moments_of_rows_are_means_of_features_and_their_products() {
        let mut moments = Moments::new(&weight(&[2, 3], 1), true);
        let device = Device::default();
        moments.record_rows(&Tensor::<3>::from_data([[[1.0, 2.0]], [[3.0, -4.0]]], &device));
        moments.record_rows(&Tensor::<3>::from_data([[[0.0, 1.0]]], &device));
        assert_eq!(moments.mean(), [4.0 / 3.0, -1.0 / 3.0]);
        assert_eq!(moments.second(), [10.0 / 3.0, -10.0 / 3.0, -10.0 / 3.0, 7.0]);
    }

    #[test]
    fn moments_of_windows_are_those_of_each_group() {
        let kind = weight(&[4, 1, 2], 0);
        let mut moments = Moments::new(&kind, true);
        let x = Tensor::<3>::from_data([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], &Device::default());
        // Pairs of neighbours: channel by channel, first and second of each pair.
        let pairs = |x: Tensor<3>| {
            let [first, second] = [0..2, 1..3].map(|part| x.clone().slice([0..1, 0..2, part]));
            Some(Tensor::stack::<4>(vec![first, second], 2).reshape([1, 4, 2]))
        };
        moments.record_windows(&x, pairs);
        moments.record_rows(&x);
        let matrix = moments.matrix(&kind).unwrap();
        assert_eq!((matrix.groups, matrix.inputs, matrix.outputs), (2, 2, 2));
        assert_eq!(moments.mean(), [1.5, 2.5, 4.5, 5.5]);
        assert_eq!(moments.second(), [2.5, 4.0, 4.0, 6.5, 20.5, 25.0, 25.0, 30.5]);
        // Weights `[output, 1, tap]`: the two outputs of a group lie beside each other.
        assert_eq!(
            matrix.gather(&[0., 1., 2., 3., 4., 5., 6., 7.]),
            [0., 2., 1., 3., 4., 6., 5., 7.]
        );
    }

    #[test]
    fn what_does_not_fit_the_weight_is_left_out() {
        let device = Device::default();
        let linear = weight(&[2, 3], 1);
        let mut moments = Moments::new(&linear, false);
        moments.record_rows(&Tensor::<2>::ones([1, 3], &device));
        assert!(moments.matrix(&linear).is_none());
        moments.record_rows(&Tensor::<2>::ones([1, 2], &device));
        assert!(moments.matrix(&linear).is_some());
        assert!(moments.matrix(&weight(&[2, 8], 1)).is_some(), "another layer of the same input");
        assert!(moments.matrix(&weight(&[3, 8], 1)).is_none());
        assert_eq!((moments.mean(), moments.second()), (vec![1.0, 1.0], vec![]), "no products");
        let transposed = weight(&[2, 3, 3, 3], 1);
        let mut moments = Moments::new(&transposed, true);
        moments.record_windows(&Tensor::<4>::ones([1, 2, 2, 2], &device), |_| panic!("no windows"));
        assert!(moments.matrix(&transposed).is_none());
    }
}
